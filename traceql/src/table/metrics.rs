//! A metrics query as a table: a row for each value of each series.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Float64Array, RecordBatch, StringArray, TimestampNanosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    logical_expr::{Expr, LogicalPlan, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        projection::ProjectionExec,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use tracehouse_engine::{Result, TenantId, clock, scan::timestamp_type};
use tracehouse_sql::Sessions;

use crate::{
    config::Config,
    metrics::{
        FirstStages, first_stages, series_between,
        time::{Intervals, check_range, check_step, default_step},
    },
    result::{json::plain_json, metrics::Series},
    spansets::Memory,
    syntax::Query,
};

/// The range when none is given.
const SINCE_DEFAULT: i64 = 3600 * 1_000_000_000;
/// Rows of one batch.
const BATCH_ROWS: usize = 8192;

/// The series of a metrics query.
#[derive(Debug)]
pub struct MetricsTable {
    sessions: Sessions,
    tenant: TenantId,
    query: Arc<Query>,
    intervals: Intervals,
    schema: SchemaRef,
}

impl MetricsTable {
    /// Of a checked query. Without a range: the last hour; without a step: the one that suits the range.
    pub fn new(
        sessions: Sessions,
        tenant: TenantId,
        query: Query,
        range: Option<(i64, i64)>,
        step: Option<i64>,
        config: &Config,
    ) -> Result<Self> {
        let (start, end) = range.unwrap_or_else(|| {
            let now = clock::now_unix_nanos() as i64;
            (now.saturating_sub(SINCE_DEFAULT), now)
        });
        check_range(start, end, config.max_metrics_duration_seconds)?;
        let step = step.unwrap_or_else(|| default_step(start, end));
        check_step(start, end, step, config.max_metrics_intervals)?;
        let schema = Schema::new(vec![
            Field::new("labels", DataType::Utf8, false),
            Field::new("time", timestamp_type(), false),
            Field::new("value", DataType::Float64, false),
        ]);
        let intervals = Intervals::range(start, end, step);
        Ok(Self { sessions, tenant, query: Arc::new(query), intervals, schema: Arc::new(schema) })
    }
}

#[async_trait]
impl TableProvider for MetricsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        let stages: Vec<(String, LogicalPlan)> = first_stages(&self.sessions, &self.tenant, &self.query, &self.intervals).await?;
        let (mut names, mut inputs) = (Vec::new(), Vec::new());
        for (name, plan) in stages {
            names.push(name);
            inputs.push(state.create_physical_plan(&plan).await?);
        }
        let work = Work {
            sessions: self.sessions.clone(),
            tenant: self.tenant.clone(),
            query: self.query.clone(),
            intervals: self.intervals,
            names,
            schema: self.schema.clone(),
        };
        let exec: Arc<dyn ExecutionPlan> = Arc::new(MetricsExec::new(Arc::new(work), inputs));
        let Some(wanted) = projection else { return Ok(exec) };
        let column = |at: &usize| -> (Arc<dyn PhysicalExpr>, String) {
            let name = self.schema.field(*at).name();
            (Arc::new(datafusion::physical_expr::expressions::Column::new(name, *at)), name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new(wanted.iter().map(column).collect::<Vec<_>>(), exec)?))
    }
}

/// What the operator makes of its inputs.
#[derive(Debug)]
struct Work {
    sessions: Sessions,
    tenant: TenantId,
    query: Arc<Query>,
    intervals: Intervals,
    /// The text of each input's first stage.
    names: Vec<String>,
    schema: SchemaRef,
}

impl Work {
    async fn series(&self, inputs: Vec<Arc<dyn ExecutionPlan>>, context: &Arc<TaskContext>, memory: &mut Memory) -> Result<RecordBatch> {
        let stages: FirstStages = self.names.iter().cloned().zip(inputs).collect();
        let series = series_between(&self.sessions, &self.tenant, &self.query, self.intervals, stages, context.clone()).await?;
        let values: usize = series.iter().map(|s| s.values.len()).sum();
        memory.hold(values * 64)?;
        self.rows(&series)
    }

    /// Ordered by labels, then by time.
    fn rows(&self, series: &[Series]) -> Result<RecordBatch> {
        let mut sorted: Vec<(String, &Series)> = series.iter().map(|s| (labels_text(s), s)).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let points = || {
            sorted.iter().flat_map(|(labels, s)| {
                s.values.iter().enumerate().filter(|(_, v)| !v.is_nan()).map(move |(interval, value)| (labels.as_str(), interval, *value))
            })
        };
        let times = points().map(|(_, interval, _)| self.intervals.end_of(interval));
        Ok(RecordBatch::try_new(
            self.schema.clone(),
            vec![
                Arc::new(points().map(|(labels, ..)| Some(labels)).collect::<StringArray>()),
                Arc::new(TimestampNanosecondArray::from(times.collect::<Vec<i64>>()).with_timezone("UTC")),
                Arc::new(Float64Array::from(points().map(|(.., value)| value).collect::<Vec<f64>>())),
            ],
        )?)
    }
}

/// Labels as a JSON object.
fn labels_text(series: &Series) -> String {
    let object: serde_json::Map<String, serde_json::Value> = series.labels.iter().map(|l| (l.name.clone(), plain_json(&l.value))).collect();
    serde_json::Value::Object(object).to_string()
}

/// Makes series of the groups of its inputs, one input for each first stage of the query.
#[derive(Debug)]
struct MetricsExec {
    work: Arc<Work>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl MetricsExec {
    fn new(work: Arc<Work>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(work.schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { work, inputs, properties: Arc::new(properties) }
    }
}

impl DisplayAs for MetricsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceqlMetricsExec: {}", self.work.query)
    }
}

impl ExecutionPlan for MetricsExec {
    fn name(&self) -> &'static str {
        "TraceqlMetricsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; self.inputs.len()]
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.work.clone(), inputs)))
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let batches = stream::once(answer(self.work.clone(), self.inputs.clone(), context)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.work.schema.clone(), batches)))
    }
}

/// The rows in batches. What they take is reserved until the last of them is taken.
async fn answer(
    work: Arc<Work>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    context: Arc<TaskContext>,
) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
    let mut memory = Memory::new("the series of an answer", &context);
    let rows = work.series(inputs, &context, &mut memory).await.map_err(DataFusionError::from)?;
    let slices: Vec<RecordBatch> =
        (0..rows.num_rows()).step_by(BATCH_ROWS).map(|at| rows.slice(at, BATCH_ROWS.min(rows.num_rows() - at))).collect();
    let batches = stream::iter(slices).map(move |batch| {
        let _held = &memory;
        Ok(batch)
    });
    Ok(batches.boxed())
}
