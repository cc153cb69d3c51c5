//! The columns of a chunk as what the program asks of spans.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int32Array, RecordBatch},
    datatypes::Int32Type,
};
use tracehouse_engine::{Error, Result};

use super::{
    pipeline::{SpanValue, Spans},
    structural::Position,
};
use crate::{
    eval::{self, Regexes, columns_of, single_values_or_zeros_of},
    plan::{NUMBERS, SpansetPlan},
};

/// Reads the rows of a plan.
#[derive(Debug)]
pub struct Rows {
    spansets: Arc<SpansetPlan>,
    regexes: Regexes,
    filters_at: usize,
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
        let values = self.values(&chunk.columns()[self.spansets.numbers_at + NUMBERS.len()..], chunk.num_rows())?;
        Ok(Spans { filters, values, positions })
    }

    /// The program's values of so many spans, of the columns of its fields (others may follow).
    pub fn values(&self, columns: &[ArrayRef], spans: usize) -> Result<Vec<Vec<SpanValue>>> {
        let mut rest = columns;
        let mut fields = HashMap::new();
        for field in &self.spansets.fields {
            let (own, others) = rest.split_at_checked(columns_of(field).len()).ok_or_else(|| wrong("value"))?;
            fields.insert(field, single_values_or_zeros_of(field, own)?);
            rest = others;
        }
        let rows = eval::Rows { count: spans, fields, regexes: &self.regexes };
        let all = self.spansets.program.values.iter();
        Ok(all.map(|expr| (0..spans).map(|row| rows.value(expr, row)).collect()).collect())
    }

    fn number<'b>(&self, chunk: &'b RecordBatch, which: usize) -> Result<&'b Int32Array> {
        chunk.column(self.spansets.numbers_at + which).as_primitive_opt::<Int32Type>().ok_or_else(|| wrong("tree"))
    }
}

fn wrong(what: &str) -> Error {
    Error::internal(format!("a {what} column of a search has an unexpected type"))
}
