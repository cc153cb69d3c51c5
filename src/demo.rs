//! `tracehouse demo`: everything at once, with questions and their answers.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use indicatif::ProgressBar;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracehouse_engine::{TenantId, clock};

use crate::{
    cli::DemoArgs,
    config::Config,
    error::{Error, Result},
    load, query,
    serve::Server,
};

/// Spans sent before the questions.
const FIRST_SPANS: u64 = 5_000;
/// Spans a second while the demo goes on.
const STEADY_RATE: f64 = 50.0;
/// Spans of the tree that is shown.
const TREE_SPANS_MAX: usize = 40;

const TRACEQL: [(&str, &str); 2] = [
    ("Which requests failed, and where?", "{ status = error && kind = server }"),
    ("Which payments took longer than 60 ms?", "{ resource.service.name = \"payment\" && kind = server && duration > 60ms }"),
];

const SQL: [(&str, &str); 2] = [
    (
        "How busy, slow and faulty is each service?",
        "SELECT service_name, count(*) AS spans, round(avg(duration_ns) / 1e6, 2) AS avg_ms, round(max(duration_ns) / 1e6, 2) AS max_ms, \
         sum(CASE WHEN status = 'error' THEN 1 ELSE 0 END) AS errors FROM spans GROUP BY service_name ORDER BY spans DESC",
    ),
    (
        "Which statements does the catalogue send to PostgreSQL?",
        "SELECT span_attributes->>'db.query.text' AS statement, count(*) AS times, round(avg(duration_ns) / 1e6, 2) AS avg_ms FROM spans \
         WHERE service_name = 'catalogue' AND span_attributes->>'db.system.name' = 'postgresql' GROUP BY 1 ORDER BY times DESC",
    ),
];

/// Runs the demo until `stop`, or as long as the flags say.
pub async fn run(args: DemoArgs, stop: CancellationToken) -> Result<()> {
    let began = clock::now();
    let config = config(&args).await;
    println!("Starting a server on the data in {} ...", args.data_dir);
    let server = Server::start(config).await?;
    show_listeners(&server);
    let shown = tokio::select! {
        shown = show(&server) => shown,
        () = stop.cancelled() => Ok(()),
    };
    if shown.is_ok() && !stop.is_cancelled() {
        hints(&server, &args);
        let left = args.run_for.map(|t| t.saturating_sub(began.elapsed()));
        keep_loading(&server, left, &stop).await;
    }
    let ended = server.shutdown().await;
    shown.and(ended)?;
    println!("Stopped in order. The data stays: tracehouse sql --data-dir {} 'SELECT count(*) FROM spans'", args.data_dir);
    Ok(())
}

/// The defaults, but for listeners whose port is taken.
async fn config(args: &DemoArgs) -> Config {
    let mut config = Config::default();
    config.server.data_dir.clone_from(&args.data_dir);
    let server = &mut config.server;
    for address in [&mut server.http_addr, &mut server.otlp_grpc_addr, &mut server.otlp_http_addr, &mut server.flight_addr] {
        if TcpListener::bind(address.as_str()).await.is_err() {
            println!("Note: {address} is taken; using a free port instead.");
            "127.0.0.1:0".clone_into(address);
        }
    }
    config
}

fn show_listeners(server: &Server) {
    let a = &server.addresses;
    println!("Listening: HTTP API and gRPC {} · OTLP gRPC {} · OTLP HTTP {} · Flight SQL {}", a.http, a.otlp_grpc, a.otlp_http, a.flight);
    println!("{}", a.jaeger.map_or_else(String::new, |jaeger| format!("Jaeger {jaeger}\n")));
}

/// Sends spans, then asks.
async fn show(server: &Server) -> Result<()> {
    let options = load::Options {
        spans: Some(FIRST_SPANS),
        period: Some(Duration::from_secs(600)),
        ..load::Options::steady(endpoint(server.addresses.otlp_grpc), 0.0)
    };
    let bar = load::progress(&options);
    let report = load::run(options, CancellationToken::new(), bar).await?;
    println!("Sent ten minutes of an e-commerce shop's traces: {}\n", report.summary());
    if !report.all_taken() {
        return Err(Error::failed("the server did not take all spans"));
    }
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
    let client = client.map_err(|e| Error::failed(format!("no HTTP client: {e}")))?;
    let base = format!("http://{}", server.addresses.http);
    let mut trace = None;
    for (question, traceql) in TRACEQL {
        println!("{question}\n  TraceQL: {traceql}");
        let answer = ask(&client, &format!("{base}/api/search"), &[("q", traceql), ("limit", "5"), ("spss", "1")]).await?;
        println!("{}\n", search_table(&answer)?);
        trace = answer.pointer("/traces/0/traceID").and_then(Value::as_str).map(str::to_owned).or(trace);
    }
    for (question, sql) in SQL {
        println!("{question}\n  SQL: {sql}");
        let frame = server.sessions().sql(&TenantId::single(), sql).await?;
        let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
        let batches = server.sessions().collect(frame).await?;
        if batches.iter().all(|b| b.num_rows() == 0) {
            return Err(Error::failed("the answer is empty"));
        }
        println!("{}\n", query::table(schema, &batches)?);
    }
    let id = trace.ok_or_else(|| Error::failed("no search found a trace"))?;
    println!("One of the traces found, {id}:");
    let trace = ask(&client, &format!("{base}/api/traces/{id}"), &[]).await?;
    println!("{}", tree(&trace));
    Ok(())
}

fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}")
}

async fn ask(client: &reqwest::Client, url: &str, query: &[(&str, &str)]) -> Result<Value> {
    let failed = |e: reqwest::Error| Error::failed(format!("GET {url}: {e}"));
    let response = client.get(url).query(query).send().await.map_err(failed)?;
    let status = response.status();
    let text = response.text().await.map_err(failed)?;
    if !status.is_success() {
        return Err(Error::failed(format!("GET {url}: {status}: {text}")));
    }
    serde_json::from_str(&text).map_err(|e| Error::failed(format!("GET {url}: the answer is not JSON: {e}")))
}

fn search_table(answer: &Value) -> Result<String> {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    let traces = answer["traces"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    if traces.is_empty() {
        return Err(Error::failed("the answer is empty"));
    }
    let column =
        |of: &dyn Fn(&Value) -> String| -> ArrayRef { std::sync::Arc::new(traces.iter().map(|t| Some(of(t))).collect::<StringArray>()) };
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let matched = |t: &Value| t.pointer("/spanSets/0/matched").map_or_else(|| "0".to_owned(), text);
    let batch = RecordBatch::try_from_iter([
        ("trace", column(&|t| text(&t["traceID"]))),
        ("root service", column(&|t| text(&t["rootServiceName"]))),
        ("root span", column(&|t| text(&t["rootTraceName"]))),
        ("ms", column(&|t| text(t.get("durationMs").unwrap_or(&Value::from(0))))),
        ("matching spans", column(&matched)),
    ])?;
    query::table(batch.schema(), &[batch])
}

/// A span of the tree.
struct Node {
    id: String,
    parent: String,
    start: u64,
    line: String,
}

/// A trace as a tree, earliest first.
fn tree(trace: &Value) -> String {
    let nodes = nodes(trace);
    let ids: std::collections::HashSet<&str> = nodes.iter().map(|n| n.id.as_str()).collect();
    let mut children: HashMap<&str, Vec<&Node>> = HashMap::new();
    for node in &nodes {
        let parent = if ids.contains(node.parent.as_str()) { node.parent.as_str() } else { "" };
        children.entry(parent).or_default().push(node);
    }
    let mut lines = Vec::new();
    branch(&children, "", "", &mut lines);
    let more = lines.len().saturating_sub(TREE_SPANS_MAX);
    lines.truncate(TREE_SPANS_MAX);
    if more > 0 {
        lines.push(format!("  ... and {more} more spans"));
    }
    lines.join("\n") + "\n"
}

fn nodes(trace: &Value) -> Vec<Node> {
    let list = |v: &Value, key: &str| v[key].as_array().cloned().unwrap_or_default();
    let mut nodes = Vec::new();
    for batch in list(trace, "batches") {
        let attributes = list(&batch["resource"], "attributes");
        let service = attributes.iter().find(|a| a["key"] == "service.name");
        let service = service.and_then(|a| a.pointer("/value/stringValue")).and_then(Value::as_str).unwrap_or("?").to_owned();
        for span in list(&batch, "scopeSpans").iter().flat_map(|s| list(s, "spans")) {
            let text = |key: &str| span[key].as_str().unwrap_or("").to_owned();
            let time = |key: &str| text(key).parse::<u64>().unwrap_or(0);
            let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
            let failed = span.pointer("/status/code").is_some_and(|c| c == "STATUS_CODE_ERROR" || c == 2);
            let failed = if failed {
                format!("  ERROR {}", span.pointer("/status/message").and_then(Value::as_str).unwrap_or(""))
            } else {
                String::new()
            };
            let line = format!("{service}: {}  {:.2} ms{failed}", text("name"), end.saturating_sub(start) as f64 / 1e6);
            nodes.push(Node { id: text("spanId"), parent: text("parentSpanId"), start, line });
        }
    }
    nodes.sort_by_key(|n| n.start);
    nodes
}

fn branch(children: &HashMap<&str, Vec<&Node>>, parent: &str, indent: &str, lines: &mut Vec<String>) {
    let Some(nodes) = children.get(parent) else { return };
    for (i, node) in nodes.iter().enumerate() {
        let last = i + 1 == nodes.len();
        lines.push(format!("  {indent}{}{}", if last { "└─ " } else { "├─ " }, node.line));
        branch(children, &node.id, &format!("{indent}{}", if last { "   " } else { "│  " }), lines);
    }
}

fn hints(server: &Server, args: &DemoArgs) {
    let a = &server.addresses;
    println!("Try next:");
    println!("  curl -G http://{}/api/search --data-urlencode 'q={{ status = error }}'", a.http);
    println!("  python -c \"import adbc_driver_flightsql.dbapi as f; c = f.connect('grpc://{}').cursor(); \\", a.flight);
    println!("    c.execute('SELECT service_name, count(*) FROM spans GROUP BY 1'); print(c.fetch_arrow_table())\"");
    println!("  Grafana: add a Tempo data source with the URL http://{}", a.http);
    println!("  OpenTelemetry SDKs: OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", a.otlp_grpc);
    match args.run_for {
        Some(_) => println!("\nServing, with {STEADY_RATE} spans/s of traffic, until the time is up."),
        None => println!("\nServing, with {STEADY_RATE} spans/s of traffic, until Ctrl-C."),
    }
}

/// Light traffic until the time is up or `stop`.
async fn keep_loading(server: &Server, left: Option<Duration>, stop: &CancellationToken) {
    let options = load::Options { duration: left, ..load::Options::steady(endpoint(server.addresses.otlp_grpc), STEADY_RATE) };
    match load::run(options, stop.clone(), ProgressBar::hidden()).await {
        Ok(report) => println!("Since then: {}", report.summary()),
        Err(e) => eprintln!("warning: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_is_drawn_as_a_tree() {
        let span = |id: &str, parent: &str, start: u64| json!({"spanId": id, "parentSpanId": parent, "name": id, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 2_000_000).to_string()});
        let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
        let spans = json!([span("c", "a", 3), span("b", "a", 2), span("a", "", 1), span("lost", "nobody", 4)]);
        let drawn = tree(&json!({"batches": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}));
        let want = "  ├─ shop: a  2.00 ms\n  │  ├─ shop: b  2.00 ms\n  │  └─ shop: c  2.00 ms\n  └─ shop: lost  2.00 ms\n";
        assert_eq!(drawn, want);
    }
}
