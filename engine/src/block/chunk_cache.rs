//! What is remembered of row groups from one query to the next: columns in codes (a byte a span where there are no more than 256
//! values), numbers, dictionaries, trace ids. Dashboards ask the same few columns of the same blocks over and over, with ever
//! other conditions.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow::array::{Array, ArrayRef, StringArray};
use bytes::Bytes;
use uuid::Uuid;

use super::text_index::TextIndex;
use crate::{
    recent::Recent,
    scan::{AttributeScope, ChunkTraces, CodedAttributes, CodedColumn, Passing, SpanColumn},
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
    /// All attributes of a scope.
    Attributes(AttributeScope),
}

#[derive(Clone, Debug)]
enum Entry {
    Column(Remembered),
    Dictionary(Bytes, StringArray, Arc<TextIndex>),
    Traces(ChunkTraces),
    /// Nothing if they were asked for once.
    Attributes(Option<Arc<CodedAttributes>>),
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
pub(super) struct ChunkCache {
    kept: Recent<(Place, What), Entry>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What remembering columns brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnCacheStats {
    /// Columns of chunks that were remembered when a query asked for them.
    pub hits: u64,
    /// Columns of chunks that were decoded for all spans, since they were not.
    pub misses: u64,
    /// What is kept, in bytes.
    pub bytes: u64,
}

impl ChunkCache {
    /// A cache of at most so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { kept: Recent::new(bytes), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Notes that a remembered column is used.
    pub fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// What it has brought so far.
    pub fn stats(&self) -> ColumnCacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ColumnCacheStats { hits: count(&self.hits), misses: count(&self.misses), bytes: self.kept.size() as u64 }
    }

    /// What is known of a column in which at least the `passing` values are, and which of them are.
    pub fn column(&self, place: Place, column: &SpanColumn, passing: Passing) -> Option<(Passing, Remembered)> {
        let of = |passing| match self.kept.get(&(place, What::Column(column.clone(), passing)))? {
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
        if let Remembered::Codes(_) | Remembered::Values(_) = &known {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        self.put(place, What::Column(column.clone(), passing), Entry::Column(known), size);
    }

    /// The dictionary of a leaf: its page as it is stored, and what is in it.
    pub fn dictionary(&self, place: Place, path: &str) -> Option<(Bytes, StringArray)> {
        match self.kept.get(&(place, What::Dictionary(path.to_owned())))? {
            Entry::Dictionary(page, texts, _) => Some((page, texts)),
            _ => None,
        }
    }

    /// Remembers the dictionary of a leaf.
    pub fn put_dictionary(&self, place: Place, path: &str, page: &Bytes, texts: &StringArray) {
        // The page may be a part of more that was read at once.
        let page = Bytes::copy_from_slice(page);
        let size = page.len() + texts.get_array_memory_size() + texts.len() * TextIndex::ENTRY_BYTES;
        self.put(place, What::Dictionary(path.to_owned()), Entry::Dictionary(page, texts.clone(), Arc::default()), size);
    }

    /// Whether the dictionary of a leaf is remembered and has no such text.
    pub fn lacks(&self, place: Place, path: &str, text: &str) -> bool {
        match self.kept.get(&(place, What::Dictionary(path.to_owned()))) {
            Some(Entry::Dictionary(_, texts, index)) => index.lacks(&texts, text),
            _ => false,
        }
    }

    /// The traces of a row group.
    pub fn traces(&self, place: Place) -> Option<ChunkTraces> {
        match self.kept.get(&(place, What::Traces))? {
            Entry::Traces(traces) => Some(traces),
            _ => None,
        }
    }

    /// Remembers the traces of a row group.
    pub fn put_traces(&self, place: Place, traces: &ChunkTraces) {
        let size = traces.traces.len() * size_of::<(TraceId, i64)>() + traces.first_spans.len() * size_of::<u32>();
        self.put(place, What::Traces, Entry::Traces(traces.clone()), size);
    }

    /// The attributes of a scope.
    pub fn attributes(&self, place: Place, scope: AttributeScope) -> Option<Arc<CodedAttributes>> {
        match self.kept.get(&(place, What::Attributes(scope)))? {
            Entry::Attributes(known) => known,
            _ => None,
        }
    }

    /// Remembers the attributes of a scope, if they are asked for again: they are much (8 bytes for each of a span), and one question
    /// should not make others forgotten.
    pub fn put_attributes(&self, place: Place, scope: AttributeScope, found: &Arc<CodedAttributes>) {
        let what = What::Attributes(scope);
        let again = self.kept.get(&(place, what.clone())).is_some();
        let size = if again { found.size() } else { 0 };
        self.put(place, what, Entry::Attributes(again.then(|| found.clone())), size);
    }

    fn put(&self, place: Place, what: What, entry: Entry, size: usize) {
        self.kept.put((place, what), entry, ENTRY_BYTES + size);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

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
    fn attributes_are_kept_when_they_are_asked_for_again() {
        let cache = ChunkCache::new(100_000);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
        let found = Arc::new(CodedAttributes { attributes: values, things: vec![0, 1], codes: vec![2, 0], starts: None });
        let is_here = || cache.attributes(PLACE, AttributeScope::Span).is_some();
        for due in [false, true, true] {
            cache.put_attributes(PLACE, AttributeScope::Span, &found);
            assert_eq!(is_here(), due);
        }
        assert!(cache.attributes(PLACE, AttributeScope::Resource).is_none());
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
        cache.count_hit();
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses), (1, 2));
        assert!(stats.bytes > ENTRY_BYTES as u64 + 80);
    }
}
