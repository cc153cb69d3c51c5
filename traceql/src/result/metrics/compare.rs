//! The series of `compare()`: for the selected spans and for the others, the most frequent values of each attribute, and how
//! many spans have it.

use std::{cmp::Reverse, collections::BTreeMap};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch};
use datafusion::common::HashMap;
use tracehouse_engine::{
    Error, Result,
    scan::{CountsReader, Scalar},
};

use super::{Label, Series};
use crate::{
    plan::metrics::{SOURCES, Source, decode, encode, int32, int64},
    syntax::{Attribute, Field, Intrinsic, Kind, Scope, Static, Status},
};

/// Label that says what a series counts.
const META_LABEL: &str = "__meta_type";

/// The two groups of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Side {
    /// Spans that match the selection.
    Selection,
    /// The others.
    Baseline,
}

const SIDES: [Side; 2] = [Side::Selection, Side::Baseline];

/// The number of values that are not told apart.
const OTHERS: u32 = u32::MAX;

/// What `compare()` has counted.
#[derive(Debug, Default)]
pub struct Compared {
    batches: Vec<Batch>,
    fields: Vec<Field>,
    numbers: HashMap<(usize, String), u32>,
    /// The field of each value, and the value as a key.
    values: Vec<(u32, Vec<u8>)>,
    known: HashMap<(u32, Vec<u8>), u32>,
}

/// An attribute on one side: its spans by interval, and its most frequent values.
type Chosen = (Vec<f64>, Vec<u32>);

/// Counts as the plan gave them.
#[derive(Debug)]
struct Batch {
    intervals: Int32Array,
    selected: BooleanArray,
    spans: Int64Array,
    counts: Vec<ArrayRef>,
    /// For each of the counts and each of its codes the field and the value, in [`Compared`]'s numbers.
    meanings: Vec<Vec<(u32, u32)>>,
    /// Field and value of spans whose resource has no service name.
    unnamed: (u32, u32),
}

impl Batch {
    /// Calls `see` with side, interval, field, value and a number of spans.
    fn each(&self, mut see: impl FnMut(Side, usize, u32, u32, i64)) -> Result<()> {
        let readers = self.counts.iter().map(CountsReader::new).collect::<Result<Vec<_>>>()?;
        for row in 0..self.intervals.len() {
            let chosen = self.selected.is_valid(row) && self.selected.value(row);
            let (side, interval) = (if chosen { Side::Selection } else { Side::Baseline }, self.intervals.value(row).max(0) as usize);
            let mut unnamed = self.spans.value(row);
            for (reader, meanings) in readers.iter().zip(&self.meanings) {
                for (code, spans) in reader.of(row) {
                    let (field, value) = meanings[code];
                    unnamed -= if field == self.unnamed.0 { spans } else { 0 };
                    see(side, interval, field, value, spans);
                }
            }
            if unnamed > 0 {
                see(side, interval, self.unnamed.0, self.unnamed.1, unnamed);
            }
        }
        Ok(())
    }
}

impl Compared {
    /// Adds a batch of the plan's answer.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let [intervals, selected, spans, counts @ ..] = batch.columns() else { return Err(Error::internal("too few columns")) };
        let selected = selected.as_boolean_opt().ok_or_else(|| Error::internal("a selection is no truth value"))?.clone();
        let mut meanings = Vec::with_capacity(counts.len());
        for (source, counts) in counts.iter().enumerate() {
            let counts = CountsReader::new(counts)?;
            let attributes = counts.attributes()?;
            let meaning = |code| self.meaning(source, attributes.key(code), attributes.value(code));
            meanings.push((0..counts.distinct()).map(meaning).collect::<Result<_>>()?);
        }
        let resource = SOURCES.iter().position(|s| matches!(s, Source::Attributes(Scope::Resource, _))).unwrap_or_default();
        let unnamed = self.meaning(resource, "service.name", Scalar::Nil)?;
        self.batches.push(Batch {
            intervals: int32(intervals)?.clone(),
            selected,
            spans: int64(spans)?.clone(),
            counts: counts.to_vec(),
            meanings,
            unnamed,
        });
        Ok(())
    }

    /// The numbers of a field and of its value.
    fn meaning(&mut self, source: usize, key: &str, value: Scalar<'_>) -> Result<(u32, u32)> {
        let name = (source, key.to_owned());
        let field = match self.numbers.get(&name) {
            Some(known) => *known,
            None => {
                let field = match SOURCES.get(source).ok_or_else(|| Error::internal("too many columns"))? {
                    Source::Attributes(scope, _) => Field::Attribute(Attribute { parent: false, scope: *scope, name: key.to_owned() }),
                    Source::Intrinsic(intrinsic) => Field::Intrinsic(*intrinsic),
                };
                self.fields.push(field);
                self.numbers.insert(name, self.fields.len() as u32 - 1);
                self.fields.len() as u32 - 1
            }
        };
        if value == Scalar::Other {
            return Ok((field, OTHERS));
        }
        let mut bytes = Vec::new();
        encode(&value_of(&self.fields[field as usize], value), &mut bytes);
        let next = self.values.len() as u32;
        let values = &mut self.values;
        let number = *self.known.entry((field, bytes)).or_insert_with_key(|known| {
            values.push(known.clone());
            next
        });
        Ok((field, number))
    }

    /// Of each attribute its spans by interval and its `top` most frequent values.
    fn choose(&self, top: usize, intervals: usize) -> Result<BTreeMap<(Side, String), Chosen>> {
        // By side: of each field its spans by interval, and of each value its spans.
        let mut totals: [Vec<Vec<f64>>; 2] = [(); 2].map(|()| vec![Vec::new(); self.fields.len()]);
        let mut spans_of: [Vec<i64>; 2] = [(); 2].map(|()| vec![0; self.values.len()]);
        for batch in &self.batches {
            batch.each(|side, interval, field, value, spans| {
                if interval < intervals {
                    let totals = &mut totals[side as usize][field as usize];
                    totals.resize(intervals, 0.0);
                    totals[interval] += spans as f64;
                    spans_of[side as usize].get_mut(value as usize).into_iter().for_each(|sum| *sum += spans);
                }
            })?;
        }
        let mut sorted = BTreeMap::new();
        for (side, (totals, spans_of)) in SIDES.into_iter().zip(totals.into_iter().zip(&spans_of)) {
            let mut values: Vec<Vec<u32>> = vec![Vec::new(); self.fields.len()];
            for (value, (field, _)) in self.values.iter().enumerate().filter(|(value, _)| spans_of[*value] > 0) {
                values[*field as usize].push(value as u32);
            }
            for ((field, totals), mut values) in self.fields.iter().zip(totals).zip(values).filter(|((_, t), _)| !t.is_empty()) {
                let order = |value: &u32| (Reverse(spans_of[*value as usize]), &self.values[*value as usize].1);
                if values.len() > top {
                    values.select_nth_unstable_by(top, |a, b| order(a).cmp(&order(b)));
                    values.truncate(top);
                }
                values.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
                sorted.insert((side, field.to_string()), (totals, values));
            }
        }
        Ok(sorted)
    }

    /// The series: of each attribute the `top` most frequent values, and the total; each with a value for each of `intervals`.
    /// `room` is asked for the memory of what is about to be made, in bytes.
    pub fn series(self, top: usize, intervals: usize, room: impl FnOnce(usize) -> Result<()>) -> Result<Vec<Series>> {
        let sorted = self.choose(top, intervals)?;
        // By side: where each value is among the chosen.
        let mut chosen: [Vec<Option<usize>>; 2] = [(); 2].map(|()| vec![None; self.values.len()]);
        let all = sorted.iter().flat_map(|((side, _), (_, values))| values.iter().map(|v| (*side, *v)));
        let count = all.enumerate().map(|(at, (side, value))| chosen[side as usize][value as usize] = Some(at)).count();
        room(count.saturating_mul(intervals).saturating_mul(size_of::<f64>()))?;
        let mut counts = vec![vec![0.0; intervals]; count];
        for batch in &self.batches {
            batch.each(|side, interval, _, value, spans| {
                if let (Some(Some(at)), true) = (chosen[side as usize].get(value as usize), interval < intervals) {
                    counts[*at][interval] += spans as f64;
                }
            })?;
        }
        let mut counts = counts.into_iter();
        let mut out = Vec::new();
        for ((side, name), (totals, values)) in sorted {
            let (kind, total) = match side {
                Side::Selection => ("selection", "selection_total"),
                Side::Baseline => ("baseline", "baseline_total"),
            };
            let series = |kind: &str, value: Static, values: Vec<f64>| {
                let value = if value == Static::Nil { Static::String("nil".into()) } else { value };
                Series { labels: vec![Label::text(META_LABEL, kind), Label::new(name.clone(), value)], values, exemplars: vec![] }
            };
            for (value, counts) in values.into_iter().zip(counts.by_ref()) {
                let mut value =
                    decode(&self.values[value as usize].1).ok_or_else(|| Error::internal("compare() made a value that cannot be read"))?;
                out.push(series(kind, value.pop().unwrap_or(Static::Nil), counts));
            }
            out.push(series(total, Static::Nil, totals));
        }
        Ok(out)
    }
}

/// A value of a field as TraceQL sees it.
fn value_of(field: &Field, value: Scalar<'_>) -> Static {
    match (field, value) {
        // The name of a service is text: absent or of another type it is the empty text, which blocks do not tell apart.
        (field, value) if field.is_service_name() && !matches!(value, Scalar::Text(_)) => Static::String(String::new()),
        (Field::Intrinsic(Intrinsic::Kind), Scalar::Int(v)) => Static::Kind(Kind::from_otlp(v as i32)),
        (Field::Intrinsic(Intrinsic::Status), Scalar::Int(v)) => Static::Status(Status::from_otlp(v as i32)),
        (_, Scalar::Text(v)) => Static::String(v.to_owned()),
        (_, Scalar::Int(v)) => Static::Int(v),
        (_, Scalar::Double(v)) => Static::Float(v),
        (_, Scalar::Bool(v)) => Static::Bool(v),
        (_, Scalar::Nil | Scalar::Other) => Static::Nil,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{DictionaryArray, ListArray, StructArray},
        buffer::OffsetBuffer,
        datatypes::{DataType, Int32Type, Schema},
    };
    use tracehouse_engine::scan::{AttributeTable, value_counts_type};

    use super::*;

    /// Counts of values under a key, one list a row.
    fn counts(key: &str, rows: &[&[(Scalar<'_>, i64)]]) -> ArrayRef {
        let mut table = AttributeTable::default();
        let key = table.key(key);
        let codes: Vec<i32> = rows.iter().flat_map(|r| r.iter()).map(|(value, _)| table.number(key, *value) as i32).collect();
        let spans: Vec<i64> = rows.iter().flat_map(|r| r.iter()).map(|(_, n)| *n).collect();
        let values = DictionaryArray::<Int32Type>::new(codes.into(), table.to_array().unwrap());
        let DataType::List(item) = value_counts_type() else { unreachable!() };
        let DataType::Struct(fields) = item.data_type() else { unreachable!() };
        let items = StructArray::new(fields.clone(), vec![Arc::new(values), Arc::new(Int64Array::from(spans))], None);
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(rows.iter().map(|r| r.len())), Arc::new(items), None))
    }

    fn series(name: &str, rows: &[&[(Scalar<'_>, i64)]], source: Source) -> Vec<String> {
        let columns = SOURCES.map(|s| if s == source { counts(name, rows) } else { counts("", &[&[], &[], &[]]) });
        let groups: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![0, 1, 1])),
            Arc::new(BooleanArray::from(vec![false, false, true])),
            Arc::new(Int64Array::from(vec![8, 9, 1])),
        ];
        let columns = groups.into_iter().chain(columns);
        let batch = RecordBatch::try_from_iter(columns.enumerate().map(|(i, c)| (i.to_string(), c))).unwrap();
        let mut compared = Compared::default();
        compared.add(&batch).unwrap();
        // The same again, as another partition would give it.
        compared.add(&RecordBatch::new_empty(Arc::new(Schema::empty()))).unwrap_err();
        let show = |s: &Series| format!("{} {}={} {:?}", s.labels[0].value, s.labels[1].name, s.labels[1].value, s.values);
        compared.series(2, 2, |_| Ok(())).unwrap().iter().map(show).collect()
    }

    #[test]
    fn the_most_frequent_values_stay_and_totals_count_all() {
        let text = Scalar::Text;
        let rows: [&[_]; 3] = [&[(text("a"), 1), (text("b"), 5), (text("c"), 2)], &[(text("c"), 9)], &[(text("a"), 1)]];
        let found = series("", &rows, Source::Intrinsic(Intrinsic::Name));
        let name: Vec<&str> = found.iter().map(String::as_str).filter(|s| s.contains(" name=")).collect();
        assert_eq!(
            name,
            [
                "`selection` name=`a` [0.0, 1.0]",
                "`selection_total` name=`nil` [0.0, 1.0]",
                "`baseline` name=`c` [2.0, 9.0]",
                "`baseline` name=`b` [5.0, 0.0]",
                "`baseline_total` name=`nil` [8.0, 9.0]"
            ]
        );
    }

    #[test]
    fn every_span_has_a_service_name() {
        let resource = Source::Attributes(Scope::Resource, tracehouse_engine::scan::AttributeScope::Resource);
        let rows: [&[_]; 3] = [&[(Scalar::Text("a"), 3), (Scalar::Int(7), 1)], &[(Scalar::Text("a"), 9)], &[]];
        assert_eq!(
            series("service.name", &rows, resource),
            [
                "`selection` resource.service.name=`` [0.0, 1.0]",
                "`selection_total` resource.service.name=`nil` [0.0, 1.0]",
                "`baseline` resource.service.name=`a` [3.0, 9.0]",
                "`baseline` resource.service.name=`` [5.0, 0.0]",
                "`baseline_total` resource.service.name=`nil` [8.0, 9.0]"
            ]
        );
    }

    #[test]
    fn what_is_not_told_apart_adds_to_the_total() {
        let source = Source::Attributes(Scope::Span, tracehouse_engine::scan::AttributeScope::Span);
        let rows: [&[_]; 3] = [&[(Scalar::Nil, 3), (Scalar::Other, 4)], &[], &[]];
        let found = series("k", &rows, source);
        let own: Vec<&str> = found.iter().map(String::as_str).filter(|s| s.contains(" span.k=")).collect();
        assert_eq!(own, ["`baseline` span.k=`nil` [3.0, 0.0]", "`baseline_total` span.k=`nil` [7.0, 0.0]"]);
    }
}
