//! Streamed answers: they grow, what was told stays true, and in the end they are the answers over HTTP.

use opentelemetry_proto::tonic::trace::v1::Span;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::{Code, Request, metadata::MetadataValue};
use tracehouse_traceql::result::tempopb::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesV2Response, SearchTagsRequest, SearchTagsV2Response,
};

use crate::support::{Server, answers, block_on, http, otlp, querier::Querier, repo, tools};

/// 2026-03-01T12:00:00Z.
const START: u64 = 1_772_366_400;
const HOUR: u64 = 3600;
/// A job for each block, so that five blocks are five steps.
const SMALL_JOBS: (&str, &str) = ("TRACEHOUSE_TRACEQL__STREAMING_JOB_BYTES", "1");

/// A server with five blocks, an hour each, and live spans after them. The spans of one trace in four lie in several of these.
fn five_blocks_and_live(home: &std::path::Path) -> Server {
    let server = Server::start_with(home, &[SMALL_JOBS, ("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    let mut random = StdRng::seed_from_u64(7);
    let mut parts: Vec<Vec<Span>> = vec![Vec::new(); 6];
    for trace in 0..120u64 {
        let first = random.random_range(0..6);
        let id = [&[7; 8][..], &trace.to_be_bytes()].concat();
        for n in 0..5 {
            let part = if trace.is_multiple_of(4) { random.random_range(first..6) } else { first };
            let at = (START + part as u64 * HOUR) * 1_000_000_000 + random.random_range(1..HOUR - 60) * 1_000_000_000 + n;
            let mut span = otlp::span(&id, trace * 10 + n + 1, if n == 0 { "root" } else { "child" }, at);
            if n > 0 {
                span.parent_span_id = (trace * 10 + 1).to_be_bytes().to_vec();
            }
            span.end_time_unix_nano = at + (1 + (trace + n) % 9) * 10_000_000;
            span.attributes.push(otlp::text("size", ["s", "m", "l"][random.random_range(0..3)]));
            parts[part].push(span);
        }
    }
    for (i, spans) in parts.into_iter().enumerate() {
        server.push(&otlp::request(["web", "shop"][i % 2], spans));
        if i < 5 {
            server.flush();
            assert_eq!(server.blocks().len(), i + 1);
        }
    }
    server
}

#[test]
fn a_search_tells_what_is_final_and_ends_as_over_http() {
    let home = tempfile::tempdir().unwrap();
    let server = five_blocks_and_live(home.path());
    let client = Querier::new(&server);
    let (start, end) = (START as u32, (START + 7 * HOUR) as u32);
    let queries = [
        ("{ }", 200),
        ("{ }", 7),
        ("{ span.size = `m` && duration > 30ms }", 200),
        ("{ span.size = `m` } | select(resource.service.name)", 9),
        ("{ name = `nothing` }", 20),
        // What looks at whole traces is told in the end.
        ("{ name = `root` } >> { span.size = `l` }", 200),
        ("{ } | count() > 4", 200),
        // What is true of the whole trace only, of traces in several blocks too.
        ("{ trace:duration > 90m && rootName = `root` }", 9),
        ("{ trace:duration > 90m && nestedSetParent > 0 }", 200),
    ];
    // The second range lies between the parts of some traces, and begins and ends within a block.
    let ranges = [(start, end), (start + 4500, start + 9000)];
    let mut early = 0;
    for ((query, limit), (start, end)) in queries.into_iter().flat_map(|q| ranges.map(|range| (q, range))) {
        let params =
            [("q", query), ("limit", &limit.to_string()), ("spss", "10"), ("start", &start.to_string()), ("end", &end.to_string())];
        let mut expected = answers::traces(&server.ask("/api/search", &params).ok().json());
        let request = SearchRequest { query: query.to_owned(), limit, spans_per_span_set: 10, start, end, ..SearchRequest::default() };
        let messages: Vec<SearchResponse> = block_on(client.all("Search", request)).unwrap();
        let mut found = answers::traces(&answers::search(&messages));
        early += messages.iter().rev().skip(1).map(|m| m.traces.len()).sum::<usize>();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{query} from {start}");
    }
    assert!(early > 20, "only {early} traces were told before the end");
}

#[test]
fn a_search_for_the_newest_reads_no_older_blocks() {
    let home = tempfile::tempdir().unwrap();
    let server = five_blocks_and_live(home.path());
    let client = Querier::new(&server);
    let cost = |limit| {
        let request =
            SearchRequest { query: "{ }".to_owned(), limit, start: START as u32, end: (START + 7 * HOUR) as u32, ..Default::default() };
        let messages: Vec<SearchResponse> = block_on(client.all("Search", request)).unwrap();
        messages.last().unwrap().metrics.unwrap().inspected_spans
    };
    let (all, few) = (cost(1000), cost(3));
    assert!(all == 600 && few < all, "{few} of {all} spans were looked at");
}

#[test]
fn series_are_totals_and_end_as_over_http() {
    let home = tempfile::tempdir().unwrap();
    let server = five_blocks_and_live(home.path());
    let client = Querier::new(&server);
    let (start, end) = (START.to_string(), (START + 7 * HOUR).to_string());
    let mut early = 0;
    for query in [
        "{ } | rate()",
        "{ span.size != `s` } | count_over_time() by (span.size)",
        "{ } | quantile_over_time(duration, .5, .9) by (name)",
        "{ trace:duration > 90m } | rate() by (rootName)",
        "{ } | max_over_time(trace:duration)",
        "{ } | avg_over_time(duration) by (resource.service.name)",
        "{ } | rate() by (span.size) > 0.001",
        "{ } | rate() by (span.size) | topk(2)",
        "({ } | rate()) / ({ span.size = `s` } | rate())",
        "{ name = `root` } >> { span.size = `l` } | rate()",
        "{ } | compare({ span.size = `s` })",
    ] {
        let over_http = server.ask("/api/metrics/query_range", &[("q", query), ("start", &start), ("end", &end), ("step", "10m")]);
        let expected = answers::samples(&over_http.ok().json());
        let nanos = 1_000_000_000;
        let request = QueryRangeRequest {
            query: query.to_owned(),
            start: START * nanos,
            end: (START + 7 * HOUR) * nanos,
            step: 600 * nanos,
            ..QueryRangeRequest::default()
        };
        let messages: Vec<QueryRangeResponse> = block_on(client.all("MetricsQueryRange", request)).unwrap();
        let before_the_last = messages.iter().rev().skip(1).flat_map(|m| &m.series);
        early += before_the_last.map(|s| s.samples.len()).sum::<usize>();
        answers::same_samples(&answers::samples(&answers::range(&messages)), &expected, query);
    }
    assert!(early > 50, "only {early} samples were told before the end");
    let request = QueryInstantRequest {
        query: "{ } | count_over_time()".to_owned(),
        start: START * 1_000_000_000,
        end: (START + 7 * HOUR) * 1_000_000_000,
    };
    let messages: Vec<QueryInstantResponse> = block_on(client.all("MetricsQueryInstant", request)).unwrap();
    assert_eq!(messages.last().unwrap().series[0].value, 600.0);
}

#[test]
fn messages_are_small() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_TRACEQL__STREAMING_MESSAGE_BYTES_MAX", "2000")]);
    for trace in 0..100u8 {
        let mut span = otlp::span(&[trace + 1; 16], 1, "x", START * 1_000_000_000);
        span.attributes.push(otlp::text(&format!("key-{trace}"), "v"));
        server.push(&otlp::request("web", vec![span]));
    }
    let client = Querier::new(&server);
    let request = SearchRequest { query: "{ }".to_owned(), limit: 100, ..SearchRequest::default() };
    let messages: Vec<SearchResponse> = block_on(client.all("Search", request)).unwrap();
    assert_eq!(messages.iter().map(|m| m.traces.len()).sum::<usize>(), 100);
    assert!(messages.len() > 5 && messages.iter().all(|m| prost::Message::encoded_len(m) < 2500), "{}", messages.len());
    let messages: Vec<SearchTagsV2Response> = block_on(client.all("SearchTagsV2", SearchTagsRequest::default())).unwrap();
    let names = messages.iter().flat_map(|m| &m.scopes).filter(|s| s.name == "span").map(|s| s.tags.len()).sum::<usize>();
    assert!(names == 100 && messages.iter().all(|m| prost::Message::encoded_len(m) < 2500), "{names}");
}

#[test]
fn tenants_and_hostile_metadata() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_SERVER__MULTITENANCY_ENABLED", "true")]);
    let spans = otlp::request("web", vec![otlp::span(&[9; 16], 1, "x", START * 1_000_000_000)]);
    let body = prost::Message::encode_to_vec(&spans);
    http::post(&server.otlp_url(), &[("content-type", "application/x-protobuf"), ("x-scope-orgid", "one")], body).ok();
    let client = Querier::new(&server);
    let ask = |tenant: Option<MetadataValue<tonic::metadata::Ascii>>, method: &str| {
        let mut request = Request::new(SearchRequest { query: "{ }".to_owned(), ..SearchRequest::default() });
        request.metadata_mut().insert("authorization", "Basic c29tZW9uZTphbnl0aGluZw==".parse().unwrap());
        if let Some(tenant) = tenant {
            request.metadata_mut().insert("x-scope-orgid", tenant);
        }
        let answer = block_on(client.all_of::<_, SearchResponse>(method, request));
        answer.map(|messages| messages.iter().map(|m| m.traces.len()).sum::<usize>()).map_err(|e| e.code())
    };
    assert_eq!(ask(Some("one".parse().unwrap()), "Search"), Ok(1));
    assert_eq!(ask(Some("two".parse().unwrap()), "Search"), Ok(0));
    assert_eq!(ask(None, "Search"), Err(Code::Unauthenticated));
    assert_eq!(ask(None, "SearchTagsV2"), Err(Code::Unauthenticated));
    for tenant in ["../one", "..", "a/b", "", &"x".repeat(151), "a b"] {
        assert_eq!(ask(Some(tenant.parse().unwrap()), "Search"), Err(Code::InvalidArgument), "{tenant}");
    }
    let bytes = MetadataValue::try_from(&b"caf\xc3\xa9\xff"[..]).unwrap();
    assert_eq!(ask(Some(bytes), "Search"), Err(Code::InvalidArgument));
    assert_eq!(ask(Some("one".parse().unwrap()), "Nothing"), Err(Code::Unimplemented));
    assert!(ask(Some("x".repeat(1 << 20).parse().unwrap()), "Search").is_err());
    // Frames that promise too much, too little, or are no message at all.
    let frames: [&[u8]; 5] = [b"", b"\0", b"\0\xff\xff\xff\xff", b"\0\0\0\0\x02\x0a\x7f", b"\x07\0\0\0\x01x"];
    for frame in frames {
        let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        let request = http2.post(server.url("/tempopb.StreamingQuerier/Search")).header("content-type", "application/grpc");
        let answer = block_on(request.header("te", "trailers").header("x-scope-orgid", "one").body(frame.to_vec()).send()).unwrap();
        assert_eq!(answer.status(), 200);
        let status = answer.headers().get("grpc-status").map(|v| v.to_str().unwrap().to_owned());
        assert!(status.is_some_and(|s| s != "0"), "{frame:?}");
    }
    let plain = http::get(&server.url("/tempopb.StreamingQuerier/Search"), &[("x-scope-orgid", "one")]);
    assert_ne!(plain.status / 100, 5, "{}", plain.text());
    assert_eq!(ask(Some("one".parse().unwrap()), "Search"), Ok(1));
}

#[test]
fn wrong_requests_have_the_text_of_http() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let client = Querier::new(&server);
    for query in ["{", "{ .a = }", "{ } | rate()", "{ parent.a = 1 }", &format!("{{ .a = `{}` }}", "x".repeat(130 << 10))] {
        let request = SearchRequest { query: query.to_owned(), ..SearchRequest::default() };
        let error = block_on(client.all::<_, SearchResponse>("Search", request)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        // A longer path than 64 KiB is refused before anybody reads it.
        if query.len() < 1000 {
            let over_http = server.ask("/api/search", &[("q", query)]);
            assert_eq!((over_http.status, over_http.text().trim_end()), (400, error.message().trim_end()));
        }
    }
    let request = SearchRequest { limit: u32::MAX, ..SearchRequest::default() };
    assert_eq!(block_on(client.all::<_, SearchResponse>("Search", request)).unwrap_err().code(), Code::InvalidArgument);
    let request = QueryRangeRequest { query: "{ } | rate()".to_owned(), start: u64::MAX, end: 1, step: u64::MAX, ..Default::default() };
    assert_eq!(block_on(client.all::<_, QueryRangeResponse>("MetricsQueryRange", request)).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn protobuf_over_http_is_the_same_message() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    server.push(&otlp::request("web", vec![otlp::span(&[9; 16], 1, "x", START * 1_000_000_000)]));
    let get = |path: &str| {
        let answer = http::get(&server.url(path), &[("accept", "application/protobuf")]).ok();
        assert_eq!(answer.content_type, "application/protobuf", "{path}");
        answer.body
    };
    let found: SearchResponse = prost::Message::decode(get("/api/search?q=%7B%7D").as_slice()).unwrap();
    assert_eq!((found.traces.len(), found.traces[0].root_service_name.as_str()), (1, "web"));
    let names: SearchTagsV2Response = prost::Message::decode(get("/api/v2/search/tags?scope=resource").as_slice()).unwrap();
    assert_eq!(names.scopes[0].tags, ["service.name"]);
    let values = get("/api/v2/search/tag/resource.service.name/values");
    let values: SearchTagValuesV2Response = prost::Message::decode(values.as_slice()).unwrap();
    assert_eq!((values.tag_values[0].kind.as_str(), values.tag_values[0].value.as_str()), ("string", "web"));
}

#[test]
fn python_grpc_and_http_agree_on_the_corpus() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[SMALL_JOBS]);
    let golden = repo().join("tests/golden");
    for set in ["edge", "wrap"] {
        let otlp = format!("http://{}", server.addresses().otlp_http);
        tools::run(tools::python().arg(golden.join("load.py")).args(["--otlp-url", &otlp, "--only", set, "--corpus"]).arg(&golden));
        server.flush();
    }
    let ask = |server: &Server, more: &[&str]| {
        let script = repo().join("tests/clients/querier.py");
        tools::run(tools::python_with_packages().arg(script).arg(&server.addresses().http).arg(&golden).args(more))
    };
    let said = ask(&server, &["--every", "5"]);
    assert!(said.contains(" 0 differences") && !said.contains(" 0 errors") && said.contains("7 methods"), "{said}");
    server.kill();
    // The same with TLS, where the client chooses the protocol by ALPN.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_SERVER__TLS_CERT_FILE", &cert), ("TRACEHOUSE_SERVER__TLS_KEY_FILE", &key)]);
    ask(&server, &["--every", "13", "--ca", &cert]);
}
