//! A trace in the JSON of Jaeger's API v1: spans with tags, logs and references, and the processes they belong to.
//!
//! How OTLP maps onto it is OpenTelemetry's page "OpenTelemetry to Jaeger Transformation".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tracehouse_engine::{
    Trace,
    trace::{AnyValue, InstrumentationScope, KeyValue, ResourceSpans, Span, Value as Any},
};

use crate::result::{json::double, llm};

/// Largest whole number that JavaScript holds exactly.
const JS_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The trace.
pub fn trace(trace: &Trace) -> Value {
    let mut processes = Processes::default();
    let mut spans = Vec::new();
    for rs in &trace.resource_spans {
        let process = processes.id_of(rs);
        for ss in &rs.scope_spans {
            spans.extend(ss.spans.iter().map(|s| span(s, ss.scope.as_ref(), &process)));
        }
    }
    let processes: Map<String, Value> = processes.0.into_iter().enumerate().map(|(i, p)| (process_id(i), p)).collect();
    json!({"traceID": trace_id(&trace.id.0), "spans": spans, "processes": processes, "warnings": null})
}

/// The processes of a trace; equal ones are one.
#[derive(Default)]
struct Processes(Vec<Value>);

impl Processes {
    fn id_of(&mut self, rs: &ResourceSpans) -> String {
        let attributes = rs.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let name = service_name(attributes);
        let tags: Vec<Value> = attributes.iter().filter(|a| a.key != "service.name").map(tag).collect();
        let process = json!({"serviceName": name, "tags": tags});
        let at = self.0.iter().position(|p| *p == process).unwrap_or_else(|| {
            self.0.push(process);
            self.0.len() - 1
        });
        process_id(at)
    }
}

fn process_id(at: usize) -> String {
    format!("p{}", at + 1)
}

/// The name of a resource's service, or the one that OTLP gives to those without.
pub fn service_name(attributes: &[KeyValue]) -> &str {
    let name = attributes.iter().find(|a| a.key == "service.name").and_then(|a| a.value.as_ref());
    match name.and_then(|v| v.value.as_ref()) {
        Some(Any::StringValue(name)) if !name.is_empty() => name,
        _ => "unknown_service",
    }
}

fn span(span: &Span, scope: Option<&InstrumentationScope>, process: &str) -> Value {
    let mut tags = Vec::new();
    if let Some(scope) = scope {
        tags.extend(text_tag("otel.scope.name", &scope.name));
        tags.extend(text_tag("otel.scope.version", &scope.version));
    }
    tags.extend(span.attributes.iter().map(tag));
    let kind = ["", "internal", "server", "client", "producer", "consumer"].get(span.kind.unsigned_abs() as usize);
    tags.extend(text_tag("span.kind", kind.unwrap_or(&"")));
    let (code, message) = span.status.as_ref().map_or((0, ""), |s| (s.code, s.message.as_str()));
    match code {
        1 => tags.extend(text_tag("otel.status_code", "OK")),
        2 => {
            tags.extend(text_tag("otel.status_code", "ERROR"));
            tags.push(json!({"key": "error", "type": "bool", "value": true}));
        }
        _ => {}
    }
    tags.extend(text_tag("otel.status_description", message));
    tags.extend(text_tag("w3c.tracestate", &span.trace_state));
    let nanos = span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64;
    json!({
        "traceID": trace_id(&span.trace_id),
        "spanID": hex::encode(&span.span_id),
        "operationName": span.name,
        "references": references(span),
        "startTime": span.start_time_unix_nano / 1000,
        "duration": nanos.max(0) / 1000,
        "tags": tags,
        "logs": span.events.iter().map(|event| {
            let mut fields: Vec<Value> = text_tag("event", &event.name).into_iter().collect();
            fields.extend(event.attributes.iter().map(tag));
            json!({"timestamp": event.time_unix_nano / 1000, "fields": fields})
        }).collect::<Vec<_>>(),
        "processID": process,
        "warnings": null,
    })
}

/// The parent first, then the links.
fn references(span: &Span) -> Vec<Value> {
    let reference = |kind: &str, trace: &[u8], id: &[u8]| json!({"refType": kind, "traceID": trace_id(trace), "spanID": hex::encode(id)});
    let parent = (!span.parent_span_id.is_empty()).then(|| reference("CHILD_OF", &span.trace_id, &span.parent_span_id));
    parent.into_iter().chain(span.links.iter().map(|l| reference("FOLLOWS_FROM", &l.trace_id, &l.span_id))).collect()
}

/// Jaeger's form of a trace id: 16 digits if the upper half is zero, else 32.
fn trace_id(id: &[u8]) -> String {
    let text = hex::encode(id);
    match text.strip_prefix("0000000000000000") {
        Some(lower) if lower.len() == 16 => lower.to_owned(),
        _ => text,
    }
}

fn text_tag(key: &str, value: &str) -> Option<Value> {
    (!value.is_empty()).then(|| json!({"key": key, "type": "string", "value": value}))
}

fn tag(attribute: &KeyValue) -> Value {
    let empty = AnyValue::default();
    let value = attribute.value.as_ref().unwrap_or(&empty);
    let (kind, shown) = match &value.value {
        Some(Any::StringValue(v)) => ("string", json!(v)),
        Some(Any::BoolValue(v)) => ("bool", json!(v)),
        Some(Any::IntValue(v)) if v.unsigned_abs() > JS_INTEGER_MAX => ("int64", json!(v.to_string())),
        Some(Any::IntValue(v)) => ("int64", json!(v)),
        Some(Any::DoubleValue(v)) => ("float64", double(*v)),
        Some(Any::BytesValue(v)) => ("binary", json!(STANDARD.encode(v))),
        // Lists and maps have no type there: they are shown as JSON.
        Some(_) => ("string", json!(llm::any_value(value).to_string())),
        None => ("string", json!("")),
    };
    json!({"key": attribute.key, "type": kind, "value": shown})
}
