//! Groups of several plans over different spans, put together: all states merge by sum, min or max.

use std::collections::{HashMap, hash_map::Entry};

use super::Group;
use crate::syntax::MetricsFn;

/// Interval, key and bucket: what tells a group from the others.
type GroupKey = (usize, Vec<u8>, i32);

/// Groups, none twice.
#[derive(Debug)]
pub struct Merged {
    merge: fn(f64, f64) -> f64,
    groups: HashMap<GroupKey, Group>,
}

impl Merged {
    /// No groups yet, of this function.
    pub fn new(function: &MetricsFn) -> Self {
        let merge = match function {
            MetricsFn::MinOverTime(_) => f64::min,
            MetricsFn::MaxOverTime(_) => f64::max,
            _ => |a, b| a + b,
        };
        Self { merge, groups: HashMap::new() }
    }

    /// Adds the groups of a plan.
    pub fn add(&mut self, groups: Vec<Group>) {
        for group in groups {
            match self.groups.entry((group.interval, group.key.clone(), group.exponent)) {
                Entry::Vacant(new) => drop(new.insert(group)),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.count += group.count;
                    known.value = (self.merge)(known.value, group.value);
                    known.witness = known.witness.into_iter().chain(group.witness).min();
                }
            }
        }
    }

    /// The groups so far.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// The groups.
    pub fn into_groups(self) -> Vec<Group> {
        self.groups.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{Field, Intrinsic};

    #[test]
    fn states_merge_by_function() {
        let group = |interval, value, count, witness| Group { key: vec![1], interval, exponent: 0, count, value, witness: Some(witness) };
        let duration = || Field::Intrinsic(Intrinsic::Duration);
        let merged = |function: MetricsFn| {
            let mut merged = Merged::new(&function);
            merged.add(vec![group(0, 3.0, 1, 7), group(1, 9.0, 1, 8)]);
            merged.add(vec![group(0, 5.0, 2, 6)]);
            let mut groups = merged.into_groups();
            groups.sort_by_key(|g| g.interval);
            groups.into_iter().map(|g| (g.value, g.count, g.witness.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(merged(MetricsFn::MinOverTime(duration())), [(3.0, 3, 6), (9.0, 1, 8)]);
        assert_eq!(merged(MetricsFn::MaxOverTime(duration()))[0], (5.0, 3, 6));
        assert_eq!(merged(MetricsFn::AvgOverTime(duration()))[0], (8.0, 3, 6));
    }
}
