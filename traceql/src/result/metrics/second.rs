//! Second stages: the largest and smallest series, and comparisons of their values.

use std::cmp::Ordering;

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

/// The order among equal values, as observed of Tempo: label by label, booleans before text before numbers, greater numbers
/// and smaller texts first.
fn tie_order(a: &[Label], b: &[Label]) -> Ordering {
    let rank = |v: &Static| match v {
        Static::Bool(_) => 0,
        Static::Float(_) => 2,
        Static::Int(_) => 3,
        Static::Nil => 4,
        _ => 1,
    };
    let values = |a: &Static, b: &Static| match (a, b) {
        (Static::Int(a), Static::Int(b)) => (*b as u64).cmp(&(*a as u64)),
        (Static::Float(a), Static::Float(b)) => b.to_bits().cmp(&a.to_bits()),
        (Static::Bool(a), Static::Bool(b)) => b.cmp(a),
        (Static::String(a), Static::String(b)) => a.cmp(b),
        _ => a.to_string().cmp(&b.to_string()),
    };
    for (a, b) in a.iter().zip(b) {
        let order = a.name.cmp(&b.name).then_with(|| rank(&a.value).cmp(&rank(&b.value))).then_with(|| values(&a.value, &b.value));
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
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
