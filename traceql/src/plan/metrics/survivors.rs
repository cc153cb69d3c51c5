//! The spans that survive a pipeline that looks at whole traces (`{ } >> { }`, `count() > 2`), as a table for the metrics
//! function behind it.

use std::sync::Arc;

use datafusion::{
    common::TableReference,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
};
use tracehouse_engine::{
    Result, TenantId,
    scan::{SpanColumn, SpanField, schema_of},
};
use tracehouse_sql::Sessions;

use super::super::{
    ANSWER_COLUMNS, SpansetPlan, Whole,
    filter::SPANS,
    search::{numbered, overlapping_spans},
    with_whole,
};
use crate::{
    eval::columns_of,
    spansets::{SpansetTable, program::all_filters},
    syntax::Pipeline,
};

/// The spans of the traces that overlap `range`, as far as they survive `pipeline`: their start, trace id and these columns.
pub fn survivors(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    columns: impl IntoIterator<Item = SpanColumn>,
    range: (i64, i64),
    whole: &Whole,
) -> Result<LogicalPlan> {
    let first = [SpanField::StartTime, SpanField::TraceId].map(SpanColumn::Field);
    let table = survivors_table(sessions, tenant, pipeline, first.into_iter().chain(columns), Some(range), whole)?;
    Ok(LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(Arc::new(table)), None)?.build()?)
}

/// The spans that survive `pipeline` with these columns, each of them once.
pub fn survivors_table(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    columns: impl IntoIterator<Item = SpanColumn>,
    range: Option<(i64, i64)>,
    whole: &Whole,
) -> Result<SpansetTable> {
    let mut shown: Vec<SpanColumn> = Vec::new();
    for wanted in columns {
        if !shown.contains(&wanted) {
            shown.push(wanted);
        }
    }
    let mut columns: Vec<SpanColumn> = ANSWER_COLUMNS.into_iter().chain(shown.iter().cloned()).collect();
    let spansets = SpansetPlan::new(pipeline, &mut columns)?;
    let filtered = all_filters(pipeline).into_iter().flat_map(|f| f.fields()).flat_map(columns_of);
    let table = overlapping_spans(sessions, tenant, columns.iter().cloned().chain(filtered), range, whole, None)?;
    let plan = with_whole(spansets.plan(pipeline, table, numbered(&columns))?, whole)?;
    Ok(SpansetTable::new(pipeline.to_string(), plan, Arc::new(spansets), ANSWER_COLUMNS.len(), schema_of(&shown)))
}
