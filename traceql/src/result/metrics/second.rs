//! Second stages: the largest and smallest series, and comparisons of their values.

use std::{borrow::Cow, cmp::Ordering};

use super::{Label, Series, drop_empty};
use crate::syntax::{BinaryOp, SecondStage, Static};

/// Applies stages in order.
pub fn apply(stages: &[SecondStage], series: &mut Vec<Series>) {
    for stage in stages {
        match stage {
            SecondStage::TopK(n) => keep(series, *n, true),
            SecondStage::BottomK(n) => keep(series, *n, false),
            SecondStage::Compare(op, literal) => compare(series, *op, literal),
        }
        drop_empty(series);
    }
}

/// At each time the `n` largest (or smallest) values stay, the others go.
fn keep(series: &mut [Series], n: i64, largest: bool) {
    let n = usize::try_from(n).unwrap_or(0);
    if series.len() <= n {
        return;
    }
    // Of equal values, the first in this order are the largest and the last the smallest.
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|a, b| tie_order(&series[*a].labels, &series[*b].labels));
    if !largest {
        order.reverse();
    }
    for interval in 0..series.first().map_or(0, |s| s.values.len()) {
        let value = |i: usize| series[i].values[interval];
        let mut present: Vec<usize> = order.iter().copied().filter(|i| !value(*i).is_nan()).collect();
        // The sort is stable, so equal values keep the order of ties.
        present.sort_by(|a, b| if largest { value(*b).total_cmp(&value(*a)) } else { value(*a).total_cmp(&value(*b)) });
        for i in present.into_iter().skip(n) {
            series[i].values[interval] = f64::NAN;
        }
    }
}

/// The order among equal values, as observed of Tempo 3.0.3: label by label, by the text of the value (numbers, booleans and
/// arrays have none), then by the label's name, then booleans before the empty text before floats before ints before all else, and
/// greater bits first. What has fewer labels comes first.
fn tie_order(a: &[Label], b: &[Label]) -> Ordering {
    let rank = |v: &Static| match v {
        Static::Bool(_) => 0,
        Static::String(_) => 1,
        Static::Float(_) => 2,
        Static::Int(_) => 3,
        _ => 4,
    };
    let bits = |v: &Static| match v {
        Static::Int(v) => *v as u64,
        Static::Float(v) => v.to_bits(),
        Static::Bool(v) => u64::from(*v),
        _ => 0,
    };
    let texts = |a: &Static, b: &Static| text_of(a).cmp(&text_of(b));
    let values = |a: &Static, b: &Static| rank(a).cmp(&rank(b)).then_with(|| bits(b).cmp(&bits(a)));
    for nth in 0..a.len().max(b.len()) {
        let order = match (a.get(nth), b.get(nth)) {
            (Some(a), Some(b)) => texts(&a.value, &b.value).then_with(|| a.name.cmp(&b.name)).then_with(|| values(&a.value, &b.value)),
            (Some(_), None) => Ordering::Greater,
            _ => Ordering::Less,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn text_of(value: &Static) -> Cow<'_, str> {
    match value {
        Static::String(text) => Cow::Borrowed(text),
        Static::Duration(_) | Static::Status(_) | Static::Kind(_) => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(""),
    }
}

/// Values that do not satisfy the comparison go. A duration is compared in seconds.
fn compare(series: &mut [Series], op: BinaryOp, literal: &Static) {
    let bound = match literal {
        Static::Duration(ns) => *ns as f64 / 1e9,
        other => other.as_f64().unwrap_or(f64::NAN),
    };
    let holds = |value: f64| match op {
        BinaryOp::Eq => value == bound,
        BinaryOp::Ne => value != bound,
        BinaryOp::Lt => value < bound,
        BinaryOp::Le => value <= bound,
        BinaryOp::Gt => value > bound,
        BinaryOp::Ge => value >= bound,
        _ => false,
    };
    for series in series {
        for value in &mut series.values {
            if !holds(*value) {
                *value = f64::NAN;
            }
        }
        series.exemplars.retain(|e| holds(e.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Status;

    fn series(label: Static, values: &[f64]) -> Series {
        Series { labels: vec![Label::new("l", label)], values: values.to_vec(), exemplars: Vec::new() }
    }

    fn text(label: &str, values: &[f64]) -> Series {
        series(Static::String(label.into()), values)
    }

    fn run(stages: &[SecondStage], mut input: Vec<Series>) -> Vec<(String, Vec<Option<f64>>)> {
        apply(stages, &mut input);
        let show = |s: &Series| (s.labels[0].value.to_string(), s.values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect());
        input.iter().map(show).collect()
    }

    #[test]
    fn the_largest_and_smallest_stay_and_ties_follow_labels() {
        let input = || vec![text("c", &[0.0, 3.0]), text("a", &[0.0, 1.0]), text("b", &[0.0, f64::NAN])];
        let top = run(&[SecondStage::TopK(1)], input());
        assert_eq!(top, [("`c`".into(), vec![None, Some(3.0)]), ("`a`".into(), vec![Some(0.0), None])]);
        let bottom = run(&[SecondStage::BottomK(1)], input());
        assert_eq!(bottom, [("`c`".into(), vec![Some(0.0), None]), ("`a`".into(), vec![None, Some(1.0)])]);
        assert_eq!(run(&[SecondStage::TopK(3)], input()).len(), 3);
    }

    #[test]
    fn numbers_and_booleans_in_ties() {
        // metrics-topk-010 and -008
        let buckets = vec![series(Static::Float(0.5), &[0.0]), series(Static::Float(4.0), &[0.0]), series(Static::Float(2.0), &[0.0])];
        assert_eq!(run(&[SecondStage::TopK(1)], buckets), [("4.0".into(), vec![Some(0.0)])]);
        let mixed = vec![text("", &[0.0]), series(Static::Int(7), &[0.0]), series(Static::Bool(true), &[0.0])];
        let top = run(&[SecondStage::TopK(2)], mixed);
        assert_eq!(top.iter().map(|(l, _)| l.as_str()).collect::<Vec<_>>(), ["``", "true"]);
    }

    /// As Tempo 3.0.3 ranks values of `by (span.mixed)`, and of two fields, where nothing is counted.
    #[test]
    fn ties_have_one_order_whatever_the_labels_are() {
        let label = |name: &str, value: Static| vec![Label::new(name, value)];
        let text = |t: &str| Static::String(t.into());
        let ordered = [
            label("k", Static::Bool(true)),
            label("k", Static::Bool(false)),
            label("k", text("")),
            label("k", Static::Float(-1.5)),
            label("k", Static::Float(2.5)),
            label("k", Static::Float(2.0)),
            label("k", Static::Int(-3)),
            label("k", Static::Int(3)),
            label("k", Static::Ints(vec![1, 2])),
            label("l", Static::Bool(true)),
            label("k", text("1")),
            label("l", text("1")),
            [label("l", text("1")), label("m", Static::Bool(true))].concat(),
            label("k", Static::Status(Status::Error)),
            label("k", text("nil")),
            label("k", text("y")),
        ];
        for (at, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(tie_order(a, b), at.cmp(&other), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn comparisons_keep_values_and_take_durations_as_seconds() {
        let input = vec![text("a", &[1.0, 0.1]), text("b", &[0.2, f64::NAN])];
        let kept = run(&[SecondStage::Compare(BinaryOp::Gt, Static::Duration(500_000_000))], input);
        assert_eq!(kept, [("`a`".into(), vec![Some(1.0), None])]);
        let chained = vec![text("a", &[4.0, 6.0, 60.0])];
        let stages = [SecondStage::Compare(BinaryOp::Gt, Static::Int(5)), SecondStage::Compare(BinaryOp::Lt, Static::Float(50.0))];
        assert_eq!(run(&stages, chained), [("`a`".into(), vec![None, Some(6.0), None])]);
    }
}
