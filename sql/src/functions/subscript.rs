//! `span_attributes['key']` and `events[0]`, which mean the same as `->`.

use datafusion::{
    arrow::datatypes::DataType,
    common::DFSchema,
    error::Result,
    logical_expr::{
        Expr, ExprSchemable, GetFieldAccess, lit,
        planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr},
    },
};
use datafusion_functions_json::{JSON_UNION_DATA_TYPE, udfs::json_get_udf};

/// Plans a subscript of JSON text; DataFusion knows subscripts of lists, maps and structs.
#[derive(Debug)]
pub struct JsonSubscript;

impl ExprPlanner for JsonSubscript {
    fn plan_field_access(&self, raw: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let data_type = raw.expr.get_type(schema)?;
        let is_json = matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) || data_type == *JSON_UNION_DATA_TYPE;
        if !is_json {
            return Ok(PlannerResult::Original(raw));
        }
        let key = match &raw.field_access {
            GetFieldAccess::NamedStructField { name } => lit(name.clone()),
            GetFieldAccess::ListIndex { key } => key.as_ref().clone(),
            GetFieldAccess::ListRange { .. } => return Ok(PlannerResult::Original(raw)),
        };
        let name = format!("{}[{}]", title(&raw.expr), title(&key));
        Ok(PlannerResult::Planned(json_get_udf().call(vec![raw.expr, key]).alias(name)))
    }
}

/// How the expression reads in the title of a column.
fn title(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Literal(value, _) => value.try_as_str().flatten().map_or_else(|| value.to_string(), |text| format!("'{text}'")),
        other => other.to_string(),
    }
}
