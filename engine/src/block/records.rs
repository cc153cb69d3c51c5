//! Whole records from leaves: attributes, events and links as OTLP messages. For JSON text and for whole traces; a column
//! of one attribute does not pass here.

use arrow::{array::BinaryArray, buffer::ScalarBuffer};
use prost::Message;

use super::{
    Version, any_value_json,
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF},
    fields::EVENT_TIME_LEAF,
    leaves::{scope_path, v3},
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
    let generic: &[&str] = match (rows.block().version(), scope) {
        (Version::V3, AttributeScope::Event) => &["Key", "Value"],
        (Version::V3, AttributeScope::Link | AttributeScope::Instrumentation) => &[],
        (Version::V3, _) => &["Key", "Value", "ValueInt", "ValueDouble", "ValueBool", "ValueArray", "ValueKVList"],
        _ => &["Key", "IsArray", "Value", "ValueInt", "ValueDouble", "ValueBool", "ValueUnsupported"],
    };
    paths.extend(generic.iter().map(|leaf| format!("{prefix}.Attrs.{leaf}")));
    paths
}

/// Leaves of events besides their attributes.
pub(super) const EVENT_LEAVES: [&str; 3] = [head::EVENTS, EVENT_TIME_LEAF, "rs.ss.Spans.Events.DroppedAttributesCount"];
/// Leaves of links besides their attributes.
pub(super) const LINK_LEAVES: [&str; 4] =
    [head::LINKS, "rs.ss.Spans.Links.SpanID", "rs.ss.Spans.Links.TraceState", "rs.ss.Spans.Links.DroppedAttributesCount"];

/// Leaves of events, attributes included.
pub(super) fn event_leaves(rows: &Rows) -> Vec<String> {
    let time = if rows.block().version() == Version::V3 { v3::EVENT_TIME } else { EVENT_TIME_LEAF };
    let mut paths: Vec<String> = [EVENT_LEAVES[0], time, EVENT_LEAVES[2]].map(str::to_owned).into();
    paths.extend(attribute_leaves(rows, AttributeScope::Event));
    paths
}

/// Leaves of links, attributes included.
pub(super) fn link_leaves(rows: &Rows) -> Vec<String> {
    if rows.block().version() == Version::V3 {
        return vec![v3::LINKS.to_owned()];
    }
    let mut paths: Vec<String> = LINK_LEAVES.map(str::to_owned).into();
    paths.extend(attribute_leaves(rows, AttributeScope::Link));
    paths
}

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

pub(super) fn scalar(values: &Dense, at: usize) -> Option<Value> {
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
    generic: Option<Generic>,
}

impl Attributes {
    /// Decodes the leaves of [`attribute_leaves`].
    pub fn read(rows: &mut Rows, scope: AttributeScope) -> Result<Self> {
        let promoted: Vec<_> = rows.block().promoted().iter().filter(|p| p.scope == scope).cloned().collect();
        let own = promoted.into_iter().map(|p| Ok((p.key, Grouped::read(rows, &p.path)?))).collect::<Result<_>>()?;
        Ok(Self {
            service_names: if scope == AttributeScope::Resource { Some(rows.text(SERVICE_NAME_LEAF)?) } else { None },
            own,
            generic: Generic::read(rows, scope)?,
        })
    }

    /// The attributes of one thing. Those with a column of their own come last, because the last of a repeated key counts.
    pub fn of(&self, owner: usize) -> Vec<KeyValue> {
        let mut attributes = Vec::new();
        let mut add = |key: &str, value| attributes.push(KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() });
        if let Some(generic) = &self.generic {
            for at in generic.offsets[owner] as usize..generic.offsets[owner + 1] as usize {
                add(generic.keys.get(at), generic.values.value(at));
            }
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
}

/// Attributes without a column of their own.
struct Generic {
    keys: Text,
    /// Where the attributes of each owner start.
    offsets: Vec<u32>,
    values: GenericValues,
}

impl Generic {
    /// `None` where the version stores none.
    fn read(rows: &mut Rows, scope: AttributeScope) -> Result<Option<Self>> {
        let prefix = scope_path(scope).0;
        let key_leaf = format!("{prefix}{}", head::ATTRIBUTES_SUFFIX);
        if !rows.exists(&key_leaf) {
            return Ok(None);
        }
        let values = match (rows.block().version(), scope) {
            (Version::V3, AttributeScope::Event) => GenericValues::Encoded(rows.bytes(v3::EVENT_VALUE)?),
            (version, _) => GenericValues::Typed(TypedValues::read(rows, prefix, version)?),
        };
        Ok(Some(Self { keys: rows.text(&key_leaf)?, offsets: rows.list_offsets(&key_leaf)?, values }))
    }
}

/// Values of attributes, by the number of the attribute.
enum GenericValues {
    Typed(TypedValues),
    /// `AnyValue` messages.
    Encoded(BinaryArray),
}

impl GenericValues {
    fn value(&self, at: usize) -> AnyValue {
        match self {
            Self::Typed(values) => values.value(at),
            // Before they were protobuf, they were JSON.
            Self::Encoded(values) => {
                let bytes = values.value(at);
                AnyValue::decode(bytes).unwrap_or_else(|_| any_value_json::parse(&String::from_utf8_lossy(bytes)))
            }
        }
    }
}

/// Values in a leaf for each type, and JSON for what has none.
struct TypedValues {
    /// Which are arrays; vParquet3 does not say, its arrays are JSON.
    is_array: Option<ScalarBuffer<u8>>,
    typed: Vec<Grouped>,
    json: Vec<Grouped>,
}

impl TypedValues {
    fn read(rows: &mut Rows, prefix: &str, version: Version) -> Result<Self> {
        let mut read = |leaves: &[&str]| -> Result<Vec<Grouped>> {
            leaves.iter().map(|leaf| Grouped::read(rows, &format!("{prefix}.Attrs.{leaf}"))).collect()
        };
        let typed = read(&["Value", "ValueInt", "ValueDouble", "ValueBool"])?;
        if version == Version::V3 {
            return Ok(Self { is_array: None, typed, json: read(&["ValueArray", "ValueKVList"])? });
        }
        let json = read(&["ValueUnsupported"])?;
        let arrays = format!("{prefix}.Attrs.IsArray");
        match &rows.leaf(&arrays)?.values {
            Dense::Bool(values) => Ok(Self { is_array: Some(values.clone()), typed, json }),
            _ => Err(Error::internal(format!("column {arrays} is not boolean"))),
        }
    }

    fn value(&self, at: usize) -> AnyValue {
        let array = self.is_array.as_ref().is_some_and(|is| is[at] != 0);
        let json = |leaf: &Grouped| match &leaf.values {
            Dense::Text(text) if leaf.count(at) > 0 => Some(any_value_json::parse(text.get(leaf.offsets[at] as usize))),
            _ => None,
        };
        let typed = self.typed.iter().find_map(|leaf| leaf.value(at, array));
        typed.or_else(|| self.json.iter().find_map(json)).unwrap_or_else(|| match array {
            true => any(Some(Value::ArrayValue(ArrayValue::default()))),
            false => any(None),
        })
    }
}

/// The events of spans.
pub(super) struct Events {
    offsets: Vec<u32>,
    /// Times, since the epoch or since the span's start.
    times: ScalarBuffer<i64>,
    since_epoch: bool,
    names: Text,
    dropped: ScalarBuffer<i32>,
    attributes: Attributes,
}

impl Events {
    /// Decodes the leaves of [`event_leaves`].
    pub fn read(rows: &mut Rows) -> Result<Self> {
        let since_epoch = rows.block().version() == Version::V3;
        Ok(Self {
            offsets: rows.list_offsets(head::EVENTS)?,
            names: rows.text(head::EVENTS)?,
            times: rows.int64(if since_epoch { v3::EVENT_TIME } else { EVENT_TIME_LEAF })?,
            since_epoch,
            dropped: rows.int32(EVENT_LEAVES[2])?,
            attributes: Attributes::read(rows, AttributeScope::Event)?,
        })
    }

    /// The events of a span that starts at `start_unix_nanos`.
    pub fn of(&self, span: usize, start_unix_nanos: u64) -> Vec<Event> {
        let event = |at: usize| Event {
            time_unix_nano: if self.since_epoch { 0 } else { start_unix_nanos }.wrapping_add(self.times[at] as u64),
            name: self.names.get(at).to_owned(),
            attributes: self.attributes.of(at),
            dropped_attributes_count: self.dropped[at] as u32,
        };
        (self.offsets[span] as usize..self.offsets[span + 1] as usize).map(event).collect()
    }
}

/// The links of spans.
pub(super) enum Links {
    Leaves(Box<LinkLeaves>),
    /// Of each span.
    Decoded(Vec<Vec<Link>>),
}

/// The links of a span as vParquet3 stores them.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinkSlice {
    #[prost(message, repeated, tag = "1")]
    pub links: Vec<Link>,
}

impl Links {
    /// Decodes the leaves of [`link_leaves`].
    pub fn read(rows: &mut Rows) -> Result<Self> {
        if rows.block().version() != Version::V3 {
            return LinkLeaves::read(rows).map(|leaves| Self::Leaves(Box::new(leaves)));
        }
        let block = rows.block().meta().block_id;
        let wrong = |e| Error::data(format!("block {block}, column {}: links that are no links", v3::LINKS)).with_source(e);
        let decode = |bytes: Option<&[u8]>| LinkSlice::decode(bytes.unwrap_or_default()).map(|slice| slice.links).map_err(wrong);
        rows.bytes(v3::LINKS)?.iter().map(decode).collect::<Result<_>>().map(Self::Decoded)
    }

    /// The links of a span.
    pub fn of(&self, span: usize) -> Vec<Link> {
        match self {
            Self::Leaves(leaves) => leaves.of(span),
            Self::Decoded(links) => links[span].clone(),
        }
    }
}

/// Links with a leaf for each field.
pub(super) struct LinkLeaves {
    offsets: Vec<u32>,
    trace_ids: BinaryArray,
    span_ids: BinaryArray,
    states: Text,
    dropped: ScalarBuffer<i32>,
    attributes: Attributes,
}

impl LinkLeaves {
    fn read(rows: &mut Rows) -> Result<Self> {
        Ok(Self {
            offsets: rows.list_offsets(head::LINKS)?,
            trace_ids: rows.bytes(head::LINKS)?,
            span_ids: rows.bytes(LINK_LEAVES[1])?,
            states: rows.text(LINK_LEAVES[2])?,
            dropped: rows.int32(LINK_LEAVES[3])?,
            attributes: Attributes::read(rows, AttributeScope::Link)?,
        })
    }

    fn of(&self, span: usize) -> Vec<Link> {
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
