//! Functions and operators beside DataFusion's own.

mod subscript;

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::planner::ExprPlanner};
use tracehouse_engine::error::Result;

/// Operators that must be looked at before DataFusion's own.
pub fn first_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(subscript::JsonSubscript)]
}

/// Registers the functions: JSON's `->`, `->>`, `?`, `json_get` and its kin.
pub fn register(state: &mut SessionState) -> Result<()> {
    Ok(datafusion_functions_json::register_all(state)?)
}
