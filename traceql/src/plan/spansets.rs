//! A search that looks at whole traces, as a plan: the spans that may have a part in the answer, each with what the program
//! asks of it, ordered by trace.

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use tracehouse_engine::{
    Error,
    scan::{SpanColumn, SpanField},
};

use super::{ANSWER_COLUMNS, filter::filter_expr, search::kept};
use crate::{
    eval::columns_of,
    spansets::{
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

    /// The rows: of `table`, with `columns` and a column for each filter.
    pub fn plan(&self, pipeline: &Pipeline, table: LogicalPlanBuilder, mut columns: Vec<Expr>) -> Result<LogicalPlan, Error> {
        let entrances = entrances(pipeline);
        let table = entering(table, entrances.as_deref())?;
        // Every row passes a filter through which all came in: it need not be asked again.
        let passed = match entrances.as_deref() {
            Some([only]) => only.as_slice(),
            _ => &[],
        };
        for filter in &self.program.filters {
            let condition = if passed.contains(filter) { lit(true) } else { filter_expr(filter)? };
            columns.push(condition.alias(format!("{}:filter", columns.len())));
        }
        let order = [SpanField::TraceId, SpanField::StartTime].map(|field| by_name(field).sort(true, false));
        Ok(table.project(columns)?.sort(order)?.build()?)
    }
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
