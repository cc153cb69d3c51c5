//! Settings of the engine: plain data. Only the process reads them from flags, environment and files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::block::{BlockVersion, DedicatedColumns};

/// How blocks are found, read and written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often the block store is listed for blocks that others wrote, in seconds.
    pub blocklist_poll_seconds: u64,
    /// Spans in one batch of a scan's output.
    pub scan_batch_rows: usize,
    /// Row groups and live slices scanned at the same time by one query; 0 means as many as there are cores.
    pub scan_parallelism: usize,
    /// Largest number of spans that one scan of live spans holds decoded at a time.
    pub live_chunk_spans: usize,
    /// Number of blocks whose footers are kept in memory.
    pub footer_cache_blocks: usize,
    /// Memory for what says which spans of a block belong together (about five bytes an instrumentation scope), in bytes.
    pub shape_cache_bytes: usize,
    /// Memory for what queries decoded of blocks lately, in bytes: columns as codes (a byte a span where there are no more than 256
    /// values), durations and start times (8 bytes a span), dictionaries, trace ids, all attributes of a
    /// scope if `compare()` asks again. 0 remembers nothing.
    pub column_cache_bytes: usize,
    /// Memory for bloom filters of trace ids (`bloom_shard_size_bytes` for each file of a block), in bytes.
    pub bloom_cache_bytes: usize,
    /// Spans of a trace are put together across the blocks that overlap a query's time range or lie within so many seconds
    /// of it.
    pub trace_parts_seconds: u64,
    /// Trace ids of blocks that are kept in memory (16 bytes each), to know which traces lie in several blocks. Of more, the
    /// traces of older blocks are taken as they are stored.
    pub trace_ids_cached_max: usize,
    /// Memory for the attribute names and values of blocks that completion asked for lately, in bytes.
    pub vocabulary_cache_bytes: usize,
    /// How many blocks may fail to be read before a query fails; failed blocks are reported.
    pub tolerate_failed_blocks: u32,
    /// Version of the block format that blocks are written in, as Tempo's `block.version`: `vParquet5` or `vParquet4`. All
    /// versions are read.
    pub block_version: BlockVersion,
    /// Attributes with a column of their own in blocks that are written, as Tempo's `block.parquet_dedicated_columns`: `auto`
    /// chooses them for each block from its own attributes; `tempo` means Tempo's defaults, for blocks that a Tempo completes tags
    /// from; a list of `{name, scope, type, options}` is taken as it is, and an empty one means none. A block says in its
    /// `meta.json` which it has.
    pub parquet_dedicated_columns: DedicatedColumns,
    /// False-positive rate of the bloom filters of trace ids.
    pub bloom_false_positive: f64,
    /// Size of one bloom filter file in bytes.
    pub bloom_shard_size_bytes: u32,
    /// A row group is closed when it holds about this many field values (Tempo's `parquet_row_group_size_bytes`).
    pub row_group_values: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            blocklist_poll_seconds: 10,
            scan_batch_rows: 8192,
            scan_parallelism: 0,
            live_chunk_spans: 65_536,
            footer_cache_blocks: 4096,
            shape_cache_bytes: 64 * 1024 * 1024,
            column_cache_bytes: 256 * 1024 * 1024,
            bloom_cache_bytes: 64 * 1024 * 1024,
            trace_parts_seconds: 3600,
            trace_ids_cached_max: 1_000_000,
            vocabulary_cache_bytes: 64 * 1024 * 1024,
            tolerate_failed_blocks: 0,
            block_version: BlockVersion::V5,
            parquet_dedicated_columns: DedicatedColumns::Tempo,
            bloom_false_positive: 0.01,
            bloom_shard_size_bytes: 102_400,
            row_group_values: 100_000_000,
        }
    }
}
