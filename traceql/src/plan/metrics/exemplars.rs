//! Exemplars: the spans that stand for chosen groups.
//!
//! The first plan names a witness for each group, the start of its earliest span. Of the groups a bounded number is chosen,
//! and this plan looks up the spans with just those starts. So it reads one time column, and the rest of a few spans.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray},
    buffer::BooleanBuffer,
    datatypes::TimestampNanosecondType,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{SpanColumn, SpanField, SpanFilter, SpanTest},
};
use tracehouse_sql::Sessions;

use super::{
    super::{
        Read, Whole,
        filter::{column, filter_expr},
    },
    FieldFunction, Kind, fields_of, scan, stored_whole,
    survivors::survivors,
    timestamp,
};
use crate::{
    eval::columns_of,
    spansets::program::plain_filters,
    syntax::{Field, MetricsFn, Series},
};

/// The look-up of exemplars, planned.
#[derive(Debug)]
pub struct ExemplarPlan {
    /// Columns: start, trace id, key, exponent, number, then those of `fields`.
    pub plan: LogicalPlan,
    /// The fields an exemplar shows, in order.
    pub fields: Vec<Field>,
}

/// Plans the look-up of the matching spans that start at one of these times (Unix nanoseconds; not empty).
pub fn plan_exemplars(sessions: &Sessions, tenant: &TenantId, series: &Series, starts: &[i64], whole: &Whole) -> Result<ExemplarPlan> {
    let filters = plain_filters(&series.pipeline);
    let fields = fields_of(series, filters.as_deref().unwrap_or_default());
    let time = || column(&SpanColumn::Field(SpanField::StartTime));
    let (first, last) = (starts.iter().min().copied().unwrap_or(0), starts.iter().max().copied().unwrap_or(0));
    let source = match &filters {
        Some(_) => scan(sessions, tenant, fields.iter().flat_map(columns_of))?,
        None => {
            let read = Read { sessions, tenant, range: Some((first, last)), whole };
            survivors(read, &series.pipeline, fields.iter().flat_map(columns_of))?
        }
    };
    let plan = LogicalPlanBuilder::from(source)
        .filter(time().gt_eq(timestamp(first)).and(time().lt_eq(timestamp(last))))?
        .filter(SpanFilter::call(Arc::new(StartsAt::new(starts)), vec![time()]))?;
    let (mut number, mut exponent) = (lit(0f64), lit(0i32));
    match &series.function {
        MetricsFn::MinOverTime(f) | MetricsFn::MaxOverTime(f) | MetricsFn::SumOverTime(f) | MetricsFn::AvgOverTime(f) => {
            number = FieldFunction::call(Kind::Number, std::slice::from_ref(f));
        }
        MetricsFn::HistogramOverTime(f) | MetricsFn::QuantileOverTime(f, _) => {
            number = FieldFunction::call(Kind::Number, std::slice::from_ref(f));
            exponent = FieldFunction::call(Kind::Exponent, std::slice::from_ref(f));
        }
        MetricsFn::Rate | MetricsFn::CountOverTime | MetricsFn::Compare(_) => {}
    }
    let key = if series.by.is_empty() {
        lit(datafusion::common::ScalarValue::BinaryView(Some(vec![])))
    } else {
        FieldFunction::call(Kind::Key, &series.by)
    };
    let mut shown: Vec<Expr> = vec![
        time().alias("start_time"),
        column(&SpanColumn::Field(SpanField::TraceId)).alias("trace_id"),
        key.alias("key"),
        exponent.alias("exponent"),
        number.alias("number"),
    ];
    let mut plan = plan;
    for filter in filters.iter().flatten() {
        let condition = filter_expr(filter)?;
        if condition != lit(true) {
            plan = plan.filter(condition)?;
        }
    }
    for (i, wanted) in fields.iter().flat_map(columns_of).enumerate() {
        shown.push(column(&wanted).alias(format!("{i}:{}", wanted.name())));
    }
    Ok(ExemplarPlan { plan: stored_whole(plan.project(shown)?.build()?, series, whole)?, fields })
}

/// Whether a span starts at one of some times. Nearly all do not: one bit tells so of most.
#[derive(Debug)]
struct StartsAt {
    name: String,
    times: HashSet<i64>,
    /// A bit for each value of [`Self::slot`] that a time has.
    slots: Vec<u64>,
}

impl StartsAt {
    const SLOT_BITS: u32 = 16;

    fn new(times: &[i64]) -> Self {
        let mut slots = vec![0; (1 << Self::SLOT_BITS) / 64];
        for slot in times.iter().map(|t| Self::slot(*t)) {
            slots[slot / 64] |= 1 << (slot % 64);
        }
        let list = times.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Self { name: format!("start_time in ({list})"), times: times.iter().copied().collect(), slots }
    }

    /// The upper bits of a product with an odd constant, which differ for times that lie close together.
    fn slot(time: i64) -> usize {
        ((time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::SLOT_BITS)) as usize
    }
}

impl SpanTest for StartsAt {
    fn name(&self) -> &str {
        &self.name
    }

    fn evaluate(&self, columns: &[ArrayRef], spans: usize) -> Result<BooleanArray> {
        let times = columns.first().and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>());
        let times = times.ok_or_else(|| Error::internal("start times of another type"))?.values();
        let hit = |time: i64| {
            let slot = Self::slot(time);
            self.slots[slot / 64] >> (slot % 64) & 1 == 1 && self.times.contains(&time)
        };
        Ok(BooleanArray::new(BooleanBuffer::collect_bool(spans, |i| hit(times[i])), None))
    }
}
