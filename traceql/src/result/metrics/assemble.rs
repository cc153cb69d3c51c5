//! From the rows of a first-stage plan to series.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Decimal128Type,
};
use datafusion::common::HashMap;
use tracehouse_engine::{Error, Result};

use super::{BUCKET_LABEL, Histogram, Label, NAME_LABEL, QUANTILE_LABEL, Series, bucket_bound};
use crate::{
    metrics::time::Intervals,
    plan::metrics::{Output, decode, encode, float64, int32, int64, key_at},
    spansets::program::finds_nothing,
    syntax::{self, Field, MetricsFn, Static, Type},
    turns::Turns,
};

/// Groups that are looked at before the query can be stopped.
pub const GROUPS_AT_ONCE: usize = 4096;

/// One row: the spans of one group in one interval (and bucket).
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Key of the label values; empty if there are none.
    pub key: Vec<u8>,
    /// Number of the interval.
    pub interval: usize,
    /// Exponent of the bucket; 0 if the function has none.
    pub exponent: i32,
    /// Spans in the group.
    pub count: i64,
    /// Sum, smallest or largest value.
    pub value: f64,
    /// Place of one of the spans.
    pub witness: Option<i128>,
}

/// Series, and where exemplars of them can be found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assembled {
    /// The series, without exemplars.
    pub series: Vec<Series>,
    /// For each group: the number of its series, and the group.
    pub groups: Vec<(usize, Group)>,
}

/// Reads the rows of a batch.
pub fn groups_of(batch: &RecordBatch, outputs: &[Output], into: &mut Vec<Group>) -> Result<()> {
    let from = into.len();
    let empty = Group { key: Vec::new(), interval: 0, exponent: 0, count: 0, value: f64::NAN, witness: None };
    into.resize(from + batch.num_rows(), empty);
    let rows = &mut into[from..];
    for (output, array) in outputs.iter().zip(batch.columns()) {
        match output {
            Output::Interval => {
                let numbers = int32(array)?;
                rows.iter_mut().enumerate().for_each(|(i, row)| row.interval = numbers.value(i).max(0) as usize);
            }
            Output::Key => {
                for (i, row) in rows.iter_mut().enumerate() {
                    row.key = key_at(array, i)?.to_vec();
                }
            }
            Output::Exponent => {
                let numbers = int32(array)?;
                rows.iter_mut().enumerate().for_each(|(i, row)| row.exponent = numbers.value(i));
            }
            Output::Count => {
                let numbers = int64(array)?;
                rows.iter_mut().enumerate().for_each(|(i, row)| row.count = numbers.value(i));
            }
            Output::Value => {
                let numbers = float64(array)?;
                rows.iter_mut().enumerate().for_each(|(i, row)| row.value = numbers.value(i));
            }
            // See `groups_of_members`.
            Output::Members => {}
            Output::Witness => {
                let places = array.as_primitive_opt::<Decimal128Type>();
                let places = places.ok_or_else(|| Error::internal("a metrics plan gave no places"))?;
                rows.iter_mut().enumerate().for_each(|(i, row)| row.witness = Some(places.value(i)));
            }
        }
    }
    Ok(())
}

/// Reads the rows of a batch for each of `series` series: the first counts all, the others those that the members name.
pub fn groups_of_members(batch: &RecordBatch, outputs: &[Output], series: usize) -> Result<Vec<Vec<Group>>> {
    let mut all = Vec::new();
    groups_of(batch, outputs, &mut all)?;
    let column = outputs.iter().position(|output| *output == Output::Members).and_then(|at| batch.columns().get(at));
    let members = int32(column.ok_or_else(|| Error::internal("a metrics plan gave no members"))?)?;
    let counts = |member: usize, row: usize| members.value(row) & (1 << member) != 0;
    let of = |member: usize| all.iter().enumerate().filter(move |(row, _)| counts(member, *row)).map(|(_, group)| group.clone()).collect();
    let others: Vec<Vec<Group>> = (0..series.saturating_sub(1)).map(of).collect();
    Ok([all].into_iter().chain(others).collect())
}

/// The series of a function from all its groups.
pub async fn assemble(series: &syntax::Series, intervals: &Intervals, groups: Vec<Group>) -> Result<Assembled> {
    match &series.function {
        MetricsFn::HistogramOverTime(field) => histograms(series, intervals, groups, unit_of(field)).await,
        MetricsFn::QuantileOverTime(field, quantiles) => quantile_series(series, intervals, groups, quantiles, unit_of(field)).await,
        _ => plain(series, intervals, groups).await,
    }
}

/// Durations are bucketed in nanoseconds and shown in seconds.
fn unit_of(field: &Field) -> f64 {
    match field {
        Field::Intrinsic(i) if i.value_type() == Type::Duration => 1e-9,
        _ => 1.0,
    }
}

/// Numbers for things in the order of their first appearance.
struct Numbering<K>(HashMap<K, usize>);

impl<K: std::hash::Hash + Eq + Clone> Numbering<K> {
    fn number(&mut self, key: &K) -> (usize, bool) {
        if let Some(known) = self.0.get(key) {
            return (*known, false);
        }
        let next = self.0.len();
        self.0.insert(key.clone(), next);
        (next, true)
    }
}

async fn plain(series: &syntax::Series, intervals: &Intervals, groups: Vec<Group>) -> Result<Assembled> {
    let counts = matches!(series.function, MetricsFn::Rate | MetricsFn::CountOverTime);
    let blank = vec![if counts { 0.0 } else { f64::NAN }; intervals.count];
    let mut out = Assembled::default();
    let mut numbering = Numbering(HashMap::default());
    let mut turns = Turns::of(GROUPS_AT_ONCE);
    for group in absent_as_text(series, groups) {
        turns.step().await;
        let (at, new) = numbering.number(&group.key);
        if new {
            out.series.push(Series { labels: labels_of(series, &group.key, None)?, values: blank.clone(), exemplars: Vec::new() });
        }
        let value = match series.function {
            MetricsFn::Rate => group.count as f64 / intervals.step_seconds(),
            MetricsFn::CountOverTime => group.count as f64,
            MetricsFn::AvgOverTime(_) => group.value / group.count as f64,
            _ => group.value,
        };
        if let Some(slot) = out.series[at].values.get_mut(group.interval) {
            *slot = value;
            out.groups.push((at, group));
        }
    }
    // Nothing counted is a count of nothing, but where nothing is looked for.
    if counts && series.by.is_empty() && out.series.is_empty() && !finds_nothing(&series.pipeline) {
        out.series.push(Series { labels: labels_of(series, &[], None)?, values: blank, exemplars: Vec::new() });
    }
    Ok(out)
}

/// Spans that have none of the fields and spans whose first field is the text "nil" have the same labels: they are one series.
fn absent_as_text(series: &syntax::Series, groups: Vec<Group>) -> Vec<Group> {
    let key = |first: Static| {
        let mut bytes = Vec::new();
        encode(&first, &mut bytes);
        (1..series.by.len()).for_each(|_| encode(&Static::Nil, &mut bytes));
        bytes
    };
    let (absent, text) = (key(Static::Nil), key(Static::String("nil".into())));
    if series.by.is_empty() || !groups.iter().any(|g| g.key == absent) || !groups.iter().any(|g| g.key == text) {
        return groups;
    }
    let (moved, mut kept): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(|g| g.key == absent);
    let mut places: BTreeMap<usize, usize> =
        kept.iter().enumerate().filter(|(_, g)| g.key == text).map(|(at, g)| (g.interval, at)).collect();
    for group in moved {
        let Some(known) = places.get(&group.interval).and_then(|at| kept.get_mut(*at)) else {
            places.insert(group.interval, kept.len());
            kept.push(Group { key: text.clone(), ..group });
            continue;
        };
        known.count += group.count;
        known.value = match series.function {
            MetricsFn::MinOverTime(_) => known.value.min(group.value),
            MetricsFn::MaxOverTime(_) => known.value.max(group.value),
            _ => known.value + group.value,
        };
        known.witness = known.witness.or(group.witness);
    }
    kept
}

async fn histograms(series: &syntax::Series, intervals: &Intervals, groups: Vec<Group>, unit: f64) -> Result<Assembled> {
    let mut out = Assembled::default();
    let mut numbering = Numbering(HashMap::default());
    let mut turns = Turns::of(GROUPS_AT_ONCE);
    for group in groups {
        turns.step().await;
        let (at, new) = numbering.number(&(group.key.clone(), group.exponent));
        if new {
            let bucket = Label::new(BUCKET_LABEL, Static::Float(bucket_bound(group.exponent, unit)));
            let labels = labels_of(series, &group.key, Some(bucket))?;
            out.series.push(Series { labels, values: vec![0.0; intervals.count], exemplars: Vec::new() });
        }
        if let Some(slot) = out.series[at].values.get_mut(group.interval) {
            *slot = group.count as f64;
            out.groups.push((at, group));
        }
    }
    Ok(out)
}

async fn quantile_series(
    series: &syntax::Series,
    intervals: &Intervals,
    groups: Vec<Group>,
    quantiles: &[f64],
    unit: f64,
) -> Result<Assembled> {
    // A quantile asked for twice is one series.
    let again = |(nth, q): &(usize, &f64)| quantiles[..*nth].contains(q);
    let quantiles: Vec<f64> = quantiles.iter().enumerate().filter(|one| !again(one)).map(|(_, q)| *q).collect();
    let mut out = Assembled::default();
    let mut numbering = Numbering(HashMap::default());
    let mut histograms: Vec<BTreeMap<usize, Histogram>> = Vec::new();
    let mut placed = Vec::with_capacity(groups.len());
    let mut turns = Turns::of(GROUPS_AT_ONCE);
    for group in groups {
        turns.step().await;
        let (at, new) = numbering.number(&group.key);
        if new {
            histograms.push(BTreeMap::new());
            for q in &quantiles {
                let labels = labels_of(series, &group.key, Some(Label::new(QUANTILE_LABEL, Static::Float(*q))))?;
                out.series.push(Series { labels, values: vec![0.0; intervals.count], exemplars: Vec::new() });
            }
        }
        if group.interval < intervals.count {
            histograms[at].entry(group.interval).or_default().add(group.exponent, group.count.max(0) as u64);
            placed.push((at, group));
        }
    }
    for (at, by_interval) in histograms.iter().enumerate() {
        for (interval, histogram) in by_interval {
            turns.step().await;
            for (nth, q) in quantiles.iter().enumerate() {
                out.series[at * quantiles.len() + nth].values[*interval] = histogram.quantile(*q, unit);
            }
        }
    }
    // A span stands for the lowest quantile whose value is not below its bucket.
    for (at, group) in placed {
        turns.step().await;
        let all = &out.series[at * quantiles.len()..(at + 1) * quantiles.len()];
        let lower = bucket_bound(group.exponent - 1, unit);
        let reached = all.iter().enumerate().filter(|(_, s)| s.values[group.interval] > lower);
        let lowest = reached.min_by(|(_, a), (_, b)| a.values[group.interval].total_cmp(&b.values[group.interval]));
        if let Some((nth, _)) = lowest {
            out.groups.push((at * quantiles.len() + nth, group));
        }
    }
    Ok(out)
}

/// The labels of a group: the values that are there, then the function's own label. If none is there, the first label says
/// "nil"; without `by(...)` the name of the function tells what the series is.
pub fn labels_of(series: &syntax::Series, key: &[u8], own: Option<Label>) -> Result<Vec<Label>> {
    let values = decode(key).ok_or_else(|| Error::internal("a metrics plan gave a key that cannot be read"))?;
    let named = series.by.iter().zip(values).filter(|(_, value)| *value != Static::Nil);
    let mut labels: Vec<Label> = named.map(|(field, value)| Label::new(field.to_string(), value)).collect();
    labels.extend(own);
    if labels.is_empty() {
        labels.push(match series.by.first() {
            Some(field) => Label::text(field.to_string(), "nil"),
            None => Label::text(NAME_LABEL, series.function.name()),
        });
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::metrics::encode,
        syntax::{MetricsExpr, Root},
    };

    fn series(query: &str) -> syntax::Series {
        match syntax::parse(query).unwrap().root {
            Root::Metrics(syntax::Metrics { expr: MetricsExpr::Series(series), .. }) => *series,
            other => panic!("{other:?}"),
        }
    }

    fn group(key: &[Static], interval: usize, exponent: i32, count: i64, value: f64) -> Group {
        let mut bytes = Vec::new();
        key.iter().for_each(|v| encode(v, &mut bytes));
        Group { key: bytes, interval, exponent, count, value, witness: Some(0) }
    }

    /// Each series as `name=value,... values`, for three intervals of 10 s.
    fn run(query: &str, groups: Vec<Group>) -> Vec<String> {
        let intervals = Intervals::range(10_000_000_000, 30_000_000_000, 10_000_000_000);
        assert_eq!(intervals.count, 3);
        let labels = |s: &Series| s.labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect::<Vec<_>>().join(",");
        let assembled = futures::executor::block_on(assemble(&series(query), &intervals, groups)).unwrap();
        assembled.series.iter().map(|s| format!("{} {:?}", labels(s), s.values)).collect()
    }

    #[test]
    fn counts_fill_empty_intervals_and_values_do_not() {
        assert_eq!(run("{} | rate()", vec![group(&[], 1, 0, 5, 0.0)]), ["__name__=`rate` [0.0, 0.5, 0.0]"]);
        assert_eq!(run("{} | count_over_time()", vec![]), ["__name__=`count_over_time` [0.0, 0.0, 0.0]"]);
        assert_eq!(run("{} | max_over_time(duration)", vec![group(&[], 0, 0, 0, 2.5)]), ["__name__=`max_over_time` [2.5, NaN, NaN]"]);
        assert_eq!(run("{} | avg_over_time(.a)", vec![group(&[], 2, 0, 4, 2.0)]), ["__name__=`avg_over_time` [NaN, NaN, 0.5]"]);
        assert_eq!(run("{} | sum_over_time(.a)", vec![]), Vec::<String>::new());
    }

    #[test]
    fn labels_keep_types_and_leave_out_what_is_absent() {
        let text = |t: &str| Static::String(t.into());
        let groups = vec![
            group(&[Static::Int(1), Static::Nil], 0, 0, 1, 0.0),
            group(&[text("1"), text("x")], 1, 0, 2, 0.0),
            group(&[Static::Nil, Static::Nil], 2, 0, 3, 0.0),
        ];
        assert_eq!(
            run("{} | count_over_time() by (span.a, resource.b)", groups),
            ["span.a=1 [1.0, 0.0, 0.0]", "span.a=`1`,resource.b=`x` [0.0, 2.0, 0.0]", "span.a=`nil` [0.0, 0.0, 3.0]"]
        );
        assert_eq!(run("{} | rate() by (span.a)", vec![]), Vec::<String>::new());
    }

    /// As Tempo 3.0.3 answers: its label of what is absent is the text "nil".
    #[test]
    fn the_text_nil_and_what_is_absent_are_one_series() {
        let nil = || Static::String("nil".into());
        let groups = || vec![group(&[Static::Nil], 0, 0, 2, 5.0), group(&[nil()], 0, 0, 1, 3.0), group(&[Static::Nil], 1, 0, 4, 8.0)];
        assert_eq!(run("{} | count_over_time() by (span.a)", groups()), ["span.a=`nil` [3.0, 4.0, 0.0]"]);
        assert_eq!(run("{} | max_over_time(span.b) by (span.a)", groups()), ["span.a=`nil` [5.0, 8.0, NaN]"]);
        assert_eq!(run("{} | avg_over_time(span.b) by (span.a)", groups()), ["span.a=`nil` [2.6666666666666665, 2.0, NaN]"]);
        let second = vec![group(&[Static::Nil, nil()], 0, 0, 2, 0.0), group(&[Static::Nil, Static::Nil], 0, 0, 1, 0.0)];
        assert_eq!(
            run("{} | count_over_time() by (span.a, span.b)", second),
            ["span.b=`nil` [2.0, 0.0, 0.0]", "span.a=`nil` [1.0, 0.0, 0.0]"]
        );
    }

    #[test]
    fn histograms_and_quantiles_have_a_label_of_their_own() {
        let groups = || vec![group(&[Static::Nil], 0, 20, 4, 0.0), group(&[Static::Nil], 2, 21, 1, 0.0)];
        assert_eq!(
            run("{} | histogram_over_time(duration) by (span.a)", groups()),
            ["__bucket=0.001048576 [4.0, 0.0, 0.0]", "__bucket=0.002097152 [0.0, 0.0, 1.0]"]
        );
        assert_eq!(run("{} | quantile_over_time(duration, 1, 1) by (span.a)", groups())[0], "p=1.0 [0.001048576, 0.0, 0.002097152]");
    }
}
