//! The spans that survive a pipeline that looks at whole traces (`{ } >> { }`, `count() > 2`), as a table for the metrics
//! function behind it.

use std::sync::Arc;

use datafusion::{
    common::TableReference,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
};
use tracehouse_engine::{
    Result,
    scan::{SpanColumn, SpanField, schema_of},
};

use super::super::{
    ANSWER_COLUMNS, Read, SpansetPlan,
    filter::{SPANS, column},
    spansets::sorted,
};
use crate::{spansets::SpansetTable, syntax::Pipeline};

/// The spans that survive `pipeline`: their start, trace id and these columns.
pub fn survivors(read: Read<'_>, pipeline: &Pipeline, columns: impl IntoIterator<Item = SpanColumn>) -> Result<LogicalPlan> {
    let (shown, chosen, parts) = survivors_apart(read, pipeline, columns)?;
    let Some(parts) = parts else { return Ok(chosen) };
    let chosen = LogicalPlanBuilder::from(chosen).project(shown.iter().map(column).collect::<Vec<_>>())?;
    Ok(chosen.union(parts)?.alias(SPANS)?.build()?)
}

/// The same apart: of the traces that are whole in a chunk of the scan, which judges them, and of those in several parts, which
/// are put together first.
pub fn survivors_apart(
    read: Read<'_>,
    pipeline: &Pipeline,
    columns: impl IntoIterator<Item = SpanColumn>,
) -> Result<(Vec<SpanColumn>, LogicalPlan, Option<LogicalPlan>)> {
    let first = [SpanField::StartTime, SpanField::TraceId].map(SpanColumn::Field);
    let shown = each_once(first.into_iter().chain(columns));
    let (all, spansets) = program_of(pipeline, &shown)?;
    let chosen = read.surviving(pipeline, &spansets, &shown)?.build()?;
    let Some(parts) = read.in_parts(pipeline, &spansets, &all)? else { return Ok((shown, chosen, None)) };
    let table = SpansetTable::new(pipeline.to_string(), sorted(parts)?, spansets, ANSWER_COLUMNS.len(), schema_of(&shown));
    let parts = LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(Arc::new(table)), None)?.build()?;
    Ok((shown, chosen, Some(parts)))
}

/// The spans that survive `pipeline` with these columns, each of them once, trace by trace.
pub fn survivors_table(read: Read<'_>, pipeline: &Pipeline, columns: impl IntoIterator<Item = SpanColumn>) -> Result<SpansetTable> {
    let shown = each_once(columns);
    let (all, spansets) = program_of(pipeline, &shown)?;
    let plan = read.rows(pipeline, &spansets, &all, None)?;
    Ok(SpansetTable::new(pipeline.to_string(), plan, spansets, ANSWER_COLUMNS.len(), schema_of(&shown)))
}

/// The program of a pipeline, and the columns of its rows: the shown ones follow [`ANSWER_COLUMNS`].
fn program_of(pipeline: &Pipeline, shown: &[SpanColumn]) -> Result<(Vec<SpanColumn>, Arc<SpansetPlan>)> {
    let mut columns: Vec<SpanColumn> = ANSWER_COLUMNS.into_iter().chain(shown.iter().cloned()).collect();
    let spansets = SpansetPlan::new(pipeline, &mut columns)?;
    Ok((columns, Arc::new(spansets)))
}

fn each_once(columns: impl IntoIterator<Item = SpanColumn>) -> Vec<SpanColumn> {
    let mut all: Vec<SpanColumn> = Vec::new();
    for wanted in columns {
        if !all.contains(&wanted) {
            all.push(wanted);
        }
    }
    all
}
