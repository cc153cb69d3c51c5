//! The protobuf-JSON form of an attribute value that has no column: bytes, key/value lists, mixed and nested arrays.
//!
//! Written by hand because serde's form of these types differs in details: not-a-number, infinities and defaults.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::trace::{AnyValue, Value};

/// Values nested deeper than this are cut off as empty values: OTLP decoders stop at 100 anyway.
const DEPTH_MAX: usize = 100;

/// Appends the JSON of a value; `{}` if nothing is set.
pub(super) fn write(value: Option<&Value>, out: &mut String) {
    any_value(value, 0, out);
}

fn any_value(value: Option<&Value>, depth: usize, out: &mut String) {
    out.push('{');
    match value {
        _ if depth > DEPTH_MAX => {}
        // An index into a string table belongs to profiles: OTLP says to treat it as empty here.
        None | Some(Value::StringValueStrindex(_)) => {}
        Some(Value::StringValue(s)) => {
            out.push_str("\"stringValue\":");
            string(s, out);
        }
        Some(Value::BoolValue(b)) => out.push_str(if *b { "\"boolValue\":true" } else { "\"boolValue\":false" }),
        Some(Value::IntValue(i)) => {
            out.push_str("\"intValue\":\"");
            out.push_str(&i.to_string());
            out.push('"');
        }
        Some(Value::DoubleValue(d)) => {
            out.push_str("\"doubleValue\":");
            double(*d, out);
        }
        Some(Value::BytesValue(b)) => {
            out.push_str("\"bytesValue\":\"");
            STANDARD.encode_string(b, out);
            out.push('"');
        }
        Some(Value::ArrayValue(array)) => {
            out.push_str("\"arrayValue\":");
            values(&array.values, out, |v, out| any_value(v.value.as_ref(), depth + 1, out));
        }
        Some(Value::KvlistValue(list)) => {
            out.push_str("\"kvlistValue\":");
            values(&list.values, out, |kv, out| key_value(&kv.key, kv.value.as_ref(), depth + 1, out));
        }
    }
    out.push('}');
}

fn key_value(key: &str, value: Option<&AnyValue>, depth: usize, out: &mut String) {
    out.push('{');
    if !key.is_empty() {
        out.push_str("\"key\":");
        string(key, out);
    }
    if let Some(value) = value {
        out.push_str(if key.is_empty() { "\"value\":" } else { ",\"value\":" });
        any_value(value.value.as_ref(), depth, out);
    }
    out.push('}');
}

/// `{"values":[...]}`, and `{}` for none.
fn values<T>(items: &[T], out: &mut String, mut write: impl FnMut(&T, &mut String)) {
    out.push('{');
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i == 0 { "\"values\":[" } else { "," });
        write(item, out);
    }
    out.push_str(if items.is_empty() { "}" } else { "]}" });
}

fn string(s: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(s).to_string());
}

/// The shortest digits that read back, with an exponent where JSON writers use one.
fn double(d: f64, out: &mut String) {
    let text = match d {
        _ if d.is_nan() => "\"NaN\"".to_owned(),
        f64::INFINITY => "\"Infinity\"".to_owned(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
        _ if d != 0.0 && !(1e-6..1e21).contains(&d.abs()) => format!("{d:e}"),
        _ => d.to_string(),
    };
    out.push_str(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ArrayValue, KeyValue, KeyValueList};

    fn json(value: Option<Value>) -> String {
        let mut out = String::new();
        write(value.as_ref(), &mut out);
        out
    }

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn the_form_is_that_of_protobuf_json() {
        use Value::*;
        assert_eq!(json(None), "{}");
        assert_eq!(json(Some(BytesValue(vec![0, 1, 254, 255]))), r#"{"bytesValue":"AAH+/w=="}"#);
        assert_eq!(json(Some(ArrayValue(Default::default()))), r#"{"arrayValue":{}}"#);
        let mixed =
            vec![any(StringValue("a\"".into())), any(IntValue(-1)), any(BoolValue(true)), any(DoubleValue(2.0)), AnyValue::default()];
        let list =
            vec![KeyValue { key: "k".into(), value: Some(any(ArrayValue(self::ArrayValue { values: mixed }))), ..Default::default() }];
        assert_eq!(
            json(Some(KvlistValue(KeyValueList { values: list }))),
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"a\""},{"intValue":"-1"},{"boolValue":true},{"doubleValue":2},{}]}}}]}}"#
        );
        let doubles = [f64::NAN, f64::NEG_INFINITY, 1e300, 1e-300, 0.1, -0.0];
        let texts = doubles.map(|d| json(Some(DoubleValue(d))));
        assert_eq!(
            texts.join(" "),
            r#"{"doubleValue":"NaN"} {"doubleValue":"-Infinity"} {"doubleValue":1e300} {"doubleValue":1e-300} {"doubleValue":0.1} {"doubleValue":-0}"#
        );
    }
}
