//! The newest traces of a search while it runs: what is older than all of them need not be read any further.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use crate::trace::TraceId;

/// The newest traces that have a matching span, of those seen so far. Shared by the partitions of a scan.
#[derive(Debug)]
pub struct NewestTraces {
    limit: usize,
    /// Starts of traces of which a chunk holds only a part.
    starts: HashMap<TraceId, i64>,
    /// Whether those are told to match later, when all their parts are there.
    apart: bool,
    newest: Mutex<BTreeSet<(i64, TraceId)>>,
}

impl NewestTraces {
    /// Keeps `limit` traces. `starts` are the starts (Unix nanoseconds) of traces in several parts; of the others it is what a
    /// chunk says.
    pub fn new(limit: usize, starts: HashMap<TraceId, i64>) -> Self {
        Self { limit, starts, apart: false, newest: Mutex::default() }
    }

    /// The same where it is not known of a trace in several parts whether it matches: it pushes out no other.
    #[must_use]
    pub fn with_parts_apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Number of traces that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes traces with a match, and says which of them may still be in the answer. Of traces that start at the same time
    /// all are kept.
    pub fn offer(&self, traces: impl Iterator<Item = (TraceId, i64)>) -> Vec<bool> {
        let mut newest = self.newest.lock();
        let starts: Vec<i64> = traces
            .map(|(id, stored)| {
                let start = self.start_of(id, stored);
                let apart = self.apart && self.starts.contains_key(&id);
                if !apart && !self.leaves_out(&newest, start) {
                    newest.insert((start, id));
                    if newest.len() > self.limit {
                        newest.pop_first();
                    }
                }
                start
            })
            .collect();
        // Those that came first may be too old by those that came later.
        starts.into_iter().map(|start| !self.leaves_out(&newest, start)).collect()
    }

    /// Whether a trace that starts then, by what is stored, cannot be in the answer any more.
    pub fn is_too_old(&self, (id, stored): (TraceId, i64)) -> bool {
        self.leaves_out(&self.newest.lock(), self.start_of(id, stored))
    }

    /// Whether no trace that starts at this time or before can be in the answer any more. A trace in several parts starts no
    /// later than any of them.
    pub fn are_too_old(&self, latest: i64) -> bool {
        self.leaves_out(&self.newest.lock(), latest)
    }

    fn start_of(&self, id: TraceId, stored: i64) -> i64 {
        self.starts.get(&id).copied().unwrap_or(stored)
    }

    fn leaves_out(&self, newest: &BTreeSet<(i64, TraceId)>, start: i64) -> bool {
        newest.len() >= self.limit && newest.first().is_none_or(|(oldest, _)| start < *oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_newest_is_left_out() {
        let id = |n: u8| TraceId([n; 16]);
        let newest = NewestTraces::new(2, HashMap::from([(id(9), 5)]));
        assert_eq!(newest.offer([(id(1), 10), (id(2), 20), (id(1), 10), (id(3), 9)].into_iter()), [true, true, true, false]);
        assert!(newest.are_too_old(9) && !newest.are_too_old(10));
        // The same start as the oldest, which a later one makes too old.
        assert_eq!(newest.offer([(id(4), 10)].into_iter()), [true]);
        assert_eq!(newest.offer([(id(4), 10), (id(5), 30), (id(1), 10)].into_iter()), [false, true, false]);
        assert!(newest.is_too_old((id(9), 100)) && !newest.is_too_old((id(8), 20)));
        assert_eq!(newest.offer([(id(9), 100)].into_iter()), [false]);
        let apart = NewestTraces::new(1, HashMap::from([(id(9), 50)])).with_parts_apart();
        assert_eq!(apart.offer([(id(9), 60), (id(1), 10), (id(9), 60), (id(2), 5)].into_iter()), [true, true, true, false]);
        assert_eq!(NewestTraces::new(0, HashMap::new()).offer([(id(1), 1)].into_iter()), [false]);
    }
}
