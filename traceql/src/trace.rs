//! A trace by id, and the spans of it that a filter keeps.

use std::{collections::HashSet, sync::Arc};

use tracehouse_engine::{Error, FoundTrace, Places, Result, TenantId, Trace, TraceId};
use tracehouse_sql::Sessions;

use crate::{
    result::kept::{Depth, SpanKey, keep},
    search::{SearchRequest, parse, search},
    syntax::{Field, Intrinsic, Query, Root, SpansetExpr, Stage, visit_fields},
};

/// Which spans of a trace are wanted.
#[derive(Clone, Debug)]
pub struct SpanFilter {
    /// One filter, `{ ... }`.
    query: Query,
    /// Levels of descendants that stay below each match.
    pub below: Depth,
    /// Levels of ancestors that stay above each match.
    pub above: Depth,
}

impl SpanFilter {
    /// Reads a filter. It must be one `{ ... }` that asks about spans, not about their trace.
    pub fn new(text: &str, below: Depth, above: Depth) -> Result<Self> {
        let query = parse(text)?;
        let Root::Spansets(pipeline) = &query.root else { return Err(not_one_filter()) };
        if !matches!(pipeline.stages.as_slice(), [Stage::Spansets(SpansetExpr::Filter(_))]) {
            return Err(not_one_filter());
        }
        let mut of_the_trace = None;
        visit_fields(&query, &mut |field| {
            use Intrinsic as I;
            if let Field::Intrinsic(I::TraceDuration | I::TraceRootName | I::TraceRootService | I::TraceId) = field {
                of_the_trace = Some(field.to_string());
            }
        });
        match of_the_trace {
            Some(name) => Err(Error::invalid(format!("invalid q: {name} is the same for all spans of a trace: ask about spans"))),
            None => Ok(Self { query, below, above }),
        }
    }
}

fn not_one_filter() -> Error {
    Error::invalid("invalid q: give one filter such as { status = error }, without pipeline, structural operators or metrics")
}

/// Looks for a trace.
pub async fn find(sessions: &Sessions, tenant: &TenantId, id: TraceId, range: Option<(i64, i64)>, places: Places) -> Result<FoundTrace> {
    sessions.engine().find_trace_in(tenant, id, range, places).await
}

/// Takes out the spans that are not wanted; whether there were any.
pub async fn filter(sessions: &Sessions, tenant: &TenantId, trace: Trace, filter: &SpanFilter) -> Result<(Trace, bool)> {
    let trace = Arc::new(trace);
    // The filter runs over this one trace, as it was put together: no block is read again.
    let one = sessions.over(Arc::new(sessions.engine().of_trace(tenant, trace.clone())));
    let request = SearchRequest { query: filter.query.to_string(), range: None, limit: 1, spans_per_span_set: usize::MAX };
    let found = search(&one, tenant, &request).await?;
    let sets = found.traces.iter().flat_map(|t| &t.span_sets);
    let matched: HashSet<SpanKey> = sets.flat_map(|s| &s.spans).map(SpanKey::from).collect();
    let mut kept = Arc::unwrap_or_clone(trace);
    let before = kept.span_count();
    keep(&mut kept.resource_spans, &matched, filter.below, filter.above);
    let fewer = kept.span_count() < before;
    Ok((kept, fewer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_filter_about_spans() {
        let read = |text: &str| SpanFilter::new(text, Depth::All, Depth::All).map(drop).map_err(|e| e.to_string());
        assert!(read("{ span.a = 1 && event:name =~ \"x\" }").is_ok());
        for bad in ["{ a", "{} | rate()", "{} >> {}", "{} | count() > 1", "{ trace:duration > 1s }", "{ rootName = `a` }"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("{ trace:rootService = `a` }").unwrap_err().contains("ask about spans"));
    }
}
