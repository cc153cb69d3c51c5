//! Blocks we write against the blocks Tempo wrote of the same spans (`tests/golden`), leaf by leaf, and any trace at all.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use parquet::{
    basic::LogicalType,
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    file::reader::{FileReader, SerializedFileReader},
};
use proptest::prelude::*;
use prost::Message;

use super::{Bloom, BloomShard, index, read_tests::VERSIONS, schema::BlockSchema, shard_of};
use crate::{
    block::{BlockMeta, BlockVersion, DedicatedColumn, DedicatedScope, DedicatedType, Version, write_block},
    config::Config,
    store::BlockStore,
    tenant::TenantId,
    trace::{
        AnyValue, ArrayValue, Event, InstrumentationScope, KeyValue, KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status,
        Trace, TraceId, Value,
    },
};

pub(super) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// The folders of Tempo's blocks of one version.
pub(super) fn blocks(root: &str, version: &str) -> Vec<PathBuf> {
    let folder = Path::new(root).join("blocks").join(version).join("single-tenant");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

pub(super) fn meta(folder: &Path) -> BlockMeta {
    BlockMeta::from_json(&std::fs::read(folder.join("meta.json")).unwrap(), "meta.json").unwrap()
}

fn open(folder: &Path) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(std::fs::read(folder.join("data.parquet")).unwrap().into()).unwrap()
}

/// All traces of a data set, each with its spans in the order in which they were sent.
pub(super) fn traces(root: &str, set: &str) -> Vec<Arc<Trace>> {
    let folder = Path::new(root).join("data").join(set);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pb"));
    files.sort();
    let mut traces = BTreeMap::<TraceId, Trace>::new();
    for file in files {
        for rs in TracesData::decode(std::fs::read(file).unwrap().as_slice()).unwrap().resource_spans {
            let mut parts = BTreeMap::<TraceId, ResourceSpans>::new();
            for ss in &rs.scope_spans {
                let mut scopes = BTreeMap::<TraceId, ScopeSpans>::new();
                for span in &ss.spans {
                    let id = TraceId::from_slice(&span.trace_id).unwrap();
                    let group = scopes.entry(id).or_insert_with(|| ScopeSpans { spans: Vec::new(), ..ss.clone() });
                    group.spans.push(span.clone());
                }
                for (id, ss) in scopes {
                    let group = parts.entry(id).or_insert_with(|| ResourceSpans { scope_spans: Vec::new(), ..rs.clone() });
                    group.scope_spans.push(ss);
                }
            }
            for (id, rs) in parts {
                traces.entry(id).or_insert_with(|| Trace { id, ..Trace::default() }).resource_spans.push(rs);
            }
        }
    }
    traces.into_values().map(Arc::new).collect()
}

/// One entry of a leaf: its value as text, definition and repetition level.
type Entry = (Option<String>, i16, i16);

/// A leaf's entries, row by row.
fn leaf(file: &SerializedFileReader<Bytes>, leaf: usize) -> Vec<Vec<Entry>> {
    fn read<T: DataType>(mut reader: ColumnReaderImpl<T>, max: i16, show: fn(&T::T) -> String, rows: &mut Vec<Vec<Entry>>) {
        let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
        while reader.read_records(1024, Some(&mut definition), Some(&mut repetition), &mut values).unwrap().0 > 0 {}
        let count = if max == 0 { values.len() } else { definition.len() };
        let mut values = values.iter();
        for i in 0..count {
            let (def, rep) = (definition.get(i).copied().unwrap_or(0), repetition.get(i).copied().unwrap_or(0));
            if rep == 0 {
                rows.push(Vec::new());
            }
            let value = (def == max).then(|| show(values.next().unwrap()));
            rows.last_mut().unwrap().push((value, def, rep));
        }
        assert!(values.next().is_none(), "more values than levels");
    }
    let mut rows = Vec::new();
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).unwrap();
        let max = group.metadata().column(leaf).column_descr().max_def_level();
        match group.get_column_reader(leaf).unwrap() {
            ColumnReader::ByteArrayColumnReader(r) => read(r, max, |v| v.data().escape_ascii().to_string(), &mut rows),
            ColumnReader::Int32ColumnReader(r) => read(r, max, |v| v.to_string(), &mut rows),
            ColumnReader::Int64ColumnReader(r) => read(r, max, |v| v.to_string(), &mut rows),
            ColumnReader::DoubleColumnReader(r) => read(r, max, |v| format!("{:x}", v.to_bits()), &mut rows),
            ColumnReader::BoolColumnReader(r) => read(r, max, |v| v.to_string(), &mut rows),
            _ => panic!("no vParquet leaf has this type"),
        }
    }
    rows
}

/// Writes a block and gives its folder.
pub(super) fn write(
    root: &Path,
    config: &Config,
    dedicated: Vec<DedicatedColumn>,
    traces: Vec<Arc<Trace>>,
) -> crate::Result<(PathBuf, BlockMeta)> {
    let store = BlockStore::open_local(root, true)?;
    let tenant = TenantId::single();
    let meta = BlockMeta::new(&tenant, BlockMeta::new_id(), dedicated).with_version(config.block_version.into());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let meta = runtime.block_on(write_block(&store, config, meta, traces))?;
    Ok((root.join(tenant.as_str()).join(meta.block_id.to_string()), meta))
}

/// Where our blocks differ from Tempo's on purpose: leaves (by the start of their path), rule, traces of the corpus.
const EXPLAINED: [(&str, &str, &[&str]); 5] = [
    (
        "rs.ss.",
        "scopes with other attributes are kept apart; Tempo merges them and loses attributes",
        &["8988b388c127d7dcc98046d990930d58"],
    ),
    (
        "rs.ss.Scope.Attrs.",
        "attributes of a scope are in key order; Tempo leaves those of a resource's only scope as they came",
        &["8a70963fd3dd5fda5bbb6f788acf0cfe", "8e5674bf01b78ca99b4917ef7ac87d3f", "98800349c474a52d33d5e6c0bfbef565"],
    ),
    (
        "rs.ss.Spans.Attrs.",
        "long keys and values: Tempo's distributor cuts them, a block stores what it is given",
        &["9b0940f1538fd4462da89b9adf41905c"],
    ),
    (
        "rs.ss.Spans.ChildCount",
        "children are counted below spans that no root leads to, as well",
        &[
            "b6edec78c0f9f7b12b222640bed9ab44",
            "5ea9cefafc80b3bcce4a957800f7fd7a",
            "6121d5fde9b66d62d62282763cb15152",
            "c776ae67a631c4889816ca9a9451680b",
            "ee8a4bdd98a5551f29ebb24cc9c4843f",
            "fb171b5c2d35ed8e2c9a2a80e6ddaad",
        ],
    ),
    (
        "rs.",
        "Tempo loses an empty array whose key has a dedicated column; it is kept in Attrs",
        &["bced8132e8444490ec68d8d6484b2139", "100880f713c95fa13b74bf176dfdebfa"],
    ),
];

/// Writes the spans of Tempo's block `theirs` and tells every unexplained difference in a leaf, as lines.
fn differences(root: &str, set: &str, theirs: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let tempo = meta(theirs);
    let block_version = if tempo.version().unwrap() == Version::V4 { BlockVersion::V4 } else { BlockVersion::V5 };
    let config = Config { block_version, ..Config::default() };
    let (ours, written) = write(dir.path(), &config, tempo.dedicated_columns.clone(), traces(root, set)).unwrap();
    assert_eq!((&written.format, &written.dedicated_columns), (&tempo.format, &tempo.dedicated_columns));
    assert_eq!(written, meta(&ours), "what is returned is what is stored");
    assert_eq!(written.total_objects, tempo.total_objects);
    assert_eq!(std::fs::read(ours.join("index")).unwrap(), std::fs::read(theirs.join("index")).unwrap());
    assert!(written.start_time <= tempo.start_time && written.end_time >= tempo.end_time);
    let (a, b) = (open(&ours), open(theirs));
    assert_eq!(a.metadata().file_metadata().schema(), b.metadata().file_metadata().schema());
    println!("{set}: {} bytes, Tempo {}; footer {}, Tempo {}", written.size, tempo.size, written.footer_size, tempo.footer_size);
    let ids = leaf(&a, 1);
    let mut lines = Vec::new();
    for (i, column) in a.metadata().file_metadata().schema_descr().columns().iter().enumerate() {
        let (our_rows, their_rows, path) = (leaf(&a, i), leaf(&b, i), column.path().string());
        assert_eq!(our_rows.len(), their_rows.len(), "rows of {path}");
        for (row, (x, y)) in our_rows.iter().zip(&their_rows).enumerate().filter(|(_, (x, y))| x != y) {
            let id = ids[row][0].0.as_deref().unwrap();
            let plain = path.replace(".list.element", "");
            if !EXPLAINED.iter().any(|(leaves, _, traces)| plain.starts_with(leaves) && traces.contains(&id)) {
                lines.push(format!("{path} {id}\n   ours {x:?}\n  tempo {y:?}"));
            }
        }
    }
    lines
}

fn set_of(folder: &Path) -> &'static str {
    match meta(folder).total_objects {
        149 => "edge",
        430 => "shop",
        _ => "wrap",
    }
}

#[test]
fn the_schema_is_tempos() {
    for version in VERSIONS {
        for folder in blocks(GOLDEN, version) {
            let meta = meta(&folder);
            let ours = BlockSchema::new(meta.version().unwrap(), &meta.dedicated_columns).unwrap();
            assert_eq!(*ours.root(), *open(&folder).metadata().file_metadata().schema(), "{version}");
        }
    }
}

#[test]
fn leaves_are_tempos() {
    compare_all(GOLDEN);
}

/// The same on a larger corpus, a folder like `tests/golden`, where `TRACEHOUSE_CORPUS` names one (as `.ci/run` does).
#[test]
fn leaves_of_a_larger_corpus_are_tempos() {
    if let Some(corpus) = corpus() {
        compare_all(&corpus);
    }
}

#[allow(clippy::disallowed_methods)] // a test has no settings
pub(super) fn corpus() -> Option<String> {
    std::env::var("TRACEHOUSE_CORPUS").ok()
}

/// A scan leaves out pages by their bounds, and decides on text by its dictionary. parquet-rs writes no bounds for a nested
/// column that has no value at all, which its null count says as well.
#[test]
fn every_leaf_has_both_indexes_and_text_has_a_dictionary() {
    let blob = DedicatedColumn {
        options: vec!["blob".to_owned()],
        ..DedicatedColumn::new(DedicatedScope::Span, "edge.str", DedicatedType::String)
    };
    for (block_version, without) in
        [(BlockVersion::V4, vec!["TraceIDText"]), (BlockVersion::V5, vec!["TraceIDText", "rs.ss.Spans.DedicatedAttributes.String01"])]
    {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { block_version, ..Config::default() };
        let (folder, _) = write(dir.path(), &config, vec![blob.clone()], traces(GOLDEN, "edge")).unwrap();
        let mut no_dictionary = Vec::new();
        for chunk in open(&folder).metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let path = chunk.column_path().string();
            assert!(chunk.offset_index_offset().is_some(), "{path} has no offset index");
            if chunk.statistics().and_then(|s| s.null_count_opt()) == Some(chunk.num_values() as u64) {
                continue;
            }
            // Of generic attributes bounds of pages would tell nothing.
            let generic = path.contains(".Attrs.");
            assert_eq!(chunk.column_index_offset().is_some(), !generic, "{path}: column index");
            let text = chunk.column_descr().logical_type_ref().is_some_and(|t| *t == LogicalType::String);
            if text && chunk.dictionary_page_offset().is_none() {
                no_dictionary.push(path);
            }
        }
        assert_eq!(no_dictionary, without);
    }
}

fn compare_all(root: &str) {
    let mut lines = Vec::new();
    for version in VERSIONS {
        for folder in blocks(root, version) {
            lines.extend(differences(root, set_of(&folder), &folder).into_iter().map(|l| format!("{version} {l}")));
        }
    }
    assert!(lines.is_empty(), "{} differences\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn blooms_and_index_are_tempos() {
    for version in ["vParquet4", "vParquet5"] {
        for folder in blocks(GOLDEN, version) {
            let ids: Vec<_> = traces(GOLDEN, set_of(&folder)).iter().map(|t| t.id).collect();
            let theirs = std::fs::read(folder.join("bloom-0")).unwrap();
            let shard = BloomShard::parse(&theirs).unwrap();
            assert!(ids.iter().all(|id| shard.contains(*id)));
            assert!(!shard.contains(TraceId([7; 16])));
            assert_eq!(shard.to_bytes(), theirs);
            let config = Config::default();
            let ours = Bloom::build(&ids, config.bloom_false_positive, config.bloom_shard_size_bytes);
            assert_eq!(ours.shards(), [shard]);
            assert_eq!(index::to_json(&[ids[ids.len() - 1]]), std::fs::read(folder.join("index")).unwrap());
        }
    }
}

/// Any attribute value, of every kind there is.
fn any_value() -> impl Strategy<Value = AnyValue> {
    let value = |v| AnyValue { value: Some(v) };
    let scalar = prop_oneof![
        "[a-c\"\\\\é]{0,3}".prop_map(Value::StringValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_map(Value::DoubleValue),
        any::<bool>().prop_map(Value::BoolValue),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::BytesValue),
    ];
    let leaf = prop_oneof![4 => scalar.prop_map(value), 1 => Just(AnyValue::default())];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            (inner.clone(), 0..4usize).prop_map(move |(v, n)| value(Value::ArrayValue(ArrayValue { values: vec![v; n] }))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(move |values| value(Value::ArrayValue(ArrayValue { values }))),
            prop::collection::vec(inner, 0..3).prop_map(move |values| {
                let values = values.into_iter().map(|v| KeyValue { key: "k".to_owned(), value: Some(v), ..KeyValue::default() }).collect();
                value(Value::KvlistValue(KeyValueList { values }))
            }),
        ]
    })
}

/// Attributes with keys that repeat, that have dedicated columns, and without values.
fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let keys = ["service.name", "http.method", "http.status_code", "k8s.pod.name", "cluster", "a", "b", ""];
    let attribute = (prop::sample::select(keys.to_vec()), prop::option::of(any_value()));
    prop::collection::vec(attribute.prop_map(|(key, value)| KeyValue { key: key.to_owned(), value, ..KeyValue::default() }), 0..5)
}

/// Span ids from a few, so that spans share ids and trees are broken; the empty one makes roots.
fn id() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![vec![], vec![1; 8], vec![2; 8], vec![3; 8], vec![4]])
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), attributes()).prop_map(|(t, attributes)| Event {
        time_unix_nano: t,
        name: "e".to_owned(),
        attributes,
        dropped_attributes_count: 1,
    });
    let link =
        (id(), attributes()).prop_map(|(span_id, attributes)| Link { trace_id: vec![9; 16], span_id, attributes, ..Link::default() });
    let lists = (attributes(), prop::collection::vec(event, 0..3), prop::collection::vec(link, 0..3));
    // Kinds and statuses that mean something, and any number.
    let number = || prop_oneof![3 => 0..6i32, 1 => any::<i32>()];
    (id(), id(), any::<[u64; 2]>(), number(), prop::option::of(number()), lists).prop_map(
        |(span_id, parent_span_id, [start, end], kind, status, (attributes, events, links))| Span {
            span_id,
            parent_span_id,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            kind,
            attributes,
            events,
            links,
            dropped_attributes_count: u32::MAX,
            status: status.map(|code| Status { code, message: String::new() }),
            ..Span::default()
        },
    )
}

pub(super) fn resource_spans() -> impl Strategy<Value = ResourceSpans> {
    let scope =
        prop::option::of(attributes().prop_map(|attributes| InstrumentationScope { attributes, ..InstrumentationScope::default() }));
    let scope_spans =
        (scope, prop::collection::vec(span(), 0..4)).prop_map(|(scope, spans)| ScopeSpans { scope, spans, ..ScopeSpans::default() });
    let resource = prop::option::of(attributes().prop_map(|attributes| Resource { attributes, ..Resource::default() }));
    (resource, prop::collection::vec(scope_spans, 0..3)).prop_map(|(resource, scope_spans)| ResourceSpans {
        resource,
        scope_spans,
        ..ResourceSpans::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_trace_is_written(
        groups in prop::collection::btree_map(any::<[u8; 16]>(), prop::collection::vec(resource_spans(), 0..3), 1..6),
        row_group_values in 1..2000u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { row_group_values, bloom_shard_size_bytes: 8, ..Config::default() };
        let mut ids: Vec<TraceId> = groups.keys().map(|id| TraceId(*id)).collect();
        let traces: Vec<_> = groups.into_iter().rev().map(|(id, resource_spans)| Arc::new(Trace { id: TraceId(id), resource_spans })).collect();
        let (folder, meta) = write(dir.path(), &config, DedicatedColumn::defaults(), traces).unwrap();
        ids.sort();
        let file = open(&folder);
        let written: Vec<_> = leaf(&file, 0).iter().map(|row| row[0].0.clone().unwrap()).collect();
        prop_assert_eq!(written, ids.iter().map(|id| id.0.escape_ascii().to_string()).collect::<Vec<_>>());
        prop_assert_eq!((meta.total_objects, meta.total_records), (ids.len() as u64, file.num_row_groups() as u32));
        prop_assert_eq!(meta.size, std::fs::metadata(folder.join("data.parquet")).unwrap().len());
        for i in 0..file.metadata().file_metadata().schema_descr().num_columns() {
            prop_assert_eq!(leaf(&file, i).len(), ids.len());
        }
        for id in ids {
            let shard = std::fs::read(folder.join(format!("bloom-{}", shard_of(id, meta.bloom_shards)))).unwrap();
            prop_assert!(BloomShard::parse(&shard).unwrap().contains(id));
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let trace = Arc::new(Trace { id: TraceId([1; 16]), ..Trace::default() });
    let refused = |traces| write(dir.path(), &Config::default(), Vec::new(), traces).unwrap_err().to_string();
    assert_eq!(refused(vec![]), "a block needs at least one trace");
    assert_eq!(refused(vec![trace.clone(), trace]), format!("trace {} occurs twice in one block: merge its parts first", TraceId([1; 16])));
}

#[test]
fn damaged_blooms_are_refused() {
    let shard = Bloom::build(&[TraceId([1; 16])], 0.01, 64).shards()[0].to_bytes();
    assert!(BloomShard::parse(&shard).is_ok());
    for cut in 0..shard.len() {
        assert!(BloomShard::parse(&shard[..cut]).is_err(), "{cut} bytes");
    }
    for header_word in 0..3 {
        let mut damaged = shard.clone();
        damaged[header_word * 8] = 0xff;
        assert!(BloomShard::parse(&damaged).is_err(), "word {header_word}");
    }
}

#[test]
fn a_dedicated_column_holds_the_last_value_of_its_key() {
    use crate::trace::builder::{attributes, int, resource, scope, span, text, trace};
    let dir = tempfile::tempdir().unwrap();
    let with = |values: Vec<Value>| Span { attributes: attributes(values.into_iter().map(|v| ("http.method", v))), ..span(1, 0) };
    let spans = [with(vec![text("a"), int(1), text("b")]), with(vec![text("a"), int(1)])];
    let trace = trace([resource([], [scope("", [], spans)])]);
    let (folder, _) = write(dir.path(), &Config::default(), DedicatedColumn::defaults(), vec![Arc::new(trace)]).unwrap();
    let file = open(&folder);
    let columns = file.metadata().file_metadata().schema_descr().columns().to_vec();
    let values = |path: &str| {
        let at = columns.iter().position(|c| c.path().string() == path).unwrap();
        leaf(&file, at).remove(0).into_iter().map(|e| e.0.unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(values("rs.ss.Spans.DedicatedAttributes.String05"), "b -");
    assert_eq!(values("rs.ss.Spans.Attrs.Value"), "a - a -");
    assert_eq!(values("rs.ss.Spans.Attrs.ValueInt"), "- 1 - 1");
}
