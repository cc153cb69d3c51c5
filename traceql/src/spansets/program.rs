//! A pipeline made ready to run: its filters and values are numbered, so that they are computed column by column before
//! any trace is looked at.

use tracehouse_engine::{Error, ErrorKind, Result};

use super::aggregate::ScalarTest;
use crate::syntax::{BinaryOp, Field, FieldExpr, Pipeline, ScalarExpr, ScalarFilter, SpansetExpr, SpansetOp, Stage, Static, UnaryOp};

/// A pipeline, and what it needs to know of each span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The stages. `select` is not among them: it only says what is shown.
    pub steps: Vec<Step>,
    /// The filters, in order of first appearance.
    pub filters: Vec<FieldExpr>,
    /// What is grouped by or aggregated.
    pub values: Vec<FieldExpr>,
    /// Whether places in the tree matter.
    pub structural: bool,
}

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Filters and their combinations.
    Spansets(Combine),
    /// Keeps spansets by an aggregate.
    Scalar(ScalarTest),
    /// Splits spansets by a value.
    By {
        /// Key under which the value is shown.
        name: String,
        /// Which of the program's values.
        value: usize,
    },
    /// Merges the spansets of a trace.
    Coalesce,
}

/// A combination of filters.
#[derive(Clone, Debug, PartialEq)]
pub enum Combine {
    /// One of the program's filters.
    Filter(usize),
    /// `lhs op rhs`.
    Binary {
        /// Operator.
        op: SpansetOp,
        /// Left side.
        lhs: Box<Combine>,
        /// Right side.
        rhs: Box<Combine>,
    },
    /// A pipeline as an operand.
    Pipeline(Vec<Step>),
}

impl Program {
    /// Compiles a checked pipeline.
    pub fn new(pipeline: &Pipeline) -> Result<Self> {
        let mut program = Self::default();
        program.steps = program.steps_of(pipeline)?;
        Ok(program)
    }

    fn steps_of(&mut self, pipeline: &Pipeline) -> Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(pipeline.stages.len());
        for stage in &pipeline.stages {
            steps.push(match stage {
                Stage::Spansets(expr) => Step::Spansets(self.combine(expr)?),
                Stage::Scalar(filter) => Step::Scalar(self.scalar(filter)?),
                Stage::By(expr) => Step::By { name: format!("by({expr})"), value: number(&mut self.values, expr) },
                Stage::Coalesce => Step::Coalesce,
                Stage::Select(_) => continue,
            });
        }
        Ok(steps)
    }

    fn combine(&mut self, expr: &SpansetExpr) -> Result<Combine> {
        Ok(match expr {
            SpansetExpr::Filter(filter) => Combine::Filter(number(&mut self.filters, filter)),
            SpansetExpr::Pipeline(pipeline) => Combine::Pipeline(self.steps_of(pipeline)?),
            SpansetExpr::Binary { op, lhs, rhs } => {
                self.structural |= matches!(op, SpansetOp::Structural(..));
                Combine::Binary { op: *op, lhs: Box::new(self.combine(lhs)?), rhs: Box::new(self.combine(rhs)?) }
            }
        })
    }

    fn scalar(&mut self, filter: &ScalarFilter) -> Result<ScalarTest> {
        let (ScalarExpr::Aggregate(aggregate), ScalarExpr::Static(literal)) = (&filter.lhs, &filter.rhs) else {
            return Err(Error::new(ErrorKind::Unsupported, format!("scalar filter `{filter}` not yet supported")));
        };
        let value = aggregate.expr.as_ref().map(|expr| number(&mut self.values, expr));
        Ok(ScalarTest { name: aggregate.to_string(), function: aggregate.function, value, op: filter.op, literal: literal.clone() })
    }
}

fn number(known: &mut Vec<FieldExpr>, expr: &FieldExpr) -> usize {
    known.iter().position(|k| k == expr).unwrap_or_else(|| {
        known.push(expr.clone());
        known.len() - 1
    })
}

/// The conditions one of which a span must meet to have any part in a pipeline's answer; each is a conjunction. Nothing if
/// every span may have a part.
///
/// A pipeline that begins with a group or an aggregate looks at the spans that have a value for one of them or that a later
/// filter touches, as in Tempo: `by(span.a)` has no group of the spans without `a`, `{ } | by(span.a)` has.
pub fn entrances(pipeline: &Pipeline) -> Option<Vec<Vec<FieldExpr>>> {
    let mut stages = pipeline.stages.iter().filter(|s| !matches!(s, Stage::Select(_))).peekable();
    let Stage::Spansets(first) = stages.peek()? else { return entrances_by_value(stages) };
    let mut found = entrances_of(first)?;
    if let ([only], SpansetExpr::Filter(_)) = (found.as_mut_slice(), first) {
        // Filters in a row: a span passes all or has no part.
        for stage in stages.skip(1) {
            let Stage::Spansets(SpansetExpr::Filter(filter)) = stage else { break };
            only.push(filter.clone());
        }
    }
    Some(found)
}

fn entrances_of(expr: &SpansetExpr) -> Option<Vec<Vec<FieldExpr>>> {
    match expr {
        SpansetExpr::Filter(filter) => Some(vec![vec![filter.clone()]]),
        SpansetExpr::Pipeline(pipeline) => entrances(pipeline),
        SpansetExpr::Binary { lhs, rhs, .. } => {
            let mut both = entrances_of(lhs)?;
            both.extend(entrances_of(rhs)?);
            Some(both)
        }
    }
}

/// Of a pipeline that begins with groups and aggregates: one of their fields has a value, or one comparison of a later filter
/// holds, whatever the filter makes of it (as Tempo 3.0.3 answers; what a filter negates does not count).
fn entrances_by_value<'a>(stages: impl Iterator<Item = &'a Stage>) -> Option<Vec<Vec<FieldExpr>>> {
    let mut found: Vec<Vec<FieldExpr>> = Vec::new();
    for stage in stages {
        match stage {
            Stage::By(expr) => any_field(expr, &mut found),
            Stage::Scalar(ScalarFilter { lhs: ScalarExpr::Aggregate(aggregate), .. }) => {
                aggregate.expr.iter().for_each(|expr| any_field(expr, &mut found));
            }
            Stage::Spansets(expr) => {
                let mut filters = Vec::new();
                filters_of(expr, &mut filters);
                for filter in filters {
                    comparisons(filter, &mut found)?;
                }
            }
            Stage::Scalar(_) | Stage::Coalesce | Stage::Select(_) => {}
        }
    }
    (!found.is_empty()).then_some(found)
}

fn any_field(expr: &FieldExpr, found: &mut Vec<Vec<FieldExpr>>) {
    let exists = |field: &Field| FieldExpr::Unary { op: UnaryOp::Exists, expr: Box::new(FieldExpr::Field(field.clone())) };
    found.extend(expr.fields().into_iter().map(|field| vec![exists(field)]));
}

/// Adds the comparisons of a filter, each by itself; `None` if every span passes one.
fn comparisons(expr: &FieldExpr, found: &mut Vec<Vec<FieldExpr>>) -> Option<()> {
    match expr {
        FieldExpr::Static(Static::Bool(true)) => None,
        FieldExpr::Static(_) | FieldExpr::Unary { op: UnaryOp::Not | UnaryOp::Negate, .. } => Some(()),
        FieldExpr::Binary { op: BinaryOp::And | BinaryOp::Or, lhs, rhs } => {
            comparisons(lhs, found)?;
            comparisons(rhs, found)
        }
        FieldExpr::Binary { .. } | FieldExpr::Unary { .. } | FieldExpr::Field(_) => {
            found.push(vec![expr.clone()]);
            Some(())
        }
    }
}

/// The filters of a pipeline that only filters (and selects): `{ a } | { b } | select(c)`. Such a search needs no look at
/// whole traces.
pub fn plain_filters(pipeline: &Pipeline) -> Option<Vec<&FieldExpr>> {
    let mut filters = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(SpansetExpr::Filter(filter)) => filters.push(filter),
            Stage::Select(_) => {}
            _ => return None,
        }
    }
    Some(filters)
}

/// All filters of a pipeline, wherever they stand, in order.
pub fn all_filters(pipeline: &Pipeline) -> Vec<&FieldExpr> {
    let mut found = Vec::new();
    for stage in &pipeline.stages {
        if let Stage::Spansets(expr) = stage {
            filters_of(expr, &mut found);
        }
    }
    found
}

fn filters_of<'a>(expr: &'a SpansetExpr, found: &mut Vec<&'a FieldExpr>) {
    match expr {
        SpansetExpr::Filter(filter) => found.push(filter),
        SpansetExpr::Pipeline(pipeline) => found.extend(all_filters(pipeline)),
        SpansetExpr::Binary { lhs, rhs, .. } => {
            filters_of(lhs, found);
            filters_of(rhs, found);
        }
    }
}

/// Whether a pipeline is nothing but filters that no span passes: `{ false }`, `{ false } || { 1 = 2 }`.
pub fn finds_nothing(pipeline: &Pipeline) -> bool {
    fn nothing(expr: &SpansetExpr) -> bool {
        match expr {
            SpansetExpr::Filter(FieldExpr::Static(value)) => *value != Static::Bool(true),
            SpansetExpr::Filter(_) => false,
            SpansetExpr::Pipeline(pipeline) => finds_nothing(pipeline),
            SpansetExpr::Binary { op, lhs, rhs } => *op == SpansetOp::Or && nothing(lhs) && nothing(rhs),
        }
    }
    matches!(pipeline.stages.as_slice(), [Stage::Spansets(expr)] if nothing(expr))
}

/// Whether a span's values are shown only if all filters hold for them together: not if the pipeline also groups or counts.
pub fn is_conjunction(pipeline: &Pipeline) -> bool {
    let apart =
        |s: &Stage| matches!(s, Stage::Spansets(SpansetExpr::Binary { .. } | SpansetExpr::Pipeline(_)) | Stage::By(_) | Stage::Scalar(_));
    let plain = !pipeline.stages.iter().take_while(|s| !matches!(s, Stage::Select(_))).any(apart);
    let either = |e: &&FieldExpr| matches!(e, FieldExpr::Binary { op: BinaryOp::Or, .. });
    plain && all_filters(pipeline).iter().all(|filter| !filter.operands(BinaryOp::And).iter().any(either))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Root;

    fn pipeline(text: &str) -> Pipeline {
        let Root::Spansets(pipeline) = crate::parse(text).unwrap().root else { panic!("{text}") };
        pipeline
    }

    #[test]
    fn spans_enter_by_the_first_filters() {
        for (text, expected) in [
            ("{ .a } && { .b }", "a, b"),
            ("{ .a } | { .b } | count() > 1 | { .c }", "a+b"),
            ("({ .a } | count() > 1) > ({ .b } | { .c })", "a, b+c"),
            ("{ .a } || { .b } | { .c }", "a, b"),
            ("select(.x) | { .a } | by(.b)", "a"),
            ("by(.x) | max(.y + .z) > 1 | { .a }", "x, y, z, a"),
            ("count() > 1 | { .a }", "a"),
            ("count() > 1 | { .a && !(.b = 1) || .c > 2 }", "a, c"),
            ("by(.x) | { true }", "all"),
            ("({ .a }) && (count() > 1)", "all"),
        ] {
            let found = entrances(&pipeline(text));
            let name = |e: &FieldExpr| e.fields().first().map_or_else(String::new, |f| f.to_string().trim_start_matches('.').to_owned());
            let shown = found.map_or("all".to_owned(), |all| {
                all.iter().map(|c| c.iter().map(name).collect::<Vec<_>>().join("+")).collect::<Vec<_>>().join(", ")
            });
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn only_what_needs_whole_traces_is_a_program() {
        assert_eq!(plain_filters(&pipeline("{ .a } | select(.b) | { .c }")).map(|f| f.len()), Some(2));
        for text in ["{ .a } || { .b }", "{ .a } | by(.b)", "{ .a } | coalesce()", "count() > 1"] {
            assert!(plain_filters(&pipeline(text)).is_none(), "{text}");
        }
        let program = Program::new(&pipeline("({ .a } | by(.b)) && ({ .a } | max(.b) > 1 | { .c } > { .a })")).unwrap();
        assert_eq!((program.filters.len(), program.values.len(), program.structural), (2, 1, true));
        assert!(is_conjunction(&pipeline("{ .a && .b } | { .c }")) && !is_conjunction(&pipeline("{ .a } && { .b }")));
    }
}
