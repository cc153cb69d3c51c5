//! `system.attributes` and `system.attribute_values`: what blocks and live spans know of their attributes, without reading
//! spans.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    catalog::{Session, TableProvider, memory::MemorySourceConfig},
    error::Result as DfResult,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use tracehouse_engine::{
    BlockId, Engine, Result, TenantId,
    block::vocabulary::{Bounds, Collector, Vocabulary, scope_name},
};

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One row for each attribute, type and block.
    Attributes,
    /// One row for each of their values.
    Values,
}

impl Which {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Attributes, Self::Values];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attributes => "attributes",
            Self::Values => "attribute_values",
        }
    }

    /// The columns: name, type, whether they may be NULL, and what they hold.
    pub fn columns(self) -> Vec<(&'static str, DataType, bool, &'static str)> {
        let text = DataType::Utf8;
        let mut columns = vec![
            ("block_id", text.clone(), true, "the block; NULL for live spans"),
            ("scope", text.clone(), false, "span, resource, instrumentation, event, link, or intrinsic"),
            ("name", text.clone(), false, "the attribute's key, or the intrinsic's name in TraceQL"),
            ("type", text.clone(), false, "string, int, float, bool (of the elements, if an array), or other: what TraceQL does not see"),
        ];
        match self {
            Self::Attributes => columns.extend([
                ("count", DataType::Int64, false, "spans that have it themselves or by their resource or scope; events; links"),
                ("values_known", DataType::Int64, false, "distinct values in `system.attribute_values`"),
                ("complete", DataType::Boolean, false, "whether these are all of its values"),
            ]),
            Self::Values => columns.extend([
                ("value", text, false, "the value as text"),
                ("count", DataType::Int64, false, "how often it occurs; at least so often if the attribute's values are not complete"),
            ]),
        }
        columns
    }
}

/// One of the tables, of one tenant.
#[derive(Debug)]
pub struct AttributesTable {
    which: Which,
    engine: Arc<Engine>,
    tenant: TenantId,
    schema: SchemaRef,
}

impl AttributesTable {
    /// The table of a tenant.
    pub fn new(which: Which, engine: Arc<Engine>, tenant: TenantId) -> Self {
        let fields = which.columns().into_iter().map(|(name, data_type, nullable, _)| Field::new(name, data_type, nullable));
        Self { which, engine, tenant, schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }
    }

    async fn batches(&self) -> Result<Vec<RecordBatch>> {
        let snapshot = self.engine.snapshot(&self.tenant);
        let mut batches = Vec::new();
        if !snapshot.live.is_empty() {
            let live = snapshot.live_vocabulary(Collector::new(Bounds::FILE), None);
            batches.push(self.batch(None, &live)?);
        }
        for block in snapshot.blocks.iter() {
            if let (Some(vocabulary), _) = self.engine.vocabulary(&self.tenant, block).await? {
                batches.push(self.batch(Some(block.block_id), &vocabulary)?);
            }
        }
        Ok(batches)
    }

    fn batch(&self, block: Option<BlockId>, vocabulary: &Vocabulary) -> Result<RecordBatch> {
        let block = block.map(|id| id.to_string());
        let mut texts: [StringBuilder; 5] = Default::default();
        let (mut count, mut known, mut complete) = (Int64Builder::new(), Int64Builder::new(), BooleanBuilder::new());
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for entry in vocabulary.entries() {
            let keys = [block.as_deref(), Some(scope_name(entry.scope)), Some(&*entry.name), Some(entry.value_type.as_str())];
            let mut row = |value: Option<&str>, n: u64| {
                for (builder, text) in texts.iter_mut().zip(keys.into_iter().chain([value])) {
                    builder.append_option(text);
                }
                count.append_value(number(n));
            };
            match self.which {
                Which::Attributes => {
                    row(None, entry.count);
                    known.append_value(entry.values.len() as i64);
                    complete.append_value(entry.complete);
                }
                Which::Values => entry.values.iter().for_each(|(value, n)| row(Some(value), *n)),
            }
        }
        let [block, scope, name, value_type, value] = texts.map(|mut t| Arc::new(t.finish()) as ArrayRef);
        let mut columns = vec![block, scope, name, value_type];
        match self.which {
            Which::Attributes => {
                columns.extend([Arc::new(count.finish()) as ArrayRef, Arc::new(known.finish()), Arc::new(complete.finish())])
            }
            Which::Values => columns.extend([value, Arc::new(count.finish())]),
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

#[async_trait]
impl TableProvider for AttributesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let batches = self.batches().await.map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?;
        Ok(MemorySourceConfig::try_new_exec(&[batches], self.schema.clone(), projection.cloned())?)
    }
}
