//! Comparisons of times and durations with literals: what statistics can decide.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, Literal},
    },
};

use super::columns::{SpanColumn, SpanField};

/// A comparison of a time or duration with a literal, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    pub field: SpanField,
    pub op: Operator,
    pub literal: i64,
}

impl Comparison {
    /// What a condition over these columns compares, if it is such a comparison.
    pub fn of(columns: &[SpanColumn], expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        let binary = expr.downcast_ref::<BinaryExpr>()?;
        let ([SpanColumn::Field(field)], Some(_), Some(literal)) =
            (columns, binary.left().downcast_ref::<Column>(), binary.right().downcast_ref::<Literal>())
        else {
            return None;
        };
        let literal = match literal.value() {
            ScalarValue::TimestampNanosecond(Some(v), _) | ScalarValue::Int64(Some(v)) => *v,
            _ => return None,
        };
        Some(Self { field: *field, op: *binary.op(), literal })
    }

    /// The least and the greatest value that it can hold for, if it is of one range.
    pub fn within(&self) -> Option<(i64, i64)> {
        let literal = self.literal;
        Some(match self.op {
            Operator::Lt => (i64::MIN, literal.checked_sub(1)?),
            Operator::LtEq => (i64::MIN, literal),
            Operator::Gt => (literal.checked_add(1)?, i64::MAX),
            Operator::GtEq => (literal, i64::MAX),
            Operator::Eq => (literal, literal),
            _ => return None,
        })
    }

    /// Whether it holds for all values between these bounds or for none; `None` if it depends.
    pub fn decided(&self, (min, max): (i64, i64)) -> Option<bool> {
        let (all, none) = match self.op {
            Operator::Lt => (max < self.literal, min >= self.literal),
            Operator::LtEq => (max <= self.literal, min > self.literal),
            Operator::Gt => (min > self.literal, max <= self.literal),
            Operator::GtEq => (min >= self.literal, max < self.literal),
            Operator::Eq => (min == max && min == self.literal, self.literal < min || self.literal > max),
            _ => (false, false),
        };
        if all || none { Some(all) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_decide_comparisons() {
        let decided = |op, literal| Comparison { field: SpanField::DurationNs, op, literal }.decided((10, 20));
        let cases = [
            (Operator::Lt, [(10, Some(false)), (11, None), (20, None), (21, Some(true))]),
            (Operator::LtEq, [(9, Some(false)), (10, None), (19, None), (20, Some(true))]),
            (Operator::Gt, [(9, Some(true)), (10, None), (19, None), (20, Some(false))]),
            (Operator::GtEq, [(10, Some(true)), (11, None), (20, None), (21, Some(false))]),
            (Operator::Eq, [(9, Some(false)), (10, None), (20, None), (21, Some(false))]),
            (Operator::NotEq, [(9, None), (10, None), (20, None), (21, None)]),
        ];
        for (op, expected) in cases {
            for (literal, expected) in expected {
                assert_eq!(decided(op, literal), expected, "{op} {literal}");
            }
        }
    }
}
