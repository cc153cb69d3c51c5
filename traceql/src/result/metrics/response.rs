//! Tempo's answers to metrics queries, as JSON.

use serde::{Serialize, ser::SerializeMap};
use serde_json::{Value, json};

use super::{Label, Series};
use crate::{
    metrics::time::Intervals,
    result::{
        json::{any_value, double, is_zero, string},
        search::SearchMetrics,
    },
};

/// Answer of `/api/metrics/query_range`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RangeResponse {
    /// The series, sorted by their labels.
    pub series: Vec<RangeSeries>,
    /// What the query cost.
    pub metrics: SearchMetrics,
    /// Why series are left out, if some are.
    #[serde(flatten)]
    pub partial: Option<Partial>,
}

/// Answer of `/api/metrics/query`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InstantResponse {
    /// The series, sorted by their labels.
    pub series: Vec<InstantSeries>,
    /// What the query cost.
    pub metrics: SearchMetrics,
    /// Why series are left out, if some are.
    #[serde(flatten)]
    pub partial: Option<Partial>,
}

/// Says that an answer is not whole.
#[derive(Clone, Debug, Serialize)]
pub struct Partial {
    /// Always `PARTIAL`.
    pub status: &'static str,
    /// What is missing.
    pub message: String,
}

/// A series of a range query.
#[derive(Clone, Debug, Serialize)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: Vec<LabelJson>,
    /// Its values, ascending in time.
    pub samples: Vec<Sample>,
    /// Spans that stand for some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<ExemplarJson>,
}

/// A series of an instant query.
#[derive(Clone, Debug, Serialize)]
pub struct InstantSeries {
    /// Its labels.
    pub labels: Vec<LabelJson>,
    /// Its value; 0 is left out.
    #[serde(flatten)]
    pub value: Number,
}

/// A label in OTLP's form.
#[derive(Clone, Debug, Serialize)]
pub struct LabelJson {
    /// Name.
    pub key: String,
    /// An OTLP `AnyValue`.
    pub value: Value,
}

/// A value at a time.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub timestamp_ms: i64,
    /// The value.
    #[serde(flatten)]
    pub value: Number,
}

/// A span that stands for a value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExemplarJson {
    /// `trace:id` and what the query names.
    pub labels: Vec<LabelJson>,
    /// The value.
    #[serde(flatten)]
    pub value: Number,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub timestamp_ms: i64,
}

/// A number under the name `value`; 0 is left out, and what JSON has no numbers for is text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.0 != 0.0 {
            map.serialize_entry("value", &double(self.0))?;
        }
        map.end()
    }
}

impl RangeResponse {
    /// The answer with these series; `series_max` 0 means no bound.
    pub fn new(series: Vec<Series>, intervals: &Intervals, metrics: SearchMetrics, series_max: usize) -> Self {
        let (series, partial) = bounded(series, series_max);
        let series = series.into_iter().map(|s| range_series(s, intervals)).collect();
        Self { series, metrics, partial }
    }
}

impl InstantResponse {
    /// The answer with the first value of each series; `series_max` 0 means no bound.
    pub fn new(series: Vec<Series>, metrics: SearchMetrics, series_max: usize) -> Self {
        let (series, partial) = bounded(series, series_max);
        let series = series
            .into_iter()
            .filter_map(|s| Some(InstantSeries { value: Number(*s.values.first()?), labels: labels_json(&s.labels) }))
            .collect();
        Self { series, metrics, partial }
    }
}

fn range_series(series: Series, intervals: &Intervals) -> RangeSeries {
    let millis = |ns: i64| ns.div_euclid(1_000_000);
    let present = series.values.iter().enumerate().filter(|(_, v)| !v.is_nan());
    let samples = present.map(|(i, v)| Sample { timestamp_ms: millis(intervals.end_of(i)), value: Number(*v) }).collect();
    let exemplar =
        |e: &super::Exemplar| ExemplarJson { labels: labels_json(&e.labels), value: Number(e.value), timestamp_ms: millis(e.time) };
    RangeSeries { labels: labels_json(&series.labels), samples, exemplars: series.exemplars.iter().map(exemplar).collect() }
}

fn labels_json(labels: &[Label]) -> Vec<LabelJson> {
    let value = |label: &Label| any_value(&label.value).unwrap_or_else(|| json!({"stringValue": "nil"}));
    labels.iter().map(|l| LabelJson { key: l.name.clone(), value: value(l) }).collect()
}

/// Sorts the series by number of labels, then by the labels, and cuts them off at the bound. An answer that reaches the bound
/// is marked too, as Tempo does: it stops there and does not know whether there was more.
fn bounded(mut series: Vec<Series>, max: usize) -> (Vec<Series>, Option<Partial>) {
    series.sort_by_cached_key(|s| {
        let labels: Vec<(String, String)> = s.labels.iter().map(|l| (l.name.clone(), l.value.to_string())).collect();
        (labels.len(), labels)
    });
    let partial = (max > 0 && series.len() >= max).then(|| Partial {
        status: "PARTIAL",
        message: format!("Response exceeds maximum series limit of {max}, a partial response is returned. Group by fewer values or filter"),
    });
    if partial.is_some() {
        series.truncate(max);
    }
    (series, partial)
}
