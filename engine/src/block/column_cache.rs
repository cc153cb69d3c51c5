//! Columns in codes that are remembered from one query to the next: a byte a span where there are no more than 256 values.
//! Dashboards ask the same few columns of the same blocks over and over, with ever other conditions.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef},
    buffer::ScalarBuffer,
};
use uuid::Uuid;

use crate::{
    recent::Recent,
    scan::{CodedColumn, Passing, SpanColumn},
};

/// What an entry takes beside its values and codes, in bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// A column of a row group, and which of its values are there: others may be NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    block: Uuid,
    row_group: usize,
    column: SpanColumn,
    passing: Passing,
}

/// What is remembered of a column.
#[derive(Clone, Debug)]
pub(super) enum Remembered {
    /// It was asked for few spans: if that happens again, it pays to decode it for all.
    Asked,
    /// It has no codes.
    Uncoded,
    /// Its codes.
    Codes(Arc<PackedColumn>),
}

/// Columns of row groups, those that were used lately.
#[derive(Debug)]
pub(super) struct ColumnCache(Recent<Key, Remembered>);

impl ColumnCache {
    /// A cache of at most so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Recent::new(bytes))
    }

    /// What is known of a column in which at least the `passing` values are.
    pub fn get(&self, (block, row_group): (Uuid, usize), column: &SpanColumn, passing: Passing) -> Option<(Passing, Remembered)> {
        let of = |passing| {
            let key = Key { block, row_group, column: column.clone(), passing };
            Some((passing, self.0.get(&key)?))
        };
        match of(Passing::ANYTHING) {
            Some(whole @ (_, Remembered::Codes(_))) => Some(whole),
            other if passing == Passing::ANYTHING => other,
            other => of(passing).or(other),
        }
    }

    /// Remembers it.
    pub fn put(&self, (block, row_group): (Uuid, usize), column: &SpanColumn, passing: Passing, what: Remembered) {
        let size = ENTRY_BYTES + if let Remembered::Codes(packed) = &what { packed.size() } else { 0 };
        self.0.put(Key { block, row_group, column: column.clone(), passing }, what, size);
    }
}

/// A column in codes, as short as these can be.
#[derive(Debug)]
pub(super) struct PackedColumn {
    /// The values that the codes number.
    pub values: ArrayRef,
    codes: Codes,
}

#[derive(Debug)]
enum Codes {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(ScalarBuffer<u32>),
}

impl PackedColumn {
    /// The codes of a column, one for each thing that has a value of its own.
    pub fn new(column: &CodedColumn) -> Self {
        let codes = match column.values.len() {
            0..=0x100 => Codes::Bytes(column.codes.iter().map(|code| *code as u8).collect()),
            0..=0x1_0000 => Codes::Shorts(column.codes.iter().map(|code| *code as u16).collect()),
            _ => Codes::Words(column.codes.clone()),
        };
        Self { values: column.values.clone(), codes }
    }

    /// The codes of all things.
    pub fn codes(&self) -> ScalarBuffer<u32> {
        match &self.codes {
            Codes::Bytes(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Codes::Shorts(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Codes::Words(codes) => codes.clone(),
        }
    }

    /// The codes of these things.
    pub fn codes_at(&self, things: &[u32]) -> ScalarBuffer<u32> {
        let things = things.iter().map(|thing| *thing as usize);
        match &self.codes {
            Codes::Bytes(codes) => things.map(|thing| u32::from(codes[thing])).collect(),
            Codes::Shorts(codes) => things.map(|thing| u32::from(codes[thing])).collect(),
            Codes::Words(codes) => things.map(|thing| codes[thing]).collect(),
        }
    }

    /// Its size in memory in bytes.
    fn size(&self) -> usize {
        let codes = match &self.codes {
            Codes::Bytes(codes) => codes.len(),
            Codes::Shorts(codes) => codes.len() * size_of::<u16>(),
            Codes::Words(codes) => codes.len() * size_of::<u32>(),
        };
        codes + self.values.get_array_memory_size()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use arrow::array::Int64Array;

    use super::*;
    use crate::scan::AttributeScope;

    const PLACE: (Uuid, usize) = (Uuid::nil(), 0);

    fn column(values: Range<i64>) -> CodedColumn {
        let codes = (0..values.end as u32).rev().collect();
        CodedColumn { values: Arc::new(Int64Array::from_iter_values(values)), codes, starts: None }
    }

    #[test]
    fn codes_come_back_whatever_their_width() {
        for count in [1, 256, 257, 65_536, 65_537] {
            let coded = column(0..count);
            let packed = PackedColumn::new(&coded);
            assert_eq!(packed.codes(), coded.codes, "{count}");
            let last = count as u32 - 1;
            assert_eq!(packed.codes_at(&[0, last])[..], [last, 0], "{count}");
        }
        assert!(PackedColumn::new(&column(0..256)).size() * 2 < PackedColumn::new(&column(0..512)).size());
    }

    #[test]
    fn a_column_serves_who_needs_no_more_than_is_there() {
        let cache = ColumnCache::new(100_000);
        let key = SpanColumn::Attribute { scope: AttributeScope::Span, key: "a".into() };
        let (strings, ints) = (Passing { strings: true, ..Passing::NOTHING }, Passing { ints: true, ..Passing::NOTHING });
        let is_codes = |passing| matches!(cache.get(PLACE, &key, passing), Some((_, Remembered::Codes(_))));
        cache.put(PLACE, &key, strings, Remembered::Codes(Arc::new(PackedColumn::new(&column(0..3)))));
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, false, false]);
        // That it was asked for whole is no reason to forget what is there in part.
        cache.put(PLACE, &key, Passing::ANYTHING, Remembered::Asked);
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, false, false]);
        cache.put(PLACE, &key, Passing::ANYTHING, Remembered::Codes(Arc::new(PackedColumn::new(&column(0..3)))));
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, true, true]);
    }

    #[test]
    fn a_bound_of_nothing_keeps_nothing() {
        let cache = ColumnCache::new(0);
        cache.put(PLACE, &SpanColumn::Place, Passing::ANYTHING, Remembered::Asked);
        assert!(cache.get(PLACE, &SpanColumn::Place, Passing::ANYTHING).is_none());
    }
}
