//! Names and values of attributes as plans: scans of the spans that match.

use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};
use tracehouse_engine::{Error, TenantId, scan::SpanColumn};
use tracehouse_sql::Sessions;

use super::{
    filter::{column, filter_expr},
    search::spans_with,
};
use crate::{eval::columns_of, syntax::FieldExpr};

/// The values of `columns` of all spans that match, in blocks that overlap `range` (Unix nanoseconds, inclusive) and in live
/// spans. As in Tempo the range chooses blocks, not spans: completion may offer more than the range has.
pub fn plan_columns(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: &[SpanColumn],
    filter: Option<&FieldExpr>,
    range: Option<(i64, i64)>,
) -> Result<LogicalPlan, Error> {
    let filtered = filter.iter().flat_map(|f| f.fields()).flat_map(columns_of);
    let mut plan: LogicalPlanBuilder = spans_with(sessions, tenant, columns.iter().cloned().chain(filtered), range, None)?;
    let condition = filter.map_or_else(|| Ok(lit(true)), filter_expr)?;
    if condition != lit(true) {
        plan = plan.filter(condition)?;
    }
    Ok(plan.project(columns.iter().map(column))?.build()?)
}
