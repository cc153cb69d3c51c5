//! Makes blocks of sealed segments: commits, tries again until it succeeds, then drops the live segment and its log.

use std::{fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracehouse_engine::{Engine, Error, ErrorKind, Result, TenantId, Trace};
use uuid::Uuid;

use crate::{
    config::Config,
    live::TenantLive,
    stats::{Stats, add},
    wal::{Manifest, WalIo, replay},
};

/// What makes blocks. [`Engine`] is the one there is; tests have others.
#[async_trait]
pub trait BlockCommitter: Debug + Send + Sync {
    /// Writes a block with these traces. When this returns, the block is durable and in the catalogue that queries read.
    /// Writing the same block again with the same traces changes nothing.
    async fn commit(&self, tenant: &TenantId, block: Uuid, traces: Vec<Arc<Trace>>) -> Result<()>;

    /// Whether the block was committed earlier; if so, it is in the catalogue when this returns.
    async fn adopt(&self, tenant: &TenantId, block: Uuid) -> Result<bool>;
}

#[async_trait]
impl BlockCommitter for Engine {
    async fn commit(&self, tenant: &TenantId, block: Uuid, traces: Vec<Arc<Trace>>) -> Result<()> {
        self.commit_block(tenant, block, traces).await.map(drop)
    }

    async fn adopt(&self, tenant: &TenantId, block: Uuid) -> Result<bool> {
        if !self.is_committed(tenant, block).await? {
            return Ok(false);
        }
        let known = || self.snapshot(tenant).blocks.iter().any(|b| b.block_id == block);
        if !known() {
            self.poll().await?;
        }
        match known() || self.is_compacted(tenant, block).await? {
            true => Ok(true),
            false => Err(Error::new(ErrorKind::Unavailable, format!("block {block} is committed but not in the catalogue yet"))),
        }
    }
}

/// A sealed segment on its way to a block.
pub(crate) struct FlushJob {
    pub tenant: TenantId,
    pub live: Arc<TenantLive>,
    pub stats: Arc<Stats>,
    /// The folder of the tenant's log.
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub traces: Vec<Arc<Trace>>,
    /// Whether an earlier try, perhaps before a restart, may have committed the block.
    pub tried: bool,
}

/// Runs flush jobs, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct Flusher {
    committer: Arc<dyn BlockCommitter>,
    io: Arc<dyn WalIo>,
    slots: Semaphore,
    retry: (Duration, Duration),
    stop: CancellationToken,
    tracker: TaskTracker,
    last_error: Mutex<Option<String>>,
}

impl Flusher {
    pub fn new(
        config: &Config,
        committer: Arc<dyn BlockCommitter>,
        io: Arc<dyn WalIo>,
        stop: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let retry = (Duration::from_millis(config.flush_retry_min_ms.max(1)), Duration::from_millis(config.flush_retry_max_ms.max(1)));
        Self { committer, io, slots: Semaphore::new(config.flush_concurrency), retry, stop, tracker, last_error: Mutex::default() }
    }

    /// Starts a job. It ends when the block is committed, or when the ingester stops; the log keeps the spans then.
    pub fn spawn(self: &Arc<Self>, job: FlushJob) {
        let this = self.clone();
        self.tracker.spawn(async move {
            let stop = this.stop.clone();
            // To be stopped anywhere in here is like being killed: see `wal`.
            stop.run_until_cancelled(this.run(job)).await;
        });
    }

    /// Why the last try failed, if it did.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    async fn run(&self, mut job: FlushJob) {
        let mut pause = self.retry.0;
        while let Err(e) = self.attempt(&job).await {
            add(&job.stats.flush_failures, 1);
            tracing::warn!(tenant = %job.tenant, block = %job.manifest.block, error = %e, retry_in = ?pause, "block not committed; its spans stay live and in the log");
            *self.last_error.lock() = Some(e.to_string());
            job.tried = true;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.retry.1);
        }
        *self.last_error.lock() = None;
        add(&job.stats.blocks_flushed, 1);
        let block = job.manifest.block;
        tracing::info!(tenant = %job.tenant, %block, traces = job.traces.len(), "block committed");
        let (io, folder, manifest) = (self.io.clone(), job.folder, job.manifest);
        let removed = tokio::task::spawn_blocking(move || replay::remove_sealed(io.as_ref(), &folder, &manifest)).await;
        if let Ok(Err(e)) = removed {
            // The next start finds the block committed and deletes them.
            tracing::error!(tenant = %job.tenant, %block, error = %e, "cannot delete the log of a committed block");
        }
        job.live.drop_sealed(block);
    }

    async fn attempt(&self, job: &FlushJob) -> Result<()> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::new(ErrorKind::Unavailable, "shutting down"))?;
        let block = job.manifest.block;
        if job.tried && self.committer.adopt(&job.tenant, block).await? {
            return Ok(());
        }
        self.committer.commit(&job.tenant, block, job.traces.clone()).await
    }
}
