//! A metrics query from its text to its answer; the HTTP API and the command line both call it.

mod compare;
mod exemplars;
pub mod time;

use std::collections::HashMap;

use datafusion::{logical_expr::LogicalPlan, physical_plan::execute_stream};
use futures::{StreamExt, future::BoxFuture};
use tracehouse_engine::{Error, Result, TenantId};
use tracehouse_sql::Sessions;

use crate::{
    plan::metrics::{plan_compare, plan_series},
    result::{
        metrics::{Assembled, InstantResponse, Operand, RangeResponse, Series, apply, assemble, combine, groups_of},
        search::SearchMetrics,
    },
    search::{metrics_of, parse},
    syntax::{self, Metrics, MetricsExpr, MetricsFn, Query, Root, Static},
};
use time::Intervals;

/// Most exemplars of an answer when neither the request nor the query names a number.
const EXEMPLARS_DEFAULT: usize = 100;

/// What a range query asks for. The caller checks range and step (see [`time`]).
#[derive(Clone, Debug, PartialEq)]
pub struct RangeRequest {
    /// TraceQL.
    pub query: String,
    /// Start of the range, Unix nanoseconds.
    pub start: i64,
    /// End of the range, Unix nanoseconds.
    pub end: i64,
    /// Length of an interval in nanoseconds.
    pub step: i64,
    /// Most exemplars; `None` for the default. The query's hint comes first.
    pub exemplars: Option<usize>,
    /// Most series; 0 means no bound.
    pub series_max: usize,
}

/// What an instant query asks for. The caller checks the range.
#[derive(Clone, Debug, PartialEq)]
pub struct InstantRequest {
    /// TraceQL.
    pub query: String,
    /// Start of the range, Unix nanoseconds, inclusive.
    pub start: i64,
    /// End of the range, Unix nanoseconds, inclusive.
    pub end: i64,
    /// Most series; 0 means no bound.
    pub series_max: usize,
}

/// Runs a range query to its end.
pub async fn query_range(sessions: &Sessions, tenant: &TenantId, request: &RangeRequest) -> Result<RangeResponse> {
    let query = parse(&request.query)?;
    let metrics = metrics_query(&query)?;
    let intervals = Intervals::range(request.start, request.end, request.step);
    let exemplars = exemplars_of(&query, request.exemplars);
    let mut run = Run::new(sessions, tenant, intervals, exemplars, &metrics.expr);
    let series = run.metrics(metrics).await?;
    Ok(RangeResponse::new(series, &intervals, run.cost, request.series_max))
}

/// Runs an instant query to its end.
pub async fn query_instant(sessions: &Sessions, tenant: &TenantId, request: &InstantRequest) -> Result<InstantResponse> {
    let (series, cost) = instant_series(sessions, tenant, request).await?;
    Ok(InstantResponse::new(series, cost, request.series_max))
}

/// The series of an instant query, all of them, with one value each, and what they have cost.
pub(crate) async fn instant_series(
    sessions: &Sessions,
    tenant: &TenantId,
    request: &InstantRequest,
) -> Result<(Vec<Series>, SearchMetrics)> {
    let query = parse(&request.query)?;
    let metrics = metrics_query(&query)?;
    let intervals = Intervals::instant(request.start, request.end);
    let mut run = Run::new(sessions, tenant, intervals, 0, &metrics.expr);
    let series = run.metrics(metrics).await?;
    Ok((series, run.cost))
}

/// The plans of a range query as text, as EXPLAIN shows them.
pub async fn explain(sessions: &Sessions, tenant: &TenantId, request: &RangeRequest) -> Result<String> {
    let query = parse(&request.query)?;
    let intervals = Intervals::range(request.start, request.end, request.step);
    let mut text = format!("query: {query}\n");
    for series in series_of(&metrics_query(&query)?.expr) {
        let plan = match &series.function {
            MetricsFn::Compare(compare) => plan_compare(sessions, tenant, series, compare, &intervals)?,
            _ => plan_series(sessions, tenant, series, &intervals, exemplars_of(&query, request.exemplars) > 0)?.plan,
        };
        let logical = plan.display_indent().to_string();
        let physical = sessions.frame(tenant, plan)?.create_physical_plan().await?;
        let physical = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
        text.push_str(&format!("\nlogical plan:\n{logical}\n\nphysical plan:\n{physical}"));
    }
    Ok(text)
}

fn metrics_query(query: &Query) -> Result<&Metrics> {
    match &query.root {
        Root::Metrics(metrics) => Ok(metrics),
        Root::Spansets(_) => Err(Error::invalid("not a metrics query: end it with a function such as | rate(), or send it to /api/search")),
    }
}

/// Most exemplars: as the hint says, else as the request says. 0 in the request means the default, as in Tempo.
fn exemplars_of(query: &Query, requested: Option<usize>) -> usize {
    let hint = query.hints.iter().rev().find(|h| h.name == "exemplars").and_then(|h| match h.value {
        Static::Int(n) => Some(usize::try_from(n).unwrap_or(0)),
        Static::Bool(on) => Some(if on { EXEMPLARS_DEFAULT } else { 0 }),
        _ => None,
    });
    hint.or(requested.filter(|n| *n > 0)).unwrap_or(EXEMPLARS_DEFAULT).min(EXEMPLARS_DEFAULT)
}

fn series_of(expr: &MetricsExpr) -> Vec<&syntax::Series> {
    match expr {
        MetricsExpr::Series(series) => vec![series],
        MetricsExpr::Scalar(_) => Vec::new(),
        MetricsExpr::Binary { lhs, rhs, .. } => series_of(lhs).into_iter().chain(series_of(rhs)).collect(),
    }
}

/// A running query.
struct Run<'a> {
    sessions: &'a Sessions,
    tenant: &'a TenantId,
    intervals: Intervals,
    /// Most exemplars of each first stage.
    exemplars: usize,
    /// First stages that are done, by their text: equal ones run once.
    done: HashMap<String, Vec<Series>>,
    cost: SearchMetrics,
}

impl<'a> Run<'a> {
    fn new(sessions: &'a Sessions, tenant: &'a TenantId, intervals: Intervals, exemplars: usize, expr: &MetricsExpr) -> Self {
        let exemplars = exemplars / series_of(expr).len().max(1);
        Self { sessions, tenant, intervals, exemplars, done: HashMap::new(), cost: SearchMetrics::default() }
    }

    async fn metrics(&mut self, metrics: &Metrics) -> Result<Vec<Series>> {
        let mut series = match self.expr(&metrics.expr).await? {
            Operand::Series(series) => series,
            Operand::Number(_) => return Err(Error::invalid("not a metrics query: it has no series")),
        };
        crate::result::metrics::drop_empty(&mut series);
        apply(&metrics.second, &mut series);
        Ok(series)
    }

    fn expr<'b>(&'b mut self, expr: &'b MetricsExpr) -> BoxFuture<'b, Result<Operand>> {
        Box::pin(async move {
            Ok(match expr {
                MetricsExpr::Scalar(number) => Operand::Number(number.as_f64().unwrap_or(f64::NAN)),
                MetricsExpr::Series(series) => Operand::Series(self.series(series).await?),
                MetricsExpr::Binary { op, lhs, rhs } => {
                    let left = self.expr(lhs).await?;
                    combine(*op, left, self.expr(rhs).await?)
                }
            })
        })
    }

    async fn series(&mut self, series: &syntax::Series) -> Result<Vec<Series>> {
        let first = syntax::Series { second: Vec::new(), ..series.clone() };
        let text = MetricsExpr::Series(Box::new(first)).to_string();
        let mut found = match self.done.get(&text) {
            Some(done) => done.clone(),
            None => {
                let found = self.first_stage(series).await?;
                self.done.insert(text, found.clone());
                found
            }
        };
        apply(&series.second, &mut found);
        Ok(found)
    }

    async fn first_stage(&mut self, series: &syntax::Series) -> Result<Vec<Series>> {
        if let MetricsFn::Compare(compare) = &series.function {
            return self.compare(series, compare).await;
        }
        let plan = plan_series(self.sessions, self.tenant, series, &self.intervals, self.exemplars > 0)?;
        let mut groups = Vec::new();
        self.rows(plan.plan, |batch| groups_of(batch, &plan.outputs, &mut groups)).await?;
        let Assembled { series: mut found, groups } = assemble(series, &self.intervals, groups)?;
        if self.exemplars > 0 {
            self.exemplars(series, &mut found, &groups).await?;
        }
        Ok(found)
    }

    /// Runs a plan, hands its batches over, and adds up what it has cost.
    async fn rows(&mut self, plan: LogicalPlan, mut each: impl FnMut(&arrow::array::RecordBatch) -> Result<()>) -> Result<()> {
        let frame = self.sessions.frame(self.tenant, plan)?;
        let context = std::sync::Arc::new(frame.task_ctx());
        let physical = frame.create_physical_plan().await?;
        let mut batches = execute_stream(physical.clone(), context)?;
        while let Some(batch) = batches.next().await {
            each(&batch?)?;
        }
        self.cost = self.cost.plus(metrics_of(physical.as_ref()));
        Ok(())
    }
}
