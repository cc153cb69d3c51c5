//! What a scan need not look at, read off its filters: blocks outside the time range asked for.

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, Operator},
};

use super::columns::SpanField;
use crate::block::BlockMeta;

/// Bounds that every row of the answer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// No span starts before this, in Unix nanoseconds.
    pub start_at_least: i64,
    /// No span (or trace) starts after this, in Unix nanoseconds.
    pub start_at_most: i64,
    /// No trace ends before this, in Unix nanoseconds.
    pub end_at_least: i64,
}

impl Pruning {
    /// The bounds that the conjunction of `filters` implies.
    pub fn of(filters: &[Expr]) -> Self {
        let mut bounds = Self { start_at_least: i64::MIN, start_at_most: i64::MAX, end_at_least: i64::MIN };
        for filter in filters {
            bounds.add(filter);
        }
        bounds
    }

    /// The same, and no block outside this range.
    #[must_use]
    pub fn within(mut self, range: Option<(i64, i64)>) -> Self {
        if let Some((from, to)) = range {
            self.end_at_least = self.end_at_least.max(from);
            self.start_at_most = self.start_at_most.min(to);
        }
        self
    }

    fn add(&mut self, filter: &Expr) {
        let Expr::BinaryExpr(binary) = filter else { return };
        if binary.op == Operator::And {
            self.add(&binary.left);
            self.add(&binary.right);
            return;
        }
        let (op, (field, value)) = match (time_literal(&binary.left, &binary.right), time_literal(&binary.right, &binary.left)) {
            (Some(v), _) => (binary.op, v),
            (_, Some(v)) => (binary.op.swap().unwrap_or(Operator::NotEq), v),
            _ => return,
        };
        let (lower, upper) =
            (matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq), matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq));
        match field {
            SpanField::StartTime if lower => self.start_at_least = self.start_at_least.max(value),
            SpanField::TraceEndTime if lower => self.end_at_least = self.end_at_least.max(value),
            _ => {}
        }
        if matches!(field, SpanField::StartTime | SpanField::TraceStartTime) && upper {
            self.start_at_most = self.start_at_most.min(value);
        }
    }

    /// Whether no span of this block can be in the answer.
    pub fn excludes_block(&self, meta: &BlockMeta) -> bool {
        let second = 1_000_000_000; // metas of other writers are cut to whole seconds
        let (start, end) = (meta.start_time.as_nanosecond() as i64, meta.end_time.as_nanosecond() as i64);
        start > self.start_at_most || end.saturating_add(second) < self.start_at_least.max(self.end_at_least)
    }
}

/// The column and the literal's nanoseconds, if this is a time column compared with a timestamp.
fn time_literal(column: &Expr, literal: &Expr) -> Option<(SpanField, i64)> {
    let (Expr::Column(column), Expr::Literal(ScalarValue::TimestampNanosecond(Some(value), _), _)) = (column, literal) else { return None };
    let fields = [SpanField::StartTime, SpanField::TraceStartTime, SpanField::TraceEndTime];
    fields.into_iter().find(|f| f.describe().0 == column.name).map(|f| (f, *value))
}
