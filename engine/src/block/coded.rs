//! Columns of a row group in codes, and what their dictionaries rule out before any value is read.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray, UInt32Array, new_null_array},
    buffer::ScalarBuffer,
    compute::cast,
    datatypes::{DataType, Int32Type},
};

use super::{
    attribute_json,
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF, any_texts, coded_attribute, key_leaf, single_column, value_leaf},
    chunk::{SPAN_START_LEAF, bounds},
    dictionary::codes_of,
    fields::{identity_dictionary, leaves, of_traces},
    leaves::{depth, scope_path},
    legacy,
    number_codes::{NumberCodes, unsigned},
    rows::Rows,
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::{
        AttributeScope, CodedColumn, INTERVALS_MAX, Passing, SpanColumn, SpanField, ValueTest, any_value_type, kind_text, rounded_end,
        rounded_start, status_text,
    },
};

/// The most different numbers of kinds and statuses that are given codes.
const NUMBERS_MAX: i64 = 256;

/// The text leaf that a field is, and the depth of what has one value of it.
pub(super) fn text_leaf(field: SpanField) -> Option<(&'static str, u32)> {
    use SpanField::*;
    let at = match field {
        Name | StatusMessage | TraceState => depth::SPAN,
        ScopeName | ScopeVersion => depth::SCOPE,
        ServiceName => depth::RESOURCE,
        RootServiceName | RootSpanName => depth::TRACE,
        _ => return None,
    };
    leaves(field).first().map(|leaf| (*leaf, at))
}

/// The depth of what has one value of a column, if the column can have codes.
fn coded_depth(column: &SpanColumn) -> Option<u32> {
    use SpanField::{Kind, KindCode, Status, StatusCode, TraceDurationNs, TraceEndTime, TraceStartTime};
    match column {
        SpanColumn::Field(Kind | KindCode | Status | StatusCode) | SpanColumn::RoundedStart { .. } => Some(depth::SPAN),
        SpanColumn::Field(TraceStartTime | TraceEndTime | TraceDurationNs) => Some(depth::TRACE),
        SpanColumn::Field(field) => text_leaf(*field).map(|(_, at)| at),
        SpanColumn::Attribute { scope, .. } if !scope.is_repeated() => Some(scope_path(*scope).1),
        SpanColumn::AttributeJson { scope, .. } => Some(scope_path(*scope).1),
        _ => None,
    }
}

/// Whether a column can have codes.
pub(super) fn has_codes(column: &SpanColumn) -> bool {
    coded_depth(column).is_some()
}

/// A loaded column in codes; `None` if it has too many values for that or is of a kind that has none. Attribute values that are
/// not `passing` may be left out.
pub(super) fn coded(rows: &mut Rows, column: &SpanColumn, passing: Passing) -> Result<Option<CodedColumn>> {
    let (Some(at), None) = (coded_depth(column), legacy::leaves(rows, column)) else { return Ok(None) };
    let found: Option<(ArrayRef, ScalarBuffer<u32>)> = match column {
        SpanColumn::Field(field @ (SpanField::Kind | SpanField::KindCode | SpanField::Status | SpanField::StatusCode)) => {
            small_numbers(rows, *field, None)?
        }
        SpanColumn::Field(field @ (SpanField::TraceStartTime | SpanField::TraceEndTime | SpanField::TraceDurationNs)) => {
            // A value for each trace, which has many spans.
            let values = of_traces(rows, *field)?;
            let codes = (0..values.len() as u32).collect();
            Some((values, codes))
        }
        SpanColumn::Field(field) => match text_leaf(*field).map(|(leaf, _)| rows.text(leaf)).transpose()? {
            // Codes are positions in the dictionary, so they are not negative.
            Some(Text { codes: Some(codes), values }) => Some((field_values(*field, &values)?, unsigned(codes))),
            _ => None,
        },
        SpanColumn::Attribute { scope, key } => {
            let found = coded_attribute(rows, *scope, key, passing)?;
            found.map(|(values, codes)| Ok::<_, Error>((values.into_array()?, codes.into()))).transpose()?
        }
        SpanColumn::RoundedStart { seconds } => rounded_starts(rows, *seconds, None)?,
        SpanColumn::AttributeJson { scope, key } => {
            let count = rows.count(at)?;
            let (texts, codes) = attribute_json::coded(rows, *scope, key, count)?;
            Some((Arc::new(texts), codes))
        }
        _ => None,
    };
    let Some((values, codes)) = found else { return Ok(None) };
    let due = rows.count(at)?;
    if codes.len() != due {
        return Err(Error::internal(format!("{} codes for {due} things", codes.len())));
    }
    let starts = if at < depth::SPAN { Some(rows.shape()?.first_spans(at)) } else { None };
    Ok(Some(CodedColumn { values, codes: codes.into(), starts }))
}

/// A loaded column in codes for these spans (ascending, fewer than all) only; `None` if that takes no less work than for all.
pub(super) fn coded_at(rows: &mut Rows, column: &SpanColumn, spans: &UInt32Array) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
    if legacy::leaves(rows, column).is_some() {
        return Ok(None);
    }
    match column {
        SpanColumn::Field(field @ (SpanField::Kind | SpanField::KindCode | SpanField::Status | SpanField::StatusCode)) => {
            small_numbers(rows, *field, Some(spans))
        }
        SpanColumn::Field(field) => match text_leaf(*field) {
            Some((leaf, depth::SPAN)) if rows.is_undecoded(leaf) => match rows.values_at(leaf, spans)? {
                Dense::Text(Text { codes: Some(codes), values }) => Ok(Some((field_values(*field, &values)?, unsigned(codes)))),
                _ => Ok(None),
            },
            _ => Ok(None),
        },
        SpanColumn::Attribute { scope: AttributeScope::Span, key } => {
            let found = single_column(rows, AttributeScope::Span, key, Some(spans))?;
            found.map(|(values, codes)| Ok((values.into_array()?, codes.into()))).transpose()
        }
        SpanColumn::RoundedStart { seconds } => rounded_starts(rows, *seconds, Some(spans)),
        _ => Ok(None),
    }
}

/// The entries of a field's dictionary as values of the field's column.
pub(super) fn field_values(field: SpanField, dictionary: &StringArray) -> Result<ArrayRef> {
    if field == SpanField::ServiceName {
        // An empty name is none.
        let named = |(i, name): (usize, Option<&str>)| name.filter(|n| !n.is_empty()).map(|_| i as i32);
        let keys: Int32Array = dictionary.iter().enumerate().map(named).collect();
        return Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(dictionary.clone()))?));
    }
    match field.describe().1 {
        DataType::Utf8 => Ok(Arc::new(dictionary.clone())),
        _ => identity_dictionary(dictionary),
    }
}

/// Kinds and statuses: few small numbers, or none that have names. Of these spans or of all.
fn small_numbers(rows: &mut Rows, field: SpanField, at: Option<&UInt32Array>) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
    let Some(leaf) = leaves(field).first() else { return Ok(None) };
    let (known, codes): (Vec<i32>, _) = match rows.number_codes(leaf, at)? {
        Some(NumberCodes { numbers, codes }) if numbers.iter().all(|n| (0..NUMBERS_MAX).contains(n)) => {
            (numbers.into_iter().map(|n| n as i32).collect(), codes)
        }
        _ if at.is_some() => return Ok(None),
        _ => {
            let numbers = rows.int64(leaf)?;
            let max = numbers.iter().copied().max().unwrap_or_default();
            if max >= NUMBERS_MAX || numbers.iter().any(|n| *n < 0) {
                return Ok(None);
            }
            ((0..=max as i32).collect(), numbers.iter().map(|n| *n as u32).collect())
        }
    };
    let known = known.into_iter();
    let values: ArrayRef = match field {
        SpanField::Kind => cast(&StringArray::from_iter_values(known.map(kind_text)), &field.describe().1)?,
        SpanField::Status => cast(&StringArray::from_iter_values(known.map(status_text)), &field.describe().1)?,
        _ => Arc::new(Int32Array::from_iter_values(known)),
    };
    Ok(Some((values, codes)))
}

/// The leaf of start times rounded to intervals of so many seconds.
pub(super) fn rounded_leaf(seconds: u32) -> String {
    format!("rs.ss.Spans.StartTimeRounded{seconds}")
}

/// The intervals, first and last, in which the spans start, if the footer tells and they are not too many.
pub(super) fn rounded_bounds(rows: &Rows, seconds: u32) -> Option<(u32, u32)> {
    let (min, max) = bounds(rows.chunk(SPAN_START_LEAF).ok()?.1)?;
    // Of the time 0 it is not told whether it lies before the first interval.
    if min == 0 || !rows.exists(&rounded_leaf(seconds)) {
        return None;
    }
    let of = |time: i64| rounded_start(time as u64, seconds.into());
    Some((of(min), of(max))).filter(|(first, last)| last - first < INTERVALS_MAX)
}

/// Rounded start times in codes, of these spans or of all; `None` if they are not those of the start times.
fn rounded_starts(rows: &mut Rows, seconds: u32, at: Option<&UInt32Array>) -> Result<Option<(ArrayRef, ScalarBuffer<u32>)>> {
    let Some((first, last)) = rounded_bounds(rows, seconds) else { return Ok(None) };
    if let Some(NumberCodes { numbers, codes }) = rows.number_codes(&rounded_leaf(seconds), at)? {
        // Stored as signed, meant as unsigned.
        if !numbers.iter().all(|n| (first..=last).contains(&(*n as u32))) {
            return Ok(None);
        }
        let ends = TimestampNanosecondArray::from_iter_values(numbers.iter().map(|n| rounded_end(*n as u32, seconds)));
        return Ok(Some((Arc::new(ends.with_timezone("UTC")), codes)));
    }
    if at.is_some() {
        return Ok(None);
    }
    let numbers = rows.int32(&rounded_leaf(seconds))?;
    let codes: Vec<u32> = numbers.iter().map(|n| (*n as u32).wrapping_sub(first)).collect();
    if codes.iter().fold(0, |max, code| max.max(*code)) > last - first {
        return Ok(None);
    }
    let ends = TimestampNanosecondArray::from_iter_values((first..=last).map(|n| rounded_end(n, seconds)));
    Ok(Some((Arc::new(ends.with_timezone("UTC")), codes.into())))
}

/// What is to be done next to find out whether any span of a row group can pass a test of one column.
pub(super) enum Verdict {
    /// No span can.
    Excluded,
    /// Some span may.
    Possible,
    /// The dictionary of this leaf, at this range of the file, tells more.
    Needs(String, Range<u64>),
}

/// The leaves whose dictionaries tell first whether a test of a column can pass.
pub(super) fn dictionaries(rows: &Rows, column: &SpanColumn) -> Vec<String> {
    let of = |scope: AttributeScope, key: &str| {
        let own = rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key && !p.int).map(|p| p.path.clone());
        own.chain([key_leaf(scope)]).filter(|path| rows.exists(path)).collect()
    };
    match column {
        _ if legacy::leaves(rows, column).is_some() => Vec::new(),
        SpanColumn::Field(field) => text_leaf(*field).map(|(leaf, _)| leaf.to_owned()).into_iter().collect(),
        SpanColumn::Attribute { scope: AttributeScope::Resource, key } if **key == *SERVICE_NAME => vec![SERVICE_NAME_LEAF.to_owned()],
        SpanColumn::Attribute { scope, key } if !scope.is_repeated() => of(*scope, key),
        _ => Vec::new(),
    }
}

/// Whether dictionaries and statistics exclude that any span passes a test.
pub(super) async fn excluded(rows: &Rows, column: &SpanColumn, test: &ValueTest<'_>) -> Result<Verdict> {
    if legacy::leaves(rows, column).is_some() {
        return Ok(Verdict::Possible);
    }
    match column {
        SpanColumn::Field(field) => {
            let Some((leaf, _)) = text_leaf(*field) else { return Ok(Verdict::Possible) };
            match dictionary(rows, leaf)? {
                Known::Entries(entries) => passes(test, field_values(*field, &entries)?).await,
                Known::Unknown => Ok(Verdict::Possible),
                Known::Needs(verdict) => Ok(verdict),
            }
        }
        SpanColumn::Attribute { scope, key } if !scope.is_repeated() => attribute_excluded(rows, *scope, key, test).await,
        SpanColumn::AttributeJson { scope, key } => {
            // Where nothing has the attribute all have the same text.
            match test.passes_any(&attribute_json::none()).await? {
                true => Ok(Verdict::Possible),
                false => absent(rows, *scope, key),
            }
        }
        _ => Ok(Verdict::Possible),
    }
}

async fn attribute_excluded(rows: &Rows, scope: AttributeScope, key: &str, test: &ValueTest<'_>) -> Result<Verdict> {
    if test.passing.absent && test.passes_any(&new_null_array(&any_value_type(), 1)).await? {
        return Ok(Verdict::Possible);
    }
    let mut columns: Vec<(&str, bool)> =
        rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key).map(|p| (p.path.as_str(), p.int)).collect();
    if scope == AttributeScope::Resource && key == SERVICE_NAME {
        columns.push((SERVICE_NAME_LEAF, false));
    }
    for (path, int) in columns {
        let verdict = match int {
            true if test.passing.ints && !rows.is_empty(path)? => Verdict::Possible,
            false if test.passing.strings => texts_excluded(rows, path, test).await?,
            _ => Verdict::Excluded,
        };
        if !matches!(verdict, Verdict::Excluded) {
            return Ok(verdict);
        }
    }
    match dictionary(rows, &key_leaf(scope))? {
        Known::Entries(keys) if codes_of(&keys, key).is_empty() => return Ok(Verdict::Excluded),
        Known::Needs(verdict) => return Ok(verdict),
        Known::Entries(_) | Known::Unknown => {}
    }
    for (leaf, wanted) in [("ValueInt", test.passing.ints), ("ValueDouble", test.passing.doubles), ("ValueBool", test.passing.bools)] {
        if wanted && !rows.is_empty(&value_leaf(scope, leaf))? {
            return Ok(Verdict::Possible);
        }
    }
    if test.passing.strings { texts_excluded(rows, &value_leaf(scope, "Value"), test).await } else { Ok(Verdict::Excluded) }
}

/// Whether it is remembered that no value of an attribute is this text, nor an element of one.
pub(super) fn lacks(rows: &Rows, column: &SpanColumn, text: &str) -> bool {
    let SpanColumn::Attribute { scope, key } = column else { return false };
    // Names of services have a leaf of their own.
    if scope.is_repeated() || legacy::leaves(rows, column).is_some() || **key == *SERVICE_NAME {
        return false;
    }
    let is_empty = |path: &str| rows.is_empty(path).unwrap_or(false);
    let lacks = |path: &str, text: &str| rows.cache().lacks(rows.place(), path, text);
    let mut own = rows.block().promoted().iter().filter(|p| p.scope == *scope && p.key == **key && !p.int).map(|p| p.path.as_str());
    let generic = value_leaf(*scope, "Value");
    own.all(|path| is_empty(path) || lacks(path, text)) && (is_empty(&generic) || lacks(&key_leaf(*scope), key) || lacks(&generic, text))
}

/// Whether nothing has an attribute, and so no test passes.
fn absent(rows: &Rows, scope: AttributeScope, key: &str) -> Result<Verdict> {
    for own in rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key) {
        if !rows.is_empty(&own.path)? {
            return Ok(Verdict::Possible);
        }
    }
    let path = key_leaf(scope);
    if !rows.exists(&path) || scope == AttributeScope::Resource && key == SERVICE_NAME {
        return Ok(Verdict::Possible);
    }
    match dictionary(rows, &path)? {
        Known::Entries(keys) if codes_of(&keys, key).is_empty() => Ok(Verdict::Excluded),
        Known::Needs(verdict) => Ok(verdict),
        Known::Entries(_) | Known::Unknown => Ok(Verdict::Possible),
    }
}

/// Whether no text of a leaf passes a test of attribute values.
async fn texts_excluded(rows: &Rows, path: &str, test: &ValueTest<'_>) -> Result<Verdict> {
    match dictionary(rows, path)? {
        Known::Entries(texts) => {
            // The first is NULL, which was asked about already.
            let values = any_texts(&texts)?.into_array()?;
            passes(test, values.slice(1, values.len() - 1)).await
        }
        Known::Unknown => Ok(Verdict::Possible),
        Known::Needs(verdict) => Ok(verdict),
    }
}

async fn passes(test: &ValueTest<'_>, values: ArrayRef) -> Result<Verdict> {
    Ok(if test.passes_any(&values).await? { Verdict::Possible } else { Verdict::Excluded })
}

/// What can be known of a leaf's dictionary.
enum Known {
    Entries(StringArray),
    Unknown,
    Needs(Verdict),
}

fn dictionary(rows: &Rows, path: &str) -> Result<Known> {
    if rows.is_empty(path)? {
        return Ok(Known::Entries(StringArray::new_null(0)));
    }
    if let Some(range) = rows.dictionary_range(path)? {
        return Ok(Known::Needs(Verdict::Needs(path.to_owned(), range)));
    }
    Ok(if rows.is_here(path) { rows.dictionary(path)?.map_or(Known::Unknown, Known::Entries) } else { Known::Unknown })
}
