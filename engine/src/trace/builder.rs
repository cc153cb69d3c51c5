//! Small traces for tests: `trace([resource([("service.name", text("a"))], [scope("lib", [], [span(1, 0)])])])`.

use super::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, Resource, ResourceSpans, ScopeSpans, Span, Status, Trace, TraceId,
    Value,
};

/// The id of every trace made here.
pub const ID: TraceId = TraceId([7; 16]);

/// A trace of these groups.
pub fn trace(resource_spans: impl IntoIterator<Item = ResourceSpans>) -> Trace {
    Trace { id: ID, resource_spans: resource_spans.into_iter().collect() }
}

/// One resource's spans.
pub fn resource<'a>(
    attributes: impl IntoIterator<Item = (&'a str, Value)>,
    scope_spans: impl IntoIterator<Item = ScopeSpans>,
) -> ResourceSpans {
    let resource = Resource { attributes: self::attributes(attributes), ..Resource::default() };
    ResourceSpans { resource: Some(resource), scope_spans: scope_spans.into_iter().collect(), schema_url: String::new() }
}

/// One scope's spans.
pub fn scope<'a>(name: &str, attributes: impl IntoIterator<Item = (&'a str, Value)>, spans: impl IntoIterator<Item = Span>) -> ScopeSpans {
    let scope = InstrumentationScope { name: name.to_owned(), attributes: self::attributes(attributes), ..InstrumentationScope::default() };
    ScopeSpans { scope: Some(scope), spans: spans.into_iter().collect(), schema_url: String::new() }
}

/// The span `id`, called `span id`; parent 0 is none. It starts at `id` and lasts 10 ns.
pub fn span(id: u64, parent: u64) -> Span {
    Span {
        trace_id: ID.0.to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: format!("span {id}"),
        kind: 1,
        start_time_unix_nano: id,
        end_time_unix_nano: id + 10,
        ..Span::default()
    }
}

/// A status with this number.
pub fn status(code: i32) -> Option<Status> {
    Some(Status { code, message: String::new() })
}

/// Attributes.
pub fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<KeyValue> {
    pairs.into_iter().map(|(key, value)| KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }).collect()
}

/// An array of values.
pub fn array(values: impl IntoIterator<Item = Value>) -> Value {
    Value::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() })
}

/// A list of keys and values.
pub fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::KvlistValue(KeyValueList { values: attributes(pairs) })
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// A string value.
pub fn text(s: &str) -> Value {
    Value::StringValue(s.to_owned())
}

/// An integer value.
pub fn int(i: i64) -> Value {
    Value::IntValue(i)
}

/// A floating-point value.
pub fn double(d: f64) -> Value {
    Value::DoubleValue(d)
}
