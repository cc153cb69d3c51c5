//! What needs no plan: a search for what no block has, told by what is in memory of the blocks.

use tracehouse_engine::{
    Error, TenantId,
    scan::{SearchedInMemory, SpanColumn},
};
use tracehouse_sql::Sessions;

use super::{
    filter::filter_expr,
    search::reach,
    whole::{Whole, is_of_trace},
};
use crate::{eval::columns_of, spansets::program::plain_filters, syntax::Pipeline};

/// What was searched, if it is known that no span of the traces that overlap `range` (Unix nanoseconds, inclusive; `None`: all
/// time) passes a pipeline which only filters. `whole` are the traces in several parts among them.
pub async fn finds_nothing_in_memory(
    sessions: &Sessions,
    tenant: &TenantId,
    pipeline: &Pipeline,
    range: Option<(i64, i64)>,
    whole: &Whole,
) -> Result<Option<SearchedInMemory>, Error> {
    let Some(filters) = plain_filters(pipeline) else { return Ok(None) };
    let columns: Vec<SpanColumn> = filters.iter().flat_map(|f| f.fields()).flat_map(columns_of).collect();
    // What is stored of a trace in several parts is not what is true of it.
    if whole.is_some() && columns.iter().any(is_of_trace) {
        return Ok(None);
    }
    let extra = columns.into_iter().filter(|column| !matches!(column, SpanColumn::Field(_)));
    let table = sessions.spans_table(tenant, extra).blocks_within(range.map(|range| reach(whole, range)));
    let filters = filters.into_iter().map(filter_expr).collect::<Result<Vec<_>, _>>()?;
    Ok(table.excluded_in_memory(&filters).await)
}
