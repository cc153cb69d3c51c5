//! A filter on spans in terms of another language, with what the scan may know about it.

use std::{
    any::Any,
    collections::HashSet,
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, BooleanArray},
    datatypes::DataType,
};
use datafusion::{
    common::{DataFusionError, Result as DfResult},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility},
};

use crate::error::Result;

/// Kinds of attribute values that may pass a filter; an array is of the kind of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Passing {
    /// No value.
    pub absent: bool,
    /// Texts.
    pub strings: bool,
    /// Whole numbers.
    pub ints: bool,
    /// Floating-point numbers.
    pub doubles: bool,
    /// Booleans.
    pub bools: bool,
}

impl Passing {
    /// Nothing is known.
    pub const ANYTHING: Self = Self { absent: true, strings: true, ints: true, doubles: true, bools: true };
    /// Whether whatever passes in `other` passes here too.
    pub fn covers(self, other: Self) -> bool {
        self.or(other) == self
    }

    /// What passes in one of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            absent: self.absent || other.absent,
            strings: self.strings || other.strings,
            ints: self.ints || other.ints,
            doubles: self.doubles || other.doubles,
            bools: self.bools || other.bools,
        }
    }

    /// Nothing passes.
    pub const NOTHING: Self = Self { absent: false, strings: false, ints: false, doubles: false, bools: false };
}

/// What a [`SpanFilter`] tests.
pub trait SpanTest: Any + Debug + Send + Sync {
    /// The condition as text, unique to it: two tests of one name are the same.
    fn name(&self) -> &str;

    /// One answer a span. The columns are the filter's arguments.
    fn evaluate(&self, columns: &[ArrayRef], spans: usize) -> Result<BooleanArray>;

    /// If the columns are of attribute values: which of them may pass. An array may pass only if one of its elements would,
    /// were it the value. With several columns, and where no value cannot pass: a span may pass only if one of its values
    /// would, were the others absent.
    fn passing(&self) -> Passing {
        Passing::ANYTHING
    }

    /// If the columns are of attribute values and only one text can pass: that text. A span may pass only if one of its values,
    /// or one element of an array, is it.
    fn only_text(&self) -> Option<&str> {
        None
    }

    /// If the column is [`SpanColumn::Place`](super::SpanColumn::Place): the places that pass.
    fn places(&self) -> Option<&HashSet<i128>> {
        None
    }
}

/// A test as a function of DataFusion.
#[derive(Debug)]
pub struct SpanFilter {
    test: Arc<dyn SpanTest>,
    signature: Signature,
}

impl SpanFilter {
    /// The condition that the test holds of these columns.
    pub fn call(test: Arc<dyn SpanTest>, columns: Vec<Expr>) -> Expr {
        let signature = Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], Volatility::Immutable);
        ScalarUDF::from(Self { test, signature }).call(columns)
    }

    /// The test.
    pub fn test(&self) -> &Arc<dyn SpanTest> {
        &self.test
    }
}

impl PartialEq for SpanFilter {
    fn eq(&self, other: &Self) -> bool {
        self.test.name() == other.test.name()
    }
}

impl Eq for SpanFilter {}

impl Hash for SpanFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.test.name().hash(state);
    }
}

impl ScalarUDFImpl for SpanFilter {
    /// The condition is part of the name, since that is what EXPLAIN shows.
    fn name(&self) -> &str {
        self.test.name()
    }

    fn display_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.test.name().to_owned())
    }

    fn schema_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.test.name().to_owned())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mask = self.test.evaluate(&arrays, args.number_rows).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(Arc::new(mask)))
    }
}
