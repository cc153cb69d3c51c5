//! Every parameter of every endpoint: out of range, in the wrong unit, no number, missing, twice; hostile headers. What is
//! wrong is a 4xx in plain text that names the parameter, and never more than that. Expectations: docs/api.md, and Tempo 3.0.3
//! where it answers (it ignores some of what is refused here, as docs/api.md says).

use std::io::{Read, Write};

use crate::support::{Server, block_on, fixture::EPOCH_SECONDS, http, shop};

/// A parameter: values that are taken, and values that are refused.
type Parameter = (&'static str, &'static [&'static str], &'static [&'static str]);

/// An endpoint: its path, the parameters that make a good request, and those that are tried.
type Endpoint = (&'static str, &'static [(&'static str, &'static str)], &'static [Parameter]);

const SECONDS_WRONG: &[&str] = &["-1", "x", "1.5", "+1772366400", "1772366400000", "1772366400000000000", "99999999999999999999", "0x10"];
const START: Parameter = ("start", &["1772366400", "1772370000"], SECONDS_WRONG);
/// Of a trace by id, where one of the two says nothing.
const START_OF_TRACE: Parameter = ("start", &["1772366400", "0", ""], SECONDS_WRONG);
const END: Parameter = ("end", &["1772380800"], SECONDS_WRONG);
/// In three units, of which each can be told.
const TIME: [&str; 5] = ["1772366400", "1772366400.5", "1772366400000000000", "2026-03-01T12:00:00Z", ""];
const TIME_WRONG: &[&str] = &["x", "2026-03-01", "-", "99999999999999999999", "12:00"];
/// Of names and values: times in all units, both or neither.
const START_OF_TAGS: Parameter =
    ("start", &["1772366400", "1772366400.5", "1772366400000000000", "2026-03-01T12:00:00Z"], &["", "x", "2026-03-01"]);
const END_OF_TAGS: Parameter =
    ("end", &["1772380800", "2026-03-01T16:00:00Z", "1772366400"], &["", "x", "1772366399", "1.5", "1773366400"]);
const SINCE: Parameter = ("since", &["", "0", "1h"], &["x", "1", "5 h", "200h"]);
const LIMIT: Parameter = ("limit", &["", "1", "262144"], &["0", "-1", "x", "1.5", "262145", "4294967296", "1e3", " 5", "+5"]);
/// Bounds of completion, where what is no number is no bound, as in Tempo.
const LIMIT_IGNORED: Parameter = ("limit", &["", "0", "1", "x", "-1", "1.5", "99999999999999999999"], &[]);
/// A query that is being typed never fails.
const Q_LENIENT: Parameter = ("q", &["", "{", "{ name = }", "nope", "{} | rate()", "\u{1F980}"], &[]);
const Q: Parameter = ("q", &["{}", "{ name = `a` }"], &["{", "{ nope }", "{ .a = }", "{} | rate()", "\u{0}", "{} | nope()", "{ 1 + }"]);
const Q_METRICS: Parameter = ("q", &["{} | rate()", "{} | count_over_time() by (name)"], &["{}", "{", "{} | rate() by ()", "{} | nope()"]);
const SCOPE: Parameter = ("scope", &["", "none", "span", "resource", "trace", "intrinsic"], &["nope", "RESOURCE", "span,resource", "*"]);
const MODE: Parameter = ("mode", &["", "all", "ingesters", "blocks", "recent"], &["some", "ALL"]);
const BLOCK_START: Parameter = ("blockStart", &["", "00000000-0000-0000-0000-000000000000"], &["x", "1", "00000000"]);
const BLOCK_END: Parameter = ("blockEnd", &["ffffffff-ffff-ffff-ffff-ffffffffffff"], &["x", "../.."]);

const WINDOW: [(&str, &str); 2] = [("start", "1772366400"), ("end", "1772380800")];

const ENDPOINTS: &[Endpoint] = &[
    (
        "/api/search",
        &[("q", "{}"), WINDOW[0], WINDOW[1]],
        &[
            Q,
            START,
            END,
            SINCE,
            LIMIT,
            ("spss", &["", "0", "100"], &["-1", "101", "x", "1.5", "99999999999999999999"]),
            ("minDuration", &["", "0", "0s", "5ms", "1.5s", "1h30m"], &["5", "x", "5 ms", "5parsecs", "99999999999999h"]),
            ("maxDuration", &["", "0", "0s", "5ms"], &["5", "x"]),
        ],
    ),
    (
        "/api/search",
        &[("tags", "name=x"), WINDOW[0], WINDOW[1]],
        &[("tags", &["a=b", "a", "a=\"b c\" d=e"], &["a=\"", "=b", "a=b a=c", "a=b=c"]), ("q", &[], &["{}"]), START, END, LIMIT],
    ),
    ("/api/traces/a1", &[], &[START_OF_TRACE, ("end", &["1772380800", "0", ""], SECONDS_WRONG), MODE, BLOCK_START, BLOCK_END]),
    (
        "/api/v2/traces/a1",
        &[("q", "{ name = `auth` }")],
        &[
            ("q", &["", "{}", "{ event:name = `log` }"], &["{", "{} | rate()", "{} >> {}", "{} | count() > 1", "{ rootName = `a` }"]),
            START_OF_TRACE,
            MODE,
            BLOCK_START,
            ("match_depth", &["", "0", "-1", "5"], &["-2", "x", "1.5", "99999999999999999999999"]),
            ("ancestor_depth", &["", "-1", "3"], &["-2", "x"]),
            ("keep_hierarchy", &["", "true", "0", "T"], &["yes", "2", "on"]),
        ],
    ),
    (
        "/api/metrics/query_range",
        &[("q", "{} | rate()"), WINDOW[0], WINDOW[1], ("step", "60s")],
        &[
            Q_METRICS,
            ("start", &TIME, TIME_WRONG),
            ("end", &["1772380800", "1772380800000000000", "2026-03-01T16:00:00Z"], &["x", "1772366399", "1772966400", "2026"]),
            ("step", &["", "60", "60s", "1m30s", "2.5"], &["x", "0", "0.5", "-1s", "-60", "5x", "NaN", "1ns"]),
            ("since", &["", "0", "1h"], &["x", "1", "5 h"]),
            ("exemplars", &["", "0", "100", "x"], &[]),
            ("maxSeries", &["", "0", "5"], &["-1", "x", "1.5"]),
        ],
    ),
    (
        "/api/metrics/query",
        &[("q", "{} | rate()"), WINDOW[0], WINDOW[1]],
        &[
            Q_METRICS,
            ("start", &TIME, TIME_WRONG),
            ("end", &["1772380800"], &["x", "1772366400", "1772966400"]),
            ("maxSeries", &["1"], &["x"]),
        ],
    ),
    (
        "/api/metrics/summary",
        &[("q", "{}"), ("groupBy", "name"), WINDOW[0], WINDOW[1]],
        &[
            ("q", &["{}"], &["", "{", "{} | rate()"]),
            ("groupBy", &["name", "name,kind"], &["", "nope", ",", "a,b"]),
            START,
            END,
            ("limit", &["", "1"], &["0", "-1", "x"]),
        ],
    ),
    ("/api/search/tags", &WINDOW, &[SCOPE, Q_LENIENT, START_OF_TAGS, END_OF_TAGS, SINCE, LIMIT_IGNORED]),
    ("/api/v2/search/tags", &WINDOW, &[SCOPE, Q_LENIENT, START_OF_TAGS, END_OF_TAGS, SINCE, LIMIT_IGNORED]),
    ("/api/search/tag/service.name/values", &WINDOW, &[Q_LENIENT, START_OF_TAGS, END_OF_TAGS, SINCE, LIMIT_IGNORED]),
    ("/api/v2/search/tag/span.peer/values", &WINDOW, &[Q_LENIENT, START_OF_TAGS, END_OF_TAGS, SINCE, LIMIT_IGNORED]),
    ("/querier/api/search", &[("q", "{}"), WINDOW[0], WINDOW[1]], &[Q, START, END, LIMIT, ("blockID", &[""], &["x"])]),
    ("/querier/api/v2/traces/a1", &[], &[MODE, BLOCK_START, BLOCK_END]),
];

/// The parameters of a good request with one of them changed.
fn with<'a>(good: &[(&'a str, &'a str)], name: &'a str, values: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let others = good.iter().copied().filter(|(n, _)| *n != name);
    others.chain(values.iter().map(|v| (name, *v))).collect()
}

#[test]
fn every_parameter_out_of_range_and_twice() {
    let (_home, server) = shop::live(&[]);
    let mut asked = 0;
    for (path, good, parameters) in ENDPOINTS {
        server.ask(path, good).ok();
        for (name, taken, refused) in *parameters {
            for value in *taken {
                let answer = server.ask(path, &with(good, name, &[value]));
                // With both, there may be none.
                let there = answer.status == 200 || (path.contains("traces") && answer.status == 404);
                assert!(there, "{path} {name}={value:?}: {} {}", answer.status, answer.text());
            }
            for value in *refused {
                let answer = server.ask(path, &with(good, name, &[value]));
                assert_eq!(answer.status, 400, "{path} {name}={value:?}: {}", answer.text());
                assert!(answer.content_type.starts_with("text/plain"), "{path} {name}={value:?}: {}", answer.content_type);
                // What is wrong with a query stands in its own words; a wrong order of times names both.
                let text = answer.text();
                let known = [*name, name.trim_start_matches("block"), "range", "spans per span set"];
                let named = ["q", "tags"].contains(name) || known.iter().any(|n| text.contains(n));
                assert!(named && text.len() < 1000, "{path} {name}={value:?}: {text}");
            }
            let any = good.iter().find(|(n, _)| n == name).map_or("1", |(_, v)| *v);
            let twice = server.ask(path, &with(good, name, &[any, any]));
            assert!(twice.status == 400 && twice.text().contains(&format!("invalid {name}: it is given more than once")), "{path} {name}");
            asked += taken.len() + refused.len() + 1;
        }
    }
    assert!(asked > 250, "{asked}");
}

#[test]
fn missing_parameters_and_strange_paths() {
    let (_home, server) = shop::live(&[]);
    for (path, status, part) in [
        ("/api/search", 200, ""),
        ("/api/search?q=", 200, ""),
        ("/api/search?start=1772366400", 400, "start must be before end"),
        ("/api/search?end=1772366400&q=%7B%7D", 400, "range specified by start and end exceeds"),
        ("/api/metrics/query_range", 400, "parse error"),
        ("/api/metrics/query", 400, "parse error"),
        ("/api/metrics/summary", 400, "q is missing"),
        ("/api/metrics/summary?q=%7B%7D", 400, "groupBy is missing"),
        ("/api/traces/a1?start=5", 200, ""),
        ("/api/traces/a1?end=5", 200, ""),
        ("/api/v2/traces/a1?start=0&end=5", 200, ""),
        ("/api/v2/traces/a1?start=5&end=3", 400, "start must be before end"),
        ("/api/traces/", 404, "no such path"),
        ("/api/v2/traces/%ff", 400, ""),
        ("/api/v2/traces/a%00", 400, "hex"),
        (&format!("/api/v2/traces/{}", "a".repeat(33)), 400, "128 bits"),
        ("/api/v2/search/tag/name", 404, "/values"),
        ("/api/v2/search/tag//values", 404, "/values"),
        ("/api/v2/search/tag/values", 404, "/values"),
        ("/api/v2/search/tag/nope/values", 400, "valid tagName"),
        ("/api/v2/search/tag/%ff/values", 400, ""),
        ("/api/search/tag/a/b/c/values", 200, ""),
        ("/api/search/", 404, "no such path"),
        ("//api/search", 404, "no such path"),
        ("/api/search?q=%zz", 400, ""),
        ("/api/search?%ff=%ff", 200, ""),
        ("/api/search?&&&=&=", 200, ""),
    ] {
        let answer = server.get(path);
        assert!(answer.status == status && answer.text().contains(part), "{path}: {} {}", answer.status, answer.text());
    }
    let many: String = (0..5000).map(|i| format!("k{i}=v&")).collect();
    let answer = server.get(&format!("/api/search?q=%7B%7D&{many}"));
    assert_eq!(answer.status, 200, "what means nothing is ignored, however much it is: {}", answer.text());
}

/// Sends bytes as they are; the status of the answer, or 0 if the server hung up.
fn raw(server: &Server, request: &[u8]) -> u16 {
    let mut socket = std::net::TcpStream::connect(&server.addresses().http).unwrap();
    let _ = socket.write_all(request);
    // Some are no whole request, and the server waits for the rest.
    socket.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
    let mut head = [0; 12];
    if socket.read_exact(&mut head).is_err() {
        return 0;
    }
    String::from_utf8_lossy(&head[9..]).parse().unwrap_or(999)
}

#[test]
fn hostile_headers_and_heads() {
    let (_home, server) = shop::live(&[]);
    let long = "x".repeat(5000);
    let start = EPOCH_SECONDS.to_string();
    for (path, good, _) in ENDPOINTS {
        let url = server.url(&http::with_query(path, good));
        for (name, value, status) in [
            ("accept", long.as_str(), 200),
            ("accept", "application/jso", 200),
            ("accept", "application/protobuf;q=0, */*", 200),
            ("accept-encoding", "br, identity;q=0", 200),
            ("content-type", "application/x-www-form-urlencoded", 200),
            ("content-encoding", "gzip", 200),
            ("range", "bytes=0-1", 200),
            ("if-none-match", "*", 200),
            ("x-scope-orgid", "../../etc", 200),
            ("x-forwarded-host", "evil.example", 200),
            ("authorization", &long, 200),
            ("cookie", &start, 200),
            ("upgrade", "h2c", 200),
            ("te", "trailers", 200),
        ] {
            let answer = http::get(&url, &[(name, value)]);
            assert_eq!(answer.status, status, "{path} {name}: {}", answer.text());
        }
    }
    for (request, good) in [
        (&b"GET /api/search HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n"[..], &[200, 400][..]),
        (b"GET /api/search HTTP/1.1\r\nX: \xff\xfe\r\nHost: x\r\nConnection: close\r\n\r\n", &[200]),
        (b"GET /api/search HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", &[400]),
        (b"GET /api/search HTTP/1.1\r\nContent-Length: -1\r\n\r\n", &[400]),
        (b"GET /api/search HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", &[200, 400]),
        (b"GET /api/search HTTP/1.1\r\nName with blank: x\r\n\r\n", &[400]),
        (b"GET /api/search HTTP/9.9\r\n\r\n", &[400, 505]),
        (b"GET /api/ search HTTP/1.1\r\n\r\n", &[400]),
        (b"GET \x00 HTTP/1.1\r\n\r\n", &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[0, 400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", &[0, 999]),
    ] {
        let status = raw(&server, request);
        assert!(good.contains(&status), "{}: {status}", String::from_utf8_lossy(request));
    }
    // Heads without end: more headers than there is room for, one that is too long, and a line that is.
    let head = |more: &str| format!("GET /api/search HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n").into_bytes();
    let headers: String = (0..2000).map(|i| format!("X-{i}: {i}\r\n")).collect();
    for request in [
        head(headers.trim_end()),
        head(&format!("X: {}", "y".repeat(1 << 20))),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(1 << 19)).into_bytes(),
    ] {
        let status = raw(&server, &request);
        assert!([0, 400, 414, 431].contains(&status), "{status}");
    }
    // All of it has cost nothing that is still missing.
    let found = server.ask("/api/search", &[("q", "{}")]).ok().json();
    assert_eq!(found["traces"].as_array().unwrap().len(), 4);
    let health = block_on(http::send(http::client().get(server.url("/ready")))).unwrap();
    assert_eq!(health.status, 200);
}
