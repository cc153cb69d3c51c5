//! The queries that Grafana's Traces Drilldown sends, over a day of spans, a third of them live and the others in blocks, each over HTTP
//! and streamed over gRPC. Both answers must be one, and what they say is checked against counts in SQL, which go another way
//! through the code.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;
use tracehouse_traceql::result::tempopb::{QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse};

use crate::support::{Server, answers, block_on, querier::Querier, sql::Sql};

/// 2026-05-01T00:00:00Z; the day ends when the next begins. The spans lie within it.
const START: i64 = 1_777_593_600;
const DAY_SECONDS: i64 = 24 * 3600;

/// The filters Drilldown begins with, and what they mean.
const PRIMARY: [(&str, &str); 5] = [
    ("nestedSetParent<0", "nested_set_parent < 0"),
    ("true", "true"),
    ("kind=server", "kind = 'server'"),
    ("kind=consumer", "kind = 'consumer'"),
    ("span.db.system.name!=\"\"", "span_attributes->>'db.system.name' <> ''"),
];

/// The filters a user adds.
const ADDED: [(&str, &str); 2] = [("true", "true"), ("resource.service.name=\"frontend\"", "service_name = 'frontend'")];

/// Sends spans of a part of the day.
fn load(server: &Server, seed: u32, from: i64, period: &str) {
    let endpoint = format!("http://{}", server.addresses().otlp_grpc);
    let start = from.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracehouse"));
    command.args(["load", "--rate", "0", "--spans", "1000", "--endpoint", &endpoint, "--start-time", &start, "--period", period]);
    let output = command.args(["--seed", &seed.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Day {
    server: Server,
    sql: Sql,
    grpc: Querier,
    /// How many messages came before the last of an answer and told something.
    early: usize,
}

/// Series by their labels as text, each with the sum of its samples and the number of them.
type Series = BTreeMap<String, f64>;

impl Day {
    /// The answer; that of a search or a range query as it streams, once it is known to be that over HTTP.
    fn ask(&mut self, path: &str, query: &str, more: &[(&str, &str)]) -> Value {
        let (start, end) = (START.to_string(), (START + DAY_SECONDS).to_string());
        let params = [&[("q", query), ("start", start.as_str()), ("end", end.as_str())], more].concat();
        let answer = self.server.ask(path, &params);
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let at_once = answer.json();
        let number = |name: &str| more.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v.trim_end_matches('s').parse().unwrap());
        match path {
            "/api/search" => {
                let streamed = self.streamed_search(query, number("limit"), number("spss"));
                let (mut found, mut expected) = (answers::traces(&streamed), answers::traces(&at_once));
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{query}");
                streamed
            }
            "/api/metrics/query_range" => {
                let streamed = self.streamed_range(query, number("step").into());
                answers::same_samples(&answers::samples(&streamed), &answers::samples(&at_once), query);
                streamed
            }
            _ => at_once,
        }
    }

    fn streamed_search(&mut self, query: &str, limit: u32, spans_per_span_set: u32) -> Value {
        let (start, end) = (START as u32, (START + DAY_SECONDS) as u32);
        let request = SearchRequest { query: query.to_owned(), limit, spans_per_span_set, start, end, ..SearchRequest::default() };
        let messages: Vec<SearchResponse> = block_on(self.grpc.all("Search", request)).unwrap();
        self.early += messages.iter().rev().skip(1).filter(|m| !m.traces.is_empty()).count();
        answers::search(&messages)
    }

    fn streamed_range(&mut self, query: &str, step_seconds: u64) -> Value {
        let [start, end] = [START, START + DAY_SECONDS].map(|s| s as u64 * 1_000_000_000);
        let step = step_seconds * 1_000_000_000;
        let request = QueryRangeRequest { query: query.to_owned(), start, end, step, ..QueryRangeRequest::default() };
        let messages: Vec<QueryRangeResponse> = block_on(self.grpc.all("MetricsQueryRange", request)).unwrap();
        self.early += messages.iter().rev().skip(1).filter(|m| !m.series.is_empty()).count();
        answers::range(&messages)
    }

    /// The sums of the series of a query, times `scale`.
    fn series(&mut self, query: &str, step_seconds: i64, scale: f64) -> Series {
        let answer = self.ask("/api/metrics/query_range", query, &[("step", &format!("{step_seconds}s"))]);
        let mut all = Series::new();
        for series in answer["series"].as_array().unwrap_or(&Vec::new()) {
            let samples = series["samples"].as_array().unwrap().iter();
            let sum: f64 = samples.map(|s| s["value"].as_f64().unwrap_or(0.0)).sum();
            if sum != 0.0 {
                *all.entry(labels(series)).or_default() += sum * scale;
            }
        }
        all
    }

    /// Spans by group, in SQL.
    fn counts(&mut self, group: &str, condition: &str) -> Series {
        let sql = format!("SELECT CAST({group} AS text), count(*) FROM spans WHERE {condition} GROUP BY 1");
        self.sql.query(&sql).into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    }

    #[track_caller]
    fn same(&mut self, query: &str, step_seconds: i64, group: &str, condition: &str) {
        let found = self.series(query, step_seconds, step_seconds as f64);
        let expected = self.counts(group, condition);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{query}");
        for (key, value) in &found {
            assert!((value - expected[key]).abs() < 1e-6 * value.max(1.0), "{query}: {key}: {value}, SQL says {}", expected[key]);
        }
    }

    /// The matching spans of a search, by number.
    fn matched(&mut self, query: &str, limit: &str) -> (usize, i64) {
        let answer = self.ask("/api/search", query, &[("limit", limit), ("spss", "20")]);
        let traces = answer["traces"].as_array().unwrap().clone();
        let sets = traces.iter().flat_map(|t| t["spanSets"].as_array().unwrap().clone());
        (traces.len(), sets.map(|s| s["matched"].as_i64().unwrap_or(0)).sum())
    }
}

/// A series' label values; those that Tempo adds by itself are left out.
fn labels(series: &Value) -> String {
    let text =
        |v: &Value| v.as_object().unwrap().values().next().map(|v| v.as_str().map_or(v.to_string(), str::to_owned)).unwrap_or_default();
    let labels = series["labels"].as_array().unwrap().iter().filter(|l| l["key"] != "__name__");
    labels.map(|l| text(&l["value"])).collect::<Vec<_>>().join(",")
}

fn a_day(home: &std::path::Path) -> Day {
    // A job for each block, so that answers grow.
    let jobs = ("TRACEHOUSE_TRACEQL__STREAMING_JOB_BYTES", "1");
    let server = Server::start_with(home, &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000"), jobs]);
    load(&server, 1, START + 60, "8h");
    server.flush();
    load(&server, 2, START + DAY_SECONDS / 3, "8h");
    server.flush();
    load(&server, 3, START + DAY_SECONDS / 3 * 2, "7h");
    let sql = Sql::connect(&server);
    let grpc = Querier::new(&server);
    let mut day = Day { server, sql, grpc, early: 0 };
    let spans = day.sql.number("SELECT count(*) FROM spans");
    let inside = day.sql.number(&format!(
        "SELECT count(*) FROM spans WHERE CAST(start_time AS bigint) / 1000000000 BETWEEN {START} AND {}",
        START + DAY_SECONDS - 1
    ));
    assert!(spans >= 3000 && spans == inside, "{spans} spans, {inside} of them within the day");
    day
}

#[test]
fn each_query_of_drilldown_answers_as_sql_does() {
    let home = tempfile::tempdir().unwrap();
    let mut day = a_day(home.path());
    for (p, p_sql) in PRIMARY {
        for (f, f_sql) in ADDED {
            let (filter, where_) = (format!("{p} && {f}"), format!("{p_sql} AND {f_sql}"));
            rates(&mut day, &filter, &where_);
            lists(&mut day, &filter, &where_);
        }
        durations(&mut day, p, p_sql);
    }
    comparisons(&mut day);
    structure(&mut day);
    names_and_values(&mut day);
    assert!(day.early > 50, "only {} messages told something before the last", day.early);
}

fn rates(day: &mut Day, filter: &str, condition: &str) {
    let total = |day: &mut Day, condition: &str| day.sql.number(&format!("SELECT count(*) FROM spans WHERE {condition}")) as f64;
    for (query, condition) in [
        (format!("{{{filter}}} | rate() "), condition.to_owned()),
        (format!("{{{filter} && status=error}} | rate() "), format!("{condition} AND status = 'error'")),
        (format!("{{{filter}}} | rate()  with(sample=true)"), condition.to_owned()),
    ] {
        // 30 seconds is what the time seeker asks of a day.
        for step in [30, 1800] {
            let sum: f64 = day.series(&query, step, step as f64).values().sum();
            let expected = total(day, &condition);
            assert!((sum - expected).abs() < 1e-6 * expected.max(1.0), "{query}, step {step}: {sum}, SQL says {expected}");
        }
    }
    for (attribute, column) in [
        ("resource.service.name", "service_name"),
        ("name", "name"),
        ("kind", "kind"),
        ("status", "status"),
        ("rootName", "root_span_name"),
        ("span.http.request.method", "span_attributes->>'http.request.method'"),
        ("event.exception.type", "events->0->'attributes'->>'exception.type'"),
    ] {
        let query = format!("{{{filter} && {attribute} != nil}} | rate() by({attribute})");
        day.same(&query, 1800, column, &format!("{condition} AND {column} IS NOT NULL"));
    }
    let pinned =
        format!("{{{filter} && resource.service.name != nil && resource.service.name=\"frontend\"}} | rate() by(resource.service.name)");
    day.same(&pinned, 1800, "service_name", &format!("{condition} AND service_name = 'frontend'"));
}

/// Quantiles come from power-of-two buckets: the true one is within a factor of two.
fn durations(day: &mut Day, filter: &str, condition: &str) {
    let count = day.sql.number(&format!("SELECT count(*) FROM spans WHERE {condition}"));
    let histogram = day.series(&format!("{{{filter} && true}} | histogram_over_time(duration) with(sample=true)"), 1800, 1.0);
    assert_eq!(histogram.values().sum::<f64>() as i64, count, "histogram of {filter}");
    let query = format!("{{{filter} && true}} | quantile_over_time(duration, 0.5,0.9,0.99) ");
    let found = day.series(&query, DAY_SECONDS, 1.0);
    assert_eq!(found.len(), if count > 0 { 3 } else { 0 }, "{query}: {found:?}");
    for (quantile, seconds) in found {
        let quantile: f64 = quantile.parse().unwrap();
        let below = |day: &mut Day, bound: f64| {
            day.sql.number(&format!("SELECT count(*) FROM spans WHERE {condition} AND duration_ns <= {}", (bound * 1e9) as i64)) as f64
        };
        let rank = quantile * count as f64;
        assert!(below(day, seconds * 2.0) >= rank.floor(), "{query}: {quantile} is {seconds}");
        assert!(below(day, seconds / 2.0) <= rank.ceil(), "{query}: {quantile} is {seconds}");
    }
}

fn lists(day: &mut Day, filter: &str, condition: &str) {
    for (more, more_sql, select) in [
        (
            "&& status = error",
            "status = 'error'",
            "resource.service.name, event.exception.message,event.exception.stacktrace,event.exception.type",
        ),
        ("&& status = error", "status = 'error'", "status, resource.service.name, name"),
        ("&& duration > 12ms", "duration_ns > 12000000", "span.http.response.status_code, kind"),
    ] {
        let hint = if select.contains("event.") { " with (most_recent=true)" } else { "" };
        let query = format!("{{{filter} {more}}} | select({select}){hint}");
        let (traces, spans) = day.matched(&query, "5000");
        let counts = day.sql.query(&format!("SELECT count(distinct trace_id), count(*) FROM spans WHERE {condition} AND {more_sql}"));
        assert_eq!([traces.to_string(), spans.to_string()], counts[0][..], "{query}");
        assert_eq!(day.matched(&query, "20").0, traces.min(20), "{query}");
    }
}

fn comparisons(day: &mut Day) {
    let slow_from = (START + 3600) * 1_000_000_000;
    let slow_to = (START + 7200) * 1_000_000_000;
    let start = "CAST(start_time AS bigint)";
    for (query, selected) in [
        ("compare({status = error})".to_owned(), "status = 'error'".to_owned()),
        (
            format!("compare({{duration >= 1ms && duration <= 3s}}, 10, {slow_from}, {slow_to})"),
            format!("duration_ns BETWEEN 1000000 AND 3000000000 AND {start} >= {slow_from} AND {start} <= {slow_to}"),
        ),
    ] {
        let query = format!("{{nestedSetParent<0 && true}} | {query}");
        let answer = day.ask("/api/metrics/query_range", &query, &[("step", &format!("{DAY_SECONDS}s"))]);
        for (meta, condition) in [("selection", selected.clone()), ("baseline", format!("NOT ({selected})"))] {
            let of_service = |series: &&Value| {
                let labels = series["labels"].as_array().unwrap();
                labels.iter().any(|l| l["key"] == "__meta_type" && l["value"]["stringValue"] == meta)
                    && labels.iter().any(|l| l["key"] == "resource.service.name")
            };
            let mut found = Series::new();
            for series in answer["series"].as_array().unwrap().iter().filter(of_service) {
                let service = series["labels"].as_array().unwrap().iter().find(|l| l["key"] == "resource.service.name").unwrap();
                let sum: f64 = series["samples"].as_array().unwrap().iter().map(|s| s["value"].as_f64().unwrap_or(0.0)).sum();
                found.insert(service["value"]["stringValue"].as_str().unwrap().to_owned(), sum);
            }
            let expected = day.counts("service_name", &format!("nested_set_parent < 0 AND {condition}"));
            assert_eq!(found, expected, "{query}: {meta}");
            assert!(!found.is_empty(), "{query}: no {meta}");
        }
    }
    day.ask("/api/metrics/query_range", "{nestedSetParent<0 && true} | compare({})", &[("step", "86400s")]);
}

fn structure(day: &mut Day) {
    const SELECT: &str = "select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)";
    for (root, root_sql, below, below_sql) in [
        ("status = error", "status = 'error'", "status = error", "status = 'error'"),
        ("duration > 20ms", "duration_ns > 20000000", "duration > 20ms", "duration_ns > 20000000"),
        ("true", "true", "kind = server", "kind = 'server'"),
    ] {
        let query =
            format!("({{nestedSetParent<0 && true && {root}}} &>> {{ {below} }}) || ({{nestedSetParent<0 && true && {root}}}) | {SELECT}");
        let (_, spans) = day.matched(&query, "5000");
        let condition =
            format!("s.nested_set_parent < 0 AND {}", root_sql.replace("status", "s.status").replace("duration_ns", "s.duration_ns"));
        let of = |alias: &str, sql: &str| {
            ["status ", "duration_ns", "kind "].iter().fold(sql.to_owned(), |sql, c| sql.replace(c, &format!("{alias}.{c}")))
        };
        let expected = day.sql.number(&format!(
            "SELECT count(*) FROM (
               SELECT s.trace_id, s.span_id FROM spans s WHERE {condition}
               UNION SELECT d.trace_id, d.span_id FROM spans s JOIN spans d ON d.trace_id = s.trace_id
                 AND d.nested_set_left > s.nested_set_left AND d.nested_set_right < s.nested_set_right
               WHERE {condition} AND {})",
            of("d", below_sql)
        ));
        assert_eq!(spans, expected, "{query}");
        assert!(spans > 0, "{query}");
    }
    // The tree is drawn from the numbers, so they must be there.
    let answer = day.ask("/api/search", &format!("{{nestedSetParent<0 && true}} | {SELECT}"), &[("limit", "1"), ("spss", "20")]);
    let attributes = answer["traces"][0]["spanSets"][0]["spans"][0]["attributes"].as_array().unwrap().clone();
    let keys: Vec<&str> = attributes.iter().map(|a| a["key"].as_str().unwrap()).collect();
    for key in ["nestedSetParent", "nestedSetLeft", "nestedSetRight", "status", "service.name"] {
        assert!(keys.contains(&key), "{keys:?}");
    }
}

fn names_and_values(day: &mut Day) {
    let probe = day
        .server
        .ask("/api/metrics/query_range", &[("q", "{} | rate()"), ("start", &START.to_string()), ("end", &(START + 60).to_string())]);
    assert_eq!(probe.status, 200, "{}", probe.text());
    let tags = day.ask("/api/v2/search/tags", "", &[("limit", "5000")]);
    let names: BTreeMap<String, Vec<String>> = tags["scopes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].as_str().unwrap().to_owned(), serde_json::from_value(s["tags"].clone()).unwrap()))
        .collect();
    assert!(names["intrinsic"].contains(&"name".to_owned()));
    // Every attribute that is offered is on some span, and the usual ones are offered.
    for name in names["span"].iter().filter(|n| !n.contains('\'')) {
        assert!(day.sql.number(&format!("SELECT count(*) FROM spans WHERE span_attributes ? '{name}'")) > 0, "{name}");
    }
    assert!(names["span"].contains(&"db.system.name".to_owned()) && names["resource"].contains(&"service.name".to_owned()));
    for (tag, column) in [
        ("resource.service.name", "service_name"),
        ("name", "name"),
        ("span.db.system.name", "span_attributes->>'db.system.name'"),
        ("rootName", "root_span_name"),
    ] {
        for (query, condition) in
            [("", "true"), ("{ status = error }", "status = 'error'"), ("{ status = error && name = }", "status = 'error'")]
        {
            let path = format!("/api/v2/search/tag/{tag}/values");
            let answer = day.ask(&path, query, &[("limit", "5000"), ("tag", tag)]);
            let values = answer["tagValues"].as_array().unwrap().iter().map(|v| v["value"].as_str().unwrap_or_default().to_owned());
            let values: std::collections::BTreeSet<String> = values.collect();
            let expected = day.counts(column, &format!("{column} IS NOT NULL AND {condition}"));
            assert_eq!(values.iter().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{tag} {query}");
        }
    }
}
