//! `compare()`: how often each value of each attribute occurs, among the selected spans and among the others.
//!
//! Which attributes there are is known only from the data, so the plan counts the values of all attributes of the matching
//! spans. Over a scan that happens in codes; what it costs: the attribute leaves of the row groups with matches are read whole.

use datafusion::{
    functions_aggregate::expr_fn::count,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, col, ident, lit},
};
use tracehouse_engine::{
    Result, TenantId,
    scan::{AttributeScope, SpanColumn, SpanField, value_counts},
};
use tracehouse_sql::Sessions;

use super::{
    super::{
        Whole,
        filter::{column, filter_expr},
    },
    counted, fields_of, interval_of, stored_whole, timestamp,
};
use crate::{
    eval::columns_of,
    metrics::time::Intervals,
    spansets::program::plain_filters,
    syntax::{Compare, Field, Intrinsic, Scope, Series},
};

/// What is compared: all attributes of a scope, or an intrinsic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The attributes of a scope, in TraceQL's name and the engine's.
    Attributes(Scope, AttributeScope),
    /// An intrinsic.
    Intrinsic(Intrinsic),
}

/// What is compared, in the order of the plan's columns: all attributes, and the intrinsics with few values.
pub const SOURCES: [Source; 12] = [
    Source::Attributes(Scope::Span, AttributeScope::Span),
    Source::Attributes(Scope::Resource, AttributeScope::Resource),
    Source::Attributes(Scope::Instrumentation, AttributeScope::Instrumentation),
    Source::Intrinsic(Intrinsic::InstrumentationName),
    Source::Intrinsic(Intrinsic::InstrumentationVersion),
    Source::Intrinsic(Intrinsic::Kind),
    Source::Intrinsic(Intrinsic::Name),
    Source::Intrinsic(Intrinsic::TraceRootName),
    Source::Intrinsic(Intrinsic::TraceRootService),
    Source::Intrinsic(Intrinsic::ChildCount),
    Source::Intrinsic(Intrinsic::Status),
    Source::Intrinsic(Intrinsic::StatusMessage),
];

impl Source {
    fn columns(self) -> Vec<SpanColumn> {
        match self {
            Self::Attributes(_, scope) => vec![SpanColumn::Attributes(scope)],
            Self::Intrinsic(intrinsic) => columns_of(&Field::Intrinsic(intrinsic)),
        }
    }
}

/// Plans the counting. Columns of the answer: interval (Int32), selected (Boolean), number of spans (Int64), then for each of
/// [`SOURCES`] what `value_counts` gives.
pub fn plan_compare(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    compare: &Compare,
    intervals: &Intervals,
    whole: &Whole,
) -> Result<LogicalPlan> {
    // The fields that decide which spans are compared, where the plan itself filters them, and which are selected.
    let mut fields = fields_of(series, &plain_filters(&series.pipeline).unwrap_or_default());
    fields.extend(compare.filter.fields().into_iter().cloned());
    let compared: Vec<SpanColumn> = SOURCES.into_iter().flat_map(Source::columns).collect();
    let columns = fields.iter().flat_map(columns_of).chain(compared.iter().cloned());
    let source = counted(sessions, tenant, series, columns, intervals, whole)?;
    let time = || column(&SpanColumn::Field(SpanField::StartTime));
    let mut selected = filter_expr(&compare.filter)?;
    // Both zero means no range.
    if let Some((start, end)) = compare.range_ns.filter(|range| *range != (0, 0)) {
        selected = selected.and(time().gt_eq(timestamp(start))).and(time().lt(timestamp(end)));
    }
    let names: Vec<String> = compared.iter().map(SpanColumn::name).collect();
    let mut shown = vec![interval_of(intervals).alias("interval"), selected.alias("selected")];
    shown.extend(compared.iter().zip(&names).map(|(c, name)| column(c).alias(name.as_str())));
    let counts = names.iter().map(|name| value_counts(ident(name)));
    let counts = std::iter::once(count(lit(1))).chain(counts).collect::<Vec<_>>();
    let plan = LogicalPlanBuilder::from(source).project(shown)?;
    stored_whole(plan.aggregate(vec![col("interval"), col("selected")], counts)?.build()?, series, whole)
}
