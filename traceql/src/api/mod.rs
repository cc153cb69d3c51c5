//! Tempo's query API, over HTTP and gRPC.

mod diff;
mod grpc;
mod metrics;
mod params;
mod querier;
mod search;
mod status;
mod streaming;
mod summary;
mod tags;
mod trace_by_id;
mod wire;

pub use grpc::StreamingQuerier;
pub use querier::querier_router;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tracehouse_engine::{
    Error, TenantId,
    tenant::{TENANT_HEADER, Tenancy},
};
use tracehouse_sql::Sessions;

use crate::{config::Config, tags::Completion};

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    pub(crate) sessions: Sessions,
    tenancy: Tenancy,
    pub(crate) config: Config,
    completion: Completion,
}

impl Api {
    /// The API over these sessions.
    pub fn new(sessions: Sessions, tenancy: Tenancy, config: Config) -> Self {
        let completion = Completion::new(config.max_tag_values_bytes, config.tag_cache_bytes);
        Self { sessions, tenancy, config, completion }
    }

    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        let header = headers.get(TENANT_HEADER).map(|v| v.to_str().map_err(|_| Error::invalid("X-Scope-OrgID is not text"))).transpose()?;
        Ok(self.tenancy.resolve(header)?)
    }

    /// Runs a query within the limits of number, time and memory: it gets sessions of its own.
    pub(crate) async fn run<T>(&self, tenant: &TenantId, query: impl AsyncFnOnce(Sessions) -> Result<T, Error>) -> Result<T, ApiError> {
        Ok(self.sessions.run(tenant, query).await?)
    }
}

/// All routes. `prefix` (such as `/tempo`, or empty) comes before each.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(tags_router())
        .route("/api/search", get(search::search))
        .route("/api/metrics/query_range", get(metrics::range))
        .route("/api/metrics/query", get(metrics::instant))
        .route("/api/metrics/summary", get(summary::summary))
        .route("/api/traces/{id}", get(trace_by_id::v1))
        .route("/api/v2/traces/{id}", get(trace_by_id::v2))
        .route("/api/v2/traces/diff", post(diff::diff).layer(DefaultBodyLimit::max(diff::BODY_BYTES_MAX)))
        .route("/api/echo", get(status::echo))
        .route("/api/status/buildinfo", get(status::buildinfo))
        .layer(middleware::from_fn(params::once))
        .with_state(api)
}

/// Names and values, which a client may ask for in protobuf too.
fn tags_router() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/v2/search/tags", get(tags::names_v2))
        // A tag may hold unescaped slashes, so what follows is taken whole.
        .route("/api/search/tag/{*rest}", get(tags::values_v1))
        .route("/api/v2/search/tag/{*rest}", get(tags::values_v2))
        .route_layer(middleware::from_fn(wire::tags_in_protobuf))
}

/// An answer that is not 200: plain text, as Grafana shows it.
#[derive(Debug)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl ApiError {
    fn bad_request(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        let status = StatusCode::from_u16(e.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!(error = %e, "query failed");
        }
        Self { status, text: e.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.text).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
    /// JSON for language models.
    Llm,
}

/// The form that `Accept` asks for, in Tempo's order; JSON unless another is asked for.
fn form(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let forms = [("application/protobuf", Form::Protobuf), ("application/json", Form::Json), ("application/vnd.grafana.llm", Form::Llm)];
    forms.into_iter().find(|(name, _)| accept.contains(name)).map_or(Form::Json, |(_, form)| form)
}

fn protobuf(message: &impl prost::Message) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], message.encode_to_vec()).into_response()
}
