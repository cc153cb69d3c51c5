//! The active generation: the live traces for which no block is decided.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tracehouse_engine::{
    Trace, TraceId,
    trace::{ResourceSpans, ScopeSpans},
};

/// How many groups of a trace are compared when a new one comes, so that a trace of many resources stays linear.
const MERGE_LOOKBACK: usize = 8;

/// When a trace is left for the next block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CarryRules {
    /// Its last span came less than this ago,
    pub idle: Duration,
    /// and its first span less than this.
    pub max_live: Duration,
    /// No more than this part of the bytes is left, the newest first.
    pub max_percent: u8,
}

#[derive(Debug)]
struct LiveTrace {
    trace: Arc<Trace>,
    first: Instant,
    last: Instant,
    bytes: usize,
}

/// Traces by id. A span that was sent twice is there twice, as in Tempo: its answers count both.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    traces: HashMap<TraceId, LiveTrace>,
    bytes: usize,
    /// Bytes taken from the budget; less than `bytes` if a replay found more than the budget has.
    charged: usize,
}

impl Generation {
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    pub fn len(&self) -> usize {
        self.traces.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn charged(&self) -> usize {
        self.charged
    }

    pub fn traces(&self) -> impl Iterator<Item = &Arc<Trace>> {
        self.traces.values().map(|t| &t.trace)
    }

    /// Adds the parts of a request of `bytes`.
    pub fn insert(&mut self, parts: Vec<Trace>, bytes: usize, charged: usize, now: Instant) {
        self.charged += charged;
        self.bytes += bytes;
        let mut left = (bytes, parts.iter().map(Trace::span_count).sum::<usize>());
        for part in parts {
            // Bytes are shared out by the number of spans; the last part gets what is left.
            let spans = part.span_count();
            let share = (left.0 * spans).checked_div(left.1).unwrap_or(left.0);
            left = (left.0 - share, left.1.saturating_sub(spans));
            self.insert_part(part, share, now);
        }
    }

    fn insert_part(&mut self, part: Trace, bytes: usize, now: Instant) {
        let live = self.traces.entry(part.id).or_insert_with(|| LiveTrace {
            trace: Arc::new(Trace { id: part.id, resource_spans: Vec::new() }),
            first: now,
            last: now,
            bytes: 0,
        });
        live.last = now;
        live.bytes += bytes;
        // Copies the trace if a reader still holds it.
        merge(&mut Arc::make_mut(&mut live.trace).resource_spans, part.resource_spans);
    }

    /// Traces that may still grow: see [`CarryRules`].
    pub fn to_carry(&self, rules: &CarryRules, now: Instant) -> Vec<Arc<Trace>> {
        let growing = |t: &&LiveTrace| now.duration_since(t.last) < rules.idle && now.duration_since(t.first) < rules.max_live;
        let mut candidates: Vec<_> = self.traces.values().filter(growing).collect();
        candidates.sort_by_key(|t| std::cmp::Reverse(t.first));
        let mut room = self.bytes / 100 * usize::from(rules.max_percent);
        let fits = |t: &&LiveTrace| {
            let fits = t.bytes <= room;
            room = room.saturating_sub(t.bytes);
            fits
        };
        candidates.into_iter().take_while(fits).map(|t| t.trace.clone()).collect()
    }

    /// Takes all traces but the carried ones out, with what they are charged.
    pub fn split_off(&mut self, carried: &HashSet<TraceId>) -> (Vec<Arc<Trace>>, usize) {
        let taken: Vec<_> = self.traces.extract_if(|id, _| !carried.contains(id)).map(|(_, t)| t.trace).collect();
        self.bytes = self.traces.values().map(|t| t.bytes).sum();
        let stays = self.bytes.min(self.charged);
        let charged = self.charged - stays;
        self.charged = stays;
        if self.traces.is_empty() {
            self.traces = HashMap::new(); // gives the memory of a large generation back
        }
        (taken, charged)
    }
}

/// Adds groups of spans, into a group with the same resource and scope where there is one.
fn merge(into: &mut Vec<ResourceSpans>, part: Vec<ResourceSpans>) {
    for rs in part {
        let same = |have: &&mut ResourceSpans| have.resource == rs.resource && have.schema_url == rs.schema_url;
        match into.iter_mut().rev().take(MERGE_LOOKBACK).find(same) {
            Some(have) => merge_scopes(&mut have.scope_spans, rs.scope_spans),
            None => into.push(rs),
        }
    }
}

fn merge_scopes(into: &mut Vec<ScopeSpans>, part: Vec<ScopeSpans>) {
    for ss in part {
        let same = |have: &&mut ScopeSpans| have.scope == ss.scope && have.schema_url == ss.schema_url;
        match into.iter_mut().rev().take(MERGE_LOOKBACK).find(same) {
            Some(have) => have.spans.extend(ss.spans),
            None => into.push(ss),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        distributor::split_by_trace,
        test_support::{request, span},
    };

    fn ids(traces: &[Arc<Trace>]) -> Vec<u8> {
        let mut ids: Vec<_> = traces.iter().map(|t| t.id.0[0]).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn spans_meet_in_the_groups_they_belong_to() {
        let now = Instant::now();
        let mut generation = Generation::default();
        let mut client = span(1, 1);
        client.kind = 3;
        generation.insert(split_by_trace(request("a", [span(1, 1), client.clone()])), 10, 10, now);
        generation.insert(split_by_trace(request("b", [span(1, 2)])), 10, 10, now);
        generation.insert(split_by_trace(request("a", [span(1, 3), span(1, 1)])), 10, 10, now);
        let mut want = request("a", [span(1, 1), client, span(1, 3), span(1, 1)]).resource_spans;
        want.extend(request("b", [span(1, 2)]).resource_spans);
        assert_eq!(generation.traces().next().unwrap().resource_spans, want);
        assert_eq!((generation.len(), generation.bytes(), generation.charged()), (1, 30, 30));
    }

    #[test]
    fn growing_traces_are_carried_newest_first_within_bounds() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut generation = Generation::default();
        for (trace, first, last) in [(1, 0, 1), (2, 0, 29), (3, 20, 29), (4, 28, 28), (5, 29, 29)] {
            generation.insert(split_by_trace(request("a", [span(trace, 1)])), 50, 50, at(first));
            generation.insert(split_by_trace(request("a", [span(trace, 2)])), 50, 50, at(last));
        }
        let rules =
            |idle, live, max_percent| CarryRules { idle: Duration::from_secs(idle), max_live: Duration::from_secs(live), max_percent };
        let carried = |r: CarryRules| ids(&generation.to_carry(&r, at(30)));
        assert_eq!(carried(rules(5, 30, 100)), [3, 4, 5]);
        assert_eq!(carried(rules(5, 60, 100)), [2, 3, 4, 5]);
        assert_eq!(carried(rules(5, 60, 40)), [4, 5]);
        assert_eq!(carried(rules(0, 60, 100)), [] as [u8; 0]);
        assert_eq!(carried(rules(5, 60, 0)), [] as [u8; 0]);
    }

    #[test]
    fn bytes_are_neither_lost_nor_made_when_a_generation_is_split() {
        let mut generation = Generation::default();
        generation.insert(split_by_trace(request("a", [span(1, 1), span(2, 1), span(2, 2)])), 100, 100, Instant::now());
        let carried = HashSet::from([TraceId::from_slice(&span(1, 0).trace_id).unwrap()]);
        let (taken, charged) = generation.split_off(&carried);
        assert_eq!((ids(&taken), charged, generation.charged(), generation.bytes()), (vec![2], 67, 33, 33));
        assert_eq!(generation.split_off(&HashSet::new()).1, 33);
        assert!(generation.is_empty());
    }
}
