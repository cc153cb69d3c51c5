//! Vocabularies that were read lately, bounded by the memory they take.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use uuid::Uuid;

use super::Vocabulary;

/// What a block without a vocabulary costs in the cache, in bytes.
const ABSENT_BYTES: usize = 128;

/// Vocabularies by block; `None` for a block that has none.
#[derive(Debug)]
pub struct VocabularyCache {
    bytes_max: usize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    clock: u64,
    bytes: usize,
    blocks: HashMap<Uuid, Kept>,
}

#[derive(Debug)]
struct Kept {
    used: u64,
    bytes: usize,
    vocabulary: Option<Arc<Vocabulary>>,
}

impl VocabularyCache {
    /// A cache of at most `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self { bytes_max: bytes, recent: Mutex::default() }
    }

    /// What is known of a block; the outer `None` if nothing is.
    pub fn get(&self, block: Uuid) -> Option<Option<Arc<Vocabulary>>> {
        let mut recent = self.recent.lock();
        recent.clock += 1;
        let now = recent.clock;
        let kept = recent.blocks.get_mut(&block)?;
        kept.used = now;
        Some(kept.vocabulary.clone())
    }

    /// Keeps what was read of a block, and drops what was not used for the longest time.
    pub fn put(&self, block: Uuid, vocabulary: Option<Arc<Vocabulary>>) {
        let bytes = vocabulary.as_ref().map_or(ABSENT_BYTES, |v| v.memory_bytes());
        if bytes > self.bytes_max {
            return;
        }
        let mut recent = self.recent.lock();
        recent.clock += 1;
        let kept = Kept { used: recent.clock, bytes, vocabulary };
        recent.bytes += bytes;
        if let Some(before) = recent.blocks.insert(block, kept) {
            recent.bytes -= before.bytes;
        }
        while recent.bytes > self.bytes_max {
            let Some(oldest) = recent.blocks.iter().min_by_key(|(_, k)| k.used).map(|(id, _)| *id) else { break };
            if let Some(dropped) = recent.blocks.remove(&oldest) {
                recent.bytes -= dropped.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_leave_first() {
        let cache = VocabularyCache::new(3 * ABSENT_BYTES);
        let ids: Vec<Uuid> = (0..4).map(Uuid::from_u128).collect();
        for id in &ids[..3] {
            cache.put(*id, None);
        }
        assert!(cache.get(ids[0]).is_some());
        cache.put(ids[3], None);
        let known: Vec<bool> = ids.iter().map(|id| cache.get(*id).is_some()).collect();
        assert_eq!(known, [true, false, true, true]);
    }
}
