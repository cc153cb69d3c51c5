//! Runs a program over the spans of one trace.

use std::collections::HashMap;

use arrow::array::BooleanArray;
use tracehouse_engine::{Error, Result};

use super::{
    aggregate::{ScalarTest, aggregate},
    program::{Combine, Step},
    structural::{self, Position},
};
use crate::{
    eval::Key,
    syntax::{EvalError, SpansetOp, Static, Type},
};

/// A value of a span, or why it has none.
pub type SpanValue = Result<Static, EvalError>;

/// What a program asks of spans, which may be those of several traces.
#[derive(Debug, Default)]
pub struct Spans {
    /// For each filter of the program: which spans pass.
    pub filters: Vec<BooleanArray>,
    /// For each value of the program: the value of each span.
    pub values: Vec<Vec<SpanValue>>,
    /// The place of each span in the tree of its trace.
    pub positions: Vec<Position>,
}

/// Some spans of a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spanset {
    /// Their numbers in [`Spans`].
    pub spans: Vec<u32>,
    /// What was computed from them: key and value.
    pub attributes: Vec<(String, Static)>,
}

impl Spanset {
    fn with_spans(&self, spans: Vec<u32>) -> Self {
        Self { spans, attributes: self.attributes.clone() }
    }
}

impl Spans {
    /// Runs the steps over spans of one trace, all in one spanset.
    pub fn run(&self, steps: &[Step], trace: Vec<u32>) -> Result<Vec<Spanset>> {
        self.steps(steps, vec![Spanset { spans: trace, attributes: Vec::new() }])
    }

    fn steps(&self, steps: &[Step], mut spansets: Vec<Spanset>) -> Result<Vec<Spanset>> {
        for step in steps {
            if spansets.is_empty() {
                break;
            }
            spansets = match step {
                Step::Spansets(expr) => self.combine(expr, spansets)?,
                Step::Scalar(test) => self.scalar(test, spansets)?,
                Step::By { name, value } => self.by(name, *value, &spansets)?,
                Step::Coalesce => {
                    let spans = spansets.iter().fold(Vec::new(), |all, s| structural::union(&all, &s.spans));
                    vec![Spanset { spans, attributes: Vec::new() }]
                }
            };
        }
        Ok(spansets)
    }

    fn combine(&self, expr: &Combine, spansets: Vec<Spanset>) -> Result<Vec<Spanset>> {
        let mut out = Vec::with_capacity(spansets.len());
        match expr {
            Combine::Pipeline(steps) => return self.steps(steps, spansets),
            Combine::Filter(filter) => {
                let passing = &self.filters[*filter];
                for mut spanset in spansets {
                    spanset.spans.retain(|span| passing.value(*span as usize));
                    out.push(spanset);
                }
            }
            Combine::Binary { op, lhs, rhs } => {
                for spanset in spansets {
                    if let Some(spans) = self.filtered(expr, &spanset.spans) {
                        out.push(Spanset { spans, ..spanset });
                        continue;
                    }
                    let left = self.combine(lhs, vec![spanset.clone()])?;
                    let right = self.combine(rhs, vec![spanset.clone()])?;
                    out.push(spanset.with_spans(self.operator(*op, left, right)?));
                }
            }
        }
        out.retain(|s| !s.spans.is_empty());
        Ok(out)
    }

    /// What a combination of filters alone keeps of some spans; nothing is said if it has pipelines.
    fn filtered(&self, expr: &Combine, spans: &[u32]) -> Option<Vec<u32>> {
        match expr {
            Combine::Pipeline(_) => None,
            Combine::Filter(filter) => {
                let passing = &self.filters[*filter];
                Some(spans.iter().copied().filter(|span| passing.value(*span as usize)).collect())
            }
            Combine::Binary { op, lhs, rhs } => {
                let (left, right) = (self.filtered(lhs, spans)?, self.filtered(rhs, spans)?);
                Some(match op {
                    SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                    SpansetOp::And | SpansetOp::Or => structural::union(&left, &right),
                    SpansetOp::Structural(relation, form) => structural::apply(*relation, *form, &left, &right, &self.positions),
                })
            }
        }
    }

    fn operator(&self, op: SpansetOp, left: Vec<Spanset>, right: Vec<Spanset>) -> Result<Vec<u32>> {
        let spans = |sets: Vec<Spanset>| sets.into_iter().flat_map(|s| s.spans).collect::<Vec<_>>();
        Ok(match op {
            SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
            SpansetOp::And | SpansetOp::Or => structural::union(&spans(left), &spans(right)),
            SpansetOp::Structural(..) if left.len() > 1 || right.len() > 1 => {
                let text = "spanset operators are not supported for multiple spansets per trace. consider using coalesce()";
                return Err(Error::invalid(text));
            }
            SpansetOp::Structural(relation, form) => structural::apply(relation, form, &spans(left), &spans(right), &self.positions),
        })
    }

    fn scalar(&self, test: &ScalarTest, spansets: Vec<Spanset>) -> Result<Vec<Spanset>> {
        let mut out = Vec::with_capacity(spansets.len());
        for mut spanset in spansets {
            let found = match test.value {
                None => Some(Static::Int(spanset.spans.len() as i64)),
                Some(value) => aggregate(test.function, spanset.spans.iter().map(|s| self.value(value, *s))).map_err(invalid)?,
            };
            if let Some(found) = found.filter(|f| test.passes(f)) {
                spanset.attributes.push((test.name.clone(), found));
                out.push(spanset);
            }
        }
        Ok(out)
    }

    /// One spanset for each value, nil too, in order of first appearance.
    fn by(&self, name: &str, value: usize, spansets: &[Spanset]) -> Result<Vec<Spanset>> {
        let mut out: Vec<Spanset> = Vec::new();
        for spanset in spansets {
            let mut groups: HashMap<(Type, Option<Key>), usize> = HashMap::new();
            for &span in &spanset.spans {
                let value = self.value(value, span).map_err(invalid)?;
                let group = *groups.entry((value.value_type(), Key::of(&value))).or_insert_with(|| {
                    out.push(spanset.with_spans(Vec::new()));
                    out.len() - 1
                });
                let group = &mut out[group];
                if group.spans.is_empty() {
                    group.attributes.push((name.to_owned(), value));
                }
                group.spans.push(span);
            }
        }
        Ok(out)
    }

    fn value(&self, value: usize, span: u32) -> SpanValue {
        self.values[value][span as usize].clone()
    }
}

fn invalid(e: EvalError) -> Error {
    Error::invalid(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spansets::program::Program, syntax::Root};

    fn steps(text: &str) -> Vec<Step> {
        let Root::Spansets(pipeline) = crate::parse(text).unwrap().root else { panic!("{text}") };
        Program::new(&pipeline).unwrap().steps
    }

    /// Five spans: 0 above 1 and 2, 1 above 3; 4 without a place. Filter n holds as said, the value is text or a number.
    fn spans(filters: &[[bool; 5]], values: &[[Static; 5]]) -> Spans {
        let positions = [(1, 8, -1), (2, 5, 1), (6, 7, 1), (3, 4, 2), (0, 0, 0)];
        Spans {
            filters: filters.iter().map(|f| BooleanArray::from(f.to_vec())).collect(),
            values: values.iter().map(|v| v.iter().cloned().map(Ok).collect()).collect(),
            positions: positions.map(|(left, right, parent)| Position { left, right, parent }).into(),
        }
    }

    fn ask(spans: &Spans, text: &str) -> Vec<(Vec<u32>, String)> {
        let sets = spans.run(&steps(text), vec![0, 1, 2, 3, 4]).unwrap();
        let attributes = |s: &Spanset| s.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        sets.iter().map(|s| (s.spans.clone(), attributes(s))).collect()
    }

    const T: bool = true;
    const F: bool = false;

    #[test]
    fn operators_between_spansets() {
        let both = spans(&[[T, T, F, F, F], [F, T, F, T, F]], &[]);
        assert_eq!(ask(&both, "{ .a } && { .b }"), [(vec![0, 1, 3], String::new())]);
        assert_eq!(ask(&both, "{ .a } >> { .b }"), [(vec![1, 3], String::new())]);
        assert_eq!(ask(&both, "{ .a } !> { .b }"), []);
        assert_eq!(ask(&both, "{ .a } | { .b }"), [(vec![1], String::new())]);
        let one = spans(&[[T, F, F, F, F], [F; 5]], &[]);
        assert_eq!(ask(&one, "{ .a } && { .b }"), []);
        assert_eq!(ask(&one, "{ .a } || { .b }"), [(vec![0], String::new())]);
        assert_eq!(ask(&one, "({ .a } | count() > 1) || ({ .b })"), []);
    }

    #[test]
    fn groups_are_typed() {
        let text = |s: &str| Static::String(s.into());
        let values = [text("1"), Static::Int(1), Static::Float(1.0), Static::Nil, Static::Int(1)];
        let all = spans(&[[T; 5]], &[values]);
        let groups = ask(&all, "{ } | by(.x)");
        assert_eq!(groups.iter().map(|g| g.0.clone()).collect::<Vec<_>>(), [vec![0], vec![1, 4], vec![2], vec![3]]);
        assert_eq!(ask(&all, "{ } | by(.x) | count() > 1"), [(vec![1, 4], "by(.x)=1 count()=2".to_owned())]);
        assert_eq!(ask(&all, "{ } | by(.x) | coalesce()"), [(vec![0, 1, 4, 2, 3], String::new())]);
        assert_eq!(ask(&all, "by(.x) | max(.x) = 1 | count() = 2")[0].0, [1, 4]);
    }

    #[test]
    fn structural_operators_need_one_spanset() {
        let all = spans(&[[T; 5]], &[[Static::Int(1), Static::Int(2), Static::Int(1), Static::Int(1), Static::Int(1)]]);
        let error = all.run(&steps("({ } | by(.x)) > ({ })"), vec![0, 1]).unwrap_err();
        assert!(error.to_string().contains("consider using coalesce()"), "{error}");
        assert_eq!(ask(&all, "({ } | by(.x) | coalesce()) > ({ })")[0].0, [1, 2, 3]);
        // After by() each spanset is looked at by itself: only 0 and 2 are parent and child of one value.
        assert_eq!(ask(&all, "by(.x) | { } > { }"), [(vec![2], "by(.x)=1".to_owned())]);
    }

    #[test]
    fn errors_of_values_stop_the_query() {
        let mut bad = spans(&[[T; 5]], &[[const { Static::Int(1) }; 5]]);
        bad.values[0][3] = Err(EvalError::DivisionByZero);
        let error = bad.run(&steps("{ } | sum(.x) > 1"), vec![0, 3]).unwrap_err();
        assert_eq!(error.to_string(), "division by zero");
    }
}
