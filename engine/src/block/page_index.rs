//! The page index of a block: where the pages of each leaf are, which rows they hold, and the bounds of their values.
//!
//! Writers put it right before the footer, so that it comes with the footer in one request if a few bytes more are read.
//! Nothing guards it. What contradicts itself or the footer is as if it were not there: then whole column chunks are read.

use std::ops::Range;

use bytes::Bytes;
use parquet::{
    basic::{ConvertedType, LogicalType, Type as PhysicalType},
    file::metadata::{ColumnChunkMetaData, RowGroupMetaData},
};

use super::thrift::{PageLocation, PageValues, column_index, offset_index};

/// The page index of one row group is not used if it is larger, in bytes.
const INDEX_BYTES_MAX: u64 = 4 << 20;
/// One byte of page index is expected for so many of a file: 160 of our blocks, whose pages are small, and 950 of Tempo's.
const FILE_BYTES_PER_INDEX_BYTE: u64 = 128;
const EXPECTED_BYTES: Range<u64> = 8 << 10..256 << 10;

/// Bytes to read before the footer of a file of so many bytes, which likely are its page index.
pub(super) fn expected_bytes(data_len: u64) -> u64 {
    (data_len / FILE_BYTES_PER_INDEX_BYTE).clamp(EXPECTED_BYTES.start, EXPECTED_BYTES.end)
}

/// Where the column and offset indexes of a row group are in a file of `data_len` bytes: ranges that hold them all. Empty if
/// there are none, or too many bytes of them.
pub(super) fn index_ranges(group: &RowGroupMetaData, data_len: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for place in [column_index_range, offset_index_range] {
        let all = group.columns().iter().filter_map(|chunk| place(chunk, data_len));
        ranges.extend(all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)));
    }
    // They may lie mixed, or anywhere: then this is much.
    let bytes: u64 = ranges.iter().map(|r| r.end - r.start).sum();
    if bytes > INDEX_BYTES_MAX { Vec::new() } else { ranges }
}

fn column_index_range(chunk: &ColumnChunkMetaData, data_len: u64) -> Option<Range<u64>> {
    range(chunk.column_index_offset(), chunk.column_index_length(), data_len)
}

fn offset_index_range(chunk: &ColumnChunkMetaData, data_len: u64) -> Option<Range<u64>> {
    range(chunk.offset_index_offset(), chunk.offset_index_length(), data_len)
}

fn range(start: Option<i64>, len: Option<i32>, data_len: u64) -> Option<Range<u64>> {
    let start = u64::try_from(start?).ok()?;
    let end = start.checked_add(u64::try_from(len?).ok()?)?;
    (end <= data_len).then_some(start..end)
}

/// The bytes of a row group's page index.
#[derive(Debug, Default)]
pub(super) struct IndexBytes {
    parts: Vec<(u64, Bytes)>,
}

impl IndexBytes {
    /// Bytes from these offsets of the file on.
    pub fn new(parts: Vec<(u64, Bytes)>) -> Self {
        Self { parts }
    }

    fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        self.parts.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(usize::try_from(range.end - range.start).ok()?)?)
        })
    }

    /// The pages of a chunk that lies at `place` and has `rows` rows; `None` if that is not known.
    pub fn pages(&self, chunk: &ColumnChunkMetaData, place: &Range<u64>, rows: usize) -> Option<LeafIndex> {
        let bytes = self.get(offset_index_range(chunk, place_end_max())?)?;
        LeafIndex::checked(offset_index(bytes).ok()?, place, rows)
    }

    /// What is known of the values of each of a chunk's `pages` pages; `None` if nothing is.
    pub fn bounds(&self, chunk: &ColumnChunkMetaData, pages: usize) -> Option<Bounds> {
        let bytes = self.get(column_index_range(chunk, place_end_max())?)?;
        let values = column_index(bytes).ok()?;
        let fits = [values.empty.len(), values.min.len(), values.max.len()].iter().all(|len| *len == pages);
        fits.then(|| Bounds { values, numbers: Numbers::of(chunk) })
    }
}

/// No bound: only what was read is looked up.
fn place_end_max() -> u64 {
    u64::MAX
}

/// The data pages of a leaf in a row group.
#[derive(Clone, Debug)]
pub(super) struct LeafIndex {
    pages: Vec<PageLocation>,
    rows: u32,
    /// Where the chunk begins: before the first page there may be a dictionary.
    start: u64,
}

impl LeafIndex {
    /// Pages that lie one behind the other in `place`, each of at least one row, all rows in them.
    fn checked(pages: Vec<PageLocation>, place: &Range<u64>, rows: usize) -> Option<Self> {
        let rows = u32::try_from(rows).ok()?;
        if pages.first()?.first_row != 0 || pages.last()?.first_row >= u64::from(rows) {
            return None;
        }
        let mut behind = place.start;
        for page in &pages {
            if page.offset < behind {
                return None;
            }
            behind = page.offset.checked_add(page.len).filter(|end| *end <= place.end)?;
        }
        pages.windows(2).all(|pair| pair[0].first_row < pair[1].first_row).then_some(Self { pages, rows, start: place.start })
    }

    /// The places of the data pages.
    pub fn into_locations(self) -> Vec<PageLocation> {
        self.pages
    }

    /// Number of data pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Where the dictionary is in the file, if there may be one.
    pub fn dictionary(&self) -> Option<Range<u64>> {
        let first = self.pages.first()?.offset;
        (first > self.start).then_some(self.start..first)
    }

    /// Where a page is in the file.
    pub fn place(&self, page: usize) -> Range<u64> {
        let PageLocation { offset, len, .. } = self.pages[page];
        offset..offset + len
    }

    /// The rows of a page.
    pub fn rows(&self, page: usize) -> Range<u32> {
        // Below `rows`, which is of 32 bits.
        let first = |page: &PageLocation| page.first_row as u32;
        first(&self.pages[page])..self.pages.get(page + 1).map_or(self.rows, first)
    }

    /// The pages that hold any of these rows, ascending.
    pub fn holding(&self, rows: &RowRanges) -> Vec<usize> {
        let mut pages = Vec::new();
        for range in rows.ranges() {
            let first = self.pages.partition_point(|page| page.first_row <= u64::from(range.start)) - 1;
            let end = self.pages.partition_point(|page| page.first_row < u64::from(range.end));
            let known = pages.last().map_or(0, |last| last + 1);
            pages.extend(first.max(known)..end);
        }
        pages
    }
}

/// How the bounds of numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    Signed32,
    Signed64,
    Unsigned32,
    Unsigned64,
    None,
}

impl Numbers {
    fn of(chunk: &ColumnChunkMetaData) -> Self {
        let column = chunk.column_descr();
        let unsigned = matches!(
            column.converted_type(),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        ) || matches!(column.logical_type_ref(), Some(LogicalType::Integer(int)) if !int.is_signed);
        match (column.physical_type(), unsigned) {
            (PhysicalType::INT32, false) => Self::Signed32,
            (PhysicalType::INT64, false) => Self::Signed64,
            (PhysicalType::INT32, true) => Self::Unsigned32,
            (PhysicalType::INT64, true) => Self::Unsigned64,
            _ => Self::None,
        }
    }
}

/// What the values of a page are between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between<T> {
    /// There is no value.
    Nothing,
    /// The least and the greatest.
    Values(T, T),
    Unknown,
}

/// The bounds of all pages of a leaf.
#[derive(Debug)]
pub(super) struct Bounds {
    values: PageValues,
    numbers: Numbers,
}

impl Bounds {
    /// Of a leaf of whole numbers.
    pub fn ints(&self, page: usize) -> Between<i64> {
        if self.values.empty[page] {
            return Between::Nothing;
        }
        let number = |bytes: &[u8]| match self.numbers {
            Numbers::Signed32 => bytes.try_into().ok().map(|b| i64::from(i32::from_le_bytes(b))),
            Numbers::Unsigned32 => bytes.try_into().ok().map(|b| i64::from(u32::from_le_bytes(b))),
            Numbers::Signed64 => bytes.try_into().ok().map(i64::from_le_bytes),
            // As signed numbers, which they are read as, those above would be in another order.
            Numbers::Unsigned64 => bytes.try_into().ok().and_then(|b| i64::try_from(u64::from_le_bytes(b)).ok()),
            Numbers::None => None,
        };
        match (number(&self.values.min[page]), number(&self.values.max[page])) {
            (Some(min), Some(max)) if min <= max => Between::Values(min, max),
            _ => Between::Unknown,
        }
    }

    /// Of a leaf of byte arrays.
    pub fn bytes(&self, page: usize) -> Between<&[u8]> {
        match (&self.values.min[page], &self.values.max[page]) {
            _ if self.values.empty[page] => Between::Nothing,
            // Some writers leave out bounds by leaving them empty.
            (_, max) if max.is_empty() => Between::Unknown,
            (min, max) => Between::Values(min, max),
        }
    }
}

/// Whether a byte array may lie between bounds that are perhaps cut off: what begins as a bound does is not known to be greater.
pub(super) fn may_be_between(value: &[u8], min: &[u8], max: &[u8]) -> bool {
    value >= min && &value[..value.len().min(max.len())] <= max
}

/// Rows of a row group: ascending ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowRanges(Vec<Range<u32>>);

impl RowRanges {
    /// The rows of one range.
    pub fn one(rows: Range<u32>) -> Self {
        Self(if rows.is_empty() { Vec::new() } else { vec![rows] })
    }

    /// Adds a range that does not begin before the last one.
    pub fn push(&mut self, range: Range<u32>) {
        match self.0.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.is_empty() => {}
            _ => self.0.push(range),
        }
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.0
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.iter().map(|r| r.len()).sum()
    }

    /// The rows that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = Self::default();
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            if start < end {
                both.0.push(start..end);
            }
            let ends_first = if a.end <= b.end { &mut mine } else { &mut theirs };
            ends_first.next();
        }
        both
    }

    /// The rows that are in one of both.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        all.sort_by_key(|r| r.start);
        all.into_iter().fold(Self::default(), |mut either, range| {
            either.push(range);
            either
        })
    }

    /// The rows that these are, where `chosen` are numbers among them.
    #[must_use]
    pub fn nth(&self, chosen: &Self) -> Self {
        let (mut found, mut before) = (Self::default(), 0);
        let mut chosen = chosen.0.iter().peekable();
        for range in &self.0 {
            let end = before + range.len() as u32;
            while let Some(some) = chosen.peek() {
                let (from, to) = (some.start.max(before), some.end.min(end));
                if from < to {
                    found.push(range.start + (from - before)..range.start + (to - before));
                }
                if some.end > end {
                    break;
                }
                chosen.next();
            }
            before = end;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(set: &[bool]) -> RowRanges {
        let mut ranges = RowRanges::default();
        (0..set.len() as u32).filter(|at| set[*at as usize]).for_each(|at| ranges.push(at..at + 1));
        ranges
    }

    fn rows(ranges: &RowRanges) -> Vec<u32> {
        ranges.0.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn ranges_are_sets(a in prop::collection::vec(any::<bool>(), 40), b in prop::collection::vec(any::<bool>(), 40)) {
            let both: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a && *b).collect();
            let either: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a || *b).collect();
            prop_assert_eq!(ranges(&a).and(&ranges(&b)), ranges(&both));
            prop_assert_eq!(ranges(&a).or(&ranges(&b)), ranges(&either));
            let mine = rows(&ranges(&a));
            prop_assert_eq!(mine.len(), ranges(&a).len());
            let nth: Vec<u32> = mine.iter().zip(&b).filter(|(_, b)| **b).map(|(row, _)| *row).collect();
            prop_assert_eq!(rows(&ranges(&a).nth(&ranges(&b[..mine.len()]))), nth);
        }

        #[test]
        fn bounds_that_are_cut_off_are_bounds(
            values in prop::collection::vec("[ab]{0,5}", 1..6), cut in 1usize..6, other in "[ab]{0,5}", up in any::<bool>(),
        ) {
            let (min, max) = (values.iter().min().unwrap(), values.iter().max().unwrap());
            let cut_off = |text: &str| text.as_bytes()[..text.len().min(cut)].to_vec();
            let mut top = cut_off(max);
            if up && max.len() > cut {
                // As writers do that keep it a bound in the plain order.
                *top.last_mut().unwrap() += 1;
            }
            for value in &values {
                prop_assert!(may_be_between(value.as_bytes(), &cut_off(min), &top));
            }
            if other < *min && other.len() <= cut || cut_off(&other) > top {
                prop_assert!(!may_be_between(other.as_bytes(), &cut_off(min), &top) || cut_off(min) <= other.as_bytes().to_vec());
            }
        }
    }

    #[test]
    fn pages_that_hold_rows() {
        let page = |offset, first_row| PageLocation { offset, len: 10, first_row };
        let pages = vec![page(20, 0), page(30, 5), page(40, 6), page(60, 9)];
        let index = LeafIndex::checked(pages.clone(), &(10..70), 12).unwrap();
        assert_eq!((index.dictionary(), index.place(3), index.rows(3), index.rows(0)), (Some(10..20), 60..70, 9..12, 0..5));
        let holding = |ranges: &[Range<u32>]| index.holding(&RowRanges(ranges.to_vec()));
        assert_eq!(holding(&[0..1, 2..4]), [0]);
        assert_eq!(holding(&[4..6, 11..12]), [0, 1, 3]);
        assert_eq!(holding(std::slice::from_ref(&(0..12))), [0, 1, 2, 3]);
        assert_eq!(holding(&[5..6, 8..10]), [1, 2, 3]);
        // Rows or places out of order, outside, or none.
        for wrong in [vec![], vec![page(20, 1)], vec![page(20, 0), page(25, 5)], vec![page(20, 0), page(30, 0)], vec![page(61, 0)]] {
            assert!(LeafIndex::checked(wrong, &(10..70), 12).is_none());
        }
        assert!(LeafIndex::checked(pages, &(10..70), 9).is_none());
    }
}
