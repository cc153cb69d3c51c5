//! What Jaeger UI asks: services, operations, searches, traces, dependencies, in Jaeger's own JSON. Expectations are read off
//! `tests/sql/shop.spans`.

use serde_json::{Value, json};

use crate::support::{Answer, Server, fixture::EPOCH_SECONDS, http, shop};

const MICROS: u64 = EPOCH_SECONDS * 1_000_000;

fn get(server: &Server, path: &str, params: &[(&str, &str)]) -> Answer {
    let address = server.addresses().jaeger.as_ref().expect("a Jaeger port");
    let path = if params.is_empty() { path.to_owned() } else { http::with_query(path, params) };
    http::get(&format!("http://{address}{path}"), &[])
}

/// `data` of an answer of API v1, whose envelope is whole.
#[track_caller]
fn data(answer: Answer) -> Value {
    let envelope = answer.ok().json();
    assert_eq!((&envelope["errors"], &envelope["total"]), (&Value::Null, &json!(envelope["data"].as_array().unwrap().len())));
    assert!(envelope["limit"].is_number() && envelope["offset"].is_number());
    envelope["data"].clone()
}

/// The whole time of the fixture, in microseconds.
fn window() -> [(&'static str, &'static str); 2] {
    let text = |n: u64| -> &'static str { Box::leak(n.to_string().into_boxed_str()) };
    [("start", text(MICROS)), ("end", text(MICROS + 4 * 3_600_000_000))]
}

#[test]
fn services_and_operations() {
    shop::both_ways(&|server| {
        let services = json!(["auth", "late", "web"]);
        assert_eq!(data(get(server, "/api/services", &[])), services);
        assert_eq!(get(server, "/api/v3/services", &[]).ok().json(), json!({ "services": services }));
        assert_eq!(data(get(server, "/api/services/web/operations", &[])), json!(["GET /cart", "auth", "pay"]));
        assert_eq!(data(get(server, "/api/services/none/operations", &[])), json!([]));
        let of = |name: &str, kind: &str| json!({"name": name, "spanKind": kind});
        let web = json!([of("GET /cart", "server"), of("auth", "client"), of("pay", "client")]);
        assert_eq!(data(get(server, "/api/operations", &[("service", "web")])), web);
        let clients = json!([of("auth", "client"), of("pay", "client")]);
        assert_eq!(data(get(server, "/api/operations", &[("service", "web"), ("spanKind", "client")])), clients);
        assert_eq!(get(server, "/api/v3/operations", &[("service", "web")]).ok().json(), json!({ "operations": web }));
    });
}

#[test]
fn searches_find_the_traces_that_have_such_a_span() {
    shop::both_ways(&|server| {
        let ids = |params: &[(&str, &str)]| -> Vec<String> {
            let found = data(get(server, "/api/traces", &[&window()[..], params].concat()));
            found.as_array().unwrap().iter().map(|t| t["traceID"].as_str().unwrap().trim_start_matches('0').to_owned()).collect()
        };
        assert_eq!(ids(&[("service", "web")]), ["a2", "a1"]);
        assert_eq!(ids(&[("service", "web"), ("limit", "1")]), ["a2"]);
        assert_eq!(ids(&[("service", "web"), ("operation", "auth")]), ["a1"]);
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"http.status_code":"500"}"#)]), ["a1"], "a number by its text");
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"peer":"bank","amount":"7"}"#)]), ["a2"], "a float");
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"paid":"true"}"#)]), ["a2"], "a truth value");
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"region":"eu"}"#)]), ["a1"], "of the resource");
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"error":"true"}"#)]), ["a1"]);
        assert_eq!(ids(&[("service", "web"), ("tag", "span.kind:client"), ("tag", "otel.status_code:ERROR")]), ["a1"]);
        assert_eq!(ids(&[("service", "web"), ("tag", "otel.scope.name:lib-http")]), ["a1"]);
        assert_eq!(ids(&[("service", "web"), ("operation", "pay"), ("minDuration", "50ms")]), ["a1"]);
        assert_eq!(ids(&[("service", "web"), ("operation", "pay"), ("maxDuration", "50ms"), ("minDuration", "0s")]), ["a2"]);
        assert_eq!(ids(&[("service", "web"), ("tags", r#"{"peer":"nobody"}"#)]), Vec::<String>::new());
        assert_eq!(ids(&[("traceID", "b4"), ("traceID", "a3"), ("traceID", "dead")]), ["b4", "a3"]);
        // The last two days, without start and end.
        assert_eq!(data(get(server, "/api/traces", &[("service", "web"), ("lookback", "1h")])), json!([]));
    });
}

#[test]
fn a_trace_in_jaegers_form() {
    shop::both_ways(&|server| {
        let found = data(get(server, "/api/traces/a1", &[]));
        let trace = &found[0];
        assert_eq!((found.as_array().unwrap().len(), &trace["traceID"]), (1, &json!("00000000000000a1")));
        let spans = trace["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 4);
        let span = |id: &str| spans.iter().find(|s| s["spanID"] == id).unwrap();
        let tag = |of: &Value, key: &str| {
            of.as_array().unwrap().iter().find(|t| t["key"] == key).map(|t| (t["type"].clone(), t["value"].clone()))
        };
        let pay = span("0000000000000004");
        assert_eq!((&pay["operationName"], &pay["startTime"], &pay["duration"]), (&json!("pay"), &json!(MICROS + 20_000), &json!(70_000)));
        assert_eq!(pay["references"], json!([{"refType": "CHILD_OF", "traceID": "00000000000000a1", "spanID": "0000000000000001"}]));
        for (key, kind, value) in [
            ("peer", "string", json!("bank")),
            ("amount", "float64", json!(12.5)),
            ("span.kind", "string", json!("client")),
            ("error", "bool", json!(true)),
            ("otel.status_code", "string", json!("ERROR")),
            ("otel.status_description", "string", json!("card declined")),
            ("otel.scope.name", "string", json!("lib-http")),
            ("otel.scope.version", "string", json!("1.0")),
        ] {
            assert_eq!(tag(&pay["tags"], key), Some((json!(kind), value)), "{key}");
        }
        let logs = pay["logs"].as_array().unwrap();
        assert_eq!((logs.len(), &logs[0]["timestamp"]), (2, &json!(MICROS + 80_000)));
        assert_eq!(logs[0]["fields"][0], json!({"key": "event", "type": "string", "value": "exception"}));
        assert_eq!(tag(&logs[0]["fields"], "retries"), Some((json!("int64"), json!(3))));
        let root = span("0000000000000001");
        assert_eq!((&root["references"], tag(&root["tags"], "error")), (&json!([]), None));
        assert_eq!(tag(&root["tags"], "tags"), Some((json!("string"), json!(r#"["red","green"]"#))), "a list as JSON");
        assert_eq!(tag(&root["tags"], "paid"), Some((json!("bool"), json!(false))));
        let process = |span: &Value| &trace["processes"][span["processID"].as_str().unwrap()];
        assert_eq!((&process(root)["serviceName"], &process(span("0000000000000003"))["serviceName"]), (&json!("web"), &json!("auth")));
        assert_eq!(tag(&process(root)["tags"], "cluster"), Some((json!("string"), json!("c1"))));
        assert_eq!((process(root), trace["processes"].as_object().unwrap().len()), (process(pay), 2));

        let linked = data(get(server, "/api/traces/000000000000000000000000000000a2", &[]));
        let pay = linked[0]["spans"].as_array().unwrap().iter().find(|s| s["operationName"] == "pay").unwrap();
        let link = json!({"refType": "FOLLOWS_FROM", "traceID": "00000000000000a1", "spanID": "0000000000000004"});
        assert_eq!(pay["references"][1], link);
        // JavaScript would round it.
        let big = data(get(server, "/api/traces/a3", &[]));
        let job = big[0]["spans"].as_array().unwrap().iter().find(|s| s["operationName"] == "job").unwrap();
        assert_eq!(tag(&job["tags"], "big"), Some((json!("int64"), json!("9007199254740993"))));
    });
}

#[test]
fn summaries_of_traces() {
    shop::both_ways(&|server| {
        let window = [("query.startTimeMin", "2026-03-01T12:00:00Z"), ("query.startTimeMax", "2026-03-01T16:00:00.000Z")];
        let ask = |params: &[(&str, &str)]| {
            get(server, "/api/v3/trace-summaries", &[&window[..], params].concat()).ok().json()["summaries"].clone()
        };
        let web = ask(&[("query.serviceName", "web"), ("query.searchDepth", "20")]);
        assert_eq!(web.as_array().unwrap().len(), 2);
        let nanos = EPOCH_SECONDS * 1_000_000_000;
        assert_eq!(
            web[1],
            json!({"traceId": "000000000000000000000000000000a1", "rootServiceName": "web", "rootOperationName": "GET /cart",
                "minStartTimeUnixNano": nanos.to_string(), "maxEndTimeUnixNano": (nanos + 100_000_000).to_string(),
                "spanCount": 4, "errorSpanCount": 1, "orphanSpanCount": 0,
                "services": [{"name": "auth", "spanCount": 1, "errorSpanCount": 0}, {"name": "web", "spanCount": 3, "errorSpanCount": 1}]})
        );
        let late = ask(&[
            ("query.serviceName", "late"),
            ("query.operationName", "orphan"),
            ("query.durationMin", "5ms"),
            ("query.attributes", r#"{"http.status_code":"404"}"#),
        ]);
        assert_eq!((&late[0]["orphanSpanCount"], &late[0]["rootOperationName"]), (&json!(1), &json!("orphan")));
    });
}

#[test]
fn dependencies_count_calls_between_services() {
    shop::both_ways(&|server| {
        let end = ((EPOCH_SECONDS + 14_400) * 1000).to_string();
        // Of all spans only "check token" of auth has its parent in another service.
        let calls = json!([{"parent": "web", "child": "auth", "callCount": 1}]);
        assert_eq!(data(get(server, "/api/dependencies", &[("endTs", &end), ("lookback", "86400000")])), calls);
        assert_eq!(data(get(server, "/api/dependencies", &[("endTs", &end), ("lookback", "60000")])), json!([]));
    });
}

#[test]
fn errors_are_in_the_envelope() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    for (path, status, part) in [
        ("/api/traces/dead", 404, "trace not found"),
        ("/api/traces/xyz", 400, "hexadecimal"),
        ("/api/traces", 400, "'service' is required"),
        ("/api/traces?service=a&limit=x", 400, "'limit'"),
        ("/api/traces?service=a&tags=x", 400, "'tags'"),
        ("/api/operations?service=a&spanKind=x", 400, "span kind"),
        ("/api/dependencies?endTs=x", 400, "'endTs'"),
    ] {
        let answer = get(&server, path, &[]);
        let body = answer.json();
        assert_eq!((answer.status, &body["errors"][0]["code"], &body["data"]), (status, &json!(status), &Value::Null), "{path}: {body}");
        assert!(body["errors"][0]["msg"].as_str().unwrap().contains(part), "{path}: {body}");
    }
    let third = get(&server, "/api/v3/trace-summaries?query.startTimeMin=x", &[]);
    assert_eq!((third.status, &third.json()["error"]["httpCode"]), (400, &json!(400)));
    let unknown = get(&server, "/api/v2/traces/a1", &[]);
    assert!(unknown.status == 404 && unknown.text().contains("Jaeger"), "{}", unknown.text());
}
