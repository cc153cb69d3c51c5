//! What is remembered of row groups from one query to the next: columns in codes (a byte a span where there are no more than 256
//! values), numbers, dictionaries, trace ids. Dashboards ask the same few columns of the same blocks over and over, with ever
//! other conditions.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, StringArray},
    buffer::ScalarBuffer,
};
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    recent::Recent,
    scan::{ChunkTraces, CodedColumn, Passing, SpanColumn},
    trace::TraceId,
};

/// What an entry takes beside what it holds, in bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// A row group of a block.
pub(super) type Place = (Uuid, usize);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    /// A column, and which of its values are there: others may be NULL.
    Column(SpanColumn, Passing),
    /// The dictionary of a leaf.
    Dictionary(String),
    Traces,
}

#[derive(Clone, Debug)]
enum Entry {
    Column(Remembered),
    Dictionary(Bytes, StringArray),
    Traces(ChunkTraces),
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
    /// The values of all spans.
    Values(ArrayRef),
}

/// What is remembered of row groups: what was used lately.
#[derive(Debug)]
pub(super) struct ChunkCache(Recent<(Place, What), Entry>);

impl ChunkCache {
    /// A cache of at most so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Recent::new(bytes))
    }

    /// What is known of a column in which at least the `passing` values are, and which of them are.
    pub fn column(&self, place: Place, column: &SpanColumn, passing: Passing) -> Option<(Passing, Remembered)> {
        let of = |passing| match self.0.get(&(place, What::Column(column.clone(), passing)))? {
            Entry::Column(known) => Some((passing, known)),
            _ => None,
        };
        match of(Passing::ANYTHING) {
            Some(whole @ (_, Remembered::Codes(_) | Remembered::Values(_))) => Some(whole),
            other if passing == Passing::ANYTHING => other,
            other => of(passing).or(other),
        }
    }

    /// Remembers a column in which the `passing` values are.
    pub fn put_column(&self, place: Place, column: &SpanColumn, passing: Passing, known: Remembered) {
        let size = match &known {
            Remembered::Asked | Remembered::Uncoded => 0,
            Remembered::Codes(packed) => packed.size(),
            Remembered::Values(values) => values.get_array_memory_size(),
        };
        self.put(place, What::Column(column.clone(), passing), Entry::Column(known), size);
    }

    /// The dictionary of a leaf: its page as it is stored, and what is in it.
    pub fn dictionary(&self, place: Place, path: &str) -> Option<(Bytes, StringArray)> {
        match self.0.get(&(place, What::Dictionary(path.to_owned())))? {
            Entry::Dictionary(page, texts) => Some((page, texts)),
            _ => None,
        }
    }

    /// Remembers the dictionary of a leaf.
    pub fn put_dictionary(&self, place: Place, path: &str, page: &Bytes, texts: &StringArray) {
        // The page may be a part of more that was read at once.
        let page = Bytes::copy_from_slice(page);
        let size = page.len() + texts.get_array_memory_size();
        self.put(place, What::Dictionary(path.to_owned()), Entry::Dictionary(page, texts.clone()), size);
    }

    /// The traces of a row group.
    pub fn traces(&self, place: Place) -> Option<ChunkTraces> {
        match self.0.get(&(place, What::Traces))? {
            Entry::Traces(traces) => Some(traces),
            _ => None,
        }
    }

    /// Remembers the traces of a row group.
    pub fn put_traces(&self, place: Place, traces: &ChunkTraces) {
        let size = traces.traces.len() * size_of::<(TraceId, i64)>() + traces.first_spans.len() * size_of::<u32>();
        self.put(place, What::Traces, Entry::Traces(traces.clone()), size);
    }

    fn put(&self, place: Place, what: What, entry: Entry, size: usize) {
        self.0.put((place, what), entry, ENTRY_BYTES + size);
    }
}

/// A column in codes, as short as these can be: one for each span.
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
    /// The codes of all spans.
    pub fn new(column: &CodedColumn) -> Self {
        let all = column.codes_of(None);
        let codes = match column.values.len() {
            0..=0x100 => Codes::Bytes(all.iter().map(|code| *code as u8).collect()),
            0..=0x1_0000 => Codes::Shorts(all.iter().map(|code| *code as u16).collect()),
            _ => Codes::Words(all),
        };
        Self { values: column.values.clone(), codes }
    }

    /// The codes of all spans.
    pub fn codes(&self) -> ScalarBuffer<u32> {
        match &self.codes {
            Codes::Bytes(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Codes::Shorts(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Codes::Words(codes) => codes.clone(),
        }
    }

    /// The codes of these spans.
    pub fn codes_at(&self, spans: &[u32]) -> ScalarBuffer<u32> {
        let spans = spans.iter().map(|span| *span as usize);
        match &self.codes {
            Codes::Bytes(codes) => spans.map(|span| u32::from(codes[span])).collect(),
            Codes::Shorts(codes) => spans.map(|span| u32::from(codes[span])).collect(),
            Codes::Words(codes) => spans.map(|span| codes[span]).collect(),
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

    const PLACE: Place = (Uuid::nil(), 0);

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
        // A code for each group of spans becomes one for each span.
        let groups = CodedColumn { starts: Some(vec![0, 2, 5].into()), ..column(0..2) };
        assert_eq!(PackedColumn::new(&groups).codes()[..], [1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_column_serves_who_needs_no_more_than_is_there() {
        let cache = ChunkCache::new(100_000);
        let key = SpanColumn::Attribute { scope: AttributeScope::Span, key: "a".into() };
        let (strings, ints) = (Passing { strings: true, ..Passing::NOTHING }, Passing { ints: true, ..Passing::NOTHING });
        let is_codes = |passing| matches!(cache.column(PLACE, &key, passing), Some((_, Remembered::Codes(_))));
        let codes = || Remembered::Codes(Arc::new(PackedColumn::new(&column(0..3))));
        cache.put_column(PLACE, &key, strings, codes());
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, false, false]);
        // That it was asked for whole is no reason to forget what is there in part.
        cache.put_column(PLACE, &key, Passing::ANYTHING, Remembered::Asked);
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, false, false]);
        cache.put_column(PLACE, &key, Passing::ANYTHING, codes());
        assert_eq!([strings, ints, Passing::ANYTHING].map(is_codes), [true, true, true]);
    }

    #[test]
    fn what_is_larger_than_the_bound_is_not_kept() {
        let cache = ChunkCache::new(ENTRY_BYTES + 1000);
        let put = |values| cache.put_column(PLACE, &SpanColumn::Place, Passing::ANYTHING, Remembered::Values(values));
        let is_here = || cache.column(PLACE, &SpanColumn::Place, Passing::ANYTHING).is_some();
        put(Arc::new(Int64Array::from_iter_values(0..1000)));
        assert!(!is_here());
        put(Arc::new(Int64Array::from_iter_values(0..10)));
        assert!(is_here());
    }
}
