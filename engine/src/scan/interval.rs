//! Intervals of time as numbers, and the rounded start times that may stand for them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, TimestampNanosecondArray},
    buffer::ScalarBuffer,
    datatypes::{DataType, Int32Type},
};
use datafusion::{
    common::{DataFusionError, Result as DfResult},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    physical_expr::{PhysicalExpr, ScalarFunctionExpr},
};

use crate::error::Error;

/// The most intervals of a chunk that are given codes.
pub const INTERVALS_MAX: u32 = 16 * 1024;

/// The steps of rounded start times that blocks may have, in seconds.
pub const ROUNDED_SECONDS: [u32; 4] = [15, 60, 300, 3600];

/// Number of the interval `(k * seconds, (k + 1) * seconds]` of the epoch grid that holds a time; 0 for time 0.
pub fn rounded_start(unix_nanos: u64, seconds: u64) -> u32 {
    let number = unix_nanos.div_ceil(seconds * 1_000_000_000).saturating_sub(1);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The end of such an interval, which lies in it, in Unix nanoseconds.
pub fn rounded_end(number: u32, seconds: u32) -> i64 {
    ((i64::from(number) + 1) * i64::from(seconds)).saturating_mul(1_000_000_000)
}

/// `time_interval(start_time)`: the number of the interval a time lies in; intervals are closed on the right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IntervalFunction {
    start: i64,
    step: i64,
    signature: Signature,
}

impl IntervalFunction {
    /// The function applied to a timestamp (Unix nanoseconds): intervals of `step` nanoseconds, the first of which begins at
    /// `start`.
    pub fn call(start: i64, step: i64, time: Expr) -> Expr {
        ScalarUDF::from(Self { start, step: step.max(1), signature: Signature::any(1, Volatility::Immutable) }).call(vec![time])
    }
}

impl IntervalFunction {
    /// The function and its argument, if an expression is a call.
    pub(super) fn called(expr: &Arc<dyn PhysicalExpr>) -> Option<(&Self, &Arc<dyn PhysicalExpr>)> {
        let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let function = (call.fun().inner().as_ref() as &dyn std::any::Any).downcast_ref::<Self>()?;
        Some((function, call.args().first()?))
    }

    /// The longest of the [`ROUNDED_SECONDS`] whose grid has no line inside an interval, of those that are `here`: then all times
    /// between two of its lines are in one interval.
    pub(super) fn grid(&self, here: impl Fn(u32) -> bool) -> Option<u32> {
        let fits = |seconds: u32| {
            let nanos = i64::from(seconds) * 1_000_000_000;
            self.step % nanos == 0 && self.start % nanos == 0
        };
        ROUNDED_SECONDS.into_iter().rev().find(|seconds| fits(*seconds) && here(*seconds))
    }
}

impl IntervalFunction {
    /// The intervals of times that are said to lie between two: a time in each of them, and which of them each time is in.
    /// `None` if they are more than [`INTERVALS_MAX`] or some time lies elsewhere.
    pub(super) fn coded(&self, times: &[i64], (min, max): (i64, i64)) -> Option<(ArrayRef, ScalarBuffer<u32>)> {
        let steps = Steps::new(self.step);
        let before = self.start.checked_add(1)?;
        let first = min.checked_sub(before)?.div_euclid(self.step);
        let count = u32::try_from(max.checked_sub(before)?.div_euclid(self.step) - first + 1).ok().filter(|n| *n <= INTERVALS_MAX)?;
        let base = first.checked_mul(self.step)?.checked_add(before)?;
        let code = |time: &i64| match time.wrapping_sub(base) {
            ..0 => u32::MAX,
            behind => u32::try_from(steps.quotient(behind as u64)).unwrap_or(u32::MAX),
        };
        let codes: Vec<u32> = times.iter().map(code).collect();
        if codes.iter().fold(0, |highest, code| highest.max(*code)) >= count {
            return None;
        }
        let within = (0..i64::from(count)).map(|n| base.checked_add(n * self.step));
        let within: TimestampNanosecondArray = within.collect::<Option<Vec<_>>>()?.into();
        Some((Arc::new(within.with_timezone("UTC")), codes.into()))
    }
}

impl ScalarUDFImpl for IntervalFunction {
    fn name(&self) -> &str {
        "time_interval"
    }

    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        self.schema_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let time = args.first().map(ToString::to_string).unwrap_or_default();
        Ok(format!("time_interval({time}, {}, {})", self.start, self.step))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let times = arrays.first().and_then(|a| a.as_primitive_opt::<arrow::datatypes::TimestampNanosecondType>());
        let times = times.ok_or_else(|| DataFusionError::from(Error::internal("time_interval() needs a timestamp")))?;
        let (first, steps) = (self.start.saturating_add(1), Steps::new(self.step));
        Ok(ColumnarValue::Array(Arc::new(times.unary::<_, Int32Type>(|t| steps.of(t.wrapping_sub(first))))))
    }
}

/// Division by a step through multiplication with its reciprocal: a division a span would cost more than all else.
#[derive(Clone, Copy, Debug)]
struct Steps {
    step: i64,
    reciprocal: u64,
}

impl Steps {
    fn new(step: i64) -> Self {
        Self { step, reciprocal: u64::MAX / step.unsigned_abs().max(1) }
    }

    /// How many whole steps lie in `time`, rounded down.
    #[inline]
    fn of(self, time: i64) -> i32 {
        if time < 0 {
            return time.div_euclid(self.step) as i32;
        }
        self.quotient(time as u64) as i32
    }

    /// The same for a time below 2^63.
    #[inline]
    fn quotient(self, time: u64) -> u64 {
        // The product is the quotient or one less: the reciprocal is rounded down.
        let guess = ((u128::from(time) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = time.wrapping_sub(guess.wrapping_mul(self.step as u64));
        guess + u64::from(rest >= self.step as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_by_division() {
        let times = [0, 1, 59, 60, 61, 3_599_999_999_999, i64::MAX / 2, i64::MAX - 1, i64::MAX, -1, -60, -61, i64::MIN];
        for step in [1, 2, 3, 7, 60, 1000, 60_000_000_000, i64::MAX / 3, i64::MAX] {
            for time in times.into_iter().chain((0..2000).map(|i| i * (i64::MAX / 2000))) {
                for near in [time.saturating_sub(1), time, time.saturating_add(1)] {
                    assert_eq!(Steps::new(step).of(near), near.div_euclid(step) as i32, "{near} / {step}");
                }
            }
        }
    }

    #[test]
    fn intervals_have_codes() {
        let function = |start, step| IntervalFunction { start, step, signature: Signature::any(1, Volatility::Immutable) };
        for (start, step) in [(0, 60), (-7, 1), (1000, 50), (i64::MAX - 10, 3), (5, i64::MAX)] {
            let function = function(start, step);
            for (min, max) in [(0, 0), (100, 400), (-90, 90), (900, 1000), (7, 7 + 2 * i64::from(INTERVALS_MAX))] {
                let times: Vec<i64> = [min, max].into_iter().chain((0..99).map(|i| min + (max - min) / 99 * i)).collect();
                let number = |time: i64| (i128::from(time) - i128::from(start) - 1).div_euclid(i128::from(step));
                let Some((within, codes)) = function.coded(&times, (min, max)) else {
                    // Too many, or not to be had in 64 bits.
                    assert!(number(max) - number(min) >= i128::from(INTERVALS_MAX) || step > 1_000_000 || start > 1_000_000);
                    continue;
                };
                let within = within.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
                for (time, code) in times.iter().zip(codes.iter()) {
                    assert_eq!(number(*time), number(within.value(*code as usize)), "{time} in steps of {step} from {start}");
                }
                // Bounds that lie.
                for other in [min - 3 * step.min(1000), max + 3 * step.min(1000)] {
                    assert!(step > 1000 || function.coded(&[min, other], (min, max)).is_none());
                }
            }
        }
    }

    #[test]
    fn rounded_times_are_closed_on_the_right() {
        let second = 1_000_000_000;
        let times = [0, 1, 15 * second - 1, 15 * second, 15 * second + 1, 30 * second];
        assert_eq!(times.map(|t| rounded_start(t, 15)), [0, 0, 0, 0, 1, 1]);
        assert_eq!(
            times[1..].iter().map(|t| rounded_end(rounded_start(*t, 15), 15) / 1_000_000_000).collect::<Vec<_>>(),
            [15, 15, 15, 30, 30]
        );
    }

    #[test]
    fn grids_fit_intervals() {
        let second = 1_000_000_000;
        let grid = |start: i64, step: i64| {
            let signature = Signature::any(1, Volatility::Immutable);
            IntervalFunction { start: start * second, step: step * second, signature }.grid(|seconds| seconds != 300)
        };
        assert_eq!(
            [grid(0, 3600), grid(3600, 300), grid(60, 60), grid(60, 90), grid(7, 60), grid(0, 50)],
            [Some(3600), Some(60), Some(60), Some(15), None, None]
        );
    }
}
