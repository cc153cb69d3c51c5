//! Settings of SQL sessions: plain data. Only the process reads them from flags, environment and files.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What plans may use while they run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory that all running queries together may hold in sorts, joins and aggregates, in bytes. A query that needs more
    /// spills to disk if it can, and fails if it cannot.
    pub memory_bytes_max: u64,
    /// Memory that one query may hold in the same way, in bytes. A query that needs more and cannot spill fails.
    pub query_memory_bytes_max: u64,
    /// Disk that all running queries together may fill with spilled data, in bytes.
    pub spill_bytes_max: u64,
    /// Folder for spilled data; the system's temporary folder if not set.
    pub spill_dir: Option<PathBuf>,
    /// Parallel parts a query is split into; 0 means as many as there are cores.
    pub target_partitions: usize,
    /// Rows in one batch between operators.
    pub batch_rows: usize,
    /// Length of the longest SQL text taken, in bytes.
    pub sql_bytes_max: usize,
    /// Queries of all tenants and doors (HTTP, gRPC, Flight SQL) that run at the same time; more wait.
    pub max_concurrent_queries: usize,
    /// Queries of one tenant that may wait; one more is refused with 429. Tenants take turns.
    pub max_queued_queries_per_tenant: usize,
    /// Queries of all tenants together that may wait.
    pub max_queued_queries: usize,
    /// Longest time a query may take, waiting and running, in seconds.
    pub query_timeout_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes_max: 2 << 30,
            query_memory_bytes_max: 1 << 30,
            spill_bytes_max: 10 << 30,
            spill_dir: None,
            target_partitions: 0,
            batch_rows: 8192,
            sql_bytes_max: 1 << 20,
            max_concurrent_queries: 20,
            max_queued_queries_per_tenant: 2000,
            max_queued_queries: 10_000,
            query_timeout_seconds: 120,
        }
    }
}
