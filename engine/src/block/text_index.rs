//! Finds out whether a dictionary has a text without looking at all of its texts.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::array::StringArray;

/// Hashes of the texts of a dictionary, made when a text is looked for again.
#[derive(Debug, Default)]
pub(super) struct TextIndex {
    asked: AtomicBool,
    /// Ascending.
    hashes: OnceLock<Box<[u64]>>,
}

impl TextIndex {
    /// Bytes for each text.
    pub const ENTRY_BYTES: usize = size_of::<u64>();

    /// Whether it is known that none of `texts`, always those of the same dictionary, is this one.
    pub fn lacks(&self, texts: &StringArray, text: &str) -> bool {
        if !self.asked.swap(true, Ordering::Relaxed) {
            return false;
        }
        let hashes = self.hashes.get_or_init(|| {
            let mut hashes: Box<[u64]> = texts.iter().flatten().map(hash).collect();
            hashes.sort_unstable();
            hashes
        });
        hashes.binary_search(&hash(text)).is_err()
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_missed() {
        let texts = StringArray::from((0..1000).map(|i| (i % 7 > 0).then(|| format!("user-{i}"))).collect::<Vec<_>>());
        let index = TextIndex::default();
        assert!(!index.lacks(&texts, "nobody"), "it is not worth it for one look");
        assert!(index.lacks(&texts, "nobody") && index.lacks(&texts, "") && index.lacks(&texts, "user-7"));
        assert!(texts.iter().flatten().all(|text| !index.lacks(&texts, text)));
    }
}
