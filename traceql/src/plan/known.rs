//! What needs no plan: a query for what no block has, told by what is in memory of the blocks.

use datafusion::logical_expr::Expr;
use tracehouse_engine::{
    Error, TenantId,
    scan::{SearchedInMemory, SpanColumn},
};
use tracehouse_sql::Sessions;

use super::{
    filter::filter_expr,
    metrics::within,
    search::reach,
    whole::{Whole, is_of_trace},
};
use crate::{
    eval::columns_of,
    metrics::time::Intervals,
    spansets::program::plain_filters,
    syntax::{FieldExpr, Pipeline},
};

/// What was searched, if it is known that no span of the traces that overlap `range` (Unix nanoseconds, inclusive; `None`: all
/// time) passes a pipeline which only filters. `whole` are the traces in several parts among them.
pub async fn search_finds_nothing(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    range: Option<(i64, i64)>,
    whole: &Whole,
) -> Result<Option<SearchedInMemory>, Error> {
    nothing(sessions, tenant, pipeline, range.map(|range| reach(whole, range)), Vec::new(), whole).await
}

/// The same of the spans that start within these intervals.
pub async fn series_find_nothing(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    intervals: &Intervals,
    whole: &Whole,
) -> Result<Option<SearchedInMemory>, Error> {
    nothing(sessions, tenant, pipeline, None, within(intervals).into(), whole).await
}

async fn nothing(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    blocks_within: Option<(i64, i64)>,
    mut conditions: Vec<Expr>,
    whole: &Whole,
) -> Result<Option<SearchedInMemory>, Error> {
    let Some(filters) = plain_filters(pipeline) else { return Ok(None) };
    // Regular expressions take more time than a plan, and would be asked twice.
    if filters.iter().any(|filter| has_regex(filter)) {
        return Ok(None);
    }
    let columns: Vec<SpanColumn> = filters.iter().flat_map(|f| f.fields()).flat_map(columns_of).collect();
    // What is stored of a trace in several parts is not what is true of it.
    if whole.is_some() && columns.iter().any(is_of_trace) {
        return Ok(None);
    }
    let extra = columns.into_iter().filter(|column| !matches!(column, SpanColumn::Field(_)));
    let table = sessions.spans_table(tenant, extra).blocks_within(blocks_within);
    for filter in filters {
        conditions.push(filter_expr(filter)?);
    }
    Ok(table.excluded_in_memory(&conditions).await)
}

fn has_regex(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Binary { op, lhs, rhs } => op.is_regex() || has_regex(lhs) || has_regex(rhs),
        FieldExpr::Unary { expr, .. } => has_regex(expr),
        FieldExpr::Static(_) | FieldExpr::Field(_) => false,
    }
}
