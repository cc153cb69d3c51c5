//! The HTTP API beside the recorded answers: parameters that are wrong, parts of traces, forms of answers, pages.
//! Expectations are read off `tests/sql/shop.spans`.

use std::io::{Read, Write};

use serde_json::{Value, json};
use tracehouse_traceql::result::tempopb::{SearchRequest, SearchResponse};

use crate::support::{Answer, Server, block_on, fixture::EPOCH_SECONDS, http, querier::Querier, repo, shop, tools};

fn names(answer: &Value) -> Vec<String> {
    let scopes = answer["trace"]["resourceSpans"].as_array().into_iter().flatten().flat_map(|rs| rs["scopeSpans"].as_array().unwrap());
    let spans = scopes.flat_map(|ss| ss["spans"].as_array().unwrap());
    let mut names: Vec<String> = spans.map(|s| s["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_trace_can_be_filtered() {
    let (_home, server) = shop::live(&[]);
    let check = || {
        // GET /cart ( auth ( check token ) pay )
        for (params, expected) in [
            (&[("q", "{ name = `check token` }")][..], &["check token"][..]),
            (&[("q", "{ name = `check token` }"), ("keep_hierarchy", "true")], &["GET /cart", "auth", "check token"]),
            (&[("q", "{ name = `check token` }"), ("keep_hierarchy", "true"), ("ancestor_depth", "1")], &["auth", "check token"]),
            (&[("q", "{ name = `auth` }"), ("match_depth", "1")], &["auth", "check token"]),
            (&[("q", "{ kind = client && status = error }")], &["pay"]),
            (&[("q", "{ event.level = `warn` }")], &["pay"]),
            (&[("q", "{ name = `nothing` }")], &[]),
        ] {
            let answer = server.ask("/api/v2/traces/a1", params).ok().json();
            assert_eq!(names(&answer), expected, "{params:?}");
            assert_eq!(answer["status"], "PARTIAL", "{params:?}");
            assert!(answer["message"].as_str().unwrap().starts_with("Trace filtered"), "{answer}");
        }
        let whole = server.ask("/api/v2/traces/a1", &[("q", "{ name = `GET /cart` }"), ("match_depth", "-1")]).ok().json();
        assert_eq!((names(&whole).len(), &whole["status"]), (4, &Value::Null));
        assert_eq!(names(&server.ask("/api/v2/traces/dead", &[("q", "{}")]).ok().json()).len(), 0);
    };
    check();
    server.flush();
    check();
}

#[test]
fn a_trace_has_a_form_for_language_models() {
    let (_home, server) = shop::live(&[]);
    let get = |id: &str| http::get(&server.url(&format!("/api/v2/traces/{id}")), &[("accept", "application/vnd.grafana.llm")]).ok();
    let answer = get("b4");
    assert_eq!(answer.content_type, "application/vnd.grafana.llm+json");
    let start = (EPOCH_SECONDS + 10_800) * 1_000_000_000;
    let mut answer = answer.json();
    answer.as_object_mut().unwrap().remove("metrics");
    assert_eq!(
        answer,
        json!({"status": "COMPLETE", "trace": {"traceId": format!("{:0>32}", "b4"), "services": [{
            "serviceName": "late", "resource": {"shared": "from-resource", "region": "eu"},
            "scopes": [{"name": "lib-http", "version": "1.1", "spans": [{
                "spanId": "0000000000000031", "parentSpanId": "00000000000000ff", "name": "orphan", "kind": "SPAN_KIND_SERVER",
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 5_000_000).to_string(), "durationMs": 5.0,
                "attributes": {"http.status_code": 404}, "status": {"code": "STATUS_CODE_ERROR", "message": "boom"}}]}]}]}})
    );
    assert_eq!(get("dead").json(), json!({}));
    // Other answers have no such form.
    let search = http::get(&server.url("/api/search?q=%7B%7D"), &[("accept", "application/vnd.grafana.llm")]).ok();
    assert_eq!(search.content_type, "application/json");
}

#[test]
fn a_trace_that_is_too_large_is_refused_or_cut() {
    let (_home, server) = shop::live(&[("TRACEHOUSE_TRACEQL__MAX_BYTES_PER_TRACE", "500")]);
    let v1 = server.get("/api/traces/a1");
    assert_eq!(v1.status, 422, "{}", v1.text());
    assert!(v1.text().contains("max_bytes_per_trace"), "{}", v1.text());
    let v2 = server.get("/api/v2/traces/a1").ok().json();
    assert!((1..4).contains(&names(&v2).len()), "{v2}");
    assert_eq!(
        (&v2["status"], &v2["message"]),
        (&json!("PARTIAL"), &json!("Trace exceeds maximum size of 500 bytes, a partial trace is returned"))
    );
    server.get("/api/traces/b4").ok();
}

#[test]
fn queriers_paths_answer_as_queriers_do() {
    let (_home, server) = shop::live(&[]);
    let missing = server.get("/querier/api/traces/dead");
    assert_eq!((missing.status, missing.json()["trace"].clone()), (404, json!({})));
    assert_eq!(names(&server.get("/querier/api/traces/a2").ok().json()), ["GET /cart", "pay"]);
    let here = |params: &str| names(&server.get(&format!("/querier/api/v2/traces/a2?{params}")).ok().json()).len();
    assert_eq!((here("mode=ingesters"), here("mode=blocks"), here("mode=all")), (2, 0, 2));
    server.flush();
    let id = server.blocks()[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!((here("mode=ingesters"), here("mode=blocks"), here(&format!("blockStart={id}&blockEnd={id}"))), (0, 2, 2));
    assert_eq!(here("mode=blocks&blockEnd=00000000-0000-0000-0000-000000000001"), 0);
    assert_eq!(server.get("/querier/api/search?q=%7B%7D").ok().json()["traces"].as_array().unwrap().len(), 4);
    let job = server.get("/querier/api/search?q=%7B%7D&blockID=1");
    assert!(job.status == 400 && job.text().contains("blockID"), "{}", job.text());
}

#[test]
fn the_summary_counts_server_spans_by_group() {
    let (_home, server) = shop::live(&[]);
    let (start, end) = (EPOCH_SECONDS.to_string(), (EPOCH_SECONDS + 14_400).to_string());
    let window = [("start", start.as_str()), ("end", end.as_str())];
    let ask = |q: &str, by: &str| server.ask("/api/metrics/summary", &[&[("q", q), ("groupBy", by)], &window[..]].concat());
    let answer = ask("{}", "resource.service.name").ok().json();
    let found: Vec<_> = answer["summaries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let series = s["series"].as_array().unwrap();
            assert_eq!((series.len(), &series[0]["key"], &series[0]["value"]["type"]), (1, &json!("resource.service.name"), &json!(5)));
            (series[0]["value"]["s"].as_str().unwrap(), s["spanCount"].as_str().unwrap(), s["errorSpanCount"].as_str())
        })
        .collect();
    // Server spans: GET /cart twice, check token, orphan.
    assert_eq!(found[0], ("web", "2", None));
    let mut rest = found[1..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, [("auth", "1", None), ("late", "1", Some("1"))]);
    // One span of 8 ms: all quantiles lie in its bucket of powers of two.
    let auth = answer["summaries"].as_array().unwrap().iter().find(|s| s["series"][0]["value"]["s"] == "auth").unwrap();
    for p in ["p50", "p90", "p95", "p99"] {
        let nanos: u64 = auth[p].as_str().unwrap().parse().unwrap();
        assert!((1 << 22..=1 << 23).contains(&nanos), "{p} {nanos}");
    }
    // Absent values, statuses, several fields; any search is taken.
    let answer = ask("{ span.http.status_code = 500 } >> { kind = server }", "status,span.user,span.nothing").ok().json();
    assert_eq!(answer["summaries"][0]["spanCount"], "1");
    assert_eq!(
        answer["summaries"][0]["series"],
        json!([{"key": "status", "value": {"type": 8, "status": 2}}, {"key": "span.user", "value": {"type": 5, "s": "ann"}},
               {"key": "span.nothing", "value": {}}])
    );
    for (q, by, part) in
        [("", "name", "q is missing"), ("{}", "", "groupBy is missing"), ("{}", "nope", "groupBy"), ("{} | rate()", "name", "invalid q")]
    {
        let answer = ask(q, by);
        assert!(answer.status == 400 && answer.text().contains(part), "{q} {by}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn wrong_parameters_are_named() {
    let (_home, server) = shop::live(&[]);
    for (path, part) in [
        ("/api/search?q=%7B%7D&q=%7B%7D", "invalid q: it is given more than once"),
        ("/api/search?q=%7B%7D&limit=1&limit=1", "invalid limit: it is given more than once"),
        ("/api/search?q=%7B%7D&start=1772366400000&end=1772366401000", "not milliseconds"),
        ("/api/search?q=%7B%7D&start=1.5&end=3", "invalid start"),
        ("/api/search?q=%7B%7D&start=99999999999999999999&end=3", "invalid start"),
        ("/api/search?tags=a%3Db&minDuration=5", "invalid minDuration"),
        ("/api/search?q=%7B%7D&spss=1e3", "invalid spss"),
        ("/api/metrics/query_range?q=%7B%7D%7Crate()&start=1&end=2&step=5x", "invalid step"),
        ("/api/metrics/query_range?q=%7B%7D%7Crate()&since=1", "invalid since"),
        ("/api/metrics/query_range?q=%7B%7D%7Crate()&maxSeries=-1", "invalid maxSeries"),
        ("/api/metrics/query?q=%7B%7D%7Crate()&start=x", "invalid start"),
        ("/api/traces/a1?mode=some", "invalid mode"),
        ("/api/traces/a1?blockStart=1", "invalid blockStart"),
        ("/api/v2/traces/a1?start=1772366400000000000&end=3", "not milliseconds or nanoseconds"),
        ("/api/v2/traces/a1?q=%7B%7D%7Crate()", "invalid q"),
        ("/api/v2/traces/a1?q=%7B", "parse error"),
        ("/api/v2/traces/a1?q=%7B%7D&match_depth=-2", "invalid match_depth"),
        ("/api/v2/traces/a1?q=%7B%7D&keep_hierarchy=yes", "invalid keep_hierarchy"),
        ("/status/config?mode=x", "unknown mode"),
    ] {
        let answer = server.get(path);
        assert!(answer.status == 400 && answer.text().contains(part), "{path}: {} {}", answer.status, answer.text());
        assert!(answer.content_type.starts_with("text/plain"), "{path}: {}", answer.content_type);
    }
    // What means nothing is ignored, even twice.
    server.get("/api/search?q=%7B%7D&foo=1&foo=2").ok();
    let deleted = crate::support::block_on(http::send(http::client().delete(server.url("/api/search")))).unwrap();
    assert!(deleted.status == 405 && deleted.text().contains("not a method"), "{}", deleted.text());
    // Longer than this client sends.
    let mut socket = std::net::TcpStream::connect(&server.addresses().http).unwrap();
    let request = format!("GET /api/search?q={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(128 * 1024));
    let _ = socket.write_all(request.as_bytes());
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_prefix_comes_before_the_api() {
    let (_home, server) = shop::live(&[("TRACEHOUSE_SERVER__HTTP_API_PREFIX", "/tempo")]);
    assert_eq!(server.get("/tempo/api/v2/traces/a1").ok().json()["trace"]["resourceSpans"].as_array().unwrap().len(), 2);
    server.get("/tempo/api/v2/search/tag/span.a/b/values").ok();
    server.get("/querier/tempo/api/v2/traces/a1").ok();
    server.get("/ready").ok();
    assert_eq!(server.get("/api/echo").status, 404);
    // Grafana leaves a path of the URL out over gRPC.
    let request = SearchRequest { query: "{ status = error }".to_owned(), ..SearchRequest::default() };
    let messages: Vec<SearchResponse> = block_on(Querier::new(&server).all("Search", request)).unwrap();
    assert_eq!(messages.iter().map(|m| m.traces.len()).sum::<usize>(), 3);
    let paths = server.get("/tempo/api/openapi.json").ok().json();
    assert!(paths["paths"]["/tempo/api/search"].is_object() && paths["paths"]["/ready"].is_object());
}

#[test]
fn a_request_can_end_the_process() {
    let (home, server) = shop::live(&[]);
    assert_eq!(http::post(&server.url("/shutdown"), &[], Vec::new()).ok().text(), "shutdown job acknowledged\n");
    let log = home.path().join("log");
    let ended = || std::fs::read_to_string(&log).unwrap().contains("stopped");
    assert!(
        (0..600).any(|_| ended() || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            false
        }),
        "still running"
    );
    assert!(!server.blocks().is_empty(), "live spans are made into blocks at an orderly end");
}

#[test]
fn the_description_holds_for_requests_made_up_from_it() {
    let (_home, server) = shop::live(&[]);
    server.flush();
    shop::send(&server);
    let (examples, seconds) = (crate::support::number("OPENAPI_EXAMPLES", 15), crate::support::number("OPENAPI_SECONDS", 40));
    let folder = tempfile::tempdir().unwrap();
    let mut python = tools::python_with_packages();
    python.arg(repo().join("tests/clients/openapi.py")).arg(server.url("")).args([examples.to_string(), seconds.to_string()]);
    tools::run(python.current_dir(folder.path()));
}

#[test]
fn values_of_a_tag_have_a_form_for_language_models() {
    let (_home, server) = shop::live(&[]);
    let get = |path: &str| http::get(&server.url(path), &[("accept", "application/vnd.grafana.llm")]).ok();
    let answer = get("/api/v2/search/tag/.mixed/values");
    assert_eq!(answer.content_type, "application/vnd.grafana.llm+json");
    let of = |answer: Value| answer["tagValues"].clone();
    assert_eq!(of(answer.json()), json!({"string": ["3"], "int": ["3"], "float": ["3.0"], "bool": ["true"]}));
    let query = get("/api/v2/search/tag/status/values?q=%7B%20resource.service.name%20%3D%20%60late%60%20%7D");
    assert_eq!(of(query.json()), json!({"keyword": ["error"]}));
    assert_eq!(of(get("/api/v2/search/tag/span.nothing/values").json()), json!({}));
    server.flush();
    let first = get("/api/v2/search/tag/span.peer/values?q=%7B%20status%20%3D%20error%20%7D").json();
    assert!(first["metrics"]["inspectedBytes"].as_u64().is_some_and(|n| n > 0), "a number, as in Tempo: {first}");
    // The old path and names have no such form.
    for path in ["/api/search/tag/service.name/values", "/api/v2/search/tags"] {
        assert_eq!(get(path).content_type, "application/json");
    }
}

fn post_diff(server: &Server, body: &Value) -> Answer {
    http::post(&server.url("/api/v2/traces/diff"), &[], body.to_string().into_bytes())
}

fn two_sides(base: &str, compare: &str, format: &str) -> Value {
    json!({"base": {"traceId": base}, "compare": {"traceId": compare}, "format": format})
}

#[test]
fn two_traces_are_compared() {
    let (_home, server) = shop::live(&[]);
    let post = |body: Value| post_diff(&server, &body);
    let sides = two_sides;
    let check = || {
        // GET /cart ( auth ( check token ) pay ) and GET /cart ( pay ).
        let patch = post(json!({"base": {"traceId": "a1"}, "compare": {"traceID": "00a2"}})).ok();
        assert_eq!(patch.content_type, "application/json");
        let patch = patch.json();
        let id = |hex: &str| format!("{hex:0>32}");
        assert_eq!((&patch["version"], &patch["base"]), (&json!("trace-patch-v0"), &json!({"traceId": id("a1"), "spanCount": 4})));
        let names = |list: &str| -> Vec<String> {
            patch[list].as_array().unwrap().iter().map(|s| s["span"]["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (names("modified"), names("removed")),
            (vec!["GET /cart".into(), "pay".into()], vec!["auth".into(), "check token".into()])
        );
        assert_eq!((&patch["removed"][1]["target"]["path"], &patch["removed"][0]["span"]["status"]), (&json!([0, 0, 0]), &json!("ok")));
        let of_pay: Vec<String> = patch["modified"][1]["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {}",
                    c["op"].as_str().unwrap(),
                    c["target"]["name"].as_str().or(c["target"]["key"].as_str()).unwrap(),
                    c["before"],
                    c["after"]
                )
            })
            .collect();
        assert_eq!(
            of_pay,
            [
                "modify duration_nanos 70000000 20000000",
                "modify status \"error\" \"ok\"",
                "modify amount 12.5 7.0",
                "add count null 3",
                "remove note \"nil\" null"
            ]
        );
        let summary = post(sides("a1", "a2", "trace-summary-v0-native")).ok().json();
        assert_eq!(
            (&summary["stats"]["traceLatencyDeltaMs"], &summary["stats"]["errorSpanDelta"], &summary["changedServices"]),
            (&json!(-60), &json!(-1), &json!(["auth", "web"]))
        );
        let composed = post(sides("a1", "a2", "trace-summary-v0-composed")).ok().json();
        assert_eq!((&composed["summary"], &composed["patch"]), (&summary, &patch));
    };
    check();
    server.flush();
    check();
}

#[test]
fn wrong_requests_to_compare_are_refused() {
    let (_home, server) = shop::live(&[]);
    let post = |body: Value| post_diff(&server, &body);
    let sides = two_sides;
    let far = |start: u64| json!({"base": {"traceId": "a1", "start": start, "end": start + 60}, "compare": {"traceId": "a2"}});
    post(far(EPOCH_SECONDS)).ok();
    for (body, status, part) in [
        (far(EPOCH_SECONDS + 20_000), 404, "base trace 000000000000000000000000000000a1 not found"),
        (sides("a1", "dead", ""), 404, "compare trace"),
        (json!({"compare": {"traceId": "a1"}}), 400, "invalid base: it is missing"),
        (json!({"base": {"traceId": "a1"}, "compare": {}}), 400, "invalid compare: traceId is missing"),
        (sides("a1", "xyz", ""), 400, "invalid compare: trace IDs can only contain hex"),
        (sides("a1", "a2", "patch"), 400, "invalid format"),
        (json!({"base": {"traceId": "a1", "start": 5, "end": 5}, "compare": {"traceId": "a2"}}), 400, "invalid base"),
        (
            json!({"base": {"traceId": "a1", "start": EPOCH_SECONDS * 1000, "end": EPOCH_SECONDS * 1001}, "compare": {"traceId": "a2"}}),
            400,
            "not milliseconds",
        ),
        (json!({"base": {"traceId": "a1", "start": -1}, "compare": {"traceId": "a2"}}), 400, "invalid body"),
        (json!([1]), 400, "invalid body"),
        (json!({"base": "x".repeat(20_000)}), 413, ""),
    ] {
        let answer = post(body.clone());
        assert!(answer.status == status && answer.text().contains(part), "{body}: {} {}", answer.status, answer.text());
        assert!(answer.content_type.starts_with("text/plain"), "{body}");
    }
    assert_eq!(server.get("/api/v2/traces/diff").status, 405);
}
