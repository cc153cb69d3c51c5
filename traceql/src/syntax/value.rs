//! Values and what operators do to them (§4): the parser folds constants with it, the
//! executor computes with it.
//!
//! Where Tempo 3.0.3 and its documentation part, a constant says what is done here:
//! [`INT_POWER_SWAPPED`], [`ARRAY_NEGATION`].

use std::cmp::Ordering;
use std::fmt;

use super::ast::{BinaryOp, UnaryOp};

/// Tempo computes `a ^ b` of two ints as `b ^ a`. An accident: here it is `a ^ b`.
pub const INT_POWER_SWAPPED: bool = false;

/// How `!=` and `!~` treat an array: as Tempo 3.0.3 (later versions: [`ArrayNegation::All`]).
pub const ARRAY_NEGATION: ArrayNegation = ArrayNegation::Any;

/// When `array != scalar` and `array !~ regex` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayNegation {
    /// Some element satisfies it ("something else is in the array").
    Any,
    /// Every element satisfies it ("is not in the array").
    All,
}

/// A value: a literal of the query, or an attribute of a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Static {
    /// No value.
    Nil,
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// Text.
    String(String),
    /// Truth value.
    Bool(bool),
    /// Time span, in nanoseconds.
    Duration(i64),
    /// Span status.
    Status(Status),
    /// Span kind.
    Kind(Kind),
    /// Several whole numbers (data only; there are no array literals).
    Ints(Vec<i64>),
    /// Several numbers.
    Floats(Vec<f64>),
    /// Several texts.
    Strings(Vec<String>),
    /// Several truth values.
    Bools(Vec<bool>),
}

/// Span status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `error`
    Error,
    /// `ok`
    Ok,
    /// `unset`
    Unset,
    /// A number that OTLP does not define.
    Other(i32),
}

/// Span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `unspecified`
    Unspecified,
    /// `internal`
    Internal,
    /// `client`
    Client,
    /// `server`
    Server,
    /// `producer`
    Producer,
    /// `consumer`
    Consumer,
    /// A number that OTLP does not define.
    Other(i32),
}

/// The type of a value or expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants are those of `Static`
pub enum Type {
    /// Known only from the data (attributes).
    Unknown,
    Nil,
    Int,
    Float,
    String,
    Bool,
    Duration,
    Status,
    Kind,
    Ints,
    Floats,
    Strings,
    Bools,
}

/// Why an operator has no result. Tempo fails the whole query for these at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// `x / 0` of ints.
    DivisionByZero,
    /// `x % 0` of ints.
    ModuloByZero,
    /// `!x` of something else than a boolean.
    NotBoolean(Type),
    /// `-x` of something else than a number.
    NotNumeric(Type),
    /// Arithmetic on an array.
    ArrayArithmetic,
    /// Two arrays as operands.
    TwoArrays,
    /// A regex operator: use [`regex()`] with a compiled expression.
    RegexOperator,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::ModuloByZero => f.write_str("modulo by zero"),
            Self::NotBoolean(found) => write!(f, "expected a boolean, but got {found:?}"),
            Self::NotNumeric(found) => write!(f, "expected a number, but got {found:?}"),
            Self::ArrayArithmetic => f.write_str("arithmetic on an array is not supported"),
            Self::TwoArrays => f.write_str("an operator on an array needs a single value on its other side"),
            Self::RegexOperator => f.write_str("regex operator without a compiled regex"),
        }
    }
}

impl std::error::Error for EvalError {}

impl Status {
    /// From the number in OTLP.
    #[must_use]
    pub fn from_otlp(number: i32) -> Self {
        match number {
            0 => Self::Unset,
            1 => Self::Ok,
            2 => Self::Error,
            other => Self::Other(other),
        }
    }

    /// The number in OTLP.
    #[must_use]
    pub fn to_otlp(self) -> i32 {
        match self {
            Self::Unset => 0,
            Self::Ok => 1,
            Self::Error => 2,
            Self::Other(number) => number,
        }
    }

    /// From its keyword.
    #[must_use]
    pub fn from_keyword(word: &str) -> Option<Self> {
        Some(match word {
            "error" => Self::Error,
            "ok" => Self::Ok,
            "unset" => Self::Unset,
            _ => return None,
        })
    }
}

impl Kind {
    /// From the number in OTLP.
    #[must_use]
    pub fn from_otlp(number: i32) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            other => Self::Other(other),
        }
    }

    /// The number in OTLP.
    #[must_use]
    pub fn to_otlp(self) -> i32 {
        match self {
            Self::Unspecified => 0,
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
            Self::Other(number) => number,
        }
    }

    /// From its keyword.
    #[must_use]
    pub fn from_keyword(word: &str) -> Option<Self> {
        Some(match word {
            "unspecified" => Self::Unspecified,
            "internal" => Self::Internal,
            "client" => Self::Client,
            "server" => Self::Server,
            "producer" => Self::Producer,
            "consumer" => Self::Consumer,
            _ => return None,
        })
    }
}

impl Type {
    /// Int, Float or Duration.
    #[must_use]
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Duration)
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        matches!(self, Self::Ints | Self::Floats | Self::Strings | Self::Bools)
    }

    /// The type of an element; for other types the type itself.
    #[must_use]
    pub fn element(self) -> Self {
        match self {
            Self::Ints => Self::Int,
            Self::Floats => Self::Float,
            Self::Strings => Self::String,
            Self::Bools => Self::Bool,
            other => other,
        }
    }

    /// Whether values of the two types may be the operands of one operator.
    #[must_use]
    pub fn matches(self, other: Self) -> bool {
        let (a, b) = (self.element(), other.element());
        let wild = |t| matches!(t, Self::Unknown | Self::Nil);
        a == b || wild(a) || wild(b) || (a.is_numeric() && b.is_numeric())
    }

    /// Whether the type has this operator at all.
    #[must_use]
    pub fn allows(self, op: BinaryOp) -> bool {
        use BinaryOp as B;
        match self.element() {
            Self::Unknown => true,
            Self::Int | Self::Float | Self::Duration => op.is_arithmetic() || op.is_comparison(),
            Self::String => op.is_comparison() || op.is_regex(),
            Self::Bool => matches!(op, B::And | B::Or | B::Eq | B::Ne),
            _ => matches!(op, B::Eq | B::Ne),
        }
    }
}

impl Static {
    /// Its type.
    #[must_use]
    pub fn value_type(&self) -> Type {
        match self {
            Self::Nil => Type::Nil,
            Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::String(_) => Type::String,
            Self::Bool(_) => Type::Bool,
            Self::Duration(_) => Type::Duration,
            Self::Status(_) => Type::Status,
            Self::Kind(_) => Type::Kind,
            Self::Ints(_) => Type::Ints,
            Self::Floats(_) => Type::Floats,
            Self::Strings(_) => Type::Strings,
            Self::Bools(_) => Type::Bools,
        }
    }

    /// A number as float: ints and floats as they are, durations in nanoseconds.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) | Self::Duration(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The elements of an array as single values; `None` for other types.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<Self>> {
        Some(match self {
            Self::Ints(items) => items.iter().map(|n| Self::Int(*n)).collect(),
            Self::Floats(items) => items.iter().map(|x| Self::Float(*x)).collect(),
            Self::Strings(items) => items.iter().map(|s| Self::String(s.clone())).collect(),
            Self::Bools(items) => items.iter().map(|b| Self::Bool(*b)).collect(),
            _ => return None,
        })
    }
}

/// `op value`.
///
/// # Errors
/// `!` of a non-boolean and `-` of a non-number; of nil both are nil.
pub fn unary(op: UnaryOp, value: &Static) -> Result<Static, EvalError> {
    Ok(match (op, value) {
        (UnaryOp::Exists, value) => Static::Bool(*value != Static::Nil),
        (UnaryOp::NotExists, value) => Static::Bool(*value == Static::Nil),
        // Tempo never sees such a span: it fetches only those that have the attribute.
        (UnaryOp::Not | UnaryOp::Negate, Static::Nil) => Static::Nil,
        (UnaryOp::Not, Static::Bool(b)) => Static::Bool(!b),
        (UnaryOp::Not, other) => return Err(EvalError::NotBoolean(other.value_type())),
        (UnaryOp::Negate, Static::Int(n)) => Static::Int(n.wrapping_neg()),
        (UnaryOp::Negate, Static::Duration(n)) => Static::Duration(n.wrapping_neg()),
        (UnaryOp::Negate, Static::Float(x)) => Static::Float(-x),
        (UnaryOp::Negate, other) => return Err(EvalError::NotNumeric(other.value_type())),
    })
}

/// `lhs op rhs`. Operands that do not match, or have no such operator, give false; so does
/// nil. Int with int stays int (wrapping); other arithmetic is done in floats and gives a
/// float, durations counting as nanoseconds.
///
/// `&&` and `||` get both sides here; callers that want short-circuiting look at the left
/// side first.
///
/// # Errors
/// See [`EvalError`]. Regex operators always fail: they belong to [`regex()`].
pub fn binary(op: BinaryOp, lhs: &Static, rhs: &Static) -> Result<Static, EvalError> {
    if op.is_regex() {
        return Err(EvalError::RegexOperator);
    }
    let (left, right) = (lhs.value_type(), rhs.value_type());
    if left.is_array() || right.is_array() {
        return binary_array(op, lhs, rhs).map(Static::Bool);
    }
    let legal = left.matches(right) && left.allows(op) && right.allows(op);
    if !legal || left == Type::Nil || right == Type::Nil {
        return Ok(Static::Bool(false));
    }
    if op.is_arithmetic() {
        return arithmetic(op, lhs, rhs);
    }
    Ok(Static::Bool(match (op, lhs, rhs) {
        (BinaryOp::And, Static::Bool(a), Static::Bool(b)) => *a && *b,
        (BinaryOp::Or, Static::Bool(a), Static::Bool(b)) => *a || *b,
        _ => ordered(op, compare(lhs, rhs)),
    }))
}

/// `value =~ regex` (or `!~` if `negated`), where `is_match` is the compiled regex, anchored
/// at both ends. Anything but text gives false.
pub fn regex(negated: bool, value: &Static, is_match: &dyn Fn(&str) -> bool) -> bool {
    let holds = |text: &str| is_match(text) != negated;
    match value {
        Static::String(text) => holds(text),
        Static::Strings(items) if negated && ARRAY_NEGATION == ArrayNegation::All => items.iter().all(|item| holds(item)),
        Static::Strings(items) => items.iter().any(|item| holds(item)),
        _ => false,
    }
}

/// One side is an array: the comparison is made with each element.
fn binary_array(op: BinaryOp, lhs: &Static, rhs: &Static) -> Result<bool, EvalError> {
    if op.is_arithmetic() {
        // As Tempo: an array of texts is as little a number as a text is.
        let numeric = |side: &Static| side.value_type().element().is_numeric();
        return if numeric(lhs) && numeric(rhs) { Err(EvalError::ArrayArithmetic) } else { Ok(false) };
    }
    let of_pairs: Vec<Static> = match (lhs.elements(), rhs.elements()) {
        (Some(_), Some(_)) => return Err(EvalError::TwoArrays),
        (Some(items), _) => items.iter().map(|item| binary(op, item, rhs)).collect::<Result<_, _>>()?,
        (_, Some(items)) => items.iter().map(|item| binary(op, lhs, item)).collect::<Result<_, _>>()?,
        (None, None) => return Ok(false),
    };
    let mut holds = of_pairs.iter().map(|value| *value == Static::Bool(true));
    Ok(match ARRAY_NEGATION {
        ArrayNegation::All if op == BinaryOp::Ne => holds.all(|held| held),
        _ => holds.any(|held| held),
    })
}

/// Arithmetic on two numbers.
fn arithmetic(op: BinaryOp, lhs: &Static, rhs: &Static) -> Result<Static, EvalError> {
    if let (Static::Int(a), Static::Int(b)) = (lhs, rhs) {
        return int_arithmetic(op, *a, *b).map(Static::Int);
    }
    let (Some(a), Some(b)) = (lhs.as_f64(), rhs.as_f64()) else {
        return Ok(Static::Bool(false));
    };
    Ok(Static::Float(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        _ => a.powf(b),
    }))
}

fn int_arithmetic(op: BinaryOp, a: i64, b: i64) -> Result<i64, EvalError> {
    Ok(match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div if b == 0 => return Err(EvalError::DivisionByZero),
        BinaryOp::Div => a.wrapping_div(b),
        BinaryOp::Mod if b == 0 => return Err(EvalError::ModuloByZero),
        BinaryOp::Mod => a.wrapping_rem(b),
        _ => {
            let (base, exponent) = if INT_POWER_SWAPPED { (b, a) } else { (a, b) };
            (base as f64).powf(exponent as f64) as i64
        }
    })
}

/// The order of two values of matching types; `None` if they have none (NaN, different or
/// unordered values, which are then not equal either).
#[must_use]
pub fn compare(lhs: &Static, rhs: &Static) -> Option<Ordering> {
    match (lhs, rhs) {
        (Static::String(a), Static::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Static::Bool(a), Static::Bool(b)) => Some(a.cmp(b)),
        // Whole numbers are compared exactly, not as floats.
        (Static::Int(a) | Static::Duration(a), Static::Int(b) | Static::Duration(b)) => Some(a.cmp(b)),
        (Static::Status(a), Static::Status(b)) => (a == b).then_some(Ordering::Equal),
        (Static::Kind(a), Static::Kind(b)) => (a == b).then_some(Ordering::Equal),
        _ => lhs.as_f64()?.partial_cmp(&rhs.as_f64()?),
    }
}

/// Whether a comparison operator holds for operands in this order.
fn ordered(op: BinaryOp, order: Option<Ordering>) -> bool {
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        BinaryOp::Lt => order.is_some_and(Ordering::is_lt),
        BinaryOp::Le => order.is_some_and(Ordering::is_le),
        BinaryOp::Gt => order.is_some_and(Ordering::is_gt),
        BinaryOp::Ge => order.is_some_and(Ordering::is_ge),
        _ => false,
    }
}
