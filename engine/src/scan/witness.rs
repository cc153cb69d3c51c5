//! `witness(place)`: the place of one of the spans of each group, whichever. States are places, and of two any will do.

use std::{mem::size_of, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array},
    datatypes::{DataType, Decimal128Type, Field, FieldRef},
};
use datafusion::{
    common::{Result as DfResult, ScalarValue, exec_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::place::place_type;
use crate::error::Error;

/// One of the places of a group; see [`SpanColumn::Place`](super::SpanColumn::Place).
pub fn witness(place: Expr) -> Expr {
    AggregateUDF::from(Witness::default()).call(vec![place])
}

/// The function `witness`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Witness {
    signature: Signature,
}

impl Default for Witness {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types {
            [one] if *one == place_type() => Ok(place_type()),
            _ => exec_err!("witness() takes places"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[place]", args.name), place_type(), true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Places::default()))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Places::default()))
    }
}

/// A place for each group, or [`NOWHERE`].
#[derive(Debug, Default)]
struct Places(Vec<i128>);

/// No place: those are not negative.
const NOWHERE: i128 = -1;

fn places_of(arrays: &[ArrayRef]) -> DfResult<&Decimal128Array> {
    let places = arrays.first().and_then(|array| array.as_primitive_opt::<Decimal128Type>());
    Ok(places.ok_or_else(|| Error::internal("witness() got something else than places"))?)
}

fn array_of(places: Vec<i128>) -> DfResult<ArrayRef> {
    let array: Decimal128Array = places.into_iter().map(|place| (place != NOWHERE).then_some(place)).collect();
    Ok(Arc::new(array.with_data_type(place_type())))
}

impl GroupsAccumulator for Places {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        let places = places_of(values)?;
        self.0.resize(total, NOWHERE);
        for (row, group) in groups.iter().enumerate() {
            if places.is_valid(row) && filter.is_none_or(|f| f.is_valid(row) && f.value(row)) {
                self.0[*group] = places.value(row);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        GroupsAccumulator::update_batch(self, states, groups, None, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        array_of(emit_to.take_needed(&mut self.0))
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let mut each = Self::default();
        let rows: Vec<usize> = (0..places_of(values)?.len()).collect();
        GroupsAccumulator::update_batch(&mut each, values, &rows, filter, rows.len())?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<i128>()
    }
}

impl Accumulator for Places {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let groups = vec![0; values.first().map_or(0, |array| array.len())];
        GroupsAccumulator::update_batch(self, values, &groups, None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        Accumulator::update_batch(self, states)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let place = self.0.first().copied().filter(|place| *place != NOWHERE);
        ScalarValue::try_from_array(&array_of(vec![place.unwrap_or(NOWHERE)])?, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_one_of_its_places() {
        let array = |places: &[i128]| array_of(places.to_vec()).unwrap();
        let mut some = Places::default();
        GroupsAccumulator::update_batch(&mut some, &[array(&[7, 8, NOWHERE])], &[0, 2, 1], None, 3).unwrap();
        let states = GroupsAccumulator::state(&mut some, EmitTo::All).unwrap();
        let mut all = Places::default();
        GroupsAccumulator::merge_batch(&mut all, &states, &[1, 0, 0], 3).unwrap();
        assert_eq!(GroupsAccumulator::evaluate(&mut all, EmitTo::All).unwrap().as_ref(), array(&[8, 7, NOWHERE]).as_ref());
        let mut one = Places::default();
        assert!(Accumulator::evaluate(&mut one).unwrap().is_null());
        Accumulator::update_batch(&mut one, &[array(&[5])]).unwrap();
        assert_eq!(Accumulator::evaluate(&mut one).unwrap(), ScalarValue::Decimal128(Some(5), 38, 0));
    }
}
