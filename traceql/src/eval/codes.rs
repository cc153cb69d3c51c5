//! Values as small numbers: each distinct value of a batch gets a code, so that grouping touches no text row by row.

use std::{collections::HashMap, hash::Hash};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StringArray, UInt32Array},
    compute::take,
};
use tracehouse_engine::{Error, Result};

use super::{
    Values, repeated,
    values::{AnyValues, Text},
    values_of,
};
use crate::syntax::{Field, Intrinsic, Static};

/// One code a row, and what the codes stand for. Two codes may stand for the same value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codes {
    /// An index into `values` for each row.
    pub rows: Vec<u32>,
    /// The values; nil stands for "no value".
    pub values: Vec<Static>,
}

/// The values of a field, one a span: of a field that a span has several of, the first that there is.
pub fn single_values_of(field: &Field, arrays: &[ArrayRef]) -> Result<Values> {
    if repeated(field).is_none() {
        return values_of(field, arrays);
    }
    let firsts = arrays.iter().map(first_items).collect::<Result<Vec<_>>>()?;
    values_of(field, &firsts)
}

/// The same, but what events or links have by nature reads as zeros of a span without them (recorded).
pub fn single_values_or_zeros_of(field: &Field, arrays: &[ArrayRef]) -> Result<Values> {
    let values = single_values_of(field, arrays)?;
    let Field::Intrinsic(intrinsic) = field else { return Ok(values) };
    Ok(match (intrinsic, values) {
        (Intrinsic::EventName, Values::Text(names)) => Values::TextOrEmpty(names),
        (Intrinsic::EventTimeSinceStart, Values::Duration(times)) => {
            Values::Duration(times.iter().map(|time| Some(time.unwrap_or_default())).collect())
        }
        (Intrinsic::LinkSpanId, Values::Text(Text::Plain(ids))) => Values::ParentId(ids),
        (_, values) => values,
    })
}

/// The first item of each list that is not NULL.
fn first_items(array: &ArrayRef) -> Result<ArrayRef> {
    let list: &ListArray = array.as_list_opt::<i32>().ok_or_else(|| Error::internal("an event or link column is not a list"))?;
    let items = list.values();
    let first: UInt32Array = (0..list.len())
        .map(|row| {
            let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            (from..to).find(|i| list.is_valid(row) && items.is_valid(*i)).map(|i| i as u32)
        })
        .collect();
    Ok(take(items, &first, None)?)
}

/// Gives out codes.
struct Coder<K> {
    codes: HashMap<K, u32>,
    values: Vec<Static>,
}

impl<K: Hash + Eq> Coder<K> {
    fn new() -> Self {
        Self { codes: HashMap::new(), values: vec![Static::Nil] }
    }

    fn code(&mut self, key: Option<K>, value: impl FnOnce() -> Static) -> u32 {
        let Some(key) = key else { return 0 };
        *self.codes.entry(key).or_insert_with(|| {
            self.values.push(value());
            self.values.len() as u32 - 1
        })
    }
}

impl Values {
    /// The values as codes.
    pub fn codes(&self) -> Codes {
        let numbers = |get: &dyn Fn(usize) -> Option<i64>| {
            let mut coder = Coder::new();
            let rows = (0..self.len()).map(|row| coder.code(get(row), || self.get(row))).collect();
            Codes { rows, values: coder.values }
        };
        match self {
            Self::Any(any) => any.codes(),
            Self::ShortId(texts) | Self::ParentId(texts) => self.text_codes(texts),
            Self::Text(text) => text.codes(),
            Self::TextOrEmpty(text) => {
                let mut codes = text.codes();
                codes.values[0] = Static::String(String::new());
                codes
            }
            Self::Int(a) | Self::Status(a) | Self::Kind(a) => numbers(&|row| a.is_valid(row).then(|| a.value(row).into())),
            Self::Duration(a) => numbers(&|row| a.is_valid(row).then(|| a.value(row))),
            Self::First(all) => first_codes(all),
        }
    }

    fn text_codes(&self, texts: &StringArray) -> Codes {
        let mut coder = Coder::new();
        // NULL is a value too: a root's parent, the link of a span without links.
        let text = |row| Some(if texts.is_valid(row) { texts.value(row) } else { "" });
        let rows = (0..texts.len()).map(|row| coder.code(text(row), || self.get(row))).collect();
        Codes { rows, values: coder.values }
    }

    /// The values as numbers, durations in seconds; NULL where there is no number (or NaN, which no aggregate can use).
    pub fn numbers(&self) -> Float64Array {
        let seconds = |ns: i64| ns as f64 / 1e9;
        match self {
            Self::Duration(a) => a.unary(seconds),
            Self::Int(a) => a.unary(f64::from),
            Self::Any(any) => any.numbers(),
            Self::First(all) => (0..self.len())
                .map(|row| all.iter().map(|v| v.get(row)).find(|v| *v != Static::Nil)?.as_f64().filter(|x| !x.is_nan()))
                .collect(),
            Self::Text(_) | Self::TextOrEmpty(_) | Self::ShortId(_) | Self::ParentId(_) | Self::Status(_) | Self::Kind(_) => {
                Float64Array::new_null(self.len())
            }
        }
    }
}

impl Text {
    /// The texts as codes; 0 stands for none.
    fn codes(&self) -> Codes {
        match self {
            Self::Plain(texts) => {
                let mut coder = Coder::new();
                let rows = texts.iter().map(|text| coder.code(text, || text.map_or(Static::Nil, |t| Static::String(t.to_owned()))));
                Codes { rows: rows.collect(), values: coder.values }
            }
            Self::Dictionary { keys, values } => {
                let mut dictionary = DictionaryCodes::new(values);
                let rows = keys.iter().map(|key| dictionary.code(key)).collect();
                Codes { rows, values: dictionary.found }
            }
        }
    }
}

/// Codes for the entries of a dictionary that occur. A value is made for each of those only.
struct DictionaryCodes<'a> {
    entries: &'a StringArray,
    codes: Vec<u32>,
    found: Vec<Static>,
}

impl<'a> DictionaryCodes<'a> {
    fn new(entries: &'a StringArray) -> Self {
        Self { entries, codes: vec![0; entries.len()], found: vec![Static::Nil] }
    }

    fn code(&mut self, key: Option<i32>) -> u32 {
        let Some(key) = key.map(|k| k as usize) else { return 0 };
        if self.codes[key] == 0 && self.entries.is_valid(key) {
            self.codes[key] = self.found.len() as u32;
            self.found.push(Static::String(self.entries.value(key).to_owned()));
        }
        self.codes[key]
    }
}

impl AnyValues {
    fn codes(&self) -> Codes {
        let mut texts: HashMap<i32, u32> = HashMap::new();
        let mut coder: Coder<Key> = Coder::new();
        let rows = (0..self.len())
            .map(|row| {
                let dictionary_key = self.text_key(row);
                if let Some(code) = dictionary_key.and_then(|k| texts.get(&k)) {
                    return *code;
                }
                let value = self.get(row);
                let code = coder.code(Key::of(&value), || value.clone());
                texts.extend(dictionary_key.map(|k| (k, code)));
                code
            })
            .collect();
        Codes { rows, values: coder.values }
    }

    fn numbers(&self) -> Float64Array {
        (0..self.len()).map(|row| self.number(row).filter(|x| !x.is_nan())).collect()
    }
}

/// What tells values apart: their type and content.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Int(i64),
    Float(u64),
    Text(String),
    Other(String),
}

impl Key {
    pub(crate) fn of(value: &Static) -> Option<Self> {
        Some(match value {
            Static::Nil => return None,
            Static::Int(v) => Self::Int(*v),
            // -0.0 and 0.0 are one value.
            Static::Float(v) => Self::Float((v + 0.0).to_bits()),
            Static::String(v) => Self::Text(v.clone()),
            other => Self::Other(other.to_string()),
        })
    }
}

/// An attribute without scope: the first source that has a value counts.
fn first_codes(all: &[Values]) -> Codes {
    let parts: Vec<Codes> = all.iter().map(Values::codes).collect();
    let mut coder: Coder<Key> = Coder::new();
    let remapped: Vec<Vec<u32>> =
        parts.iter().map(|part| part.values.iter().map(|v| coder.code(Key::of(v), || v.clone())).collect()).collect();
    let rows = (0..parts.first().map_or(0, |p| p.rows.len()))
        .map(|row| parts.iter().zip(&remapped).map(|(part, to)| to[part.rows[row] as usize]).find(|code| *code != 0).unwrap_or(0))
        .collect();
    Codes { rows, values: coder.values }
}
