//! Which traces occur in several blocks. The ids of a block never change, so they are read once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures::StreamExt;
use parking_lot::Mutex;
use uuid::Uuid;

use super::WholeTraces;
use crate::{
    Engine,
    block::BlockMeta,
    error::{ErrorKind, Result},
    tenant::TenantId,
};

/// Blocks whose ids are read at the same time.
const READ_CONCURRENCY: usize = 8;
/// Sets of blocks, and states of the live traces, that are remembered.
const REMEMBERED_MAX: usize = 4;

/// The trace ids of some blocks.
#[derive(Debug, Default)]
pub(crate) struct StoredIds {
    blocks: Vec<Uuid>,
    ids: HashMap<Uuid, Arc<[u128]>>,
    /// All of them, ascending.
    all: Vec<u128>,
    /// Ids that several of the blocks have.
    pub split: HashSet<u128>,
}

impl StoredIds {
    /// Whether a block has this trace.
    pub fn has(&self, id: u128) -> bool {
        self.all.binary_search(&id).is_ok()
    }

    /// The ids of a block, ascending; nothing for a block that is not looked into.
    pub fn of_block(&self, block: Uuid) -> &[u128] {
        self.ids.get(&block).map_or(&[], |ids| ids)
    }
}

/// What is remembered between queries; bounded by the setting `trace_ids_cached_max`.
#[derive(Debug, Default)]
pub(crate) struct PartsCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Ids of each block, the longest unused first.
    blocks: VecDeque<(Uuid, Arc<[u128]>)>,
    sets: VecDeque<Arc<StoredIds>>,
    wholes: VecDeque<Known>,
}

#[derive(Debug)]
struct Known {
    tenant: TenantId,
    stored: Arc<StoredIds>,
    live: Vec<(u128, usize)>,
    whole: Arc<WholeTraces>,
}

impl PartsCache {
    /// The ids of these blocks. Blocks come newest first; those beyond the bound, and those that cannot be read for being of
    /// an unknown form, are left out: what they hold is taken as it is stored.
    pub async fn of_blocks(&self, engine: &Engine, tenant: &TenantId, blocks: &[Arc<BlockMeta>]) -> Result<Arc<StoredIds>> {
        let wanted: Vec<Uuid> = blocks.iter().map(|b| b.block_id).collect();
        if let Some(known) = self.inner.lock().sets.iter().find(|s| s.blocks == wanted) {
            return Ok(known.clone());
        }
        let bound = engine.config().trace_ids_cached_max;
        let mut ids = HashMap::new();
        let mut held = 0;
        let reading: Vec<_> = blocks.iter().map(|meta| self.of_block(engine, tenant, meta)).collect();
        let mut read = futures::stream::iter(reading).buffered(READ_CONCURRENCY);
        for meta in blocks {
            let own = match read.next().await {
                Some(Ok(own)) => own,
                // A scan that needs the block says what is wrong with it.
                Some(Err(e)) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Data | ErrorKind::NotFound) => {
                    tracing::debug!(block = %meta.block_id, error = %e, "no look at the trace ids of the block");
                    continue;
                }
                Some(Err(e)) => return Err(e.context(format!("block {}", meta.block_id))),
                None => break,
            };
            held += own.len();
            if held > bound {
                tracing::debug!(%tenant, bound, "too many traces to look for all parts of each: older blocks are taken as they are");
                break;
            }
            self.keep(meta.block_id, own.clone(), bound);
            ids.insert(meta.block_id, own);
        }
        let mut all: Vec<u128> = ids.values().flat_map(|ids| ids.iter().copied()).collect();
        all.sort_unstable();
        let split = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        all.dedup();
        let stored = Arc::new(StoredIds { blocks: wanted, ids, all, split });
        let mut inner = self.inner.lock();
        push(&mut inner.sets, stored.clone());
        Ok(stored)
    }

    async fn of_block(&self, engine: &Engine, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Result<Arc<[u128]>> {
        match self.known(meta.block_id) {
            Some(known) => Ok(known),
            None => read(engine, tenant, meta).await,
        }
    }

    fn known(&self, block: Uuid) -> Option<Arc<[u128]>> {
        self.inner.lock().blocks.iter().find(|(id, _)| *id == block).map(|(_, ids)| ids.clone())
    }

    fn keep(&self, block: Uuid, ids: Arc<[u128]>, bound: usize) {
        let mut inner = self.inner.lock();
        inner.blocks.retain(|(id, _)| *id != block);
        inner.blocks.push_back((block, ids));
        while inner.blocks.iter().map(|(_, ids)| ids.len()).sum::<usize>() > bound {
            inner.blocks.pop_front();
        }
    }

    /// What was found for the same blocks and the same state of the live traces.
    pub fn whole(&self, tenant: &TenantId, stored: &Arc<StoredIds>, live: &[(u128, usize)]) -> Option<Arc<WholeTraces>> {
        let inner = self.inner.lock();
        let same = |k: &&Known| k.tenant == *tenant && Arc::ptr_eq(&k.stored, stored) && k.live == live;
        inner.wholes.iter().find(same).map(|k| k.whole.clone())
    }

    /// Remembers what was found.
    pub fn remember(&self, tenant: &TenantId, stored: &Arc<StoredIds>, live: Vec<(u128, usize)>, whole: Arc<WholeTraces>) {
        push(&mut self.inner.lock().wholes, Known { tenant: tenant.clone(), stored: stored.clone(), live, whole });
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    queue.push_back(item);
    if queue.len() > REMEMBERED_MAX {
        queue.pop_front();
    }
}

async fn read(engine: &Engine, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Result<Arc<[u128]>> {
    let mut ids = engine.open_block(tenant, meta).await?.trace_ids().await?;
    // In order already, in any block that is as it should be.
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into())
}
