//! How values are written in answers: Go's texts, which clients of Tempo know.

use serde::Serialize;

use crate::syntax::{Field, Intrinsic, Static};

/// A value of a tag, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TagValue {
    /// `string`, `int`, `float`, `bool`, `duration` or `keyword`.
    pub r#type: &'static str,
    /// The value as text; not there in JSON if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

impl TagValue {
    /// What TraceQL compares.
    pub fn new(value: &Static) -> Self {
        let (r#type, text) = match value {
            Static::String(text) => ("string", text.clone()),
            Static::Int(v) => ("int", v.to_string()),
            Static::Float(v) => ("float", float(*v)),
            Static::Bool(v) => ("bool", v.to_string()),
            Static::Duration(_) => ("duration", value.to_string()),
            _ => ("keyword", value.to_string()),
        };
        Self { r#type, value: text }
    }

    /// What a block's column holds: numbers for states, kinds and times, bytes for ids. So Tempo shows the values of an
    /// intrinsic unless a query restricts them.
    pub fn stored(field: &Field, value: &Static) -> Self {
        use Intrinsic as I;
        let int = |v: i64| Self { r#type: "int", value: v.to_string() };
        match (field, value) {
            (_, Static::Duration(ns)) => int(*ns),
            (_, Static::Status(status)) => int(status.to_otlp().into()),
            (_, Static::Kind(kind)) => int(kind.to_otlp().into()),
            (Field::Intrinsic(I::TraceId | I::LinkTraceId), Static::String(hex)) => Self::bytes(hex, 32),
            (Field::Intrinsic(I::SpanId | I::ParentId | I::LinkSpanId), Static::String(hex)) => Self::bytes(hex, 16),
            _ => Self::new(value),
        }
    }

    /// The bytes of an id, as Go writes bytes that are no UTF-8 into JSON: U+FFFD for each that does not fit.
    fn bytes(digits: &str, digits_full: usize) -> Self {
        let full = if digits.is_empty() { String::new() } else { format!("{digits:0>digits_full$}") };
        let bytes = hex::decode(&full).unwrap_or_default();
        let mut value = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            value.push_str(chunk.valid());
            value.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        Self { r#type: "string", value }
    }

    /// Bytes it counts for in the bound of an answer.
    pub fn len(&self) -> usize {
        self.r#type.len() + self.value.len()
    }

    /// Whether the value is the empty text.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// A float as Go's `strconv.FormatFloat(v, 'g', -1, 64)` writes it, with `.0` behind what looks like an int.
pub fn float(v: f64) -> String {
    let text = if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        // The shortest digits, as d.ddde-7.
        let scientific = format!("{v:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if (-4..GO_EXPONENT_MIN).contains(&exponent) || v == 0.0 {
            v.to_string()
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    };
    if text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

/// From this decimal exponent on Go writes the shortest 'g' with an exponent.
const GO_EXPONENT_MIN: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text) in [
            (1.5, "1.5"),
            (3.0, "3.0"),
            (-0.0, "-0.0"),
            (0.25, "0.25"),
            (1e300, "1e+300"),
            (1e-300, "1e-300"),
            (1.25e-5, "1.25e-05"),
            (0.0001, "0.0001"),
            (123_456.0, "123456.0"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (1e20, "1e+20"),
            (f64::NAN, "NaN.0"),
            (f64::INFINITY, "+Inf.0"),
            (f64::NEG_INFINITY, "-Inf.0"),
        ] {
            assert_eq!(float(value), text, "{value:?}");
        }
    }

    #[test]
    fn ids_are_shown_as_bytes() {
        let id = Static::String("20ff41".to_owned());
        let shown = TagValue::stored(&Field::Intrinsic(Intrinsic::SpanId), &id);
        assert_eq!(shown.value, "\0\0\0\0\0 \u{fffd}A");
        assert_eq!(TagValue::stored(&Field::Intrinsic(Intrinsic::ParentId), &Static::String(String::new())).value, "");
        assert_eq!(TagValue::stored(&Field::Intrinsic(Intrinsic::Duration), &Static::Duration(1500)).value, "1500");
        assert_eq!(TagValue::new(&Static::Duration(1_500_000_000)).value, "1.5s");
    }
}
