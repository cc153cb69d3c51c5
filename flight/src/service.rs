//! The Flight SQL door: calls in, answers out. Every call names its tenant; nothing is kept between calls.

use arrow::{array::RecordBatch, datatypes::Schema, ipc::writer::IpcWriteOptions};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
    decode::FlightRecordBatchStream,
    error::FlightError,
    flight_service_server::FlightService,
    sql::{Any, Command, DoPutPreparedStatementResult, ProstMessageExt, TicketStatementQuery},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use tracehouse_engine::{
    TenantId,
    error::{Error, ErrorKind},
    tenant::{TENANT_HEADER, Tenancy},
};
use tracehouse_sql::Sessions;

use crate::{
    actions,
    answer::{Answer, read_only},
    config::Config,
    handle::Handle,
    status::status,
};

/// What a handshake gives: clients insist on a token, and there is nothing to tell callers apart by.
const TOKEN: &str = "anonymous";

/// Serves Flight SQL over sessions.
#[derive(Debug)]
pub struct FlightSql {
    sessions: Sessions,
    tenancy: Tenancy,
    config: Config,
}

type Reply<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

impl FlightSql {
    /// A door to these sessions.
    pub fn new(sessions: Sessions, tenancy: Tenancy, config: Config) -> Self {
        Self { sessions, tenancy, config }
    }

    fn tenant(&self, metadata: &MetadataMap) -> Result<TenantId, Status> {
        let header = metadata.get(TENANT_HEADER).map(|v| v.to_str()).transpose();
        let header = header.map_err(|_| status(Error::invalid("tenant id in X-Scope-OrgID is not text")))?;
        self.tenancy.resolve(header).map_err(status)
    }

    /// Reads the parameters that follow the first message and puts them in the handle.
    async fn bind(&self, handle: &[u8], first: FlightData, rest: Streaming<FlightData>) -> Result<DoPutPreparedStatementResult, Status> {
        let mut handle = Handle::read(handle).map_err(status)?;
        // A client that binds nothing sends the command alone.
        let has_schema = !first.data_header.is_empty();
        let messages = futures::stream::iter(has_schema.then_some(Ok(first))).chain(rest.map_err(FlightError::from));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let bytes_max = self.config.parameters_bytes_max;
        let (mut rows, mut bytes): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|e| status(Error::invalid("parameters cannot be read").with_source(e)))?;
            bytes = bytes.saturating_add(batch.get_array_memory_size());
            if bytes > bytes_max {
                return Err(status(Error::new(ErrorKind::TooLarge, format!("parameters take more than {bytes_max} bytes"))));
            }
            rows.push(batch);
        }
        handle.bind(&rows, bytes_max).map_err(status)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.write()) })
    }
}

/// Reads the command in a descriptor or ticket.
fn command(bytes: &[u8]) -> Result<Command, Status> {
    let wrong = "send a Flight SQL command, packed as google.protobuf.Any";
    let any = Any::decode(bytes).map_err(|e| status(Error::invalid(wrong).with_source(e)))?;
    Command::try_from(any).map_err(|e| status(Error::invalid(wrong).with_source(e)))
}

/// The ticket that fetches a command's answer: the command itself, but for SQL text, which travels as a handle.
fn ticket(command: Command) -> Ticket {
    let any = match command {
        Command::CommandStatementQuery(c) => TicketStatementQuery { statement_handle: Handle::new(c.query).write() }.as_any(),
        other => other.into_any(),
    };
    Ticket::new(any.encode_to_vec())
}

fn schema_encoding(e: arrow::error::ArrowError) -> Status {
    status(Error::internal("schema").with_source(e))
}

#[async_trait]
impl FlightService for FlightSql {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoActionStream = Stream<ActionResult>;
    type ListActionsStream = Stream<ActionType>;
    type DoExchangeStream = Stream<FlightData>;

    /// Any user and password will do: access is controlled in front of this server.
    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Reply<Self::HandshakeStream> {
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from_static(TOKEN.as_bytes()) };
        let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
        let token = format!("Bearer {TOKEN}").parse().map_err(|_| Status::internal("token is not a header"))?;
        response.metadata_mut().insert("authorization", token);
        Ok(response)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        let tenant = self.tenant(request.metadata())?;
        let descriptor = request.into_inner();
        let command = command(&descriptor.cmd)?;
        let answer = Answer::to(command.clone(), &self.sessions, &tenant).await.map_err(status)?;
        // One endpoint without a location: "fetch it here". Grafana takes no other answer.
        let info = FlightInfo::new().try_with_schema(&answer.schema()).map_err(schema_encoding)?;
        Ok(Response::new(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket(command))).with_descriptor(descriptor)))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        let tenant = self.tenant(request.metadata())?;
        let command = command(&request.get_ref().cmd)?;
        let schema = Answer::to(command, &self.sessions, &tenant).await.map_err(status)?.schema();
        let schema: &Schema = &schema;
        Ok(Response::new(SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(schema_encoding)?))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Reply<Self::DoGetStream> {
        let tenant = self.tenant(request.metadata())?;
        let command = command(&request.get_ref().ticket)?;
        // The slot of the query is free again when its stream ends or is dropped.
        let sessions = self.sessions.admit(&tenant).await.map_err(status)?;
        let answer = Answer::to(command, &sessions, &tenant).await.map_err(status)?;
        Ok(Response::new(answer.stream(&sessions, self.config.batch_bytes_max).await.map_err(status)?))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        self.tenant(request.metadata())?;
        let mut messages = request.into_inner();
        let Some(mut first) = messages.message().await? else {
            return Err(status(Error::invalid("DoPut without a message")));
        };
        let Some(descriptor) = first.flight_descriptor.take() else {
            return Err(status(Error::invalid("first message of DoPut must hold a descriptor")));
        };
        let result = match command(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(c) => self.bind(&c.prepared_statement_handle, first, messages).await?,
            Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => return Err(status(read_only())),
            other => {
                let message = format!("DoPut of {} is not supported: spans come in over OTLP", other.type_url());
                return Err(status(Error::new(ErrorKind::Unsupported, message)));
            }
        };
        let result = PutResult { app_metadata: result.encode_to_vec().into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Reply<Self::DoActionStream> {
        let tenant = self.tenant(request.metadata())?;
        let bodies = actions::run(request.get_ref(), &self.sessions, &tenant).await.map_err(status)?;
        Ok(Response::new(futures::stream::iter(bodies.into_iter().map(|body| Ok(ActionResult { body }))).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Reply<Self::ListActionsStream> {
        Ok(Response::new(futures::stream::iter(actions::list().into_iter().map(Ok)).boxed()))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Reply<PollInfo> {
        Err(status(Error::new(ErrorKind::Unsupported, "PollFlightInfo is not supported: use GetFlightInfo")))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Reply<Self::DoExchangeStream> {
        Err(status(Error::new(ErrorKind::Unsupported, "DoExchange is not supported: use DoGet")))
    }
}
