//! The table of spans: every column of `SpanField`, and whatever attributes were asked for.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::DFSchema,
    error::Result as DfResult,
    execution::context::ExecutionProps,
    logical_expr::{
        Expr, TableProviderFilterPushDown, TableType, expr_rewriter::unnormalize_col, lit,
        physical_planning_context::PhysicalPlanningContext, utils::conjunction,
    },
    physical_expr::{self, create_physical_expr},
    physical_plan::ExecutionPlan,
};
use futures::StreamExt;
use uuid::Uuid;

use super::{
    LiveChunkSource, LiveSegment, SpanScanExec,
    chunk::{ChunkSource, Effort},
    columns::{SpanColumn, SpanField, schema_of},
    filter::ScanFilter,
    newest::NewestTraces,
    queue::ScanUnit,
    traces::{PlannedTraceFilter, TraceChoice, TraceFilter},
};
use crate::{Engine, Snapshot, block::BlockMeta, clock, error::Result, tenant::TenantId};

/// Time to find out that no plan is needed: what takes longer is better done by a plan, in several tasks.
const IN_MEMORY_TIME: Duration = Duration::from_millis(5);
/// Footers that are read at the same time.
const OPEN_CONCURRENCY: usize = 16;

/// What was searched without reading anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchedInMemory {
    /// Row groups of blocks.
    pub chunks: u64,
    /// The traces in them.
    pub traces: u64,
    /// The spans in them.
    pub spans: u64,
}

/// The spans of one tenant as a DataFusion table.
#[derive(Clone, Debug)]
pub struct SpansTable {
    engine: Arc<Engine>,
    tenant: TenantId,
    columns: Arc<[SpanColumn]>,
    schema: SchemaRef,
    blocks_within: Option<(i64, i64)>,
    newest: Option<Arc<NewestTraces>>,
    choice: Option<TraceChoice>,
    traces: Option<TraceFilter>,
    parts: Option<Arc<Snapshot>>,
    only_blocks: Option<Arc<HashSet<Uuid>>>,
}

impl SpansTable {
    /// The fixed columns, in table order.
    pub fn new(engine: Arc<Engine>, tenant: TenantId) -> Self {
        Self::with_columns(engine, tenant, [])
    }

    /// The fixed columns, and these behind them.
    pub fn with_columns(engine: Arc<Engine>, tenant: TenantId, more: impl IntoIterator<Item = SpanColumn>) -> Self {
        let columns: Arc<[SpanColumn]> = SpanField::ALL.into_iter().map(SpanColumn::Field).chain(more).collect();
        let schema = schema_of(&columns);
        Self {
            engine,
            tenant,
            columns,
            schema,
            blocks_within: None,
            newest: None,
            choice: None,
            traces: None,
            parts: None,
            only_blocks: None,
        }
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[SpanColumn] {
        &self.columns
    }

    /// The same table with these columns behind those that it has.
    #[must_use]
    pub fn extended(&self, more: impl IntoIterator<Item = SpanColumn>) -> Self {
        let columns: Arc<[SpanColumn]> = self.columns.iter().cloned().chain(more).collect();
        let schema = schema_of(&columns);
        Self { columns, schema, ..self.clone() }
    }

    /// Leaves out blocks and live traces whose time range does not overlap this one (Unix nanoseconds, inclusive); all spans of
    /// the others stay.
    #[must_use]
    pub fn blocks_within(mut self, range: Option<(i64, i64)>) -> Self {
        self.blocks_within = range;
        self
    }

    /// Leaves out spans of traces that are too old for an answer of the newest. Every filter must be the table's own.
    #[must_use]
    pub fn newest(mut self, newest: Option<Arc<NewestTraces>>) -> Self {
        self.newest = newest;
        self
    }

    /// Reads these traces only, or all but these.
    #[must_use]
    pub fn of_traces(mut self, choice: Option<TraceChoice>) -> Self {
        self.choice = choice;
        self
    }

    /// Keeps spans by what is true of their traces, as far as one chunk holds them. Filters of a plan are asked of what is kept.
    #[must_use]
    pub fn filtering_traces(mut self, filter: Option<TraceFilter>) -> Self {
        self.traces = filter;
        self
    }

    /// Reads these blocks and live spans and no others; without them, what there is when the scan is planned.
    #[must_use]
    pub fn reading(mut self, parts: Option<Arc<Snapshot>>) -> Self {
        self.parts = parts;
        self
    }

    /// Reads these blocks and no live spans.
    #[must_use]
    pub fn only_blocks(mut self, blocks: Arc<HashSet<Uuid>>) -> Self {
        self.only_blocks = Some(blocks);
        self
    }

    /// The filter of traces over the table's columns.
    fn planned_traces(&self, state: &dyn Session) -> DfResult<Option<Arc<PlannedTraceFilter>>> {
        let Some(filter) = &self.traces else { return Ok(None) };
        let schema = DFSchema::try_from(self.schema.clone())?;
        let condition = |expr: &Expr| match *expr == lit(true) {
            true => Ok(None),
            false => state.create_physical_expr(unnormalize_col(expr.clone()), &schema).map(Some),
        };
        let conditions = filter.conditions.iter().map(condition).collect::<DfResult<_>>()?;
        Ok(Some(Arc::new(PlannedTraceFilter { test: filter.test.clone(), conditions, apart: filter.apart.clone() })))
    }

    /// What all chunks hold together, if what is in memory of them shows that no span passes all of these filters: then no plan
    /// need be made to find that out. `None` if that is not known, or something is wrong, which a plan will tell. Reads nothing.
    /// Live spans may always pass.
    pub async fn excluded_in_memory(&self, filters: &[Expr]) -> Option<SearchedInMemory> {
        self.searched_in_memory(filters).await.ok().flatten()
    }

    async fn searched_in_memory(&self, filters: &[Expr]) -> Result<Option<SearchedInMemory>> {
        let snapshot = self.parts();
        let lives = |segment: &LiveSegment| segment.traces.iter().any(|t| self.blocks_within.is_none_or(|range| t.overlaps(range)));
        if filters.is_empty() || !snapshot.unreadable.is_empty() || snapshot.live.iter().any(lives) {
            return Ok(None);
        }
        let schema = DFSchema::try_from(self.schema.clone())?;
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let parts = filters.iter().map(|expr| create_physical_expr(&unnormalize_col(expr.clone()), &schema, &props, &context));
        let filter = ScanFilter::new(&self.columns, Some(&physical_expr::conjunction(parts.collect::<DfResult<Vec<_>>>()?)))?;
        let prune = super::prune::Pruning::of(filters).within(self.blocks_within);
        let mut searched = SearchedInMemory::default();
        let began = clock::now();
        for meta in snapshot.blocks.iter().filter(|meta| !prune.excludes_block(meta)) {
            let Some(block) = self.engine.block_in_memory(&self.tenant, meta) else { return Ok(None) };
            for row_group in block.row_groups() {
                let Some(mut chunk) = block.row_group(row_group).open_in_memory()? else { return Ok(None) };
                if filter.excludes(chunk.as_mut(), Effort::Memory).await?.is_none() {
                    return Ok(None);
                }
                let stats = chunk.stats();
                searched.chunks += 1;
                searched.traces += stats.traces;
                searched.spans += stats.spans;
            }
            if began.elapsed() > IN_MEMORY_TIME {
                return Ok(None);
            }
        }
        Ok(Some(searched))
    }

    fn parts(&self) -> Snapshot {
        self.parts.as_ref().map_or_else(|| self.engine.snapshot(&self.tenant), |parts| parts.as_ref().clone())
    }

    /// The units of work of a scan that starts now.
    async fn units(&self, prune: &super::prune::Pruning) -> Result<Vec<ScanUnit>> {
        let snapshot = self.parts();
        let tolerance = snapshot.tolerance.clone();
        snapshot.judge_unreadable()?;
        let mut units = Vec::new();
        for mut segment in snapshot.live.into_iter().filter(|_| self.only_blocks.is_none()) {
            if let Some(range) = self.blocks_within {
                segment.traces.retain(|t| t.overlaps(range));
            }
            units.extend(live_units(segment.traces, self.engine.config().live_chunk_spans));
        }
        let wanted = |meta: &Arc<BlockMeta>| self.only_blocks.as_ref().is_none_or(|only| only.contains(&meta.block_id));
        let metas: Vec<_> = snapshot.blocks.iter().filter(|meta| wanted(meta) && !prune.excludes_block(meta)).collect();
        // On an object store each footer takes as long as all together.
        let opening: Vec<_> = metas.iter().map(|meta| self.engine.open_block(&self.tenant, meta)).collect();
        let mut opened = futures::stream::iter(opening).buffered(OPEN_CONCURRENCY);
        for meta in metas {
            let Some(block) = opened.next().await else { break };
            if let Some(block) = tolerance.judge(meta.block_id, block)? {
                units.extend(block.row_groups().map(|i| ScanUnit::of_block(block.row_group(i), meta.block_id, tolerance.clone())));
            }
        }
        Ok(units)
    }
}

/// Live traces in slices of about `spans` spans.
fn live_units(traces: Vec<Arc<crate::Trace>>, spans: usize) -> Vec<ScanUnit> {
    let mut units = Vec::new();
    let (mut slice, mut held) = (Vec::new(), 0);
    for trace in traces {
        held += trace.span_count();
        slice.push(trace);
        if held >= spans {
            units.push(ScanUnit::new(Arc::new(LiveChunkSource::new(std::mem::take(&mut slice))) as Arc<dyn ChunkSource>));
            held = 0;
        }
    }
    if !slice.is_empty() {
        units.push(ScanUnit::new(Arc::new(LiveChunkSource::new(slice)) as Arc<dyn ChunkSource>));
    }
    units
}

#[async_trait]
impl TableProvider for SpansTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| if f.is_volatile() { TableProviderFilterPushDown::Unsupported } else { TableProviderFilterPushDown::Exact })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let predicate = match conjunction(filters.iter().cloned()) {
            Some(expr) => Some(state.create_physical_expr(expr, &DFSchema::try_from(self.schema.clone())?)?),
            None => None,
        };
        let prune = super::prune::Pruning::of(filters).within(self.blocks_within);
        let units = self.units(&prune).await?;
        let projection = projection.cloned().unwrap_or_else(|| (0..self.columns.len()).collect());
        let config = self.engine.config();
        let parallelism = match config.scan_parallelism {
            0 => state.config().target_partitions(),
            n => n,
        };
        let scan = SpanScanExec::new(self.columns.clone(), projection, predicate, units, parallelism, config.scan_batch_rows, limit)?;
        let scan = scan.with_newest(self.newest.clone()).with_choice(self.choice.clone());
        Ok(Arc::new(scan.with_traces(self.planned_traces(state)?)))
    }
}
