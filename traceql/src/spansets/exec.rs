//! What survives a pipeline as a table and an operator of a plan: spans in by trace, surviving spans out.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt32Array},
    compute::{SortOptions, take_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{project_schema, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    logical_expr::{Expr, LogicalPlan, TableType},
    physical_expr::{
        EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortRequirement, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};
use tracehouse_engine::{Result, scan::SpanField};

use super::{Evaluator, Sink, pipeline::Spanset};
use crate::{
    plan::{SpansetPlan, answer_column},
    result::json::plain_json,
    syntax::Static,
};

/// The spans that survive a pipeline, each once for each spanset that it is in.
#[derive(Debug)]
pub struct SpansetTable {
    input: LogicalPlan,
    part: Arc<Part>,
}

/// What an operator does with its input.
#[derive(Debug)]
struct Part {
    text: String,
    spansets: Arc<SpansetPlan>,
    /// The first of the input's columns that are put out.
    from: usize,
    /// Columns put out: some of the input, perhaps the number and the attributes of the spanset.
    schema: SchemaRef,
    numbered: bool,
}

impl SpansetTable {
    /// The table of what survives of the rows of `input`, a plan of `spansets`: its columns from number `from` on, with the
    /// fields of `schema`. `text` says what is done.
    pub fn new(text: String, input: LogicalPlan, spansets: Arc<SpansetPlan>, from: usize, schema: SchemaRef) -> Self {
        Self { input, part: Arc::new(Part { text, spansets, from, schema, numbered: false }) }
    }

    /// The same with two columns more: `spanset`, the number of the spanset within its trace, from 1, and
    /// `spanset_attributes`, what was computed from it, as a JSON object.
    #[must_use]
    pub fn numbered(self) -> Self {
        let more = [Field::new("spanset", DataType::Int32, false), Field::new("spanset_attributes", DataType::Utf8, false)];
        let fields = self.part.schema.fields().iter().cloned().chain(more.map(Arc::new));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let Part { text, spansets, from, .. } = self.part.as_ref();
        let part = Part { text: text.clone(), spansets: spansets.clone(), from: *from, schema, numbered: true };
        Self { input: self.input, part: Arc::new(part) }
    }
}

#[async_trait]
impl TableProvider for SpansetTable {
    fn schema(&self) -> SchemaRef {
        self.part.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = state.create_physical_plan(&self.input).await?;
        Ok(Arc::new(SpansetExec::new(input, self.part.clone(), projection.cloned())?))
    }
}

/// Evaluates a pipeline trace by trace.
#[derive(Debug)]
struct SpansetExec {
    input: Arc<dyn ExecutionPlan>,
    part: Arc<Part>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SpansetExec {
    fn new(input: Arc<dyn ExecutionPlan>, part: Arc<Part>, projection: Option<Vec<usize>>) -> DfResult<Self> {
        let schema = project_schema(&part.schema, projection.as_ref())?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { input, part, projection, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }
}

impl DisplayAs for SpansetExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpansetExec: {}", self.part.text)
    }
}

impl ExecutionPlan for SpansetExec {
    fn name(&self) -> &'static str {
        "SpansetExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    /// By trace, and within it by start: what the plan of the input sorts by.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let schema = self.input.schema();
        let ascending = SortOptions { descending: false, nulls_first: false };
        let by = |at: usize| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(at).name(), at));
            PhysicalSortRequirement::new(column, Some(ascending))
        };
        let order = [SpanField::TraceId, SpanField::StartTime].into_iter().filter_map(answer_column);
        vec![LexRequirement::new(order.map(by)).map(OrderingRequirements::new)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| DataFusionError::Internal("SpansetExec needs an input".to_owned()))?;
        Ok(Arc::new(Self::new(input, self.part.clone(), self.projection.clone())?))
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let rows = self.input.execute(0, context.clone())?;
        let evaluator = Evaluator::new(&self.part.spansets, &context).map_err(DataFusionError::from)?;
        let kept = Kept { part: self.part.clone(), projection: self.projection.clone(), batches: Vec::new() };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let state = Some((evaluator, rows, kept, baseline));
        let batches = stream::try_unfold(state, next).map(|made| made.map(|batches| stream::iter(batches.into_iter().map(DfResult::Ok))));
        let batches = batches.flat_map(|made| match made {
            Ok(batches) => batches.boxed(),
            Err(e) => stream::once(async move { Err(e) }).boxed(),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.properties.eq_properties.schema().clone(), batches)))
    }
}

type State = Option<(Evaluator, SendableRecordBatchStream, Kept, BaselineMetrics)>;

/// Takes one batch of rows, and gives what survives of the traces that are complete now.
async fn next(state: State) -> DfResult<Option<(Vec<RecordBatch>, State)>> {
    let Some((mut evaluator, mut rows, mut kept, baseline)) = state else { return Ok(None) };
    let batch = rows.next().await.transpose()?;
    let timer = baseline.elapsed_compute().timer();
    let more = batch.is_some();
    match batch {
        Some(batch) => evaluator.push(batch, &mut kept).map_err(DataFusionError::from)?,
        None => evaluator.finish(&mut kept).map_err(DataFusionError::from)?,
    }
    timer.done();
    let batches = kept.take()?;
    baseline.record_output(batches.iter().map(RecordBatch::num_rows).sum());
    Ok(Some((batches, more.then_some((evaluator, rows, kept, baseline)))))
}

/// What survives, cut to the columns of the table.
struct Kept {
    part: Arc<Part>,
    projection: Option<Vec<usize>>,
    batches: Vec<RecordBatch>,
}

impl Kept {
    fn take(&mut self) -> DfResult<Vec<RecordBatch>> {
        let batches = std::mem::take(&mut self.batches);
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        // The traces of a chunk are few rows each.
        Ok(vec![arrow::compute::concat_batches(&first.schema(), &batches)?])
    }
}

impl Sink for Kept {
    fn add_trace(&mut self, chunk: &RecordBatch, _: std::ops::Range<usize>, spansets: &[Spanset]) -> Result<()> {
        if spansets.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = spansets.iter().flat_map(|s| &s.spans).copied().collect();
        let own = self.part.schema.fields().len() - if self.part.numbered { 2 } else { 0 };
        let stored = chunk.project(&(self.part.from..self.part.from + own).collect::<Vec<_>>())?;
        let mut columns: Vec<ArrayRef> = take_record_batch(&stored, &rows)?.columns().to_vec();
        if self.part.numbered {
            let sets = || spansets.iter().enumerate().flat_map(|(i, s)| std::iter::repeat_n(i, s.spans.len()));
            let texts: Vec<String> = spansets.iter().map(|s| attributes_text(&s.attributes)).collect();
            columns.push(Arc::new(sets().map(|i| i as i32 + 1).collect::<Int32Array>()));
            columns.push(Arc::new(sets().map(|i| Some(texts[i].as_str())).collect::<StringArray>()));
        }
        let batch = RecordBatch::try_new(self.part.schema.clone(), columns)?;
        self.batches.push(match &self.projection {
            Some(wanted) => batch.project(wanted)?,
            None => batch,
        });
        Ok(())
    }
}

/// What was computed of a spanset, as a JSON object.
fn attributes_text(attributes: &[(String, Static)]) -> String {
    let object: serde_json::Map<String, serde_json::Value> = attributes.iter().map(|(k, v)| (k.clone(), plain_json(v))).collect();
    serde_json::Value::Object(object).to_string()
}
