//! Live traces as span columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use async_trait::async_trait;

use super::{ChunkSource, ChunkStats, SpanChunk, columns::SpanColumn};
use crate::{
    error::{Error, Result},
    trace::Trace,
};

/// Some live traces, to be scanned.
#[derive(Debug)]
pub struct LiveChunkSource {
    traces: Vec<Arc<Trace>>,
}

impl LiveChunkSource {
    /// A source over these traces.
    pub fn new(traces: Vec<Arc<Trace>>) -> Self {
        Self { traces }
    }
}

#[async_trait]
impl ChunkSource for LiveChunkSource {
    async fn open(self: Arc<Self>) -> Result<Box<dyn SpanChunk>> {
        Ok(Box::new(LiveChunk { traces: self.traces.clone() }))
    }

    fn describe(&self) -> String {
        format!("live({} traces)", self.traces.len())
    }

    fn start_time_bounds(&self) -> Option<(i64, i64)> {
        None
    }
}

#[derive(Debug)]
struct LiveChunk {
    traces: Vec<Arc<Trace>>,
}

#[async_trait]
impl SpanChunk for LiveChunk {
    fn span_count(&self) -> usize {
        self.traces.iter().map(|t| t.span_count()).sum()
    }

    async fn load(&mut self, _: &[SpanColumn]) -> Result<()> {
        Ok(())
    }

    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        let all = flatten(&self.traces, column)?;
        match selection {
            Some(indices) => Ok(arrow::compute::take(&all, indices, None)?),
            None => Ok(all),
        }
    }

    fn stats(&self) -> ChunkStats {
        ChunkStats { spans: self.span_count() as u64, traces: self.traces.len() as u64, ..ChunkStats::default() }
    }
}

/// One column over all spans of these traces, in order. The answer equals that of a block that holds the same traces.
pub fn flatten(_traces: &[Arc<Trace>], _column: &SpanColumn) -> Result<ArrayRef> {
    Err(Error::internal("not written yet"))
}
