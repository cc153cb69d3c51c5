//! `tempopb.StreamingQuerier` as clients meet it: every method by tonic, beside HTTP/1.1 and HTTP/2 on the same port, without TLS
//! and with it. Expectations are read off `tests/sql/shop.spans`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tonic::Code;
use tracehouse_traceql::result::tempopb::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response,
};

use crate::support::{Server, answers, block_on, fixture::EPOCH_SECONDS, otlp, querier::Querier, shop};

const START: u64 = EPOCH_SECONDS;
const END: u64 = EPOCH_SECONDS + 4 * 3600;

fn ids(messages: &[SearchResponse]) -> Vec<String> {
    messages.iter().flat_map(|m| &m.traces).map(|t| t.trace_id.clone()).collect()
}

#[test]
fn searches_by_tags_find_what_they_find_over_http() {
    shop::both_ways(&|server| {
        let client = Querier::new(server);
        // Key, value and what the same is in logfmt; least and largest duration in milliseconds; the traces.
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, u32, u32, &'a [&'a str]);
        let cases: [Case<'_>; 10] = [
            (&[("http.method", "GET")], "http.method=GET", 0, 0, &["a2", "a1"]),
            (&[("name", "cart")], "name=cart", 0, 0, &["a2", "a1"]),
            (&[("peer", "bank"), ("service.name", "w")], "peer=bank service.name=w", 0, 0, &["a2", "a1"]),
            // Each tag on some span, not all of them on one.
            (&[("user", "ann"), ("peer", "bank")], "user=ann peer=bank", 0, 0, &["a1"]),
            (&[("status.code", "error")], "status.code=error", 0, 0, &["b4", "a3", "a1"]),
            (&[("note", "nil")], "note=nil", 0, 0, &["a1"]),
            (
                &[("reason", "nothing of the kind \"quoted\" \\ and so on")],
                r#"reason="nothing of the kind \"quoted\" \\ and so on""#,
                0,
                0,
                &[],
            ),
            (&[], "", 50, 0, &["a3", "a1"]),
            (&[], "", 0, 50, &["b4", "a2"]),
            (&[("service.name", "web")], "service.name=web", 50, 1000, &["a1"]),
        ];
        for (tags, logfmt, min, max, expected) in cases {
            let request = SearchRequest {
                tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>(),
                min_duration_ms: min,
                max_duration_ms: max,
                start: START as u32,
                end: END as u32,
                ..SearchRequest::default()
            };
            let messages: Vec<SearchResponse> = block_on(client.all("Search", request)).unwrap();
            assert_eq!(ids(&messages), expected, "{logfmt} {min} {max}");
            answers::progress_is_sound(messages.iter().map(|m| m.metrics.unwrap()).collect());
            // Named, and no more.
            assert!(messages.iter().flat_map(|m| &m.traces).all(|t| t.span_sets.is_empty() && !t.root_service_name.is_empty()));
            let (min, max) = (format!("{min}ms"), format!("{max}ms"));
            let (start, end) = (START.to_string(), END.to_string());
            let params = [("tags", logfmt), ("minDuration", &min), ("maxDuration", &max), ("start", &start), ("end", &end)];
            let over_http = server.ask("/api/search", &params).ok().json();
            let over_http: Vec<&str> = over_http["traces"].as_array().unwrap().iter().map(|t| t["traceID"].as_str().unwrap()).collect();
            assert_eq!(over_http, expected, "{logfmt}");
        }
        let both = SearchRequest { tags: HashMap::from([("a".to_owned(), "b".to_owned())]), query: "{ }".to_owned(), ..Default::default() };
        let refused = block_on(client.all::<_, SearchResponse>("Search", both)).unwrap_err();
        assert_eq!((refused.code(), refused.message().contains("tags and q")), (Code::InvalidArgument, true), "{refused}");
    });
}

#[test]
fn tags_need_not_be_words() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let mut span = otlp::span(&[9; 16], 1, "x", START * 1_000_000_000);
    // What logfmt cannot say as a key, or says in another way.
    let odd = [("a b", "c"), ("k=v", "\"quoted\" \\"), ("line", "one\ntwo"), ("", "empty"), ("ключ", "значение")];
    span.attributes.extend(odd.map(|(k, v)| otlp::text(k, v)));
    server.push(&otlp::request("web", vec![span]));
    let client = Querier::new(&server);
    for (key, value) in odd.into_iter().filter(|(k, _)| !k.is_empty()) {
        let found = |value: &str| {
            let tags = HashMap::from([(key.to_owned(), value.to_owned())]);
            ids(&block_on(client.all::<_, SearchResponse>("Search", SearchRequest { tags, ..Default::default() })).unwrap()).len()
        };
        assert_eq!((found(value), found("other")), (1, 0), "{key}");
    }
}

/// Every method once, with what it must answer of the shop.
fn every_method(client: &Querier) {
    let (start, end) = (START as u32, END as u32);
    // Grafana's health check: no query, the last quarter of an hour; a message or an orderly end.
    let now = tracehouse_engine::clock::now_unix_nanos() / 1_000_000_000;
    let health = SearchRequest { limit: 1, start: now as u32 - 900, end: now as u32, ..SearchRequest::default() };
    block_on(client.all::<_, SearchResponse>("Search", health)).unwrap();
    let request =
        SearchRequest { query: "{ status = error }".to_owned(), limit: 20, spans_per_span_set: 3, start, end, ..Default::default() };
    assert_eq!(ids(&block_on(client.all("Search", request)).unwrap()), ["b4", "a3", "a1"]);
    let names = |scope: &str| SearchTagsRequest { scope: scope.to_owned(), start, end, ..Default::default() };
    let v1: Vec<SearchTagsResponse> = block_on(client.all("SearchTags", names("resource"))).unwrap();
    let of_resources = BTreeSet::from(["cluster", "host", "region", "service.name", "shared"].map(str::to_owned));
    assert_eq!(v1.iter().flat_map(|m| m.tag_names.clone()).collect::<BTreeSet<_>>(), of_resources);
    let v2: Vec<SearchTagsV2Response> = block_on(client.all("SearchTagsV2", names(""))).unwrap();
    let mut scopes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    v2.iter().flat_map(|m| &m.scopes).for_each(|s| scopes.entry(s.name.clone()).or_default().extend(s.tags.clone()));
    let link = BTreeSet::from(["reason".to_owned()]);
    assert_eq!((&scopes["resource"], &scopes["link"], scopes["intrinsic"].len()), (&of_resources, &link, 25));
    let values = |name: &str, query: &str| SearchTagValuesRequest {
        tag_name: name.to_owned(),
        query: query.to_owned(),
        start,
        end,
        ..Default::default()
    };
    let v1: Vec<SearchTagValuesResponse> = block_on(client.all("SearchTagValues", values("service.name", ""))).unwrap();
    assert_eq!(v1.iter().flat_map(|m| m.tag_values.clone()).collect::<Vec<_>>(), ["", "auth", "late", "web"]);
    // Typed, and for the spans of a query, which may be unfinished.
    for (name, query, expected) in [
        ("resource.service.name", "{ name = `check token` && kind = }", &[("string", "auth")][..]),
        ("span.http.status_code", "", &[("int", "200"), ("int", "404"), ("int", "500")]),
        ("status", "{ resource.service.name = `auth` }", &[("keyword", "unset")]),
        ("span.a/b \"c\"", "", &[]),
    ] {
        let found: Result<Vec<SearchTagValuesV2Response>, _> = block_on(client.all("SearchTagValuesV2", values(name, query)));
        if name.contains('/') {
            assert_eq!(found.unwrap_err().code(), Code::InvalidArgument);
            continue;
        }
        let found = found.unwrap();
        assert!(found.iter().all(|m| m.metrics.is_some()), "{name}: no metrics");
        let mut found: Vec<(&str, &str)> = found.iter().flat_map(|m| &m.tag_values).map(|v| (v.kind.as_str(), v.value.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{name} {query}");
    }
    let nanos = 1_000_000_000;
    let (query, start, end) = ("{ } | count_over_time() by (status)".to_owned(), START * nanos, END * nanos);
    let range = QueryRangeRequest { query: query.clone(), start, end, step: 3600 * nanos, ..Default::default() };
    let messages: Vec<QueryRangeResponse> = block_on(client.all("MetricsQueryRange", range)).unwrap();
    let sums = |samples: answers::Samples| {
        samples.into_iter().fold(BTreeMap::<String, f64>::new(), |mut sums, ((labels, _), value)| {
            *sums.entry(labels).or_default() += value;
            sums
        })
    };
    let sums = sums(answers::samples(&answers::range(&messages)));
    assert_eq!(sums.values().sum::<f64>(), 11.0, "{sums:?}");
    assert_eq!(sums.iter().find(|(labels, _)| labels.contains("error")).map(|(_, n)| *n), Some(3.0), "{sums:?}");
    let messages: Vec<QueryInstantResponse> =
        block_on(client.all("MetricsQueryInstant", QueryInstantRequest { query, start, end })).unwrap();
    assert!(messages.iter().all(|m| m.metrics.is_some()));
    // Its range is open on the left: the span that starts with it does not count.
    assert_eq!(messages.last().unwrap().series.iter().map(|s| s.value).sum::<f64>(), 10.0);
}

#[test]
fn every_method_answers_beside_http_on_one_port() {
    shop::both_ways(&|server| {
        every_method(&Querier::new(server));
        assert_eq!(server.get("/api/echo").ok().text(), "echo\n");
    });
}

#[test]
fn every_method_answers_over_tls_beside_both_versions_of_http() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let settings = [("TRACEHOUSE_SERVER__TLS_CERT_FILE", cert.as_str()), ("TRACEHOUSE_SERVER__TLS_KEY_FILE", &key)];
    let server = Server::start_with(home.path(), &settings);
    shop::send(&server);
    every_method(&Querier::with_tls(&server, &made.cert.pem(), None));
    // ALPN: a client that offers only one version of HTTP gets that one.
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = || reqwest::Client::builder().no_proxy().add_root_certificate(root.clone());
    let url = format!("{}/api/echo", server.url("").replace("127.0.0.1", "localhost"));
    for (client, version) in [
        (client().http1_only(), reqwest::Version::HTTP_11),
        (client().http2_prior_knowledge(), reqwest::Version::HTTP_2),
        (client(), reqwest::Version::HTTP_2),
    ] {
        let answer = block_on(client.build().unwrap().get(&url).send()).unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
}
