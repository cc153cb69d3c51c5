//! The rule: from counts of a block's attributes to its dedicated columns.
//!
//! - Tempo's defaults come first, all of them, in their order: Tempo's completion takes the first columns for these whatever
//!   `meta.json` says, and would show others by their names. Only those at the end that do not occur are left out, where no
//!   column follows.
//! - Another attribute gets a column if all of its values here are strings, or all integers. Then nothing is lost (a column does
//!   not tell an array of one from a scalar), and Tempo, which looks for an attribute either in its column or among the others,
//!   finds every value. And it must be on a part of the spans (resources, events) worth a column.
//! - Of too many, those that take most out of the generic attributes, in steps of powers of two, so that nearly equal blocks
//!   choose equally, and within a step by name. They stand in the list by name.

use std::cmp::Reverse;

use crate::block::{DedicatedColumn, DedicatedScope, DedicatedType, Version, leaves::dedicated_limits};

/// Longest key that gets a column, in bytes: keys stand in `meta.json` and in the tenant's index.
pub(super) const KEY_BYTES_MAX: usize = 128;

/// One in so many spans (resources, events) must have an attribute. Measured (the decision): a column costs 0.13 bytes for each span
/// whether it has a value or not, and saves up to 60 CPU ms of a query over a million spans.
const SHARE_MIN: u64 = 20;

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
    /// How much it takes out of the generic attributes: the power of two.
    step: u32,
}

/// The dedicated columns for a block of a version that is written. The order of `usages.of` is without effect.
pub fn choose(version: Version, usages: &Usages) -> Vec<DedicatedColumn> {
    let mut defaults = DedicatedColumn::defaults();
    defaults.retain(|column| has_place(version, column));
    let candidates: Vec<Candidate> = usages.of.iter().filter_map(|usage| candidate(version, usages, usage)).collect();
    let mut chosen = Vec::new();
    for scope in [DedicatedScope::Resource, DedicatedScope::Span, DedicatedScope::Event] {
        let (strings, ints) = dedicated_limits(version, scope.into());
        for (kind, limit) in [(DedicatedType::String, strings), (DedicatedType::Int, ints)] {
            let of_kind = |column: &DedicatedColumn| (column.scope, column.kind) == (scope, kind);
            let mut columns: Vec<DedicatedColumn> = defaults.iter().filter(|d| of_kind(d)).take(limit).cloned().collect();
            let mut others: Vec<&Candidate> = candidates.iter().filter(|c| of_kind(&c.column)).collect();
            others.sort_by_key(|c| (Reverse(c.step), &c.column.name));
            others.truncate(limit.saturating_sub(columns.len()));
            others.sort_by_key(|c| &c.column.name);
            if others.is_empty() {
                let occurs = |column: &DedicatedColumn| usages.of.iter().any(|u| (u.scope, &*u.key) == (scope, &*column.name));
                columns.truncate(columns.iter().rposition(occurs).map_or(0, |last| last + 1));
            }
            chosen.extend(columns);
            chosen.extend(others.into_iter().map(|c| c.column.clone()));
        }
    }
    chosen
}

/// An attribute that is none of Tempo's defaults, if it is worth a column.
fn candidate(version: Version, usages: &Usages, usage: &Usage) -> Option<Candidate> {
    let (scope, key) = (usage.scope, &*usage.key);
    let (kind, values, bytes) = match (usage.strings, usage.ints, usage.others) {
        (strings @ 1.., 0, 0) => (DedicatedType::String, strings, usage.string_bytes),
        (0, ints @ 1.., 0) => (DedicatedType::Int, ints, ints.saturating_mul(8)),
        _ => return None,
    };
    let column = DedicatedColumn::new(scope, key, kind);
    let is_default = DedicatedColumn::defaults().iter().any(|d| d.scope == scope && d.name == *key);
    let common = values >= VALUES_MIN.max(usages.elements[scope as usize].div_ceil(SHARE_MIN));
    if is_default || !common || key.is_empty() || key.len() > KEY_BYTES_MAX || !has_place(version, &column) {
        return None;
    }
    let step = values.saturating_mul(GENERIC_BYTES).saturating_add(bytes).ilog2();
    Some(Candidate { column, step })
}

/// Whether blocks of the version have a dedicated column for it, and no other column in any case.
fn has_place(version: Version, column: &DedicatedColumn) -> bool {
    let service_name = column.scope == DedicatedScope::Resource && column.name == "service.name";
    !service_name && (version >= Version::V5 || !column.is_static())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(scope: DedicatedScope, key: &str, strings: u64, ints: u64, others: u64) -> Usage {
        Usage { scope, key: key.into(), strings, string_bytes: strings * 8, ints, others }
    }

    fn span(key: &str, strings: u64, ints: u64, others: u64) -> Usage {
        usage(DedicatedScope::Span, key, strings, ints, others)
    }

    /// Scope, key and type of each column.
    fn chosen(version: Version, elements: u64, of: Vec<Usage>) -> String {
        let columns = choose(version, &Usages { elements: [elements; 3], of });
        columns.iter().map(|c| format!("{:?} {} {:?}", c.scope, c.name, c.kind)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn an_attribute_needs_one_type_and_enough_values() {
        let n = 100_000;
        let few = n / SHARE_MIN;
        let of = vec![
            usage(DedicatedScope::Event, "b", n, 0, 0),
            usage(DedicatedScope::Event, "a", few, 0, 0),
            usage(DedicatedScope::Event, "rare", few - 1, 0, 0),
            usage(DedicatedScope::Event, "number", 0, few, 0),
            usage(DedicatedScope::Event, "strings and ints", n, 1, 0),
            usage(DedicatedScope::Event, "with an array", n, 0, 1),
            usage(DedicatedScope::Event, "floats", 0, 0, n),
            usage(DedicatedScope::Event, "", n, 0, 0),
            usage(DedicatedScope::Event, &"k".repeat(KEY_BYTES_MAX + 1), n, 0, 0),
            usage(DedicatedScope::Event, "service.name", n, 0, 0),
            usage(DedicatedScope::Resource, "service.name", n, 0, 0),
        ];
        let due = "Event a String, Event b String, Event service.name String, Event number Int";
        assert_eq!(chosen(Version::V5, n, of), due);
        let of = |n| vec![usage(DedicatedScope::Event, "a", n, 0, 0)];
        assert_eq!(chosen(Version::V5, 20, of(VALUES_MIN)), "Event a String");
        assert_eq!(chosen(Version::V5, VALUES_MIN - 1, of(VALUES_MIN - 1)), "");
        assert_eq!(chosen(Version::V5, 0, vec![]), "");
    }

    #[test]
    fn tempos_defaults_keep_their_places() {
        let n = 1000;
        let of = vec![
            span("server.port", 1, 0, 0),
            span("http.url", 0, 0, 1),
            usage(DedicatedScope::Resource, "k8s.pod.name", n, 0, 0),
            usage(DedicatedScope::Resource, "a", n, 0, 0),
        ];
        let due = "Resource k8s.cluster.name String, Resource k8s.namespace.name String, Resource k8s.pod.name String, \
                   Resource k8s.container.name String, Resource a String, \
                   Span http.request.method String, Span url.path String, Span url.route String, Span server.address String, \
                   Span http.method String, Span http.url String, \
                   Span http.response.status_code Int, Span server.port Int";
        assert_eq!(chosen(Version::V5, n, of), due);
    }

    #[test]
    fn of_too_many_those_that_hold_most_are_chosen() {
        let keys: Vec<String> = (0..30).map(|i| format!("k{i:02}")).collect();
        let n = 100_000;
        let of = |more: u64| {
            let values = |i: usize| if i.is_multiple_of(2) { n } else { n / 3 + more };
            keys.iter().enumerate().map(|(i, key)| usage(DedicatedScope::Event, key, values(i), 0, 0)).collect::<Vec<_>>()
        };
        let all = chosen(Version::V5, n, of(0));
        assert_eq!(all.matches("String").count(), 20);
        assert!((0..30).step_by(2).all(|i| all.contains(&keys[i])), "{all}");
        assert_eq!(all, chosen(Version::V5, n, of(500)), "nearly the same");
    }

    #[test]
    fn vparquet4_has_ten_strings_and_columns_of_its_own() {
        let n = 1000;
        let keys: Vec<String> = (0..12).map(|i| format!("k{i:02}")).collect();
        let mut of: Vec<Usage> = keys.iter().map(|key| span(key, n, 0, 0)).collect();
        of.extend([
            span("http.url", n, 0, 0),
            span("i", 0, n, 0),
            span("server.port", 0, n, 0),
            usage(DedicatedScope::Event, "e", n, 0, 0),
        ]);
        of.push(usage(DedicatedScope::Resource, "k8s.pod.name", n, 0, 0));
        let defaults = ["http.request.method", "url.path", "url.route", "server.address", "http.route"];
        let names = defaults.into_iter().chain(keys.iter().map(String::as_str).take(5));
        let due: Vec<String> = names.map(|k| format!("Span {k} String")).collect();
        assert_eq!(chosen(Version::V4, n, of), due.join(", "));
    }

    fn usages() -> impl Strategy<Value = Usages> {
        let scopes = [DedicatedScope::Span, DedicatedScope::Resource, DedicatedScope::Event];
        let keys = (0..40_usize).prop_map(|i| DedicatedColumn::defaults().get(i).map_or_else(|| format!("k{i}"), |d| d.name.clone()));
        let counts = (0..2000_u64, 0..2000_u64, 0..2_u64, 0..500_u64);
        let of = prop::collection::btree_map((0..3_usize, keys), counts, 0..90);
        (0..3000_u64, of).prop_map(move |(elements, of)| Usages {
            elements: [elements; 3],
            of: of
                .into_iter()
                .map(|((scope, key), (a, b, others, bytes))| {
                    let (strings, ints) = if a % 3 == 0 {
                        (a, b)
                    } else if a % 3 == 1 {
                        (0, b)
                    } else {
                        (a, 0)
                    };
                    Usage { scope: scopes[scope], key: key.into(), strings, string_bytes: strings * bytes, ints, others: others * (b % 2) }
                })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn any_counts_give_a_list_that_a_block_can_have(usages in usages(), seed in 0..7_usize) {
            for version in [Version::V4, Version::V5] {
                let columns = choose(version, &usages);
                for column in &columns {
                    let of_kind = |c: &&DedicatedColumn| (c.scope, c.kind) == (column.scope, column.kind);
                    let (strings, ints) = dedicated_limits(version, column.scope.into());
                    let limit = if column.kind == DedicatedType::String { strings } else { ints };
                    prop_assert!(columns.iter().filter(of_kind).count() <= limit);
                    prop_assert_eq!(columns.iter().filter(|c| (c.scope, &c.name) == (column.scope, &column.name)).count(), 1);
                    if !DedicatedColumn::defaults().contains(column) {
                        let usage = usages.of.iter().find(|u| (u.scope, &*u.key) == (column.scope, &*column.name)).unwrap();
                        prop_assert_eq!(usage.others + usage.strings.min(usage.ints), 0);
                    }
                }
                let mut other = usages.clone();
                other.of.rotate_left(seed.min(usages.of.len()));
                other.of.reverse();
                prop_assert_eq!(&choose(version, &other), &columns);
            }
        }
    }
}
