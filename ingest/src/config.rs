//! Settings of the write path: plain data. Only the process reads them from flags, environment and files.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracehouse_engine::{Error, Result};

/// How spans are received, kept and made into blocks. Every queue and buffer on the way has its bound here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest request in bytes, after decompression; also the largest compressed body.
    pub max_request_bytes: usize,
    /// HTTP requests whose bodies are read and decoded at the same time; more wait for `push_wait_ms`, then get 429.
    pub max_concurrent_requests: usize,
    /// How long the body of an HTTP request may take to arrive, in milliseconds.
    pub request_timeout_ms: u64,
    /// What clients that must try again later are told to wait (`Retry-After`, `RetryInfo`), in seconds.
    pub retry_after_seconds: u32,
    /// Attribute keys and string values longer than this many bytes are cut; 0 turns cutting off.
    pub max_attribute_bytes: usize,
    /// Tenants that may send spans between two starts.
    pub max_tenants: usize,
    /// Requests of one tenant that wait for the write-ahead log.
    pub wal_queue_requests: usize,
    /// Requests that wait are written and synced together, up to about this many bytes.
    pub wal_batch_bytes: usize,
    /// How long a push waits for room in a queue or in memory before it is refused, in milliseconds.
    pub push_wait_ms: u64,
    /// Live spans become a block when the oldest has waited this long, in milliseconds.
    pub max_block_duration_ms: u64,
    /// Live spans of a tenant become a block when they have this many bytes (as OTLP protobuf).
    pub max_block_bytes: usize,
    /// Live spans of a tenant become a block when they belong to this many traces.
    pub max_block_traces: usize,
    /// A trace whose last span came less than this ago is left for the next block, in milliseconds.
    pub trace_idle_ms: u64,
    /// A trace whose first span came this long ago is not left for the next block, in milliseconds.
    pub max_trace_live_ms: u64,
    /// Largest part of the live bytes that is left for the next block, in percent.
    pub max_carry_percent: u8,
    /// Bytes (as OTLP protobuf) of all live spans and waiting requests; pushes beyond it wait, then are refused.
    pub max_live_bytes: usize,
    /// Traces with live spans, of all tenants; pushes beyond it are refused.
    pub max_live_traces: usize,
    /// Blocks of one tenant that wait to be written; beyond it live spans gather in one larger block.
    pub max_sealed_blocks: usize,
    /// Blocks written at the same time.
    pub flush_concurrency: usize,
    /// Pause before a block that could not be written is tried again, in milliseconds; doubled each time.
    pub flush_retry_min_ms: u64,
    /// Longest pause between tries, in milliseconds.
    pub flush_retry_max_ms: u64,
    /// How long `/flush` waits for the blocks to be committed, in milliseconds.
    pub flush_wait_ms: u64,
    /// How long a shutdown waits for the live spans to become blocks, in milliseconds. What is not flushed by then stays
    /// in the write-ahead log.
    pub shutdown_flush_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request_bytes: 64 << 20,
            max_concurrent_requests: 64,
            request_timeout_ms: 30_000,
            retry_after_seconds: 5,
            max_attribute_bytes: 2048,
            max_tenants: 10_000,
            wal_queue_requests: 256,
            wal_batch_bytes: 8 << 20,
            push_wait_ms: 2000,
            max_block_duration_ms: 60_000,
            max_block_bytes: 64 << 20,
            max_block_traces: 100_000,
            trace_idle_ms: 5000,
            max_trace_live_ms: 30_000,
            max_carry_percent: 25,
            max_live_bytes: 256 << 20,
            max_live_traces: 500_000,
            max_sealed_blocks: 16,
            flush_concurrency: 2,
            flush_retry_min_ms: 500,
            flush_retry_max_ms: 30_000,
            flush_wait_ms: 60_000,
            shutdown_flush_ms: 20_000,
        }
    }
}

impl Config {
    /// Checks what no type can say. The error names the setting.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = [
            ("max_request_bytes", self.max_request_bytes),
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("max_tenants", self.max_tenants),
            ("wal_queue_requests", self.wal_queue_requests),
            ("wal_batch_bytes", self.wal_batch_bytes),
            ("max_block_bytes", self.max_block_bytes),
            ("max_block_traces", self.max_block_traces),
            ("max_live_traces", self.max_live_traces),
            ("max_sealed_blocks", self.max_sealed_blocks),
            ("flush_concurrency", self.flush_concurrency),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(Error::invalid(format!("ingest.{name} must be at least 1")));
        }
        if self.max_request_bytes > u32::MAX as usize / 2 {
            return Err(Error::invalid("ingest.max_request_bytes must be less than 2 GiB"));
        }
        if self.max_live_bytes < self.max_request_bytes {
            return Err(Error::invalid("ingest.max_live_bytes must be at least ingest.max_request_bytes"));
        }
        if self.max_live_bytes > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(Error::invalid("ingest.max_live_bytes is too large"));
        }
        if self.max_carry_percent > 90 {
            return Err(Error::invalid("ingest.max_carry_percent must be at most 90"));
        }
        Ok(())
    }

    pub(crate) fn push_wait(&self) -> Duration {
        Duration::from_millis(self.push_wait_ms)
    }
}
