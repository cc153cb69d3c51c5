//! The spans that survive a pipeline that looks at whole traces (`{ } >> { }`, `count() > 2`), as a table for the metrics
//! function behind it. What is inside the table is a plan of its own, run when the table is read.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::SchemaRef,
};
use datafusion::{
    catalog::streaming::StreamingTable,
    common::TableReference,
    datasource::provider_as_source,
    error::{DataFusionError, Result as DfResult},
    execution::TaskContext,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use futures::{StreamExt, stream};
use tracehouse_engine::{
    Result, TenantId,
    scan::{SpanColumn, SpanField, schema_of},
};
use tracehouse_sql::Sessions;

use super::super::{
    ANSWER_COLUMNS, SpansetPlan,
    filter::SPANS,
    search::{numbered, overlapping, spans_with},
};
use crate::{
    eval::columns_of,
    spansets::{Evaluator, Sink, pipeline::Spanset, program::all_filters},
    syntax::{Field, Pipeline},
};

/// The spans of the traces that overlap `range`, as far as they survive `pipeline`: their start, trace id and these fields.
pub fn survivors(sessions: &Sessions, tenant: &TenantId, pipeline: &Pipeline, fields: &[Field], range: (i64, i64)) -> Result<LogicalPlan> {
    let mut shown = vec![SpanColumn::Field(SpanField::StartTime), SpanColumn::Field(SpanField::TraceId)];
    for wanted in fields.iter().flat_map(columns_of) {
        if !shown.contains(&wanted) {
            shown.push(wanted);
        }
    }
    let mut columns: Vec<SpanColumn> = ANSWER_COLUMNS.into_iter().chain(shown.iter().cloned()).collect();
    let spansets = SpansetPlan::new(pipeline, &mut columns)?;
    let filtered = all_filters(pipeline).into_iter().flat_map(|f| f.fields()).flat_map(columns_of);
    let range = Some(range);
    let table = overlapping(spans_with(sessions, tenant, columns.iter().cloned().chain(filtered), range)?, range)?;
    let plan = spansets.plan(pipeline, table, numbered(&columns))?;
    let part =
        Survivors { sessions: sessions.clone(), tenant: tenant.clone(), plan, spansets: Arc::new(spansets), schema: schema_of(&shown) };
    let table = StreamingTable::try_new(part.schema.clone(), vec![Arc::new(part)])?;
    Ok(LogicalPlanBuilder::scan(TableReference::bare(SPANS), provider_as_source(Arc::new(table)), None)?.build()?)
}

/// The rows of the inner plan that survive.
#[derive(Debug)]
struct Survivors {
    sessions: Sessions,
    tenant: TenantId,
    plan: LogicalPlan,
    spansets: Arc<SpansetPlan>,
    schema: SchemaRef,
}

impl PartitionStream for Survivors {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sessions, tenant, plan) = (self.sessions.clone(), self.tenant.clone(), self.plan.clone());
        let (spansets, schema) = (self.spansets.clone(), self.schema.clone());
        let start = async move {
            let frame = sessions.frame(&tenant, plan)?;
            let rows = sessions.stream(frame).await?;
            let evaluator = Evaluator::new(&sessions, &tenant, &spansets)?;
            DfResult::Ok(stream::try_unfold(Some((evaluator, rows)), move |state| next(state, schema.clone())))
        };
        let batches = stream::once(start).flat_map(|started| match started {
            Ok(batches) => batches.boxed(),
            Err(e) => stream::once(async move { Err(e) }).boxed(),
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

type State = Option<(Evaluator, SendableRecordBatchStream)>;

/// Takes one batch of rows, and gives what survives of the traces that are complete now.
async fn next(state: State, schema: SchemaRef) -> DfResult<Option<(RecordBatch, State)>> {
    let Some((mut evaluator, mut rows)) = state else { return Ok(None) };
    let mut kept = Kept { schema, batches: Vec::new() };
    let state = match rows.next().await {
        Some(batch) => {
            evaluator.push(batch?, &mut kept).await.map_err(DataFusionError::from)?;
            Some((evaluator, rows))
        }
        None => {
            evaluator.finish(&mut kept).await.map_err(DataFusionError::from)?;
            None
        }
    };
    Ok(Some((concat_batches(&kept.schema, &kept.batches)?, state)))
}

/// What survives, cut to the columns of the table.
struct Kept {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Sink for Kept {
    fn add_trace(&mut self, chunk: &RecordBatch, _: std::ops::Range<usize>, spansets: &[Spanset]) -> Result<()> {
        if spansets.is_empty() {
            return Ok(());
        }
        let from = ANSWER_COLUMNS.len();
        let shown = chunk.columns()[from..from + self.schema.fields().len()].to_vec();
        let shown = RecordBatch::try_new(self.schema.clone(), shown)?;
        let rows: UInt32Array = spansets.iter().flat_map(|s| &s.spans).copied().collect();
        self.batches.push(take_record_batch(&shown, &rows)?);
        Ok(())
    }
}
