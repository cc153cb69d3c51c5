//! `members(a, b, ...)`: which of some conditions a span meets, as a number with a bit for each. Grouping by it, one scan counts
//! for several questions at once. In a scan each condition is asked like a filter: of dictionaries and values that occur first.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, UInt32Array},
    datatypes::DataType,
};
use datafusion::{
    common::{DataFusionError, Result as DfResult},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    physical_expr::{PhysicalExpr, ScalarFunctionExpr},
};

use super::{
    chunk::{Effort, SpanChunk},
    columns::SpanColumn,
    filter::{ScanFilter, mask_of},
    groups::Dimension,
};
use crate::error::{Error, Result};

/// The most conditions of one call.
pub const MEMBERS_MAX: usize = 16;

/// The function `members`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MembersFunction {
    signature: Signature,
}

impl MembersFunction {
    /// The number (Int32) whose bit `i` says whether condition `i` is true, of [`MEMBERS_MAX`] conditions at most.
    pub fn call(conditions: Vec<Expr>) -> Expr {
        ScalarUDF::from(Self { signature: Signature::variadic_any(Volatility::Immutable) }).call(conditions)
    }

    /// The conditions, if an expression is a call.
    fn called(expr: &Arc<dyn PhysicalExpr>) -> Option<&[Arc<dyn PhysicalExpr>]> {
        let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
        (call.fun().inner().as_ref() as &dyn std::any::Any).is::<Self>().then(|| call.args())
    }
}

impl ScalarUDFImpl for MembersFunction {
    fn name(&self) -> &str {
        "members"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut numbers = vec![0i32; args.number_rows];
        for (bit, verdicts) in args.args.into_iter().take(MEMBERS_MAX).enumerate() {
            let verdicts = verdicts.into_array(numbers.len())?;
            let verdicts = verdicts.as_boolean_opt();
            let verdicts = verdicts.ok_or_else(|| DataFusionError::from(Error::internal("members() needs conditions")))?;
            let met = |row: usize| verdicts.is_valid(row) && verdicts.value(row);
            numbers.iter_mut().enumerate().filter(|(row, _)| met(*row)).for_each(|(_, number)| *number |= 1 << bit);
        }
        Ok(ColumnarValue::Array(Arc::new(Int32Array::from(numbers))))
    }
}

/// A call that a scan groups by.
#[derive(Debug)]
pub(super) struct Members {
    filters: Vec<ScanFilter>,
}

impl Members {
    /// What an expression over these columns asks for, if it is a call.
    pub fn of(columns: &[SpanColumn], expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Self>> {
        let Some(conditions) = MembersFunction::called(expr).filter(|conditions| conditions.len() <= MEMBERS_MAX) else { return Ok(None) };
        let filters = conditions.iter().map(|condition| ScanFilter::new(columns, Some(condition))).collect::<Result<_>>()?;
        Ok(Some(Self { filters }))
    }

    /// The number of each of these spans of a chunk (ascending), or of all; its columns are loaded.
    pub async fn numbers(&self, chunk: &mut dyn SpanChunk, spans: Option<&UInt32Array>) -> Result<(ArrayRef, Dimension)> {
        let count = chunk.span_count();
        let before = spans.map(|spans| mask_of(count, spans.values().iter().copied()));
        let mut numbers = vec![0u32; count];
        for (bit, filter) in self.filters.iter().enumerate() {
            if filter.excludes(chunk, Effort::Dictionaries).await?.is_some() {
                continue;
            }
            match filter.select(chunk, before.as_ref()).await? {
                None => numbers.iter_mut().for_each(|number| *number |= 1 << bit),
                Some(mask) => mask.set_indices().for_each(|span| numbers[span] |= 1 << bit),
            }
        }
        let numbers = match spans {
            None => numbers,
            Some(spans) => spans.values().iter().map(|span| numbers[*span as usize]).collect(),
        };
        let values = Arc::new(Int32Array::from_iter_values(numbers.iter().map(|number| *number as i32)));
        Ok((values, Dimension { codes: numbers.into(), count: 1 << self.filters.len() }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{array::BooleanArray, datatypes::Field};
    use datafusion::config::ConfigOptions;

    use super::*;

    #[test]
    fn each_condition_has_a_bit() {
        let function = MembersFunction { signature: Signature::variadic_any(Volatility::Immutable) };
        let condition = |verdicts: [Option<bool>; 3]| ColumnarValue::Array(Arc::new(BooleanArray::from(verdicts.to_vec())));
        let args = vec![condition([Some(true), Some(false), None]), condition([Some(true), Some(true), Some(false)])];
        let answer = function.invoke_with_args(ScalarFunctionArgs {
            arg_fields: (0..2).map(|_| Arc::new(Field::new("", DataType::Boolean, true))).collect(),
            args,
            number_rows: 3,
            return_field: Arc::new(Field::new("", DataType::Int32, false)),
            config_options: Arc::new(ConfigOptions::default()),
        });
        let numbers = answer.unwrap().into_array(3).unwrap();
        assert_eq!(numbers.as_ref(), &Int32Array::from(vec![3, 2, 0]));
    }
}
