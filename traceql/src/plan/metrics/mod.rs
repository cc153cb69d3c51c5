//! A first-stage metrics function as a plan: filter, interval and key of each span, aggregate. Everything is relational,
//! nothing is done trace by trace, and all states merge by sum, min or max.

mod compare;
mod exemplars;
mod functions;
mod key;
mod survivors;
mod together;

use std::sync::Arc;

use datafusion::{
    catalog::TableProvider,
    common::{ScalarValue, TableReference},
    datasource::provider_as_source,
    functions_aggregate::expr_fn::{count, max, min, sum},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit},
};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{IntervalFunction, SpanColumn, SpanField, witness},
};
use tracehouse_sql::Sessions;

pub use compare::{SOURCES, Source, plan_compare};
pub use exemplars::{ExemplarPlan, plan_exemplars};
pub use functions::{exponent, float64, int32, int64, key_at};
pub use key::{decode, encode};

use super::{
    Read, Whole,
    filter::{SPANS, column, filter_expr},
    whole::is_of_trace,
    with_whole,
};
use crate::{
    eval::columns_of,
    metrics::time::Intervals,
    spansets::program::plain_filters,
    syntax::{Field, FieldExpr, Intrinsic, MetricsFn, Series},
};
use functions::{FieldFunction, Kind, LEAST_IN_BUCKETS};
pub(crate) use survivors::survivors_table;
use survivors::{survivors, survivors_apart};
pub use together::{Together, together};

/// What one row of a plan's answer holds, column by column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Number of the interval (Int32).
    Interval,
    /// Key of the group (BinaryView).
    Key,
    /// Exponent of a power-of-two bucket (Int32).
    Exponent,
    /// Number of spans (Int64).
    Count,
    /// Sum, smallest or largest of the values (Float64).
    Value,
    /// Which further series count the group (Int32): a bit for each, see [`Together`].
    Members,
    /// Place of one of the group's spans (Decimal128): a witness from which an exemplar can be found.
    Witness,
}

/// A first-stage function, planned.
#[derive(Debug)]
pub struct SeriesPlan {
    /// Rows are groups of spans: interval, labels, bucket.
    pub plan: LogicalPlan,
    /// What its columns hold.
    pub outputs: Vec<Output>,
}

/// Plans the first stage of a series. `witnesses`: whether to name a span of each group. `whole`: the traces in several parts.
pub fn plan_series(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    intervals: &Intervals,
    witnesses: bool,
    whole: &Whole,
) -> Result<SeriesPlan> {
    let filters = plain_filters(&series.pipeline);
    let fields = fields_of(series, filters.as_deref().unwrap_or_default());
    let columns = fields.iter().flat_map(columns_of).chain(witnesses.then_some(SpanColumn::Place));
    if filters.is_some() {
        let source = counted(sessions, tenant, series, columns, intervals, whole)?;
        let (plan, outputs) = aggregated(source, series, intervals, witnesses, None)?;
        return Ok(SeriesPlan { plan: with_whole(plan, whole)?, outputs });
    }
    // What is counted inside the scan and what is put together first are counted apart, and the counts merged.
    let read = Read { sessions, tenant, range: Some((intervals.start, intervals.end())), whole };
    let (_, chosen, parts) = survivors_apart(read, &series.pipeline, columns)?;
    let (plan, outputs) = aggregated(between(chosen, intervals)?, series, intervals, witnesses, None)?;
    let Some(parts) = parts else { return Ok(SeriesPlan { plan, outputs }) };
    let (of_parts, _) = aggregated(between(parts, intervals)?, series, intervals, witnesses, None)?;
    let both = LogicalPlanBuilder::from(plan).union(of_parts)?.build()?;
    Ok(SeriesPlan { plan: merged(both, &series.function, &outputs)?, outputs })
}

/// The states of a series' function of some spans, by interval, key, bucket and `members`, and what the columns hold.
fn aggregated(
    source: LogicalPlan,
    series: &Series,
    intervals: &Intervals,
    witnesses: bool,
    members: Option<Expr>,
) -> Result<(LogicalPlan, Vec<Output>)> {
    let (field, kind) = match &series.function {
        MetricsFn::Rate | MetricsFn::CountOverTime => (None, Kind::Number),
        MetricsFn::MinOverTime(f) | MetricsFn::MaxOverTime(f) | MetricsFn::SumOverTime(f) | MetricsFn::AvgOverTime(f) => {
            (Some(f), Kind::Number)
        }
        MetricsFn::HistogramOverTime(f) | MetricsFn::QuantileOverTime(f, _) => (Some(f), Kind::Exponent),
        MetricsFn::Compare(_) => return Err(Error::internal("compare() has a plan of its own")),
    };
    let mut groups = vec![col("interval")];
    let mut shown = vec![interval_of(intervals).alias("interval")];
    let mut outputs = vec![Output::Interval];
    if !series.by.is_empty() {
        shown.push(FieldFunction::call(Kind::Key, &series.by).alias("key"));
        groups.push(col("key"));
        outputs.push(Output::Key);
    }
    if let Some(field) = field {
        shown.push(FieldFunction::call(kind, std::slice::from_ref(field)).alias("value"));
        if kind == Kind::Exponent {
            groups.push(col("value"));
            outputs.push(Output::Exponent);
        }
    }
    if let Some(members) = members {
        shown.push(members.alias("members"));
        groups.push(col("members"));
        outputs.push(Output::Members);
    }
    if witnesses {
        shown.push(column(&SpanColumn::Place).alias("place"));
    }
    let mut rows = LogicalPlanBuilder::from(source);
    let always = field.is_none_or(always_a_number);
    if let (true, Kind::Exponent, Some(field)) = (always, kind, field) {
        // Durations that have a bucket: mostly statistics know that all do.
        for duration in columns_of(field) {
            rows = rows.filter(column(&duration).gt_eq(lit(LEAST_IN_BUCKETS)))?;
        }
    }
    let mut rows = rows.project(shown)?;
    if !always {
        rows = rows.filter(col("value").is_not_null())?;
    }
    let mut states = Vec::new();
    let mut add = |output, expr: Expr| {
        outputs.push(output);
        states.push(expr);
    };
    match &series.function {
        MetricsFn::MinOverTime(_) => add(Output::Value, min(col("value"))),
        MetricsFn::MaxOverTime(_) => add(Output::Value, max(col("value"))),
        MetricsFn::SumOverTime(_) => add(Output::Value, sum(col("value"))),
        MetricsFn::AvgOverTime(_) => {
            add(Output::Value, sum(col("value")));
            add(Output::Count, count(lit(1)));
        }
        _ => add(Output::Count, count(lit(1))),
    }
    if witnesses {
        add(Output::Witness, witness(col("place")));
    }
    Ok((rows.aggregate(groups, states)?.build()?, outputs))
}

/// Groups that may come twice, each once.
fn merged(groups: LogicalPlan, function: &MetricsFn, outputs: &[Output]) -> Result<LogicalPlan> {
    let (mut keys, mut states) = (Vec::new(), Vec::new());
    for (column, output) in groups.schema().columns().into_iter().zip(outputs) {
        let state = Expr::Column(column);
        match (output, function) {
            (Output::Interval | Output::Key | Output::Exponent | Output::Members, _) => keys.push(state),
            (Output::Value, MetricsFn::MinOverTime(_)) => states.push(min(state)),
            (Output::Value, MetricsFn::MaxOverTime(_)) => states.push(max(state)),
            (Output::Value | Output::Count, _) => states.push(sum(state)),
            (Output::Witness, _) => states.push(witness(state)),
        }
    }
    Ok(LogicalPlanBuilder::from(groups).aggregate(keys, states)?.build()?)
}

/// The spans that a series counts: those that start in the range of the intervals and pass or survive its pipeline.
fn counted(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    columns: impl Iterator<Item = SpanColumn>,
    intervals: &Intervals,
    whole: &Whole,
) -> Result<LogicalPlan> {
    match plain_filters(&series.pipeline) {
        Some(filters) => matching(between(scan(sessions, tenant, columns)?, intervals)?, &filters),
        None => {
            let read = Read { sessions, tenant, range: Some((intervals.start, intervals.end())), whole };
            between(survivors(read, &series.pipeline, columns)?, intervals)
        }
    }
}

/// The plan with what is stored of traces in several parts replaced. What survives a pipeline has that behind it.
fn stored_whole(plan: LogicalPlan, series: &Series, whole: &Whole) -> Result<LogicalPlan> {
    if plain_filters(&series.pipeline).is_some() { with_whole(plan, whole) } else { Ok(plan) }
}

/// Whether the answer depends on what is true of whole traces only, so that those in several parts must be known.
pub fn needs_whole(series: &Series) -> bool {
    let Some(filters) = plain_filters(&series.pipeline) else { return true };
    matches!(series.function, MetricsFn::Compare(_)) || fields_of(series, &filters).iter().flat_map(columns_of).any(|c| is_of_trace(&c))
}

/// Whether each span has a number for a field.
fn always_a_number(field: &Field) -> bool {
    matches!(field, Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration))
}

/// All fields a series looks at: in its filters, its labels, its function.
pub fn fields_of(series: &Series, filters: &[&FieldExpr]) -> Vec<Field> {
    let mut all: Vec<Field> = Vec::new();
    let of_function = match &series.function {
        MetricsFn::MinOverTime(f)
        | MetricsFn::MaxOverTime(f)
        | MetricsFn::SumOverTime(f)
        | MetricsFn::AvgOverTime(f)
        | MetricsFn::HistogramOverTime(f)
        | MetricsFn::QuantileOverTime(f, _) => Some(f),
        _ => None,
    };
    let named = filters.iter().flat_map(|f| f.fields()).chain(&series.by).chain(of_function);
    for field in named {
        if !all.contains(field) {
            all.push(field.clone());
        }
    }
    all
}

/// The rows that start in the range of the intervals.
fn between(plan: LogicalPlan, intervals: &Intervals) -> Result<LogicalPlan> {
    let [lower, upper] = within(intervals);
    Ok(LogicalPlanBuilder::from(plan).filter(lower)?.filter(upper)?.build()?)
}

/// The conditions of spans that start in the range of the intervals.
pub(super) fn within(intervals: &Intervals) -> [Expr; 2] {
    let time = || column(&SpanColumn::Field(SpanField::StartTime));
    [time().gt(timestamp(intervals.start)), time().lt_eq(timestamp(intervals.end()))]
}

/// The table of spans with these columns.
fn scan(sessions: &Sessions, tenant: &TenantId, columns: impl Iterator<Item = SpanColumn>) -> Result<LogicalPlan> {
    let mut extra: Vec<SpanColumn> = Vec::new();
    for wanted in columns {
        if !matches!(wanted, SpanColumn::Field(_)) && !extra.contains(&wanted) {
            extra.push(wanted);
        }
    }
    let table: Arc<dyn TableProvider> = Arc::new(sessions.spans_table(tenant, extra));
    Ok(LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(table), None)?.build()?)
}

fn matching(mut plan: LogicalPlan, filters: &[&FieldExpr]) -> Result<LogicalPlan> {
    for filter in filters {
        let condition = filter_expr(filter)?;
        if condition != lit(true) {
            plan = LogicalPlanBuilder::from(plan).filter(condition)?.build()?;
        }
    }
    Ok(plan)
}

fn interval_of(intervals: &Intervals) -> Expr {
    if intervals.instant {
        return lit(0i32);
    }
    IntervalFunction::call(intervals.start, intervals.step, column(&SpanColumn::Field(SpanField::StartTime)))
}

fn timestamp(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())))
}
