//! A search as a table: a row for each matching span.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Column, Result as DfResult, TableReference, tree_node::Transformed, tree_node::TreeNode},
    datasource::provider_as_source,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, lit},
    physical_plan::ExecutionPlan,
};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{SpanColumn, SpanField, schema_of},
};
use tracehouse_sql::Sessions;

use crate::{
    plan::{Read, Whole, metrics::survivors_table, plan_filters, whole_traces},
    spansets::program::plain_filters,
    syntax::{Pipeline, Query, Root},
};

/// The spans that a search finds, in the traces that overlap a range.
#[derive(Debug)]
pub struct SearchTable {
    sessions: Sessions,
    tenant: TenantId,
    query: Query,
    range: Option<(i64, i64)>,
    schema: SchemaRef,
}

impl SearchTable {
    /// Of a checked query; `range` is in Unix nanoseconds, inclusive.
    pub fn new(sessions: Sessions, tenant: TenantId, query: Query, range: Option<(i64, i64)>) -> Self {
        let spans = schema_of(&columns());
        let more = [Field::new("spanset", DataType::Int32, false), Field::new("spanset_attributes", DataType::Utf8, false)];
        let fields: Vec<_> = spans.fields().iter().cloned().chain(more.map(Arc::new)).collect();
        Self { sessions, tenant, query, range, schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows as a plan, under unqualified names.
    fn plan(&self, whole: &Whole) -> Result<LogicalPlan> {
        let Root::Spansets(pipeline) = &self.query.root else { return Err(Error::internal("a search table of a metrics query")) };
        match plain_filters(pipeline) {
            Some(_) => self.filtered(pipeline, whole),
            None => {
                let read = Read { sessions: &self.sessions, tenant: &self.tenant, range: self.range, whole };
                let table = survivors_table(read, pipeline, columns())?.numbered();
                Ok(LogicalPlanBuilder::scan(TableReference::bare(super::NAME), provider_as_source(Arc::new(table)), None)?.build()?)
            }
        }
    }

    fn filtered(&self, pipeline: &Pipeline, whole: &Whole) -> Result<LogicalPlan> {
        let plan = plan_filters(&self.sessions, &self.tenant, pipeline, &columns(), self.range, whole)?;
        let stored = plan.schema().columns().into_iter().map(Expr::Column);
        // All spans that pass a filter are one spanset.
        let shown: Vec<Expr> = stored.chain([lit(1i32).alias("spanset"), lit("{}").alias("spanset_attributes")]).collect();
        Ok(LogicalPlanBuilder::from(plan).project(shown)?.alias(super::NAME)?.build()?)
    }
}

fn columns() -> Vec<SpanColumn> {
    SpanField::ALL.into_iter().map(SpanColumn::Field).collect()
}

#[async_trait]
impl TableProvider for SearchTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let support = |f: &&Expr| match f.is_volatile() {
            true => TableProviderFilterPushDown::Unsupported,
            false => TableProviderFilterPushDown::Exact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let whole = whole_traces(&self.sessions, &self.tenant, self.range).await?;
        let mut plan = LogicalPlanBuilder::from(self.plan(&whole)?);
        for filter in filters {
            plan = plan.filter(unqualified(filter.clone())?)?;
        }
        plan = plan.limit(0, limit)?;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all).iter().map(|at| by_name(self.schema.field(*at).name()));
        let plan = plan.project(wanted.collect::<Vec<_>>())?.build()?;
        state.create_physical_plan(&plan).await
    }
}

fn by_name(name: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(super::NAME)), name))
}

/// The same expression over the columns of this table's plan.
fn unqualified(expr: Expr) -> DfResult<Expr> {
    let renamed = expr.transform(|e| match e {
        Expr::Column(column) => Ok(Transformed::yes(by_name(&column.name))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(renamed.data)
}
