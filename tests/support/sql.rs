//! SQL over Flight SQL, as any client sends it.

use arrow::{
    array::RecordBatch,
    datatypes::DataType,
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use arrow_flight::{error::FlightError, sql::client::FlightSqlServiceClient};
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

use super::{Server, block_on};

/// A connection to the Flight SQL port of a server.
pub struct Sql {
    client: FlightSqlServiceClient<Channel>,
}

/// The answer to a question.
#[derive(Debug)]
pub struct Table {
    /// The type of each column.
    pub types: Vec<DataType>,
    /// Each value as text; NULL is `NULL`, the empty string `(empty)`.
    pub rows: Vec<Vec<String>>,
}

impl Sql {
    /// Connects to a server.
    #[track_caller]
    pub fn connect(server: &Server) -> Self {
        let url = format!("http://{}", server.addresses().flight);
        let channel = block_on(Endpoint::from_shared(url).unwrap().connect()).unwrap();
        Self { client: FlightSqlServiceClient::new(channel) }
    }

    /// Asks a question.
    pub fn try_query(&mut self, sql: &str) -> Result<Table, FlightError> {
        let (types, batches) = block_on(async {
            let info = self.client.execute(sql.to_owned(), None).await?;
            let schema = info.clone().try_decode_schema()?;
            let mut batches: Vec<RecordBatch> = Vec::new();
            for endpoint in info.endpoint {
                let Some(ticket) = endpoint.ticket else { continue };
                let stream = self.client.do_get(ticket).await?;
                batches.extend(stream.try_collect::<Vec<_>>().await?);
            }
            Ok::<_, FlightError>((schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>(), batches))
        })?;
        let rows = batches.iter().map(rows_of).collect::<Result<Vec<_>, _>>()?.concat();
        Ok(Table { types, rows })
    }

    /// Asks a question that must have an answer.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.try_query(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).rows
    }

    /// Asks a question with one number as its answer.
    #[track_caller]
    pub fn number(&mut self, sql: &str) -> i64 {
        self.query(sql)[0][0].parse().unwrap()
    }
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options)).collect::<Result<Vec<_>, _>>()?;
    let cell = |column: &ArrayFormatter<'_>, row: usize| match column.value(row).to_string() {
        text if text.is_empty() => "(empty)".to_owned(),
        text => text,
    };
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| cell(c, row)).collect()).collect())
}
