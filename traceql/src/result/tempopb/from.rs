//! From the answers of queries to their messages.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    Exemplar, InstantSeries, QueryInstantResponse, QueryRangeResponse, Sample, SearchMetrics, SearchResponse, ServiceStats, Span, SpanSet,
    TimeSeries, TraceSearchMetadata,
};
use crate::result::{metrics, search};

/// `PartialStatus.PARTIAL`.
const PARTIAL: i32 = 1;

impl From<search::SearchResponse> for SearchResponse {
    fn from(found: search::SearchResponse) -> Self {
        Self { traces: found.traces.into_iter().map(Into::into).collect(), metrics: Some(found.metrics.into()) }
    }
}

impl From<search::SearchMetrics> for SearchMetrics {
    fn from(m: search::SearchMetrics) -> Self {
        Self {
            inspected_traces: m.inspected_traces,
            inspected_bytes: m.inspected_bytes,
            total_blocks: m.total_blocks,
            completed_jobs: m.completed_jobs,
            total_jobs: m.total_jobs,
            total_block_bytes: m.total_block_bytes,
            inspected_spans: m.inspected_spans,
        }
    }
}

impl From<search::TraceSummary> for TraceSearchMetadata {
    fn from(trace: search::TraceSummary) -> Self {
        let stats = |s: search::ServiceStats| ServiceStats { span_count: s.span_count, error_count: s.error_count };
        Self {
            trace_id: trace.trace_id,
            root_service_name: trace.root_service_name,
            root_trace_name: trace.root_trace_name,
            start_time_unix_nano: trace.start_time_unix_nano,
            duration_ms: trace.duration_ms,
            span_set: trace.span_set.map(span_set),
            span_sets: trace.span_sets.into_iter().map(span_set).collect(),
            service_stats: trace.service_stats.into_iter().map(|(name, s)| (name, stats(s))).collect(),
        }
    }
}

fn span_set(set: search::SpanSet) -> SpanSet {
    let attributes = |list: Vec<search::Attribute>| list.into_iter().map(|a| key_value(a.key, &a.value)).collect();
    let span = |s: search::SpanSummary| Span {
        span_id: s.span_id,
        name: s.name,
        start_time_unix_nano: s.start_time_unix_nano,
        duration_nanos: s.duration_nanos,
        attributes: attributes(s.attributes),
    };
    SpanSet { spans: set.spans.into_iter().map(span).collect(), matched: set.matched, attributes: attributes(set.attributes) }
}

impl From<metrics::RangeResponse> for QueryRangeResponse {
    fn from(found: metrics::RangeResponse) -> Self {
        let exemplar = |e: metrics::ExemplarJson| Exemplar { labels: labels(e.labels), value: e.value.0, timestamp_ms: e.timestamp_ms };
        let series = |s: metrics::RangeSeries| TimeSeries {
            labels: labels(s.labels),
            samples: s.samples.into_iter().map(|s| Sample { value: s.value.0, timestamp_ms: s.timestamp_ms }).collect(),
            exemplars: s.exemplars.into_iter().map(exemplar).collect(),
        };
        let (status, message) = partial(found.partial);
        Self { series: found.series.into_iter().map(series).collect(), metrics: Some(found.metrics.into()), status, message }
    }
}

impl From<metrics::InstantResponse> for QueryInstantResponse {
    fn from(found: metrics::InstantResponse) -> Self {
        let series = |s: metrics::InstantSeries| InstantSeries { labels: labels(s.labels), value: s.value.0 };
        let (status, message) = partial(found.partial);
        Self { series: found.series.into_iter().map(series).collect(), metrics: Some(found.metrics.into()), status, message }
    }
}

fn partial(partial: Option<metrics::Partial>) -> (i32, String) {
    partial.map_or((0, String::new()), |p| (PARTIAL, p.message))
}

fn labels(labels: Vec<metrics::LabelJson>) -> Vec<KeyValue> {
    labels.into_iter().map(|l| key_value(l.key, &l.value)).collect()
}

fn key_value(key: String, value: &Value) -> KeyValue {
    KeyValue { key, value: Some(any_value(value)), ..KeyValue::default() }
}

/// A value in OTLP's JSON, as `result::json::any_value` makes it.
fn any_value(json: &Value) -> AnyValue {
    let Some((kind, inner)) = json.as_object().and_then(|o| o.iter().next()) else { return AnyValue::default() };
    let value = match kind.as_str() {
        "stringValue" => inner.as_str().map(|v| Any::StringValue(v.to_owned())),
        "boolValue" => inner.as_bool().map(Any::BoolValue),
        "intValue" => inner.as_str().and_then(|v| v.parse().ok()).map(Any::IntValue),
        "doubleValue" => double(inner).map(Any::DoubleValue),
        "arrayValue" => {
            let values = inner.get("values").and_then(Value::as_array);
            Some(Any::ArrayValue(ArrayValue { values: values.into_iter().flatten().map(any_value).collect() }))
        }
        _ => None,
    };
    AnyValue { value }
}

fn double(json: &Value) -> Option<f64> {
    match json {
        Value::String(text) => text.parse().ok(), // NaN, Infinity and -Infinity
        number => number.as_f64(),
    }
}

/// A 64-bit integer that JSON may hold as a number or as text.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        number => number.as_u64().ok_or_else(|| serde::de::Error::custom("not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{result::json, syntax::Static};

    #[test]
    fn values_keep_type_and_value() {
        let values = [
            (Static::Int(i64::MIN), Any::IntValue(i64::MIN)),
            (Static::Float(0.5), Any::DoubleValue(0.5)),
            (Static::Float(f64::NEG_INFINITY), Any::DoubleValue(f64::NEG_INFINITY)),
            (Static::Bool(false), Any::BoolValue(false)),
            (Static::String("ü".into()), Any::StringValue("ü".into())),
            (Static::Duration(1_500_000_000), Any::StringValue("1.5s".into())),
        ];
        for (value, expected) in values {
            assert_eq!(any_value(&json::any_value(&value).unwrap()).value, Some(expected));
        }
        assert!(matches!(double(&json::double(f64::NAN)), Some(v) if v.is_nan()));
        let array = any_value(&serde_json::json!({"arrayValue": {"values": [{"intValue": "1"}, {"intValue": "2"}]}}));
        let Some(Any::ArrayValue(array)) = array.value else { panic!("{array:?}") };
        assert_eq!(array.values.len(), 2);
    }

    #[test]
    fn what_json_leaves_out_is_zero() {
        let text = r#"{"tagValues":[{"type":"string","value":"a"},{"type":"string"}],"metrics":{"inspectedBytes":"7"}}"#;
        let response: super::super::SearchTagValuesV2Response = serde_json::from_str(text).unwrap();
        assert_eq!(response.tag_values[1].value, "");
        assert_eq!(response.metrics.unwrap().inspected_bytes, 7);
    }
}
