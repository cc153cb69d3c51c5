//! What is remembered of row groups from one query to the next: columns in codes (a byte a span where there are no more than 256
//! values), numbers, dictionaries, trace ids. Dashboards ask the same few columns of the same blocks over and over, with ever
//! other conditions.

use arrow::array::{Array, ArrayRef, StringArray};
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
    /// Its codes, packed.
    Codes(CodedColumn),
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
            Remembered::Codes(coded) => coded.codes.size() + coded.values.get_array_memory_size(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;
    use crate::scan::AttributeScope;

    const PLACE: Place = (Uuid::nil(), 0);

    fn codes() -> Remembered {
        Remembered::Codes(CodedColumn { values: Arc::new(Int64Array::from_iter_values(0..3)), codes: vec![2, 0].into(), starts: None })
    }

    #[test]
    fn a_column_serves_who_needs_no_more_than_is_there() {
        let cache = ChunkCache::new(100_000);
        let key = SpanColumn::Attribute { scope: AttributeScope::Span, key: "a".into() };
        let (strings, ints) = (Passing { strings: true, ..Passing::NOTHING }, Passing { ints: true, ..Passing::NOTHING });
        let is_codes = |passing| matches!(cache.column(PLACE, &key, passing), Some((_, Remembered::Codes(_))));
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
