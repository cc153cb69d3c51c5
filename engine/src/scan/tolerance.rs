//! How many blocks a question may go without (`tolerate_failed_blocks`): Tempo's rule is none.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// Blocks that could not be read since the process started.
#[derive(Debug, Default)]
pub struct BlockFailures {
    skipped: AtomicU64,
    failed: AtomicU64,
}

impl BlockFailures {
    /// Times a question went on without a block, and times a question failed because of one.
    pub fn counts(&self) -> (u64, u64) {
        (self.skipped.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// The blocks that one question has gone without so far.
#[derive(Debug)]
pub struct Tolerance {
    blocks_max: usize,
    failed: Mutex<BTreeSet<Uuid>>,
    failures: Arc<BlockFailures>,
}

impl Tolerance {
    /// A question may go without `blocks_max` blocks; `failures` counts.
    pub fn new(blocks_max: u32, failures: Arc<BlockFailures>) -> Self {
        Self { blocks_max: blocks_max as usize, failed: Mutex::default(), failures }
    }

    /// What reading a block (or a part of it) gave. A block that cannot be read is logged, and `None` while there are no
    /// more of them than allowed; then an error that names the block.
    pub fn judge<T>(&self, block: Uuid, read: Result<T>) -> Result<Option<T>> {
        let error = match read {
            Ok(read) => return Ok(Some(read)),
            Err(error) => error,
        };
        let error = if error.to_string().contains(&block.to_string()) { error } else { error.context(format!("block {block}")) };
        if !is_of_the_block(&error) {
            return Err(error);
        }
        let mut failed = self.failed.lock();
        let new = failed.insert(block);
        if failed.len() > self.blocks_max {
            self.failures.failed.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        if new {
            self.failures.skipped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%block, %error, "block skipped: the answer lacks its spans (tolerate_failed_blocks)");
        }
        Ok(None)
    }
}

/// Whether an error says something about the block, and not about the question or this process.
fn is_of_the_block(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Data | ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Unauthenticated => true,
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::TooLarge | ErrorKind::TooMany => false,
        ErrorKind::TimedOut | ErrorKind::Internal => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_blocks_may_fail_as_allowed() {
        let failures = Arc::new(BlockFailures::default());
        let tolerance = Tolerance::new(1, failures.clone());
        let [a, b] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let bad = || Err::<(), _>(Error::data("bloom-0 is missing"));
        assert_eq!(tolerance.judge(a, Ok(3)).unwrap(), Some(3));
        assert!(tolerance.judge(a, bad()).unwrap().is_none());
        assert!(tolerance.judge(a, bad()).unwrap().is_none(), "the same block again");
        let error = tolerance.judge(b, bad()).unwrap_err().to_string();
        assert_eq!(error, format!("block {b}: bloom-0 is missing"));
        assert_eq!(tolerance.judge(b, Err::<(), _>(Error::data(error.clone()))).unwrap_err().to_string(), error, "named once");
        assert!(tolerance.judge(a, Err::<(), _>(Error::internal("a bug"))).is_err());
        assert_eq!(failures.counts(), (1, 2));
    }
}
