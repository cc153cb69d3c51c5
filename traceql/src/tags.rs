//! Which attributes there are, and which values they have: what autocomplete asks.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use arrow::array::{AsArray, RecordBatch};
use futures::StreamExt;
use serde_json::{Map, Value};
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{AttributeScope, SpanColumn, SpanField},
};
use tracehouse_sql::Sessions;

use crate::{
    eval::{columns_of, compile_regex, is_repeated, values_of},
    plan::plan_columns,
    syntax::{Field, FieldExpr, Static, lenient},
};

/// Names of one scope are no more than this; a client that needs more asks with `q`.
const NAMES_MAX: usize = 100_000;

/// The intrinsics that Tempo offers for completion.
pub const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// The scopes whose names are kept in data.
pub const SCOPES: [AttributeScope; 5] =
    [AttributeScope::Resource, AttributeScope::Span, AttributeScope::Event, AttributeScope::Link, AttributeScope::Instrumentation];

/// Which spans are looked at.
#[derive(Clone, Debug, Default)]
pub struct TagsRequest {
    /// A TraceQL query, perhaps unfinished. If it is not one filter that can be read, all spans are looked at.
    pub query: Option<String>,
    /// Unix nanoseconds, inclusive: traces that overlap this range. `None` means all time.
    pub range: Option<(i64, i64)>,
    /// Most names of each scope, or most values; 0 means no bound but the service's own.
    pub limit: usize,
}

impl TagsRequest {
    /// The complete conditions of the query, if it has any that can be used.
    fn filter(&self) -> Option<FieldExpr> {
        lenient(self.query.as_deref()?, &|pattern| compile_regex(pattern).map(drop)).ok()?.filter()
    }
}

/// Names of attributes by scope.
pub async fn names(
    sessions: &Sessions,
    tenant: &TenantId,
    scopes: &[AttributeScope],
    request: &TagsRequest,
) -> Result<BTreeMap<AttributeScope, BTreeSet<String>>> {
    let columns: Vec<SpanColumn> = scopes.iter().map(|s| SpanColumn::Field(json_column(*s))).collect();
    let limit = if request.limit == 0 { NAMES_MAX } else { request.limit.min(NAMES_MAX) };
    let mut found: BTreeMap<AttributeScope, BTreeSet<String>> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut rows = rows(sessions, tenant, &columns, request).await?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        for (scope, column) in scopes.iter().zip(batch.columns()) {
            let names = found.entry(*scope).or_default();
            for text in column.as_string::<i32>().iter().flatten() {
                if names.len() < limit && seen.insert(hash(scope, text)) {
                    add_names(*scope, text, names);
                }
            }
            while names.len() > limit {
                names.pop_last();
            }
        }
    }
    Ok(found)
}

/// Values of a field, typed.
pub async fn values(sessions: &Sessions, tenant: &TenantId, field: &Field, bytes_max: usize, request: &TagsRequest) -> Result<Vec<Static>> {
    let columns = columns_of(field);
    let mut seen = BTreeSet::new();
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut rows = rows(sessions, tenant, &columns, request).await?;
    while let Some(batch) = rows.next().await {
        for value in values_in(field, &batch?)? {
            let text = format!("{:?} {value}", value.value_type());
            let full = bytes > bytes_max || (request.limit > 0 && found.len() >= request.limit);
            if full {
                return Ok(found);
            }
            if !seen.contains(&text) {
                bytes += text.len();
                seen.insert(text);
                found.push(value);
            }
        }
    }
    Ok(found)
}

async fn rows(
    sessions: &Sessions,
    tenant: &TenantId,
    columns: &[SpanColumn],
    request: &TagsRequest,
) -> Result<datafusion::physical_plan::SendableRecordBatchStream> {
    let plan = plan_columns(sessions, tenant, columns, request.filter().as_ref(), request.range)?;
    sessions.stream(sessions.frame(tenant, plan)?).await
}

fn hash(scope: &AttributeScope, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (scope, text).hash(&mut hasher);
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

fn add_names(scope: AttributeScope, json: &str, names: &mut BTreeSet<String>) {
    if scope.is_repeated() {
        let items: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
        let attributes = items.iter().filter_map(|i| i.get("attributes")?.as_object());
        names.extend(attributes.flat_map(|a| a.keys().cloned()));
    } else {
        let attributes: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
        names.extend(attributes.into_iter().map(|(name, _)| name));
    }
}

/// The values of a field in a batch; arrays as their elements, an attribute without scope as the values of all its scopes.
fn values_in(field: &Field, batch: &RecordBatch) -> Result<Vec<Static>> {
    let mut out = Vec::new();
    for array in batch.columns() {
        let array = match is_repeated(field) {
            true => array.as_list_opt::<i32>().ok_or_else(|| Error::internal("an event or link column is not a list"))?.values().clone(),
            false => array.clone(),
        };
        let values = values_of(&scoped(field), &[array])?;
        for row in 0..values.len() {
            let value = values.get(row);
            match value.elements() {
                Some(items) => out.extend(items),
                None if value != Static::Nil => out.push(value),
                None => {}
            }
        }
    }
    Ok(out)
}

/// The field with one column.
fn scoped(field: &Field) -> Field {
    match field {
        Field::Attribute(a) if a.scope == crate::syntax::Scope::None => {
            Field::Attribute(crate::syntax::Attribute { scope: crate::syntax::Scope::Span, ..a.clone() })
        }
        other => other.clone(),
    }
}
