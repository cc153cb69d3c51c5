//! The spans of a trace in normal grouping: as a block stores them, and as the live side numbers them.

use std::collections::HashMap;

use prost::Message;

use crate::{
    derive::{is_empty_service_name, name_of, service_name_at},
    trace::{InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, Trace, TraceId},
};

/// A trace's spans in groups, all borrowed from the trace.
#[derive(Clone, Debug)]
pub struct Grouped<'a> {
    /// The trace's id.
    pub id: TraceId,
    /// The spans by resource.
    pub resources: Vec<ResourceGroup<'a>>,
}

/// The spans of one resource.
#[derive(Clone, Debug)]
pub struct ResourceGroup<'a> {
    /// The resource; its attributes are those below.
    pub resource: Option<&'a Resource>,
    /// The resource's attributes.
    pub attributes: Vec<&'a KeyValue>,
    /// The URL that all of the group have; else empty.
    pub schema_url: &'a str,
    /// The spans by scope.
    pub scopes: Vec<ScopeGroup<'a>>,
}

/// The spans of one scope of a resource.
#[derive(Clone, Debug)]
pub struct ScopeGroup<'a> {
    /// The instrumentation scope; its attributes are those below.
    pub scope: Option<&'a InstrumentationScope>,
    /// The scope's attributes.
    pub attributes: Vec<&'a KeyValue>,
    /// The URL that all of the group have; else empty.
    pub schema_url: &'a str,
    /// The spans.
    pub spans: Vec<&'a Span>,
}

impl<'a> Grouped<'a> {
    /// The spans grouped as a block stores them: identical resources merged, identical scopes merged, their attributes in key
    /// order, an empty `service.name` gone. Repeated spans stay, as in Tempo's blocks (its answers count them). Both the
    /// block writer and the live side number the tree in this order.
    pub fn new(trace: &'a Trace) -> Self {
        let mut groups: Vec<ResourceGroup<'a>> = Vec::new();
        let mut group_of: HashMap<Vec<u8>, usize> = HashMap::new();
        for rs in &trace.resource_spans {
            let group = ResourceGroup::new(rs);
            let dropped = group.resource.map_or(0, |r| r.dropped_attributes_count);
            let at = *group_of.entry(identity(["", ""], dropped, &group.attributes)).or_insert(groups.len());
            match groups.get_mut(at) {
                Some(known) => {
                    keep_common(&mut known.schema_url, group.schema_url);
                    known.scopes.extend(group.scopes);
                }
                None => groups.push(group),
            }
        }
        for group in &mut groups {
            merge_scopes(&mut group.scopes);
        }
        Self { id: trace.id, resources: groups }
    }

    /// The spans as the trace has them grouped, but attributes in normal form.
    pub fn as_is(trace: &'a Trace) -> Self {
        Self { id: trace.id, resources: trace.resource_spans.iter().map(ResourceGroup::new).collect() }
    }

    /// All spans with the group of their resource, in stored order.
    pub fn spans(&self) -> impl Iterator<Item = (&ResourceGroup<'a>, &'a Span)> {
        self.resources.iter().flat_map(|rs| rs.scopes.iter().flat_map(move |ss| ss.spans.iter().map(move |span| (rs, *span))))
    }

    fn to_trace(&self) -> Trace {
        let cloned = |attributes: &[&KeyValue]| attributes.iter().map(|kv| (*kv).clone()).collect();
        let scope = |group: &ScopeGroup<'_>| ScopeSpans {
            scope: group.scope.map(|scope| InstrumentationScope {
                name: scope.name.clone(),
                version: scope.version.clone(),
                attributes: cloned(&group.attributes),
                dropped_attributes_count: scope.dropped_attributes_count,
            }),
            spans: group.spans.iter().map(|span| (*span).clone()).collect(),
            schema_url: group.schema_url.to_owned(),
        };
        let resource = |group: &ResourceGroup<'_>| ResourceSpans {
            resource: group.resource.map(|resource| Resource {
                attributes: cloned(&group.attributes),
                dropped_attributes_count: resource.dropped_attributes_count,
                entity_refs: resource.entity_refs.clone(),
            }),
            scope_spans: group.scopes.iter().map(scope).collect(),
            schema_url: group.schema_url.to_owned(),
        };
        Trace { id: self.id, resource_spans: self.resources.iter().map(resource).collect() }
    }
}

impl<'a> ResourceGroup<'a> {
    fn new(rs: &'a ResourceSpans) -> Self {
        let mut attributes: Vec<&KeyValue> = rs.resource.iter().flat_map(|r| &r.attributes).collect();
        attributes.retain(|kv| !is_empty_service_name(kv));
        // Of a repeated key the last counts, and the service's name has a place of its own in a block: it counts.
        if let Some(at) = service_name_at(&attributes) {
            attributes[at..].rotate_left(1);
        }
        sort_by_key(&mut attributes);
        let scopes = rs.scope_spans.iter().map(ScopeGroup::new).collect();
        Self { resource: rs.resource.as_ref(), attributes, schema_url: &rs.schema_url, scopes }
    }

    /// What the resource's `service.name` says (see [`service_name`](crate::derive::service_name)).
    pub fn service_name(&self) -> &'a str {
        service_name_at(&self.attributes).map_or("", |at| name_of(self.attributes[at]))
    }
}

impl<'a> ScopeGroup<'a> {
    fn new(ss: &'a ScopeSpans) -> Self {
        let mut attributes: Vec<&KeyValue> = ss.scope.iter().flat_map(|s| &s.attributes).collect();
        sort_by_key(&mut attributes);
        Self { scope: ss.scope.as_ref(), attributes, schema_url: &ss.schema_url, spans: ss.spans.iter().collect() }
    }
}

/// The same spans in normal grouping (see [`Grouped::new`]), with all that belongs to them.
pub fn normalize(trace: &Trace) -> Trace {
    Grouped::new(trace).to_trace()
}

/// Tempo merges scopes that differ in their attributes only, too, and loses some of these.
fn merge_scopes(scopes: &mut Vec<ScopeGroup<'_>>) {
    if scopes.len() < 2 {
        return;
    }
    let mut groups: Vec<ScopeGroup<'_>> = Vec::with_capacity(scopes.len());
    let mut group_of: HashMap<Vec<u8>, usize> = HashMap::new();
    for group in std::mem::take(scopes) {
        let names = group.scope.map_or(["", ""], |s| [&s.name, &s.version]);
        let dropped = group.scope.map_or(0, |s| s.dropped_attributes_count);
        let at = *group_of.entry(identity(names, dropped, &group.attributes)).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(known) => {
                keep_common(&mut known.schema_url, group.schema_url);
                known.spans.extend(group.spans);
            }
            None => groups.push(group),
        }
    }
    *scopes = groups;
}

/// Blocks do not store schema URLs, so they keep no groups apart; but a group must not claim a URL for other spans.
fn keep_common(url: &mut &str, other: &str) {
    if *url != other {
        *url = "";
    }
}

/// All of a resource or scope that a block stores, as bytes. Encoded rather than compared, since NaN must equal itself.
fn identity(names: [&str; 2], dropped: u32, sorted: &[&KeyValue]) -> Vec<u8> {
    let mut bytes = dropped.to_le_bytes().to_vec();
    for name in names {
        bytes.extend(name.len().to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    for kv in sorted {
        // A vector grows as needed, so this cannot fail.
        let _ = kv.encode_length_delimited(&mut bytes);
    }
    bytes
}

/// Stable, so that the first of a repeated key stays first.
fn sort_by_key(attributes: &mut [&KeyValue]) {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}
