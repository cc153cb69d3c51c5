//! Names and values of attributes as plans: scans of the spans that match.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::TableReference,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{BlockId, Error, TenantId, scan::SpanColumn};
use tracehouse_sql::Sessions;

use super::filter::{SPANS, column, filter_expr};
use crate::{eval::columns_of, syntax::FieldExpr};

/// Where completion looks.
#[derive(Clone, Debug)]
pub enum Place {
    /// In blocks and live traces that overlap this range (Unix nanoseconds, inclusive); everywhere without one. As in Tempo
    /// the range chooses blocks, not spans: completion may offer more than the range has.
    Within(Option<(i64, i64)>),
    /// In these blocks.
    Blocks(Arc<HashSet<BlockId>>),
}

/// The values of `columns` of all spans there that match.
pub fn plan_columns(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: &[SpanColumn],
    filter: Option<&FieldExpr>,
    place: &Place,
) -> Result<LogicalPlan, Error> {
    let filtered = filter.iter().flat_map(|f| f.fields()).flat_map(columns_of);
    let mut extra: Vec<SpanColumn> = Vec::new();
    for wanted in columns.iter().cloned().chain(filtered) {
        if !matches!(wanted, SpanColumn::Field(_)) && !extra.contains(&wanted) {
            extra.push(wanted);
        }
    }
    let table = sessions.spans_table(tenant, extra);
    let table: Arc<dyn TableProvider> = Arc::new(match place {
        Place::Within(range) => table.blocks_within(*range),
        Place::Blocks(blocks) => table.only_blocks(blocks.clone()),
    });
    let mut plan = LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(table), None)?;
    let condition = filter.map_or_else(|| Ok(lit(true)), filter_expr)?;
    if condition != lit(true) {
        plan = plan.filter(condition)?;
    }
    Ok(plan.project(columns.iter().map(column))?.build()?)
}
