//! Names and values of attributes, of blocks and of live spans: what completion asks.

use std::sync::Arc;

use crate::{
    block::{
        BlockMeta,
        vocabulary::{ABSENT_BYTES, Collector, Vocabulary},
    },
    derive::{TraceFacts, derive},
    engine::{Engine, Snapshot},
    error::{ErrorKind, Result},
    grouping::Grouped,
    store::paths,
    tenant::TenantId,
};

impl Engine {
    /// The vocabulary of a block, and the bytes read for it: none if it was read lately. `None` if the block has none
    /// (another program wrote it) or if it is damaged, which is logged: its columns tell the same.
    pub async fn vocabulary(&self, tenant: &TenantId, block: &BlockMeta) -> Result<(Option<Arc<Vocabulary>>, u64)> {
        if let Some(known) = self.vocabularies.get(&block.block_id) {
            return Ok((known, 0));
        }
        let (vocabulary, bytes) = match self.store().get(&paths::vocabulary(tenant, block.block_id)).await {
            Ok(bytes) => match Vocabulary::decode(&bytes) {
                Ok(vocabulary) => (Some(Arc::new(vocabulary)), bytes.len() as u64),
                Err(e) => {
                    tracing::warn!(%tenant, block = %block.block_id, error = %e, "vocabulary left out");
                    (None, bytes.len() as u64)
                }
            },
            Err(e) if e.kind() == ErrorKind::NotFound => (None, 0),
            Err(e) => return Err(e.context(format!("vocabulary of block {}", block.block_id))),
        };
        let size = vocabulary.as_ref().map_or(ABSENT_BYTES, |v| v.memory_bytes());
        self.vocabularies.put(block.block_id, vocabulary.clone(), size);
        Ok((vocabulary, bytes))
    }
}

impl Snapshot {
    /// Gathers from the live traces that overlap `range` (Unix nanoseconds, inclusive; `None` means all).
    pub fn live_vocabulary(&self, mut collector: Collector, range: Option<(i64, i64)>) -> Vocabulary {
        let needs_facts = collector.wants_facts();
        for trace in self.live.iter().flat_map(|s| &s.traces).filter(|t| range.is_none_or(|r| t.overlaps(r))) {
            let facts = if needs_facts { derive(trace) } else { TraceFacts::default() };
            collector.add(&Grouped::as_is(trace), &facts);
        }
        collector.finish()
    }
}
