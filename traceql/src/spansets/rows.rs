//! The columns of a chunk as what the program asks of spans.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{AsArray, Int32Array, RecordBatch},
    datatypes::{Int32Type, Int64Type, TimestampNanosecondType},
};
use tracehouse_engine::{Error, Result};

use super::{
    chunks::trace_ids,
    pipeline::{SpanValue, Spans},
    structural::Position,
};
use crate::{
    eval::{self, Regexes, columns_of, single_values_of},
    plan::{
        NUMBERS, SpansetPlan,
        metrics::{as_service_name, is_service_name},
    },
    syntax::FieldExpr,
};

/// Reads the rows of a plan.
#[derive(Debug)]
pub struct Rows {
    spansets: Arc<SpansetPlan>,
    regexes: Regexes,
    filters_at: usize,
}

/// Which span a row is: its id, kind and start. Copies of a span in several parts of a trace have it in common.
pub type Identity = (String, i32, i64);

/// Which stored part of a trace a row is from: start and duration of the part.
pub type Part = (i64, i64);

/// The rows of one trace in a chunk.
#[derive(Debug)]
pub struct TraceRows {
    /// Its id.
    pub id: String,
    /// All of its rows.
    pub all: Range<usize>,
    /// The rows without copies of a span from other parts.
    pub distinct: Vec<u32>,
    /// Which span each row of `all` is.
    pub identities: Vec<Identity>,
    /// Whether the rows are from several parts.
    pub several_parts: bool,
}

impl TraceRows {
    /// Whether the stored places in the tree may be wrong for the whole trace: it has several parts, or some are unknown.
    pub fn needs_tree(&self, positions: &[Position]) -> bool {
        self.several_parts || positions[self.all.clone()].iter().any(|p| p.left == 0)
    }
}

impl Rows {
    /// For the rows of a plan with this part.
    pub fn new(spansets: Arc<SpansetPlan>) -> Result<Self> {
        let mut regexes = Regexes::new();
        for value in &spansets.program.values {
            eval::regexes_of(value, &mut regexes).map_err(|e| Error::invalid(format!("invalid regex: {e}")))?;
        }
        let filters_at = spansets.numbers_at + NUMBERS.len() + spansets.fields.iter().map(|f| columns_of(f).len()).sum::<usize>();
        Ok(Self { spansets, regexes, filters_at })
    }

    /// What the program asks of the spans of a chunk.
    pub fn spans(&self, chunk: &RecordBatch) -> Result<Spans> {
        let program = &self.spansets.program;
        let filters = (0..program.filters.len())
            .map(|i| chunk.column(self.filters_at + i).as_boolean_opt().cloned().ok_or_else(|| wrong("filter")))
            .collect::<Result<Vec<_>>>()?;
        let [left, right, parent] = [0, 1, 2].map(|i| self.number(chunk, i));
        let (left, right, parent) = (left?, right?, parent?);
        let positions = (0..chunk.num_rows())
            .map(|row| Position { left: left.value(row), right: right.value(row), parent: parent.value(row) })
            .collect();
        Ok(Spans { filters, values: self.values(chunk)?, positions })
    }

    fn values(&self, chunk: &RecordBatch) -> Result<Vec<Vec<SpanValue>>> {
        let mut at = self.spansets.numbers_at + NUMBERS.len();
        let mut fields = HashMap::new();
        for field in &self.spansets.fields {
            let own = columns_of(field).len();
            fields.insert(field, single_values_of(field, &chunk.columns()[at..at + own])?);
            at += own;
        }
        let rows = eval::Rows { count: chunk.num_rows(), fields, regexes: &self.regexes };
        let value = |expr: &FieldExpr, row| match expr {
            FieldExpr::Field(field) if is_service_name(field) => rows.value(expr, row).map(|mut name| {
                as_service_name(&mut name);
                name
            }),
            _ => rows.value(expr, row),
        };
        let all = self.spansets.program.values.iter();
        Ok(all.map(|expr| (0..chunk.num_rows()).map(|row| value(expr, row)).collect()).collect())
    }

    fn number<'b>(&self, chunk: &'b RecordBatch, which: usize) -> Result<&'b Int32Array> {
        chunk.column(self.spansets.numbers_at + which).as_primitive_opt::<Int32Type>().ok_or_else(|| wrong("tree"))
    }

    /// The rows of one trace, and which of them are copies.
    pub fn trace(&self, chunk: &RecordBatch, all: Range<usize>) -> Result<TraceRows> {
        let span_ids = chunk.column(1).as_string_opt::<i32>().ok_or_else(|| wrong("span id"))?;
        let time = |at: usize| chunk.column(at).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(|| wrong("time"));
        let (starts, trace_starts) = (time(2)?, time(6)?);
        let durations = chunk.column(7).as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("duration"))?;
        let (lefts, kinds) = (self.number(chunk, 0)?, self.number(chunk, 3)?);
        let part = |row: usize| -> Part { (trace_starts.value(row), durations.value(row)) };
        // In one part every number is given once.
        let mut numbers = HashSet::with_capacity(all.len());
        let several_parts =
            all.clone().any(|row| part(row) != part(all.start) || (lefts.value(row) != 0 && !numbers.insert(lefts.value(row))));
        let identities: Vec<Identity> =
            all.clone().map(|row| (span_ids.value(row).to_owned(), kinds.value(row), starts.value(row))).collect();
        let mut distinct: Vec<u32> = all.clone().map(|row| row as u32).collect();
        if several_parts {
            let mut seen = HashSet::with_capacity(all.len());
            distinct.retain(|row| seen.insert(&identities[*row as usize - all.start]));
        }
        Ok(TraceRows { id: trace_ids(chunk)?.value(all.start).to_owned(), all, distinct, identities, several_parts })
    }
}

fn wrong(what: &str) -> Error {
    Error::internal(format!("a {what} column of a search has an unexpected type"))
}
