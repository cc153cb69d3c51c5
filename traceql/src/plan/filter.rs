//! A field expression as a DataFusion expression: plain where SQL has the same meaning, a function where it has not.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, BooleanBufferBuilder},
    buffer::BooleanBuffer,
};
use datafusion::{
    common::Column,
    logical_expr::{Expr, lit},
};
use tracehouse_engine::{
    Error,
    scan::{Passing, SpanColumn, SpanField, SpanFilter, SpanTest},
};

use crate::{
    eval::{FieldColumns, Regexes, Rows, columns_of, regexes_of, turned},
    syntax::{BinaryOp, Field, FieldExpr, Intrinsic, SERVICE_NAME, Static, UnaryOp},
};

/// Name of the table in TraceQL plans.
pub const SPANS: &str = "spans";

/// A column of the table of spans as an expression.
pub fn column(column: &SpanColumn) -> Expr {
    Expr::Column(Column::new(Some(SPANS), column.name()))
}

/// The condition that a span matches `expr`. Operands of `&&` become conditions of their own, so that the scan can begin
/// with the one that costs least.
pub fn filter_expr(expr: &FieldExpr) -> Result<Expr, Error> {
    // Conditions on events must hold for one event together, so such an expression stays whole.
    let whole = expr.fields().into_iter().any(crate::eval::is_repeated);
    let parts = if whole { vec![expr] } else { expr.operands(BinaryOp::And) };
    let mut conditions = Vec::new();
    for part in parts {
        match part {
            FieldExpr::Static(Static::Bool(true)) => {}
            FieldExpr::Static(_) => conditions.push(lit(false)),
            _ => conditions.push(plain(part).map_or_else(|| function(part), Ok)?),
        }
    }
    Ok(conditions.into_iter().reduce(Expr::and).unwrap_or_else(|| lit(true)))
}

fn function(expr: &FieldExpr) -> Result<Expr, Error> {
    let filter = TraceqlFilter::new(expr.clone())?;
    let args = filter.fields.iter().flat_map(columns_of).map(|c| column(&c)).collect();
    Ok(SpanFilter::call(Arc::new(filter), args))
}

/// `traceql('{ ... }')`: whether a span matches, by TraceQL's rules of types, nil, arrays and regular expressions.
/// Arguments: the columns of each field the expression names, in order of first appearance.
#[derive(Debug)]
pub struct TraceqlFilter {
    name: String,
    expr: FieldExpr,
    fields: Vec<Field>,
    regexes: Regexes,
}

impl TraceqlFilter {
    /// Compiles an expression.
    pub fn new(expr: FieldExpr) -> Result<Self, Error> {
        let mut fields: Vec<Field> = Vec::new();
        for field in expr.fields() {
            if !fields.contains(field) {
                fields.push(field.clone());
            }
        }
        let mut regexes = Regexes::new();
        regexes_of(&expr, &mut regexes).map_err(|e| Error::invalid(format!("invalid regex: {e}")))?;
        Ok(Self { name: format!("traceql({{ {expr} }})"), expr, fields, regexes })
    }

    /// Whether the filter only asks if a span is a root: `nestedSetParent < 0` and its like, which hold for -1 or not, and for
    /// all other values alike.
    pub fn asks_for_roots(&self) -> bool {
        let FieldExpr::Binary { op, lhs, rhs } = &self.expr else { return false };
        let (op, field, literal) = match (lhs.as_ref(), rhs.as_ref()) {
            (FieldExpr::Field(field), FieldExpr::Static(Static::Int(literal))) => (*op, field, *literal),
            (FieldExpr::Static(Static::Int(literal)), FieldExpr::Field(field)) => (turned(*op), field, *literal),
            _ => return false,
        };
        let alike = match op {
            BinaryOp::Lt | BinaryOp::Ge => literal <= 0,
            BinaryOp::Le | BinaryOp::Gt | BinaryOp::Eq | BinaryOp::Ne => literal < 0,
            _ => false,
        };
        *field == Field::Intrinsic(Intrinsic::NestedSetParent) && alike
    }

    fn evaluate_columns(&self, arrays: &[ArrayRef], spans: usize) -> Result<BooleanArray, Error> {
        let mut rest = arrays;
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let (own, others) =
                rest.split_at_checked(columns_of(field).len()).ok_or_else(|| Error::internal("traceql() got too few arguments"))?;
            fields.push((field, own.to_vec()));
            rest = others;
        }
        let columns = FieldColumns::new(spans, fields);
        let exploded = columns.explode();
        let fields = columns.values(&exploded)?;
        let rows = Rows { count: exploded.count(spans), fields, regexes: &self.regexes };
        let matches =
            rows.matches(&self.expr, &BooleanBuffer::new_set(rows.count)).map_err(|e| Error::invalid(format!("{}: {e}", self.expr)))?;
        let Some(span_of_row) = exploded.span_of_row else { return Ok(BooleanArray::new(matches, None)) };
        let mut out = BooleanBufferBuilder::new(spans);
        out.append_n(spans, false);
        for row in matches.set_indices() {
            out.set_bit(span_of_row[row] as usize, true);
        }
        Ok(BooleanArray::new(out.finish(), None))
    }
}

impl SpanTest for TraceqlFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn evaluate(&self, columns: &[ArrayRef], spans: usize) -> Result<BooleanArray, Error> {
        self.evaluate_columns(columns, spans)
    }

    fn only_text(&self) -> Option<&str> {
        equal_text(&self.expr)
    }

    fn passing(&self) -> Passing {
        match &self.expr {
            FieldExpr::Binary { op, lhs, rhs } if op.is_comparison() || op.is_regex() => match (lhs.as_ref(), rhs.as_ref()) {
                (FieldExpr::Field(_), FieldExpr::Static(literal)) | (FieldExpr::Static(literal), FieldExpr::Field(_)) => {
                    comparable_with(literal)
                }
                _ => Passing::ANYTHING,
            },
            FieldExpr::Unary { op: UnaryOp::Exists, expr } if matches!(expr.as_ref(), FieldExpr::Field(_)) => {
                Passing { absent: false, ..Passing::ANYTHING }
            }
            FieldExpr::Unary { op: UnaryOp::NotExists, expr } if matches!(expr.as_ref(), FieldExpr::Field(_)) => {
                Passing { absent: true, ..Passing::NOTHING }
            }
            _ => Passing::ANYTHING,
        }
    }
}

/// The text of `attribute = "text"`; not of a service's name, which reads as the empty text where there is none.
fn equal_text(expr: &FieldExpr) -> Option<&str> {
    let FieldExpr::Binary { op: BinaryOp::Eq, lhs, rhs } = expr else { return None };
    match (lhs.as_ref(), rhs.as_ref()) {
        (FieldExpr::Field(Field::Attribute(attribute)), FieldExpr::Static(Static::String(text)))
        | (FieldExpr::Static(Static::String(text)), FieldExpr::Field(Field::Attribute(attribute)))
            if attribute.name != SERVICE_NAME =>
        {
            Some(text)
        }
        _ => None,
    }
}

/// What a comparison with a literal can be true of: values of other types pass none, not even `!=`.
fn comparable_with(literal: &Static) -> Passing {
    match literal {
        Static::String(_) => Passing { strings: true, ..Passing::NOTHING },
        Static::Int(_) | Static::Float(_) | Static::Duration(_) => Passing { ints: true, doubles: true, ..Passing::NOTHING },
        Static::Bool(_) => Passing { bools: true, ..Passing::NOTHING },
        _ => Passing::ANYTHING,
    }
}

/// A comparison of a duration with a literal, which means the same in SQL.
fn plain(expr: &FieldExpr) -> Option<Expr> {
    let FieldExpr::Binary { op, lhs, rhs } = expr else { return None };
    let (op, field, literal) = match (lhs.as_ref(), rhs.as_ref()) {
        (FieldExpr::Field(Field::Intrinsic(field)), FieldExpr::Static(literal)) => (*op, field, literal),
        (FieldExpr::Static(literal), FieldExpr::Field(Field::Intrinsic(field))) => (turned(*op), field, literal),
        _ => return None,
    };
    let field = match field {
        Intrinsic::Duration => SpanField::DurationNs,
        Intrinsic::TraceDuration => SpanField::TraceDurationNs,
        _ => return None,
    };
    let Static::Duration(nanos) = literal else { return None };
    let (duration, nanos) = (column(&SpanColumn::Field(field)), lit(*nanos));
    Some(match op {
        BinaryOp::Eq => duration.eq(nanos),
        BinaryOp::Ne => duration.not_eq(nanos),
        BinaryOp::Lt => duration.lt(nanos),
        BinaryOp::Le => duration.lt_eq(nanos),
        BinaryOp::Gt => duration.gt(nanos),
        BinaryOp::Ge => duration.gt_eq(nanos),
        _ => return None,
    })
}
