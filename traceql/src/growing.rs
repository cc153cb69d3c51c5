//! A search that is told while it runs: job by job, the newest blocks first.

use std::{collections::HashSet, sync::Arc};

use tracehouse_engine::{Result, TenantId, TraceId, block::BlockMeta};
use tracehouse_sql::Sessions;

use crate::{
    jobs::{Pace, Progress, cut},
    plan::{SearchPlan, plan_search, reach, whole_traces},
    result::search::{SearchMetrics, SearchResponse, SearchResult, TraceSummary},
    search::{SearchRequest, empty_answer, parse, shown_regexes},
    spansets::{Evaluator, Memory},
};

/// Whose memory it is that an answer takes.
pub(crate) const ANSWER: &str = "the traces of an answer";

/// Hears of a search while it runs.
pub trait Watch: Send {
    /// How far it is; called now and then.
    fn progress(&mut self, so_far: SearchMetrics);

    /// These traces are in the answer, as they are: nothing that is still to be read changes them or pushes them out. The final
    /// answer has them too.
    fn found(&mut self, traces: Vec<TraceSummary>, so_far: SearchMetrics);
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
    let sessions = &sessions.reading(sessions.snapshot(tenant));
    // Jobs read blocks: what is true of a trace with parts in several of them is known before the first.
    let whole = whole_traces(sessions, tenant, request.range).await?;
    if let Some(empty) = empty_answer(sessions, tenant, &query, request, &whole).await? {
        let (_, total) = cut(sessions, tenant, request.range.map(|range| reach(&whole, range)), u64::MAX);
        let SearchMetrics { inspected_traces, inspected_spans, .. } = empty.metrics;
        let metrics = SearchMetrics { inspected_traces, inspected_spans, completed_jobs: total.total_jobs, ..total };
        return Ok(SearchResponse { metrics, ..empty });
    }
    let plan = plan_search(sessions, tenant, &query, request.range, &whole, Some(request.limit))?;
    let regexes = shown_regexes(&plan)?;
    let memory = Memory::new(ANSWER, &sessions.context());
    let mut result = SearchResult::new(&plan, &regexes, request.limit, request.spans_per_span_set, memory);
    // Where spans of a trace are looked at together, all blocks must be read together.
    let (jobs, total) = match plan.spansets {
        Some(_) => cut(sessions, tenant, None, u64::MAX),
        None => cut(sessions, tenant, request.range.map(|range| reach(&whole, range)), pace.job_bytes),
    };
    let mut progress = Progress::new(pace, total);
    let mut told = HashSet::new();
    for job in jobs {
        let part = plan_search(&job.sessions, tenant, &query, request.range, &whole, Some(request.limit))?;
        run(&job.sessions, &part, &mut result, &mut progress, &mut |so_far| watch.progress(so_far)).await?;
        if job.rest.is_empty() {
            break;
        }
        let newest = result.newest_after(job.watermark);
        let open: Vec<String> = newest.iter().filter(|id| !told.contains(*id)).cloned().collect();
        let complete = without_parts_in(sessions, tenant, &job.rest, open).await?;
        if !complete.is_empty() {
            watch.found(complete.iter().filter_map(|id| result.summary(id)).collect(), progress.so_far(SearchMetrics::default()));
            told.extend(complete);
        }
        if newest.len() >= request.limit && newest.iter().all(|id| told.contains(id)) {
            break;
        }
    }
    Ok(result.finish(progress.whole()))
}

/// Runs the plan of a search over what its sessions read.
pub(crate) async fn run(
    sessions: &Sessions,
    plan: &SearchPlan,
    result: &mut SearchResult<'_>,
    progress: &mut Progress,
    sign: &mut (dyn FnMut(SearchMetrics) + Send),
) -> Result<()> {
    let context = sessions.context();
    let mut execution = sessions.execute_ready(sessions.prepare(&plan.plan).await?, context.clone())?;
    let mut evaluator = plan.spansets.as_ref().map(|spansets| Evaluator::new(spansets, &context)).transpose()?;
    while let Some(batch) = progress.next(&mut execution, sign).await {
        match &mut evaluator {
            Some(evaluator) => evaluator.push(batch?, result)?,
            None => result.add(&batch?)?,
        }
    }
    progress.end(execution.plan.as_ref());
    if let Some(mut evaluator) = evaluator {
        evaluator.finish(result)?;
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
