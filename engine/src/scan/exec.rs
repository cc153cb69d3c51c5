//! The physical leaf: opens chunks, filters on the columns the filter needs, then takes the rest for the spans left.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{project_schema, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    physical_expr::{DynamicFilterTracking, EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation},
        metrics::{ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::{
    columns::{SpanColumn, schema_of},
    filter::ScanFilter,
    newest::NewestTraces,
    queue::{ChunkQueue, ScanUnit, Selected, TraceFilters},
    traces::{PlannedTraceFilter, TraceChoice, TraceStage},
};
use crate::error::Result;

/// Scans chunks of spans; see [`SpanChunk`](super::SpanChunk). Its partitions take chunks from one queue, so that none idles.
#[derive(Debug)]
pub struct SpanScanExec {
    columns: Arc<[SpanColumn]>,
    projection: Vec<usize>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    units: Arc<[ScanUnit]>,
    batch_rows: usize,
    limit: Option<usize>,
    newest: Option<Arc<NewestTraces>>,
    choice: Option<TraceChoice>,
    traces: Option<Arc<PlannedTraceFilter>>,
    /// Filters over the output that become tighter while the plan runs.
    tightening: Vec<Arc<dyn PhysicalExpr>>,
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
            units: units.into(),
            batch_rows: batch_rows.max(1),
            limit,
            newest: None,
            choice: None,
            traces: None,
            tightening: Vec::new(),
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

    /// Reads these traces only, or all but these.
    #[must_use]
    pub fn with_choice(mut self, choice: Option<TraceChoice>) -> Self {
        self.choice = choice;
        self
    }

    /// Keeps spans by what is true of their traces; `predicate` is asked of those only.
    #[must_use]
    pub(super) fn with_traces(mut self, traces: Option<Arc<PlannedTraceFilter>>) -> Self {
        self.traces = traces;
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
            choice: self.choice.clone(),
            traces: self.traces.clone(),
            tightening: self.tightening.clone(),
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
    pub(super) fn work(&self, metrics: &ExecutionPlanMetricsSet, partition: usize, context: &TaskContext) -> DfResult<ChunkQueue> {
        let filter = ScanFilter::new(&self.columns, self.predicate.as_ref())?;
        let filter = filter.tightened_by(&self.output_columns(), &self.tightening);
        let stage = self.traces.as_ref().map(|planned| TraceStage::new(&self.columns, planned, context)).transpose()?;
        let traces = TraceFilters { newest: self.newest.clone(), choice: self.choice.clone(), stage };
        Ok(ChunkQueue::new(self.units.clone(), self.queue.clone(), filter, traces, metrics, partition))
    }

    /// The columns that are put out, in order.
    pub(super) fn output_columns(&self) -> Vec<SpanColumn> {
        self.projection.iter().map(|&i| self.columns[i].clone()).collect()
    }

    /// What is read, for EXPLAIN.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("chunks={}", self.units.len());
        if let Some(choice) = &self.choice {
            text.push_str(&format!(", {}={}", if choice.only { "only_traces" } else { "without_traces" }, choice.ids.len()));
        }
        if let Some(traces) = &self.traces {
            text.push_str(&format!(", traces=[{}]", traces.test.name()));
            if !traces.apart.is_empty() {
                text.push_str(&format!(", traces_apart={}", traces.apart.len()));
            }
        }
        if let Some(predicate) = &self.predicate {
            text.push_str(&format!(", predicate={predicate}"));
        }
        for filter in &self.tightening {
            text.push_str(&format!(", tightening={filter}"));
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

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = pushed.parent_filters.iter().map(|parent| parent.filter.clone());
        let dynamic: Vec<_> = filters.filter(|filter| DynamicFilterTracking::classify(filter).contains_dynamic_filter()).collect();
        let answer = FilterPushdownPropagation::all_unsupported(pushed);
        if phase != FilterPushdownPhase::Post || dynamic.is_empty() {
            return Ok(answer);
        }
        let mut scan = self.anew();
        scan.tightening.extend(dynamic);
        Ok(answer.with_updated_node(Arc::new(scan)))
    }

    fn reset_state(self: Arc<Self>) -> DfResult<Arc<dyn ExecutionPlan>> {
        // What a filter has learnt is of the run before.
        Ok(Arc::new(Self { tightening: Vec::new(), ..self.anew() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let reader = Reader { columns: self.output_columns(), schema: self.schema.clone(), batch_rows: self.batch_rows };
        let queue = self.work(&self.metrics, partition, &context)?;
        let batches = futures::stream::try_unfold((queue, reader), |(queue, reader)| async move {
            while let Some(mut selected) = queue.next().await? {
                let read = reader.read(&queue, &mut selected).await;
                let batches = queue.finish(selected, read)?.unwrap_or_default();
                if !batches.is_empty() {
                    return Ok(Some((futures::stream::iter(batches.into_iter().map(Ok)), (queue, reader))));
                }
            }
            Ok::<_, DataFusionError>(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.try_flatten())))
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
        selected.chunk.load_for(&self.columns, selected.spans.as_ref()).await?;
        let _timer = queue.baseline.elapsed_compute().timer();
        let rows = selected.rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            // Here the query can be stopped.
            tokio::task::yield_now().await;
            arrays.push(selected.chunk.column(column, selected.spans.as_ref())?);
        }
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        queue.baseline.record_output(rows);
        Ok((0..rows).step_by(self.batch_rows).map(|at| batch.slice(at, self.batch_rows.min(rows - at))).collect())
    }
}
