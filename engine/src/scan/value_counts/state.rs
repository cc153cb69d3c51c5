//! The states of `value_counts`: numbers by value, for each group.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, ListArray},
    datatypes::{DataType, Float64Type, Int32Type, Int64Type},
};
use datafusion::{
    common::{Result as DfResult, ScalarValue},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
};

use super::{
    coded::counts_array,
    table::{AttributeReader, AttributeTable, Scalar},
};
use crate::error::{Error, Result};

/// Room of a group's list when it begins.
const ROOM_MIN: usize = 64;

/// Counts of many groups.
#[derive(Debug, Default)]
pub(super) struct Counts {
    table: AttributeTable,
    groups: Vec<GroupCounts>,
}

/// The attributes of a group with their spans, in the table's numbers. A number may be there several times until the list is
/// full.
#[derive(Debug, Default)]
struct GroupCounts(Vec<(u32, i64)>);

impl GroupCounts {
    fn add(&mut self, attribute: u32, spans: i64) {
        if self.0.len() == self.0.capacity() {
            self.compact();
            self.0.reserve(self.0.len().max(ROOM_MIN));
        }
        self.0.push((attribute, spans));
    }

    /// Leaves each attribute once, in the table's order.
    fn compact(&mut self) {
        if !self.0.is_sorted_by(|a, b| a.0 < b.0) {
            self.0.sort_unstable_by_key(|(attribute, _)| *attribute);
            self.0.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 += if same { next.1 } else { 0 };
                same
            });
        }
    }
}

impl Counts {
    fn reach(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, GroupCounts::default);
        }
    }

    /// Counts each row of `values` in its group.
    fn update(&mut self, values: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let counted = |row: &usize| filter.is_none_or(|f| f.is_valid(*row) && f.value(*row));
        if let Some(lists) = values.as_list_opt::<i32>() {
            let read = AttributeReader::new(lists.values())?;
            for row in (0..lists.len()).filter(counted).filter(|row| lists.is_valid(*row)) {
                for at in lists.value_offsets()[row]..lists.value_offsets()[row + 1] {
                    let key = self.table.key(read.key(at as usize));
                    let number = self.table.number(key, read.value(at as usize));
                    self.groups[groups[row]].add(number, 1);
                }
            }
            return Ok(());
        }
        let read = ScalarReader::new(values)?;
        let key = self.table.key("");
        for row in (0..values.len()).filter(counted) {
            if let Some(value) = read.value(row) {
                let number = self.table.number(key, value);
                self.groups[groups[row]].add(number, 1);
            }
        }
        Ok(())
    }

    /// Adds states.
    fn merge(&mut self, states: &ArrayRef, groups: &[usize]) -> Result<()> {
        let counts = CountsReader::new(states)?;
        let read = counts.attributes()?;
        let mut numbers = vec![u32::MAX; counts.distinct()];
        for (row, group) in groups.iter().enumerate() {
            let group = &mut self.groups[*group];
            counts.of(row).for_each(|(code, spans)| {
                let number = &mut numbers[code];
                if *number == u32::MAX {
                    let key = self.table.key(read.key(code));
                    *number = self.table.number(key, read.value(code));
                }
                group.add(*number, spans);
            });
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut groups = emit_to.take_needed(&mut self.groups);
        let attributes = self.table.to_array()?;
        if matches!(emit_to, EmitTo::All) {
            self.table = AttributeTable::default();
        }
        let mut offsets = vec![0];
        let (mut codes, mut spans) = (Vec::new(), Vec::new());
        for group in &mut groups {
            group.compact();
            codes.extend(group.0.iter().map(|(attribute, _)| *attribute as i32));
            spans.extend(group.0.iter().map(|(_, spans)| *spans));
            offsets.push(codes.len() as i32);
        }
        counts_array(attributes, codes, spans, offsets)
    }
}

impl GroupsAccumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        self.reach(total);
        Ok(self.update(one(values)?, groups, filter)?)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.reach(total);
        Ok(self.merge(one(values)?, groups)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        Ok(self.emit(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = one(values)?.len();
        let mut single = Self::default();
        single.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        single.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.table.size() + self.groups.iter().map(|g| size_of::<GroupCounts>() + size_of::<(u32, i64)>() * g.0.capacity()).sum::<usize>()
    }
}

fn one(values: &[ArrayRef]) -> Result<&ArrayRef> {
    values.first().ok_or_else(|| Error::internal("value_counts() got no column"))
}

/// Counts where nothing groups.
#[derive(Debug, Default)]
pub(super) struct OneGroup(Counts);

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.0.update_batch(values, &vec![0; one(values)?.len()], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.0.merge_batch(states, &vec![0; one(states)?.len()], 1)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.0.reach(1);
        Ok(ScalarValue::List(Arc::new(self.0.emit(EmitTo::All)?.as_list::<i32>().clone())))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// Reads the values of a column that is not of attributes.
pub(super) enum ScalarReader<'a> {
    Text(&'a arrow::array::StringArray),
    Dictionary(&'a arrow::array::Int32Array, &'a arrow::array::StringArray),
    Int32(&'a arrow::array::Int32Array),
    Int64(&'a arrow::array::Int64Array),
    Double(&'a arrow::array::Float64Array),
    Bool(&'a BooleanArray),
}

impl<'a> ScalarReader<'a> {
    pub fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            other => {
                let dictionary = array.as_dictionary_opt::<Int32Type>();
                let read = dictionary.and_then(|d| Some(Self::Dictionary(d.keys(), d.values().as_string_opt()?)));
                return read.ok_or_else(|| Error::internal(format!("values of type {other} are not counted")));
            }
        })
    }

    /// The value of a row; `None` for NULL.
    pub fn value(&self, row: usize) -> Option<Scalar<'a>> {
        Some(match self {
            Self::Text(a) if a.is_valid(row) => Scalar::Text(a.value(row)),
            Self::Dictionary(keys, values) if keys.is_valid(row) => {
                let key = keys.value(row) as usize;
                return values.is_valid(key).then(|| Scalar::Text(values.value(key)));
            }
            Self::Int32(a) if a.is_valid(row) => Scalar::Int(a.value(row).into()),
            Self::Int64(a) if a.is_valid(row) => Scalar::Int(a.value(row)),
            Self::Double(a) if a.is_valid(row) => Scalar::Double(a.value(row)),
            Self::Bool(a) if a.is_valid(row) => Scalar::Bool(a.value(row)),
            _ => return None,
        })
    }
}

/// Reads what `value_counts` gives.
#[derive(Clone, Debug)]
pub struct CountsReader<'a> {
    lists: &'a ListArray,
    codes: &'a [i32],
    spans: &'a [i64],
    attributes: &'a ArrayRef,
}

impl<'a> CountsReader<'a> {
    /// A reader of this array.
    pub fn new(array: &'a ArrayRef) -> Result<Self> {
        let read = || {
            let lists = array.as_list_opt::<i32>()?;
            let [values, spans] = lists.values().as_struct_opt()?.columns() else { return None };
            let values = values.as_dictionary_opt::<Int32Type>()?;
            let spans = spans.as_primitive_opt::<Int64Type>()?.values();
            Some(Self { lists, codes: values.keys().values(), spans, attributes: values.values() })
        };
        read().ok_or_else(|| Error::internal("value_counts() gave something else than counts"))
    }

    /// What the codes stand for.
    pub fn attributes(&self) -> Result<AttributeReader<'a>> {
        AttributeReader::new(self.attributes)
    }

    /// Number of codes.
    pub fn distinct(&self) -> usize {
        self.attributes.len()
    }

    /// The codes of a row and their spans.
    pub fn of(&self, row: usize) -> impl Iterator<Item = (usize, i64)> + use<'a> {
        let range = if self.lists.is_valid(row) {
            self.lists.value_offsets()[row] as usize..self.lists.value_offsets()[row + 1] as usize
        } else {
            0..0
        };
        self.codes[range.clone()].iter().zip(&self.spans[range]).map(|(code, spans)| (*code as usize, *spans))
    }
}

/// The values of a column as attributes without a name, and for each row which one it has; one behind the last for NULL.
pub(in super::super) fn attributes_of(values: &ArrayRef) -> Result<(ArrayRef, Vec<u32>)> {
    let read = ScalarReader::new(values)?;
    let mut table = AttributeTable::default();
    let key = table.key("");
    let numbers: Vec<u32> = (0..values.len()).map(|row| read.value(row).map_or(u32::MAX, |v| table.number(key, v))).collect();
    Ok((table.to_array()?, numbers))
}
