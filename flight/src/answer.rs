//! What a command asks for: rows that are there already, or a plan to run. One way from a command to its answer, so that
//! the schema announced and the schema sent cannot differ.

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use arrow_flight::{FlightData, encode::FlightDataEncoderBuilder, error::FlightError, sql::Command};
use datafusion::prelude::DataFrame;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tonic::Status;
use tracehouse_engine::{
    TenantId,
    error::{Error, ErrorKind, Result},
};
use tracehouse_sql::Sessions;

use crate::{
    catalogs,
    handle::Handle,
    plain::{plain_batch, plain_schema, split},
    sql_info,
    status::status,
};

/// The answer to a command.
pub enum Answer {
    /// Rows about the server.
    Rows(RecordBatch),
    /// A question, planned.
    Plan(Box<DataFrame>),
}

impl Answer {
    /// Finds the answer; plans, runs nothing.
    pub async fn to(command: Command, sessions: &Sessions, tenant: &TenantId) -> Result<Self> {
        let session = || sessions.session(tenant);
        let encoding = |e: FlightError| Error::internal("server information").with_source(e);
        Ok(Self::Rows(match command {
            Command::CommandStatementQuery(c) => {
                no_transaction(c.transaction_id.as_deref())?;
                return Self::plan(&Handle::new(c.query), sessions, tenant).await;
            }
            Command::TicketStatementQuery(c) => return Self::plan(&Handle::read(&c.statement_handle)?, sessions, tenant).await,
            Command::CommandPreparedStatementQuery(c) => {
                return Self::plan(&Handle::read(&c.prepared_statement_handle)?, sessions, tenant).await;
            }
            Command::CommandGetCatalogs(c) => catalogs::catalogs(&session(), c)?,
            Command::CommandGetDbSchemas(c) => catalogs::schemas(&session(), c)?,
            Command::CommandGetTables(c) => catalogs::tables(&session(), c).await?,
            Command::CommandGetTableTypes(c) => catalogs::table_types(c)?,
            Command::CommandGetPrimaryKeys(_) => catalogs::primary_keys(),
            Command::CommandGetExportedKeys(_) | Command::CommandGetImportedKeys(_) | Command::CommandGetCrossReference(_) => {
                catalogs::foreign_keys()
            }
            Command::CommandGetSqlInfo(c) => sql_info::sql_info().and_then(|data| c.into_builder(data).build()).map_err(encoding)?,
            Command::CommandGetXdbcTypeInfo(c) => sql_info::xdbc_types().and_then(|data| c.into_builder(data).build()).map_err(encoding)?,
            Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => return Err(read_only()),
            other => {
                let message = format!("{} is not supported: send SQL text in a CommandStatementQuery", other.type_url());
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }))
    }

    async fn plan(handle: &Handle, sessions: &Sessions, tenant: &TenantId) -> Result<Self> {
        Ok(Self::Plan(Box::new(handle.plan(sessions, tenant).await?)))
    }

    /// The schema of the answer as it is sent.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Rows(rows) => rows.schema(),
            Self::Plan(frame) => plain_schema(frame.schema().as_arrow()),
        }
    }

    /// Runs the plan, if there is one. Dropping the stream stops it.
    pub async fn stream(self, sessions: &Sessions, batch_bytes_max: usize) -> Result<BoxStream<'static, Result<FlightData, Status>>> {
        let schema = self.schema();
        Ok(match self {
            Self::Rows(rows) => encode(schema, futures::stream::iter([Ok(rows)])),
            Self::Plan(frame) => {
                let announced = schema.clone();
                let to_plain = move |batch: RecordBatch| plain_batch(&batch, &announced).map_err(flight_error::<ArrowError>);
                let batches = sessions.stream(*frame).await?.map(move |batch| batch.map_err(flight_error).and_then(&to_plain));
                let parts =
                    batches.map_ok(move |batch| futures::stream::iter(split(batch, batch_bytes_max).into_iter().map(Ok))).try_flatten();
                encode(schema, parts)
            }
        })
    }
}

fn flight_error<E: Into<Error>>(error: E) -> FlightError {
    FlightError::Tonic(Box::new(status(error)))
}

fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> BoxStream<'static, Result<FlightData, Status>> {
    // Batches are split already, by what they show; the encoder's own split would count what slices hide.
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(usize::MAX);
    encoder.build(batches).map_err(Status::from).boxed()
}

/// Statements outside transactions only.
pub fn no_transaction(id: Option<&[u8]>) -> Result<()> {
    match id.is_none_or(<[u8]>::is_empty) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unsupported, "transactions are not supported: use autocommit")),
    }
}

/// The answer to all writes.
pub fn read_only() -> Error {
    Error::invalid("read only: send a SELECT; spans come in over OTLP")
}
