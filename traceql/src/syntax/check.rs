//! The static rules (§4, §9, §13): what parses but makes no sense, or is not supported.

use super::ast::{
    Aggregate, AggregateFn, Attribute, BinaryOp, Compare, Field, FieldExpr, Intrinsic, Metrics, MetricsExpr, MetricsFn, Pipeline, Query,
    Root, ScalarExpr, ScalarFilter, SecondStage, Series, SpansetExpr, Stage, UnaryOp,
};
use super::error::{Error, ErrorKind};
use super::value::{Static, Type};

/// Most labels in `by(...)` of a metrics function; one less for functions that need a slot
/// themselves (quantile, histogram, average).
pub const GROUP_BY_MAX: usize = 5;

/// Most values per attribute that `compare()` may be asked for.
const COMPARE_TOP_MAX: i64 = 1000;

/// Whether a text is a valid regular expression.
type RegexCheck<'a> = &'a dyn Fn(&str) -> Result<(), String>;

type Checked = Result<(), Error>;

/// Applies the static rules. `regex` says whether a text is a valid regular expression (as
/// written, not yet anchored).
///
/// # Errors
/// The first rule broken: [`ErrorKind::Type`] or [`ErrorKind::Unsupported`].
pub fn check(query: &Query, regex: RegexCheck<'_>) -> Checked {
    let checker = Checker { regex };
    match &query.root {
        Root::Spansets(pipeline) => checker.pipeline(pipeline),
        Root::Metrics(metrics) => checker.metrics(metrics),
    }
}

fn broken<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::rule(ErrorKind::Type, message))
}

fn unsupported<T>(what: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::rule(ErrorKind::Unsupported, format!("{what} not yet supported")))
}

struct Checker<'a> {
    regex: RegexCheck<'a>,
}

impl Checker<'_> {
    fn pipeline(&self, pipeline: &Pipeline) -> Checked {
        pipeline.stages.iter().try_for_each(|stage| self.stage(stage))
    }

    fn stage(&self, stage: &Stage) -> Checked {
        match stage {
            Stage::Spansets(expr) => self.spansets(expr),
            Stage::Scalar(filter) => self.scalar_filter(filter),
            Stage::Coalesce => Ok(()),
            Stage::Select(names) => fields(names),
            Stage::By(expr) => {
                self.field_expr(expr)?;
                if expr.references_span() {
                    return Ok(());
                }
                broken(format!("grouping field expressions must reference the span: {stage}"))
            }
        }
    }

    fn spansets(&self, expr: &SpansetExpr) -> Checked {
        match expr {
            SpansetExpr::Filter(filter) => self.filter(filter),
            SpansetExpr::Pipeline(pipeline) => self.pipeline(pipeline),
            SpansetExpr::Binary { lhs, rhs, .. } => {
                self.spansets(lhs)?;
                self.spansets(rhs)
            }
        }
    }

    /// `{ expr }`
    fn filter(&self, expr: &FieldExpr) -> Checked {
        match self.field_expr(expr)? {
            Type::Bool | Type::Unknown => Ok(()),
            _ => broken(format!("span filter field expressions must resolve to a boolean: {{ {expr} }}")),
        }
    }

    /// Only `aggregate op literal` can be executed.
    fn scalar_filter(&self, filter: &ScalarFilter) -> Checked {
        self.scalar(&filter.lhs)?;
        self.scalar(&filter.rhs)?;
        match (&filter.lhs, &filter.rhs) {
            (ScalarExpr::Aggregate(_), ScalarExpr::Static(_)) => Ok(()),
            (ScalarExpr::Aggregate(_), other) => unsupported(format!("scalar filter with `{other}` on its right side")),
            (other, _) => unsupported(format!("scalar filter with `{other}` on its left side")),
        }
    }

    fn scalar(&self, expr: &ScalarExpr) -> Checked {
        match expr {
            ScalarExpr::Static(_) => Ok(()),
            ScalarExpr::Aggregate(aggregate) => self.aggregate(aggregate),
            ScalarExpr::Binary { lhs, rhs, .. } => {
                self.scalar(lhs)?;
                self.scalar(rhs)
            }
            ScalarExpr::Pipeline(pipeline, aggregate) => {
                self.pipeline(pipeline)?;
                self.aggregate(aggregate)
            }
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Checked {
        let Some(expr) = &aggregate.expr else {
            debug_assert_eq!(aggregate.function, AggregateFn::Count);
            return Ok(());
        };
        let found = self.field_expr(expr)?;
        if !found.is_numeric() && found != Type::Unknown {
            return broken(format!("aggregate field expressions must resolve to a number type: {aggregate}"));
        }
        if !expr.references_span() {
            return broken(format!("aggregate field expressions must reference the span: {aggregate}"));
        }
        Ok(())
    }

    /// Checks an expression and gives its type. Recursive: messages are written elsewhere, to
    /// keep the stack frame small.
    fn field_expr(&self, expr: &FieldExpr) -> Result<Type, Error> {
        match expr {
            FieldExpr::Static(value) => Ok(value.value_type()),
            FieldExpr::Field(name) => field(name),
            FieldExpr::Unary { op, expr: inner } => unary(*op, inner, self.field_expr(inner)?, expr),
            FieldExpr::Binary { op, lhs, rhs } => {
                let left = self.field_expr(lhs)?;
                let right = self.field_expr(rhs)?;
                self.binary(*op, left, right, expr)
            }
        }
    }

    /// `whole` is an operator between operands of these types.
    fn binary(&self, op: BinaryOp, left: Type, right: Type, whole: &FieldExpr) -> Result<Type, Error> {
        if !left.matches(right) {
            return broken(format!("binary operations must operate on the same type: {whole}"));
        }
        if !left.allows(op) || !right.allows(op) {
            return broken(format!("illegal operation for the given types: {whole}"));
        }
        if let FieldExpr::Binary { rhs, .. } = whole
            && op.is_regex()
        {
            self.regex(rhs)?;
        }
        Ok(match (op.is_arithmetic(), left) {
            (false, _) => Type::Bool,
            (true, Type::Unknown) => right,
            (true, known) => known,
        })
    }

    /// The right side of `=~`.
    fn regex(&self, rhs: &FieldExpr) -> Checked {
        let FieldExpr::Static(value @ Static::String(pattern)) = rhs else {
            return broken(format!("invalid type for =~ or !~: {rhs}"));
        };
        match (self.regex)(pattern) {
            Ok(()) => Ok(()),
            Err(reason) => broken(format!("invalid regex: {value}: {reason}")),
        }
    }

    fn metrics(&self, metrics: &Metrics) -> Checked {
        match &metrics.expr {
            MetricsExpr::Series(series) => self.series(series)?,
            other => self.math(other)?,
        }
        second_stages(&metrics.second)
    }

    fn math(&self, expr: &MetricsExpr) -> Checked {
        match expr {
            MetricsExpr::Scalar(_) => Ok(()),
            MetricsExpr::Binary { lhs, rhs, .. } => {
                self.math(lhs)?;
                self.math(rhs)
            }
            MetricsExpr::Series(series) => {
                if matches!(series.function, MetricsFn::Compare(_)) {
                    return broken("`compare()` cannot be used in metrics math");
                }
                self.series(series)
            }
        }
    }

    fn series(&self, series: &Series) -> Checked {
        self.pipeline(&series.pipeline)?;
        let mut group_by_max = GROUP_BY_MAX;
        match &series.function {
            MetricsFn::Rate | MetricsFn::CountOverTime => {}
            MetricsFn::MinOverTime(name) | MetricsFn::MaxOverTime(name) | MetricsFn::SumOverTime(name) => {
                field(name)?;
            }

            MetricsFn::AvgOverTime(name) | MetricsFn::HistogramOverTime(name) => {
                group_by_max -= 1;
                field(name)?;
            }
            MetricsFn::QuantileOverTime(name, quantiles) => {
                group_by_max -= 1;
                field(name)?;
                if let Some(bad) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                    return broken(format!("quantile must be between 0 and 1: {bad}"));
                }
            }
            MetricsFn::Compare(compare) => self.compare(compare, &series.second)?,
        }
        fields(&series.by)?;
        if series.by.len() > group_by_max {
            return unsupported(format!("metrics group by {} values", series.by.len()));
        }
        second_stages(&series.second)
    }

    fn compare(&self, compare: &Compare, second: &[SecondStage]) -> Checked {
        self.filter(&compare.filter)?;
        if compare.top <= 0 {
            return broken("compare() top number of values must be integer greater than 0");
        }
        if compare.top > COMPARE_TOP_MAX {
            return broken(format!("compare() top number of values must not exceed {COMPARE_TOP_MAX}"));
        }
        // Both zero means no range.
        if compare.range_ns.is_some_and(|(start, end)| end <= start && (start, end) != (0, 0)) {
            return broken("compare() end must be after its start");
        }
        if !second.is_empty() {
            return broken("`compare()` cannot be used with second stage functions");
        }
        Ok(())
    }
}

/// The type of an attribute or intrinsic, unless it exists in the grammar only.
fn field(name: &Field) -> Result<Type, Error> {
    match name {
        Field::Attribute(Attribute { parent: true, .. }) => unsupported("parent"),
        Field::Attribute(_) => Ok(Type::Unknown),
        Field::Intrinsic(Intrinsic::Parent) => unsupported("intrinsic (parent)"),
        Field::Intrinsic(intrinsic) => Ok(intrinsic.value_type()),
    }
}

/// Several of them.
fn fields(names: &[Field]) -> Checked {
    names.iter().try_for_each(|name| field(name).map(drop))
}

/// `whole` is `op inner`, and `found` the type of `inner`.
fn unary(op: UnaryOp, inner: &FieldExpr, found: Type, whole: &FieldExpr) -> Result<Type, Error> {
    let (legal, result) = match op {
        UnaryOp::Exists => (true, Type::Bool),
        UnaryOp::NotExists => return not_nil(inner).map(|()| Type::Bool),
        UnaryOp::Not => (found == Type::Bool, Type::Bool),
        UnaryOp::Negate => (found.is_numeric(), found),
    };
    if legal || found == Type::Unknown {
        return Ok(result);
    }
    broken(format!("illegal operation for the given type: {whole}"))
}

/// `inner = nil` makes no sense for what every span has.
fn not_nil(inner: &FieldExpr) -> Checked {
    match inner {
        FieldExpr::Field(Field::Intrinsic(_)) => broken(format!("{inner}=nil is not valid because intrinsics cannot be nil")),
        FieldExpr::Field(field) if field.is_service_name() => broken(format!("{inner}=nil is not valid because {inner} cannot be nil")),
        _ => Ok(()),
    }
}

fn second_stages(stages: &[SecondStage]) -> Checked {
    for stage in stages {
        if let SecondStage::TopK(limit) | SecondStage::BottomK(limit) = stage
            && *limit <= 0
        {
            return broken("limit must be greater than 0");
        }
        debug_assert!(!matches!(stage, SecondStage::Compare(op, _) if !BinaryOp::is_comparison(*op)));
    }
    Ok(())
}
