//! Spans to send, and the multiset of spans that must come back.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
};
use prost::Message;

/// One attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// A text attribute.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// The OTLP value of a JSON value: an integer without a point is an int, an object is a key/value list.
pub fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    match json {
        J::Null => panic!("an attribute without a value: leave it out"),
        J::Bool(b) => Value::BoolValue(*b),
        J::String(s) => Value::StringValue(s.clone()),
        J::Number(n) => n.as_i64().map_or_else(|| Value::DoubleValue(n.as_f64().unwrap()), Value::IntValue),
        J::Array(items) => {
            let values = items.iter().map(|v| AnyValue { value: Some(value_of(v)) }).collect();
            Value::ArrayValue(ArrayValue { values })
        }
        J::Object(map) => {
            let values = map.iter().map(|(k, v)| attribute(k, value_of(v))).collect();
            Value::KvlistValue(KeyValueList { values })
        }
    }
}

/// A span of one millisecond with what a span must have.
pub fn span(trace: &[u8], id: u64, name: &str, start: u64) -> Span {
    Span {
        trace_id: trace.to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000,
        ..Default::default()
    }
}

/// A request with these spans of one service.
pub fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource { attributes: vec![text("service.name", service)], ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(InstrumentationScope::default()), spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }] }
}

/// The spans of a trace in a form that does not depend on grouping and order: resource, scope and span, encoded, each with
/// attributes in order of their keys. Counted, because a span that came twice must be seen.
pub type Spans = BTreeMap<[Vec<u8>; 3], usize>;

/// The spans of some resource spans, by trace id.
pub fn by_trace(resource_spans: &[ResourceSpans]) -> BTreeMap<Vec<u8>, Spans> {
    let mut traces: BTreeMap<Vec<u8>, Spans> = BTreeMap::new();
    for rs in resource_spans {
        let mut resource = rs.resource.clone().unwrap_or_default();
        sort(&mut resource.attributes);
        resource.entity_refs.clear(); // no block can hold them
        // Blocks read a blank service name as none, and protobuf answers name a resource without attributes for Grafana.
        resource.attributes.retain(|a| *a != text("service.name", ""));
        if resource.attributes == [text("service.name", "unknown_service")] {
            resource.attributes.clear();
        }
        for ss in &rs.scope_spans {
            let mut scope = ss.scope.clone().unwrap_or_default();
            sort(&mut scope.attributes);
            for span in &ss.spans {
                let key = [resource.encode_to_vec(), scope.encode_to_vec(), normal(span).encode_to_vec()];
                *traces.entry(span.trace_id.clone()).or_default().entry(key).or_default() += 1;
            }
        }
    }
    traces
}

/// The spans of one trace.
pub fn spans_of(trace: &TracesData) -> Spans {
    let mut traces = by_trace(&trace.resource_spans);
    assert!(traces.len() <= 1, "a trace with spans of {} traces", traces.len());
    traces.pop_first().map(|(_, spans)| spans).unwrap_or_default()
}

/// What is wrong with the spans of a trace that came back: each that was sent is there, none that was not. One that was sent
/// more than once may be there once or as often, Tempo itself keeps copies apart until it merges blocks.
pub fn difference(sent: &Spans, got: &Spans) -> Option<String> {
    let missing = sent.keys().filter(|k| !got.contains_key(*k));
    let extra = got.iter().filter(|(k, n)| sent.get(*k).is_none_or(|s| s < n)).map(|(k, _)| k);
    let (missing, extra): (Vec<_>, Vec<_>) = (missing.map(show).collect(), extra.map(show).collect());
    let shown = |list: &[String]| list.iter().take(2).cloned().collect::<Vec<_>>().join("\n  ");
    (!missing.is_empty() || !extra.is_empty())
        .then(|| format!("{} missing:\n  {}\n{} unexpected:\n  {}", missing.len(), shown(&missing), extra.len(), shown(&extra)))
}

fn show([resource, scope, span]: &[Vec<u8>; 3]) -> String {
    let (resource, scope) = (Resource::decode(&resource[..]), InstrumentationScope::decode(&scope[..]));
    format!("{:?} {scope:?} {resource:?}", Span::decode(&span[..]))
}

fn normal(span: &Span) -> Span {
    let mut span = span.clone();
    sort(&mut span.attributes);
    span.flags = 0; // no block can hold them
    span.status = span.status.filter(|s| *s != Default::default());
    for event in &mut span.events {
        sort(&mut event.attributes);
    }
    for link in &mut span.links {
        sort(&mut link.attributes);
        link.flags = 0;
    }
    // The order of events and links carries no meaning.
    span.events.sort_by_key(Message::encode_to_vec);
    span.links.sort_by_key(Message::encode_to_vec);
    span
}

fn sort(attributes: &mut Vec<KeyValue>) {
    // Columns of promoted attributes do not tell an array of one from a scalar, and an empty one from none.
    let promoted = |key: &str| ["k8s.", "http.", "url.", "server."].iter().any(|p| key.starts_with(p));
    for attribute in attributes.iter_mut().filter(|a| promoted(&a.key)) {
        if let Some(Value::ArrayValue(array)) = attribute.value.as_ref().and_then(|v| v.value.as_ref())
            && let [one] = array.values.as_slice()
        {
            attribute.value = Some(one.clone());
        }
    }
    let empty = |a: &KeyValue| matches!(a.value.as_ref().and_then(|v| v.value.as_ref()), Some(Value::ArrayValue(l)) if l.values.is_empty());
    attributes.retain(|a| !(promoted(&a.key) && empty(a)));
    attributes.sort_by_key(Message::encode_to_vec);
}
