//! The first half of an aggregation, done inside the scan: spans are grouped by their codes, and group expressions are
//! evaluated once a group. Gives the partial states that DataFusion's final aggregation merges.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array},
    buffer::ScalarBuffer,
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result as DfResult},
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{
        EquivalenceProperties, GroupsAccumulatorAdapter, PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        expressions::{Column, Literal},
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        aggregates::{
            group_values::{GroupValues, new_group_values},
            order::GroupOrdering,
        },
        execution_plan::{Boundedness, EmissionType},
        metrics::{ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;

use super::{
    chunk::SpanChunk,
    coded::CodedColumn,
    columns::{SpanColumn, SpanField},
    exec::SpanScanExec,
    groups::{Dimension, Groups, at, dimension_of, group},
    interval::IntervalFunction,
    queue::{ChunkQueue, Selected},
    value_counts::{NO_GROUP, ValueCounts, attributes_of, lists_of_pairs},
};
use crate::error::{Error, Result};

/// What is aggregated and by what, in terms of the scan's output columns.
#[derive(Clone, Debug)]
pub(super) struct Aggregation {
    /// What a group has in common.
    pub groups: Vec<Arc<dyn PhysicalExpr>>,
    /// What is made of its spans.
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    /// The arguments of each function.
    pub arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    /// Groups, then states.
    pub schema: SchemaRef,
}

/// Scans and aggregates partially; see the module.
#[derive(Debug)]
pub struct SpanAggregateExec {
    scan: SpanScanExec,
    aggregation: Aggregation,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    batch_rows: usize,
}

impl SpanAggregateExec {
    pub(super) fn new(scan: SpanScanExec, aggregation: Aggregation, batch_rows: usize) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(aggregation.schema.clone()),
            Partitioning::UnknownPartitioning(scan.properties().output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { scan, aggregation, properties, metrics: ExecutionPlanMetricsSet::new(), batch_rows: batch_rows.max(1) }
    }
}

impl DisplayAs for SpanAggregateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<_> = self.aggregation.groups.iter().map(ToString::to_string).collect();
        let functions: Vec<_> = self.aggregation.functions.iter().map(|f| f.name()).collect();
        write!(f, "SpanAggregateExec: gby=[{}], aggr=[{}], {}", groups.join(", "), functions.join(", "), self.scan.describe())
    }
}

impl ExecutionPlan for SpanAggregateExec {
    fn name(&self) -> &'static str {
        "SpanAggregateExec"
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
        self.scan.apply_expressions(f)
    }

    fn reset_state(self: Arc<Self>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.scan.anew(), self.aggregation.clone(), self.batch_rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let queue = self.scan.work(&self.metrics, partition, &context)?;
        let memory = MemoryConsumer::new("SpanAggregateExec").register(context.memory_pool());
        let states = States::new(&self.aggregation, self.scan.output_columns(), memory)?;
        let (schema, batch_rows) = (self.aggregation.schema.clone(), self.batch_rows);
        let batches = futures::stream::try_unfold(Some((queue, states)), move |working| async move {
            let Some((queue, mut states)) = working else { return Ok(None) };
            while let Some(mut selected) = queue.next().await? {
                let loaded = states.load(selected.chunk.as_mut()).await;
                let full = {
                    let _timer = queue.baseline.elapsed_compute().timer();
                    match loaded {
                        Ok(()) => states.add(&mut selected).await,
                        Err(e) => Err(e),
                    }
                };
                if queue.finish(selected, full)?.unwrap_or_default() {
                    let batch = states.emit(&queue)?;
                    return Ok(Some((sliced(batch, batch_rows), Some((queue, states)))));
                }
            }
            let batch = states.emit(&queue)?;
            Ok::<_, DataFusionError>(Some((sliced(batch, batch_rows), None)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.try_flatten())))
    }
}

fn sliced(batch: RecordBatch, rows: usize) -> impl futures::Stream<Item = DfResult<RecordBatch>> {
    let count = batch.num_rows();
    futures::stream::iter((0..count).step_by(rows).map(move |at| Ok(batch.slice(at, rows.min(count - at)))))
}

/// Groups seen so far and the states of their functions.
struct States {
    aggregation: Aggregation,
    /// The scan's output columns.
    columns: Arc<[SpanColumn]>,
    known: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The intervals of time that spans are grouped by, if nothing else is asked of start times.
    intervals: Option<IntervalFunction>,
    /// The column that stands for the start times of the chunk at hand.
    rounded: Option<SpanColumn>,
    /// Whether there is any group, if no expression groups.
    any: bool,
    memory: MemoryReservation,
}

impl States {
    fn new(aggregation: &Aggregation, columns: Vec<SpanColumn>, memory: MemoryReservation) -> DfResult<Self> {
        let groups: Vec<_> = aggregation.schema.fields().iter().take(aggregation.groups.len()).cloned().collect();
        let known = match groups.is_empty() {
            true => None,
            false => Some(new_group_values(Arc::new(Schema::new(groups)), &GroupOrdering::None)?),
        };
        let accumulators = aggregation.functions.iter().map(accumulator).collect::<DfResult<_>>()?;
        let intervals = intervals_only(aggregation, &columns);
        let (aggregation, columns) = (aggregation.clone(), columns.into());
        Ok(Self { aggregation, columns, known, accumulators, intervals, rounded: None, any: false, memory })
    }

    /// Loads what the aggregation needs of a chunk. Where only intervals count, rounded start times do.
    async fn load(&mut self, chunk: &mut dyn SpanChunk) -> Result<()> {
        self.rounded = None;
        let grid = self.intervals.as_ref().and_then(|intervals| intervals.grid(|seconds| chunk.has_rounded_start(seconds)));
        if let Some(rounded) = grid.map(|seconds| SpanColumn::RoundedStart { seconds }) {
            let others = self.columns.iter().filter(|c| **c != START).cloned();
            chunk.load(&others.chain([rounded.clone()]).collect::<Vec<_>>()).await?;
            if chunk.coded(&rounded)?.is_some() {
                self.rounded = Some(rounded);
                return Ok(());
            }
        }
        chunk.load(&self.columns).await
    }

    /// Adds the chosen spans of a chunk. Says whether the states should be put out, because memory is short. What can fail
    /// for the chunk's sake is done before any state changes.
    async fn add(&mut self, selected: &mut Selected) -> Result<bool> {
        let rows = selected.rows();
        let columns = self.columns.clone();
        let mut values = Values::new(&columns, self.rounded.clone(), selected);
        let keys = self.aggregation.groups.iter().map(|expr| values.key(expr)).collect::<Result<Vec<_>>>()?;
        let functions = self.aggregation.functions.iter().zip(&self.aggregation.arguments);
        let of_span = functions.clone().any(|(f, arguments)| !counts_all(f, arguments) && !takes_any(f));
        let groups = group(&values.dimensions(&keys), rows, of_span);
        let mut inputs = Vec::with_capacity(self.aggregation.functions.len());
        for (function, arguments) in functions {
            // Here the query can be stopped.
            tokio::task::yield_now().await;
            inputs.push(values.input(function, arguments, &groups)?);
        }
        let keys = keys.iter().map(|key| values.of_groups(key, &groups)).collect::<Result<Vec<_>>>()?;

        self.any |= rows > 0;
        let mut numbers = vec![0; groups.counts.len()];
        if let Some(known) = &mut self.known {
            numbers.clear();
            known.intern(&keys, &mut numbers)?;
        }
        let total = self.known.as_ref().map_or(1, |k| k.len());
        let mut of_span: Option<Vec<usize>> = None;
        for (input, accumulator) in inputs.into_iter().zip(&mut self.accumulators) {
            match input {
                Input::States(states) => accumulator.merge_batch(&[states], &numbers, total)?,
                Input::Groups(arrays) => accumulator.update_batch(&arrays, &numbers, None, total)?,
                Input::Spans(arrays) => {
                    let of_span = of_span.get_or_insert_with(|| groups.of_span.iter().map(|g| numbers[*g as usize]).collect());
                    accumulator.update_batch(&arrays, of_span, None, total)?;
                }
            }
        }
        let bytes = self.known.as_ref().map_or(0, |k| k.size()) + self.accumulators.iter().map(|a| a.size()).sum::<usize>();
        Ok(self.memory.try_resize(bytes).is_err())
    }

    /// All groups and states so far; nothing is kept of them.
    fn emit(&mut self, queue: &ChunkQueue) -> DfResult<RecordBatch> {
        let mut arrays = match &mut self.known {
            Some(known) => known.emit(EmitTo::All)?,
            None => Vec::new(),
        };
        let rows = if self.known.is_some() { arrays.first().map_or(0, |a| a.len()) } else { usize::from(self.any) };
        if rows == 0 {
            return Ok(RecordBatch::new_empty(self.aggregation.schema.clone()));
        }
        for accumulator in &mut self.accumulators {
            arrays.extend(accumulator.state(EmitTo::All)?);
        }
        self.any = false;
        self.memory.free();
        queue.baseline.record_output(rows);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.aggregation.schema.clone(), arrays, &options)?)
    }
}

/// The start time, of which intervals are counted.
const START: SpanColumn = SpanColumn::Field(SpanField::StartTime);
/// The number among a chunk's columns of what stands for the start time.
const ROUNDED: usize = usize::MAX;

/// The function by which an aggregation groups start times, if it asks nothing else of them.
fn intervals_only(aggregation: &Aggregation, columns: &[SpanColumn]) -> Option<IntervalFunction> {
    let mut found: Option<IntervalFunction> = None;
    let start = columns.iter().position(|c| *c == START)?;
    for expr in aggregation.groups.iter().chain(aggregation.arguments.iter().flatten()) {
        if !collect_columns(expr).iter().any(|c| c.index() == start) {
            continue;
        }
        let (function, argument) = IntervalFunction::called(expr)?;
        if !argument.is::<Column>() || found.as_ref().is_some_and(|other| other != function) {
            return None;
        }
        found = Some(function.clone());
    }
    // An argument would be asked of each span.
    found.filter(|_| !aggregation.arguments.iter().flatten().any(|expr| IntervalFunction::called(expr).is_some()))
}

fn accumulator(function: &Arc<AggregateFunctionExpr>) -> DfResult<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    // Slow, but asked for one span a group only.
    let function = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// Whether a function is content with the value of any one of a group's spans: they come in no order.
pub(super) fn takes_any(function: &AggregateFunctionExpr) -> bool {
    function.fun().name() == "first_value"
}

/// Whether a function counts rows, whatever they hold.
fn counts_all(function: &AggregateFunctionExpr, arguments: &[Arc<dyn PhysicalExpr>]) -> bool {
    let literal = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null());
    function.fun().name() == "count" && arguments.iter().all(literal)
}

/// What an aggregate function gets of a chunk.
enum Input {
    /// The state of the function for each group: the number of its spans, or the numbers of its values.
    States(ArrayRef),
    /// Arguments for one span of each group.
    Groups(Vec<ArrayRef>),
    /// Arguments for each span.
    Spans(Vec<ArrayRef>),
}

/// What an expression groups by, in a chunk.
enum Key {
    /// A function of these columns, which have codes.
    Coded { expr: Arc<dyn PhysicalExpr>, schema: SchemaRef, columns: Vec<usize> },
    /// A value for each span, and its dimension.
    Spans(ArrayRef, Dimension),
}

/// The columns of a chunk, made when asked for.
struct Values<'a> {
    columns: &'a [SpanColumn],
    /// Stands for start times.
    rounded: Option<SpanColumn>,
    chunk: &'a mut dyn SpanChunk,
    spans: Option<&'a UInt32Array>,
    rows: usize,
    arrays: HashMap<usize, ArrayRef>,
    coded: HashMap<usize, Option<Coded>>,
}

/// A column in codes, for the chosen spans.
struct Coded {
    values: ArrayRef,
    codes: ScalarBuffer<u32>,
}

impl<'a> Values<'a> {
    fn new(columns: &'a [SpanColumn], rounded: Option<SpanColumn>, selected: &'a mut Selected) -> Self {
        let rows = selected.rows();
        let (chunk, spans) = (selected.chunk.as_mut(), selected.spans.as_ref());
        Self { columns, rounded, chunk, spans, rows, arrays: HashMap::new(), coded: HashMap::new() }
    }

    fn key(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<Key> {
        let mut columns: Vec<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        columns.sort_unstable();
        if let Some(rounded) = self.rounded.clone()
            && IntervalFunction::called(expr).is_some()
        {
            let schema = self.schema_of(&columns);
            let coded = self.chunk.coded(&rounded)?.ok_or_else(|| Error::internal("rounded start times without codes"))?;
            self.coded.insert(ROUNDED, Some(Coded { codes: coded.codes_of(self.spans), values: coded.values }));
            return Ok(Key::Coded { expr: reassign_expr_columns(expr.clone(), &schema)?, schema, columns: vec![ROUNDED] });
        }
        let mut all_coded = !columns.is_empty();
        for column in &columns {
            all_coded = all_coded && self.has_codes(*column)?;
        }
        if all_coded {
            let schema = self.schema_of(&columns);
            return Ok(Key::Coded { expr: reassign_expr_columns(expr.clone(), &schema)?, schema, columns });
        }
        let values = self.array(expr)?;
        let dimension = match dimension_of(&values) {
            Some(dimension) => dimension,
            None => interned(&values)?,
        };
        Ok(Key::Spans(values, dimension))
    }

    fn has_codes(&mut self, column: usize) -> Result<bool> {
        if !self.coded.contains_key(&column) {
            let of = |coded: CodedColumn| Coded { codes: coded.codes_of(self.spans), values: coded.values };
            let made = self.chunk.coded(self.column(column)?)?.map(of);
            self.coded.insert(column, made);
        }
        Ok(matches!(self.coded.get(&column), Some(Some(_))))
    }

    fn column(&self, at: usize) -> Result<&'a SpanColumn> {
        self.columns.get(at).ok_or_else(|| Error::internal("an aggregation names a column that the scan does not put out"))
    }

    /// Fields of these columns. What a dictionary holds may be NULL where no span's value is.
    fn schema_of(&self, columns: &[usize]) -> SchemaRef {
        let fields = columns.iter().filter_map(|i| self.columns.get(*i)).map(|c| c.field().as_ref().clone().with_nullable(true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The dimensions of these keys: each coded column once.
    fn dimensions(&self, keys: &[Key]) -> Vec<Dimension> {
        let mut seen: Vec<usize> = Vec::new();
        let mut dimensions = Vec::new();
        for key in keys {
            match key {
                Key::Spans(_, dimension) => dimensions.push(dimension.clone()),
                Key::Coded { columns, .. } => {
                    for column in columns.iter().filter(|c| !seen.contains(c)).copied().collect::<Vec<_>>() {
                        seen.push(column);
                        if let Some(Some(coded)) = self.coded.get(&column) {
                            dimensions.push(Dimension { codes: coded.codes.clone(), count: coded.values.len() });
                        }
                    }
                }
            }
        }
        dimensions
    }

    /// The value of a key in each group.
    fn of_groups(&self, key: &Key, groups: &Groups) -> Result<ArrayRef> {
        match key {
            Key::Spans(values, _) => at(values, None, &groups.examples),
            Key::Coded { expr, schema, columns } => {
                let coded = columns.iter().filter_map(|c| self.coded.get(c)?.as_ref());
                let arrays = coded.map(|c| at(&c.values, Some(&c.codes), &groups.examples)).collect::<Result<Vec<_>>>()?;
                let rows = groups.counts.len();
                evaluate(expr, schema.clone(), arrays, rows)
            }
        }
    }

    /// What a function gets.
    fn input(&mut self, function: &AggregateFunctionExpr, arguments: &[Arc<dyn PhysicalExpr>], groups: &Groups) -> Result<Input> {
        if counts_all(function, arguments) {
            return Ok(Input::States(Arc::new(Int64Array::from(groups.counts.clone()))));
        }
        if let ([argument], true) = (arguments, function.fun().inner().is::<ValueCounts>()) {
            return Ok(Input::States(self.value_counts(argument, groups)?));
        }
        let arrays = arguments.iter().map(|expr| self.array(expr)).collect::<Result<Vec<_>>>()?;
        if takes_any(function) {
            let arrays = arrays.iter().map(|array| at(array, None, &groups.examples)).collect::<Result<_>>()?;
            return Ok(Input::Groups(arrays));
        }
        Ok(Input::Spans(arrays))
    }

    /// How many spans of each group have each value of an expression, or each attribute of a set.
    fn value_counts(&mut self, argument: &Arc<dyn PhysicalExpr>, groups: &Groups) -> Result<ArrayRef> {
        let column = argument.downcast_ref::<Column>().map(Column::index);
        let count = groups.counts.len();
        if let Some(SpanColumn::Attributes(scope)) = column.map(|at| self.column(at)).transpose()? {
            let attributes = self.chunk.attributes(*scope)?;
            return match self.spans {
                None => attributes.count(&groups.of_span, count),
                Some(spans) => {
                    let mut of_span = vec![NO_GROUP; self.chunk.span_count()];
                    spans.values().iter().zip(&groups.of_span).for_each(|(span, group)| of_span[*span as usize] = *group);
                    attributes.count(&of_span, count)
                }
            };
        }
        if let Some(at) = column
            && self.has_codes(at)?
            && let Some(Some(coded)) = self.coded.get(&at)
        {
            let (attributes, numbers) = attributes_of(&coded.values)?;
            let codes: Vec<u32> = coded.codes.iter().map(|code| numbers[*code as usize]).collect();
            return lists_of_pairs(attributes, &codes, &groups.of_span, count);
        }
        let (attributes, codes) = attributes_of(&self.array(argument)?)?;
        lists_of_pairs(attributes, &codes, &groups.of_span, count)
    }

    /// An expression's value for each chosen span.
    fn array(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<ArrayRef> {
        let mut columns: Vec<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        columns.sort_unstable();
        let mut arrays = Vec::with_capacity(columns.len());
        for column in &columns {
            if !self.arrays.contains_key(column) {
                let made = self.chunk.column(self.column(*column)?, self.spans)?;
                self.arrays.insert(*column, made);
            }
            arrays.extend(self.arrays.get(column).cloned());
        }
        let schema = self.schema_of(&columns);
        evaluate(&reassign_expr_columns(expr.clone(), &schema)?, schema, arrays, self.rows)
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, schema: SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
    let batch = RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
    Ok(expr.evaluate(&batch)?.into_array(rows)?)
}

/// The dimension of values of any type.
fn interned(values: &ArrayRef) -> Result<Dimension> {
    let field = arrow::datatypes::Field::new("value", values.data_type().clone(), true);
    let mut known = new_group_values(Arc::new(Schema::new(vec![field])), &GroupOrdering::None)?;
    let mut numbers = Vec::with_capacity(values.len());
    known.intern(std::slice::from_ref(values), &mut numbers)?;
    Ok(Dimension { codes: numbers.into_iter().map(|n| n as u32).collect(), count: known.len() })
}
