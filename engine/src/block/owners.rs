//! From levels to what the values of a leaf belong to: the owner of each value, or one bit for each thing that can have one.
//!
//! Levels are small numbers, so eight of them are compared at a time, as the bytes of a word.

use arrow::{array::BooleanBufferBuilder, buffer::BooleanBuffer};

use super::{
    leaves::LeafColumn,
    levels::{COUNTED_AT_ONCE, decode_levels, only_level},
    pages::DataPage,
};
use crate::{
    error::{Error, Result},
    scan::gather,
};

/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// What each value of a leaf belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// The number of the owner of each value, ascending.
    pub of_value: Vec<u32>,
    /// Number of owners, those without a value too.
    pub count: usize,
}

impl Owners {
    /// Where the values of each owner start; one entry more than there are owners.
    pub fn offsets(&self) -> Vec<u32> {
        let mut offsets = Vec::with_capacity(self.count + 1);
        offsets.push(0);
        for (at, owner) in self.of_value.iter().enumerate() {
            while offsets.len() <= *owner as usize {
                offsets.push(at as u32);
            }
        }
        offsets.resize(self.count + 1, self.of_value.len() as u32);
        offsets
    }
}

/// Repetition and definition levels, one of each an entry; empty if the column has none.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub reps: Vec<u8>,
    pub defs: Vec<u8>,
}

/// Eight levels that are all the same.
pub(super) fn eight(level: u8) -> u64 {
    u64::from(level) * ONES
}

/// The highest bit of each byte in which `a` is at least `b`. All bytes are below 128.
#[inline(always)]
pub(super) fn at_least(a: u64, b: u64) -> u64 {
    (a | HIGH).wrapping_sub(b) & HIGH
}

fn misfit() -> Error {
    Error::data("levels and values do not fit together")
}

/// Number of levels that are `max`.
pub(super) fn count_of(levels: &[u8], max: u8) -> usize {
    count_where(levels, |level| level == max)
}

/// Number of levels that are such.
#[inline(always)]
pub(super) fn count_where(levels: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    let count = |some: &[u8]| some.iter().fold(0u8, |n, level| n.wrapping_add(u8::from(is_such(*level))));
    levels.chunks(COUNTED_AT_ONCE).map(|some| usize::from(count(some))).sum()
}

/// Numbers the things at a depth while going through the levels of a leaf below them.
#[derive(Debug)]
pub(super) struct OwnerWalk {
    depth: u8,
    max_rep: u32,
    max_def: u32,
    owners: Owners,
    /// Levels of the page at hand.
    levels: Levels,
}

impl OwnerWalk {
    /// A walk for the values of a column that belong to things at `depth`.
    pub fn new(column: &LeafColumn, depth: u32) -> Self {
        let (max_rep, max_def) = (column.max_rep, column.max_def);
        Self { depth: depth as u8, max_rep, max_def, owners: Owners::default(), levels: Levels::default() }
    }

    /// What was found.
    pub fn finish(self) -> Owners {
        self.owners
    }

    /// Takes the levels of a page, and says how many values it has.
    pub fn page(&mut self, page: &DataPage) -> Result<usize> {
        // Without a list of its own, a value's repetition level cannot say more than its definition level.
        let with_reps = self.max_rep > u32::from(self.depth);
        if self.max_def == 0 || !with_reps && only_level(&page.defs, self.max_def, page.entries)? == Some(self.max_def) {
            let first = self.owners.count as u32;
            self.owners.of_value.extend(first..first + page.entries as u32);
            self.owners.count += page.entries;
            return Ok(page.entries);
        }
        let mut levels = std::mem::take(&mut self.levels);
        levels.reps.clear();
        levels.defs.clear();
        if with_reps {
            decode_levels(&page.reps, self.max_rep, page.entries, &mut levels.reps)?;
        }
        decode_levels(&page.defs, self.max_def, page.entries, &mut levels.defs)?;
        let values = self.levels(&levels)?;
        self.levels = levels;
        Ok(values)
    }

    /// Takes levels; those for repetition may be left out if the leaf has no list below the depth. Says how many values
    /// there are.
    pub fn levels(&mut self, levels: &Levels) -> Result<usize> {
        let values = count_of(&levels.defs, self.max_def as u8);
        let before = self.owners.of_value.len();
        // One more, which entries behind the last value may write to.
        self.owners.of_value.resize(before + values + 1, 0);
        let out = &mut self.owners.of_value[before..];
        let mut groups = Groups { depth: self.depth, max_def: self.max_def as u8, count: self.owners.count as u32, strays: 0, filled: 0 };
        let (defs, last_defs) = levels.defs.as_chunks::<8>();
        if levels.reps.is_empty() {
            defs.iter().for_each(|defs| groups.eight([0; 8], *defs, out));
            last_defs.iter().for_each(|def| groups.one(0, *def, out));
        } else {
            let (reps, last_reps) = levels.reps.as_chunks::<8>();
            reps.iter().zip(defs).for_each(|(reps, defs)| groups.eight(*reps, *defs, out));
            last_reps.iter().zip(last_defs).for_each(|(rep, def)| groups.one(*rep, *def, out));
        }
        let Groups { count, strays, filled, .. } = groups;
        self.owners.of_value.truncate(before + values);
        self.owners.count = count as usize;
        // A value before the first thing has nothing to belong to.
        if strays != 0 || filled != values || self.owners.of_value.first() == Some(&u32::MAX) {
            return Err(misfit());
        }
        Ok(values)
    }
}

/// The state of a walk through levels.
struct Groups {
    depth: u8,
    max_def: u8,
    /// Things so far.
    count: u32,
    /// Not 0 if some repetition level is over its definition level.
    strays: u64,
    /// Values so far.
    filled: usize,
}

impl Groups {
    #[inline(always)]
    fn eight(&mut self, reps: [u8; 8], defs: [u8; 8], out: &mut [u32]) {
        let (reps, defs) = (u64::from_le_bytes(reps), u64::from_le_bytes(defs));
        self.strays |= at_least(defs, reps) ^ HIGH;
        // A thing starts where its list goes on or a list above it does, unless that one is empty.
        let starts = (at_least(defs, eight(self.depth)) & at_least(eight(self.depth), reps)) >> 7;
        // The product sums up: each byte becomes the number of things that start up to there.
        let things = starts.wrapping_mul(ONES).to_le_bytes();
        let with_value = at_least(defs, eight(self.max_def));
        let before = self.count.wrapping_sub(1);
        if with_value == HIGH {
            if let Some(out) = out[self.filled..].first_chunk_mut() {
                *out = things.map(|n| before.wrapping_add(u32::from(n)));
            }
            self.filled += 8;
        } else if with_value != 0 {
            for (at, n) in things.into_iter().enumerate() {
                if let Some(out) = out.get_mut(self.filled) {
                    *out = before.wrapping_add(u32::from(n));
                }
                self.filled += usize::from((with_value >> (at * 8 + 7)) as u8 & 1);
            }
        }
        self.count = self.count.wrapping_add(u32::from(things[7]));
    }

    fn one(&mut self, rep: u8, def: u8, out: &mut [u32]) {
        self.strays |= u64::from(rep > def);
        self.count += u32::from(rep <= self.depth && def >= self.depth);
        if def == self.max_def {
            out[self.filled] = self.count.wrapping_sub(1);
            self.filled += 1;
        }
    }
}

/// Collects which things have a value, where none has more than one. So repetition levels need not be looked at.
#[derive(Debug)]
pub(super) struct Presence {
    depth: u8,
    max_def: u32,
    valid: BooleanBufferBuilder,
    /// Number of values.
    values: usize,
    /// Definition levels of the page at hand, and those that are `max_def` as bits.
    levels: Vec<u8>,
    bits: Vec<u8>,
}

impl Presence {
    /// For the values of a column that belong to things at `depth`, of which there are `due`.
    pub fn new(column: &LeafColumn, depth: u32, due: usize) -> Self {
        let valid = BooleanBufferBuilder::new(due);
        Self { depth: depth as u8, max_def: column.max_def, valid, values: 0, levels: Vec::new(), bits: Vec::new() }
    }

    /// Number of things so far. With arrays it is too high: each of their values counts.
    pub fn things(&self) -> usize {
        self.valid.len()
    }

    /// One bit a thing; `None` if each has a value.
    pub fn finish(mut self) -> Option<BooleanBuffer> {
        (self.values < self.things()).then(|| self.valid.finish())
    }

    /// Takes the levels of a page, and says how many values it has.
    pub fn page(&mut self, page: &DataPage) -> Result<usize> {
        let values = match only_level(&page.defs, self.max_def, page.entries)? {
            Some(def) if def == self.max_def => {
                self.valid.append_n(page.entries, true);
                page.entries
            }
            // Levels over the maximum are left to be found below.
            Some(def) if def < self.max_def => {
                self.valid.append_n(if def >= u32::from(self.depth) { page.entries } else { 0 }, false);
                0
            }
            _ => {
                let mut levels = std::mem::take(&mut self.levels);
                levels.clear();
                decode_levels(&page.defs, self.max_def, page.entries, &mut levels)?;
                let values = self.levels(&mut levels);
                self.levels = levels;
                return Ok(values);
            }
        };
        self.values += values;
        Ok(values)
    }

    /// Takes definition levels, and says how many values there are. The levels may be changed.
    pub fn levels(&mut self, defs: &mut Vec<u8>) -> usize {
        let (depth, max_def) = (self.depth, self.max_def as u8);
        // Entries below the depth stand for empty lists, not for things.
        if defs.iter().copied().fold(u8::MAX, u8::min) < depth {
            let mut kept = 0;
            for at in 0..defs.len() {
                let def = defs[at];
                defs[kept] = def;
                kept += usize::from(def >= depth);
            }
            defs.truncate(kept);
        }
        let (groups, last) = defs.as_chunks::<8>();
        self.bits.clear();
        self.bits.extend(groups.iter().map(|defs| gather(at_least(u64::from_le_bytes(*defs), eight(max_def)) >> 7)));
        if !last.is_empty() {
            self.bits.push(last.iter().enumerate().map(|(at, def)| u8::from(*def == max_def) << at).sum());
        }
        self.valid.append_packed_range(0..defs.len(), &self.bits);
        let values = self.bits.iter().map(|bits| bits.count_ones() as usize).sum();
        self.values += values;
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Type;
    use proptest::prelude::*;

    fn column(max_rep: u32, max_def: u32, depth: u32) -> LeafColumn {
        LeafColumn { index: 0, path: "c".to_owned(), physical: Type::INT64, text: false, max_rep, max_def, depth }
    }

    /// Owners found entry by entry; `None` if the levels make no sense.
    fn walk(levels: &Levels, depth: u8, max_def: u8) -> Option<(Vec<u32>, usize)> {
        let (mut owners, mut count) = (vec![], 0);
        for (at, def) in levels.defs.iter().enumerate() {
            let rep = levels.reps.get(at).copied().unwrap_or(0);
            if rep > *def {
                return None;
            }
            if rep <= depth && *def >= depth {
                count += 1;
            }
            if *def == max_def {
                owners.push(u32::try_from(count).unwrap().checked_sub(1)?);
            }
        }
        Some((owners, count))
    }

    fn levels(max: u8) -> impl Strategy<Value = Vec<(u8, u8)>> {
        // Mostly whole groups with values and without, as in real pages.
        let same = (0..=max, 0..=max, 1usize..30).prop_map(|(rep, def, n)| vec![(rep.min(def), def); n]);
        let mixed = prop::collection::vec((0..=max, 0..=max).prop_map(|(rep, def)| (rep.min(def), def)), 1..30);
        let noise = prop::collection::vec((0..=max, 0..=max), 1..4);
        prop::collection::vec(prop_oneof![4 => same, 4 => mixed, 1 => noise], 0..9).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn owners_are_those_found_one_by_one(entries in levels(4), depth in 0u8..4, with_reps in any::<bool>(), cut in 0usize..20) {
            let (reps, defs): (Vec<u8>, Vec<u8>) = entries.into_iter().unzip();
            let mut found = OwnerWalk::new(&column(4, 4, depth.into()), depth.into());
            let cut = cut.min(defs.len());
            let part = |range: std::ops::Range<usize>| {
                let reps = if with_reps { reps[range.clone()].to_vec() } else { vec![] };
                Levels { reps, defs: defs[range].to_vec() }
            };
            let result = found.levels(&part(0..cut)).and_then(|a| Ok(a + found.levels(&part(cut..defs.len()))?));
            let due = walk(&part(0..defs.len()), depth, 4);
            match due {
                None => prop_assert!(result.is_err()),
                Some((owners, count)) => {
                    prop_assert_eq!(result.unwrap(), owners.len());
                    let found = found.finish();
                    prop_assert_eq!((found.of_value, found.count), (owners, count));
                }
            }
        }

        #[test]
        fn bits_say_what_has_a_value(entries in levels(4), depth in 0u8..4, cut in 0usize..20) {
            let defs: Vec<u8> = entries.into_iter().map(|(_, def)| def).collect();
            let due: Vec<bool> = defs.iter().filter(|def| **def >= depth).map(|def| *def == 4).collect();
            let mut found = Presence::new(&column(4, 4, depth.into()), depth.into(), due.len());
            let (first, second) = defs.split_at(cut.min(defs.len()));
            let values = found.levels(&mut first.to_vec()) + found.levels(&mut second.to_vec());
            prop_assert_eq!(values, due.iter().filter(|v| **v).count());
            prop_assert_eq!(count_of(&defs, 4), values);
            prop_assert_eq!(found.things(), due.len());
            match found.finish() {
                None => prop_assert!(due.iter().all(|v| *v)),
                Some(bits) => prop_assert!(bits.iter().eq(due)),
            }
        }
    }

    #[test]
    fn offsets_of_owners_without_values() {
        let owners = Owners { of_value: vec![1, 1, 3], count: 6 };
        assert_eq!(owners.offsets(), [0, 0, 2, 2, 3, 3, 3]);
        assert_eq!(Owners::default().offsets(), [0]);
    }
}
