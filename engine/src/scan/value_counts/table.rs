//! Distinct attributes, each with a number.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Array, Float64Builder, Int64Array, Int64Builder, StringArray,
        StringBuilder, StructArray,
    },
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::common::HashMap;

use super::{VALUES_MAX, attribute_type};
use crate::{
    error::{Error, Result},
    trace::Value,
};

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the types of OTLP
pub enum Scalar<'a> {
    /// None, or one of a kind that TraceQL does not see, or an array of several.
    Nil,
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// All values beyond the most that are told apart.
    Other,
}

impl<'a> Scalar<'a> {
    /// A value as OTLP has it; an array of one item is that item.
    pub fn of(value: Option<&'a Value>) -> Self {
        match value {
            Some(Value::ArrayValue(array)) => match array.values.as_slice() {
                [one] if !matches!(one.value, Some(Value::ArrayValue(_))) => Self::of(one.value.as_ref()),
                _ => Self::Nil,
            },
            Some(Value::StringValue(text)) => Self::Text(text),
            Some(Value::IntValue(v)) => Self::Int(*v),
            Some(Value::DoubleValue(v)) => Self::Double(*v),
            Some(Value::BoolValue(v)) => Self::Bool(*v),
            Some(Value::KvlistValue(_) | Value::BytesValue(_) | Value::StringValueStrindex(_)) | None => Self::Nil,
        }
    }

    /// A type and 64 bits that tell values of one key apart, but for texts.
    fn bits(self) -> Option<(u8, u64)> {
        Some(match self {
            Self::Text(_) => return None,
            Self::Nil => (0, 0),
            Self::Int(v) => (1, v as u64),
            Self::Double(v) => (2, v.to_bits()),
            Self::Bool(v) => (3, v.into()),
            Self::Other => (4, 0),
        })
    }
}

/// A [`Scalar`] that is kept.
#[derive(Clone, Debug)]
enum Kept {
    Text(Arc<str>),
    Other(Scalar<'static>),
}

/// Distinct attributes in the order in which they were met.
#[derive(Debug)]
pub struct AttributeTable {
    values_max: usize,
    keys: HashMap<Arc<str>, u32>,
    of_key: Vec<OfKey>,
    others: HashMap<(u32, u8, u64), u32>,
    entries: Vec<(u32, Kept)>,
    text_bytes: usize,
}

/// What is known of a key.
#[derive(Debug)]
struct OfKey {
    name: Arc<str>,
    texts: HashMap<Arc<str>, u32>,
    /// Number of its values, texts and others.
    values: usize,
}

impl Default for AttributeTable {
    fn default() -> Self {
        Self::new(VALUES_MAX)
    }
}

impl AttributeTable {
    fn new(values_max: usize) -> Self {
        let (keys, others) = (HashMap::default(), HashMap::default());
        Self { values_max, keys, of_key: Vec::new(), others, entries: Vec::new(), text_bytes: 0 }
    }

    /// Number of attributes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory, roughly.
    pub fn size(&self) -> usize {
        // An entry, its place in a map, and the head of its text.
        self.text_bytes + 96 * self.entries.len() + 128 * self.of_key.len()
    }

    /// The number of a key.
    pub fn key(&mut self, name: &str) -> u32 {
        if let Some(known) = self.keys.get(name) {
            return *known;
        }
        let (next, name) = (self.of_key.len() as u32, Arc::<str>::from(name));
        self.keys.insert(name.clone(), next);
        self.of_key.push(OfKey { name, texts: HashMap::new(), values: 0 });
        next
    }

    /// The number of an attribute. New values of a key that has 1,048,576 of them already are [`Scalar::Other`].
    pub fn number(&mut self, key: u32, value: Scalar<'_>) -> u32 {
        let Some(OfKey { texts, values, .. }) = self.of_key.get_mut(key as usize) else { return 0 };
        let next = self.entries.len() as u32;
        let bits = value.bits();
        let known = match (value, bits) {
            (Scalar::Text(text), _) => texts.get(text).copied(),
            (_, Some((kind, bits))) => self.others.get(&(key, kind, bits)).copied(),
            _ => None,
        };
        if let Some(known) = known {
            return known;
        }
        if *values >= self.values_max && value != Scalar::Other {
            return self.number(key, Scalar::Other);
        }
        *values += 1;
        let kept = match (value, bits) {
            (Scalar::Text(text), _) => {
                let text = Arc::<str>::from(text);
                self.text_bytes += text.len();
                texts.insert(text.clone(), next);
                Kept::Text(text)
            }
            (_, bits) => {
                let (kind, bits) = bits.unwrap_or_default();
                self.others.insert((key, kind, bits), next);
                Kept::Other(match value {
                    Scalar::Int(v) => Scalar::Int(v),
                    Scalar::Double(v) => Scalar::Double(v),
                    Scalar::Bool(v) => Scalar::Bool(v),
                    Scalar::Other => Scalar::Other,
                    Scalar::Nil | Scalar::Text(_) => Scalar::Nil,
                })
            }
        };
        self.entries.push((key, kept));
        next
    }

    /// All attributes, as an array of [`attribute_type`].
    pub fn to_array(&self) -> Result<ArrayRef> {
        let mut builder = AttributeBuilder::default();
        for (key, value) in &self.entries {
            let name = self.of_key.get(*key as usize).map_or("", |of| &of.name);
            builder.push(
                name,
                match value {
                    Kept::Text(text) => Scalar::Text(text),
                    Kept::Other(value) => *value,
                },
            );
        }
        builder.finish()
    }
}

/// Builds an array of [`attribute_type`].
#[derive(Debug, Default)]
pub(crate) struct AttributeBuilder {
    key: StringBuilder,
    string: StringBuilder,
    int: Int64Builder,
    double: Float64Builder,
    bool: BooleanBuilder,
    other: BooleanBuilder,
}

impl AttributeBuilder {
    /// Appends an attribute, and says where it is.
    pub fn push(&mut self, key: &str, value: Scalar<'_>) -> u32 {
        use arrow::array::ArrayBuilder;
        let at = self.other.len() as u32;
        self.key.append_value(key);
        self.string.append_option(if let Scalar::Text(v) = value { Some(v) } else { None });
        self.int.append_option(if let Scalar::Int(v) = value { Some(v) } else { None });
        self.double.append_option(if let Scalar::Double(v) = value { Some(v) } else { None });
        self.bool.append_option(if let Scalar::Bool(v) = value { Some(v) } else { None });
        self.other.append_value(value == Scalar::Other);
        at
    }

    pub fn finish(mut self) -> Result<ArrayRef> {
        let DataType::Struct(fields) = attribute_type() else { return Err(Error::internal("an attribute is not a struct")) };
        let children: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(self.string.finish()),
            Arc::new(self.int.finish()),
            Arc::new(self.double.finish()),
            Arc::new(self.bool.finish()),
            Arc::new(self.other.finish()),
        ];
        Ok(Arc::new(StructArray::try_new(fields, children, None)?))
    }
}

/// Reads an array of [`attribute_type`].
#[derive(Clone, Debug)]
pub struct AttributeReader<'a> {
    keys: &'a StringArray,
    strings: &'a StringArray,
    ints: &'a Int64Array,
    doubles: &'a Float64Array,
    bools: &'a BooleanArray,
    others: &'a BooleanArray,
}

impl<'a> AttributeReader<'a> {
    /// A reader of this array.
    pub fn new(array: &'a ArrayRef) -> Result<Self> {
        let read = || {
            let [keys, strings, ints, doubles, bools, others] = array.as_struct_opt()?.columns() else { return None };
            Some(Self {
                keys: keys.as_string_opt()?,
                strings: strings.as_string_opt()?,
                ints: ints.as_primitive_opt::<Int64Type>()?,
                doubles: doubles.as_primitive_opt::<Float64Type>()?,
                bools: bools.as_boolean_opt()?,
                others: others.as_boolean_opt()?,
            })
        };
        read().ok_or_else(|| Error::internal("attributes of another type"))
    }

    /// The key of an attribute.
    pub fn key(&self, at: usize) -> &'a str {
        self.keys.value(at)
    }

    /// The value of an attribute.
    pub fn value(&self, at: usize) -> Scalar<'a> {
        if self.strings.is_valid(at) {
            return Scalar::Text(self.strings.value(at));
        }
        match () {
            () if self.ints.is_valid(at) => Scalar::Int(self.ints.value(at)),
            () if self.doubles.is_valid(at) => Scalar::Double(self.doubles.value(at)),
            () if self.bools.is_valid(at) => Scalar::Bool(self.bools.value(at)),
            () if self.others.value(at) => Scalar::Other,
            () => Scalar::Nil,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::{array, int, map, text};

    #[test]
    fn types_and_keys_tell_values_apart() {
        let mut table = AttributeTable::default();
        let (a, b) = (table.key("a"), table.key("b"));
        let values =
            [Scalar::Text("1"), Scalar::Int(1), Scalar::Double(1.0), Scalar::Bool(true), Scalar::Nil, Scalar::Text(""), Scalar::Other];
        let numbers: Vec<u32> = values.iter().flat_map(|v| [table.number(a, *v), table.number(b, *v)]).collect();
        assert_eq!(numbers, (0..14).collect::<Vec<_>>());
        assert_eq!((table.number(b, Scalar::Int(1)), table.key("a"), table.len()), (3, a, 14));
        let array = table.to_array().unwrap();
        assert_eq!(array.data_type(), &attribute_type());
        let read = AttributeReader::new(&array).unwrap();
        for (at, value) in values.iter().enumerate() {
            assert_eq!((read.key(2 * at), read.value(2 * at), read.key(2 * at + 1)), ("a", *value, "b"));
        }
    }

    #[test]
    fn too_many_values_of_a_key_are_one() {
        let mut table = AttributeTable::new(2);
        let (a, b) = (table.key("a"), table.key("b"));
        let of_a: Vec<u32> = [7, 8, 9, 7, 10].map(|v| table.number(a, Scalar::Int(v))).into();
        assert_eq!(of_a, [0, 1, 2, 0, 2]);
        assert_eq!(table.number(b, Scalar::Int(9)), 3);
        let array = table.to_array().unwrap();
        assert_eq!(AttributeReader::new(&array).unwrap().value(2), Scalar::Other);
    }

    #[test]
    fn arrays_of_one_are_scalars() {
        let one = array([int(7)]);
        assert_eq!(Scalar::of(Some(&one)), Scalar::Int(7));
        for nil in [array([]), array([int(7), int(8)]), array([array([int(7)])]), map([("x", int(1))]), Value::BytesValue(vec![1])] {
            assert_eq!(Scalar::of(Some(&nil)), Scalar::Nil, "{nil:?}");
        }
        assert_eq!((Scalar::of(None), Scalar::of(Some(&text("")))), (Scalar::Nil, Scalar::Text("")));
    }
}
