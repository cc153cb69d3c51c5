//! A column as few values and, for each span, which of them it has: what filters and groups work on, so that an expression
//! is evaluated once a value instead of once a span.

use arrow::{
    array::{Array, ArrayRef, BooleanArray, UInt32Array},
    buffer::{BooleanBuffer, MutableBuffer, ScalarBuffer},
    compute::take,
    util::bit_util,
};

use super::codes::Codes;
use crate::error::Result;

/// A column in codes.
#[derive(Clone, Debug)]
pub struct CodedColumn {
    /// The values that occur (and perhaps some that do not, or one twice), of the column's type.
    pub values: ArrayRef,
    /// The code of each span, or of each group of consecutive spans: a position in `values`.
    pub codes: Codes,
    /// Where the spans of each group start, and one entry more: the number of spans. `None` if there is a code for each span.
    pub starts: Option<ScalarBuffer<u32>>,
}

impl CodedColumn {
    /// The same with a code for each span, in as few bytes as can be.
    #[must_use]
    pub fn packed(&self) -> Self {
        Self { values: self.values.clone(), codes: Codes::packed(self.codes_of(None), self.values.len()), starts: None }
    }

    /// Number of spans.
    pub fn span_count(&self) -> usize {
        match &self.starts {
            Some(starts) => starts.last().map_or(0, |n| *n as usize),
            None => self.codes.len(),
        }
    }

    /// The spans whose value has a true verdict; NULL is false.
    pub fn spans_where(&self, verdicts: &BooleanArray) -> BooleanBuffer {
        let yes: Vec<bool> = (0..verdicts.len()).map(|i| verdicts.is_valid(i) && verdicts.value(i)).collect();
        match yes.iter().filter(|y| **y).count() {
            0 => return BooleanBuffer::new_unset(self.span_count()),
            n if n == yes.len() => return BooleanBuffer::new_set(self.span_count()),
            _ => {}
        }
        match &self.starts {
            Some(starts) => {
                let mut bits = MutableBuffer::new_null(self.span_count());
                for (range, code) in starts.windows(2).zip(self.codes.words().iter()) {
                    if yes[*code as usize] {
                        set_range(&mut bits, range[0] as usize, range[1] as usize);
                    }
                }
                BooleanBuffer::new(bits.into(), 0, self.span_count())
            }
            None => self.codes.bits_where(&yes),
        }
    }

    /// All pairs of a value of this column and one of another.
    pub fn pairs_with(&self, other: &Self) -> Result<CodedPairs> {
        let (a, b) = (self.values.len() as u32, other.values.len() as u32);
        let firsts: UInt32Array = (0..a).flat_map(|i| std::iter::repeat_n(i, b as usize)).collect::<Vec<_>>().into();
        let seconds: UInt32Array = (0..a).flat_map(|_| 0..b).collect::<Vec<_>>().into();
        let codes = self.codes_of(None).iter().zip(other.codes_of(None).iter()).map(|(x, y)| x * b + y).collect::<Vec<_>>().into();
        Ok(CodedPairs {
            values: [take(&self.values, &firsts, None)?, take(&other.values, &seconds, None)?],
            count: (a * b) as usize,
            codes,
        })
    }

    /// The code of each of these spans, or of all.
    pub fn codes_of(&self, spans: Option<&UInt32Array>) -> ScalarBuffer<u32> {
        match (&self.starts, spans) {
            (None, None) => self.codes.words(),
            (None, Some(spans)) => self.codes.at(spans.values()),
            (Some(starts), None) => spread(starts, self.codes.words().iter().copied()).into(),
            (Some(starts), Some(spans)) => {
                // Both ascend.
                let (mut group, codes) = (0, self.codes.words());
                let of = |span: &u32| {
                    while starts[group + 1] <= *span {
                        group += 1;
                    }
                    codes[group]
                };
                spans.values().iter().map(of).collect()
            }
        }
    }

    /// The column as an array, for these spans or for all.
    pub fn to_array(&self, spans: Option<&UInt32Array>) -> Result<ArrayRef> {
        Ok(take(&self.values, &UInt32Array::new(self.codes_of(spans), None), None)?)
    }
}

/// The value of its group for each member, of groups with these starts (and their end).
pub(crate) fn spread(starts: &[u32], values: impl Iterator<Item = u32>) -> Vec<u32> {
    // Most groups are small: for those one write of fixed size does, whose surplus the next group writes over.
    const SMALL: usize = 4;
    let members = starts.last().map_or(0, |n| *n as usize);
    let mut all = vec![0; members + SMALL];
    for (range, value) in starts.windows(2).zip(values) {
        let (from, to) = (range[0] as usize, range[1] as usize);
        all[from..from + SMALL].copy_from_slice(&[value; SMALL]);
        if to > from + SMALL {
            all[from + SMALL..to].fill(value);
        }
    }
    all.truncate(members);
    all
}

/// Two columns as pairs of values; see [`CodedColumn::pairs_with`].
#[derive(Clone, Debug)]
pub struct CodedPairs {
    /// The values of both columns in each pair.
    pub values: [ArrayRef; 2],
    /// Number of pairs.
    pub count: usize,
    codes: Codes,
}

impl CodedPairs {
    /// The spans whose pair has a true verdict; NULL is false.
    pub fn spans_where(&self, verdicts: &BooleanArray) -> BooleanBuffer {
        let yes: Vec<bool> = (0..verdicts.len()).map(|i| verdicts.is_valid(i) && verdicts.value(i)).collect();
        self.codes.bits_where(&yes)
    }
}

/// Sets bits `from..to`.
fn set_range(bits: &mut MutableBuffer, from: usize, to: usize) {
    let bytes = bits.as_slice_mut();
    if to - from < 16 {
        (from..to).for_each(|i| bit_util::set_bit(bytes, i));
        return;
    }
    let (first, last) = (from.next_multiple_of(8), to / 8 * 8);
    (from..first).chain(last..to).for_each(|i| bit_util::set_bit(bytes, i));
    bytes[first / 8..last / 8].fill(0xff);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};

    use super::*;

    fn grouped() -> CodedColumn {
        let values = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        // Three spans, none, forty, one.
        CodedColumn { values, codes: vec![1, 0, 2, 1].into(), starts: Some(vec![0, 3, 3, 43, 44].into()) }
    }

    #[test]
    fn groups_spread_over_their_spans() {
        let column = grouped();
        let verdicts = |v: [Option<bool>; 3]| BooleanArray::from(v.to_vec());
        let set = |v| column.spans_where(&verdicts(v)).set_indices().collect::<Vec<_>>();
        assert_eq!(set([Some(true), None, Some(false)]), Vec::<usize>::new());
        assert_eq!(set([Some(false), Some(true), None]), [0, 1, 2, 43]);
        assert_eq!(set([Some(false), Some(false), Some(true)]), (3..43).collect::<Vec<_>>());
        assert_eq!(set([Some(true); 3]).len(), 44);
        assert_eq!(column.codes_of(Some(&UInt32Array::from(vec![2, 3, 42, 43])))[..], [1, 2, 2, 1]);
        assert_eq!(column.codes_of(None)[..4], [1, 1, 1, 2]);
        assert_eq!(column.to_array(None).unwrap().len(), 44);
    }

    #[test]
    fn spans_have_codes_of_their_own() {
        let column = CodedColumn { values: Arc::new(Int32Array::from(vec![7, 8])), codes: vec![0, 1, 1, 0].into(), starts: None };
        let mask = column.spans_where(&BooleanArray::from(vec![false, true]));
        assert_eq!(mask.set_indices().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(column.to_array(Some(&UInt32Array::from(vec![0, 1]))).unwrap().as_ref(), &Int32Array::from(vec![7, 8]));
    }
}
