//! The only place that reads a clock or draws randomness, so that everything else can be replayed.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, now.
pub fn now_unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// A monotonic instant, for measuring how long something took.
pub fn now() -> Instant {
    Instant::now()
}

/// A new block id (random, version 4, as Tempo's).
pub fn new_block_id() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}
