//! What a query does trace by trace: operators between spansets, structural relations, pipelines.
//!
//! ```text
//! rows ordered by trace --chunks--> whole traces --evaluate--> columns as values (rows) --> run the program (pipeline)
//! ```
//! Traces that are whole in a chunk of the scan are judged there first (`choose`), so that rows come of those only that have a
//! part in the answer.
//!
//! Filters are columns of the plan already, and so are the places in the tree, those of traces in several parts included
//! (`plan::whole`); only what needs several spans at once is done here. One trace must fit into the memory of the query: what
//! is held is reserved from its pool.

pub mod aggregate;
pub mod choose;
mod chunks;
mod exec;
pub mod pipeline;
pub mod program;
mod rows;
pub mod structural;

use std::{ops::Range, sync::Arc};

use arrow::array::{Array, RecordBatch};
use datafusion::execution::{
    TaskContext,
    memory_pool::{MemoryConsumer, MemoryReservation},
};
use tracehouse_engine::{Error, ErrorKind, Result};

use crate::plan::SpansetPlan;
use chunks::Chunks;
pub use exec::SpansetTable;
use pipeline::Spanset;
use rows::Rows;

/// Takes what survives of a trace.
pub trait Sink {
    /// `rows` are all rows of the trace in `chunk`; the spans of the spansets are numbers of rows too. There may be none.
    fn add_trace(&mut self, chunk: &RecordBatch, rows: Range<usize>, spansets: &[Spanset]) -> Result<()>;
}

/// Runs the part of a query that looks at whole traces.
#[derive(Debug)]
pub struct Evaluator {
    spansets: Arc<SpansetPlan>,
    chunks: Chunks,
    rows: Rows,
    memory: Memory,
}

impl Evaluator {
    /// For the rows of a plan with this part, within the memory of a query.
    pub fn new(spansets: &Arc<SpansetPlan>, context: &TaskContext) -> Result<Self> {
        Ok(Self {
            spansets: spansets.clone(),
            chunks: Chunks::default(),
            rows: Rows::new(spansets.clone())?,
            memory: Memory::new("the spans of a trace", context),
        })
    }

    /// Takes some rows, ordered by trace.
    pub fn push(&mut self, batch: RecordBatch, sink: &mut impl Sink) -> Result<()> {
        // What is complete, and as much again to put it together.
        self.memory.hold(2 * (self.chunks.bytes() + bytes_of(&batch)))?;
        for chunk in self.chunks.push(batch)? {
            self.evaluate(&chunk, sink)?;
        }
        self.memory.hold(self.chunks.bytes())
    }

    /// Evaluates what is left after the last row.
    pub fn finish(&mut self, sink: &mut impl Sink) -> Result<()> {
        self.memory.hold(2 * self.chunks.bytes())?;
        if let Some(chunk) = self.chunks.finish()? {
            self.evaluate(&chunk, sink)?;
        }
        self.memory.hold(0)
    }

    /// Evaluates the traces of a chunk, each of which is whole.
    fn evaluate(&mut self, chunk: &RecordBatch, sink: &mut impl Sink) -> Result<()> {
        self.memory.grow(self.spansets.bytes_of_values(chunk.num_rows()))?;
        let spans = self.rows.spans(chunk)?;
        for range in chunks::traces(chunk)? {
            let all = range.clone().map(|row| row as u32).collect();
            let found = spans.run(&self.spansets.program.steps, all)?;
            sink.add_trace(chunk, range, &found)?;
        }
        Ok(())
    }
}

/// Memory held by a part of a query, reserved from its pool.
#[derive(Debug)]
pub struct Memory {
    what: &'static str,
    reservation: MemoryReservation,
}

impl Memory {
    /// Nothing held yet. `what` stands in the error of a query that holds too much.
    pub fn new(what: &'static str, context: &TaskContext) -> Self {
        Self { what, reservation: MemoryConsumer::new(format!("traceql: {what}")).register(context.memory_pool()) }
    }

    /// So many bytes are held from now on.
    pub fn hold(&mut self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes).map_err(|e| self.exhausted(e))
    }

    /// So many bytes more are held.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.reservation.try_grow(bytes).map_err(|e| self.exhausted(e))
    }

    fn exhausted(&self, e: datafusion::error::DataFusionError) -> Error {
        let text = format!("query needs too much memory for {}: narrow its time range or its filters", self.what);
        Error::new(ErrorKind::TooMany, text).with_source(e)
    }
}

/// Bytes of the rows of a batch, which may be a part of larger arrays.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |array: &arrow::array::ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    batch.columns().iter().map(bytes).sum()
}
