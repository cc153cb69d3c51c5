//! One leaf of a row group, decoded: its values dense, and where needed what each belongs to.
//!
//! Levels are only decoded where a value can be missing or repeated (attributes, events, links). All leaves that a span
//! has exactly once share one shape (see `shape.rs`), and so have as many values as there are spans.

use std::{ops::Range, sync::atomic::AtomicU64};

use arrow::{array::StringArray, buffer::BooleanBuffer};
use bytes::Bytes;
use parquet::basic::Compression;

use super::{
    leaves::LeafColumn,
    levels::{count_max, decode_levels},
    owners::{OwnerWalk, Presence, count_of},
    pages::{Compressed, DataPage, DictionaryPage, Page, Pages},
    row_levels::{RowMemo, RowSearch, decode_levels_in},
    row_values::RowValues,
    some_rows::SomeRows,
    thrift::Encoding,
    values::{Decoder, Dense},
};
use crate::error::{Error, Result};

pub(super) use super::owners::{Levels, Owners};

/// Values that room is made for before they are met: a corrupt footer may claim any number.
const RESERVED_MAX: usize = 1 << 22;

/// A leaf's values.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub values: Dense,
    /// What the values belong to; `None` if value `i` belongs to thing `i`, or if it was not asked for.
    pub owners: Option<Owners>,
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
    /// Where this row was found in other leaves.
    pub memo: Option<&'a RowMemo>,
    /// Decode only these rows.
    pub some: Option<SomeRows<'a>>,
    /// Counts the data pages that are opened.
    pub opened: Option<&'a AtomicU64>,
}

/// A dictionary that is decompressed when a value needs it.
enum RowDictionary {
    None,
    Compressed(DictionaryPage, Compressed),
    Plain(DictionaryPage),
}

impl RowDictionary {
    fn get(&mut self) -> Result<Option<&DictionaryPage>> {
        if let Self::Compressed(page, compressed) = self {
            *self = Self::Plain(DictionaryPage { values: page.values, bytes: compressed.clone().decompress()? });
        }
        Ok(match self {
            Self::Plain(page) => Some(&*page),
            _ => None,
        })
    }
}

impl LeafPages<'_> {
    /// Decodes the values and, for `owner_depth`, what things at that depth they belong to.
    pub fn decode(&self, owner_depth: Option<u32>) -> Result<Leaf> {
        if let Some((values, levels)) = self.decode_rows()? {
            let owners = owner_depth.map(|depth| self.owners_of(&levels, values.len(), depth)).transpose()?;
            return Ok(Leaf { values, owners });
        }
        let mut walk = owner_depth.map(|depth| OwnerWalk::new(self.column, depth));
        let values = self.decode_values(|page| match &mut walk {
            Some(walk) => walk.page(page),
            None => self.count_values(page),
        })?;
        Ok(Leaf { values, owners: walk.map(OwnerWalk::finish) })
    }

    /// Decodes the values of a leaf that a thing at the leaf's depth has at most one of, and which of the `due` things have
    /// one: a bit each, or `None` if all have. Returns `None` if some thing has more than one.
    pub fn decode_optional(&self, due: usize) -> Result<Option<(Dense, Option<BooleanBuffer>)>> {
        if self.some.is_some_and(|some| some.counted.is_some()) {
            let Leaf { values, .. } = self.decode(None)?;
            let found = values.len();
            return if found == due { Ok(Some((values, None))) } else { Err(Error::data(format!("values for {found} instead of {due}"))) };
        }
        let depth = self.column.depth;
        let mut presence = Presence::new(self.column, depth, due.min(self.entries));
        let values = match self.decode_rows()? {
            Some((values, mut levels)) => {
                presence.levels(&mut levels.defs);
                values
            }
            None => self.decode_values(|page| presence.page(page))?,
        };
        Ok(self.present(presence, due)?.map(|present| (values, present)))
    }

    /// Which of `due` things have a value (`None`: all), once all pages were seen; nothing if some thing has more than one.
    pub(super) fn present(&self, presence: Presence, due: usize) -> Result<Option<Option<BooleanBuffer>>> {
        match presence.things() {
            things if things == due => Ok(Some(presence.finish())),
            things if things > due && self.column.max_rep > self.column.depth => Ok(None),
            things => Err(Error::data(format!("values for {things} instead of {due}"))),
        }
    }

    /// Decodes the values at `positions` (ascending) of a leaf that each of `due` things has exactly one of. Pages without
    /// any of them are not decompressed.
    pub fn decode_at(&self, positions: &[u32], due: usize) -> Result<Dense> {
        if positions.last().is_some_and(|last| *last as usize >= due) {
            return Err(Error::internal("a value is picked that a leaf does not have"));
        }
        // Where entries stand for empty lists only the levels can tell where the values are.
        if self.row.is_some() || self.some.is_some() || self.entries != due {
            let Leaf { values, .. } = self.decode(None)?;
            let found = values.len();
            return if found == due { values.pick(positions) } else { Err(Error::data(format!("values for {found} instead of {due}"))) };
        }
        let mut decoder = Decoder::new(self.column.physical, self.column.text)?;
        let mut pages = self.pages();
        let (mut start, mut left, mut picks) = (0, positions, Vec::new());
        while let Some(last) = left.first().map(|p| *p as usize) {
            let page = pages.next_wanted(|entries| {
                let wanted = last < start + entries;
                start += if wanted { 0 } else { entries };
                wanted
            })?;
            match page {
                Some(Page::Dictionary(page)) => decoder.dictionary(&page)?,
                Some(Page::Data(page)) => {
                    if self.count_values(&page)? != page.entries {
                        return Err(Error::data("levels and values do not fit together"));
                    }
                    let (here, behind) = left.split_at(left.partition_point(|p| (*p as usize) < start + page.entries));
                    if here.len() == page.entries {
                        decoder.page(&page, page.entries)?;
                    } else {
                        picks.clear();
                        picks.extend(here.iter().map(|p| p - start as u32));
                        decoder.page_at(&page, page.entries, &picks)?;
                    }
                    (start, left) = (start + page.entries, behind);
                }
                None => return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left()))),
            }
        }
        decoder.finish()
    }

    /// Decodes the values and all levels.
    pub fn decode_with_levels(&self) -> Result<(Dense, Levels)> {
        if let Some(rows) = self.decode_rows()? {
            return Ok(rows);
        }
        let mut levels = Levels::default();
        let values = self.decode_values(|page| self.append_levels(page, &mut levels))?;
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

    /// The pages, undecoded.
    pub fn pages(&self) -> Pages<'_> {
        Pages::new(self.segments, self.codec, self.column.max_rep > 0, self.column.max_def > 0, self.entries).counted(self.opened)
    }

    /// The values and levels of the one row, or of the rows, if not all are wanted. Levels may be left out where each thing has
    /// one value.
    fn decode_rows(&self) -> Result<Option<(Dense, Levels)>> {
        match (self.row, &self.some) {
            (Some(row), _) => self.decode_row(row).map(Some),
            (None, Some(some)) => self.decode_some(some).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Decodes the levels of a page, and says how many values it has.
    pub(super) fn append_levels(&self, page: &DataPage, levels: &mut Levels) -> Result<usize> {
        if self.column.max_rep > 0 {
            decode_levels(&page.reps, self.column.max_rep, page.entries, &mut levels.reps)?;
        }
        if self.column.max_def == 0 {
            return Ok(page.entries);
        }
        let before = levels.defs.len();
        decode_levels(&page.defs, self.column.max_def, page.entries, &mut levels.defs)?;
        Ok(count_of(&levels.defs[before..], self.column.max_def as u8))
    }

    /// The number of values of a page, by its header or its levels.
    pub(super) fn count_values(&self, page: &DataPage) -> Result<usize> {
        match page.nulls {
            Some(nulls) => Ok(page.entries - nulls),
            None if self.column.max_def == 0 => Ok(page.entries),
            None => count_max(&page.defs, self.column.max_def, page.entries),
        }
    }

    /// Decodes all values; `visit` sees each page, and says how many values it has.
    fn decode_values(&self, mut visit: impl FnMut(&DataPage) -> Result<usize>) -> Result<Dense> {
        let column = self.column;
        let mut decoder = Decoder::new(column.physical, column.text)?;
        let mut pages = self.pages();
        let mut data = false;
        while let Some(page) = pages.next_page()? {
            match page {
                Page::Dictionary(_) if data => return Err(Error::data("a dictionary behind the data")),
                Page::Dictionary(page) => decoder.dictionary(&page)?,
                Page::Data(page) => {
                    let values = visit(&page)?;
                    if page.nulls.is_some_and(|nulls| page.entries - nulls != values) {
                        return Err(Error::data("levels and values do not fit together"));
                    }
                    if !data && column.is_required() {
                        decoder.reserve(self.entries.min(RESERVED_MAX));
                    }
                    data = true;
                    decoder.page(&page, values)?;
                }
            }
        }
        if pages.entries_left() != 0 {
            return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left())));
        }
        decoder.finish()
    }

    /// Decodes the values and levels of one row. Nothing else is decoded, and what holds none of its values is not even
    /// decompressed.
    fn decode_row(&self, row: usize) -> Result<(Dense, Levels)> {
        let column = self.column;
        let mut pages = self.pages();
        let mut values = RowValues::new(column.physical, column.text)?;
        let (mut levels, mut dictionary, mut search) = (Levels::default(), RowDictionary::None, None::<RowSearch>);
        while !search.is_some_and(|s| s.is_done())
            && let Some((page, compressed)) = pages.next_compressed()?
        {
            let mut page = match page {
                Page::Dictionary(_) if search.is_some() => return Err(Error::data("a dictionary behind the data")),
                Page::Dictionary(page) => {
                    dictionary = RowDictionary::Compressed(page, compressed);
                    continue;
                }
                Page::Data(page) => page,
            };
            let (max_rep, entries) = (column.max_rep, page.entries);
            let range = match (&mut search, self.memo) {
                (Some(search), _) => search.page(&page.reps, max_rep, entries)?,
                (none, Some(memo)) => {
                    let (search, range) = memo.search(row, &page.reps, max_rep, entries)?;
                    *none = Some(search);
                    range
                }
                (none, None) => none.insert(RowSearch::new(row)).page(&page.reps, max_rep, entries)?,
            };
            let range = self.row_levels(&page, range, &mut levels)?;
            if !range.is_empty() {
                page.values = compressed.decompress()?;
                let dictionary = if page.encoding == Encoding::Dictionary { dictionary.get()? } else { None };
                values.take(&page, dictionary, range)?;
            }
        }
        if !search.is_some_and(|s| s.is_found()) {
            return Err(Error::data(format!("row {row} is not where the offset index says")));
        }
        Ok((values.finish()?, levels))
    }

    /// Decodes the levels of the entries in `range`, and says which of the page's values are theirs.
    fn row_levels(&self, page: &DataPage, range: Range<usize>, levels: &mut Levels) -> Result<Range<usize>> {
        let (max_rep, max_def) = (self.column.max_rep, self.column.max_def);
        if range.is_empty() {
            return Ok(0..0);
        }
        if max_rep > 0 {
            decode_levels_in(&page.reps, max_rep, range.clone(), &mut levels.reps)?;
        }
        if max_def == 0 {
            return Ok(range);
        }
        let before = levels.defs.len();
        decode_levels_in(&page.defs, max_def, range.clone(), &mut levels.defs)?;
        match count_of(&levels.defs[before..], max_def as u8) {
            0 => Ok(0..0),
            values => {
                let first = if page.nulls == Some(0) { range.start } else { count_max(&page.defs, max_def, range.start)? };
                Ok(first..first + values)
            }
        }
    }

    fn owners_of(&self, levels: &Levels, values: usize, depth: u32) -> Result<Owners> {
        if self.column.max_def == 0 {
            return Ok(Owners { of_value: (0..values as u32).collect(), count: values });
        }
        let mut walk = OwnerWalk::new(self.column, depth);
        match walk.levels(levels)? {
            found if found == values => Ok(walk.finish()),
            _ => Err(Error::data("levels and values do not fit together")),
        }
    }
}
