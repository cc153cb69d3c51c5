//! Tree to canonical text: the `Display` of every node.
//!
//! `parse(print(q))` gives `q` again, for every `q` that `parse` returned. The text is also
//! what clients see as a label (`by(span.a + span.b)`, `avg(duration)`, `resource.service.name`)
//! and in error messages. Operands that are operators themselves stand in parentheses; in the
//! alternate form (`{:#}`) only where precedence needs them.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{
    Aggregate, AggregateFn, Attribute, BinaryOp, Compare, Field, FieldExpr, Form, Hint, Intrinsic, Metrics, MetricsExpr, MetricsFn,
    Pipeline, Query, Relation, Root, ScalarExpr, ScalarFilter, Scope, SecondStage, Series, SpansetExpr, SpansetOp, Stage, UnaryOp,
};
use super::duration;
use super::lexer::ends_attribute;
use super::parser::level;
use super::value::{Kind, Static, Status};

/// The canonical text of a query. `parse` reads it back as the same tree, unless the text is
/// longer than [`super::TEXT_BYTES_MAX`], or the query as deep as [`super::RECURSION_MAX`] and
/// full of operands like `x ^ -y`, which gain parentheses.
#[must_use]
pub fn print(query: &Query) -> String {
    let text = query.to_string();
    // Many parentheses can nest deeper than the parser goes; the few that are needed do not.
    if super::parse(&text).is_ok() { text } else { format!("{query:#}") }
}

/// Writes items with a separator between them.
fn join<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Writes text, item, text; unlike `write!` it hands on the alternate form.
fn enclose(f: &mut Formatter<'_>, open: &str, item: &impl Display, close: &str) -> fmt::Result {
    f.write_str(open)?;
    item.fmt(f)?;
    f.write_str(close)
}

/// Writes an operand, in parentheses if need be.
fn operand(f: &mut Formatter<'_>, item: &impl Display, parentheses: bool) -> fmt::Result {
    if parentheses { enclose(f, "(", item, ")") } else { item.fmt(f) }
}

/// Which sides of `op` need parentheses, where operands bind as tight as these levels.
/// A side at [`TIGHT`] never needs any.
fn sides(f: &Formatter<'_>, op: BinaryOp, lhs: u8, rhs: u8) -> (bool, bool) {
    if !f.alternate() {
        return (lhs != TIGHT, rhs != TIGHT);
    }
    let level = op.level();
    if op == BinaryOp::Pow { (lhs <= level, rhs < level) } else { (lhs < level, rhs <= level) }
}

/// The level of what is not an operator.
const TIGHT: u8 = u8::MAX;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Spansets(pipeline) => pipeline.fmt(f)?,
            Root::Metrics(metrics) => metrics.fmt(f)?,
        }
        if !self.hints.is_empty() {
            f.write_str(" with(")?;
            join(f, &self.hints, ", ")?;
            f.write_char(')')?;
        }
        Ok(())
    }
}

impl Display for Hint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        join(f, &self.stages, " | ")
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spansets(expr) => expr.fmt(f),
            Self::Scalar(filter) => filter.fmt(f),
            Self::By(expr) => enclose(f, "by(", expr, ")"),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Select(fields) => {
                f.write_str("select(")?;
                join(f, fields, ", ")?;
                f.write_char(')')
            }
        }
    }
}

impl Display for SpansetExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(expr) => enclose(f, "{ ", expr, " }"),
            Self::Pipeline(pipeline) => enclose(f, "(", pipeline, ")"),
            Self::Binary { op, lhs, rhs } => {
                let (full, level) = (!f.alternate(), op.level());
                let below = |side: &Self, level| match side {
                    Self::Binary { op, .. } => full || op.level() < level,
                    _ => false,
                };
                operand(f, lhs, below(lhs, level))?;
                write!(f, " {op} ")?;
                operand(f, rhs, below(rhs, level + 1))
            }
        }
    }
}

impl Display for SpansetOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (relation, form) = match self {
            Self::And => return f.write_str("&&"),
            Self::Or => return f.write_str("||"),
            Self::Structural(relation, form) => (relation, form),
        };
        f.write_str(match form {
            Form::Plain => "",
            Form::Negated => "!",
            Form::Union => "&",
        })?;
        f.write_str(match relation {
            Relation::Child => ">",
            Relation::Parent => "<",
            Relation::Descendant => ">>",
            Relation::Ancestor => "<<",
            Relation::Sibling => "~",
        })
    }
}

impl Display for ScalarFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        enclose(f, "", &self.lhs, " ")?;
        enclose(f, "", &self.op, " ")?;
        self.rhs.fmt(f)
    }
}

impl Display for ScalarExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(value) => value.fmt(f),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Pipeline(pipeline, aggregate) => {
                enclose(f, "(", pipeline, " | ")?;
                enclose(f, "", aggregate, ")")
            }
            Self::Binary { op, lhs, rhs } => {
                let level = |side: &Self| match side {
                    Self::Binary { op, .. } => op.level(),
                    _ => TIGHT,
                };
                let (left, right) = sides(f, *op, level(lhs), level(rhs));
                operand(f, lhs, left)?;
                write!(f, " {op} ")?;
                operand(f, rhs, right)
            }
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.function {
            AggregateFn::Count => "count",
            AggregateFn::Min => "min",
            AggregateFn::Max => "max",
            AggregateFn::Avg => "avg",
            AggregateFn::Sum => "sum",
        })?;
        match &self.expr {
            Some(expr) => enclose(f, "(", expr, ")"),
            None => f.write_str("()"),
        }
    }
}

impl Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(value) => value.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Unary { op, expr } => {
                let (before, after, level_min) = match op {
                    UnaryOp::Not => ("!", "", level::NOT + 1),
                    UnaryOp::Negate => ("-", "", level::SUM + 1),
                    UnaryOp::Exists => ("", " != nil", level::COMPARE),
                    UnaryOp::NotExists => ("", " = nil", level::COMPARE),
                };
                f.write_str(before)?;
                // One prefix may follow another.
                let level_min = if expr.is_prefix() && !before.is_empty() { 0 } else { level_min };
                operand(f, expr, expr.needs_parentheses(level_min, false, f.alternate()))?;
                f.write_str(after)
            }
            Self::Binary { op, lhs, rhs } => {
                let level = op.level();
                let power = u8::from(*op == BinaryOp::Pow);
                // Unary minus is looser than `*`: `-1 * x` is `-(1 * x)`.
                operand(f, lhs, lhs.needs_parentheses(level + power, level > level::SUM, f.alternate()))?;
                write!(f, " {op} ")?;
                operand(f, rhs, rhs.needs_parentheses(level + 1 - power, level > level::SUM && f.alternate(), f.alternate()))
            }
        }
    }
}

impl FieldExpr {
    /// `!x` or `-x`
    fn is_prefix(&self) -> bool {
        matches!(self, Self::Unary { op: UnaryOp::Not | UnaryOp::Negate, .. })
    }

    /// Whether it needs parentheses where the parser takes operators from `level_min` on.
    /// `minus`: a leading minus sign needs them too; `minimal`: no operator needs them that
    /// would be read the same without.
    fn needs_parentheses(&self, level_min: u8, minus: bool, minimal: bool) -> bool {
        match self {
            Self::Static(value) => minus && starts_with_minus(value),
            Self::Field(_) => false,
            _ if !minimal => true,
            Self::Binary { op, .. } => op.level() < level_min,
            Self::Unary { op: UnaryOp::Not, .. } => level::NOT < level_min,
            Self::Unary { op: UnaryOp::Negate, .. } => level::SUM < level_min,
            // `x = nil = y` is `x = (nil = y)`.
            Self::Unary { .. } => level::COMPARE <= level_min,
        }
    }
}

/// Whether the text begins with a minus sign.
fn starts_with_minus(value: &Static) -> bool {
    match value {
        Static::Int(n) | Static::Duration(n) => *n < 0 && *n != i64::MIN,
        Static::Float(x) => x.is_sign_negative(),
        _ => false,
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
            Self::And => "&&",
            Self::Or => "||",
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => attribute.fmt(f),
            Self::Intrinsic(intrinsic) => intrinsic.fmt(f),
        }
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::None => "",
            Scope::Span => "span",
            Scope::Resource => "resource",
            Scope::Event => "event",
            Scope::Link => "link",
            Scope::Instrumentation => "instrumentation",
        };
        match (self.parent, scope) {
            (false, scope) => write!(f, "{scope}.")?,
            (true, "") => f.write_str("parent.")?,
            (true, scope) => write!(f, "parent.{scope}.")?,
        }
        let name = &self.name;
        if !self.needs_quotes() {
            return f.write_str(name);
        }
        write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl Attribute {
    /// Whether the name without quotes would be read as something else.
    fn needs_quotes(&self) -> bool {
        let (name, unscoped) = (&self.name, self.scope == Scope::None);
        name.contains(|c| c == '"' || ends_attribute(c))
            || (unscoped && !self.parent && name.starts_with(|c: char| c.is_ascii_digit()))
            || (unscoped && self.parent && (name.starts_with("span.") || name.starts_with("resource.")))
    }
}

impl Display for Intrinsic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TraceDuration => "traceDuration",
            Self::TraceRootName => "rootName",
            Self::TraceRootService => "rootServiceName",
            Self::TraceId => "trace:id",
            Self::Duration => "duration",
            Self::Name => "name",
            Self::Kind => "kind",
            Self::Status => "status",
            Self::StatusMessage => "statusMessage",
            Self::SpanId => "span:id",
            Self::ParentId => "span:parentID",
            Self::ChildCount => "span:childCount",
            Self::EventName => "event:name",
            Self::EventTimeSinceStart => "event:timeSinceStart",
            Self::LinkTraceId => "link:traceID",
            Self::LinkSpanId => "link:spanID",
            Self::InstrumentationName => "instrumentation:name",
            Self::InstrumentationVersion => "instrumentation:version",
            Self::NestedSetLeft => "nestedSetLeft",
            Self::NestedSetRight => "nestedSetRight",
            Self::NestedSetParent => "nestedSetParent",
            Self::Parent => "parent",
        })
    }
}

impl Display for Metrics {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)?;
        join(f, &self.second, "")
    }
}

impl Display for MetricsExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(series) => series.fmt(f),
            Self::Scalar(value) => value.fmt(f),
            Self::Binary { op, lhs, rhs } => {
                // Series always stand in parentheses: level 0.
                let level = |side: &Self| match side {
                    Self::Scalar(_) => TIGHT,
                    Self::Series(_) => 0,
                    Self::Binary { op, .. } => op.level(),
                };
                let (left, right) = sides(f, *op, level(lhs), level(rhs));
                operand(f, lhs, left)?;
                write!(f, " {op} ")?;
                operand(f, rhs, right)
            }
        }
    }
}

impl Display for Series {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        enclose(f, "", &self.pipeline, " | ")?;
        self.function.fmt(f)?;
        if !self.by.is_empty() {
            f.write_str(" by(")?;
            join(f, &self.by, ", ")?;
            f.write_char(')')?;
        }
        join(f, &self.second, "")
    }
}

impl MetricsFn {
    /// The keyword.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::MinOverTime(_) => "min_over_time",
            Self::MaxOverTime(_) => "max_over_time",
            Self::SumOverTime(_) => "sum_over_time",
            Self::AvgOverTime(_) => "avg_over_time",
            Self::HistogramOverTime(_) => "histogram_over_time",
            Self::QuantileOverTime(..) => "quantile_over_time",
            Self::Compare(_) => "compare",
        }
    }
}

impl Display for MetricsFn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name())?;
        match self {
            Self::Rate | Self::CountOverTime => {}
            Self::MinOverTime(field)
            | Self::MaxOverTime(field)
            | Self::SumOverTime(field)
            | Self::AvgOverTime(field)
            | Self::HistogramOverTime(field) => field.fmt(f)?,
            Self::QuantileOverTime(field, quantiles) => {
                field.fmt(f)?;
                for quantile in quantiles {
                    write!(f, ", {quantile:?}")?;
                }
            }
            Self::Compare(Compare { filter, top, range_ns }) => {
                enclose(f, "{ ", filter, " }")?;
                write!(f, ", {top}")?;
                if let Some((start, end)) = range_ns {
                    write!(f, ", {start}, {end}")?;
                }
            }
        }
        f.write_char(')')
    }
}

impl Display for SecondStage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopK(limit) => write!(f, " | topk({limit})"),
            Self::BottomK(limit) => write!(f, " | bottomk({limit})"),
            Self::Compare(op, value) => write!(f, " {op} {value}"),
        }
    }
}

impl Display for Static {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            // Its digits alone would be out of range.
            Self::Int(i64::MIN) => f.write_str("minInt"),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::String(text) => quote(f, text),
            Self::Bool(value) => value.fmt(f),
            Self::Duration(ns) => f.write_str(&duration::format(*ns)),
            Self::Status(status) => status.fmt(f),
            Self::Kind(kind) => kind.fmt(f),
            Self::Ints(_) | Self::Floats(_) | Self::Strings(_) | Self::Bools(_) => {
                f.write_char('[')?;
                join(f, &self.elements().unwrap_or_default(), ", ")?;
                f.write_char(']')
            }
        }
    }
}

/// A string literal: between backticks where that is possible.
fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    if !text.contains(['`', '\r']) {
        return write!(f, "`{text}`");
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("error"),
            Self::Ok => f.write_str("ok"),
            Self::Unset => f.write_str("unset"),
            Self::Other(number) => write!(f, "status({number})"),
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.write_str("unspecified"),
            Self::Internal => f.write_str("internal"),
            Self::Client => f.write_str("client"),
            Self::Server => f.write_str("server"),
            Self::Producer => f.write_str("producer"),
            Self::Consumer => f.write_str("consumer"),
            Self::Other(number) => write!(f, "kind({number})"),
        }
    }
}
