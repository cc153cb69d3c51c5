//! Live traces as span columns.

use std::{
    borrow::Cow,
    collections::HashSet,
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
    AttributeScope, ChunkSource, ChunkStats, ChunkTraces, SpanChunk, SpanField,
    any_value::{AnyValueBuilder, lookup},
    attributes_to_json,
    columns::{SpanColumn, service_stats_type},
    events_to_json, kind_text, links_to_json,
    live_attributes::coded_records,
    place::{place, places},
    rounded_end, rounded_start, status_text,
    value_counts::CodedAttributes,
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

    async fn traces(&mut self) -> Result<Option<ChunkTraces>> {
        let mut first_spans = vec![0];
        let mut traces = Vec::with_capacity(self.traces.len());
        for trace in &self.traces {
            traces.push((trace.trace.id, trace.facts.start_unix_nanos as i64));
            first_spans.push(first_spans[first_spans.len() - 1] + trace.facts.spans.len() as u32);
        }
        Ok(Some(ChunkTraces { traces: traces.into(), first_spans: first_spans.into() }))
    }

    fn spans_at(&self, places: &HashSet<i128>) -> Vec<u32> {
        let rows = self.traces.iter().flat_map(PreparedTrace::rows).enumerate();
        rows.filter(|(_, row)| places.contains(&row.place())).map(|(at, _)| at as u32).collect()
    }

    async fn attributes(&mut self, scope: AttributeScope) -> Result<Arc<CodedAttributes>> {
        Ok(Arc::new(coded_attributes(&self.traces.iter().flat_map(PreparedTrace::rows).collect::<Vec<_>>(), scope)?))
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
        SpanColumn::AttributeJson { scope, key } => {
            let json = |row: &Row<'_>| {
                let last = row.attributes(*scope).iter().rfind(|kv| kv.key.as_str() == &**key);
                attributes_to_json(last.map_or(&[], std::slice::from_ref))
            };
            Ok(Arc::new(StringArray::from_iter_values(rows.iter().map(json))))
        }
        SpanColumn::RoundedStart { seconds } => {
            let end = |row: &Row<'_>| rounded_end(rounded_start(row.span.start_time_unix_nano, u64::from(*seconds).max(1)), *seconds);
            Ok(Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(end)).with_timezone("UTC")))
        }
        SpanColumn::Place => places(rows.iter().map(Row::place)),
        SpanColumn::Attributes(scope) => coded_attributes(rows, *scope)?.lists(None, rows.len()),
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
            SpanField::TraceEndTime => Cell::Number(facts.end_unix_nanos as i64),
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

    /// The attributes of the span, or of what it is in.
    fn attributes(&self, scope: AttributeScope) -> &'a [KeyValue] {
        match scope {
            AttributeScope::Resource => self.group.resource.as_ref().map_or(&[], |r| &r.attributes),
            AttributeScope::Instrumentation => self.scope.scope.as_ref().map_or(&[], |s| &s.attributes),
            AttributeScope::Span => &self.span.attributes,
            AttributeScope::Event | AttributeScope::Link => &[],
        }
    }

    /// The parts of a trace in several live segments have different spans.
    fn place(&self) -> i128 {
        let trace = u128::from_be_bytes(self.trace.trace.id.0);
        let span = self.span.span_id.iter().fold(0u128, |id, byte| id << 8 | u128::from(*byte));
        place(trace ^ span << 64, self.at.left as u32 ^ (self.span.start_time_unix_nano as u32) << 8)
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

/// All attributes of spans, or of resources or instrumentation scopes, whose spans lie side by side.
fn coded_attributes(rows: &[Row<'_>], scope: AttributeScope) -> Result<CodedAttributes> {
    match scope {
        AttributeScope::Span => coded_records(rows.iter().map(|row| (&row.span.attributes, None))),
        AttributeScope::Resource => coded_records(rows.chunk_by(|a, b| std::ptr::eq(a.group, b.group)).map(|spans| {
            let resource = spans[0].group.resource.as_ref();
            (resource.map_or(&[][..], |r| &r.attributes), Some(spans.len() as u32))
        })),
        AttributeScope::Instrumentation => coded_records(rows.chunk_by(|a, b| std::ptr::eq(a.scope, b.scope)).map(|spans| {
            let scope = spans[0].scope.scope.as_ref();
            (scope.map_or(&[][..], |s| &s.attributes), Some(spans.len() as u32))
        })),
        AttributeScope::Event | AttributeScope::Link => Err(Error::internal("attributes of events and links are not gathered")),
    }
}

fn flatten_service_stats(rows: &[Row<'_>]) -> Result<ArrayRef> {
    let stats = || rows.iter().flat_map(|row| &row.trace.facts.service_stats);
    let children: Vec<ArrayRef> = vec![
        Arc::new(stats().map(|(name, _, _)| Some(name)).collect::<StringArray>()),
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

#[cfg(test)]
mod tests {
    use arrow::util::display::{ArrayFormatter, FormatOptions};

    use super::*;
    use crate::trace::{
        Event, Link, Value,
        builder::{array, attributes, double, int, map, resource, scope, span, status, text, trace},
    };

    /// Every entry as text, NULL as "-".
    fn show(array: &ArrayRef) -> Vec<String> {
        let options = FormatOptions::new().with_null("-");
        let formatter = ArrayFormatter::try_new(array, &options).unwrap();
        (0..array.len()).map(|i| formatter.value(i).to_string()).collect()
    }

    fn columns() -> Vec<SpanColumn> {
        let attribute = |scope| SpanColumn::Attribute { scope, key: "k".into() };
        let scopes =
            [AttributeScope::Span, AttributeScope::Resource, AttributeScope::Instrumentation, AttributeScope::Event, AttributeScope::Link];
        let mut columns: Vec<_> = SpanField::ALL.into_iter().map(SpanColumn::Field).chain(scopes.map(attribute)).collect();
        columns.extend([
            SpanColumn::EventName,
            SpanColumn::EventTimeSinceStart,
            SpanColumn::LinkTraceId,
            SpanColumn::LinkSpanId,
            SpanColumn::TraceServiceStats,
        ]);
        columns
    }

    fn sample() -> Trace {
        let event = |t, name: &str, k| Event { time_unix_nano: t, name: name.to_owned(), attributes: attributes(k), ..Event::default() };
        let link = Link { trace_id: vec![1; 16], span_id: vec![2; 8], attributes: attributes([("k", text("l"))]), ..Link::default() };
        let root = Span {
            kind: 2,
            status: status(2),
            attributes: attributes([("k", int(6)), ("k", int(5))]),
            events: vec![event(4, "early", vec![]), event(25, "late", vec![("k", array([int(1), int(2)]))])],
            links: vec![link],
            trace_state: "a=b".to_owned(),
            dropped_attributes_count: u32::MAX,
            ..span(10, 0)
        };
        let backwards = Span { kind: 9, end_time_unix_nano: 11, ..span(12, 10) };
        trace([
            resource([("service.name", text("a")), ("k", double(0.5))], [scope("lib", [("k", array([text("one")]))], [root])]),
            resource([("service.name", int(7))], [scope("", [], [backwards])]),
            resource([("service.name", text(""))], [scope("", [], [span(13, 99)])]),
        ])
    }

    #[test]
    fn every_fixed_column() {
        let traces = [prepare(&sample())];
        let events = concat!(
            r#"[{"time_unix_nano":4,"name":"early","attributes":{},"dropped_attributes_count":0},"#,
            r#"{"time_unix_nano":25,"name":"late","attributes":{"k":[1,2]},"dropped_attributes_count":0}]"#
        );
        let links = concat!(
            r#"[{"trace_id":"01010101010101010101010101010101","span_id":"0202020202020202","trace_state":"","#,
            r#""attributes":{"k":"l"},"dropped_attributes_count":0}]"#
        );
        let time = |n| format!("1970-01-01T00:00:00.0000000{n}Z");
        let id = "07070707070707070707070707070707";
        let expected = |field| match field {
            SpanField::TraceId => [id, id, id],
            SpanField::SpanId => ["000000000000000a", "000000000000000c", "000000000000000d"],
            SpanField::ParentSpanId => ["-", "000000000000000a", "0000000000000063"],
            SpanField::Name => ["span 10", "span 12", "span 13"],
            SpanField::Kind => ["server", "9", "internal"],
            SpanField::StartTime => ["10", "12", "13"],
            SpanField::EndTime => ["20", "11", "23"],
            SpanField::DurationNs => ["10", "-1", "10"],
            SpanField::Status => ["error", "unset", "unset"],
            SpanField::ServiceName => ["a", "-", "-"],
            SpanField::ResourceAttributes => [r#"{"k":0.5,"service.name":"a"}"#, r#"{"service.name":7}"#, "{}"],
            SpanField::ScopeName => ["lib", "", ""],
            SpanField::ScopeAttributes => [r#"{"k":["one"]}"#, "{}", "{}"],
            SpanField::SpanAttributes => [r#"{"k":5}"#, "{}", "{}"],
            SpanField::Events => [events, "[]", "[]"],
            SpanField::Links => [links, "[]", "[]"],
            SpanField::TraceState => ["a=b", "", ""],
            SpanField::KindCode => ["2", "9", "1"],
            SpanField::StatusCode => ["2", "0", "0"],
            SpanField::RootServiceName => ["a", "a", "a"],
            SpanField::RootSpanName => ["span 10", "span 10", "span 10"],
            SpanField::TraceStartTime => ["10", "10", "10"],
            SpanField::TraceEndTime => ["23", "23", "23"],
            SpanField::TraceDurationNs => ["13", "13", "13"],
            SpanField::NestedSetLeft => ["1", "2", "0"],
            SpanField::NestedSetRight => ["4", "3", "0"],
            SpanField::NestedSetParent => ["-1", "1", "0"],
            SpanField::ChildCount => ["1", "0", "0"],
            SpanField::DroppedAttributesCount => ["-1", "0", "0"],
            SpanField::DroppedEventsCount | SpanField::DroppedLinksCount => ["0", "0", "0"],
            SpanField::StatusMessage | SpanField::ScopeVersion => ["", "", ""],
        };
        for field in SpanField::ALL {
            let array = flatten(&traces, &SpanColumn::Field(field)).unwrap();
            let is_time = matches!(field, SpanField::StartTime | SpanField::EndTime | SpanField::TraceStartTime | SpanField::TraceEndTime);
            let expected = expected(field).map(|s| if is_time { time(s) } else { s.to_owned() });
            assert_eq!(show(&array), expected, "{field:?}");
        }
    }

    #[test]
    fn events_links_and_trace_columns_are_lists() {
        let traces = [prepare(&sample())];
        let show = |column| show(&flatten(&traces, &column).unwrap());
        assert_eq!(show(SpanColumn::EventName), ["[early, late]", "[]", "[]"]);
        assert_eq!(show(SpanColumn::EventTimeSinceStart), ["[-6, 15]", "[]", "[]"]);
        assert_eq!(show(SpanColumn::LinkTraceId), ["[01010101010101010101010101010101]", "[]", "[]"]);
        assert_eq!(show(SpanColumn::LinkSpanId), ["[0202020202020202]", "[]", "[]"]);
        let stats = "[{service_name: , span_count: 2, error_count: 0}, {service_name: a, span_count: 1, error_count: 1}]";
        assert_eq!(show(SpanColumn::TraceServiceStats), [stats, stats, stats]);
    }

    /// The children of an attribute value that are not NULL.
    fn value(array: &ArrayRef, i: usize) -> String {
        use arrow::array::Array;
        let values = array.as_any().downcast_ref::<StructArray>().unwrap();
        let children = values.columns().iter().zip(values.column_names()).filter(|(child, _)| child.is_valid(i));
        let shown: Vec<_> = children.map(|(child, name)| format!("{name} {}", show(&child.slice(i, 1))[0])).collect();
        assert_eq!(shown.is_empty(), values.is_null(i));
        shown.join(", ")
    }

    #[test]
    fn attribute_values_by_type() {
        let cases = [
            (text("a"), "string a"),
            (text(""), "string "),
            (int(-3), "int -3"),
            (double(3.0), "double 3.0"),
            (Value::BoolValue(false), "bool false"),
            (array([text("a"), text("b")]), "strings [a, b]"),
            (array([int(1), int(2)]), "ints [1, 2]"),
            (array([double(1.5), double(f64::NAN)]), "doubles [1.5, NaN]"),
            (array([Value::BoolValue(true), Value::BoolValue(true)]), "bools [true, true]"),
            (array([int(1)]), "int 1"),
            (array([array([int(1)])]), ""),
            (array([]), ""),
            (array([int(1), double(1.0)]), ""),
            (array([array([int(1)]), array([int(2)])]), ""),
            (Value::BytesValue(vec![1]), ""),
            (map([("x", int(1))]), ""),
        ];
        let spans =
            (1..).zip(&cases).map(|(id, (v, _))| Span { attributes: attributes([("k", int(99)), ("k", v.clone())]), ..span(id, 0) });
        let traces = [prepare(&trace([resource([], [scope("", [], spans)])]))];
        let column = SpanColumn::Attribute { scope: AttributeScope::Span, key: "k".into() };
        let flat = flatten(&traces, &column).unwrap();
        for (i, (given, expected)) in cases.iter().enumerate() {
            assert_eq!(value(&flat, i), *expected, "{given:?}");
        }
    }

    #[test]
    fn attributes_of_every_scope() {
        let traces = [prepare(&sample())];
        let get = |scope, key: &str| flatten(&traces, &SpanColumn::Attribute { scope, key: key.into() }).unwrap();
        let values = |scope, key| (0..3).map(|i| value(&get(scope, key), i)).collect::<Vec<_>>();
        assert_eq!(values(AttributeScope::Span, "k"), ["int 5", "", ""]);
        assert_eq!(values(AttributeScope::Resource, "k"), ["double 0.5", "", ""]);
        assert_eq!(values(AttributeScope::Resource, "service.name"), ["string a", "int 7", ""]);
        assert_eq!(values(AttributeScope::Instrumentation, "k"), ["string one", "", ""]);
        for (scope, lengths, of_root) in
            [(AttributeScope::Event, [2, 0, 0], vec!["", "ints [1, 2]"]), (AttributeScope::Link, [1, 0, 0], vec!["string l"])]
        {
            let lists = get(scope, "k");
            let lists = lists.as_any().downcast_ref::<ListArray>().unwrap();
            assert_eq!(lists.offsets().lengths().collect::<Vec<_>>(), lengths);
            assert_eq!((0..of_root.len()).map(|i| value(&lists.value(0), i)).collect::<Vec<_>>(), of_root);
        }
    }

    #[tokio::test]
    async fn a_chunk_gives_all_columns_whole_or_in_part() {
        let traces = vec![Arc::new(sample()), Arc::new(Trace { id: crate::TraceId([9; 16]), ..sample() })];
        let source = Arc::new(LiveChunkSource::new(traces));
        assert_eq!(source.start_time_bounds(), Some((10, 13)));
        let mut chunk = source.open().await.unwrap();
        assert_eq!((chunk.span_count(), chunk.stats().traces), (6, 2));
        let chosen = UInt32Array::from(vec![1, 2, 5]);
        for column in columns() {
            let whole = chunk.column(&column, None).unwrap();
            assert_eq!((whole.data_type(), whole.len()), (&column.data_type(), 6), "{column:?}");
            assert!(column.field().is_nullable() || whole.null_count() == 0, "{column:?}");
            let part = chunk.column(&column, Some(&chosen)).unwrap();
            assert_eq!(show(&part), show(&arrow::compute::take(&whole, &chosen, None).unwrap()), "{column:?}");
        }
        assert!(chunk.column(&SpanColumn::EventName, Some(&UInt32Array::from(vec![6]))).is_err());
    }

    #[test]
    fn no_trace_gives_empty_columns() {
        for column in columns() {
            let array = flatten(&[], &column).unwrap();
            assert_eq!((array.data_type(), array.len()), (&column.data_type(), 0));
        }
        assert_eq!(LiveChunkSource::new(Vec::new()).start_time_bounds(), None);
    }
}
