//! What an aggregation asks of a chunk: keys, in codes where they can be, and the arguments of its functions.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
    datatypes::{Schema, SchemaRef, TimestampNanosecondType},
};
use datafusion::{
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        expressions::{Column, Literal},
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::aggregates::{group_values::new_group_values, order::GroupOrdering},
};

use super::{
    chunk::SpanChunk,
    columns::{SpanColumn, SpanField},
    groups::{Dimension, Groups, at, dimension_of},
    interval::IntervalFunction,
    queue::Selected,
    span_filter::Passing,
    value_counts::{NO_GROUP, ValueCounts, attributes_of, lists_of_pairs},
    witness::Witness,
};
use crate::error::{Error, Result};

/// The number among a chunk's columns of what stands for the start time.
const STARTS: usize = usize::MAX;

/// Whether a function is content with the value of any one of a group's spans: they come in no order.
pub(super) fn takes_any(function: &AggregateFunctionExpr) -> bool {
    function.fun().name() == "first_value" || is_witness(function)
}

fn is_witness(function: &AggregateFunctionExpr) -> bool {
    function.fun().inner().is::<Witness>()
}

/// Whether a function counts rows, whatever they hold.
pub(super) fn counts_all(function: &AggregateFunctionExpr, arguments: &[Arc<dyn PhysicalExpr>]) -> bool {
    let literal = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null());
    function.fun().name() == "count" && arguments.iter().all(literal)
}

/// What an aggregate function gets of a chunk.
pub(super) enum Input {
    /// The state of the function for each group: the number of its spans, or the numbers of its values.
    States(ArrayRef),
    /// Arguments for one span of each group.
    Groups(Vec<ArrayRef>),
    /// Arguments for each span.
    Spans(Vec<ArrayRef>),
}

/// What an expression groups by, in a chunk.
pub(super) enum Key {
    /// A function of these columns, which have codes.
    Coded { expr: Arc<dyn PhysicalExpr>, schema: SchemaRef, columns: Vec<usize> },
    /// A value for each span, and its dimension.
    Spans(ArrayRef, Dimension),
}

/// The columns of a chunk, made when asked for.
pub(super) struct Values<'a> {
    columns: &'a [SpanColumn],
    /// Whether there are codes that stand for start times.
    starts: bool,
    chunk: &'a mut dyn SpanChunk,
    spans: Option<&'a UInt32Array>,
    rows: usize,
    arrays: HashMap<usize, ArrayRef>,
    coded: HashMap<usize, Option<Coded>>,
}

/// A column in codes, for the chosen spans.
#[derive(Debug)]
pub(super) struct Coded {
    values: ArrayRef,
    codes: ScalarBuffer<u32>,
}

impl Coded {
    /// A loaded column of these spans, or of all; `None` if it has no codes.
    pub fn of(chunk: &mut dyn SpanChunk, column: &SpanColumn, spans: Option<&UInt32Array>) -> Result<Option<Self>> {
        let found = match spans {
            Some(spans) => chunk.coded_at(column, Passing::ANYTHING, spans)?,
            None => chunk.coded(column)?.map(|coded| (coded.values.clone(), coded.codes_of(None))),
        };
        Ok(found.map(|(values, codes)| Self { values, codes }))
    }

    /// The intervals in which these spans start, or all: a time in each, in codes. `None` if they are too many for that.
    pub fn starts(chunk: &mut dyn SpanChunk, intervals: &IntervalFunction, spans: Option<&UInt32Array>) -> Result<Option<Self>> {
        let Some(bounds) = chunk.bounds(SpanField::StartTime) else { return Ok(None) };
        let times = chunk.column(&SpanColumn::Field(SpanField::StartTime), spans)?;
        let times = times.as_primitive_opt::<TimestampNanosecondType>().filter(|times| times.null_count() == 0);
        Ok(times.and_then(|times| intervals.coded(times.values(), bounds)).map(|(values, codes)| Self { values, codes }))
    }
}

impl<'a> Values<'a> {
    /// Of the chosen spans' `columns`; `starts` stand for start times where only intervals of them are asked for.
    pub fn new(columns: &'a [SpanColumn], starts: Option<Coded>, selected: &'a mut Selected) -> Self {
        let rows = selected.rows();
        let (chunk, spans) = (selected.chunk.as_mut(), selected.spans.as_ref());
        let (stands, coded) = (starts.is_some(), starts.map(|coded| (STARTS, Some(coded))).into_iter().collect());
        Self { columns, starts: stands, chunk, spans, rows, arrays: HashMap::new(), coded }
    }

    /// What an expression groups by.
    pub fn key(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<Key> {
        let mut columns: Vec<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        columns.sort_unstable();
        if self.starts && IntervalFunction::called(expr).is_some() {
            let schema = self.schema_of(&columns);
            return Ok(Key::Coded { expr: reassign_expr_columns(expr.clone(), &schema)?, schema, columns: vec![STARTS] });
        }
        let mut all_coded = !columns.is_empty();
        for column in &columns {
            all_coded = all_coded && self.has_codes(*column)?;
        }
        if all_coded {
            let schema = self.schema_of(&columns);
            return Ok(Key::Coded { expr: reassign_expr_columns(expr.clone(), &schema)?, schema, columns });
        }
        let values = self.array(expr)?;
        let dimension = match dimension_of(&values) {
            Some(dimension) => dimension,
            None => interned(&values)?,
        };
        Ok(Key::Spans(values, dimension))
    }

    fn has_codes(&mut self, column: usize) -> Result<bool> {
        if !self.coded.contains_key(&column) {
            let wanted = self.column(column)?;
            let made = Coded::of(self.chunk, wanted, self.spans)?;
            self.coded.insert(column, made);
        }
        Ok(matches!(self.coded.get(&column), Some(Some(_))))
    }

    fn column(&self, at: usize) -> Result<&'a SpanColumn> {
        self.columns.get(at).ok_or_else(|| Error::internal("an aggregation names a column that the scan does not put out"))
    }

    /// Fields of these columns. What a dictionary holds may be NULL where no span's value is.
    fn schema_of(&self, columns: &[usize]) -> SchemaRef {
        let fields = columns.iter().filter_map(|i| self.columns.get(*i)).map(|c| c.field().as_ref().clone().with_nullable(true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The dimensions of these keys: each coded column once.
    pub fn dimensions(&self, keys: &[Key]) -> Vec<Dimension> {
        let mut seen: Vec<usize> = Vec::new();
        let mut dimensions = Vec::new();
        for key in keys {
            match key {
                Key::Spans(_, dimension) => dimensions.push(dimension.clone()),
                Key::Coded { columns, .. } => {
                    for column in columns.iter().filter(|c| !seen.contains(c)).copied().collect::<Vec<_>>() {
                        seen.push(column);
                        if let Some(Some(coded)) = self.coded.get(&column) {
                            dimensions.push(Dimension { codes: coded.codes.clone(), count: coded.values.len() });
                        }
                    }
                }
            }
        }
        dimensions
    }

    /// The value of a key in each group.
    pub fn of_groups(&self, key: &Key, groups: &Groups) -> Result<ArrayRef> {
        match key {
            Key::Spans(values, _) => at(values, None, &groups.examples),
            Key::Coded { expr, schema, columns } => {
                let coded = columns.iter().filter_map(|c| self.coded.get(c)?.as_ref());
                let arrays = coded.map(|c| at(&c.values, Some(&c.codes), &groups.examples)).collect::<Result<Vec<_>>>()?;
                let rows = groups.counts.len();
                evaluate(expr, schema.clone(), arrays, rows)
            }
        }
    }

    /// What a function gets.
    pub async fn input(&mut self, function: &AggregateFunctionExpr, arguments: &[Arc<dyn PhysicalExpr>], groups: &Groups) -> Result<Input> {
        if counts_all(function, arguments) {
            return Ok(Input::States(Arc::new(Int64Array::from(groups.counts.clone()))));
        }
        if let ([argument], true) = (arguments, function.fun().inner().is::<ValueCounts>()) {
            return Ok(Input::States(self.value_counts(argument, groups).await?));
        }
        if takes_any(function) {
            let mut arrays = arguments.iter().map(|expr| self.of_examples(expr, &groups.examples)).collect::<Result<Vec<_>>>()?;
            return Ok(match arrays.pop() {
                Some(place) if is_witness(function) => Input::States(place),
                last => Input::Groups(arrays.into_iter().chain(last).collect()),
            });
        }
        Ok(Input::Spans(arguments.iter().map(|expr| self.array(expr)).collect::<Result<_>>()?))
    }

    /// An expression's value for the example of each group. Columns that nothing else needs are made for those spans only.
    fn of_examples(&mut self, expr: &Arc<dyn PhysicalExpr>, examples: &UInt32Array) -> Result<ArrayRef> {
        let mut columns: Vec<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        columns.sort_unstable();
        // A chunk wants spans in their order.
        let mut order: Vec<u32> = (0..examples.len() as u32).collect();
        order.sort_unstable_by_key(|group| examples.value(*group as usize));
        let span = |group: &u32| {
            let chosen = examples.value(*group as usize);
            self.spans.map_or(chosen, |spans| spans.value(chosen as usize))
        };
        let sorted: UInt32Array = order.iter().map(span).collect::<Vec<_>>().into();
        let mut rank = vec![0u32; order.len()];
        (0..).zip(&order).for_each(|(at, group)| rank[*group as usize] = at);
        let rank = UInt32Array::from(rank);
        let mut arrays = Vec::with_capacity(columns.len());
        for column in &columns {
            arrays.push(match (self.arrays.get(column), self.coded.get(column)) {
                (Some(array), _) => at(array, None, examples)?,
                (None, Some(Some(coded))) => at(&coded.values, Some(&coded.codes), examples)?,
                _ => take(&self.chunk.column(self.column(*column)?, Some(&sorted))?, &rank, None)?,
            });
        }
        let schema = self.schema_of(&columns);
        evaluate(&reassign_expr_columns(expr.clone(), &schema)?, schema, arrays, examples.len())
    }

    /// How many spans of each group have each value of an expression, or each attribute of a set.
    async fn value_counts(&mut self, argument: &Arc<dyn PhysicalExpr>, groups: &Groups) -> Result<ArrayRef> {
        let column = argument.downcast_ref::<Column>().map(Column::index);
        let count = groups.counts.len();
        if let Some(SpanColumn::Attributes(scope)) = column.map(|at| self.column(at)).transpose()? {
            let attributes = self.chunk.attributes(*scope).await?;
            return match self.spans {
                None => attributes.count(&groups.of_span, count),
                Some(spans) => {
                    let mut of_span = vec![NO_GROUP; self.chunk.span_count()];
                    spans.values().iter().zip(&groups.of_span).for_each(|(span, group)| of_span[*span as usize] = *group);
                    attributes.count(&of_span, count)
                }
            };
        }
        if let Some(at) = column
            && self.has_codes(at)?
            && let Some(Some(coded)) = self.coded.get(&at)
        {
            let (attributes, numbers) = attributes_of(&coded.values)?;
            let codes: Vec<u32> = coded.codes.iter().map(|code| numbers[*code as usize]).collect();
            return lists_of_pairs(attributes, &codes, &groups.of_span, count);
        }
        let (attributes, codes) = attributes_of(&self.array(argument)?)?;
        lists_of_pairs(attributes, &codes, &groups.of_span, count)
    }

    /// An expression's value for each chosen span.
    fn array(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<ArrayRef> {
        let mut columns: Vec<usize> = collect_columns(expr).iter().map(|c| c.index()).collect();
        columns.sort_unstable();
        let mut arrays = Vec::with_capacity(columns.len());
        for column in &columns {
            if !self.arrays.contains_key(column) {
                let made = self.chunk.column(self.column(*column)?, self.spans)?;
                self.arrays.insert(*column, made);
            }
            arrays.extend(self.arrays.get(column).cloned());
        }
        let schema = self.schema_of(&columns);
        evaluate(&reassign_expr_columns(expr.clone(), &schema)?, schema, arrays, self.rows)
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, schema: SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
    let batch = RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
    Ok(expr.evaluate(&batch)?.into_array(rows)?)
}

/// The dimension of values of any type.
fn interned(values: &ArrayRef) -> Result<Dimension> {
    let field = arrow::datatypes::Field::new("value", values.data_type().clone(), true);
    let mut known = new_group_values(Arc::new(Schema::new(vec![field])), &GroupOrdering::None)?;
    let mut numbers = Vec::with_capacity(values.len());
    known.intern(std::slice::from_ref(values), &mut numbers)?;
    Ok(Dimension { codes: numbers.into_iter().map(|n| n as u32).collect(), count: known.len() })
}
