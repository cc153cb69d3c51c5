//! Names and values read off spans: where a query chooses spans, and where no vocabulary tells.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    buffer::BooleanBuffer,
};
use serde_json::{Map, Value};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{AttributeScope, SpanColumn, SpanField},
};
use tracehouse_sql::{Execution, Sessions};

use super::Cost;
use crate::{
    eval::{FieldColumns, NO_PARENT, Regexes, Rows, columns_of, regexes_of, repeated, values_of},
    plan::{Place, plan_columns},
    search::metrics_of,
    syntax::{Attribute, Field, FieldExpr, Intrinsic, SERVICE_NAME, Scope, Static},
};

/// The running scan of one question, and what it has cost when it is done.
pub struct Scan(Execution);

impl Scan {
    /// Starts to read columns of the spans that match.
    pub async fn start(
        sessions: &Sessions,
        tenant: &TenantId,
        columns: &[SpanColumn],
        filter: Option<&FieldExpr>,
        place: &Place,
    ) -> Result<Self> {
        let plan = plan_columns(sessions, tenant, columns, filter, place)?;
        Ok(Self(sessions.execute_ready(sessions.prepare(&plan).await?, sessions.context())?))
    }

    /// The next spans.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        use futures::StreamExt;
        Ok(self.0.rows.next().await.transpose()?)
    }

    /// What was read so far.
    pub fn cost(&self) -> Cost {
        Cost { inspected_bytes: metrics_of(self.0.plan.as_ref()).inspected_bytes, ..Cost::default() }
    }
}

/// Names by scope.
pub type Names = BTreeMap<AttributeScope, BTreeSet<String>>;

/// Gathers names from the JSON columns of spans.
pub struct NameReader {
    scopes: Vec<AttributeScope>,
    /// Whether a query restricts the spans and all scopes are asked for: then a rule of Tempo's holds, see [`Self::joined`].
    joined: bool,
    names_max: usize,
    /// Texts that were read; equal attributes are frequent.
    seen: HashSet<u64>,
    /// What was found.
    pub names: Names,
}

impl NameReader {
    /// Reads names of these scopes.
    pub fn new(scopes: &[AttributeScope], joined: bool, names_max: usize) -> Self {
        Self { scopes: scopes.to_vec(), joined, names_max, seen: HashSet::new(), names: Names::new() }
    }

    /// The columns [`Self::add`] wants, in this order.
    pub fn columns(&self) -> Vec<SpanColumn> {
        self.scopes.iter().map(|s| SpanColumn::Field(json_column(*s))).collect()
    }

    /// Adds the names of a batch.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let texts = |at: usize| {
            batch.columns().get(at).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(|| Error::internal("a JSON column is not text"))
        };
        let at = |scope| self.scopes.iter().position(|s| *s == scope);
        let pair = if self.joined { at(AttributeScope::Event).zip(at(AttributeScope::Link)) } else { None };
        let columns: Vec<_> = (0..self.scopes.len()).map(texts).collect::<Result<_>>()?;
        for row in 0..batch.num_rows() {
            let text = |column: usize| columns.get(column).filter(|c| c.is_valid(row)).map_or("", |c| c.value(row));
            let Some(items) = Self::joined(pair.map(|(events, links)| (text(events), text(links)))) else { continue };
            for column in 0..self.scopes.len() {
                self.add_text(column, text(column), items);
            }
        }
        Ok(())
    }

    /// How many events and links of a span count; `None` if the span does not. With a query and all scopes asked for, Tempo
    /// pairs a span's events and links by number: a span with one sort only has no pair, and what has no pair is not seen.
    fn joined(events_and_links: Option<(&str, &str)>) -> Option<usize> {
        let Some((events, links)) = events_and_links else { return Some(usize::MAX) };
        if events == "[]" && links == "[]" {
            return Some(0);
        }
        if events == "[]" || links == "[]" {
            return None;
        }
        let count = |json: &str| serde_json::from_str::<Vec<serde::de::IgnoredAny>>(json).map_or(0, |items| items.len());
        Some(count(events).min(count(links)))
    }

    fn add_text(&mut self, column: usize, json: &str, items_max: usize) {
        let Some(scope) = self.scopes.get(column).copied() else { return };
        let names = self.names.entry(scope).or_default();
        let items_max = if scope.is_repeated() { items_max } else { usize::MAX };
        if names.len() >= self.names_max || !self.seen.insert(hash(scope, json, items_max)) {
            return;
        }
        let mut add = |attributes: Map<String, Value>| {
            let more = attributes.into_iter().map(|(name, _)| name);
            for name in more {
                if names.len() < self.names_max {
                    names.insert(name);
                }
            }
        };
        if scope.is_repeated() {
            let items: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
            for mut item in items.into_iter().take(items_max) {
                if let Some(Value::Object(attributes)) = item.get_mut("attributes").map(Value::take) {
                    add(attributes);
                }
            }
        } else {
            add(serde_json::from_str(json).unwrap_or_default());
        }
    }
}

fn hash(scope: AttributeScope, text: &str, items: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (scope, text, items).hash(&mut hasher);
    hasher.finish()
}

fn json_column(scope: AttributeScope) -> SpanField {
    match scope {
        AttributeScope::Span => SpanField::SpanAttributes,
        AttributeScope::Resource => SpanField::ResourceAttributes,
        AttributeScope::Instrumentation => SpanField::ScopeAttributes,
        AttributeScope::Event => SpanField::Events,
        AttributeScope::Link => SpanField::Links,
    }
}

/// Reads the values of a tag from spans.
pub struct ValueReader<'a> {
    /// The places the tag may be in, each with one column.
    targets: Vec<Field>,
    /// A filter that names events or links, to be evaluated for each of them: the plan's filter only says that one matches.
    each: Option<(&'a FieldExpr, Regexes)>,
    /// Whether a query restricts the spans.
    filtered: bool,
}

impl<'a> ValueReader<'a> {
    /// A reader of these fields, each with one scope; `filtered` if a query restricts the spans (perhaps not more than `{ }`).
    pub fn new(targets: Vec<Field>, filter: Option<&'a FieldExpr>, filtered: bool) -> Result<Self> {
        let filter = filter.filter(|f| f.fields().iter().any(|f| repeated(f).is_some()));
        let each = match filter {
            Some(filter) => {
                let mut regexes = Regexes::new();
                regexes_of(filter, &mut regexes).map_err(Error::invalid)?;
                Some((filter, regexes))
            }
            None => None,
        };
        Ok(Self { targets, each, filtered })
    }

    fn fields(&self) -> Vec<&Field> {
        let mut fields: Vec<&Field> = self.targets.iter().collect();
        for field in self.each.iter().flat_map(|(filter, _)| filter.fields()) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        fields
    }

    /// The columns [`Self::read`] wants, in this order.
    pub fn columns(&self) -> Vec<SpanColumn> {
        let service = (!self.filtered && self.targets.iter().any(Field::is_service_name)).then(service_attribute);
        self.fields().into_iter().flat_map(columns_of).chain(service).collect()
    }

    /// Hands all values of a batch to `see`, some of them several times.
    pub fn read(&self, batch: &RecordBatch, see: &mut dyn FnMut(&Field, Static)) -> Result<()> {
        let mut arrays = batch.columns().iter();
        let fields: Vec<(&Field, Vec<ArrayRef>)> =
            self.fields().into_iter().map(|f| (f, arrays.by_ref().take(columns_of(f).len()).cloned().collect())).collect();
        let columns = FieldColumns::new(batch.num_rows(), fields);
        let rows = columns.explode();
        let count = rows.count(batch.num_rows());
        let values = columns.values(&rows)?;
        let mut active = BooleanBuffer::new_set(count);
        if let Some((filter, regexes)) = &self.each {
            let rows = Rows { count, fields: values.clone(), regexes };
            active = rows.matches(filter, &active).map_err(|e| Error::invalid(e.to_string()))?;
        }
        for target in &self.targets {
            let Some(values) = values.get(target) else { continue };
            for row in active.set_indices() {
                self.take(target, values.get(row), see);
            }
        }
        if let (Some(names), Some(target)) = (arrays.next(), self.targets.iter().find(|t| t.is_service_name())) {
            let names = values_of(target, std::slice::from_ref(names))?;
            for row in active.set_indices() {
                let span = rows.span_of_row.as_ref().map_or(row, |spans| spans.get(row).map_or(0, |s| *s as usize));
                self.take(target, names.get(span), see);
            }
        }
        Ok(())
    }

    fn take(&self, target: &Field, value: Static, see: &mut dyn FnMut(&Field, Static)) {
        match value.elements() {
            // Under a query Tempo takes an array's last element for the whole.
            Some(items) if self.filtered => items.into_iter().last().into_iter().for_each(|v| see(target, v)),
            Some(items) => items.into_iter().for_each(|v| see(target, v)),
            // Where there is no link, its id reads as the empty text.
            None if value == Static::String(String::new()) && matches!(target, Field::Intrinsic(Intrinsic::LinkTraceId)) => {}
            // A root span has no parent id: its column holds empty bytes.
            None if value == Static::String(NO_PARENT.to_owned()) && matches!(target, Field::Intrinsic(Intrinsic::ParentId)) => {
                see(target, Static::String(String::new()));
            }
            None if value != Static::Nil => see(target, value),
            None => {}
        }
    }
}

/// What resources have as `service.name`: names that are no text are no names in a query, but are offered without one (recorded).
fn service_attribute() -> SpanColumn {
    SpanColumn::Attribute { scope: AttributeScope::Resource, key: Arc::from(SERVICE_NAME) }
}

/// Where a tag's values are, unless a query restricts the spans: an attribute without scope may be on the resource, the span
/// or the instrumentation scope; under a query on the first two only.
pub fn targets_of(field: &Field, filtered: bool) -> Vec<Field> {
    match field {
        Field::Attribute(a) if a.scope == Scope::None => {
            let scopes = [Scope::Resource, Scope::Span, Scope::Instrumentation];
            scopes[..if filtered { 2 } else { 3 }].iter().map(|scope| Field::Attribute(Attribute { scope: *scope, ..a.clone() })).collect()
        }
        field => vec![field.clone()],
    }
}

/// Where the vocabulary keeps a field.
pub fn vocabulary_key(field: &Field) -> Option<(Option<AttributeScope>, Box<str>)> {
    match field {
        Field::Attribute(a) => {
            let scope = match a.scope {
                Scope::Span => AttributeScope::Span,
                Scope::Resource => AttributeScope::Resource,
                Scope::Instrumentation => AttributeScope::Instrumentation,
                Scope::Event => AttributeScope::Event,
                Scope::Link => AttributeScope::Link,
                Scope::None => return None,
            };
            Some((Some(scope), a.name.as_str().into()))
        }
        Field::Intrinsic(intrinsic) => {
            use Intrinsic as I;
            let name = match intrinsic {
                I::Name => "name",
                I::Status => "status",
                I::StatusMessage => "statusMessage",
                I::Kind => "kind",
                I::TraceRootName => "rootName",
                I::TraceRootService => "rootServiceName",
                I::EventName => "event:name",
                I::InstrumentationName => "instrumentation:name",
                I::InstrumentationVersion => "instrumentation:version",
                _ => return None,
            };
            Some((None, name.into()))
        }
    }
}
