//! Answers as a language model reads them best: attributes as plain JSON, ids in hex, spans below their service; values by type.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::{ResourceSpans, Span},
};
use serde_json::{Map, Value, json};

use super::{
    json::double,
    trace::{Trace, kind_name, status_name},
};
use crate::tags::TagValues;

/// The media type of this form.
pub const MEDIA_TYPE: &str = "application/vnd.grafana.llm+json";

/// A trace; `{}` if it has no spans. `message` says why the trace is partial.
pub fn to_json(trace: &Trace, inspected_bytes: u64, message: &str) -> Value {
    let Some(first) = trace.resource_spans.iter().flat_map(|rs| &rs.scope_spans).flat_map(|ss| &ss.spans).next() else {
        return json!({});
    };
    let services: Vec<Value> = trace.resource_spans.iter().map(service).collect();
    let mut out = Map::new();
    out.insert("trace".to_owned(), json!({"traceId": hex::encode(&first.trace_id), "services": services}));
    if inspected_bytes > 0 {
        out.insert("metrics".to_owned(), json!({ "inspectedBytes": inspected_bytes }));
    }
    out.insert("status".to_owned(), json!(if message.is_empty() { "COMPLETE" } else { "PARTIAL" }));
    put(&mut out, "message", json!(message));
    Value::Object(out)
}

/// Values of a tag by their type.
pub fn values_to_json(found: &TagValues) -> Value {
    let mut types: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for value in &found.values {
        types.entry(value.r#type).or_default().push(&value.value);
    }
    let mut out = json!({ "tagValues": types });
    if found.cost.inspected_bytes > 0 {
        out["metrics"] = json!({ "inspectedBytes": found.cost.inspected_bytes });
    }
    out
}

fn service(rs: &ResourceSpans) -> Value {
    let mut out = Map::new();
    let mut resource = plain(rs.resource.as_ref().map_or(&[], |r| &r.attributes));
    if let Some(Value::String(name)) = resource.get("service.name").cloned() {
        resource.remove("service.name");
        put(&mut out, "serviceName", json!(name));
    }
    put(&mut out, "resource", Value::Object(resource));
    let scopes = rs.scope_spans.iter().map(|ss| {
        let mut out = Map::new();
        if let Some(scope) = &ss.scope {
            put(&mut out, "name", json!(scope.name));
            put(&mut out, "version", json!(scope.version));
        }
        put(&mut out, "spans", ss.spans.iter().map(span).collect());
        Value::Object(out)
    });
    put(&mut out, "scopes", scopes.collect());
    Value::Object(out)
}

fn span(span: &Span) -> Value {
    let mut out = Map::new();
    out.insert("spanId".to_owned(), json!(hex::encode(&span.span_id)));
    out.insert("name".to_owned(), json!(span.name));
    put(&mut out, "parentSpanId", json!(hex::encode(&span.parent_span_id)));
    put(&mut out, "kind", kind_name(span.kind).map_or(Value::Null, |k| json!(k)));
    put(&mut out, "startTimeUnixNano", json!(span.start_time_unix_nano.to_string()));
    put(&mut out, "endTimeUnixNano", json!(span.end_time_unix_nano.to_string()));
    // A span that ends before it starts has a negative duration.
    let nanos = span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64;
    out.insert("durationMs".to_owned(), json!(nanos as f64 / 1e6));
    put(&mut out, "attributes", Value::Object(plain(&span.attributes)));
    let events = span.events.iter().map(|e| {
        let mut out = Map::new();
        out.insert("name".to_owned(), json!(e.name));
        put(&mut out, "timeUnixNano", json!(e.time_unix_nano.to_string()));
        put(&mut out, "attributes", Value::Object(plain(&e.attributes)));
        Value::Object(out)
    });
    put(&mut out, "events", events.collect());
    let links = span.links.iter().map(|l| {
        let mut out = Map::new();
        out.insert("traceId".to_owned(), json!(hex::encode(&l.trace_id)));
        out.insert("spanId".to_owned(), json!(hex::encode(&l.span_id)));
        put(&mut out, "attributes", Value::Object(plain(&l.attributes)));
        Value::Object(out)
    });
    put(&mut out, "links", links.collect());
    let (code, message) = span.status.as_ref().map_or((0, ""), |s| (s.code, s.message.as_str()));
    let code = status_name(code).unwrap_or("STATUS_CODE_UNSET");
    out.insert("status".to_owned(), json!({"code": code, "message": message}));
    Value::Object(out)
}

/// Puts a value unless it is empty.
fn put(out: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::String(s) => s.is_empty() || s == "0",
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    if !empty {
        out.insert(key.to_owned(), value);
    }
}

/// Attributes as one JSON object.
fn plain(attributes: &[KeyValue]) -> Map<String, Value> {
    attributes.iter().filter_map(|a| Some((a.key.clone(), any_value(a.value.as_ref()?)))).collect()
}

/// An attribute's value as plain JSON: bytes in hex, lists and maps as themselves.
pub fn any_value(value: &AnyValue) -> Value {
    match &value.value {
        Some(Any::StringValue(v)) => json!(v),
        Some(Any::BoolValue(v)) => json!(v),
        Some(Any::IntValue(v)) => json!(v),
        Some(Any::DoubleValue(v)) => double(*v),
        Some(Any::BytesValue(v)) => json!(hex::encode(v)),
        Some(Any::ArrayValue(v)) => v.values.iter().map(any_value).collect(),
        Some(Any::KvlistValue(v)) => Value::Object(plain(&v.values)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::InstrumentationScope,
        resource::v1::Resource,
        trace::v1::{ScopeSpans, Status},
    };

    use super::*;

    fn text(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    #[test]
    fn a_trace_reads_plainly() {
        let span = Span {
            trace_id: vec![0, 1],
            span_id: vec![2],
            name: "get".to_owned(),
            kind: 2,
            start_time_unix_nano: 1_000_000,
            end_time_unix_nano: 3_500_000,
            attributes: vec![text("a", "b")],
            status: Some(Status { code: 2, message: "no".to_owned() }),
            ..Span::default()
        };
        let scope = Some(InstrumentationScope { name: "lib".to_owned(), ..Default::default() });
        let rs = ResourceSpans {
            resource: Some(Resource { attributes: vec![text("service.name", "shop"), text("host", "h")], ..Default::default() }),
            scope_spans: vec![ScopeSpans { scope, spans: vec![span], ..Default::default() }],
            ..Default::default()
        };
        let trace = Trace { resource_spans: vec![rs] };
        assert_eq!(
            to_json(&trace, 7, ""),
            json!({"trace": {"traceId": "0001", "services": [{"serviceName": "shop", "resource": {"host": "h"}, "scopes": [
                {"name": "lib", "spans": [{"spanId": "02", "name": "get", "kind": "SPAN_KIND_SERVER", "startTimeUnixNano": "1000000",
                  "endTimeUnixNano": "3500000", "durationMs": 2.5, "attributes": {"a": "b"},
                  "status": {"code": "STATUS_CODE_ERROR", "message": "no"}}]}]}]},
                "metrics": {"inspectedBytes": 7}, "status": "COMPLETE"})
        );
        assert_eq!(to_json(&Trace::default(), 7, ""), json!({}));
    }
}
