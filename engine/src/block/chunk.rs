//! A row group as a chunk of a scan: fetches the leaves that the asked columns are made of, and makes the columns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, StringArray, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::file::{metadata::ColumnChunkMetaData, statistics::Statistics};

use super::{
    attribute_json,
    attribute_set::{attribute_set_leaves, coded_attributes, coded_attributes_with},
    attributes::{attribute, first_leaves, key_leaf, value_leaves},
    cached_chunk::CachedChunk,
    coded::{Verdict, coded, coded_at, dictionaries, excluded, rounded_bounds, rounded_leaf},
    fields::{self, Chosen},
    leaves::{depth, scope_path},
    legacy,
    narrow::{Few, bounds_left},
    reader::BlockReader,
    records::{Attributes, EVENT_LEAVES, Events, LINK_LEAVES, Links, attribute_leaves},
    rows::{Rows, head},
    shape::Shape,
};
use crate::{
    error::{Error, Result},
    scan::{
        AttributeScope, ChunkSource, ChunkStats, ChunkTraces, CodedAttributes, CodedColumn, Effort, Passing, SpanChunk, SpanColumn,
        SpanField, ValueTest, attributes_to_json, events_to_json, links_to_json, place, places, span_at,
    },
    store::request_cost,
    trace::TraceId,
};

pub(super) const SPAN_START_LEAF: &str = "rs.ss.Spans.StartTimeUnixNano";
const TRACE_START_LEAF: &str = "StartTimeUnixNano";
const TRACE_ID_LEAF: &str = "TraceID";
/// Fewer than one in this many spans are few.
pub(super) const FEW_OF: usize = 8;
/// Dictionaries up to this size are fetched before it is known that they are needed.
const DICTIONARY_BYTES_AT_ONCE: u64 = 64 * 1024;

/// A row group of a block, to be scanned.
#[derive(Debug)]
pub(super) struct RowGroupSource {
    block: Arc<BlockReader>,
    row_group: usize,
}

impl RowGroupSource {
    pub fn new(block: Arc<BlockReader>, row_group: usize) -> Self {
        Self { block, row_group }
    }

    /// Number of spans by the footer; `None` if it cannot be told without the levels, because some list is empty.
    fn span_count(&self) -> Result<Option<usize>> {
        let leaf = self.block.leaves().require(SPAN_START_LEAF)?;
        let chunk = self.block.chunk(self.row_group, leaf.index)?;
        let full = chunk.statistics().and_then(Statistics::null_count_opt) == Some(0);
        Ok(if full { usize::try_from(chunk.num_values()).ok() } else { None })
    }

    /// The row group, of which nothing is read; without a number of spans if the footer does not tell it.
    fn chunk(&self) -> Result<RowGroupChunk> {
        let traces = self.block.trace_count(self.row_group)?;
        let spans = self.span_count()?;
        let mut chunk = RowGroupChunk {
            rows: Rows::of_row_group(self.block.clone(), self.row_group, spans)?,
            loaded: HashSet::new(),
            in_part: HashMap::new(),
            coded: HashMap::new(),
            traces: None,
            spans: 0,
            flat: None,
            few: None,
            stats: ChunkStats { traces: traces as u64, ..ChunkStats::default() },
            unit: self.block.meta().block_id.as_u128().wrapping_add(self.row_group as u128),
        };
        chunk.set_spans(spans.unwrap_or_default());
        Ok(chunk)
    }
}

#[async_trait]
impl ChunkSource for RowGroupSource {
    async fn open(self: Arc<Self>) -> Result<Box<dyn SpanChunk>> {
        let mut chunk = self.chunk()?;
        if self.span_count()?.is_none() {
            let shape = chunk.rows.shape_leaf();
            chunk.fetch(&[shape]).await?;
            let spans = chunk.rows.shape()?.count(depth::SPAN);
            chunk.set_spans(spans);
        }
        Ok(Box::new(CachedChunk::new(chunk)))
    }

    fn open_in_memory(&self) -> Result<Option<Box<dyn SpanChunk>>> {
        Ok(if self.span_count()?.is_some() { Some(Box::new(CachedChunk::new(self.chunk()?))) } else { None })
    }

    fn describe(&self) -> String {
        format!("block {} row group {}", self.block.meta().block_id, self.row_group)
    }

    fn start_time_bounds(&self) -> Option<(i64, i64)> {
        bounds(self.block.chunk(self.row_group, self.block.leaves().get(SPAN_START_LEAF)?.index).ok()?)
    }
}

/// The least and the greatest value of a chunk by its statistics.
pub(super) fn bounds(chunk: &ColumnChunkMetaData) -> Option<(i64, i64)> {
    let Statistics::Int64(stats) = chunk.statistics()? else { return None };
    let (min, max) = (*stats.min_opt()?, *stats.max_opt()?);
    // The column is unsigned: bounds with the highest bit set would have to be compared otherwise.
    (0 <= min && min <= max).then_some((min, max))
}

/// A row group being scanned, or some traces of it.
#[derive(Debug)]
pub(super) struct RowGroupChunk {
    pub(super) rows: Rows,
    pub(super) loaded: HashSet<SpanColumn>,
    /// Attributes of which only values that may pass are loaded.
    pub(super) in_part: HashMap<SpanColumn, Passing>,
    pub(super) coded: HashMap<SpanColumn, Option<CodedColumn>>,
    pub(super) traces: Option<ChunkTraces>,
    pub(super) spans: usize,
    /// A shape for columns that need none.
    pub(super) flat: Option<Arc<Shape>>,
    /// Columns that are loaded for few spans only.
    pub(super) few: Option<Few>,
    pub(super) stats: ChunkStats,
    /// What tells its spans' places from those of other row groups.
    pub(super) unit: u128,
}

impl RowGroupChunk {
    fn set_spans(&mut self, spans: usize) {
        self.spans = spans;
        self.stats.spans = spans as u64;
    }

    pub(super) async fn fetch<T: AsRef<str>>(&mut self, paths: &[T]) -> Result<()> {
        let paths = self.rows.missing(paths.iter().map(AsRef::as_ref))?;
        if paths.is_empty() {
            return Ok(());
        }
        let wanted = self.rows.wanted(paths)?;
        let ranges: Vec<_> = wanted.iter().flat_map(|leaf| leaf.ranges.iter().cloned()).collect();
        let mut fetched = self.read(&ranges).await?.into_iter();
        for leaf in wanted {
            let of_pages = leaf.of_pages as u64;
            let (read, excluded) = (leaf.pages.as_ref().map_or(of_pages, |pages| pages.len() as u64), leaf.excluded as u64);
            self.stats.pages += of_pages;
            self.stats.pages_excluded += excluded;
            self.stats.pages_without_span += of_pages - read - excluded;
            let bytes = fetched.by_ref().take(leaf.ranges.len());
            self.rows.insert_wanted(leaf, bytes);
        }
        Ok(())
    }

    /// Ranges of the file, counted.
    async fn read(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (requests, bytes) = request_cost(ranges);
        self.stats.requests += requests;
        self.stats.bytes_read += bytes;
        let block = self.rows.block().clone();
        block.read(ranges).await.map_err(|e| e.context(format!("block {}", block.meta().block_id)))
    }

    /// Dictionaries, each by itself.
    async fn fetch_dictionaries(&mut self, mut wanted: Vec<(String, Range<u64>)>) -> Result<()> {
        wanted.retain(|(path, _)| !self.rows.recall_dictionary(path));
        if wanted.is_empty() {
            return Ok(());
        }
        let ranges: Vec<_> = wanted.iter().map(|(_, range)| range.clone()).collect();
        let fetched = self.read(&ranges).await?;
        wanted.into_iter().zip(fetched).try_for_each(|((path, _), page)| self.rows.insert_dictionary(path, page))
    }

    /// Whether the keys are known that a column may be among.
    fn knows_keys(&self, column: &SpanColumn) -> bool {
        let SpanColumn::Attribute { scope, .. } = column else { return false };
        legacy::leaves(&self.rows, column).is_none() && self.rows.is_here(&key_leaf(*scope))
    }

    /// Leaves that a column needs in any case.
    fn leaves(&self, column: &SpanColumn) -> Vec<String> {
        if let Some(paths) = legacy::leaves(&self.rows, column) {
            return paths;
        }
        let own = |paths: &[&str]| paths.iter().filter(|p| self.rows.exists(p)).map(|p| (*p).to_owned()).collect::<Vec<_>>();
        match column {
            SpanColumn::Field(SpanField::Events) => {
                let mut paths = own(&EVENT_LEAVES);
                paths.push(SPAN_START_LEAF.to_owned());
                paths.extend(attribute_leaves(&self.rows, AttributeScope::Event));
                paths
            }
            SpanColumn::Field(SpanField::Links) => {
                let mut paths = own(&LINK_LEAVES);
                paths.extend(attribute_leaves(&self.rows, AttributeScope::Link));
                paths
            }
            SpanColumn::Field(field) => match json_scope(*field) {
                Some(scope) => attribute_leaves(&self.rows, scope),
                None => own(fields::leaves(*field)),
            },
            SpanColumn::Attribute { scope, key } => first_leaves(&self.rows, *scope, key),
            SpanColumn::RoundedStart { seconds } => own(&[&rounded_leaf(*seconds)]),
            SpanColumn::AttributeJson { scope, key } => attribute_json::first(&self.rows, *scope, key),
            SpanColumn::Attributes(scope) => attribute_set_leaves(&self.rows, *scope),
            SpanColumn::Place => Vec::new(),
            SpanColumn::EventName => own(&[head::EVENTS]),
            SpanColumn::EventTimeSinceStart => own(&[fields::EVENT_TIME_LEAF]),
            SpanColumn::LinkTraceId => own(&[head::LINKS]),
            SpanColumn::LinkSpanId => own(&[LINK_LEAVES[1]]),
            SpanColumn::TraceServiceStats => own(&fields::SERVICE_STATS_LEAVES),
        }
    }

    fn make(&mut self, column: &SpanColumn, chosen: Chosen<'_>) -> Result<ArrayRef> {
        let rows = &mut self.rows;
        if legacy::leaves(rows, column).is_some() {
            return legacy::column(rows, column, chosen);
        }
        match column {
            SpanColumn::Field(SpanField::Events) => {
                let (events, starts) = (Events::read(rows)?, rows.int64(SPAN_START_LEAF)?);
                Ok(texts(chosen.spans, self.spans, |span| events_to_json(&events.of(span, starts[span] as u64))))
            }
            SpanColumn::Field(SpanField::Links) => {
                let links = Links::read(rows)?;
                Ok(texts(chosen.spans, self.spans, |span| links_to_json(&links.of(span))))
            }
            SpanColumn::Field(field) => match json_scope(*field) {
                Some(scope) => attributes_text(rows, scope, chosen),
                None => fields::field(rows, *field, chosen),
            },
            SpanColumn::Attribute { scope, key } => {
                let values = attribute(rows, *scope, key)?;
                let list_head = match scope {
                    AttributeScope::Event => head::EVENTS,
                    AttributeScope::Link => head::LINKS,
                    _ => {
                        return match chosen.places(scope_path(*scope).1)? {
                            Some(places) => values.take(&places)?.into_array(),
                            None => values.into_array(),
                        };
                    }
                };
                let (offsets, items) = chosen.lists(&rows.list_offsets(list_head)?, depth::SPAN)?;
                fields::list(offsets, values.take(&items)?.into_array()?)
            }
            SpanColumn::AttributeJson { .. } | SpanColumn::RoundedStart { .. } => {
                Err(Error::internal(format!("column {} is not in codes", column.name())))
            }
            SpanColumn::Attributes(scope) => coded_attributes(rows, *scope)?.lists(chosen.spans, self.spans),
            SpanColumn::Place => {
                let spans = match chosen.spans {
                    Some(spans) => self.in_row_group(spans.values().iter().copied()),
                    None => self.in_row_group(0..self.spans as u32),
                };
                places(spans.into_iter().map(|span| place(self.unit, span)))
            }
            SpanColumn::EventName => fields::event_names(rows, chosen),
            SpanColumn::EventTimeSinceStart => fields::event_times(rows, chosen),
            SpanColumn::LinkTraceId => fields::link_ids(rows, head::LINKS, chosen),
            SpanColumn::LinkSpanId => fields::link_ids(rows, LINK_LEAVES[1], chosen),
            SpanColumn::TraceServiceStats => fields::service_stats(rows, chosen),
        }
    }
}

#[async_trait]
impl SpanChunk for RowGroupChunk {
    fn span_count(&self) -> usize {
        self.spans
    }

    async fn load(&mut self, columns: &[SpanColumn]) -> Result<()> {
        let all: Vec<_> = columns.iter().map(|c| (c.clone(), Passing::ANYTHING)).collect();
        self.load_passing(&all).await
    }

    async fn load_passing(&mut self, columns: &[(SpanColumn, Passing)]) -> Result<()> {
        let new: Vec<&(SpanColumn, Passing)> = columns.iter().filter(|(c, _)| !self.loaded.contains(c)).collect();
        let mut first: Vec<String> = new.iter().flat_map(|(c, _)| self.leaves(c)).collect();
        if new.iter().any(|(c, _)| !self.is_of_spans(c)) {
            first.push(self.rows.shape_leaf().to_owned()); // even what traces have once is given for each span
        }
        // Values of generic attributes are worth fetching only if the key is there at all.
        let (known, open): (Vec<_>, Vec<_>) = new.iter().copied().partition(|(c, _)| self.knows_keys(c));
        for (column, passing) in known {
            if let SpanColumn::Attribute { scope, key } = column {
                first.extend(value_leaves(&self.rows, *scope, key, *passing)?);
            }
        }
        self.fetch(&first).await?;
        let mut values = BTreeSet::new();
        for (column, passing) in open {
            if let (SpanColumn::Attribute { scope, key }, None) = (column, legacy::leaves(&self.rows, column)) {
                values.extend(value_leaves(&self.rows, *scope, key, *passing)?);
            }
            if let SpanColumn::AttributeJson { scope, key } = column {
                values.extend(attribute_json::then(&mut self.rows, *scope, key)?);
            }
        }
        self.fetch(&values.into_iter().collect::<Vec<_>>()).await?;
        for (column, passing) in new.into_iter().cloned() {
            if matches!(column, SpanColumn::Attribute { .. }) && passing != Passing::ANYTHING {
                let here = self.in_part.entry(column).or_insert(Passing::NOTHING);
                *here = here.or(passing);
            } else {
                self.loaded.insert(column);
            }
        }
        Ok(())
    }

    async fn excludes(&mut self, column: &SpanColumn, test: &ValueTest<'_>, effort: Effort) -> Result<bool> {
        loop {
            match excluded(&self.rows, column, test).await? {
                Verdict::Excluded => return Ok(true),
                Verdict::Possible => return Ok(false),
                Verdict::Needs(path, _) if effort == Effort::Memory => {
                    if !self.rows.recall_dictionary(&path) {
                        return Ok(false);
                    }
                }
                Verdict::Needs(path, range) => self.fetch_dictionaries(vec![(path, range)]).await?,
            }
        }
    }

    async fn load_dictionaries(&mut self, columns: &[(&SpanColumn, Passing)]) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for path in columns.iter().flat_map(|(column, _)| dictionaries(&self.rows, column)) {
            if self.rows.is_empty(&path)? {
                continue;
            }
            if let Some(range) = self.rows.dictionary_range(&path)?.filter(|range| range.end - range.start <= DICTIONARY_BYTES_AT_ONCE) {
                wanted.insert(path, range);
            }
        }
        self.fetch_dictionaries(wanted.into_iter().collect()).await
    }

    async fn narrow(&mut self, tests: &[(&SpanColumn, ValueTest<'_>)]) -> Result<()> {
        self.narrow_by_pages(tests).await
    }

    async fn load_for(&mut self, columns: &[SpanColumn], spans: Option<&UInt32Array>) -> Result<()> {
        match spans {
            Some(spans) => self.load_for_some(columns, spans).await,
            None => self.load(columns).await,
        }
    }

    fn bounds(&self, field: SpanField) -> Option<(i64, i64)> {
        use SpanField::{DurationNs, StartTime, TraceDurationNs, TraceEndTime, TraceStartTime};
        match (field, fields::leaves(field)) {
            (StartTime | DurationNs | TraceStartTime | TraceEndTime | TraceDurationNs, [leaf]) => {
                bounds_left(&self.rows, leaf).or_else(|| bounds(self.rows.chunk(leaf).ok()?.1))
            }
            _ => None,
        }
    }

    fn has_rounded_start(&self, seconds: u32) -> bool {
        rounded_bounds(&self.rows, seconds).is_some()
    }

    async fn traces(&mut self) -> Result<Option<ChunkTraces>> {
        if let Some(known) = &self.traces {
            return Ok(Some(known.clone()));
        }
        let shape_leaf = self.rows.shape_leaf();
        self.fetch(&[shape_leaf, TRACE_ID_LEAF, TRACE_START_LEAF]).await?;
        let first_spans = self.rows.shape()?.first_spans(depth::TRACE);
        let (ids, starts) = (self.rows.bytes(TRACE_ID_LEAF)?, self.rows.int64(TRACE_START_LEAF)?);
        let traces = ids.iter().zip(starts.iter()).map(|(bytes, start)| (padded(bytes.unwrap_or_default()), *start)).collect();
        self.traces = Some(ChunkTraces { traces, first_spans });
        Ok(self.traces.clone())
    }

    fn coded_passing(&mut self, column: &SpanColumn, passing: Passing) -> Result<Option<CodedColumn>> {
        if self.loaded.contains(column) {
            return self.coded(column);
        }
        if !self.is_loaded(column, passing) {
            return Ok(None);
        }
        self.checked_spans(column)?;
        coded(&mut self.rows, column, passing)
    }

    fn coded(&mut self, column: &SpanColumn) -> Result<Option<CodedColumn>> {
        self.checked_shape(column)?;
        if let Some(known) = self.coded.get(column) {
            return Ok(known.clone());
        }
        let made = coded(&mut self.rows, column, Passing::ANYTHING)?;
        self.coded.insert(column.clone(), made.clone());
        Ok(made)
    }

    fn coded_at(&mut self, column: &SpanColumn, passing: Passing, spans: &UInt32Array) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
        if self.is_loaded(column, passing) && spans.len() < self.spans / FEW_OF && !self.coded.contains_key(column) {
            self.check_inside(spans)?;
            self.checked_spans(column)?;
            if let Some(found) = coded_at(&mut self.rows, column, spans)? {
                return Ok(Some(found));
            }
        }
        Ok(self.coded_passing(column, passing)?.map(|coded| (coded.values.clone(), coded.codes_of(Some(spans)))))
    }

    fn spans_at(&self, places: &HashSet<i128>) -> Vec<u32> {
        let mut spans: Vec<u32> = places.iter().filter_map(|p| span_at(self.unit, *p)).collect();
        spans.sort_unstable();
        match self.rows.part() {
            Some(part) => part.local(depth::SPAN, spans.into_iter()),
            None => {
                spans.retain(|span| (*span as usize) < self.spans);
                spans
            }
        }
    }

    async fn attributes(&mut self, scope: AttributeScope) -> Result<Arc<CodedAttributes>> {
        self.checked_shape(&SpanColumn::Attributes(scope))?;
        Ok(Arc::new(coded_attributes_with(&mut self.rows, scope, tokio::task::yield_now).await?))
    }

    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        if let (Some(selection), false) = (selection, self.loaded.contains(column))
            && let Some(made) = self.column_of_few(column, selection)?
        {
            return Ok(made);
        }
        let shape = self.checked_shape(column)?;
        selection.map_or(Ok(()), |spans| self.check_inside(spans))?;
        // Looking for an attribute costs much, taking some of what was found little.
        if let SpanColumn::Attribute { .. } | SpanColumn::AttributeJson { .. } | SpanColumn::RoundedStart { .. } = column {
            let found = match selection {
                Some(spans) => self.coded_at(column, Passing::ANYTHING, spans)?,
                None => self.coded(column)?.map(|coded| (coded.values.clone(), coded.codes_of(None))),
            };
            if let Some((values, codes)) = found {
                return Ok(take(&values, &UInt32Array::new(codes, None), None)?);
            }
        }
        self.make(column, Chosen { shape: &shape, spans: selection })
    }

    fn stats(&self) -> ChunkStats {
        self.stats_with_few()
    }
}

impl RowGroupChunk {
    /// The shape, if the column is loaded.
    fn checked_shape(&mut self, column: &SpanColumn) -> Result<Arc<Shape>> {
        if !self.loaded.contains(column) {
            return Err(Error::internal(format!("column {} is used before it is loaded", column.name())));
        }
        self.checked_spans(column)
    }

    /// Whether a column is loaded, or at least those of its values that are `passing`.
    pub(super) fn is_loaded(&self, column: &SpanColumn, passing: Passing) -> bool {
        self.loaded.contains(column) || self.in_part.get(column).is_some_and(|here| here.covers(passing))
    }

    pub(super) fn check_inside(&self, spans: &UInt32Array) -> Result<()> {
        // They ascend.
        match spans.values().last() {
            Some(last) if *last as usize >= self.spans => Err(Error::internal("a span is selected that the chunk does not have")),
            _ => Ok(()),
        }
    }

    /// Whether a column is of leaves that spans have, so that it does not matter what they belong to.
    fn is_of_spans(&self, column: &SpanColumn) -> bool {
        self.rows.knows_spans()
            && legacy::leaves(&self.rows, column).is_none()
            && match column {
                SpanColumn::Field(field) => fields::is_of_spans(*field),
                SpanColumn::Attribute { scope, .. } | SpanColumn::AttributeJson { scope, .. } => *scope == AttributeScope::Span,
                SpanColumn::RoundedStart { .. } | SpanColumn::Place => true,
                _ => false,
            }
    }

    /// The shape, if it has as many spans as are due; if the column does not need it, one of the right number of spans.
    fn checked_spans(&mut self, column: &SpanColumn) -> Result<Arc<Shape>> {
        if self.is_of_spans(column) {
            return Ok(self.flat.get_or_insert_with(|| Arc::new(Shape::of_spans(self.spans))).clone());
        }
        self.known_shape()
    }

    /// The shape, if it has as many spans as are due.
    pub(super) fn known_shape(&mut self) -> Result<Arc<Shape>> {
        let shape = self.rows.shape()?;
        if shape.count(depth::SPAN) != self.spans {
            let (found, due) = (shape.count(depth::SPAN), self.spans);
            let block = self.rows.block().meta().block_id;
            return Err(Error::data(format!("block {block} has {found} spans in a row group where its footer says {due}")));
        }
        Ok(shape)
    }
}

/// A stored trace id: of a shorter one zeros come first, of a longer one the end counts.
fn padded(bytes: &[u8]) -> TraceId {
    let end = &bytes[bytes.len().saturating_sub(16)..];
    let mut id = [0; 16];
    id[16 - end.len()..].copy_from_slice(end);
    TraceId(id)
}

/// The scope whose attributes a field shows as JSON.
fn json_scope(field: SpanField) -> Option<AttributeScope> {
    match field {
        SpanField::ResourceAttributes => Some(AttributeScope::Resource),
        SpanField::ScopeAttributes => Some(AttributeScope::Instrumentation),
        SpanField::SpanAttributes => Some(AttributeScope::Span),
        _ => None,
    }
}

/// The attributes of a scope as JSON text, made once for each resource, scope or span that is chosen.
fn attributes_text(rows: &mut Rows, scope: AttributeScope, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let attributes = Attributes::read(rows, scope)?;
    let at = scope_path(scope).1;
    if at == depth::SPAN {
        return Ok(texts(chosen.spans, chosen.shape.count(at), |span| attributes_to_json(&attributes.of(span))));
    }
    let Some(places) = chosen.places(at)? else { return Err(Error::internal("a resource or scope is not a span")) };
    let mut wanted = vec![false; chosen.shape.count(at)];
    places.values().iter().for_each(|p| wanted[*p as usize] = true);
    let json = |(owner, wanted): (usize, &bool)| if *wanted { attributes_to_json(&attributes.of(owner)) } else { String::new() };
    let made = StringArray::from_iter_values(wanted.iter().enumerate().map(json));
    Ok(take(&made, &places, None)?)
}

/// A text for each of these spans, or for all.
fn texts(spans: Option<&UInt32Array>, count: usize, text: impl Fn(usize) -> String) -> ArrayRef {
    Arc::new(match spans {
        Some(spans) => StringArray::from_iter_values(spans.values().iter().map(|s| text(*s as usize))),
        None => StringArray::from_iter_values((0..count).map(text)),
    })
}
