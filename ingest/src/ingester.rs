//! The write path as the receivers and the process hold it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::RwLock;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracehouse_engine::{Engine, Error, ErrorKind, Result, TenantId, Trace};
use uuid::Uuid;

use crate::{
    config::Config,
    distributor::split_by_trace,
    flush::{BlockCommitter, FlushJob, Flusher},
    live::{Generation, LiveStore, TenantLive},
    otlp::validate::{self, Verdict},
    stats::{DiscardReason, Stats, StatsSnapshot, add},
    wal::{DiskIo, Manifest, WalIo, append::segment_path, replay, replay::CarriedOver, segment},
    writer::{self, Command, PushJob, Writer},
};

/// Requests larger than this are encoded away from the threads that serve connections.
const LARGE_REQUEST_BYTES: usize = 256 << 10;

/// Takes spans, keeps them safe, makes blocks of them.
#[derive(Debug)]
pub struct Ingester {
    config: Arc<Config>,
    live: Arc<LiveStore>,
    io: Arc<dyn WalIo>,
    wal_folder: PathBuf,
    tenants: RwLock<HashMap<TenantId, Handle>>,
    flusher: Arc<Flusher>,
    /// Set from outside: no more pushes.
    shutdown: CancellationToken,
    stopping: AtomicBool,
    /// Ends the background tasks.
    stop: CancellationToken,
    tracker: TaskTracker,
}

#[derive(Clone, Debug)]
struct Handle {
    commands: mpsc::Sender<Command>,
    stats: Arc<Stats>,
}

/// What became of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOutcome {
    /// Spans that are durable and visible now.
    pub accepted_spans: usize,
    /// Spans that were refused.
    pub rejected_spans: usize,
    /// Why the first of them was refused.
    pub message: Option<String>,
}

impl Ingester {
    /// Replays the log in `wal_folder` (`<data folder>/wal`, created if need be) into `live`, which must be empty, and
    /// starts taking spans. The caller holds the folder's [`DataDirLock`](crate::wal::DataDirLock). Blocks that were sealed
    /// before the last stop are committed in the background; the store need not answer for this to succeed.
    ///
    /// When `shutdown` is cancelled, pushes are refused; call [`shutdown`](Self::shutdown) then.
    pub async fn start(
        config: Config,
        wal_folder: &Path,
        live: Arc<LiveStore>,
        engine: Arc<Engine>,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>> {
        Self::start_with(config, wal_folder, live, engine, Arc::new(DiskIo), shutdown).await
    }

    /// The same with another maker of blocks and another disk.
    pub async fn start_with(
        config: Config,
        wal_folder: &Path,
        live: Arc<LiveStore>,
        committer: Arc<dyn BlockCommitter>,
        io: Arc<dyn WalIo>,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>> {
        config.validate()?;
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let flusher = Arc::new(Flusher::new(&config, committer, io.clone(), stop.clone(), tracker.clone()));
        let this = Arc::new(Self {
            config: Arc::new(config),
            live,
            io,
            wal_folder: wal_folder.to_owned(),
            tenants: RwLock::default(),
            flusher,
            shutdown,
            stopping: AtomicBool::new(false),
            stop,
            tracker,
        });
        let replaying = this.clone();
        let runtime = tokio::runtime::Handle::current();
        let replayed = tokio::task::spawn_blocking(move || {
            let _runtime = runtime.enter();
            replaying.replay()
        });
        replayed.await.map_err(|e| Error::internal("replaying the write-ahead log failed").with_source(e))??;
        Ok(this)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The live spans.
    pub fn live(&self) -> &Arc<LiveStore> {
        &self.live
    }

    /// Counters by tenant.
    pub fn stats(&self) -> Vec<(TenantId, StatsSnapshot)> {
        let mut all: Vec<_> = self.tenants.read().iter().map(|(t, h)| (t.clone(), h.stats.snapshot())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Fails with `Unavailable` once the shutdown has begun.
    pub fn check_accepting(&self) -> Result<()> {
        match self.shutdown.is_cancelled() || self.stopping.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, "shutting down: send the spans to another instance, or again later")),
            false => Ok(()),
        }
    }

    /// Takes a request of `encoded_len` bytes (as OTLP protobuf). When this returns `Ok`, the accepted spans are synced to
    /// the log and visible to queries. Dropping the future does not take the request back.
    ///
    /// Errors: `Invalid` (no span is valid), `TooMany` (a bound is reached; try again), `TooLarge`, `Unavailable` (shutting
    /// down, or the log cannot be written). After an error no span of the request is visible.
    pub async fn push(&self, tenant: &TenantId, request: ExportTraceServiceRequest, encoded_len: usize) -> Result<PushOutcome> {
        self.check_accepting()?;
        let handle = self.handle(tenant)?;
        let stats = &handle.stats;
        let prepared = self.prepare(request, encoded_len).await?;
        let verdict = &prepared.verdict;
        add(&stats.requests, 1);
        add(&stats.received_bytes, encoded_len);
        add(&stats.received_spans, verdict.accepted + verdict.rejected());
        stats.discard(DiscardReason::InvalidTraceId, verdict.bad_trace_ids);
        stats.discard(DiscardReason::InvalidSpanId, verdict.bad_span_ids);
        stats.truncated.iter().zip(prepared.truncated).for_each(|(counter, n)| add(counter, n));
        let outcome = PushOutcome { accepted_spans: verdict.accepted, rejected_spans: verdict.rejected(), message: verdict.message() };
        match outcome.message {
            _ if outcome.accepted_spans > 0 => {}
            Some(message) => return Err(Error::invalid(message)),
            None => return Ok(outcome),
        }
        let taken = self.append(&handle, prepared).await;
        taken.inspect_err(|e| {
            let reason = if e.kind() == ErrorKind::Unavailable { DiscardReason::LogFailed } else { DiscardReason::LiveLimit };
            stats.discard(reason, outcome.accepted_spans);
        })?;
        Ok(outcome)
    }

    async fn prepare(&self, request: ExportTraceServiceRequest, encoded_len: usize) -> Result<Prepared> {
        let max_attribute_bytes = self.config.max_attribute_bytes;
        if encoded_len <= LARGE_REQUEST_BYTES {
            return Ok(Prepared::new(request, max_attribute_bytes));
        }
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(request, max_attribute_bytes));
        prepared.await.map_err(|e| Error::internal("a request could not be encoded").with_source(e))
    }

    async fn append(&self, handle: &Handle, prepared: Prepared) -> Result<()> {
        let deadline = Instant::now() + self.config.push_wait();
        let permit = self.room(prepared.record.len(), deadline).await?;
        let (done, taken) = oneshot::channel();
        let job = PushJob { record: prepared.record, parts: prepared.parts, permit, done };
        let full = |_| Error::new(ErrorKind::TooMany, "the queue of the write-ahead log is full: send less, or raise wal_queue_requests");
        let slot = tokio::time::timeout_at(deadline, handle.commands.reserve()).await.map_err(full)?;
        slot.map_err(|_| stopped())?.send(Command::Push(job));
        taken.await.map_err(|_| stopped())?
    }

    /// Waits for room among the live spans.
    async fn room(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        let config = &self.config;
        if self.live.live_traces() >= config.max_live_traces {
            self.relieve();
            let text = format!("{} traces are live already: send less, or raise max_live_traces", self.live.live_traces());
            return Err(Error::new(ErrorKind::TooMany, text));
        }
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= config.max_live_bytes);
        let permits = permits.ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, format!("the request has {bytes} bytes, more than max_live_bytes ({})", config.max_live_bytes))
        })?;
        if let Ok(permit) = self.live.budget().clone().try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        self.relieve();
        let room = tokio::time::timeout_at(deadline, self.live.budget().clone().acquire_many_owned(permits)).await;
        match room {
            Ok(permit) => permit.map_err(|_| stopped()),
            Err(_) => Err(Error::new(
                ErrorKind::TooMany,
                format!("live spans have {} bytes, max_live_bytes is {}: send less", self.live.live_bytes(), config.max_live_bytes),
            )),
        }
    }

    /// Makes a block of the largest active generation when live spans are at their bound, unless it would be a tiny one.
    fn relieve(&self) {
        let Some((tenant, bytes)) = self.live.largest() else { return };
        if bytes >= self.config.max_block_bytes / 8
            && let Some(handle) = self.tenants.read().get(&tenant)
        {
            handle.commands.try_send(Command::Roll { reply: None }).ok();
        }
    }

    /// Makes blocks of all live spans of a tenant, or of all tenants, and returns when they are committed.
    ///
    /// Errors: `NotFound` (the tenant never sent a span), `Unavailable` (not committed after `flush_wait_ms`; the spans stay
    /// live and in the log, and the tries go on).
    pub async fn flush(&self, tenant: Option<&TenantId>) -> Result<()> {
        let handles: Vec<(TenantId, Handle)> = {
            let tenants = self.tenants.read();
            match tenant {
                Some(tenant) => {
                    let unknown = || Error::new(ErrorKind::NotFound, format!("tenant {tenant} has no live spans"));
                    vec![(tenant.clone(), tenants.get(tenant).cloned().ok_or_else(unknown)?)]
                }
                None => tenants.iter().map(|(t, h)| (t.clone(), h.clone())).collect(),
            }
        };
        let all = join_all(handles.iter().map(|(tenant, handle)| self.flush_tenant(tenant, handle)));
        match tokio::time::timeout(Duration::from_millis(self.config.flush_wait_ms), all).await {
            Ok(results) => results.into_iter().collect(),
            Err(_) => {
                let why = self.flusher.last_error().map_or(String::new(), |e| format!("; last error: {e}"));
                let text = format!("blocks not committed after {} ms, still trying{why}", self.config.flush_wait_ms);
                Err(Error::new(ErrorKind::Unavailable, text))
            }
        }
    }

    async fn flush_tenant(&self, tenant: &TenantId, handle: &Handle) -> Result<()> {
        let (reply, rolled) = oneshot::channel();
        handle.commands.send(Command::Roll { reply: Some(reply) }).await.map_err(|_| stopped())?;
        let blocks: Vec<Uuid> = rolled.await.map_err(|_| stopped())?.map_err(|e| e.context(format!("tenant {tenant}")))?;
        self.live.tenant(tenant).committed(&blocks).await;
        Ok(())
    }

    /// Stops: refuses pushes, makes blocks of what is live for at most `shutdown_flush_ms`, and ends the background tasks.
    /// What is not in a block then is in the log and comes back with the next start: nothing acked is lost.
    pub async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let bound = Duration::from_millis(self.config.shutdown_flush_ms);
        match tokio::time::timeout(bound, self.flush(None)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "not everything is in blocks; the write-ahead log keeps the rest"),
            Err(_) => tracing::warn!("not everything is in blocks in time; the write-ahead log keeps the rest"),
        }
        self.stop.cancel();
        self.tenants.write().clear();
        self.tracker.close();
        if tokio::time::timeout(bound.max(Duration::from_secs(1)), self.tracker.wait()).await.is_err() {
            tracing::warn!("background tasks of the write path do not end");
        }
    }

    fn handle(&self, tenant: &TenantId) -> Result<Handle> {
        if let Some(handle) = self.tenants.read().get(tenant) {
            return Ok(handle.clone());
        }
        let mut tenants = self.tenants.write();
        if let Some(handle) = tenants.get(tenant) {
            return Ok(handle.clone());
        }
        // Checked again under the lock: `shutdown` clears the map after it stopped accepting.
        self.check_accepting()?;
        if tenants.len() >= self.config.max_tenants {
            let text = format!("{} tenants have sent spans already: raise max_tenants", tenants.len());
            return Err(Error::new(ErrorKind::TooMany, text));
        }
        let handle = self.spawn_writer(tenant, self.live.tenant(tenant), Arc::default(), Vec::new(), 1);
        tenants.insert(tenant.clone(), handle.clone());
        Ok(handle)
    }

    fn spawn_writer(&self, tenant: &TenantId, live: Arc<TenantLive>, stats: Arc<Stats>, segments: Vec<u64>, next_number: u64) -> Handle {
        let (commands, queue) = mpsc::channel(self.config.wal_queue_requests);
        let writer = Writer {
            tenant: tenant.clone(),
            folder: self.wal_folder.join(tenant.as_str()),
            io: self.io.clone(),
            config: self.config.clone(),
            opened: (live.active_size().traces > 0).then(Instant::now),
            live,
            stats: stats.clone(),
            flusher: self.flusher.clone(),
            segment: None,
            segments,
            next_number,
            roll_after: None,
        };
        self.tracker.spawn(writer::run(writer, queue));
        Handle { commands, stats }
    }

    fn replay(&self) -> Result<()> {
        std::fs::create_dir_all(&self.wal_folder)
            .map_err(|e| Error::from(e).context(format!("cannot create {}", self.wal_folder.display())))?;
        for (tenant, folder) in replay::tenants(&self.wal_folder)? {
            self.replay_tenant(&tenant, &folder).map_err(|e| e.context(format!("write-ahead log of tenant {tenant}")))?;
        }
        Ok(())
    }

    fn replay_tenant(&self, tenant: &TenantId, folder: &Path) -> Result<()> {
        let log = replay::scan(folder)?;
        let (live, stats) = (self.live.tenant(tenant), Arc::<Stats>::default());
        for manifest in log.sealed {
            let (generation, _) = self.replay_segments(&live, folder, &manifest.segments, &manifest)?;
            if generation.is_empty() {
                // Its segments were deleted already, as those of a committed block are, or nothing in them could be read.
                replay::remove_sealed(self.io.as_ref(), folder, &manifest)?;
                continue;
            }
            let traces = live.restore(manifest.block, generation);
            let (tenant, live, stats, folder) = (tenant.clone(), live.clone(), stats.clone(), folder.to_owned());
            self.flusher.spawn(FlushJob { tenant, live, stats, folder, manifest, traces, tried: true });
        }
        let no_block = Manifest { block: Uuid::nil(), segments: Vec::new(), carried: Vec::new() };
        let (generation, spans) = self.replay_segments(&live, folder, &log.active, &no_block)?;
        let mut segments = log.active;
        if generation.is_empty() {
            replay::remove_segments(self.io.as_ref(), folder, &segments)?;
            segments.clear();
        }
        tracing::info!(%tenant, traces = generation.len(), spans, segments = segments.len(), "write-ahead log replayed");
        live.restore_active(generation);
        let handle = self.spawn_writer(tenant, live, stats, segments, log.next_number);
        self.tenants.write().insert(tenant.clone(), handle);
        Ok(())
    }

    /// The spans of some segments but those of carried traces, and how many there were with repeated ones.
    fn replay_segments(&self, live: &TenantLive, folder: &Path, segments: &[u64], manifest: &Manifest) -> Result<(Generation, usize)> {
        let (mut generation, mut spans, now) = (Generation::default(), 0, Instant::now());
        let carried = manifest.carried.iter().collect::<std::collections::HashSet<_>>();
        let mut carried_over = CarriedOver::default();
        for number in segments {
            let path = segment_path(folder, *number);
            if !path.exists() {
                continue;
            }
            replay::read_segment(&path, &mut |request, bytes| {
                let mut parts = split_by_trace(request);
                parts.retain(|p| !carried.contains(&p.id));
                spans += parts.iter().map(Trace::span_count).sum::<usize>();
                if segments.len() > 1 {
                    parts.iter_mut().for_each(|p| carried_over.drop_from(p, *number));
                    parts.retain(|p| !p.resource_spans.is_empty());
                }
                generation.insert(parts, bytes, live.charge(bytes), now);
            })?;
        }
        Ok((generation, spans))
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the write path has stopped: send the spans to another instance, or again later")
}

/// A request ready for the log and the live spans.
struct Prepared {
    verdict: Verdict,
    truncated: [usize; 5],
    record: Vec<u8>,
    parts: Vec<Trace>,
}

impl Prepared {
    fn new(mut request: ExportTraceServiceRequest, max_attribute_bytes: usize) -> Self {
        let verdict = validate::validate(&mut request);
        let truncated = validate::truncate(&mut request, max_attribute_bytes);
        let mut record = Vec::new();
        if verdict.accepted > 0 {
            record.reserve_exact(request.encoded_len() + segment::RECORD_HEADER_BYTES);
            segment::frame_with(&mut record, |out| request.encode_raw(out));
        }
        Self { verdict, truncated, record, parts: split_by_trace(request) }
    }
}

#[cfg(test)]
mod tests;
