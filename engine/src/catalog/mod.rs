//! Which blocks a tenant has now: an immutable snapshot, replaced when a block is added or the store was listed again.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use parking_lot::RwLock;
use uuid::Uuid;

use crate::{
    block::BlockMeta,
    error::{ErrorKind, Result},
    store::BlockStore,
    tenant::TenantId,
};

/// `meta.json` files read at the same time while listing.
const POLL_CONCURRENCY: usize = 50;

/// The blocks of one tenant at one moment, newest end time first.
pub type BlockList = Arc<Vec<Arc<BlockMeta>>>;

/// Blocks whose `meta.json` cannot be understood, and why. Nobody knows what spans they have.
pub type UnreadableBlocks = Arc<Vec<(Uuid, String)>>;

/// The blocks of all tenants.
#[derive(Debug, Default)]
pub struct Catalog {
    tenants: RwLock<HashMap<TenantId, BlockList>>,
    unreadable: RwLock<HashMap<TenantId, UnreadableBlocks>>,
}

impl Catalog {
    /// The blocks of a tenant now.
    pub fn blocks(&self, tenant: &TenantId) -> BlockList {
        self.tenants.read().get(tenant).cloned().unwrap_or_default()
    }

    /// The blocks of a tenant that were found unreadable when the store was last listed.
    pub fn unreadable(&self, tenant: &TenantId) -> UnreadableBlocks {
        self.unreadable.read().get(tenant).cloned().unwrap_or_default()
    }

    /// The tenants that have blocks.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().cloned().collect()
    }

    /// Makes a committed block visible to readers of this process.
    pub fn add(&self, tenant: &TenantId, meta: BlockMeta) {
        let mut tenants = self.tenants.write();
        let mut blocks: Vec<_> = tenants.get(tenant).map(|b| b.to_vec()).unwrap_or_default();
        blocks.retain(|b| b.block_id != meta.block_id);
        blocks.push(Arc::new(meta));
        tenants.insert(tenant.clone(), sorted(blocks));
    }

    /// Lists the store again. Metas that are known are not read again; a block whose meta cannot be understood is logged
    /// and kept apart (see [`unreadable`](Self::unreadable)). Blocks added by [`add`](Self::add) meanwhile are kept.
    pub async fn poll(&self, store: &BlockStore) -> Result<()> {
        let listed = store.tenants().await?;
        for tenant in &listed {
            self.poll_tenant(store, tenant).await?;
        }
        self.tenants.write().retain(|t, _| listed.contains(t));
        self.unreadable.write().retain(|t, _| listed.contains(t));
        Ok(())
    }

    async fn poll_tenant(&self, store: &BlockStore, tenant: &TenantId) -> Result<()> {
        let before = self.blocks(tenant);
        let known: HashMap<Uuid, Arc<BlockMeta>> = before.iter().map(|m| (m.block_id, m.clone())).collect();
        let ids = store.block_ids(tenant).await?;
        let read = |id: Uuid| {
            let known = known.get(&id).cloned();
            async move {
                match known {
                    Some(meta) => Ok(Some(Ok(meta))),
                    None => match store.block_meta(tenant, id).await {
                        Ok(meta) => Ok(meta.map(|meta| Ok(Arc::new(meta)))),
                        Err(e) if e.kind() == ErrorKind::Data => {
                            tracing::warn!(%tenant, block = %id, error = %e, "block cannot be read");
                            Ok(Some(Err((id, e.to_string()))))
                        }
                        Err(e) => Err(e),
                    },
                }
            }
        };
        let found: Vec<Option<Result<_, _>>> =
            futures::stream::iter(ids.into_iter().map(read)).buffer_unordered(POLL_CONCURRENCY).try_collect().await?;
        let (mut blocks, mut unreadable) = (Vec::new(), Vec::new());
        for block in found.into_iter().flatten() {
            match block {
                Ok(meta) => blocks.push(meta),
                Err(why) => unreadable.push(why),
            }
        }
        self.unreadable.write().insert(tenant.clone(), Arc::new(unreadable));
        let mut tenants = self.tenants.write();
        let added = tenants.get(tenant).cloned().unwrap_or_default();
        blocks.extend(added.iter().filter(|m| !known.contains_key(&m.block_id)).cloned());
        tenants.insert(tenant.clone(), sorted(blocks));
        Ok(())
    }
}

fn sorted(mut blocks: Vec<Arc<BlockMeta>>) -> BlockList {
    blocks.sort_by(|a, b| b.end_time.cmp(&a.end_time).then(a.block_id.cmp(&b.block_id)));
    blocks.dedup_by_key(|m| m.block_id);
    Arc::new(blocks)
}
