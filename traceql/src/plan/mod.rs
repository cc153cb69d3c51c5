//! From a checked tree to a DataFusion plan over `sql`'s tables.

mod filter;
pub mod metrics;
mod search;

pub use filter::{TraceqlFilter, filter_expr};
pub use search::{ANSWER_COLUMNS, Condition, SearchPlan, Shown, plan_search};
