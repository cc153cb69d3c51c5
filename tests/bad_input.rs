//! Bad input over the wire: a clear error with the right status, nothing acknowledged lost, never a panic (each server's log is
//! searched for one when the server is dropped).

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceResponse, trace_service_client::TraceServiceClient},
    common::v1::any_value::Value,
    trace::v1::Span,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tracehouse_engine::{Engine, TenantId, TraceId, store::BlockStore};
use tracehouse_sql::Sessions;

use crate::support::{Answer, Server, block_on, copy_folder, hex, http, otlp, repo, server::seen_by, sql::Sql, tools};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const START: u64 = 1_772_366_400_000_000_000;
const TRACE: [u8; 16] = [5; 16];

fn good_span(id: u64) -> Span {
    otlp::span(&TRACE, id, "good", START)
}

fn good_body(id: u64) -> Vec<u8> {
    otlp::request("good", vec![good_span(id)]).encode_to_vec()
}

/// The answer is this status with a text that contains each part.
#[track_caller]
fn refused(answer: &Answer, status: u16, parts: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let text = answer.text();
    for part in parts {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not in {text:?}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let limits = [("TRACEHOUSE_INGEST__MAX_REQUEST_BYTES", "1000000")];
    let server = Server::start_with(home.path(), &limits);
    let post = |headers: &[(&str, &str)], body: Vec<u8>| http::post(&server.otlp_url(), headers, body);
    server.push_bytes(good_body(1));

    let whole = good_body(2);
    for cut in 1..whole.len() {
        refused(&post(&[PROTOBUF], whole[..cut].to_vec()), 400, &["protobuf"]);
    }
    // A length that promises more than there is, and one that promises 2^63 bytes.
    refused(&post(&[PROTOBUF], vec![0x0a, 0x7f, 1, 2]), 400, &["protobuf"]);
    refused(&post(&[PROTOBUF], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), 400, &["protobuf"]);
    // Values nested deeper than any decoder's stack should go.
    refused(&post(&[JSON], deep_json(20_000)), 400, &[]);
    refused(&post(&[JSON], b"{\"resourceSpans\": 3}".to_vec()), 400, &["resourceSpans"]);
    refused(&post(&[JSON], b"{\"resourceSpans\": [".to_vec()), 400, &["JSON"]);
    refused(&post(&[("content-type", "text/plain")], whole.clone()), 415, &["content-type", "application/x-protobuf"]);
    refused(&post(&[], whole.clone()), 415, &["content-type"]);
    refused(&post(&[PROTOBUF, ("content-encoding", "br")], whole.clone()), 415, &["gzip"]);
    refused(&post(&[PROTOBUF, ("content-encoding", "gzip")], whole.clone()), 400, &["gzip"]);
    refused(&post(&[PROTOBUF], vec![0; 1_000_001]), 413, &["1000000 bytes"]);
    // A thousand times smaller on the wire than in memory.
    refused(&post(&[PROTOBUF, ("content-encoding", "gzip")], gzip(&vec![0; 200_000_000])), 413, &["1000000 bytes"]);
    refused(&http::get(&server.otlp_url(), &[]), 405, &[]);

    // None of it left a trace, and the server takes spans as before.
    server.push_bytes(good_body(3));
    assert_eq!(Sql::connect(&server).number("SELECT count(*) FROM spans"), 2);
}

fn deep_json(depth: usize) -> Vec<u8> {
    let open = "{\"arrayValue\":{\"values\":[".repeat(depth);
    format!("{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"key\":\"k\",\"value\":{open}").into_bytes()
}

#[test]
fn a_live_span_without_an_end_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    server.push(&otlp::request("web", vec![Span { trace_id: vec![6; 16], ..good_span(1) }]));
    server.flush();
    let open = Span { end_time_unix_nano: 0, attributes: vec![otlp::text("v", "open")], ..good_span(2) };
    server.push(&otlp::request("web", vec![open]));
    let second = START / 1_000_000_000;
    let (start, end) = ((second - 60).to_string(), (second + 60).to_string());
    let counted = |query: &str| {
        let path = http::with_query("/api/metrics/query", &[("q", query), ("start", &start), ("end", &end)]);
        let answer: serde_json::Value = server.get(&path).ok().json();
        answer["series"][0]["value"].as_f64().unwrap_or_default()
    };
    // The second time it is in memory what the block has and has not.
    for _ in 0..3 {
        assert_eq!(counted("{ span.v = \"open\" } | count_over_time()"), 1.0);
        assert_eq!(counted("{ } | count_over_time()"), 2.0);
        assert_eq!(counted("{ span.v = \"shut\" } | count_over_time()"), 0.0);
    }
}

#[test]
fn spans_with_bad_ids_are_counted_out() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let with = |trace: &[u8], id: &[u8]| Span { trace_id: trace.to_vec(), span_id: id.to_vec(), ..good_span(9) };
    let bad = [
        with(&[], &[1; 8]),
        with(&[1; 15], &[1; 8]),
        with(&[1; 17], &[1; 8]),
        with(&TRACE, &[]),
        with(&TRACE, &[1; 7]),
        with(&TRACE, &[1; 9]),
        with(&TRACE, &[0; 8]),
    ];
    let count = bad.len() as i64;
    let mut spans = bad.to_vec();
    spans.push(good_span(1));
    let mut others = bad.to_vec();
    others.push(good_span(2));
    let body = otlp::request("ids", spans).encode_to_vec();

    let answer = http::post(&server.otlp_url(), &[PROTOBUF], body).ok();
    let partial = ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, count);
    assert!(partial.error_message.contains("id"), "{}", partial.error_message);

    // The same over gRPC.
    let url = format!("http://{}", server.addresses().otlp_grpc);
    let answer = block_on(async { TraceServiceClient::connect(url).await.unwrap().export(otlp::request("ids", others)).await });
    let partial = answer.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, count);

    // The good ones are there, and nothing else.
    let found = otlp::spans_of(&server.trace(&TRACE).unwrap());
    assert_eq!(found.values().sum::<usize>(), 2);
}

#[test]
fn a_huge_attribute_is_cut_as_tempo_cuts_it() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let mut span = good_span(1);
    span.attributes = vec![otlp::text("huge", &"é".repeat(5_000_000)), otlp::text(&"k".repeat(5000), "long key")];
    server.push(&otlp::request("huge", vec![span]));
    let attributes = |server: &Server| {
        let trace = server.trace(&TRACE).unwrap();
        trace.resource_spans[0].scope_spans[0].spans[0].attributes.clone()
    };
    let check = |server: &Server| {
        let attributes = attributes(server);
        let huge = attributes.iter().find(|a| a.key == "huge").unwrap();
        let Some(Value::StringValue(text)) = huge.value.as_ref().and_then(|v| v.value.as_ref()) else { panic!("{huge:?}") };
        assert!((2040..=2048).contains(&text.len()) && text.chars().all(|c| c == 'é'), "{} bytes", text.len());
        assert!(attributes.iter().all(|a| a.key.len() <= 2048));
    };
    check(&server);
    server.flush();
    check(&server);
}

#[test]
fn bad_questions_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    server.push_bytes(good_body(1));
    for path in ["/api/traces/xyz", "/api/v2/traces/xyz", "/api/traces/000000000000000000000000000000001"] {
        refused(&server.get(path), 400, &["trace"]);
    }
    refused(&server.get("/api/traces/00000000000000000000000000000bad"), 404, &[]);
    refused(&server.get("/api/nope"), 404, &[]);
    refused(&server.get("/"), 404, &[]);
    for (key, value) in [("limit", "0"), ("limit", "-1"), ("limit", "x"), ("spss", "101"), ("start", "x")] {
        let answer = server.ask("/api/search", &[("q", "{}"), (key, value)]);
        assert_eq!(answer.status, 400, "{key}={value}: {}", answer.text());
    }
    refused(&server.ask("/api/search", &[("q", "{}"), ("start", "20"), ("end", "10")]), 400, &[]);
    refused(&server.ask("/api/search", &[("q", &format!("{{ {} }}", "(".repeat(15_000)))]), 400, &[]);
    refused(&server.ask("/api/search", &[("q", &format!("{{ {}true }}", "!".repeat(15_000)))]), 400, &[]);

    let mut sql = Sql::connect(&server);
    for (query, part) in [
        ("", "sql"),
        ("SELECT", "expected"),
        ("SELECT * FROM nonsense", "nonsense"),
        ("SELECT nonsense FROM spans", "nonsense"),
        ("SELECT 1; SELECT 2", ""),
        ("DROP TABLE spans", ""),
        ("INSERT INTO spans VALUES (1)", ""),
        ("SET datafusion.execution.batch_size = 1", ""),
    ] {
        let error = sql.try_query(query).expect_err(query).to_string().to_lowercase();
        assert!(error.contains(part), "{query:?}: {error}");
    }
    let deep = format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000));
    sql.try_query(&deep).expect_err("a deep expression");
    assert_eq!(sql.number("SELECT count(*) FROM spans"), 1);
}

// -------------------------------------------------------------------------------------------------- damaged blocks

const BLOCK: &str = "198a93d0-49a8-47f0-9e45-286fd0733096";

/// The golden block in a data folder.
fn golden_block(data: &Path) -> PathBuf {
    copy_folder(&repo().join("tests/golden/blocks/vParquet5/single-tenant").join(BLOCK), &data.join("single-tenant").join(BLOCK));
    data.join("single-tenant").join(BLOCK)
}

/// All spans and one trace of a folder of blocks, as text; in process, because each damage wants a fresh start.
async fn everything(blocks: &Path) -> tracehouse_engine::Result<String> {
    let engine = Engine::new(BlockStore::open_local(blocks, true)?, Default::default());
    engine.poll().await?;
    let engine = Arc::new(engine);
    let sessions = Sessions::new(Default::default(), engine.clone())?;
    let tenant: TenantId = "single-tenant".parse()?;
    let frame = sessions.sql(&tenant, "SELECT * FROM spans ORDER BY trace_id, span_id, kind_code, start_time").await?;
    let batches = sessions.collect(frame).await?;
    let rows = arrow::util::pretty::pretty_format_batches(&batches)?.to_string();
    let id: TraceId = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a".parse()?;
    let trace = engine.find_trace(&tenant, id, None).await?.trace;
    Ok(format!("{rows}{trace:?}"))
}

/// Damages one file of the block in many places, one at a time, and calls `judge` with what became of the answer.
fn damage(file: &str, places: usize, judge: &dyn Fn(usize, tracehouse_engine::Result<String>)) {
    let folder = tempfile::tempdir().unwrap();
    let path = golden_block(folder.path()).join(file);
    let sound = std::fs::read(&path).unwrap();
    let mut random = StdRng::seed_from_u64(11);
    for i in 0..places {
        let mut bytes = sound.clone();
        // The beginning and the end say what the rest is: look at them more closely.
        let at = match i % 3 {
            0 => random.random_range(0..bytes.len()),
            1 => random.random_range(0..bytes.len().min(200)),
            _ => bytes.len() - 1 - random.random_range(0..bytes.len().min(2000)),
        };
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&path, bytes).unwrap();
        judge(at, block_on(everything(folder.path())));
    }
    for cut in [0, 1, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&path, &sound[..cut]).unwrap();
        let answer = block_on(everything(folder.path()));
        match (file, answer) {
            // Of a trace's absence and of pages nothing is left to say what was there.
            ("data.parquet", Ok(_)) => panic!("data.parquet cut at {cut}: no error"),
            (_, answer) => judge(cut, answer),
        }
    }
}

fn names_the_block(file: &str) -> impl Fn(usize, tracehouse_engine::Result<String>) {
    move |at, answer| {
        if let Err(e) = answer {
            assert!(e.to_string().contains(BLOCK), "{file} damaged at {at}: the error does not name the block: {e}");
        }
    }
}

#[test]
fn a_damaged_block_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    golden_block(folder.path());
    let right = block_on(everything(folder.path())).unwrap();
    assert!(right.len() > 100_000, "the block is not read");
    // Tempo's pages have no checksum: a flipped byte of a value may show as another value, but never as a crash.
    damage("data.parquet", 150, &names_the_block("data.parquet"));
    damage("bloom-0", 30, &names_the_block("bloom-0"));
    // The index is not needed to read a block.
    damage("index", 10, &|at, answer| assert_eq!(answer.unwrap_or_else(|e| panic!("index damaged at {at}: {e}")), right));
}

#[test]
fn a_server_says_which_block_is_damaged() {
    let home = tempfile::tempdir().unwrap();
    let block = golden_block(&home.path().join("data/blocks"));
    let data = block.join("data.parquet");
    let sound = std::fs::read(&data).unwrap();
    std::fs::write(&data, &sound[..sound.len() / 2]).unwrap();
    let server = Server::start(home.path());
    let window = [("q", "{}"), ("start", "1768478400"), ("end", "1768485600")];
    refused(&server.ask("/api/search", &window), 500, &[BLOCK]);
    let error = Sql::connect(&server).try_query("SELECT count(*), max(name) FROM spans").expect_err("half a block").to_string();
    assert!(error.contains(BLOCK), "{error}");
    // What is not in that block goes on.
    server.push_bytes(good_body(1));
    assert!(server.get("/ready").status == 200 && server.get("/api/echo").status == 200);
}

#[test]
fn a_server_goes_without_as_many_blocks_as_it_may() {
    let home = tempfile::tempdir().unwrap();
    let meta = golden_block(&home.path().join("data/blocks")).join("meta.json");
    let sound = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, sound.replace("vParquet5", "vParquet5-preview3")).unwrap();
    let window = [("q", "{}"), ("start", "1768478400"), ("end", "1768485600")];
    let trace = "/api/traces/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    let says = [BLOCK, "vParquet5-preview3", "rewrite the block"];
    {
        let server = Server::start(home.path());
        refused(&server.ask("/api/search", &window), 500, &says);
        refused(&server.get(trace), 500, &says);
        let error = Sql::connect(&server).try_query("SELECT count(*) FROM spans").expect_err("a preview block").to_string();
        assert!(error.contains(BLOCK), "{error}");
        assert!(!server.get("/metrics").text().contains("tracehouse_block_failures_total{outcome=\"failed\"} 0"));
    }
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_ENGINE__TOLERATE_FAILED_BLOCKS", "1")]);
    server.push_bytes(good_body(1));
    assert_eq!(server.ask("/api/search", &window).status, 200);
    refused(&server.get(trace), 404, &[]);
    assert_eq!(Sql::connect(&server).number("SELECT count(*) FROM spans"), 1);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("tracehouse_block_failures_total{outcome=\"failed\"} 0"), "{metrics}");
    assert!(!metrics.contains("tracehouse_block_failures_total{outcome=\"skipped\"} 0"), "{metrics}");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(log.contains("block skipped") && log.contains(BLOCK), "{log}");
}

// ------------------------------------------------------------------------------------------------------- full disk

#[test]
fn a_full_disk_refuses_spans_and_loses_none() {
    let home = tempfile::tempdir().unwrap();
    let settings = [("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000"), ("TRACEHOUSE_INGEST__FLUSH_WAIT_MS", "1000")];
    let Some(server) = Server::start_on_small_disk(home.path(), 3072, &settings) else {
        eprintln!("skipped: this process may not mount a small disk (unshare -m and mount want root)");
        return;
    };
    let ballast = seen_by(server.pid(), &server.data()).join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let push = |id: u64| {
        let mut span = good_span(id);
        span.attributes = (0..20).map(|i| otlp::text(&format!("filler{i}"), &format!("{id}").repeat(400))).collect();
        http::post(&server.otlp_url(), &[PROTOBUF], otlp::request("full", vec![span]).encode_to_vec())
    };
    let mut acked = Vec::new();
    let refusal = (1..2000).find_map(|id| match push(id) {
        answer if answer.status == 200 => {
            acked.push(id);
            None
        }
        answer => Some(answer),
    });
    let refusal = refusal.expect("3 MiB never fill up");
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert!(!acked.is_empty());
    let mut sql = Sql::connect(&server);
    let there = |sql: &mut Sql| sql.query("SELECT span_id FROM spans ORDER BY span_id").concat();
    let ids = |acked: &[u64]| acked.iter().map(|id| hex(&id.to_be_bytes())).collect::<Vec<_>>();
    assert_eq!(there(&mut sql), ids(&acked), "what is there is not what was acknowledged");
    let flush = http::post(&server.url("/flush"), &[], Vec::new());
    assert!(flush.status == 503 || flush.status / 100 == 2, "flush on a full disk: {} {}", flush.status, flush.text());
    assert_eq!(there(&mut sql), ids(&acked), "a flush that failed lost spans");

    // With room again, it goes on by itself.
    std::fs::remove_file(&ballast).unwrap();
    let again = (3000..3100).find(|id| push(*id).status == 200);
    acked.extend(again.or_else(|| panic!("spans are refused though there is room")));
    assert_eq!(there(&mut sql), ids(&acked));
}

#[test]
fn a_question_to_no_folder_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("nothing-here");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tracehouse"));
    let output = tools::output(command.args(["sql", "--data-dir"]).arg(&missing).arg("SELECT 1"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("nothing-here") && !text.contains("panicked"), "{text}");
    assert!(!missing.exists(), "a question must not make a folder");
}

#[test]
fn a_trace_too_large_for_memory_ends_its_query_only() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_SQL__MEMORY_BYTES_MAX", "40000000")]);
    for thousand in 0..80u64 {
        let span = |id: u64| Span { parent_span_id: 1u64.to_be_bytes().to_vec(), ..otlp::span(&TRACE, id, "one of many", START + id) };
        server.push(&otlp::request("large", (0..1000).map(|i| span(2 + thousand * 1000 + i)).collect()));
    }
    let search = |q: &str| server.ask("/api/search", &[("q", q)]);
    refused(&search("{ } | by(span:id) | count() > 0"), 429, &["memory"]);
    refused(&search("{ name = \"one of many\" } || { span:id != nil }"), 429, &["memory"]);
    // None has a place in the tree, which few bytes of each tell.
    let found = search("{ name = \"one of many\" } ~ { span:id != nil }").ok().json();
    assert_eq!(found["traces"].as_array().map(Vec::len), Some(0), "{found}");
    // Others go on, and what was held is given back.
    for _ in 0..3 {
        let found = search("{ span:id = \"0000000000000002\" }").ok().json();
        assert_eq!(found["traces"][0]["spanSet"]["matched"], 1, "{found}");
    }
}
