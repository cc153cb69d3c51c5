//! From a checked tree to a DataFusion plan over `sql`'s tables.

mod filter;
mod search;

pub use filter::{TraceqlFilter, filter_expr};
pub use search::{ANSWER_COLUMNS, Condition, SearchPlan, Shown, plan_search};
