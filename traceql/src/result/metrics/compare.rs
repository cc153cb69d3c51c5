//! The series of `compare()`: for the selected spans and for the others, the most frequent values of each attribute, and how
//! many spans have it.

use std::collections::{BTreeMap, HashMap};

use tracehouse_engine::{Error, Result};

use super::{Label, Series};
use crate::{
    plan::metrics::{Counts, decode, encode},
    syntax::{Field, Static},
};

/// Label that says what a series counts.
const META_LABEL: &str = "__meta_type";

/// The two groups of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Spans that match the selection.
    Selection,
    /// The others.
    Baseline,
}

/// One attribute on one side: totals and values, each with a number of spans for each interval.
#[derive(Clone, Debug, Default)]
struct Compares {
    totals: Vec<f64>,
    values: HashMap<Vec<u8>, Vec<f64>>,
}

/// What `compare()` has counted.
#[derive(Clone, Debug)]
pub struct Compared {
    intervals: usize,
    sides: BTreeMap<(Side, String), (Field, Compares)>,
}

impl Compared {
    /// Nothing yet.
    pub fn new(intervals: usize) -> Self {
        Self { intervals, sides: BTreeMap::new() }
    }

    /// Adds the counts of an interval.
    pub fn add(&mut self, side: Side, interval: usize, counts: Counts) {
        if interval >= self.intervals {
            return;
        }
        let blank = || vec![0.0; self.intervals];
        for (field, counts) in counts.0 {
            let entry = self.sides.entry((side, field.to_string()));
            let (_, compares) = entry.or_insert_with(|| (field, Compares { totals: blank(), values: HashMap::new() }));
            compares.totals[interval] += counts.total as f64;
            for (value, spans) in counts.values {
                compares.values.entry(value).or_insert_with(blank)[interval] += spans as f64;
            }
        }
    }

    /// Attributes whose texts all could be bytes in base64.
    pub fn suspects(&self) -> Vec<Field> {
        let mut found: BTreeMap<&str, (&Field, bool, bool)> = BTreeMap::new();
        for ((_, name), (field, compares)) in &self.sides {
            let Field::Attribute(_) = field else { continue };
            let (_, texts, possible) = found.entry(name).or_insert((field, false, true));
            for value in compares.values.keys() {
                if let Some([Static::String(text)]) = decode(value).as_deref() {
                    *texts = true;
                    *possible &= may_be_base64(text);
                }
            }
        }
        found.into_values().filter(|(_, texts, possible)| *texts && *possible).map(|(field, ..)| field.clone()).collect()
    }

    /// Makes the texts of an attribute values without a type.
    pub fn forget_texts(&mut self, field: &Field) {
        let mut nil = Vec::new();
        encode(&Static::Nil, &mut nil);
        for (_, compares) in self.sides.values_mut().filter(|(f, _)| f == field) {
            let is_text = |value: &Vec<u8>| matches!(decode(value).as_deref(), Some([Static::String(_)]));
            let texts: Vec<Vec<u8>> = compares.values.keys().filter(|v| is_text(v)).cloned().collect();
            for text in texts {
                let counts = compares.values.remove(&text).unwrap_or_default();
                let sum = compares.values.entry(nil.clone()).or_insert_with(|| vec![0.0; counts.len()]);
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
    }

    /// The series: of each attribute the `top` most frequent values, and the total.
    pub fn series(self, top: usize) -> Result<Vec<Series>> {
        let mut out = Vec::new();
        for ((side, name), (_, compares)) in self.sides {
            let (values, total) = match side {
                Side::Selection => ("selection", "selection_total"),
                Side::Baseline => ("baseline", "baseline_total"),
            };
            let series = |kind: &str, value: Static, counts: Vec<f64>| {
                let value = if value == Static::Nil { Static::String("nil".into()) } else { value };
                Series { labels: vec![Label::text(META_LABEL, kind), Label::new(name.clone(), value)], values: counts, exemplars: vec![] }
            };
            let mut sorted: Vec<(Vec<u8>, Vec<f64>)> = compares.values.into_iter().collect();
            let spans = |counts: &[f64]| counts.iter().sum::<f64>();
            sorted.sort_by(|(a, x), (b, y)| spans(y).total_cmp(&spans(x)).then_with(|| a.cmp(b)));
            for (key, counts) in sorted.into_iter().take(top) {
                let mut value = decode(&key).ok_or_else(|| Error::internal("compare() gave a value that cannot be read"))?;
                out.push(series(values, value.pop().unwrap_or(Static::Nil), counts));
            }
            out.push(series(total, Static::Nil, compares.totals));
        }
        Ok(out)
    }
}

fn may_be_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() % 4 == 0 && text.len() - digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::metrics::AttributeCounts, syntax::Intrinsic};

    fn counts(values: &[(&str, u64)]) -> Counts {
        let mut all = AttributeCounts::default();
        for (value, spans) in values {
            let mut key = Vec::new();
            encode(&Static::String((*value).into()), &mut key);
            all.values.insert(key, *spans);
            all.total += spans;
        }
        Counts([(Field::Intrinsic(Intrinsic::Name), all)].into())
    }

    #[test]
    fn the_most_frequent_values_stay_and_totals_count_all() {
        let mut compared = Compared::new(2);
        compared.add(Side::Baseline, 0, counts(&[("a", 1), ("b", 5), ("c", 2)]));
        compared.add(Side::Baseline, 1, counts(&[("c", 9)]));
        compared.add(Side::Selection, 1, counts(&[("a", 1)]));
        let series = compared.series(2).unwrap();
        let show = |s: &Series| format!("{} {} {:?}", s.labels[0].value, s.labels[1].value, s.values);
        assert_eq!(
            series.iter().map(show).collect::<Vec<_>>(),
            [
                "`selection` `a` [0.0, 1.0]",
                "`selection_total` `nil` [0.0, 1.0]",
                "`baseline` `c` [2.0, 9.0]",
                "`baseline` `b` [5.0, 0.0]",
                "`baseline_total` `nil` [8.0, 9.0]"
            ]
        );
    }

    #[test]
    fn texts_that_may_be_bytes() {
        let texts = ["", "AAH+/w==", "POST", "abc", "a bc", "====", "AAA=", "shop-eu1"];
        assert_eq!(texts.map(may_be_base64), [true, true, true, false, false, false, true, false]);
    }
}
