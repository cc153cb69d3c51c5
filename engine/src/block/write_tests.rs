//! Blocks we write against the blocks Tempo wrote of the same spans (`tests/golden`), leaf by leaf, and any trace at all.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    file::reader::{FileReader, SerializedFileReader},
};
use proptest::prelude::*;
use prost::Message;

use super::{Bloom, BloomShard, index, schema::BlockSchema, shard_of};
use crate::{
    block::{BlockMeta, DedicatedColumn, write_block},
    config::Config,
    store::BlockStore,
    tenant::TenantId,
    trace::{
        AnyValue, ArrayValue, Event, InstrumentationScope, KeyValue, KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status,
        Trace, TraceId, Value,
    },
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// Where the whole corpus lies on the machines where it was made; see the test that is ignored without it.
const CORPUS: &str = "/work/shared/oracle/public";

/// The folders of Tempo's blocks of one version.
fn blocks(root: &str, version: &str) -> Vec<PathBuf> {
    let folder = Path::new(root).join("blocks").join(version).join("single-tenant");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

fn meta(folder: &Path) -> BlockMeta {
    BlockMeta::from_json(&std::fs::read(folder.join("meta.json")).unwrap(), "meta.json").unwrap()
}

fn open(folder: &Path) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(std::fs::read(folder.join("data.parquet")).unwrap().into()).unwrap()
}

/// All traces of a data set, each with its spans in the order in which they were sent.
fn traces(root: &str, set: &str) -> Vec<Arc<Trace>> {
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
fn write(root: &Path, config: &Config, dedicated: Vec<DedicatedColumn>, traces: Vec<Arc<Trace>>) -> crate::Result<(PathBuf, BlockMeta)> {
    let store = BlockStore::open_local(root, true)?;
    let tenant = TenantId::single();
    let meta = BlockMeta::new(&tenant, BlockMeta::new_id(), dedicated);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let meta = runtime.block_on(write_block(&store, config, meta, traces))?;
    Ok((root.join(tenant.as_str()).join(meta.block_id.to_string()), meta))
}

/// Writes the spans of Tempo's block `theirs` and tells every difference in a leaf, as lines.
fn differences(root: &str, set: &str, theirs: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let tempo = meta(theirs);
    let (ours, written) = write(dir.path(), &Config::default(), tempo.dedicated_columns.clone(), traces(root, set)).unwrap();
    assert_eq!(written, meta(&ours), "what is returned is what is stored");
    assert_eq!(written.total_objects, tempo.total_objects);
    assert_eq!(std::fs::read(ours.join("index")).unwrap(), std::fs::read(theirs.join("index")).unwrap());
    assert!(written.start_time <= tempo.start_time && written.end_time >= tempo.end_time);
    let (a, b) = (open(&ours), open(theirs));
    assert_eq!(a.metadata().file_metadata().schema(), b.metadata().file_metadata().schema());
    let mut lines = Vec::new();
    for (i, column) in a.metadata().file_metadata().schema_descr().columns().iter().enumerate() {
        let (our_rows, their_rows) = (leaf(&a, i), leaf(&b, i));
        assert_eq!(our_rows.len(), their_rows.len(), "rows of {}", column.path());
        for (row, (x, y)) in our_rows.iter().zip(&their_rows).enumerate().filter(|(_, (x, y))| x != y) {
            let id = &leaf(&a, 1)[row][0].0;
            lines.push(format!("{} {}\n   ours {x:?}\n  tempo {y:?}", column.path(), id.as_deref().unwrap_or_default()));
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
    for version in ["vParquet5", "vParquet5-many-dedicated", "vParquet5-no-dedicated"] {
        for folder in blocks(GOLDEN, version) {
            let ours = BlockSchema::new(&meta(&folder).dedicated_columns).unwrap();
            assert_eq!(*ours.root(), *open(&folder).metadata().file_metadata().schema(), "{version}");
        }
    }
}

#[test]
fn leaves_are_tempos() {
    let mut lines = Vec::new();
    for version in ["vParquet5", "vParquet5-many-dedicated", "vParquet5-no-dedicated"] {
        for folder in blocks(GOLDEN, version) {
            lines.extend(differences(GOLDEN, set_of(&folder), &folder).into_iter().map(|l| format!("{version} {l}")));
        }
    }
    assert!(lines.is_empty(), "{} differences\n{}", lines.len(), lines.join("\n"));
}

#[test]
#[ignore = "needs the whole corpus"]
fn leaves_of_the_whole_corpus_are_tempos() {
    let mut lines = Vec::new();
    for version in ["vParquet5", "vParquet5-many-dedicated", "vParquet5-no-dedicated"] {
        for folder in blocks(CORPUS, version) {
            lines.extend(differences(CORPUS, set_of(&folder), &folder).into_iter().map(|l| format!("{version} {l}")));
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
