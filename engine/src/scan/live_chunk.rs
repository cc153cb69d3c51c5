//! Live traces as span columns.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use arrow::{
    array::{
        ArrayRef, Int32Array, Int64Array, Int64Builder, ListArray, ListBuilder, StringArray, StringBuilder, StringDictionaryBuilder,
        StructArray, TimestampNanosecondArray, UInt32Array,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Int32Type},
};
use async_trait::async_trait;

use super::{
    AttributeScope, ChunkSource, ChunkStats, SpanChunk, SpanField,
    any_value::{AnyValueBuilder, lookup},
    attributes_to_json,
    columns::{SpanColumn, service_stats_type},
    events_to_json, kind_text, links_to_json, status_text,
};
use crate::{
    derive::{TraceFacts, TreePosition, derive, normalize, service_name},
    error::{Error, ErrorKind, Result},
    trace::{KeyValue, ResourceSpans, ScopeSpans, Span, Trace},
};

/// Some live traces, to be scanned.
#[derive(Debug)]
pub struct LiveChunkSource {
    traces: Vec<Arc<Trace>>,
    bounds: OnceLock<Option<(i64, i64)>>,
}

impl LiveChunkSource {
    /// A source over these traces.
    pub fn new(traces: Vec<Arc<Trace>>) -> Self {
        Self { traces, bounds: OnceLock::new() }
    }
}

#[async_trait]
impl ChunkSource for LiveChunkSource {
    async fn open(self: Arc<Self>) -> Result<Box<dyn SpanChunk>> {
        Ok(Box::new(LiveChunk { traces: self.traces.iter().map(|t| prepare(t)).collect() }))
    }

    fn describe(&self) -> String {
        format!("live({} traces)", self.traces.len())
    }

    fn start_time_bounds(&self) -> Option<(i64, i64)> {
        *self.bounds.get_or_init(|| {
            let starts = || self.traces.iter().flat_map(|t| t.spans()).map(|(_, _, s)| s.start_time_unix_nano as i64);
            starts().min().zip(starts().max())
        })
    }
}

/// A trace as a block would store it, and what follows from it as a whole.
#[derive(Clone, Debug)]
pub struct PreparedTrace {
    trace: Trace,
    facts: TraceFacts,
}

impl PreparedTrace {
    /// The normalised trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The facts of the normalised trace.
    pub fn facts(&self) -> &TraceFacts {
        &self.facts
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let trace = self;
        trace.trace.spans().zip(&trace.facts.spans).map(move |((group, scope, span), at)| Row { trace, group, scope, span, at })
    }
}

/// Normalises a trace and derives its facts, to be flattened.
pub fn prepare(trace: &Trace) -> PreparedTrace {
    let trace = normalize(trace);
    let facts = derive(&trace);
    PreparedTrace { trace, facts }
}

#[derive(Debug)]
struct LiveChunk {
    traces: Vec<PreparedTrace>,
}

#[async_trait]
impl SpanChunk for LiveChunk {
    fn span_count(&self) -> usize {
        self.traces.iter().map(|t| t.facts.spans.len()).sum()
    }

    async fn load(&mut self, _: &[SpanColumn]) -> Result<()> {
        Ok(())
    }

    fn column(&mut self, column: &SpanColumn, selection: Option<&UInt32Array>) -> Result<ArrayRef> {
        let Some(selection) = selection else { return flatten(&self.traces, column) };
        // Only what was chosen is built: the JSON columns cost far more than the walk to them.
        let mut wanted = selection.values().iter().map(|i| *i as usize).peekable();
        let all = self.traces.iter().flat_map(PreparedTrace::rows).enumerate();
        let chosen: Vec<Row<'_>> = all.filter(|(i, _)| wanted.next_if_eq(i).is_some()).map(|(_, row)| row).collect();
        if chosen.len() != selection.len() {
            return Err(Error::internal("a selection of live spans is not ascending or reaches past the last span"));
        }
        flatten_rows(&chosen, column)
    }

    fn stats(&self) -> ChunkStats {
        ChunkStats { spans: self.span_count() as u64, traces: self.traces.len() as u64, ..ChunkStats::default() }
    }
}

/// One column over all spans of these traces, in order. The answer equals that of a block that holds the same traces.
pub fn flatten(traces: &[PreparedTrace], column: &SpanColumn) -> Result<ArrayRef> {
    flatten_rows(&traces.iter().flat_map(PreparedTrace::rows).collect::<Vec<_>>(), column)
}

/// A span and what surrounds it.
#[derive(Clone, Copy)]
struct Row<'a> {
    trace: &'a PreparedTrace,
    group: &'a ResourceSpans,
    scope: &'a ScopeSpans,
    span: &'a Span,
    at: &'a TreePosition,
}

fn flatten_rows(rows: &[Row<'_>], column: &SpanColumn) -> Result<ArrayRef> {
    match column {
        SpanColumn::Field(field) => flatten_field(rows, *field),
        SpanColumn::Attribute { scope, key } => flatten_attribute(rows, *scope, key),
        SpanColumn::EventName => Ok(text_lists(rows, |row| row.span.events.iter().map(|e| Cow::Borrowed(e.name.as_str())))),
        SpanColumn::EventTimeSinceStart => {
            let mut lists = ListBuilder::new(Int64Builder::new());
            for Row { span, .. } in rows {
                lists.append_value(span.events.iter().map(|e| Some(e.time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64)));
            }
            Ok(Arc::new(lists.finish()))
        }
        SpanColumn::LinkTraceId => Ok(text_lists(rows, |row| row.span.links.iter().map(|l| Cow::Owned(hex::encode(&l.trace_id))))),
        SpanColumn::LinkSpanId => Ok(text_lists(rows, |row| row.span.links.iter().map(|l| Cow::Owned(hex::encode(&l.span_id))))),
        SpanColumn::TraceServiceStats => flatten_service_stats(rows),
    }
}

/// The value of a fixed column, before it has an Arrow type.
enum Cell<'a> {
    Text(Option<Cow<'a, str>>),
    Number(i64),
}

impl<'a> Row<'a> {
    /// A fixed column's value. Times wrap as blocks store them: a span may end before it starts.
    fn cell(&self, field: SpanField) -> Cell<'a> {
        let Row { trace: PreparedTrace { trace, facts }, group, scope, span, at } = *self;
        let (instrumentation, status) = (scope.scope.as_ref(), span.status.as_ref());
        let borrowed = |s: &'a str| Cell::Text(Some(Cow::Borrowed(s)));
        let owned = |s: String| Cell::Text(Some(Cow::Owned(s)));
        let json = |attributes: Option<&[KeyValue]>| owned(attributes_to_json(attributes.unwrap_or_default()));
        let not_empty = |s: Cow<'a, str>| Cell::Text(Some(s).filter(|s| !s.is_empty()));
        match field {
            SpanField::TraceId => owned(trace.id.to_string()),
            SpanField::SpanId => owned(hex::encode(&span.span_id)),
            SpanField::ParentSpanId => not_empty(Cow::Owned(hex::encode(&span.parent_span_id))),
            SpanField::Name => borrowed(&span.name),
            SpanField::Kind => Cell::Text(Some(kind_text(span.kind))),
            SpanField::StartTime => Cell::Number(span.start_time_unix_nano as i64),
            SpanField::EndTime => Cell::Number(span.end_time_unix_nano as i64),
            SpanField::DurationNs => Cell::Number(span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64),
            SpanField::Status => Cell::Text(Some(status_text(status.map_or(0, |s| s.code)))),
            SpanField::StatusMessage => borrowed(status.map_or("", |s| &s.message)),
            SpanField::ServiceName => not_empty(Cow::Borrowed(service_name(group.resource.as_ref()))),
            SpanField::ResourceAttributes => json(group.resource.as_ref().map(|r| r.attributes.as_slice())),
            SpanField::ScopeName => borrowed(instrumentation.map_or("", |s| &s.name)),
            SpanField::ScopeVersion => borrowed(instrumentation.map_or("", |s| &s.version)),
            SpanField::ScopeAttributes => json(instrumentation.map(|s| s.attributes.as_slice())),
            SpanField::SpanAttributes => json(Some(&span.attributes)),
            SpanField::Events => owned(events_to_json(&span.events)),
            SpanField::Links => owned(links_to_json(&span.links)),
            SpanField::TraceState => borrowed(&span.trace_state),
            SpanField::KindCode => Cell::Number(span.kind.into()),
            SpanField::StatusCode => Cell::Number(status.map_or(0, |s| s.code).into()),
            SpanField::RootServiceName => borrowed(&facts.root_service_name),
            SpanField::RootSpanName => borrowed(&facts.root_span_name),
            SpanField::TraceStartTime => Cell::Number(facts.start_unix_nanos as i64),
            SpanField::TraceDurationNs => Cell::Number(facts.end_unix_nanos.wrapping_sub(facts.start_unix_nanos) as i64),
            SpanField::NestedSetLeft => Cell::Number(at.left.into()),
            SpanField::NestedSetRight => Cell::Number(at.right.into()),
            SpanField::NestedSetParent => Cell::Number(at.parent.into()),
            SpanField::ChildCount => Cell::Number(at.child_count.into()),
            SpanField::DroppedAttributesCount => Cell::Number(span.dropped_attributes_count.into()),
            SpanField::DroppedEventsCount => Cell::Number(span.dropped_events_count.into()),
            SpanField::DroppedLinksCount => Cell::Number(span.dropped_links_count.into()),
        }
    }

    fn number(&self, field: SpanField) -> Option<i64> {
        match self.cell(field) {
            Cell::Number(n) => Some(n),
            Cell::Text(_) => None,
        }
    }

    fn text(&self, field: SpanField) -> Option<Cow<'a, str>> {
        match self.cell(field) {
            Cell::Text(text) => text,
            Cell::Number(_) => None,
        }
    }
}

fn flatten_field(rows: &[Row<'_>], field: SpanField) -> Result<ArrayRef> {
    let numbers = rows.iter().map(|row| row.number(field));
    Ok(match field.describe().1 {
        DataType::Int64 => Arc::new(numbers.collect::<Int64Array>()),
        // Blocks store 32 bits of these; counts above `i32::MAX` wrap there too.
        DataType::Int32 => Arc::new(numbers.map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        DataType::Timestamp(_, zone) => Arc::new(numbers.collect::<TimestampNanosecondArray>().with_timezone_opt(zone)),
        DataType::Dictionary(..) => {
            let mut texts = StringDictionaryBuilder::<Int32Type>::new();
            for row in rows {
                texts.append_option(row.text(field));
            }
            Arc::new(texts.finish())
        }
        DataType::Utf8 if matches!(field, SpanField::ResourceAttributes | SpanField::ScopeAttributes) => {
            Arc::new(texts_by_scope(rows, field).finish())
        }
        DataType::Utf8 => Arc::new(rows.iter().map(|row| row.text(field)).collect::<StringArray>()),
        other => return Err(Error::internal(format!("no live column of type {other}"))),
    })
}

/// Texts that all spans of a scope share are made once.
fn texts_by_scope(rows: &[Row<'_>], field: SpanField) -> StringBuilder {
    let mut texts = StringBuilder::new();
    for scope in rows.chunk_by(|a, b| std::ptr::eq(a.scope, b.scope)) {
        let text = scope[0].text(field);
        for _ in scope {
            texts.append_option(text.as_deref());
        }
    }
    texts
}

fn flatten_attribute(rows: &[Row<'_>], scope: AttributeScope, key: &str) -> Result<ArrayRef> {
    let mut values = AnyValueBuilder::new();
    match scope {
        AttributeScope::Span => rows.iter().try_for_each(|row| values.append(lookup(&row.span.attributes, key)))?,
        AttributeScope::Resource => rows.iter().try_for_each(|row| {
            let resource = row.group.resource.as_ref();
            values.append(resource.and_then(|r| lookup(&r.attributes, key)))
        })?,
        AttributeScope::Instrumentation => rows.iter().try_for_each(|row| {
            let scope = row.scope.scope.as_ref();
            values.append(scope.and_then(|s| lookup(&s.attributes, key)))
        })?,
        AttributeScope::Event => {
            rows.iter().flat_map(|row| &row.span.events).try_for_each(|e| values.append(lookup(&e.attributes, key)))?;
            return lists(values.finish()?, rows.iter().map(|row| row.span.events.len()));
        }
        AttributeScope::Link => {
            rows.iter().flat_map(|row| &row.span.links).try_for_each(|l| values.append(lookup(&l.attributes, key)))?;
            return lists(values.finish()?, rows.iter().map(|row| row.span.links.len()));
        }
    }
    values.finish()
}

fn flatten_service_stats(rows: &[Row<'_>]) -> Result<ArrayRef> {
    let stats = || rows.iter().flat_map(|row| &row.trace.facts.service_stats);
    let children: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(stats().map(|(name, _, _)| name))),
        Arc::new(Int64Array::from_iter_values(stats().map(|(_, spans, _)| i64::from(*spans)))),
        Arc::new(Int64Array::from_iter_values(stats().map(|(_, _, errors)| i64::from(*errors)))),
    ];
    let DataType::Struct(fields) = service_stats_type() else { return Err(Error::internal("service statistics are no struct")) };
    let items = StructArray::try_new(fields, children, None)?;
    lists(Arc::new(items), rows.iter().map(|row| row.trace.facts.service_stats.len()))
}

/// Cuts items into one list a span.
fn lists(items: ArrayRef, lengths: impl IntoIterator<Item = usize>) -> Result<ArrayRef> {
    if i32::try_from(items.len()).is_err() {
        return Err(Error::new(ErrorKind::TooLarge, "too many list items in one batch of live spans; scan fewer at once"));
    }
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, None)?))
}

fn text_lists<'a, I>(rows: &[Row<'a>], items: impl Fn(&Row<'a>) -> I) -> ArrayRef
where
    I: Iterator<Item = Cow<'a, str>>,
{
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        lists.append_value(items(row).map(Some));
    }
    Arc::new(lists.finish())
}
