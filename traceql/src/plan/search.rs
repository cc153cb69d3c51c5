//! A search as a plan: which spans, and which columns the answer shows of them.

use std::sync::{Arc, LazyLock};

use datafusion::{
    catalog::TableProvider,
    common::{ScalarValue, TableReference},
    datasource::provider_as_source,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{
    Error, ErrorKind, TenantId,
    block::{DedicatedColumn, DedicatedScope},
    scan::{SpanColumn, SpanField},
};
use tracehouse_sql::Sessions;

use super::filter::{SPANS, column, filter_expr};
use crate::{
    eval::columns_of,
    syntax::{Attribute, BinaryOp, Field, FieldExpr, Pipeline, Query, Root, Scope, SpansetExpr, Stage, Static, UnaryOp},
};

/// The fixed columns of a search's plan, in this order; the columns of the shown fields come behind.
pub const ANSWER_COLUMNS: [SpanColumn; 8] = {
    use SpanField as F;
    [
        SpanColumn::Field(F::TraceId),
        SpanColumn::Field(F::SpanId),
        SpanColumn::Field(F::StartTime),
        SpanColumn::Field(F::DurationNs),
        SpanColumn::Field(F::RootServiceName),
        SpanColumn::Field(F::RootSpanName),
        SpanColumn::Field(F::TraceStartTime),
        SpanColumn::Field(F::TraceDurationNs),
    ]
};

/// How a field occurs in a query: it is shown on a matching span if one of its conditions lets its value through.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Any value.
    Any,
    /// Values for which `value op literal` holds.
    Test(BinaryOp, Static),
    /// No value: shown as the text "nil", as Tempo does.
    Absent,
}

/// A field shown on matching spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The field; an attribute has a scope, so it has one column.
    pub field: Field,
    /// Its value is shown if one of these holds.
    pub conditions: Vec<Condition>,
}

/// A search, planned.
#[derive(Debug)]
pub struct SearchPlan {
    /// Rows are matching spans.
    pub plan: LogicalPlan,
    /// What is shown, in order of first appearance. Their columns, one each, follow [`ANSWER_COLUMNS`] and the service
    /// statistics.
    pub shown: Vec<Shown>,
    /// Whether the filter is a conjunction of conditions: then the values shown of events come from events that pass all.
    pub conjunction: bool,
}

/// Plans a search over the traces that overlap `range` (Unix nanoseconds, inclusive).
pub fn plan_search(sessions: &Sessions, tenant: &TenantId, query: &Query, range: Option<(i64, i64)>) -> Result<SearchPlan, Error> {
    let Root::Spansets(pipeline) = &query.root else {
        return Err(Error::invalid("this is a metrics query: send it to /api/metrics/query_range or /api/metrics/query"));
    };
    let (filter, selected) = supported(pipeline)?;
    let shown = shown_fields(filter, &selected);
    let columns: Vec<SpanColumn> =
        ANSWER_COLUMNS.into_iter().chain([SpanColumn::TraceServiceStats]).chain(shown.iter().flat_map(|s| columns_of(&s.field))).collect();
    let wanted = columns.iter().cloned().chain(filter.fields().into_iter().flat_map(columns_of));
    let mut plan = overlapping(spans_with(sessions, tenant, wanted, None)?, range)?;
    let condition = filter_expr(filter)?;
    if condition != lit(true) {
        plan = plan.filter(condition)?;
    }
    let named = columns.iter().enumerate().map(|(i, c)| column(c).alias(format!("{i}:{}", c.name())));
    let plan = plan.project(named)?.build()?;
    let conjunction = filter.operands(BinaryOp::And).iter().all(|e| !matches!(e, FieldExpr::Binary { op: BinaryOp::Or, .. }));
    Ok(SearchPlan { plan, shown, conjunction })
}

/// The table of spans with these columns, without the blocks outside a time range.
pub(super) fn spans_with(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: impl Iterator<Item = SpanColumn>,
    blocks_within: Option<(i64, i64)>,
) -> Result<LogicalPlanBuilder, Error> {
    let mut extra: Vec<SpanColumn> = Vec::new();
    for wanted in columns {
        if !matches!(wanted, SpanColumn::Field(_)) && !extra.contains(&wanted) {
            extra.push(wanted);
        }
    }
    let table: Arc<dyn TableProvider> = Arc::new(sessions.spans_table(tenant, extra).blocks_within(blocks_within));
    Ok(LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(table), None)?)
}

/// Keeps the traces that overlap `range` (Unix nanoseconds, inclusive).
fn overlapping(plan: LogicalPlanBuilder, range: Option<(i64, i64)>) -> Result<LogicalPlanBuilder, Error> {
    let Some((start, end)) = range else { return Ok(plan) };
    let plan = plan.filter(column(&SpanColumn::Field(SpanField::TraceStartTime)).lt_eq(timestamp(end)))?;
    Ok(plan.filter(column(&SpanColumn::Field(SpanField::TraceEndTime)).gt_eq(timestamp(start)))?)
}

fn timestamp(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())))
}

/// The parts of a pipeline that are executed so far: one filter, then `select`.
fn supported(pipeline: &Pipeline) -> Result<(&FieldExpr, Vec<&Field>), Error> {
    let unsupported = |what: &str| {
        Err(Error::new(ErrorKind::Unsupported, format!("{what} not yet supported by Tracehouse: a search is one filter {{ ... }} so far")))
    };
    let mut stages = pipeline.stages.iter();
    let filter = match stages.next() {
        Some(Stage::Spansets(SpansetExpr::Filter(filter))) => filter,
        Some(Stage::Spansets(_)) => return unsupported("spanset operators are"),
        _ => return unsupported("a pipeline that does not begin with a filter is"),
    };
    let mut selected = Vec::new();
    for stage in stages {
        match stage {
            Stage::Select(fields) => selected.extend(fields),
            _ => return unsupported("pipeline stages are"),
        }
    }
    Ok((filter, selected))
}

/// The fields a query names, with the conditions on their values.
fn shown_fields(filter: &FieldExpr, selected: &[&Field]) -> Vec<Shown> {
    let mut found: Vec<(Field, Condition)> = Vec::new();
    conditions(filter, &mut found);
    found.extend(selected.iter().map(|f| ((*f).clone(), Condition::Any)));
    let mut shown: Vec<Shown> = Vec::new();
    for (field, condition) in found.into_iter().flat_map(|(f, c)| scoped(f).into_iter().map(move |f| (f, c.clone()))) {
        match shown.iter_mut().find(|s| s.field == field) {
            Some(known) => known.conditions.push(condition),
            None => shown.push(Shown { field, conditions: vec![condition] }),
        }
    }
    share_conditions(&mut shown);
    shown
}

/// Tempo reads the attributes without a column of their own together: what passes a condition on one of them is shown of
/// all of the same scope.
fn share_conditions(shown: &mut [Shown]) {
    let scopes: Vec<Option<Scope>> = shown.iter().map(|s| generic_scope(&s.field)).collect();
    let own: Vec<Vec<Condition>> = shown.iter().map(|s| s.conditions.clone()).collect();
    for (i, field) in shown.iter_mut().enumerate() {
        let others = (0..own.len()).filter(|&j| j != i && scopes[i].is_some() && scopes[j] == scopes[i]);
        field.conditions.extend(others.flat_map(|j| &own[j]).filter(|c| **c != Condition::Absent).cloned());
    }
}

/// The scope of an attribute that has no column of its own in a block with the default dedicated columns.
fn generic_scope(field: &Field) -> Option<Scope> {
    static DEDICATED: LazyLock<Vec<DedicatedColumn>> = LazyLock::new(DedicatedColumn::defaults);
    let Field::Attribute(attribute) = field else { return None };
    let scope = match attribute.scope {
        Scope::Resource if attribute.name == "service.name" => return None,
        Scope::Resource => DedicatedScope::Resource,
        Scope::Span => DedicatedScope::Span,
        other => return Some(other),
    };
    (!DEDICATED.iter().any(|d| d.scope == scope && d.name == attribute.name)).then_some(attribute.scope)
}

/// A field as the fields with one column each that it stands for.
fn scoped(field: Field) -> Vec<Field> {
    match field {
        Field::Attribute(attribute) if attribute.scope == Scope::None => {
            [Scope::Span, Scope::Resource].map(|scope| Field::Attribute(Attribute { scope, ..attribute.clone() })).into()
        }
        other => vec![other],
    }
}

fn conditions(expr: &FieldExpr, found: &mut Vec<(Field, Condition)>) {
    match expr {
        FieldExpr::Binary { op, lhs, rhs } => match (lhs.as_ref(), rhs.as_ref()) {
            (FieldExpr::Field(field), FieldExpr::Static(literal)) if op.is_comparison() || op.is_regex() => {
                found.push((field.clone(), Condition::Test(*op, literal.clone())));
            }
            (FieldExpr::Static(literal), FieldExpr::Field(field)) if op.is_comparison() => {
                found.push((field.clone(), Condition::Test(crate::eval::turned(*op), literal.clone())));
            }
            _ => {
                conditions(lhs, found);
                conditions(rhs, found);
            }
        },
        FieldExpr::Unary { op: UnaryOp::NotExists, expr } => {
            if let FieldExpr::Field(field) = expr.as_ref() {
                let unscoped = matches!(field, Field::Attribute(a) if a.scope == Scope::None);
                found.extend((!unscoped).then(|| (field.clone(), Condition::Absent)));
            }
        }
        // What is negated may have any value on a span that matches.
        FieldExpr::Unary { expr, .. } => found.extend(expr.fields().into_iter().map(|f| (f.clone(), Condition::Any))),
        FieldExpr::Field(field) => found.push((field.clone(), Condition::Any)),
        FieldExpr::Static(_) => {}
    }
}
