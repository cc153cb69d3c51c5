//! The chunks of a scan, one after the other, each with the spans of it that pass the filter.

use std::sync::Arc;

use arrow::{array::UInt32Array, buffer::BooleanBuffer};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    chunk::{ChunkSource, ChunkStats, ChunkTraces, Effort, SpanChunk},
    columns::SpanField,
    filter::{ExcludedBy, ScanFilter},
    newest::NewestTraces,
    tolerance::Tolerance,
    traces::{Asked, TraceChoice, TraceStage},
};
use crate::error::Result;

/// One chunk of a scan.
#[derive(Clone, Debug)]
pub struct ScanUnit {
    source: Arc<dyn ChunkSource>,
    block: Option<(Uuid, Arc<Tolerance>)>,
}

impl ScanUnit {
    /// A unit that reads this source.
    pub fn new(source: Arc<dyn ChunkSource>) -> Self {
        Self { source, block: None }
    }

    /// A unit that reads a part of a block, which may fail as far as `tolerance` goes.
    pub fn of_block(source: Arc<dyn ChunkSource>, block: Uuid, tolerance: Arc<Tolerance>) -> Self {
        Self { source, block: Some((block, tolerance)) }
    }

    /// What reading this unit gave; nothing if it may fail and did.
    fn judge<T>(&self, read: Result<T>) -> Result<Option<T>> {
        match &self.block {
            Some((block, tolerance)) => tolerance.judge(*block, read),
            None => read.map(Some),
        }
    }
}

/// What a scan tells of its work.
struct Counters {
    chunks: Count,
    by_statistics: Count,
    by_dictionary: Count,
    by_pages: Count,
    unmatched: Count,
    old: Count,
    older: Count,
    matched: Count,
    spans: Count,
    traces: Count,
    bytes: Count,
    requests: Count,
    pages: Count,
    pages_excluded: Count,
    pages_without_span: Count,
    pages_opened: Count,
    columns_cached: Count,
}

impl Counters {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            chunks: counter("chunks_scanned"),
            by_statistics: counter("chunks_excluded_by_statistics"),
            by_dictionary: counter("chunks_excluded_by_dictionary"),
            by_pages: counter("chunks_excluded_by_page_index"),
            unmatched: counter("chunks_without_match"),
            old: counter("chunks_too_old"),
            older: counter("spans_too_old"),
            matched: counter("spans_matched"),
            spans: counter("spans_scanned"),
            traces: counter("traces_scanned"),
            bytes: counter("bytes_scanned"),
            requests: counter("store_requests"),
            pages: counter("pages_total"),
            pages_excluded: counter("pages_excluded_by_page_index"),
            pages_without_span: counter("pages_without_span"),
            pages_opened: counter("pages_opened"),
            columns_cached: counter("columns_cached"),
        }
    }

    fn excluded(&self, by: ExcludedBy) -> &Count {
        match by {
            ExcludedBy::Statistics => &self.by_statistics,
            ExcludedBy::Dictionary => &self.by_dictionary,
        }
    }

    fn add(&self, stats: ChunkStats) {
        self.spans.add(stats.spans as usize);
        self.traces.add(stats.traces as usize);
        self.bytes.add(stats.bytes_read as usize);
        self.requests.add(stats.requests as usize);
        self.pages.add(stats.pages as usize);
        self.pages_excluded.add(stats.pages_excluded as usize);
        self.pages_without_span.add(stats.pages_without_span as usize);
        self.pages_opened.add(stats.pages_opened as usize);
        self.columns_cached.add(stats.columns_cached as usize);
    }
}

/// What a scan asks of whole traces.
#[derive(Default)]
pub(super) struct TraceFilters {
    pub newest: Option<Arc<NewestTraces>>,
    pub choice: Option<TraceChoice>,
    pub stage: Option<TraceStage>,
}

/// The chunks of a scan that no partition has taken yet.
pub(super) struct ChunkQueue {
    units: Arc<[ScanUnit]>,
    next: Arc<Mutex<usize>>,
    filter: ScanFilter,
    traces: TraceFilters,
    pub(super) baseline: BaselineMetrics,
    counters: Counters,
}

/// A chunk with the spans of it that pass the filter.
pub(super) struct Selected {
    unit: ScanUnit,
    pub chunk: Box<dyn SpanChunk>,
    /// Ascending; `None` if all pass.
    pub spans: Option<UInt32Array>,
}

impl Selected {
    /// Leaves out spans of traces that are too old for an answer of the newest; returns how many.
    async fn keep(&mut self, newest: &NewestTraces) -> Result<usize> {
        let before = self.rows();
        let Some(ChunkTraces { traces, first_spans }) = self.chunk.traces().await? else { return Ok(0) };
        // For each trace with a match, where its spans are among the chosen ones.
        let mut at = 0;
        let mut places = |trace: usize| {
            let (first, end) = (first_spans[trace], first_spans[trace + 1]);
            let Some(spans) = &self.spans else { return first as usize..end as usize };
            let from = at;
            at += spans.values()[from..].iter().take_while(|span| **span < end).count();
            from..at
        };
        let matching: Vec<_> = (0..traces.len()).map(|t| (t, places(t))).filter(|(_, places)| !places.is_empty()).collect();
        let kept = newest.offer(matching.iter().map(|(trace, _)| traces[*trace]));
        if kept.iter().all(|k| *k) {
            return Ok(0);
        }
        let places = matching.into_iter().zip(kept).filter(|(_, kept)| *kept).flat_map(|((_, places), _)| places);
        let left: Vec<u32> = match &self.spans {
            Some(spans) => places.map(|place| spans.value(place)).collect(),
            None => places.map(|span| span as u32).collect(),
        };
        self.spans = Some(left.into());
        Ok(before - self.rows())
    }

    /// Number of spans that pass.
    pub fn rows(&self) -> usize {
        self.spans.as_ref().map_or(self.chunk.span_count(), |s| s.len())
    }
}

impl ChunkQueue {
    /// The chunks from `units` that are not taken yet: `next` is the number of the first of them, shared by all partitions.
    pub fn new(
        units: Arc<[ScanUnit]>,
        next: Arc<Mutex<usize>>,
        filter: ScanFilter,
        traces: TraceFilters,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
    ) -> Self {
        let (baseline, counters) = (BaselineMetrics::new(metrics, partition), Counters::new(metrics, partition));
        Self { units, next, filter, traces, baseline, counters }
    }

    /// The next chunk with a span that passes; `None` at the end.
    pub async fn next(&self) -> Result<Option<Selected>> {
        loop {
            let unit = {
                let mut at = self.next.lock();
                *at += 1;
                self.units.get(*at - 1).cloned()
            };
            let Some(unit) = unit else { return Ok(None) };
            let selected = self.select(&unit).await;
            if let Some(Some(selected)) = unit.judge(selected)? {
                return Ok(Some(selected));
            }
        }
    }

    /// A chunk's spans that pass; `None` if there are none.
    async fn select(&self, unit: &ScanUnit) -> Result<Option<Selected>> {
        self.counters.chunks.add(1);
        let mut chunk = unit.source.clone().open().await?;
        if self.is_too_old(chunk.as_ref()) {
            return Ok(self.leave(chunk.as_ref(), &self.counters.old));
        }
        if let Some(by) = self.filter.excludes(chunk.as_mut(), Effort::Dictionaries).await? {
            return Ok(self.leave(chunk.as_ref(), self.counters.excluded(by)));
        }
        let before = chunk.span_count();
        self.filter.narrow(chunk.as_mut()).await?;
        if chunk.span_count() == 0 && before > 0 {
            return Ok(self.leave(chunk.as_ref(), &self.counters.by_pages));
        }
        let possible = match &self.traces.stage {
            Some(stage) => stage.possible(chunk.as_mut()).await?,
            None => Some(Vec::new()),
        };
        let Some(possible) = possible else { return Ok(self.leave(chunk.as_ref(), &self.counters.by_dictionary)) };
        let mask = self.mask(chunk.as_mut(), &possible).await?;
        let spans = mask.map(|mask| UInt32Array::from(mask.set_indices().map(|i| i as u32).collect::<Vec<_>>()));
        let mut selected = Selected { unit: unit.clone(), chunk, spans };
        if let Some(newest) = self.traces.newest.as_ref().filter(|_| selected.rows() > 0) {
            self.counters.older.add(selected.keep(newest).await?);
        }
        if selected.rows() == 0 {
            return Ok(self.leave(selected.chunk.as_ref(), &self.counters.unmatched));
        }
        Ok(Some(selected))
    }

    /// Whether all traces of a chunk start too early to be in the answer.
    fn is_too_old(&self, chunk: &dyn SpanChunk) -> bool {
        let latest = || Some(chunk.bounds(SpanField::TraceStartTime)?.1);
        self.traces.newest.as_ref().is_some_and(|newest| latest().is_some_and(|latest| newest.are_too_old(latest)))
    }

    /// A chunk's spans that pass all filters; `None` if all do. `possible`: the conditions of the trace filter that a span may meet.
    async fn mask(&self, chunk: &mut dyn SpanChunk, possible: &[bool]) -> Result<Option<BooleanBuffer>> {
        let TraceFilters { newest, choice, stage } = &self.traces;
        let is_none = |mask: &Option<BooleanBuffer>| mask.as_ref().is_some_and(|m| m.count_set_bits() == 0);
        let of_choice = match choice {
            Some(choice) => chunk.traces().await?.and_then(|traces| choice.spans(&traces)),
            None => None,
        };
        if is_none(&of_choice) {
            return Ok(of_choice);
        }
        chunk.load_passing(&self.filter.columns(chunk)).await?;
        let _timer = self.baseline.elapsed_compute().timer();
        let wanted = self.filter.select(chunk, of_choice.as_ref()).await?;
        match stage {
            Some(stage) if !is_none(&wanted) => {
                stage.select(chunk, possible, Asked { before: of_choice, wanted, newest: newest.as_deref() }).await.map(Some)
            }
            _ => Ok(wanted),
        }
    }

    /// Counts a chunk of which nothing is put out.
    fn leave(&self, chunk: &dyn SpanChunk, counter: &Count) -> Option<Selected> {
        counter.add(1);
        self.counters.add(chunk.stats());
        None
    }

    /// Counts what a chunk has cost, and says what was made of it; nothing if its block may fail and did.
    pub fn finish<T>(&self, selected: Selected, made: Result<T>) -> Result<Option<T>> {
        self.counters.add(selected.chunk.stats());
        self.counters.matched.add(selected.rows());
        selected.unit.judge(made)
    }
}
