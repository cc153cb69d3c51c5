//! The tools: what each takes, and the request it becomes.

use std::sync::Arc;

use axum::http::HeaderMap;
use jiff::Timestamp;
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value, json};
use tracehouse_engine::clock;

use super::{Answer, Backend, Server};
use crate::{search::parse, syntax::Root, tags::groups};

type Arguments = Map<String, Value>;

/// Name, description and arguments of a tool.
type Row = (&'static str, &'static str, &'static [Argument]);

/// Name, description, whether it must be there, and its values if there are only some.
type Argument = (&'static str, &'static str, bool, &'static [&'static str]);

const START: Argument = ("start", "start of the time range in RFC 3339; one hour before the end if absent", false, &[]);
const END: Argument = ("end", "end of the time range in RFC 3339; now if absent", false, &[]);

/// The first nine as in Tempo, with its names and arguments.
const TOOLS: &[Row] = &[
    (
        "traceql-search",
        "Find traces with a TraceQL query",
        &[("query", "TraceQL search such as { status = error }", true, &[]), START, END],
    ),
    (
        "traceql-metrics-instant",
        "One number for each group from a TraceQL metrics query, over the whole time range. Most questions about counts, rates and \
         latencies are answered by it.",
        &[("query", "TraceQL metrics query such as {} | rate() by (resource.service.name)", true, &[]), START, END],
    ),
    (
        "traceql-metrics-range",
        "Series over time from a TraceQL metrics query",
        &[("query", "TraceQL metrics query such as {} | quantile_over_time(duration, 0.9)", true, &[]), START, END],
    ),
    ("get-trace", "All spans of one trace", &[("trace_id", "id of the trace, in hex", true, &[])]),
    (
        "trace-diff",
        "What differs between two traces: a summary, and every change if that is at most 64 KiB",
        &[
            ("base_trace_id", "id of the trace to compare with, in hex", true, &[]),
            ("compare_trace_id", "id of the trace that is compared, in hex", true, &[]),
            ("base_start", "start of the range in which the first trace is looked for, in RFC 3339; with base_end", false, &[]),
            ("base_end", "end of that range; with base_start", false, &[]),
            ("compare_start", "the same for the second trace; with compare_end", false, &[]),
            ("compare_end", "end of that range; with compare_start", false, &[]),
            (
                "format",
                "trace-summary-v0-composed if absent; trace-patch-v0 for every change, however long",
                false,
                &["trace-summary-v0-composed", "trace-summary-v0-native", "trace-patch-v0"],
            ),
        ],
    ),
    (
        "get-attribute-names",
        "Names of the attributes that queries can use",
        &[("scope", "only of this scope: span, resource, event, link, instrumentation", false, &[])],
    ),
    (
        "get-attribute-values",
        "Values of an attribute, such as all services for resource.service.name",
        &[
            ("name", "attribute with its scope, or intrinsic, such as span.http.method or name", true, &[]),
            ("filter-query", "only values on spans that match this filter, { a && b }", false, &[]),
        ],
    ),
    (
        "docs-traceql",
        "How to write TraceQL: read it before the first query",
        &[("name", "which page", true, &["basic", "aggregates", "structural", "metrics"])],
    ),
    ("docs-config", "How to operate and set up this server", &[("name", "which page", true, &["config-overview", "config-reference"])]),
    (
        "sql-query",
        "Ask in SQL (PostgreSQL's dialect, read only) about the table spans: trace_id, span_id, parent_span_id, name, kind, status, \
         start_time, duration_ns, service_name, span_attributes and resource_attributes (JSON: span_attributes->>'http.method') and \
         more; the resource docs://sql/query describes it. Answers at most 1000 rows: aggregate, or add LIMIT.",
        &[("query", "one SELECT statement", true, &[])],
    ),
];

/// All tools as the protocol describes them.
pub fn all() -> Vec<Tool> {
    TOOLS.iter().map(|(name, description, arguments)| tool(name, description, arguments)).collect()
}

fn tool(name: &'static str, description: &'static str, arguments: &[Argument]) -> Tool {
    let property = |(name, description, _, values): &Argument| {
        let mut schema = json!({"type": "string", "description": description});
        if !values.is_empty() {
            schema["enum"] = json!(values);
        }
        ((*name).to_owned(), schema)
    };
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(arguments.iter().map(property).collect()));
    schema.insert("required".to_owned(), arguments.iter().filter(|a| a.2).map(|a| json!(a.0)).collect());
    let hints = ToolAnnotations::from_raw(None, Some(true), Some(false), Some(true), Some(false));
    Tool::new(name, description, Arc::new(schema)).with_annotations(hints)
}

/// Runs a tool; the error is for the model to read.
pub async fn call<B: Backend>(server: &Server<B>, headers: HeaderMap, name: &str, arguments: &Arguments) -> Result<Answer, String> {
    let json = |text: String, kind, version| Answer { text, kind, encoding: "json", version };
    let page = |uri: String| {
        let text = server.docs.page(&uri).ok_or_else(|| "there is no such page: see the names in the tool's description".to_owned());
        text.map(|text| Answer { text: text.to_owned(), kind: "documentation", encoding: "markdown", version: "1" })
    };
    let get = |path: String, query: Vec<(&'static str, String)>| server.backend.get(headers.clone(), with_query(path, &query));
    Ok(match name {
        "traceql-search" => {
            let (start, end) = range(arguments)?;
            let query =
                vec![("q", query_of(arguments, false)?), ("start", start.as_second().to_string()), ("end", seconds_up(end).to_string())];
            json(get("/api/search".to_owned(), query).await?, "search-results", "1")
        }
        "traceql-metrics-instant" | "traceql-metrics-range" => {
            let (start, end) = range(arguments)?;
            let nanos = |t: Timestamp| t.as_nanosecond().to_string();
            let query = vec![("q", query_of(arguments, true)?), ("start", nanos(start)), ("end", nanos(end))];
            let (path, kind) = match name {
                "traceql-metrics-range" => ("/api/metrics/query_range", "metrics-range"),
                _ => ("/api/metrics/query", "metrics-instant"),
            };
            json(get(path.to_owned(), query).await?, kind, "1")
        }
        "get-trace" => json(get(below("/api/v2/traces/", &required(arguments, "trace_id")?, ""), vec![]).await?, "trace", "2"),
        "trace-diff" => json(server.backend.post(headers, "/api/v2/traces/diff", diff_of(arguments)?).await?, "trace-diff", "0"),
        "get-attribute-names" => {
            let scope = optional(arguments, "scope")?.map(|s| ("scope", s)).into_iter().collect();
            json(get("/api/v2/search/tags".to_owned(), scope).await?, "attribute-names", "2")
        }
        "get-attribute-values" => {
            let filter = optional(arguments, "filter-query")?.map(|q| readable(q).map(|q| ("q", q))).transpose()?.into_iter().collect();
            let path = below("/api/v2/search/tag/", &required(arguments, "name")?, "/values");
            json(get(path, filter).await?, "attribute-values", "2")
        }
        "docs-traceql" => page(format!("docs://traceql/{}", required(arguments, "name")?))?,
        "docs-config" => page(format!("docs://config/{}", required(arguments, "name")?.trim_start_matches("config-")))?,
        "sql-query" => json(server.backend.sql(headers, required(arguments, "query")?).await?, "sql-rows", "1"),
        other => return Err(format!("there is no tool {other}")),
    })
}

fn optional(arguments: &Arguments, name: &str) -> Result<Option<String>, String> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("argument {name} is {other}: give it as a string")),
    }
}

fn required(arguments: &Arguments, name: &str) -> Result<String, String> {
    optional(arguments, name)?.ok_or_else(|| format!("argument {name} is missing"))
}

/// The argument `query`, if it is of the kind that a tool takes. A model that gets this wrong is told which tool is right.
fn query_of(arguments: &Arguments, metrics: bool) -> Result<String, String> {
    let text = required(arguments, "query")?;
    let query = parse(&text).map_err(|e| format!("query parse error, see the tool docs-traceql: {e}"))?;
    match (matches!(query.root, Root::Metrics(_)), metrics) {
        (true, false) => Err("this is a TraceQL metrics query: use traceql-metrics-instant or traceql-metrics-range".to_owned()),
        (false, true) => Err("this is a TraceQL search, not a metrics query: use traceql-search".to_owned()),
        _ => Ok(text),
    }
}

/// A filter of values. The API takes one that is still being typed for no filter at all, which a model would not notice.
fn readable(filter: String) -> Result<String, String> {
    match groups(&filter) {
        Ok(groups) if groups.is_empty() => {
            Err("invalid filter-query: give one filter with scoped attributes, { span.a = 1 && name = `b` }".to_owned())
        }
        Ok(_) => Ok(filter),
        Err(e) => Err(format!("invalid filter-query: {e}")),
    }
}

/// The body of a request to compare two traces.
fn diff_of(arguments: &Arguments) -> Result<String, String> {
    let side = |id: &str, start: &str, end: &str| {
        let mut side = json!({ "traceId": required(arguments, id)? });
        match (time(arguments, start)?, time(arguments, end)?) {
            (None, None) => {}
            (Some(from), Some(to)) => {
                side["start"] = json!(from.as_second());
                side["end"] = json!(seconds_up(to));
            }
            _ => return Err(format!("give both {start} and {end}, or neither")),
        }
        Ok(side)
    };
    let base = side("base_trace_id", "base_start", "base_end")?;
    let compare = side("compare_trace_id", "compare_start", "compare_end")?;
    let format = optional(arguments, "format")?.unwrap_or_else(|| "trace-summary-v0-composed".to_owned());
    Ok(json!({ "base": base, "compare": compare, "format": format }).to_string())
}

fn time(arguments: &Arguments, name: &str) -> Result<Option<Timestamp>, String> {
    let read =
        |text: String| text.parse().map_err(|_| format!("invalid {name} time: {text:?} is not in RFC 3339, such as 2026-01-15T12:00:00Z"));
    optional(arguments, name)?.map(read).transpose()
}

/// `start` and `end`: the last hour, or the hour before the end.
fn range(arguments: &Arguments) -> Result<(Timestamp, Timestamp), String> {
    let (start, end) = (time(arguments, "start")?, time(arguments, "end")?);
    let end = match end {
        Some(end) => end,
        None => now()?,
    };
    let start = match start {
        Some(start) => start,
        None => end.checked_sub(jiff::SignedDuration::from_hours(1)).map_err(|e| e.to_string())?,
    };
    if start >= end {
        return Err(format!("start ({start}) must be before end ({end})"));
    }
    Ok((start, end))
}

fn now() -> Result<Timestamp, String> {
    Timestamp::from_nanosecond(clock::now_unix_nanos().into()).map_err(|e| e.to_string())
}

/// A search takes whole seconds: those of the range and no less.
fn seconds_up(time: Timestamp) -> i64 {
    time.as_second() + i64::from(time.subsec_nanosecond() > 0)
}

/// A path with a part that may hold anything.
fn below(before: &str, part: &str, after: &str) -> String {
    let escaped: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
    format!("{before}{}{after}", escaped.replace('+', "%20"))
}

fn with_query(path: String, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path;
    }
    let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_are_escaped() {
        assert_eq!(below("/tag/", "span.\"a b\"/c", "/values"), "/tag/span.%22a%20b%22%2Fc/values");
        assert_eq!(with_query("/x".to_owned(), &[("q", "{ a = 1 }".to_owned())]), "/x?q=%7B+a+%3D+1+%7D");
        assert_eq!(with_query("/x".to_owned(), &[]), "/x");
    }

    #[test]
    fn arguments_are_checked() {
        let of = |value: Value| value.as_object().unwrap().clone();
        let given = of(json!({"start": "2026-01-15T12:00:00Z", "end": "2026-01-15T12:00:01.5Z", "n": 3, "empty": ""}));
        let (start, end) = range(&given).unwrap();
        assert_eq!((start.as_second(), seconds_up(end)), (1_768_478_400, 1_768_478_402));
        assert!(required(&given, "n").unwrap_err().contains("as a string") && required(&given, "empty").unwrap_err().contains("missing"));
        let hour = range(&of(json!({"end": "2026-01-15T12:00:00Z"}))).unwrap();
        assert_eq!(hour.1.as_second() - hour.0.as_second(), 3600);
        assert!(range(&of(json!({"start": "yesterday"}))).unwrap_err().contains("RFC 3339"));
        assert!(range(&of(json!({"start": "2026-01-15T12:00:00Z", "end": "2026-01-15T12:00:00Z"}))).unwrap_err().contains("before end"));
    }

    #[test]
    fn every_tool_describes_its_arguments() {
        let tools = all();
        assert_eq!(tools.len(), TOOLS.len());
        for tool in tools {
            let schema = Value::Object((*tool.input_schema).clone());
            assert!(schema["properties"].is_object() && schema["required"].is_array(), "{}", tool.name);
        }
    }
}
