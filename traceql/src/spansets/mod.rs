//! What a search does trace by trace: operators between spansets, structural relations, pipelines.
//!
//! ```text
//! rows ordered by trace --chunks--> whole traces --evaluate--> columns as values (rows) --> run the program (pipeline)
//!                                        |                                                     |
//!                                        +-- of several parts? --> waiting --repair--> places in the tree told anew
//! ```
//! Filters are columns of the plan already; only what needs several spans at once is done here. One trace must fit into
//! memory, and up to [`WAITING_SPANS_MAX`] spans of traces that wait for their tree.

pub mod aggregate;
mod chunks;
pub mod pipeline;
pub mod program;
mod repair;
mod rows;
pub mod structural;

use std::{ops::Range, sync::Arc};

use arrow::array::RecordBatch;
use futures::StreamExt;
use tracehouse_engine::{Result, TenantId};
use tracehouse_sql::{Execution, Sessions};

use crate::{
    plan::{SpansetPlan, plan_positions},
    result::search::SearchMetrics,
    search::metrics_of,
};
use chunks::Chunks;
use pipeline::Spanset;
use repair::{Known, Waiting};
use rows::{Rows, TraceRows};

/// Most spans that are held back until the tree of their trace is known.
pub const WAITING_SPANS_MAX: usize = 100_000;

/// Most traces that are held back: so many ids are looked up at once.
pub const WAITING_TRACES_MAX: usize = 1000;

/// Takes what survives of a trace.
pub trait Sink {
    /// `rows` are all rows of the trace in `chunk`; the spans of the spansets are numbers of rows too. There may be none.
    fn add_trace(&mut self, chunk: &RecordBatch, rows: Range<usize>, spansets: &[Spanset]) -> Result<()>;
}

/// Runs the part of a query that looks at whole traces.
#[derive(Debug)]
pub struct Evaluator {
    sessions: Sessions,
    tenant: TenantId,
    spansets: Arc<SpansetPlan>,
    chunks: Chunks,
    rows: Rows,
    waiting: Waiting,
    cost: SearchMetrics,
}

impl Evaluator {
    /// For the rows of a plan with this part.
    pub fn new(sessions: &Sessions, tenant: &TenantId, spansets: &Arc<SpansetPlan>) -> Result<Self> {
        Ok(Self {
            sessions: sessions.clone(),
            tenant: tenant.clone(),
            spansets: spansets.clone(),
            chunks: Chunks::default(),
            rows: Rows::new(spansets.clone())?,
            waiting: Waiting::default(),
            cost: SearchMetrics::default(),
        })
    }

    /// Takes some rows, ordered by trace.
    pub async fn push(&mut self, batch: RecordBatch, sink: &mut impl Sink) -> Result<()> {
        for chunk in self.chunks.push(batch)? {
            self.evaluate(&chunk, sink)?;
            if self.waiting.spans() >= WAITING_SPANS_MAX || self.waiting.traces() >= WAITING_TRACES_MAX {
                self.repair(sink).await?;
            }
        }
        Ok(())
    }

    /// Evaluates what is left after the last row.
    pub async fn finish(&mut self, sink: &mut impl Sink) -> Result<()> {
        if let Some(chunk) = self.chunks.finish()? {
            self.evaluate(&chunk, sink)?;
        }
        self.repair(sink).await
    }

    /// What looking up trees has cost.
    pub fn cost(&self) -> SearchMetrics {
        self.cost
    }

    /// Evaluates the traces of a chunk, each of which is whole; puts aside those whose tree must be looked up.
    fn evaluate(&mut self, chunk: &RecordBatch, sink: &mut impl Sink) -> Result<()> {
        let spans = self.rows.spans(chunk)?;
        for range in chunks::traces(chunk)? {
            let trace = self.rows.trace(chunk, range.clone())?;
            if self.spansets.program.structural && trace.needs_tree(&spans.positions) {
                self.waiting.push(chunk, range)?;
                continue;
            }
            self.give(chunk, &spans, trace, sink)?;
        }
        Ok(())
    }

    fn give(&self, chunk: &RecordBatch, spans: &pipeline::Spans, trace: TraceRows, sink: &mut impl Sink) -> Result<()> {
        let all = trace.all.clone();
        let found = spans.run(&self.spansets.program.steps, trace.distinct)?;
        sink.add_trace(chunk, all, &found)
    }

    /// Looks up the trees of the traces that wait, and evaluates them.
    async fn repair(&mut self, sink: &mut impl Sink) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.traces() == 0 {
            return Ok(());
        }
        let positions = plan_positions(&self.sessions, &self.tenant, &waiting.ids()?)?;
        let frame = self.sessions.frame(&self.tenant, positions)?;
        let Execution { plan, mut rows } = self.sessions.execute(frame).await?;
        let mut known = Known::default();
        while let Some(batch) = rows.next().await {
            known.add(&batch?)?;
        }
        // The spans were counted when they were first read.
        self.cost.inspected_bytes += metrics_of(plan.as_ref()).inspected_bytes;
        for chunk in waiting.into_chunks() {
            let trace = self.rows.trace(&chunk, 0..chunk.num_rows())?;
            let mut spans = self.rows.spans(&chunk)?;
            known.correct(&trace, &mut spans.positions);
            self.give(&chunk, &spans, trace, sink)?;
        }
        Ok(())
    }
}
