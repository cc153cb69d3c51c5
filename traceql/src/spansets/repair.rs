//! Traces whose stored places in the tree do not hold: their spans are in several blocks or partly live, so each part was
//! numbered without the others. The tree is told anew from all their spans.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, UInt32Array},
    compute::take_record_batch,
    datatypes::{Int32Type, Int64Type, TimestampNanosecondType},
};
use tracehouse_engine::{
    Error, Result, Trace, TraceId,
    derive::derive,
    trace::{ResourceSpans, ScopeSpans, Span},
};

use super::{
    chunks::trace_ids,
    rows::{Identity, Part, TraceRows},
    structural::Position,
};

/// The rows of traces whose tree must be looked up.
#[derive(Debug, Default)]
pub struct Waiting {
    chunks: Vec<RecordBatch>,
    spans: usize,
}

impl Waiting {
    /// Puts the rows of one trace aside.
    pub fn push(&mut self, chunk: &RecordBatch, rows: Range<usize>) -> Result<()> {
        self.spans += rows.len();
        // A copy: a slice would hold the whole chunk.
        let rows: UInt32Array = rows.map(|row| row as u32).collect();
        self.chunks.push(take_record_batch(chunk, &rows)?);
        Ok(())
    }

    /// Number of traces.
    pub fn traces(&self) -> usize {
        self.chunks.len()
    }

    /// Number of rows.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// The traces' ids.
    pub fn ids(&self) -> Result<Vec<String>> {
        self.chunks.iter().map(|c| Ok(trace_ids(c)?.value(0).to_owned())).collect()
    }

    /// The rows, trace by trace.
    pub fn into_chunks(self) -> Vec<RecordBatch> {
        self.chunks
    }
}

/// All spans of some traces.
#[derive(Debug, Default)]
pub struct Known {
    traces: HashMap<String, Vec<Located>>,
}

/// What tells a span's place.
#[derive(Debug)]
struct Located {
    identity: Identity,
    parent: String,
    part: Part,
}

impl Known {
    /// Adds rows of `plan_positions`.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let text = |at: usize| -> Result<&StringArray> { batch.column(at).as_string_opt::<i32>().ok_or_else(wrong) };
        let time = |at: usize| batch.column(at).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(wrong);
        let (traces, spans, parents) = (text(0)?, text(1)?, text(2)?);
        let kinds = batch.column(3).as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
        let (starts, trace_starts) = (time(4)?, time(5)?);
        let durations = batch.column(6).as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        for row in 0..batch.num_rows() {
            let located = Located {
                identity: (spans.value(row).to_owned(), kinds.value(row), starts.value(row)),
                parent: if parents.is_valid(row) { parents.value(row).to_owned() } else { String::new() },
                part: (trace_starts.value(row), durations.value(row)),
            };
            match self.traces.get_mut(traces.value(row)) {
                Some(known) => known.push(located),
                None => drop(self.traces.insert(traces.value(row).to_owned(), vec![located])),
            }
        }
        Ok(())
    }

    /// Puts the true places of a trace's rows into `positions`, if it has several parts; else what is stored holds.
    pub fn correct(&self, trace: &TraceRows, positions: &mut [Position]) {
        let Some(located) = self.traces.get(&trace.id) else { return };
        let parts: HashSet<Part> = located.iter().map(|l| l.part).collect();
        if parts.len() < 2 && !trace.several_parts {
            return;
        }
        let places = places(located);
        for (row, identity) in trace.all.clone().zip(&trace.identities) {
            positions[row] = places.get(identity).copied().unwrap_or_default();
        }
    }
}

/// The place of each span in the tree of all. A span that several parts hold counts once.
fn places(located: &[Located]) -> HashMap<&Identity, Position> {
    let mut seen = HashSet::with_capacity(located.len());
    let distinct: Vec<&Located> = located.iter().filter(|l| seen.insert(&l.identity)).collect();
    let span = |l: &&Located| Span {
        span_id: l.identity.0.clone().into_bytes(),
        parent_span_id: l.parent.clone().into_bytes(),
        kind: l.identity.1,
        start_time_unix_nano: l.identity.2 as u64,
        ..Span::default()
    };
    let spans = distinct.iter().map(span).collect();
    let scope = ScopeSpans { spans, ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    let facts = derive(&Trace { id: TraceId::default(), resource_spans: vec![resource] });
    let position = |p: &tracehouse_engine::derive::TreePosition| Position { left: p.left, right: p.right, parent: p.parent };
    distinct.iter().map(|l| &l.identity).zip(facts.spans.iter().map(position)).collect()
}

fn wrong() -> Error {
    Error::internal("a column of a trace's tree has an unexpected type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(id: &str, parent: &str, part: i64) -> Located {
        Located { identity: (id.into(), 1, 0), parent: parent.into(), part: (part, 1) }
    }

    #[test]
    fn parts_make_one_tree() {
        // b is stored in both parts; without the first part, c has no root.
        let all = [located("a", "", 1), located("b", "a", 1), located("b", "a", 2), located("c", "b", 2), located("lost", "x", 2)];
        let places = places(&all);
        let at = |id: &str| places[&(id.to_owned(), 1, 0)];
        assert_eq!(at("a"), Position { left: 1, right: 6, parent: -1 });
        assert_eq!(at("b"), Position { left: 2, right: 5, parent: 1 });
        assert_eq!(at("c"), Position { left: 3, right: 4, parent: 2 });
        assert_eq!(at("lost").left, 0);

        let known = Known { traces: HashMap::from([("t".to_owned(), all.into())]) };
        let trace = TraceRows {
            id: "t".into(),
            all: 0..2,
            distinct: vec![0, 1],
            identities: vec![("c".into(), 1, 0), ("b".into(), 1, 0)],
            several_parts: false,
        };
        let mut positions = vec![Position::default(); 2];
        known.correct(&trace, &mut positions);
        assert_eq!(positions.iter().map(|p| p.left).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn one_part_stays_as_stored() {
        let known = Known { traces: HashMap::from([("t".to_owned(), vec![located("a", "", 1)])]) };
        let identities = vec![("a".into(), 1, 0)];
        let trace = TraceRows { id: "t".into(), all: 0..1, distinct: vec![0], identities, several_parts: false };
        let mut positions = vec![Position::default()];
        known.correct(&trace, &mut positions);
        assert_eq!(positions, [Position::default()]);
    }
}
