//! Limits of queries, the same at all doors: how many run and wait, how long, in how much memory; and that a query ends when its
//! client leaves.

use std::{
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::{StreamExt, future::join_all};
use opentelemetry_proto::tonic::trace::v1::Span;
use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};
use tokio::task::JoinHandle;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tracehouse_engine::clock;
use tracehouse_traceql::result::tempopb::{SearchRequest, SearchResponse};

use crate::support::{Server, block_on, http, otlp, querier::Querier, sql::Sql};

/// 2026-03-01T12:00:00Z.
const START: u64 = 1_772_366_400;
const SPANS: u64 = 20_000;
const BLOCKS: usize = 8;
/// A question that does not end while a test runs.
const SLOW_SQL: &str = "select count(*) from generate_series(1, 1000000000000) where value % 7 = 9";

/// A server with a block of spans that have a value of their own each.
fn server(home: &Path, settings: &[(&str, &str)]) -> Server {
    let server = Server::start_with(home, settings);
    let mut random = StdRng::seed_from_u64(3);
    let span = |n: u64| -> Span {
        let id = u128::from(n / 10 + 1).to_be_bytes();
        let mut span = otlp::span(&id, n + 1, "work", (START + n % 3000) * 1_000_000_000);
        let value: String = (0..400).map(|_| char::from(random.sample(Alphanumeric))).collect();
        span.attributes.push(otlp::text("v", &value));
        span
    };
    let spans: Vec<Span> = (0..SPANS).map(span).collect();
    // In several blocks: a query can be stopped between two of them.
    for part in spans.chunks(SPANS as usize / BLOCKS) {
        server.push(&otlp::request("web", part.to_vec()));
        server.flush();
    }
    server
}

/// TraceQL that takes long: many expressions that look at every value and match none.
fn slow_traceql() -> String {
    let conditions: Vec<String> = (0..900).map(|i| format!("span.v=~`.*a.*b.*-{i}`")).collect();
    // A chain may have 500 operators.
    let chains: Vec<String> = conditions.chunks(450).map(|part| format!("({})", part.join("||"))).collect();
    format!("{{{}}}", chains.join("||"))
}

/// The sum of a metric's values.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").ok().text();
    let values =
        text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name)).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Waits until a metric has a value.
#[track_caller]
fn until(server: &Server, name: &str, good: impl Fn(f64) -> bool) {
    let began = clock::now();
    loop {
        let value = metric(server, name);
        if good(value) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{name} is {value}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const RUNNING: &str = "tracehouse_queries_running";
const QUEUED: &str = "tempo_query_frontend_queue_length";

async fn flight(server: &Server) -> FlightSqlServiceClient<Channel> {
    let url = format!("http://{}", server.addresses().flight);
    FlightSqlServiceClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

/// A query at a door, in the background; aborting it is what a client does that leaves.
fn ask_slowly(server: &Server, door: &str) -> JoinHandle<Result<(), String>> {
    let query = slow_traceql();
    match door {
        "http" => {
            let url = server.url(&http::with_query("/api/search", &[("q", &query)]));
            spawn(async move {
                let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.map_err(|e| e.to_string())?;
                let (status, retry) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
                let text = answer.text().await.map_err(|e| e.to_string())?;
                if status == 200 { Ok(()) } else { Err(format!("{status} retry-after={retry} {text}")) }
            })
        }
        "grpc" => {
            let client = Querier::new(server);
            spawn(async move {
                let request = SearchRequest { query, ..SearchRequest::default() };
                client.all::<_, SearchResponse>("Search", request).await.map(drop).map_err(|e| format!("{:?} {}", e.code(), e.message()))
            })
        }
        _ => {
            let mut client = block_on(flight(server));
            spawn(async move {
                let info = client.execute(SLOW_SQL.to_owned(), None).await.map_err(|e| e.to_string())?;
                let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map_err(|e| format!("{e:?}"))?;
                while let Some(batch) = rows.next().await {
                    batch.map_err(|e| format!("{e:?}"))?;
                }
                Ok(())
            })
        }
    }
}

/// A task in the background of the tests' runtime.
#[expect(clippy::async_yields_async, reason = "the task is waited for by the caller")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    block_on(async { tokio::spawn(task) })
}

#[test]
fn a_query_ends_when_its_client_leaves() {
    let home = tempfile::tempdir().unwrap();
    let server = server(home.path(), &[]);
    for door in ["http", "grpc", "flight"] {
        until(&server, "tracehouse_tasks", |n| n < 100.0);
        let idle = metric(&server, "tracehouse_tasks");
        let asking = ask_slowly(&server, door);
        until(&server, RUNNING, |n| n == 1.0);
        assert!(!asking.is_finished(), "{door}: the query is not slow");
        asking.abort();
        until(&server, RUNNING, |n| n == 0.0);
        // Nothing is left of it: no task of its plan, and no work.
        until(&server, "tracehouse_tasks", |n| n <= idle + 2.0);
        // A condition is asked of some rows at a time, and no more of them.
        let used_in_a_second = || {
            let before = metric(&server, "process_cpu_seconds_total");
            std::thread::sleep(Duration::from_secs(1));
            metric(&server, "process_cpu_seconds_total") - before
        };
        assert!((0..2).any(|_| used_in_a_second() < 0.5), "{door}: it goes on after the client left");
    }
}

#[test]
fn a_full_queue_refuses_and_whoever_leaves_it_makes_room() {
    let home = tempfile::tempdir().unwrap();
    let server =
        server(home.path(), &[("TRACEHOUSE_SQL__MAX_CONCURRENT_QUERIES", "1"), ("TRACEHOUSE_SQL__MAX_QUEUED_QUERIES_PER_TENANT", "1")]);
    let first = ask_slowly(&server, "flight");
    until(&server, RUNNING, |n| n == 1.0);
    let second = ask_slowly(&server, "grpc");
    until(&server, QUEUED, |n| n == 1.0);
    for (door, part) in
        [("http", "429 retry-after=true job queue full"), ("grpc", "ResourceExhausted job queue full"), ("flight", "job queue full")]
    {
        let error = block_on(ask_slowly(&server, door)).unwrap().expect_err(door);
        assert!(error.contains(part), "{door}: {error}");
    }
    assert_eq!(metric(&server, "tempo_query_frontend_discarded_requests_total"), 3.0);
    // A queued query goes as its client does; what does not ask for spans needs no turn.
    second.abort();
    until(&server, QUEUED, |n| n == 0.0);
    server.get("/api/echo").ok();
    let third = ask_slowly(&server, "http");
    until(&server, QUEUED, |n| n == 1.0);
    first.abort();
    until(&server, QUEUED, |n| n == 0.0);
    assert_eq!(metric(&server, RUNNING), 1.0);
    third.abort();
    until(&server, RUNNING, |n| n == 0.0);
    server.ask("/api/search", &[("q", "{ }")]).ok();
}

#[test]
fn a_query_ends_at_its_deadline() {
    let home = tempfile::tempdir().unwrap();
    let server = server(home.path(), &[("TRACEHOUSE_SQL__QUERY_TIMEOUT_SECONDS", "1")]);
    for (door, part) in [
        ("http", "504 retry-after=false query took too long"),
        ("grpc", "DeadlineExceeded query took too long"),
        ("flight", "query took too long"),
    ] {
        let error = block_on(ask_slowly(&server, door)).unwrap().expect_err(door);
        assert!(error.contains(part), "{door}: {error}");
    }
    until(&server, RUNNING, |n| n == 0.0);
    // A client that stops reading does not keep its place either.
    let stalled = block_on(async {
        let mut client = flight(&server).await;
        let info = client.execute("select value, repeat('x', 1000) from generate_series(1, 100000000)".to_owned(), None).await.unwrap();
        let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        assert!(rows.next().await.unwrap().unwrap().num_rows() > 0);
        rows
    });
    assert_eq!(metric(&server, RUNNING), 1.0);
    until(&server, RUNNING, |n| n == 0.0);
    assert_eq!(metric(&server, "tracehouse_queries_timed_out_total"), 4.0);
    drop(stalled);
}

#[test]
fn a_query_over_its_memory_fails_and_the_server_lives() {
    let home = tempfile::tempdir().unwrap();
    let server = server(home.path(), &[("TRACEHOUSE_SQL__QUERY_MEMORY_BYTES_MAX", "20000000")]);
    let (start, end) = (START.to_string(), (START + 3000).to_string());
    let ask = |path, by: &str| {
        let query = format!("{{ }} | rate() by ({by})");
        server.ask(path, &[("q", &query), ("start", &start), ("end", &end), ("step", "1s"), ("exemplars", "1")])
    };
    let refused = ask("/api/metrics/query_range", "span.v");
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("query needs more than 20000000 bytes") && refused.text().contains("sql.query_memory_bytes_max"));
    ask("/api/metrics/query_range", "name").ok();
    let sql = "select cardinality(array_agg(repeat('x', 100) || value)) from generate_series(1, 10000000)";
    let error = Sql::connect(&server).try_query(sql).unwrap_err().to_string();
    assert!(error.contains("query needs more than 20000000 bytes"), "{error}");
    assert_eq!(Sql::connect(&server).number("select count(*) from spans"), SPANS as i64);
    until(&server, RUNNING, |n| n == 0.0);
}

#[test]
fn five_hundred_clients_at_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let span = |n: u64| otlp::span(&u128::from(n).to_be_bytes(), n, "work", (START + n) * 1_000_000_000);
    server.push(&otlp::request("web", (1..=30).map(span).collect()));
    let client = Querier::new(&server);
    let url = server.url("/api/search?q=%7B%7D");
    let found: Vec<usize> = block_on(join_all((0..500).map(|i| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            if i % 2 == 0 {
                // A connection for each.
                let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                return answer.json::<serde_json::Value>().await.unwrap()["traces"].as_array().unwrap().len();
            }
            let request = SearchRequest { query: "{ }".to_owned(), ..SearchRequest::default() };
            client.all::<_, SearchResponse>("Search", request).await.unwrap().iter().map(|m| m.traces.len()).sum()
        }
    })));
    assert!(found.iter().all(|n| *n == 20), "{found:?}");
    assert_eq!(metric(&server, "tracehouse_queries_admitted_total"), 500.0);
    until(&server, RUNNING, |n| n == 0.0);
}

#[test]
fn clients_that_stop_reading_hold_nothing_up() {
    let home = tempfile::tempdir().unwrap();
    let server = server(home.path(), &[("TRACEHOUSE_SQL__MAX_CONCURRENT_QUERIES", "2")]);
    let path = http::with_query("/api/search", &[("q", "{ span.v != nil }"), ("limit", "5000"), ("spss", "100")]);
    // An answer that fits into no buffer, over HTTP/1.1 and over gRPC, which nobody reads.
    let silent: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = std::net::TcpStream::connect(&server.addresses().http).unwrap();
            write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            socket
        })
        .collect();
    let streams: Vec<_> = block_on(join_all((0..5).map(|_| {
        let client = Querier::new(&server);
        let request =
            SearchRequest { query: "{ span.v != nil }".to_owned(), limit: 5000, spans_per_span_set: 100, ..SearchRequest::default() };
        async move { client.call::<_, SearchResponse>("Search", tonic::Request::new(request)).await.unwrap() }
    })));
    until(&server, "tracehouse_queries_admitted_total", |n| n == 10.0);
    until(&server, RUNNING, |n| n == 0.0);
    server.ask("/api/search", &[("q", "{ }")]).ok();
    // Who reads late gets all of it.
    for mut stream in streams {
        let mut traces = 0;
        while let Some(message) = block_on(stream.message()).unwrap() {
            traces += message.traces.len();
        }
        assert_eq!(traces as u64, SPANS / 10);
    }
    for mut socket in silent {
        let mut head = [0; 15];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }
}

#[test]
fn bad_requests_of_grpc_take_no_slot() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let request = SearchRequest { limit: u32::MAX, ..SearchRequest::default() };
    let error = block_on(Querier::new(&server).all::<_, SearchResponse>("Search", request)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(metric(&server, "tracehouse_queries_admitted_total"), 0.0);
}
