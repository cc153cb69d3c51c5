//! Where a span lies, as one number: so that a second plan finds a span that a first one met, without reading anything else.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Decimal128Array},
    datatypes::DataType,
};

use crate::error::Result;

/// Bits of the number of a span in its unit.
const SPAN_BITS: u32 = 32;
/// Bits that are left empty, so that a place is a number of 38 digits.
const EMPTY_BITS: u32 = 3;

/// The type of [`SpanColumn::Place`](super::SpanColumn::Place).
pub(super) fn place_type() -> DataType {
    DataType::Decimal128(38, 0)
}

/// The place of a span: its number behind 93 bits of what tells units (row groups, live traces) apart. Those are spread by a
/// product with an odd constant, which loses nothing but the lowest bits.
pub(crate) fn place(unit: u128, span: u32) -> i128 {
    let spread = unit.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (((spread >> (SPAN_BITS + EMPTY_BITS)) << SPAN_BITS) | u128::from(span)) as i128
}

/// The number of a span in its unit, if it is of this unit.
pub(crate) fn span_at(unit: u128, place_of_span: i128) -> Option<u32> {
    let span = place_of_span as u32;
    (place(unit, span) == place_of_span).then_some(span)
}

/// Places as an array.
pub(crate) fn places(all: impl Iterator<Item = i128>) -> Result<ArrayRef> {
    Ok(Arc::new(Decimal128Array::from_iter_values(all).with_precision_and_scale(38, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_tell_units_and_spans() {
        for unit in [0, 1, u128::MAX, 0x1234_5678_9abc_def0] {
            for span in [0, 1, u32::MAX] {
                assert_eq!(span_at(unit, place(unit, span)), Some(span));
                assert_eq!(span_at(unit ^ 1, place(unit, span)), None);
                assert!(place(unit, span) >= 0 && place(unit, span) < 10i128.pow(38));
            }
        }
    }
}
