//! The scan: nested on disk, flat in memory. A DataFusion table whose rows are spans, over blocks and live spans.

mod aggregate;
mod aggregate_rule;
mod aggregate_values;
mod any_value;
mod chunk;
mod coded;
mod codes;
mod columns;
mod comparison;
mod exec;
mod filter;
mod groups;
mod interval;
mod json;
mod live;
mod live_attributes;
mod live_chunk;
mod members;
mod newest;
mod place;
mod prune;
mod queue;
mod span_filter;
mod table;
mod tolerance;
mod traces;
mod value_counts;
mod witness;

pub use aggregate::SpanAggregateExec;
pub use aggregate_rule::AggregateInScan;
pub use chunk::{ChunkSource, ChunkStats, ChunkTraces, Effort, SpanChunk};
pub use coded::CodedColumn;
pub(crate) use coded::spread;
pub use codes::Codes;
pub(crate) use codes::gather;
pub use columns::{
    AttributeScope, SpanColumn, SpanField, any_value_type, dictionary_type, list_of, schema_of, service_stats_type, timestamp_type,
};
pub use exec::SpanScanExec;
pub use filter::ValueTest;
pub use interval::{INTERVALS_MAX, IntervalFunction, ROUNDED_SECONDS, rounded_end, rounded_start};
pub use json::{attributes_to_json, events_to_json, kind_text, links_to_json, status_text};
pub use live::{LiveSegment, LiveSpans, NoLiveSpans, OneTrace};
pub(crate) use live_attributes::coded_records;
pub use live_chunk::{LiveChunkSource, PreparedTrace, flatten, prepare};
pub use members::{MEMBERS_MAX, MembersFunction};
pub use newest::NewestTraces;
pub(crate) use place::{place, places, span_at};
pub use span_filter::{Passing, SpanFilter, SpanTest};
pub use table::{SearchedInMemory, SpansTable};
pub use tolerance::{BlockFailures, Tolerance};
pub use traces::{TraceChoice, TraceFilter, TraceSpans, TraceTest};
pub(crate) use value_counts::AttributeBuilder;
pub use value_counts::{
    AttributeReader, AttributeTable, CodedAttributes, CountsReader, Scalar, attribute_type, value_counts, value_counts_type,
};
pub use witness::witness;
