//! The leaves of one row group (or of one row of it): fetched on demand, decoded once, checked against each other.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{BooleanBufferBuilder, StringArray, UInt32Array},
    buffer::BooleanBuffer,
};
use bytes::Bytes;
use parquet::file::{metadata::ColumnChunkMetaData, statistics::Statistics};

use super::{
    chunk_cache::{ChunkCache, Place},
    dictionary::is_all_dictionary,
    keys::{Hits, Keys, Picked, pick},
    leaf::{Leaf, LeafPages, Owners},
    leaves::{LeafColumn, depth},
    page_index::LeafIndex,
    pages::CHUNK_ENTRIES_MAX,
    reader::{BlockReader, chunk_range},
    row_levels::RowMemo,
    row_values::RowValues,
    shape::Shape,
    some_rows::{Part, SomeRows},
    values::{Dense, Text},
};
use crate::error::{Error, Result};

/// The leaf that gives the shape where there is no `ss.SpanCount`.
const SPAN_LEAF: &str = "rs.ss.Spans.Kind";
const SPAN_COUNT: &str = "rs.ss.SpanCount";
/// Fewer than one in this many things are few.
const FEW_OF: usize = 8;

/// The leaf of a list's items that says what each item belongs to. Leaves of the same items need not be asked.
pub(super) mod head {
    pub const EVENTS: &str = "rs.ss.Spans.Events.Name";
    pub const LINKS: &str = "rs.ss.Spans.Links.TraceID";
    pub const SERVICE_STATS: &str = "ServiceStats.ServiceName";
    pub const ATTRIBUTES_SUFFIX: &str = ".Attrs.Key";
}

/// Bytes of a leaf.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Whole pages; none if the leaf [has no value](Rows::is_empty).
    pub segments: Vec<Bytes>,
    /// The one row to decode, counted from the first data page.
    pub row: Option<usize>,
    /// The rows of each data page, if these are not all pages of the leaf.
    pub pages: Option<Vec<Range<u32>>>,
}

/// What is to be fetched of a leaf.
#[derive(Debug)]
pub(super) struct Wanted {
    pub path: String,
    /// Its places in the file; each holds whole pages.
    pub ranges: Vec<Range<u64>>,
    /// As in [`Fetched`].
    pub pages: Option<Vec<Range<u32>>>,
    /// Number of the leaf's data pages, if the page index is known.
    pub of_pages: usize,
    /// How many of them hold no row that the bounds of pages left.
    pub excluded: usize,
}

/// Decoded leaves of a row group.
#[derive(Debug)]
pub(super) struct Rows {
    block: Arc<BlockReader>,
    row_group: usize,
    /// Traces in these rows: all of the row group, or one.
    traces: usize,
    fetched: HashMap<String, Fetched>,
    /// Dictionaries that were fetched by themselves: their pages, and what is in them.
    pub(super) dictionaries: HashMap<String, (Bytes, StringArray)>,
    /// Where the one row was found in leaves that were decoded.
    memo: RowMemo,
    pub(super) decoded: HashMap<String, Arc<Leaf>>,
    /// Keys of generic attributes, where they can be searched as codes.
    keys: HashMap<String, Option<Arc<Keys>>>,
    shape: Option<Arc<Shape>>,
    /// Number of spans, if the footer tells: then what is below spans needs no shape.
    spans: Option<usize>,
    /// Which rows of the row group these are, if not all or one.
    part: Option<Arc<Part>>,
    /// Data pages decompressed so far.
    opened: AtomicU64,
}

impl Rows {
    /// Nothing fetched yet. `traces` is the number of rows that will be.
    pub fn new(block: Arc<BlockReader>, row_group: usize, traces: usize) -> Self {
        Self {
            block,
            row_group,
            traces,
            fetched: HashMap::new(),
            dictionaries: HashMap::new(),
            memo: RowMemo::default(),
            decoded: HashMap::new(),
            keys: HashMap::new(),
            shape: None,
            spans: None,
            part: None,
            opened: AtomicU64::new(0),
        }
    }

    /// All rows of a row group, of which the footer may tell the number of spans, and an earlier reader how they belong together.
    pub fn of_row_group(block: Arc<BlockReader>, row_group: usize, spans: Option<usize>) -> Result<Self> {
        let traces = block.trace_count(row_group)?;
        let shape = block.known_shape(row_group).map(|known| Arc::new(known.into()));
        Ok(Self { spans, shape, ..Self::new(block, row_group, traces) })
    }

    /// Some of these rows. What is decoded is known of them, too, and so are dictionaries.
    pub fn of_part(&self, part: Arc<Part>) -> Result<Self> {
        let shape = Arc::new(part.whole().of_traces(part.rows())?);
        let mut some = Self::new(self.block.clone(), self.row_group, part.rows().len());
        some.spans = self.spans.map(|_| shape.count(depth::SPAN));
        some.dictionaries = self.dictionaries.clone();
        for (path, leaf) in &self.decoded {
            let Ok((column, chunk)) = self.chunk(path) else { continue };
            let entries = usize::try_from(chunk.num_values()).unwrap_or_default();
            if let (Some(at), None) = (counted_at(path, column, entries, &part), &leaf.owners) {
                let things = part.things(at).flatten();
                let own = match &self.part {
                    Some(own) => own.local(at, things),
                    None => things.collect(),
                };
                let values = leaf.values.pick(&own)?;
                some.decoded.insert(path.clone(), Arc::new(Leaf { values, owners: None }));
            }
        }
        (some.shape, some.part) = (Some(shape), Some(part));
        Ok(some)
    }

    /// Which rows of the row group these are; `None` if all or one.
    pub fn part(&self) -> Option<&Arc<Part>> {
        self.part.as_ref()
    }

    /// Number of traces in these rows.
    pub fn trace_count(&self) -> usize {
        self.traces
    }

    /// Number of spans, if it is known without the shape.
    pub fn span_count(&self) -> Option<usize> {
        self.spans
    }

    /// What is remembered of row groups.
    pub fn cache(&self) -> &ChunkCache {
        self.block.remembered()
    }

    /// The row group as the cache calls it.
    pub fn place(&self) -> Place {
        (self.block.meta().block_id, self.row_group)
    }

    /// Number of the row group.
    pub fn row_group(&self) -> usize {
        self.row_group
    }

    /// Data pages decompressed so far.
    pub fn pages_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The data pages of a leaf, if the page index was read and makes sense.
    pub fn page_index(&self, path: &str) -> Option<LeafIndex> {
        let (_, chunk) = self.chunk(path).ok()?;
        let place = chunk_range(chunk, self.block.data_len()).ok()?;
        self.block.known_index(self.row_group)?.pages(chunk, &place, self.block.trace_count(self.row_group).ok()?)
    }

    /// Whether the number of spans is known without the shape.
    pub fn knows_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Number of things at a depth, from trace to span.
    pub fn count(&mut self, at: u32) -> Result<usize> {
        match (at, self.spans) {
            (depth::SPAN, Some(spans)) => Ok(spans),
            _ => Ok(self.shape()?.count(at)),
        }
    }

    /// The block these rows are of.
    pub fn block(&self) -> &Arc<BlockReader> {
        &self.block
    }

    /// The leaf and what the footer says about it.
    pub fn chunk(&self, path: &str) -> Result<(&LeafColumn, &ColumnChunkMetaData)> {
        let column = self.block.leaves().require(path)?;
        Ok((column, self.block.chunk(self.row_group, column.index)?))
    }

    /// Whether the block has this leaf.
    pub fn exists(&self, path: &str) -> bool {
        self.block.leaves().get(path).is_some()
    }

    /// These leaves and those needed to make sense of them, without those that are here already.
    pub fn missing<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for path in paths {
            let mut next = Some(path.to_owned());
            while let Some(path) = next {
                next = self.owner_leaf(&path)?;
                all.insert(path);
            }
        }
        all.retain(|path| !self.fetched.contains_key(path) && !self.decoded.contains_key(path) && !self.is_shape_done(path));
        Ok(all)
    }

    /// Whether the footer says that a leaf has no value at all: what is asked of it is known without its pages.
    pub fn is_empty(&self, path: &str) -> Result<bool> {
        let (_, chunk) = self.chunk(path)?;
        let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
        Ok(path != self.shape_leaf() && nulls.is_some() && nulls == u64::try_from(chunk.num_values()).ok())
    }

    /// A leaf without values, of which there are `due` owners.
    fn empty_leaf(&self, path: &str, due: usize) -> Result<Leaf> {
        let (column, _) = self.chunk(path)?;
        let values = RowValues::new(column.physical, column.text)?.finish()?;
        if column.is_required() && !is_head(path) {
            return match due {
                0 => Ok(Leaf { values, owners: None }),
                _ => Err(self.wrong(path, Error::data(format!("values for 0 instead of {due}")))),
            };
        }
        Ok(Leaf { values, owners: Some(Owners { of_value: Vec::new(), count: due }) })
    }

    fn is_shape_done(&self, path: &str) -> bool {
        self.shape.is_some() && path == SPAN_COUNT
    }

    /// Whether a leaf was fetched, has values, and none of them is decoded.
    pub(super) fn is_undecoded(&self, path: &str) -> bool {
        !self.decoded.contains_key(path) && self.fetched.get(path).is_some_and(|fetched| !fetched.segments.is_empty())
    }

    /// Whether a leaf is undecoded and all its pages hold dictionary codes.
    pub(super) fn is_stored_as_codes(&self, path: &str) -> Result<bool> {
        Ok(self.is_undecoded(path) && is_all_dictionary(self.chunk(path)?.1))
    }

    /// Whether a leaf, or its dictionary, was fetched.
    pub fn is_here(&self, path: &str) -> bool {
        self.dictionaries.contains_key(path) || self.fetched.contains_key(path) || self.decoded.contains_key(path)
    }

    /// Hands over fetched bytes.
    pub fn insert(&mut self, path: String, fetched: Fetched) {
        self.fetched.insert(path, fetched);
    }

    /// The leaf that numbers the things which values of `path` belong to; `None` for traces.
    fn owner_leaf(&self, path: &str) -> Result<Option<String>> {
        let column = self.block.leaves().require(path)?;
        let (group, name) = path.rsplit_once('.').unwrap_or(("", path));
        let group = group.strip_suffix(".DedicatedAttributes").unwrap_or(group);
        let of_group = |group: &str| match group {
            "rs.ss.Spans.Events" => Some(head::EVENTS),
            "rs.ss.Spans.Links" => Some(head::LINKS),
            _ => None,
        };
        // The number of spans is known without the shape.
        let of_span = column.depth - u32::from(is_head(path)) == depth::SPAN;
        if of_span && self.spans.is_some() && (!group.ends_with(".Attrs") || name == "Key") && path != self.shape_leaf() {
            return Ok(None);
        }
        Ok(match group.strip_suffix(".Attrs") {
            Some(owner) if name == "Key" => Some(of_group(owner).map_or_else(|| self.shape_leaf().to_owned(), str::to_owned)),
            Some(_) => Some(format!("{group}.Key")),
            None if group == "ServiceStats" => (path != head::SERVICE_STATS).then(|| head::SERVICE_STATS.to_owned()),
            None if path == head::EVENTS || path == head::LINKS => Some(self.shape_leaf().to_owned()),
            None if path == self.shape_leaf() || column.depth == depth::TRACE => None,
            None => Some(of_group(group).unwrap_or(self.shape_leaf()).to_owned()),
        })
    }

    /// The leaf that gives the shape.
    pub fn shape_leaf(&self) -> &'static str {
        if self.exists(SPAN_COUNT) { SPAN_COUNT } else { SPAN_LEAF }
    }

    /// The number of things that values of `path` belong to, by the leaf that numbers them.
    pub(super) fn owner_count(&mut self, path: &str) -> Result<usize> {
        let (column, _) = self.chunk(path)?;
        let depth = if is_head(path) { column.depth - 1 } else { column.depth };
        match self.owner_leaf(path)? {
            Some(owner) if is_head(&owner) => Ok(self.leaf(&owner)?.values.len()),
            _ if depth == depth::TRACE => Ok(self.traces),
            _ => self.count(depth),
        }
    }

    /// The shape of the rows.
    pub fn shape(&mut self) -> Result<Arc<Shape>> {
        if let Some(shape) = &self.shape {
            return Ok(shape.clone());
        }
        let path = self.shape_leaf();
        let row = self.fetched.get(path).and_then(|f| f.row);
        let shape = self.with_pages(path, |pages| {
            let (values, levels) = pages.decode_with_levels()?;
            if path == SPAN_COUNT { Shape::from_span_counts(levels, &values) } else { Shape::from_span_levels(&levels) }
        })?;
        if shape.count(depth::TRACE) != self.traces {
            let (found, due) = (shape.count(depth::TRACE), self.traces);
            return Err(self.wrong(path, Error::data(format!("{found} rows instead of {due}"))));
        }
        if let (None, None, Some(known)) = (row, &self.part, shape.span_counts()) {
            self.block.remember_shape(self.row_group, known.clone());
        }
        let shape = Arc::new(shape);
        self.shape = Some(shape.clone());
        Ok(shape)
    }

    /// A leaf, decoded. Values that may be missing or repeated come with what they belong to, and so do list heads.
    pub fn leaf(&mut self, path: &str) -> Result<Arc<Leaf>> {
        if let Some(leaf) = self.decoded.get(path) {
            return Ok(leaf.clone());
        }
        let due = self.owner_count(path)?;
        // Of a row without anything that could have a value there is nothing to decode either.
        if self.fetched.get(path).is_some_and(|f| f.segments.is_empty() || due == 0 && f.row.is_some()) {
            let leaf = Arc::new(self.empty_leaf(path, due)?);
            self.decoded.insert(path.to_owned(), leaf.clone());
            return Ok(leaf);
        }
        let leaf = self.with_pages(path, |pages| {
            let column = pages.column;
            let owner_depth = match column.is_required() {
                false => Some(column.depth),
                true => is_head(path).then(|| column.depth - 1),
            };
            let leaf = pages.decode(owner_depth)?;
            let found = leaf.owners.as_ref().map_or(leaf.values.len(), |o| o.count);
            if found == due { Ok(leaf) } else { Err(Error::data(format!("values for {found} instead of {due}"))) }
        })?;
        let leaf = Arc::new(leaf);
        self.decoded.insert(path.to_owned(), leaf.clone());
        if path != self.shape_leaf() {
            self.fetched.remove(path);
        }
        Ok(leaf)
    }

    /// The values of these things, ascending, of a leaf that each thing has exactly one of. If they are few, pages without
    /// any of them are passed over, and nothing is remembered.
    pub fn values_at(&mut self, path: &str, things: &UInt32Array) -> Result<Dense> {
        let due = self.owner_count(path)?;
        let few = things.len() < due / FEW_OF && self.chunk(path)?.0.is_required() && !self.decoded.contains_key(path);
        if few && !is_head(path) && path != self.shape_leaf() {
            return self.with_pages(path, |pages| pages.decode_at(things.values(), due));
        }
        let leaf = self.leaf(path)?;
        leaf.values.pick(things.values()).map_err(|e| self.wrong(path, e))
    }

    /// A leaf that each of its things has at most one value of, and which have one (`None`: all); `None` if some has more.
    /// Not remembered.
    pub fn optional(&mut self, path: &str) -> Result<Option<(Dense, Option<BooleanBuffer>)>> {
        let due = self.owner_count(path)?;
        if let Some(leaf) = self.decoded.get(path) {
            let Some(owners) = &leaf.owners else { return Ok(Some((leaf.values.clone(), None))) };
            let mut present = BooleanBufferBuilder::new(owners.count);
            present.append_n(owners.count, false);
            owners.of_value.iter().for_each(|owner| present.set_bit(*owner as usize, true));
            let present = present.finish();
            let single = present.count_set_bits() == owners.of_value.len();
            return Ok(single.then(|| (leaf.values.clone(), Some(present))));
        }
        self.with_pages(path, |pages| pages.decode_optional(due))
    }

    /// The keys of generic attributes; `None` if they cannot be searched as codes, or are decoded as a leaf already.
    pub fn keys(&mut self, path: &str) -> Result<Option<Arc<Keys>>> {
        if self.part.is_some() || self.decoded.contains_key(path) || self.fetched.get(path).is_none_or(|f| f.row.is_some()) {
            return Ok(None);
        }
        if let Some(known) = self.keys.get(path) {
            return Ok(known.clone());
        }
        let owners = self.owner_count(path)?;
        let keys = self.with_pages(path, |pages| Keys::decode(&pages, owners))?.map(Arc::new);
        self.keys.insert(path.to_owned(), keys.clone());
        Ok(keys)
    }

    /// The values that attributes found among `keys` have in a leaf of values.
    pub fn picked(&self, path: &str, keys: &Keys, hits: &Hits) -> Result<Picked> {
        self.with_pages(path, |pages| pick(&pages, keys.entries(), &hits.entries))
    }

    pub(super) fn with_pages<T>(&self, path: &str, work: impl FnOnce(LeafPages<'_>) -> Result<T>) -> Result<T> {
        let fetched = self.fetched.get(path).ok_or_else(|| Error::internal(format!("column {path} is used before it is loaded")))?;
        self.with_segments(path, &fetched.segments, (fetched.row, fetched.pages.as_deref()), work)
    }

    pub(super) fn with_segments<T>(
        &self,
        path: &str,
        segments: &[Bytes],
        (row, pages): (Option<usize>, Option<&[Range<u32>]>),
        work: impl FnOnce(LeafPages<'_>) -> Result<T>,
    ) -> Result<T> {
        let (column, chunk) = self.chunk(path)?;
        let entries = usize::try_from(chunk.num_values()).ok().filter(|n| *n <= CHUNK_ENTRIES_MAX);
        let entries = entries.ok_or_else(|| self.wrong(path, Error::data(format!("{} values", chunk.num_values()))))?;
        let some = self.part.as_ref().map(|part| SomeRows { part, pages, counted: counted_at(path, column, entries, part) });
        let (codec, memo, opened) = (chunk.compression(), Some(&self.memo), Some(&self.opened));
        work(LeafPages { column, segments, codec, entries, row, memo, some, opened }).map_err(|e| self.wrong(path, e))
    }

    /// The values of one page of a leaf of which each of the page's `rows` has one.
    pub fn values_of_page(&self, path: &str, page: Bytes, rows: usize) -> Result<Dense> {
        let (column, chunk) = self.chunk(path)?;
        let (codec, segments) = (chunk.compression(), [page]);
        let pages = LeafPages { column, segments: &segments, codec, entries: rows, row: None, memo: None, some: None, opened: None };
        let values = pages.decode(None).and_then(|leaf| match leaf.values.len() {
            found if found == rows => Ok(leaf.values),
            found => Err(Error::data(format!("{found} values in a page of {rows} rows"))),
        });
        values.map_err(|e| self.wrong(path, e))
    }

    /// Says which block and column an error is about.
    pub(super) fn wrong(&self, path: &str, error: Error) -> Error {
        let column = self.block.leaves().get(path).map_or(path, |c| &c.path);
        error.context(format!("block {}, row group {}, column {column}", self.block.meta().block_id, self.row_group))
    }

    /// A leaf of text.
    pub fn text(&mut self, path: &str) -> Result<Text> {
        match &self.leaf(path)?.values {
            Dense::Text(text) => Ok(text.clone()),
            _ => Err(self.mistyped(path)),
        }
    }

    fn mistyped(&self, path: &str) -> Error {
        self.wrong(path, Error::internal("asked for as another type"))
    }

    /// A leaf of 32-bit integers.
    pub fn int32(&mut self, path: &str) -> Result<arrow::buffer::ScalarBuffer<i32>> {
        match &self.leaf(path)?.values {
            Dense::Int32(values) => Ok(values.clone()),
            _ => Err(self.mistyped(path)),
        }
    }

    /// A leaf of 64-bit integers.
    pub fn int64(&mut self, path: &str) -> Result<arrow::buffer::ScalarBuffer<i64>> {
        match &self.leaf(path)?.values {
            Dense::Int64(values) => Ok(values.clone()),
            _ => Err(self.mistyped(path)),
        }
    }

    /// A leaf of byte strings.
    pub fn bytes(&mut self, path: &str) -> Result<arrow::array::BinaryArray> {
        match &self.leaf(path)?.values {
            Dense::Bytes(values) => Ok(values.clone()),
            _ => Err(self.mistyped(path)),
        }
    }

    /// Where the items of each owner start, by the head of the items' list; one entry more than there are owners.
    pub fn list_offsets(&mut self, head: &str) -> Result<Vec<u32>> {
        let leaf = self.leaf(head)?;
        leaf.owners.as_ref().map(|o| o.offsets()).ok_or_else(|| self.mistyped(head))
    }

    /// Byte ranges in the file of the chunks of these leaves, without dictionaries that are here already.
    pub fn chunk_ranges(&self, paths: &BTreeSet<String>) -> Result<Vec<Range<u64>>> {
        paths
            .iter()
            .map(|path| {
                let (_, chunk) = self.chunk(path)?;
                let mut range = chunk_range(chunk, self.block.data_len()).map_err(|e| self.wrong(path, e))?;
                range.start += self.dictionaries.get(path).map_or(0, |(page, _)| page.len() as u64);
                Ok(range)
            })
            .collect()
    }

    /// What is to be fetched of these leaves: their chunks, or of some rows the pages that hold them.
    pub fn wanted(&self, paths: BTreeSet<String>) -> Result<Vec<Wanted>> {
        let chunks = self.chunk_ranges(&paths)?;
        let of = |(path, chunk): (String, Range<u64>)| {
            let index = self.page_index(&path);
            let of_pages = index.as_ref().map_or(0, LeafIndex::len);
            let (Some(part), Some(index)) = (&self.part, index) else {
                return Wanted { path, ranges: vec![chunk], pages: None, of_pages, excluded: 0 };
            };
            let pages = index.holding(part.rows());
            let dictionary = index.dictionary().filter(|_| !self.dictionaries.contains_key(&path));
            let ranges = dictionary.into_iter().chain(pages.iter().map(|page| index.place(*page))).collect();
            let excluded = of_pages - index.holding(part.possible()).len();
            Wanted { path, ranges, pages: Some(pages.iter().map(|page| index.rows(*page)).collect()), of_pages, excluded }
        };
        Ok(paths.into_iter().zip(chunks).map(of).collect())
    }

    /// Hands over the bytes at a leaf's ranges.
    pub fn insert_wanted(&mut self, Wanted { path, pages, .. }: Wanted, bytes: impl Iterator<Item = Bytes>) {
        let dictionary = self.dictionaries.get(&path).map(|(page, _)| page.clone());
        self.insert(path, Fetched { segments: dictionary.into_iter().chain(bytes).collect(), row: None, pages });
    }
}

/// The depth of the things of which each has exactly one value in a leaf of so many entries, if the shape numbers them.
fn counted_at(path: &str, column: &LeafColumn, entries: usize, part: &Part) -> Option<u32> {
    let at = column.depth;
    let shaped = at == depth::TRACE || at <= depth::SPAN && path.starts_with("rs.");
    (shaped && column.is_required() && !is_head(path) && part.whole().count(at) == entries).then_some(at)
}

/// Whether a leaf says what the items of its list belong to.
fn is_head(path: &str) -> bool {
    path == head::EVENTS || path == head::LINKS || path == head::SERVICE_STATS || path.ends_with(head::ATTRIBUTES_SUFFIX)
}
