//! Everything outside braces: spansets, pipelines, scalars and series as operands of one
//! expression grammar.
//!
//! `(` may open any of them, so the parser reads an operand first and then knows its sort;
//! the sort decides which operators may follow and what they may join.

use super::super::ast::{
    Aggregate, AggregateFn, BinaryOp, FieldExpr, MetricsExpr, Pipeline, ScalarExpr, ScalarFilter, SpansetExpr, SpansetOp, Stage,
};
use super::super::lexer::Tok;
use super::super::value::{self, Static};
use super::{Parsed, Parser, level};

/// An operand, by sort. The height of each is kept beside it.
pub(super) enum Operand {
    /// A number, arithmetic done.
    Number(Static),
    /// Contains an aggregate.
    Scalar(ScalarExpr),
    /// Two scalars compared: a stage.
    Filter(ScalarFilter),
    /// Filters in braces, joined.
    Spansets(SpansetExpr),
    /// The same in parentheses: also usable as a pipeline in parentheses.
    ParenSpansets(SpansetExpr),
    /// Pipelines in parentheses, joined.
    Pipelines(SpansetExpr),
    /// A pipeline that is more than one spanset expression, without parentheses.
    Stages(Pipeline),
    /// Series, or arithmetic on them.
    Metrics(MetricsExpr),
}

/// What a stage of a pipeline turned out to be.
enum Step {
    Stage(Stage),
    /// `| count()` at the end of a pipeline in parentheses.
    Aggregate(Aggregate),
}

/// The operator between two operands.
#[derive(Clone, Copy)]
enum Op {
    Spanset(SpansetOp),
    Value(BinaryOp),
}

impl Parser<'_> {
    /// A query without `with`, or what stands between parentheses (`wrapped`).
    pub(super) fn body(&mut self, wrapped: bool) -> Parsed<(Operand, usize)> {
        let (stage, height) = if matches!(self.word(), Some("by" | "select")) {
            self.keyword_stage()?
        } else {
            let (operand, height) = self.operand(level::LOGIC)?;
            match operand {
                Operand::Spansets(expr) | Operand::ParenSpansets(expr) if self.at_symbol("|") => (Stage::Spansets(expr), height),
                Operand::Filter(filter) => (Stage::Scalar(filter), height),
                other => return Ok((other, height)),
            }
        };
        self.pipeline(stage, height, wrapped)
    }

    /// The stages after the first.
    fn pipeline(&mut self, first: Stage, first_height: usize, wrapped: bool) -> Parsed<(Operand, usize)> {
        let mut stages = vec![first];
        let mut height = self.height(&[first_height])?;
        while self.eat_symbol("|") {
            if let Some((series, series_height)) = self.series(&mut stages)? {
                height = self.height(&[height, series_height])?;
                return Ok((Operand::Metrics(series), height));
            }
            let (step, step_height) = self.step(wrapped)?;
            height = self.height(&[height - 1, step_height])?;
            match step {
                Step::Stage(stage) => stages.push(stage),
                Step::Aggregate(aggregate) => {
                    let scalar = ScalarExpr::Pipeline(Box::new(Pipeline { stages }), aggregate);
                    return Ok((Operand::Scalar(scalar), height));
                }
            }
        }
        Ok((Operand::Stages(Pipeline { stages }), height))
    }

    /// A stage after `|`.
    fn step(&mut self, wrapped: bool) -> Parsed<(Step, usize)> {
        if matches!(self.word(), Some("by" | "coalesce" | "select")) {
            let (stage, height) = self.keyword_stage()?;
            return Ok((Step::Stage(stage), height));
        }
        let start = self.at;
        let (operand, height) = self.operand(level::LOGIC)?;
        let step = match operand {
            Operand::Spansets(expr) | Operand::ParenSpansets(expr) => Step::Stage(Stage::Spansets(expr)),
            Operand::Filter(filter) => Step::Stage(Stage::Scalar(filter)),
            Operand::Scalar(ScalarExpr::Aggregate(aggregate)) if wrapped && self.at_symbol(")") => Step::Aggregate(aggregate),
            Operand::Number(_) | Operand::Scalar(_) => return Err(self.unexpected(&[])),
            Operand::Pipelines(_) | Operand::Stages(_) | Operand::Metrics(_) => {
                return Err(self.unexpected_at(start, &[]));
            }
        };
        Ok((step, height))
    }

    /// `by(expr)`, `coalesce()`, `select(a, b)`.
    fn keyword_stage(&mut self) -> Parsed<(Stage, usize)> {
        if self.eat_word("select") {
            return Ok((Stage::Select(self.field_list()?), 1));
        }
        let coalesce = self.eat_word("coalesce");
        if !coalesce {
            self.advance();
        }
        self.expect_symbol("(")?;
        if coalesce {
            self.expect_symbol(")")?;
            return Ok((Stage::Coalesce, 1));
        }
        let (expr, height) = self.field_expr(level::LOGIC)?;
        self.expect_symbol(")")?;
        Ok((Stage::By(expr), height))
    }

    /// Operands joined by operators that bind at least as tight as `level_min`.
    fn operand(&mut self, level_min: u8) -> Parsed<(Operand, usize)> {
        self.nested(|parser| {
            let (mut lhs, mut height) = parser.operand_primary()?;
            while let Some((op, level)) = parser.op_after(&lhs) {
                if level < level_min {
                    break;
                }
                parser.advance();
                if matches!(op, Op::Spanset(_)) && !parser.at_symbol("(") && !parser.at_symbol("{") {
                    return Err(parser.unexpected(&["{", "("]));
                }
                let start = parser.at;
                let right_level = if level == level::POWER { level } else { level + 1 };
                let (rhs, right_height) = parser.operand(right_level)?;
                height = parser.height(&[height, right_height])?;
                lhs = parser.join(op, lhs, rhs, start)?;
            }
            Ok((lhs, height))
        })
    }

    /// The operator that follows, if this sort of operand has it.
    fn op_after(&self, lhs: &Operand) -> Option<(Op, u8)> {
        let value_op = self.value_op();
        match lhs {
            Operand::Spansets(_) | Operand::ParenSpansets(_) | Operand::Pipelines(_) => {
                self.spanset_op().map(|(op, level)| (Op::Spanset(op), level))
            }
            Operand::Number(_) | Operand::Scalar(_) => {
                value_op.filter(|(op, _)| op.is_arithmetic() || op.is_comparison()).map(|(op, level)| (Op::Value(op), level))
            }
            Operand::Metrics(_) => value_op.filter(|(op, _)| is_math(*op)).map(|(op, level)| (Op::Value(op), level)),
            Operand::Filter(_) | Operand::Stages(_) => None,
        }
    }

    /// `lhs op rhs`, where the tokens of `rhs` begin at `start`.
    fn join(&self, op: Op, lhs: Operand, rhs: Operand, start: usize) -> Parsed<Operand> {
        use Operand as O;
        let op = match op {
            Op::Spanset(op) => return self.join_spansets(op, lhs, rhs, start),
            Op::Value(op) => op,
        };
        Ok(match (lhs, rhs) {
            (O::Number(a), O::Number(b)) if is_math(op) => O::Number(self.fold(op, &a, &b, start)?),
            (O::Number(a), O::Metrics(b)) if is_math(op) => O::Metrics(math(op, self.math_scalar(a, start)?, b)),
            (O::Metrics(a), O::Number(b)) => O::Metrics(math(op, a, self.math_scalar(b, start)?)),
            (O::Metrics(a), O::Metrics(b)) => O::Metrics(math(op, a, b)),
            (O::Number(_), O::Number(_)) => return Err(self.unexpected(&[])),
            (O::Number(a), O::Scalar(b)) => scalar(op, ScalarExpr::Static(a), b),
            (O::Scalar(a), O::Number(b)) => scalar(op, a, ScalarExpr::Static(b)),
            (O::Scalar(a), O::Scalar(b)) => scalar(op, a, b),
            _ => return Err(self.unexpected_at(start, &[])),
        })
    }

    fn join_spansets(&self, op: SpansetOp, lhs: Operand, rhs: Operand, start: usize) -> Parsed<Operand> {
        use Operand as O;
        let pipelines = |lhs, rhs| O::Pipelines(spansets(op, lhs, rhs));
        Ok(match (lhs, rhs) {
            (O::Spansets(a) | O::ParenSpansets(a), O::Spansets(b) | O::ParenSpansets(b)) => O::Spansets(spansets(op, a, b)),
            (O::Pipelines(a), O::Pipelines(b)) => pipelines(a, b),
            (O::ParenSpansets(a), O::Pipelines(b)) => pipelines(wrap(a), b),
            (O::Pipelines(a), O::ParenSpansets(b)) => pipelines(a, wrap(b)),
            _ => return Err(self.unexpected_at(start, &[])),
        })
    }

    fn operand_primary(&mut self) -> Parsed<(Operand, usize)> {
        if let Tok::Int(_) | Tok::Float(_) | Tok::Duration(_) = self.peek() {
            return Ok((Operand::Number(self.literal()?), 1));
        }
        if self.at_symbol("{") {
            let (expr, height) = self.spanset_filter()?;
            return Ok((Operand::Spansets(SpansetExpr::Filter(expr)), self.height(&[height])?));
        }
        if self.eat_symbol("-") {
            let start = self.at;
            return match self.nested(Self::operand_primary)? {
                (Operand::Number(value), height) => Ok((Operand::Number(super::field::negate(value)), height)),
                _ => Err(self.unexpected_at(start, &["INTEGER", "FLOAT", "DURATION"])),
            };
        }
        if self.eat_symbol("(") {
            let (operand, height) = self.nested(|parser| parser.body(true))?;
            self.expect_symbol(")")?;
            let height = self.height(&[height])?;
            return Ok((parenthesised(operand), height));
        }
        let (aggregate, height) = self.aggregate()?;
        Ok((Operand::Scalar(ScalarExpr::Aggregate(aggregate)), height))
    }

    /// `count()`, `avg(expr)` and so on.
    fn aggregate(&mut self) -> Parsed<(Aggregate, usize)> {
        let function = match self.word() {
            Some("count") => AggregateFn::Count,
            Some("min") => AggregateFn::Min,
            Some("max") => AggregateFn::Max,
            Some("avg") => AggregateFn::Avg,
            Some("sum") => AggregateFn::Sum,
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        self.expect_symbol("(")?;
        let (expr, height): (Option<FieldExpr>, usize) = if function == AggregateFn::Count {
            (None, 0)
        } else {
            let (expr, height) = self.field_expr(level::LOGIC)?;
            (Some(expr), height)
        };
        self.expect_symbol(")")?;
        Ok((Aggregate { function, expr }, self.height(&[height])?))
    }

    /// A number, arithmetic done: the right side of a comparison with series.
    pub(super) fn number(&mut self) -> Parsed<Static> {
        let start = self.at;
        match self.operand(level::SUM)? {
            (Operand::Number(value), _) => Ok(value),
            _ => Err(self.unexpected_at(start, &[])),
        }
    }

    /// Arithmetic between two numbers, at parse time.
    fn fold(&self, op: BinaryOp, lhs: &Static, rhs: &Static, start: usize) -> Parsed<Static> {
        let failed = |message: String| super::Error::at(self.text, self.tokens[start].offset, message);
        match value::binary(op, lhs, rhs) {
            Ok(Static::Float(x)) if !x.is_finite() => Err(failed("number out of range".to_owned())),
            Ok(value) => Ok(value),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// A number as operand of series: without unit.
    fn math_scalar(&self, value: Static, start: usize) -> Parsed<MetricsExpr> {
        match value {
            Static::Int(_) | Static::Float(_) => Ok(MetricsExpr::Scalar(value)),
            _ => Err(self.unexpected_at(start, &["INTEGER", "FLOAT"])),
        }
    }
}

/// What an operand becomes in parentheses.
fn parenthesised(operand: Operand) -> Operand {
    match operand {
        Operand::Spansets(expr) => Operand::ParenSpansets(expr),
        Operand::Stages(pipeline) => Operand::Pipelines(SpansetExpr::Pipeline(Box::new(pipeline))),
        other => other,
    }
}

/// A spanset expression as a pipeline operand.
fn wrap(expr: SpansetExpr) -> SpansetExpr {
    SpansetExpr::Pipeline(Box::new(Pipeline { stages: vec![Stage::Spansets(expr)] }))
}

fn spansets(op: SpansetOp, lhs: SpansetExpr, rhs: SpansetExpr) -> SpansetExpr {
    SpansetExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}

fn math(op: BinaryOp, lhs: MetricsExpr, rhs: MetricsExpr) -> MetricsExpr {
    MetricsExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}

fn scalar(op: BinaryOp, lhs: ScalarExpr, rhs: ScalarExpr) -> Operand {
    if op.is_comparison() {
        return Operand::Filter(ScalarFilter { op, lhs, rhs });
    }
    Operand::Scalar(ScalarExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) })
}

/// Operators between series, and between numbers.
fn is_math(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
}
