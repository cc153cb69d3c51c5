//! Whole traces in Tempo's two forms: protobuf, and the JSON of the old `jsonpb` (ids in base64, enums by name).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event, span::Link},
};
use serde_json::{Map, Value, json};

use super::json::double;

/// `tempopb.Trace`: wire-compatible with OTLP's `TracesData`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trace {
    /// The spans, by resource and scope.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `tempopb.TraceByIDResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceByIdResponse {
    /// The trace; empty if not found.
    #[prost(message, optional, tag = "1")]
    pub trace: Option<Trace>,
    /// What finding it cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<TraceByIdMetrics>,
    /// 0 complete, 1 partial.
    #[prost(int32, tag = "3")]
    pub status: i32,
    /// Why it is partial.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// `tempopb.TraceByIDMetrics`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TraceByIdMetrics {
    /// Bytes read from the store.
    #[prost(uint64, tag = "1")]
    pub inspected_bytes: u64,
}

/// Fills in the submessages that Grafana's reader expects to be there, and gives a resource without attributes the
/// service name that shows it is unknown (Grafana drops such a resource's spans otherwise).
pub fn complete(mut resource_spans: Vec<ResourceSpans>, name_unknown: bool) -> Trace {
    for rs in &mut resource_spans {
        let resource = rs.resource.get_or_insert_with(Resource::default);
        if name_unknown && resource.attributes.is_empty() {
            let value = Some(AnyValue { value: Some(Any::StringValue("unknown_service".to_owned())) });
            resource.attributes.push(KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() });
        }
        for ss in &mut rs.scope_spans {
            ss.scope.get_or_insert_with(InstrumentationScope::default);
            for span in &mut ss.spans {
                span.status.get_or_insert_with(Status::default);
            }
        }
    }
    Trace { resource_spans }
}

/// A JSON object whose zero values are left out.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(mut self, key: &str, value: Value) -> Self {
        let zero = match &value {
            Value::Null => true,
            Value::String(s) => s.is_empty() || s == "0",
            Value::Array(a) => a.is_empty(),
            Value::Number(n) => n.as_u64() == Some(0),
            _ => false,
        };
        if !zero {
            self.0.insert(key.to_owned(), value);
        }
        self
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// The groups of a trace as JSON: `batches` of the old answer, `resourceSpans` of the new one.
pub fn to_json(trace: &Trace) -> Value {
    list(&trace.resource_spans, resource_spans)
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(each).collect())
}

fn resource_spans(rs: &ResourceSpans) -> Value {
    let resource = rs.resource.as_ref().map(|r| {
        Object::default()
            .put("attributes", attributes(&r.attributes))
            .put("droppedAttributesCount", json!(r.dropped_attributes_count))
            .done()
    });
    let mut out = Object::default().put("scopeSpans", list(&rs.scope_spans, scope_spans)).put("schemaUrl", json!(rs.schema_url));
    out.0.insert("resource".to_owned(), resource.unwrap_or_else(|| json!({})));
    out.done()
}

fn scope_spans(ss: &ScopeSpans) -> Value {
    let scope = ss.scope.as_ref().map(|s| {
        Object::default()
            .put("name", json!(s.name))
            .put("version", json!(s.version))
            .put("attributes", attributes(&s.attributes))
            .put("droppedAttributesCount", json!(s.dropped_attributes_count))
            .done()
    });
    let mut out = Object::default().put("spans", list(&ss.spans, span)).put("schemaUrl", json!(ss.schema_url));
    out.0.insert("scope".to_owned(), scope.unwrap_or_else(|| json!({})));
    out.done()
}

/// OTLP's name of a kind of span; none for 0 and for numbers that OTLP does not define.
pub fn kind_name(kind: i32) -> Option<&'static str> {
    match kind {
        1 => Some("SPAN_KIND_INTERNAL"),
        2 => Some("SPAN_KIND_SERVER"),
        3 => Some("SPAN_KIND_CLIENT"),
        4 => Some("SPAN_KIND_PRODUCER"),
        5 => Some("SPAN_KIND_CONSUMER"),
        _ => None,
    }
}

/// OTLP's name of a status; none for 0 and for numbers that OTLP does not define.
pub fn status_name(code: i32) -> Option<&'static str> {
    match code {
        1 => Some("STATUS_CODE_OK"),
        2 => Some("STATUS_CODE_ERROR"),
        _ => None,
    }
}

fn span(span: &Span) -> Value {
    let kind = kind_name(span.kind).map_or_else(|| json!(span.kind), |name| json!(name));
    let status = span.status.as_ref().map(|s| {
        let code = status_name(s.code).map_or_else(|| json!(s.code), |name| json!(name));
        Object::default().put("message", json!(s.message)).put("code", code).done()
    });
    let mut out = Object::default()
        .put("traceId", base64(&span.trace_id))
        .put("spanId", base64(&span.span_id))
        .put("parentSpanId", base64(&span.parent_span_id))
        .put("traceState", json!(span.trace_state))
        .put("flags", json!(span.flags))
        .put("name", json!(span.name))
        .put("kind", kind)
        .put("startTimeUnixNano", json!(span.start_time_unix_nano.to_string()))
        .put("endTimeUnixNano", json!(span.end_time_unix_nano.to_string()))
        .put("attributes", attributes(&span.attributes))
        .put("droppedAttributesCount", json!(span.dropped_attributes_count))
        .put("events", list(&span.events, event))
        .put("droppedEventsCount", json!(span.dropped_events_count))
        .put("links", list(&span.links, link))
        .put("droppedLinksCount", json!(span.dropped_links_count));
    out.0.insert("status".to_owned(), status.unwrap_or_else(|| json!({})));
    out.done()
}

fn event(event: &Event) -> Value {
    Object::default()
        .put("timeUnixNano", json!(event.time_unix_nano.to_string()))
        .put("name", json!(event.name))
        .put("attributes", attributes(&event.attributes))
        .put("droppedAttributesCount", json!(event.dropped_attributes_count))
        .done()
}

fn link(link: &Link) -> Value {
    Object::default()
        .put("traceId", base64(&link.trace_id))
        .put("spanId", base64(&link.span_id))
        .put("traceState", json!(link.trace_state))
        .put("attributes", attributes(&link.attributes))
        .put("droppedAttributesCount", json!(link.dropped_attributes_count))
        .put("flags", json!(link.flags))
        .done()
}

fn base64(bytes: &[u8]) -> Value {
    json!(STANDARD.encode(bytes))
}

fn attributes(attributes: &[KeyValue]) -> Value {
    list(attributes, |a| json!({"key": a.key, "value": a.value.as_ref().map_or_else(|| json!({}), any_value)}))
}

fn any_value(value: &AnyValue) -> Value {
    match &value.value {
        None => json!({}),
        Some(Any::StringValue(v)) => json!({"stringValue": v}),
        Some(Any::BoolValue(v)) => json!({"boolValue": v}),
        Some(Any::IntValue(v)) => json!({"intValue": v.to_string()}),
        Some(Any::DoubleValue(v)) => json!({"doubleValue": double(*v)}),
        Some(Any::BytesValue(v)) => json!({"bytesValue": base64(v)}),
        Some(Any::ArrayValue(v)) => json!({"arrayValue": {"values": list(&v.values, any_value)}}),
        Some(Any::KvlistValue(v)) => json!({"kvlistValue": {"values": attributes(&v.values)}}),
        Some(_) => json!({}),
    }
}
