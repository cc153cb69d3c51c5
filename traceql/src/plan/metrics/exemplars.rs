//! Exemplars: the spans that stand for chosen groups.
//!
//! The first plan names a witness for each group, the place of one of its spans. Of the groups a bounded number is chosen, and
//! this plan reads the spans at just those places.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray},
    buffer::BooleanBuffer,
    datatypes::Decimal128Type,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{SpanColumn, SpanField, SpanFilter, SpanTest},
};
use tracehouse_sql::Sessions;

use super::{
    super::{Read, Whole, filter::column},
    FieldFunction, Kind, between, fields_of, scan, stored_whole,
    survivors::survivors,
};
use crate::{
    eval::columns_of,
    metrics::time::Intervals,
    spansets::program::plain_filters,
    syntax::{Field, MetricsFn, Series},
};

/// The look-up of exemplars, planned.
#[derive(Debug)]
pub struct ExemplarPlan {
    /// Columns: place, start, trace id, number, then those of the fields in `shown` that are not of the group's key.
    pub plan: LogicalPlan,
    /// The fields an exemplar shows, in order, each with its position in the group's key if it is known from there.
    pub shown: Vec<(Field, Option<usize>)>,
}

/// Plans the look-up of the spans at these places (not empty), which the plan of the series has named.
pub fn plan_exemplars(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    places: HashSet<i128>,
    intervals: &Intervals,
    whole: &Whole,
) -> Result<ExemplarPlan> {
    let filters = plain_filters(&series.pipeline);
    let fields = fields_of(series, filters.as_deref().unwrap_or_default());
    let in_key = |field: &Field| series.by.iter().position(|by| by == field);
    let shown: Vec<(Field, Option<usize>)> = fields.into_iter().map(|field| (field.clone(), in_key(&field))).collect();
    let read: Vec<SpanColumn> = shown.iter().filter(|(_, key)| key.is_none()).flat_map(|(field, _)| columns_of(field)).collect();
    let (mut number, mut measured) = (lit(0f64), Vec::new());
    if let MetricsFn::MinOverTime(f)
    | MetricsFn::MaxOverTime(f)
    | MetricsFn::SumOverTime(f)
    | MetricsFn::AvgOverTime(f)
    | MetricsFn::HistogramOverTime(f)
    | MetricsFn::QuantileOverTime(f, _) = &series.function
    {
        number = FieldFunction::call(Kind::Number, std::slice::from_ref(f));
        measured = columns_of(f);
    }
    let columns = std::iter::once(SpanColumn::Place).chain(read.iter().cloned()).chain(measured);
    let source = match &filters {
        // The spans passed the filter when they were named.
        Some(_) => scan(sessions, tenant, columns)?,
        None => survivors(Read { sessions, tenant, range: Some((intervals.start, intervals.end())), whole }, &series.pipeline, columns)?,
    };
    let plan = LogicalPlanBuilder::from(between(source, intervals)?)
        .filter(SpanFilter::call(Arc::new(AtPlaces::new(places)), vec![column(&SpanColumn::Place)]))?;
    let mut out: Vec<Expr> = vec![
        column(&SpanColumn::Place).alias("place"),
        column(&SpanColumn::Field(SpanField::StartTime)).alias("start_time"),
        column(&SpanColumn::Field(SpanField::TraceId)).alias("trace_id"),
        number.alias("number"),
    ];
    out.extend(read.iter().enumerate().map(|(i, wanted)| column(wanted).alias(format!("{i}:{}", wanted.name()))));
    Ok(ExemplarPlan { plan: stored_whole(plan.project(out)?.build()?, series, whole)?, shown })
}

/// Whether a span is at one of some places.
#[derive(Debug)]
struct AtPlaces {
    name: String,
    places: HashSet<i128>,
}

impl AtPlaces {
    fn new(places: HashSet<i128>) -> Self {
        let mut sorted: Vec<&i128> = places.iter().collect();
        sorted.sort_unstable();
        let list = sorted.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Self { name: format!("place in ({list})"), places }
    }
}

impl SpanTest for AtPlaces {
    fn name(&self) -> &str {
        &self.name
    }

    fn evaluate(&self, columns: &[ArrayRef], spans: usize) -> Result<BooleanArray> {
        let places = columns.first().and_then(|c| c.as_primitive_opt::<Decimal128Type>());
        let places = places.ok_or_else(|| Error::internal("places of another type"))?.values();
        Ok(BooleanArray::new(BooleanBuffer::collect_bool(spans, |i| self.places.contains(&places[i])), None))
    }

    fn places(&self) -> Option<&HashSet<i128>> {
        Some(&self.places)
    }
}
