//! What was used lately, within a bound: memory for answers about things that do not change, such as blocks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
};

use parking_lot::Mutex;

/// Values by key. When they are too large together, those that were not used for the longest time go.
pub struct Recent<K, V> {
    size_max: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    clock: u64,
    size: usize,
    kept: HashMap<K, Kept<V>>,
    /// The keys by the time they were used last.
    by_use: BTreeMap<u64, K>,
}

struct Kept<V> {
    used: u64,
    size: usize,
    value: V,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Nothing yet; never more than so much, in the unit of [`Self::put`].
    pub fn new(size_max: usize) -> Self {
        Self { size_max, inner: Mutex::new(Inner { clock: 0, size: 0, kept: HashMap::new(), by_use: BTreeMap::new() }) }
    }

    /// How much is kept, in the unit of [`Self::put`].
    pub fn size(&self) -> usize {
        self.inner.lock().size
    }

    /// The value of a key, if it is known.
    pub fn get(&self, key: &K) -> Option<V> {
        let mut inner = self.inner.lock();
        let Inner { clock, kept, by_use, .. } = &mut *inner;
        let kept = kept.get_mut(key)?;
        *clock += 1;
        let before = std::mem::replace(&mut kept.used, *clock);
        if let Some(key) = by_use.remove(&before) {
            by_use.insert(*clock, key);
        }
        Some(kept.value.clone())
    }

    /// Keeps a value of a size: bytes, or 1 where values are counted. One that is larger than the bound is not kept.
    pub fn put(&self, key: K, value: V, size: usize) {
        if size > self.size_max {
            return;
        }
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let kept = Kept { used: inner.clock, size, value };
        inner.size += size;
        let now = inner.clock;
        inner.by_use.insert(now, key.clone());
        if let Some(before) = inner.kept.insert(key, kept) {
            inner.size -= before.size;
            inner.by_use.remove(&before.used);
        }
        while inner.size > self.size_max {
            let Some((_, oldest)) = inner.by_use.pop_first() else { break };
            if let Some(dropped) = inner.kept.remove(&oldest) {
                inner.size -= dropped.size;
            }
        }
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Recent").field("size_max", &self.size_max).field("size", &inner.size).field("kept", &inner.kept.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_leave_first() {
        let recent = Recent::new(3);
        for key in 0..3 {
            recent.put(key, key, 1);
        }
        assert_eq!(recent.get(&0), Some(0));
        recent.put(3, 3, 1);
        assert_eq!([0, 1, 2, 3].map(|key| recent.get(&key)), [Some(0), None, Some(2), Some(3)]);
    }

    #[test]
    fn sizes_count() {
        let recent = Recent::new(10);
        recent.put("large", 1, 11);
        assert_eq!(recent.get(&"large"), None);
        recent.put("a", 1, 4);
        recent.put("b", 2, 4);
        // In the place of what was there, so nothing else must go.
        recent.put("a", 3, 6);
        assert_eq!((recent.get(&"a"), recent.get(&"b")), (Some(3), Some(2)));
        recent.put("c", 4, 4);
        assert_eq!(["a", "b", "c"].map(|key| recent.get(&key)), [None, Some(2), Some(4)]);
        assert_eq!(recent.size(), 8);
        let none = Recent::new(0);
        none.put(1, 1, 1);
        assert_eq!(none.get(&1), None);
    }
}
