//! Some rows of a leaf: only the pages that hold them are there, and of these only the entries of the rows are decoded. What comes
//! out is as if the row group had no other rows.

use std::{ops::Range, sync::Arc};

use super::{
    leaf::{LeafPages, Levels},
    leaves::depth,
    owners::count_of,
    page_index::RowRanges,
    pages::{DataPage, Page},
    shape::Shape,
    values::{Decoder, Dense},
};
use crate::error::{Error, Result};

/// Some rows of a row group.
#[derive(Debug)]
pub(super) struct Part {
    rows: RowRanges,
    /// Rows that the bounds of pages left: these and perhaps others.
    possible: RowRanges,
    /// The shape of the whole row group.
    whole: Arc<Shape>,
}

impl Part {
    /// These of the `possible` rows of a row group of this shape. They must be inside.
    pub fn new(rows: RowRanges, possible: RowRanges, whole: Arc<Shape>) -> Self {
        Self { rows, possible, whole }
    }

    /// The rows.
    pub fn rows(&self) -> &RowRanges {
        &self.rows
    }

    /// Rows that the bounds of pages left.
    pub fn possible(&self) -> &RowRanges {
        &self.possible
    }

    /// The shape of the whole row group.
    pub fn whole(&self) -> &Arc<Shape> {
        &self.whole
    }

    /// The numbers, in the row group, of the things at a depth that are in these rows.
    pub fn things(&self, at: u32) -> impl Iterator<Item = Range<u32>> {
        self.rows.ranges().iter().map(move |rows| self.things_of(rows, at))
    }

    fn things_of(&self, rows: &Range<u32>, at: u32) -> Range<u32> {
        self.whole.first_in_trace(at, rows.start as usize)..self.whole.first_in_trace(at, rows.end as usize)
    }

    /// The numbers that things of the row group, ascending, have among those in these rows. Others are left out.
    pub fn local(&self, at: u32, things: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut ranges = self.things(at).scan(0, |before, range| {
            let first = *before;
            *before += range.len() as u32;
            Some((first, range))
        });
        let mut range = ranges.next();
        let mut found = Vec::new();
        for thing in things {
            while range.as_ref().is_some_and(|(_, range)| range.end <= thing) {
                range = ranges.next();
            }
            let Some((first, range)) = &range else { break };
            if range.contains(&thing) {
                found.push(first + (thing - range.start));
            }
        }
        found
    }

    /// The numbers that things in these rows, ascending, have in the row group.
    pub fn global(&self, at: u32, things: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut ranges = self.things(at);
        let (mut before, mut range) = (0, ranges.next());
        let mut found = Vec::new();
        for thing in things {
            while let Some(here) = range.as_ref().filter(|range| before + range.len() as u32 <= thing) {
                before += here.len() as u32;
                range = ranges.next();
            }
            let Some(range) = &range else { break };
            found.push(range.start + (thing - before));
        }
        found
    }
}

/// Which rows of a leaf are wanted, and what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SomeRows<'a> {
    pub part: &'a Part,
    /// The rows of each data page that is there; `None` if all pages of the leaf are.
    pub pages: Option<&'a [Range<u32>]>,
    /// The depth of the things of which each has exactly one value, where the shape tells how many there are.
    pub counted: Option<u32>,
}

fn misfit() -> Error {
    Error::data("the pages of a leaf do not hold the rows that the page index says")
}

impl LeafPages<'_> {
    /// The values, and the levels if values are not counted, of the wanted rows.
    pub(super) fn decode_some(&self, some: &SomeRows<'_>) -> Result<(Dense, Levels)> {
        let whole = LeafPages { some: None, ..self.clone() };
        match (some.pages, some.counted) {
            (None, Some(at)) => {
                let positions: Vec<u32> = some.part.things(at).flatten().collect();
                Ok((whole.decode_at(&positions, some.part.whole.count(at))?, Levels::default()))
            }
            (None, None) => {
                let (values, levels) = whole.decode_with_levels()?;
                let mut cut = Cut::default();
                let rows = 0..some.part.whole.count(depth::TRACE) as u32;
                cut.rows(self, &levels, &rows, some.part.rows())?;
                if cut.picks.last().is_some_and(|last| *last as usize >= values.len()) {
                    return Err(misfit());
                }
                Ok((values.pick(&cut.picks)?, cut.levels))
            }
            (Some(pages), counted) => self.decode_pages(some.part, pages, counted),
        }
    }

    /// Decodes the pages that are there, which have these rows.
    fn decode_pages(&self, part: &Part, rows: &[Range<u32>], counted: Option<u32>) -> Result<(Dense, Levels)> {
        let mut decoder = Decoder::new(self.column.physical, self.column.text)?;
        let (mut pages, mut rows, mut cut) = (self.pages(), rows.iter(), Cut::default());
        while let Some(page) = pages.next_page()? {
            match page {
                Page::Dictionary(page) => decoder.dictionary(&page)?,
                Page::Data(page) => {
                    let rows = rows.next().ok_or_else(misfit)?;
                    cut.picks.clear();
                    let values = match counted {
                        Some(at) => cut.counted(self, &page, rows, part, at)?,
                        None => cut.by_levels(self, &page, rows, part.rows())?,
                    };
                    match cut.picks.len() == values {
                        true => decoder.page(&page, values)?,
                        false => decoder.page_at(&page, values, &cut.picks)?,
                    }
                }
            }
        }
        if rows.next().is_some() {
            return Err(misfit());
        }
        Ok((decoder.finish()?, cut.levels))
    }
}

/// What is cut out of pages.
#[derive(Default)]
struct Cut {
    /// Levels of the wanted rows of all pages so far.
    levels: Levels,
    /// Places of the wanted values among those of the page at hand.
    picks: Vec<u32>,
}

impl Cut {
    /// Of a page in which each thing at a depth has one value. Gives the number of its values.
    fn counted(&mut self, leaf: &LeafPages<'_>, page: &DataPage, rows: &Range<u32>, part: &Part, at: u32) -> Result<usize> {
        let here = part.things_of(rows, at);
        if page.entries != here.len() || leaf.count_values(page)? != page.entries {
            return Err(misfit());
        }
        let wanted = part.rows.and(&RowRanges::one(rows.clone()));
        for rows in wanted.ranges() {
            let things = part.things_of(rows, at);
            self.picks.extend(things.start - here.start..things.end - here.start);
        }
        Ok(page.entries)
    }

    /// Of a page of which only the levels tell what belongs to which row. Gives the number of its values.
    fn by_levels(&mut self, leaf: &LeafPages<'_>, page: &DataPage, rows: &Range<u32>, wanted: &RowRanges) -> Result<usize> {
        let mut levels = Levels::default();
        let values = leaf.append_levels(page, &mut levels)?;
        if page.nulls.is_some_and(|nulls| page.entries - nulls != values) {
            return Err(Error::data("levels and values do not fit together"));
        }
        self.rows(leaf, &levels, rows, &wanted.and(&RowRanges::one(rows.clone())))?;
        Ok(values)
    }

    /// Takes what is of the `wanted` rows out of the levels of all of `rows`.
    fn rows(&mut self, leaf: &LeafPages<'_>, levels: &Levels, rows: &Range<u32>, wanted: &RowRanges) -> Result<()> {
        let max_def = leaf.column.max_def as u8;
        let Levels { reps, defs } = levels;
        let starts: Vec<usize> = (0..defs.len()).filter(|at| reps.get(*at).is_none_or(|rep| *rep == 0)).chain([defs.len()]).collect();
        if starts.len() - 1 != rows.len() || starts.first().is_some_and(|first| *first != 0) {
            return Err(misfit());
        }
        let (mut at, mut values) = (0, 0);
        for range in wanted.ranges() {
            let (from, to) = (starts[(range.start - rows.start) as usize], starts[(range.end - rows.start) as usize]);
            values += count_of(&defs[at..from], max_def);
            let here = count_of(&defs[from..to], max_def);
            self.picks.extend(values as u32..(values + here) as u32);
            self.levels.defs.extend_from_slice(&defs[from..to]);
            self.levels.reps.extend_from_slice(reps.get(from..to).unwrap_or_default());
            (at, values) = (to, values + here);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_numbered_both_ways() {
        let levels = Levels { reps: vec![0, 1, 0, 2, 0, 0, 2], defs: vec![2; 7] };
        let whole = Arc::new(Shape::from_span_counts(levels, &Dense::Int32(vec![2, 1, 3, 1, 1, 4, 2].into())).unwrap());
        let mut rows = RowRanges::one(1..2);
        rows.push(3..4);
        let part = Part::new(rows.clone(), rows, whole);
        // Traces have the spans 0..3, 3..7, 7..8 and 8..14.
        assert_eq!(part.things(depth::SPAN).collect::<Vec<_>>(), [3..7, 8..14]);
        assert_eq!(part.local(depth::SPAN, [0, 3, 6, 7, 8, 13].into_iter()), [0, 3, 4, 9]);
        assert_eq!(part.global(depth::SPAN, [0, 3, 4, 9].into_iter()), [3, 6, 8, 13]);
        assert_eq!(part.things(depth::RESOURCE).collect::<Vec<_>>(), [2..3, 4..5]);
    }
}
