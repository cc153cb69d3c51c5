//! The engine as the other crates hold it: a store, a catalogue, the live spans beside them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::{
    block::{
        BlockCache, BlockMeta, BlockReader, CacheSizes, ColumnCacheStats, DedicatedColumn, Version, dedicated, vocabulary::VocabularyCache,
        write_block,
    },
    catalog::{BlockList, Catalog, UnreadableBlocks},
    config::Config,
    derive,
    error::{Error, Result},
    scan::{BlockFailures, LiveSegment, LiveSpans, NoLiveSpans, OneTrace, Tolerance},
    store::{BlockStore, paths},
    tenant::TenantId,
    trace::{Trace, TraceId},
    whole::PartsCache,
};

/// Blocks looked into at the same time when a trace is asked for by id.
const FIND_CONCURRENCY: usize = 8;

/// Looks at the catalogue until it does not change while the live spans are listed.
const SNAPSHOT_TRIES_MAX: usize = 100;

/// One place of blocks, with the live spans that will become blocks there.
#[derive(Debug)]
pub struct Engine {
    store: BlockStore,
    catalog: Catalog,
    live: Arc<dyn LiveSpans>,
    cache: Arc<BlockCache>,
    parts: PartsCache,
    failures: Arc<BlockFailures>,
    pub(crate) vocabularies: VocabularyCache,
    config: Config,
}

/// What a query reads: a fixed set of blocks and live segments in which every span is counted once.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Blocks, newest first.
    pub blocks: BlockList,
    /// Blocks of which nobody knows what they hold.
    pub unreadable: UnreadableBlocks,
    /// Live segments whose block is not among `blocks`.
    pub live: Vec<LiveSegment>,
    /// The blocks it may go without, counted over all of its scans.
    pub tolerance: Arc<Tolerance>,
}

impl Snapshot {
    /// Counts the unreadable blocks among those that a question goes without.
    pub fn judge_unreadable(&self) -> Result<()> {
        let mut judged = self.unreadable.iter().map(|(block, why)| self.tolerance.judge(*block, Err::<(), _>(Error::data(why.as_str()))));
        judged.try_for_each(|judged| judged.map(drop))
    }
}

/// A trace and what finding it has cost.
#[derive(Clone, Debug, Default)]
pub struct FoundTrace {
    /// The trace, with the spans of all blocks and of the live side, none twice; `None` if nobody knows it.
    pub trace: Option<Trace>,
    /// Bytes read from the store.
    pub inspected_bytes: u64,
}

/// Where a trace is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Whether among live spans.
    pub live: bool,
    /// Among blocks with ids from the first to the second, both inclusive; `None` for no block.
    pub blocks: Option<(Uuid, Uuid)>,
}

impl Default for Places {
    /// Everywhere.
    fn default() -> Self {
        Self { live: true, blocks: Some((Uuid::nil(), Uuid::max())) }
    }
}

impl Engine {
    /// An engine over a store, without live spans and with an empty catalogue: call [`poll`](Self::poll) next.
    pub fn new(store: BlockStore, config: Config) -> Self {
        let cache = Arc::new(BlockCache::new(CacheSizes {
            footers: config.footer_cache_blocks,
            shape_bytes: config.shape_cache_bytes,
            column_bytes: config.column_cache_bytes,
            bloom_bytes: config.bloom_cache_bytes,
        }));
        let (catalog, parts) = (Catalog::default(), PartsCache::default());
        let vocabularies = VocabularyCache::new(config.vocabulary_cache_bytes);
        Self { store, catalog, live: Arc::new(NoLiveSpans), cache, parts, failures: Arc::default(), vocabularies, config }
    }

    /// Adds the live side.
    #[must_use]
    pub fn with_live(mut self, live: Arc<dyn LiveSpans>) -> Self {
        self.live = live;
        self
    }

    /// An engine that knows this trace and nothing else, for questions about a trace that was found.
    #[must_use]
    pub fn of_trace(&self, tenant: &TenantId, trace: Arc<Trace>) -> Self {
        Self::new(self.store.clone(), self.config.clone()).with_live(Arc::new(OneTrace { tenant: tenant.clone(), trace }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn parts(&self) -> &PartsCache {
        &self.parts
    }

    /// Where the blocks live.
    pub fn store(&self) -> &BlockStore {
        &self.store
    }

    /// What remembering columns of blocks has brought so far.
    pub fn column_cache(&self) -> ColumnCacheStats {
        self.cache.column_stats()
    }

    /// Blocks that could not be read.
    pub fn block_failures(&self) -> &BlockFailures {
        &self.failures
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
        // The order matters: see `LiveSpans`. Live spans for which no block is decided may be in one already when the catalogue
        // is read, so the catalogue must not have changed meanwhile.
        let mut blocks = self.catalog.blocks(tenant);
        let mut live = self.live.snapshot(tenant);
        for _ in 0..SNAPSHOT_TRIES_MAX {
            let after = self.catalog.blocks(tenant);
            let same = Arc::ptr_eq(&after, &blocks) || (after.is_empty() && blocks.is_empty());
            blocks = after;
            if same {
                break;
            }
            live = self.live.snapshot(tenant);
        }
        let committed = |id: Uuid| blocks.iter().any(|b| b.block_id == id);
        let live = live.into_iter().filter(|s| !s.block_id.is_some_and(committed)).collect();
        let tolerance = Arc::new(Tolerance::new(self.config.tolerate_failed_blocks, self.failures.clone()));
        Snapshot { blocks, unreadable: self.catalog.unreadable(tenant), live, tolerance }
    }

    /// Whether a block was committed, by its `meta.json` in the store; also if a compactor has replaced the block since.
    pub async fn is_committed(&self, tenant: &TenantId, block: Uuid) -> Result<bool> {
        Ok(self.store.block_meta(tenant, block).await?.is_some() || self.is_compacted(tenant, block).await?)
    }

    /// Whether a compactor has replaced a block: its spans are in other blocks, and its folder will go.
    pub async fn is_compacted(&self, tenant: &TenantId, block: Uuid) -> Result<bool> {
        self.store.exists(&paths::compacted_meta(tenant, block)).await
    }

    /// Writes a block with these traces and makes it visible. `traces` must not be empty; their order does not matter.
    /// When this returns the block is durable.
    pub async fn commit_block(&self, tenant: &TenantId, block: Uuid, mut traces: Vec<Arc<Trace>>) -> Result<BlockMeta> {
        // So that the same traces make the same block.
        traces.sort_by_key(|t| t.id);
        let (columns, traces) = self.columns_to_write(traces).await?;
        let meta = BlockMeta::new(tenant, block, columns).with_version(self.config.block_version.into());
        let meta = write_block(&self.store, &self.config, meta, traces).await?;
        self.catalog.add(tenant, meta.clone());
        Ok(meta)
    }

    /// The dedicated columns of a block of these traces, and the traces.
    async fn columns_to_write(&self, traces: Vec<Arc<Trace>>) -> Result<(Vec<DedicatedColumn>, Vec<Arc<Trace>>)> {
        if let Some(listed) = self.config.parquet_dedicated_columns.listed() {
            return Ok((listed, traces));
        }
        let version = self.config.block_version.into();
        let chosen = tokio::task::spawn_blocking(move || (dedicated::choose_for(version, &traces), traces));
        chosen.await.map_err(|e| Error::internal("choice of dedicated columns failed").with_source(e))
    }

    /// Opens a block for reading.
    pub async fn open_block(&self, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Result<Arc<BlockReader>> {
        BlockReader::open(&self.store, &self.cache, tenant, meta.clone()).await
    }

    /// A block whose footer is in memory, open for reading.
    pub(crate) fn block_in_memory(&self, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Option<Arc<BlockReader>> {
        BlockReader::open_in_memory(&self.store, &self.cache, tenant, meta)
    }

    /// Which of these traces may have a part in one of these blocks, by the blooms. A block that cannot be read may hold any.
    pub async fn may_be_in(&self, tenant: &TenantId, blocks: &[Arc<BlockMeta>], ids: &[TraceId]) -> Result<Vec<bool>> {
        let looks = futures::stream::iter(
            blocks.iter().cloned().map(|meta| async move { self.cache.may_contain(&self.store, tenant, &meta, ids).await }),
        );
        let mut found = vec![false; ids.len()];
        let mut looks = looks.buffer_unordered(FIND_CONCURRENCY);
        while let Some(look) = looks.next().await {
            match look {
                Ok(look) => found.iter_mut().zip(look).for_each(|(f, l)| *f |= l),
                Err(_) => return Ok(vec![true; ids.len()]),
            }
        }
        Ok(found)
    }

    /// All spans of a trace, wherever they are. `range` (Unix nanoseconds, inclusive) leaves out blocks outside it.
    pub async fn find_trace(&self, tenant: &TenantId, id: TraceId, range: Option<(i64, i64)>) -> Result<FoundTrace> {
        self.find_trace_in(tenant, id, range, Places::default()).await
    }

    /// The same in some places only.
    pub async fn find_trace_in(&self, tenant: &TenantId, id: TraceId, range: Option<(i64, i64)>, places: Places) -> Result<FoundTrace> {
        let mut snapshot = self.snapshot(tenant);
        if !places.live {
            snapshot.live.clear();
        }
        let before = self.store.counters().1;
        let overlaps = |m: &BlockMeta| {
            range.is_none_or(|(from, to)| (m.start_time.as_nanosecond() as i64) <= to && (m.end_time.as_nanosecond() as i64) >= from)
        };
        let wanted = |m: &BlockMeta| places.blocks.is_some_and(|(first, last)| (first..=last).contains(&m.block_id));
        let jobs: Vec<_> = snapshot.blocks.iter().filter(|m| overlaps(m) && wanted(m)).cloned().collect();
        let tolerance = &snapshot.tolerance;
        if places.blocks.is_some() {
            snapshot.judge_unreadable()?;
        }
        let mut parts: Vec<Option<Trace>> = futures::stream::iter(jobs.into_iter().map(|meta| async move {
            let find = async {
                // A block that cannot have it is not opened.
                if self.cache.may_contain(&self.store, tenant, &meta, &[id]).await? != [true] {
                    return Ok(None);
                }
                let block = self.open_block(tenant, &meta).await?;
                let Some(mut trace) = block.trace(id).await? else { return Ok(None) };
                derive::as_answered(&mut trace, meta.version()?, &meta.dedicated_columns);
                Ok(Some(trace))
            };
            tolerance.judge(meta.block_id, find.await).map(Option::flatten)
        }))
        .buffered(FIND_CONCURRENCY)
        .try_collect()
        .await?;
        let version = Version::from(self.config.block_version);
        // What is chosen for a block beside the defaults takes no arrays, so that only these or listed columns change any.
        let listed = self.config.parquet_dedicated_columns.listed().unwrap_or_else(DedicatedColumn::defaults);
        parts.extend(
            snapshot
                .live
                .iter()
                .flat_map(|s| &s.traces)
                .filter(|t| t.id == id && range.is_none_or(|range| t.overlaps(range)))
                .map(|t| Some(derive::as_stored(t, version, &listed))),
        );
        let mut trace: Option<Trace> = None;
        for part in parts.into_iter().flatten() {
            match &mut trace {
                Some(whole) => whole.merge(part),
                None => trace = Some(part),
            }
        }
        Ok(FoundTrace { trace, inspected_bytes: self.store.counters().1 - before })
    }
}
