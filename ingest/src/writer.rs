//! The one writer of a tenant: appends what waits to the log, syncs once, makes it live, acks; and decides when live spans
//! become a block. It owns the tenant's open segment, so nothing else needs a lock.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};
use tracehouse_engine::{Error, ErrorKind, Result, TenantId, Trace, TraceId, block::BlockMeta};
use uuid::Uuid;

use crate::{
    config::Config,
    flush::{FlushJob, Flusher},
    live::{CarryRules, TenantLive},
    stats::{Stats, add},
    wal::{Manifest, SegmentWriter, WalIo, append, segment},
};

/// Carried traces are written in records of about this size.
const CARRY_RECORD_BYTES: usize = 4 << 20;
/// After a roll that could not be done, appends do not try again for so long.
const ROLL_PAUSE: Duration = Duration::from_secs(1);

/// What a writer is asked to do.
pub(crate) enum Command {
    /// Take a request.
    Push(PushJob),
    /// Make a block of what is live. Answers with the blocks that wait to be committed.
    Roll { reply: Option<oneshot::Sender<Result<Vec<Uuid>>>> },
}

/// A request on its way.
pub(crate) struct PushJob {
    /// The framed record.
    pub record: Vec<u8>,
    /// The same spans, by trace.
    pub parts: Vec<Trace>,
    /// Room for them among the live spans.
    pub permit: OwnedSemaphorePermit,
    /// Told when they are durable and live.
    pub done: oneshot::Sender<Result<()>>,
}

/// State of a tenant's writer.
pub(crate) struct Writer {
    pub tenant: TenantId,
    pub folder: PathBuf,
    pub io: Arc<dyn WalIo>,
    pub config: Arc<Config>,
    pub live: Arc<TenantLive>,
    pub stats: Arc<Stats>,
    pub flusher: Arc<Flusher>,
    /// The segment that is appended to; made when the first record comes.
    pub segment: Option<SegmentWriter>,
    /// Segments of the active generation, the open one included.
    pub segments: Vec<u64>,
    pub next_number: u64,
    /// When the first span of the active generation came.
    pub opened: Option<Instant>,
    /// Appends do not roll before this.
    pub roll_after: Option<Instant>,
}

/// Runs a writer until all senders are gone. Ends early only when the writer panicked; pushes are refused then.
pub(crate) async fn run(mut writer: Writer, mut commands: mpsc::Receiver<Command>) {
    let batch_bytes = writer.config.wal_batch_bytes;
    let mut held = None;
    loop {
        let command = match held.take() {
            Some(command) => command,
            None => tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => command,
                    None => return,
                },
                () = writer.is_old() => Command::Roll { reply: None },
            },
        };
        let work = match command {
            Command::Push(first) => {
                let (mut jobs, mut bytes) = (Vec::from([first]), 0);
                while bytes < batch_bytes {
                    match commands.try_recv() {
                        Ok(Command::Push(job)) => {
                            bytes += job.record.len();
                            jobs.push(job);
                        }
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                Work::Append(jobs)
            }
            Command::Roll { reply } => Work::Roll(reply),
        };
        let done = tokio::task::spawn_blocking(move || {
            writer.work(work);
            writer
        });
        writer = match done.await {
            Ok(writer) => writer,
            Err(e) => {
                tracing::error!(error = %e, "the writer of a tenant stopped; its acked spans are in the log and live after a restart");
                return;
            }
        };
    }
}

enum Work {
    Append(Vec<PushJob>),
    Roll(Option<oneshot::Sender<Result<Vec<Uuid>>>>),
}

impl Writer {
    /// Returns when the active generation should become a block because of its age.
    async fn is_old(&self) {
        match self.opened {
            Some(opened) => tokio::time::sleep_until(opened + Duration::from_millis(self.config.max_block_duration_ms)).await,
            None => std::future::pending().await,
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Append(jobs) => {
                self.append(jobs);
                let size = self.live.active_size();
                let large = size.bytes >= self.config.max_block_bytes || size.traces >= self.config.max_block_traces;
                if large && self.roll_after.is_none_or(|at| at <= Instant::now()) {
                    self.roll_or_wait();
                }
            }
            Work::Roll(None) => self.roll_or_wait(),
            Work::Roll(Some(reply)) => {
                let rolled = self.roll(true).map(|()| self.live.sealed_blocks());
                reply.send(rolled).ok();
            }
        }
    }

    /// Rolls without being asked: a failure is logged, and the spans stay live and in the log until the next try.
    fn roll_or_wait(&mut self) {
        if let Err(e) = self.roll(false) {
            tracing::warn!(tenant = %self.tenant, error = %e, "live spans not sealed");
            let now = Instant::now();
            self.roll_after = Some(now + ROLL_PAUSE);
            self.opened = self.opened.map(|_| now);
        }
    }

    /// Group commit: all jobs share one write and one sync.
    fn append(&mut self, jobs: Vec<PushJob>) {
        let records: Vec<&[u8]> = jobs.iter().map(|j| j.record.as_slice()).collect();
        let written = match records[..] {
            [one] => self.write(one),
            _ => self.write(&records.concat()),
        };
        if let Err(e) = written {
            add(&self.stats.log_failures, 1);
            tracing::error!(tenant = %self.tenant, requests = jobs.len(), error = %e, "requests not taken");
            let text = e.to_string();
            jobs.into_iter().for_each(|job| drop(job.done.send(Err(Error::new(e.kind(), text.clone())))));
            return;
        }
        let now = Instant::now();
        self.opened.get_or_insert(now);
        for job in jobs {
            add(&self.stats.log_bytes, job.record.len());
            let bytes = job.permit.num_permits();
            self.live.insert(job.parts, bytes, Some(job.permit), now);
            job.done.send(Ok(())).ok();
        }
    }

    fn write(&mut self, records: &[u8]) -> Result<()> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.create_segment()?,
        };
        if let Err(e) = segment.append(records) {
            let number = segment.number();
            if !segment.abandon() {
                self.segments.retain(|n| *n != number);
            }
            return Err(e);
        }
        add(&self.stats.log_syncs, 1);
        self.segment = Some(segment);
        Ok(())
    }

    fn create_segment(&mut self) -> Result<SegmentWriter> {
        if !self.folder.is_dir() {
            std::fs::create_dir_all(&self.folder).map_err(|e| append::failed("create the folder of", &self.folder, e))?;
            let parents = self.folder.ancestors().skip(1).take(2).filter(|p| !p.as_os_str().is_empty());
            for parent in parents {
                self.io.sync_folder(parent).map_err(|e| append::failed("sync the folder of", &self.folder, e))?;
            }
        }
        let segment = SegmentWriter::create(self.io.as_ref(), &self.folder, self.next_number)?;
        self.next_number += 1;
        self.segments.push(segment.number());
        Ok(segment)
    }

    /// Makes a block of the active generation. Unless `all`, traces that may still grow are carried over. On error nothing
    /// has changed for readers and pushes. The order of the steps is what `wal` argues about.
    fn roll(&mut self, all: bool) -> Result<()> {
        if self.live.active_size().traces == 0 {
            return Ok(());
        }
        let waiting = self.live.sealed_count();
        if waiting >= self.config.max_sealed_blocks {
            return Err(Error::new(ErrorKind::Unavailable, format!("{waiting} blocks already wait to be written: check the block store")));
        }
        let now = Instant::now();
        let old_segments = self.segments.clone();
        let carried = match all {
            true => HashSet::new(),
            false => self.carry(now),
        };
        let manifest = Manifest { block: BlockMeta::new_id(), segments: old_segments, carried: carried.iter().copied().collect() };
        if let Err(e) = manifest.write(self.io.as_ref(), &self.folder) {
            // Should the manifest come back after a crash, its segments must hold nothing that came later.
            if self.segment.as_ref().is_some_and(|s| manifest.segments.contains(&s.number())) {
                self.segment = None;
            }
            return Err(e);
        }
        self.segments.retain(|n| !manifest.segments.contains(n));
        if self.segments.is_empty() {
            self.segment = None;
        }
        self.opened = (!carried.is_empty()).then_some(now);
        self.roll_after = None;
        let traces = self.live.seal(manifest.block, &carried);
        self.flusher.spawn(FlushJob {
            tenant: self.tenant.clone(),
            live: self.live.clone(),
            stats: self.stats.clone(),
            folder: self.folder.clone(),
            manifest,
            traces,
            tried: false,
        });
        Ok(())
    }

    /// Writes the traces that may still grow to a new segment, which becomes the open one. When that fails, none is
    /// carried: a trace in two blocks is better than a block that cannot be made.
    fn carry(&mut self, now: Instant) -> HashSet<TraceId> {
        let rules = CarryRules {
            idle: Duration::from_millis(self.config.trace_idle_ms),
            max_live: Duration::from_millis(self.config.max_trace_live_ms),
            max_percent: self.config.max_carry_percent,
        };
        let traces = self.live.to_carry(&rules, now);
        if traces.is_empty() {
            return HashSet::new();
        }
        let old = self.segment.take();
        match self.write(&encode_carried(&traces)) {
            Ok(()) => traces.iter().map(|t| t.id).collect(),
            Err(e) => {
                tracing::warn!(tenant = %self.tenant, error = %e, "traces that may still grow are not carried over");
                self.segment = old;
                HashSet::new()
            }
        }
    }
}

/// Framed records with these traces.
fn encode_carried(traces: &[Arc<Trace>]) -> Vec<u8> {
    let (mut out, mut left) = (Vec::new(), traces.iter());
    while left.len() > 0 {
        segment::frame_with(&mut out, |out| {
            let start = out.len();
            for trace in left.by_ref() {
                // Field 1 of `ExportTraceServiceRequest`, without copying the spans into one.
                trace.resource_spans.iter().for_each(|rs| prost::encoding::message::encode(1, rs, out));
                if out.len() - start >= CARRY_RECORD_BYTES {
                    break;
                }
            }
        });
    }
    out
}
