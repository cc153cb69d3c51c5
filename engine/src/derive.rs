//! What is not in the spans themselves but follows from a whole trace: root, times, service counts, tree positions.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap, hash_map::Entry},
};

pub use crate::grouping::{Grouped, normalize};
use crate::{
    block::{DedicatedColumn, DedicatedScope, DedicatedType, Version},
    trace::{AnyValue, KeyValue, Resource, Span, Trace, TraceId, Value},
};

/// Facts about a trace and, in the order of [`Trace::spans`], about its spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceFacts {
    /// Earliest span start, Unix nanoseconds.
    pub start_unix_nanos: u64,
    /// Latest span end, Unix nanoseconds.
    pub end_unix_nanos: u64,
    /// Service name of the root span's resource; empty if there is no root.
    pub root_service_name: String,
    /// Name of the root span; empty if there is no root.
    pub root_span_name: String,
    /// Spans and spans with status error by service name ("" where a resource has none), sorted by name.
    pub service_stats: Vec<(String, u32, u32)>,
    /// One entry a span.
    pub spans: Vec<TreePosition>,
}

/// A span's place in its trace's tree, as nested-set numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreePosition {
    /// Number on entry; 0 if the tree is broken here.
    pub left: i32,
    /// Number on exit; 0 if the tree is broken here.
    pub right: i32,
    /// The parent's `left`; -1 for a root, 0 if the tree is broken here.
    pub parent: i32,
    /// Number of direct children.
    pub child_count: i32,
}

/// What a resource's `service.name` says: the last of its values that is a string and not empty; else "". A block cannot
/// tell an empty name from none, so nobody does.
pub fn service_name(resource: Option<&Resource>) -> &str {
    resource.and_then(|r| Some(name_of(&r.attributes[service_name_at(&r.attributes)?]))).unwrap_or_default()
}

/// Which attribute [`service_name`] is.
pub fn service_name_at<A: Borrow<KeyValue>>(attributes: &[A]) -> Option<usize> {
    attributes.iter().rposition(|kv| !name_of(kv.borrow()).is_empty())
}

/// Whether this is a `service.name` that says nothing.
pub fn is_empty_service_name(attribute: &KeyValue) -> bool {
    attribute.key == SERVICE_NAME && matches!(value(attribute), Some(Value::StringValue(name)) if name.is_empty())
}

/// The string of a `service.name`; "" for any other attribute.
pub fn name_of(attribute: &KeyValue) -> &str {
    match value(attribute) {
        Some(Value::StringValue(name)) if attribute.key == SERVICE_NAME => name,
        _ => "",
    }
}

/// Computes the facts of a trace. The tree is numbered in stored order: [`normalize`] first.
pub fn derive(trace: &Trace) -> TraceFacts {
    derive_grouped(&Grouped::as_is(trace))
}

/// Computes the facts of a trace whose spans are in the order in which they will be stored.
pub fn derive_grouped(trace: &Grouped<'_>) -> TraceFacts {
    let spans: Vec<&Span> = trace.spans().map(|(_, span)| span).collect();
    let mut facts = TraceFacts {
        start_unix_nanos: spans.iter().map(|s| s.start_time_unix_nano).min().unwrap_or_default(),
        end_unix_nanos: spans.iter().map(|s| s.end_time_unix_nano).max().unwrap_or_default(),
        spans: tree_positions(&spans),
        ..TraceFacts::default()
    };
    let mut services = BTreeMap::<&str, (u32, u32)>::new();
    for group in &trace.resources {
        let service = group.service_name();
        for span in group.scopes.iter().flat_map(|scope| &scope.spans) {
            let (count, errors) = services.entry(service).or_default();
            *count += 1;
            *errors += u32::from(span.status.as_ref().is_some_and(|s| s.code == STATUS_ERROR));
        }
    }
    facts.service_stats = services.into_iter().map(|(name, (spans, errors))| (name.to_owned(), spans, errors)).collect();
    if let Some((group, root)) = trace.spans().filter(|(_, s)| is_root(trace.id, s)).last() {
        facts.root_service_name = group.service_name().to_owned();
        facts.root_span_name = root.name.clone();
    }
    facts
}

const SERVICE_NAME: &str = "service.name";
const STATUS_ERROR: i32 = 2;
const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;

fn value(kv: &KeyValue) -> Option<&Value> {
    kv.value.as_ref()?.value.as_ref()
}

/// No parent id, and no link that says "child of" a span of this trace (how the OpenTracing bridge names a second parent).
fn is_root(trace: TraceId, span: &Span) -> bool {
    let child_of = |kv: &KeyValue| kv.key == "opentracing.ref_type" && matches!(value(kv), Some(Value::StringValue(v)) if v == "child_of");
    span.parent_span_id.is_empty() && !span.links.iter().any(|l| l.trace_id == trace.0 && l.attributes.iter().any(child_of))
}

/// Number of direct children of each span of a trace, of which only ids and kind matter.
pub fn child_counts(spans: &[Span]) -> Vec<i32> {
    tree_positions(&spans.iter().collect::<Vec<_>>()).into_iter().map(|at| at.child_count).collect()
}

/// The spans that share one id: usually one; two where client and server share it, as Zipkin has it.
#[derive(Clone, Copy)]
struct Twins {
    first: usize,
    second: Option<usize>,
}

/// Nested-set numbers of every span. All zero if more than two spans share an id, for then no tree can be told; numbers
/// zero (but children counted) where no root is reached.
fn tree_positions(spans: &[&Span]) -> Vec<TreePosition> {
    let mut positions = vec![TreePosition::default(); spans.len()];
    let Some(by_id) = index_by_id(spans) else { return positions };
    let family = Family::new(spans, &by_id);
    for parent in family.parent.iter().flatten() {
        positions[*parent].child_count += 1;
    }
    let mut counter = 0;
    for (i, span) in spans.iter().enumerate() {
        if span.parent_span_id.is_empty() {
            family.number(i, &mut counter, &mut positions);
        }
    }
    positions
}

/// Spans by id; `None` if more than two share one.
fn index_by_id<'a>(spans: &[&'a Span]) -> Option<HashMap<&'a [u8], Twins>> {
    let mut by_id = HashMap::<&[u8], Twins>::with_capacity(spans.len());
    for (i, span) in spans.iter().enumerate() {
        match by_id.entry(&span.span_id) {
            Entry::Vacant(e) => {
                e.insert(Twins { first: i, second: None });
            }
            Entry::Occupied(mut e) => {
                if e.get_mut().second.replace(i).is_some() {
                    return None;
                }
            }
        }
    }
    Some(by_id)
}

/// Who is whose child. Lists instead of recursion: a trace may be a chain of a hundred thousand spans.
struct Family {
    parent: Vec<Option<usize>>,
    first_child: Vec<Option<usize>>,
    next_sibling: Vec<Option<usize>>,
}

impl Family {
    fn new(spans: &[&Span], by_id: &HashMap<&[u8], Twins>) -> Self {
        let none = || vec![None; spans.len()];
        let mut family = Self { parent: none(), first_child: none(), next_sibling: none() };
        // Backwards, so that each list of children comes out in stored order.
        for (i, span) in spans.iter().enumerate().rev() {
            if span.parent_span_id.is_empty() {
                continue;
            }
            let Some(parent) = by_id.get(span.parent_span_id.as_slice()).and_then(|twins| attach(span, *twins, spans)) else { continue };
            family.parent[i] = Some(parent);
            family.next_sibling[i] = family.first_child[parent].replace(i);
        }
        family
    }

    /// Numbers a root and all below it. A root has no parent and every other span one, so no span is met twice.
    fn number(&self, root: usize, counter: &mut i32, positions: &mut [TreePosition]) {
        let mut next = || {
            *counter += 1;
            *counter
        };
        let mut at = root;
        let mut parent_left = -1;
        loop {
            let left = next();
            positions[at] = TreePosition { left, parent: parent_left, ..positions[at] };
            if let Some(child) = self.first_child[at] {
                parent_left = left;
                at = child;
                continue;
            }
            // Leave this span, and its ancestors, until one has a sibling to go on with.
            loop {
                positions[at].right = next();
                if at == root {
                    return;
                }
                if let Some(sibling) = self.next_sibling[at] {
                    parent_left = positions[at].parent;
                    at = sibling;
                    break;
                }
                match self.parent[at] {
                    Some(parent) => at = parent,
                    None => return,
                }
            }
        }
    }
}

/// Which of the spans with the parent's id a child belongs to: the server side, unless the child is a server itself, which
/// then was called by the client side.
fn attach(child: &Span, twins: Twins, spans: &[&Span]) -> Option<usize> {
    let Some(second) = twins.second else { return Some(twins.first) };
    let wanted = if child.kind == KIND_SERVER { KIND_CLIENT } else { KIND_SERVER };
    [twins.first, second].into_iter().find(|i| spans[*i].kind == wanted)
}

/// A live trace as it will come back from a block of this version with these dedicated columns: in normal grouping, without what Tempo's
/// block format has no place for (schema URLs, entities, the flags of spans and links). So an answer does not change when its spans
/// are flushed.
pub fn as_stored(trace: &Trace, version: Version, dedicated: &[DedicatedColumn]) -> Trace {
    let mut trace = normalize(trace);
    for rs in &mut trace.resource_spans {
        rs.schema_url.clear();
        rs.resource.iter_mut().for_each(|r| r.entity_refs.clear());
        for ss in &mut rs.scope_spans {
            ss.schema_url.clear();
            for span in &mut ss.spans {
                span.flags = 0;
                span.links.iter_mut().for_each(|l| l.flags = 0);
            }
        }
    }
    as_answered(&mut trace, version, dedicated);
    trace
}

/// Arrays under keys with a dedicated column, as a trace by id shows them in Tempo: one element is a scalar, no element is no
/// attribute. (Our blocks keep the empty array, and SQL shows it.) Before vParquet5 these columns take no arrays, so that
/// none is changed.
pub fn as_answered(trace: &mut Trace, version: Version, dedicated: &[DedicatedColumn]) {
    if version < Version::V5 {
        return;
    }
    let mend = |attributes: &mut Vec<KeyValue>, scope| {
        attributes.retain_mut(|attribute| {
            let Some(column) = dedicated.iter().find(|d| d.scope == scope && d.name == attribute.key) else { return true };
            let Some(Value::ArrayValue(array)) = attribute.value.as_mut().and_then(|v| v.value.as_mut()) else { return true };
            let fits = |v: &AnyValue| match column.kind {
                DedicatedType::String => matches!(v.value, Some(Value::StringValue(_))),
                DedicatedType::Int => matches!(v.value, Some(Value::IntValue(_))),
            };
            match array.values.as_mut_slice() {
                [] => return false,
                [one] if fits(one) => attribute.value = Some(std::mem::take(one)),
                _ => {}
            }
            true
        });
    };
    for rs in &mut trace.resource_spans {
        rs.resource.iter_mut().for_each(|r| mend(&mut r.attributes, DedicatedScope::Resource));
        for span in rs.scope_spans.iter_mut().flat_map(|ss| &mut ss.spans) {
            mend(&mut span.attributes, DedicatedScope::Span);
            span.events.iter_mut().for_each(|e| mend(&mut e.attributes, DedicatedScope::Event));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{
        Event, Link, ScopeSpans,
        builder::{array, attributes, double, int, resource, scope, span, status, text, trace},
    };

    fn one_scope(spans: impl IntoIterator<Item = Span>) -> Trace {
        trace([resource([("service.name", text("a"))], [scope("", [], spans)])])
    }

    fn with_kind(id: u64, parent: u64, kind: i32) -> Span {
        Span { kind, ..span(id, parent) }
    }

    /// Spans as (id, parent, kind); positions as (left, right, parent, child count).
    type TreeCase = (&'static str, &'static [(u64, u64, i32)], &'static [(i32, i32, i32, i32)]);

    const TREES: &[TreeCase] = &[
        ("no span", &[], &[]),
        ("root alone", &[(1, 0, 1)], &[(1, 2, -1, 0)]),
        (
            "children in stored order, before their parent too",
            &[(3, 1, 1), (1, 0, 1), (2, 1, 1), (4, 3, 1)],
            &[(2, 5, 1, 1), (1, 8, -1, 2), (6, 7, 1, 0), (3, 4, 2, 0)],
        ),
        ("two roots", &[(1, 0, 1), (2, 0, 1), (3, 1, 1), (4, 2, 1)], &[(1, 4, -1, 1), (5, 8, -1, 1), (2, 3, 1, 0), (6, 7, 5, 0)]),
        ("an orphan and its child", &[(1, 0, 1), (2, 9, 1), (3, 2, 1)], &[(1, 2, -1, 0), (0, 0, 0, 1), (0, 0, 0, 0)]),
        ("a cycle", &[(1, 0, 1), (2, 3, 1), (3, 2, 1)], &[(1, 2, -1, 0), (0, 0, 0, 1), (0, 0, 0, 1)]),
        ("its own parent", &[(1, 0, 1), (2, 2, 1)], &[(1, 2, -1, 0), (0, 0, 0, 1)]),
        ("no root", &[(1, 9, 1), (2, 1, 1), (3, 2, 1)], &[(0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0)]),
        (
            "client and server share an id: servers are called by the client, all else by the server",
            &[(1, 0, 2), (2, 1, 3), (2, 1, 2), (3, 2, 3), (4, 2, 2)],
            &[(1, 10, -1, 2), (2, 5, 1, 1), (6, 9, 1, 1), (7, 8, 6, 0), (3, 4, 2, 0)],
        ),
        ("a server below the client whose id it has", &[(1, 0, 1), (2, 1, 3), (2, 2, 2)], &[(1, 6, -1, 1), (2, 5, 1, 1), (3, 4, 2, 0)]),
        (
            "no twin of the kind that fits",
            &[(1, 0, 1), (2, 1, 1), (2, 1, 4), (3, 2, 1)],
            &[(1, 6, -1, 2), (2, 3, 1, 0), (4, 5, 1, 0), (0, 0, 0, 0)],
        ),
        ("three spans with one id", &[(1, 0, 1), (2, 1, 1), (2, 1, 2), (2, 1, 3)], &[(0, 0, 0, 0); 4]),
    ];

    #[test]
    fn trees() {
        for (name, spans, expected) in TREES {
            let facts = derive(&one_scope(spans.iter().map(|(id, parent, kind)| with_kind(*id, *parent, *kind))));
            let positions: Vec<_> = facts.spans.iter().map(|p| (p.left, p.right, p.parent, p.child_count)).collect();
            assert_eq!(positions, *expected, "{name}");
        }
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        const DEPTH: u64 = 100_000;
        let facts = derive(&one_scope((1..=DEPTH).map(|id| span(id, id - 1))));
        let deepest = facts.spans[DEPTH as usize - 1];
        assert_eq!(deepest, TreePosition { left: 100_000, right: 100_001, parent: 99_999, child_count: 0 });
        assert_eq!(facts.spans[0].right, 200_000);
    }

    #[test]
    fn the_root_is_the_last_span_that_nobody_called() {
        let ref_type = |value: &str| attributes([("opentracing.ref_type", text(value))]);
        let linked = |id, trace_id: [u8; 16], value: &str| Span {
            links: vec![Link { trace_id: trace_id.to_vec(), attributes: ref_type(value), ..Link::default() }],
            ..span(id, 0)
        };
        let (own, other) = (crate::trace::builder::ID.0, [1; 16]);
        let cases = [
            ("last of two", vec![span(1, 0), span(2, 0), span(3, 1)], "span 2"),
            ("none", vec![span(1, 9)], ""),
            ("child of its own trace", vec![span(1, 0), linked(2, own, "child_of")], "span 1"),
            ("child of another trace", vec![span(1, 0), linked(2, other, "child_of")], "span 2"),
            ("follows from", vec![span(1, 0), linked(2, own, "follows_from")], "span 2"),
            ("a zero parent id is an id", vec![span(1, 0), Span { parent_span_id: vec![0; 8], ..span(2, 0) }], "span 1"),
        ];
        for (name, spans, root) in cases {
            let facts = derive(&one_scope(spans));
            assert_eq!(
                (facts.root_span_name.as_str(), facts.root_service_name.as_str()),
                (root, if root.is_empty() { "" } else { "a" }),
                "{name}"
            );
        }
    }

    #[test]
    fn services_are_counted_by_name_and_times_span_the_trace() {
        let failed = |id| Span { status: status(2), ..span(id, 1) };
        let with_service = |value| resource([("service.name", value)], [scope("", [], [failed(5)])]);
        let trace = trace([
            resource([("service.name", text("b"))], [scope("", [], [span(2, 1), failed(3)])]),
            resource([("service.name", text("a"))], [scope("", [], [span(1, 0)])]),
            resource([("service.name", text("b"))], [scope("", [], [span(4, 1)])]),
            with_service(int(1)),
            with_service(array([text("a"), text("b")])),
            resource([], [scope("", [], [Span { end_time_unix_nano: 3, ..span(6, 1) }])]),
        ]);
        let facts = derive(&trace);
        let expected = [("", 3, 2), ("a", 1, 0), ("b", 3, 1)].map(|(name, spans, errors)| (name.to_owned(), spans, errors));
        assert_eq!(facts.service_stats, expected);
        assert_eq!((facts.start_unix_nanos, facts.end_unix_nanos), (1, 15));
        assert_eq!(facts.root_service_name, "a");
    }

    /// Resources as (attributes in order, dropped count); the groups they come to, by index of the first in each.
    #[test]
    fn equal_resources_are_merged() {
        let a = || ("service.name", text("a"));
        let x = |n| ("x", int(n));
        let cases = [
            ("order of keys does not matter", vec![vec![a(), x(1)], vec![x(1), a()]], 1),
            ("values do", vec![vec![a(), x(1)], vec![a(), x(2)]], 2),
            ("types do", vec![vec![a(), x(1)], vec![a(), ("x", double(1.0))]], 2),
            ("NaN is NaN", vec![vec![("x", double(f64::NAN))], vec![("x", double(f64::NAN))]], 1),
            ("an empty service name is none", vec![vec![("service.name", text(""))], vec![]], 1),
            ("an empty value is not none", vec![vec![("x", text(""))], vec![]], 2),
            ("apart from each other", vec![vec![a()], vec![x(1)], vec![a()]], 2),
        ];
        for (name, resources, groups) in cases {
            let given = trace((1..).zip(resources).map(|(id, r)| resource(r, [scope("", [], [span(id, 0)])])));
            let merged = normalize(&given);
            assert_eq!(merged.resource_spans.len(), groups, "{name}");
            assert_eq!(merged.span_count(), given.span_count(), "{name}");
        }
    }

    #[test]
    fn scopes_are_merged_only_if_all_of_them_is_equal() {
        let lib = |n, id| scope("lib", [("b", int(n)), ("a", int(0))], [span(id, 0)]);
        let none = ScopeSpans { scope: None, spans: vec![span(5, 0)], schema_url: "u".to_owned() };
        let mut dropped = lib(1, 6);
        dropped.scope.get_or_insert_default().dropped_attributes_count = 1;
        let merged = normalize(&trace([resource([], [lib(1, 1), lib(2, 2), scope("", [], [span(3, 0)]), lib(1, 4), none, dropped])]));
        let ids = |ss: &ScopeSpans| ss.spans.iter().map(|s| s.span_id[7]).collect::<Vec<_>>();
        let groups: Vec<_> = merged.resource_spans[0].scope_spans.iter().map(ids).collect();
        assert_eq!(groups, [vec![1, 4], vec![2], vec![3, 5], vec![6]]);
        let scope = merged.resource_spans[0].scope_spans[0].scope.clone().unwrap();
        assert_eq!(scope.attributes.iter().map(|kv| kv.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(merged.resource_spans[0].scope_spans[2].schema_url, "", "a URL that not all spans had");
    }

    #[test]
    fn repeated_spans_stay() {
        let again = Span { name: "again".to_owned(), ..span(1, 0) };
        let server = with_kind(1, 0, 2);
        let merged = normalize(&one_scope([span(1, 0), again, server]));
        let names: Vec<_> = merged.spans().map(|(_, _, s)| (s.name.as_str(), s.kind)).collect();
        assert_eq!(names, [("span 1", 1), ("again", 1), ("span 1", 2)]);
    }

    prop_compose! {
        /// Few ids, kinds, resources and scopes, so that all kinds of clashes occur.
        fn any_trace()(spans in prop::collection::vec((1..12u64, 0..14u64, 0..6i32, 0..3usize, 0..3i64), 0..30)) -> Trace {
            let resources = [vec![("service.name", text("a"))], vec![("service.name", text("")), ("n", double(f64::NAN))], vec![("n", double(f64::NAN))]];
            trace(spans.into_iter().enumerate().map(|(i, (id, parent, kind, r, s))| {
                let events = vec![Event { time_unix_nano: i as u64, ..Event::default() }]; // tells repeated spans apart
                resource(resources[r].clone(), [scope("lib", [("s", int(s))], [Span { kind, events, ..span(id, parent) }])])
            }))
        }
    }

    proptest! {
        #[test]
        fn normalize_keeps_every_span_and_settles(given in any_trace()) {
            let once = normalize(&given);
            // As text, since NaN differs from itself.
            prop_assert_eq!(format!("{once:?}"), format!("{:?}", normalize(&once)));
            let place = |t: &Trace| {
                let mut all: Vec<_> = t.spans()
                    .map(|(rs, ss, s)| (service_name(rs.resource.as_ref()).to_owned(), format!("{:?}", ss.scope), format!("{s:?}"))).collect();
                all.sort();
                all
            };
            prop_assert_eq!(place(&given), place(&once));
        }

        #[test]
        fn children_lie_strictly_inside_their_parents(given in any_trace()) {
            let positions = derive(&normalize(&given)).spans;
            let numbered: Vec<_> = positions.iter().filter(|p| p.left != 0).collect();
            let mut numbers: Vec<_> = numbered.iter().flat_map(|p| [p.left, p.right]).collect();
            numbers.sort_unstable();
            prop_assert!(numbers.into_iter().eq(1..=2 * numbered.len() as i32), "every number once");
            for p in &numbered {
                prop_assert!(p.left < p.right);
                let children = numbered.iter().filter(|c| c.parent == p.left).inspect(|c| assert!(p.left < c.left && c.right < p.right));
                prop_assert_eq!(children.count(), p.child_count as usize);
                prop_assert!(p.parent == -1 || numbered.iter().any(|q| q.left == p.parent));
            }
            for p in positions.iter().filter(|p| p.left == 0) {
                prop_assert_eq!((p.right, p.parent), (0, 0));
            }
        }
    }
}
