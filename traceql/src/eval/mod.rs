//! Evaluates a field expression over columns of spans: one truth value a span.
//!
//! `&&`, `||` and comparisons with a literal work column by column (patterns once per dictionary entry); everything else goes
//! value by value through `syntax::value`, which holds the rules of the types.

mod bind;
mod codes;
mod pattern;
mod values;

use std::collections::HashMap;

use arrow::{array::BooleanBufferBuilder, buffer::BooleanBuffer};

pub use bind::{FieldColumns, columns_of, repeated, values_of};
pub(crate) use codes::Key;
pub use codes::{Codes, single_values_of, single_values_or_zeros_of};
pub use pattern::{Pattern, check_regex};
pub use values::{NO_PARENT, Values};

use crate::syntax::{
    BinaryOp, EvalError, Field, FieldExpr, Static, UnaryOp,
    value::{self, binary, unary},
};

/// The compiled regular expressions of a query, by their text.
pub type Regexes = HashMap<String, Pattern>;

/// All regular expressions of an expression.
pub fn regexes_of(expr: &FieldExpr, into: &mut Regexes) -> Result<(), String> {
    match expr {
        FieldExpr::Binary { op, lhs, rhs } => {
            if let (true, FieldExpr::Static(Static::String(pattern))) = (op.is_regex(), rhs.as_ref()) {
                into.insert(pattern.clone(), Pattern::new(pattern)?);
            }
            regexes_of(lhs, into)?;
            regexes_of(rhs, into)
        }
        FieldExpr::Unary { expr, .. } => regexes_of(expr, into),
        FieldExpr::Static(_) | FieldExpr::Field(_) => Ok(()),
    }
}

/// Values of the fields of an expression for a number of rows.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Number of rows.
    pub count: usize,
    /// One entry for each field the expression names.
    pub fields: HashMap<&'a Field, Values>,
    /// The regular expressions it uses.
    pub regexes: &'a Regexes,
}

impl Rows<'_> {
    /// For which of the `active` rows the expression is true. Rows that are not active are not evaluated, so that an
    /// operator that the left side of `&&` or `||` rules out cannot fail.
    pub fn matches(&self, expr: &FieldExpr, active: &BooleanBuffer) -> Result<BooleanBuffer, EvalError> {
        match expr {
            FieldExpr::Static(value) => Ok(match value {
                Static::Bool(true) => active.clone(),
                _ => BooleanBuffer::new_unset(self.count),
            }),
            FieldExpr::Binary { op: BinaryOp::And, lhs, rhs } => {
                let left = self.matches(lhs, active)?;
                if left.count_set_bits() == 0 {
                    return Ok(left);
                }
                self.matches(rhs, &left)
            }
            FieldExpr::Binary { op: BinaryOp::Or, lhs, rhs } => {
                let left = self.matches(lhs, active)?;
                let rest = active & &!&left;
                if rest.count_set_bits() == 0 {
                    return Ok(left);
                }
                Ok(&left | &self.matches(rhs, &rest)?)
            }
            FieldExpr::Binary { op, lhs, rhs } => self.compare(*op, lhs, rhs, expr, active),
            FieldExpr::Unary { op, expr: inner } => self.unary(*op, inner, expr, active),
            FieldExpr::Field(_) => self.by_value(expr, active),
        }
    }

    fn compare(
        &self,
        op: BinaryOp,
        lhs: &FieldExpr,
        rhs: &FieldExpr,
        expr: &FieldExpr,
        active: &BooleanBuffer,
    ) -> Result<BooleanBuffer, EvalError> {
        let (op, field, literal) = match (lhs, rhs) {
            (FieldExpr::Field(field), FieldExpr::Static(literal)) => (op, field, literal),
            (FieldExpr::Static(literal), FieldExpr::Field(field)) if op.is_comparison() => (turned(op), field, literal),
            _ => return self.by_value(expr, active),
        };
        let Some(values) = self.fields.get(field) else { return Ok(BooleanBuffer::new_unset(self.count)) };
        let test = Test { op, literal, regex: self.regex_of(op, literal) };
        Ok(&values.test(&test) & active)
    }

    fn regex_of(&self, op: BinaryOp, literal: &Static) -> Option<&Pattern> {
        match literal {
            Static::String(pattern) if op.is_regex() => self.regexes.get(pattern),
            _ => None,
        }
    }

    fn unary(&self, op: UnaryOp, inner: &FieldExpr, expr: &FieldExpr, active: &BooleanBuffer) -> Result<BooleanBuffer, EvalError> {
        match (op, inner) {
            (UnaryOp::Exists, FieldExpr::Field(field)) => Ok(&self.present(field) & active),
            (UnaryOp::NotExists, FieldExpr::Field(field)) => Ok(active & &!&self.present(field)),
            // An operator that gives a truth value gives one for every row, so its negation does too.
            (UnaryOp::Not, FieldExpr::Binary { op, .. }) if !op.is_arithmetic() => Ok(active & &!&self.matches(inner, active)?),
            (UnaryOp::Not, FieldExpr::Unary { op: UnaryOp::Not | UnaryOp::Exists | UnaryOp::NotExists, .. }) => {
                Ok(active & &!&self.matches(inner, active)?)
            }
            _ => self.by_value(expr, active),
        }
    }

    fn present(&self, field: &Field) -> BooleanBuffer {
        self.fields.get(field).map_or_else(|| BooleanBuffer::new_unset(self.count), Values::present)
    }

    fn by_value(&self, expr: &FieldExpr, active: &BooleanBuffer) -> Result<BooleanBuffer, EvalError> {
        let mut out = BooleanBufferBuilder::new(self.count);
        out.append_n(self.count, false);
        for row in active.set_indices() {
            out.set_bit(row, self.value(expr, row)? == Static::Bool(true));
        }
        Ok(out.finish())
    }

    /// The value of an expression for one row.
    pub fn value(&self, expr: &FieldExpr, row: usize) -> Result<Static, EvalError> {
        match expr {
            FieldExpr::Static(value) => Ok(value.clone()),
            FieldExpr::Field(field) => Ok(self.fields.get(field).map_or(Static::Nil, |v| v.get(row))),
            FieldExpr::Unary { op, expr } => unary(*op, &self.value(expr, row)?),
            FieldExpr::Binary { op, lhs, rhs } => {
                let left = self.value(lhs, row)?;
                match (op, &left) {
                    (BinaryOp::And, Static::Bool(false)) => return Ok(Static::Bool(false)),
                    (BinaryOp::Or, Static::Bool(true)) => return Ok(Static::Bool(true)),
                    _ => {}
                }
                let right = self.value(rhs, row)?;
                match self.regex_of(*op, &right) {
                    Some(regex) => Ok(Static::Bool(value::regex(*op == BinaryOp::NotRegex, &left, &|s| regex.is_match(s)))),
                    None => binary(*op, &left, &right),
                }
            }
        }
    }
}

/// Whether a field has one value for each event or link of a span.
pub fn is_repeated(field: &Field) -> bool {
    repeated(field).is_some()
}

/// `a < b` read from the other side is `b > a`.
pub fn turned(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        other => other,
    }
}

/// A comparison of one value with a literal.
#[derive(Clone, Copy, Debug)]
pub struct Test<'a> {
    /// A comparison or regex operator, the value on its left.
    pub op: BinaryOp,
    /// The literal on its right.
    pub literal: &'a Static,
    /// The compiled literal of a regex operator.
    pub regex: Option<&'a Pattern>,
}

impl Test<'_> {
    /// Whether a value passes. Never fails: types that do not match give false.
    pub fn passes(&self, value: &Static) -> bool {
        // A recorded rule of Tempo: `!= 3` is about ints, `!= 3.0` about floats.
        let mixed = matches!((value, self.literal), (Static::Int(_), Static::Float(_)) | (Static::Float(_), Static::Int(_)));
        if self.op == BinaryOp::Ne && mixed {
            return false;
        }
        if let (BinaryOp::Ne, Some(items)) = (self.op, value.elements()) {
            return items.iter().any(|item| self.passes(item));
        }
        match self.regex {
            Some(regex) => value::regex(self.op == BinaryOp::NotRegex, value, &|s| regex.is_match(s)),
            None => binary(self.op, value, self.literal) == Ok(Static::Bool(true)),
        }
    }

    /// Whether a text passes, without making a value of it.
    pub fn passes_text(&self, text: &str) -> bool {
        if let Some(regex) = self.regex {
            return regex.is_match(text) != (self.op == BinaryOp::NotRegex);
        }
        let Static::String(literal) = self.literal else { return false };
        match self.op {
            BinaryOp::Eq => text == literal,
            BinaryOp::Ne => text != literal,
            BinaryOp::Lt => text < literal.as_str(),
            BinaryOp::Le => text <= literal.as_str(),
            BinaryOp::Gt => text > literal.as_str(),
            BinaryOp::Ge => text >= literal.as_str(),
            _ => false,
        }
    }
}
