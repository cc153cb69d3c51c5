//! The metrics summary of Tempo 2: counts, errors and latencies of the server spans that a query finds, by group.
//!
//! Made of three instant metrics queries over the same spans, so that its numbers are those of TraceQL metrics.

use tracehouse_engine::{Error, Result, TenantId};
use tracehouse_sql::Sessions;

use crate::{
    metrics::{InstantRequest, instant_series},
    result::{
        metrics::{QUANTILE_LABEL, Series},
        summary::{QUANTILES, SummaryResponse},
    },
    search::parse,
    syntax::{Field, Root, SpansetExpr, Stage, parse_attribute},
};

/// What a summary asks for. The caller checks the range.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRequest {
    /// TraceQL that finds spans.
    pub query: String,
    /// Attributes and intrinsics, at least one.
    pub group_by: Vec<Field>,
    /// Start of the range, Unix nanoseconds, inclusive.
    pub start: i64,
    /// End of the range, Unix nanoseconds, inclusive.
    pub end: i64,
    /// Most groups: those with the most spans.
    pub limit: usize,
}

/// Reads `groupBy`: names of attributes and intrinsics with commas between them.
pub fn parse_group_by(text: &str) -> Result<Vec<Field>> {
    let read = |name: &str| {
        parse_attribute(name.trim()).map_err(|e| {
            Error::invalid(format!("invalid groupBy: {name:?}: {e}: give attributes or intrinsics such as name,span.http.method"))
        })
    };
    text.split(',').map(read).collect()
}

/// Runs the queries of a summary.
pub async fn summary(sessions: &Sessions, tenant: &TenantId, request: &SummaryRequest) -> Result<SummaryResponse> {
    let spans = server_spans(&request.query)?;
    let by = request.group_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let run = async |filter: &str, function: &str| -> Result<Vec<Series>> {
        let query = format!("{spans}{filter} | {function} by ({by})");
        // An instant query is open on its left.
        let request = InstantRequest { query, start: request.start.saturating_sub(1), end: request.end, series_max: 0 };
        Ok(instant_series(sessions, tenant, &request).await?.0)
    };
    let counts = run("", "count_over_time()").await?;
    let errors = run(" | { status = error }", "count_over_time()").await?;
    let quantiles = QUANTILES.map(|q| q.to_string()).join(", ");
    let latencies = run("", &format!("quantile_over_time(duration, {quantiles})")).await?;
    debug_assert!(latencies.iter().all(|s| s.labels.iter().any(|l| l.name == QUANTILE_LABEL)));
    Ok(SummaryResponse::new(&request.group_by, counts, &errors, &latencies, request.limit))
}

/// The pipeline of a search, with only its server spans: what Tempo's generators kept for summaries.
fn server_spans(query: &str) -> Result<String> {
    let query = parse(query)?;
    let Root::Spansets(pipeline) = &query.root else {
        return Err(Error::invalid("invalid q: a summary computes its own metrics: give a search such as { status = error }"));
    };
    Ok(match pipeline.stages.as_slice() {
        [Stage::Spansets(SpansetExpr::Filter(filter))] => format!("{{ ({filter}) && kind = server }}"),
        _ => format!("{pipeline} | {{ kind = server }}"),
    })
}
