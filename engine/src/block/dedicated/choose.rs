//! The rule: from counts of a block's attributes to its dedicated columns.
//!
//! - A column takes an attribute all of whose values here are strings, or all integers. Then nothing is lost (a column does not
//!   tell an array of one from a scalar), and Tempo, which looks for an attribute either in its column or among the others,
//!   finds every value. Tempo's default columns may have values of other scalar types beside them, as in Tempo's own blocks.
//! - It must be on a part of the spans (resources, events) worth a column.
//! - Tempo's defaults come first, in their order; the others by how much they take out of the generic attributes, in steps of
//!   powers of two, so that nearly equal blocks choose equally, and within a step by name. The list is in order of names.

use std::cmp::Reverse;

use crate::block::{DedicatedColumn, DedicatedScope, DedicatedType, Version, leaves::dedicated_limits};

/// Longest key that gets a column, in bytes: keys stand in `meta.json` and in the tenant's index.
pub(super) const KEY_BYTES_MAX: usize = 128;

/// One in so many spans (resources, events) must have an attribute.
const ELEMENTS_PER_VALUE_MAX: u64 = 200;

/// An attribute that occurs less often gets no column, however few spans there are: each column costs the block some hundred
/// bytes of metadata.
const VALUES_MIN: u64 = 10;

/// What a generic attribute takes beside its value, in bytes before compression: its key's code, its type, levels.
const GENERIC_BYTES: u64 = 16;

/// One attribute of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What has it.
    pub scope: DedicatedScope,
    /// Its key.
    pub key: Box<str>,
    /// How many of its values are strings.
    pub strings: u64,
    /// Bytes of these strings together.
    pub string_bytes: u64,
    /// How many are integers.
    pub ints: u64,
    /// How many are anything else: floats, booleans, arrays, nothing.
    pub others: u64,
}

/// The attributes of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    /// How many spans, resources and events there are, by [`DedicatedScope`].
    pub elements: [u64; 3],
    /// Each scope and key once.
    pub of: Vec<Usage>,
}

/// An attribute that may get a column.
#[derive(Debug)]
struct Candidate {
    column: DedicatedColumn,
    /// Its place among Tempo's defaults.
    default: Option<usize>,
    /// Whether it is on enough spans.
    worth: bool,
    /// How much it takes out of the generic attributes: the power of two.
    step: u32,
}

/// The dedicated columns for a block of a version that is written. The order of `usages.of` is without effect.
pub fn choose(version: Version, usages: &Usages) -> Vec<DedicatedColumn> {
    let defaults = DedicatedColumn::defaults();
    let candidates: Vec<Candidate> = usages.of.iter().filter_map(|usage| candidate(version, usages, usage, &defaults)).collect();
    let mut chosen = Vec::new();
    for scope in [DedicatedScope::Resource, DedicatedScope::Span, DedicatedScope::Event] {
        let (strings, ints) = dedicated_limits(version, scope.into());
        for (kind, limit) in [(DedicatedType::String, strings), (DedicatedType::Int, ints)] {
            let mut of_kind: Vec<&Candidate> = candidates.iter().filter(|c| (c.column.scope, c.column.kind) == (scope, kind)).collect();
            of_kind.sort_by(|a, b| a.rank().cmp(&b.rank()));
            of_kind.truncate(limit);
            of_kind.sort_by(|a, b| a.place().cmp(&b.place()));
            chosen.extend(of_kind.into_iter().map(|c| c.column.clone()));
        }
    }
    chosen
}

fn candidate(version: Version, usages: &Usages, usage: &Usage, defaults: &[DedicatedColumn]) -> Option<Candidate> {
    let (scope, key) = (usage.scope, &*usage.key);
    let default = defaults.iter().position(|d| d.scope == scope && d.name == *key);
    let kind = match (usage.strings, usage.ints, usage.others) {
        (0, 0, _) => return None,
        (_, _, 1..) => return None,
        (_, 0, _) => DedicatedType::String,
        (0, _, _) => DedicatedType::Int,
        _ => defaults[default?].kind,
    };
    let values = match kind {
        DedicatedType::String => usage.strings,
        DedicatedType::Int => usage.ints,
    };
    let column = DedicatedColumn::new(scope, key, kind);
    let has_place = (scope == DedicatedScope::Resource && key == "service.name") || (version < Version::V5 && column.is_static());
    let default = default.filter(|&d| defaults[d].kind == kind);
    let worth = values >= VALUES_MIN.max(usages.elements[scope as usize].div_ceil(ELEMENTS_PER_VALUE_MAX));
    if key.is_empty() || key.len() > KEY_BYTES_MAX || has_place || !(worth || default.is_some()) {
        return None;
    }
    let bytes = if kind == DedicatedType::String { usage.string_bytes } else { usage.ints.saturating_mul(8) };
    let step = values.saturating_mul(GENERIC_BYTES).saturating_add(bytes).ilog2();
    Some(Candidate { column, default, worth, step })
}

impl Candidate {
    /// Less is better. A default that is rare does not take the place of an attribute that is not.
    fn rank(&self) -> (Reverse<bool>, usize, Reverse<u32>, &str) {
        (Reverse(self.worth), self.default.unwrap_or(usize::MAX), Reverse(self.step), &self.column.name)
    }

    /// The order of the list.
    fn place(&self) -> (usize, &str) {
        (self.default.unwrap_or(usize::MAX), &self.column.name)
    }
}
