//! The physical leaf: opens chunks, filters on the columns the filter needs, then takes the rest for the spans left.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions, UInt32Array},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{project_schema, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::{
    chunk::{ChunkSource, ChunkStats, ChunkTraces, SpanChunk},
    columns::{SpanColumn, schema_of},
    filter::ScanFilter,
    newest::NewestTraces,
};
use crate::error::Result;

/// One chunk of a scan.
#[derive(Clone, Debug)]
pub struct ScanUnit {
    source: Arc<dyn ChunkSource>,
}

impl ScanUnit {
    /// A unit that reads this source.
    pub fn new(source: Arc<dyn ChunkSource>) -> Self {
        Self { source }
    }
}

/// Scans chunks of spans; see [`SpanChunk`]. Its partitions take chunks from one queue, so that none idles.
#[derive(Debug)]
pub struct SpanScanExec {
    columns: Arc<[SpanColumn]>,
    projection: Vec<usize>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    units: Vec<ScanUnit>,
    batch_rows: usize,
    limit: Option<usize>,
    newest: Option<Arc<NewestTraces>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    queue: Arc<Mutex<usize>>,
}

impl SpanScanExec {
    /// A scan of `units` that keeps the spans for which `predicate` (over all of `columns`) is true, and puts out the
    /// columns at `projection`, in batches of at most `batch_rows`. `limit` rows are enough for the caller.
    pub fn new(
        columns: Arc<[SpanColumn]>,
        projection: Vec<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        units: Vec<ScanUnit>,
        parallelism: usize,
        batch_rows: usize,
        limit: Option<usize>,
    ) -> DfResult<Self> {
        let schema = project_schema(&schema_of(&columns), Some(&projection))?;
        let partitions = parallelism.min(units.len()).max(1);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Self {
            columns,
            projection,
            predicate,
            units,
            batch_rows: batch_rows.max(1),
            limit,
            newest: None,
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
            queue: Arc::default(),
        })
    }

    /// Leaves out spans of traces that are too old for an answer of the newest.
    #[must_use]
    pub fn with_newest(mut self, newest: Option<Arc<NewestTraces>>) -> Self {
        self.newest = newest;
        self
    }

    /// The same scan, not begun.
    pub(super) fn anew(&self) -> Self {
        Self {
            columns: self.columns.clone(),
            projection: self.projection.clone(),
            predicate: self.predicate.clone(),
            units: self.units.clone(),
            batch_rows: self.batch_rows,
            limit: self.limit,
            newest: self.newest.clone(),
            schema: self.schema.clone(),
            properties: self.properties.clone(),
            metrics: ExecutionPlanMetricsSet::new(),
            queue: Arc::default(),
        }
    }

    /// Whether the caller wants only some of the rows.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some() || self.newest.is_some()
    }

    /// What one partition works off.
    pub(super) fn work(&self, metrics: &ExecutionPlanMetricsSet, partition: usize) -> DfResult<ChunkQueue> {
        Ok(ChunkQueue {
            units: self.units.clone().into(),
            next: self.queue.clone(),
            newest: self.newest.clone(),
            filter: ScanFilter::new(&self.columns, self.predicate.as_ref())?,
            baseline: BaselineMetrics::new(metrics, partition),
            counters: Counters::new(metrics, partition),
        })
    }

    /// The columns that are put out, in order.
    pub(super) fn output_columns(&self) -> Vec<SpanColumn> {
        self.projection.iter().map(|&i| self.columns[i].clone()).collect()
    }

    /// What is read, for EXPLAIN.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("chunks={}", self.units.len());
        if let Some(predicate) = &self.predicate {
            text.push_str(&format!(", predicate={predicate}"));
        }
        if let Some(limit) = self.limit {
            text.push_str(&format!(", limit={limit}"));
        }
        if let Some(newest) = &self.newest {
            text.push_str(&format!(", newest_traces={}", newest.limit()));
        }
        text
    }
}

impl DisplayAs for SpanScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.projection.iter().map(|&i| self.columns[i].name()).collect();
        write!(f, "SpanScanExec: columns=[{}], {}", names.join(", "), self.describe())
    }
}

impl ExecutionPlan for SpanScanExec {
    fn name(&self) -> &'static str {
        "SpanScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        self.predicate.as_ref().map_or(Ok(TreeNodeRecursion::Continue), f)
    }

    fn reset_state(self: Arc<Self>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.anew()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let reader = Reader { columns: self.output_columns(), schema: self.schema.clone(), batch_rows: self.batch_rows };
        let batches = futures::stream::try_unfold((self.work(&self.metrics, partition)?, reader), |(queue, reader)| async move {
            while let Some(mut selected) = queue.next().await? {
                let batches = reader.read(&queue, &mut selected).await?;
                queue.finish(&selected);
                if !batches.is_empty() {
                    return Ok(Some((futures::stream::iter(batches.into_iter().map(Ok)), (queue, reader))));
                }
            }
            Ok::<_, DataFusionError>(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.try_flatten())))
    }
}

/// What a scan tells of its work.
struct Counters {
    chunks: Count,
    excluded: Count,
    unmatched: Count,
    older: Count,
    matched: Count,
    spans: Count,
    traces: Count,
    bytes: Count,
    requests: Count,
}

impl Counters {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            chunks: counter("chunks_scanned"),
            excluded: counter("chunks_excluded_by_dictionary"),
            unmatched: counter("chunks_without_match"),
            older: counter("spans_too_old"),
            matched: counter("spans_matched"),
            spans: counter("spans_scanned"),
            traces: counter("traces_scanned"),
            bytes: counter("bytes_scanned"),
            requests: counter("store_requests"),
        }
    }

    fn add(&self, stats: ChunkStats) {
        self.spans.add(stats.spans as usize);
        self.traces.add(stats.traces as usize);
        self.bytes.add(stats.bytes_read as usize);
        self.requests.add(stats.requests as usize);
    }
}

/// The chunks of a scan that no partition has taken yet.
pub(super) struct ChunkQueue {
    units: Arc<[ScanUnit]>,
    next: Arc<Mutex<usize>>,
    filter: ScanFilter,
    newest: Option<Arc<NewestTraces>>,
    pub(super) baseline: BaselineMetrics,
    counters: Counters,
}

/// A chunk with the spans of it that pass the filter.
pub(super) struct Selected {
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
    /// The next chunk with a span that passes; `None` at the end.
    pub async fn next(&self) -> Result<Option<Selected>> {
        loop {
            let unit = {
                let mut at = self.next.lock();
                *at += 1;
                self.units.get(*at - 1).cloned()
            };
            let Some(unit) = unit else { return Ok(None) };
            self.counters.chunks.add(1);
            let mut chunk = unit.source.open().await?;
            if self.filter.excludes(chunk.as_mut()).await? {
                self.counters.excluded.add(1);
                self.counters.add(chunk.stats());
                continue;
            }
            chunk.load(&self.filter.columns()).await?;
            let timer = self.baseline.elapsed_compute().timer();
            let mask = self.filter.select(chunk.as_mut())?;
            let spans = mask.map(|mask| UInt32Array::from(mask.set_indices().map(|i| i as u32).collect::<Vec<_>>()));
            let mut selected = Selected { chunk, spans };
            if let Some(newest) = self.newest.as_ref().filter(|_| selected.rows() > 0) {
                drop(timer);
                self.counters.older.add(selected.keep(newest).await?);
            }
            if selected.rows() > 0 {
                return Ok(Some(selected));
            }
            self.counters.unmatched.add(1);
            self.finish(&selected);
        }
    }

    /// Counts what a chunk has cost.
    pub fn finish(&self, selected: &Selected) {
        self.counters.add(selected.chunk.stats());
        self.counters.matched.add(selected.rows());
    }
}

/// Makes batches of the spans that pass.
struct Reader {
    columns: Vec<SpanColumn>,
    schema: SchemaRef,
    batch_rows: usize,
}

impl Reader {
    async fn read(&self, queue: &ChunkQueue, selected: &mut Selected) -> Result<Vec<RecordBatch>> {
        selected.chunk.load(&self.columns).await?;
        let _timer = queue.baseline.elapsed_compute().timer();
        let rows = selected.rows();
        let arrays = self.columns.iter().map(|c| selected.chunk.column(c, selected.spans.as_ref())).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        queue.baseline.record_output(rows);
        Ok((0..rows).step_by(self.batch_rows).map(|at| batch.slice(at, self.batch_rows.min(rows - at))).collect())
    }
}
