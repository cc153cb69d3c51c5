//! The functions of metrics plans: the key a span is grouped by, the number it gives, the power of two that bounds it.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryViewArray, Int32Array, make_view},
    buffer::{Buffer, ScalarBuffer},
    datatypes::{DataType, Float64Type, Int32Type, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result as DfResult},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use tracehouse_engine::{Error, Result};

use super::{super::filter::column, key};
use crate::{
    eval::{Codes, Values, columns_of, single_values_of, single_values_or_zeros_of},
    syntax::{Field, Static},
};

/// What a function makes of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The typed values of all fields as one key of bytes.
    Key,
    /// The value of the one field as a number, durations in seconds; NULL if it is none.
    Number,
    /// The exponent of the smallest power of two that is not below the value of the one field; durations in nanoseconds.
    /// NULL where a histogram has no place for it.
    Exponent,
}

/// A function of the columns of some fields, in the order of `columns_of`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFunction {
    name: String,
    kind: Kind,
    fields: Vec<Field>,
    signature: Signature,
}

impl FieldFunction {
    /// The function applied to the fields' columns.
    pub fn call(kind: Kind, fields: &[Field]) -> Expr {
        let list = fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let name = match kind {
            Kind::Key => format!("traceql_key({list})"),
            Kind::Number => format!("traceql_number({list})"),
            Kind::Exponent => format!("traceql_exponent({list})"),
        };
        let args = fields.iter().flat_map(columns_of).map(|c| column(&c)).collect();
        let signature = Signature::variadic_any(Volatility::Immutable);
        ScalarUDF::from(Self { name, kind, fields: fields.to_vec(), signature }).call(args)
    }

    fn evaluate(&self, arrays: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mut rest = arrays;
        let mut values = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let (own, others) = rest
                .split_at_checked(columns_of(field).len())
                .ok_or_else(|| Error::internal(format!("{} got too few arguments", self.name)))?;
            values.push(match self.kind {
                Kind::Key => single_values_or_zeros_of(field, own)?,
                // Nothing is measured of a span without events.
                Kind::Number | Kind::Exponent => single_values_of(field, own)?,
            });
            rest = others;
        }
        let one = || values.first().ok_or_else(|| Error::internal(format!("{} needs a field", self.name)));
        Ok(match self.kind {
            Kind::Key => {
                let codes: Vec<Codes> = values.iter().map(|v| v.codes()).collect();
                keys(&codes, rows)
            }
            Kind::Number => Arc::new(one()?.numbers()),
            Kind::Exponent => {
                let values = one()?;
                match values {
                    Values::Duration(nanos) => Arc::new(nanos.unary_opt::<_, Int32Type>(exponent_of_int)),
                    _ => Arc::new((0..rows).map(|row| exponent(&values.get(row))).collect::<Int32Array>()),
                }
            }
        })
    }
}

/// One key a row. The bytes are made once for each tuple of values that occurs; rows hold views of them.
fn keys(fields: &[Codes], rows: usize) -> ArrayRef {
    let (ids, tuples) = tuples(fields, rows);
    let (mut bytes, mut ranges) = (Vec::new(), Vec::with_capacity(tuples.len()));
    for tuple in &tuples {
        let from = bytes.len();
        fields.iter().zip(tuple).for_each(|(f, code)| key::encode(&f.values[*code as usize], &mut bytes));
        ranges.push(from..bytes.len());
    }
    let views: Vec<u128> = ranges.into_iter().map(|r| make_view(&bytes[r.clone()], 0, r.start as u32)).collect();
    let rows: ScalarBuffer<u128> = ids.iter().map(|id| views[*id as usize]).collect();
    Arc::new(BinaryViewArray::new(rows, vec![Buffer::from_vec(bytes)], None))
}

/// The distinct tuples of codes, and for each row which one it has.
fn tuples(fields: &[Codes], rows: usize) -> (Vec<u32>, Vec<Vec<u32>>) {
    if let [one] = fields {
        return (one.rows.clone(), (0..one.values.len() as u32).map(|code| vec![code]).collect());
    }
    let (mut known, mut all): (HashMap<Vec<u32>, u32>, Vec<Vec<u32>>) = Default::default();
    let mut tuple = Vec::with_capacity(fields.len());
    let ids = (0..rows)
        .map(|row| {
            tuple.clear();
            tuple.extend(fields.iter().map(|f| f.rows[row]));
            known.get(&tuple).copied().unwrap_or_else(|| {
                all.push(tuple.clone());
                known.insert(tuple.clone(), all.len() as u32 - 1);
                all.len() as u32 - 1
            })
        })
        .collect();
    (ids, all)
}

/// The exponent of the power of two that bounds a value from above. Whole numbers and durations below 2 have no bucket (as
/// in Tempo), nor have floats that are not positive and finite.
pub fn exponent(value: &Static) -> Option<i32> {
    match value {
        Static::Int(v) | Static::Duration(v) => exponent_of_int(*v),
        Static::Float(v) if *v > 0.0 && v.is_finite() => Some(exponent_of(*v)),
        _ => None,
    }
}

/// The least whole number or duration (nanoseconds) that has a bucket.
pub(super) const LEAST_IN_BUCKETS: i64 = 2;

fn exponent_of_int(value: i64) -> Option<i32> {
    // Compared as floats, as Tempo does.
    (value >= LEAST_IN_BUCKETS).then(|| exponent_of(value as f64))
}

/// The smallest `e` with `2^e >= number`, of a positive finite number.
fn exponent_of(number: f64) -> i32 {
    let bits = number.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    if exponent == 0 {
        // A subnormal number is its fraction times 2^-1074.
        return 64 - (fraction - 1).leading_zeros() as i32 - 1074;
    }
    exponent - 1023 + i32::from(fraction != 0)
}

impl Hash for FieldFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for FieldFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Key => "traceql_key",
            Kind::Number => "traceql_number",
            Kind::Exponent => "traceql_exponent",
        }
    }

    fn display_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.name.clone())
    }

    fn schema_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.name.clone())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(match self.kind {
            Kind::Key => DataType::BinaryView,
            Kind::Number => DataType::Float64,
            Kind::Exponent => DataType::Int32,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        Ok(ColumnarValue::Array(self.evaluate(&arrays, args.number_rows).map_err(DataFusionError::from)?))
    }
}

/// The kinds of array that a plan's columns are read as.
pub fn column_as<'a, T>(array: Option<&'a T>, what: &str) -> Result<&'a T> {
    array.ok_or_else(|| Error::internal(format!("a metrics plan gave no {what}")))
}

/// Whole numbers of a plan's answer.
pub fn int64(array: &ArrayRef) -> Result<&arrow::array::Int64Array> {
    column_as(array.as_primitive_opt::<Int64Type>(), "whole numbers")
}

/// Numbers of a plan's answer.
pub fn float64(array: &ArrayRef) -> Result<&arrow::array::Float64Array> {
    column_as(array.as_primitive_opt::<Float64Type>(), "numbers")
}

/// Small whole numbers of a plan's answer.
pub fn int32(array: &ArrayRef) -> Result<&Int32Array> {
    column_as(array.as_primitive_opt::<Int32Type>(), "small numbers")
}

/// The key of a row; empty if the plan groups by nothing.
pub fn key_at(array: &ArrayRef, row: usize) -> Result<&[u8]> {
    let keys = column_as(array.as_binary_view_opt(), "keys")?;
    Ok(if keys.is_valid(row) { keys.value(row) } else { &[] })
}

#[cfg(test)]
mod tests {
    use super::exponent;
    use crate::syntax::Static::{Duration, Float, Int, String};

    #[test]
    fn exponents_bound_values_from_above() {
        let cases = [
            (Int(0), None),
            (Int(1), None),
            (Int(-5), None),
            (Int(2), Some(1)),
            (Int(3), Some(2)),
            (Int(4), Some(2)),
            (Int(1024), Some(10)),
            (Int(1025), Some(11)),
            (Int(i64::MAX), Some(63)),
            (Int((1 << 53) + 1), Some(53)), // as a float it is 2^53
            (Duration(100_000), Some(17)),
            (Float(1.0), Some(0)),
            (Float(0.25), Some(-2)),
            (Float(0.3), Some(-1)),
            (Float(8.0), Some(3)),
            (Float(8.000001), Some(4)),
            (Float(f64::MAX), Some(1024)),
            (Float(f64::MIN_POSITIVE), Some(-1022)),
            (Float(f64::MIN_POSITIVE / 4.0), Some(-1024)),
            (Float(f64::from_bits(1)), Some(-1074)),
            (Float(f64::from_bits(3)), Some(-1072)),
            (Float(0.0), None),
            (Float(f64::NAN), None),
            (Float(f64::INFINITY), None),
            (String("8".into()), None),
        ];
        for (value, expected) in cases {
            assert_eq!(exponent(&value), expected, "{value:?}");
        }
    }
}
