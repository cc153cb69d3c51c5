//! Expressions over one span, and folding of constants.

use super::super::ast::{BinaryOp, Field, FieldExpr, Intrinsic, UnaryOp};
use super::super::lexer::{Tok, is_keyword};
use super::super::value::{self, Static};
use super::{Parsed, Parser, level};

impl Parser<'_> {
    /// `{ expr }`; `{ }` is `{ true }`.
    pub(super) fn spanset_filter(&mut self) -> Parsed<(FieldExpr, usize)> {
        self.expect_symbol("{")?;
        if self.eat_symbol("}") {
            return Ok((FieldExpr::Static(Static::Bool(true)), 1));
        }
        let found = self.field_expr(level::LOGIC)?;
        self.expect_symbol("}")?;
        Ok(found)
    }

    /// An expression whose operators bind at least as tight as `level_min`, and its height.
    pub(super) fn field_expr(&mut self, level_min: u8) -> Parsed<(FieldExpr, usize)> {
        self.nested(|parser| {
            let (mut lhs, mut height) = parser.field_prefix()?;
            while let Some((op, level)) = parser.value_op() {
                if level < level_min {
                    break;
                }
                parser.advance();
                if let Some(exists) = nil_test(op).filter(|_| parser.at_lone_nil()) {
                    parser.advance();
                    height = parser.height(&[height])?;
                    lhs = fold_unary(exists, lhs);
                    continue;
                }
                // Only the power operator groups to the right.
                let right_level = if op == BinaryOp::Pow { level } else { level + 1 };
                let (rhs, right_height) = parser.field_expr(right_level)?;
                height = parser.height(&[height, right_height])?;
                lhs = fold_binary(op, lhs, rhs);
            }
            Ok((lhs, height))
        })
    }

    /// Whether the next token is nil, and not itself the left side of `nil = x`.
    fn at_lone_nil(&self) -> bool {
        self.word() == Some("nil") && !matches!(self.look(1), Tok::Symbol("=" | "!="))
    }

    fn field_prefix(&mut self) -> Parsed<(FieldExpr, usize)> {
        let (op, level_min) = match self.peek() {
            Tok::Symbol("-") => (UnaryOp::Negate, level::SUM + 1),
            Tok::Symbol("!") => (UnaryOp::Not, level::NOT + 1),
            _ => return self.field_primary(),
        };
        self.advance();
        let (expr, height) = self.field_expr(level_min)?;
        Ok((fold_unary(op, expr), self.height(&[height])?))
    }

    fn field_primary(&mut self) -> Parsed<(FieldExpr, usize)> {
        if self.eat_symbol("(") {
            let found = self.field_expr(level::LOGIC)?;
            self.expect_symbol(")")?;
            return Ok(found);
        }
        if self.eat_word("nil") {
            return self.nil_on_left();
        }
        if let Some(value) = self.static_token() {
            self.advance();
            return Ok((FieldExpr::Static(value), 1));
        }
        match self.word() {
            Some(word) if !is_keyword(word) => Err(self.error(format!("unknown identifier: {word}"))),
            _ => Ok((FieldExpr::Field(self.field_name()?), 1)),
        }
    }

    /// `= x` or `!= x` after a nil.
    fn nil_on_left(&mut self) -> Parsed<(FieldExpr, usize)> {
        let op = self.value_op().and_then(|(op, _)| nil_test(op));
        let Some(op) = op else {
            return Err(self.unexpected(&["=", "!="]));
        };
        self.advance();
        if self.at_lone_nil() {
            self.advance();
            return Ok((FieldExpr::Static(Static::Bool(false)), 1));
        }
        let (expr, height) = self.field_expr(level::COMPARE + 1)?;
        Ok((fold_unary(op, expr), self.height(&[height])?))
    }

    /// An attribute or intrinsic.
    pub(super) fn field_name(&mut self) -> Parsed<Field> {
        let intrinsic = match self.peek() {
            Tok::Attribute(attribute) => {
                let field = Field::Attribute(attribute.clone());
                self.advance();
                return Ok(field);
            }
            Tok::IntrinsicScope(scope) => {
                let scope = *scope;
                self.advance();
                scoped_intrinsic(scope, self.word().unwrap_or("")).ok_or_else(|| self.unexpected(scope_members(scope)))?
            }
            Tok::Word(word) => unscoped_intrinsic(word).ok_or_else(|| self.unexpected(&[]))?,
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        Ok(Field::Intrinsic(intrinsic))
    }

    /// One or more attributes or intrinsics, in parentheses.
    pub(super) fn field_list(&mut self) -> Parsed<Vec<Field>> {
        self.expect_symbol("(")?;
        let mut fields = vec![self.field_name()?];
        while self.eat_symbol(",") {
            fields.push(self.field_name()?);
        }
        self.expect_symbol(")")?;
        Ok(fields)
    }
}

/// What a comparison with nil asks.
fn nil_test(op: BinaryOp) -> Option<UnaryOp> {
    match op {
        BinaryOp::Eq => Some(UnaryOp::NotExists),
        BinaryOp::Ne => Some(UnaryOp::Exists),
        _ => None,
    }
}

/// Names allowed after `trace:` and the like.
fn scope_members(scope: &str) -> &'static [&'static str] {
    match scope {
        "trace:" => &["duration", "rootName", "rootService", "id"],
        "span:" => &["duration", "name", "kind", "status", "statusMessage", "id", "parentID", "childCount"],
        "event:" => &["name", "timeSinceStart"],
        "link:" => &["traceID", "spanID"],
        _ => &["name", "version"],
    }
}

fn scoped_intrinsic(scope: &str, name: &str) -> Option<Intrinsic> {
    use Intrinsic as I;
    Some(match (scope, name) {
        ("trace:", "duration") => I::TraceDuration,
        ("trace:", "rootName") => I::TraceRootName,
        ("trace:", "rootService") => I::TraceRootService,
        ("trace:", "id") => I::TraceId,
        ("span:", "duration") => I::Duration,
        ("span:", "name") => I::Name,
        ("span:", "kind") => I::Kind,
        ("span:", "status") => I::Status,
        ("span:", "statusMessage") => I::StatusMessage,
        ("span:", "id") => I::SpanId,
        ("span:", "parentID") => I::ParentId,
        ("span:", "childCount") => I::ChildCount,
        ("event:", "name") => I::EventName,
        ("event:", "timeSinceStart") => I::EventTimeSinceStart,
        ("link:", "traceID") => I::LinkTraceId,
        ("link:", "spanID") => I::LinkSpanId,
        ("instrumentation:", "name") => I::InstrumentationName,
        ("instrumentation:", "version") => I::InstrumentationVersion,
        _ => return None,
    })
}

fn unscoped_intrinsic(name: &str) -> Option<Intrinsic> {
    use Intrinsic as I;
    Some(match name {
        "traceDuration" => I::TraceDuration,
        "rootName" => I::TraceRootName,
        "rootServiceName" => I::TraceRootService,
        "duration" => I::Duration,
        "name" => I::Name,
        "kind" => I::Kind,
        "status" => I::Status,
        "statusMessage" => I::StatusMessage,
        "nestedSetLeft" => I::NestedSetLeft,
        "nestedSetRight" => I::NestedSetRight,
        "nestedSetParent" => I::NestedSetParent,
        "parent" => I::Parent,
        _ => return None,
    })
}

/// `-value` of a number.
pub(super) fn negate(value: Static) -> Static {
    value::unary(UnaryOp::Negate, &value).unwrap_or(value)
}

/// `op expr`, computed if it is constant and valid.
fn fold_unary(op: UnaryOp, expr: FieldExpr) -> FieldExpr {
    if let FieldExpr::Static(value) = &expr
        && let Ok(result) = value::unary(op, value)
    {
        return FieldExpr::Static(result);
    }
    FieldExpr::Unary { op, expr: Box::new(expr) }
}

/// `lhs op rhs`, computed if it is constant and valid. What fails (`5 / 0`) stays, so that
/// the error shows at run time; so does what no literal can express (infinity, NaN).
fn fold_binary(op: BinaryOp, lhs: FieldExpr, rhs: FieldExpr) -> FieldExpr {
    if let (FieldExpr::Static(a), FieldExpr::Static(b)) = (&lhs, &rhs) {
        let (left, right) = (a.value_type(), b.value_type());
        if left.matches(right) && left.allows(op) && right.allows(op) {
            match value::binary(op, a, b) {
                Ok(Static::Float(x)) if !x.is_finite() => {}
                Ok(result) => return FieldExpr::Static(result),
                Err(_) => {}
            }
        }
    }
    FieldExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}
