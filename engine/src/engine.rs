//! The engine as the other crates hold it: a store, a catalogue, the live spans beside them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::{
    block::{BlockMeta, BlockReader, DedicatedColumn, FooterCache, vocabulary::VocabularyCache, write_block},
    catalog::{BlockList, Catalog},
    config::Config,
    derive,
    error::{Error, ErrorKind, Result},
    scan::{LiveSegment, LiveSpans, NoLiveSpans},
    store::BlockStore,
    tenant::TenantId,
    trace::{Trace, TraceId},
};

/// Blocks looked into at the same time when a trace is asked for by id.
const FIND_CONCURRENCY: usize = 8;

/// One place of blocks, with the live spans that will become blocks there.
#[derive(Debug)]
pub struct Engine {
    store: BlockStore,
    catalog: Catalog,
    live: Arc<dyn LiveSpans>,
    footers: Arc<FooterCache>,
    pub(crate) vocabularies: VocabularyCache,
    config: Config,
}

/// What a query reads: a fixed set of blocks and live segments in which every span is counted once.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Blocks, newest first.
    pub blocks: BlockList,
    /// Live segments whose block is not among `blocks`.
    pub live: Vec<LiveSegment>,
}

/// A trace and what finding it has cost.
#[derive(Clone, Debug, Default)]
pub struct FoundTrace {
    /// The trace, with the spans of all blocks and of the live side, none twice; `None` if nobody knows it.
    pub trace: Option<Trace>,
    /// Bytes read from the store.
    pub inspected_bytes: u64,
}

impl Engine {
    /// An engine over a store, without live spans and with an empty catalogue: call [`poll`](Self::poll) next.
    pub fn new(store: BlockStore, config: Config) -> Self {
        let footers = Arc::new(FooterCache::new(config.footer_cache_blocks));
        let vocabularies = VocabularyCache::new(config.vocabulary_cache_bytes);
        Self { store, catalog: Catalog::default(), live: Arc::new(NoLiveSpans), footers, vocabularies, config }
    }

    /// Adds the live side.
    #[must_use]
    pub fn with_live(mut self, live: Arc<dyn LiveSpans>) -> Self {
        self.live = live;
        self
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the blocks live.
    pub fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Lists the store for blocks that others wrote.
    pub async fn poll(&self) -> Result<()> {
        self.catalog.poll(&self.store).await
    }

    /// Tenants with blocks or live spans, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut tenants = self.catalog.tenants();
        tenants.extend(self.live.tenants());
        tenants.sort();
        tenants.dedup();
        tenants
    }

    /// What a query that starts now reads.
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        // The order matters: see `LiveSpans`.
        let live = self.live.snapshot(tenant);
        let blocks = self.catalog.blocks(tenant);
        let committed = |id: Uuid| blocks.iter().any(|b| b.block_id == id);
        let live = live.into_iter().filter(|s| !s.block_id.is_some_and(committed)).collect();
        Snapshot { blocks, live }
    }

    /// Whether a block is committed, by its `meta.json` in the store.
    pub async fn is_committed(&self, tenant: &TenantId, block: Uuid) -> Result<bool> {
        Ok(self.store.block_meta(tenant, block).await?.is_some())
    }

    /// Writes a block with these traces and makes it visible. `traces` must not be empty; their order does not matter.
    /// When this returns the block is durable.
    pub async fn commit_block(&self, tenant: &TenantId, block: Uuid, traces: Vec<Arc<Trace>>) -> Result<BlockMeta> {
        let meta = BlockMeta::new(tenant, block, DedicatedColumn::defaults());
        let meta = write_block(&self.store, &self.config, meta, traces).await?;
        self.catalog.add(tenant, meta.clone());
        Ok(meta)
    }

    /// Opens a block for reading.
    pub async fn open_block(&self, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Result<Arc<BlockReader>> {
        BlockReader::open(&self.store, &self.footers, tenant, meta.clone()).await
    }

    /// All spans of a trace, wherever they are. `range` (Unix nanoseconds, inclusive) leaves out blocks outside it.
    pub async fn find_trace(&self, tenant: &TenantId, id: TraceId, range: Option<(i64, i64)>) -> Result<FoundTrace> {
        let snapshot = self.snapshot(tenant);
        let before = self.store.counters().1;
        let overlaps = |m: &BlockMeta| {
            range.is_none_or(|(from, to)| (m.start_time.as_nanosecond() as i64) <= to && (m.end_time.as_nanosecond() as i64) >= from)
        };
        let jobs: Vec<_> = snapshot.blocks.iter().filter(|m| overlaps(m)).cloned().collect();
        let mut parts: Vec<Option<Trace>> = futures::stream::iter(jobs.into_iter().map(|meta| async move {
            let found = match self.open_block(tenant, &meta).await {
                Ok(block) => block.find_trace(id).await.map(|found| {
                    found.map(|mut trace| {
                        derive::as_answered(&mut trace, &meta.dedicated_columns);
                        trace
                    })
                }),
                Err(e) => Err(e),
            };
            match found {
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None), // a preview block: never an error
                other => other.map_err(|e: Error| e.context(format!("block {}", meta.block_id))),
            }
        }))
        .buffered(FIND_CONCURRENCY)
        .try_collect()
        .await?;
        parts.extend(
            snapshot
                .live
                .iter()
                .flat_map(|s| &s.traces)
                .filter(|t| t.id == id)
                .map(|t| Some(derive::as_stored(t, &DedicatedColumn::defaults()))),
        );
        let mut trace: Option<Trace> = None;
        for part in parts.into_iter().flatten() {
            match &mut trace {
                Some(whole) => whole.merge(part),
                None => trace = Some(part),
            }
        }
        // A block says what its traces span together; what counts is the trace itself.
        let trace = trace.filter(|t| range.is_none_or(|range| t.overlaps(range)));
        Ok(FoundTrace { trace, inspected_bytes: self.store.counters().1 - before })
    }
}
