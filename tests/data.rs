//! Real traces go in and come back span for span: from live memory, from blocks, after a crash.
//!
//! They lie beside the repository in `../shared/data` (or `TRACEHOUSE_SHARED`); without them the recordings of
//! `tests/golden` are all there is. `ALL_DATA=1` sends every file instead of two of each folder.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::ResourceSpans};
use prost::Message;

use crate::support::{
    Server, block_on, hex, http,
    otlp::{self, Spans},
    repo,
    server::decode_trace,
    shared, variable,
};

/// Attributes come back whole only where none is cut.
const SETTINGS: &[(&str, &str)] = &[("TRACEHOUSE_INGEST__MAX_ATTRIBUTE_BYTES", "0")];

/// Requests under way at a time.
const CONCURRENCY: usize = 4;

/// Files of a folder whose names end so, in order.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.to_str().is_some_and(|n| n.ends_with(end))).collect();
    found.sort();
    assert!(!found.is_empty(), "no {end} files in {}", folder.display());
    found
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn decode(path: &Path, bytes: &[u8]) -> Vec<ResourceSpans> {
    ExportTraceServiceRequest::decode(bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display())).resource_spans
}

/// What must come back of all that was sent.
fn expected(sent: Vec<ResourceSpans>) -> BTreeMap<Vec<u8>, Spans> {
    otlp::by_trace(&sent)
}

/// Each trace is what it must be.
#[track_caller]
fn check(server: &Server, expected: &BTreeMap<Vec<u8>, Spans>, when: &str) {
    let ask = |(id, spans): (&Vec<u8>, &Spans)| {
        let url = server.url(&format!("/api/v2/traces/{}", hex(id)));
        let (id, spans) = (hex(id), spans.clone());
        async move {
            let answer = http::send(http::client().get(url).header("accept", "application/protobuf")).await.unwrap();
            (id, spans, answer)
        }
    };
    let answers = futures::stream::iter(expected.iter().map(ask)).buffer_unordered(CONCURRENCY);
    let answers: Vec<_> = block_on(answers.collect());
    for (id, spans, answer) in answers {
        let trace = decode_trace(&answer).unwrap_or_else(|| panic!("{when}: trace {id} is not there"));
        let got = otlp::spans_of(&trace);
        if let Some(difference) = otlp::difference(&spans, &got) {
            panic!("{when}: trace {id} differs: {difference}");
        }
    }
}

/// Sends bodies of one content type, and looks at what is there live, in blocks and after a crash.
fn round_trip(bodies: Vec<Vec<u8>>, content_type: &str, expected: &BTreeMap<Vec<u8>, Spans>) {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), SETTINGS);
    let half = bodies.len() / 2;
    let send = |bodies: &[Vec<u8>]| {
        for body in bodies {
            let answer = http::post(&server.otlp_url(), &[("content-type", content_type)], body.clone()).ok();
            assert!(matches!(answer.text().as_str(), "" | "{}" | "{\"partialSuccess\":{}}"), "{}", answer.text());
        }
    };
    send(&bodies[..half]);
    send(&bodies[half..]);
    check(&server, expected, "live");
    let server = server.crash_and_restart();
    check(&server, expected, "after a crash");
    server.flush();
    check(&server, expected, "in blocks");
    let server = server.crash_and_restart();
    check(&server, expected, "in blocks, after a crash");
}

/// A folder of `../shared/data`; every file of it, or two.
fn recorded(folder: &str) {
    let Some(folder) = shared("data").map(|d| d.join(folder)) else {
        eprintln!("skipped: no ../shared/data here (TRACEHOUSE_SHARED names another place)");
        return;
    };
    let mut files = files(&folder, ".otlp.pb.gz");
    if variable("ALL_DATA").is_none() {
        files.truncate(2);
    }
    let bodies: Vec<Vec<u8>> = files.iter().map(|f| unzipped(f)).collect();
    let sent = files.iter().zip(&bodies).flat_map(|(f, b)| decode(f, b)).collect();
    round_trip(bodies, "application/x-protobuf", &expected(sent));
}

#[test]
fn online_boutique_comes_back() {
    recorded("nezha/onlineboutique-2022-08-22");
}

#[test]
fn train_ticket_comes_back() {
    recorded("nezha/trainticket-2023-01-29");
}

#[test]
fn hotel_reservation_comes_back() {
    recorded("traceweaver/hotel_load150");
}

#[test]
fn media_service_comes_back() {
    recorded("traceweaver/media_load25");
}

#[test]
fn node_application_comes_back() {
    recorded("traceweaver/node_0.4");
}

#[test]
fn handcrafted_traces_come_back() {
    let mut files = files(&repo().join("tests/golden/data/edge"), ".otlp.pb");
    files.extend(self::files(&repo().join("tests/golden/data/wrap"), ".otlp.pb"));
    let bodies: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
    let sent = files.iter().zip(&bodies).flat_map(|(f, b)| decode(f, b)).collect();
    round_trip(bodies, "application/x-protobuf", &expected(sent));
}

#[test]
fn small_files_of_many_sources_come_back() {
    let Some(small) = shared("data/small") else {
        eprintln!("skipped: no ../shared/data here (TRACEHOUSE_SHARED names another place)");
        return;
    };
    let pb = files(&small.join("otlp-pb"), ".pb");
    let bodies: Vec<Vec<u8>> = pb.iter().map(|f| fs::read(f).unwrap()).collect();
    let sent = pb.iter().zip(&bodies).flat_map(|(f, b)| decode(f, b)).collect();
    round_trip(bodies, "application/x-protobuf", &expected(sent));
}

#[test]
fn small_json_files_come_back() {
    let Some(small) = shared("data/small") else {
        eprintln!("skipped: no ../shared/data here (TRACEHOUSE_SHARED names another place)");
        return;
    };
    // Each file by itself: some use the same ids for other spans.
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), SETTINGS);
    let mut sent = 0;
    let mut seen = std::collections::BTreeSet::new();
    let mut all = BTreeMap::new();
    for path in files(&small.join("otlp-json"), ".json") {
        let body = fs::read(&path).unwrap();
        let Ok(request) = serde_json::from_slice::<ExportTraceServiceRequest>(&body) else {
            // Not every file is one that an exporter would send; the server must say so, or read more than we do here.
            let answer = http::post(&server.otlp_url(), &[("content-type", "application/json")], body);
            assert!(matches!(answer.status, 200 | 400), "{}: {} {}", path.display(), answer.status, answer.text());
            continue;
        };
        let valid = |s: &opentelemetry_proto::tonic::trace::v1::Span| s.trace_id.len() == 16 && s.span_id.len() == 8;
        let mut spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        let fresh = spans.clone().all(|s| !seen.contains(&s.trace_id)) && spans.all(valid);
        let traces = expected(request.resource_spans);
        seen.extend(traces.keys().cloned());
        if !fresh {
            continue;
        }
        http::post(&server.otlp_url(), &[("content-type", "application/json")], body).ok();
        sent += 1;
        all.extend(traces);
    }
    assert!(sent > 5, "only {sent} files were sent");
    check(&server, &all, "live");
    server.flush();
    check(&server, &all, "in blocks");
    check(&server.crash_and_restart(), &all, "after a crash");
}

#[test]
fn json_that_is_not_otlp_is_refused() {
    let Some(small) = shared("data/small") else {
        eprintln!("skipped: no ../shared/data here (TRACEHOUSE_SHARED names another place)");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    for path in files(&small.join("otlp-json-invalid"), ".json") {
        let answer = http::post(&server.otlp_url(), &[("content-type", "application/json")], fs::read(&path).unwrap());
        assert_eq!(answer.status, 400, "{}: {}", path.display(), answer.text());
    }
}
