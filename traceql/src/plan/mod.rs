//! From a checked tree to a DataFusion plan over `sql`'s tables.

mod filter;
mod known;
pub mod metrics;
mod search;
mod spansets;
mod tags;
mod whole;

pub use filter::{TraceqlFilter, filter_expr};
pub use known::{search_finds_nothing, series_find_nothing};
pub use search::{ANSWER_COLUMNS, Condition, SearchPlan, Shown, plan_filters, plan_search, reach};
pub use spansets::{NUMBERS, Read, SpansetPlan, answer_column};
pub use tags::{Place, plan_columns};
pub use whole::{Whole, whole_traces, with_whole};
