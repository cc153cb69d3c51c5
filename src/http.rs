//! The HTTP port: the query API and the other crates' routers beside the process's own pages.

use std::{fmt::Write, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

use crate::{
    config::{self, Config},
    listen::{Readiness, grpc_error, is_grpc},
    metrics::{Listener, Metrics, count},
    openapi,
};

/// What is on the HTTP port: method, path, meaning. `/status/endpoints` shows it, and so does the answer to an unknown path.
/// `{api}` stands for the prefix of the API.
pub const ENDPOINTS: &[(&str, &str, &str)] = &[
    ("GET", "{api}/api/search", "search with TraceQL: ?q={...}&start=&end=&limit=&spss="),
    ("GET", "{api}/api/metrics/query_range", "a TraceQL metrics query: ?q={...} | rate()&start=&end=&step="),
    ("GET", "{api}/api/metrics/query", "the same at one moment"),
    ("GET", "{api}/api/metrics/summary", "counts, errors and latencies of server spans: ?q={...}&groupBy=name"),
    ("GET", "{api}/api/traces/{traceID}", "a trace, JSON or protobuf"),
    ("GET", "{api}/api/v2/traces/{traceID}", "a trace with what finding it cost; ?q={...} for some of its spans"),
    (
        "POST",
        "{api}/api/v2/traces/diff",
        "what differs between two traces: {\"base\": {\"traceId\": ...}, \"compare\": {\"traceId\": ...}}",
    ),
    ("GET", "{api}/api/v2/search/tags", "names of attributes by scope; ?scope=&q=&start=&end=&limit="),
    ("GET", "{api}/api/v2/search/tag/{tag}/values", "values of an attribute; ?q=&start=&end=&limit="),
    ("GET", "{api}/api/search/tags", "names of attributes in one list"),
    ("GET", "{api}/api/search/tag/{tag}/values", "values of an attribute, whatever its scope"),
    ("GET", "{api}/api/echo", "echo, for health checks"),
    ("GET", "{api}/api/status/buildinfo", "the version, as Grafana asks for it"),
    ("any", "{api}/api/mcp", "the Model Context Protocol for language models, if traceql.mcp_enabled"),
    ("GET", "{api}/api/openapi.json", "this API as OpenAPI describes it"),
    ("GET", "/querier{api}/api/...", "search, traces, tags and query_range as Tempo's query frontends ask queriers"),
    ("gRPC", "/tempopb.StreamingQuerier/*", "search, metrics, names and values, streamed: Search, MetricsQueryRange, SearchTagsV2 ..."),
    ("GET, POST", "/flush", "write all live spans to blocks now"),
    ("GET, POST", "/shutdown", "end the process in order"),
    ("GET", "/ready", "whether requests are taken"),
    ("GET", "/metrics", "metrics for Prometheus"),
    ("GET", "/status", "all of the following at once"),
    ("GET", "/status/version", "the version"),
    ("GET", "/status/services", "the parts of the process and their state"),
    ("GET", "/status/endpoints", "this list"),
    ("GET", "/status/config", "the settings in effect; ?mode=diff or ?mode=defaults"),
    ("GET", "/status/runtime_config", "settings that can change while the process runs"),
    ("GET", "/status/usage-stats", "whether usage is reported to anyone"),
];

/// What the pages show.
#[derive(Debug)]
pub struct Pages {
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The settings.
    pub config: Config,
    /// The parts that run.
    pub services: Vec<&'static str>,
    /// Cancelled when a request asks the process to end.
    pub end: CancellationToken,
}

/// The routers of the HTTP port that other crates make.
pub struct Routers {
    /// The query API, below its prefix.
    pub api: Router,
    /// The same as a querier answers it, below `/querier` and the prefix.
    pub querier: Router,
    /// Others (gRPC, admin), at the top.
    pub others: Router,
}

/// The router of the HTTP port.
pub fn router(pages: Arc<Pages>, Routers { api, querier, others }: Routers) -> Router {
    let prefix = prefix(&pages.config);
    let description = openapi::document(&prefix).map_err(|e| e.to_string());
    let api = api.route("/api/openapi.json", get(async move || openapi_answer(description.clone())));
    let api = if prefix.is_empty() { api } else { Router::new().nest(&prefix, api.reset_fallback()) };
    let querier = Router::new().nest(&format!("/querier{prefix}"), querier.reset_fallback());
    let own = Router::new()
        .route("/ready", get(|State(p): State<Arc<Pages>>| async move { p.readiness.answer() }))
        .route("/metrics", get(metrics))
        .route("/status", get(|State(p): State<Arc<Pages>>| async move { p.all() }))
        .route("/status/version", get(|State(p): State<Arc<Pages>>| async move { p.version() }))
        .route("/status/services", get(|State(p): State<Arc<Pages>>| async move { p.services() }))
        .route("/status/endpoints", get(|State(p): State<Arc<Pages>>| async move { p.endpoints() }))
        .route("/status/config", get(settings))
        .route("/status/runtime_config", get(async || "# no setting can change while the process runs\n"))
        .route("/status/usage-stats", get(async || "usage-stats is not enabled\n"))
        .route("/shutdown", get(shutdown).post(shutdown))
        .with_state(pages.clone());
    let listener = Listener { metrics: pages.metrics.clone(), name: "http" };
    let unknown = move |request: Request<Body>| async move { pages.unknown(&request) };
    Router::new()
        .merge(api.reset_fallback())
        .merge(querier)
        .merge(others.reset_fallback())
        .merge(own)
        .method_not_allowed_fallback(wrong_method)
        .route_layer(middleware::from_fn_with_state(listener, count))
        .fallback(unknown)
        // Not what is small, and not gRPC, which compresses its messages itself.
        .layer(CompressionLayer::new())
}

fn openapi_answer(description: std::result::Result<String, String>) -> Response {
    match description {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(text) => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
    }
}

/// The `Allow` header of the answer says which methods there are.
async fn wrong_method(request: Request<Body>) -> Response {
    let text = format!("{} is not a method of {}: see the header Allow\n", request.method(), request.uri().path());
    (StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}

async fn shutdown(State(pages): State<Arc<Pages>>) -> &'static str {
    pages.end.cancel();
    "shutdown job acknowledged\n"
}

/// The router of another port, counted and with a clear answer to an unknown path. `what` says what the port is for.
pub fn other(name: &'static str, what: &'static str, metrics: Arc<Metrics>, router: Router) -> Router {
    router.reset_fallback().route_layer(middleware::from_fn_with_state(Listener { metrics, name }, count)).fallback(
        move |request: Request<Body>| async move {
            let text = format!("no such path here: {}: this port takes {what}", request.uri().path());
            if is_grpc(&request) { grpc_error(12, &text) } else { (StatusCode::NOT_FOUND, text + "\n").into_response() }
        },
    )
}

/// The prefix of the API, with a slash before it and none behind.
fn prefix(config: &Config) -> String {
    match config.server.http_api_prefix.trim_matches('/') {
        "" => String::new(),
        name => format!("/{name}"),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.text()).into_response()
}

#[derive(Deserialize)]
struct Mode {
    mode: Option<String>,
}

async fn settings(State(pages): State<Arc<Pages>>, Query(mode): Query<Mode>) -> Response {
    match mode.mode.as_deref() {
        None | Some("") => config::yaml(&pages.config).into_response(),
        Some("defaults") => config::yaml(&Config::default()).into_response(),
        Some("diff") => config::yaml_diff(&pages.config).into_response(),
        Some(other) => (StatusCode::BAD_REQUEST, format!("unknown mode {other:?}: give diff or defaults\n")).into_response(),
    }
}

impl Pages {
    fn version(&self) -> String {
        format!("tracehouse, version {}\n", env!("CARGO_PKG_VERSION"))
    }

    fn services(&self) -> String {
        let state = self.readiness.reason().unwrap_or_else(|| "Running".to_owned());
        self.services.iter().fold(String::new(), |mut out, name| {
            let _ = writeln!(out, "{name}: {state}");
            out
        })
    }

    fn endpoints(&self) -> String {
        let prefix = prefix(&self.config);
        ENDPOINTS.iter().fold(String::new(), |mut out, (method, path, meaning)| {
            let _ = writeln!(out, "{method:<9} {:<32} {meaning}", path.replace("{api}", &prefix));
            out
        })
    }

    fn all(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.version(), self.services(), self.endpoints(), config::yaml(&self.config))
    }

    fn unknown(&self, request: &Request<Body>) -> Response {
        let path = request.uri().path();
        if is_grpc(request) {
            return grpc_error(12, &format!("no such gRPC method: {path}"));
        }
        (StatusCode::NOT_FOUND, format!("no such path: {path}\n\nThere are:\n{}", self.endpoints())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::Service;

    use super::*;

    fn pages(prefix: &str) -> Arc<Pages> {
        let mut config = Config::default();
        config.server.http_api_prefix = prefix.to_owned();
        Arc::new(Pages {
            readiness: Readiness::not_yet("replaying"),
            metrics: Arc::default(),
            config,
            services: vec!["ingester"],
            end: CancellationToken::new(),
        })
    }

    async fn ask(router: &mut Router, path: &str) -> (u16, String) {
        let response = router.call(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn pages_say_what_there_is() {
        let pages = pages("/tempo/");
        let api = Router::new().route("/api/echo", get(|| async { "echo" }));
        let querier = Router::new().route("/api/search", get(|| async { "found" }));
        let others = tonic::service::Routes::default().into_axum_router();
        let mut router = router(pages.clone(), Routers { api, querier, others });
        assert_eq!(ask(&mut router, "/ready").await, (503, "replaying\n".to_owned()));
        pages.readiness.set(None);
        assert_eq!(ask(&mut router, "/ready").await.0, 200);
        assert_eq!(ask(&mut router, "/tempo/api/echo").await, (200, "echo".to_owned()));
        let (status, text) = ask(&mut router, "/api/echo").await;
        assert!(status == 404 && text.contains("no such path: /api/echo") && text.contains("/tempo/api/search"), "{status} {text}");
        assert!(ask(&mut router, "/status/config").await.1.contains("http_api_prefix: \"/tempo/\""));
        assert_eq!(ask(&mut router, "/status/config?mode=diff").await.1, "server:\n  http_api_prefix: /tempo/\n");
        assert_eq!(ask(&mut router, "/status/config?mode=x").await.0, 400);
        assert_eq!(ask(&mut router, "/status/services").await.1, "ingester: Running\n");
        assert_eq!(ask(&mut router, "/querier/tempo/api/search").await, (200, "found".to_owned()));
        let text = ask(&mut router, "/metrics").await.1;
        assert!(text.contains("route=\"/tempo/api/echo\",status=\"200\"}") && text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_so_and_shutdown_is_passed_on() {
        let pages = pages("");
        let api = Router::new().route("/api/echo", get(|| async { "echo" }));
        let mut router = router(pages.clone(), Routers { api, querier: Router::new(), others: Router::new() });
        let response = router.call(Request::delete("/api/echo").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"GET,HEAD".parse().unwrap()));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("DELETE is not a method of /api/echo"), "{body:?}");
        assert!(!pages.end.is_cancelled());
        assert_eq!(ask(&mut router, "/shutdown").await, (200, "shutdown job acknowledged\n".to_owned()));
        assert!(pages.end.is_cancelled());
    }
}
