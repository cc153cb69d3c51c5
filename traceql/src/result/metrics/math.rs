//! Arithmetic between series.

use super::{Label, NAME_LABEL, Series, drop_empty};
use crate::syntax::{BinaryOp, Static};

/// An operand: series, or a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// The series of an expression.
    Series(Vec<Series>),
    /// A number.
    Number(f64),
}

/// `lhs op rhs`. Series are paired by equal labels (the name aside); a single series without labels is paired with each of
/// the other side; what finds no partner vanishes. Division by zero gives no value.
pub fn combine(op: BinaryOp, lhs: Operand, rhs: Operand) -> Operand {
    let calculate = |a: f64, b: f64| match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        _ => f64::NAN,
    };
    let mut series = match (lhs, rhs) {
        (Operand::Number(a), Operand::Number(b)) => return Operand::Number(calculate(a, b)),
        (Operand::Series(all), Operand::Number(b)) => each(all, |a| calculate(a, b)),
        (Operand::Number(a), Operand::Series(all)) => each(all, |b| calculate(a, b)),
        (Operand::Series(left), Operand::Series(right)) => paired(op, left, right, &calculate),
    };
    drop_empty(&mut series);
    Operand::Series(series)
}

fn each(mut all: Vec<Series>, of: impl Fn(f64) -> f64) -> Vec<Series> {
    for series in &mut all {
        series.values.iter_mut().for_each(|v| *v = of(*v));
        series.exemplars.iter_mut().for_each(|e| e.value = of(e.value));
    }
    all
}

fn paired(op: BinaryOp, left: Vec<Series>, right: Vec<Series>, calculate: &dyn Fn(f64, f64) -> f64) -> Vec<Series> {
    let alone = |side: &[Series]| side.len() == 1 && side[0].identity().next().is_none();
    let pair = |a: &Series, b: &Series, labels_of: &Series, exemplars: Vec<super::Exemplar>| {
        let values: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| calculate(*a, *b)).collect();
        let mut labels: Vec<Label> = labels_of.identity().cloned().collect();
        if let (Some(a), Some(b)) = (name_of(a), name_of(b)) {
            labels.insert(0, Label::text(NAME_LABEL, format!("({a} {op} {b})")));
        }
        Series { labels, values, exemplars }
    };
    match (alone(&left), alone(&right)) {
        (true, false) => right.iter().map(|b| pair(&left[0], b, b, b.exemplars.clone())).collect(),
        (false, true) => left.iter().map(|a| pair(a, &right[0], a, a.exemplars.clone())).collect(),
        _ => {
            let same = |a: &Series, b: &Series| sorted(a) == sorted(b);
            left.iter()
                .filter_map(|a| {
                    let b = right.iter().find(|b| same(a, b))?;
                    Some(pair(a, b, a, a.exemplars.iter().chain(&b.exemplars).cloned().collect()))
                })
                .collect()
        }
    }
}

fn sorted(series: &Series) -> Vec<(&str, String)> {
    let mut labels: Vec<_> = series.identity().map(|l| (l.name.as_str(), format!("{:?}", l.value))).collect();
    labels.sort();
    labels
}

fn name_of(series: &Series) -> Option<&str> {
    series.labels.iter().find_map(|l| match &l.value {
        Static::String(name) if l.name == NAME_LABEL => Some(name.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, values: &[f64]) -> Series {
        Series { labels: vec![Label::text(NAME_LABEL, name)], values: values.to_vec(), exemplars: Vec::new() }
    }

    fn labelled(value: Static, values: &[f64]) -> Series {
        Series { labels: vec![Label::new("svc", value)], values: values.to_vec(), exemplars: Vec::new() }
    }

    fn svc(name: &str, values: &[f64]) -> Series {
        labelled(Static::String(name.into()), values)
    }

    fn run(op: BinaryOp, lhs: Operand, rhs: Operand) -> Vec<(String, Vec<f64>)> {
        let Operand::Series(all) = combine(op, lhs, rhs) else { panic!("a number") };
        all.into_iter().map(|s| (s.labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect::<String>(), s.values)).collect()
    }

    use Operand::{Number as N, Series as S};

    #[test]
    fn names_are_joined_and_numbers_keep_them() {
        let ratio = run(BinaryOp::Div, S(vec![named("rate", &[1.0, 4.0])]), S(vec![named("rate", &[2.0, 8.0])]));
        assert_eq!(ratio, [("__name__=`(rate / rate)`".into(), vec![0.5, 0.5])]);
        let percent = run(BinaryOp::Mul, S(vec![named("rate", &[0.5])]), N(100.0));
        assert_eq!(percent, [("__name__=`rate`".into(), vec![50.0])]);
        let turned = run(BinaryOp::Sub, N(10.0), S(vec![named("rate", &[4.0])]));
        assert_eq!(turned, [("__name__=`rate`".into(), vec![6.0])]);
    }

    #[test]
    fn equal_labels_are_paired_and_one_series_without_labels_goes_with_all() {
        let by = vec![svc("a", &[1.0]), svc("b", &[3.0]), svc("c", &[1.0])];
        let pairs = run(BinaryOp::Add, S(by.clone()), S(vec![svc("b", &[1.0]), svc("a", &[1.0])]));
        assert_eq!(pairs, [("svc=`a`".into(), vec![2.0]), ("svc=`b`".into(), vec![4.0])]);
        let share = run(BinaryOp::Div, S(by[..2].to_vec()), S(vec![named("rate", &[4.0])]));
        assert_eq!(share, [("svc=`a`".into(), vec![0.25]), ("svc=`b`".into(), vec![0.75])]);
        let typed = run(BinaryOp::Add, S(vec![labelled(Static::Int(1), &[1.0])]), S(vec![svc("1", &[1.0])]));
        assert_eq!(typed, []);
    }

    #[test]
    fn division_by_zero_gives_no_value() {
        let left = S(vec![named("a", &[1.0, 2.0])]);
        let Operand::Series(all) = combine(BinaryOp::Div, left, S(vec![named("b", &[0.0, 2.0])])) else { panic!("a number") };
        assert!(all[0].values[0].is_nan() && all[0].values[1] == 1.0);
        assert_eq!(run(BinaryOp::Div, S(vec![named("a", &[1.0])]), N(0.0)), []);
    }
}
