//! Trace to leaf values with definition and repetition levels: one walk, straight into the buffers of the leaves.
//!
//! The trace is in normal grouping ([`Grouped::new`]). What OTLP has and the schema lacks (schema URLs, span
//! flags) is not stored.

use std::borrow::Borrow;

use crate::{
    block::{
        DedicatedType, Version,
        columns::Columns,
        schema::{ATTRIBUTE_LEAVES, AttributePlace, BlockSchema, DedicatedPlace, Layout},
        value_json,
    },
    derive::{TraceFacts, TreePosition, service_name_at},
    grouping::{Grouped, ResourceGroup, ScopeGroup},
    scan::{ROUNDED_SECONDS, rounded_start},
    trace::{AnyValue, Event, KeyValue, Link, Span, Value},
};

/// Repetition level of an element of `rs`, `rs.ss`, `rs.ss.Spans`, and of events and links; their definition levels are
/// the same, because every group on the way is repeated and none is optional.
const RESOURCE_SPANS: i16 = 1;
const SCOPE_SPANS: i16 = 2;
const SPANS: i16 = 3;
const EVENTS: i16 = 4;

/// Turns traces into leaf values.
#[derive(Debug)]
pub(super) struct Shredder {
    /// What was shredded and not yet taken out.
    pub columns: Columns,
    layout: Layout,
    slots: Vec<Option<usize>>,
    json: String,
}

impl Shredder {
    /// A shredder for blocks of this schema.
    pub fn new(schema: &BlockSchema) -> Self {
        Self { columns: Columns::new(schema), layout: schema.layout.clone(), slots: Vec::new(), json: String::new() }
    }

    /// Adds one row. `facts` are those of `trace`.
    pub fn trace(&mut self, trace: &Grouped<'_>, facts: &TraceFacts) {
        let (start, end) = (facts.start_unix_nanos, facts.end_unix_nanos);
        self.columns
            .row(0)
            .bytes(&trace.id.0)
            .text(&trace.id.short_hex())
            .u64(start)
            .u64(end)
            .u64(end.wrapping_sub(start))
            .text(&facts.root_service_name)
            .text(&facts.root_span_name);
        let mut walk = Walk { columns: &mut self.columns, layout: &self.layout, slots: &mut self.slots, json: &mut self.json };
        walk.service_stats(facts);
        if trace.resources.is_empty() {
            let at = walk.layout.resource_spans;
            walk.columns.absent(at.shape..at.shapes_end, 0, 0);
        }
        let mut positions = facts.spans.iter().copied();
        for (i, rs) in trace.resources.iter().enumerate() {
            walk.resource_spans(rs, &mut positions, first_or(i, 0, RESOURCE_SPANS));
        }
    }
}

/// The repetition level of the `i`th element of a list: the first continues its parent's.
fn first_or(i: usize, parent: i16, own: i16) -> i16 {
    if i == 0 { parent } else { own }
}

/// The buffers apart, so that places and buffers can be held at the same time.
struct Walk<'a> {
    columns: &'a mut Columns,
    layout: &'a Layout,
    slots: &'a mut Vec<Option<usize>>,
    json: &'a mut String,
}

impl Walk<'_> {
    fn service_stats(&mut self, facts: &TraceFacts) {
        let at = self.layout.service_stats;
        if facts.service_stats.is_empty() {
            self.columns.level(at.shape, 0, 0);
        }
        for (i, (service, spans, errors)) in facts.service_stats.iter().enumerate() {
            self.columns.level(at.shape, 1, first_or(i, 0, 1));
            self.columns.row(at.leaf).text(service).u32(*spans).u32(*errors);
        }
    }

    fn resource_spans(&mut self, rs: &ResourceGroup<'_>, positions: &mut impl Iterator<Item = TreePosition>, rep: i16) {
        let (at, place) = (self.layout.resource_spans, &self.layout.resource);
        let service = service_name_at(&rs.attributes);
        self.columns.level(at.shape, RESOURCE_SPANS, rep);
        let (name, dropped) = (rs.service_name(), rs.resource.map_or(0, |r| r.dropped_attributes_count));
        match self.layout.version {
            Version::V5 => self.columns.row(at.leaf).text(name).skip(ATTRIBUTE_LEAVES).u32(dropped),
            _ => self.columns.row(at.leaf).skip(ATTRIBUTE_LEAVES).u32(dropped).text(name),
        };
        self.attributes(place, &rs.attributes, service, rep);
        if rs.scopes.is_empty() {
            let at = self.layout.scope_spans;
            self.columns.absent(at.shape..at.shapes_end, RESOURCE_SPANS, rep);
        }
        for (i, ss) in rs.scopes.iter().enumerate() {
            self.scope_spans(ss, positions, first_or(i, rep, SCOPE_SPANS));
        }
    }

    fn scope_spans(&mut self, ss: &ScopeGroup<'_>, positions: &mut impl Iterator<Item = TreePosition>, rep: i16) {
        let (at, spans) = (self.layout.scope_spans, self.layout.spans);
        let scope = ss.scope;
        self.columns.level(at.shape, SCOPE_SPANS, rep);
        let row = self
            .columns
            .row(at.leaf)
            .text(scope.map_or("", |s| &s.name))
            .text(scope.map_or("", |s| &s.version))
            .skip(ATTRIBUTE_LEAVES)
            .u32(scope.map_or(0, |s| s.dropped_attributes_count))
            .skip(spans.leaves_end - spans.leaf);
        if self.layout.version == Version::V5 {
            row.i32(i32::try_from(ss.spans.len()).unwrap_or(i32::MAX));
        }
        self.attributes(&self.layout.scope, &ss.attributes, None, rep);
        if ss.spans.is_empty() {
            self.columns.absent(spans.shape..spans.shapes_end, SCOPE_SPANS, rep);
        }
        for (i, span) in ss.spans.iter().enumerate() {
            self.span(span, positions.next().unwrap_or_default(), first_or(i, rep, SPANS));
        }
    }

    fn span(&mut self, span: &Span, position: TreePosition, rep: i16) {
        let (at, events, links) = (self.layout.spans, self.layout.events, self.layout.links);
        let status = span.status.as_ref();
        let start = span.start_time_unix_nano;
        let v5 = self.layout.version == Version::V5;
        self.columns.level(at.shape, SPANS, rep);
        let mut row = self
            .columns
            .row(at.leaf)
            .bytes(&span.span_id)
            .bytes(&span.parent_span_id)
            .i32(position.parent)
            .i32(position.left)
            .i32(position.right);
        if v5 {
            row = row.i32(position.child_count);
        }
        row = row
            .text(&span.name)
            .i64(span.kind.into())
            .text(&span.trace_state)
            .u64(start)
            .u64(span.end_time_unix_nano.wrapping_sub(start))
            .i64(status.map_or(0, |s| s.code.into()))
            .text(status.map_or("", |s| &s.message))
            .skip(ATTRIBUTE_LEAVES)
            .u32(span.dropped_attributes_count)
            .skip(events.leaves_end - events.leaf)
            .u32(span.dropped_events_count)
            .skip(links.leaves_end - links.leaf)
            .u32(span.dropped_links_count)
            .skip(self.layout.span.columns.len());
        if v5 {
            for seconds in ROUNDED_SECONDS {
                row = row.u32(rounded_start(start, seconds.into()));
            }
        }
        self.attributes(&self.layout.span, &span.attributes, None, rep);
        if span.events.is_empty() {
            self.columns.absent(events.shape..events.shapes_end, SPANS, rep);
        }
        for (i, event) in span.events.iter().enumerate() {
            self.event(event, start, first_or(i, rep, EVENTS));
        }
        if span.links.is_empty() {
            self.columns.absent(links.shape..links.shapes_end, SPANS, rep);
        }
        for (i, link) in span.links.iter().enumerate() {
            self.link(link, first_or(i, rep, EVENTS));
        }
    }

    fn event(&mut self, event: &Event, span_start: u64, rep: i16) {
        let at = self.layout.events;
        self.columns.level(at.shape, EVENTS, rep);
        self.columns
            .row(at.leaf)
            .u64(event.time_unix_nano.wrapping_sub(span_start))
            .text(&event.name)
            .skip(ATTRIBUTE_LEAVES)
            .u32(event.dropped_attributes_count);
        self.attributes(&self.layout.event, &event.attributes, None, rep);
    }

    fn link(&mut self, link: &Link, rep: i16) {
        let at = self.layout.links;
        self.columns.level(at.shape, EVENTS, rep);
        self.columns
            .row(at.leaf)
            .bytes(&link.trace_id)
            .bytes(&link.span_id)
            .text(&link.trace_state)
            .skip(ATTRIBUTE_LEAVES)
            .u32(link.dropped_attributes_count);
        self.attributes(&self.layout.link, &link.attributes, None, rep);
    }

    /// The attributes of one element. A key's last value goes to its dedicated column if the type fits; all others go to
    /// `Attrs`, so whoever finds a value in the column need not look further. The one at `skip` is stored elsewhere.
    fn attributes<A: Borrow<KeyValue>>(&mut self, place: &AttributePlace, attributes: &[A], skip: Option<usize>, rep: i16) {
        self.slots.clear();
        self.slots.resize(place.columns.len(), None);
        let mut generic = 0;
        for (i, attribute) in attributes.iter().map(Borrow::borrow).enumerate() {
            if skip == Some(i) {
                continue;
            }
            let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
            let form = Form::of(value);
            let column = if place.columns.is_empty() { None } else { dedicated_column(place, &attribute.key, form) };
            match column {
                Some(column) if attributes[i + 1..].iter().all(|later| later.borrow().key != attribute.key) => {
                    self.slots[column.slot] = Some(i);
                }
                _ => {
                    self.generic(place, &attribute.key, value, form, first_or(generic, rep, place.depth));
                    generic += 1;
                }
            }
        }
        if generic == 0 {
            self.columns.absent(place.generic.shape..place.generic.shapes_end, place.depth - 1, rep);
        }
        for column in &place.columns {
            match self.slots[column.slot].and_then(|i| attributes[i].borrow().value.as_ref()) {
                Some(value) => self.list(column.leaf, column.shape, elements(value), place.depth, rep),
                None => self.columns.level(column.shape, place.depth - 1, rep),
            }
        }
    }

    /// One element of `Attrs`.
    fn generic(&mut self, place: &AttributePlace, key: &str, value: Option<&Value>, form: Form, rep: i16) {
        let at = place.generic;
        self.columns.level(at.shape, place.depth, rep);
        self.columns.row(at.leaf).text(key).bool(form.is_array());
        // After `Key` and `IsArray` come the five value leaves, each with levels of its own.
        for kind in [Kind::String, Kind::Int, Kind::Double, Kind::Bool] {
            let (leaf, shape) = (at.leaf + 2 + kind as usize, at.shape + 1 + kind as usize);
            match (value, form) {
                (Some(Value::ArrayValue(array)), Form::Array(k)) if k == kind => {
                    self.list(leaf, shape, &array.values, place.depth + 1, rep);
                }
                (Some(value), Form::Scalar(k)) if k == kind => {
                    self.columns.level(shape, place.depth + 1, rep);
                    self.scalar(leaf, value);
                }
                _ => self.columns.level(shape, place.depth, rep),
            }
        }
        let (leaf, shape) = (at.leaf + ATTRIBUTE_LEAVES - 1, at.shapes_end - 1);
        if form == Form::Unsupported {
            self.json.clear();
            value_json::write(value, self.json);
            self.columns.level(shape, place.depth + 1, rep);
            self.columns.row(leaf).text(self.json);
        } else {
            self.columns.level(shape, place.depth, rep);
        }
    }

    /// A list of scalars of one type, not empty.
    fn list(&mut self, leaf: usize, shape: usize, elements: &[AnyValue], depth: i16, rep: i16) {
        for (i, element) in elements.iter().enumerate() {
            self.columns.level(shape, depth, first_or(i, rep, depth));
            if let Some(value) = &element.value {
                self.scalar(leaf, value);
            }
        }
    }

    fn scalar(&mut self, leaf: usize, value: &Value) {
        let row = self.columns.row(leaf);
        match value {
            Value::StringValue(s) => row.text(s),
            Value::IntValue(i) => row.i64(*i),
            Value::DoubleValue(d) => row.double(*d),
            Value::BoolValue(b) => row.bool(*b),
            _ => row,
        };
    }
}

/// The types with value columns; the numbers are the order of the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String = 0,
    Int = 1,
    Double = 2,
    Bool = 3,
}

impl Kind {
    fn of(value: &AnyValue) -> Option<Self> {
        match value.value.as_ref()? {
            Value::StringValue(_) => Some(Self::String),
            Value::IntValue(_) => Some(Self::Int),
            Value::DoubleValue(_) => Some(Self::Double),
            Value::BoolValue(_) => Some(Self::Bool),
            _ => None,
        }
    }
}

/// How a value can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Scalar(Kind),
    /// At least one element, all of one type.
    Array(Kind),
    EmptyArray,
    /// As JSON.
    Unsupported,
}

impl Form {
    fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::StringValue(_)) => Self::Scalar(Kind::String),
            Some(Value::IntValue(_)) => Self::Scalar(Kind::Int),
            Some(Value::DoubleValue(_)) => Self::Scalar(Kind::Double),
            Some(Value::BoolValue(_)) => Self::Scalar(Kind::Bool),
            Some(Value::ArrayValue(array)) => match array.values.as_slice() {
                [] => Self::EmptyArray,
                [first, rest @ ..] => match Kind::of(first) {
                    Some(kind) if rest.iter().all(|v| Kind::of(v) == Some(kind)) => Self::Array(kind),
                    _ => Self::Unsupported,
                },
            },
            _ => Self::Unsupported,
        }
    }

    fn is_array(self) -> bool {
        matches!(self, Self::Array(_) | Self::EmptyArray)
    }
}

/// The dedicated column for a key, if there is one for values of this form.
fn dedicated_column(place: &AttributePlace, key: &str, form: Form) -> Option<DedicatedPlace> {
    let kind = match form {
        Form::Array(_) if !place.arrays => return None,
        Form::Scalar(Kind::String) | Form::Array(Kind::String) => DedicatedType::String,
        Form::Scalar(Kind::Int) | Form::Array(Kind::Int) => DedicatedType::Int,
        _ => return None,
    };
    place.dedicated.get(key)?[kind as usize]
}

/// The elements of an array, or a scalar as the only one.
fn elements(value: &AnyValue) -> &[AnyValue] {
    match &value.value {
        Some(Value::ArrayValue(array)) => &array.values,
        _ => std::slice::from_ref(value),
    }
}
