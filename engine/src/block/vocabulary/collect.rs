//! Gathers a vocabulary from traces, span by span, within bounds.

use std::fmt::Write;

// Hashes faster than std's: every attribute of every span that is written passes here twice.
use datafusion::common::HashMap;

use super::{Entry, INTRINSICS, Scope, ValueType, Vocabulary};
use crate::{
    derive::TraceFacts,
    grouping::{Grouped, ResourceGroup},
    scan::AttributeScope,
    trace::{AnyValue, KeyValue, Value},
};

/// The resource attribute that every resource has: where it is absent, empty or no text it counts as the empty text, as
/// blocks keep it.
const SERVICE_NAME: &str = "service.name";

/// Of how many spans at least one value each is kept, between the bounds: a small block has a small vocabulary.
const SPANS_PER_VALUE: u64 = 20;

/// How many values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most distinct values of an attribute and type. With more the entry is not complete: some stay.
    pub values: usize,
    /// As many are kept however few spans there are; above it one for each 20 spans.
    pub values_min: usize,
    /// Most bytes of the distinct values of an attribute and type.
    pub bytes: usize,
}

impl Bounds {
    /// For a file: a few thousand values serve completion, and more would make the file large.
    pub const FILE: Self = Self { values: 5000, values_min: 1000, bytes: 256 * 1024 };
    /// Names only.
    pub const NAMES: Self = Self { values: 0, values_min: 0, bytes: 0 };

    /// Every value, up to so many bytes.
    pub fn bytes(bytes: usize) -> Self {
        Self { values: usize::MAX, values_min: usize::MAX, bytes }
    }

    /// Most values for so many spans.
    fn values_of(&self, spans: u64) -> usize {
        usize::try_from(spans / SPANS_PER_VALUE).unwrap_or(usize::MAX).clamp(self.values_min, self.values)
    }
}

/// Entries that grow.
#[derive(Debug)]
pub struct Collector {
    bounds: Bounds,
    /// If not empty, only these are gathered.
    wanted: Vec<(Scope, Box<str>)>,
    spans: u64,
    scopes: [HashMap<Box<str>, Found>; SCOPES.len()],
    text: String,
}

const SCOPES: [Scope; 6] = [
    Some(AttributeScope::Span),
    Some(AttributeScope::Resource),
    Some(AttributeScope::Instrumentation),
    Some(AttributeScope::Event),
    Some(AttributeScope::Link),
    None,
];

/// One name: what is known for each [`ValueType`].
type Found = [Option<Values>; ValueType::ALL.len()];

#[derive(Debug)]
struct Values {
    count: u64,
    bytes: usize,
    complete: bool,
    values: HashMap<Box<str>, u64>,
}

impl Collector {
    /// Gathers all attributes and [`INTRINSICS`].
    pub fn new(bounds: Bounds) -> Self {
        Self::of(bounds, Vec::new())
    }

    /// Gathers these only; all if there are none.
    pub fn of(bounds: Bounds, wanted: Vec<(Scope, Box<str>)>) -> Self {
        Self { bounds, wanted, spans: 0, scopes: Default::default(), text: String::new() }
    }

    /// Whether [`add`](Self::add) looks at the facts of a trace.
    pub fn wants_facts(&self) -> bool {
        let wanted = self.wanted.is_empty() || self.wanted.iter().any(|(scope, name)| scope.is_none() && name.starts_with("root"));
        wanted && self.bounds != Bounds::NAMES
    }

    /// Adds the spans of a trace.
    pub fn add(&mut self, trace: &Grouped<'_>, facts: &TraceFacts) {
        let mut all = 0;
        for group in &trace.resources {
            let spans: u64 = group.scopes.iter().map(|s| s.spans.len() as u64).sum();
            all += spans;
            self.resource(group, spans);
            for scope_group in &group.scopes {
                let spans = scope_group.spans.len() as u64;
                let scope = scope_group.scope;
                self.attributes(AttributeScope::Instrumentation, scope_group.attributes.iter().copied(), spans);
                self.intrinsic("instrumentation:name", ValueType::String, scope.map_or("", |s| &s.name), spans);
                self.intrinsic("instrumentation:version", ValueType::String, scope.map_or("", |s| &s.version), spans);
                for span in &scope_group.spans {
                    self.span(span);
                }
            }
        }
        self.spans += all;
        self.intrinsic("rootName", ValueType::String, &facts.root_span_name, all);
        self.intrinsic("rootServiceName", ValueType::String, &facts.root_service_name, all);
    }

    fn resource(&mut self, group: &ResourceGroup<'_>, spans: u64) {
        if group.service_name().is_empty() && spans > 0 {
            self.value(Some(AttributeScope::Resource), SERVICE_NAME, ValueType::String, "", spans);
        }
        for attribute in group.attributes.iter().filter(|a| !(a.key == SERVICE_NAME && is_empty_text(a))) {
            self.attribute(AttributeScope::Resource, attribute, spans);
        }
    }

    fn span(&mut self, span: &crate::trace::Span) {
        self.attributes(AttributeScope::Span, &span.attributes, 1);
        self.intrinsic("name", ValueType::String, &span.name, 1);
        self.number("kind", span.kind);
        let status = span.status.as_ref();
        self.number("status", status.map_or(0, |s| s.code));
        self.intrinsic("statusMessage", ValueType::String, status.map_or("", |s| &s.message), 1);
        for event in &span.events {
            self.intrinsic("event:name", ValueType::String, &event.name, 1);
            self.attributes(AttributeScope::Event, &event.attributes, 1);
        }
        for link in &span.links {
            self.attributes(AttributeScope::Link, &link.attributes, 1);
        }
    }

    fn number(&mut self, name: &str, number: i32) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{number}"); // writing to a String cannot fail
        self.intrinsic(name, ValueType::Int, &text, 1);
        self.text = text;
    }

    fn intrinsic(&mut self, name: &str, value_type: ValueType, text: &str, count: u64) {
        debug_assert!(INTRINSICS.contains(&name));
        if self.bounds == Bounds::NAMES {
            return; // every span has them
        }
        self.value(None, name, value_type, text, count);
    }

    fn attributes<'k>(&mut self, scope: AttributeScope, attributes: impl IntoIterator<Item = &'k KeyValue>, count: u64) {
        for attribute in attributes {
            self.attribute(scope, attribute, count);
        }
    }

    fn attribute(&mut self, scope: AttributeScope, attribute: &KeyValue, count: u64) {
        let scope = Some(scope);
        let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
        match value {
            Some(Value::ArrayValue(array)) if is_uniform(&array.values) => {
                for item in &array.values {
                    self.scalar(scope, &attribute.key, item.value.as_ref(), count);
                }
            }
            value => self.scalar(scope, &attribute.key, value, count),
        }
    }

    fn scalar(&mut self, scope: Scope, name: &str, value: Option<&Value>, count: u64) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // Writing to a String cannot fail.
        let (value_type, text_of) = match value {
            Some(Value::StringValue(s)) => (ValueType::String, s.as_str()),
            Some(Value::BoolValue(b)) => (ValueType::Bool, if *b { "true" } else { "false" }),
            Some(Value::IntValue(i)) => {
                let _ = write!(text, "{i}");
                (ValueType::Int, text.as_str())
            }
            Some(Value::DoubleValue(d)) => {
                let _ = write!(text, "{d:?}");
                (ValueType::Float, text.as_str())
            }
            _ => (ValueType::Other, ""),
        };
        self.value(scope, name, value_type, text_of, count);
        self.text = text;
    }

    fn value(&mut self, scope: Scope, name: &str, value_type: ValueType, text: &str, count: u64) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|(s, n)| *s == scope && **n == *name) {
            return;
        }
        let at = SCOPES.iter().position(|s| *s == scope).unwrap_or_default();
        let names = &mut self.scopes[at];
        let found = match names.get_mut(name) {
            Some(found) => found,
            None => names.entry(name.into()).or_default(),
        };
        let values =
            found[value_type as usize].get_or_insert_with(|| Values { count: 0, bytes: 0, complete: true, values: HashMap::new() });
        values.count += count;
        if value_type == ValueType::Other || !values.complete {
            return;
        }
        if let Some(known) = values.values.get_mut(text) {
            *known += count;
        } else if values.values.len() < self.bounds.values && values.bytes + text.len() <= self.bounds.bytes {
            values.bytes += text.len();
            values.values.insert(text.into(), count);
        } else {
            values.complete = false;
        }
    }

    /// What was gathered.
    pub fn finish(self) -> Vocabulary {
        let values_max = self.bounds.values_of(self.spans);
        let mut entries = Vec::new();
        for (scope, names) in SCOPES.into_iter().zip(self.scopes) {
            for (name, found) in names {
                for (value_type, values) in ValueType::ALL.into_iter().zip(found) {
                    let Some(values) = values else { continue };
                    let mut kept: Vec<(Box<str>, u64)> = values.values.into_iter().collect();
                    kept.sort_unstable();
                    let (count, complete) = (values.count, values.complete && kept.len() <= values_max);
                    kept.truncate(values_max);
                    entries.push(Entry { scope, name: name.clone(), value_type, count, complete, values: kept });
                }
            }
        }
        entries.sort_by(|a, b| (a.scope, &a.name, a.value_type).cmp(&(b.scope, &b.name, b.value_type)));
        Vocabulary { spans: self.spans, entries }
    }
}

fn is_empty_text(attribute: &KeyValue) -> bool {
    let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
    matches!(value, Some(Value::StringValue(s)) if s.is_empty())
}

/// Whether the array's elements are values of one type that TraceQL sees.
fn is_uniform(items: &[AnyValue]) -> bool {
    let kind = |item: &AnyValue| match item.value {
        Some(Value::StringValue(_)) => 1,
        Some(Value::IntValue(_)) => 2,
        Some(Value::DoubleValue(_)) => 3,
        Some(Value::BoolValue(_)) => 4,
        _ => 0,
    };
    items.first().is_some_and(|first| kind(first) > 0 && items.iter().all(|i| kind(i) == kind(first)))
}
