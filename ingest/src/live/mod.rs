//! The live spans: acked, durable in the log, not in a committed block yet. Readers take snapshots of them.

mod generation;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tracehouse_engine::{
    TenantId, Trace, TraceId,
    scan::{LiveSegment, LiveSpans},
};
use uuid::Uuid;

pub(crate) use generation::{CarryRules, Generation};

use crate::config::Config;

/// The live spans of all tenants. Made before the engine, which reads it; filled by the `Ingester`.
pub struct LiveStore {
    tenants: RwLock<HashMap<TenantId, Arc<TenantLive>>>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    traces: Arc<AtomicUsize>,
}

impl LiveStore {
    /// An empty store with the bounds of `config`.
    pub fn new(config: &Config) -> Arc<Self> {
        let budget_bytes = config.max_live_bytes.min(Semaphore::MAX_PERMITS);
        Arc::new(Self { tenants: RwLock::default(), budget: Arc::new(Semaphore::new(budget_bytes)), budget_bytes, traces: Arc::default() })
    }

    /// Bytes (as OTLP protobuf) of all live spans and of requests on their way to them.
    pub fn live_bytes(&self) -> usize {
        self.budget_bytes - self.budget.available_permits()
    }

    /// Number of traces with live spans; one whose spans lie in several segments counts in each.
    pub fn live_traces(&self) -> usize {
        self.traces.load(Ordering::Relaxed)
    }

    pub(crate) fn budget(&self) -> &Arc<Semaphore> {
        &self.budget
    }

    pub(crate) fn tenant(&self, tenant: &TenantId) -> Arc<TenantLive> {
        if let Some(live) = self.tenants.read().get(tenant) {
            return live.clone();
        }
        let mut tenants = self.tenants.write();
        let new = || Arc::new(TenantLive::new(self.budget.clone(), self.traces.clone()));
        tenants.entry(tenant.clone()).or_insert_with(new).clone()
    }

    /// The tenant with the most bytes that are not in a sealed segment yet.
    pub(crate) fn largest(&self) -> Option<(TenantId, usize)> {
        let tenants = self.tenants.read();
        tenants.iter().map(|(t, live)| (t.clone(), live.state.read().active.bytes())).max_by_key(|(_, bytes)| *bytes)
    }
}

impl fmt::Debug for LiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveStore").field("bytes", &self.live_bytes()).field("traces", &self.live_traces()).finish_non_exhaustive()
    }
}

impl LiveSpans for LiveStore {
    fn snapshot(&self, tenant: &TenantId) -> Vec<LiveSegment> {
        let live = self.tenants.read().get(tenant).cloned();
        live.map(|l| l.snapshot()).unwrap_or_default()
    }

    fn tenants(&self) -> Vec<TenantId> {
        let tenants = self.tenants.read();
        tenants.iter().filter(|(_, live)| live.state.read().has_spans()).map(|(t, _)| t.clone()).collect()
    }
}

/// The live spans of one tenant. One writer, many readers.
pub(crate) struct TenantLive {
    state: RwLock<State>,
    budget: Arc<Semaphore>,
    traces: Arc<AtomicUsize>,
    /// Counts segments that were dropped, for those who wait for it.
    dropped: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    active: Generation,
    sealed: Vec<Sealed>,
}

struct Sealed {
    block: Uuid,
    traces: Vec<Arc<Trace>>,
    charged: usize,
}

impl State {
    fn has_spans(&self) -> bool {
        !self.active.is_empty() || !self.sealed.is_empty()
    }
}

/// How large the active generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub traces: usize,
    pub bytes: usize,
}

impl TenantLive {
    fn new(budget: Arc<Semaphore>, traces: Arc<AtomicUsize>) -> Self {
        Self { state: RwLock::default(), budget, traces, dropped: watch::Sender::new(0) }
    }

    fn snapshot(&self) -> Vec<LiveSegment> {
        // One lock for all segments: a seal moves traces from one to another.
        let state = self.state.read();
        let mut segments = Vec::with_capacity(state.sealed.len() + 1);
        if !state.active.is_empty() {
            segments.push(LiveSegment { block_id: None, traces: state.active.traces().cloned().collect() });
        }
        segments.extend(state.sealed.iter().map(|s| LiveSegment { block_id: Some(s.block), traces: s.traces.clone() }));
        segments
    }

    /// Adds the parts of a request. The permit's bytes stay charged until their segment is dropped.
    pub fn insert(&self, parts: Vec<Trace>, bytes: usize, permit: Option<OwnedSemaphorePermit>, now: Instant) {
        let charged = permit.map_or(0, |p| {
            let n = p.num_permits();
            p.forget();
            n
        });
        let mut state = self.state.write();
        let before = state.active.len();
        state.active.insert(parts, bytes, charged, now);
        self.traces.fetch_add(state.active.len() - before, Ordering::Relaxed);
    }

    /// How large the active generation is.
    pub fn active_size(&self) -> Size {
        let state = self.state.read();
        Size { traces: state.active.len(), bytes: state.active.bytes() }
    }

    /// How many sealed segments wait to be committed.
    pub fn sealed_count(&self) -> usize {
        self.state.read().sealed.len()
    }

    /// The traces that should not go into a block yet.
    pub fn to_carry(&self, rules: &CarryRules, now: Instant) -> Vec<Arc<Trace>> {
        self.state.read().active.to_carry(rules, now)
    }

    /// Makes all active traces but the carried ones the segment of a block, and returns them. Empty: nothing was sealed.
    pub fn seal(&self, block: Uuid, carried: &HashSet<TraceId>) -> Vec<Arc<Trace>> {
        let mut state = self.state.write();
        let (traces, charged) = state.active.split_off(carried);
        if traces.is_empty() {
            self.budget.add_permits(charged);
        } else {
            state.sealed.push(Sealed { block, traces: traces.clone(), charged });
        }
        traces
    }

    /// Puts back a segment that was sealed before a restart.
    pub fn restore(&self, block: Uuid, generation: Generation) -> Vec<Arc<Trace>> {
        let traces: Vec<_> = generation.traces().cloned().collect();
        self.traces.fetch_add(traces.len(), Ordering::Relaxed);
        self.state.write().sealed.push(Sealed { block, traces: traces.clone(), charged: generation.charged() });
        traces
    }

    /// Puts back what was active before a restart.
    pub fn restore_active(&self, generation: Generation) {
        self.traces.fetch_add(generation.len(), Ordering::Relaxed);
        self.state.write().active = generation;
    }

    /// Charges replayed bytes as far as there is room, for what was acked is taken back in any case. Returns how many.
    pub fn charge(&self, bytes: usize) -> usize {
        let bytes = bytes.min(self.budget.available_permits()).min(u32::MAX as usize);
        self.budget.try_acquire_many(bytes as u32).map_or(0, |permit| {
            permit.forget();
            bytes
        })
    }

    /// Drops the segment of a committed block.
    pub fn drop_sealed(&self, block: Uuid) {
        let mut state = self.state.write();
        if let Some(at) = state.sealed.iter().position(|s| s.block == block) {
            let sealed = state.sealed.swap_remove(at);
            drop(state);
            self.traces.fetch_sub(sealed.traces.len(), Ordering::Relaxed);
            self.budget.add_permits(sealed.charged);
        }
        self.dropped.send_modify(|n| *n += 1);
    }

    /// Blocks that are sealed and not committed.
    pub fn sealed_blocks(&self) -> Vec<Uuid> {
        self.state.read().sealed.iter().map(|s| s.block).collect()
    }

    /// Returns when none of these blocks waits to be committed.
    pub async fn committed(&self, blocks: &[Uuid]) {
        let mut dropped = self.dropped.subscribe();
        while self.sealed_blocks().iter().any(|b| blocks.contains(b)) {
            if dropped.changed().await.is_err() {
                return;
            }
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

    fn spans(store: &LiveStore) -> Vec<(Option<Uuid>, usize)> {
        let snapshot = store.snapshot(&TenantId::single());
        snapshot.iter().map(|s| (s.block_id, s.traces.iter().map(|t| t.span_count()).sum())).collect()
    }

    #[tokio::test]
    async fn a_segment_goes_from_active_to_sealed_to_gone() {
        let store = LiveStore::new(&Config { max_live_bytes: 1000, ..Config::default() });
        let live = store.tenant(&TenantId::single());
        assert!(store.tenants().is_empty());
        let now = Instant::now();
        let insert = |request, bytes: usize| {
            let permit = store.budget().clone().try_acquire_many_owned(bytes as u32).unwrap();
            live.insert(split_by_trace(request), bytes, Some(permit), now)
        };
        insert(request("a", [span(1, 1), span(2, 2)]), 100);
        insert(request("a", [span(1, 3)]), 100);
        assert_eq!((store.live_bytes(), store.live_traces()), (200, 2));
        let before = store.snapshot(&TenantId::single());
        let carried = HashSet::from([TraceId::from_slice(&span(2, 0).trace_id).unwrap()]);
        let block = Uuid::from_u128(1);
        assert_eq!(live.seal(block, &carried).len(), 1);
        assert_eq!(spans(&store), [(None, 1), (Some(block), 2)]);
        // The trace that was handed out before does not change.
        insert(request("a", [span(2, 9)]), 50);
        assert_eq!(before[0].traces.iter().map(|t| t.span_count()).sum::<usize>(), 3);
        assert_eq!(live.sealed_blocks(), [block]);
        live.drop_sealed(block);
        live.committed(&[block]).await;
        assert_eq!(spans(&store), [(None, 2)]);
        assert_eq!((store.live_bytes(), store.live_traces()), (100, 1));
        live.seal(block, &HashSet::new());
        live.drop_sealed(block);
        assert_eq!((store.live_bytes(), store.live_traces()), (0, 0));
        assert!(store.tenants().is_empty());
    }
}
