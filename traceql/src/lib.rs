//! TraceQL: text to tree to DataFusion plan to Tempo's answers, and the Tempo query API that speaks it.
//!
//! ```text
//! api --> syntax (text -> tree) --> plan (tree -> DataFusion) --> sql --> ... rows --> result (rows -> Tempo's answer)
//!                                     eval (field expressions over columns)
//! ```
//! What a span alone cannot decide (operators between spansets, pipelines) is done trace by trace in `spansets`.
//! Knows no block: spans are rows of `sql`'s tables.

pub mod api;
pub mod config;
pub mod diff;
pub mod eval;
pub mod growing;
pub mod jaeger;
pub mod jobs;
pub mod legacy;
pub mod mcp;
pub mod metrics;
pub mod plan;
pub mod result;
pub mod search;
pub mod spansets;
pub mod summary;
pub mod syntax;
pub mod table;
pub mod tags;
pub mod trace;
mod turns;

pub use api::{Api, StreamingQuerier, querier_router, router};
pub use config::Config;
pub use legacy::{TagSearchRequest, search_by_tags};
pub use metrics::{InstantRequest, RangeRequest, query_instant, query_range};
pub use search::{SearchRequest, explain, parse, search};
pub use tags::{Completion, TagNames, TagScope, TagValue, TagValues, TagsRequest};
