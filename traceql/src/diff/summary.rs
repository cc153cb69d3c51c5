//! A comparison in counts: how long, how many, how many errors, and which services it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{
    Changes, Warning,
    tree::{Identity, Node, Tree},
};

/// A service's spans together take longer or shorter only if the difference is at least this and a twentieth of before.
const DRIFT_NANOS_MIN: i128 = 1_000_000;

/// The answer `trace-summary-v0-native`. Directions are facts: whether more is worse is for the reader to say.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary<'a> {
    version: &'static str,
    base: Side<'a>,
    compare: Side<'a>,
    signals: Signals,
    trust: Trust,
    stats: Stats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    changed_services: BTreeSet<&'a str>,
    services: Vec<Service<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Side<'a> {
    trace_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    root_service: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    root_name: &'a str,
    span_count: usize,
    error_span_count: usize,
    /// From the first start to the last end.
    duration_ms: u64,
    sum_span_duration_ms: i128,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Signals {
    trace_latency: &'static str,
    sum_span_duration: &'static str,
    errors: &'static str,
    span_count: &'static str,
    structure: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trust {
    /// Pairs, as a part of the spans of the larger trace.
    matched_span_ratio: f64,
    /// The same of the smaller one: 1 if it is wholly within the larger.
    structure_overlap: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    trace_latency_delta_ms: i64,
    sum_span_duration_delta_ms: i128,
    span_count_delta: i64,
    error_span_delta: i64,
    matched_spans: usize,
    modified_spans: usize,
    added_spans: usize,
    removed_spans: usize,
    field_changes: usize,
    attribute_changes: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'a> {
    name: &'a str,
    sum_span_duration_delta_ms: i128,
    modified: usize,
    added: usize,
    removed: usize,
    new_errors: usize,
    resolved_errors: usize,
}

/// Sums up the changes between two traces.
pub(super) fn summary<'a>(changes: &'a Changes<'a>) -> Summary<'a> {
    let (base, compare) = (changes.base, changes.compare);
    let ((before, before_nanos), (after, after_nanos)) = (side(base), side(compare));
    let moved = moved(base, compare);
    let (changed_services, services) = services(changes, &moved);
    let stats = Stats {
        trace_latency_delta_ms: ((i128::from(after_nanos) - i128::from(before_nanos)) / 1_000_000) as i64,
        sum_span_duration_delta_ms: (sum(&compare.nodes) - sum(&base.nodes)) / 1_000_000,
        span_count_delta: after.span_count as i64 - before.span_count as i64,
        error_span_delta: after.error_span_count as i64 - before.error_span_count as i64,
        matched_spans: changes.matched,
        modified_spans: changes.modified.len(),
        added_spans: changes.added.len(),
        removed_spans: changes.removed.len(),
        field_changes: changes.count("field"),
        attribute_changes: changes.count("attribute"),
    };
    let (more, fewer) = (before.span_count.max(after.span_count), before.span_count.min(after.span_count));
    let part = |of: usize| if of == 0 { 0.0 } else { changes.matched as f64 / of as f64 };
    Summary {
        version: "trace-summary-v0-native",
        signals: Signals {
            trace_latency: direction(stats.trace_latency_delta_ms.into()),
            sum_span_duration: direction(stats.sum_span_duration_delta_ms),
            errors: direction(stats.error_span_delta.into()),
            span_count: direction(stats.span_count_delta.into()),
            structure: if moved.is_empty() { "unchanged" } else { "changed" },
        },
        trust: Trust { matched_span_ratio: part(more), structure_overlap: part(fewer) },
        base: before,
        compare: after,
        stats,
        warnings: changes.warnings(),
        changed_services,
        services,
    }
}

fn direction(delta: i128) -> &'static str {
    match delta {
        0 => "unchanged",
        1.. => "increased",
        _ => "decreased",
    }
}

/// One side, and how long it took in nanoseconds.
fn side<'a>(tree: &'a Tree<'a>) -> (Side<'a>, u64) {
    let timed = || tree.nodes.iter().filter(|n| n.duration_nanos().is_some()).map(|n| n.span);
    let start = timed().map(|s| s.start_time_unix_nano).min().unwrap_or(0);
    let nanos = timed().map(|s| s.end_time_unix_nano).max().map_or(0, |end| end - start);
    let root = tree.nodes.first().map(|n| n.identity);
    let side = Side {
        trace_id: &tree.trace_id,
        root_service: root.map_or("", |r| r.service),
        root_name: root.map_or("", |r| r.name),
        span_count: tree.nodes.len(),
        error_span_count: tree.nodes.iter().filter(|n| n.is_error()).count(),
        duration_ms: nanos / 1_000_000,
        sum_span_duration_ms: sum(&tree.nodes) / 1_000_000,
    };
    (side, nanos)
}

fn sum<'n, 'a: 'n>(nodes: impl IntoIterator<Item = &'n Node<'a>>) -> i128 {
    nodes.into_iter().filter_map(Node::duration_nanos).map(i128::from).sum()
}

/// The services whose spans are others, or are called by others.
fn moved<'a>(base: &'a Tree<'a>, compare: &'a Tree<'a>) -> BTreeSet<&'a str> {
    let mut counts: HashMap<(Identity<'a>, Option<Identity<'a>>), (i64, &'a str)> = HashMap::new();
    for (tree, one) in [(base, -1), (compare, 1)] {
        for node in &tree.nodes {
            counts.entry((node.identity, tree.parent_of(node))).or_insert((0, node.service())).0 += one;
        }
    }
    counts.into_values().filter(|(count, _)| *count != 0).map(|(_, service)| service).collect()
}

/// All services that something changed in, and those of them of which there is something to count: the most changed first.
fn services<'a>(changes: &'a Changes<'a>, moved: &BTreeSet<&'a str>) -> (BTreeSet<&'a str>, Vec<Service<'a>>) {
    let mut counted: BTreeMap<&'a str, Service<'a>> = BTreeMap::new();
    for (before, after, _) in &changes.modified {
        let service = counted.entry(after.service()).or_default();
        service.modified += 1;
        service.new_errors += usize::from(after.is_error() && !before.is_error());
        service.resolved_errors += usize::from(before.is_error() && !after.is_error());
    }
    for node in &changes.added {
        let service = counted.entry(node.service()).or_default();
        service.added += 1;
        service.new_errors += usize::from(node.is_error());
    }
    for node in &changes.removed {
        let service = counted.entry(node.service()).or_default();
        service.removed += 1;
        service.resolved_errors += usize::from(node.is_error());
    }
    let mut nanos: BTreeMap<&'a str, (i128, i128)> = BTreeMap::new();
    for node in &changes.base.nodes {
        nanos.entry(node.service()).or_default().0 += sum([node]);
    }
    for node in &changes.compare.nodes {
        nanos.entry(node.service()).or_default().1 += sum([node]);
    }
    for (name, (before, after)) in nanos {
        let delta = after - before;
        // Each span a little slower is within the tolerance of a pair; all together they are not.
        let drifted = delta.abs() >= DRIFT_NANOS_MIN && delta.abs() * 20 >= before;
        if drifted || counted.contains_key(name) {
            let service = counted.entry(name).or_default();
            service.name = name;
            service.sum_span_duration_delta_ms = delta / 1_000_000;
        }
    }
    let changed = counted.keys().chain(moved).copied().collect();
    let mut services: Vec<Service<'a>> = counted.into_values().collect();
    services.sort_by_key(|s| (std::cmp::Reverse(s.sum_span_duration_delta_ms.abs()), std::cmp::Reverse(s.new_errors), s.name));
    (changed, services)
}
