//! The columns of a row group's spans that are not attributes: what a span has exactly once, what its scope, resource and
//! trace have (repeated by number, text as dictionary codes), and the lists of events, links and services.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampNanosecondArray, UInt32Array, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::take,
    datatypes::{DataType, Field, Int32Type},
};

use super::{
    attributes::SERVICE_NAME_LEAF,
    leaves::depth,
    rows::{Rows, head},
    shape::Shape,
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::{SpanField, kind_text, service_stats_type, status_text},
};

const DURATION_LEAF: &str = "rs.ss.Spans.DurationNano";

/// The leaves a field is made of. Those that vParquet4 lacks are left out by the caller.
pub(super) fn leaves(field: SpanField) -> &'static [&'static str] {
    use SpanField::*;
    match field {
        TraceId => &["TraceID"],
        SpanId => &["rs.ss.Spans.SpanID"],
        ParentSpanId => &["rs.ss.Spans.ParentSpanID"],
        Name => &["rs.ss.Spans.Name"],
        Kind | KindCode => &["rs.ss.Spans.Kind"],
        StartTime => &["rs.ss.Spans.StartTimeUnixNano"],
        EndTime => &["rs.ss.Spans.StartTimeUnixNano", DURATION_LEAF],
        DurationNs => &[DURATION_LEAF],
        Status | StatusCode => &["rs.ss.Spans.StatusCode"],
        StatusMessage => &["rs.ss.Spans.StatusMessage"],
        ServiceName => &[SERVICE_NAME_LEAF],
        ScopeName => &["rs.ss.Scope.Name"],
        ScopeVersion => &["rs.ss.Scope.Version"],
        TraceState => &["rs.ss.Spans.TraceState"],
        RootServiceName => &["RootServiceName"],
        RootSpanName => &["RootSpanName"],
        TraceStartTime => &["StartTimeUnixNano"],
        TraceEndTime => &["EndTimeUnixNano"],
        TraceDurationNs => &["DurationNano"],
        NestedSetLeft => &["rs.ss.Spans.NestedSetLeft"],
        NestedSetRight => &["rs.ss.Spans.NestedSetRight"],
        NestedSetParent => &["rs.ss.Spans.ParentID"],
        ChildCount => &["rs.ss.Spans.ChildCount"],
        DroppedAttributesCount => &["rs.ss.Spans.DroppedAttributesCount"],
        DroppedEventsCount => &["rs.ss.Spans.DroppedEventsCount"],
        DroppedLinksCount => &["rs.ss.Spans.DroppedLinksCount"],
        // Made of whole records: see `records.rs`.
        ResourceAttributes | ScopeAttributes | SpanAttributes | Events | Links => &[],
    }
}

/// Whether a field is made of leaves that each span has a value of.
pub(super) fn is_of_spans(field: SpanField) -> bool {
    let leaves = leaves(field);
    !leaves.is_empty() && leaves.iter().all(|leaf| leaf.starts_with("rs.ss.Spans."))
}

/// Which spans are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<'a> {
    pub shape: &'a Shape,
    /// Ascending span numbers; `None` for all.
    pub spans: Option<&'a UInt32Array>,
}

impl Chosen<'_> {
    /// Number of spans asked for.
    pub fn len(&self) -> usize {
        self.spans.map_or(self.shape.count(depth::SPAN), |s| s.len())
    }

    /// The number of the thing at a depth that each chosen span is in; `None` if that is every thing once, in order.
    pub fn places(&self, at: u32) -> Result<Option<UInt32Array>> {
        if at >= depth::SPAN {
            return Ok(self.spans.cloned());
        }
        Ok(Some(match self.spans {
            None => self.shape.of_span(at).clone(),
            Some(spans) => self.shape.groups_of(at, spans),
        }))
    }

    /// Entries of an array with one entry a thing at a depth, one for each chosen span.
    pub fn gather(&self, array: ArrayRef, at: u32) -> Result<ArrayRef> {
        match self.places(at)? {
            None => Ok(array),
            Some(places) => Ok(take(&array, &places, None)?),
        }
    }

    /// The values that the chosen spans have in a leaf that a span has exactly one of.
    fn values(&self, rows: &mut Rows, path: &str) -> Result<Dense> {
        match self.spans {
            None => Ok(rows.leaf(path)?.values.clone()),
            Some(spans) => rows.values_at(path, spans),
        }
    }

    /// For lists with these offsets: the lists of the chosen spans, as offsets and the numbers of their items.
    pub fn lists(&self, offsets: &[u32], at: u32) -> Result<(OffsetBuffer<i32>, UInt32Array)> {
        let places = self.places(at)?;
        let range = |owner: usize| offsets[owner]..offsets[owner + 1];
        let mut ends = vec![0i32];
        let mut items: Vec<u32> = Vec::new();
        let mut add = |owner: usize| {
            items.extend(range(owner));
            ends.push(items.len() as i32);
            items.len() <= i32::MAX as usize
        };
        let fits = match &places {
            Some(places) => places.values().iter().all(|p| add(*p as usize)),
            None => (0..offsets.len() - 1).all(add),
        };
        if fits { Ok((OffsetBuffer::new(ends.into()), items.into())) } else { Err(Error::data("a list column has over 2^31 items")) }
    }
}

/// One field of the chosen spans.
pub(super) fn field(rows: &mut Rows, field: SpanField, chosen: Chosen<'_>) -> Result<ArrayRef> {
    use SpanField::*;
    let path = leaves(field).first().copied().unwrap_or_default();
    match field {
        TraceId => {
            let ids = rows.bytes(path)?;
            let ids = match chosen.spans {
                // A trace has many spans: its text is made once.
                None => return chosen.gather(Arc::new(hex_ids(&ids, Some(16))), depth::TRACE),
                Some(_) => chosen.gather(Arc::new(ids), depth::TRACE)?,
            };
            Ok(Arc::new(hex_ids(as_binary(&ids)?, Some(16))))
        }
        ServiceName => chosen.gather(service_names(&rows.text(path)?)?, depth::RESOURCE),
        ScopeName | ScopeVersion => chosen.gather(dictionary(&rows.text(path)?)?, depth::SCOPE),
        RootServiceName | RootSpanName => chosen.gather(dictionary(&rows.text(path)?)?, depth::TRACE),
        TraceStartTime | TraceEndTime | TraceDurationNs => chosen.gather(of_traces(rows, field)?, depth::TRACE),
        ChildCount if !rows.exists(path) => Ok(new_null_array(&DataType::Int32, chosen.len())),
        ResourceAttributes | ScopeAttributes | SpanAttributes | Events | Links => {
            Err(Error::internal(format!("{field:?} is not made of single leaves")))
        }
        _ => span_field(rows, field, path, chosen),
    }
}

/// A number that a trace has one of, for each trace.
pub(super) fn of_traces(rows: &mut Rows, field: SpanField) -> Result<ArrayRef> {
    let path = leaves(field).first().copied().unwrap_or_default();
    let numbers = rows.int64(path)?;
    Ok(match field {
        SpanField::TraceDurationNs => Arc::new(Int64Array::new(numbers, None)),
        _ => timestamps(numbers),
    })
}

/// A field that a span has exactly one value of.
fn span_field(rows: &mut Rows, field: SpanField, path: &str, chosen: Chosen<'_>) -> Result<ArrayRef> {
    use SpanField::*;
    Ok(match (field, chosen.values(rows, path)?) {
        (SpanId, Dense::Bytes(ids)) => Arc::new(hex_ids(&ids, None)),
        (ParentSpanId, Dense::Bytes(ids)) => {
            let valid: NullBuffer = ids.offsets().lengths().map(|len| len > 0).collect::<Vec<_>>().into();
            let (offsets, values, _) = hex_ids(&ids, None).into_parts();
            Arc::new(StringArray::try_new(offsets, values, Some(valid))?)
        }
        (Name, Dense::Text(text)) => dictionary(&text)?,
        (StatusMessage | TraceState, Dense::Text(text)) => texts(&text, None)?,
        (Kind, Dense::Int64(numbers)) => named(&numbers, kind_text)?,
        (Status, Dense::Int64(numbers)) => named(&numbers, status_text)?,
        (KindCode | StatusCode, Dense::Int64(numbers)) => {
            Arc::new(Int32Array::from(numbers.iter().map(|v| int32(*v, path)).collect::<Result<Vec<_>>>()?))
        }
        (StartTime, Dense::Int64(starts)) => timestamps(starts),
        (EndTime, Dense::Int64(starts)) => {
            let Dense::Int64(durations) = chosen.values(rows, DURATION_LEAF)? else { return Err(mistyped(DURATION_LEAF)) };
            let ends: Vec<i64> = starts.iter().zip(durations.iter()).map(|(s, d)| s.wrapping_add(*d)).collect();
            timestamps(ends.into())
        }
        (DurationNs, Dense::Int64(nanos)) => Arc::new(Int64Array::new(nanos, None)),
        (_, Dense::Int32(numbers)) => Arc::new(Int32Array::new(numbers, None)),
        _ => return Err(mistyped(path)),
    })
}

fn mistyped(path: &str) -> Error {
    Error::internal(format!("column {path} is asked for as another type"))
}

/// `event:name`: the names of each span's events.
pub(super) fn event_names(rows: &mut Rows, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let (offsets, items) = chosen.lists(&rows.list_offsets(head::EVENTS)?, depth::SPAN)?;
    list(offsets, texts(&rows.text(head::EVENTS)?, Some(items))?)
}

/// The leaf of [`event_times`].
pub(super) const EVENT_TIME_LEAF: &str = "rs.ss.Spans.Events.TimeSinceStartNano";

/// `event:timeSinceStart`: nanoseconds from the span's start to each of its events.
pub(super) fn event_times(rows: &mut Rows, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let (offsets, items) = chosen.lists(&rows.list_offsets(head::EVENTS)?, depth::SPAN)?;
    let times = Int64Array::new(rows.int64(EVENT_TIME_LEAF)?, None);
    list(offsets, take(&times, &items, None)?)
}

/// `link:traceID` or `link:spanID`: hex ids of each span's links.
pub(super) fn link_ids(rows: &mut Rows, path: &str, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let (offsets, items) = chosen.lists(&rows.list_offsets(head::LINKS)?, depth::SPAN)?;
    let ids = take(&rows.bytes(path)?, &items, None)?;
    list(offsets, Arc::new(hex_ids(as_binary(&ids)?, None)))
}

/// Leaves of [`service_stats`].
pub(super) const SERVICE_STATS_LEAVES: [&str; 3] = [head::SERVICE_STATS, "ServiceStats.SpanCount", "ServiceStats.ErrorCount"];

/// Spans and errors by service of each span's trace.
pub(super) fn service_stats(rows: &mut Rows, chosen: Chosen<'_>) -> Result<ArrayRef> {
    let (offsets, items) = chosen.lists(&rows.list_offsets(head::SERVICE_STATS)?, depth::TRACE)?;
    let DataType::Struct(fields) = service_stats_type() else { return Err(Error::internal("service stats are not a struct")) };
    let mut children = vec![texts(&rows.text(head::SERVICE_STATS)?, Some(items.clone()))?];
    for path in &SERVICE_STATS_LEAVES[1..] {
        let counts = rows.int32(path)?;
        // Stored as unsigned 32-bit integers.
        let counts: ScalarBuffer<i64> = items.values().iter().map(|i| i64::from(counts[*i as usize] as u32)).collect();
        children.push(Arc::new(Int64Array::new(counts, None)));
    }
    list(offsets, Arc::new(StructArray::try_new_with_length(fields, children, None, items.len())?))
}

/// A list array of these items, which may be NULL by its type and are not.
pub(super) fn list(offsets: OffsetBuffer<i32>, items: ArrayRef) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, items, None)?))
}

/// A dictionary array with each of these texts once.
pub(super) fn identity_dictionary(values: &StringArray) -> Result<ArrayRef> {
    let keys = Int32Array::from_iter_values(0..values.len() as i32);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values.clone()))?))
}

/// Text as a dictionary array.
fn dictionary(text: &Text) -> Result<ArrayRef> {
    let codes = text.codes.clone().unwrap_or_else(|| (0..text.values.len() as i32).collect());
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::new(codes, None), Arc::new(text.values.clone()))?))
}

/// Service names; the empty name is NULL.
fn service_names(text: &Text) -> Result<ArrayRef> {
    let named: NullBuffer = (0..text.len()).map(|i| !text.get(i).is_empty()).collect::<Vec<_>>().into();
    let codes = text.codes.clone().unwrap_or_else(|| (0..text.values.len() as i32).collect());
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::new(codes, Some(named)), Arc::new(text.values.clone()))?))
}

/// The values at these places (or all) as plain strings.
fn texts(text: &Text, places: Option<UInt32Array>) -> Result<ArrayRef> {
    let at: UInt32Array = match (places, &text.codes) {
        (None, None) => return Ok(Arc::new(text.values.clone())),
        (None, Some(codes)) => codes.iter().map(|c| *c as u32).collect::<Vec<_>>().into(),
        (Some(places), None) => places,
        (Some(places), Some(codes)) => places.values().iter().map(|p| codes[*p as usize] as u32).collect::<Vec<_>>().into(),
    };
    Ok(take(&text.values, &at, None)?)
}

/// Names of numbers, as a dictionary array.
fn named(numbers: &[i64], name: impl Fn(i32) -> std::borrow::Cow<'static, str>) -> Result<ArrayRef> {
    let mut known: Vec<i64> = Vec::new();
    let mut codes = Vec::with_capacity(numbers.len());
    for number in numbers {
        let code = known.iter().position(|k| k == number).unwrap_or_else(|| {
            known.push(*number);
            known.len() - 1
        });
        codes.push(code as i32);
    }
    let names = known.iter().map(|n| int32(*n, "kind or status").map(&name)).collect::<Result<Vec<_>>>()?;
    let names = StringArray::from_iter_values(names);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), Arc::new(names))?))
}

fn int32(number: i64, what: &str) -> Result<i32> {
    i32::try_from(number).map_err(|_| Error::data(format!("{number} is not a value of {what}")))
}

fn timestamps(values: ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(values, None).with_timezone("UTC"))
}

fn as_binary(array: &ArrayRef) -> Result<&BinaryArray> {
    array.as_any().downcast_ref().ok_or_else(|| Error::internal("bytes became something else"))
}

/// Ids as hex; of `width` bytes, if given: shorter ones are padded with zeros in front, of longer ones the end counts.
fn hex_ids(ids: &BinaryArray, width: Option<usize>) -> StringArray {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text: Vec<u8> = Vec::with_capacity(2 * ids.value_data().len());
    let mut offsets = Vec::with_capacity(ids.len() + 1);
    offsets.push(0);
    for id in ids.iter() {
        let id = id.unwrap_or_default();
        let padding = width.unwrap_or_default().saturating_sub(id.len());
        let id = &id[id.len().saturating_sub(width.unwrap_or(usize::MAX))..];
        text.resize(text.len() + 2 * padding, b'0');
        for byte in id {
            text.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        offsets.push(text.len() as i32);
    }
    StringArray::new(OffsetBuffer::new(offsets.into()), text.into(), None)
}
