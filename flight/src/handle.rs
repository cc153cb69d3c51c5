//! Statement handles: the text and its parameters, in the client's keeping, so that any node can serve the next call.
//!
//! A handle says what to ask, never as whom: the tenant is that of the call that brings it.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use bytes::Bytes;
use datafusion::{common::ScalarValue, prelude::DataFrame};
use prost::Message;
use tracehouse_engine::{
    TenantId,
    error::{Error, ErrorKind, Result},
};
use tracehouse_sql::Sessions;

use crate::plain::{plain_batch, plain_schema};

/// Version of the layout below.
const VERSION: u32 = 1;

/// A statement as it travels.
#[derive(Clone, PartialEq, Message)]
pub struct Handle {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The SQL text.
    #[prost(string, tag = "2")]
    pub sql: String,
    /// An IPC stream with one row of parameters, or nothing.
    #[prost(bytes = "bytes", tag = "3")]
    parameters: Bytes,
}

impl Handle {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { version: VERSION, sql: sql.into(), parameters: Bytes::new() }
    }

    /// Reads a handle that a client brought.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        match Self::decode(bytes) {
            Ok(handle) if handle.version == VERSION => Ok(handle),
            _ => Err(Error::invalid("statement handle is not one of this server: prepare the statement again")),
        }
    }

    /// The handle as bytes.
    pub fn write(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Replaces the parameters by these rows: none clears them, more than one is refused.
    pub fn bind(&mut self, rows: &[RecordBatch], bytes_max: usize) -> Result<()> {
        let rows: Vec<_> = rows.iter().filter(|b| b.num_rows() > 0).collect();
        let row = match rows.as_slice() {
            [] => {
                self.parameters = Bytes::new();
                return Ok(());
            }
            [row] if row.num_rows() == 1 => plain_batch(row, &plain_schema(&row.schema()))?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "bind one row of parameters at a time")),
        };
        let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
        writer.write(&row)?;
        let bytes = writer.into_inner()?;
        if bytes.len() > bytes_max {
            return Err(Error::new(ErrorKind::TooLarge, format!("parameters take more than {bytes_max} bytes")));
        }
        self.parameters = bytes.into();
        Ok(())
    }

    fn values(&self) -> Result<Option<Vec<ScalarValue>>> {
        if self.parameters.is_empty() {
            return Ok(None);
        }
        let wrong = |e| Error::invalid("statement handle holds parameters that cannot be read").with_source(e);
        let mut reader = StreamReader::try_new(self.parameters.as_ref(), None).map_err(wrong)?;
        let Some(row) = reader.next().transpose().map_err(wrong)?.filter(|b| b.num_rows() == 1) else {
            return Err(Error::invalid("statement handle must hold one row of parameters"));
        };
        Ok(Some(row.columns().iter().map(|c| ScalarValue::try_from_array(c, 0)).collect::<Result<_, _>>()?))
    }

    /// Plans the statement, with its parameters if it has them.
    pub async fn plan(&self, sessions: &Sessions, tenant: &TenantId) -> Result<DataFrame> {
        let frame = sessions.sql(tenant, &self.sql).await?;
        let Some(values) = self.values()? else { return Ok(frame) };
        let expected = parameter_count(&frame)?;
        if values.len() != expected {
            return Err(Error::invalid(format!("the statement has {expected} parameters, {} were bound", values.len())));
        }
        match values.is_empty() {
            true => Ok(frame),
            false => Ok(frame.with_param_values(values)?),
        }
    }
}

/// Number of parameters: the highest `$n`.
fn parameter_count(frame: &DataFrame) -> Result<usize> {
    let names = frame.logical_plan().get_parameter_names()?;
    let mut count = 0;
    for name in names {
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        count = count.max(number.ok_or_else(|| Error::invalid(format!("parameter {name} must be a number, as in $1")))?);
    }
    Ok(count)
}

/// The parameters' types as far as they are known, text where they are not.
pub fn parameter_schema(frame: &DataFrame) -> Result<Schema> {
    let types = frame.logical_plan().get_parameter_types()?;
    let field = |i| {
        let name = format!("${i}");
        let data_type = types.get(&name).cloned().flatten().unwrap_or(arrow::datatypes::DataType::Utf8);
        Arc::new(Field::new(name, data_type, true))
    };
    let fields: Vec<_> = (1..=parameter_count(frame)?).map(field).collect();
    Ok(plain_schema(&Schema::new(fields)).as_ref().clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn handles_round_trip_and_strangers_are_refused() {
        let row = RecordBatch::try_from_iter([
            ("0", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
            ("1", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ])
        .unwrap();
        let mut handle = Handle::new("select $1, $2");
        handle.bind(std::slice::from_ref(&row), 10_000).unwrap();
        let read = Handle::read(&handle.write()).unwrap();
        assert_eq!(read.values().unwrap(), Some(vec![ScalarValue::from(7i64), ScalarValue::from("x")]));
        assert_eq!(handle.bind(std::slice::from_ref(&row), 10).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(handle.bind(&[row.clone(), row], 10_000).unwrap_err().kind(), ErrorKind::Unsupported);
        handle.bind(&[], 0).unwrap();
        assert_eq!(handle, Handle::new("select $1, $2"));
        for wrong in [b"".as_slice(), b"nonsense", &[8, 2, 18, 1, 120]] {
            assert_eq!(Handle::read(wrong).unwrap_err().kind(), ErrorKind::Invalid);
        }
        let broken = Handle { parameters: Bytes::from_static(b"\xff\xff\xff\xff\x10\0\0\0abc"), ..Handle::new("select 1") };
        assert_eq!(broken.values().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
