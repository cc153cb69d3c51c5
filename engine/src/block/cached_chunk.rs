//! A row group of which some columns are remembered: these are neither read nor decoded, and what is decoded of others for all
//! spans is remembered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use async_trait::async_trait;
use uuid::Uuid;

use super::{
    chunk::{FEW_OF, RowGroupChunk},
    coded::coded_depth,
    column_cache::{PackedColumn, Remembered},
    leaves::depth,
};
use crate::{
    error::{Error, Result},
    scan::{AttributeScope, ChunkStats, ChunkTraces, CodedAttributes, CodedColumn, Passing, SpanChunk, SpanColumn, SpanField, ValueTest},
};

/// A row group being scanned.
#[derive(Debug)]
pub(super) struct CachedChunk {
    inner: RowGroupChunk,
    /// Columns that were remembered when they were asked for first, with the values that are there.
    known: HashMap<SpanColumn, Vec<(Passing, Arc<PackedColumn>)>>,
    /// Columns that are known, as they were asked for.
    coded: HashMap<SpanColumn, CodedColumn>,
    columns_cached: u64,
}

impl CachedChunk {
    pub fn new(inner: RowGroupChunk) -> Self {
        Self { inner, known: HashMap::new(), coded: HashMap::new(), columns_cached: 0 }
    }

    fn place(&self) -> (Uuid, usize) {
        (self.inner.rows.block().meta().block_id, self.inner.rows.row_group())
    }

    fn remembered(&self, column: &SpanColumn, passing: Passing) -> Option<(Passing, Remembered)> {
        coded_depth(column).and_then(|_| self.inner.rows.block().columns().get(self.place(), column, passing))
    }

    fn remember(&self, column: &SpanColumn, passing: Passing, what: Remembered) {
        self.inner.rows.block().columns().put(self.place(), column, passing, what);
    }

    /// A remembered column in which at least the `passing` values are.
    fn known(&mut self, column: &SpanColumn, passing: Passing) -> Option<Arc<PackedColumn>> {
        let here = self.known.get(column).and_then(|all| all.iter().find(|(known, _)| known.covers(passing)));
        if let Some((_, packed)) = here {
            return Some(packed.clone());
        }
        let Some((passing, Remembered::Codes(packed))) = self.remembered(column, passing) else { return None };
        self.columns_cached += 1;
        // What is decided by this entry holds for the chunk, whatever the cache forgets.
        self.known.entry(column.clone()).or_default().push((passing, packed.clone()));
        Some(packed)
    }

    fn is_known(&mut self, column: &SpanColumn, passing: Passing) -> bool {
        self.known(column, passing).is_some()
    }

    /// The codes of a remembered column for these spans, or for all.
    fn codes_of(&mut self, packed: &PackedColumn, column: &SpanColumn, spans: Option<&UInt32Array>) -> Result<ScalarBuffer<u32>> {
        if let Some(spans) = spans {
            self.inner.check_inside(spans)?;
        }
        let at = coded_depth(column).ok_or_else(|| Error::internal("a column without codes is remembered"))?;
        // A chunk of some traces numbers their spans anew.
        let places = match (self.inner.rows.part().is_some(), spans) {
            (true, Some(spans)) => Some(self.inner.in_row_group(spans.values().iter().copied())),
            (true, None) => Some(self.inner.in_row_group(0..self.inner.spans as u32)),
            (false, Some(spans)) => Some(spans.values().to_vec()),
            (false, None) => None,
        };
        let shape = match (at < depth::SPAN, self.inner.rows.part()) {
            (false, _) => None,
            (true, Some(part)) => Some(part.whole().clone()),
            (true, None) => Some(self.inner.known_shape()?),
        };
        Ok(match (places, shape) {
            (Some(places), Some(shape)) => packed.codes_at(shape.groups_of(at, &places.into()).values()),
            (Some(places), None) => packed.codes_at(&places),
            (None, Some(shape)) => {
                CodedColumn { values: packed.values.clone(), codes: packed.codes(), starts: Some(shape.first_spans(at)) }.codes_of(None)
            }
            (None, None) => packed.codes(),
        })
    }

    /// A remembered column as a chunk gives it.
    fn coded_known(&mut self, column: &SpanColumn, packed: &PackedColumn) -> Result<CodedColumn> {
        if let Some(known) = self.coded.get(column).filter(|known| Arc::ptr_eq(&known.values, &packed.values)) {
            return Ok(known.clone());
        }
        let whole = self.inner.rows.part().is_none();
        let (codes, starts) = match coded_depth(column) {
            Some(at) if at < depth::SPAN && whole => (packed.codes(), Some(self.inner.known_shape()?.first_spans(at))),
            _ => (self.codes_of(packed, column, None)?, None),
        };
        let made = CodedColumn { values: packed.values.clone(), codes, starts };
        self.coded.insert(column.clone(), made.clone());
        Ok(made)
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

    /// These columns without those that are remembered. What tells of remembered ones which spans they belong to is fetched.
    async fn unknown<'a>(&mut self, columns: impl Iterator<Item = (&'a SpanColumn, Passing)>) -> Result<Vec<(SpanColumn, Passing)>> {
        let mut rest = Vec::new();
        let mut shape = false;
        for (column, passing) in columns {
            match self.is_known(column, passing) {
                true => shape |= coded_depth(column).is_some_and(|at| at < depth::SPAN),
                false => rest.push((column.clone(), passing)),
            }
        }
        if shape && self.inner.rows.part().is_none() {
            self.inner.whole_shape().await?;
        }
        Ok(rest)
    }
}

#[async_trait]
impl SpanChunk for CachedChunk {
    fn span_count(&self) -> usize {
        self.inner.span_count()
    }

    async fn load(&mut self, columns: &[SpanColumn]) -> Result<()> {
        let rest = self.unknown(columns.iter().map(|column| (column, Passing::ANYTHING))).await?;
        self.inner.load_passing(&rest).await
    }

    async fn load_passing(&mut self, columns: &[(SpanColumn, Passing)]) -> Result<()> {
        let rest = self.unknown(columns.iter().map(|(column, passing)| (column, *passing))).await?;
        self.inner.load_passing(&rest).await
    }

    async fn excludes(&mut self, column: &SpanColumn, test: &ValueTest<'_>) -> Result<bool> {
        match self.known(column, test.passing) {
            Some(packed) => Ok(!test.passes_any(&packed.values)?),
            None => self.inner.excludes(column, test).await,
        }
    }

    async fn load_dictionaries(&mut self, columns: &[(&SpanColumn, Passing)]) -> Result<()> {
        let unknown: Vec<_> = columns.iter().copied().filter(|(column, passing)| !self.is_known(column, *passing)).collect();
        self.inner.load_dictionaries(&unknown).await
    }

    async fn narrow(&mut self, tests: &[(&SpanColumn, ValueTest<'_>)]) -> Result<()> {
        self.inner.narrow(tests).await
    }

    async fn load_for(&mut self, columns: &[SpanColumn], spans: Option<&UInt32Array>) -> Result<()> {
        let rest = self.unknown(columns.iter().map(|column| (column, Passing::ANYTHING))).await?;
        let rest: Vec<SpanColumn> = rest.into_iter().map(|(column, _)| column).collect();
        self.inner.load_for(&rest, spans).await
    }

    fn bounds(&self, field: SpanField) -> Option<(i64, i64)> {
        self.inner.bounds(field)
    }

    fn has_rounded_start(&self, seconds: u32) -> bool {
        self.inner.has_rounded_start(seconds)
    }

    fn coded(&mut self, column: &SpanColumn) -> Result<Option<CodedColumn>> {
        self.coded_passing(column, Passing::ANYTHING)
    }

    fn coded_passing(&mut self, column: &SpanColumn, passing: Passing) -> Result<Option<CodedColumn>> {
        if let Some(packed) = self.known(column, passing) {
            return self.coded_known(column, &packed).map(Some);
        }
        let found = self.inner.coded_passing(column, passing)?;
        if self.inner.rows.part().is_none() && coded_depth(column).is_some() {
            let passing = if self.inner.loaded.contains(column) { Passing::ANYTHING } else { passing };
            let what = match &found {
                None => Remembered::Uncoded,
                Some(coded) => {
                    let packed = Arc::new(PackedColumn::new(coded));
                    self.known.entry(column.clone()).or_default().push((passing, packed.clone()));
                    self.coded.insert(column.clone(), coded.clone());
                    Remembered::Codes(packed)
                }
            };
            self.remember(column, passing, what);
        }
        Ok(found)
    }

    fn coded_at(&mut self, column: &SpanColumn, passing: Passing, spans: &UInt32Array) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
        if let Some(packed) = self.known(column, passing) {
            return Ok(Some((packed.values.clone(), self.codes_of(&packed, column, Some(spans))?)));
        }
        let few = spans.len() < self.inner.spans / FEW_OF;
        if few && (self.inner.rows.part().is_some() || !self.is_asked_again(column, passing)) {
            return self.inner.coded_at(column, passing, spans);
        }
        Ok(self.coded_passing(column, passing)?.map(|coded| (coded.values.clone(), coded.codes_of(Some(spans)))))
    }

    fn spans_at(&self, places: &HashSet<i128>) -> Vec<u32> {
        self.inner.spans_at(places)
    }

    fn attributes(&mut self, scope: AttributeScope) -> Result<Arc<CodedAttributes>> {
        self.inner.attributes(scope)
    }

    async fn traces(&mut self) -> Result<Option<ChunkTraces>> {
        self.inner.traces().await
    }

    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        match self.known(column, Passing::ANYTHING) {
            Some(packed) => {
                let codes = self.codes_of(&packed, column, selection)?;
                Ok(take(&packed.values, &UInt32Array::new(codes, None), None)?)
            }
            None => self.inner.column(column, selection),
        }
    }

    fn stats(&self) -> ChunkStats {
        ChunkStats { columns_cached: self.columns_cached, ..self.inner.stats() }
    }
}
