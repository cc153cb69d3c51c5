//! Walks over a tree: which attributes and intrinsics it names.

use super::ast::{Aggregate, Field, FieldExpr, MetricsExpr, MetricsFn, Pipeline, Query, Root, ScalarExpr, SpansetExpr, Stage};

impl FieldExpr {
    /// All attributes and intrinsics named, in order of appearance, with repeats.
    #[must_use]
    pub fn fields(&self) -> Vec<&Field> {
        let mut out = Vec::new();
        field_expr(self, &mut |field| out.push(field));
        out
    }

    /// Whether the value depends on the span.
    #[must_use]
    pub fn references_span(&self) -> bool {
        let mut found = false;
        field_expr(self, &mut |_| found = true);
        found
    }
}

/// Calls `see` for each attribute or intrinsic of a query, in order of appearance, with repeats.
pub fn visit_fields<'a>(query: &'a Query, see: &mut dyn FnMut(&'a Field)) {
    match &query.root {
        Root::Spansets(pipeline) => visit_pipeline_fields(pipeline, see),
        Root::Metrics(metrics) => metrics_expr(&metrics.expr, see),
    }
}

/// Calls `see` for each attribute or intrinsic of a pipeline, in order of appearance, with repeats.
pub fn visit_pipeline_fields<'a>(pipeline: &'a Pipeline, see: &mut dyn FnMut(&'a Field)) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(expr) => spanset_expr(expr, see),
            Stage::Scalar(filter) => {
                scalar_expr(&filter.lhs, see);
                scalar_expr(&filter.rhs, see);
            }
            Stage::By(expr) => field_expr(expr, see),
            Stage::Coalesce => {}
            Stage::Select(fields) => fields.iter().for_each(&mut *see),
        }
    }
}

fn spanset_expr<'a>(expr: &'a SpansetExpr, see: &mut dyn FnMut(&'a Field)) {
    match expr {
        SpansetExpr::Filter(expr) => field_expr(expr, see),
        SpansetExpr::Binary { lhs, rhs, .. } => {
            spanset_expr(lhs, see);
            spanset_expr(rhs, see);
        }
        SpansetExpr::Pipeline(pipeline) => visit_pipeline_fields(pipeline, see),
    }
}

fn scalar_expr<'a>(expr: &'a ScalarExpr, see: &mut dyn FnMut(&'a Field)) {
    match expr {
        ScalarExpr::Static(_) => {}
        ScalarExpr::Aggregate(aggregate) => aggregate_expr(aggregate, see),
        ScalarExpr::Binary { lhs, rhs, .. } => {
            scalar_expr(lhs, see);
            scalar_expr(rhs, see);
        }
        ScalarExpr::Pipeline(pipeline, aggregate) => {
            visit_pipeline_fields(pipeline, see);
            aggregate_expr(aggregate, see);
        }
    }
}

fn aggregate_expr<'a>(aggregate: &'a Aggregate, see: &mut dyn FnMut(&'a Field)) {
    if let Some(expr) = &aggregate.expr {
        field_expr(expr, see);
    }
}

fn field_expr<'a>(expr: &'a FieldExpr, see: &mut dyn FnMut(&'a Field)) {
    match expr {
        FieldExpr::Static(_) => {}
        FieldExpr::Field(field) => see(field),
        FieldExpr::Unary { expr, .. } => field_expr(expr, see),
        FieldExpr::Binary { lhs, rhs, .. } => {
            field_expr(lhs, see);
            field_expr(rhs, see);
        }
    }
}

fn metrics_expr<'a>(expr: &'a MetricsExpr, see: &mut dyn FnMut(&'a Field)) {
    match expr {
        MetricsExpr::Scalar(_) => {}
        MetricsExpr::Binary { lhs, rhs, .. } => {
            metrics_expr(lhs, see);
            metrics_expr(rhs, see);
        }
        MetricsExpr::Series(series) => {
            visit_pipeline_fields(&series.pipeline, see);
            match &series.function {
                MetricsFn::Rate | MetricsFn::CountOverTime => {}
                MetricsFn::MinOverTime(field)
                | MetricsFn::MaxOverTime(field)
                | MetricsFn::SumOverTime(field)
                | MetricsFn::AvgOverTime(field)
                | MetricsFn::HistogramOverTime(field)
                | MetricsFn::QuantileOverTime(field, _) => see(field),
                MetricsFn::Compare(compare) => field_expr(&compare.filter, see),
            }
            series.by.iter().for_each(see);
        }
    }
}
