//! Time series: what metrics queries work on between the plans and Tempo's answer.

mod assemble;
mod compare;
mod math;
mod merged;
mod quantile;
mod response;
mod second;

pub use assemble::{Assembled, GROUPS_AT_ONCE, Group, assemble, groups_of, groups_of_members, labels_of};
pub use compare::Compared;
pub use math::{Operand, combine};
pub use merged::Merged;
pub use quantile::{Histogram, bucket_bound};
pub use response::{ExemplarJson, InstantResponse, InstantSeries, LabelJson, Partial, RangeResponse, RangeSeries};
pub use second::apply;

use crate::syntax::Static;

/// Label of the name of a series.
pub const NAME_LABEL: &str = "__name__";
/// Label of the upper bound of a histogram's bucket.
pub const BUCKET_LABEL: &str = "__bucket";
/// Label of a quantile.
pub const QUANTILE_LABEL: &str = "p";

/// A label of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The attribute as written in the query, or one of the names above.
    pub name: String,
    /// Its value; never nil (see [`labels_of`]).
    pub value: Static,
}

/// A time series: a value for each interval, NaN where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What tells it from the others.
    pub labels: Vec<Label>,
    /// One value an interval.
    pub values: Vec<f64>,
    /// Spans that stand for some of its values.
    pub exemplars: Vec<Exemplar>,
}

/// A span that stands for a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// `trace:id` first, then the fields the query names.
    pub labels: Vec<Label>,
    /// The span's own value, or that of the sample in its interval.
    pub value: f64,
    /// Start of the span, Unix nanoseconds.
    pub time: i64,
    /// The interval it lies in.
    pub interval: usize,
}

impl Label {
    /// A label.
    pub fn new(name: impl Into<String>, value: Static) -> Self {
        Self { name: name.into(), value }
    }

    /// A label whose value is text.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, Static::String(value.into()))
    }
}

impl Series {
    /// Whether there is a value in any interval.
    pub fn has_values(&self) -> bool {
        self.values.iter().any(|v| !v.is_nan())
    }

    /// The labels but for the name.
    pub fn identity(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter().filter(|l| l.name != NAME_LABEL)
    }
}

/// Drops series without values, and exemplars of intervals without one.
pub fn drop_empty(series: &mut Vec<Series>) {
    series.retain(Series::has_values);
    for s in series {
        let values = &s.values;
        s.exemplars.retain(|e| values.get(e.interval).is_some_and(|v| !v.is_nan()));
    }
}
