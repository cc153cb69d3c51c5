//! The door as a client sees it, over a real socket.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Int64Type, Schema},
};
use arrow_flight::{
    Action, FlightDescriptor, FlightInfo, Ticket,
    flight_service_client::FlightServiceClient,
    sql::{
        Any, Command, CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery,
        client::FlightSqlServiceClient,
    },
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::{
    Code, Status,
    transport::{Channel, Server},
};
use tracehouse_engine::{Engine, config::Config as EngineConfig, store::BlockStore, tenant::Tenancy};
use tracehouse_sql::Sessions;

use crate::{Config, service};

/// A server on a free port, ended when dropped.
struct Served {
    _dir: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
    channel: Channel,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start(tenancy: Tenancy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(BlockStore::open_local(dir.path(), true).unwrap(), EngineConfig::default());
        let sessions = Sessions::new(tracehouse_sql::Config::default(), Arc::new(engine)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(service(sessions, tenancy, Config::default()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { _dir: dir, task, channel }
    }

    fn client(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(self.channel.clone())
    }

    fn raw(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
    }
}

/// Fetches the one endpoint, and holds the answer against what was announced.
async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let announced = info.try_decode_schema().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    assert_eq!(stream.schema().unwrap().as_ref(), &announced);
    batches
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[tokio::test]
async fn a_client_is_served() {
    let served = Served::start(Tenancy::Single).await;
    let mut client = served.client();
    let token = client.handshake("someone", "anything").await.unwrap();
    assert_eq!(token, "anonymous");
    let info = client.execute("select 1 as a, 'x' as b, arrow_cast('y', 'Dictionary(Int32, Utf8)') as c".into(), None).await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(batches[0].column(2).data_type(), &DataType::Utf8);
    let info = client.execute("select * from spans".into(), None).await.unwrap();
    assert!(!format!("{:?}", info.clone().try_decode_schema().unwrap()).contains("Dictionary"));
    assert_eq!(fetch(&mut client, info).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    let info = client.execute("select value as n, repeat('x', 100) as t from generate_series(1, 100000)".into(), None).await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
}

#[tokio::test]
async fn statements_are_prepared_and_bound() {
    let served = Served::start(Tenancy::Single).await;
    let mut client = served.client();
    let statement = client.prepare("select $1 + 1 as a, ? as b".into(), None).await.unwrap();
    assert_eq!(statement.parameter_schema().unwrap().fields().len(), 1);
    statement.close().await.unwrap();
    let mut statement = client.prepare("select 1 + ? as a, ? as b from (select 1) where 'k' = ?".into(), None).await.unwrap();
    assert_eq!(statement.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    assert_eq!(statement.dataset_schema().unwrap().fields().len(), 2);
    for n in [1i64, 7] {
        let columns: [(&str, ArrayRef); 3] = [
            ("0", Arc::new(Int64Array::from(vec![n]))),
            ("1", Arc::new(StringArray::from(vec!["x"]))),
            ("2", Arc::new(StringArray::from(vec!["k"]))),
        ];
        statement.set_parameters(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let info = statement.execute().await.unwrap();
        let batches = fetch(&mut client, info).await;
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), n + 1);
        assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "x");
    }
    let too_few: [(&str, ArrayRef); 1] = [("0", Arc::new(Int64Array::from(vec![1])))];
    statement.set_parameters(RecordBatch::try_from_iter(too_few).unwrap()).unwrap();
    assert!(text(statement.execute().await.unwrap_err()).contains("3 parameters, 1 were bound"));
    statement.close().await.unwrap();
    assert!(text(client.prepare("insert into spans select * from spans".into(), None).await.unwrap_err()).contains("read only"));
    assert!(text(client.execute_update("delete from spans".into(), None).await.unwrap_err()).contains("read only"));
}

#[tokio::test]
async fn trees_can_be_drawn() {
    let served = Served::start(Tenancy::Single).await;
    let mut client = served.client();
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].column(0).as_string::<i32>().value(0), "tracehouse");
    let info = client.get_db_schemas(CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("pub%".into()) }).await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].column(1).as_string::<i32>().value(0), "public");
    let command = CommandGetTables {
        table_name_filter_pattern: Some("spans".into()),
        table_types: vec!["BASE TABLE".into(), "table".into()],
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(command).await.unwrap();
    let tables = fetch(&mut client, info).await;
    assert_eq!(tables[0].num_rows(), 1);
    let bytes = tables[0].column(4).as_binary::<i32>().value(0);
    let schema = Schema::try_from(arrow_flight::IpcMessage(bytes.to_vec().into())).unwrap();
    assert_eq!(schema.field_with_name("name").unwrap().data_type(), &DataType::Utf8);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].column(0).as_string::<i32>().value(0), "BASE TABLE");
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::SqlKeywords]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].num_rows(), 2);
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(fetch(&mut client, info).await[0].num_rows() > 85);
    let info = client.get_xdbc_type_info(Default::default()).await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].num_rows(), 6);
    let info = client.get_primary_keys(Default::default()).await.unwrap();
    fetch(&mut client, info).await;
    let info = client.get_cross_reference(Default::default()).await.unwrap();
    fetch(&mut client, info).await;
}

#[tokio::test]
async fn wrong_calls_are_told_what_is_wrong() {
    let served = Served::start(Tenancy::Single).await;
    let mut raw = served.raw();
    let ask =
        |sql: &str| FlightDescriptor::new_cmd(CommandStatementQuery { query: sql.into(), transaction_id: None }.as_any().encode_to_vec());
    for (descriptor, expected, says) in [
        (ask("selekt 1"), Code::InvalidArgument, "selekt"),
        (ask("select * from nope"), Code::InvalidArgument, "nope"),
        (ask("drop table spans"), Code::InvalidArgument, "read only"),
        (FlightDescriptor::new_cmd("nonsense"), Code::InvalidArgument, "Flight SQL command"),
        (FlightDescriptor::new_path(vec!["x".into()]), Code::Unimplemented, "not supported"),
    ] {
        let error: Status = raw.get_flight_info(descriptor.clone()).await.unwrap_err();
        assert_eq!(error.code(), expected, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(raw.get_schema(descriptor).await.is_err());
    }
    let strange = TicketStatementQuery { statement_handle: "select 1".into() }.as_any().encode_to_vec();
    assert_eq!(raw.do_get(Ticket::new(strange)).await.unwrap_err().code(), Code::InvalidArgument);
    let error = raw.do_action(Action::new("Explode", "")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let late = Command::CommandStatementQuery(CommandStatementQuery {
        query: "select 10 / (value - 50000) from generate_series(1, 100000)".into(),
        transaction_id: None,
    });
    let any: Any = late.into_any();
    let stream = raw.do_get(Ticket::new(any.encode_to_vec())).await.unwrap().into_inner();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let names: Vec<_> = raw.list_actions(arrow_flight::Empty {}).await.unwrap().into_inner().try_collect().await.unwrap();
    assert!(names.iter().any(|a| a.r#type == "CloseSession"));
    raw.do_action(Action::new("CloseSession", "")).await.unwrap();
}

#[tokio::test]
async fn a_tenant_is_asked_for() {
    let served = Served::start(Tenancy::FromHeader).await;
    let mut client = served.client();
    assert!(text(client.execute("select 1".into(), None).await.unwrap_err()).contains("X-Scope-OrgID"));
    client.set_header("x-scope-orgid", "one/two");
    assert!(text(client.execute("select 1".into(), None).await.unwrap_err()).contains("tenant id"));
    client.set_header("x-scope-orgid", "one");
    let info = client.execute("select count(*) from spans".into(), None).await.unwrap();
    fetch(&mut client, info.clone()).await;
    // The ticket carries no tenant: without one, the call that brings it is refused.
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(served.raw().do_get(ticket).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn dropping_the_call_stops_the_query() {
    let served = Served::start(Tenancy::Single).await;
    let mut client = served.client();
    let info = client.execute("select value from generate_series(1, 1000000000000)".into(), None).await.unwrap();
    let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    let info = client.execute("select 1".into(), None).await.unwrap();
    fetch(&mut client, info).await;
}
