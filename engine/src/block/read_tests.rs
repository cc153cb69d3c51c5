//! Blocks that Tempo wrote (`tests/golden`) against the traces they were made of: every column, every trace, and files that
//! are damaged.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    util::display::{ArrayFormatter, FormatOptions},
};

use super::{
    BlockCache, BlockMeta, BlockReader, CacheSizes,
    write_tests::{GOLDEN, blocks, corpus, meta, traces},
};
use crate::{
    error::{ErrorKind, Result},
    scan::{AttributeReader, AttributeScope, PreparedTrace, Scalar, SpanChunk, SpanColumn, SpanField, flatten, prepare},
    store::{BlockStore, paths},
    tenant::TenantId,
    trace::{KeyValue, ResourceSpans, ScopeSpans, Span, Trace, TraceId},
};

pub(super) const VERSIONS: [&str; 4] = ["vParquet5", "vParquet5-no-dedicated", "vParquet5-many-dedicated", "vParquet4"];

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The data set that a block was made of.
pub(super) fn set_of(meta: &BlockMeta) -> &'static str {
    match meta.total_objects {
        2 => "wrap",
        149 => "edge",
        _ => "shop",
    }
}

/// Opens the block in this folder, which lies as Tempo lays it: `<root>/<tenant>/<id>`.
async fn open(folder: &Path) -> Result<Arc<BlockReader>> {
    let root = folder.ancestors().nth(2).unwrap();
    let store = BlockStore::open_local(root, false)?;
    let tenant: TenantId = folder.parent().unwrap().file_name().unwrap().to_str().unwrap().parse()?;
    BlockReader::open(
        &store,
        &Arc::new(BlockCache::new(CacheSizes { footers: 1, shape_bytes: 1000, ..CacheSizes::default() })),
        &tenant,
        Arc::new(meta(folder)),
    )
    .await
}

/// Every column that can be asked of these traces: all fields, all attributes that occur, and one that does not.
pub(super) fn columns(traces: &[PreparedTrace]) -> Vec<SpanColumn> {
    use AttributeScope::{Event, Instrumentation, Link, Resource, Span};
    let mut keys = BTreeSet::new();
    for trace in traces {
        for (rs, ss, span) in trace.trace().spans() {
            let mut add = |scope, attributes: &[KeyValue]| keys.extend(attributes.iter().map(|kv| (scope, kv.key.clone())));
            add(Resource, rs.resource.as_ref().map_or(&[], |r| &r.attributes));
            add(Instrumentation, ss.scope.as_ref().map_or(&[], |s| &s.attributes));
            add(Span, &span.attributes);
            span.events.iter().for_each(|e| add(Event, &e.attributes));
            span.links.iter().for_each(|l| add(Link, &l.attributes));
        }
    }
    keys.extend([Resource, Instrumentation, Span, Event, Link].map(|scope| (scope, "no such key".to_owned())));
    let attributes = keys.into_iter().flat_map(|(scope, key)| {
        let key: Arc<str> = key.into();
        let json = (!scope.is_repeated()).then(|| SpanColumn::AttributeJson { scope, key: key.clone() });
        std::iter::once(SpanColumn::Attribute { scope, key }).chain(json)
    });
    let others = [
        SpanColumn::EventName,
        SpanColumn::EventTimeSinceStart,
        SpanColumn::LinkTraceId,
        SpanColumn::LinkSpanId,
        SpanColumn::TraceServiceStats,
        SpanColumn::Attributes(Span),
        SpanColumn::Attributes(Resource),
        SpanColumn::Attributes(Instrumentation),
    ];
    SpanField::ALL.into_iter().map(SpanColumn::Field).chain(others).chain(attributes).collect()
}

/// Every entry as text, NULL as "-".
pub(super) fn show(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("-");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|i| formatter.value(i).to_string()).collect()
}

/// The same; sets of attributes sorted, without an empty service name, which blocks do not have.
fn show_column(column: &SpanColumn, array: &ArrayRef) -> Vec<String> {
    if !matches!(column, SpanColumn::Attributes(_)) {
        return show(array);
    }
    let lists = array.as_list::<i32>();
    let read = AttributeReader::new(lists.values()).unwrap();
    let set = |ends: &[i32]| {
        let all = (ends[0] as usize..ends[1] as usize).map(|at| (read.key(at), read.value(at)));
        let mut all: Vec<String> =
            all.filter(|a| *a != ("service.name", Scalar::Text(""))).map(|(key, value)| format!("{key}={value:?}")).collect();
        all.sort();
        all.join(" ")
    };
    lists.value_offsets().windows(2).map(set).collect()
}

async fn chunk(block: &Arc<BlockReader>, row_group: usize) -> Result<Box<dyn SpanChunk>> {
    block.row_group(row_group).open().await
}

/// A difference: column, trace, what the block gives, what the traces give.
pub(super) type Difference = (SpanColumn, String, Vec<String>, Vec<String>);

/// Entries by trace id, in order.
fn by_trace(ids: &[String], entries: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut traces = BTreeMap::<String, Vec<String>>::new();
    for (id, entry) in ids.iter().zip(entries) {
        traces.entry(id.clone()).or_default().push(entry);
    }
    traces
}

/// Every difference between a block and its traces.
pub(super) async fn differences(folder: &Path, traces: &[PreparedTrace]) -> Result<Vec<Difference>> {
    let block = open(folder).await?;
    assert_eq!(block.row_groups(), 0..1);
    let mut chunk = chunk(&block, 0).await?;
    let id_column = SpanColumn::Field(SpanField::TraceId);
    chunk.load(std::slice::from_ref(&id_column)).await?;
    let (ids, due_ids) = (show(&chunk.column(&id_column, None)?), show(&flatten(traces, &id_column)?));
    assert_eq!(chunk.span_count(), ids.len());
    let mut differences = Vec::new();
    let every_third: UInt32Array = (0..ids.len() as u32).step_by(3).collect::<Vec<_>>().into();
    for column in columns(traces) {
        chunk.load(std::slice::from_ref(&column)).await?;
        let found = chunk.column(&column, None)?;
        assert_eq!(found.data_type(), &column.data_type(), "{column:?}");
        assert!(column.field().is_nullable() || found.logical_null_count() == 0, "{column:?}");
        let some = chunk.column(&column, Some(&every_third))?;
        let found = show_column(&column, &found);
        assert_eq!(show_column(&column, &some), found.iter().step_by(3).cloned().collect::<Vec<_>>(), "{column:?}");
        let mut due = by_trace(&due_ids, show_column(&column, &flatten(traces, &column)?));
        for (id, found) in by_trace(&ids, found) {
            let due = due.remove(&id).unwrap();
            if found != due {
                differences.push((column.clone(), id, found, due));
            }
        }
        assert!(due.is_empty());
    }
    Ok(differences)
}

/// Where a block differs from its traces because Tempo lost or changed something: block version and trace (by the start of
/// their names), columns (likewise), what happened.
const LOST: [(&str, &str, &str, &str); 12] = [
    ("", "8988b388c127d7dcc98046d990930d58", "scope_attributes", "scopes of one name and version were merged"),
    ("", "8988b388c127d7dcc98046d990930d58", "instrumentation.", "the same"),
    ("", "9b0940f1538fd4462da89b9adf41905c", "span", "long keys and values were cut"),
    ("vParquet5", "bced8132e8444490ec68d8d6484b2139", "resource_attributes", "dedicated columns do not tell [] from nothing, [x] from x"),
    ("vParquet5", "bced8132e8444490ec68d8d6484b2139", "span_attributes", "the same"),
    ("vParquet5", "100880f713c95fa13b74bf176dfdebfa", "resource_attributes", "the same"),
    ("vParquet5", "100880f713c95fa13b74bf176dfdebfa", "span_attributes", "the same"),
    ("", "8988b388c127d7dcc98046d990930d58", "attributes(instrumentation)", "as above"),
    ("", "9b0940f1538fd4462da89b9adf41905c", "attributes(span)", "as above"),
    ("vParquet5", "bced8132e8444490ec68d8d6484b2139", "attributes(", "as above"),
    ("vParquet5", "100880f713c95fa13b74bf176dfdebfa", "attributes(", "as above"),
    ("vParquet4", "100880f713c95fa13b74bf176dfdebfa", "", "resources that differ in [1] and [true] only were merged"),
];

fn is_lost(version: &str, column: &str, id: &str) -> bool {
    LOST.iter().any(|(v, trace, columns, _)| version.starts_with(v) && id.starts_with(trace) && column.starts_with(columns))
}

/// Every unexplained difference between the blocks of all versions and their traces, as text.
fn unexplained(root: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for version in VERSIONS {
        for folder in blocks(root, version) {
            let set = set_of(&meta(&folder));
            let traces: Vec<_> = traces(root, set).iter().map(|t| prepare(t)).collect();
            let numbered = |t: &&PreparedTrace| t.facts().spans.iter().any(|s| s.left > 0);
            let rootless: BTreeSet<_> = traces.iter().filter(|t| !numbered(t)).map(|t| t.trace().id.to_string()).collect();
            for (column, id, found, due) in block_on(differences(&folder, &traces)).unwrap() {
                let name = column.name();
                // Tempo leaves what it wrote for another trace there.
                let stale = column == SpanColumn::Field(SpanField::ChildCount) && rootless.contains(&id);
                if !stale && !is_lost(version, &name, &id) {
                    lines.push(format!("{version} {set} {name} {id}:\n   block {found:?}\n  traces {due:?}"));
                }
            }
        }
    }
    lines
}

#[test]
fn every_column_of_every_block_equals_its_traces() {
    let lines = unexplained(GOLDEN);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// The same on a larger corpus, a folder like `tests/golden`, where `TRACEHOUSE_CORPUS` names one (as `.ci/run` does).
#[test]
fn every_column_of_the_corpus_equals_its_traces() {
    let Some(corpus) = corpus() else { return };
    let lines = unexplained(&corpus);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// A trace as text, span by span, without what blocks do not keep: the order of spans and attributes, empty messages told
/// from missing ones.
fn spans(trace: &Trace) -> Vec<String> {
    let sorted = |attributes: &[KeyValue]| {
        let mut attributes = attributes.to_vec();
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
        attributes
    };
    let span = |(rs, ss, span): (&ResourceSpans, &ScopeSpans, &Span)| {
        let mut resource = rs.resource.clone().unwrap_or_default();
        resource.attributes = sorted(&resource.attributes);
        let mut scope = ss.scope.clone().unwrap_or_default();
        scope.attributes = sorted(&scope.attributes);
        let mut span = span.clone();
        span.flags = 0;
        span.attributes = sorted(&span.attributes);
        span.status = Some(span.status.unwrap_or_default());
        span.events.iter_mut().for_each(|e| e.attributes = sorted(&e.attributes));
        for link in &mut span.links {
            link.flags = 0;
            link.attributes = sorted(&link.attributes);
        }
        format!("{resource:?} {scope:?} {span:?}")
    };
    let mut all: Vec<String> = trace.spans().map(span).collect();
    all.sort();
    all
}

#[test]
fn every_trace_is_found_by_its_id() {
    for version in VERSIONS {
        for folder in blocks(GOLDEN, version) {
            let set = set_of(&meta(&folder));
            let traces: Vec<_> = traces(GOLDEN, set).iter().map(|t| prepare(t)).collect();
            block_on(async {
                let block = open(&folder).await.unwrap();
                for trace in &traces {
                    let trace = trace.trace();
                    let found = block.find_trace(trace.id).await.unwrap().unwrap();
                    let lost = LOST.iter().any(|(v, id, _, _)| version.starts_with(v) && *id == trace.id.to_string());
                    assert!(lost || spans(&found) == spans(trace), "{version} {set} {}:\n{found:?}\n{trace:?}", trace.id);
                }
                for absent in 0..200u8 {
                    let absent = TraceId([absent; 16]);
                    let due = traces.iter().find(|t| t.trace().id == absent).map(|t| t.trace().id);
                    assert_eq!(block.find_trace(absent).await.unwrap().map(|t| t.id), due);
                }
            });
        }
    }
}

/// A block in memory, whose files can be damaged.
pub(super) struct Damaged {
    store: BlockStore,
    tenant: TenantId,
    meta: Arc<BlockMeta>,
    data: Vec<u8>,
    columns: Vec<SpanColumn>,
    ids: Vec<TraceId>,
}

impl Damaged {
    pub async fn new(folder: &Path) -> Self {
        let traces: Vec<_> = traces(GOLDEN, set_of(&meta(folder))).iter().map(|t| prepare(t)).collect();
        Self::of(folder, &traces).await
    }

    /// A block of these traces.
    pub async fn of(folder: &Path, traces: &[PreparedTrace]) -> Self {
        let meta = Arc::new(meta(folder));
        let store = BlockStore::open("memory:///", []).unwrap();
        let tenant = TenantId::single();
        let bloom = std::fs::read(folder.join("bloom-0")).unwrap();
        store.put(&paths::bloom(&tenant, meta.block_id, 0), bloom).await.unwrap();
        let data = std::fs::read(folder.join("data.parquet")).unwrap();
        let ids = traces.iter().map(|t| t.trace().id).collect();
        Self { store, tenant, meta, data, columns: columns(traces), ids }
    }

    /// The whole file.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The same block with a file of another size.
    pub fn resized(&self, size: u64) -> Self {
        let meta = BlockMeta { size, footer_size: 0, ..self.meta.as_ref().clone() };
        let (columns, ids) = (self.columns.clone(), self.ids.clone());
        Self { store: self.store.clone(), tenant: self.tenant.clone(), meta: Arc::new(meta), data: Vec::new(), columns, ids }
    }

    /// The block's `meta.json`.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Where its files are.
    pub fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Stores this data.
    pub async fn put(&self, data: Vec<u8>) -> Result<()> {
        self.store.put(&paths::data(&self.tenant, self.meta.block_id), data).await
    }

    /// Makes the block visible.
    pub async fn commit(&self) -> Result<()> {
        self.store.put(&paths::meta(&self.tenant, self.meta.block_id), self.meta.to_json()).await
    }

    /// The same block with another `meta.json`.
    pub fn with_meta(&self, meta: BlockMeta) -> Self {
        Self { meta: Arc::new(meta), ..self.resized(0) }
    }

    /// All that can be read of the block with this data: columns and traces as text, or the first error.
    pub async fn read(&self, data: Vec<u8>) -> Result<Vec<String>> {
        self.put(data).await?;
        let block = BlockReader::open(
            &self.store,
            &Arc::new(BlockCache::new(CacheSizes { footers: 0, shape_bytes: 1000, ..CacheSizes::default() })),
            &self.tenant,
            self.meta.clone(),
        )
        .await?;
        let mut all = Vec::new();
        for row_group in block.row_groups() {
            let mut chunk = chunk(&block, row_group).await?;
            chunk.load(&self.columns).await?;
            for column in &self.columns {
                all.extend(show(&chunk.column(column, None)?));
            }
        }
        for id in &self.ids {
            all.push(format!("{:?}", block.find_trace(*id).await?));
        }
        Ok(all)
    }

    /// Damages one byte in `step` and sees that each damage is either an error or does no harm.
    async fn flip_bytes(&self, step: usize) {
        let footer = self.data.len() - self.meta.footer_size as usize - 8;
        let whole = self.read(self.data.clone()).await.unwrap();
        for at in (step / 2..self.data.len()).step_by(step) {
            for flip in [0x01, 0x80, 0xff] {
                let mut data = self.data.clone();
                data[at] ^= flip;
                match self.read(data).await {
                    Ok(read) => {
                        // Nothing guards the footer. The bounds of ids in it are believed, as Tempo believes them.
                        let believed = |read: &String| at >= footer && read == "None";
                        let changed = whole.iter().zip(&read).find(|(w, r)| w != r && !believed(r));
                        assert!(
                            changed.is_none() && read.len() == whole.len(),
                            "byte {at} ^ {flip:#x} changes the answer unnoticed: {changed:?}"
                        );
                    }
                    Err(e) => assert!(!matches!(e.kind(), ErrorKind::Internal | ErrorKind::Invalid), "byte {at} ^ {flip:#x}: {e}"),
                }
            }
        }
    }

    async fn truncate(&self, step: usize) {
        for len in (0..self.data.len()).step_by(step) {
            assert!(self.read(self.data[..len].to_vec()).await.is_err(), "{len} bytes");
        }
    }
}

#[test]
fn what_is_wrong_with_a_block_is_said() {
    block_on(async {
        let folder = small_block("vParquet5");
        let block = Damaged::new(&folder).await;
        let error = block.resized(block.data().len() as u64 + 1).read(block.data().to_vec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("has 24798 bytes, but it has 24797"), "{error}");
        block.resized(0).read(block.data().to_vec()).await.unwrap(); // old metas do not say
        let mut damaged = block.data().to_vec();
        damaged[140] ^= 1; // in a trace id
        let error = block.read(damaged).await.unwrap_err().to_string();
        assert!(error.contains(&block.meta.block_id.to_string()) && error.contains("column "), "{error}");
        // Without its bloom filter a block cannot be searched.
        let reader = BlockReader::open(
            &block.store,
            &Arc::new(BlockCache::new(CacheSizes { footers: 1, shape_bytes: 1000, ..CacheSizes::default() })),
            &block.tenant,
            block.meta.clone(),
        )
        .await
        .unwrap();
        let absent = BlockMeta { block_id: BlockMeta::new_id(), ..block.meta.as_ref().clone() };
        block.store.put(&paths::data(&block.tenant, absent.block_id), block.data().to_vec()).await.unwrap();
        let cache = Arc::new(BlockCache::new(CacheSizes { footers: 1, shape_bytes: 1000, ..CacheSizes::default() }));
        let lost = BlockReader::open(&block.store, &cache, &block.tenant, Arc::new(absent)).await.unwrap();
        let error = lost.find_trace(block.ids[0]).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Data && error.to_string().contains("bloom-0 is missing"), "{error}");
        assert!(reader.find_trace(TraceId([3; 16])).await.unwrap().is_none());
    });
}

#[test]
fn footers_are_kept_up_to_a_number() {
    block_on(async {
        let cache = Arc::new(BlockCache::new(CacheSizes { footers: 2, shape_bytes: 1000, ..CacheSizes::default() }));
        let store = BlockStore::open_local(&Path::new(GOLDEN).join("blocks/vParquet4"), false).unwrap();
        let tenant: TenantId = "single-tenant".parse().unwrap();
        let metas: Vec<_> = blocks(GOLDEN, "vParquet4").iter().map(|f| Arc::new(meta(f))).collect();
        let open = async |meta: &Arc<BlockMeta>| {
            let before = store.counters().0;
            BlockReader::open(&store, &cache, &tenant, meta.clone()).await.unwrap();
            store.counters().0 - before
        };
        assert_eq!([open(&metas[0]).await, open(&metas[1]).await, open(&metas[0]).await, open(&metas[1]).await], [1, 1, 0, 0]);
    });
}

/// A block of the wrap set: small.
pub(super) fn small_block(version: &str) -> PathBuf {
    blocks(GOLDEN, version).into_iter().find(|f| set_of(&meta(f)) == "wrap").unwrap()
}

#[test]
fn damaged_files_give_errors() {
    for (version, step) in [("vParquet5-many-dedicated", 97), ("vParquet4", 131)] {
        block_on(async {
            let block = Damaged::new(&small_block(version)).await;
            block.flip_bytes(step).await;
            block.truncate(997).await;
        });
    }
}
