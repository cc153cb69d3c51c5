//! Counting in codes: pairs of an attribute and a group of spans, counted in a table or, where an attribute is rare, in a list.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, StructArray, UInt32Array},
    buffer::{OffsetBuffer, ScalarBuffer},
    compute::take,
    datatypes::{Field, Int32Type},
};

use super::count_fields;
use crate::error::{Error, Result};

/// The group of a span that is not counted.
pub(in super::super) const NO_GROUP: u32 = u32::MAX;
/// An attribute with fewer entries than this part of the groups is counted in a list.
const RARE: usize = 4;

/// All attributes of the things of a scope (spans, resources, instrumentation scopes) in one chunk.
#[derive(Clone, Debug)]
pub struct CodedAttributes {
    /// The attributes that occur, of [`attribute_type`](super::attribute_type). Two may be equal.
    pub attributes: ArrayRef,
    /// For each entry the thing that has the attribute. A thing has no key twice.
    pub things: Vec<u32>,
    /// For each entry the attribute: a position in `attributes`.
    pub codes: Vec<u32>,
    /// The first span of each thing, and the number of spans; `None` if the things are spans.
    pub starts: Option<ScalarBuffer<u32>>,
}

impl CodedAttributes {
    /// Its size in memory in bytes.
    pub fn size(&self) -> usize {
        let starts = self.starts.as_ref().map_or(0, |starts| starts.len());
        size_of::<u32>() * (self.things.len() + self.codes.len() + starts) + self.attributes.get_array_memory_size()
    }

    /// Counts the spans with each attribute by group: an array of [`value_counts_type`](super::value_counts_type), one entry a
    /// group. `group_of` has the group of each span, or [`NO_GROUP`].
    pub(in super::super) fn count(&self, group_of: &[u32], groups: usize) -> Result<ArrayRef> {
        let cells = match &self.starts {
            None => tally(self.attributes.len(), groups, &OfSpans { coded: self, group_of }),
            Some(starts) => tally(self.attributes.len(), groups, &OfThings::new(self, starts, group_of)),
        };
        cells.into_lists(self.attributes.clone(), groups)
    }

    /// The attributes of each of these spans, or of all `spans`: lists of [`attribute_type`](super::attribute_type).
    pub fn lists(&self, selection: Option<&UInt32Array>, spans: usize) -> Result<ArrayRef> {
        let things = self.starts.as_ref().map_or(spans, |s| s.len().saturating_sub(1));
        // Where the entries of each thing start, and its entries one behind the other.
        let mut offsets = vec![0u32; things + 1];
        self.things.iter().for_each(|thing| offsets[*thing as usize + 1] += 1);
        (0..things).for_each(|i| offsets[i + 1] += offsets[i]);
        let (mut next, mut sorted) = (offsets.clone(), vec![0u32; self.codes.len()]);
        for (thing, code) in self.things.iter().zip(&self.codes) {
            sorted[next[*thing as usize] as usize] = *code;
            next[*thing as usize] += 1;
        }
        let thing_of: Option<Vec<u32>> = self.starts.as_ref().map(|starts| super::super::coded::spread(starts, 0..things as u32));
        let (mut codes, mut lengths) = (Vec::new(), Vec::new());
        let mut add = |span: usize| {
            let thing = thing_of.as_ref().map_or(span, |of| of[span] as usize);
            let own = &sorted[offsets[thing] as usize..offsets[thing + 1] as usize];
            codes.extend_from_slice(own);
            lengths.push(own.len());
        };
        match selection {
            Some(selection) => selection.values().iter().for_each(|span| add(*span as usize)),
            None => (0..spans).for_each(&mut add),
        }
        let items = take(&self.attributes, &UInt32Array::from(codes), None)?;
        let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, None)?))
    }
}

/// Counts pairs of a code and a group: an array of [`value_counts_type`](super::value_counts_type), one entry a group.
/// `attributes` are what the codes stand for; a code behind them stands for nothing.
pub(in super::super) fn lists_of_pairs(attributes: ArrayRef, codes: &[u32], group_of: &[u32], groups: usize) -> Result<ArrayRef> {
    tally(attributes.len(), groups, &OfRows { known: attributes.len() as u32, codes, group_of }).into_lists(attributes, groups)
}

/// Codes with the group and number of their spans.
trait Pairs {
    /// Calls `see` with a code, a group and a number of spans; each time the same.
    fn each(&self, see: impl FnMut(u32, u32, u32));
}

/// Attributes of spans.
struct OfSpans<'a> {
    coded: &'a CodedAttributes,
    group_of: &'a [u32],
}

impl Pairs for OfSpans<'_> {
    fn each(&self, mut see: impl FnMut(u32, u32, u32)) {
        for (span, code) in self.coded.things.iter().zip(&self.coded.codes) {
            let group = self.group_of[*span as usize];
            if group != NO_GROUP {
                see(*code, group, 1);
            }
        }
    }
}

/// Attributes of resources and instrumentation scopes: where the groups of each start, and the groups with the number of the
/// thing's spans in them.
struct OfThings<'a> {
    coded: &'a CodedAttributes,
    offsets: Vec<u32>,
    groups: Vec<(u32, u32)>,
}

impl<'a> OfThings<'a> {
    fn new(coded: &'a CodedAttributes, starts: &[u32], group_of: &[u32]) -> Self {
        let mut groups: Vec<(u32, u32)> = Vec::with_capacity(starts.len());
        let mut offsets = Vec::with_capacity(starts.len());
        offsets.push(0);
        for range in starts.windows(2) {
            let first = groups.len();
            for group in group_of[range[0] as usize..range[1] as usize].iter().filter(|g| **g != NO_GROUP) {
                match groups[first..].iter_mut().rfind(|(known, _)| known == group) {
                    Some((_, spans)) => *spans += 1,
                    None => groups.push((*group, 1)),
                }
            }
            offsets.push(groups.len() as u32);
        }
        Self { coded, offsets, groups }
    }
}

impl Pairs for OfThings<'_> {
    fn each(&self, mut see: impl FnMut(u32, u32, u32)) {
        for (thing, code) in self.coded.things.iter().zip(&self.coded.codes) {
            let (from, to) = (self.offsets[*thing as usize], self.offsets[*thing as usize + 1]);
            self.groups[from as usize..to as usize].iter().for_each(|(group, spans)| see(*code, *group, *spans));
        }
    }
}

/// A column's values; codes from `known` on stand for nothing.
struct OfRows<'a> {
    known: u32,
    codes: &'a [u32],
    group_of: &'a [u32],
}

impl Pairs for OfRows<'_> {
    fn each(&self, mut see: impl FnMut(u32, u32, u32)) {
        let pairs = self.codes.iter().zip(self.group_of).filter(|(code, _)| **code < self.known);
        pairs.for_each(|(code, group)| see(*code, *group, 1));
    }
}

/// The pairs of a code and a group that occur, and their spans.
#[derive(Debug, Default)]
struct Cells(Vec<(u32, u32, u32)>);

/// Counts pairs.
fn tally(codes: usize, groups: usize, pairs: &impl Pairs) -> Cells {
    // First how many entries each code has: a rare one gets a list of them, another one a row of numbers.
    let mut entries = vec![0u32; codes];
    pairs.each(|code, _, _| entries[code as usize] += 1);
    let is_rare = |n: u32| (n as usize) < groups / RARE;
    let (mut rows, mut listed) = (0usize, 0usize);
    let mut starts = Vec::with_capacity(codes);
    for n in &entries {
        if is_rare(*n) {
            starts.push(listed);
            listed += *n as usize;
        } else {
            starts.push(rows * groups);
            rows += 1;
        }
    }
    let mut table = vec![0u32; rows * groups];
    let mut list = vec![(0u32, 0u32); listed];
    let mut next = starts.clone();
    pairs.each(|code, group, spans| {
        let code = code as usize;
        if is_rare(entries[code]) {
            list[next[code]] = (group, spans);
            next[code] += 1;
        } else {
            table[next[code] + group as usize] += spans;
        }
    });
    let mut cells = Vec::new();
    for (code, (n, start)) in entries.iter().zip(starts).enumerate() {
        let code = code as u32;
        if !is_rare(*n) {
            let row = table[start..start + groups].iter().enumerate().filter(|(_, spans)| **spans > 0);
            cells.extend(row.map(|(group, spans)| (code, group as u32, *spans)));
            continue;
        }
        let own = &mut list[start..start + *n as usize];
        own.sort_unstable();
        for same in own.chunk_by(|a, b| a.0 == b.0) {
            cells.push((code, same[0].0, same.iter().map(|(_, spans)| spans).sum()));
        }
    }
    Cells(cells)
}

impl Cells {
    /// Lists by group.
    fn into_lists(self, attributes: ArrayRef, groups: usize) -> Result<ArrayRef> {
        let mut offsets = vec![0i32; groups + 1];
        self.0.iter().for_each(|(_, group, _)| offsets[*group as usize + 1] += 1);
        (0..groups).for_each(|i| offsets[i + 1] += offsets[i]);
        let mut next = offsets.clone();
        let (mut codes, mut spans) = (vec![0i32; self.0.len()], vec![0i64; self.0.len()]);
        for (code, group, n) in self.0 {
            let at = &mut next[group as usize];
            codes[*at as usize] = code as i32;
            spans[*at as usize] = n.into();
            *at += 1;
        }
        counts_array(attributes, codes, spans, offsets)
    }
}

/// An array of [`value_counts_type`](super::value_counts_type).
pub(super) fn counts_array(attributes: ArrayRef, codes: Vec<i32>, spans: Vec<i64>, offsets: Vec<i32>) -> Result<ArrayRef> {
    if i32::try_from(codes.len()).is_err() {
        return Err(Error::new(crate::error::ErrorKind::TooLarge, "too many values in one count"));
    }
    let values = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), attributes)?;
    let items = StructArray::try_new(count_fields(), vec![Arc::new(values), Arc::new(Int64Array::from(spans))], None)?;
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::new(offsets.into()), Arc::new(items), None)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{
        super::{AttributeTable, Scalar, state::CountsReader},
        *,
    };

    fn attributes(count: usize) -> ArrayRef {
        let mut table = AttributeTable::default();
        let key = table.key("k");
        (0..count).for_each(|i| _ = table.number(key, Scalar::Int(i as i64)));
        table.to_array().unwrap()
    }

    /// Code, group and spans of all lists.
    fn counts(lists: &ArrayRef) -> BTreeMap<(u32, u32), i64> {
        let read = CountsReader::new(lists).unwrap();
        (0..lists.len()).flat_map(|group| read.of(group).map(move |(code, n)| ((code as u32, group as u32), n))).collect()
    }

    proptest! {
        #[test]
        fn pairs_are_those_of_a_map(
            entries in prop::collection::vec((0u32..40, 0u32..9), 0..200),
            lengths in prop::collection::vec(0u32..4, 40),
            groups in 1u32..30,
            of_things in any::<bool>(),
        ) {
            let starts: Vec<u32> = std::iter::once(0).chain(lengths.iter().scan(0, |sum, n| { *sum += n; Some(*sum) })).collect();
            let spans = if of_things { starts[40] } else { 40 };
            let group_of: Vec<u32> = (0..spans).map(|s| if s % 5 == 4 { NO_GROUP } else { s * 7 % groups }).collect();
            let (things, codes) = entries.iter().copied().unzip();
            let starts: Option<ScalarBuffer<u32>> = of_things.then(|| starts.into());
            let coded = CodedAttributes { attributes: attributes(9), things, codes, starts: starts.clone() };
            let mut due: BTreeMap<(u32, u32), i64> = BTreeMap::new();
            for (thing, code) in entries {
                let range = starts.as_ref().map_or(thing..thing + 1, |s| s[thing as usize]..s[thing as usize + 1]);
                for group in range.map(|s| group_of[s as usize]).filter(|g| *g != NO_GROUP) {
                    *due.entry((code, group)).or_default() += 1;
                }
            }
            prop_assert_eq!(counts(&coded.count(&group_of, groups as usize).unwrap()), due);
            // The same by lists of each span's attributes.
            let lists = coded.lists(None, spans as usize).unwrap();
            prop_assert_eq!(lists.len(), spans as usize);
        }
    }

    #[test]
    fn null_is_not_counted() {
        let lists = lists_of_pairs(attributes(2), &[0, u32::MAX, 1, 1], &[0, 0, 1, 1], 3).unwrap();
        assert_eq!(counts(&lists), BTreeMap::from([((0, 0), 1), ((1, 1), 2)]));
    }
}
