//! The columns of a scan that older versions store otherwise, or not at all. vParquet4 and 3: numbers of children, which are
//! counted here. vParquet3: what belongs to events and links (records in protobuf), attributes of instrumentation scopes
//! (none), spans by service (counted here), and attributes of spans and resources where some are arrays (JSON).
//!
//! Old versions are read for the sake of old buckets, so these columns are made from whole records: right, and slower.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, StringArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::DataType,
};

use super::{
    Version,
    attributes::SERVICE_NAME_LEAF,
    fields::{Chosen, list},
    leaves::{depth, scope_path},
    records::{Attributes, Events, Links, attribute_leaves, event_leaves, link_leaves},
    rows::Rows,
};
use crate::{
    derive::child_counts,
    error::{Error, Result},
    scan::{AttributeScope, SpanColumn, SpanField, flatten, prepare, service_stats_type},
    trace::{ResourceSpans, ScopeSpans, Span, Trace},
};

const SPAN_START_LEAF: &str = "rs.ss.Spans.StartTimeUnixNano";
const STATUS_LEAF: &str = "rs.ss.Spans.StatusCode";
const STATUS_ERROR: i64 = 2;
const CHILDREN_LEAVES: [&str; 3] = ["rs.ss.Spans.SpanID", "rs.ss.Spans.ParentSpanID", "rs.ss.Spans.Kind"];

/// What a column is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Events,
    Links,
    Nothing,
    Services,
    Children,
    Arrays(AttributeScope),
}

fn source(version: Version, column: &SpanColumn) -> Option<Source> {
    use AttributeScope::{Event, Instrumentation, Link, Resource, Span};
    Some(match column {
        SpanColumn::Field(SpanField::ChildCount) if version < Version::V5 => Source::Children,
        _ if version > Version::V3 => return None,
        SpanColumn::Field(SpanField::Events) | SpanColumn::EventTimeSinceStart | SpanColumn::Attribute { scope: Event, .. } => {
            Source::Events
        }
        SpanColumn::Field(SpanField::Links)
        | SpanColumn::LinkTraceId
        | SpanColumn::LinkSpanId
        | SpanColumn::Attribute { scope: Link, .. } => Source::Links,
        SpanColumn::Field(SpanField::ScopeAttributes) | SpanColumn::Attribute { scope: Instrumentation, .. } => Source::Nothing,
        SpanColumn::TraceServiceStats => Source::Services,
        SpanColumn::Attribute { scope: scope @ (Span | Resource), .. } => Source::Arrays(*scope),
        _ => return None,
    })
}

/// The leaves that [`column`] needs; `None` for a column that is no matter of this module.
pub(super) fn leaves(rows: &Rows, column: &SpanColumn) -> Option<Vec<String>> {
    Some(match source(rows.block().version(), column)? {
        Source::Events => {
            let mut paths = event_leaves(rows);
            paths.push(SPAN_START_LEAF.to_owned());
            paths
        }
        Source::Links => link_leaves(rows),
        Source::Nothing => Vec::new(),
        Source::Services => vec![SERVICE_NAME_LEAF.to_owned(), STATUS_LEAF.to_owned()],
        Source::Children => CHILDREN_LEAVES.map(str::to_owned).into(),
        Source::Arrays(scope) if has_arrays(rows, scope) => attribute_leaves(rows, scope),
        Source::Arrays(_) => return None,
    })
}

/// Whether any attribute of a scope is an array, as far as the footer tells.
fn has_arrays(rows: &Rows, scope: AttributeScope) -> bool {
    let Ok((_, chunk)) = rows.chunk(&format!("{}.Attrs.ValueArray", scope_path(scope).0)) else { return false };
    chunk.statistics().and_then(|s| s.null_count_opt()).is_none_or(|nulls| i64::try_from(nulls) != Ok(chunk.num_values()))
}

/// A column for the chosen spans.
pub(super) fn column(rows: &mut Rows, column: &SpanColumn, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let at: Vec<usize> = match chosen.spans {
        Some(spans) => spans.values().iter().map(|s| *s as usize).collect(),
        None => (0..chosen.len()).collect(),
    };
    let spans: Vec<Span> = match source(rows.block().version(), column) {
        Some(Source::Events) => {
            let (events, starts) = (Events::read(rows)?, rows.int64(SPAN_START_LEAF)?);
            let span = |at: usize| {
                let start_time_unix_nano = starts[at] as u64;
                Span { start_time_unix_nano, events: events.of(at, start_time_unix_nano), ..Span::default() }
            };
            at.into_iter().map(span).collect()
        }
        Some(Source::Links) => {
            let links = Links::read(rows)?;
            at.into_iter().map(|at| Span { links: links.of(at), ..Span::default() }).collect()
        }
        Some(Source::Nothing) => vec![Span::default(); at.len()],
        Some(Source::Services) => return service_stats(rows, chosen),
        Some(Source::Children) => return child_count(rows, chosen),
        Some(Source::Arrays(scope)) => return attribute(rows, scope, column, chosen),
        None => return Err(Error::internal(format!("column {} is not made of whole records", column.name()))),
    };
    of_spans(spans, column)
}

/// A column of these spans. What a column looks like is known for live spans; these have all that the column is made of, and
/// nothing else.
fn of_spans(spans: Vec<Span>, column: &SpanColumn) -> Result<ArrayRef> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    flatten(&[prepare(&Trace { resource_spans, ..Trace::default() })], column)
}

/// An attribute of spans or resources.
fn attribute(rows: &mut Rows, scope: AttributeScope, column: &SpanColumn, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let SpanColumn::Attribute { key, .. } = column else { return Err(Error::internal("a column that is no attribute")) };
    let attributes = Attributes::read(rows, scope)?;
    let owner = |at: usize| {
        let mut attributes = attributes.of(at);
        attributes.retain(|kv| kv.key.as_str() == &**key);
        Span { attributes, ..Span::default() }
    };
    let at = scope_path(scope).1;
    let owners = (0..chosen.shape.count(at)).map(owner).collect();
    chosen.gather(of_spans(owners, &SpanColumn::Attribute { scope: AttributeScope::Span, key: key.clone() })?, at)
}

/// Spans and errors by service of each span's trace.
fn service_stats(rows: &mut Rows, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let (names, statuses) = (rows.text(SERVICE_NAME_LEAF)?, rows.int64(STATUS_LEAF)?);
    let mut of_trace = vec![BTreeMap::<&str, (i64, i64)>::new(); chosen.shape.count(depth::TRACE)];
    let (traces, resources) = (chosen.shape.of_span(depth::TRACE), chosen.shape.of_span(depth::RESOURCE));
    for ((trace, resource), status) in traces.values().iter().zip(resources.values()).zip(statuses.iter()) {
        let (spans, errors) = of_trace[*trace as usize].entry(names.get(*resource as usize)).or_default();
        *spans += 1;
        *errors += i64::from(*status == STATUS_ERROR);
    }
    let stats = || of_trace.iter().flatten();
    let DataType::Struct(fields) = service_stats_type() else { return Err(Error::internal("service stats are not a struct")) };
    let children: Vec<ArrayRef> = vec![
        Arc::new(stats().map(|(name, _)| Some(*name)).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(stats().map(|(_, (spans, _))| *spans))),
        Arc::new(Int64Array::from_iter_values(stats().map(|(_, (_, errors))| *errors))),
    ];
    let offsets = OffsetBuffer::from_lengths(of_trace.iter().map(BTreeMap::len));
    let lists = list(offsets, Arc::new(StructArray::try_new(fields, children, None)?))?;
    chosen.gather(lists, depth::TRACE)
}

/// Number of children of each span.
fn child_count(rows: &mut Rows, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let [ids, parents] = [rows.bytes(CHILDREN_LEAVES[0])?, rows.bytes(CHILDREN_LEAVES[1])?];
    let kinds = rows.int64(CHILDREN_LEAVES[2])?;
    let traces = chosen.shape.of_span(depth::TRACE).values();
    let mut counts = Vec::with_capacity(traces.len());
    for trace in traces.chunk_by(|a, b| a == b) {
        let first = counts.len();
        let span = |at: usize| Span {
            span_id: ids.value(at).to_vec(),
            parent_span_id: parents.value(at).to_vec(),
            kind: kinds[at] as i32,
            ..Span::default()
        };
        counts.extend(child_counts(&(first..first + trace.len()).map(span).collect::<Vec<_>>()));
    }
    chosen.gather(Arc::new(Int32Array::from(counts)), depth::SPAN)
}
