//! A metrics query from its text to its answer; the HTTP API and the command line both call it.

mod compare;
mod exemplars;
pub mod growing;
pub mod time;
mod together;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use datafusion::{execution::TaskContext, logical_expr::LogicalPlan, physical_plan::ExecutionPlan};
use futures::future::BoxFuture;
use tracehouse_engine::{Error, Result, TenantId};
use tracehouse_sql::Sessions;

use crate::{
    jobs::Progress,
    plan::{
        Whole,
        metrics::{needs_whole, plan_compare, plan_series},
        series_find_nothing, whole_traces,
    },
    result::{
        metrics::{Assembled, GROUPS_AT_ONCE, Group, InstantResponse, Operand, RangeResponse, Series, apply, assemble, combine, groups_of},
        search::SearchMetrics,
    },
    search::parse,
    spansets::{Memory, bytes_of},
    syntax::{self, Metrics, MetricsExpr, MetricsFn, Query, Root, Static},
};
use growing::{Jobs, Watch};
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
    // The plan of the exemplars finds spans where the plan of the series met them.
    let sessions = &sessions.reading(sessions.snapshot(tenant));
    let mut run = Run::new(sessions, tenant, intervals, exemplars, &metrics.expr).await?;
    let series = run.metrics(metrics).await?;
    Ok(RangeResponse::new(series, &intervals, run.progress.whole(), request.series_max))
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
    let mut run = Run::new(sessions, tenant, intervals, 0, &metrics.expr).await?;
    let series = run.metrics(metrics).await?;
    Ok((series, run.progress.whole()))
}

/// The plans of a range query as text, as EXPLAIN shows them: what is counted together is one plan.
pub async fn explain(sessions: &Sessions, tenant: &TenantId, request: &RangeRequest) -> Result<String> {
    let query = parse(&request.query)?;
    let intervals = Intervals::range(request.start, request.end, request.step);
    let mut text = format!("query: {query}\n");
    let mut stages = first_stages(sessions, tenant, &query, &intervals).await?;
    let expr = &metrics_query(&query)?.expr;
    for set in together::sets_of(expr) {
        let whole = whole_of(sessions, tenant, expr, &intervals).await?;
        let names: Vec<String> = set.series().iter().map(|series| text_of(series)).collect();
        stages.retain(|(name, _)| !names.contains(name));
        stages.push((names.join("\n"), set.plan(sessions, tenant, &intervals, false, &whole)?.plan));
    }
    for (name, plan) in stages {
        let logical = plan.display_indent().to_string();
        let physical = sessions.prepare(&plan).await?;
        let physical = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
        text.push_str(&format!("\n{name}\nlogical plan:\n{logical}\n\nphysical plan:\n{physical}"));
    }
    Ok(text)
}

/// The plans of the first stages of a checked query, each once, without exemplars; with the text of each.
pub async fn first_stages(
    sessions: &Sessions,
    tenant: &TenantId,
    query: &Query,
    intervals: &Intervals,
) -> Result<Vec<(String, LogicalPlan)>> {
    let expr = &metrics_query(query)?.expr;
    let whole = whole_of(sessions, tenant, expr, intervals).await?;
    let mut stages: Vec<(String, LogicalPlan)> = Vec::new();
    for series in series_of(expr) {
        let text = text_of(series);
        if stages.iter().any(|(known, _)| *known == text) {
            continue;
        }
        let plan = match &series.function {
            MetricsFn::Compare(compare) => plan_compare(sessions, tenant, series, compare, intervals, &whole)?,
            _ => plan_series(sessions, tenant, series, intervals, false, &whole)?.plan,
        };
        stages.push((text, plan));
    }
    Ok(stages)
}

/// First stages that are planned already, by their text.
pub type FirstStages = HashMap<String, Arc<dyn ExecutionPlan>>;

/// The series of a checked query over these intervals, without exemplars, made from its [`first_stages`].
pub async fn series_between(
    sessions: &Sessions,
    tenant: &TenantId,
    query: &Query,
    intervals: Intervals,
    stages: FirstStages,
    context: Arc<TaskContext>,
) -> Result<Vec<Series>> {
    let metrics = metrics_query(query)?;
    let mut run = Run::new(sessions, tenant, intervals, 0, &metrics.expr).await?;
    run.planned = stages;
    run.context = context;
    run.metrics(metrics).await
}

/// The text of a first stage.
fn text_of(series: &syntax::Series) -> String {
    MetricsExpr::Series(Box::new(syntax::Series { second: Vec::new(), ..series.clone() })).to_string()
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

/// The traces in several parts, as far as the query must know of them.
async fn whole_of(sessions: &Sessions, tenant: &TenantId, expr: &MetricsExpr, intervals: &Intervals) -> Result<Whole> {
    if !series_of(expr).into_iter().any(needs_whole) {
        return Ok(None);
    }
    whole_traces(sessions, tenant, Some((intervals.start, intervals.end()))).await
}

/// A running query.
struct Run<'a> {
    sessions: &'a Sessions,
    tenant: &'a TenantId,
    intervals: Intervals,
    whole: Whole,
    /// Most exemplars of each first stage.
    exemplars: usize,
    /// First stages that are done, by their text: equal ones run once.
    done: HashMap<String, Vec<Series>>,
    planned: FirstStages,
    /// The groups of first stages that were counted together, by their text.
    counted: HashMap<String, Vec<Group>>,
    /// What all plans of the query run in: its memory.
    context: Arc<TaskContext>,
    progress: Progress,
    watch: Option<&'a mut dyn Watch>,
    jobs: Option<Jobs<'a>>,
}

impl<'a> Run<'a> {
    async fn new(sessions: &'a Sessions, tenant: &'a TenantId, intervals: Intervals, exemplars: usize, expr: &MetricsExpr) -> Result<Self> {
        let exemplars = exemplars / series_of(expr).len().max(1);
        let whole = whole_of(sessions, tenant, expr, &intervals).await?;
        let context = sessions.context();
        Ok(Self {
            sessions,
            tenant,
            intervals,
            whole,
            exemplars,
            done: HashMap::new(),
            planned: FirstStages::new(),
            counted: HashMap::new(),
            context,
            progress: Progress::silent(),
            watch: None,
            jobs: None,
        })
    }

    async fn metrics(&mut self, metrics: &Metrics) -> Result<Vec<Series>> {
        self.together(&metrics.expr).await?;
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
        let text = text_of(series);
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
        let groups = match (self.counted.remove(&text_of(series)), self.jobs.take()) {
            (Some(counted), _) => counted,
            (None, Some(jobs)) => self.groups_of_jobs(series, jobs).await?,
            (None, None) => self.groups(self.sessions, series).await?,
        };
        let _memory = self.room_for(&groups).await?;
        let Assembled { series: mut found, groups } = assemble(series, &self.intervals, groups).await?;
        if self.exemplars > 0 {
            self.exemplars(series, &mut found, &groups).await?;
        }
        Ok(found)
    }

    /// Runs the plan of a first stage over what these sessions read.
    async fn groups(&mut self, sessions: &Sessions, series: &syntax::Series) -> Result<Vec<Group>> {
        if self.finds_nothing(sessions, series).await? {
            return Ok(Vec::new());
        }
        let plan = plan_series(sessions, self.tenant, series, &self.intervals, self.exemplars > 0, &self.whole)?;
        let mut groups = Vec::new();
        let physical = self.physical(series, plan.plan).await?;
        self.rows(physical, |batch| groups_of(batch, &plan.outputs, &mut groups)).await?;
        Ok(groups)
    }

    /// Whether what is in memory shows that a series counts no span.
    async fn finds_nothing(&mut self, sessions: &Sessions, series: &syntax::Series) -> Result<bool> {
        let searched = series_find_nothing(sessions, self.tenant, &series.pipeline, &self.intervals, &self.whole).await?;
        self.progress.cost = self.progress.cost.plus(searched.map(SearchMetrics::of).unwrap_or_default());
        Ok(searched.is_some())
    }

    /// Memory for the series of these groups: a value an interval, whether there is one or not.
    async fn room_for(&mut self, groups: &[Group]) -> Result<Memory> {
        let (mut keys, mut exponents) = (datafusion::common::HashSet::new(), HashSet::new());
        for some in groups.chunks(GROUPS_AT_ONCE) {
            keys.extend(some.iter().map(|g| g.key.as_slice()));
            exponents.extend(some.iter().map(|g| g.exponent));
            tokio::task::yield_now().await;
        }
        let values = keys.len().saturating_mul(exponents.len()).saturating_mul(self.intervals.count);
        let mut memory = Memory::new("the series of an answer", &self.context);
        memory.hold(values.saturating_mul(size_of::<f64>()))?;
        Ok(memory)
    }

    /// The plan of a first stage, made ready to run.
    async fn physical(&mut self, series: &syntax::Series, plan: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        match self.planned.remove(&text_of(series)) {
            Some(planned) => Ok(planned),
            None => self.prepare(plan).await,
        }
    }

    /// A plan made ready to run.
    async fn prepare(&mut self, plan: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.sessions.prepare(&plan).await
    }

    /// Runs a plan, hands its batches over, and adds up what it has cost.
    async fn rows(
        &mut self,
        physical: Arc<dyn ExecutionPlan>,
        mut each: impl FnMut(&arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut memory = Memory::new("the groups of an answer", &self.context);
        let mut execution = self.sessions.execute_ready(physical, self.context.clone())?;
        let watch = &mut self.watch;
        let mut sign = |so_far| watch.iter_mut().for_each(|w| w.progress(so_far));
        while let Some(batch) = self.progress.next(&mut execution, &mut sign).await {
            let batch = batch?;
            // About as much again as what is made of it.
            memory.grow(2 * bytes_of(&batch))?;
            each(&batch)?;
        }
        self.progress.end(execution.plan.as_ref());
        Ok(())
    }
}
