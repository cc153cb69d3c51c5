//! Answers of both doors in one form: what streams over gRPC, put together as Grafana does it, in the shape of the JSON over
//! HTTP; and both of these as far as they are compared.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use serde_json::{Value, json};
use tracehouse_traceql::result::tempopb::{QueryRangeResponse, SearchMetrics, SearchResponse, Span, SpanSet};

/// A trace as far as it is compared: id, start, milliseconds, and of each span set how many match and what is shown of which.
pub type Told = (String, u64, u32, Vec<(u32, Vec<String>)>);

/// Samples by the labels of their series and their time in milliseconds.
pub type Samples = BTreeMap<(String, i64), f64>;

/// The traces of an answer in JSON, in its order.
#[track_caller]
pub fn traces(answer: &Value) -> Vec<Told> {
    let text = |v: &Value| v.as_str().unwrap_or_else(|| panic!("{v} is no text")).to_owned();
    let set = |s: &Value| {
        let span = |s: &Value| {
            let mut attributes: Vec<String> = s["attributes"].as_array().into_iter().flatten().map(Value::to_string).collect();
            attributes.sort();
            format!("{} {}", text(&s["spanID"]), attributes.join(" "))
        };
        let mut spans: Vec<String> = s["spans"].as_array().into_iter().flatten().map(span).collect();
        spans.sort();
        (s["matched"].as_u64().unwrap_or(0) as u32, spans)
    };
    let told = |t: &Value| -> Told {
        let sets = t["spanSets"].as_array().into_iter().flatten().map(set).collect();
        (text(&t["traceID"]), text(&t["startTimeUnixNano"]).parse().unwrap(), t["durationMs"].as_u64().unwrap_or(0) as u32, sets)
    };
    answer["traces"].as_array().unwrap().iter().map(told).collect()
}

/// The samples of an answer in JSON.
#[track_caller]
pub fn samples(answer: &Value) -> Samples {
    let mut all = Samples::new();
    for series in answer["series"].as_array().into_iter().flatten() {
        for sample in series["samples"].as_array().into_iter().flatten() {
            let time = sample["timestampMs"].as_str().map_or(0, |t| t.parse().unwrap());
            all.insert((series["labels"].to_string(), time), sample["value"].as_f64().unwrap_or(0.0));
        }
    }
    all
}

/// Both hold the same samples, but for what floating point loses in another order of adding.
#[track_caller]
pub fn same_samples(found: &Samples, expected: &Samples, of: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{of}");
    for (key, value) in expected {
        assert!((found[key] - value).abs() <= 1e-9 * value.abs(), "{of} {key:?}: {} streamed, {value} at once", found[key]);
    }
}

/// What the messages of a search come to: the first copy of a trace counts, and there must be no other.
#[track_caller]
pub fn search(messages: &[SearchResponse]) -> Value {
    progress_is_sound(messages.iter().map(|m| m.metrics.expect("metrics in every message")).collect());
    let span = |s: &Span| json!({ "spanID": s.span_id, "attributes": attributes(&s.attributes) });
    let set = |s: &SpanSet| json!({ "matched": s.matched, "spans": s.spans.iter().map(span).collect::<Vec<_>>() });
    let mut ids = std::collections::BTreeSet::new();
    let traces: Vec<Value> = messages
        .iter()
        .flat_map(|m| &m.traces)
        .map(|t| {
            assert!(ids.insert(t.trace_id.clone()), "trace {} came twice", t.trace_id);
            json!({
                "traceID": t.trace_id, "startTimeUnixNano": t.start_time_unix_nano.to_string(), "durationMs": t.duration_ms,
                "spanSets": t.span_sets.iter().map(set).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "traces": traces })
}

/// What the messages of a range query come to: the newest value of a series at a time counts, and must be the one told before.
#[track_caller]
pub fn range(messages: &[QueryRangeResponse]) -> Value {
    progress_is_sound(messages.iter().map(|m| m.metrics.expect("metrics in every message")).collect());
    let mut all: BTreeMap<String, (Value, BTreeMap<i64, f64>)> = BTreeMap::new();
    for series in messages.iter().flat_map(|m| &m.series) {
        let labels = Value::Array(attributes(&series.labels));
        let (_, samples) = all.entry(labels.to_string()).or_insert_with(|| (labels, BTreeMap::new()));
        for sample in &series.samples {
            let before = samples.insert(sample.timestamp_ms, sample.value);
            let kept = before.is_none_or(|b| (b - sample.value).abs() <= 1e-9 * b.abs());
            assert!(kept, "{before:?} became {} in {:?}", sample.value, series.labels);
        }
    }
    let shown = |samples: BTreeMap<i64, f64>| -> Vec<Value> {
        samples.into_iter().map(|(time, value)| json!({ "timestampMs": time.to_string(), "value": value })).collect()
    };
    let series: Vec<Value> = all.into_values().map(|(labels, s)| json!({ "labels": labels, "samples": shown(s) })).collect();
    json!({ "series": series })
}

/// Progress goes one way and ends at its end.
#[track_caller]
pub fn progress_is_sound(metrics: Vec<SearchMetrics>) {
    let last = *metrics.last().expect("at least one message");
    assert_eq!(last.completed_jobs, last.total_jobs, "{metrics:?}");
    assert!(metrics.is_sorted_by_key(|m| (m.completed_jobs, m.inspected_bytes, m.inspected_spans)), "{metrics:?}");
    assert!(metrics.iter().all(|m| m.total_jobs == last.total_jobs && m.total_blocks == last.total_blocks), "{metrics:?}");
}

fn attributes(all: &[KeyValue]) -> Vec<Value> {
    all.iter().map(|a| json!({ "key": a.key, "value": value(a.value.as_ref().unwrap_or(&AnyValue::default())) })).collect()
}

fn value(value: &AnyValue) -> Value {
    match &value.value {
        Some(Any::StringValue(v)) => json!({ "stringValue": v }),
        Some(Any::IntValue(v)) => json!({ "intValue": v.to_string() }),
        Some(Any::DoubleValue(v)) => json!({ "doubleValue": v }),
        Some(Any::BoolValue(v)) => json!({ "boolValue": v }),
        other => json!(format!("{other:?}")),
    }
}
