//! Attributes, events and links as JSON text, and names for the numbers of kinds and statuses.
//!
//! The text depends on the values alone, not on where a span is stored: keys are sorted, because a block that promotes some
//! attributes to columns no longer knows their order.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::ser::{Serialize, Serializer};

use crate::trace::{AnyValue, Event, KeyValue, Link, Value};

/// A JSON object of attributes in key order; of a repeated key the last value counts. Integers and doubles differ in the
/// text (a double always has a point or an exponent); NaN and the infinities are strings, bytes are base64, and a value
/// that is not set is null.
pub fn attributes_to_json(attributes: &[KeyValue]) -> String {
    text(&Attributes(attributes))
}

/// A JSON array of `{time_unix_nano, name, attributes, dropped_attributes_count}`, one item an event.
pub fn events_to_json(events: &[Event]) -> String {
    text(&events.iter().map(EventItem::from).collect::<Vec<_>>())
}

/// A JSON array of `{trace_id, span_id, trace_state, attributes, dropped_attributes_count}`, one item a link.
pub fn links_to_json(links: &[Link]) -> String {
    text(&links.iter().map(LinkItem::from).collect::<Vec<_>>())
}

/// The name of a span kind, by OTLP's number; the number itself if it has none.
pub fn kind_text(kind: i32) -> Cow<'static, str> {
    const NAMES: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    name_or_number(&NAMES, kind)
}

/// The name of a status, by OTLP's number; the number itself if it has none.
pub fn status_text(status: i32) -> Cow<'static, str> {
    name_or_number(&["unset", "ok", "error"], status)
}

fn name_or_number(names: &[&'static str], number: i32) -> Cow<'static, str> {
    match usize::try_from(number).ok().and_then(|i| names.get(i)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(number.to_string()),
    }
}

/// Strings, numbers and string-keyed maps written to memory: no error can arise.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[derive(serde::Serialize)]
struct EventItem<'a> {
    time_unix_nano: u64,
    name: &'a str,
    attributes: Attributes<'a>,
    dropped_attributes_count: u32,
}

impl<'a> From<&'a Event> for EventItem<'a> {
    fn from(e: &'a Event) -> Self {
        Self {
            time_unix_nano: e.time_unix_nano,
            name: &e.name,
            attributes: Attributes(&e.attributes),
            dropped_attributes_count: e.dropped_attributes_count,
        }
    }
}

#[derive(serde::Serialize)]
struct LinkItem<'a> {
    trace_id: String,
    span_id: String,
    trace_state: &'a str,
    attributes: Attributes<'a>,
    dropped_attributes_count: u32,
}

impl<'a> From<&'a Link> for LinkItem<'a> {
    fn from(l: &'a Link) -> Self {
        Self {
            trace_id: hex::encode(&l.trace_id),
            span_id: hex::encode(&l.span_id),
            trace_state: &l.trace_state,
            attributes: Attributes(&l.attributes),
            dropped_attributes_count: l.dropped_attributes_count,
        }
    }
}

struct Attributes<'a>(&'a [KeyValue]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<&KeyValue> = self.0.iter().rev().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key)); // stable: the last of a repeated key comes first now
        sorted.dedup_by(|earlier, last| earlier.key == last.key);
        serializer.collect_map(sorted.into_iter().map(|kv| (&kv.key, Item(kv.value.as_ref()))))
    }
}

struct Item<'a>(Option<&'a AnyValue>);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.and_then(|v| v.value.as_ref()) {
            // A string of the profiling signal's dictionary, which traces do not have: OTLP says to take it as absent.
            None | Some(Value::StringValueStrindex(_)) => serializer.serialize_unit(),
            Some(Value::StringValue(s)) => serializer.serialize_str(s),
            Some(Value::BoolValue(b)) => serializer.serialize_bool(*b),
            Some(Value::IntValue(i)) => serializer.serialize_i64(*i),
            Some(Value::DoubleValue(d)) if d.is_nan() => serializer.serialize_str("NaN"),
            Some(Value::DoubleValue(d)) if d.is_infinite() => serializer.serialize_str(if *d > 0.0 { "Infinity" } else { "-Infinity" }),
            Some(Value::DoubleValue(d)) => serializer.serialize_f64(*d),
            Some(Value::ArrayValue(a)) => serializer.collect_seq(a.values.iter().map(|v| Item(Some(v)))),
            Some(Value::KvlistValue(l)) => Attributes(&l.values).serialize(serializer),
            Some(Value::BytesValue(b)) => serializer.serialize_str(&BASE64_STANDARD.encode(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::{array, attributes, double, int, map, text};

    #[test]
    fn attributes_of_every_type() {
        let bytes = Value::BytesValue(vec![0, 1, 254, 255]);
        let cases = [
            (vec![], "{}"),
            (vec![("s", text("a\"b\\c\n\u{1}✓"))], r#"{"s":"a\"b\\c\n\u0001✓"}"#),
            (vec![("k\"", int(1))], r#"{"k\"":1}"#),
            (vec![("i", int(i64::MIN)), ("j", int(9007199254740993))], r#"{"i":-9223372036854775808,"j":9007199254740993}"#),
            (vec![("a", double(3.0)), ("b", double(-0.0)), ("c", double(0.1))], r#"{"a":3.0,"b":-0.0,"c":0.1}"#),
            (
                vec![("n", double(f64::NAN)), ("p", double(f64::INFINITY)), ("q", double(f64::NEG_INFINITY))],
                r#"{"n":"NaN","p":"Infinity","q":"-Infinity"}"#,
            ),
            (vec![("b", Value::BoolValue(true)), ("x", bytes)], r#"{"b":true,"x":"AAH+/w=="}"#),
            (vec![("l", array([int(1), text("a"), array([])]))], r#"{"l":[1,"a",[]]}"#),
            (vec![("m", map([("y", int(1)), ("x", map([]))]))], r#"{"m":{"x":{},"y":1}}"#),
            (vec![("z", int(1)), ("a", int(2)), ("z", text("later"))], r#"{"a":2,"z":"later"}"#),
            (vec![("profile", Value::StringValueStrindex(1))], r#"{"profile":null}"#),
        ];
        for (given, expected) in cases {
            assert_eq!(attributes_to_json(&attributes(given)), expected);
        }
        let unset = [KeyValue { key: "k".to_owned(), ..KeyValue::default() }];
        assert_eq!(attributes_to_json(&unset), r#"{"k":null}"#);
    }

    #[test]
    fn doubles_never_look_like_integers() {
        for d in [0.0, 1e15, 1e16, 1e17, -1e22, 1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE] {
            let json = attributes_to_json(&attributes([("d", double(d))]));
            assert!(json.contains(['.', 'e']), "{json}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["d"].as_f64(), Some(d));
        }
    }

    #[test]
    fn events_and_links_are_arrays_of_objects() {
        assert_eq!((events_to_json(&[]), links_to_json(&[])), ("[]".to_owned(), "[]".to_owned()));
        let event =
            Event { time_unix_nano: u64::MAX, name: "e".to_owned(), attributes: attributes([("k", int(1))]), dropped_attributes_count: 2 };
        assert_eq!(
            events_to_json(&[event, Event::default()]),
            concat!(
                r#"[{"time_unix_nano":18446744073709551615,"name":"e","attributes":{"k":1},"dropped_attributes_count":2},"#,
                r#"{"time_unix_nano":0,"name":"","attributes":{},"dropped_attributes_count":0}]"#
            )
        );
        let link = Link { trace_id: vec![0, 1], span_id: vec![255], trace_state: "a=b".to_owned(), ..Link::default() };
        let expected = r#"[{"trace_id":"0001","span_id":"ff","trace_state":"a=b","attributes":{},"dropped_attributes_count":0}]"#;
        assert_eq!(links_to_json(&[link]), expected);
    }

    #[test]
    fn kinds_and_statuses_have_names() {
        let kinds: Vec<_> = (-1..7).map(kind_text).collect();
        assert_eq!(kinds, ["-1", "unspecified", "internal", "server", "client", "producer", "consumer", "6"]);
        let statuses: Vec<_> = (-1..4).map(status_text).collect();
        assert_eq!(statuses, ["-1", "unset", "ok", "error", "3"]);
    }
}
