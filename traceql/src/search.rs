//! A search from its text to its answer; the HTTP API and the command line both call it.

use datafusion::physical_plan::ExecutionPlan;
use tracehouse_engine::{Error, ErrorKind, Result, TenantId};
use tracehouse_sql::Sessions;

use crate::{
    eval::{Pattern, Regexes, check_regex},
    growing::{ANSWER, run},
    jobs::Progress,
    plan::{Condition, SearchPlan, Whole, plan_search, search_finds_nothing, whole_traces},
    result::search::{SearchMetrics, SearchResponse, SearchResult},
    spansets::Memory,
    syntax::{self, Query, Root, Static},
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
    let query = syntax::parse(text).map_err(|e| syntax_error(text, &e))?;
    syntax::check(&query, &check_regex).map_err(|e| syntax_error(text, &e))?;
    Ok(query)
}

/// Checks a query that was read from something else than the text it was sent as.
pub fn check_query(query: &Query) -> Result<()> {
    syntax::check(query, &check_regex).map_err(|e| syntax_error(&query.to_string(), &e))
}

/// The first line says what is wrong and where; below it stand the line of the text and a caret.
fn syntax_error(text: &str, e: &syntax::Error) -> Error {
    let kind = match e.kind {
        syntax::ErrorKind::Unsupported => ErrorKind::Unsupported,
        syntax::ErrorKind::Parse | syntax::ErrorKind::Type => ErrorKind::Invalid,
    };
    let caret = e.caret(text);
    let below: String = caret.lines().map(|line| format!("\n  {line}")).collect();
    Error::new(kind, format!("invalid TraceQL query: {e}{below}"))
}

/// Runs a search to its end.
pub async fn search(sessions: &Sessions, tenant: &TenantId, request: &SearchRequest) -> Result<SearchResponse> {
    let query = parse(&request.query)?;
    let whole = whole_traces(sessions, tenant, request.range).await?;
    if let Some(empty) = empty_answer(sessions, tenant, &query, request, &whole).await? {
        return Ok(empty);
    }
    let plan = plan_search(sessions, tenant, &query, request.range, &whole, Some(request.limit))?;
    let regexes = shown_regexes(&plan)?;
    let memory = Memory::new(ANSWER, &sessions.context());
    let mut result = SearchResult::new(&plan, &regexes, request.limit, request.spans_per_span_set, memory);
    let mut progress = Progress::silent();
    run(sessions, &plan, &mut result, &mut progress, &mut |_| {}).await?;
    Ok(result.finish(progress.whole()))
}

/// The answer of a search of which what is in memory shows that it finds nothing.
pub(crate) async fn empty_answer(
    sessions: &Sessions,
    tenant: &TenantId,
    query: &Query,
    request: &SearchRequest,
    whole: &Whole,
) -> Result<Option<SearchResponse>> {
    let Root::Spansets(pipeline) = &query.root else { return Ok(None) };
    let searched = search_finds_nothing(sessions, tenant, pipeline, request.range, whole).await?;
    Ok(searched.map(|searched| SearchResponse { traces: Vec::new(), metrics: SearchMetrics::of(searched) }))
}

/// The plan of a search as text, as EXPLAIN shows it.
pub async fn explain(sessions: &Sessions, tenant: &TenantId, request: &SearchRequest) -> Result<String> {
    let query = parse(&request.query)?;
    let whole = whole_traces(sessions, tenant, request.range).await?;
    let plan = plan_search(sessions, tenant, &query, request.range, &whole, Some(request.limit))?;
    let logical = plan.plan.display_indent().to_string();
    let physical = sessions.prepare(&plan.plan).await?;
    let physical = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
    Ok(format!("query: {query}\n\nlogical plan:\n{logical}\n\nphysical plan:\n{physical}"))
}

/// The regular expressions among the conditions that decide which values are shown.
pub(crate) fn shown_regexes(plan: &SearchPlan) -> Result<Regexes> {
    let mut regexes = Regexes::new();
    for condition in plan.shown.iter().flat_map(|s| &s.conditions) {
        if let Condition::Test(op, Static::String(pattern)) = condition
            && op.is_regex()
        {
            regexes.insert(pattern.clone(), Pattern::new(pattern).map_err(Error::invalid)?);
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
