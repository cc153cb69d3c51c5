//! Settings of the query API: plain data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of TraceQL queries; the defaults are Tempo's, but for the range of a search, which is bounded the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Traces of a search answer when the request names no limit.
    pub default_result_limit: u32,
    /// Largest limit a search may ask for.
    pub max_result_limit: u32,
    /// Spans shown of each trace when the request names no number.
    pub default_spans_per_span_set: u32,
    /// Largest number of spans of each trace a search may ask for.
    pub max_spans_per_span_set: u32,
    /// Longest time range of a search in seconds; 0 means no bound.
    pub max_search_duration_seconds: u64,
    /// Longest time range of a metrics query in seconds; 0 means no bound.
    pub max_metrics_duration_seconds: u64,
    /// Most intervals a metrics query may be cut into; 0 means no bound.
    pub max_metrics_intervals: u64,
    /// Most series of a metrics answer; what is more is cut off and the answer marked partial. 0 means no bound.
    pub max_metrics_series: usize,
    /// Largest answer of a trace by id, in bytes of protobuf; a larger trace is cut (v2) or refused (v1). 0 means no bound.
    pub max_bytes_per_trace: u64,
    /// A streamed search or metrics query reads blocks in parts of about this size, the newest first, and tells what is final
    /// after each (Tempo's `target_bytes_per_job`).
    pub streaming_job_bytes: u64,
    /// Time between two signs of life of a streamed query, in milliseconds.
    pub streaming_interval_ms: u64,
    /// Largest message of a streamed answer, in bytes (Tempo's `max_grpc_streaming_packet_size`).
    pub streaming_message_bytes_max: usize,
    /// Most bytes of values in one answer to a question for a tag's values; what is more is cut off.
    pub max_tag_values_bytes: usize,
    /// Memory for tag names and values that were read of blocks whose vocabulary has not all of them, in bytes.
    pub tag_cache_bytes: usize,
    /// Most traces of a search through the Jaeger API, which answers whole traces.
    pub max_jaeger_traces: usize,
    /// Whether language models may ask through `/api/mcp` (Model Context Protocol; Tempo's `query_frontend.mcp_server.enabled`).
    pub mcp_enabled: bool,
    /// Names and addresses by which clients of `/api/mcp` may call this server, with commas between them; empty for any. Others
    /// are refused, so that no web page can lead a browser here under a name of its own.
    pub mcp_allowed_hosts: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_result_limit: 20,
            max_result_limit: 262_144,
            default_spans_per_span_set: 3,
            max_spans_per_span_set: 100,
            max_search_duration_seconds: 168 * 3600,
            max_metrics_duration_seconds: 24 * 3600,
            max_metrics_intervals: 10_000,
            max_metrics_series: 0,
            max_bytes_per_trace: 0,
            streaming_job_bytes: 100 << 20,
            streaming_interval_ms: 500,
            streaming_message_bytes_max: 1 << 20,
            max_tag_values_bytes: 1_000_000,
            tag_cache_bytes: 32 * 1024 * 1024,
            max_jaeger_traces: 1500,
            mcp_enabled: false,
            mcp_allowed_hosts: "localhost,127.0.0.1,::1".to_owned(),
        }
    }
}
