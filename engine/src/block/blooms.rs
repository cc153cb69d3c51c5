//! Which traces a block may hold, by its bloom files. Those that were read lately are kept: they are asked for every trace that
//! is looked for, whichever block has it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    BlockMeta,
    bloom::{BloomShard, shard_of},
    reader::BlockCache,
};
use crate::{
    error::{Error, ErrorKind, Result},
    store::{BlockStore, paths},
    tenant::TenantId,
    trace::TraceId,
};

/// Number of bloom files of blocks whose meta does not say.
const BLOOM_SHARDS_LEGACY: u32 = 10;

impl BlockCache {
    /// Which of these traces a block may hold; `false` is certain. Nothing else of the block is read, and without its bloom files
    /// it cannot be searched.
    pub async fn may_contain(&self, store: &BlockStore, tenant: &TenantId, meta: &BlockMeta, ids: &[TraceId]) -> Result<Vec<bool>> {
        let shards = match meta.bloom_shards {
            0 => BLOOM_SHARDS_LEGACY,
            n => n,
        };
        let mut blooms: HashMap<u32, Arc<BloomShard>> = HashMap::new();
        let mut found = Vec::with_capacity(ids.len());
        for &id in ids {
            let shard = shard_of(id, shards);
            let bloom = match blooms.entry(shard) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let bloom = self.bloom(store, tenant, meta, shard).await;
                    new.insert(bloom.map_err(|e| e.context(format!("block {}", meta.block_id)))?)
                }
            };
            found.push(bloom.contains(id));
        }
        Ok(found)
    }

    async fn bloom(&self, store: &BlockStore, tenant: &TenantId, meta: &BlockMeta, shard: u32) -> Result<Arc<BloomShard>> {
        let key = (meta.block_id, shard);
        if let Some(known) = self.blooms.get(&key) {
            return Ok(known);
        }
        let bytes = store.get(&paths::bloom(tenant, meta.block_id, shard)).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::data(format!("bloom-{shard} is missing")).with_source(e),
            _ => e,
        })?;
        let bloom = Arc::new(BloomShard::parse(&bytes).map_err(|e| e.context(format!("bloom-{shard}")))?);
        self.blooms.put(key, bloom.clone(), bytes.len());
        Ok(bloom)
    }
}
