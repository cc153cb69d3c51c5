//! A JSON function that looks for one key of an attributes column reads that attribute alone: `span_attributes->>'k'` need not make
//! the JSON of all attributes of each span. The function stays and gets a JSON object of nothing but that attribute, so nothing
//! is answered otherwise; and of such objects there are few, so the scan asks its conditions and groups once for each of them.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    catalog::{default_table_source::provider_as_source, default_table_source::source_as_provider},
    common::{
        Column, Result, TableReference,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{Aggregate, Expr, LogicalPlan, Projection, SubqueryAlias, TableScan, TableScanBuilder, expr_rewriter::NamePreserver},
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};
use tracehouse_engine::scan::{AttributeScope, SpanColumn, SpanField, SpansTable};

/// Functions whose answer depends on nothing of an object but the value of the key that is their second argument.
const FUNCTIONS: [&str; 9] = [
    "json_as_text",
    "json_contains",
    "json_get",
    "json_get_array",
    "json_get_bool",
    "json_get_float",
    "json_get_int",
    "json_get_json",
    "json_get_str",
];

/// The columns that hold the attributes of a scope as JSON.
const COLUMNS: [(SpanField, AttributeScope); 3] = [
    (SpanField::SpanAttributes, AttributeScope::Span),
    (SpanField::ResourceAttributes, AttributeScope::Resource),
    (SpanField::ScopeAttributes, AttributeScope::Instrumentation),
];

/// Rewrites the filters of a scan of spans, and a projection or aggregation right above one.
#[derive(Debug)]
pub struct AttributesByKey;

impl OptimizerRule for AttributesByKey {
    fn name(&self) -> &str {
        "attributes_by_key"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let new = match &plan {
            LogicalPlan::TableScan(scan) => filtered(scan)?,
            LogicalPlan::Projection(projection) => match Below::of(&projection.input) {
                Some(mut below) => {
                    let exprs = below.rewrite_all(&plan, &projection.expr)?;
                    match below.input(exprs.iter())? {
                        Some(input) => {
                            let schema = projection.schema.clone();
                            Some(LogicalPlan::Projection(Projection::try_new_with_schema(exprs, Arc::new(input), schema)?))
                        }
                        None => None,
                    }
                }
                None => None,
            },
            LogicalPlan::Aggregate(aggregate) => match Below::of(&aggregate.input) {
                Some(mut below) => {
                    let groups = below.rewrite_all(&plan, &aggregate.group_expr)?;
                    let functions = below.rewrite_all(&plan, &aggregate.aggr_expr)?;
                    match below.input(groups.iter().chain(&functions))? {
                        Some(input) => {
                            let schema = aggregate.schema.clone();
                            let new = Aggregate::try_new_with_schema(Arc::new(input), groups, functions, schema)?;
                            Some(LogicalPlan::Aggregate(new))
                        }
                        None => None,
                    }
                }
                None => None,
            },
            _ => None,
        };
        Ok(new.map_or_else(|| Transformed::no(plan), Transformed::yes))
    }
}

/// The scan with its own filters rewritten, if any is.
fn filtered(scan: &TableScan) -> Result<Option<LogicalPlan>> {
    let Some(mut below) = Below::of_scan(scan, None) else { return Ok(None) };
    let filters = scan.filters.iter().map(|f| below.rewrite(f.clone())).collect::<Result<Vec<_>>>()?;
    if below.more.is_empty() {
        return Ok(None);
    }
    let all = || (0..scan.source.schema().fields().len()).collect();
    let projection = Some(scan.projection.clone().unwrap_or_else(all));
    Ok(Some(LogicalPlan::TableScan(TableScan { source: below.source(), filters, projection, ..scan.clone() })))
}

/// A scan of spans, perhaps under another name, and the columns that it is to have besides.
struct Below<'a> {
    scan: &'a TableScan,
    alias: Option<&'a TableReference>,
    table: SpansTable,
    more: Vec<SpanColumn>,
}

impl<'a> Below<'a> {
    fn of(plan: &'a LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => Self::of_scan(scan, None),
            LogicalPlan::SubqueryAlias(alias) => match &*alias.input {
                LogicalPlan::TableScan(scan) => Self::of_scan(scan, Some(&alias.alias)),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_scan(scan: &'a TableScan, alias: Option<&'a TableReference>) -> Option<Self> {
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<SpansTable>()?.clone();
        Some(Self { scan, alias, table, more: Vec::new() })
    }

    /// The name that the scan's columns have above it.
    fn relation(&self) -> &TableReference {
        self.alias.unwrap_or(&self.scan.table_name)
    }

    /// The expressions of a plan right above, with the names they had.
    fn rewrite_all(&mut self, plan: &LogicalPlan, exprs: &[Expr]) -> Result<Vec<Expr>> {
        let names = NamePreserver::new(plan);
        exprs
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                Ok(name.restore(self.rewrite(expr.clone())?))
            })
            .collect()
    }

    fn rewrite(&mut self, expr: Expr) -> Result<Expr> {
        let new = expr.transform_up(|mut node| {
            let Expr::ScalarFunction(function) = &mut node else { return Ok(Transformed::no(node)) };
            let known = FUNCTIONS.contains(&function.func.name());
            let [Expr::Column(column), Expr::Literal(key, _), ..] = &function.args[..] else { return Ok(Transformed::no(node)) };
            let (true, Some(Some(key)), Some(scope)) = (known, key.try_as_str(), self.scope(column)) else {
                return Ok(Transformed::no(node));
            };
            let new = SpanColumn::AttributeJson { scope, key: key.into() };
            function.args[0] = Expr::Column(Column::new(column.relation.clone(), new.name()));
            if !self.table.columns().contains(&new) && !self.more.contains(&new) {
                self.more.push(new);
            }
            Ok(Transformed::yes(node))
        })?;
        Ok(new.data)
    }

    /// The scope whose attributes a column holds.
    fn scope(&self, column: &Column) -> Option<AttributeScope> {
        let here = column.relation.as_ref().is_none_or(|relation| relation == self.relation());
        COLUMNS.into_iter().find(|(field, _)| here && field.describe().0 == column.name).map(|(_, scope)| scope)
    }

    fn source(&self) -> Arc<dyn datafusion::logical_expr::TableSource> {
        provider_as_source(Arc::new(self.table.extended(self.more.clone())))
    }

    /// The scan with what these expressions need; `None` if nothing was rewritten.
    fn input<'b>(&self, exprs: impl Iterator<Item = &'b Expr>) -> Result<Option<LogicalPlan>> {
        let names: BTreeSet<&str> = exprs.flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        let known = |column: &SpanColumn| self.scan.projected_schema.fields().iter().any(|f| *f.name() == column.name());
        let is_new = |column: &SpanColumn| matches!(column, SpanColumn::AttributeJson { .. }) && names.contains(&*column.name());
        let all = || self.table.columns().iter().chain(&self.more);
        if !all().any(|column| is_new(column) && !known(column)) {
            return Ok(None);
        }
        let projection: Vec<usize> = all().enumerate().filter(|(_, c)| names.contains(&*c.name())).map(|(i, _)| i).collect();
        if projection.len() != names.len() {
            return Ok(None);
        }
        let scan = TableScanBuilder::new(self.scan.table_name.clone(), self.source())
            .with_projection(Some(projection))
            .with_filters(self.scan.filters.clone())
            .with_fetch(self.scan.fetch)
            .build()?;
        let scan = LogicalPlan::TableScan(scan);
        Ok(Some(match self.alias {
            Some(alias) => LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(scan), alias.clone())?),
            None => scan,
        }))
    }
}
