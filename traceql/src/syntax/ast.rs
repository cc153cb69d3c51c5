//! The tree of a query: plain data, made by the parser and read by everything else.
//!
//! A [`Query`] is either a search (a [`Pipeline`] of stages over spansets) or a metrics
//! expression ([`Metrics`]). `Display` of every node is its canonical text (see `print`).

use super::value::{Static, Type};

/// A whole query: what to do, and hints on how.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What the query asks for.
    pub root: Root,
    /// The pairs of the last `with(...)`, in order. Unknown names are to be ignored.
    pub hints: Vec<Hint>,
}

/// One pair of `with(name=value)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// Name as written.
    pub name: String,
    /// A literal of any type but nil.
    pub value: Static,
}

/// The two sorts of query.
#[derive(Clone, Debug, PartialEq)]
pub enum Root {
    /// A search: traces whose spansets survive the pipeline.
    Spansets(Pipeline),
    /// Time series.
    Metrics(Metrics),
}

/// Stages joined by `|`; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The stages from left to right.
    pub stages: Vec<Stage>,
}

/// One stage of a pipeline: takes spansets, gives spansets.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// `{ ... }` and combinations of such filters.
    Spansets(SpansetExpr),
    /// `count() > 2`: keeps spansets by a number computed from them.
    Scalar(ScalarFilter),
    /// `by(expr)`: splits each spanset by a value.
    By(FieldExpr),
    /// `coalesce()`: merges all spansets of a trace.
    Coalesce,
    /// `select(a, b)`: more attributes in the answer.
    Select(Vec<Field>),
}

/// An expression over the spansets of one trace.
#[derive(Clone, Debug, PartialEq)]
pub enum SpansetExpr {
    /// `{ expr }`; `{ }` is read as `{ true }`.
    Filter(FieldExpr),
    /// `lhs op rhs`.
    Binary {
        /// Union, intersection or a structural relation.
        op: SpansetOp,
        /// Left side.
        lhs: Box<SpansetExpr>,
        /// Right side.
        rhs: Box<SpansetExpr>,
    },
    /// `( pipeline )` as an operand, such as `({ a } | count() > 1) >> ({ b })`.
    Pipeline(Box<Pipeline>),
}

/// Operators between spansets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpansetOp {
    /// `&&`: both sides have spans; the union of them.
    And,
    /// `||`: either side has spans; the union of them.
    Or,
    /// A relation between spans of one trace.
    Structural(Relation, Form),
}

/// What a span of the right side is to a span of the left side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`: right is a child of left.
    Child,
    /// `<`: right is the parent of left.
    Parent,
    /// `>>`: right is below left.
    Descendant,
    /// `<<`: right is above left.
    Ancestor,
    /// `~`: right and left are different spans with the same parent.
    Sibling,
}

/// Which spans a structural operator returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `>`: right spans with the relation to some left span.
    Plain,
    /// `!>`: right spans with the relation to no left span.
    Negated,
    /// `&>`: the spans of both sides that take part in the relation.
    Union,
}

/// `lhs op rhs` where the sides are numbers computed from a spanset.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarFilter {
    /// A comparison.
    pub op: BinaryOp,
    /// Left side; executable only as [`ScalarExpr::Aggregate`].
    pub lhs: ScalarExpr,
    /// Right side; executable only as [`ScalarExpr::Static`].
    pub rhs: ScalarExpr,
}

/// A number computed from a spanset.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalarExpr {
    /// An int, float or duration literal, arithmetic between literals already done.
    Static(Static),
    /// `count()`, `avg(duration)`.
    Aggregate(Aggregate),
    /// Arithmetic with an aggregate on at least one side (not executable).
    Binary {
        /// An arithmetic operator.
        op: BinaryOp,
        /// Left side.
        lhs: Box<ScalarExpr>,
        /// Right side.
        rhs: Box<ScalarExpr>,
    },
    /// `({ ... } | count())` as an operand (not executable).
    Pipeline(Box<Pipeline>, Aggregate),
}

/// An aggregate over the spans of a spanset.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub function: AggregateFn,
    /// What is aggregated; `None` exactly for `count()`.
    pub expr: Option<FieldExpr>,
}

/// Aggregate functions over the spans of a spanset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFn {
    /// Number of spans.
    Count,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Mean value.
    Avg,
    /// Sum of values.
    Sum,
}

/// An expression over one span.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldExpr {
    /// A literal, or the value of an expression of literals.
    Static(Static),
    /// An attribute or intrinsic of the span.
    Field(Field),
    /// `op expr`.
    Unary {
        /// Operator.
        op: UnaryOp,
        /// Operand.
        expr: Box<FieldExpr>,
    },
    /// `lhs op rhs`.
    Binary {
        /// Operator.
        op: BinaryOp,
        /// Left side.
        lhs: Box<FieldExpr>,
        /// Right side.
        rhs: Box<FieldExpr>,
    },
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `!x`
    Not,
    /// `-x`
    Negate,
    /// `x != nil`
    Exists,
    /// `x = nil`
    NotExists,
}

/// Operators with two values as operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
    /// `&&`
    And,
    /// `||`
    Or,
}

/// What a field expression can name on a span.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A key of some attribute map.
    Attribute(Attribute),
    /// A property of the trace model itself.
    Intrinsic(Intrinsic),
}

/// The attribute that every resource has.
pub const SERVICE_NAME: &str = "service.name";

impl Field {
    /// Whether this is `resource.service.name`, which every resource has: absent or no text, it is the empty text.
    pub fn is_service_name(&self) -> bool {
        matches!(self, Self::Attribute(a) if a.scope == Scope::Resource && a.name == SERVICE_NAME)
    }
}

/// Another name of [`Field`].
pub type AttributeOrIntrinsic = Field;

/// An attribute: scope and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// Written after `parent.`; parses, but is unsupported.
    pub parent: bool,
    /// Which attribute map to look in.
    pub scope: Scope,
    /// The key, without quotes.
    pub name: String,
}

/// Where an attribute lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `.name`: the first of span, resource, event, link, instrumentation that has it.
    None,
    /// `span.name`
    Span,
    /// `resource.name`
    Resource,
    /// `event.name`
    Event,
    /// `link.name`
    Link,
    /// `instrumentation.name`
    Instrumentation,
}

/// Properties of the trace model. The old spellings without a scope mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    /// `trace:duration`, `traceDuration`: last end minus first start. Duration.
    TraceDuration,
    /// `trace:rootName`, `rootName`. String.
    TraceRootName,
    /// `trace:rootService`, `rootServiceName`. String.
    TraceRootService,
    /// `trace:id`: hexadecimal, without leading zeros. String.
    TraceId,
    /// `span:duration`, `duration`. Duration.
    Duration,
    /// `span:name`, `name`. String.
    Name,
    /// `span:kind`, `kind`. Kind.
    Kind,
    /// `span:status`, `status`. Status.
    Status,
    /// `span:statusMessage`, `statusMessage`. String.
    StatusMessage,
    /// `span:id`: 16 hexadecimal digits. String.
    SpanId,
    /// `span:parentID`: 16 hexadecimal digits, or empty. String.
    ParentId,
    /// `span:childCount`. Int.
    ChildCount,
    /// `event:name`. String.
    EventName,
    /// `event:timeSinceStart`: since the start of the span. Duration.
    EventTimeSinceStart,
    /// `link:traceID`. String.
    LinkTraceId,
    /// `link:spanID`. String.
    LinkSpanId,
    /// `instrumentation:name`. String.
    InstrumentationName,
    /// `instrumentation:version`. String.
    InstrumentationVersion,
    /// `nestedSetLeft`: position in the span tree. Int.
    NestedSetLeft,
    /// `nestedSetRight`: position in the span tree. Int.
    NestedSetRight,
    /// `nestedSetParent`: the parent's left, -1 for a root, 0 if unknown. Int.
    NestedSetParent,
    /// `parent`: parses, but is unsupported.
    Parent,
}

/// A metrics query: an expression, then stages over the series it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Where the series come from.
    pub expr: MetricsExpr,
    /// Stages over the result of [`MetricsExpr::Binary`]. Those of a single series
    /// expression are in [`Series::second`], never here.
    pub second: Vec<SecondStage>,
}

/// Series, numbers, and arithmetic between them.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsExpr {
    /// `{ ... } | rate()`
    Series(Box<Series>),
    /// An int or float.
    Scalar(Static),
    /// `lhs op rhs`, with series on at least one side.
    Binary {
        /// One of `+ - * /`.
        op: BinaryOp,
        /// Left side.
        lhs: Box<MetricsExpr>,
        /// Right side.
        rhs: Box<MetricsExpr>,
    },
}

/// Series made from the spans that survive a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Which spans.
    pub pipeline: Pipeline,
    /// What is computed from them.
    pub function: MetricsFn,
    /// `by(...)`: the labels.
    pub by: Vec<Field>,
    /// Stages over the series.
    pub second: Vec<SecondStage>,
}

/// First-stage metrics functions.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsFn {
    /// Spans per second.
    Rate,
    /// Spans per step.
    CountOverTime,
    /// Smallest value per step.
    MinOverTime(Field),
    /// Largest value per step.
    MaxOverTime(Field),
    /// Sum per step.
    SumOverTime(Field),
    /// Mean per step.
    AvgOverTime(Field),
    /// Count per power-of-two bucket and step.
    HistogramOverTime(Field),
    /// Quantiles (each in 0..=1), interpolated in power-of-two buckets.
    QuantileOverTime(Field, Vec<f64>),
    /// Spans that match a filter against those that do not, per attribute value.
    Compare(Compare),
}

/// The arguments of `compare()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The selection.
    pub filter: FieldExpr,
    /// Values kept per attribute: 1..=1000, 10 when not given.
    pub top: i64,
    /// Start and end of the selection, in Unix nanoseconds.
    pub range_ns: Option<(i64, i64)>,
}

/// Stages over series.
#[derive(Clone, Debug, PartialEq)]
pub enum SecondStage {
    /// `| topk(n)`: the n largest at each time.
    TopK(i64),
    /// `| bottomk(n)`: the n smallest at each time.
    BottomK(i64),
    /// `> 10`: points that satisfy the comparison.
    Compare(BinaryOp, Static),
}

impl Intrinsic {
    /// The type of its values; unknown for `parent`.
    #[must_use]
    pub fn value_type(self) -> Type {
        use Intrinsic as I;
        match self {
            I::TraceDuration | I::Duration | I::EventTimeSinceStart => Type::Duration,
            I::Kind => Type::Kind,
            I::Status => Type::Status,
            I::ChildCount | I::NestedSetLeft | I::NestedSetRight | I::NestedSetParent => Type::Int,
            I::Parent => Type::Unknown,
            _ => Type::String,
        }
    }
}

impl BinaryOp {
    /// `+ - * / % ^`
    #[must_use]
    pub fn is_arithmetic(self) -> bool {
        use BinaryOp as B;
        matches!(self, B::Add | B::Sub | B::Mul | B::Div | B::Mod | B::Pow)
    }

    /// `= != < <= > >=`
    #[must_use]
    pub fn is_comparison(self) -> bool {
        use BinaryOp as B;
        matches!(self, B::Eq | B::Ne | B::Lt | B::Le | B::Gt | B::Ge)
    }

    /// `=~ !~`
    #[must_use]
    pub fn is_regex(self) -> bool {
        matches!(self, Self::Regex | Self::NotRegex)
    }
}

impl FieldExpr {
    /// The operands of a chain of `op`, in order: `a || b || c` gives three. For another
    /// expression: itself. Iterative, so fit for long chains.
    #[must_use]
    pub fn operands(&self, op: BinaryOp) -> Vec<&Self> {
        let (mut todo, mut out) = (vec![self], Vec::new());
        while let Some(expr) = todo.pop() {
            match expr {
                Self::Binary { op: found, lhs, rhs } if *found == op => todo.extend([&**rhs, &**lhs]),
                _ => out.push(expr),
            }
        }
        out
    }

    /// The static type of the value; [`Type::Unknown`] if only the data tell.
    #[must_use]
    pub fn value_type(&self) -> Type {
        let mut expr = self;
        loop {
            expr = match expr {
                Self::Static(value) => return value.value_type(),
                Self::Field(Field::Attribute(_)) => return Type::Unknown,
                Self::Field(Field::Intrinsic(intrinsic)) => return intrinsic.value_type(),
                Self::Unary { op: UnaryOp::Negate, expr } => expr,
                // The sides have matching types, so the known one tells.
                Self::Binary { op, lhs, rhs } if op.is_arithmetic() => match lhs.value_type() {
                    Type::Unknown => rhs,
                    known => return known,
                },
                Self::Unary { .. } | Self::Binary { .. } => return Type::Bool,
            }
        }
    }
}
