//! The spans of traces in several parts, with no more than what the facts of a trace follow from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, UInt32Array},
    compute::cast,
    datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType},
};

use super::{WholeTrace, parts::StoredIds};
use crate::{
    Engine,
    block::BlockMeta,
    derive::derive,
    error::{Error, Result},
    scan::{AttributeScope, ChunkSource, LiveChunkSource, LiveSegment, SpanColumn, SpanField},
    tenant::TenantId,
    trace::{AnyValue, KeyValue, Link, Resource, ResourceSpans, ScopeSpans, Span, Status, Trace, TraceId, Value},
};

/// How the OpenTracing bridge says that a link is a parent; see `derive`.
const REF_TYPE: &str = "opentracing.ref_type";
const CHILD_OF: &str = "child_of";

static COLUMNS: LazyLock<Vec<SpanColumn>> = LazyLock::new(|| {
    use SpanField as F;
    let fields = [
        F::SpanId,
        F::ParentSpanId,
        F::KindCode,
        F::StartTime,
        F::EndTime,
        F::StatusCode,
        F::Name,
        F::ServiceName,
        F::ResourceAttributes,
        F::ScopeName,
        F::ScopeVersion,
        F::ScopeAttributes,
        F::NestedSetLeft,
        F::TraceStartTime,
        F::TraceEndTime,
        F::TraceId,
    ];
    let ref_type = SpanColumn::Attribute { scope: AttributeScope::Link, key: Arc::from(REF_TYPE) };
    fields.into_iter().map(SpanColumn::Field).chain([SpanColumn::LinkTraceId, ref_type]).collect()
});

/// A span.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub id: String,
    pub parent: String,
    pub kind: i32,
    pub start: i64,
    pub end: i64,
    pub status: i32,
    pub name: String,
    pub service: String,
    /// Attributes of its resource, as text.
    pub resource: String,
    /// Name, version and attributes of its scope.
    pub scope: [String; 3],
    pub left: i32,
    /// Which part it is in. The rows of a part come in stored order.
    pub part: usize,
    pub part_start: i64,
    pub part_end: i64,
    /// Whether a link names a span of its own trace as its parent.
    pub child_of: bool,
}

/// The spans of the traces `split`, by trace id.
pub(super) async fn read(
    engine: &Engine,
    tenant: &TenantId,
    blocks: &[Arc<BlockMeta>],
    stored: &StoredIds,
    live: &[LiveSegment],
    split: &HashSet<u128>,
) -> Result<HashMap<String, Vec<Row>>> {
    let ids: HashSet<String> = split.iter().map(|id| format!("{id:032x}")).collect();
    let mut found = HashMap::new();
    let mut parts = 0..;
    let mut next = || parts.next().unwrap_or_default();
    for meta in blocks {
        if !stored.of_block(meta.block_id).iter().any(|id| split.contains(id)) {
            continue;
        }
        let block = engine.open_block(tenant, meta).await?;
        for index in block.row_groups() {
            add(block.row_group(index), next(), &ids, &mut found).await.map_err(|e| e.context(format!("block {}", meta.block_id)))?;
        }
    }
    for segment in live {
        let is_split = |t: &&Arc<Trace>| split.contains(&u128::from_be_bytes(t.id.0));
        let traces: Vec<_> = segment.traces.iter().filter(is_split).cloned().collect();
        for some in traces.chunks(engine.config().live_chunk_spans.max(1)) {
            add(Arc::new(LiveChunkSource::new(some.to_vec())), next(), &ids, &mut found).await?;
        }
    }
    Ok(found)
}

async fn add(source: Arc<dyn ChunkSource>, part: usize, ids: &HashSet<String>, found: &mut HashMap<String, Vec<Row>>) -> Result<()> {
    let mut chunk = source.open().await?;
    let id_column = SpanColumn::Field(SpanField::TraceId);
    chunk.load(std::slice::from_ref(&id_column)).await?;
    let all = chunk.column(&id_column, None)?;
    let all = all.as_string_opt::<i32>().ok_or_else(wrong)?;
    let chosen: UInt32Array = (0..all.len()).filter(|row| ids.contains(all.value(*row))).map(|row| row as u32).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    chunk.load(&COLUMNS).await?;
    let columns = COLUMNS.iter().map(|c| chunk.column(c, Some(&chosen))).collect::<Result<Vec<_>>>()?;
    let columns = Columns::new(&columns)?;
    for row in 0..chosen.len() {
        found.entry(columns.text(15, row).to_owned()).or_default().push(Row { part, ..columns.row(row)? });
    }
    Ok(())
}

/// The columns of [`COLUMNS`], texts in plain form.
struct Columns {
    arrays: Vec<ArrayRef>,
    texts: Vec<Option<StringArray>>,
}

impl Columns {
    fn new(arrays: &[ArrayRef]) -> Result<Self> {
        let plain = |array: &ArrayRef| match array.data_type() {
            DataType::Utf8 => Ok(Some(array.as_string::<i32>().clone())),
            DataType::Dictionary(..) => Ok(Some(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())),
            _ => Ok(None),
        };
        Ok(Self { arrays: arrays.to_vec(), texts: arrays.iter().map(plain).collect::<Result<_>>()? })
    }

    fn text(&self, at: usize, row: usize) -> &str {
        self.texts[at].as_ref().filter(|t| t.is_valid(row)).map_or("", |t| t.value(row))
    }

    fn int(&self, at: usize, row: usize) -> Result<i32> {
        Ok(self.arrays[at].as_primitive_opt::<Int32Type>().ok_or_else(wrong)?.value(row))
    }

    fn time(&self, at: usize, row: usize) -> Result<i64> {
        let array = &self.arrays[at];
        if let Some(times) = array.as_primitive_opt::<TimestampNanosecondType>() {
            return Ok(times.value(row));
        }
        Ok(array.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.value(row))
    }

    fn row(&self, row: usize) -> Result<Row> {
        let text = |at| self.text(at, row).to_owned();
        Ok(Row {
            id: text(0),
            parent: text(1),
            kind: self.int(2, row)?,
            start: self.time(3, row)?,
            end: self.time(4, row)?,
            status: self.int(5, row)?,
            name: text(6),
            service: text(7),
            resource: text(8),
            scope: [text(9), text(10), text(11)],
            left: self.int(12, row)?,
            part: 0,
            part_start: self.time(13, row)?,
            part_end: self.time(14, row)?,
            child_of: self.child_of(row)?,
        })
    }

    fn child_of(&self, row: usize) -> Result<bool> {
        let list = |at: usize| self.arrays[at].as_list_opt::<i32>().ok_or_else(wrong);
        let (traces, types) = (list(16)?.value(row), list(17)?.value(row));
        let traces = traces.as_string_opt::<i32>().ok_or_else(wrong)?;
        let types = types.as_struct_opt().ok_or_else(wrong)?;
        let texts = cast(types.column(0), &DataType::Utf8)?;
        let texts = texts.as_string_opt::<i32>().ok_or_else(wrong)?;
        let own = self.text(15, row);
        let says = |i: usize| types.is_valid(i) && texts.is_valid(i) && texts.value(i) == CHILD_OF;
        Ok((0..traces.len().min(texts.len())).any(|i| traces.value(i) == own && says(i)))
    }
}

/// The facts of a trace with these spans, grouped by resource and scope as blocks group them. The order in which they were
/// sent is known within a part only; between parts that of their starts takes its place. A span that several parts hold (blocks
/// of an older Tempo have three copies) has one place and counts once.
pub(super) fn whole(rows: Vec<Row>) -> WholeTrace {
    let last_part_start = rows.iter().map(|r| r.part_start).max().unwrap_or_default();
    let first_part_end = rows.iter().map(|r| r.part_end).min().unwrap_or_default();
    let mut held_by: HashMap<(&str, i32, i64), usize> = HashMap::with_capacity(rows.len());
    let distinct = rows.iter().filter(|r| *held_by.entry((r.id.as_str(), r.kind, r.start)).or_insert(r.part) == r.part);
    let groups: Vec<Vec<Vec<&Row>>> = grouped(distinct.collect(), |r| r.resource.as_str())
        .into_iter()
        .map(|resource| grouped(resource, |r| &r.scope).into_iter().map(ordered).collect())
        .collect();
    let scope_spans = |spans: &Vec<&Row>| ScopeSpans { spans: spans.iter().map(|r| span(r)).collect(), ..ScopeSpans::default() };
    let resource_spans = groups.iter().map(|scopes| ResourceSpans {
        resource: Some(resource(scopes)),
        scope_spans: scopes.iter().map(scope_spans).collect(),
        ..ResourceSpans::default()
    });
    let trace = Trace { id: TraceId::default(), resource_spans: resource_spans.collect() };
    let mut facts = derive(&trace);
    let unnumbered = rows.iter().any(|r| r.parent.is_empty()) && facts.spans.iter().all(|p| p.parent == 0);
    let mut places: HashMap<String, Vec<_>> = HashMap::with_capacity(rows.len());
    for (row, place) in groups.iter().flatten().flatten().zip(std::mem::take(&mut facts.spans)) {
        places.entry(row.id.clone()).or_default().push((row.kind, row.start, row.left, place));
    }
    WholeTrace { facts, last_part_start, first_part_end, unnumbered, places }
}

/// The rows by group: groups in the order in which the parts have them, as far as that tells, else the earliest first.
fn grouped<'a, K: Eq + Hash + 'a + ?Sized>(rows: Vec<&'a Row>, key: impl Fn(&'a Row) -> &'a K) -> Vec<Vec<&'a Row>> {
    let mut by_key: HashMap<&K, (i64, Vec<&Row>)> = HashMap::new();
    let mut sequences: BTreeMap<usize, Vec<&K>> = BTreeMap::new();
    for row in rows {
        let (start, own) = by_key.entry(key(row)).or_insert((row.start, Vec::new()));
        *start = row.start.min(*start);
        own.push(row);
        let sequence = sequences.entry(row.part).or_default();
        if sequence.last() != Some(&key(row)) {
            sequence.push(key(row));
        }
    }
    let order = merged(sequences.into_values().collect(), |k| by_key.get(k).map(|(start, _)| *start));
    order.into_iter().filter_map(|k| by_key.remove(k)).map(|(_, rows)| rows).collect()
}

/// The rows of a group in the order of their parts, as far as that tells, else the earliest first.
fn ordered(rows: Vec<&Row>) -> Vec<&Row> {
    let mut sequences: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        sequences.entry(row.part).or_default().push(at);
    }
    let order = merged(sequences.into_values().collect(), |at| rows.get(*at).map(|r| (r.start, r.id.as_str(), r.kind)));
    order.into_iter().filter_map(|at| rows.get(at).copied()).collect()
}

/// The items of some sequences, each once, in an order that keeps to each sequence; of those that may come next the one with
/// the smallest key comes first.
fn merged<T: Copy + Eq + Hash, K: Ord>(sequences: Vec<Vec<T>>, key: impl Fn(&T) -> K) -> Vec<T> {
    let (mut out, mut done) = (Vec::new(), HashSet::new());
    let mut at = vec![0; sequences.len()];
    loop {
        for (sequence, at) in sequences.iter().zip(&mut at) {
            while sequence.get(*at).is_some_and(|item| done.contains(item)) {
                *at += 1;
            }
        }
        let heads = sequences.iter().zip(&at).filter_map(|(sequence, at)| sequence.get(*at));
        let Some(next) = heads.min_by_key(|item| key(item)).copied() else { return out };
        done.insert(next);
        out.push(next);
    }
}

fn resource(scopes: &[Vec<&Row>]) -> Resource {
    let service = scopes.first().and_then(|spans| spans.first()).map_or("", |row| &row.service);
    Resource { attributes: vec![text("service.name", service)], ..Resource::default() }
}

fn span(row: &Row) -> Span {
    let parent = Link { trace_id: TraceId::default().0.to_vec(), attributes: vec![text(REF_TYPE, CHILD_OF)], ..Link::default() };
    Span {
        span_id: row.id.clone().into_bytes(),
        parent_span_id: row.parent.clone().into_bytes(),
        name: row.name.clone(),
        kind: row.kind,
        start_time_unix_nano: row.start as u64,
        end_time_unix_nano: row.end as u64,
        status: Some(Status { code: row.status, ..Status::default() }),
        links: row.child_of.then_some(parent).into_iter().collect(),
        ..Span::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn wrong() -> Error {
    Error::internal("a column of a trace's parts has an unexpected type")
}
