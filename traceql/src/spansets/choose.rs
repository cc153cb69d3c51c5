//! The program inside the scan: which traces have a part in the answer, told from conditions in codes and few columns, before
//! what is shown of their spans is read.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder},
    buffer::BooleanBuffer,
    datatypes::{Int32Type, TimestampNanosecondType},
};
use datafusion::logical_expr::Expr;
use tracehouse_engine::{
    Error, Result, TraceId,
    scan::{SpanColumn, SpanField, TraceFilter, TraceSpans, TraceTest},
};

use super::{
    pipeline::{SpanValue, Spans},
    program::{Combine, Program, Step, entrances},
    rows::Rows,
    structural::Position,
};
use crate::{
    eval::columns_of,
    plan::{NUMBERS, SpansetPlan},
    syntax::{AggregateFn, Field, FieldExpr, Form, Intrinsic, Pipeline, Relation, SpansetOp},
};

/// What is put out of a trace that has a part in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// All spans that enter the program.
    Entering,
    /// Those that survive it.
    Surviving,
}

/// Chooses the spans of traces that survive a program.
#[derive(Debug)]
pub struct Survival {
    name: String,
    program: Program,
    entrances: Option<Vec<Vec<usize>>>,
    rows: Rows,
    columns: Vec<SpanColumn>,
    /// Where the columns of the program's values end, and those of the tree begin.
    numbers_at: usize,
    /// Which of them are asked for.
    numbers: [bool; 3],
    ordered: bool,
    decided: bool,
    put: Put,
}

impl Survival {
    /// The filter of a scan for a pipeline that does not judge the traces `apart`; `condition` makes a condition of each filter.
    pub fn filter(
        pipeline: &Pipeline,
        spansets: &Arc<SpansetPlan>,
        put: Put,
        apart: Arc<HashSet<TraceId>>,
        condition: impl Fn(&FieldExpr) -> Result<Expr>,
    ) -> Result<TraceFilter> {
        let program = spansets.program.clone();
        let mut asked = program.filters.clone();
        let mut number = |filter: &FieldExpr| {
            asked.iter().position(|known| known == filter).unwrap_or_else(|| {
                asked.push(filter.clone());
                asked.len() - 1
            })
        };
        let entrances: Option<Vec<Vec<usize>>> =
            entrances(pipeline).map(|all| all.iter().map(|filters| filters.iter().map(&mut number).collect()).collect());
        let mut columns: Vec<SpanColumn> = spansets.fields.iter().flat_map(columns_of).collect();
        let numbers_at = columns.len();
        let numbers = numbers_of(&program.steps);
        columns.extend(NUMBERS.into_iter().zip(numbers).filter(|(_, asked)| *asked).map(|(column, _)| column));
        let ordered = depends_on_order(&program);
        columns.extend(ordered.then_some(SpanColumn::Field(SpanField::StartTime)));
        let decided = put == Put::Entering && matches!(&program.steps[..], [only] if is_decided(only));
        let rows = Rows::new(spansets.clone())?;
        let name = pipeline.to_string();
        let test = Self { name, program, entrances, rows, columns, numbers_at, numbers, ordered, decided, put };
        Ok(TraceFilter { test: Arc::new(test), conditions: asked.iter().map(condition).collect::<Result<_>>()?, apart })
    }

    fn positions(&self, columns: &[ArrayRef], spans: usize) -> Result<Vec<Position>> {
        let mut at = self.numbers_at;
        let mut next = |asked: bool| {
            let array = columns.get(at);
            at += usize::from(asked);
            let numbers = || array.and_then(|a| a.as_primitive_opt::<Int32Type>()).map(|n| n.values().clone()).ok_or_else(wrong);
            asked.then(numbers).transpose()
        };
        let [left, right, parent] = [next(self.numbers[0])?, next(self.numbers[1])?, next(self.numbers[2])?];
        if left.is_none() && right.is_none() && parent.is_none() {
            return Ok(Vec::new());
        }
        let of = |numbers: &Option<arrow::buffer::ScalarBuffer<i32>>, i: usize| numbers.as_ref().map_or(0, |n| n[i]);
        Ok((0..spans).map(|i| Position { left: of(&left, i), right: of(&right, i), parent: of(&parent, i) }).collect())
    }
}

impl TraceTest for Survival {
    fn name(&self) -> &str {
        &self.name
    }

    fn entrances(&self) -> Option<&[Vec<usize>]> {
        self.entrances.as_deref()
    }

    fn possible(&self, met: &[bool]) -> bool {
        possible(&self.program.steps, met)
    }

    fn decided_by_conditions(&self) -> bool {
        self.decided
    }

    fn columns(&self) -> &[SpanColumn] {
        &self.columns
    }

    fn bytes_for(&self, spans: usize) -> usize {
        spans * (size_of::<Position>() + self.program.values.len() * size_of::<SpanValue>())
    }

    fn choose(&self, spans: &TraceSpans) -> Result<BooleanBuffer> {
        let count = spans.traces.last().map_or(0, |r| r.end);
        let filters = spans.met.iter().take(self.program.filters.len()).map(|m| BooleanArray::new(m.clone(), None)).collect();
        let values = self.rows.values(&spans.columns, count)?;
        let asked = Spans { filters, values, positions: self.positions(&spans.columns, count)? };
        let starts = match self.ordered {
            true => Some(spans.columns.last().and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>()).ok_or_else(wrong)?),
            false => None,
        };
        let mut chosen = BooleanBufferBuilder::new(count);
        chosen.append_n(count, false);
        for Range { start, end } in spans.traces.iter().cloned() {
            let mut all: Vec<u32> = (start as u32..end as u32).collect();
            if let Some(starts) = starts {
                all.sort_by_key(|span| starts.value(*span as usize));
            }
            let survived = asked.run(&self.program.steps, all)?;
            match self.put {
                Put::Entering if survived.is_empty() => {}
                Put::Entering => (start..end).for_each(|span| chosen.set_bit(span, true)),
                Put::Surviving => survived.iter().flat_map(|s| &s.spans).for_each(|span| chosen.set_bit(*span as usize, true)),
            }
        }
        Ok(chosen.finish())
    }
}

fn wrong() -> Error {
    Error::internal("a column of a trace filter has an unexpected type")
}

/// Whether spans of a trace can survive, by whether each filter is met at all.
fn possible(steps: &[Step], met: &[bool]) -> bool {
    fn of(expr: &Combine, met: &[bool]) -> bool {
        match expr {
            Combine::Filter(filter) => met.get(*filter).copied().unwrap_or(true),
            Combine::Pipeline(steps) => possible(steps, met),
            Combine::Binary { op, lhs, rhs } => match op {
                SpansetOp::Or => of(lhs, met) || of(rhs, met),
                SpansetOp::Structural(_, Form::Negated) => of(rhs, met),
                SpansetOp::And | SpansetOp::Structural(..) => of(lhs, met) && of(rhs, met),
            },
        }
    }
    steps.iter().all(|step| match step {
        Step::Spansets(expr) => of(expr, met),
        _ => true,
    })
}

/// Whether a step alone keeps spans of a trace as soon as that is possible. (Two filters in a row may be met by different
/// spans.)
fn is_decided(step: &Step) -> bool {
    fn of(expr: &Combine) -> bool {
        match expr {
            Combine::Filter(_) => true,
            Combine::Binary { op: SpansetOp::And | SpansetOp::Or, lhs, rhs } => of(lhs) && of(rhs),
            _ => false,
        }
    }
    matches!(step, Step::Spansets(expr) if of(expr))
}

/// Which of left, right and parent the relations of a program look at.
fn numbers_of(steps: &[Step]) -> [bool; 3] {
    fn of(expr: &Combine, asked: &mut [bool; 3]) {
        match expr {
            Combine::Filter(_) => {}
            Combine::Pipeline(steps) => steps.iter().for_each(|s| of_step(s, asked)),
            Combine::Binary { op, lhs, rhs } => {
                if let SpansetOp::Structural(relation, _) = op {
                    let own = match relation {
                        Relation::Child | Relation::Parent => [true, false, true],
                        Relation::Descendant | Relation::Ancestor => [true, true, false],
                        Relation::Sibling => [false, false, true],
                    };
                    asked.iter_mut().zip(own).for_each(|(asked, own)| *asked |= own);
                }
                of(lhs, asked);
                of(rhs, asked);
            }
        }
    }
    fn of_step(step: &Step, asked: &mut [bool; 3]) {
        if let Step::Spansets(expr) = step {
            of(expr, asked);
        }
    }
    let mut asked = [false; 3];
    steps.iter().for_each(|s| of_step(s, &mut asked));
    asked
}

/// Whether a sum depends on which value comes first: it decides the type of the sum.
fn depends_on_order(program: &Program) -> bool {
    fn of(steps: &[Step], values: &[FieldExpr]) -> bool {
        steps.iter().any(|step| match step {
            Step::Scalar(test) if matches!(test.function, AggregateFn::Sum | AggregateFn::Avg) => {
                let value = test.value.and_then(|v| values.get(v));
                value.is_some_and(|v| *v != FieldExpr::Field(Field::Intrinsic(Intrinsic::Duration)))
            }
            Step::Spansets(expr) => of_operands(expr, values),
            _ => false,
        })
    }
    fn of_operands(expr: &Combine, values: &[FieldExpr]) -> bool {
        match expr {
            Combine::Filter(_) => false,
            Combine::Pipeline(steps) => of(steps, values),
            Combine::Binary { lhs, rhs, .. } => of_operands(lhs, values) || of_operands(rhs, values),
        }
    }
    of(&program.steps, &program.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Root;

    fn program(text: &str) -> Program {
        let Root::Spansets(pipeline) = crate::parse(text).unwrap().root else { panic!("{text}") };
        Program::new(&pipeline).unwrap()
    }

    #[test]
    fn traces_without_an_operand_are_left_out() {
        for (text, expected) in [
            ("{ .a } && { .b }", [false, false, false, true]),
            ("{ .a } || { .b }", [false, true, true, true]),
            ("{ .a } >> { .b }", [false, false, false, true]),
            ("{ .a } &> { .b }", [false, false, false, true]),
            ("{ .a } !< { .b }", [false, false, true, true]),
            ("({ .a } | count() > 1) > ({ .b } | by(.c))", [false, false, false, true]),
            ("{ .a } | by(.c) | { .b }", [false, false, false, true]),
            ("count() > 1", [true; 4]),
        ] {
            let steps = program(text).steps;
            let found = [[false, false], [true, false], [false, true], [true, true]].map(|met| possible(&steps, &met));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn only_what_is_asked_is_read() {
        let numbers = |text| numbers_of(&program(text).steps).map(u8::from);
        assert_eq!(numbers("{ .a } > { .b }"), [1, 0, 1]);
        assert_eq!(numbers("{ .a } !<< { .b }"), [1, 1, 0]);
        assert_eq!(numbers("({ .a } | { .c } ~ { .b }) || ({ .a })"), [0, 0, 1]);
        assert_eq!(numbers("{ .a } || { .b }"), [0, 0, 0]);
        let ordered = |text| depends_on_order(&program(text));
        assert!(ordered("{ .a } | sum(.b) > 1") && ordered("({ } | avg(.b) > 1) && ({ .a })"));
        assert!(!ordered("{ .a } | avg(duration) > 1s | max(.b) > 1 | count() > 1"));
        let decided = |text| is_decided(&program(text).steps[0]);
        assert!(decided("{ .a } || { .b } && { .c }"));
        assert!(!decided("{ .a } > { .b }") && !decided("({ .a } | { .b }) && ({ .c })"));
    }
}
