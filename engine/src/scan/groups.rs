//! Groups of spans in code space: each dimension gives a span a small number, and the numbers together say which group it
//! is in. Values of the groups are looked at only once a group.

use std::collections::HashMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
    datatypes::{ArrowPrimitiveType, DataType, Int32Type, Int64Type, TimestampNanosecondType},
};

/// Group numbers up to this are counted in a table even if there are few spans.
const TABLE_MIN: usize = 1 << 16;
/// So many numbers are counted in several tables.
const COUNTED_APART_MAX: usize = 1 << 10;
const COUNTED_APART: usize = 4;
/// Numbers whose spread is larger are not used as they are.
const SPREAD_MAX: i64 = 1 << 20;

/// One dimension: a code for each span, below `count`.
#[derive(Clone, Debug)]
pub(super) struct Dimension {
    pub codes: ScalarBuffer<u32>,
    pub count: usize,
}

/// The groups that occur among some spans.
#[derive(Debug)]
pub(super) struct Groups {
    /// The group of each span, if that was asked for.
    pub of_span: Vec<u32>,
    /// For each group: number of its spans.
    pub counts: Vec<i64>,
    /// For each group: one of its spans.
    pub examples: UInt32Array,
}

/// Groups `spans` spans by their codes. Without `of_span` the spans are only counted.
pub(super) fn group(dimensions: &[Dimension], spans: usize, of_span: bool) -> Groups {
    let table_max = TABLE_MIN.max(2 * spans);
    if let (false, [first, rest @ ..]) = (of_span, dimensions) {
        match rest {
            [] if first.count <= table_max => return counted(first.codes.iter().copied(), first.count),
            [second] if first.count.checked_mul(second.count).is_some_and(|product| product <= table_max) => {
                let width = second.count as u32;
                let ids = first.codes.iter().zip(second.codes.iter()).map(|(a, b)| a * width + b);
                return counted(ids, first.count * second.count);
            }
            [second, third] if product(&[first, second, third]).is_some_and(|product| product <= table_max) => {
                let (width, depth) = (second.count as u32, third.count as u32);
                let ids = first.codes.iter().zip(second.codes.iter()).zip(third.codes.iter());
                let ids = ids.map(|((a, b), c)| (a * width + b) * depth + c);
                return counted(ids, first.count * second.count * third.count);
            }
            _ => {}
        }
    }
    let mut ids: Vec<u32> = Vec::new();
    let mut count = 1usize;
    for dimension in dimensions {
        if ids.is_empty() {
            ids = dimension.codes.to_vec();
            count = dimension.count.max(1);
            continue;
        }
        match count.checked_mul(dimension.count).filter(|product| *product <= table_max) {
            Some(product) => {
                let width = dimension.count as u32;
                ids.iter_mut().zip(dimension.codes.iter()).for_each(|(id, code)| *id = *id * width + code);
                count = product;
            }
            None => count = number_pairs(&mut ids, &dimension.codes),
        }
    }
    if ids.is_empty() {
        ids = vec![0; spans];
    }
    number_used(ids, count)
}

/// How many groups these dimensions can have.
fn product(dimensions: &[&Dimension]) -> Option<usize> {
    dimensions.iter().try_fold(1usize, |product, dimension| product.checked_mul(dimension.count))
}

/// Gives each pair of an id and a code that occurs a number; how many there are.
fn number_pairs(ids: &mut [u32], codes: &[u32]) -> usize {
    let mut known: HashMap<(u32, u32), u32> = HashMap::new();
    for (id, code) in ids.iter_mut().zip(codes) {
        let next = known.len() as u32;
        *id = *known.entry((*id, *code)).or_insert(next);
    }
    known.len().max(1)
}

/// Counts the spans that have each number below `count`.
fn counted(ids: impl Iterator<Item = u32>, count: usize) -> Groups {
    // How many in the upper half, the last of them in the lower: one place to write to for each span. Neighbours are often
    // in one group: with tables of their own they need not wait for each other.
    let (count, apart) = (count.max(1), if count <= COUNTED_APART_MAX { COUNTED_APART } else { 1 });
    let mut table = vec![0u64; count * apart];
    for (span, id) in ids.enumerate() {
        let entry = &mut table[(span & (apart - 1)) * count + id as usize];
        *entry = (((*entry >> 32) + 1) << 32) | span as u64;
    }
    let (first, others) = table.split_at_mut(count);
    for others in others.chunks(count) {
        for (entry, other) in first.iter_mut().zip(others) {
            let (spans, last) = ((*entry >> 32) + (other >> 32), (*entry as u32).max(*other as u32));
            *entry = (spans << 32) | u64::from(last);
        }
    }
    let table = &*first;
    let used = || table.iter().filter(|entry| **entry > 0);
    Groups {
        of_span: Vec::new(),
        counts: used().map(|entry| (entry >> 32) as i64).collect(),
        examples: used().map(|entry| *entry as u32).collect::<Vec<_>>().into(),
    }
}

/// Leaves out the numbers that no span has.
fn number_used(mut ids: Vec<u32>, count: usize) -> Groups {
    let (mut counts, mut examples) = (vec![0u32; count], vec![0u32; count]);
    for (span, id) in ids.iter().enumerate() {
        counts[*id as usize] += 1;
        examples[*id as usize] = span as u32;
    }
    let used = counts.iter().filter(|n| **n > 0).count();
    if used < count {
        let mut next = 0;
        let number: Vec<u32> = counts
            .iter()
            .map(|n| {
                next += u32::from(*n > 0);
                next.wrapping_sub(1)
            })
            .collect();
        ids.iter_mut().for_each(|id| *id = number[*id as usize]);
        examples = examples.into_iter().zip(&counts).filter(|(_, n)| **n > 0).map(|(e, _)| e).collect();
        counts.retain(|n| *n > 0);
    }
    Groups { of_span: ids, counts: counts.into_iter().map(i64::from).collect(), examples: examples.into() }
}

/// The dimension that whole numbers are, if they lie close together; NULL counts as a number of its own.
pub(super) fn dimension_of(values: &ArrayRef) -> Option<Dimension> {
    fn close<T: ArrowPrimitiveType>(values: &ArrayRef, wide: impl Fn(T::Native) -> i64) -> Option<Dimension> {
        let values = values.as_primitive::<T>();
        let min = wide(arrow::compute::min(values).unwrap_or_default());
        let max = wide(arrow::compute::max(values).unwrap_or_default());
        let spread = max.checked_sub(min).filter(|spread| *spread < SPREAD_MAX)?;
        let codes: ScalarBuffer<u32> = match values.nulls().filter(|n| n.null_count() > 0) {
            None => values.values().iter().map(|v| wide(*v).wrapping_sub(min) as u32).collect(),
            Some(nulls) => {
                let code = |(v, valid)| if valid { wide(v).wrapping_sub(min) as u32 } else { spread as u32 + 1 };
                values.values().iter().copied().zip(nulls.iter()).map(code).collect()
            }
        };
        Some(Dimension { codes, count: spread as usize + 2 })
    }
    match values.data_type() {
        DataType::Int32 => close::<Int32Type>(values, i64::from),
        DataType::Int64 => close::<Int64Type>(values, |v| v),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => close::<TimestampNanosecondType>(values, |v| v),
        _ => None,
    }
}

/// The entries of `values` at the examples.
pub(super) fn at(values: &ArrayRef, codes: Option<&ScalarBuffer<u32>>, examples: &UInt32Array) -> crate::Result<ArrayRef> {
    Ok(match codes {
        None => take(values, examples, None)?,
        Some(codes) => {
            let places: UInt32Array = examples.values().iter().map(|span| codes[*span as usize]).collect::<Vec<_>>().into();
            take(values, &places, None)?
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::array::Int64Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_are_those_of_a_map(
            rows in prop::collection::vec((0u32..5, 0u32..100_000, 0u32..3), 0..300),
        ) {
            let dimension = |codes: Vec<u32>, count| Dimension { codes: codes.into(), count };
            let dimensions = [
                dimension(rows.iter().map(|r| r.0).collect(), 5),
                dimension(rows.iter().map(|r| r.1).collect(), 100_000),
                dimension(rows.iter().map(|r| r.2).collect(), 3),
            ];
            let groups = group(&dimensions, rows.len(), true);
            for some in [1, 2, 3] {
                let only_counted = group(&dimensions[..some], rows.len(), false);
                let all = group(&dimensions[..some], rows.len(), true);
                let show = |groups: &Groups| -> BTreeMap<Vec<u32>, i64> {
                    let codes = |span: &u32| dimensions[..some].iter().map(|d| d.codes[*span as usize]).collect();
                    groups.examples.values().iter().map(codes).zip(groups.counts.iter().copied()).collect()
                };
                prop_assert_eq!(show(&only_counted), show(&all));
            }
            let mut due: BTreeMap<_, i64> = BTreeMap::new();
            rows.iter().for_each(|row| *due.entry(*row).or_default() += 1);
            let found: BTreeMap<_, i64> =
                groups.examples.values().iter().zip(&groups.counts).map(|(span, n)| (rows[*span as usize], *n)).collect();
            prop_assert_eq!(found, due);
            for (row, id) in rows.iter().zip(&groups.of_span) {
                prop_assert_eq!(*row, rows[groups.examples.value(*id as usize) as usize]);
            }
        }
    }

    #[test]
    fn without_dimensions_there_is_one_group() {
        let groups = group(&[], 3, true);
        assert_eq!((groups.counts, groups.examples.len()), (vec![3], 1));
    }

    #[test]
    fn close_numbers_are_codes() {
        let of = |values: Vec<Option<i64>>| dimension_of(&(Arc::new(Int64Array::from(values)) as ArrayRef));
        let codes = of(vec![Some(-3), None, Some(4)]).unwrap();
        assert_eq!((&codes.codes[..], codes.count), (&[0, 8, 7][..], 9));
        assert!(of(vec![Some(i64::MIN), Some(i64::MAX)]).is_none());
        assert_eq!(of(vec![]).unwrap().codes.len(), 0);
    }
}
