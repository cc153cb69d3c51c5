//! From a checked tree to a DataFusion plan over `sql`'s tables.

mod filter;
pub mod metrics;
mod search;
mod spansets;
mod tags;

pub use filter::{TraceqlFilter, filter_expr};
pub use search::{ANSWER_COLUMNS, Condition, SearchPlan, Shown, plan_search};
pub use spansets::{NUMBERS, SpansetPlan, plan_positions};
pub use tags::{Place, plan_columns};
