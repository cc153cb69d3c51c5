//! The filter of a scan, taken apart: each condition is asked of dictionaries first, then of values that occur, and only
//! where there are too many of those, of spans.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array},
    buffer::BooleanBuffer,
    compute::{prep_null_mask_filter, take},
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    common::{ScalarValue, cast::as_boolean_array},
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, Column, IsNullExpr, Literal},
        utils::{collect_columns, reassign_expr_columns, split_conjunction},
    },
    physical_expr_common::physical_expr::snapshot_physical_expr,
};

use super::{
    chunk::{Effort, SpanChunk},
    columns::{AttributeScope, SpanColumn, SpanField},
    comparison::Comparison,
    interval::ROUNDED_SECONDS,
    span_filter::{Passing, SpanFilter, SpanTest},
};
use crate::{clock, error::Result};

/// The most pairs of values that a condition on two columns is asked of.
const PAIRS_MAX: usize = 16 * 1024;
/// A condition is asked of so many rows at first, and then of as many at a time as it manages in [`SLICE_TIME`].
const FIRST_SLICE: usize = 64;
const SLICE_TIME: Duration = Duration::from_millis(10);
/// A slice has at most so many times as many rows as the one before.
const SLICE_GROWTH: usize = 64;
/// If fewer than one in this many spans is left, a condition is asked of those only.
const FEW_SPANS: usize = 8;
/// The same where the codes of all spans are at hand.
const FEW_AT_HAND: usize = 128;

/// A test of one column's values, for [`SpanChunk::excludes`].
pub struct ValueTest<'a> {
    /// What may pass, if the column is of attribute values.
    pub passing: Passing,
    /// If only one text can pass: that text.
    pub only_text: Option<&'a str>,
    /// If known: whole numbers (of times and durations, nanoseconds) that pass are not below the first nor above the second.
    pub within: Option<(i64, i64)>,
    condition: &'a Condition,
    /// Which of the condition's columns.
    column: usize,
}

impl ValueTest<'_> {
    /// Whether one of these values of the column passes.
    pub async fn passes_any(&self, values: &ArrayRef) -> Result<bool> {
        if values.is_empty() {
            return Ok(false);
        }
        // What cannot be told may pass.
        let passing = self.condition.ask(self.arrays(values), values.len(), true).await;
        Ok(passing.map_or(true, |verdicts| verdicts.true_count() > 0))
    }

    /// Which of these values of the column pass. Values that no span has may make the condition fail: then nothing is known.
    pub async fn verdicts(&self, values: &ArrayRef) -> Option<BooleanArray> {
        self.condition.evaluate(self.arrays(values), values.len()).await.ok()
    }

    /// The condition's columns where this one has these values and the others have none.
    fn arrays(&self, values: &ArrayRef) -> Vec<ArrayRef> {
        let others = |c: &SpanColumn| new_null_array(&c.data_type(), values.len());
        let columns = self.condition.columns.iter().enumerate();
        columns.map(|(i, c)| if i == self.column { values.clone() } else { others(c) }).collect()
    }
}

/// A condition that all spans of the answer meet, together with others.
#[derive(Debug)]
struct Condition {
    /// Over `schema`.
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    columns: Vec<SpanColumn>,
    passing: Passing,
    /// The test of another language.
    test: Option<Arc<dyn SpanTest>>,
    comparison: Option<Comparison>,
}

impl Condition {
    fn new(all: &[SpanColumn], expr: &Arc<dyn PhysicalExpr>) -> Result<Self> {
        let at: BTreeSet<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        let columns: Vec<SpanColumn> = at.iter().filter_map(|i| all.get(*i).cloned()).collect();
        let schema = Arc::new(Schema::new(columns.iter().map(SpanColumn::field).collect::<Vec<_>>()));
        let test = (expr.as_ref() as &dyn std::any::Any).downcast_ref::<ScalarFunctionExpr>();
        let test = test.and_then(|f| (f.fun().inner().as_ref() as &dyn std::any::Any).downcast_ref::<SpanFilter>()).map(SpanFilter::test);
        Ok(Self {
            expr: reassign_expr_columns(expr.clone(), &schema)?,
            schema,
            passing: test.map_or(Passing::ANYTHING, |test| test.passing()),
            test: test.cloned(),
            comparison: Comparison::of(&columns, expr),
            columns,
        })
    }

    /// Where to begin: what there is one of for many spans, then what has codes, then numbers, then attributes.
    fn cost(&self) -> usize {
        let of = |column: &SpanColumn| match column {
            SpanColumn::Place => 0,
            SpanColumn::Field(field) => match field {
                SpanField::RootServiceName | SpanField::RootSpanName | SpanField::TraceStartTime | SpanField::TraceEndTime => 1,
                SpanField::TraceDurationNs | SpanField::TraceId => 1,
                SpanField::ServiceName | SpanField::ScopeName | SpanField::ScopeVersion => 2,
                SpanField::Name | SpanField::Kind | SpanField::KindCode | SpanField::Status | SpanField::StatusCode => 3,
                SpanField::ResourceAttributes | SpanField::ScopeAttributes => 40,
                SpanField::SpanAttributes | SpanField::Events | SpanField::Links => 100,
                _ => 5,
            },
            SpanColumn::Attribute { scope: AttributeScope::Resource | AttributeScope::Instrumentation, .. } => 3,
            SpanColumn::AttributeJson { scope: AttributeScope::Resource | AttributeScope::Instrumentation, .. } => 4,
            SpanColumn::Attribute { scope: AttributeScope::Span, .. } => 10,
            SpanColumn::AttributeJson { .. } => 12,
            _ => 30,
        };
        self.columns.iter().map(of).sum()
    }

    /// If the condition is on places, those that pass.
    fn places(&self) -> Option<&HashSet<i128>> {
        self.test.as_ref()?.places()
    }

    /// The spans of a chunk that pass, if the condition is on places.
    fn spans_at(&self, chunk: &dyn SpanChunk) -> Option<Vec<u32>> {
        Some(chunk.spans_at(self.places()?))
    }

    /// Rounded start times that decide the condition: those on whose grid its literal lies. Of an interval, which is open on its
    /// left, the end stands for all times in it, and [`SpanColumn::RoundedStart`] has the ends for values.
    fn rounded(&self, chunk: &dyn SpanChunk) -> Option<SpanColumn> {
        let Comparison { field: SpanField::StartTime, op: Operator::Gt | Operator::LtEq, literal } = self.comparison? else { return None };
        let fits = |seconds: &u32| literal % (i64::from(*seconds) * 1_000_000_000) == 0 && chunk.has_rounded_start(*seconds);
        ROUNDED_SECONDS.into_iter().rev().find(fits).map(|seconds| SpanColumn::RoundedStart { seconds })
    }

    /// What statistics say of all spans of a chunk; `None` if it depends on the span.
    fn decided(&self, chunk: &dyn SpanChunk) -> Option<bool> {
        let comparison = self.comparison?;
        comparison.decided(chunk.bounds(comparison.field)?)
    }

    /// Whether no span of a chunk can meet the condition. With several columns that is known only if each alone decides.
    async fn excludes(&self, chunk: &mut dyn SpanChunk, effort: Effort) -> Result<bool> {
        if self.columns.is_empty() || self.columns.len() > 1 && self.passing.absent {
            return Ok(false);
        }
        for (i, column) in self.columns.iter().enumerate() {
            if !chunk.excludes(column, &self.test(i), effort).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The condition as a test of one of its columns.
    fn test(&self, column: usize) -> ValueTest<'_> {
        let within = self.comparison.and_then(|comparison| comparison.within());
        let only_text = self.test.as_ref().and_then(|test| test.only_text());
        ValueTest { passing: self.passing, only_text, within, condition: self, column }
    }

    /// Which values of its columns the condition needs. A missing value can stand for one that does not pass if it does not pass
    /// either, and if no other column is asked in its place.
    fn needs(&self) -> Passing {
        if self.columns.len() == 1 && !self.passing.absent { self.passing } else { Passing::ANYTHING }
    }

    async fn evaluate(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        self.ask(arrays, rows, false).await
    }

    /// Asks of some rows at a time: between them the query can be stopped. With `one`, only until one has passed.
    async fn ask(&self, arrays: Vec<ArrayRef>, rows: usize, one: bool) -> Result<BooleanArray> {
        let mut slice = FIRST_SLICE;
        if rows <= slice {
            return self.evaluate_at_once(arrays, rows);
        }
        let mut verdicts = BooleanBufferBuilder::new(rows);
        while verdicts.len() < rows {
            let (at, began) = (verdicts.len(), clock::now());
            let count = slice.min(rows - at);
            let some = arrays.iter().map(|array| array.slice(at, count)).collect();
            let found = self.evaluate_at_once(some, count)?;
            verdicts.append_buffer(found.values());
            if one && found.true_count() > 0 {
                break;
            }
            let took = began.elapsed();
            let in_time = slice as u128 * SLICE_TIME.as_nanos() / took.as_nanos().max(1);
            slice = usize::try_from(in_time).unwrap_or(usize::MAX).clamp(1, slice.saturating_mul(SLICE_GROWTH));
            if took > SLICE_TIME / 10 {
                tokio::task::yield_now().await;
            }
        }
        Ok(BooleanArray::new(verdicts.finish(), None))
    }

    fn evaluate_at_once(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // What a dictionary holds may be NULL where no span's value is.
        let fields = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        let value = self.expr.evaluate(&batch)?.into_array(rows)?;
        let mask = as_boolean_array(&value)?;
        Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
    }

    /// The spans, of those in `before`, for which the condition is true.
    async fn spans(&self, chunk: &mut dyn SpanChunk, before: Option<&BooleanBuffer>) -> Result<BooleanBuffer> {
        if let Some(spans) = self.spans_at(chunk) {
            return Ok(and(mask_of(chunk.span_count(), spans.into_iter()), before));
        }
        if let Some(rounded) = self.rounded(chunk) {
            chunk.load(std::slice::from_ref(&rounded)).await?;
            if let Some(ends) = chunk.coded(&rounded)? {
                return Ok(and(ends.spans_where(&self.evaluate(vec![ends.values.clone()], ends.values.len()).await?), before));
            }
        }
        let few_of = if self.columns.len() == 1 && self.is_at_hand(chunk) { FEW_AT_HAND } else { FEW_SPANS };
        let few = |before: &&BooleanBuffer| before.count_set_bits() < chunk.span_count() / few_of;
        if let Some(few) = before.filter(few)
            && let Some(mask) = self.spans_of_few(chunk, few).await?
        {
            return Ok(mask);
        }
        // Values that no span has may make the condition fail: then it is asked of spans.
        if let Some(Ok(mask)) = self.spans_by_code(chunk).await? {
            return Ok(and(mask, before));
        }
        chunk.load(&self.columns).await?;
        match before {
            Some(before) if before.count_set_bits() < chunk.span_count() / FEW_SPANS => self.spans_of(chunk, before).await,
            Some(before) => match self.spans_of_all(chunk).await {
                Ok(mask) => Ok(&mask & before),
                Err(_) => self.spans_of(chunk, before).await,
            },
            None => self.spans_of_all(chunk).await,
        }
    }

    /// Whether the codes of its columns are at hand.
    fn is_at_hand(&self, chunk: &mut dyn SpanChunk) -> bool {
        self.columns.iter().all(|column| chunk.has_codes_at_hand(column, self.needs()))
    }

    /// Asks of the values that one or two columns have; `None` if they have too many.
    async fn spans_by_code(&self, chunk: &mut dyn SpanChunk) -> Result<Option<Result<BooleanBuffer>>> {
        Ok(match &self.columns[..] {
            [column] => match chunk.coded_passing(column, self.needs())? {
                Some(coded) => {
                    let verdicts = self.evaluate(vec![coded.values.clone()], coded.values.len()).await;
                    Some(verdicts.map(|verdicts| coded.spans_where(&verdicts)))
                }
                None => None,
            },
            [first, second] => {
                let (Some(first), Some(second)) = (chunk.coded(first)?, chunk.coded(second)?) else { return Ok(None) };
                if first.values.len().saturating_mul(second.values.len()) > PAIRS_MAX {
                    return Ok(None);
                }
                let pairs = first.pairs_with(&second)?;
                Some(self.evaluate(pairs.values.to_vec(), pairs.count).await.map(|verdicts| pairs.spans_where(&verdicts)))
            }
            _ => None,
        })
    }

    async fn spans_of_all(&self, chunk: &mut dyn SpanChunk) -> Result<BooleanBuffer> {
        let arrays = self.columns.iter().map(|c| chunk.column(c, None)).collect::<Result<Vec<_>>>()?;
        Ok(self.evaluate(arrays, chunk.span_count()).await?.values().clone())
    }

    async fn spans_of(&self, chunk: &mut dyn SpanChunk, some: &BooleanBuffer) -> Result<BooleanBuffer> {
        let some: UInt32Array = some.set_indices().map(|i| i as u32).collect::<Vec<_>>().into();
        let arrays = self.columns.iter().map(|c| chunk.column(c, Some(&some))).collect::<Result<Vec<_>>>()?;
        let verdicts = self.evaluate(arrays, some.len()).await?;
        Ok(mask_of(chunk.span_count(), verdicts.values().set_indices().map(|i| some.value(i))))
    }

    /// Asks of few spans, whose columns all have codes, without looking at the others; `None` if one has none.
    async fn spans_of_few(&self, chunk: &mut dyn SpanChunk, few: &BooleanBuffer) -> Result<Option<BooleanBuffer>> {
        let few: UInt32Array = few.set_indices().map(|i| i as u32).collect::<Vec<_>>().into();
        let mut coded = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let Some(found) = chunk.coded_at(column, self.needs(), &few)? else { return Ok(None) };
            coded.push(found);
        }
        if let [(values, codes)] = &coded[..]
            && values.len() < few.len()
            && let Ok(verdicts) = self.evaluate(vec![values.clone()], values.len()).await
        {
            let passing = few.values().iter().zip(codes.iter()).filter(|(_, code)| verdicts.value(**code as usize));
            return Ok(Some(mask_of(chunk.span_count(), passing.map(|(span, _)| *span))));
        }
        let arrays = coded.into_iter().map(|(values, codes)| Ok(take(&values, &UInt32Array::new(codes, None), None)?));
        let verdicts = self.evaluate(arrays.collect::<Result<_>>()?, few.len()).await?;
        Ok(Some(mask_of(chunk.span_count(), verdicts.values().set_indices().map(|i| few.value(i)))))
    }
}

/// A bit for each of `count` spans: whether it is one of these.
pub(super) fn mask_of(count: usize, spans: impl Iterator<Item = u32>) -> BooleanBuffer {
    let mut mask = BooleanBufferBuilder::new(count);
    mask.append_n(count, false);
    spans.for_each(|span| mask.set_bit(span as usize, true));
    mask.finish()
}

fn and(mask: BooleanBuffer, before: Option<&BooleanBuffer>) -> BooleanBuffer {
    before.map_or_else(|| mask.clone(), |before| &mask & before)
}

/// What shows that no span of a chunk passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExcludedBy {
    Statistics,
    Dictionary,
}

/// A filter that becomes tighter while the plan runs, because a TopK or a join above has learnt what it can still use. Whole
/// chunks are left out by it; spans are asked above.
#[derive(Debug)]
struct Tightening {
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<SpanColumn>,
}

impl Tightening {
    /// Whether by statistics no span of a chunk can pass, as far as is known by now.
    fn excludes(&self, chunk: &dyn SpanChunk) -> bool {
        snapshot_physical_expr(self.expr.clone()).is_ok_and(|now| self.is_false(&now, chunk))
    }

    fn is_false(&self, expr: &Arc<dyn PhysicalExpr>, chunk: &dyn SpanChunk) -> bool {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, right) = (binary.left(), binary.right());
            match binary.op() {
                Operator::And => return self.is_false(left, chunk) || self.is_false(right, chunk),
                Operator::Or => return self.is_false(left, chunk) && self.is_false(right, chunk),
                _ => {}
            }
        }
        if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            let column = is_null.arg().downcast_ref::<Column>().and_then(|c| self.columns.get(c.index()));
            return column.is_some_and(|column| !column.field().is_nullable());
        }
        if let Some(literal) = expr.downcast_ref::<Literal>() {
            return *literal.value() == ScalarValue::Boolean(Some(false));
        }
        let columns: Vec<_> = collect_columns(expr).iter().filter_map(|c| self.columns.get(c.index()).cloned()).collect();
        let Some(comparison) = Comparison::of(&columns, expr) else { return false };
        chunk.bounds(comparison.field).is_some_and(|bounds| comparison.decided(bounds) == Some(false))
    }
}

/// The filter of a scan: conditions that must all be true.
#[derive(Debug)]
pub(super) struct ScanFilter {
    conditions: Vec<Condition>,
    tightening: Vec<Tightening>,
}

impl ScanFilter {
    /// Takes a predicate over `all` columns apart; the cheapest condition comes first.
    pub fn new(all: &[SpanColumn], predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let parts = predicate.map(split_conjunction).unwrap_or_default();
        let mut conditions = parts.into_iter().map(|expr| Condition::new(all, expr)).collect::<Result<Vec<_>>>()?;
        conditions.sort_by_key(Condition::cost);
        Ok(Self { conditions, tightening: Vec::new() })
    }

    /// Leaves out chunks by these filters over `columns` too, which become tighter while the plan runs.
    #[must_use]
    pub fn tightened_by(mut self, columns: &[SpanColumn], filters: &[Arc<dyn PhysicalExpr>]) -> Self {
        self.tightening = filters.iter().map(|expr| Tightening { expr: expr.clone(), columns: columns.to_vec() }).collect();
        self
    }

    /// The columns that the filter needs for the spans of a chunk, and which of their values.
    pub fn columns(&self, chunk: &dyn SpanChunk) -> Vec<(SpanColumn, Passing)> {
        let open = self.conditions.iter().filter(|c| c.decided(chunk).is_none());
        let mut all: BTreeMap<&SpanColumn, Passing> = BTreeMap::new();
        let rounded: Vec<_> = open.clone().filter_map(|c| c.rounded(chunk)).collect();
        let own = open.filter(|c| c.rounded(chunk).is_none());
        for (column, needs) in own.flat_map(|c| c.columns.iter().map(|column| (column, c.needs()))) {
            let known = all.entry(column).or_insert(Passing::NOTHING);
            *known = known.or(needs);
        }
        rounded.iter().for_each(|column| _ = all.insert(column, Passing::ANYTHING));
        all.into_iter().map(|(column, needs)| (column.clone(), needs)).collect()
    }

    /// Which of statistics and dictionaries excludes all spans of a chunk, if one does.
    pub async fn excludes(&self, chunk: &mut dyn SpanChunk, effort: Effort) -> Result<Option<ExcludedBy>> {
        let none = |c: &Condition| c.decided(chunk) == Some(false) || c.spans_at(chunk).is_some_and(|s| s.is_empty());
        let decided = self.conditions.iter().any(none);
        if decided || self.tightening.iter().any(|filter| filter.excludes(chunk)) {
            return Ok(Some(ExcludedBy::Statistics));
        }
        let columns: Vec<_> = self.conditions.iter().flat_map(|c| c.columns.iter().map(|column| (column, c.passing))).collect();
        if columns.len() > 1 && effort == Effort::Dictionaries {
            chunk.load_dictionaries(&columns).await?;
        }
        for condition in &self.conditions {
            if condition.excludes(chunk, effort).await? {
                return Ok(Some(ExcludedBy::Dictionary));
            }
        }
        Ok(None)
    }

    /// Leaves out of a chunk, if that spares enough, traces that cannot pass by the bounds of pages.
    pub async fn narrow(&self, chunk: &mut dyn SpanChunk) -> Result<()> {
        let open: Vec<_> = self.conditions.iter().filter(|c| c.places().is_none() && c.decided(chunk).is_none()).collect();
        // If nothing is to be read to filter, the spans that pass are known soon, which is more than bounds of pages tell.
        if open.iter().all(|c| c.is_at_hand(chunk)) {
            return Ok(());
        }
        let tests: Vec<_> = open.into_iter().filter(|c| c.columns.len() == 1).map(|c| (&c.columns[0], c.test(0))).collect();
        if tests.is_empty() { Ok(()) } else { chunk.narrow(&tests).await }
    }

    /// The spans of a chunk, with the filter's columns loaded, that pass, of those in `before` (`None`: all); `None` if all do.
    pub async fn select(&self, chunk: &mut dyn SpanChunk, before: Option<&BooleanBuffer>) -> Result<Option<BooleanBuffer>> {
        let mut mask: Option<BooleanBuffer> = before.cloned();
        for condition in &self.conditions {
            if condition.decided(chunk) == Some(true) {
                continue;
            }
            // Here the query can be stopped.
            tokio::task::yield_now().await;
            let left = condition.spans(chunk, mask.as_ref()).await?;
            let none = left.count_set_bits() == 0;
            mask = Some(left);
            if none {
                break;
            }
        }
        Ok(mask.filter(|mask| mask.count_set_bits() < mask.len()))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, is_null, lit};

    use super::*;
    use crate::scan::{ChunkStats, CodedAttributes};

    /// A chunk whose spans start between 10 and 20.
    #[derive(Debug)]
    struct Started;

    #[async_trait]
    impl SpanChunk for Started {
        fn span_count(&self) -> usize {
            2
        }

        async fn load(&mut self, _: &[SpanColumn]) -> Result<()> {
            Ok(())
        }

        fn spans_at(&self, _: &std::collections::HashSet<i128>) -> Vec<u32> {
            Vec::new()
        }

        async fn attributes(&mut self, _: AttributeScope) -> Result<Arc<CodedAttributes>> {
            Err(crate::Error::internal("not asked for"))
        }

        fn bounds(&self, field: SpanField) -> Option<(i64, i64)> {
            (field == SpanField::StartTime).then_some((10, 20))
        }

        fn column(&mut self, _: &SpanColumn, _: Option<&UInt32Array>) -> Result<ArrayRef> {
            Err(crate::Error::internal("not asked for"))
        }

        fn stats(&self) -> ChunkStats {
            ChunkStats::default()
        }
    }

    #[test]
    fn what_a_plan_learns_leaves_out_chunks() {
        let columns = [SpanField::ParentSpanId, SpanField::StartTime, SpanField::DurationNs].map(SpanColumn::Field);
        let column = |at: usize| Arc::new(Column::new(&columns[at].name(), at)) as Arc<dyn PhysicalExpr>;
        let time = |t| lit(ScalarValue::TimestampNanosecond(Some(t), Some("UTC".into())));
        let binary = |a, op, b| Arc::new(BinaryExpr::new(a, op, b)) as Arc<dyn PhysicalExpr>;
        let later = |t| binary(column(1), Operator::Gt, time(t));
        let or_null = |at, other| binary(is_null(column(at)).unwrap(), Operator::Or, other);
        let dynamic = Arc::new(DynamicFilterPhysicalExpr::new(vec![column(1)], lit(true)));
        let shared: Arc<dyn PhysicalExpr> = dynamic.clone();
        let filter = ScanFilter::new(&columns, None).unwrap().tightened_by(&columns, &[shared]);
        let excluded = || filter.tightening[0].excludes(&Started);
        assert!(!excluded());
        for (now, due) in [
            (later(19), false),
            (later(20), true),
            (or_null(1, later(20)), true),
            (or_null(0, later(20)), false), // that column may be NULL
            (binary(later(20), Operator::And, lit(true)), true),
            (binary(later(5), Operator::And, lit(true)), false),
            (binary(column(2), Operator::Gt, lit(20i64)), false),
            (lit(false), true),
        ] {
            let text = now.to_string();
            dynamic.update(now).unwrap();
            assert_eq!(excluded(), due, "{text}");
        }
    }
}
