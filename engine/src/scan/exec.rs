//! The physical leaf: opens chunks, filters on the columns the filter needs, then takes the rest for the spans left.

use std::{collections::BTreeSet, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::prep_null_mask_filter,
    datatypes::SchemaRef,
};
use datafusion::{
    common::{cast::as_boolean_array, project_schema, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    physical_expr::{EquivalenceProperties, PhysicalExpr, utils::collect_columns},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;
use parking_lot::Mutex;

use super::{
    chunk::{ChunkSource, SpanChunk},
    columns::{SpanColumn, schema_of},
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
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
            queue: Arc::default(),
        })
    }

    fn reader(&self, partition: usize) -> ChunkReader {
        let all = schema_of(&self.columns);
        let needed: Vec<usize> =
            self.predicate.iter().flat_map(collect_columns).map(|c| c.index()).collect::<BTreeSet<_>>().into_iter().collect();
        let pick = |at: &[usize]| at.iter().map(|&i| self.columns[i].clone()).collect::<Vec<_>>();
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        ChunkReader {
            all: all.clone(),
            predicate: self.predicate.clone(),
            filter_columns: pick(&needed),
            filter_at: needed,
            output_columns: pick(&self.projection),
            schema: self.schema.clone(),
            batch_rows: self.batch_rows,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            spans: counter("spans_scanned"),
            traces: counter("traces_scanned"),
            bytes: counter("bytes_scanned"),
            requests: counter("store_requests"),
            chunks: counter("chunks_scanned"),
        }
    }
}

impl DisplayAs for SpanScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.projection.iter().map(|&i| self.columns[i].name()).collect();
        write!(f, "SpanScanExec: chunks={}, columns=[{}]", self.units.len(), names.join(", "))?;
        if let Some(predicate) = &self.predicate {
            write!(f, ", predicate={predicate}")?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
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
        Ok(Arc::new(Self {
            columns: self.columns.clone(),
            projection: self.projection.clone(),
            predicate: self.predicate.clone(),
            units: self.units.clone(),
            batch_rows: self.batch_rows,
            limit: self.limit,
            schema: self.schema.clone(),
            properties: self.properties.clone(),
            metrics: ExecutionPlanMetricsSet::new(),
            queue: Arc::default(),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let reader = Arc::new(self.reader(partition));
        let (units, queue) = (self.units.clone(), self.queue.clone());
        let next = move || {
            let mut at = queue.lock();
            let unit = units.get(*at).cloned();
            *at += 1;
            unit
        };
        let chunks = futures::stream::iter(std::iter::from_fn(next)).then(move |unit| {
            let reader = reader.clone();
            async move { reader.read(unit).await.map_err(DataFusionError::from) }
        });
        let batches = chunks.flat_map(|read| {
            futures::stream::iter(match read {
                Ok(batches) => batches.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(e) => vec![Err(e)],
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }
}

/// Reads one chunk after the other for one partition.
struct ChunkReader {
    all: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    filter_columns: Vec<SpanColumn>,
    filter_at: Vec<usize>,
    output_columns: Vec<SpanColumn>,
    schema: SchemaRef,
    batch_rows: usize,
    baseline: BaselineMetrics,
    spans: Count,
    traces: Count,
    bytes: Count,
    requests: Count,
    chunks: Count,
}

impl ChunkReader {
    async fn read(&self, unit: ScanUnit) -> Result<Vec<RecordBatch>> {
        let mut chunk = unit.source.clone().open().await?;
        let selection = match &self.predicate {
            Some(predicate) => {
                chunk.load(&self.filter_columns).await?;
                Some(self.select(predicate, chunk.as_mut()).await?)
            }
            None => None,
        };
        let rows = selection.as_ref().map_or(chunk.span_count(), |s| s.len());
        let mut batches = Vec::new();
        if rows > 0 {
            chunk.load(&self.output_columns).await?;
            let _timer = self.baseline.elapsed_compute().timer();
            let whole = selection.filter(|s| s.len() < chunk.span_count());
            let arrays = columns(chunk.as_mut(), &self.output_columns, whole.as_ref()).await?;
            let batch =
                RecordBatch::try_new_with_options(self.schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
            batches.extend((0..rows).step_by(self.batch_rows).map(|at| batch.slice(at, self.batch_rows.min(rows - at))));
        }
        let stats = chunk.stats();
        self.spans.add(stats.spans as usize);
        self.traces.add(stats.traces as usize);
        self.bytes.add(stats.bytes_read as usize);
        self.requests.add(stats.requests as usize);
        self.chunks.add(1);
        self.baseline.record_output(rows);
        Ok(batches)
    }

    /// Numbers of the spans for which the predicate is true.
    async fn select(&self, predicate: &Arc<dyn PhysicalExpr>, chunk: &mut dyn SpanChunk) -> Result<UInt32Array> {
        let _timer = self.baseline.elapsed_compute().timer();
        let count = chunk.span_count();
        // The predicate's column numbers are those of the whole table; columns it does not use are left out.
        let schema = Arc::new(self.all.project(&self.filter_at)?);
        let arrays = columns(chunk, &self.filter_columns, None).await?;
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(count)))?;
        let predicate = datafusion::physical_expr::utils::reassign_expr_columns(predicate.clone(), &schema)?;
        let value = predicate.evaluate(&batch)?.into_array(count)?;
        let mask = as_boolean_array(&value)?;
        let mask: BooleanArray = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        Ok(mask.values().set_indices().map(|i| i as u32).collect::<Vec<_>>().into())
    }
}

/// The values of loaded columns. Between two of them the query can be stopped.
async fn columns(chunk: &mut dyn SpanChunk, wanted: &[SpanColumn], selection: Option<&UInt32Array>) -> Result<Vec<ArrayRef>> {
    let mut arrays = Vec::with_capacity(wanted.len());
    for column in wanted {
        tokio::task::yield_now().await;
        arrays.push(chunk.column(column, selection)?);
    }
    Ok(arrays)
}
