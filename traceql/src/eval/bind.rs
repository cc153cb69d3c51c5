//! Which columns of the scan a field needs, and how to read its values from them.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, ListArray, UInt32Array, UInt32Builder},
    compute::take,
    datatypes::{Int32Type, Int64Type},
};
use tracehouse_engine::{
    Error, Result,
    scan::{AttributeScope, SpanColumn, SpanField},
};

use super::{
    Values,
    values::{AnyValues, Text},
};
use crate::syntax::{Attribute, Field, Intrinsic, SERVICE_NAME, Scope};

/// The columns that hold a field's values. An attribute without scope is looked up on the span, then on the resource
/// (Tempo 3.0.3 does not look at events, links or scopes for it, whatever its documentation says).
pub fn columns_of(field: &Field) -> Vec<SpanColumn> {
    use Intrinsic as I;
    let attribute = |scope, name: &str| SpanColumn::Attribute { scope, key: Arc::from(name) };
    let of_resource = |name: &str| match name {
        SERVICE_NAME => SpanColumn::Field(SpanField::ServiceName),
        _ => attribute(AttributeScope::Resource, name),
    };
    let intrinsic = match field {
        Field::Attribute(Attribute { scope, name, .. }) => {
            return match scope {
                Scope::None => vec![attribute(AttributeScope::Span, name), of_resource(name)],
                Scope::Span => vec![attribute(AttributeScope::Span, name)],
                Scope::Resource => vec![of_resource(name)],
                Scope::Event => vec![attribute(AttributeScope::Event, name)],
                Scope::Link => vec![attribute(AttributeScope::Link, name)],
                Scope::Instrumentation => vec![attribute(AttributeScope::Instrumentation, name)],
            };
        }
        Field::Intrinsic(intrinsic) => intrinsic,
    };
    vec![match intrinsic {
        I::TraceDuration => SpanColumn::Field(SpanField::TraceDurationNs),
        I::TraceRootName => SpanColumn::Field(SpanField::RootSpanName),
        I::TraceRootService => SpanColumn::Field(SpanField::RootServiceName),
        I::TraceId => SpanColumn::Field(SpanField::TraceId),
        I::Duration => SpanColumn::Field(SpanField::DurationNs),
        I::Name => SpanColumn::Field(SpanField::Name),
        I::Kind => SpanColumn::Field(SpanField::KindCode),
        I::Status => SpanColumn::Field(SpanField::StatusCode),
        I::StatusMessage => SpanColumn::Field(SpanField::StatusMessage),
        I::SpanId => SpanColumn::Field(SpanField::SpanId),
        I::ParentId => SpanColumn::Field(SpanField::ParentSpanId),
        I::ChildCount => SpanColumn::Field(SpanField::ChildCount),
        I::EventName => SpanColumn::EventName,
        I::EventTimeSinceStart => SpanColumn::EventTimeSinceStart,
        I::LinkTraceId => SpanColumn::LinkTraceId,
        I::LinkSpanId => SpanColumn::LinkSpanId,
        I::InstrumentationName => SpanColumn::Field(SpanField::ScopeName),
        I::InstrumentationVersion => SpanColumn::Field(SpanField::ScopeVersion),
        I::NestedSetLeft => SpanColumn::Field(SpanField::NestedSetLeft),
        I::NestedSetRight => SpanColumn::Field(SpanField::NestedSetRight),
        I::NestedSetParent => SpanColumn::Field(SpanField::NestedSetParent),
        I::Parent => return Vec::new(),
    }]
}

/// What a span has several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeated {
    /// Events.
    Event,
    /// Links.
    Link,
}

/// Whether a field has one value a span, or one for each event or link.
pub fn repeated(field: &Field) -> Option<Repeated> {
    match field {
        Field::Attribute(a) if a.scope == Scope::Event => Some(Repeated::Event),
        Field::Attribute(a) if a.scope == Scope::Link => Some(Repeated::Link),
        Field::Intrinsic(Intrinsic::EventName | Intrinsic::EventTimeSinceStart) => Some(Repeated::Event),
        Field::Intrinsic(Intrinsic::LinkTraceId | Intrinsic::LinkSpanId) => Some(Repeated::Link),
        _ => None,
    }
}

/// The arrays of the fields of an expression, for a batch of spans.
#[derive(Debug)]
pub struct FieldColumns<'a> {
    spans: usize,
    fields: Vec<(&'a Field, Vec<ArrayRef>)>,
}

/// Rows made from spans: a span for each of its events and links, if the expression looks at those.
#[derive(Debug)]
pub struct Exploded {
    /// The span of each row, ascending; `None` if row and span are the same.
    pub span_of_row: Option<Vec<u32>>,
    events: UInt32Array,
    links: UInt32Array,
}

impl<'a> FieldColumns<'a> {
    /// Columns of `spans` spans: for each field the arrays of its [`columns_of`], in that order.
    pub fn new(spans: usize, fields: Vec<(&'a Field, Vec<ArrayRef>)>) -> Self {
        Self { spans, fields }
    }

    /// The rows to evaluate: one for each span, or for each of its events (and links) where the expression names them, so
    /// that all conditions on events are about the same event.
    pub fn explode(&self) -> Exploded {
        let list = |wanted| {
            self.fields.iter().find(|(f, _)| repeated(f) == Some(wanted)).and_then(|(_, arrays)| arrays.first()?.as_list_opt::<i32>())
        };
        let (events, links) = (list(Repeated::Event), list(Repeated::Link));
        if events.is_none() && links.is_none() {
            return Exploded { span_of_row: None, events: UInt32Array::new_null(0), links: UInt32Array::new_null(0) };
        }
        let count = |list: Option<&ListArray>, span| list.map_or(0, |l| l.value_length(span) as u32);
        let ordinals = |n: u32| if n == 0 { vec![None] } else { (0..n).map(Some).collect::<Vec<_>>() };
        let (mut rows, mut event_at, mut link_at) = (Vec::new(), UInt32Builder::new(), UInt32Builder::new());
        for span in 0..self.spans {
            let links = ordinals(count(links, span));
            for event in ordinals(count(events, span)) {
                for link in &links {
                    rows.push(span as u32);
                    event_at.append_option(event);
                    link_at.append_option(*link);
                }
            }
        }
        Exploded { span_of_row: Some(rows), events: event_at.finish(), links: link_at.finish() }
    }

    /// The values of all fields for these rows.
    pub fn values(&self, rows: &Exploded) -> Result<HashMap<&'a Field, Values>> {
        self.fields
            .iter()
            .map(|(field, arrays)| {
                let arrays = arrays.iter().map(|a| rows.apply(a, repeated(field))).collect::<Result<Vec<_>>>()?;
                Ok((*field, values_of(field, &arrays)?))
            })
            .collect()
    }
}

impl Exploded {
    /// Number of rows made from `spans` spans.
    pub fn count(&self, spans: usize) -> usize {
        self.span_of_row.as_ref().map_or(spans, Vec::len)
    }

    fn apply(&self, array: &ArrayRef, repeated: Option<Repeated>) -> Result<ArrayRef> {
        let Some(rows) = &self.span_of_row else { return Ok(array.clone()) };
        let ordinals = match repeated {
            None => return Ok(take(array, &UInt32Array::from(rows.clone()), None)?),
            Some(Repeated::Event) => &self.events,
            Some(Repeated::Link) => &self.links,
        };
        let list = array.as_list_opt::<i32>().ok_or_else(|| Error::internal("an event or link column is not a list"))?;
        let offsets = list.value_offsets();
        let items: UInt32Array = rows.iter().zip(ordinals).map(|(&span, nth)| Some(offsets[span as usize] as u32 + nth?)).collect();
        Ok(take(list.values(), &items, None)?)
    }
}

/// Reads the arrays of a field as values.
pub fn values_of(field: &Field, arrays: &[ArrayRef]) -> Result<Values> {
    let wrong = || Error::internal(format!("the column of {field} has an unexpected type"));
    let first = arrays.first().ok_or_else(wrong)?;
    let int32 = || first.as_primitive_opt::<Int32Type>().cloned().ok_or_else(wrong);
    let int64 = || first.as_primitive_opt::<Int64Type>().cloned().ok_or_else(wrong);
    let text = || first.as_string_opt::<i32>().cloned().ok_or_else(wrong);
    let intrinsic = match field {
        Field::Attribute(_) => {
            let any = |a: &ArrayRef| {
                let any = a.as_struct_opt().and_then(AnyValues::new).map(|v| Values::Any(Box::new(v)));
                any.or_else(|| Text::new(a).map(Values::TextOrEmpty)).ok_or_else(wrong)
            };
            let mut all = arrays.iter().map(any).collect::<Result<Vec<_>>>()?;
            return Ok(if all.len() == 1 { all.remove(0) } else { Values::First(all) });
        }
        Field::Intrinsic(intrinsic) => intrinsic,
    };
    use Intrinsic as I;
    Ok(match intrinsic {
        I::TraceDuration | I::Duration | I::EventTimeSinceStart => Values::Duration(int64()?),
        I::Kind => Values::Kind(int32()?),
        I::Status => Values::Status(int32()?),
        I::ChildCount | I::NestedSetLeft | I::NestedSetRight | I::NestedSetParent => Values::Int(int32()?),
        I::TraceId | I::LinkTraceId => Values::ShortId(text()?),
        I::ParentId => Values::ParentId(text()?),
        _ => Values::Text(Text::new(first).ok_or_else(wrong)?),
    })
}
