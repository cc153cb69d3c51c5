//! The answer of the metrics summary.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    json::{double, is_zero, string},
    metrics::{QUANTILE_LABEL, Series},
};
use crate::syntax::{Field, Kind, Static, Status};

/// The quantiles of a summary.
pub const QUANTILES: [f64; 4] = [0.99, 0.95, 0.9, 0.5];

/// Answer of `/api/metrics/summary`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SummaryResponse {
    /// The groups, those with the most spans first.
    pub summaries: Vec<Summary>,
}

/// The spans of a group.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How many.
    #[serde(serialize_with = "string")]
    pub span_count: u64,
    /// How many with status error.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub error_span_count: u64,
    /// What the group is.
    pub series: Vec<KeyStatic>,
    /// Duration in nanoseconds, as the next ones.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub p99: u64,
    /// The 95 % quantile.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub p95: u64,
    /// The 90 % quantile.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub p90: u64,
    /// The median.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub p50: u64,
}

/// A field and its value.
#[derive(Clone, Debug, Serialize)]
pub struct KeyStatic {
    /// The field as in `groupBy`.
    pub key: String,
    /// Tempo's `TraceQLStatic`.
    pub value: Value,
}

impl SummaryResponse {
    /// Puts the series of the three queries together.
    pub fn new(group_by: &[Field], counts: Vec<Series>, errors: &[Series], latencies: &[Series], limit: usize) -> Self {
        let errors: HashMap<String, f64> = errors.iter().map(|s| (key(s), first(s))).collect();
        let mut quantiles: HashMap<String, [u64; 4]> = HashMap::new();
        for series in latencies {
            let p = series.labels.iter().find(|l| l.name == QUANTILE_LABEL).and_then(|l| l.value.as_f64());
            if let Some(at) = QUANTILES.iter().position(|q| Some(*q) == p) {
                // Quantiles are in seconds, as all durations of metrics.
                quantiles.entry(key(series)).or_default()[at] = (first(series) * 1e9).round() as u64;
            }
        }
        let mut summaries: Vec<Summary> = counts
            .into_iter()
            .map(|series| {
                let key = key(&series);
                let [p99, p95, p90, p50] = quantiles.get(&key).copied().unwrap_or_default();
                let error_span_count = errors.get(&key).map_or(0, |n| *n as u64);
                let shown = group_by.iter().map(|field| KeyStatic { key: field.to_string(), value: value_of(field, &series) });
                Summary { span_count: first(&series) as u64, error_span_count, series: shown.collect(), p99, p95, p90, p50 }
            })
            .collect();
        summaries.sort_by_key(|s| std::cmp::Reverse(s.span_count));
        summaries.truncate(limit);
        Self { summaries }
    }
}

/// What tells a group from the others, whichever query it comes from.
fn key(series: &Series) -> String {
    let labels = series.identity().filter(|l| l.name != QUANTILE_LABEL);
    let labels: Vec<String> = labels.map(|l| format!("{}={:?}", l.name, l.value)).collect();
    // Without any value the label that says so may be missing beside the quantile's.
    if labels.iter().all(|l| l.ends_with("=String(\"nil\")")) { String::new() } else { labels.join(",") }
}

fn first(series: &Series) -> f64 {
    series.values.first().copied().filter(|v| v.is_finite()).unwrap_or(0.0)
}

/// The value of a field in Tempo's `TraceQLStatic`, zeros left out; `{}` where the spans have none.
fn value_of(field: &Field, series: &Series) -> Value {
    let name = field.to_string();
    let label = series.labels.iter().find(|l| l.name == name);
    match label.map(|l| &l.value) {
        None => json!({}),
        Some(Static::String(v)) if v == "nil" && series.labels.len() == 1 => json!({}),
        Some(Static::Int(v)) => json!({"type": 3, "n": v.to_string()}),
        Some(Static::Float(v)) => json!({"type": 4, "f": double(*v)}),
        Some(Static::String(v)) => json!({"type": 5, "s": v}),
        Some(Static::Bool(v)) => json!({"type": 6, "b": v}),
        Some(Static::Duration(v)) => json!({"type": 7, "d": v.to_string()}),
        Some(Static::Status(v)) => match status_number(*v) {
            0 => json!({"type": 8}),
            n => json!({"type": 8, "status": n}),
        },
        Some(Static::Kind(v)) => match kind_number(*v) {
            0 => json!({"type": 9}),
            n => json!({"type": 9, "kind": n}),
        },
        Some(other) => json!({"type": 5, "s": other.to_string()}),
    }
}

/// Tempo's number of a status, which is not OTLP's.
fn status_number(status: Status) -> i32 {
    match status {
        Status::Error => 0,
        Status::Ok => 1,
        Status::Unset => 2,
        Status::Other(n) => n,
    }
}

fn kind_number(kind: Kind) -> i32 {
    match kind {
        Kind::Unspecified => 0,
        Kind::Internal => 1,
        Kind::Client => 2,
        Kind::Server => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
        Kind::Other(n) => n,
    }
}
