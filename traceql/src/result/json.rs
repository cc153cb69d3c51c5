//! The JSON dialect of Tempo's answers: lower camel case, zero values left out, 64-bit integers as strings.

use serde::Serializer;
use serde_json::{Value, json};

use crate::syntax::Static;

/// Whether a field is left out.
pub fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A 64-bit integer as a string.
pub fn string<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A TraceQL value as an OTLP `AnyValue`; `None` for nil. Durations, statuses and kinds become text.
pub fn any_value(value: &Static) -> Option<Value> {
    let array = |values: Vec<Value>| json!({"arrayValue": {"values": values}});
    Some(match value {
        Static::Nil => return None,
        Static::Int(v) => json!({"intValue": v.to_string()}),
        Static::Float(v) => json!({"doubleValue": double(*v)}),
        Static::String(v) => json!({"stringValue": v}),
        Static::Bool(v) => json!({"boolValue": v}),
        Static::Duration(_) | Static::Status(_) | Static::Kind(_) => json!({"stringValue": value.to_string()}),
        Static::Ints(_) | Static::Floats(_) | Static::Strings(_) | Static::Bools(_) => {
            array(value.elements().unwrap_or_default().iter().filter_map(any_value).collect())
        }
    })
}

/// A TraceQL value as plain JSON. Durations, statuses and kinds become text.
pub fn plain_json(value: &Static) -> Value {
    match value {
        Static::Nil => Value::Null,
        Static::Int(v) => json!(v),
        Static::Float(v) => double(*v),
        Static::String(v) => json!(v),
        Static::Bool(v) => json!(v),
        Static::Duration(_) | Static::Status(_) | Static::Kind(_) => json!(value.to_string()),
        Static::Ints(_) | Static::Floats(_) | Static::Strings(_) | Static::Bools(_) => {
            value.elements().unwrap_or_default().iter().map(plain_json).collect()
        }
    }
}

/// A double; the three that JSON has no numbers for are text.
pub fn double(value: f64) -> Value {
    match value {
        // Go's JSON of a negative zero reads back as zero.
        0.0 => json!(0.0),
        v if v.is_nan() => json!("NaN"),
        v if v == f64::INFINITY => json!("Infinity"),
        v if v == f64::NEG_INFINITY => json!("-Infinity"),
        v => json!(v),
    }
}
