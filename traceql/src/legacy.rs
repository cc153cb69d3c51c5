//! The search from before TraceQL: by tags and by the trace's duration, as clients like Tempo's Jaeger bridge still ask it.
//!
//! A trace matches if each tag matches somewhere in it, so this is a TraceQL query of one filter a tag, joined by `&&`. The
//! answer names the traces, not their spans. Rules as recorded of Tempo 3.0.3 with its default dedicated columns.

use tracehouse_engine::{
    Error, Result, TenantId,
    block::{DedicatedColumn, DedicatedScope, DedicatedType},
};
use tracehouse_sql::Sessions;

use crate::{
    result::search::SearchResponse,
    search::{SearchRequest, search},
    syntax::{Attribute, BinaryOp, Field, FieldExpr, Intrinsic, SERVICE_NAME, Scope, Static, Status},
};

/// What a search by tags asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagSearchRequest {
    /// Keys and values; a key occurs once.
    pub tags: Vec<(String, String)>,
    /// Least duration of a trace in milliseconds; 0 means any.
    pub min_duration_ms: u32,
    /// Largest duration of a trace in milliseconds; 0 means any.
    pub max_duration_ms: u32,
    /// Unix nanoseconds, inclusive: traces that overlap this range. `None` means all time.
    pub range: Option<(i64, i64)>,
    /// Most traces in the answer: the newest.
    pub limit: usize,
}

/// Runs a search by tags.
pub async fn search_by_tags(sessions: &Sessions, tenant: &TenantId, request: &TagSearchRequest) -> Result<SearchResponse> {
    let search_request = SearchRequest { query: query_of(request), range: request.range, limit: request.limit, spans_per_span_set: 1 };
    let mut answer = search(sessions, tenant, &search_request).await?;
    if let Some((_, name)) = request.tags.iter().find(|(key, _)| key == SERVICE_NAME) {
        // The old search knows a service's name as text only; the query lets arrays pass, too.
        answer.traces.retain(|trace| trace.service_stats.keys().any(|service| service.contains(name.as_str())));
    }
    for trace in &mut answer.traces {
        trace.span_set = None;
        trace.span_sets.clear();
        trace.service_stats.clear();
    }
    Ok(answer)
}

/// The search as TraceQL.
fn query_of(request: &TagSearchRequest) -> String {
    const MILLISECOND: i64 = 1_000_000;
    let duration = |op, ms: u32| {
        let field = Field::Intrinsic(Intrinsic::TraceDuration);
        (ms > 0).then(|| compare(field, op, Static::Duration(i64::from(ms) * MILLISECOND)))
    };
    let of_trace = [duration(BinaryOp::Ge, request.min_duration_ms), duration(BinaryOp::Le, request.max_duration_ms)];
    let mut filters: Vec<FieldExpr> = request.tags.iter().filter_map(|(key, value)| condition(key, value)).collect();
    let mut of_trace: Vec<FieldExpr> = of_trace.into_iter().flatten().collect();
    of_trace.extend(filters.pop());
    let first = of_trace.into_iter().reduce(|lhs, rhs| binary(BinaryOp::And, lhs, rhs));
    filters.insert(0, first.unwrap_or(FieldExpr::Static(Static::Bool(true))));
    filters.iter().map(|f| format!("{{ {f} }}")).collect::<Vec<_>>().join(" && ")
}

/// What a tag asks of a span; nothing if every span has it.
fn condition(key: &str, value: &str) -> Option<FieldExpr> {
    let attribute = |scope| Field::Attribute(Attribute { parent: false, scope, name: key.to_owned() });
    let column = DedicatedColumn::defaults().into_iter().find(|c| c.name == key && c.scope != DedicatedScope::Event);
    match (key, column) {
        ("name", _) => contains(Field::Intrinsic(Intrinsic::Name), value),
        ("root.name", _) => contains(Field::Intrinsic(Intrinsic::TraceRootName), value),
        ("root.service.name", _) => contains(Field::Intrinsic(Intrinsic::TraceRootService), value),
        (SERVICE_NAME, _) => contains(attribute(Scope::Resource), value),
        ("status.code", _) => {
            let status = Status::from_keyword(value).unwrap_or(Status::Unset);
            Some(compare(Field::Intrinsic(Intrinsic::Status), BinaryOp::Eq, Static::Status(status)))
        }
        (_, Some(column)) => {
            let field = attribute(if column.scope == DedicatedScope::Resource { Scope::Resource } else { Scope::Span });
            match (column.kind, value.parse()) {
                (DedicatedType::Int, Ok(number)) => Some(compare(field, BinaryOp::Eq, Static::Int(number))),
                (DedicatedType::Int, Err(_)) => Some(either(attribute, value)),
                (DedicatedType::String, _) => contains(field, value),
            }
        }
        _ => Some(either(attribute, value)),
    }
}

/// The text itself, on the resource or the span.
fn either(attribute: impl Fn(Scope) -> Field, value: &str) -> FieldExpr {
    let on = |scope| compare(attribute(scope), BinaryOp::Eq, Static::String(value.to_owned()));
    binary(BinaryOp::Or, on(Scope::Resource), on(Scope::Span))
}

/// The text anywhere in the value.
fn contains(field: Field, value: &str) -> Option<FieldExpr> {
    let pattern = format!("(?s:.*{}.*)", regex::escape(value));
    (!value.is_empty()).then(|| compare(field, BinaryOp::Regex, Static::String(pattern)))
}

fn compare(field: Field, op: BinaryOp, value: Static) -> FieldExpr {
    binary(op, FieldExpr::Field(field), FieldExpr::Static(value))
}

fn binary(op: BinaryOp, lhs: FieldExpr, rhs: FieldExpr) -> FieldExpr {
    FieldExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}

/// Reads `key=value key2="value 2" key3` (logfmt, as Go's decoder does): text that is no more than spaces parts the pairs, a
/// key without a value has the empty one.
pub fn parse_tags(text: &str) -> Result<Vec<(String, String)>> {
    let bad = |at: usize, what: String| {
        Error::invalid(format!("invalid tags: {what} at pos {}: write key=value, values with spaces in double quotes", at + 1))
    };
    let is_space = |c: char| c <= ' ';
    let mut tags: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start_matches(is_space).len();
        let rest = text.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(tags);
        }
        let key = &rest[..rest.find(|c| is_space(c) || c == '=').unwrap_or(rest.len())];
        if let Some(i) = key.find('"').or(key.is_empty().then_some(0)) {
            return Err(bad(at + i, format!("unexpected {:?}", rest[i..].chars().next().unwrap_or('='))));
        }
        at += key.len();
        let mut value = String::new();
        if let Some(rest) = text.get(at..).and_then(|t| t.strip_prefix('=')) {
            at += 1;
            let taken = if rest.starts_with('"') {
                let length = quoted(rest).ok_or_else(|| bad(text.len(), "unterminated quoted value".to_owned()))?;
                value = serde_json::from_str(&rest[..length]).map_err(|_| bad(at, "invalid quoted value".to_owned()))?;
                length
            } else {
                let plain = &rest[..rest.find(is_space).unwrap_or(rest.len())];
                if let Some((i, c)) = plain.char_indices().find(|(_, c)| matches!(c, '=' | '"')) {
                    return Err(bad(at + i, format!("unexpected {c:?}")));
                }
                value.push_str(plain);
                plain.len()
            };
            at += taken;
        }
        if tags.iter().any(|(known, _)| known == key) {
            return Err(Error::invalid(format!("invalid tags: tag {key} has been set twice")));
        }
        tags.push((key.to_owned(), value));
    }
}

/// Length of the quoted text that `text` begins with, quotes included.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_logfmt() {
        let read = |text: &str| parse_tags(text).map_err(|e| e.to_string());
        let pairs = |pairs: &[(&str, &str)]| Ok(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(read("a=b c=\"d \\\"e\\\"\"  f g="), pairs(&[("a", "b"), ("c", "d \"e\""), ("f", ""), ("g", "")]));
        assert_eq!(read(""), pairs(&[]));
        for (text, says) in [
            ("bad =x==", "unexpected '=' at pos 5"),
            ("a=\"b", "unterminated"),
            ("a=b\"c", "unexpected '\"' at pos 4"),
            ("a\"b=c", "unexpected '\"' at pos 2"),
            ("a=1 a=2", "tag a has been set twice"),
        ] {
            assert!(read(text).unwrap_err().contains(says), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn a_search_by_tags_is_a_query() {
        let tags = |tags: &[(&str, &str)]| tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let request =
            TagSearchRequest { tags: tags(&[("service.name", "a.b"), ("x y", "1"), ("http.status_code", "404")]), ..Default::default() };
        assert_eq!(
            query_of(&request),
            "{ span.http.status_code = 404 } && { resource.service.name =~ `(?s:.*a\\.b.*)` } && { (resource.\"x y\" = `1`) || (span.\"x y\" = `1`) }"
        );
        let request = TagSearchRequest { min_duration_ms: 5, ..Default::default() };
        assert_eq!(query_of(&request), "{ traceDuration >= 5ms }");
        assert_eq!(query_of(&TagSearchRequest::default()), "{ true }");
    }
}
