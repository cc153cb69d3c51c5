//! Finds a trace in a block by its id, and puts its spans together again from the leaves of its row.
//!
//! id -> bloom filter -> row groups whose range of ids includes it -> its row -> the pages that hold the row -> OTLP.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use arrow::{
    array::{Array, BinaryArray},
    buffer::ScalarBuffer,
};
use parquet::file::statistics::Statistics;

use super::{
    leaves::SCOPES,
    narrow::index_of,
    page_index::{Between, LeafIndex},
    reader::BlockReader,
    records::{Attributes, Events, Links, attribute_leaves, event_leaves, link_leaves},
    rows::{Fetched, Rows},
    thrift::{PageLocation, offset_index},
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::AttributeScope,
    trace::{InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span, Status, Trace, TraceId},
};

const ID_LEAF: &str = "TraceID";

/// Leaves of a span that are not attributes, events or links.
const SPAN_LEAVES: [&str; 11] = [
    "rs.ss.Spans.SpanID",
    "rs.ss.Spans.ParentSpanID",
    "rs.ss.Spans.TraceState",
    "rs.ss.Spans.Name",
    "rs.ss.Spans.Kind",
    "rs.ss.Spans.StartTimeUnixNano",
    "rs.ss.Spans.DurationNano",
    "rs.ss.Spans.StatusCode",
    "rs.ss.Spans.StatusMessage",
    "rs.ss.Spans.DroppedAttributesCount",
    "rs.ss.Spans.DroppedEventsCount",
];
const DROPPED_LINKS_LEAF: &str = "rs.ss.Spans.DroppedLinksCount";
const RESOURCE_DROPPED_LEAF: &str = "rs.Resource.DroppedAttributesCount";
const SCOPE_LEAVES: [&str; 3] = ["rs.ss.Scope.Name", "rs.ss.Scope.Version", "rs.ss.Scope.DroppedAttributesCount"];

impl BlockReader {
    /// The spans of a trace in this block; `None` if it has none. Without its bloom filter a block cannot be searched.
    pub async fn find_trace(self: &Arc<Self>, id: TraceId) -> Result<Option<Trace>> {
        match self.cache().may_contain(self.store(), self.tenant(), self.meta(), &[id]).await? == [true] {
            true => self.trace(id).await,
            false => Ok(None),
        }
    }

    /// The same without a look at the bloom filter.
    pub async fn trace(self: &Arc<Self>, id: TraceId) -> Result<Option<Trace>> {
        for row_group in self.row_groups() {
            if !self.may_hold(row_group, id)? {
                continue;
            }
            if self.index_bytes(row_group)? > 0 {
                self.index(row_group).await?;
            }
            if let Some(row) = self.find_row(row_group, id).await? {
                let rows = self.fetch_row(row_group, row).await?;
                return assemble(rows, id).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether the id is between the lowest and the highest of a row group, as far as the footer tells.
    fn may_hold(&self, row_group: usize, id: TraceId) -> Result<bool> {
        let leaf = self.leaves().require(ID_LEAF)?;
        let statistics = self.chunk(row_group, leaf.index)?.statistics().filter(|s| !s.is_min_max_deprecated());
        let Some(Statistics::ByteArray(stats)) = statistics else { return Ok(true) };
        Ok(stats.min_bytes_opt().zip(stats.max_bytes_opt()).is_none_or(|(min, max)| is_between(id, min, max)))
    }

    /// The row of a trace in a row group.
    async fn find_row(self: &Arc<Self>, row_group: usize, id: TraceId) -> Result<Option<usize>> {
        let rows = Rows::new(self.clone(), row_group, self.trace_count(row_group)?);
        let row_in = |ids: &BinaryArray| (0..ids.len()).find(|row| is_id(ids.value(*row), id));
        let Some((index, bounds)) = index_of(&rows, ID_LEAF).filter(|(index, _)| index.dictionary().is_none()) else {
            return Ok(row_in(&self.ids_of(row_group).await?));
        };
        let may_hold = |page: &usize| match bounds.bytes(*page) {
            Between::Values(min, max) => is_between(id, min, max),
            Between::Nothing => false,
            Between::Unknown => true,
        };
        let pages: Vec<usize> = (0..index.len()).filter(may_hold).collect();
        let ranges: Vec<_> = pages.iter().map(|page| index.place(*page)).collect();
        for (page, bytes) in pages.into_iter().zip(self.read(&ranges).await?) {
            let held = index.rows(page);
            let Dense::Bytes(ids) = rows.values_of_page(ID_LEAF, bytes, held.len())? else { continue };
            if let Some(row) = row_in(&ids) {
                return Ok(Some(held.start as usize + row));
            }
        }
        Ok(None)
    }

    /// The ids of the traces of a row group, as stored.
    async fn ids_of(self: &Arc<Self>, row_group: usize) -> Result<BinaryArray> {
        let mut rows = Rows::new(self.clone(), row_group, self.trace_count(row_group)?);
        let paths = BTreeSet::from([ID_LEAF.to_owned()]);
        let ranges = rows.chunk_ranges(&paths)?;
        for (path, bytes) in paths.into_iter().zip(self.read(&ranges).await?) {
            rows.insert(path, Fetched { segments: vec![bytes], row: None, pages: None });
        }
        rows.bytes(ID_LEAF)
    }

    /// The ids of all traces of the block, as big-endian numbers.
    pub async fn trace_ids(self: &Arc<Self>) -> Result<Vec<u128>> {
        let mut all = Vec::new();
        for row_group in self.row_groups() {
            let ids = self.ids_of(row_group).await?;
            // Short ids have zeros in front, of long ones the last 16 bytes count.
            all.extend((0..ids.len()).map(|row| ids.value(row).iter().fold(0u128, |id, byte| id << 8 | u128::from(*byte))));
        }
        Ok(all)
    }

    /// Fetches the pages that hold a row: found by the offset index, or else whole column chunks.
    async fn fetch_row(self: &Arc<Self>, row_group: usize, row: usize) -> Result<Rows> {
        let mut rows = Rows::new(self.clone(), row_group, 1);
        let mut wanted: Vec<String> = SCOPES.into_iter().flat_map(|scope| attribute_leaves(&rows, scope)).collect();
        let fixed = SPAN_LEAVES.iter().chain(&SCOPE_LEAVES).chain(&[DROPPED_LINKS_LEAF, RESOURCE_DROPPED_LEAF]);
        wanted.extend(fixed.filter(|p| rows.exists(p)).map(|p| (*p).to_owned()));
        wanted.extend(event_leaves(&rows));
        wanted.extend(link_leaves(&rows));
        let mut paths = BTreeSet::new();
        for path in rows.missing(wanted.iter().map(String::as_str))? {
            if rows.is_empty(&path)? {
                rows.insert(path, Fetched { segments: Vec::new(), row: Some(row), pages: None });
            } else {
                paths.insert(path);
            }
        }
        let chunks = rows.chunk_ranges(&paths)?;
        let indexes = self.offset_indexes(&rows, &paths).await?;
        let mut ranges = Vec::new();
        let mut places = Vec::new();
        for ((path, chunk), pages) in paths.into_iter().zip(chunks).zip(indexes) {
            let (parts, first_row) = pages_of_row(&chunk, &pages, row).unwrap_or_else(|| (vec![chunk], 0));
            places.push((path, parts.len(), row - first_row));
            ranges.extend(parts);
        }
        let mut bytes = self.read(&ranges).await?.into_iter();
        for (path, parts, row) in places {
            rows.insert(path, Fetched { segments: bytes.by_ref().take(parts).collect(), row: Some(row), pages: None });
        }
        Ok(rows)
    }

    /// The offset index of each leaf; empty where there is none.
    async fn offset_indexes(&self, rows: &Rows, paths: &BTreeSet<String>) -> Result<Vec<Vec<PageLocation>>> {
        if self.known_index(rows.row_group()).is_some() {
            return Ok(paths.iter().map(|path| rows.page_index(path).map(LeafIndex::into_locations).unwrap_or_default()).collect());
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for path in paths {
            let (_, chunk) = rows.chunk(path)?;
            let place = chunk.offset_index_offset().zip(chunk.offset_index_length());
            let place = place.and_then(|(start, len)| {
                let start = u64::try_from(start).ok()?;
                let end = start.checked_add(u64::try_from(len).ok()?)?;
                (end <= self.data_len()).then_some(start..end)
            });
            match place {
                Some(range) => ranges.push(range),
                None => return Ok(vec![Vec::new(); paths.len()]),
            }
        }
        self.read(&ranges).await?.iter().zip(paths).map(|(bytes, path)| offset_index(bytes).map_err(|e| e.context(path))).collect()
    }
}

/// Whether an id is between the lowest and the highest of some. Ids that are not 16 bytes long sort otherwise than the ids they
/// stand for, and bounds may be cut off.
fn is_between(id: TraceId, min: &[u8], max: &[u8]) -> bool {
    min.len() != 16 || max.len() != 16 || min <= &id.0[..] && &id.0[..] <= max
}

/// Ids shorter than 16 bytes stand for ids with zeros in front; of longer ones the last 16 bytes count.
fn is_id(stored: &[u8], id: TraceId) -> bool {
    let stored = &stored[stored.len().saturating_sub(16)..];
    let (padding, rest) = id.0.split_at(16 - stored.len());
    rest == stored && padding.iter().all(|b| *b == 0)
}

/// Byte ranges of the dictionary and of the page that holds a row, and the number of the page's first row. `None` if the
/// index does not make sense.
fn pages_of_row(chunk: &Range<u64>, pages: &[PageLocation], row: usize) -> Option<(Vec<Range<u64>>, usize)> {
    let first = pages.first()?;
    let page = pages[..pages.partition_point(|p| p.first_row <= row as u64)].last()?;
    let end = page.offset.checked_add(page.len)?;
    if first.offset < chunk.start || page.offset < first.offset || end > chunk.end {
        return None;
    }
    let mut parts = Vec::new();
    if first.offset > chunk.start {
        parts.push(chunk.start..first.offset);
    }
    parts.push(page.offset..end);
    Some((parts, usize::try_from(page.first_row).ok()?))
}

/// Everything about the spans of one trace, decoded.
struct SpanReader {
    id: TraceId,
    ids: BinaryArray,
    parents: BinaryArray,
    states: Text,
    names: Text,
    kinds: ScalarBuffer<i64>,
    starts: ScalarBuffer<i64>,
    durations: ScalarBuffer<i64>,
    statuses: ScalarBuffer<i64>,
    messages: Text,
    dropped: [ScalarBuffer<i32>; 3],
    attributes: Attributes,
    events: Events,
    links: Links,
}

impl SpanReader {
    fn read(rows: &mut Rows, id: TraceId) -> Result<Self> {
        let [ids, parents, states, names, kinds, starts, durations, statuses, messages, dropped, dropped_events] = SPAN_LEAVES;
        Ok(Self {
            id,
            ids: rows.bytes(ids)?,
            parents: rows.bytes(parents)?,
            states: rows.text(states)?,
            names: rows.text(names)?,
            kinds: rows.int64(kinds)?,
            starts: rows.int64(starts)?,
            durations: rows.int64(durations)?,
            statuses: rows.int64(statuses)?,
            messages: rows.text(messages)?,
            dropped: [rows.int32(dropped)?, rows.int32(dropped_events)?, rows.int32(DROPPED_LINKS_LEAF)?],
            attributes: Attributes::read(rows, AttributeScope::Span)?,
            events: Events::read(rows)?,
            links: Links::read(rows)?,
        })
    }

    fn span(&self, at: usize) -> Result<Span> {
        let number = |n: i64| i32::try_from(n).map_err(|_| Error::data(format!("{n} is not a span kind or status")));
        let start = self.starts[at] as u64;
        let (code, message) = (number(self.statuses[at])?, self.messages.get(at).to_owned());
        Ok(Span {
            trace_id: self.id.0.to_vec(),
            span_id: self.ids.value(at).to_vec(),
            trace_state: self.states.get(at).to_owned(),
            parent_span_id: self.parents.value(at).to_vec(),
            name: self.names.get(at).to_owned(),
            kind: number(self.kinds[at])?,
            start_time_unix_nano: start,
            end_time_unix_nano: start.wrapping_add(self.durations[at] as u64),
            attributes: self.attributes.of(at),
            dropped_attributes_count: self.dropped[0][at] as u32,
            events: self.events.of(at, start),
            dropped_events_count: self.dropped[1][at] as u32,
            links: self.links.of(at),
            dropped_links_count: self.dropped[2][at] as u32,
            status: Some(Status { code, message }),
            ..Span::default()
        })
    }
}

/// Counts of dropped attributes, where the version has them.
fn dropped_counts(rows: &mut Rows, path: &str) -> Result<Option<ScalarBuffer<i32>>> {
    if rows.exists(path) { rows.int32(path).map(Some) } else { Ok(None) }
}

/// Puts a trace together from its row.
fn assemble(mut rows: Rows, id: TraceId) -> Result<Trace> {
    let rows = &mut rows;
    let shape = rows.shape()?;
    let spans = SpanReader::read(rows, id)?;
    let resources = Attributes::read(rows, AttributeScope::Resource)?;
    let resources_dropped = dropped_counts(rows, RESOURCE_DROPPED_LEAF)?;
    let scopes = Attributes::read(rows, AttributeScope::Instrumentation)?;
    let (names, versions, dropped) = (rows.text(SCOPE_LEAVES[0])?, rows.text(SCOPE_LEAVES[1])?, dropped_counts(rows, SCOPE_LEAVES[2])?);
    let members = |offsets: &[u32], at: usize| offsets[at] as usize..offsets[at + 1] as usize;
    let scope_spans = |at: usize| -> Result<ScopeSpans> {
        let scope = InstrumentationScope {
            name: names.get(at).to_owned(),
            version: versions.get(at).to_owned(),
            attributes: scopes.of(at),
            dropped_attributes_count: dropped.as_ref().map_or(0, |d| d[at] as u32),
        };
        let spans = members(shape.spans(), at).map(|s| spans.span(s)).collect::<Result<_>>()?;
        Ok(ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() })
    };
    let resource_spans = |at: usize| -> Result<ResourceSpans> {
        let dropped_attributes_count = resources_dropped.as_ref().map_or(0, |d| d[at] as u32);
        let resource = Resource { attributes: resources.of(at), dropped_attributes_count, ..Resource::default() };
        let scope_spans = members(shape.scopes(), at).map(scope_spans).collect::<Result<_>>()?;
        Ok(ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() })
    };
    Ok(Trace { id, resource_spans: members(shape.resources(), 0).map(resource_spans).collect::<Result<_>>()? })
}
