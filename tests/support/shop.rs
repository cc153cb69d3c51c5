//! Servers that hold the spans of `tests/sql/shop.spans`.

use tempfile::TempDir;

use super::{Server, fixture, repo};

/// Sends the spans.
pub fn send(server: &Server) {
    for request in fixture::read(&repo().join("tests/sql/shop.spans")) {
        server.push(&request);
    }
}

/// A server with the spans, live.
pub fn live(settings: &[(&str, &str)]) -> (TempDir, Server) {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), settings);
    send(&server);
    (home, server)
}

/// Runs `check` on live spans, and again on the same spans in blocks.
pub fn both_ways(check: &dyn Fn(&Server)) {
    let (_home, server) = live(&[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    check(&server);
    server.flush();
    assert!(!server.blocks().is_empty());
    check(&server);
}
