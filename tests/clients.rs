//! Real clients: the OpenTelemetry SDKs of Python and JavaScript send traces and read them back field by field, ADBC asks in SQL.
//! Their packages are installed below `target`, in the versions of `tests/clients/requirements.txt` and `package.json`.

use std::{path::Path, process::Command};

use crate::support::{Server, repo, tools};

fn script(name: &str) -> std::path::PathBuf {
    repo().join("tests/clients").join(name)
}

/// What was sent is there: live, after a crash, in blocks, and after another crash.
fn comes_back(home: &Path, server: Server, check: &dyn Fn(&Server)) {
    check(&server);
    let server = server.crash_and_restart();
    check(&server);
    server.flush();
    assert!(!server.blocks().is_empty(), "flushed, but there is no block in {}", home.display());
    check(&server);
    check(&server.crash_and_restart());
}

#[test]
fn the_python_sdk_gets_back_what_it_sent() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let sent = home.path().join("sent.json");
    let python = || {
        let mut command = tools::python_with_packages();
        command.arg(script("otel.py"));
        command
    };
    let (grpc, http) = (format!("http://{}", server.addresses().otlp_grpc), format!("http://{}", server.addresses().otlp_http));
    let log = tools::run(python().arg("send").arg(&sent).args(["--grpc", &grpc, "--http", &http]));
    assert!(!log.contains("failed"), "{log}");
    comes_back(home.path(), server, &|server| {
        tools::run(python().arg("check").arg(&sent).args(["--api", &server.url("")]));
    });
}

#[test]
fn the_javascript_sdk_gets_back_what_it_sent() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let sent = home.path().join("sent.json");
    let node = |action: &str, url: &str| -> Command {
        let mut command = tools::node_with_packages(&script("otel.mjs"));
        command.arg(action).arg(&sent).arg(url);
        command
    };
    tools::run(&mut node("send", &format!("http://{}", server.addresses().otlp_http)));
    comes_back(home.path(), server, &|server| {
        tools::run(&mut node("check", &server.url("")));
    });
}

#[test]
fn a_language_model_asks_through_mcp() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_TRACEQL__MCP_ENABLED", "true")]);
    crate::support::shop::send(&server);
    // The protocol of 2026 without a handshake, and those before it with one.
    tools::run(tools::python_with_packages().arg(script("mcp_tools.py")).arg(server.url("")).args(["auto", "legacy"]));
    let other = [("host", "evil.example"), ("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_vec();
    assert_eq!(crate::support::http::post(&server.url("/api/mcp"), &other, body).status, 403);
    let off = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(off.path()).get("/api/mcp").status, 404);
}

#[test]
fn adbc_asks_in_sql_from_pandas_and_polars() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    for request in crate::support::fixture::read(&repo().join("tests/sql/shop.spans")) {
        server.push(&request);
    }
    let ask = || tools::run(tools::python_with_packages().arg(script("adbc.py")).arg(format!("grpc://{}", server.addresses().flight)));
    ask();
    server.flush();
    ask();
}
