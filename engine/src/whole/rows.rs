//! The spans of traces in several parts, with no more than what the facts of a trace follow from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
    for meta in blocks {
        if !stored.of_block(meta.block_id).iter().any(|id| split.contains(id)) {
            continue;
        }
        let block = engine.open_block(tenant, meta).await?;
        for index in block.row_groups() {
            add(block.row_group(index), &ids, &mut found).await.map_err(|e| e.context(format!("block {}", meta.block_id)))?;
        }
    }
    for segment in live {
        let is_split = |t: &&Arc<Trace>| split.contains(&u128::from_be_bytes(t.id.0));
        let traces: Vec<_> = segment.traces.iter().filter(is_split).cloned().collect();
        for some in traces.chunks(engine.config().live_chunk_spans.max(1)) {
            add(Arc::new(LiveChunkSource::new(some.to_vec())), &ids, &mut found).await?;
        }
    }
    Ok(found)
}

async fn add(source: Arc<dyn ChunkSource>, ids: &HashSet<String>, found: &mut HashMap<String, Vec<Row>>) -> Result<()> {
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
        found.entry(columns.text(15, row).to_owned()).or_default().push(columns.row(row)?);
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

/// The facts of a trace with these spans. The order in which they were sent is not known any more, so its place is taken by
/// that of their starts: resources and scopes by their first span, as blocks group them, and spans within.
pub(super) fn whole(mut rows: Vec<Row>) -> WholeTrace {
    rows.sort_by(|a, b| (a.start, &a.id, a.kind, a.left).cmp(&(b.start, &b.id, b.kind, b.left)));
    let last_part_start = rows.iter().map(|r| r.part_start).max().unwrap_or_default();
    let first_part_end = rows.iter().map(|r| r.part_end).min().unwrap_or_default();
    let mut order: HashMap<&str, usize> = HashMap::new();
    let mut groups: BTreeMap<usize, Vec<(&[String; 3], Vec<&Row>)>> = BTreeMap::new();
    for row in &rows {
        let next = order.len();
        let group = groups.entry(*order.entry(row.resource.as_str()).or_insert(next)).or_default();
        match group.iter_mut().find(|(scope, _)| **scope == row.scope) {
            Some((_, spans)) => spans.push(row),
            None => group.push((&row.scope, vec![row])),
        }
    }
    let scope_spans = |spans: &Vec<&Row>| ScopeSpans { spans: spans.iter().map(|r| span(r)).collect(), ..ScopeSpans::default() };
    let resource_spans = groups.values().map(|scopes| ResourceSpans {
        resource: Some(resource(scopes)),
        scope_spans: scopes.iter().map(|(_, spans)| scope_spans(spans)).collect(),
        ..ResourceSpans::default()
    });
    let trace = Trace { id: TraceId::default(), resource_spans: resource_spans.collect() };
    let mut facts = derive(&trace);
    let unnumbered = rows.iter().any(|r| r.parent.is_empty()) && facts.spans.iter().all(|p| p.parent == 0);
    let mut places: HashMap<String, Vec<_>> = HashMap::with_capacity(rows.len());
    let sorted = groups.values().flatten().flat_map(|(_, spans)| spans);
    for (row, place) in sorted.zip(std::mem::take(&mut facts.spans)) {
        places.entry(row.id.clone()).or_default().push((row.kind, row.start, row.left, place));
    }
    WholeTrace { facts, last_part_start, first_part_end, unnumbered, places }
}

fn resource(scopes: &[(&[String; 3], Vec<&Row>)]) -> Resource {
    let service = scopes.first().and_then(|(_, spans)| spans.first()).map_or("", |row| &row.service);
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
