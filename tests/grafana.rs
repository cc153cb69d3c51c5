//! What Grafana's Tempo data source and Traces Drilldown rely on, one test for each trap: a field too many, a message too few
//! or a label of another name breaks them, and nothing here would notice otherwise.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, TracesData},
};
use prost::Message;
use serde_json::Value;

use crate::support::{Answer, Server, fixture::EPOCH_SECONDS, http, otlp, shop};

const START: u64 = EPOCH_SECONDS;
const END: u64 = EPOCH_SECONDS + 4 * 3600;
const PROTOBUF: (&str, &str) = ("accept", "application/protobuf");

fn ask(server: &Server, path: &str, query: &str, more: &[(&str, &str)]) -> Answer {
    let (start, end) = (START.to_string(), END.to_string());
    server.ask(path, &[&[("q", query), ("start", &start), ("end", &end)], more].concat())
}

fn range(server: &Server, query: &str) -> Value {
    ask(server, "/api/metrics/query_range", query, &[("step", "3600s"), ("exemplars", "100")]).ok().json()
}

fn labels(series: &Value) -> Vec<(String, Value)> {
    let labels = series["labels"].as_array().unwrap().iter();
    labels.map(|l| (l["key"].as_str().unwrap().to_owned(), l["value"].clone())).collect()
}

// ------------------------------------------------------------------------------------------------- protobuf, no nil

/// `tempopb.TraceByIDResponse`.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<Empty>,
}

/// A message whose fields do not matter here.
#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// Each message that Grafana follows without looking is there.
#[track_caller]
fn no_nil(trace: &TracesData) {
    for rs in &trace.resource_spans {
        let resource = rs.resource.as_ref().expect("a resource");
        assert!(!resource.attributes.is_empty(), "Grafana drops spans of a resource without attributes");
        for ss in &rs.scope_spans {
            assert!(ss.scope.is_some(), "a scope");
            assert!(ss.spans.iter().all(|s| s.status.is_some()), "a status");
        }
    }
}

#[test]
fn protobuf_traces_have_every_message() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    let id = [7; 16];
    // As little as OTLP allows: no resource, no scope, no status.
    let bare = ScopeSpans { spans: vec![otlp::span(&id, 1, "bare", START * 1_000_000_000)], ..Default::default() };
    let bare = ScopeSpans {
        spans: bare.spans.into_iter().map(|s| opentelemetry_proto::tonic::trace::v1::Span { status: None, ..s }).collect(),
        ..bare
    };
    server.push(&ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans: vec![bare], ..Default::default() }] });
    let check = || {
        let hex = "07".repeat(16);
        let v2 = http::get(&server.url(&format!("/api/v2/traces/{hex}")), &[PROTOBUF]).ok();
        assert_eq!(v2.content_type, "application/protobuf");
        let v2 = TraceByIdResponse::decode(v2.body.as_slice()).unwrap();
        let trace = v2.trace.expect("a trace");
        assert!(trace.resource_spans.len() == 1 && v2.metrics.is_some());
        no_nil(&trace);
        let v1 = http::get(&server.url(&format!("/api/traces/{hex}")), &[PROTOBUF]).ok();
        no_nil(&TracesData::decode(v1.body.as_slice()).unwrap());
        // Not found: an empty trace, not none, with 200; 404 in the old form.
        let none = http::get(&server.url("/api/v2/traces/dead"), &[PROTOBUF]).ok();
        assert_eq!(TraceByIdResponse::decode(none.body.as_slice()).unwrap().trace, Some(TracesData::default()));
        assert_eq!(http::get(&server.url("/api/traces/dead"), &[PROTOBUF]).status, 404);
    };
    check();
    server.flush();
    check();
}

#[test]
fn short_trace_ids_are_padded() {
    shop::both_ways(&|server| {
        for id in ["a1", "0a1", "00000000000000a1", "000000000000000000000000000000A1"] {
            let trace = server.get(&format!("/api/v2/traces/{id}")).ok().json();
            assert_eq!(trace["trace"]["resourceSpans"].as_array().map(Vec::len), Some(2), "{id}: {trace}");
        }
    });
}

// ----------------------------------------------------------------------------------------------------- strict JSON

/// The fields that Grafana's decoder knows, by path; `*` stands for any key of a map. A scalar ends in what it must be: `str`
/// (also of 64-bit integers), `num`.
const SEARCH: &[&str] = &[
    "traces.traceID:str",
    "traces.rootServiceName:str",
    "traces.rootTraceName:str",
    "traces.startTimeUnixNano:str",
    "traces.durationMs:num",
    "traces.serviceStats.*.spanCount:num",
    "traces.serviceStats.*.errorCount:num",
    "traces.SPANSET.matched:num",
    "traces.SPANSET.attributes.KEYVALUE",
    "traces.SPANSET.spans.spanID:str",
    "traces.SPANSET.spans.name:str",
    "traces.SPANSET.spans.startTimeUnixNano:str",
    "traces.SPANSET.spans.durationNanos:str",
    "traces.SPANSET.spans.attributes.KEYVALUE",
    "metrics.inspectedTraces:num",
    "metrics.inspectedBytes:str",
    "metrics.totalBlocks:num",
    "metrics.completedJobs:num",
    "metrics.totalJobs:num",
    "metrics.totalBlockBytes:str",
    "metrics.inspectedSpans:str",
];

const INSTANT: &[&str] = &["series.labels.KEYVALUE", "series.value:num", "METRICS", "status:str", "message:str"];

const VALUE: &[&str] = &[
    "key:str",
    "value.stringValue:str",
    "value.intValue:str",
    "value.doubleValue:num",
    "value.boolValue:bool",
    "value.arrayValue.values.stringValue:str",
    "value.arrayValue.values.intValue:str",
    "value.arrayValue.values.doubleValue:num",
    "value.arrayValue.values.boolValue:bool",
];

fn allowed(fields: &[&str]) -> Vec<String> {
    let metrics = || SEARCH.iter().filter(|f| f.starts_with("metrics.")).map(|f| (*f).to_owned());
    let mut all = Vec::new();
    for field in fields {
        if *field == "METRICS" {
            all.extend(metrics());
        } else if let Some(before) = field.strip_suffix("KEYVALUE") {
            all.extend(VALUE.iter().map(|v| format!("{before}{v}")));
        } else {
            all.push((*field).to_owned());
        }
    }
    all.iter().flat_map(|f| ["spanSet", "spanSets"].map(|s| f.replace("SPANSET", s))).collect()
}

/// Every field of an answer is known, and of the type it has there.
#[track_caller]
fn strict(answer: &Value, fields: &[&str]) {
    fn visit(value: &Value, path: &str, known: &[String]) {
        let kind = match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let in_map = path.ends_with("serviceStats").then(|| format!("{path}.*"));
                    visit(inner, in_map.as_deref().unwrap_or(&below), known);
                }
                return assert!(known.iter().any(|k| path.is_empty() || k.starts_with(&format!("{path}."))), "unknown field {path}");
            }
            Value::Array(items) => return items.iter().for_each(|item| visit(item, path, known)),
            Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => "num",
            Value::String(_) => "str",
            Value::Number(_) => "num",
            Value::Bool(_) => "bool",
            Value::Null => panic!("{path} is null"),
        };
        assert!(known.iter().any(|k| *k == format!("{path}:{kind}")), "{path} is {kind} here: {value}");
    }
    visit(answer, "", &allowed(fields));
}

#[test]
fn the_strict_check_sees_what_it_should() {
    let refused = |text: &str, fields: &'static [&'static str]| {
        let value: Value = serde_json::from_str(text).unwrap();
        std::panic::catch_unwind(move || strict(&value, fields)).is_err()
    };
    assert!(!refused(
        r#"{"traces":[{"traceID":"a","spanSets":[{"spans":[{"spanID":"b"}],"matched":1}],"serviceStats":{"x":{"spanCount":1}}}]}"#,
        SEARCH
    ));
    assert!(refused(r#"{"metrics":{"backendReads":"1"}}"#, SEARCH), "newer than Grafana");
    assert!(refused(r#"{"metrics":{"inspectedBytes":1}}"#, SEARCH), "a 64-bit number");
    assert!(refused(r#"{"status":"PARTIAL"}"#, SEARCH) && !refused(r#"{"status":"PARTIAL"}"#, INSTANT));
}

#[test]
fn search_answers_have_no_unknown_field() {
    shop::both_ways(&|server| {
        for query in [
            "{}",
            "{ nestedSetParent < 0 } | select(span.http.status_code, span.tags, span.ratio, span.paid, status, duration, event.retries)",
            "{} | by(resource.service.name) | count() > 0",
            "{ kind = server } &>> { status = error }",
            "{} | avg(duration) > 1ms",
        ] {
            let answer = ask(server, "/api/search", query, &[("limit", "200"), ("spss", "20")]).ok();
            assert_eq!(answer.content_type, "application/json");
            let answer = answer.json();
            strict(&answer, SEARCH);
            let traces = answer["traces"].as_array().unwrap();
            assert!(!traces.is_empty(), "{query}");
            // The table of spans reads only the plural.
            assert!(traces.iter().all(|t| t["spanSets"][0]["spans"][0]["spanID"].is_string()), "{query}: {answer}");
            assert!(answer["metrics"].is_object(), "Grafana follows metrics without looking");
        }
        let none = ask(server, "/api/search", "{ name = `nothing` }", &[]).ok().json();
        assert_eq!(none["traces"], serde_json::json!([]));
        strict(&none, SEARCH);
    });
}

#[test]
fn instant_answers_have_no_unknown_field() {
    shop::both_ways(&|server| {
        for query in ["{} | rate()", "{} | quantile_over_time(duration, 0.5, 0.9) by (name)", "{} | compare({ status = error })"] {
            let answer = ask(server, "/api/metrics/query", query, &[("maxSeries", "2")]).ok().json();
            assert!(!answer["series"].as_array().unwrap().is_empty(), "{query}: {answer}");
            strict(&answer, INSTANT);
        }
        let cut = ask(server, "/api/metrics/query", "{} | rate() by (name)", &[("maxSeries", "2")]).ok().json();
        assert_eq!((cut["status"].as_str(), cut["series"].as_array().unwrap().len()), (Some("PARTIAL"), 2), "{cut}");
        strict(&cut, INSTANT);
    });
}

// ---------------------------------------------------------------------------------------------------------- labels

#[test]
fn series_have_the_labels_that_grafana_looks_for() {
    shop::both_ways(&|server| {
        let rate = range(server, "{} | rate()");
        // One series, named by its one label.
        assert_eq!(labels(&rate["series"][0]), [("__name__".to_owned(), serde_json::json!({"stringValue": "rate"}))]);
        let by = range(server, "{ resource.service.name != nil } | rate() by(resource.service.name)");
        let names: Vec<_> = by["series"].as_array().unwrap().iter().flat_map(labels).collect();
        let of = |name: &str| ("resource.service.name".to_owned(), serde_json::json!({"stringValue": name}));
        assert_eq!(names, [of(""), of("auth"), of("late"), of("web")]);
        let histogram = range(server, "{} | histogram_over_time(duration)");
        for series in histogram["series"].as_array().unwrap() {
            assert_eq!(labels(series)[0].0, "__bucket");
        }
        let quantiles = range(server, "{} | quantile_over_time(duration, 0.5,0.9,0.99)");
        let p: Vec<_> = quantiles["series"].as_array().unwrap().iter().flat_map(labels).collect();
        let of = |p: f64| ("p".to_owned(), serde_json::json!({ "doubleValue": p }));
        assert_eq!(p, [of(0.5), of(0.9), of(0.99)]);
        let compare = range(server, "{} | compare({ status = error })");
        let series = compare["series"].as_array().unwrap();
        for series in series {
            let all = labels(series);
            let kind = all.iter().find(|(key, _)| key == "__meta_type").unwrap_or_else(|| panic!("no __meta_type: {all:?}"));
            let kinds = ["baseline", "selection", "baseline_total", "selection_total"];
            assert!(kinds.contains(&kind.1["stringValue"].as_str().unwrap()), "{all:?}");
            assert_eq!(all.len(), 2, "{all:?}");
        }
        assert!(!series.is_empty());
    });
}

#[test]
fn exemplars_lead_to_their_trace() {
    shop::both_ways(&|server| {
        let answer = range(server, "{} | quantile_over_time(duration, 0.9)");
        let series = answer["series"].as_array().unwrap().iter();
        let exemplars: Vec<&Value> = series.flat_map(|s| s["exemplars"].as_array().into_iter().flatten()).collect();
        assert!(!exemplars.is_empty(), "{answer}");
        for exemplar in exemplars {
            let trace = labels(exemplar).into_iter().find(|(key, _)| key == "trace:id").expect("trace:id").1;
            let id = trace["stringValue"].as_str().unwrap();
            assert!(["a1", "a2", "a3", "b4"].iter().any(|t| id.ends_with(t)), "{id}");
            // Grafana drops those without value or time.
            assert!(exemplar["value"].as_f64().unwrap() > 0.0 && exemplar["timestampMs"].is_string(), "{exemplar}");
        }
    });
}

#[test]
fn the_structure_of_traces_has_its_numbers() {
    shop::both_ways(&|server| {
        let query = "({nestedSetParent<0 && true && kind = server} &>> { kind = server }) || ({nestedSetParent<0 && true && kind = server}) \
                     | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)";
        let answer = ask(server, "/api/search", query, &[("limit", "200"), ("spss", "20")]).ok().json();
        let trace = answer["traces"].as_array().unwrap().iter().find(|t| t["traceID"] == "a1").unwrap();
        let spans = trace["spanSets"][0]["spans"].as_array().unwrap();
        let number = |span: &Value, key: &str| {
            let found = span["attributes"].as_array().unwrap().iter().find(|a| a["key"] == key);
            found.unwrap_or_else(|| panic!("no {key}: {span}"))["value"]["intValue"].as_str().unwrap().parse::<i64>().unwrap()
        };
        // The tree of a1: 01 ( 02 ( 03 ) 04 ).
        let of = |id: &str| {
            let span = spans.iter().find(|s| s["spanID"] == id).unwrap_or_else(|| panic!("no {id}: {trace}"));
            ["nestedSetParent", "nestedSetLeft", "nestedSetRight"].map(|key| number(span, key))
        };
        let (root, server_below) = (of("0000000000000001"), of("0000000000000003"));
        assert_eq!((root, spans.len()), ([-1, 1, 8], 2));
        assert!(server_below[1] > 1 && server_below[2] == server_below[1] + 1 && server_below[0] > 1, "{server_below:?}");
    });
}

// ------------------------------------------------------------------------------------------------- texts and shapes

#[test]
fn errors_are_plain_texts_that_grafana_recognises() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let week = "1772366400";
    let far = "1783366400";
    let cases = [
        (server.ask("/api/search", &[("q", "{ span.foo = }")]), "parse error at line 1"),
        (server.ask("/api/search", &[("q", "{}"), ("start", week), ("end", far)]), "range specified by start and end exceeds 168h0m0s"),
        (
            server.ask("/api/metrics/query_range", &[("q", "{} | rate()"), ("start", week), ("end", far)]),
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ),
        (server.get("/api/v2/traces/xyz"), "trace IDs can only contain hex characters"),
        (server.ask("/api/metrics/query", &[("q", "{}"), ("start", week), ("end", "1772366500")]), "not a metrics query"),
    ];
    for (answer, part) in cases {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.content_type.starts_with("text/plain"), "{}", answer.content_type);
        let text = answer.text();
        assert!(text.contains(part) && !text.starts_with(['{', '<']), "{text}");
    }
}

#[test]
fn health_checks_and_version() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    assert_eq!(server.get("/api/echo").ok().text().trim(), "echo");
    let info = server.get("/api/status/buildinfo").ok().json();
    for field in ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"] {
        assert!(info[field].is_string(), "{field}: {info}");
    }
    let version: Vec<u32> = info["version"].as_str().unwrap().split('.').map(|n| n.parse().expect("a semantic version")).collect();
    assert!(version >= vec![2, 7, 0], "Grafana streams only from 2.7 on");
}

#[test]
fn tags_and_values_have_the_shapes_and_paths_of_the_data_source() {
    shop::both_ways(&|server| {
        let tags = server.get("/api/v2/search/tags?limit=5000").ok().json();
        let scopes = tags["scopes"].as_array().unwrap();
        let known = ["resource", "span", "event", "link", "instrumentation", "intrinsic"];
        assert!(scopes.iter().all(|s| known.contains(&s["name"].as_str().unwrap()) && s["tags"].is_array()), "{tags}");
        assert!(tags["metrics"].is_object());
        let span = scopes.iter().find(|s| s["name"] == "span").unwrap();
        assert!(span["tags"].as_array().unwrap().iter().any(|t| t == "http.method"), "{span}");
        // The tag comes a second time as a parameter; the query may be unfinished.
        for query in ["", "&q=%7B%7D", "&q=%7B%20kind%3Dserver%20%26%26%20%7D", "&q=%7B%20name%3D", "&q=%7B"] {
            let path = format!("/api/v2/search/tag/resource.service.name/values?limit=5000&tag=resource.service.name{query}");
            let values = server.get(&path).ok().json();
            let found = values["tagValues"].as_array().unwrap();
            assert!(found.iter().any(|v| v["value"] == "web" && v["type"] == "string"), "{query}: {values}");
        }
        // A slash is not escaped, blanks and quotes are.
        assert_eq!(
            server.get("/api/v2/search/tag/span.a/b/values?limit=5000&tag=span.a%2Fb").ok().json()["tagValues"],
            serde_json::json!([])
        );
        assert_eq!(server.get("/api/v2/search/tag/span.%22a%20b%22/values").ok().json()["tagValues"], serde_json::json!([]));
        let names = server.get("/api/search/tags").ok().json();
        assert!(names["tagNames"].as_array().unwrap().iter().any(|t| t == "service.name"), "{names}");
        let values = server.get("/api/search/tag/service.name/values").ok().json();
        // The empty value is that of resources without the attribute.
        assert_eq!(values["tagValues"], serde_json::json!(["", "auth", "late", "web"]));
    });
}

#[test]
fn answers_are_compressed_when_accepted() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let raw = http::get(&server.url("/api/status/buildinfo"), &[("accept-encoding", "gzip")]).ok();
    assert_eq!(raw.body[..2], [0x1f, 0x8b], "not gzip: {}", raw.text());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(raw.body.as_slice()), &mut text).unwrap();
    assert!(text.contains("version"));
    server.get("/api/status/buildinfo").ok().json();
}
