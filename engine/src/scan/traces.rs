//! Filters that look at whole traces, inside the scan: a chunk holds all spans of a trace, or the trace is left out here and
//! looked at elsewhere (`engine/whole` knows which those are).
//!
//! ```text
//! conditions, in codes -> spans that enter -> traces that can have a chosen span, and are new enough
//!     -> what the test asks of their spans -> chosen spans; only of those anything more is read
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, BooleanBufferBuilder, UInt32Array},
    buffer::BooleanBuffer,
};
use datafusion::{
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::Expr,
    physical_expr::PhysicalExpr,
};
use parking_lot::Mutex;

use super::{
    chunk::{ChunkTraces, Effort, SpanChunk},
    columns::SpanColumn,
    filter::ScanFilter,
    newest::NewestTraces,
    span_filter::Passing,
};
use crate::{
    error::{Error, ErrorKind, Result},
    trace::TraceId,
};

/// About as many spans are looked at before a query can be stopped.
const BATCH_SPANS: usize = 16 * 1024;

/// Chooses spans by what is true of their traces.
pub trait TraceTest: fmt::Debug + Send + Sync {
    /// What it is, for EXPLAIN.
    fn name(&self) -> &str;

    /// Which spans are looked at: those that meet all conditions of one of these sets; all spans if there is nothing.
    fn entrances(&self) -> Option<&[Vec<usize>]>;

    /// Whether a trace may have a chosen span. `met`: for each condition, whether a span that is looked at meets it.
    fn possible(&self, met: &[bool]) -> bool;

    /// Whether what is possible is also true: then all spans of the trace that are looked at are chosen.
    fn decided_by_conditions(&self) -> bool;

    /// The columns that [`choose`](Self::choose) asks for.
    fn columns(&self) -> &[SpanColumn];

    /// About the memory that [`choose`](Self::choose) takes for so many spans.
    fn bytes_for(&self, spans: usize) -> usize;

    /// Whether each of these spans is chosen.
    fn choose(&self, spans: &TraceSpans) -> Result<BooleanBuffer>;
}

/// The spans of some traces that are looked at, trace after trace.
#[derive(Debug)]
pub struct TraceSpans {
    /// The spans of each trace.
    pub traces: Vec<Range<usize>>,
    /// For each condition: the spans that meet it.
    pub met: Vec<BooleanBuffer>,
    /// The columns of the test.
    pub columns: Vec<ArrayRef>,
}

/// A test of traces and the conditions it asks of spans, over the columns of a table.
#[derive(Clone, Debug)]
pub struct TraceFilter {
    /// The test.
    pub test: Arc<dyn TraceTest>,
    /// Its conditions.
    pub conditions: Vec<Expr>,
    /// Traces of which a chunk may hold only a part: they are not judged, and all of their spans that are looked at are chosen.
    pub apart: Arc<HashSet<TraceId>>,
}

/// Some traces, by their ids: a scan reads these only, or all but these.
#[derive(Clone, Debug)]
pub struct TraceChoice {
    /// The ids.
    pub ids: Arc<HashSet<TraceId>>,
    /// Whether they are those that are read.
    pub only: bool,
}

impl TraceChoice {
    /// The spans of a chunk that are of such traces; `None` if all are.
    pub(super) fn spans(&self, chunk: &ChunkTraces) -> Option<BooleanBuffer> {
        let mut all = true;
        let mut spans = BooleanBufferBuilder::new(0);
        for ((id, _), range) in chunk.traces.iter().zip(chunk.first_spans.windows(2)) {
            let chosen = self.ids.contains(id) == self.only;
            all &= chosen;
            spans.append_n((range[1] - range[0]) as usize, chosen);
        }
        (!all).then(|| spans.finish())
    }
}

/// A [`TraceFilter`], planned.
#[derive(Debug)]
pub(super) struct PlannedTraceFilter {
    pub test: Arc<dyn TraceTest>,
    pub conditions: Vec<Option<Arc<dyn PhysicalExpr>>>,
    pub apart: Arc<HashSet<TraceId>>,
}

/// Which spans a scan asks a trace filter for.
pub(super) struct Asked<'a> {
    /// The spans that are looked at; `None`: all.
    pub before: Option<BooleanBuffer>,
    /// Those that may be put out; `None`: all.
    pub wanted: Option<BooleanBuffer>,
    /// The newest traces so far, if others are not wanted.
    pub newest: Option<&'a NewestTraces>,
}

/// A trace filter at work.
pub(super) struct TraceStage {
    test: Arc<dyn TraceTest>,
    conditions: Vec<ScanFilter>,
    apart: Arc<HashSet<TraceId>>,
    memory: Mutex<MemoryReservation>,
}

/// The traces of a chunk that may have chosen spans: those of their spans that are looked at.
#[derive(Default)]
struct Candidates {
    spans: Vec<u32>,
    traces: Vec<Range<usize>>,
    /// The spans of traces that are not judged.
    apart: Vec<u32>,
}

impl TraceStage {
    /// For a scan of these columns, within the memory of a query.
    pub fn new(all: &[SpanColumn], planned: &PlannedTraceFilter, context: &TaskContext) -> Result<Self> {
        let conditions = planned.conditions.iter().map(|c| ScanFilter::new(all, c.as_ref())).collect::<Result<_>>()?;
        let memory = Mutex::new(MemoryConsumer::new("SpanScanExec: the spans of a trace").register(context.memory_pool()));
        Ok(Self { test: planned.test.clone(), conditions, apart: planned.apart.clone(), memory })
    }

    /// Which conditions a span of a chunk may meet, by dictionaries and statistics; `None` if no span can be chosen.
    pub async fn possible(&self, chunk: &mut dyn SpanChunk) -> Result<Option<Vec<bool>>> {
        let mut met = Vec::with_capacity(self.conditions.len());
        for condition in &self.conditions {
            met.push(condition.excludes(chunk, Effort::Dictionaries).await?.is_none());
        }
        let enters = |conditions: &Vec<usize>| conditions.iter().all(|c| met.get(*c).copied().unwrap_or(true));
        let apart = || !self.apart.is_empty() && self.test.entrances().is_none_or(|all| all.iter().any(enters));
        Ok((self.test.possible(&met) || apart()).then_some(met))
    }

    /// The chosen spans that are wanted.
    pub async fn select(&self, chunk: &mut dyn SpanChunk, possible: &[bool], asked: Asked<'_>) -> Result<BooleanBuffer> {
        let open = self.conditions.iter().zip(possible).filter(|(_, possible)| **possible);
        let mut columns: BTreeMap<SpanColumn, Passing> = BTreeMap::new();
        for (column, needs) in open.flat_map(|(c, _)| c.columns(chunk)) {
            let known = columns.entry(column).or_insert(Passing::NOTHING);
            *known = known.or(needs);
        }
        chunk.load_passing(&columns.into_iter().collect::<Vec<_>>()).await?;
        let (entering, met) = self.entering(chunk, possible, asked.before).await?;
        if entering.count_set_bits() == 0 {
            return Ok(entering);
        }
        let traces = chunk.traces().await?.ok_or_else(|| Error::internal("a chunk does not know its traces"))?;
        let wanted = asked.wanted.map(|wanted| aligned(&wanted & &entering));
        let candidates = self.candidates(&traces, &entering, wanted.as_ref(), &met, asked.newest);
        let chosen = self.choose(chunk, candidates, &met).await?;
        Ok(wanted.map_or_else(|| chosen.clone(), |wanted| &chosen & &wanted))
    }

    /// The spans that are looked at, and which of them meet each condition.
    async fn entering(
        &self,
        chunk: &mut dyn SpanChunk,
        possible: &[bool],
        before: Option<BooleanBuffer>,
    ) -> Result<(BooleanBuffer, Vec<BooleanBuffer>)> {
        let count = chunk.span_count();
        let mut met: Vec<Option<BooleanBuffer>> = vec![None; self.conditions.len()];
        let before = before.unwrap_or_else(|| BooleanBuffer::new_set(count));
        let entering = match self.test.entrances() {
            None => before,
            Some([only]) => {
                // Each is asked of what the others have left.
                let mut left = before;
                for condition in only {
                    left = self.meeting(chunk, possible, *condition, left).await?;
                }
                for (_, met) in met.iter_mut().enumerate().filter(|(c, _)| only.contains(c)) {
                    *met = Some(left.clone());
                }
                left
            }
            Some(several) => {
                let mut any = BooleanBuffer::new_unset(count);
                for entrance in several {
                    let mut all = before.clone();
                    for condition in entrance {
                        let known = met.get(*condition).cloned().flatten();
                        let own = match known {
                            Some(known) => known,
                            None => self.meeting(chunk, possible, *condition, before.clone()).await?,
                        };
                        all = &all & &own;
                        if let Some(met) = met.get_mut(*condition) {
                            *met = Some(own);
                        }
                    }
                    any = &any | &all;
                }
                any
            }
        };
        let mut all = Vec::with_capacity(met.len());
        for (condition, known) in met.into_iter().enumerate() {
            all.push(match known {
                // A span that meets a condition without entering does not help its trace.
                Some(known) => aligned(&known & &entering),
                None => aligned(self.meeting(chunk, possible, condition, entering.clone()).await?),
            });
        }
        Ok((aligned(entering), all))
    }

    /// The spans among `before` that meet a condition.
    async fn meeting(
        &self,
        chunk: &mut dyn SpanChunk,
        possible: &[bool],
        condition: usize,
        before: BooleanBuffer,
    ) -> Result<BooleanBuffer> {
        let asked = self.conditions.get(condition).ok_or_else(|| Error::internal("a test of traces asks an unknown condition"))?;
        let count = chunk.span_count();
        if possible.get(condition) == Some(&false) || before.count_set_bits() == 0 {
            return Ok(BooleanBuffer::new_unset(count));
        }
        let narrowed = (before.count_set_bits() < count).then_some(&before);
        Ok(asked.select(chunk, narrowed).await?.unwrap_or_else(|| BooleanBuffer::new_set(count)))
    }

    /// The chosen spans of the candidates.
    async fn choose(&self, chunk: &mut dyn SpanChunk, candidates: Candidates, met: &[BooleanBuffer]) -> Result<BooleanBuffer> {
        let Candidates { spans, traces, apart } = candidates;
        let mut chosen = BooleanBufferBuilder::new(chunk.span_count());
        chosen.append_n(chunk.span_count(), false);
        apart.iter().for_each(|span| chosen.set_bit(*span as usize, true));
        if spans.is_empty() || self.test.decided_by_conditions() {
            spans.iter().for_each(|span| chosen.set_bit(*span as usize, true));
            return Ok(chosen.finish());
        }
        let rows = UInt32Array::from(spans);
        chunk.load_for(self.test.columns(), Some(&rows)).await?;
        let columns = self.test.columns().iter().map(|c| chunk.column(c, Some(&rows))).collect::<Result<Vec<_>>>()?;
        let own: usize = columns.iter().map(|c| c.get_array_memory_size()).sum();
        for batch in batches(&traces) {
            // Here the query can be stopped.
            tokio::task::yield_now().await;
            let of = batch.first().map_or(0, |r| r.start)..batch.last().map_or(0, |r| r.end);
            self.hold(own + self.test.bytes_for(of.len()))?;
            let spans = &rows.values()[of.clone()];
            let found = self.test.choose(&TraceSpans {
                traces: batch.iter().map(|r| r.start - of.start..r.end - of.start).collect(),
                met: met.iter().map(|m| BooleanBuffer::collect_bool(spans.len(), |i| m.value(spans[i] as usize))).collect(),
                columns: columns.iter().map(|c| c.slice(of.start, of.len())).collect(),
            })?;
            found.set_indices().for_each(|i| chosen.set_bit(spans[i] as usize, true));
        }
        self.hold(0)?;
        Ok(chosen.finish())
    }

    /// So many bytes are held from now on.
    fn hold(&self, bytes: usize) -> Result<()> {
        self.memory.lock().try_resize(bytes).map_err(|e| {
            let text = "query needs too much memory for the spans of a trace: narrow its time range or its filters";
            Error::new(ErrorKind::TooMany, text).with_source(e)
        })
    }

    /// The traces that can have a chosen span, a wanted one, and are new enough, with their spans that enter.
    fn candidates(
        &self,
        chunk: &ChunkTraces,
        entering: &BooleanBuffer,
        wanted: Option<&BooleanBuffer>,
        met: &[BooleanBuffer],
        newest: Option<&NewestTraces>,
    ) -> Candidates {
        let mut found = Candidates::default();
        let mut of_trace = vec![false; met.len()];
        for (trace, range) in chunk.traces.iter().zip(chunk.first_spans.windows(2)) {
            let (from, to) = (range[0] as usize, range[1] as usize);
            if !any(wanted.unwrap_or(entering).values(), from, to) {
                continue;
            }
            met.iter().zip(&mut of_trace).for_each(|(mask, met)| *met = any(mask.values(), from, to));
            let apart = self.apart.contains(&trace.0);
            if !apart && !self.test.possible(&of_trace) || newest.is_some_and(|n| n.is_too_old(*trace)) {
                continue;
            }
            let spans = (from..to).filter(|span| entering.value(*span)).map(|span| span as u32);
            if apart {
                found.apart.extend(spans);
                continue;
            }
            let first = found.spans.len();
            found.spans.extend(spans);
            found.traces.push(first..found.spans.len());
        }
        found
    }
}

/// The same bits from the first bit of the first byte on.
fn aligned(bits: BooleanBuffer) -> BooleanBuffer {
    if bits.offset() == 0 { bits } else { BooleanBuffer::new(bits.sliced(), 0, bits.len()) }
}

/// Whether one of the bits `from..to` is set.
fn any(bytes: &[u8], from: usize, to: usize) -> bool {
    let (first, last) = (from / 8, to / 8);
    let (head, tail) = (0xffu8 << (from % 8), !(0xffu8 << (to % 8)));
    if first == last {
        return tail & head != 0 && bytes[first] & head & tail != 0;
    }
    bytes[first] & head != 0 || bytes[first + 1..last].iter().any(|b| *b != 0) || tail != 0 && bytes[last] & tail != 0
}

/// The traces in batches of about [`BATCH_SPANS`].
fn batches(traces: &[Range<usize>]) -> Vec<&[Range<usize>]> {
    let (mut all, mut rest) = (Vec::new(), traces);
    while let Some(first) = rest.first() {
        let end = rest.partition_point(|r| r.end <= first.start + BATCH_SPANS).max(1);
        let (batch, others) = rest.split_at(end);
        all.push(batch);
        rest = others;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bit_of_a_range() {
        for set in [0, 7, 8, 13, 30, 39] {
            let bits = BooleanBuffer::collect_bool(40, |i| i == set);
            for from in 0..=40 {
                for to in from..=40 {
                    assert_eq!(any(bits.values(), from, to), (from..to).contains(&set), "{set} in {from}..{to}");
                }
            }
        }
    }

    #[test]
    fn batches_hold_whole_traces() {
        assert!(batches(&[]).is_empty());
        let traces = [0..BATCH_SPANS * 2, BATCH_SPANS * 2..BATCH_SPANS * 2 + 1, BATCH_SPANS * 2 + 1..BATCH_SPANS * 3 + 1];
        let lengths: Vec<usize> = batches(&traces).iter().map(|b| b.len()).collect();
        assert_eq!(lengths, [1, 1, 1]);
        assert_eq!(batches(&[0..1, 1..5, 5..9]).len(), 1);
    }

    #[test]
    fn traces_are_chosen_by_id() {
        let id = |n: u8| TraceId([n; 16]);
        let chunk = ChunkTraces { traces: Arc::new([(id(1), 0), (id(2), 0), (id(3), 0)]), first_spans: vec![0, 2, 3, 5].into() };
        let choice = |only| TraceChoice { ids: Arc::new(HashSet::from([id(2)])), only };
        let set = |only| choice(only).spans(&chunk).map(|m| m.set_indices().collect::<Vec<_>>());
        assert_eq!(set(true), Some(vec![2]));
        assert_eq!(set(false), Some(vec![0, 1, 3, 4]));
        let none = TraceChoice { ids: Arc::default(), only: false };
        assert!(none.spans(&chunk).is_none());
    }
}
