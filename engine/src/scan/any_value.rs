//! Attribute values as Arrow: one struct with a child for each type that TraceQL knows.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, NullBufferBuilder, StringBuilder,
        StringDictionaryBuilder, StructArray,
    },
    datatypes::{DataType, Int32Type},
};

use super::columns::any_value_type;
use crate::{
    error::{Error, Result},
    trace::{AnyValue, KeyValue, Value},
};

/// The value of a key; of a repeated key the last counts, whatever its type (as in Tempo's answers).
pub(super) fn lookup<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().rfind(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()
}

/// Builds an array of [`any_value_type`].
pub(super) struct AnyValueBuilder {
    string: StringDictionaryBuilder<Int32Type>,
    int: Int64Builder,
    double: Float64Builder,
    bool: BooleanBuilder,
    strings: ListBuilder<StringBuilder>,
    ints: ListBuilder<Int64Builder>,
    doubles: ListBuilder<Float64Builder>,
    bools: ListBuilder<BooleanBuilder>,
    valid: NullBufferBuilder,
}

impl AnyValueBuilder {
    pub(super) fn new() -> Self {
        Self {
            string: StringDictionaryBuilder::new(),
            int: Int64Builder::new(),
            double: Float64Builder::new(),
            bool: BooleanBuilder::new(),
            strings: ListBuilder::new(StringBuilder::new()),
            ints: ListBuilder::new(Int64Builder::new()),
            doubles: ListBuilder::new(Float64Builder::new()),
            bools: ListBuilder::new(BooleanBuilder::new()),
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Appends a value, or NULL where there is none or none that TraceQL sees.
    pub(super) fn append(&mut self, value: Option<&Value>) -> Result<()> {
        let valid = match value {
            Some(Value::ArrayValue(array)) => match array.values.as_slice() {
                [one] => self.append_scalar(one.value.as_ref())?,
                many => self.append_array(many),
            },
            scalar => self.append_scalar(scalar)?,
        };
        self.valid.append(valid);
        self.pad();
        Ok(())
    }

    fn append_scalar(&mut self, value: Option<&Value>) -> Result<bool> {
        match value {
            Some(Value::StringValue(s)) => {
                self.string.append(s)?;
            }
            Some(Value::IntValue(i)) => self.int.append_value(*i),
            Some(Value::DoubleValue(d)) => self.double.append_value(*d),
            Some(Value::BoolValue(b)) => self.bool.append_value(*b),
            Some(Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_) | Value::StringValueStrindex(_)) | None => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends an array whose items are all of one scalar type; `false`, and nothing appended, for any other.
    fn append_array(&mut self, items: &[AnyValue]) -> bool {
        fn all<'a, T>(items: &'a [AnyValue], pick: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<Option<T>>> {
            items.iter().map(|item| item.value.as_ref().and_then(&pick).map(Some)).collect()
        }
        match items.first().and_then(|item| item.value.as_ref()) {
            Some(Value::StringValue(_)) => all(items, |v| if let Value::StringValue(s) = v { Some(s) } else { None })
                .map(|values| self.strings.append_value(values))
                .is_some(),
            Some(Value::IntValue(_)) => all(items, |v| if let Value::IntValue(i) = v { Some(*i) } else { None })
                .map(|values| self.ints.append_value(values))
                .is_some(),
            Some(Value::DoubleValue(_)) => all(items, |v| if let Value::DoubleValue(d) = v { Some(*d) } else { None })
                .map(|values| self.doubles.append_value(values))
                .is_some(),
            Some(Value::BoolValue(_)) => all(items, |v| if let Value::BoolValue(b) = v { Some(*b) } else { None })
                .map(|values| self.bools.append_value(values))
                .is_some(),
            _ => false,
        }
    }

    /// Appends NULL to every child that got no value for the last entry.
    fn pad(&mut self) {
        let len = self.valid.len();
        macro_rules! pad {
            ($($child:ident),*) => { $(if self.$child.len() < len { self.$child.append_null() })* };
        }
        pad!(string, int, double, bool, strings, ints, doubles, bools);
    }

    pub(super) fn finish(mut self) -> Result<ArrayRef> {
        let DataType::Struct(fields) = any_value_type() else { return Err(Error::internal("an attribute value is no struct")) };
        let children: Vec<ArrayRef> = vec![
            Arc::new(self.string.finish()),
            Arc::new(self.int.finish()),
            Arc::new(self.double.finish()),
            Arc::new(self.bool.finish()),
            Arc::new(self.strings.finish()),
            Arc::new(self.ints.finish()),
            Arc::new(self.doubles.finish()),
            Arc::new(self.bools.finish()),
        ];
        Ok(Arc::new(StructArray::try_new(fields, children, self.valid.finish())?))
    }
}
