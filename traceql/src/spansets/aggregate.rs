//! `count() > 2`, `avg(duration) < 1s`: one value from the spans of a spanset, and its comparison with a literal.

use std::cmp::Ordering;

use crate::syntax::{AggregateFn, BinaryOp, EvalError, Static, value};

/// An aggregate compared with a literal.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarTest {
    /// The aggregate as text: the key under which its value is shown.
    pub name: String,
    /// Which.
    pub function: AggregateFn,
    /// Which of the program's values it is made from; none for `count()`.
    pub value: Option<usize>,
    /// A comparison.
    pub op: BinaryOp,
    /// Its right side.
    pub literal: Static,
}

impl ScalarTest {
    /// Whether an aggregated value passes. Only numbers can.
    pub fn passes(&self, aggregated: &Static) -> bool {
        let numbers = aggregated.as_f64().is_some() && self.literal.as_f64().is_some();
        numbers && value::binary(self.op, aggregated, &self.literal) == Ok(Static::Bool(true))
    }
}

/// Aggregates values; nil does not count, nor does the false that arithmetic with an absent attribute gives. `None` if there is no value.
///
/// # Errors
/// The first value that is an error.
pub fn aggregate(function: AggregateFn, values: impl Iterator<Item = Result<Static, EvalError>>) -> Result<Option<Static>, EvalError> {
    let (mut count, mut so_far) = (0, None);
    for value in values {
        let value = value?;
        if value == Static::Nil || (matches!(value, Static::Bool(_)) && function != AggregateFn::Count) {
            continue;
        }
        count += 1;
        so_far = Some(match so_far {
            None => value,
            Some(so_far) => match function {
                AggregateFn::Count => so_far,
                AggregateFn::Min => {
                    if order(&value, &so_far).is_lt() {
                        value
                    } else {
                        so_far
                    }
                }
                AggregateFn::Max => {
                    if order(&value, &so_far).is_gt() {
                        value
                    } else {
                        so_far
                    }
                }
                AggregateFn::Sum | AggregateFn::Avg => sum(so_far, &value),
            },
        });
    }
    Ok(match function {
        AggregateFn::Count => Some(Static::Int(count)),
        AggregateFn::Avg => so_far.map(|sum| share(sum, count)),
        _ => so_far,
    })
}

/// The order for min and max: numbers by size (NaN above all), other values by type.
fn order(a: &Static, b: &Static) -> Ordering {
    if let (Static::Float(a), Static::Float(b)) = (a, b) {
        return a.total_cmp(b);
    }
    value::compare(a, b).unwrap_or_else(|| rank(a).cmp(&rank(b)))
}

fn rank(value: &Static) -> u8 {
    match value {
        Static::Nil => 0,
        Static::Int(_) => 1,
        Static::Float(_) => 2,
        Static::String(_) => 3,
        Static::Bool(_) => 4,
        Static::Duration(_) => 5,
        Static::Status(_) => 6,
        Static::Kind(_) => 7,
        Static::Ints(_) | Static::Floats(_) | Static::Strings(_) | Static::Bools(_) => 8,
    }
}

/// The sum of numbers of one type: the first decides which, others are left out.
fn sum(so_far: Static, value: &Static) -> Static {
    match (so_far, value) {
        (Static::Int(a), Static::Int(b)) => Static::Int(a.wrapping_add(*b)),
        (Static::Duration(a), Static::Duration(b)) => Static::Duration(a.wrapping_add(*b)),
        (Static::Float(a), Static::Float(b)) => Static::Float(a + b),
        (so_far, _) => so_far,
    }
}

/// The mean: of ints a float, of durations a duration.
fn share(sum: Static, count: i64) -> Static {
    match sum {
        Static::Int(sum) => Static::Float(sum as f64 / count as f64),
        Static::Float(sum) => Static::Float(sum / count as f64),
        Static::Duration(sum) => Static::Duration(sum / count),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(function: AggregateFn, values: &[Static]) -> Option<Static> {
        aggregate(function, values.iter().cloned().map(Ok)).unwrap()
    }

    #[test]
    fn numbers_keep_their_type() {
        use Static::{Duration, Float, Int, Nil, String};
        let ints = [Int(3), Nil, Int(-1), Int(2)];
        assert_eq!(ask(AggregateFn::Min, &ints), Some(Int(-1)));
        assert_eq!(ask(AggregateFn::Max, &ints), Some(Int(3)));
        assert_eq!(ask(AggregateFn::Sum, &ints), Some(Int(4)));
        assert_eq!(ask(AggregateFn::Avg, &[Int(1), Nil, Int(2)]), Some(Float(1.5)));
        assert_eq!(ask(AggregateFn::Avg, &[Duration(1), Duration(2)]), Some(Duration(1)));
        assert_eq!(ask(AggregateFn::Min, &[Float(-1.0), Float(-2.0)]), Some(Float(-2.0)));
        assert_eq!(ask(AggregateFn::Max, &[Int(1), Float(1.5)]), Some(Float(1.5)));
        assert_eq!(ask(AggregateFn::Sum, &[Int(1), Float(1.5), Int(2)]), Some(Int(3)));
        assert_eq!(ask(AggregateFn::Avg, &[Int(3), Float(1.5), Int(3)]), Some(Float(2.0)));
        assert_eq!(ask(AggregateFn::Max, &[Int(1), String("x".into())]), Some(String("x".into())));
        for function in [AggregateFn::Min, AggregateFn::Max, AggregateFn::Sum, AggregateFn::Avg] {
            assert_eq!(ask(function, &[Nil, Nil]), None);
            // `absent + 2` is false.
            assert_eq!(ask(function, &[Static::Bool(false), Duration(3), Static::Bool(false)]), Some(Duration(3)));
        }
        assert!(matches!(ask(AggregateFn::Max, &[Float(f64::NAN), Float(1.0)]), Some(Float(x)) if x.is_nan()));
    }

    #[test]
    fn errors_are_passed_on() {
        let values = [Ok(Static::Int(1)), Err(EvalError::DivisionByZero)];
        assert_eq!(aggregate(AggregateFn::Sum, values.into_iter()), Err(EvalError::DivisionByZero));
    }

    #[test]
    fn only_numbers_pass() {
        let test = |op, literal| ScalarTest { name: String::new(), function: AggregateFn::Max, value: Some(0), op, literal };
        assert!(test(BinaryOp::Gt, Static::Int(1)).passes(&Static::Float(1.5)));
        assert!(test(BinaryOp::Ne, Static::Int(0)).passes(&Static::Duration(7)));
        assert!(test(BinaryOp::Ge, Static::Duration(1000)).passes(&Static::Float(1000.0)));
        assert!(!test(BinaryOp::Ne, Static::Int(0)).passes(&Static::String("x".into())));
        assert!(!test(BinaryOp::Gt, Static::Int(0)).passes(&Static::Ints(vec![1, 2])));
        assert!(!test(BinaryOp::Gt, Static::Int(0)).passes(&Static::Float(f64::NAN)));
    }
}
