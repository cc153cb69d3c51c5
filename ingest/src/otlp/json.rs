//! OTLP/JSON to OTLP: protobuf's JSON mapping, but ids in hexadecimal.
//!
//! Tolerant where the specification and protobuf's mapping are: field names in lowerCamelCase or as in the `.proto` file,
//! `null` for "not there", 64-bit integers as strings or numbers, enums as numbers or names, ids in base64, unknown fields ignored. The
//! `Deserialize` of opentelemetry-proto is not (an unknown field in a value, a missing `values` and others fail), so this
//! reads a JSON tree by itself. Errors name the path of the field.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::EntityRef,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use serde_json::{Map, Value as Json};
use tracehouse_engine::{
    Error, Result,
    trace::{
        AnyValue, ArrayValue, Event, InstrumentationScope, KeyValue, KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status,
        Value,
    },
};

/// Values nested deeper than this are refused: as protobuf they could not be read back (its decoder stops at 100 messages).
const MAX_VALUE_DEPTH: usize = 24;

const PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDING);

/// Reads an `ExportTraceServiceRequest`. Fails with `Invalid`.
pub fn decode(body: &[u8]) -> Result<ExportTraceServiceRequest> {
    let json: Json = serde_json::from_slice(body).map_err(|e| Error::invalid("the body is not valid JSON").with_source(e))?;
    let decoded = object(&json).and_then(|o| Ok(ExportTraceServiceRequest { resource_spans: o.list("resourceSpans", resource_spans)? }));
    decoded.map_err(|e| Error::invalid(format!("not an OTLP trace request: {e}")))
}

/// What is wrong, and where.
struct Wrong {
    path: String,
    what: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.trim_start_matches('.');
        write!(f, "{} {}", if path.is_empty() { "the body" } else { path }, self.what)
    }
}

impl Wrong {
    fn within(mut self, outer: &str) -> Self {
        self.path.insert_str(0, outer);
        self
    }
}

type Read<T> = std::result::Result<T, Wrong>;

fn wrong<T>(what: impl Into<String>) -> Read<T> {
    Err(Wrong { path: String::new(), what: what.into() })
}

/// A JSON object whose fields are read by their lowerCamelCase name.
#[derive(Clone, Copy)]
struct Object<'a>(&'a Map<String, Json>);

fn object(json: &Json) -> Read<Object<'_>> {
    json.as_object().map_or_else(|| wrong("must be an object"), |map| Ok(Object(map)))
}

fn snake_case(name: &str) -> String {
    name.chars().flat_map(|c| c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()])).collect()
}

impl<'a> Object<'a> {
    fn get(self, name: &str) -> Option<&'a Json> {
        let value = self.0.get(name).or_else(|| self.0.get(&snake_case(name)));
        value.filter(|v| !v.is_null())
    }

    /// A field, or the default if it is not there.
    fn field<T: Default>(self, name: &str, read: impl FnOnce(&'a Json) -> Read<T>) -> Read<T> {
        self.get(name).map_or_else(|| Ok(T::default()), |v| read(v).map_err(|e| e.within(&format!(".{name}"))))
    }

    fn message<T>(self, name: &str, read: impl FnOnce(Object<'a>) -> Read<T>) -> Read<Option<T>> {
        self.field(name, |v| object(v).and_then(read).map(Some))
    }

    fn list<T>(self, name: &str, read: impl Fn(Object<'a>) -> Read<T>) -> Read<Vec<T>> {
        self.field(name, |v| each(v, |item| object(item).and_then(&read)))
    }
}

fn each<'a, T>(json: &'a Json, read: impl Fn(&'a Json) -> Read<T>) -> Read<Vec<T>> {
    let Some(items) = json.as_array() else { return wrong("must be an array") };
    items.iter().enumerate().map(|(i, item)| read(item).map_err(|e| e.within(&format!("[{i}]")))).collect()
}

fn text(json: &Json) -> Read<String> {
    json.as_str().map_or_else(|| wrong("must be a string"), |s| Ok(s.to_owned()))
}

/// An id in hexadecimal. Also one in base64, as protobuf's own mapping (and Tempo's answers) write it: ids of 8 and 16
/// bytes end in `=` then, so the two cannot be mistaken for each other.
fn id(json: &Json) -> Read<Vec<u8>> {
    let base64 = |s: &str| s.ends_with('=').then(|| BASE64.decode(s).ok()).flatten();
    let id = json.as_str().and_then(|s| hex::decode(s).ok().or_else(|| base64(s)));
    id.map_or_else(|| wrong("must be a string of hexadecimal digits"), Ok)
}

fn int(json: &Json) -> Read<i64> {
    let read = match json {
        Json::String(s) => s.trim().parse().ok(),
        // JavaScript writes large integers as 1e21.
        Json::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9.2e18).map(|f| f as i64)),
        _ => None,
    };
    read.map_or_else(|| wrong("must be a 64-bit integer, as a number or a string"), Ok)
}

fn unsigned(json: &Json) -> Read<u64> {
    let read = match json {
        Json::String(s) => s.trim().parse().ok(),
        Json::Number(n) => n.as_u64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && (0.0..1.8e19).contains(f)).map(|f| f as u64)),
        _ => None,
    };
    read.map_or_else(|| wrong("must be an unsigned 64-bit integer, as a number or a string"), Ok)
}

fn small(json: &Json) -> Read<u32> {
    unsigned(json)?.try_into().or_else(|_| wrong("must be an unsigned 32-bit integer"))
}

fn double(json: &Json) -> Read<f64> {
    let read = match json {
        Json::Number(n) => n.as_f64(),
        Json::String(s) => match s.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            s => s.trim().parse().ok(),
        },
        _ => None,
    };
    read.map_or_else(|| wrong("must be a number, \"NaN\", \"Infinity\" or \"-Infinity\""), Ok)
}

/// An enum by number (also one that is not known) or by one of its names.
fn enumeration(json: &Json, by_name: impl FnOnce(&str) -> Option<i32>) -> Read<i32> {
    match json {
        Json::String(name) => match by_name(name).or_else(|| name.parse().ok()) {
            Some(number) => Ok(number),
            None => wrong(format!("has unknown value {name:?}")),
        },
        other => int(other)?.try_into().or_else(|_| wrong("must be a 32-bit integer")),
    }
}

fn bytes(json: &Json) -> Read<Vec<u8>> {
    let decoded = json.as_str().and_then(|s| BASE64.decode(s).or_else(|_| BASE64_URL.decode(s)).ok());
    decoded.map_or_else(|| wrong("must be a string in base64"), Ok)
}

fn resource_spans(o: Object) -> Read<ResourceSpans> {
    Ok(ResourceSpans {
        resource: o.message("resource", resource)?,
        scope_spans: o.list("scopeSpans", scope_spans)?,
        schema_url: o.field("schemaUrl", text)?,
    })
}

fn resource(o: Object) -> Read<Resource> {
    let entity = |o: Object| {
        Ok(EntityRef {
            schema_url: o.field("schemaUrl", text)?,
            r#type: o.field("type", text)?,
            id_keys: o.field("idKeys", |v| each(v, text))?,
            description_keys: o.field("descriptionKeys", |v| each(v, text))?,
        })
    };
    Ok(Resource {
        attributes: attributes(o)?,
        dropped_attributes_count: o.field("droppedAttributesCount", small)?,
        entity_refs: o.list("entityRefs", entity)?,
    })
}

fn scope_spans(o: Object) -> Read<ScopeSpans> {
    let scope = |o: Object| {
        Ok(InstrumentationScope {
            name: o.field("name", text)?,
            version: o.field("version", text)?,
            attributes: attributes(o)?,
            dropped_attributes_count: o.field("droppedAttributesCount", small)?,
        })
    };
    Ok(ScopeSpans { scope: o.message("scope", scope)?, spans: o.list("spans", span)?, schema_url: o.field("schemaUrl", text)? })
}

fn span(o: Object) -> Read<Span> {
    let kind = |name: &str| SpanKind::from_str_name(name).map(|k| k as i32);
    let code = |name: &str| StatusCode::from_str_name(name).map(|c| c as i32);
    let status = |o: Object| Ok(Status { message: o.field("message", text)?, code: o.field("code", |v| enumeration(v, code))? });
    let event = |o: Object| {
        Ok(Event {
            time_unix_nano: o.field("timeUnixNano", unsigned)?,
            name: o.field("name", text)?,
            attributes: attributes(o)?,
            dropped_attributes_count: o.field("droppedAttributesCount", small)?,
        })
    };
    let link = |o: Object| {
        Ok(Link {
            trace_id: o.field("traceId", id)?,
            span_id: o.field("spanId", id)?,
            trace_state: o.field("traceState", text)?,
            attributes: attributes(o)?,
            dropped_attributes_count: o.field("droppedAttributesCount", small)?,
            flags: o.field("flags", small)?,
        })
    };
    Ok(Span {
        trace_id: o.field("traceId", id)?,
        span_id: o.field("spanId", id)?,
        trace_state: o.field("traceState", text)?,
        parent_span_id: o.field("parentSpanId", id)?,
        flags: o.field("flags", small)?,
        name: o.field("name", text)?,
        kind: o.field("kind", |v| enumeration(v, kind))?,
        start_time_unix_nano: o.field("startTimeUnixNano", unsigned)?,
        end_time_unix_nano: o.field("endTimeUnixNano", unsigned)?,
        attributes: attributes(o)?,
        dropped_attributes_count: o.field("droppedAttributesCount", small)?,
        events: o.list("events", event)?,
        dropped_events_count: o.field("droppedEventsCount", small)?,
        links: o.list("links", link)?,
        dropped_links_count: o.field("droppedLinksCount", small)?,
        status: o.message("status", status)?,
    })
}

fn attributes(o: Object) -> Read<Vec<KeyValue>> {
    o.list("attributes", |o| key_value(o, 0))
}

fn key_value(o: Object, depth: usize) -> Read<KeyValue> {
    let value = o.message("value", |o| any_value(o, depth))?;
    Ok(KeyValue { key: o.field("key", text)?, value, ..KeyValue::default() })
}

/// A value; one without a field that is known is an empty value.
fn any_value(o: Object, depth: usize) -> Read<AnyValue> {
    if depth > MAX_VALUE_DEPTH {
        return wrong(format!("is nested deeper than {MAX_VALUE_DEPTH} levels"));
    }
    let array = |o: Object| Ok(ArrayValue { values: o.list("values", |o| any_value(o, depth + 1))? });
    let list = |o: Object| Ok(KeyValueList { values: o.list("values", |o| key_value(o, depth + 1))? });
    let boolean = |json: &Json| json.as_bool().map_or_else(|| wrong("must be true or false"), |b| Ok(Some(Value::BoolValue(b))));
    let value = o.field("stringValue", |v| text(v).map(Value::StringValue).map(Some))?;
    let value = value.map_or_else(|| o.field("boolValue", boolean), |v| Ok(Some(v)))?;
    let value = value.map_or_else(|| o.field("intValue", |v| int(v).map(Value::IntValue).map(Some)), |v| Ok(Some(v)))?;
    let value = value.map_or_else(|| o.field("doubleValue", |v| double(v).map(Value::DoubleValue).map(Some)), |v| Ok(Some(v)))?;
    let value = value.map_or_else(|| Ok(o.message("arrayValue", array)?.map(Value::ArrayValue)), |v| Ok(Some(v)))?;
    let value = value.map_or_else(|| Ok(o.message("kvlistValue", list)?.map(Value::KvlistValue)), |v| Ok(Some(v)))?;
    let value = value.map_or_else(|| o.field("bytesValue", |v| bytes(v).map(Value::BytesValue).map(Some)), |v| Ok(Some(v)))?;
    Ok(AnyValue { value })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn one_span(fields: Json) -> Result<Span> {
        let mut span = json!({"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174"});
        span.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
        let mut request = decode(body.to_string().as_bytes())?;
        Ok(request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0))
    }

    fn value(json: Json) -> Result<Option<Value>> {
        let span = one_span(json!({"attributes": [{"key": "k", "value": json}]}))?;
        Ok(span.attributes[0].value.clone().and_then(|v| v.value))
    }

    #[test]
    fn what_the_javascript_sdk_sends() {
        let body = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}], "droppedAttributesCount": 0},
            "scopeSpans": [{
                "scope": {"name": "io", "version": "1", "attributes": [], "droppedAttributesCount": null},
                "spans": [{
                    "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "parentSpanId": "eee19b7ec3c1b173",
                    "name": "GET /", "kind": 2, "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1544712661000000000u64,
                    "attributes": [{"key": "n", "value": {"intValue": 5}}], "droppedAttributesCount": 0,
                    "events": [{"timeUnixNano": "1544712660500000000", "name": "e", "attributes": [], "droppedAttributesCount": 0}],
                    "links": [{"traceId": "5b8efff798038103d269b633813fc60d", "spanId": "eee19b7ec3c1b175", "attributes": [], "flags": 257}],
                    "status": {"code": 2, "message": "bad"}, "flags": 257, "somethingNew": {"a": [1]}
                }]
            }], "schemaUrl": "https://opentelemetry.io/schemas/1.4.0"
        }], "unknown": 1});
        let request = decode(body.to_string().as_bytes()).unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.kind, span.flags, span.start_time_unix_nano), (2, 257, 1_544_712_660_000_000_000));
        assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_000);
        assert_eq!(span.parent_span_id, hex::decode("eee19b7ec3c1b173").unwrap());
        assert_eq!(span.status, Some(Status { message: "bad".into(), code: 2 }));
        assert_eq!((span.events.len(), span.links[0].flags), (1, 257));
        assert_eq!(request.resource_spans[0].schema_url, "https://opentelemetry.io/schemas/1.4.0");
    }

    #[test]
    fn tolerated() {
        let span = one_span(json!({
            "kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}, "start_time_unix_nano": "5", "end_time_unix_nano": 1e3,
            "attributes": null, "parentSpanId": "", "traceState": null, "dropped_links_count": 3
        }));
        let span = span.unwrap();
        assert_eq!((span.kind, span.status.unwrap().code), (2, 2));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano, span.dropped_links_count), (5, 1000, 3));
        assert_eq!(one_span(json!({"kind": 77})).unwrap().kind, 77);
        let span = one_span(json!({"traceId": "W47/95gDgQPSabYzgT/GDA==", "spanId": "7uGbfsPBsXQ="})).unwrap();
        assert_eq!(span.trace_id, hex::decode("5B8EFFF798038103D269B633813FC60C").unwrap());
        assert_eq!(span.span_id, hex::decode("eee19b7ec3c1b174").unwrap());
        assert!(decode(b"{}").unwrap().resource_spans.is_empty());
        assert_eq!(decode(br#"{"resource_spans": [{}]}"#).unwrap().resource_spans.len(), 1);
    }

    #[test]
    fn values() {
        let string = |s: &str| Some(Value::StringValue(s.into()));
        for (json, want) in [
            (json!({"stringValue": "x"}), string("x")),
            (json!({"stringValue": ""}), string("")),
            (json!({"boolValue": false}), Some(Value::BoolValue(false))),
            (json!({"intValue": "-9223372036854775808"}), Some(Value::IntValue(i64::MIN))),
            (json!({"intValue": 7}), Some(Value::IntValue(7))),
            (json!({"intValue": 7.0}), Some(Value::IntValue(7))),
            (json!({"doubleValue": 1}), Some(Value::DoubleValue(1.0))),
            (json!({"doubleValue": "-Infinity"}), Some(Value::DoubleValue(f64::NEG_INFINITY))),
            (json!({"bytesValue": "AAEC/w=="}), Some(Value::BytesValue(vec![0, 1, 2, 255]))),
            (json!({"bytesValue": "AAEC_w"}), Some(Value::BytesValue(vec![0, 1, 2, 255]))),
            (json!({"arrayValue": {}}), Some(Value::ArrayValue(ArrayValue::default()))),
            (json!({"kvlistValue": {"values": null}}), Some(Value::KvlistValue(KeyValueList::default()))),
            (json!({"string_value": "x"}), string("x")),
            (json!({"newValue": [1], "stringValue": "x"}), string("x")),
            (json!({"intValue": null}), None),
            (json!({}), None),
            (json!(null), None),
        ] {
            assert_eq!(value(json.clone()).unwrap(), want, "{json}");
        }
        let Some(Value::DoubleValue(nan)) = value(json!({"doubleValue": "NaN"})).unwrap() else { panic!() };
        assert!(nan.is_nan());
    }

    #[test]
    fn refused_with_the_path() {
        for (fields, want) in [
            (json!({"spanId": "sid1"}), "resourceSpans[0].scopeSpans[0].spans[0].spanId must be a string of hexadecimal digits"),
            (json!({"spanId": "INVALID=="}), "spans[0].spanId must be a string of hexadecimal digits"),
            (json!({"traceId": 5}), "spans[0].traceId must be a string of hexadecimal digits"),
            (json!({"kind": "SPAN_KIND_ODD"}), "spans[0].kind has unknown value \"SPAN_KIND_ODD\""),
            (json!({"startTimeUnixNano": -1}), "spans[0].startTimeUnixNano must be an unsigned 64-bit integer"),
            (json!({"flags": 4294967296u64}), "spans[0].flags must be an unsigned 32-bit integer"),
            (json!({"attributes": {}}), "spans[0].attributes must be an array"),
            (json!({"attributes": [{"key": "k", "value": "bare"}]}), "spans[0].attributes[0].value must be an object"),
            (json!({"attributes": [{"key": "k", "value": {"bytesValue": "!"}}]}), "value.bytesValue must be a string in base64"),
            (json!({"attributes": [{"key": "k", "value": {"boolValue": "yes"}}]}), "value.boolValue must be true or false"),
        ] {
            let error = one_span(fields.clone()).unwrap_err().to_string();
            assert!(error.contains(want), "{fields}: {error}");
        }
        for body in ["[]", "5", "{\"resourceSpans\": 5}", "{", "", "\u{0}"] {
            decode(body.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn what_nests_as_deep_as_allowed_survives_protobuf() {
        let nested = |depth: usize| {
            let wrap = |inner, _| json!({"kvlistValue": {"values": [{"key": "k", "value": inner}]}});
            (0..depth).fold(json!({"intValue": 1}), wrap)
        };
        let span = one_span(json!({"attributes": [{"key": "k", "value": nested(MAX_VALUE_DEPTH)}]})).unwrap();
        let request = crate::test_support::request("a", [span]);
        assert_eq!(ExportTraceServiceRequest::decode(request.encode_to_vec().as_slice()).unwrap(), request);
        let error = value(nested(MAX_VALUE_DEPTH + 1)).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 24"), "{error}");
    }
}
