//! A search as a plan: which spans, and which columns the answer shows of them.

use std::collections::HashMap;

use datafusion::{
    catalog::TableProvider,
    common::{ScalarValue, TableReference},
    datasource::provider_as_source,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{
    Error, ErrorKind, TenantId,
    scan::{SpanColumn, SpanField},
};
use tracehouse_sql::Sessions;

use super::filter::{SPANS, column, filter_expr};
use crate::{
    eval::columns_of,
    syntax::{BinaryOp, Field, FieldExpr, Intrinsic, Pipeline, Query, Root, SpansetExpr, Stage, Static, UnaryOp},
};

/// The fixed columns of a search's plan, in this order; the columns of the shown fields come behind.
pub const ANSWER_COLUMNS: [SpanColumn; 9] = {
    use SpanField as F;
    [
        SpanColumn::Field(F::TraceId),
        SpanColumn::Field(F::SpanId),
        SpanColumn::Field(F::KindCode),
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
}

/// A search, planned.
#[derive(Debug)]
pub struct SearchPlan {
    /// Rows are matching spans.
    pub plan: LogicalPlan,
    /// The fields whose values are shown, with their conditions, in order of first appearance. Their columns follow
    /// [`ANSWER_COLUMNS`] and the service statistics, each field's in the order of `columns_of`.
    pub fields: Vec<(Field, Vec<Condition>)>,
    /// Whether span names are shown.
    pub shows_name: bool,
    /// The filter, and whether it is a conjunction of conditions (then one event must pass them all).
    pub conjunction: bool,
}

/// Plans a search over the traces that overlap `range` (Unix nanoseconds, inclusive).
pub fn plan_search(sessions: &Sessions, tenant: &TenantId, query: &Query, range: Option<(i64, i64)>) -> Result<SearchPlan, Error> {
    let Root::Spansets(pipeline) = &query.root else {
        return Err(Error::invalid("this is a metrics query: send it to /api/metrics/query_range or /api/metrics/query"));
    };
    let (filter, selected) = supported(pipeline)?;
    let fields = shown_fields(filter, &selected);
    let shows_name = fields.iter().any(|(f, _)| *f == Field::Intrinsic(Intrinsic::Name));
    let columns: Vec<SpanColumn> =
        ANSWER_COLUMNS.into_iter().chain([SpanColumn::TraceServiceStats]).chain(fields.iter().flat_map(|(f, _)| columns_of(f))).collect();
    let mut extra: Vec<SpanColumn> = Vec::new();
    for wanted in columns.iter().cloned().chain(filter.fields().into_iter().flat_map(columns_of)) {
        if !matches!(wanted, SpanColumn::Field(_)) && !extra.contains(&wanted) {
            extra.push(wanted);
        }
    }
    let table: std::sync::Arc<dyn TableProvider> = sessions.spans_table(tenant, extra);
    let mut plan = LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(table), None)?;
    if let Some((start, end)) = range {
        plan = plan.filter(column(&SpanColumn::Field(SpanField::TraceStartTime)).lt_eq(timestamp(end)))?;
        plan = plan.filter(column(&SpanColumn::Field(SpanField::TraceEndTime)).gt_eq(timestamp(start)))?;
    }
    let condition = filter_expr(filter)?;
    if condition != lit(true) {
        plan = plan.filter(condition)?;
    }
    let shown = columns.iter().enumerate().map(|(i, c)| column(c).alias(format!("{i}:{}", c.name())));
    let plan = plan.project(shown)?.build()?;
    let conjunction = filter.operands(BinaryOp::And).iter().all(|e| !matches!(e, FieldExpr::Binary { op: BinaryOp::Or, .. }));
    Ok(SearchPlan { plan, fields, shows_name, conjunction })
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

/// The fields a filter touches, with their conditions.
fn shown_fields(filter: &FieldExpr, selected: &[&Field]) -> Vec<(Field, Vec<Condition>)> {
    let mut found: Vec<(Field, Condition)> = Vec::new();
    conditions(filter, &mut found);
    found.extend(selected.iter().map(|f| ((*f).clone(), Condition::Any)));
    let mut order: Vec<(Field, Vec<Condition>)> = Vec::new();
    let mut at: HashMap<Field, usize> = HashMap::new();
    for (field, condition) in found {
        let i = *at.entry(field.clone()).or_insert_with(|| {
            order.push((field, Vec::new()));
            order.len() - 1
        });
        order[i].1.push(condition);
    }
    order
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
        FieldExpr::Unary { op: UnaryOp::NotExists, .. } | FieldExpr::Static(_) => {}
        FieldExpr::Unary { expr, .. } => conditions(expr, found),
        FieldExpr::Field(field) => found.push((field.clone(), Condition::Any)),
    }
}
