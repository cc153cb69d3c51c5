//! `compare()`: how often each value of each attribute occurs, among the selected spans and among the others.
//!
//! Which attributes there are is known only from the data, so the plan reads all attributes of the matching spans as JSON
//! and counts them in an aggregate of its own, whose states merge by addition. What it costs: the attribute leaves of the
//! row groups with matches are read whole, and JSON is made for each matching span and each of their resources and scopes.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Field as ArrowField, FieldRef},
};
use datafusion::{
    common::{Result as DfResult, ScalarValue},
    functions_aggregate::expr_fn::count,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Volatility, col,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use serde_json::Value as Json;
use tracehouse_engine::{
    Error, Result, TenantId,
    scan::{SpanColumn, SpanField},
};
use tracehouse_sql::Sessions;

use super::{
    super::{
        Whole,
        filter::{column, filter_expr},
    },
    counted, fields_of,
    functions::as_service_name,
    interval_of, key, stored_whole, timestamp,
};
use crate::{
    eval::{columns_of, single_values_of},
    metrics::time::Intervals,
    spansets::program::plain_filters,
    syntax::{Attribute, Compare, Field, Intrinsic, Scope, Series, Static},
};

/// The intrinsics that are compared: those with few values.
const INTRINSICS: [Intrinsic; 9] = [
    Intrinsic::InstrumentationName,
    Intrinsic::InstrumentationVersion,
    Intrinsic::Kind,
    Intrinsic::Name,
    Intrinsic::TraceRootName,
    Intrinsic::TraceRootService,
    Intrinsic::ChildCount,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
];

/// The columns of attributes, and the scope of each.
const ATTRIBUTES: [(SpanField, Scope); 3] = [
    (SpanField::SpanAttributes, Scope::Span),
    (SpanField::ResourceAttributes, Scope::Resource),
    (SpanField::ScopeAttributes, Scope::Instrumentation),
];

/// The resource attribute that every resource counts as having.
const SERVICE_NAME: &str = "service.name";

/// Most distinct values counted of an attribute in one interval; more only add to the attribute's total.
const VALUES_MAX: usize = 100_000;

/// Plans the counting. Columns of the answer: interval (Int32), selected (Boolean), counts (Binary, see [`Counts`]).
pub fn plan_compare(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    compare: &Compare,
    intervals: &Intervals,
    whole: &Whole,
) -> Result<LogicalPlan> {
    let mut fields = filtered_fields(series);
    fields.extend(compare.filter.fields().into_iter().cloned());
    let compared = compared_columns();
    let columns = fields.iter().flat_map(columns_of).chain(compared.iter().cloned());
    let source = counted(sessions, tenant, series, columns, intervals, whole)?;
    let time = || column(&SpanColumn::Field(SpanField::StartTime));
    let mut selected = filter_expr(&compare.filter)?;
    // Both zero means no range.
    if let Some((start, end)) = compare.range_ns.filter(|range| *range != (0, 0)) {
        selected = selected.and(time().gt_eq(timestamp(start))).and(time().lt(timestamp(end)));
    }
    let names: Vec<String> = (0..compared.len()).map(|i| format!("column{i}")).collect();
    let mut shown = vec![interval_of(intervals).alias("interval"), selected.alias("selected")];
    shown.extend(compared.iter().zip(&names).map(|(c, name)| column(c).alias(name.as_str())));
    let counts = AggregateUDF::from(CompareFunction::default()).call(names.iter().map(|n| col(n.as_str())).collect());
    let plan = LogicalPlanBuilder::from(source).project(shown)?;
    stored_whole(plan.aggregate(vec![col("interval"), col("selected")], vec![counts])?.build()?, series, whole)
}

/// Plans the check of attributes that may hold bytes: the number of matching spans that have each as a TraceQL value.
pub fn plan_check(
    sessions: &Sessions,
    tenant: &TenantId,
    series: &Series,
    intervals: &Intervals,
    suspects: &[Field],
    whole: &Whole,
) -> Result<LogicalPlan> {
    let mut fields = filtered_fields(series);
    fields.extend(suspects.iter().cloned());
    let source = counted(sessions, tenant, series, fields.iter().flat_map(columns_of), intervals, whole)?;
    let columns: Vec<SpanColumn> = suspects.iter().flat_map(columns_of).collect();
    let shown: Vec<Expr> = columns.iter().enumerate().map(|(i, c)| column(c).alias(format!("column{i}"))).collect();
    let counts: Vec<Expr> = (0..columns.len()).map(|i| count(col(format!("column{i}").as_str()))).collect();
    stored_whole(LogicalPlanBuilder::from(source).project(shown)?.aggregate(Vec::<Expr>::new(), counts)?.build()?, series, whole)
}

/// The fields that decide which spans are compared, where the plan itself filters them.
fn filtered_fields(series: &Series) -> Vec<Field> {
    fields_of(series, &plain_filters(&series.pipeline).unwrap_or_default())
}

fn compared_columns() -> Vec<SpanColumn> {
    let attributes = ATTRIBUTES.iter().map(|(field, _)| SpanColumn::Field(*field));
    attributes.chain(INTRINSICS.iter().flat_map(|i| columns_of(&Field::Intrinsic(*i)))).collect()
}

/// How often each value of each attribute occurs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts(pub HashMap<Field, AttributeCounts>);

/// How often each value of one attribute occurs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributeCounts {
    /// Spans that have the attribute.
    pub total: u64,
    /// Spans by value (a key of one value). Values that TraceQL has no type for are nil.
    pub values: HashMap<Vec<u8>, u64>,
}

impl AttributeCounts {
    fn add(&mut self, value: &Static, spans: u64) {
        let mut bytes = Vec::new();
        key::encode(value, &mut bytes);
        self.add_key(bytes, spans);
        self.total += spans;
    }

    fn add_key(&mut self, value: Vec<u8>, spans: u64) {
        if self.values.len() < VALUES_MAX || self.values.contains_key(&value) {
            *self.values.entry(value).or_default() += spans;
        }
    }
}

impl Counts {
    /// Adds other counts.
    pub fn merge(&mut self, other: Self) {
        for (field, counts) in other.0 {
            let own = self.0.entry(field).or_default();
            own.total += counts.total;
            counts.values.into_iter().for_each(|(value, spans)| own.add_key(value, spans));
        }
    }

    /// Adds the attributes of a scope, as JSON objects; each distinct text is read once.
    fn add_json(&mut self, scope: Scope, texts: &ArrayRef) -> Result<()> {
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| Error::internal("attributes are not text"))?;
        let mut distinct: HashMap<&str, u64> = HashMap::new();
        texts.iter().flatten().for_each(|text| *distinct.entry(text).or_default() += 1);
        for (text, spans) in distinct {
            let attributes: serde_json::Map<String, Json> =
                serde_json::from_str(text).map_err(|e| Error::internal("attributes are no JSON object").with_source(e))?;
            let unnamed =
                (scope == Scope::Resource && !attributes.contains_key(SERVICE_NAME)).then(|| (SERVICE_NAME.to_owned(), Json::Null));
            for (name, value) in attributes.into_iter().chain(unnamed) {
                let mut value = value_of(value);
                if scope == Scope::Resource && name == SERVICE_NAME {
                    as_service_name(&mut value);
                }
                let field = Field::Attribute(Attribute { parent: false, scope, name });
                self.0.entry(field).or_default().add(&value, spans);
            }
        }
        Ok(())
    }

    fn add_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let (attributes, mut rest) = columns.split_at_checked(ATTRIBUTES.len()).ok_or_else(|| Error::internal("too few columns"))?;
        for ((_, scope), texts) in ATTRIBUTES.iter().zip(attributes) {
            self.add_json(*scope, texts)?;
        }
        for intrinsic in INTRINSICS {
            let field = Field::Intrinsic(intrinsic);
            let (own, others) = rest.split_at_checked(columns_of(&field).len()).ok_or_else(|| Error::internal("too few columns"))?;
            let codes = single_values_of(&field, own)?.codes();
            let mut spans = vec![0u64; codes.values.len()];
            codes.rows.iter().for_each(|code| spans[*code as usize] += 1);
            for (value, spans) in codes.values.iter().zip(spans).filter(|(value, spans)| *spans > 0 && **value != Static::Nil) {
                self.0.entry(field.clone()).or_default().add(value, spans);
            }
            rest = others;
        }
        Ok(())
    }

    /// The counts as bytes: for each attribute its name, total and values, all with their lengths.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let bytes = |out: &mut Vec<u8>, b: &[u8]| {
            out.extend((b.len() as u64).to_be_bytes());
            out.extend(b);
        };
        for (field, counts) in &self.0 {
            let (place, name) = place_of(field);
            out.push(place);
            bytes(&mut out, name.as_bytes());
            out.extend(counts.total.to_be_bytes());
            out.extend((counts.values.len() as u64).to_be_bytes());
            for (value, spans) in &counts.values {
                bytes(&mut out, value);
                out.extend(spans.to_be_bytes());
            }
        }
        out
    }

    /// Reads counts back.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut counts = Self::default();
        while !bytes.is_empty() {
            counts.decode_attribute(&mut bytes).ok_or_else(|| Error::internal("the state of compare() cannot be read"))?;
        }
        Ok(counts)
    }

    fn decode_attribute(&mut self, bytes: &mut &[u8]) -> Option<()> {
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_be_bytes(*number))
        }
        fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
            let length = number(bytes)? as usize;
            let (text, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some(text)
        }
        let (place, rest) = bytes.split_first()?;
        *bytes = rest;
        let field = field_at(*place, std::str::from_utf8(text(bytes)?).ok()?)?;
        let counts = self.0.entry(field).or_default();
        counts.total += number(bytes)?;
        for _ in 0..number(bytes)? {
            let value = text(bytes)?.to_vec();
            counts.add_key(value, number(bytes)?);
        }
        Some(())
    }
}

/// A field as a number and a name: the scope's place in [`ATTRIBUTES`], or behind those the intrinsic's in [`INTRINSICS`].
fn place_of(field: &Field) -> (u8, &str) {
    match field {
        Field::Attribute(a) => (ATTRIBUTES.iter().position(|(_, scope)| *scope == a.scope).unwrap_or(0) as u8, &a.name),
        Field::Intrinsic(i) => (ATTRIBUTES.len() as u8 + INTRINSICS.iter().position(|known| known == i).unwrap_or(0) as u8, ""),
    }
}

fn field_at(place: u8, name: &str) -> Option<Field> {
    let place = usize::from(place);
    Some(match ATTRIBUTES.get(place) {
        Some((_, scope)) => Field::Attribute(Attribute { parent: false, scope: *scope, name: name.to_owned() }),
        None => Field::Intrinsic(*INTRINSICS.get(place - ATTRIBUTES.len())?),
    })
}

/// A value of the JSON form as TraceQL sees it; nil for what it has no type for, and for arrays, as in Tempo.
fn value_of(json: Json) -> Static {
    match json {
        Json::String(text) => Static::String(text),
        Json::Bool(b) => Static::Bool(b),
        Json::Number(n) => n.as_i64().map(Static::Int).or_else(|| n.as_f64().map(Static::Float)).unwrap_or(Static::Nil),
        // One element is read as a scalar.
        Json::Array(mut items) if items.len() == 1 => match items.remove(0) {
            Json::Array(_) => Static::Nil,
            item => value_of(item),
        },
        Json::Array(_) | Json::Object(_) | Json::Null => Static::Nil,
    }
}

/// `traceql_compare(columns...)`: [`Counts`] over rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CompareFunction {
    signature: Signature,
}

impl Default for CompareFunction {
    fn default() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for CompareFunction {
    fn name(&self) -> &str {
        "traceql_compare"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(ArrowField::new(format!("{}[counts]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(CompareAccumulator(Counts::default())))
    }
}

#[derive(Debug)]
struct CompareAccumulator(Counts);

impl Accumulator for CompareAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        Ok(self.0.add_batch(values)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let states = states.first().and_then(|s| s.as_binary_opt::<i32>());
        let states = states.ok_or_else(|| Error::internal("the state of compare() is of another type"))?;
        for state in states.iter().flatten() {
            self.0.merge(Counts::decode(state)?);
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.0.encode())))
    }

    fn size(&self) -> usize {
        // A value of some 40 bytes with its place in the map; near enough for the memory pool.
        size_of_val(self) + self.0.0.values().map(|c| 128 + 96 * c.values.len()).sum::<usize>()
    }
}

/// Counts of an answer's row.
pub fn counts_at(array: &ArrayRef, row: usize) -> Result<Counts> {
    let states = array.as_binary_opt::<i32>().ok_or_else(|| Error::internal("compare() gave something else than bytes"))?;
    if states.is_valid(row) { Counts::decode(states.value(row)) } else { Ok(Counts::default()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    #[test]
    fn counts_keep_types_and_merge() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"x"}"#, r#"{"a":"1","b":[1,2],"c":{}}"#]));
        let mut counts = Counts::default();
        counts.add_json(Scope::Span, &texts).unwrap();
        let read = Counts::decode(&counts.encode()).unwrap();
        assert_eq!(read, counts);
        counts.merge(read);
        let of = |name: &str, value: Static| {
            let attribute = &counts.0[&Field::Attribute(Attribute { parent: false, scope: Scope::Span, name: name.into() })];
            let mut bytes = Vec::new();
            key::encode(&value, &mut bytes);
            (attribute.total, attribute.values.get(&bytes).copied())
        };
        assert_eq!(of("a", Static::Int(1)), (6, Some(4)));
        assert_eq!(of("a", Static::String("1".into())), (6, Some(2)));
        assert_eq!(of("b", Static::Nil), (6, Some(2)));
        assert_eq!(of("c", Static::Nil), (2, Some(2)));
        assert!(Counts::decode(&[1, 2, 3]).is_err());
    }

    #[test]
    fn arrays_of_one_are_scalars_and_floats_stay_floats() {
        let of = |text: &str| value_of(serde_json::from_str(text).unwrap());
        assert_eq!((of("[7]"), of("[7,8]"), of("[[7]]"), of("[]")), (Static::Int(7), Static::Nil, Static::Nil, Static::Nil));
        assert_eq!((of("3.0"), of("3"), of("null")), (Static::Float(3.0), Static::Int(3), Static::Nil));
    }
}
