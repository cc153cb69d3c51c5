//! What clients ask to draw their trees: catalogs, schemas, tables, columns, and keys, of which there are none.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use arrow_flight::{
    error::FlightError,
    sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables},
};
use datafusion::{logical_expr::TableType, prelude::SessionContext};
use tracehouse_engine::error::{Error, Result};

use crate::plain::plain_schema;

/// Kinds of tables, by the names clients know; Grafana shows only the first.
const TABLE_TYPES: [&str; 2] = ["BASE TABLE", "VIEW"];

fn encoding(error: FlightError) -> Error {
    Error::internal("catalog answer").with_source(error)
}

/// `GetCatalogs`.
pub fn catalogs(session: &SessionContext, command: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut rows = command.into_builder();
    session.catalog_names().iter().for_each(|name| rows.append(name));
    rows.build().map_err(encoding)
}

/// `GetDbSchemas`.
pub fn schemas(session: &SessionContext, command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut rows = command.into_builder();
    for catalog in session.catalog_names() {
        for schema in session.catalog(&catalog).iter().flat_map(|c| c.schema_names()) {
            rows.append(&catalog, &schema);
        }
    }
    rows.build().map_err(encoding)
}

/// `GetTables`.
pub async fn tables(session: &SessionContext, command: CommandGetTables) -> Result<RecordBatch> {
    let mut rows = command.into_builder();
    for catalog_name in session.catalog_names() {
        let Some(catalog) = session.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for name in schema.table_names() {
                let Some(table) = schema.table(&name).await? else { continue };
                let columns = plain_schema(&table.schema());
                rows.append(&catalog_name, &schema_name, &name, table_type(table.table_type()), &columns).map_err(encoding)?;
            }
        }
    }
    rows.build().map_err(encoding)
}

fn table_type(table_type: TableType) -> &'static str {
    match table_type {
        TableType::Base => TABLE_TYPES[0],
        TableType::View | TableType::Temporary => TABLE_TYPES[1],
    }
}

/// `GetTableTypes`.
pub fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut rows = command.into_builder();
    TABLE_TYPES.iter().for_each(|name| rows.append(name));
    rows.build().map_err(encoding)
}

/// `GetPrimaryKeys`: none.
pub fn primary_keys() -> RecordBatch {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(&[
            ("catalog_name", DataType::Utf8, true),
            ("db_schema_name", DataType::Utf8, true),
            ("table_name", DataType::Utf8, false),
            ("column_name", DataType::Utf8, false),
            ("key_name", DataType::Utf8, true),
            ("key_sequence", DataType::Int32, false),
        ])
    });
    RecordBatch::new_empty(SCHEMA.clone())
}

/// `GetExportedKeys`, `GetImportedKeys`, `GetCrossReference`: none.
pub fn foreign_keys() -> RecordBatch {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(&[
            ("pk_catalog_name", DataType::Utf8, true),
            ("pk_db_schema_name", DataType::Utf8, true),
            ("pk_table_name", DataType::Utf8, false),
            ("pk_column_name", DataType::Utf8, false),
            ("fk_catalog_name", DataType::Utf8, true),
            ("fk_db_schema_name", DataType::Utf8, true),
            ("fk_table_name", DataType::Utf8, false),
            ("fk_column_name", DataType::Utf8, false),
            ("key_sequence", DataType::Int32, false),
            ("fk_key_name", DataType::Utf8, true),
            ("pk_key_name", DataType::Utf8, true),
            ("update_rule", DataType::UInt8, false),
            ("delete_rule", DataType::UInt8, false),
        ])
    });
    RecordBatch::new_empty(SCHEMA.clone())
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable)).collect::<Vec<_>>(),
    ))
}
