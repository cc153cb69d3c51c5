//! The first half of an aggregation, done inside the scan: spans are grouped by their codes, and group expressions are
//! evaluated once a group. Gives the partial states that DataFusion's final aggregation merges.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
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
        EquivalenceProperties, GroupsAccumulatorAdapter, PhysicalExpr, aggregate::AggregateFunctionExpr, expressions::Column,
        utils::collect_columns,
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
    aggregate_values::{Coded, Input, Key, Values, counts_all, takes_any},
    columns::{SpanColumn, SpanField},
    exec::SpanScanExec,
    groups::group,
    interval::IntervalFunction,
    members::Members,
    queue::{ChunkQueue, Selected},
};
use crate::error::Result;

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
                let loaded = states.load(&mut selected).await;
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
    /// For each group expression: the conditions that it tells of, if it is of that kind.
    members: Vec<Option<Members>>,
    /// What stands for the start times of the chunk at hand.
    starts: Option<Coded>,
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
        let members = aggregation.groups.iter().map(|expr| Members::of(&columns, expr)).collect::<Result<_>>()?;
        let (aggregation, columns) = (aggregation.clone(), columns.into());
        Ok(Self { aggregation, columns, known, accumulators, intervals, members, starts: None, any: false, memory })
    }

    /// Loads what the aggregation needs of a chunk. Where only intervals count, rounded start times do, or the intervals themselves.
    async fn load(&mut self, selected: &mut Selected) -> Result<()> {
        let (chunk, spans) = (selected.chunk.as_mut(), selected.spans.as_ref());
        self.starts = None;
        let grid = self.intervals.as_ref().and_then(|intervals| intervals.grid(|seconds| chunk.has_rounded_start(seconds)));
        if let Some(rounded) = grid.map(|seconds| SpanColumn::RoundedStart { seconds }) {
            let others = self.columns.iter().filter(|c| **c != START).cloned();
            chunk.load(&others.chain([rounded.clone()]).collect::<Vec<_>>()).await?;
            self.starts = Coded::of(chunk, &rounded, spans)?;
            if self.starts.is_some() {
                return Ok(());
            }
        }
        chunk.load(&self.columns).await?;
        self.starts = match &self.intervals {
            Some(intervals) => Coded::starts(chunk, intervals, spans)?,
            None => None,
        };
        Ok(())
    }

    /// Adds the chosen spans of a chunk. Says whether the states should be put out, because memory is short. What can fail
    /// for the chunk's sake is done before any state changes.
    async fn add(&mut self, selected: &mut Selected) -> Result<bool> {
        let rows = selected.rows();
        let columns = self.columns.clone();
        let mut members = Vec::with_capacity(self.members.len());
        for asked in &self.members {
            members.push(match asked {
                Some(asked) => Some(asked.numbers(selected.chunk.as_mut(), selected.spans.as_ref()).await?),
                None => None,
            });
        }
        let mut values = Values::new(&columns, self.starts.take(), selected);
        let keys = self.aggregation.groups.iter().zip(members).map(|(expr, members)| match members {
            Some((numbers, dimension)) => Ok(Key::Spans(numbers, dimension)),
            None => values.key(expr),
        });
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let functions = self.aggregation.functions.iter().zip(&self.aggregation.arguments);
        let of_span = functions.clone().any(|(f, arguments)| !counts_all(f, arguments) && !takes_any(f));
        let groups = group(&values.dimensions(&keys), rows, of_span);
        let mut inputs = Vec::with_capacity(self.aggregation.functions.len());
        for (function, arguments) in functions {
            // Here the query can be stopped.
            tokio::task::yield_now().await;
            inputs.push(values.input(function, arguments, &groups).await?);
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
