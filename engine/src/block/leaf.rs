//! One leaf of a row group, decoded: its values dense, and where needed what each belongs to.
//!
//! Levels are only decoded where a value can be missing or repeated (attributes, events, links). All leaves that a span
//! has exactly once share one shape (see `shape.rs`), and so have as many values as there are spans.

use std::ops::Range;

use arrow::array::StringArray;
use bytes::Bytes;
use parquet::basic::Compression;

use super::{
    leaves::LeafColumn,
    levels::{count_max, decode_levels},
    pages::{DataPage, Page, Pages},
    values::{Decoder, Dense},
};
use crate::error::{Error, Result};

/// A leaf's values.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub values: Dense,
    /// What the values belong to; `None` if value `i` belongs to thing `i`, or if it was not asked for.
    pub owners: Option<Owners>,
}

/// What each value of a leaf belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// The number of the owner of each value, ascending.
    pub of_value: Vec<u32>,
    /// Number of owners, those without a value too.
    pub count: usize,
}

impl Owners {
    /// Where the values of each owner start; one entry more than there are owners.
    pub fn offsets(&self) -> Vec<u32> {
        let mut offsets = Vec::with_capacity(self.count + 1);
        offsets.push(0);
        for (at, owner) in self.of_value.iter().enumerate() {
            while offsets.len() <= *owner as usize {
                offsets.push(at as u32);
            }
        }
        offsets.resize(self.count + 1, self.of_value.len() as u32);
        offsets
    }
}

/// The undecoded pages of a leaf.
#[derive(Clone, Debug)]
pub(super) struct LeafPages<'a> {
    pub column: &'a LeafColumn,
    /// Bytes of whole pages: the whole chunk, or those pages of it that hold `row`.
    pub segments: &'a [Bytes],
    pub codec: Compression,
    /// Entries of the chunk, by the footer.
    pub entries: usize,
    /// Decode only this row, counted from the first data page in `segments`.
    pub row: Option<usize>,
}

/// Repetition and definition levels, one of each an entry; empty if the column has none.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub reps: Vec<u8>,
    pub defs: Vec<u8>,
}

impl LeafPages<'_> {
    /// Decodes the values and, for `owner_depth`, what things at that depth they belong to.
    pub fn decode(&self, owner_depth: Option<u32>) -> Result<Leaf> {
        if let Some(row) = self.row {
            let (values, levels) = self.decode_row(row)?;
            let owners = owner_depth.map(|depth| self.owners_of(&levels, values.len(), depth)).transpose()?;
            return Ok(Leaf { values, owners });
        }
        let mut walk = owner_depth.map(|depth| OwnerWalk::new(self.column, depth));
        let mut levels = Levels::default();
        let values = self.decode_values(|page, values| {
            let Some(walk) = &mut walk else { return Ok(()) };
            levels.reps.clear();
            levels.defs.clear();
            // Without a list of its own, a value's repetition level cannot say more than its definition level.
            if self.column.max_rep > walk.depth {
                decode_levels(&page.reps, self.column.max_rep, page.entries, &mut levels.reps)?;
            }
            decode_levels(&page.defs, self.column.max_def, page.entries, &mut levels.defs)?;
            walk.page(&levels, values)
        })?;
        Ok(Leaf { values, owners: walk.map(|w| w.owners) })
    }

    /// Decodes the values and all levels.
    pub fn decode_with_levels(&self) -> Result<(Dense, Levels)> {
        if let Some(row) = self.row {
            return self.decode_row(row);
        }
        let mut levels = Levels::default();
        let values = self.decode_values(|page, _| self.append_levels(page, &mut levels))?;
        Ok((values, levels))
    }

    /// The dictionary of a text leaf, if all its pages use it. Decompresses nothing else.
    pub fn dictionary(&self) -> Result<Option<StringArray>> {
        let mut pages = self.pages();
        let Some(dictionary) = pages.dictionary()? else { return Ok(None) };
        let mut decoder = Decoder::new(self.column.physical, self.column.text)?;
        decoder.dictionary(&dictionary)?;
        match decoder.finish()? {
            Dense::Text(text) => Ok(Some(text.values)),
            _ => Ok(None),
        }
    }

    fn pages(&self) -> Pages<'_> {
        Pages::new(self.segments, self.codec, self.column.max_rep > 0, self.column.max_def > 0, self.entries)
    }

    fn append_levels(&self, page: &DataPage, levels: &mut Levels) -> Result<()> {
        if self.column.max_rep > 0 {
            decode_levels(&page.reps, self.column.max_rep, page.entries, &mut levels.reps)?;
        }
        if self.column.max_def > 0 {
            decode_levels(&page.defs, self.column.max_def, page.entries, &mut levels.defs)?;
        }
        Ok(())
    }

    /// Decodes all values; `visit` sees each page and the number of its values.
    fn decode_values(&self, mut visit: impl FnMut(&DataPage, usize) -> Result<()>) -> Result<Dense> {
        let column = self.column;
        let mut decoder = Decoder::new(column.physical, column.text)?;
        let mut pages = self.pages();
        let mut data = false;
        while let Some(page) = pages.next_page()? {
            match page {
                Page::Dictionary(_) if data => return Err(Error::data("a dictionary behind the data")),
                Page::Dictionary(page) => decoder.dictionary(&page)?,
                Page::Data(page) => {
                    data = true;
                    let values = match page.nulls {
                        Some(nulls) => page.entries - nulls,
                        None if column.max_def == 0 => page.entries,
                        None => count_max(&page.defs, column.max_def, page.entries)?,
                    };
                    decoder.page(&page, values)?;
                    visit(&page, values)?;
                }
            }
        }
        if self.row.is_none() && pages.entries_left() != 0 {
            return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left())));
        }
        decoder.finish()
    }

    /// Decodes the values and levels of one row.
    fn decode_row(&self, row: usize) -> Result<(Dense, Levels)> {
        let mut levels = Levels::default();
        let (mut entries, mut counted) = (0, 0);
        let max_def = self.column.max_def as u8;
        let values = self.decode_values(|page, values| {
            self.append_levels(page, &mut levels)?;
            entries += page.entries;
            counted += values;
            Ok(())
        })?;
        let with_value = |range: Range<usize>| match max_def {
            0 => range.len(),
            max => levels.defs[range].iter().filter(|d| **d == max).count(),
        };
        if with_value(0..entries) != counted || values.len() != counted {
            return Err(Error::data("levels and values do not fit together"));
        }
        let gone = || Error::data(format!("row {row} is not where the offset index says"));
        if levels.reps.first().is_some_and(|rep| *rep != 0) {
            return Err(Error::data("a page that the offset index points to starts within a row"));
        }
        let range = if self.column.max_rep == 0 {
            if row < entries { row..row + 1 } else { return Err(gone()) }
        } else {
            let mut starts = levels.reps.iter().enumerate().filter(|(_, rep)| **rep == 0).map(|(at, _)| at).skip(row);
            let start = starts.next().ok_or_else(gone)?;
            start..starts.next().unwrap_or(entries)
        };
        let first = with_value(0..range.start);
        let values = values.slice(first..first + with_value(range.clone()));
        let cut = |levels: &[u8]| levels.get(range.clone()).unwrap_or_default().to_vec();
        Ok((values, Levels { reps: cut(&levels.reps), defs: cut(&levels.defs) }))
    }

    fn owners_of(&self, levels: &Levels, values: usize, depth: u32) -> Result<Owners> {
        let mut walk = OwnerWalk::new(self.column, depth);
        if self.column.max_def == 0 {
            return Ok(Owners { of_value: (0..values as u32).collect(), count: values });
        }
        walk.page(levels, values)?;
        Ok(walk.owners)
    }
}

/// Numbers the things at a depth while going through the levels of a leaf below them.
struct OwnerWalk {
    depth: u32,
    max_def: u8,
    owners: Owners,
}

impl OwnerWalk {
    fn new(column: &LeafColumn, depth: u32) -> Self {
        Self { depth, max_def: column.max_def as u8, owners: Owners::default() }
    }

    fn page(&mut self, levels: &Levels, values: usize) -> Result<()> {
        let (depth, max_def) = (self.depth as u8, self.max_def);
        let before = self.owners.of_value.len();
        let mut count = self.owners.count;
        let mut strays = false;
        let mut entry = |rep: u8, def: u8| {
            // A thing starts where its list goes on or a list above it does, unless that one is empty.
            count += usize::from(rep <= depth && def >= depth);
            strays |= rep > def;
            if def == max_def {
                strays |= count == 0;
                self.owners.of_value.push(count.wrapping_sub(1) as u32);
            }
        };
        if levels.reps.is_empty() {
            levels.defs.iter().for_each(|def| entry(0, *def));
        } else {
            levels.reps.iter().zip(&levels.defs).for_each(|(rep, def)| entry(*rep, *def));
        }
        self.owners.count = count;
        if strays || self.owners.of_value.len() - before != values {
            return Err(Error::data("levels and values do not fit together"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_owners_without_values() {
        let owners = Owners { of_value: vec![1, 1, 3], count: 6 };
        assert_eq!(owners.offsets(), [0, 0, 2, 2, 3, 3, 3]);
        assert_eq!(Owners::default().offsets(), [0]);
    }
}
