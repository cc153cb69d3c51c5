//! A row group as a chunk of fewer spans: of traces that can pass by the bounds of pages, and of traces with a span that was chosen.
//! Of the others no page is fetched that holds no trace that is left.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, Int64Array, StringArray, UInt32Array, new_null_array},
    compute::cast,
    datatypes::DataType,
};

use super::{
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF, any_integers, any_texts, key_leaf},
    chunk::RowGroupChunk,
    coded::{field_values, text_leaf},
    dictionary::codes_of,
    fields::leaves,
    leaves::depth,
    legacy,
    page_index::{Between, Bounds, LeafIndex, RowRanges, may_be_between},
    rows::Rows,
    shape::Shape,
    some_rows::Part,
};
use crate::{
    error::{Error, Result},
    scan::{AttributeScope, ChunkStats, SpanChunk, SpanColumn, SpanField, ValueTest, any_value_type, kind_text, status_text},
};

/// Traces are left out by the bounds of pages if no more than one in this many is left: of some traces generic attributes are decoded
/// the long way, which costs up to twelve times as much for each.
const LEFT_OF: usize = 10;
/// Columns are loaded for chosen spans alone if no more than one trace in this many can have one.
const FEW_OF: usize = 16;
/// The most different numbers that a condition is asked of to find out which pages can pass.
const NUMBERS_MAX: i64 = 4096;
/// The most texts that are looked for between the bounds of pages.
const TEXTS_MAX: usize = 64;

/// Some traces of a chunk, with columns that are loaded for these only.
#[derive(Debug)]
pub(super) struct Few {
    chunk: Box<RowGroupChunk>,
}

impl RowGroupChunk {
    /// The numbers in the row group of the chunk's spans; ascending.
    pub(super) fn in_row_group(&self, spans: impl Iterator<Item = u32>) -> Vec<u32> {
        match self.rows.part() {
            Some(part) => part.global(depth::SPAN, spans),
            None => spans.collect(),
        }
    }

    /// See [`SpanChunk::narrow`](crate::scan::SpanChunk::narrow).
    pub(super) async fn narrow_by_pages(&mut self, tests: &[(&SpanColumn, ValueTest<'_>)]) -> Result<()> {
        let columns: Vec<&SpanColumn> = tests.iter().map(|(column, _)| *column).collect();
        if !self.rows.knows_spans() || self.rows.part().is_some() || !self.has_index_for(&columns).await? {
            return Ok(());
        }
        let rows = self.block_rows()?;
        let mut left = RowRanges::one(0..rows);
        let mut asked = HashSet::new();
        for (column, test) in tests {
            if let Some(possible) = possible_rows(&self.rows, column, test, &mut asked).await? {
                left = left.and(&possible);
            }
        }
        if left.len() == 0 {
            let pages: usize = asked.iter().filter_map(|path| Some(self.rows.page_index(path)?.len())).sum();
            self.stats.pages += pages as u64;
            self.stats.pages_excluded += pages as u64;
            self.spans = 0;
            return Ok(());
        }
        if left.len() * LEFT_OF > rows as usize {
            return Ok(());
        }
        let whole = self.whole_shape().await?;
        let mut narrowed = self.of_part(Part::new(left.clone(), left, whole))?;
        narrowed.stats = self.stats_with_few();
        *self = narrowed;
        Ok(())
    }

    /// The shape of all spans, checked.
    async fn whole_shape(&mut self) -> Result<Arc<Shape>> {
        let leaf = self.rows.shape_leaf();
        self.fetch(&[leaf]).await?;
        self.known_shape()
    }

    fn block_rows(&self) -> Result<u32> {
        let rows = self.rows.block().trace_count(self.rows.row_group())?;
        u32::try_from(rows).map_err(|_| Error::data(format!("{rows} rows in a row group")))
    }

    /// Whether the page index can be asked; it is read if it is smaller than what it may spare.
    async fn has_index_for(&self, columns: &[&SpanColumn]) -> Result<bool> {
        let (block, row_group) = (self.rows.block(), self.rows.row_group());
        if block.known_index(row_group).is_some() {
            return Ok(true);
        }
        let leaves = columns.iter().flat_map(|column| own_leaves(&self.rows, column));
        let bytes: i64 = leaves.filter_map(|path| Some(self.rows.chunk(&path).ok()?.1.compressed_size())).sum();
        if block.index_bytes(row_group)? > u64::try_from(bytes).unwrap_or_default() {
            return Ok(false);
        }
        block.index(row_group).await?;
        Ok(true)
    }

    /// The same chunk of fewer traces, with nothing loaded.
    fn of_part(&self, part: Part) -> Result<Self> {
        let part = Arc::new(part);
        let rows = self.rows.of_part(part)?;
        let spans = rows.span_count().ok_or_else(|| Error::internal("a part without a number of spans"))?;
        Ok(Self {
            rows,
            loaded: HashSet::new(),
            in_part: HashMap::new(),
            coded: HashMap::new(),
            traces: None,
            spans,
            flat: None,
            few: None,
            stats: ChunkStats::default(),
            unit: self.unit,
        })
    }

    /// See [`SpanChunk::load_for`](crate::scan::SpanChunk::load_for).
    pub(super) async fn load_for_some(&mut self, columns: &[SpanColumn], spans: &UInt32Array) -> Result<()> {
        // What is there in part is completed, not read again.
        let (here, rest): (Vec<_>, Vec<_>) =
            columns.iter().cloned().partition(|c| self.loaded.contains(c) || self.in_part.contains_key(c) || *c == SpanColumn::Place);
        let traces = self.rows.trace_count();
        let fits = self.rows.knows_spans() && spans.len().saturating_mul(FEW_OF) <= traces;
        if rest.is_empty() || !fits || spans.is_empty() || !self.has_index_for(&rest.iter().collect::<Vec<_>>()).await? {
            return self.load(columns).await;
        }
        self.load(&here).await?;
        let shape = self.whole_shape().await?;
        let mut chosen = RowRanges::default();
        shape.groups_of(depth::TRACE, spans).values().iter().for_each(|trace| chosen.push(*trace..*trace + 1));
        let (rows, possible, whole) = match self.rows.part() {
            Some(part) => (part.rows().nth(&chosen), part.possible().clone(), part.whole().clone()),
            None => (chosen, RowRanges::one(0..self.block_rows()?), shape),
        };
        let known = self.few.take().filter(|few| few.chunk.rows.part().is_some_and(|part| part.rows().and(&rows) == rows));
        let mut few = match known {
            Some(few) => few,
            None => Few { chunk: Box::new(self.of_part(Part::new(rows, possible, whole))?) },
        };
        few.chunk.load(&rest).await?;
        self.few = Some(few);
        Ok(())
    }

    /// A column that is loaded for few spans; `None` if it is not.
    pub(super) fn column_of_few(&mut self, column: &SpanColumn, spans: &UInt32Array) -> Result<Option<ArrayRef>> {
        let all = self.in_row_group(spans.values().iter().copied());
        let Some(few) = self.few.as_mut().filter(|few| few.chunk.loaded.contains(column)) else { return Ok(None) };
        let own = few.chunk.rows.part().map(|part| part.local(depth::SPAN, all.into_iter())).unwrap_or_default();
        if own.len() != spans.len() {
            return Err(Error::internal(format!("column {} is not loaded for all spans that are asked for", column.name())));
        }
        few.chunk.column(column, Some(&own.into())).map(Some)
    }

    pub(super) fn stats_with_few(&self) -> ChunkStats {
        let own = ChunkStats { pages_opened: self.stats.pages_opened + self.rows.pages_opened(), ..self.stats };
        match &self.few {
            Some(few) => own.with(few.chunk.stats_with_few()),
            None => own,
        }
    }
}

/// The least and the greatest value of a leaf in the pages that hold rows which are left, if these are not all.
pub(super) fn bounds_left(rows: &Rows, path: &str) -> Option<(i64, i64)> {
    let part = rows.part()?;
    let (index, bounds) = index_of(rows, path)?;
    let mut all: Option<(i64, i64)> = None;
    for page in index.holding(part.rows()) {
        match bounds.ints(page) {
            Between::Values(min, max) => all = Some(all.map_or((min, max), |(a, b)| (a.min(min), b.max(max)))),
            Between::Nothing => {}
            Between::Unknown => return None,
        }
    }
    all
}

/// The pages of a leaf and the bounds of their values, if the page index was read and makes sense.
pub(super) fn index_of(rows: &Rows, path: &str) -> Option<(LeafIndex, Bounds)> {
    let index = rows.page_index(path)?;
    let bounds = rows.block().known_index(rows.row_group())?.bounds(rows.chunk(path).ok()?.1, index.len())?;
    Some((index, bounds))
}

/// The leaves that only hold values of a column.
fn own_leaves(rows: &Rows, column: &SpanColumn) -> Vec<String> {
    match column {
        SpanColumn::Field(field) => leaves(*field).iter().filter(|path| rows.exists(path)).map(|path| (*path).to_owned()).collect(),
        SpanColumn::Attribute { scope, key } => attribute_leaves(rows, *scope, key).into_iter().map(|(path, _)| path).collect(),
        _ => Vec::new(),
    }
}

/// The leaves that hold an attribute alone, and whether its values there are whole numbers.
fn attribute_leaves(rows: &Rows, scope: AttributeScope, key: &str) -> Vec<(String, bool)> {
    let own = rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key);
    let mut paths: Vec<_> = own.map(|p| (p.path.clone(), p.int)).collect();
    if scope == AttributeScope::Resource && key == SERVICE_NAME {
        paths.push((SERVICE_NAME_LEAF.to_owned(), false));
    }
    paths
}

/// The rows that can have a span which passes a test, by the bounds of pages; `None` if they do not tell. Adds the leaves that it
/// asked to `asked`.
async fn possible_rows(rows: &Rows, column: &SpanColumn, test: &ValueTest<'_>, asked: &mut HashSet<String>) -> Result<Option<RowRanges>> {
    if legacy::leaves(rows, column).is_some() {
        return Ok(None);
    }
    match column {
        SpanColumn::Field(field) => {
            let [leaf] = leaves(*field) else { return Ok(None) };
            if !rows.exists(leaf) {
                return Ok(None);
            }
            asked.insert((*leaf).to_owned());
            match text_leaf(*field) {
                Some(_) => texts(rows, leaf, test, |dictionary| field_values(*field, dictionary)).await,
                None => numbers(rows, leaf, test, |all| field_numbers(*field, all)).await,
            }
        }
        SpanColumn::Attribute { scope, key } if !scope.is_repeated() => attribute(rows, *scope, key, test, asked).await,
        _ => Ok(None),
    }
}

/// The same of an attribute all of whose values lie in columns of its own.
async fn attribute(
    rows: &Rows,
    scope: AttributeScope,
    key: &str,
    test: &ValueTest<'_>,
    asked: &mut HashSet<String>,
) -> Result<Option<RowRanges>> {
    let own = attribute_leaves(rows, scope, key);
    let keys = if rows.is_here(&key_leaf(scope)) { rows.dictionary(&key_leaf(scope))? } else { None };
    let elsewhere = !rows.is_empty(&key_leaf(scope))? && keys.is_none_or(|keys| !codes_of(&keys, key).is_empty());
    if own.is_empty() || elsewhere || test.passes_any(&new_null_array(&any_value_type(), 1)).await? {
        return Ok(None);
    }
    let mut any = RowRanges::default();
    for (path, int) in own {
        let may_pass = if int { test.passing.ints } else { test.passing.strings };
        if !may_pass || rows.is_empty(&path)? {
            continue;
        }
        let possible = match int {
            true => numbers(rows, &path, test, |all| any_integers(all).into_array()).await?,
            false => {
                texts(rows, &path, test, |dictionary| {
                    // The first is NULL.
                    let values = any_texts(dictionary)?.into_array()?;
                    Ok(values.slice(1, values.len() - 1))
                })
                .await?
            }
        };
        let Some(possible) = possible else { return Ok(None) };
        asked.insert(path);
        any = any.or(&possible);
    }
    Ok(Some(any))
}

/// Whole numbers as values of a field's column.
fn field_numbers(field: SpanField, all: Int64Array) -> Result<ArrayRef> {
    let named = |name: fn(i32) -> std::borrow::Cow<'static, str>| {
        StringArray::from_iter_values(all.values().iter().map(|n| name(i32::try_from(*n).unwrap_or(i32::MAX))))
    };
    let to = field.describe().1;
    Ok(match field {
        SpanField::Kind => cast(&named(kind_text), &to)?,
        SpanField::Status => cast(&named(status_text), &to)?,
        _ => cast(&cast(&all, &if to == DataType::Int32 { DataType::Int32 } else { DataType::Int64 })?, &to)?,
    })
}

/// The rows of pages of whole numbers that may hold one that passes.
async fn numbers(
    rows: &Rows,
    path: &str,
    test: &ValueTest<'_>,
    values: impl Fn(Int64Array) -> Result<ArrayRef>,
) -> Result<Option<RowRanges>> {
    let Some((index, bounds)) = index_of(rows, path) else { return Ok(None) };
    let between: Vec<_> = (0..index.len()).map(|page| bounds.ints(page)).collect();
    if let Some((from, to)) = test.within {
        return Ok(Some(rows_where(&index, |page| match between[page] {
            Between::Values(min, max) => min <= to && from <= max,
            Between::Nothing => false,
            Between::Unknown => true,
        })));
    }
    let known = between.iter().filter_map(|b| if let Between::Values(min, max) = b { Some((*min, *max)) } else { None });
    let Some((least, greatest)) = known.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(None) };
    if greatest.checked_sub(least).is_none_or(|width| width >= NUMBERS_MAX) {
        return Ok(None);
    }
    let Some(verdicts) = test.verdicts(&values(Int64Array::from_iter_values(least..=greatest))?).await else { return Ok(None) };
    let passing: Vec<i64> = verdicts.values().set_indices().map(|at| least + at as i64).collect();
    Ok(Some(rows_where(&index, |page| match between[page] {
        Between::Values(min, max) => passing[passing.partition_point(|n| *n < min)..].first().is_some_and(|n| *n <= max),
        Between::Nothing => false,
        Between::Unknown => true,
    })))
}

/// The rows of pages of text, all of which lies in the dictionary, that may hold a text that passes.
async fn texts(
    rows: &Rows,
    path: &str,
    test: &ValueTest<'_>,
    values: impl Fn(&StringArray) -> Result<ArrayRef>,
) -> Result<Option<RowRanges>> {
    // The dictionary says as much as the bounds of a single page.
    let Some((index, bounds)) = index_of(rows, path).filter(|(index, _)| index.len() > 1 && rows.is_here(path)) else { return Ok(None) };
    let Some(dictionary) = rows.dictionary(path)?.filter(|d| d.len() <= NUMBERS_MAX as usize) else { return Ok(None) };
    let Some(verdicts) = test.verdicts(&values(&dictionary)?).await.filter(|v| v.true_count() <= TEXTS_MAX) else { return Ok(None) };
    let passing: Vec<&[u8]> = verdicts.values().set_indices().map(|at| dictionary.value(at).as_bytes()).collect();
    Ok(Some(rows_where(&index, |page| match bounds.bytes(page) {
        Between::Values(min, max) => passing.iter().any(|text| may_be_between(text, min, max)),
        Between::Nothing => false,
        Between::Unknown => true,
    })))
}

fn rows_where(index: &LeafIndex, possible: impl Fn(usize) -> bool) -> RowRanges {
    let mut rows = RowRanges::default();
    (0..index.len()).filter(|page| possible(*page)).for_each(|page| rows.push(index.rows(page)));
    rows
}
