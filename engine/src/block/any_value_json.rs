//! Reads the protobuf-JSON form of an attribute value that has no column: bytes, key/value lists, mixed and nested arrays.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value as Json;

use crate::trace::{AnyValue, ArrayValue, KeyValue, KeyValueList, Value};

/// The value that `text` stands for. What cannot be understood (or lies deeper than JSON is read) is given back as text.
pub(super) fn parse(text: &str) -> AnyValue {
    match serde_json::from_str(&quote_numbers(text)) {
        Ok(json) => any_value(&json),
        Err(_) => AnyValue { value: Some(Value::StringValue(text.to_owned())) },
    }
}

/// The same JSON with its numbers as strings: serde_json reads a double only nearly right, the standard library exactly.
fn quote_numbers(json: &str) -> String {
    let is_number = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
    let mut out = String::with_capacity(json.len() + 8);
    let mut rest = json;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.strip_prefix('"') {
            Some(inner) => {
                let mut escaped = false;
                let end = inner.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                end.map_or(rest.len(), |end| end + 2)
            }
            None => rest.find(|c| !is_number(c)).unwrap_or(rest.len()),
        };
        let quote = if rest.starts_with('"') { "" } else { "\"" };
        out.extend([quote, &rest[..end], quote]);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn any_value(json: &Json) -> AnyValue {
    let value = json.as_object().and_then(|fields| fields.iter().find_map(|(name, value)| field(name, value)));
    AnyValue { value }
}

/// Names are accepted in both of protobuf's spellings.
fn field(name: &str, json: &Json) -> Option<Value> {
    Some(match name {
        "stringValue" | "string_value" => Value::StringValue(json.as_str()?.to_owned()),
        "boolValue" | "bool_value" => Value::BoolValue(json.as_bool()?),
        "intValue" | "int_value" => Value::IntValue(json.as_i64().or_else(|| json.as_str()?.parse().ok())?),
        "doubleValue" | "double_value" => Value::DoubleValue(double(json)?),
        "bytesValue" | "bytes_value" => Value::BytesValue(BASE64_STANDARD.decode(json.as_str()?).ok()?),
        "arrayValue" | "array_value" => Value::ArrayValue(ArrayValue { values: items(json).map(any_value).collect() }),
        "kvlistValue" | "kvlist_value" => Value::KvlistValue(KeyValueList { values: items(json).map(key_value).collect() }),
        _ => return None,
    })
}

fn items(json: &Json) -> impl Iterator<Item = &Json> {
    json.get("values").and_then(Json::as_array).into_iter().flatten()
}

fn key_value(json: &Json) -> KeyValue {
    KeyValue {
        key: json.get("key").and_then(Json::as_str).unwrap_or_default().to_owned(),
        value: json.get("value").map(any_value),
        ..KeyValue::default()
    }
}

fn double(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(text) => text.parse().ok(), // "NaN", and all numbers
        None => json.as_f64(),
    }
}
