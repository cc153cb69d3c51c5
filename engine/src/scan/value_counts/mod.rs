//! `value_counts(x)`: how many spans have each value of a column, or each attribute of a scope. An aggregate function whose
//! states merge by addition; where the plan aggregates a scan, a row group is counted in codes ([`coded`]) and texts are
//! looked at once a distinct value.

mod coded;
mod state;
mod table;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::{
    common::{Result as DfResult, exec_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

pub use coded::CodedAttributes;
pub(super) use coded::{NO_GROUP, lists_of_pairs};
pub use state::CountsReader;
pub(super) use state::attributes_of;
pub(crate) use table::AttributeBuilder;
pub use table::{AttributeReader, AttributeTable, Scalar};

use super::columns::list_of;
use state::{Counts, OneGroup};

/// The most distinct values of an attribute that one state tells apart. Spans with other values are counted together, as
/// [`Scalar::Other`].
pub const VALUES_MAX: usize = 1 << 20;

/// An attribute: a struct of its key (empty for the values of a column), its value by type (all NULL if it has none, or one of a
/// kind that TraceQL does not see, or is an array), and whether it stands for all values beyond 1,048,576.
pub fn attribute_type() -> DataType {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let field = |name: &str, t| Field::new(name, t, true);
        vec![
            Field::new("key", DataType::Utf8, false),
            field("string", DataType::Utf8),
            field("int", DataType::Int64),
            field("double", DataType::Float64),
            field("bool", DataType::Boolean),
            Field::new("other", DataType::Boolean, false),
        ]
        .into()
    });
    DataType::Struct(FIELDS.clone())
}

/// What `value_counts` gives: a list of an attribute (in a dictionary: groups share their values) and its number of spans.
pub fn value_counts_type() -> DataType {
    list_of(DataType::Struct(count_fields()))
}

fn count_fields() -> Fields {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(attribute_type()));
        vec![Field::new("value", dictionary, false), Field::new("spans", DataType::Int64, false)].into()
    });
    FIELDS.clone()
}

/// `value_counts` of an expression: text, a number, a truth value (NULL is not counted), or
/// [`SpanColumn::Attributes`](super::SpanColumn::Attributes).
pub fn value_counts(of: Expr) -> Expr {
    AggregateUDF::from(ValueCounts::default()).call(vec![of])
}

/// The function `value_counts`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ValueCounts {
    signature: Signature,
}

impl Default for ValueCounts {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

/// Whether values of this type can be counted.
fn is_countable(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => *item.data_type() == attribute_type(),
        DataType::Dictionary(key, value) => **key == DataType::Int32 && **value == DataType::Utf8,
        other => matches!(other, DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Boolean),
    }
}

impl AggregateUDFImpl for ValueCounts {
    fn name(&self) -> &str {
        "value_counts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types {
            [one] if is_countable(one) => Ok(value_counts_type()),
            _ => exec_err!("value_counts() takes one text, number, truth value or set of attributes"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[counts]", args.name), value_counts_type(), true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup::default()))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Counts::default()))
    }
}
