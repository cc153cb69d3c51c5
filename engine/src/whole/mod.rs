//! Traces in several parts: their spans lie in several blocks, or in blocks and among the live spans. What is stored of a
//! trace (root, times, tree) is that of the part beside it; here is what is true of the whole.
//!
//! ```text
//! ids of the traces of each block (parts: cached), ids of live traces
//!     -> ids that occur more than once
//!     -> their spans, as far as needed (rows) -> facts of the whole (derive)
//! ```

mod parts;
mod rows;

use std::collections::{HashMap, HashSet};

pub(crate) use parts::PartsCache;

use crate::{
    Engine, Snapshot,
    derive::{TraceFacts, TreePosition},
    error::Result,
    tenant::TenantId,
};

/// Which span of a trace a row is: id, kind, start, and its `nested_set_left` as stored (two copies of a span in one part
/// differ in that).
pub type SpanKey<'a> = (&'a str, i32, i64, i32);

/// What is true of the traces in several parts, by trace id (32 hex digits).
#[derive(Debug, Default)]
pub struct WholeTraces {
    traces: HashMap<String, WholeTrace>,
    unnumbered: bool,
}

/// A trace in several parts.
#[derive(Debug, Default)]
pub struct WholeTrace {
    /// Facts of the whole; its list of spans is empty, see [`WholeTrace::place`].
    pub facts: TraceFacts,
    /// Start of the part that starts last, Unix nanoseconds.
    pub last_part_start: i64,
    /// End of the part that ends first, Unix nanoseconds.
    pub first_part_end: i64,
    /// Whether the whole has a root and yet no numbers: too many spans share an id.
    unnumbered: bool,
    places: HashMap<String, Vec<(i32, i64, i32, TreePosition)>>,
}

impl WholeTrace {
    /// Earliest start of a span, Unix nanoseconds.
    pub fn start(&self) -> i64 {
        self.facts.start_unix_nanos as i64
    }

    /// Latest end of a span, Unix nanoseconds.
    pub fn end(&self) -> i64 {
        self.facts.end_unix_nanos as i64
    }

    /// The place of a span in the tree of the whole trace.
    pub fn place(&self, (id, kind, start, left): SpanKey<'_>) -> Option<TreePosition> {
        let same_id = self.places.get(id)?;
        let same = || same_id.iter().filter(|(k, s, ..)| *k == kind && *s == start);
        let exact = same().find(|(_, _, l, _)| *l == left);
        exact.or_else(|| same().next()).map(|(.., place)| *place)
    }
}

impl WholeTraces {
    /// The trace with this id, if it is in several parts.
    pub fn get(&self, id: &str) -> Option<&WholeTrace> {
        self.traces.get(id)
    }

    /// Whether one of them has a root, and yet its tree cannot be numbered as a whole.
    pub fn has_unnumbered(&self) -> bool {
        self.unnumbered
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WholeTrace)> {
        self.traces.iter().map(|(id, trace)| (id.as_str(), trace))
    }

    /// Ids of the traces that overlap a range (Unix nanoseconds, inclusive) although one of their parts does not.
    pub fn reaching_into(&self, (from, to): (i64, i64)) -> Vec<&str> {
        let reaches = |t: &WholeTrace| t.start() <= to && t.end() >= from && (t.last_part_start > to || t.first_part_end < from);
        let mut ids: Vec<&str> = self.iter().filter(|(_, t)| reaches(t)).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// A range widened so that it overlaps all parts of the traces [reaching into](Self::reaching_into) it.
    pub fn widened(&self, range: (i64, i64)) -> (i64, i64) {
        let reaching = self.reaching_into(range);
        let traces = || reaching.iter().filter_map(|id| self.get(id));
        let start = traces().map(WholeTrace::start).min().unwrap_or(range.0);
        let end = traces().map(WholeTrace::end).max().unwrap_or(range.1);
        (start.min(range.0), end.max(range.1))
    }
}

impl Engine {
    /// The traces of a tenant that are in several parts; `None` if there are none. Looks into the blocks that overlap `range`
    /// (Unix nanoseconds, inclusive; `None`: all), or lie within the setting `trace_parts_seconds` of it, and the live spans.
    /// `snapshot` is what the query reads.
    pub async fn whole_traces(
        &self,
        tenant: &TenantId,
        snapshot: &Snapshot,
        range: Option<(i64, i64)>,
    ) -> Result<Option<std::sync::Arc<WholeTraces>>> {
        let reach = (self.config().trace_parts_seconds.min(u64::from(u32::MAX)) as i64) * 1_000_000_000;
        let range = range.map(|(from, to)| (from.saturating_sub(reach), to.saturating_add(reach)));
        let overlaps = |m: &&std::sync::Arc<crate::block::BlockMeta>| {
            range.is_none_or(|(from, to)| (m.start_time.as_nanosecond() as i64) <= to && (m.end_time.as_nanosecond() as i64) >= from)
        };
        let blocks: Vec<_> = snapshot.blocks.iter().filter(overlaps).cloned().collect();
        if blocks.len() < 2 && snapshot.live.iter().all(|segment| segment.traces.is_empty()) {
            return Ok(None);
        }
        let stored = self.parts().of_blocks(self, tenant, &blocks).await?;
        let mut live: HashMap<u128, usize> = HashMap::new();
        let mut split: HashSet<u128> = stored.split.clone();
        for trace in snapshot.live.iter().flat_map(|s| &s.traces) {
            let id = u128::from_be_bytes(trace.id.0);
            let spans = live.entry(id).or_default();
            if *spans > 0 || stored.has(id) {
                split.insert(id);
            }
            *spans += trace.span_count();
        }
        if split.is_empty() {
            return Ok(None);
        }
        // Live traces only grow, so the number of spans says which state of it this is.
        let mut changing: Vec<(u128, usize)> = live.into_iter().filter(|(id, _)| split.contains(id)).collect();
        changing.sort_unstable();
        if let Some(known) = self.parts().whole(tenant, &stored, &changing) {
            return Ok(Some(known));
        }
        let rows = rows::read(self, tenant, &blocks, &stored, &snapshot.live, &split).await?;
        let traces: HashMap<String, WholeTrace> = rows.into_iter().map(|(id, rows)| (id, rows::whole(rows))).collect();
        let unnumbered = traces.values().any(|t| t.unnumbered);
        let whole = std::sync::Arc::new(WholeTraces { traces, unnumbered });
        self.parts().remember(tenant, &stored, changing, whole.clone());
        Ok(Some(whole))
    }
}

#[cfg(test)]
mod tests;
