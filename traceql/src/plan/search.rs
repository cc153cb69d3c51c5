//! A search as a plan: which spans, and which columns the answer shows of them.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use datafusion::{
    catalog::TableProvider,
    common::{ScalarValue, TableReference},
    datasource::provider_as_source,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{
    Error, TenantId, TraceId,
    block::{DedicatedColumn, DedicatedScope},
    scan::{NewestTraces, SpanColumn, SpanField, SpansTable},
};
use tracehouse_sql::Sessions;

use super::{
    filter::{SPANS, column, filter_expr},
    spansets::{Read, SpansetPlan},
    whole::{Whole, or_reaching, with_whole},
};
use crate::{
    eval::columns_of,
    spansets::program::{is_conjunction, plain_filters},
    syntax::{
        Aggregate, Attribute, BinaryOp, Field, FieldExpr, Intrinsic, Pipeline, Query, Relation, Root, SERVICE_NAME, ScalarExpr,
        ScalarFilter, Scope, SpansetExpr, SpansetOp, Stage, Static, UnaryOp,
    },
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
    /// Whether only `select()` or what follows it names the field: then it is read of the spans that were found, of any event.
    pub selected: bool,
}

/// A search, planned.
#[derive(Debug)]
pub struct SearchPlan {
    /// Rows are matching spans; with `spansets` the spans that may have a part in the answer, trace after trace.
    pub plan: LogicalPlan,
    /// What is shown, in order of first appearance. Their columns, one each, follow [`ANSWER_COLUMNS`] and the service
    /// statistics.
    pub shown: Vec<Shown>,
    /// Whether the filter is a conjunction of conditions: then the values shown of events come from events that pass all.
    pub conjunction: bool,
    /// What is to be done trace by trace; nothing if a span matches or not by itself.
    pub spansets: Option<Arc<SpansetPlan>>,
}

/// Plans a search over the traces that overlap `range` (Unix nanoseconds, inclusive).
/// `whole` are the traces in several parts among them; with `newest`, only so many of the newest traces are asked for.
pub fn plan_search(
    sessions: &Sessions,
    tenant: &TenantId,
    query: &Query,
    range: Option<(i64, i64)>,
    whole: &Whole,
    newest: Option<usize>,
) -> Result<SearchPlan, Error> {
    let Root::Spansets(pipeline) = &query.root else {
        return Err(Error::invalid("this is a metrics query: send it to /api/metrics/query_range or /api/metrics/query"));
    };
    let shown = shown_fields(pipeline);
    let mut columns: Vec<SpanColumn> =
        ANSWER_COLUMNS.into_iter().chain([SpanColumn::TraceServiceStats]).chain(shown.iter().flat_map(|s| columns_of(&s.field))).collect();
    let conjunction = is_conjunction(pipeline);
    if let Some(filters) = plain_filters(pipeline) {
        let newest = newest.map(|limit| Arc::new(NewestTraces::new(limit, starts_of(whole))));
        let fields = filters.iter().flat_map(|f| f.fields()).flat_map(columns_of);
        let wanted = columns.iter().cloned().chain(fields);
        let mut plan = overlapping_spans(sessions, tenant, wanted, range, whole, |table| table.newest(newest))?;
        for filter in filters {
            plan = kept(plan, filter_expr(filter)?)?;
        }
        let plan = with_whole(plan.project(numbered(&columns))?.build()?, whole)?;
        return Ok(SearchPlan { plan, shown, conjunction, spansets: None });
    }
    let spansets = Arc::new(SpansetPlan::new(pipeline, &mut columns)?);
    let plan = Read { sessions, tenant, range, whole }.rows(pipeline, &spansets, &columns, newest)?;
    Ok(SearchPlan { plan, shown, conjunction, spansets: Some(spansets) })
}

/// When traces in several parts start.
pub(super) fn starts_of(whole: &Whole) -> HashMap<TraceId, i64> {
    let traces = whole.iter().flat_map(|w| w.iter());
    traces.filter_map(|(id, trace)| Some((id.parse().ok()?, trace.start()))).collect()
}

/// The spans that pass a pipeline which only filters, with these columns under their names.
pub fn plan_filters(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    columns: &[SpanColumn],
    range: Option<(i64, i64)>,
    whole: &Whole,
) -> Result<LogicalPlan, Error> {
    let filters = plain_filters(pipeline).ok_or_else(|| Error::internal("the pipeline does not only filter"))?;
    let fields = filters.iter().flat_map(|f| f.fields()).flat_map(columns_of);
    let mut plan = overlapping_spans(sessions, tenant, columns.iter().cloned().chain(fields), range, whole, |table| table)?;
    for filter in filters {
        plan = kept(plan, filter_expr(filter)?)?;
    }
    with_whole(plan.project(columns.iter().map(column).collect::<Vec<_>>())?.build()?, whole)
}

/// The rows for which a condition holds.
pub(super) fn kept(plan: LogicalPlanBuilder, condition: Expr) -> Result<LogicalPlanBuilder, Error> {
    Ok(if condition == lit(true) { plan } else { plan.filter(condition)? })
}

/// Columns under names that tell them apart by their place.
pub(super) fn numbered(columns: &[SpanColumn]) -> Vec<Expr> {
    columns.iter().enumerate().map(|(i, c)| column(c).alias(format!("{i}:{}", c.name()))).collect()
}

/// The table of spans with these columns, without the blocks outside a time range, with a `change` of what it reads.
pub(super) fn spans_with(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: impl Iterator<Item = SpanColumn>,
    blocks_within: Option<(i64, i64)>,
    change: impl FnOnce(SpansTable) -> SpansTable,
) -> Result<LogicalPlanBuilder, Error> {
    let mut extra: Vec<SpanColumn> = Vec::new();
    for wanted in columns {
        if !matches!(wanted, SpanColumn::Field(_)) && !extra.contains(&wanted) {
            extra.push(wanted);
        }
    }
    let table: Arc<dyn TableProvider> = Arc::new(change(sessions.spans_table(tenant, extra).blocks_within(blocks_within)));
    Ok(LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(table), None)?)
}

/// The spans of the traces that overlap `range` (Unix nanoseconds, inclusive), with these columns. All parts of a trace count,
/// whichever of them overlaps the range.
pub(super) fn overlapping_spans(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: impl Iterator<Item = SpanColumn>,
    range: Option<(i64, i64)>,
    whole: &Whole,
    change: impl FnOnce(SpansTable) -> SpansTable,
) -> Result<LogicalPlanBuilder, Error> {
    let within = range.map(|range| reach(whole, range));
    let plan = spans_with(sessions, tenant, columns, within, change)?;
    let Some((start, end)) = range else { return Ok(plan) };
    let bound = |condition| or_reaching(condition, whole, (start, end));
    let plan = plan.filter(bound(column(&SpanColumn::Field(SpanField::TraceStartTime)).lt_eq(timestamp(end))))?;
    Ok(plan.filter(bound(column(&SpanColumn::Field(SpanField::TraceEndTime)).gt_eq(timestamp(start))))?)
}

/// The range in which the parts lie of all traces that overlap a range (Unix nanoseconds, inclusive).
pub fn reach(whole: &Whole, range: (i64, i64)) -> (i64, i64) {
    whole.as_ref().map_or(range, |w| w.widened(range))
}

fn timestamp(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())))
}

/// The fields a query names, with the conditions on their values: what filters ask, and anything for the other stages.
fn shown_fields(pipeline: &Pipeline) -> Vec<Shown> {
    let mut found = Found::default();
    found.pipeline(pipeline);
    let mut shown: Vec<Shown> = Vec::new();
    let mut add = |all: Vec<(Field, Condition)>, selected| {
        for (field, condition) in all.into_iter().flat_map(|(f, c)| scoped(f).into_iter().map(move |f| (f, c.clone()))) {
            match shown.iter_mut().find(|s| s.field == field) {
                Some(known) => known.conditions.push(condition),
                None => shown.push(Shown { field, conditions: vec![condition], selected }),
            }
        }
        if !selected {
            share_conditions(&mut shown);
        }
    };
    add(found.first, false);
    add(found.second, true);
    let mut read = Vec::new();
    tree_fields(pipeline, &mut read);
    // What a structural operator reads of all spans is shown of all spans, if the query names it at all.
    for field in &mut shown {
        if read.iter().any(|intrinsic| field.field == Field::Intrinsic(*intrinsic)) {
            field.conditions.push(Condition::Any);
        }
    }
    shown
}

/// The places in the tree that structural operators read, as in Tempo.
fn tree_fields(pipeline: &Pipeline, found: &mut Vec<Intrinsic>) {
    for stage in &pipeline.stages {
        if let Stage::Spansets(expr) = stage {
            tree_fields_of(expr, found);
        }
    }
}

fn tree_fields_of(expr: &SpansetExpr, found: &mut Vec<Intrinsic>) {
    match expr {
        SpansetExpr::Filter(_) => {}
        SpansetExpr::Pipeline(pipeline) => tree_fields(pipeline, found),
        SpansetExpr::Binary { op, lhs, rhs } => {
            found.extend_from_slice(match op {
                SpansetOp::Structural(Relation::Child | Relation::Parent, _) => &[Intrinsic::NestedSetLeft, Intrinsic::NestedSetParent],
                SpansetOp::Structural(Relation::Descendant | Relation::Ancestor, _) => {
                    &[Intrinsic::NestedSetLeft, Intrinsic::NestedSetRight]
                }
                SpansetOp::Structural(Relation::Sibling, _) => &[Intrinsic::NestedSetParent],
                SpansetOp::And | SpansetOp::Or => &[],
            });
            tree_fields_of(lhs, found);
            tree_fields_of(rhs, found);
        }
    }
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
        Scope::Resource if attribute.name == SERVICE_NAME => return None,
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

/// The fields that a query names, with their conditions, in order.
#[derive(Default)]
struct Found {
    /// What is read to find spans.
    first: Vec<(Field, Condition)>,
    /// What is read of the spans that were found: what the first `select()` and the stages behind it name.
    second: Vec<(Field, Condition)>,
    selecting: bool,
}

impl Found {
    fn add(&mut self, more: impl IntoIterator<Item = (Field, Condition)>) {
        if self.selecting { &mut self.second } else { &mut self.first }.extend(more);
    }

    fn expression(&mut self, expr: &FieldExpr) {
        let mut found = Vec::new();
        conditions(expr, &mut found);
        self.add(found);
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        let any = |f: &Field| (f.clone(), Condition::Any);
        for stage in &pipeline.stages {
            match stage {
                Stage::Spansets(expr) => self.spansets(expr),
                Stage::Scalar(ScalarFilter { lhs: ScalarExpr::Aggregate(Aggregate { expr: Some(expr), .. }), .. }) | Stage::By(expr) => {
                    self.expression(expr);
                }
                Stage::Select(fields) => {
                    self.selecting = true;
                    self.add(fields.iter().map(any));
                }
                Stage::Scalar(_) | Stage::Coalesce => {}
            }
        }
    }

    fn spansets(&mut self, expr: &SpansetExpr) {
        match expr {
            SpansetExpr::Filter(filter) => self.expression(filter),
            SpansetExpr::Pipeline(pipeline) => self.pipeline(pipeline),
            SpansetExpr::Binary { lhs, rhs, .. } => {
                self.spansets(lhs);
                self.spansets(rhs);
            }
        }
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
