//! A search that looks at whole traces, as a plan: the spans that may have a part in the answer, each with what the program
//! asks of it, ordered by trace.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{
    Error, TenantId, TraceId,
    scan::{NewestTraces, SpanColumn, SpanField, SpansTable, TraceChoice},
};
use tracehouse_sql::Sessions;

use super::{
    ANSWER_COLUMNS, Whole,
    filter::filter_expr,
    search::{kept, numbered, overlapping_spans, starts_of},
    whole::condition_with_whole,
    with_whole,
};
use crate::{
    eval::columns_of,
    spansets::{
        choose::{Put, Survival},
        pipeline::SpanValue,
        program::{Program, entrances},
        structural::Position,
    },
    syntax::{Field, FieldExpr, Pipeline},
};

/// The columns that tell a span's place in its trace's tree.
pub const NUMBERS: [SpanColumn; 3] = {
    use SpanField as F;
    [SpanColumn::Field(F::NestedSetLeft), SpanColumn::Field(F::NestedSetRight), SpanColumn::Field(F::NestedSetParent)]
};

/// What is done trace by trace, and where a plan's rows hold what it needs.
#[derive(Debug)]
pub struct SpansetPlan {
    /// What is done.
    pub program: Program,
    /// The fields of the program's values.
    pub fields: Vec<Field>,
    /// Where the columns of [`NUMBERS`] begin; the columns of `fields` follow them, then one truth value for each filter.
    pub numbers_at: usize,
}

impl SpansetPlan {
    /// Plans a pipeline; adds the columns it needs behind `columns`.
    pub fn new(pipeline: &Pipeline, columns: &mut Vec<SpanColumn>) -> Result<Self, Error> {
        let program = Program::new(pipeline)?;
        let mut fields: Vec<Field> = Vec::new();
        for field in program.values.iter().flat_map(|v| v.fields()) {
            if !fields.contains(field) {
                fields.push(field.clone());
            }
        }
        let numbers_at = columns.len();
        columns.extend(NUMBERS);
        columns.extend(fields.iter().flat_map(columns_of));
        Ok(Self { program, fields, numbers_at })
    }

    /// About the memory that the program's values of so many spans take.
    pub fn bytes_of_values(&self, spans: usize) -> usize {
        spans * (size_of::<Position>() + self.program.values.len() * size_of::<SpanValue>())
    }

    /// The rows of `table` with `columns` and a column for each filter.
    fn shown(&self, table: LogicalPlanBuilder, pipeline: &Pipeline, mut columns: Vec<Expr>) -> Result<LogicalPlan, Error> {
        // Every row passes a filter through which all came in: it need not be asked again.
        let entrances = entrances(pipeline);
        let passed = match entrances.as_deref() {
            Some([only]) => only.as_slice(),
            _ => &[],
        };
        for filter in &self.program.filters {
            let condition = if passed.contains(filter) { lit(true) } else { filter_expr(filter)? };
            columns.push(condition.alias(format!("{}:filter", columns.len())));
        }
        Ok(table.project(columns)?.build()?)
    }
}

/// What a plan of whole traces reads.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// The sessions of the query.
    pub sessions: &'a Sessions,
    /// Whose spans.
    pub tenant: &'a TenantId,
    /// Traces that overlap this range (Unix nanoseconds, inclusive).
    pub range: Option<(i64, i64)>,
    /// Traces in several parts.
    pub whole: &'a Whole,
}

impl Read<'_> {
    /// The rows for a program, ordered by trace and start, with `columns` and a column for each filter. Traces that are whole in a
    /// chunk of the scan come only if they have a part in the answer, and all with `newest` only if they are new enough; of the
    /// traces in several parts all spans come that enter.
    pub fn rows(
        &self,
        pipeline: &Pipeline,
        spansets: &Arc<SpansetPlan>,
        columns: &[SpanColumn],
        newest: Option<usize>,
    ) -> Result<LogicalPlan, Error> {
        let newest = newest.map(|limit| Arc::new(NewestTraces::new(limit, starts_of(self.whole)).with_parts_apart()));
        let filter = Survival::filter(pipeline, spansets, Put::Entering, self.in_several_parts(), |filter| {
            condition_with_whole(filter_expr(filter)?, self.whole)
        })?;
        let change = |table: SpansTable| table.newest(newest).filtering_traces(Some(filter));
        let table = self.table(pipeline, spansets, columns, self.whole, change)?;
        sorted(with_whole(spansets.shown(table, pipeline, numbered(columns))?, self.whole)?)
    }

    /// The spans that survive, with these columns among others, of the traces that are not in several parts.
    pub fn surviving(&self, pipeline: &Pipeline, spansets: &Arc<SpansetPlan>, columns: &[SpanColumn]) -> Result<LogicalPlanBuilder, Error> {
        let filter = Survival::filter(pipeline, spansets, Put::Surviving, Arc::default(), filter_expr)?;
        let others = self.whole.is_some().then(|| TraceChoice { ids: self.in_several_parts(), only: false });
        let change = |table: SpansTable| table.filtering_traces(Some(filter)).of_traces(others);
        self.table(pipeline, spansets, columns, &None, change)
    }

    /// The spans that enter of the traces in several parts, with `columns` and a column for each filter; nothing if there is no
    /// such trace.
    pub fn in_parts(&self, pipeline: &Pipeline, spansets: &Arc<SpansetPlan>, columns: &[SpanColumn]) -> Result<Option<LogicalPlan>, Error> {
        if self.whole.is_none() {
            return Ok(None);
        }
        let choice = TraceChoice { ids: self.in_several_parts(), only: true };
        let table = self.table(pipeline, spansets, columns, self.whole, |table| table.of_traces(Some(choice)))?;
        let table = entering(table, entrances(pipeline).as_deref())?;
        Ok(Some(with_whole(spansets.shown(table, pipeline, numbered(columns))?, self.whole)?))
    }

    fn table(
        &self,
        pipeline: &Pipeline,
        spansets: &SpansetPlan,
        columns: &[SpanColumn],
        whole: &Whole,
        change: impl FnOnce(SpansTable) -> SpansTable,
    ) -> Result<LogicalPlanBuilder, Error> {
        let entrances = entrances(pipeline).unwrap_or_default();
        let asked = spansets.program.filters.iter().chain(entrances.iter().flatten()).flat_map(|f| f.fields()).flat_map(columns_of);
        let of_program = spansets.fields.iter().flat_map(columns_of);
        let all = columns.iter().cloned().chain(of_program).chain(asked);
        overlapping_spans(self.sessions, self.tenant, all, self.range, whole, change)
    }

    fn in_several_parts(&self) -> Arc<HashSet<TraceId>> {
        Arc::new(self.whole.iter().flat_map(|w| w.iter()).filter_map(|(id, _)| id.parse().ok()).collect())
    }
}

/// Ordered by trace, and within it by start.
pub fn sorted(plan: LogicalPlan) -> Result<LogicalPlan, Error> {
    let order = [SpanField::TraceId, SpanField::StartTime].map(|field| by_name(field).sort(true, false));
    Ok(LogicalPlanBuilder::from(plan).sort(order)?.build()?)
}

/// The rows that meet one of these conditions, each a conjunction; all rows if nothing is asked.
fn entering(mut table: LogicalPlanBuilder, entrances: Option<&[Vec<FieldExpr>]>) -> Result<LogicalPlanBuilder, Error> {
    let Some(entrances) = entrances else { return Ok(table) };
    if let [only] = entrances {
        for filter in only {
            table = kept(table, filter_expr(filter)?)?;
        }
        return Ok(table);
    }
    let mut any: Option<Expr> = None;
    for filters in entrances {
        let all = filters.iter().map(filter_expr).collect::<Result<Vec<_>, _>>()?;
        let all = all.into_iter().reduce(Expr::and).unwrap_or_else(|| lit(true));
        if all == lit(true) {
            return Ok(table);
        }
        any = Some(any.map_or(all.clone(), |any| any.or(all)));
    }
    kept(table, any.unwrap_or_else(|| lit(true)))
}

/// Where one of the fixed columns is in an answer.
pub fn answer_column(field: SpanField) -> Option<usize> {
    ANSWER_COLUMNS.iter().position(|c| *c == SpanColumn::Field(field))
}

/// One of the fixed columns under the name it has in the answer.
fn by_name(field: SpanField) -> Expr {
    let at = answer_column(field).unwrap_or_default();
    Expr::Column(Column::new_unqualified(format!("{at}:{}", field.describe().0)))
}
