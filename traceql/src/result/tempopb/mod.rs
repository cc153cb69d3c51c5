//! Messages of Tempo's query API in protobuf: what gRPC speaks, and HTTP where a client accepts `application/protobuf`.
//! Numbers as on the wire (field numbers of `tempopb`); names in our style. Traces are in `result/trace.rs`.

mod from;

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use serde::Deserialize;

/// What `Search` is asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchRequest {
    /// Attributes and the texts they must contain; the search before TraceQL.
    #[prost(map = "string, string", tag = "1")]
    pub tags: HashMap<String, String>,
    /// Shortest trace in milliseconds; 0 for no bound.
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    /// Longest trace in milliseconds; 0 for no bound.
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    /// Most traces; 0 for the default.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    /// Unix seconds.
    #[prost(uint32, tag = "5")]
    pub start: u32,
    /// Unix seconds.
    #[prost(uint32, tag = "6")]
    pub end: u32,
    /// TraceQL.
    #[prost(string, tag = "8")]
    pub query: String,
    /// Most spans shown of each trace; 0 for the default.
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
}

/// Traces found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchResponse {
    /// The traces, each of them once in a stream.
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    /// What it has cost so far; always there.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

/// A trace of a search answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceSearchMetadata {
    /// Hex, without leading zeros.
    #[prost(string, tag = "1")]
    pub trace_id: String,
    /// Service of the root span.
    #[prost(string, tag = "2")]
    pub root_service_name: String,
    /// Name of the root span.
    #[prost(string, tag = "3")]
    pub root_trace_name: String,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "4")]
    pub start_time_unix_nano: u64,
    /// Whole milliseconds.
    #[prost(uint32, tag = "5")]
    pub duration_ms: u32,
    /// The first of `span_sets`, for old clients.
    #[prost(message, optional, tag = "6")]
    pub span_set: Option<SpanSet>,
    /// The matching spans.
    #[prost(message, repeated, tag = "7")]
    pub span_sets: Vec<SpanSet>,
    /// Spans and errors by service.
    #[prost(map = "string, message", tag = "8")]
    pub service_stats: HashMap<String, ServiceStats>,
}

/// A service's share of a trace.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ServiceStats {
    /// Spans.
    #[prost(uint32, tag = "1")]
    pub span_count: u32,
    /// Spans with status error.
    #[prost(uint32, tag = "2")]
    pub error_count: u32,
}

/// Matching spans of a trace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanSet {
    /// Some of them.
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
    /// How many there are.
    #[prost(uint32, tag = "2")]
    pub matched: u32,
    /// What the query computed from them.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

/// A matching span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// 16 hex digits.
    #[prost(string, tag = "1")]
    pub span_id: String,
    /// Shown if the query names it.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "3")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "4")]
    pub duration_nanos: u64,
    /// The fields the query names.
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<KeyValue>,
}

/// What a search or a metrics query has cost so far.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[allow(missing_docs)] // Tempo's names
pub struct SearchMetrics {
    #[prost(uint32, tag = "1")]
    pub inspected_traces: u32,
    #[prost(uint64, tag = "2")]
    pub inspected_bytes: u64,
    #[prost(uint32, tag = "3")]
    pub total_blocks: u32,
    #[prost(uint32, tag = "4")]
    pub completed_jobs: u32,
    #[prost(uint32, tag = "5")]
    pub total_jobs: u32,
    #[prost(uint64, tag = "6")]
    pub total_block_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub inspected_spans: u64,
}

/// What `SearchTags` and `SearchTagsV2` are asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SearchTagsRequest {
    /// One scope, or empty for all.
    #[prost(string, tag = "1")]
    pub scope: String,
    /// TraceQL that spans must match.
    #[prost(string, tag = "2")]
    pub query: String,
    /// Unix seconds.
    #[prost(uint32, tag = "3")]
    pub start: u32,
    /// Unix seconds.
    #[prost(uint32, tag = "4")]
    pub end: u32,
    /// Most names of each scope; 0 for no bound.
    #[prost(uint32, tag = "5")]
    pub max_tags_per_scope: u32,
    /// Accepted and not needed.
    #[prost(uint32, tag = "6")]
    pub stale_values_threshold: u32,
}

/// Names in one list.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagsResponse {
    /// The names.
    #[prost(string, repeated, tag = "1")]
    #[serde(default)]
    pub tag_names: Vec<String>,
    /// What it has cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names by scope.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
pub struct SearchTagsV2Response {
    /// The scopes that have names.
    #[prost(message, repeated, tag = "1")]
    #[serde(default)]
    pub scopes: Vec<SearchTagsV2Scope>,
    /// What it has cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names of one scope.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
pub struct SearchTagsV2Scope {
    /// The scope.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its names.
    #[prost(string, repeated, tag = "2")]
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What `SearchTagValues` and `SearchTagValuesV2` are asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SearchTagValuesRequest {
    /// The attribute: a raw name, or with V2 an identifier of TraceQL.
    #[prost(string, tag = "1")]
    pub tag_name: String,
    /// TraceQL that spans must match.
    #[prost(string, tag = "2")]
    pub query: String,
    /// Unix seconds.
    #[prost(uint32, tag = "4")]
    pub start: u32,
    /// Unix seconds.
    #[prost(uint32, tag = "5")]
    pub end: u32,
    /// Most values; 0 for no bound.
    #[prost(uint32, tag = "6")]
    pub max_tag_values: u32,
    /// Accepted and not needed.
    #[prost(uint32, tag = "7")]
    pub stale_value_threshold: u32,
}

/// Values as text.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesResponse {
    /// The values.
    #[prost(string, repeated, tag = "1")]
    #[serde(default)]
    pub tag_values: Vec<String>,
    /// What it has cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Typed values.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesV2Response {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    #[serde(default)]
    pub tag_values: Vec<TagValue>,
    /// What it has cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// A value and its type.
#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
pub struct TagValue {
    /// `string`, `int`, `float`, `bool`, `duration` or `keyword`.
    #[prost(string, tag = "1")]
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The value as text.
    #[prost(string, tag = "2")]
    #[serde(default)]
    pub value: String,
}

/// What finding names or values has cost.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // Tempo's names
pub struct MetadataMetrics {
    #[prost(uint64, tag = "1")]
    #[serde(deserialize_with = "from::number")]
    pub inspected_bytes: u64,
    #[prost(uint32, tag = "2")]
    pub total_jobs: u32,
    #[prost(uint32, tag = "3")]
    pub completed_jobs: u32,
    #[prost(uint32, tag = "4")]
    pub total_blocks: u32,
    #[prost(uint64, tag = "5")]
    #[serde(deserialize_with = "from::number")]
    pub total_block_bytes: u64,
}

/// What `MetricsQueryRange` is asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueryRangeRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Unix nanoseconds; 0 for an hour before `end`.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Unix nanoseconds; 0 for now.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Nanoseconds; 0 for a step that suits the range.
    #[prost(uint64, tag = "4")]
    pub step: u64,
    /// Most exemplars; 0 for the default.
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
    /// Most series; 0 for the server's bound.
    #[prost(uint32, tag = "17")]
    pub max_series: u32,
}

/// What `MetricsQueryInstant` is asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueryInstantRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Unix nanoseconds.
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

/// Series over time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryRangeResponse {
    /// The series; in a stream a later value of a series at a time replaces an earlier one.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    /// What it has cost so far; always there.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    /// 0 complete, 1 partial.
    #[prost(int32, tag = "3")]
    pub status: i32,
    /// Why it is partial.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// A series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// Its values, oldest first.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Spans that stand for some of them.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
}

/// A value at a time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp_ms: i64,
}

/// A span that stands for a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar {
    /// `trace:id` and what the query names.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// The value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp_ms: i64,
}

/// One value a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryInstantResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    /// What it has cost so far; always there.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    /// 0 complete, 1 partial.
    #[prost(int32, tag = "3")]
    pub status: i32,
    /// Why it is partial.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// A series and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstantSeries {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
}
