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
    turns::Turns,
};

/// Series that are made into JSON before the query can be stopped.
const SERIES_AT_ONCE: usize = 256;

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
    /// The answer as JSON, made series by series.
    ///
    /// # Errors
    /// None that is known.
    pub async fn to_json(mut self) -> Result<Vec<u8>, serde_json::Error> {
        const HEAD: &[u8] = br#"{"series":["#;
        let series = std::mem::take(&mut self.series);
        let rest = serde_json::to_vec(&self)?;
        let (mut json, mut turns) = (HEAD.to_vec(), Turns::of(SERIES_AT_ONCE));
        for (i, one) in series.iter().enumerate() {
            if i > 0 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, one)?;
            turns.step().await;
        }
        json.extend_from_slice(rest.strip_prefix(HEAD).unwrap_or(b"]}"));
        Ok(json)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Static;

    #[test]
    fn zeros_and_absent_values_are_left_out() {
        let intervals = Intervals::range(10_000_000_000, 20_000_000_000, 10_000_000_000);
        let one = |label: &str, values: Vec<f64>| Series { labels: vec![Label::text("l", label)], values, exemplars: vec![] };
        let series = vec![one("b", vec![0.0, f64::INFINITY]), one("a", vec![1.5, f64::NAN])];
        let range = RangeResponse::new(series.clone(), &intervals, SearchMetrics::default(), 0);
        assert_eq!(
            serde_json::to_value(&range).unwrap(),
            json!({"series": [
                {"labels": [{"key": "l", "value": {"stringValue": "a"}}], "samples": [{"timestampMs": "10000", "value": 1.5}]},
                {"labels": [{"key": "l", "value": {"stringValue": "b"}}],
                 "samples": [{"timestampMs": "10000"}, {"timestampMs": "20000", "value": "Infinity"}]},
            ], "metrics": {}})
        );
        for response in [range, RangeResponse { partial: bounded(series.clone(), 1).1, ..RangeResponse::default() }] {
            let whole = serde_json::to_vec(&response).unwrap();
            assert_eq!(futures::executor::block_on(response.to_json()).unwrap(), whole);
        }
        let instant = InstantResponse::new(series, SearchMetrics::default(), 1);
        let text = serde_json::to_value(&instant).unwrap();
        assert_eq!(text["series"], json!([{"labels": [{"key": "l", "value": {"stringValue": "a"}}], "value": 1.5}]));
        assert_eq!(text["status"], "PARTIAL");
    }

    #[test]
    fn series_are_sorted_by_number_of_labels_first() {
        let with = |labels: Vec<Label>| Series { labels, values: vec![1.0], exemplars: vec![] };
        let two = with(vec![Label::new("a", Static::Int(1)), Label::new("b", Static::Int(1))]);
        let (sorted, partial) = bounded(vec![two, with(vec![Label::text("z", "z")])], 0);
        assert_eq!((sorted[0].labels.len(), sorted[1].labels.len(), partial.is_none()), (1, 2, true));
    }
}
