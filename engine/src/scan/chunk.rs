//! The shape of a scan: leaf columns in, flat span columns out, for one unit of work at a time.

use std::{collections::HashSet, fmt::Debug, sync::Arc};

use arrow::{
    array::{ArrayRef, UInt32Array},
    buffer::ScalarBuffer,
};
use async_trait::async_trait;

use super::{
    coded::CodedColumn,
    columns::{AttributeScope, SpanColumn, SpanField},
    filter::ValueTest,
    span_filter::Passing,
    value_counts::CodedAttributes,
};
use crate::{error::Result, trace::TraceId};

/// The spans of one unit of work (a row group of a block, or a slice of the live traces), decoded column by column.
///
/// Usage: [`load`](Self::load) what the filter needs, [`column`](Self::column) it whole, evaluate; stop if nothing is left;
/// `load` the rest, and take from it only the chosen spans.
#[async_trait]
pub trait SpanChunk: Debug + Send {
    /// Number of spans.
    fn span_count(&self) -> usize;

    /// Fetches the bytes of these columns, in few coalesced requests. Loading a column twice costs nothing.
    async fn load(&mut self, columns: &[SpanColumn]) -> Result<()>;

    /// Like [`load`](Self::load), but of attributes whatever values may pass are enough: for [`coded_passing`](Self::coded_passing).
    async fn load_passing(&mut self, columns: &[(SpanColumn, Passing)]) -> Result<()> {
        let columns: Vec<_> = columns.iter().map(|(column, _)| column.clone()).collect();
        self.load(&columns).await
    }

    /// Whether no span can pass a test of this column, as far as dictionaries and statistics tell: then nothing else of the
    /// chunk need be read.
    async fn excludes(&mut self, _column: &SpanColumn, _test: &ValueTest<'_>, _effort: Effort) -> Result<bool> {
        Ok(false)
    }

    /// Fetches what [`excludes`](Self::excludes) will ask for first of these columns, at once, if it is little; of attributes,
    /// what tells of values that may pass.
    async fn load_dictionaries(&mut self, _columns: &[(&SpanColumn, Passing)]) -> Result<()> {
        Ok(())
    }

    /// Leaves out traces none of whose spans can pass all of these tests of one column each, as far as the bounds of pages tell,
    /// and if that spares enough. Then the chunk is one of fewer spans, perhaps of none. Nothing may be loaded yet.
    async fn narrow(&mut self, _tests: &[(&SpanColumn, ValueTest<'_>)]) -> Result<()> {
        Ok(())
    }

    /// Like [`load`](Self::load), where [`column`](Self::column) will be asked for some of these spans only (`None`: all).
    async fn load_for(&mut self, columns: &[SpanColumn], _spans: Option<&UInt32Array>) -> Result<()> {
        self.load(columns).await
    }

    /// The least and the greatest value of a column of times or durations (nanoseconds), if statistics tell.
    fn bounds(&self, _field: SpanField) -> Option<(i64, i64)> {
        None
    }

    /// Whether the chunk has rounded start times that tell of each span's start which interval of `seconds` it is in.
    fn has_rounded_start(&self, _seconds: u32) -> bool {
        false
    }

    /// A loaded column in codes, over all spans; `None` if it is not kept so.
    fn coded(&mut self, _column: &SpanColumn) -> Result<Option<CodedColumn>> {
        Ok(None)
    }

    /// Whether the codes of a column for the `passing` values are at hand, for all spans: then to ask all of them takes little.
    fn has_codes_at_hand(&mut self, _column: &SpanColumn, _passing: Passing) -> bool {
        false
    }

    /// An attribute in codes, where its values that are not `passing` may be NULL. Loaded by [`load_passing`](Self::load_passing)
    /// for these at least.
    fn coded_passing(&mut self, column: &SpanColumn, _passing: Passing) -> Result<Option<CodedColumn>> {
        self.coded(column)
    }

    /// The same of these spans (ascending) only: values, and the code of each span. Where they are few it can cost less.
    fn coded_at(&mut self, column: &SpanColumn, passing: Passing, spans: &UInt32Array) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
        Ok(self.coded_passing(column, passing)?.map(|coded| (coded.values.clone(), coded.codes_of(Some(spans)))))
    }

    /// The spans at these places, ascending.
    fn spans_at(&self, places: &HashSet<i128>) -> Vec<u32>;

    /// The loaded attributes of a scope, for all spans. There are many: while they are made the query can be stopped.
    async fn attributes(&mut self, scope: AttributeScope) -> Result<Arc<CodedAttributes>>;

    /// The traces of the chunk, in the order of its spans; `None` if that is not known. Fetches what it needs.
    async fn traces(&mut self) -> Result<Option<ChunkTraces>> {
        Ok(None)
    }

    /// The values of a loaded column: for the spans at `selection` (ascending span numbers), or for all. The array has the
    /// type of [`SpanColumn::data_type`] and one entry a span.
    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef>;

    /// Counters, for EXPLAIN ANALYZE and for search metrics.
    fn stats(&self) -> ChunkStats;
}

/// What a chunk does to find out that it need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Looks at what is in memory.
    Memory,
    /// Fetches dictionaries that are not.
    Dictionaries,
}

/// The traces of a chunk.
#[derive(Clone, Debug)]
pub struct ChunkTraces {
    /// Id and start (Unix nanoseconds, as stored) of each.
    pub traces: Arc<[(TraceId, i64)]>,
    /// The first span of each, and the number of spans.
    pub first_spans: ScalarBuffer<u32>,
}

/// What reading a chunk has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkStats {
    /// Bytes asked of the store.
    pub bytes_read: u64,
    /// Requests made to the store.
    pub requests: u64,
    /// Spans the chunk holds, as far as it was opened.
    pub spans: u64,
    /// Traces the chunk holds.
    pub traces: u64,
    /// Data pages of the leaves that were loaded, as far as the page index tells.
    pub pages: u64,
    /// Those of them that hold no span that can pass, by the bounds of pages: not read.
    pub pages_excluded: u64,
    /// Others that hold no span that is left: not read.
    pub pages_without_span: u64,
    /// Data pages that were decompressed; of those that were read some may be passed over.
    pub pages_opened: u64,
    /// Columns that were remembered from queries before.
    pub columns_cached: u64,
}

impl ChunkStats {
    /// What reading cost in both, which are of the same spans.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.bytes_read += other.bytes_read;
        self.requests += other.requests;
        self.pages += other.pages;
        self.pages_excluded += other.pages_excluded;
        self.pages_without_span += other.pages_without_span;
        self.pages_opened += other.pages_opened;
        self.columns_cached += other.columns_cached;
        self
    }
}

/// Opens chunks; cheap to hold in a plan.
#[async_trait]
pub trait ChunkSource: Debug + Send + Sync {
    /// Opens the chunk. Reads no more than metadata.
    async fn open(self: Arc<Self>) -> Result<Box<dyn SpanChunk>>;

    /// Opens the chunk if nothing has to be read for that.
    fn open_in_memory(&self) -> Result<Option<Box<dyn SpanChunk>>> {
        Ok(None)
    }

    /// What this is, for EXPLAIN: a block id and row group, or live spans.
    fn describe(&self) -> String;

    /// Earliest and latest time (Unix nanoseconds, inclusive) that a span of this chunk can start at, if known.
    fn start_time_bounds(&self) -> Option<(i64, i64)>;
}
