//! From rows of matching spans to Tempo's search answer: traces, newest first, each with some of its spans.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{Int32Type, Int64Type, TimestampNanosecondType},
};
use serde::Serialize;
use serde_json::Value;
use tracehouse_engine::{Error, Result, scan::SearchedInMemory};

use super::{
    json::{any_value, is_zero, string},
    shown::ShownColumns,
};
use crate::{
    eval::Regexes,
    plan::{ANSWER_COLUMNS, SearchPlan},
    spansets::{Memory, Sink, pipeline::Spanset},
    syntax::{Field, Intrinsic, Static},
};

/// About the memory of a trace of an answer, without its spans.
const TRACE_BYTES: usize = 512;

/// What Tempo shows where a trace has no root span.
const NO_ROOT: &str = "<root span not yet received>";

/// Answer of `/api/search`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SearchResponse {
    /// Traces, newest first.
    pub traces: Vec<TraceSummary>,
    /// What the search cost.
    pub metrics: SearchMetrics,
}

/// What a search cost. Only fields that Grafana's strict decoder knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // Tempo's names
pub struct SearchMetrics {
    #[serde(skip_serializing_if = "is_zero")]
    pub inspected_traces: u32,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub inspected_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_blocks: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub completed_jobs: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_jobs: u32,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub total_block_bytes: u64,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub inspected_spans: u64,
}

impl SearchMetrics {
    /// The cost of a search for which nothing was read.
    pub fn of(searched: SearchedInMemory) -> Self {
        Self {
            inspected_traces: searched.traces as u32,
            inspected_spans: searched.spans,
            completed_jobs: searched.chunks as u32,
            total_jobs: searched.chunks as u32,
            ..Self::default()
        }
    }

    /// The cost of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            inspected_traces: self.inspected_traces.saturating_add(other.inspected_traces),
            inspected_bytes: self.inspected_bytes + other.inspected_bytes,
            total_blocks: self.total_blocks.saturating_add(other.total_blocks),
            completed_jobs: self.completed_jobs.saturating_add(other.completed_jobs),
            total_jobs: self.total_jobs.saturating_add(other.total_jobs),
            total_block_bytes: self.total_block_bytes + other.total_block_bytes,
            inspected_spans: self.inspected_spans + other.inspected_spans,
        }
    }
}

/// A trace of a search answer.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceSummary {
    /// Hex, without leading zeros.
    #[serde(rename = "traceID")]
    pub trace_id: String,
    /// Service of the root span.
    pub root_service_name: String,
    /// Name of the root span.
    #[serde(skip_serializing_if = "is_zero")]
    pub root_trace_name: String,
    /// Unix nanoseconds.
    #[serde(serialize_with = "string")]
    pub start_time_unix_nano: u64,
    /// Whole milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub duration_ms: u32,
    /// The first of `span_sets`, for old clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_set: Option<SpanSet>,
    /// The matching spans; none in a search by tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub span_sets: Vec<SpanSet>,
    /// Spans and errors by service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_stats: BTreeMap<String, ServiceStats>,
}

/// Matching spans of a trace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SpanSet {
    /// Some of the spans.
    pub spans: Vec<SpanSummary>,
    /// What the query computed from them: `by(...)`, `count()`, `avg(...)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub matched: u32,
}

/// A matching span.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpanSummary {
    /// 16 hex digits.
    #[serde(rename = "spanID")]
    pub span_id: String,
    /// Shown if the query names it.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Unix nanoseconds.
    #[serde(serialize_with = "string")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub duration_nanos: u64,
    /// The fields the query names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

/// A key and an OTLP value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribute {
    /// The attribute's name without scope, or the intrinsic's.
    pub key: String,
    /// An OTLP `AnyValue`.
    pub value: Value,
}

/// A service's share of a trace.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStats {
    /// Spans.
    pub span_count: u32,
    /// Spans with status error.
    #[serde(skip_serializing_if = "is_zero")]
    pub error_count: u32,
}

/// Collects the newest traces of a search from its rows.
#[derive(Debug)]
pub struct SearchResult<'a> {
    plan: &'a SearchPlan,
    regexes: &'a Regexes,
    limit: usize,
    spans_per_span_set: usize,
    traces: HashMap<String, Found>,
    /// Traces that were too old for the answer; more of their spans may come.
    dropped: HashSet<String>,
    memory: Memory,
    /// About the bytes of `traces` and `dropped`.
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Found {
    summary: TraceSummary,
    end: i64,
    sets: Vec<SpanSet>,
}

/// A batch: its fixed columns by number, and the columns of the shown fields.
struct Columns<'a> {
    batch: &'a RecordBatch,
    shown: ShownColumns<'a>,
}

impl<'a> SearchResult<'a> {
    /// An empty answer of at most `limit` traces with at most `spans_per_span_set` spans each.
    pub fn new(plan: &'a SearchPlan, regexes: &'a Regexes, limit: usize, spans_per_span_set: usize, memory: Memory) -> Self {
        let (traces, dropped) = (HashMap::new(), HashSet::new());
        Self { plan, regexes, limit, spans_per_span_set, traces, dropped, memory, bytes: 0 }
    }

    /// Adds the spans of a batch.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = self.columns(batch);
        for row in 0..batch.num_rows() {
            self.add_span(&columns, row)?;
        }
        self.drop_many();
        self.memory.hold(self.bytes)
    }

    fn add_span(&mut self, columns: &Columns, row: usize) -> Result<()> {
        let id = columns.text(0, row)?;
        if self.dropped.contains(id) {
            return Ok(());
        }
        let found = match self.traces.get_mut(id) {
            Some(found) => found,
            None => {
                self.bytes += TRACE_BYTES;
                self.traces.entry(id.to_owned()).or_default()
            }
        };
        found.merge_trace(columns, row)?;
        if found.sets.is_empty() {
            found.sets.push(SpanSet::default());
        }
        let set = &mut found.sets[0];
        set.matched += 1;
        if set.spans.len() < self.spans_per_span_set {
            let span = columns.summary(row)?;
            self.bytes += span.bytes();
            set.spans.push(span);
        }
        Ok(())
    }

    fn columns<'b>(&self, batch: &'b RecordBatch) -> Columns<'b>
    where
        'a: 'b,
    {
        let from = ANSWER_COLUMNS.len() + 1;
        let shown = &batch.columns()[from..from + self.plan.shown.len()];
        Columns { batch, shown: ShownColumns::new(self.plan, self.regexes, shown) }
    }

    fn drop_many(&mut self) {
        if self.traces.len() > self.limit.saturating_mul(2).max(1000) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let mut starts: Vec<(u64, String)> = self.traces.iter().map(|(id, f)| (f.summary.start_time_unix_nano, id.clone())).collect();
        starts.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in starts.drain(self.limit.min(starts.len())..) {
            let found = self.traces.remove(&id);
            // Its id stays.
            self.bytes = self.bytes.saturating_sub(found.map_or(0, |f| f.bytes()));
            self.dropped.insert(id);
        }
    }

    /// Of the traces found so far, those in the answer that start after `watermark` (Unix nanoseconds), newest first, by their
    /// full ids.
    pub fn newest_after(&self, watermark: i64) -> Vec<String> {
        let mut found: Vec<(u64, &String)> = self.traces.iter().map(|(id, f)| (f.summary.start_time_unix_nano, id)).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(self.limit);
        found.into_iter().take_while(|(start, _)| *start as i64 > watermark).map(|(_, id)| id.clone()).collect()
    }

    /// What the answer shows of a trace, as far as it is known.
    pub fn summary(&self, id: &str) -> Option<TraceSummary> {
        self.traces.get(id).cloned().map(Found::finish)
    }

    /// The answer.
    pub fn finish(mut self, metrics: SearchMetrics) -> SearchResponse {
        self.drop_oldest();
        let mut traces: Vec<TraceSummary> = self.traces.into_values().map(Found::finish).collect();
        traces.sort_by(|a, b| b.start_time_unix_nano.cmp(&a.start_time_unix_nano).then_with(|| a.trace_id.cmp(&b.trace_id)));
        SearchResponse { traces, metrics }
    }
}

impl Sink for SearchResult<'_> {
    fn add_trace(&mut self, batch: &RecordBatch, rows: Range<usize>, spansets: &[Spanset]) -> Result<()> {
        if spansets.is_empty() {
            return Ok(());
        }
        let columns = self.columns(batch);
        let mut found = Found::default();
        for row in rows.clone() {
            found.merge_trace(&columns, row)?;
        }
        for spanset in spansets {
            let spans = spanset.spans.iter().take(self.spans_per_span_set).map(|span| columns.summary(*span as usize));
            let attributes = spanset.attributes.iter().map(|(key, value)| Attribute { key: key.clone(), value: shown_value(value) });
            found.sets.push(SpanSet {
                spans: spans.collect::<Result<_>>()?,
                attributes: attributes.collect(),
                matched: spanset.spans.len() as u32,
            });
        }
        self.bytes += TRACE_BYTES + found.bytes();
        self.traces.insert(columns.text(0, rows.start)?.to_owned(), found);
        self.drop_many();
        // No trace comes twice: those that were dropped need not be known.
        self.bytes = self.bytes.saturating_sub(self.dropped.len() * TRACE_BYTES);
        self.dropped.clear();
        self.memory.hold(self.bytes)
    }
}

impl Found {
    /// About the memory its spans take.
    fn bytes(&self) -> usize {
        self.sets.iter().flat_map(|s| &s.spans).map(SpanSummary::bytes).sum()
    }

    /// Takes in what a part of the trace (a block, the live side) says of the whole.
    fn merge_trace(&mut self, columns: &Columns, row: usize) -> Result<()> {
        let start = columns.time(6, row)?;
        let end = start.saturating_add(columns.int64(7, row)?);
        let first = self.summary.trace_id.is_empty();
        let summary = &mut self.summary;
        if first {
            summary.trace_id = columns.text(0, row)?.trim_start_matches('0').to_owned();
        }
        let same_part = !first && summary.start_time_unix_nano == start as u64 && self.end == end;
        if same_part {
            return Ok(());
        }
        summary.start_time_unix_nano = if first { start as u64 } else { summary.start_time_unix_nano.min(start as u64) };
        self.end = if first { end } else { self.end.max(end) };
        for (to, at) in [(&mut summary.root_service_name, 4), (&mut summary.root_trace_name, 5)] {
            if to.is_empty() {
                *to = columns.text(at, row)?.to_owned();
            }
        }
        let stats = columns.batch.column(ANSWER_COLUMNS.len()).as_list::<i32>().value(row);
        let stats = stats.as_struct();
        let (names, spans, errors) =
            (stats.column(0).as_string::<i32>(), stats.column(1).as_primitive::<Int64Type>(), stats.column(2).as_primitive::<Int64Type>());
        for i in 0..stats.len() {
            let entry = summary.service_stats.entry(names.value(i).to_owned()).or_default();
            entry.span_count = entry.span_count.max(spans.value(i) as u32);
            entry.error_count = entry.error_count.max(errors.value(i) as u32);
        }
        Ok(())
    }

    fn finish(self) -> TraceSummary {
        let mut summary = self.summary;
        let nanos = (self.end as u64).wrapping_sub(summary.start_time_unix_nano);
        summary.duration_ms = (nanos / 1_000_000) as u32;
        if summary.root_service_name.is_empty() {
            summary.root_service_name = NO_ROOT.to_owned();
        }
        summary.span_set = self.sets.first().cloned();
        summary.span_sets = self.sets;
        summary
    }
}

impl SpanSummary {
    /// About the memory it takes.
    fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|a| size_of::<Attribute>() + a.key.len() + value_bytes(&a.value));
        size_of::<Self>() + self.span_id.len() + self.name.len() + attributes.sum::<usize>()
    }
}

/// About the memory a JSON value takes beside itself.
fn value_bytes(value: &Value) -> usize {
    const NODE_BYTES: usize = 64;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|v| NODE_BYTES + value_bytes(v)).sum(),
        Value::Object(fields) => fields.iter().map(|(k, v)| NODE_BYTES + k.len() + value_bytes(v)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

impl Columns<'_> {
    /// What is shown of a span.
    fn summary(&self, row: usize) -> Result<SpanSummary> {
        let mut span = SpanSummary {
            span_id: self.text(1, row)?.to_owned(),
            start_time_unix_nano: self.time(2, row)? as u64,
            duration_nanos: self.int64(3, row)? as u64,
            ..SpanSummary::default()
        };
        for (field, value) in self.shown.values(row)? {
            match (field, value) {
                (Field::Intrinsic(Intrinsic::Name), Static::String(name)) => span.name = name,
                (field, value) if is_attribute(field) => {
                    span.attributes.extend(any_value(&value).map(|value| Attribute { key: key_of(field), value }));
                }
                _ => {}
            }
        }
        Ok(span)
    }

    fn column(&self, at: usize) -> &ArrayRef {
        self.batch.column(at)
    }

    fn text(&self, at: usize, row: usize) -> Result<&str> {
        let column = self.column(at);
        if let Some(plain) = column.as_string_opt::<i32>() {
            return Ok(plain.value(row));
        }
        let dictionary = column.as_dictionary_opt::<Int32Type>().ok_or_else(|| wrong(at))?;
        let values = dictionary.values().as_string_opt::<i32>().ok_or_else(|| wrong(at))?;
        Ok(dictionary.key(row).map_or("", |key| values.value(key)))
    }

    fn int64(&self, at: usize, row: usize) -> Result<i64> {
        Ok(self.column(at).as_primitive_opt::<Int64Type>().ok_or_else(|| wrong(at))?.value(row))
    }

    fn time(&self, at: usize, row: usize) -> Result<i64> {
        Ok(self.column(at).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(|| wrong(at))?.value(row))
    }
}

/// A computed value as it is shown; nil is the group of the spans without a value.
fn shown_value(value: &Static) -> Value {
    any_value(value).unwrap_or_else(|| serde_json::json!({"stringValue": "nil"}))
}

pub(super) fn wrong(at: usize) -> Error {
    Error::internal(format!("column {at} of a search has an unexpected type"))
}

/// Whether a field is shown among a span's attributes; the others have places of their own in the answer.
fn is_attribute(field: &Field) -> bool {
    use Intrinsic as I;
    !matches!(
        field,
        Field::Intrinsic(I::Name | I::Duration | I::TraceDuration | I::TraceRootName | I::TraceRootService | I::TraceId | I::SpanId)
    )
}

fn key_of(field: &Field) -> String {
    match field {
        Field::Attribute(attribute) => attribute.name.clone(),
        Field::Intrinsic(_) => field.to_string(),
    }
}
