//! A column of TraceQL values, whatever Arrow array holds it.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Float64Type, Int32Type, Int64Type},
};

use super::Test;
use crate::syntax::{BinaryOp, Kind, Static, Status};

/// The parent id of a root span, as Tempo shows it.
pub const NO_PARENT: &str = "0000000000000000";

/// A column of values, one a row.
#[derive(Clone, Debug)]
pub enum Values {
    /// Attribute values: the engine's `any_value_type`.
    Any(Box<AnyValues>),
    /// Text.
    Text(Text),
    /// Text that reads as the empty text where there is none: names of services (of a resource without one, or with one that is
    /// no text; recorded), and of events that a span has none of.
    TextOrEmpty(Text),
    /// Hex ids, shown without leading zeros (trace ids).
    ShortId(StringArray),
    /// Hex ids of parent spans: NULL, of a root, reads as zeros. Only `!= ""` tells roots from other spans (recorded).
    ParentId(StringArray),
    /// Whole numbers.
    Int(Int32Array),
    /// Nanoseconds.
    Duration(Int64Array),
    /// OTLP status numbers.
    Status(Int32Array),
    /// OTLP kind numbers.
    Kind(Int32Array),
    /// The first of these that has a value (an attribute without scope).
    First(Vec<Values>),
}

/// Text, plain or dictionary-encoded.
#[derive(Clone, Debug)]
pub enum Text {
    /// One text a row.
    Plain(StringArray),
    /// A key into `values` a row.
    Dictionary {
        /// The keys.
        keys: Int32Array,
        /// The distinct texts.
        values: StringArray,
    },
}

/// The children of the engine's `any_value_type`.
#[derive(Clone, Debug)]
pub struct AnyValues {
    nulls: Option<NullBuffer>,
    string: Text,
    int: Int64Array,
    double: Float64Array,
    bool: BooleanArray,
    lists: [ListArray; 4],
}

impl Text {
    /// Text from a Utf8 or dictionary array; `None` for another type.
    pub fn new(array: &ArrayRef) -> Option<Self> {
        match array.data_type() {
            DataType::Utf8 => Some(Self::Plain(array.as_string::<i32>().clone())),
            DataType::Dictionary(..) => {
                let dictionary = array.as_dictionary_opt::<Int32Type>()?;
                Some(Self::Dictionary { keys: dictionary.keys().clone(), values: dictionary.values().as_string_opt::<i32>()?.clone() })
            }
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(a) => a.len(),
            Self::Dictionary { keys, .. } => keys.len(),
        }
    }

    fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::Plain(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Dictionary { keys, values } => {
                let key = keys.is_valid(row).then(|| keys.value(row) as usize)?;
                values.is_valid(key).then(|| values.value(key))
            }
        }
    }

    fn test(&self, test: &Test) -> BooleanBuffer {
        let (keys, values) = match self {
            Self::Plain(a) => return BooleanBuffer::collect_bool(a.len(), |i| a.is_valid(i) && test.passes_text(a.value(i))),
            Self::Dictionary { keys, values } => (keys, values),
        };
        match (test.op, test.literal, test.regex) {
            (op, _, Some(pattern)) => {
                let known = pattern.known(values);
                rows_where(keys, values, |key| pattern.is_match_of(&known, key) != (op == BinaryOp::NotRegex))
            }
            (BinaryOp::Eq, Static::String(literal), None) => rows_where(keys, values, |key| same(values.value(key), literal)),
            _ => rows_where(keys, values, |key| test.passes_text(values.value(key))),
        }
    }
}

/// The rows whose text passes; it is asked for texts by their keys.
fn rows_where(keys: &Int32Array, values: &StringArray, passes: impl Fn(usize) -> bool) -> BooleanBuffer {
    let passes = |key: usize| values.is_valid(key) && passes(key);
    // A slice of a dictionary array has all of its values: only those are asked that a row has.
    if keys.len() < values.len() {
        return BooleanBuffer::collect_bool(keys.len(), |row| keys.is_valid(row) && passes(keys.value(row) as usize));
    }
    let passing = BooleanBuffer::collect_bool(values.len(), passes);
    if passing.count_set_bits() == 0 {
        return BooleanBuffer::new_unset(keys.len());
    }
    BooleanBuffer::collect_bool(keys.len(), |row| keys.is_valid(row) && passing.value(keys.value(row) as usize))
}

/// Equality of texts that mostly differ, as ids do in their last byte.
#[inline]
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().last() == b.as_bytes().last() && a == b
}

#[allow(clippy::len_without_is_empty)]
impl AnyValues {
    /// From the engine's struct array; `None` if it is something else.
    pub fn new(array: &StructArray) -> Option<Self> {
        let list = |name: &str| array.column_by_name(name)?.as_list_opt::<i32>().cloned();
        Some(Self {
            nulls: array.nulls().cloned(),
            string: Text::new(array.column_by_name("string")?)?,
            int: array.column_by_name("int")?.as_primitive_opt::<Int64Type>()?.clone(),
            double: array.column_by_name("double")?.as_primitive_opt::<Float64Type>()?.clone(),
            bool: array.column_by_name("bool")?.as_boolean_opt()?.clone(),
            lists: [list("strings")?, list("ints")?, list("doubles")?, list("bools")?],
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.int.len()
    }

    /// The dictionary key of a row that holds text.
    pub fn text_key(&self, row: usize) -> Option<i32> {
        match &self.string {
            Text::Dictionary { keys, .. } if keys.is_valid(row) && self.is_valid(row) => Some(keys.value(row)),
            _ => None,
        }
    }

    /// The number of a row that holds one.
    pub fn number(&self, row: usize) -> Option<f64> {
        match (self.is_valid(row), self.int.is_valid(row), self.double.is_valid(row)) {
            (true, true, _) => Some(self.int.value(row) as f64),
            (true, false, true) => Some(self.double.value(row)),
            _ => None,
        }
    }

    fn is_valid(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|n| n.is_valid(row))
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Static {
        if !self.is_valid(row) {
            return Static::Nil;
        }
        if let Some(text) = self.string.get(row) {
            return Static::String(text.to_owned());
        }
        if self.int.is_valid(row) {
            return Static::Int(self.int.value(row));
        }
        if self.double.is_valid(row) {
            return Static::Float(self.double.value(row));
        }
        if self.bool.is_valid(row) {
            return Static::Bool(self.bool.value(row));
        }
        self.array(row)
    }

    fn array(&self, row: usize) -> Static {
        let [strings, ints, doubles, bools] = &self.lists;
        if strings.is_valid(row) {
            let items = strings.value(row);
            return Static::Strings(items.as_string::<i32>().iter().flatten().map(str::to_owned).collect());
        }
        if ints.is_valid(row) {
            return Static::Ints(ints.value(row).as_primitive::<Int64Type>().values().to_vec());
        }
        if doubles.is_valid(row) {
            return Static::Floats(doubles.value(row).as_primitive::<Float64Type>().values().to_vec());
        }
        if bools.is_valid(row) {
            return Static::Bools(bools.value(row).as_boolean().iter().flatten().collect());
        }
        Static::Nil
    }

    fn test(&self, test: &Test) -> BooleanBuffer {
        let rows = self.int.len();
        let mut out = match test.literal {
            Static::String(_) => self.string.test(test),
            Static::Int(_) | Static::Float(_) | Static::Duration(_) => self.test_numbers(test),
            Static::Bool(_) => {
                BooleanBuffer::collect_bool(rows, |i| self.bool.is_valid(i) && test.passes(&Static::Bool(self.bool.value(i))))
            }
            _ => BooleanBuffer::new_unset(rows),
        };
        if self.lists.iter().any(|l| l.null_count() < l.len()) {
            let arrays = BooleanBuffer::collect_bool(rows, |i| self.lists.iter().any(|l| l.is_valid(i)) && test.passes(&self.array(i)));
            out = &out | &arrays;
        }
        match &self.nulls {
            Some(nulls) => &out & nulls.inner(),
            None => out,
        }
    }

    fn test_numbers(&self, test: &Test) -> BooleanBuffer {
        let rows = self.int.len();
        let ints = || BooleanBuffer::collect_bool(rows, |i| self.int.is_valid(i) && test.passes(&Static::Int(self.int.value(i))));
        let doubles =
            || BooleanBuffer::collect_bool(rows, |i| self.double.is_valid(i) && test.passes(&Static::Float(self.double.value(i))));
        match (self.int.null_count() < rows, self.double.null_count() < rows) {
            (true, true) => &ints() | &doubles(),
            (true, false) => ints(),
            (false, true) => doubles(),
            (false, false) => BooleanBuffer::new_unset(rows),
        }
    }
}

impl Values {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Any(a) => a.int.len(),
            Self::Text(text) | Self::TextOrEmpty(text) => text.len(),
            Self::ShortId(a) | Self::ParentId(a) => a.len(),
            Self::Int(a) | Self::Status(a) | Self::Kind(a) => a.len(),
            Self::Duration(a) => a.len(),
            Self::First(all) => all.first().map_or(0, Self::len),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Static {
        fn number<T>(valid: bool, value: impl FnOnce() -> T, make: impl FnOnce(T) -> Static) -> Static {
            if valid { make(value()) } else { Static::Nil }
        }
        match self {
            Self::Any(a) => a.get(row),
            Self::Text(text) => text.get(row).map_or(Static::Nil, |s| Static::String(s.to_owned())),
            Self::TextOrEmpty(text) => Static::String(text.get(row).unwrap_or_default().to_owned()),
            Self::ShortId(a) => Static::String(short(a, row).to_owned()),
            Self::ParentId(a) => Static::String(parent(a, row).to_owned()),
            Self::Int(a) => number(a.is_valid(row), || a.value(row), |v| Static::Int(v.into())),
            Self::Duration(a) => number(a.is_valid(row), || a.value(row), Static::Duration),
            Self::Status(a) => number(a.is_valid(row), || a.value(row), |v| Static::Status(Status::from_otlp(v))),
            Self::Kind(a) => number(a.is_valid(row), || a.value(row), |v| Static::Kind(Kind::from_otlp(v))),
            Self::First(all) => all.iter().map(|v| v.get(row)).find(|v| *v != Static::Nil).unwrap_or(Static::Nil),
        }
    }

    /// The rows that have a value.
    pub fn present(&self) -> BooleanBuffer {
        let rows = self.len();
        let of = |nulls: Option<&NullBuffer>| nulls.map_or_else(|| BooleanBuffer::new_set(rows), |n| n.inner().clone());
        match self {
            Self::Any(a) => of(a.nulls.as_ref()),
            Self::Text(text) => BooleanBuffer::collect_bool(rows, |i| text.get(i).is_some()),
            Self::ShortId(a) => BooleanBuffer::collect_bool(rows, |i| a.is_valid(i)),
            Self::ParentId(_) | Self::TextOrEmpty(_) => BooleanBuffer::new_set(rows),
            Self::Int(a) | Self::Status(a) | Self::Kind(a) => of(a.nulls()),
            Self::Duration(a) => of(a.nulls()),
            Self::First(all) => all.iter().map(Self::present).reduce(|a, b| &a | &b).unwrap_or_else(|| BooleanBuffer::new_unset(rows)),
        }
    }

    /// The rows whose value passes a test.
    pub fn test(&self, test: &Test) -> BooleanBuffer {
        match self {
            Self::Any(a) => a.test(test),
            Self::Text(text) => text.test(test),
            Self::TextOrEmpty(text) if test.passes_text("") => {
                let absent = BooleanBuffer::collect_bool(text.len(), |i| text.get(i).is_none());
                &text.test(test) | &absent
            }
            Self::TextOrEmpty(text) => text.test(test),
            Self::ShortId(a) => match test.literal {
                Static::String(id) if test.regex.is_none() => {
                    let literal = Static::String(id.trim_start_matches('0').to_owned());
                    let test = Test { literal: &literal, ..*test };
                    BooleanBuffer::collect_bool(a.len(), |i| a.is_valid(i) && test.passes_text(short(a, i)))
                }
                _ => BooleanBuffer::collect_bool(a.len(), |i| a.is_valid(i) && test.passes_text(short(a, i))),
            },
            Self::ParentId(a) => {
                let any = test.op == BinaryOp::Ne && *test.literal == Static::String(String::new());
                BooleanBuffer::collect_bool(a.len(), |i| (a.is_valid(i) || !any) && test.passes_text(parent(a, i)))
            }
            Self::First(all) => {
                let mut out = BooleanBuffer::new_unset(self.len());
                let mut open = BooleanBuffer::new_set(self.len());
                for values in all {
                    out = &out | &(&values.test(test) & &open);
                    open = &open & &!&values.present();
                }
                out
            }
            Self::Int(_) | Self::Duration(_) | Self::Status(_) | Self::Kind(_) => {
                BooleanBuffer::collect_bool(self.len(), |i| test.passes(&self.get(i)))
            }
        }
    }
}

fn parent(ids: &StringArray, row: usize) -> &str {
    if ids.is_valid(row) { ids.value(row) } else { NO_PARENT }
}

fn short(ids: &StringArray, row: usize) -> &str {
    if ids.is_valid(row) { ids.value(row).trim_start_matches('0') } else { "" }
}
