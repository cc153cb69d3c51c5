//! The tables a tenant sees, made when a query names them.

mod attributes;

use std::{fmt::Write, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider},
    error::Result as DfResult,
    logical_expr::TableType,
};
use tracehouse_engine::{
    Engine, TenantId,
    scan::{SpanField, SpansTable},
};

use self::attributes::{AttributesTable, Which};

/// Name of the only catalog.
pub const CATALOG: &str = "tracehouse";

/// Name of the schema of the tables.
pub const SCHEMA: &str = "public";

/// Name of the schema of tables about the store itself.
const SYSTEM: &str = "system";

/// Name of the table of spans.
const SPANS: &str = "spans";

/// Catalogs, schemas and tables of one tenant. Cheap to make: it holds the engine and a name.
#[derive(Clone, Debug)]
pub struct TenantTables {
    engine: Arc<Engine>,
    tenant: TenantId,
}

impl TenantTables {
    /// The tables of `tenant`.
    pub fn new(engine: Arc<Engine>, tenant: TenantId) -> Self {
        Self { engine, tenant }
    }
}

impl CatalogProviderList for TenantTables {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None // read only: nothing asks for it
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as _)
    }
}

impl CatalogProvider for TenantTables {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned(), SYSTEM.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SCHEMA => Some(Arc::new(self.clone())),
            SYSTEM => Some(Arc::new(SystemTables(self.clone()))),
            _ => None,
        }
    }
}

/// The schema `system`.
#[derive(Clone, Debug)]
struct SystemTables(TenantTables);

#[async_trait]
impl SchemaProvider for SystemTables {
    fn table_names(&self) -> Vec<String> {
        Which::ALL.map(|t| t.name().to_owned()).to_vec()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let which = Which::ALL.into_iter().find(|t| t.name() == name);
        Ok(which.map(|which| Arc::new(AttributesTable::new(which, self.0.engine.clone(), self.0.tenant.clone())) as _))
    }

    async fn table_type(&self, name: &str) -> DfResult<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::View))
    }

    fn table_exist(&self, name: &str) -> bool {
        Which::ALL.iter().any(|t| t.name() == name)
    }
}

#[async_trait]
impl SchemaProvider for TenantTables {
    fn table_names(&self) -> Vec<String> {
        vec![SPANS.to_owned()]
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        Ok((name == SPANS).then(|| Arc::new(SpansTable::new(self.engine.clone(), self.tenant.clone())) as _))
    }

    async fn table_type(&self, name: &str) -> DfResult<Option<TableType>> {
        Ok((name == SPANS).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        name == SPANS
    }
}

/// The columns of the tables as a Markdown page section; `docs/sql.md` holds it word for word.
pub fn describe_tables_markdown() -> String {
    columns_markdown(SpanField::ALL.map(SpanField::describe))
}

fn columns_markdown(columns: impl IntoIterator<Item = (&'static str, DataType, bool, &'static str)>) -> String {
    let mut text = String::from("| column | type | NULL | what it holds |\n|---|---|---|---|\n");
    for (name, data_type, nullable, what) in columns {
        let nullable = if nullable { "yes" } else { "no" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {} | {nullable} | {what} |", sql_type(&data_type));
    }
    text
}

/// The name under which SQL knows a column's type.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "text".to_owned(),
        DataType::Dictionary(_, value) => sql_type(value),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) => format!("timestamp(9), {zone}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_describes_the_table() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md"));
        let columns = describe_tables_markdown();
        assert!(page.contains(&columns), "put this into docs/sql.md:\n{columns}");
        for table in Which::ALL {
            let columns = columns_markdown(table.columns());
            assert!(page.contains(&columns), "put this into docs/sql.md, system.{}:\n{columns}", table.name());
        }
    }
}
