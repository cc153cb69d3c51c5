//! A row group of which some columns are remembered: these are neither read nor decoded, and what is decoded of others for all
//! spans is remembered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use async_trait::async_trait;

use super::{
    chunk::{FEW_OF, RowGroupChunk},
    chunk_cache::Remembered,
    coded::{has_codes, lacks},
};
use crate::{
    error::Result,
    scan::{
        AttributeScope, ChunkStats, ChunkTraces, CodedAttributes, CodedColumn, Effort, Passing, SpanChunk, SpanColumn, SpanField, ValueTest,
    },
};

/// A row group being scanned.
#[derive(Debug)]
pub(super) struct CachedChunk {
    inner: RowGroupChunk,
    /// Columns that were remembered when they were asked for first, with the values that are there.
    known: HashMap<SpanColumn, Vec<(Passing, Known)>>,
    /// Sets of attributes that were remembered when they were asked for.
    attributes: Vec<(AttributeScope, Arc<CodedAttributes>)>,
    columns_cached: u64,
}

/// A remembered column, whatever the cache forgets meanwhile.
#[derive(Clone, Debug)]
enum Known {
    Codes(CodedColumn),
    Values(ArrayRef),
}

impl Known {
    fn of(remembered: Remembered) -> Option<Self> {
        match remembered {
            Remembered::Codes(known) => Some(Self::Codes(known)),
            Remembered::Values(values) => Some(Self::Values(values)),
            Remembered::Asked | Remembered::Uncoded => None,
        }
    }
}

/// Columns that have a number for each span, many of them different.
fn is_numbers(column: &SpanColumn) -> bool {
    matches!(column, SpanColumn::Field(SpanField::DurationNs | SpanField::StartTime))
}

impl CachedChunk {
    pub fn new(inner: RowGroupChunk) -> Self {
        Self { inner, known: HashMap::new(), attributes: Vec::new(), columns_cached: 0 }
    }

    fn remembered(&self, column: &SpanColumn, passing: Passing) -> Option<(Passing, Remembered)> {
        if !has_codes(column) && !is_numbers(column) {
            return None;
        }
        self.inner.rows.cache().column(self.inner.rows.place(), column, passing)
    }

    fn remember(&self, column: &SpanColumn, passing: Passing, known: Remembered) {
        self.inner.rows.cache().put_column(self.inner.rows.place(), column, passing, known);
    }

    /// A remembered column in which at least the `passing` values are.
    fn known(&mut self, column: &SpanColumn, passing: Passing) -> Option<Known> {
        let here = self.known.get(column).and_then(|all| all.iter().find(|(known, _)| known.covers(passing)));
        if let Some((_, known)) = here {
            return Some(known.clone());
        }
        let (passing, known) = self.remembered(column, passing)?;
        let known = Known::of(known)?;
        self.columns_cached += 1;
        self.inner.rows.cache().count_hit();
        self.known.entry(column.clone()).or_default().push((passing, known.clone()));
        Some(known)
    }

    /// A remembered column for these spans (`None`: all). One of which only some values are there serves spans that have those.
    fn known_of(&mut self, column: &SpanColumn, spans: Option<&UInt32Array>) -> Result<Option<Known>> {
        let whole = self.known(column, Passing::ANYTHING);
        let (None, Some(_)) = (&whole, spans) else { return Ok(whole) };
        for (_, known) in self.known.get(column).into_iter().flatten() {
            if let Known::Codes(coded) = known
                && self.codes(coded, spans)?.iter().all(|code| coded.values.is_valid(*code as usize))
            {
                return Ok(Some(known.clone()));
            }
        }
        Ok(None)
    }

    /// These columns without those that are remembered.
    fn unknown<'a>(&mut self, columns: impl Iterator<Item = (&'a SpanColumn, Passing)>) -> Vec<(SpanColumn, Passing)> {
        let unknown = columns.filter(|(column, passing)| !self.knows_attributes(column) && self.known(column, *passing).is_none());
        unknown.map(|(column, passing)| (column.clone(), passing)).collect()
    }

    /// Whether a column is the attributes of a scope, and these are remembered.
    fn knows_attributes(&mut self, column: &SpanColumn) -> bool {
        let SpanColumn::Attributes(scope) = column else { return false };
        if self.is_part() {
            return false;
        }
        if self.attributes.iter().any(|(known, _)| known == scope) {
            return true;
        }
        let Some(found) = self.inner.rows.cache().attributes(self.inner.rows.place(), *scope) else { return false };
        self.columns_cached += 1;
        self.inner.rows.cache().count_hit();
        self.attributes.push((*scope, found));
        true
    }

    fn is_part(&self) -> bool {
        self.inner.rows.part().is_some()
    }

    /// The numbers in the row group of these spans; `None` if these are all and the chunk is the whole row group.
    fn places(&self, spans: Option<&UInt32Array>) -> Result<Option<Vec<u32>>> {
        Ok(match (spans, self.is_part()) {
            (None, false) => None,
            (None, true) => Some(self.inner.in_row_group(0..self.inner.spans as u32)),
            (Some(spans), _) => {
                self.inner.check_inside(spans)?;
                Some(self.inner.in_row_group(spans.values().iter().copied()))
            }
        })
    }

    /// The codes of a remembered column for these spans, or for all.
    fn codes(&self, known: &CodedColumn, spans: Option<&UInt32Array>) -> Result<ScalarBuffer<u32>> {
        Ok(self.places(spans)?.map_or_else(|| known.codes.words(), |places| known.codes.at(&places)))
    }

    /// A remembered column as the chunk has it.
    fn of_chunk(&self, known: CodedColumn) -> Result<CodedColumn> {
        Ok(match self.places(None)? {
            Some(places) => CodedColumn { codes: known.codes.at(&places).into(), ..known },
            None => known,
        })
    }

    /// Whether few spans were asked for before, so that it is time to decode all.
    fn is_asked_again(&self, column: &SpanColumn, passing: Passing) -> bool {
        match self.remembered(column, passing) {
            Some((_, Remembered::Asked)) => true,
            Some(_) => false,
            None => {
                self.remember(column, passing, Remembered::Asked);
                false
            }
        }
    }

    /// Decodes a loaded column for all spans and remembers it.
    fn decode(&mut self, column: &SpanColumn, passing: Passing) -> Result<Option<CodedColumn>> {
        let found = self.inner.coded_passing(column, passing)?;
        if self.is_part() || !has_codes(column) || !self.inner.is_loaded(column, passing) {
            return Ok(found);
        }
        let passing = if self.inner.loaded.contains(column) { Passing::ANYTHING } else { passing };
        let what = match &found {
            None => Remembered::Uncoded,
            Some(coded) => {
                let packed = coded.packed();
                self.known.entry(column.clone()).or_default().push((passing, Known::Codes(packed.clone())));
                Remembered::Codes(packed)
            }
        };
        self.remember(column, passing, what);
        Ok(found)
    }

    /// A loaded column of numbers: all are remembered, if all are asked for or some again.
    fn numbers(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        let few = selection.is_some_and(|spans| spans.len() < self.inner.spans / FEW_OF);
        if self.is_part() || few && !(self.inner.loaded.contains(column) && self.is_asked_again(column, Passing::ANYTHING)) {
            return self.inner.column(column, selection);
        }
        let all = self.inner.column(column, None)?;
        self.known.entry(column.clone()).or_default().push((Passing::ANYTHING, Known::Values(all.clone())));
        self.remember(column, Passing::ANYTHING, Remembered::Values(all.clone()));
        Ok(match selection {
            Some(spans) => take(&all, spans, None)?,
            None => all,
        })
    }
}

#[async_trait]
impl SpanChunk for CachedChunk {
    fn span_count(&self) -> usize {
        self.inner.span_count()
    }

    async fn load(&mut self, columns: &[SpanColumn]) -> Result<()> {
        let rest = self.unknown(columns.iter().map(|column| (column, Passing::ANYTHING)));
        self.inner.load_passing(&rest).await
    }

    async fn load_passing(&mut self, columns: &[(SpanColumn, Passing)]) -> Result<()> {
        let rest = self.unknown(columns.iter().map(|(column, passing)| (column, *passing)));
        self.inner.load_passing(&rest).await
    }

    async fn excludes(&mut self, column: &SpanColumn, test: &ValueTest<'_>, effort: Effort) -> Result<bool> {
        if test.only_text.is_some_and(|text| lacks(&self.inner.rows, column, text)) {
            return Ok(true);
        }
        // A question that comes before the scan is not counted.
        let known = match effort {
            Effort::Memory => self.remembered(column, test.passing).and_then(|(_, known)| Known::of(known)),
            Effort::Dictionaries => self.known(column, test.passing),
        };
        match known {
            Some(Known::Codes(known)) => Ok(!test.passes_any(&known.values).await?),
            _ => self.inner.excludes(column, test, effort).await,
        }
    }

    async fn load_dictionaries(&mut self, columns: &[(&SpanColumn, Passing)]) -> Result<()> {
        let unknown: Vec<_> = columns.iter().copied().filter(|(column, passing)| self.known(column, *passing).is_none()).collect();
        self.inner.load_dictionaries(&unknown).await
    }

    async fn narrow(&mut self, tests: &[(&SpanColumn, ValueTest<'_>)]) -> Result<()> {
        self.inner.narrow(tests).await
    }

    async fn load_for(&mut self, columns: &[SpanColumn], spans: Option<&UInt32Array>) -> Result<()> {
        let mut rest = Vec::new();
        for column in columns {
            if !self.knows_attributes(column) && self.known_of(column, spans)?.is_none() {
                rest.push(column.clone());
            }
        }
        self.inner.load_for(&rest, spans).await
    }

    fn bounds(&self, field: SpanField) -> Option<(i64, i64)> {
        self.inner.bounds(field)
    }

    fn has_rounded_start(&self, seconds: u32) -> bool {
        self.inner.has_rounded_start(seconds)
    }

    fn has_codes_at_hand(&mut self, column: &SpanColumn, passing: Passing) -> bool {
        !self.is_part() && matches!(self.known(column, passing), Some(Known::Codes(_)))
    }

    fn coded(&mut self, column: &SpanColumn) -> Result<Option<CodedColumn>> {
        self.coded_passing(column, Passing::ANYTHING)
    }

    fn coded_passing(&mut self, column: &SpanColumn, passing: Passing) -> Result<Option<CodedColumn>> {
        match self.known(column, passing) {
            Some(Known::Codes(known)) => self.of_chunk(known).map(Some),
            Some(Known::Values(_)) => Ok(None),
            None => self.decode(column, passing),
        }
    }

    fn coded_at(&mut self, column: &SpanColumn, passing: Passing, spans: &UInt32Array) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
        match self.known(column, passing) {
            Some(Known::Codes(known)) => return Ok(Some((known.values.clone(), self.codes(&known, Some(spans))?))),
            Some(Known::Values(_)) => return Ok(None),
            None => {}
        }
        let few = spans.len() < self.inner.spans / FEW_OF;
        if !has_codes(column) || few && (self.is_part() || !self.is_asked_again(column, passing)) {
            return self.inner.coded_at(column, passing, spans);
        }
        Ok(self.decode(column, passing)?.map(|coded| (coded.values.clone(), coded.codes_of(Some(spans)))))
    }

    fn spans_at(&self, places: &HashSet<i128>) -> Vec<u32> {
        self.inner.spans_at(places)
    }

    async fn attributes(&mut self, scope: AttributeScope) -> Result<Arc<CodedAttributes>> {
        if self.is_part() {
            return self.inner.attributes(scope).await;
        }
        if let Some((_, known)) = self.attributes.iter().find(|(known, _)| *known == scope) {
            return Ok(known.clone());
        }
        let found = self.inner.attributes(scope).await?;
        self.inner.rows.cache().put_attributes(self.inner.rows.place(), scope, &found);
        Ok(found)
    }

    async fn traces(&mut self) -> Result<Option<ChunkTraces>> {
        if self.is_part() {
            return self.inner.traces().await;
        }
        if let Some(known) = self.inner.rows.cache().traces(self.inner.rows.place()) {
            return Ok(Some(known));
        }
        let found = self.inner.traces().await?;
        if let Some(traces) = &found {
            self.inner.rows.cache().put_traces(self.inner.rows.place(), traces);
        }
        Ok(found)
    }

    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        if let SpanColumn::Attributes(scope) = column
            && let Some((_, known)) = self.attributes.iter().find(|(known, _)| known == scope)
        {
            return known.lists(selection, self.inner.spans);
        }
        match self.known_of(column, selection)? {
            Some(Known::Codes(known)) => Ok(take(&known.values, &UInt32Array::new(self.codes(&known, selection)?, None), None)?),
            Some(Known::Values(values)) => Ok(match self.places(selection)? {
                Some(places) => take(&values, &UInt32Array::from(places), None)?,
                None => values,
            }),
            None if is_numbers(column) => self.numbers(column, selection),
            None => self.inner.column(column, selection),
        }
    }

    fn stats(&self) -> ChunkStats {
        ChunkStats { columns_cached: self.columns_cached, ..self.inner.stats() }
    }
}
