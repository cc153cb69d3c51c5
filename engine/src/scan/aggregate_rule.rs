//! Where a plan aggregates the rows of a scan, the first half of the aggregation moves into the scan.

use std::sync::Arc;

use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    config::ConfigOptions,
    error::Result as DfResult,
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        projection::ProjectionExec,
    },
};

use super::{
    aggregate::{Aggregation, SpanAggregateExec},
    aggregate_values::takes_any,
    exec::SpanScanExec,
};

/// Replaces a partial aggregation over a scan of spans by one that works on codes.
#[derive(Debug, Default)]
pub struct AggregateInScan;

impl PhysicalOptimizerRule for AggregateInScan {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match moved(&node, config.execution.batch_size.get())? {
            Some(new) => Ok(Transformed::yes(new)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "aggregate_in_scan"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn moved(node: &Arc<dyn ExecutionPlan>, batch_rows: usize) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let single = match aggregate.mode() {
        AggregateMode::Partial => false,
        AggregateMode::Single | AggregateMode::SinglePartitioned => true,
        _ => return Ok(None),
    };
    let groups = aggregate.group_expr();
    let simple = groups.is_single() || groups.is_empty();
    let plain = |f: &Arc<datafusion::physical_expr::aggregate::AggregateFunctionExpr>| {
        !f.is_distinct() && f.order_bys().is_empty() && (f.groups_accumulator_supported() || takes_any(f))
    };
    if !simple
        || aggregate.limit_options().is_some()
        || aggregate.filter_expr().iter().any(Option::is_some)
        || !aggregate.aggr_expr().iter().all(plain)
    {
        return Ok(None);
    }
    let Some((scan, projected)) = scan_below(aggregate.input()) else { return Ok(None) };
    let inline = |expr: &Arc<dyn PhysicalExpr>| inlined(expr, projected.as_deref());
    let aggregation = Aggregation {
        groups: groups.expr().iter().map(|(expr, _)| inline(expr)).collect::<DfResult<_>>()?,
        arguments: aggregate.aggr_expr().iter().map(|f| f.expressions().iter().map(inline).collect()).collect::<DfResult<_>>()?,
        functions: aggregate.aggr_expr().to_vec(),
        schema: match single {
            false => aggregate.schema(),
            true => partial_of(aggregate)?.schema(),
        },
    };
    let partial: Arc<dyn ExecutionPlan> = Arc::new(SpanAggregateExec::new(scan, aggregation, batch_rows));
    if !single {
        return Ok(Some(partial));
    }
    let merged: Arc<dyn ExecutionPlan> = if partial.properties().output_partitioning().partition_count() > 1 {
        Arc::new(datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec::new(partial))
    } else {
        partial
    };
    let filters = vec![None; aggregate.aggr_expr().len()];
    let last = AggregateExec::try_new(
        AggregateMode::Final,
        groups.as_final(),
        aggregate.aggr_expr().to_vec(),
        filters,
        merged,
        aggregate.input_schema(),
    )?;
    Ok(Some(Arc::new(last)))
}

fn partial_of(aggregate: &AggregateExec) -> DfResult<AggregateExec> {
    AggregateExec::try_new(
        AggregateMode::Partial,
        aggregate.group_expr().clone(),
        aggregate.aggr_expr().to_vec(),
        vec![None; aggregate.aggr_expr().len()],
        aggregate.input().clone(),
        aggregate.input_schema(),
    )
}

/// The expressions of a projection.
type Projected = Vec<Arc<dyn PhysicalExpr>>;

/// The scan that an aggregation reads, through at most one projection; its expressions come along.
fn scan_below(input: &Arc<dyn ExecutionPlan>) -> Option<(SpanScanExec, Option<Projected>)> {
    let mut node = input;
    let mut projected = None;
    loop {
        if let Some(scan) = node.downcast_ref::<SpanScanExec>() {
            return (!scan.is_limited()).then(|| (scan.anew(), projected));
        }
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            if projected.is_some() {
                return None;
            }
            projected = Some(projection.expr().iter().map(|e| e.expr.clone()).collect());
        } else if node.name() != "CooperativeExec" {
            return None;
        }
        let [child] = node.children()[..] else { return None };
        node = child;
    }
}

/// An expression over a projection's output as one over its input.
fn inlined(expr: &Arc<dyn PhysicalExpr>, projected: Option<&[Arc<dyn PhysicalExpr>]>) -> DfResult<Arc<dyn PhysicalExpr>> {
    let Some(projected) = projected else { return Ok(expr.clone()) };
    expr.clone()
        .transform_up(|node| {
            let of = node.downcast_ref::<Column>().and_then(|column| projected.get(column.index()));
            Ok(of.map_or_else(|| Transformed::no(node.clone()), |input| Transformed::yes(input.clone())))
        })
        .data()
}
