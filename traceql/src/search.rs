//! A search from its text to its answer; the HTTP API and the command line both call it.

use std::{collections::HashSet, sync::Arc};

use datafusion::physical_plan::ExecutionPlan;
use tracehouse_engine::{Error, ErrorKind, Result, TenantId, TraceId, block::BlockMeta};
use tracehouse_sql::Sessions;

use crate::{
    eval::{Regexes, compile_regex},
    jobs::{Pace, Progress, cut},
    plan::{Condition, SearchPlan, plan_search},
    result::search::{SearchMetrics, SearchResponse, SearchResult, TraceSummary},
    spansets::Evaluator,
    syntax::{self, Query, Static},
};

/// What a search asks for. All bounds are checked by the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// TraceQL.
    pub query: String,
    /// Unix nanoseconds, inclusive: traces that overlap this range. `None` means all time.
    pub range: Option<(i64, i64)>,
    /// Most traces in the answer: the newest.
    pub limit: usize,
    /// Most spans shown of each trace.
    pub spans_per_span_set: usize,
}

/// Parses and checks a query.
pub fn parse(text: &str) -> Result<Query> {
    let query = syntax::parse(text).map_err(syntax_error)?;
    syntax::check(&query, &|pattern| compile_regex(pattern).map(drop)).map_err(syntax_error)?;
    Ok(query)
}

fn syntax_error(e: syntax::Error) -> Error {
    let kind = match e.kind {
        syntax::ErrorKind::Unsupported => ErrorKind::Unsupported,
        syntax::ErrorKind::Parse | syntax::ErrorKind::Type => ErrorKind::Invalid,
    };
    Error::new(kind, format!("invalid TraceQL query: {e}"))
}

/// Hears of a search while it runs.
pub trait Watch: Send {
    /// How far it is; called now and then.
    fn progress(&mut self, so_far: SearchMetrics);

    /// These traces are in the answer, as they are: nothing that is still to be read changes them or pushes them out. The final
    /// answer has them too.
    fn found(&mut self, traces: Vec<TraceSummary>, so_far: SearchMetrics);
}

/// Runs a search to its end.
pub async fn search(sessions: &Sessions, tenant: &TenantId, request: &SearchRequest) -> Result<SearchResponse> {
    let query = parse(&request.query)?;
    let plan = plan_search(sessions, tenant, &query, request.range)?;
    let regexes = shown_regexes(&plan)?;
    let mut result = SearchResult::new(&plan, &regexes, request.limit, request.spans_per_span_set);
    let mut progress = Progress::silent();
    run(sessions, tenant, &plan, &mut result, &mut progress, &mut |_| {}).await?;
    Ok(result.finish(progress.whole()))
}

/// Runs a search to its end, or until nothing older can be in its answer, and tells what is final on the way.
pub async fn search_growing(
    sessions: &Sessions,
    tenant: &TenantId,
    request: &SearchRequest,
    pace: &Pace,
    watch: &mut dyn Watch,
) -> Result<SearchResponse> {
    let query = parse(&request.query)?;
    let plan = plan_search(sessions, tenant, &query, request.range)?;
    let regexes = shown_regexes(&plan)?;
    let mut result = SearchResult::new(&plan, &regexes, request.limit, request.spans_per_span_set);
    // Where spans of a trace are looked at together, all blocks must be read together.
    let (jobs, total) = match plan.spansets {
        Some(_) => cut(sessions, tenant, None, u64::MAX),
        None => cut(sessions, tenant, request.range, pace.job_bytes),
    };
    let mut progress = Progress::new(pace, total);
    let mut told = HashSet::new();
    for job in jobs {
        let part = plan_search(&job.sessions, tenant, &query, request.range)?;
        run(&job.sessions, tenant, &part, &mut result, &mut progress, &mut |so_far| watch.progress(so_far)).await?;
        if job.rest.is_empty() {
            break;
        }
        let newest = result.newest_after(job.watermark);
        let open: Vec<String> = newest.iter().filter(|id| !told.contains(*id)).cloned().collect();
        let whole = without_parts_in(sessions, tenant, &job.rest, open).await?;
        if !whole.is_empty() {
            watch.found(whole.iter().filter_map(|id| result.summary(id)).collect(), progress.so_far(SearchMetrics::default()));
            told.extend(whole);
        }
        if newest.len() >= request.limit && newest.iter().all(|id| told.contains(id)) {
            break;
        }
    }
    Ok(result.finish(progress.whole()))
}

/// Runs the plan of a search over what its sessions read.
async fn run(
    sessions: &Sessions,
    tenant: &TenantId,
    plan: &SearchPlan,
    result: &mut SearchResult<'_>,
    progress: &mut Progress,
    sign: &mut (dyn FnMut(SearchMetrics) + Send),
) -> Result<()> {
    let mut execution = sessions.execute(sessions.frame(tenant, plan.plan.clone())?).await?;
    let mut evaluator = plan.spansets.as_ref().map(|spansets| Evaluator::new(sessions, tenant, spansets)).transpose()?;
    while let Some(batch) = progress.next(&mut execution, sign).await {
        match &mut evaluator {
            Some(evaluator) => evaluator.push(batch?, result).await?,
            None => result.add(&batch?)?,
        }
    }
    progress.end(execution.plan.as_ref());
    if let Some(mut evaluator) = evaluator {
        evaluator.finish(result).await?;
        progress.cost = progress.cost.plus(evaluator.cost());
    }
    Ok(())
}

/// The traces of which none of these blocks holds a part.
async fn without_parts_in(sessions: &Sessions, tenant: &TenantId, blocks: &[Arc<BlockMeta>], traces: Vec<String>) -> Result<Vec<String>> {
    if traces.is_empty() {
        return Ok(Vec::new());
    }
    let ids = traces.iter().map(|id| id.parse()).collect::<Result<Vec<TraceId>>>()?;
    let split = sessions.engine().may_be_in(tenant, blocks, &ids).await?;
    Ok(traces.into_iter().zip(split).filter(|(_, split)| !split).map(|(id, _)| id).collect())
}

/// The plan of a search as text, as EXPLAIN shows it.
pub async fn explain(sessions: &Sessions, tenant: &TenantId, request: &SearchRequest) -> Result<String> {
    let query = parse(&request.query)?;
    let plan = plan_search(sessions, tenant, &query, request.range)?;
    let logical = plan.plan.display_indent().to_string();
    let physical = sessions.frame(tenant, plan.plan)?.create_physical_plan().await?;
    let physical = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
    Ok(format!("query: {query}\n\nlogical plan:\n{logical}\n\nphysical plan:\n{physical}"))
}

/// The regular expressions among the conditions that decide which values are shown.
fn shown_regexes(plan: &SearchPlan) -> Result<Regexes> {
    let mut regexes = Regexes::new();
    for condition in plan.shown.iter().flat_map(|s| &s.conditions) {
        if let Condition::Test(op, Static::String(pattern)) = condition
            && op.is_regex()
        {
            regexes.insert(pattern.clone(), compile_regex(pattern).map_err(Error::invalid)?);
        }
    }
    Ok(regexes)
}

/// Sums what the scans of a plan have counted.
pub(crate) fn metrics_of(plan: &dyn ExecutionPlan) -> SearchMetrics {
    let mut sum = SearchMetrics::default();
    let mut open = vec![plan];
    while let Some(node) = open.pop() {
        if let Some(metrics) = node.metrics() {
            let count = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize() as u64);
            sum.inspected_traces += count("traces_scanned") as u32;
            sum.inspected_spans += count("spans_scanned");
            sum.inspected_bytes += count("bytes_scanned");
            sum.total_jobs += count("chunks_scanned") as u32;
        }
        open.extend(node.children().into_iter().map(|c| c.as_ref()));
    }
    sum.completed_jobs = sum.total_jobs;
    sum
}
