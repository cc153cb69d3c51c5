//! Columns as every client can read them: no dictionaries, no views, in batches of bounded size.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
};

/// The schema clients see.
pub fn plain_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(plain_field).collect::<Vec<_>>()))
}

/// Metadata is left out: it says how a column was made, and clients take parts of it for extension types.
fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(plain_field(item))
        }
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(plain_field(item), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The batch in the schema that was announced.
pub fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.num_columns() != schema.fields().len() {
        return Err(ArrowError::SchemaError(format!("{} columns instead of the {} announced", batch.num_columns(), schema.fields().len())));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(schema.clone(), columns, &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())))
}

/// The batch in parts of at most `bytes_max` bytes, or of one row.
pub fn split(batch: RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let mut parts = Vec::new();
    let mut left = vec![batch];
    while let Some(part) = left.pop() {
        let rows = part.num_rows();
        if rows <= 1 || part.columns().iter().map(sliced_bytes).sum::<usize>() <= bytes_max {
            parts.push(part);
            continue;
        }
        // Rows may be of very different size, so parts are measured again.
        left.push(part.slice(rows / 2, rows - rows / 2));
        left.push(part.slice(0, rows / 2));
    }
    parts
}

/// What a column takes on the wire. A slice of a large array counts for what it shows only.
fn sliced_bytes(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray},
        buffer::OffsetBuffer,
        datatypes::{Fields, Int32Type},
    };

    use super::*;

    #[test]
    fn dictionaries_and_views_become_text_at_every_depth() {
        let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        let dictionary: ArrayRef = Arc::new(dictionary);
        let fields: Fields = vec![Field::new("d", dictionary.data_type().clone(), true)].into();
        let nested: ArrayRef = Arc::new(StructArray::new(fields, vec![dictionary.clone()], None));
        let item = Arc::new(Field::new_list_field(nested.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 0, 1]), nested, None));
        let view: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y", "z"]));
        let batch = RecordBatch::try_from_iter_with_nullable([("d", dictionary, true), ("l", list, true), ("v", view, false)]).unwrap();
        let schema = plain_schema(&batch.schema());
        let plain = plain_batch(&batch, &schema).unwrap();
        assert_eq!(plain.schema(), schema);
        assert!(!format!("{schema:?}").contains("Dictionary") && !format!("{schema:?}").contains("View"), "{schema:?}");
        assert_eq!(plain.column(0).as_string::<i32>(), &StringArray::from(vec![Some("a"), None, Some("a")]));
        let inner = plain.column(1).as_list::<i32>().values().as_struct().column(0).clone();
        assert_eq!(inner.as_string::<i32>(), &StringArray::from(vec![Some("a"), None, Some("a")]));
        assert!(!schema.field(2).is_nullable());
    }

    #[test]
    fn large_batches_are_split_and_slices_are_not() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let parts = split(batch.clone(), 100_000);
        assert!(parts.len() >= 8 && parts.iter().all(|p| p.num_rows() * 8 <= 100_000), "{}", parts.len());
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &parts).unwrap(), batch);
        assert_eq!(split(batch.slice(5, 1000), 100_000).len(), 1);
        assert_eq!(split(batch.slice(0, 0), 1).len(), 1);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(5000), "y".to_owned(), "z".to_owned()]));
        assert_eq!(split(RecordBatch::try_from_iter([("t", texts)]).unwrap(), 1000).len(), 2);
    }
}
