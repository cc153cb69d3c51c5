//! What is not in the spans themselves but follows from a whole trace: root, times, service counts, tree positions.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use prost::Message;

use crate::trace::{InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, Trace, Value};

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

/// What a resource's `service.name` says: its first value that is not the empty string, if that is a string; else "".
/// A block cannot tell an empty name from none, so nobody does.
pub fn service_name(resource: Option<&Resource>) -> &str {
    let values = resource.into_iter().flat_map(|r| &r.attributes).filter(|kv| kv.key == SERVICE_NAME);
    match values.map(value).find(|v| !matches!(v, Some(Value::StringValue(s)) if s.is_empty())) {
        Some(Some(Value::StringValue(name))) => name,
        _ => "",
    }
}

/// Computes the facts of a trace. The tree is numbered in stored order: [`normalize`] first.
pub fn derive(trace: &Trace) -> TraceFacts {
    let spans: Vec<&Span> = trace.spans().map(|(_, _, span)| span).collect();
    let mut facts = TraceFacts {
        start_unix_nanos: spans.iter().map(|s| s.start_time_unix_nano).min().unwrap_or_default(),
        end_unix_nanos: spans.iter().map(|s| s.end_time_unix_nano).max().unwrap_or_default(),
        spans: tree_positions(&spans),
        ..TraceFacts::default()
    };
    let mut services = BTreeMap::<&str, (u32, u32)>::new();
    for rs in &trace.resource_spans {
        let service = service_name(rs.resource.as_ref());
        for span in rs.scope_spans.iter().flat_map(|ss| &ss.spans) {
            let (count, errors) = services.entry(service).or_default();
            *count += 1;
            *errors += u32::from(span.status.as_ref().is_some_and(|s| s.code == STATUS_ERROR));
        }
    }
    facts.service_stats = services.into_iter().map(|(name, (spans, errors))| (name.to_owned(), spans, errors)).collect();
    if let Some((rs, _, root)) = trace.spans().filter(|(_, _, s)| is_root(trace, s)).last() {
        facts.root_service_name = service_name(rs.resource.as_ref()).to_owned();
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
fn is_root(trace: &Trace, span: &Span) -> bool {
    let child_of = |kv: &KeyValue| kv.key == "opentracing.ref_type" && matches!(value(kv), Some(Value::StringValue(v)) if v == "child_of");
    span.parent_span_id.is_empty() && !span.links.iter().any(|l| l.trace_id == trace.id.0 && l.attributes.iter().any(child_of))
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

/// The same spans grouped as a block stores them: identical resources merged, identical scopes merged, their
/// attributes in key order, an empty `service.name` gone, repeated spans dropped. Both the block writer and the live side number the
/// tree in this order.
pub fn normalize(trace: &Trace) -> Trace {
    let mut trace = trace.clone();
    trace.dedupe();
    let mut groups: Vec<ResourceSpans> = Vec::with_capacity(trace.resource_spans.len());
    let mut group_of = HashMap::new();
    for mut rs in std::mem::take(&mut trace.resource_spans) {
        if let Some(resource) = &mut rs.resource {
            resource.attributes.retain(|kv| kv.key != SERVICE_NAME || !matches!(value(kv), Some(Value::StringValue(s)) if s.is_empty()));
            sort_by_key(&mut resource.attributes);
        }
        match group_of.entry(resource_identity(rs.resource.as_ref())) {
            Entry::Vacant(e) => {
                e.insert(groups.len());
                groups.push(rs);
            }
            Entry::Occupied(e) => {
                let group = &mut groups[*e.get()];
                keep_common(&mut group.schema_url, &rs.schema_url);
                group.scope_spans.extend(rs.scope_spans);
            }
        }
    }
    for group in &mut groups {
        merge_scopes(&mut group.scope_spans);
    }
    Trace { id: trace.id, resource_spans: groups }
}

fn merge_scopes(scopes: &mut Vec<ScopeSpans>) {
    let mut groups: Vec<ScopeSpans> = Vec::with_capacity(scopes.len());
    let mut group_of = HashMap::new();
    for mut ss in std::mem::take(scopes) {
        if let Some(scope) = &mut ss.scope {
            sort_by_key(&mut scope.attributes);
        }
        match group_of.entry(scope_identity(ss.scope.as_ref())) {
            Entry::Vacant(e) => {
                e.insert(groups.len());
                groups.push(ss);
            }
            Entry::Occupied(e) => {
                let group = &mut groups[*e.get()];
                keep_common(&mut group.schema_url, &ss.schema_url);
                group.spans.extend(ss.spans);
            }
        }
    }
    *scopes = groups;
}

/// Blocks do not store schema URLs, so they keep no groups apart; but a group must not claim a URL for other spans.
fn keep_common(url: &mut String, other: &str) {
    if url != other {
        url.clear();
    }
}

/// All of a resource that a block stores, as bytes. Encoded rather than compared, since NaN must equal itself.
fn resource_identity(resource: Option<&Resource>) -> Vec<u8> {
    let Some(resource) = resource else { return attributes_identity(&[], 0) };
    attributes_identity(&resource.attributes, resource.dropped_attributes_count)
}

/// All of a scope that a block stores. Tempo merges scopes that differ in their attributes only, and loses some of these.
fn scope_identity(scope: Option<&InstrumentationScope>) -> (String, String, Vec<u8>) {
    let Some(scope) = scope else { return (String::new(), String::new(), attributes_identity(&[], 0)) };
    (scope.name.clone(), scope.version.clone(), attributes_identity(&scope.attributes, scope.dropped_attributes_count))
}

fn attributes_identity(sorted: &[KeyValue], dropped: u32) -> Vec<u8> {
    let mut bytes = dropped.to_le_bytes().to_vec();
    for kv in sorted {
        // A vector grows as needed, so this cannot fail.
        let _ = kv.encode_length_delimited(&mut bytes);
    }
    bytes
}

/// Stable, so that the first of a repeated key stays first.
fn sort_by_key(attributes: &mut [KeyValue]) {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}
