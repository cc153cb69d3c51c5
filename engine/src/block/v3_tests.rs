//! Writes vParquet3 blocks for tests of reading them: from `docs/format.md` alone, value by value as parquet nests them, and
//! sharing nothing with the writer of later versions.

use std::{path::Path, sync::Arc};

use parquet::{
    basic::Repetition,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::{parser::parse_message_type, types::Type},
};
use prost::Message;

use super::{BlockMeta, Bloom, DedicatedColumn, DedicatedScope, DedicatedType, Version, index, records::LinkSlice, value_json};
use crate::{
    derive::{derive, service_name},
    tenant::TenantId,
    trace::{KeyValue, Span, Trace, Value},
};

/// A value as its schema nests it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Bytes(Vec<u8>),
    Int32(i32),
    Int64(i64),
    Double(f64),
    Bool(bool),
    /// One a field.
    Group(Vec<Node>),
    /// Of a repeated field.
    Items(Vec<Node>),
}

/// A leaf's values, definition and repetition levels.
#[derive(Default)]
struct Leaf {
    values: Vec<Node>,
    defs: Vec<i16>,
    reps: Vec<i16>,
}

/// Adds a field's value to its leaves, the first of which is at `at`; returns where the next field's leaves start.
fn shred(field: &Type, node: &Node, [rep, def, max_rep]: [i16; 3], at: usize, leaves: &mut [Leaf]) -> usize {
    let repetition = if field.get_basic_info().has_repetition() { field.get_basic_info().repetition() } else { Repetition::REQUIRED };
    match (repetition, node) {
        (Repetition::REPEATED, Node::Items(items)) if !items.is_empty() => {
            let mut end = at;
            for (i, item) in items.iter().enumerate() {
                let rep = if i == 0 { rep } else { max_rep + 1 };
                end = content(field, item, [rep, def + 1, max_rep + 1], at, leaves);
            }
            end
        }
        (Repetition::REPEATED, _) | (Repetition::OPTIONAL, Node::Null) => {
            let end = at + leaf_count(field);
            for leaf in &mut leaves[at..end] {
                leaf.defs.push(def);
                leaf.reps.push(rep);
            }
            end
        }
        (Repetition::OPTIONAL, value) => content(field, value, [rep, def + 1, max_rep], at, leaves),
        (Repetition::REQUIRED, value) => content(field, value, [rep, def, max_rep], at, leaves),
    }
}

fn content(field: &Type, node: &Node, levels: [i16; 3], at: usize, leaves: &mut [Leaf]) -> usize {
    if field.is_primitive() {
        leaves[at].values.push(node.clone());
        leaves[at].reps.push(levels[0]);
        leaves[at].defs.push(levels[1]);
        return at + 1;
    }
    let Node::Group(children) = node else { panic!("{} is a group, not {node:?}", field.name()) };
    assert_eq!(children.len(), field.get_fields().len(), "fields of {}", field.name());
    field.get_fields().iter().zip(children).fold(at, |at, (field, child)| shred(field, child, levels, at, leaves))
}

fn leaf_count(field: &Type) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(|f| leaf_count(f)).sum() }
}

/// A parquet file of these rows.
pub(super) fn file(message: &str, rows: &[Node]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut leaves: Vec<Leaf> = (0..leaf_count(&schema)).map(|_| Leaf::default()).collect();
    rows.iter().for_each(|row| _ = content(&schema, row, [0, 0, 0], 0, &mut leaves));
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for Leaf { values, defs, reps } in leaves {
        let mut column = group.next_column().unwrap().unwrap();
        macro_rules! put {
            ($writer:expr, $variant:ident, $make:expr) => {{
                let of = |node| if let Node::$variant(value) = node { $make(value) } else { panic!("{node:?} is of another type") };
                let values: Vec<_> = values.into_iter().map(of).collect();
                $writer.write_batch(&values, Some(&defs), Some(&reps)).unwrap();
            }};
        }
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(w) => put!(w, Bytes, ByteArray::from),
            ColumnWriter::Int32ColumnWriter(w) => put!(w, Int32, |v| v),
            ColumnWriter::Int64ColumnWriter(w) => put!(w, Int64, |v| v),
            ColumnWriter::DoubleColumnWriter(w) => put!(w, Double, |v| v),
            ColumnWriter::BoolColumnWriter(w) => put!(w, Bool, |v| v),
            _ => panic!("no vParquet leaf has this type"),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    out
}

/// The schema of vParquet3.
pub(super) fn message() -> String {
    let list = |name: &str, fields: &str| {
        format!("required group {name} (LIST) {{ repeated group list {{ required group element {{ {fields} }} }} }}")
    };
    let texts = |names: &[&str]| names.iter().map(|n| format!("optional binary {n} (STRING); ")).collect::<String>();
    let numbered: Vec<String> = (1..=10).map(|i| format!("String{i:02}")).collect();
    let numbered = texts(&numbered.iter().map(String::as_str).collect::<Vec<_>>());
    let dedicated = format!("required group DedicatedAttributes {{ {numbered} }}");
    let attributes = list(
        "Attrs",
        "required binary Key (STRING); optional binary Value (STRING); optional int64 ValueInt (INTEGER(64,true)); \
         optional double ValueDouble; optional boolean ValueBool; optional binary ValueKVList (STRING); \
         optional binary ValueArray (STRING);",
    );
    let events = list(
        "Events",
        &format!(
            "required int64 TimeUnixNano (INTEGER(64,false)); required binary Name (STRING); {} \
             required int32 DroppedAttributesCount (INTEGER(32,true));",
            list("Attrs", "required binary Key (STRING); required binary Value;")
        ),
    );
    let spans = list(
        "Spans",
        &format!(
            "required binary SpanID; required binary ParentSpanID; required int32 ParentID (INTEGER(32,true)); \
             required int32 NestedSetLeft (INTEGER(32,true)); required int32 NestedSetRight (INTEGER(32,true)); \
             required binary Name (STRING); required int64 Kind (INTEGER(64,true)); required binary TraceState (STRING); \
             required int64 StartTimeUnixNano (INTEGER(64,false)); required int64 DurationNano (INTEGER(64,false)); \
             required int64 StatusCode (INTEGER(64,true)); required binary StatusMessage (STRING); {attributes} \
             required int32 DroppedAttributesCount (INTEGER(32,true)); {events} \
             required int32 DroppedEventsCount (INTEGER(32,true)); required binary Links; \
             required int32 DroppedLinksCount (INTEGER(32,true)); {} optional int64 HttpStatusCode (INTEGER(64,true)); {dedicated}",
            texts(&["HttpMethod", "HttpUrl"])
        ),
    );
    let scope = "required group Scope { required binary Name (STRING); required binary Version (STRING); }";
    let wells = ["Cluster", "Namespace", "Pod", "Container", "K8sClusterName", "K8sNamespaceName", "K8sPodName", "K8sContainerName"];
    let resource =
        format!("required group Resource {{ {attributes} required binary ServiceName (STRING); {} {dedicated} }}", texts(&wells));
    let traces = list("rs", &format!("{resource} {}", list("ss", &format!("{scope} {spans}"))));
    format!(
        "message Trace {{ required binary TraceID; required binary TraceIDText (STRING); \
         required int64 StartTimeUnixNano (INTEGER(64,false)); required int64 EndTimeUnixNano (INTEGER(64,false)); \
         required int64 DurationNano (INTEGER(64,false)); required binary RootServiceName (STRING); \
         required binary RootSpanName (STRING); {traces} }}"
    )
}

fn text(s: &str) -> Node {
    Node::Bytes(s.as_bytes().to_vec())
}

/// A LIST of groups.
fn list(groups: impl IntoIterator<Item = Vec<Node>>) -> Node {
    Node::Group(vec![Node::Items(groups.into_iter().map(|fields| Node::Group(vec![Node::Group(fields)])).collect())])
}

/// A row.
pub(super) fn row(trace: &Trace, dedicated: &[DedicatedColumn]) -> Node {
    let facts = derive(trace);
    let mut positions = facts.spans.iter();
    let (start, end) = (facts.start_unix_nanos as i64, facts.end_unix_nanos as i64);
    let mut groups = Vec::new();
    for rs in &trace.resource_spans {
        let keys =
            ["cluster", "namespace", "pod", "container", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"];
        let mut rest = rs.resource.iter().flat_map(|r| r.attributes.clone()).collect::<Vec<_>>();
        let name = service_name(rs.resource.as_ref()).to_owned();
        if let Some(at) = crate::derive::service_name_at(&rest) {
            rest.remove(at);
        }
        let wells = keys.map(|key| take(&mut rest, key, DedicatedType::String));
        let own = own_columns(&mut rest, DedicatedScope::Resource, dedicated);
        let mut resource = vec![attributes(&rest), text(&name)];
        resource.extend(wells);
        resource.push(own);
        let scopes = rs.scope_spans.iter().map(|ss| {
            let scope = ss.scope.clone().unwrap_or_default();
            let spans = ss.spans.iter().map(|s| {
                let at = positions.next().copied().unwrap_or_default();
                span(s, [at.parent, at.left, at.right], dedicated)
            });
            vec![Node::Group(vec![text(&scope.name), text(&scope.version)]), list(spans.collect::<Vec<_>>())]
        });
        let scopes = scopes.collect::<Vec<_>>();
        groups.push(vec![Node::Group(resource), list(scopes)]);
    }
    Node::Group(vec![
        Node::Bytes(trace.id.0.to_vec()),
        text(&trace.id.short_hex()),
        Node::Int64(start),
        Node::Int64(end),
        Node::Int64(end.wrapping_sub(start)),
        text(&facts.root_service_name),
        text(&facts.root_span_name),
        list(groups),
    ])
}

fn span(span: &Span, [parent, left, right]: [i32; 3], dedicated: &[DedicatedColumn]) -> Vec<Node> {
    let status = span.status.clone().unwrap_or_default();
    let mut rest = span.attributes.clone();
    let [method, url] = ["http.method", "http.url"].map(|key| take(&mut rest, key, DedicatedType::String));
    let code = take(&mut rest, "http.status_code", DedicatedType::Int);
    let own = own_columns(&mut rest, DedicatedScope::Span, dedicated);
    let events = span.events.iter().map(|event| {
        let value = |kv: &KeyValue| vec![text(&kv.key), Node::Bytes(kv.value.clone().unwrap_or_default().encode_to_vec())];
        vec![
            Node::Int64(event.time_unix_nano as i64),
            text(&event.name),
            list(event.attributes.iter().map(value)),
            Node::Int32(event.dropped_attributes_count as i32),
        ]
    });
    let links = LinkSlice { links: span.links.clone() }.encode_to_vec();
    vec![
        Node::Bytes(span.span_id.clone()),
        Node::Bytes(span.parent_span_id.clone()),
        Node::Int32(parent),
        Node::Int32(left),
        Node::Int32(right),
        text(&span.name),
        Node::Int64(span.kind.into()),
        text(&span.trace_state),
        Node::Int64(span.start_time_unix_nano as i64),
        Node::Int64(span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64),
        Node::Int64(status.code.into()),
        text(&status.message),
        attributes(&rest),
        Node::Int32(span.dropped_attributes_count as i32),
        list(events),
        Node::Int32(span.dropped_events_count as i32),
        Node::Bytes(links),
        Node::Int32(span.dropped_links_count as i32),
        method,
        url,
        code,
        own,
    ]
}

/// Takes the last value of a key out, if it is a scalar of this type.
fn take(rest: &mut Vec<KeyValue>, key: &str, kind: DedicatedType) -> Node {
    let Some(at) = rest.iter().rposition(|kv| kv.key == key) else { return Node::Null };
    let taken = match (kind, rest[at].value.as_ref().and_then(|v| v.value.as_ref())) {
        (DedicatedType::String, Some(Value::StringValue(s))) => text(s),
        (DedicatedType::Int, Some(Value::IntValue(i))) => Node::Int64(*i),
        _ => return Node::Null,
    };
    rest.remove(at);
    taken
}

fn own_columns(rest: &mut Vec<KeyValue>, scope: DedicatedScope, dedicated: &[DedicatedColumn]) -> Node {
    let mut columns = dedicated.iter().filter(|c| c.scope == scope && c.kind == DedicatedType::String);
    let mut own = || columns.next().map_or(Node::Null, |c| take(rest, &c.name, DedicatedType::String));
    Node::Group((0..10).map(|_| own()).collect())
}

fn attributes(all: &[KeyValue]) -> Node {
    list(all.iter().map(|kv| {
        let mut fields = vec![text(&kv.key)];
        fields.resize(7, Node::Null);
        let value = kv.value.as_ref().and_then(|v| v.value.as_ref());
        let mut json = String::new();
        value_json::write(value, &mut json);
        match value {
            Some(Value::StringValue(s)) => fields[1] = text(s),
            Some(Value::IntValue(i)) => fields[2] = Node::Int64(*i),
            Some(Value::DoubleValue(d)) => fields[3] = Node::Double(*d),
            Some(Value::BoolValue(b)) => fields[4] = Node::Bool(*b),
            Some(Value::KvlistValue(_)) => fields[5] = text(&json),
            Some(Value::ArrayValue(_)) => fields[6] = text(&json),
            _ => {} // bytes are lost
        }
        fields
    }))
}

/// Writes a vParquet3 block of these traces, which are in normal grouping, below `root`.
pub(super) fn write(root: &Path, dedicated: Vec<DedicatedColumn>, traces: &[&Trace]) -> BlockMeta {
    let mut traces = traces.to_vec();
    traces.sort_by_key(|t| t.id);
    let mut meta = BlockMeta::new(&TenantId::single(), BlockMeta::new_id(), dedicated).with_version(Version::V3);
    let rows: Vec<Node> = traces.iter().map(|t| row(t, &meta.dedicated_columns)).collect();
    let data = file(&message(), &rows);
    let spans = || traces.iter().flat_map(|t| t.spans());
    let seconds = |nanos: u64| jiff::Timestamp::from_second((nanos / 1_000_000_000) as i64).unwrap();
    meta.start_time = seconds(spans().map(|(_, _, s)| s.start_time_unix_nano.min(s.end_time_unix_nano)).min().unwrap_or_default());
    meta.end_time = seconds(spans().map(|(_, _, s)| s.end_time_unix_nano.max(s.start_time_unix_nano)).max().unwrap_or_default());
    (meta.total_objects, meta.size, meta.total_records, meta.bloom_shards) = (rows.len() as u64, data.len() as u64, 1, 1);
    meta.footer_size = u32::from_le_bytes(*data[data.len() - 8..].first_chunk().unwrap());
    let folder = root.join(TenantId::single().as_str()).join(meta.block_id.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let ids: Vec<_> = traces.iter().map(|t| t.id).collect();
    let bloom = Bloom::build(&ids, 0.01, 102_400).shards()[0].to_bytes();
    let index = index::to_json(&ids[ids.len() - 1..]);
    for (name, bytes) in [("data.parquet", data), ("bloom-0", bloom), ("index", index), ("meta.json", meta.to_json())] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    meta
}
