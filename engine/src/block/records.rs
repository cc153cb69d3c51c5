//! Whole records from leaves: attributes, events and links as OTLP messages. For JSON text and for whole traces; a column
//! of one attribute does not pass here.

use arrow::{array::BinaryArray, buffer::ScalarBuffer};

use super::{
    any_value_json,
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF},
    fields::EVENT_TIME_LEAF,
    leaves::scope_path,
    rows::{Rows, head},
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::AttributeScope,
    trace::{AnyValue, ArrayValue, Event, KeyValue, Link, Value},
};

/// The leaves that hold a scope's attributes.
pub(super) fn attribute_leaves(rows: &Rows, scope: AttributeScope) -> Vec<String> {
    let mut paths: Vec<String> = rows.block().promoted().iter().filter(|p| p.scope == scope).map(|p| p.path.clone()).collect();
    if scope == AttributeScope::Resource {
        paths.push(SERVICE_NAME_LEAF.to_owned());
    }
    let prefix = scope_path(scope).0;
    let generic = ["Key", "IsArray", "Value", "ValueInt", "ValueDouble", "ValueBool", "ValueUnsupported"];
    paths.extend(generic.map(|leaf| format!("{prefix}.Attrs.{leaf}")));
    paths
}

/// Leaves of events besides their attributes.
pub(super) const EVENT_LEAVES: [&str; 3] = [head::EVENTS, EVENT_TIME_LEAF, "rs.ss.Spans.Events.DroppedAttributesCount"];
/// Leaves of links besides their attributes.
pub(super) const LINK_LEAVES: [&str; 4] =
    [head::LINKS, "rs.ss.Spans.Links.SpanID", "rs.ss.Spans.Links.TraceState", "rs.ss.Spans.Links.DroppedAttributesCount"];

/// The values of one leaf, grouped by what they belong to.
struct Grouped {
    values: Dense,
    /// Where the values of each owner start.
    offsets: Vec<u32>,
}

impl Grouped {
    fn read(rows: &mut Rows, path: &str) -> Result<Self> {
        let leaf = rows.leaf(path)?;
        let owners = leaf.owners.as_ref().ok_or_else(|| Error::internal(format!("column {path} has no owners")))?;
        Ok(Self { values: leaf.values.clone(), offsets: owners.offsets() })
    }

    fn count(&self, owner: usize) -> usize {
        (self.offsets[owner + 1] - self.offsets[owner]) as usize
    }

    fn values(&self, owner: usize) -> impl Iterator<Item = AnyValue> {
        (self.offsets[owner] as usize..self.offsets[owner + 1] as usize).map(|at| any(scalar(&self.values, at)))
    }

    /// The owner's value: an array if it has several, or if `array`; `None` if it has none.
    fn value(&self, owner: usize, array: bool) -> Option<AnyValue> {
        match self.count(owner) {
            0 => None,
            1 if !array => self.values(owner).next(),
            _ => Some(any(Some(Value::ArrayValue(ArrayValue { values: self.values(owner).collect() })))),
        }
    }
}

fn any(value: Option<Value>) -> AnyValue {
    AnyValue { value }
}

fn scalar(values: &Dense, at: usize) -> Option<Value> {
    Some(match values {
        Dense::Text(text) => Value::StringValue(text.get(at).to_owned()),
        Dense::Int64(v) => Value::IntValue(v[at]),
        Dense::Double(v) => Value::DoubleValue(v[at]),
        Dense::Bool(v) => Value::BoolValue(v[at] != 0),
        Dense::Int32(_) | Dense::Bytes(_) => return None, // no attribute leaf has these types
    })
}

/// The attributes of a scope's things.
pub(super) struct Attributes {
    service_names: Option<Text>,
    own: Vec<(String, Grouped)>,
    keys: Text,
    /// Where the generic attributes of each owner start.
    offsets: Vec<u32>,
    is_array: ScalarBuffer<u8>,
    generic: Vec<Grouped>,
    unsupported: Grouped,
}

impl Attributes {
    /// Decodes the leaves of [`attribute_leaves`].
    pub fn read(rows: &mut Rows, scope: AttributeScope) -> Result<Self> {
        let prefix = scope_path(scope).0;
        let promoted: Vec<_> = rows.block().promoted().iter().filter(|p| p.scope == scope).cloned().collect();
        let own = promoted.into_iter().map(|p| Ok((p.key, Grouped::read(rows, &p.path)?))).collect::<Result<_>>()?;
        let key_leaf = format!("{prefix}{}", head::ATTRIBUTES_SUFFIX);
        let arrays = format!("{prefix}.Attrs.IsArray");
        let is_array = match &rows.leaf(&arrays)?.values {
            Dense::Bool(values) => values.clone(),
            _ => return Err(Error::internal(format!("column {arrays} is not boolean"))),
        };
        let generic = ["Value", "ValueInt", "ValueDouble", "ValueBool"];
        Ok(Self {
            service_names: if scope == AttributeScope::Resource { Some(rows.text(SERVICE_NAME_LEAF)?) } else { None },
            own,
            keys: rows.text(&key_leaf)?,
            offsets: rows.list_offsets(&key_leaf)?,
            is_array,
            generic: generic.iter().map(|leaf| Grouped::read(rows, &format!("{prefix}.Attrs.{leaf}"))).collect::<Result<_>>()?,
            unsupported: Grouped::read(rows, &format!("{prefix}.Attrs.ValueUnsupported"))?,
        })
    }

    /// The attributes of one thing. Those with a column of their own come last, because the last of a repeated key counts.
    pub fn of(&self, owner: usize) -> Vec<KeyValue> {
        let mut attributes = Vec::new();
        let mut add = |key: &str, value| attributes.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() });
        for at in self.offsets[owner] as usize..self.offsets[owner + 1] as usize {
            add(self.keys.get(at), self.generic_value(at));
        }
        if let Some(name) = self.service_names.as_ref().map(|names| names.get(owner)).filter(|name| !name.is_empty()) {
            add(SERVICE_NAME, any(Some(Value::StringValue(name.to_owned()))));
        }
        for (key, column) in &self.own {
            if let Some(value) = column.value(owner, false) {
                add(key, value);
            }
        }
        attributes
    }

    fn generic_value(&self, at: usize) -> AnyValue {
        let array = self.is_array[at] != 0;
        let typed = self.generic.iter().find_map(|leaf| leaf.value(at, array));
        typed.unwrap_or_else(|| match (&self.unsupported.values, array) {
            (Dense::Text(text), _) if self.unsupported.count(at) > 0 => {
                any_value_json::parse(text.get(self.unsupported.offsets[at] as usize))
            }
            (_, true) => any(Some(Value::ArrayValue(ArrayValue::default()))),
            _ => any(None),
        })
    }
}

/// The events of spans.
pub(super) struct Events {
    offsets: Vec<u32>,
    since_start: ScalarBuffer<i64>,
    names: Text,
    dropped: ScalarBuffer<i32>,
    attributes: Attributes,
}

impl Events {
    /// Decodes the leaves of [`EVENT_LEAVES`] and the events' attributes.
    pub fn read(rows: &mut Rows) -> Result<Self> {
        Ok(Self {
            offsets: rows.list_offsets(head::EVENTS)?,
            names: rows.text(head::EVENTS)?,
            since_start: rows.int64(EVENT_TIME_LEAF)?,
            dropped: rows.int32(EVENT_LEAVES[2])?,
            attributes: Attributes::read(rows, AttributeScope::Event)?,
        })
    }

    /// The events of a span that starts at `start_unix_nanos`.
    pub fn of(&self, span: usize, start_unix_nanos: u64) -> Vec<Event> {
        let event = |at: usize| Event {
            time_unix_nano: start_unix_nanos.wrapping_add(self.since_start[at] as u64),
            name: self.names.get(at).to_owned(),
            attributes: self.attributes.of(at),
            dropped_attributes_count: self.dropped[at] as u32,
        };
        (self.offsets[span] as usize..self.offsets[span + 1] as usize).map(event).collect()
    }
}

/// The links of spans.
pub(super) struct Links {
    offsets: Vec<u32>,
    trace_ids: BinaryArray,
    span_ids: BinaryArray,
    states: Text,
    dropped: ScalarBuffer<i32>,
    attributes: Attributes,
}

impl Links {
    /// Decodes the leaves of [`LINK_LEAVES`] and the links' attributes.
    pub fn read(rows: &mut Rows) -> Result<Self> {
        Ok(Self {
            offsets: rows.list_offsets(head::LINKS)?,
            trace_ids: rows.bytes(head::LINKS)?,
            span_ids: rows.bytes(LINK_LEAVES[1])?,
            states: rows.text(LINK_LEAVES[2])?,
            dropped: rows.int32(LINK_LEAVES[3])?,
            attributes: Attributes::read(rows, AttributeScope::Link)?,
        })
    }

    /// The links of a span.
    pub fn of(&self, span: usize) -> Vec<Link> {
        let link = |at: usize| Link {
            trace_id: self.trace_ids.value(at).to_vec(),
            span_id: self.span_ids.value(at).to_vec(),
            trace_state: self.states.get(at).to_owned(),
            attributes: self.attributes.of(at),
            dropped_attributes_count: self.dropped[at] as u32,
            ..Link::default()
        };
        (self.offsets[span] as usize..self.offsets[span + 1] as usize).map(link).collect()
    }
}
