//! Which query runs now and which waits: a bounded number runs, each tenant waits in a queue of its own, tenants take turns.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tracehouse_engine::{
    TenantId, clock,
    error::{Error, ErrorKind, Result},
};

use crate::config::Config;

/// The gate before all queries of a process.
#[derive(Debug)]
pub struct Admission {
    running_max: usize,
    queued_max: usize,
    queued_max_per_tenant: usize,
    state: Mutex<State>,
    admitted: AtomicU64,
    rejected: AtomicU64,
    timed_out: AtomicU64,
    waited_nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    queued: usize,
    /// Queues that are not empty.
    queues: HashMap<TenantId, VecDeque<Waiter>>,
    /// The tenants of `queues`, the next one first.
    turns: VecDeque<TenantId>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    go: oneshot::Sender<Permit>,
}

/// What the gate has counted, and what stands before it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdmissionStats {
    /// Queries that run.
    pub running: usize,
    /// Queries that wait, by tenant; only tenants that have some.
    pub queued: Vec<(TenantId, usize)>,
    /// Queries that were let in.
    pub admitted: u64,
    /// Queries that were sent away because a queue was full.
    pub rejected: u64,
    /// Queries that took longer than they may, waiting or running.
    pub timed_out: u64,
    /// How long queries that were let in had waited, together.
    pub waited: Duration,
}

/// The right to run; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Option<Arc<Admission>>,
}

impl Admission {
    /// An open gate.
    pub fn new(config: &Config) -> Self {
        Self {
            running_max: config.max_concurrent_queries.max(1),
            queued_max: config.max_queued_queries,
            queued_max_per_tenant: config.max_queued_queries_per_tenant,
            state: Mutex::default(),
            admitted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
        }
    }

    /// Waits for the right to run, until `deadline`. Whoever drops the future leaves the queue.
    pub async fn admit(self: &Arc<Self>, tenant: &TenantId, deadline: Instant) -> Result<Permit> {
        let began = clock::now();
        let (mut place, go) = match self.enter(tenant)? {
            Entrance::Free(permit) => return Ok(self.let_in(permit, began)),
            Entrance::Queued(place, go) => (place, go),
        };
        let permit = match tokio::time::timeout_at(deadline, go).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Error::new(ErrorKind::Unavailable, "shutting down")),
            Err(_) => {
                self.count_timeout();
                let text = "query waited too long for its turn: ask less often, or raise sql.max_concurrent_queries";
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
        };
        place.left = true;
        Ok(self.let_in(permit, began))
    }

    fn let_in(&self, permit: Permit, began: std::time::Instant) -> Permit {
        self.admitted.fetch_add(1, Relaxed);
        self.waited_nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        permit
    }

    fn enter(self: &Arc<Self>, tenant: &TenantId) -> Result<Entrance> {
        let mut state = self.state();
        // A slot is handed over when it is given back, so a free one means that nobody waits.
        if state.running < self.running_max {
            state.running += 1;
            return Ok(Entrance::Free(Permit { admission: Some(self.clone()) }));
        }
        let waiting = state.queues.get(tenant).map_or(0, VecDeque::len);
        if waiting >= self.queued_max_per_tenant || state.queued >= self.queued_max {
            drop(state);
            self.rejected.fetch_add(1, Relaxed);
            let text = format!("job queue full: {waiting} queries of this tenant wait already: ask again later");
            return Err(Error::new(ErrorKind::TooMany, text));
        }
        let (go, gone) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        state.queued += 1;
        if waiting == 0 {
            state.turns.push_back(tenant.clone());
        }
        state.queues.entry(tenant.clone()).or_default().push_back(Waiter { id, go });
        Ok(Entrance::Queued(Place { admission: self.clone(), tenant: tenant.clone(), id, left: false }, gone))
    }

    /// Hands a slot to the next in turn, or frees it.
    fn give_back(self: Arc<Self>) {
        loop {
            let Some(next) = self.state().take_next() else { return };
            match next.go.send(Permit { admission: Some(self.clone()) }) {
                Ok(()) => return,
                // It left at this moment; the slot is still ours.
                Err(mut permit) => permit.admission = None,
            }
        }
    }

    /// Counts a query that took too long.
    pub fn count_timeout(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    /// The counters, and what waits now.
    pub fn stats(&self) -> AdmissionStats {
        let state = self.state();
        let mut queued: Vec<_> = state.queues.iter().map(|(t, q)| (t.clone(), q.len())).collect();
        queued.sort();
        AdmissionStats {
            running: state.running,
            queued,
            admitted: self.admitted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            waited: Duration::from_nanos(self.waited_nanos.load(Relaxed)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entrance {
    Free(Permit),
    Queued(Place, oneshot::Receiver<Permit>),
}

impl State {
    /// The first waiter of the tenant whose turn it is; if nobody waits, one query less runs.
    fn take_next(&mut self) -> Option<Waiter> {
        let Some(tenant) = self.turns.pop_front() else {
            self.running -= 1;
            return None;
        };
        let queue = self.queues.get_mut(&tenant)?;
        let waiter = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.queues.remove(&tenant)),
            false => self.turns.push_back(tenant),
        }
        self.queued -= 1;
        waiter
    }
}

/// A place in a queue; dropped, it is given up.
struct Place {
    admission: Arc<Admission>,
    tenant: TenantId,
    id: u64,
    left: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.admission.state();
        let Some(queue) = state.queues.get_mut(&self.tenant) else { return };
        let before = queue.len();
        queue.retain(|w| w.id != self.id);
        let (removed, empty) = (before - queue.len(), queue.is_empty());
        state.queued -= removed;
        if empty {
            state.queues.remove(&self.tenant);
            state.turns.retain(|t| *t != self.tenant);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::{FutureExt, future::BoxFuture, poll};

    use super::*;

    fn gate(running: usize, per_tenant: usize, all: usize) -> Arc<Admission> {
        Arc::new(Admission::new(&Config {
            max_concurrent_queries: running,
            max_queued_queries_per_tenant: per_tenant,
            max_queued_queries: all,
            ..Config::default()
        }))
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    /// A query of a tenant that stands in its queue.
    async fn waiting(gate: &Arc<Admission>, tenant: &'static str) -> BoxFuture<'static, (&'static str, Result<Permit>)> {
        let gate = gate.clone();
        let mut future = async move { (tenant, gate.admit(&tenant.parse().unwrap(), later()).await) }.boxed();
        assert!(poll!(&mut future).is_pending());
        future
    }

    #[tokio::test]
    async fn tenants_take_turns() {
        let gate = gate(1, 10, 100);
        let mut running = gate.admit(&TenantId::single(), later()).await.unwrap();
        let mut queue = Vec::new();
        for tenant in ["a", "a", "a", "b", "c", "b"] {
            queue.push(waiting(&gate, tenant).await);
        }
        assert_eq!(gate.stats().queued.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3, 2, 1]);
        let mut order = Vec::new();
        while !queue.is_empty() {
            drop(running);
            let mut next = None;
            for (i, future) in queue.iter_mut().enumerate() {
                if let Poll::Ready((tenant, permit)) = poll!(future) {
                    next = Some((i, tenant, permit.unwrap()));
                    break;
                }
            }
            let (i, tenant, permit) = next.expect("somebody goes on");
            drop(queue.remove(i));
            order.push(tenant);
            running = permit;
        }
        assert_eq!(order, ["a", "b", "c", "a", "b", "a"]);
        assert_eq!((gate.stats().running, gate.stats().admitted), (1, 7));
        drop(running);
        assert_eq!((gate.stats().running, gate.stats().queued), (0, vec![]));
    }

    #[tokio::test]
    async fn queues_are_bounded_by_tenant_and_in_all() {
        let gate = gate(1, 2, 3);
        let running = gate.admit(&TenantId::single(), later()).await.unwrap();
        let mut queue = vec![waiting(&gate, "a").await, waiting(&gate, "a").await];
        let full = gate.admit(&"a".parse().unwrap(), later()).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::TooMany);
        assert!(full.to_string().contains("job queue full"), "{full}");
        queue.push(waiting(&gate, "b").await);
        assert_eq!(gate.admit(&"c".parse().unwrap(), later()).await.unwrap_err().kind(), ErrorKind::TooMany);
        assert_eq!(gate.stats().rejected, 2);
        // Whoever leaves makes room, before and after it was its turn.
        drop(queue.remove(0));
        queue.push(waiting(&gate, "c").await);
        drop(running);
        assert_eq!(gate.stats().running, 1);
        queue.clear();
        assert_eq!((gate.stats().running, gate.stats().queued), (0, vec![]));
        gate.admit(&"a".parse().unwrap(), later()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline() {
        let gate = gate(1, 2, 2);
        let running = gate.admit(&TenantId::single(), later()).await.unwrap();
        let error = gate.admit(&TenantId::single(), Instant::now()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!((gate.stats().timed_out, gate.stats().queued), (1, vec![]));
        drop(running);
        assert_eq!(gate.stats().running, 0);
    }
}
