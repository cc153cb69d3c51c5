//! Endpoints that say who is there.

use axum::Json;
use serde_json::{Value, json};

/// `GET /api/echo`: Grafana's health check.
pub async fn echo() -> &'static str {
    "echo\n"
}

/// `GET /api/status/buildinfo`. Grafana reads the Tempo version it may expect from it, so that is what `version` says.
pub async fn buildinfo() -> Json<Value> {
    Json(json!({
        "version": "3.0.3",
        "revision": concat!("tracehouse-", env!("CARGO_PKG_VERSION")),
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}
