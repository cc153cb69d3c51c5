//! The scan: nested on disk, flat in memory. A DataFusion table whose rows are spans, over blocks and live spans.

mod any_value;
mod chunk;
mod columns;
mod exec;
mod json;
mod live;
mod live_chunk;
mod prune;
mod table;

pub use chunk::{ChunkSource, ChunkStats, SpanChunk};
pub use columns::{
    AttributeScope, SpanColumn, SpanField, any_value_type, dictionary_type, list_of, schema_of, service_stats_type, timestamp_type,
};
pub use exec::SpanScanExec;
pub use json::{attributes_to_json, events_to_json, kind_text, links_to_json, status_text};
pub use live::{LiveSegment, LiveSpans, NoLiveSpans, OneTrace};
pub use live_chunk::{LiveChunkSource, PreparedTrace, flatten, prepare};
pub use table::SpansTable;
