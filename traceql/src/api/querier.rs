//! `/querier/api/...`: what Tempo's query frontends ask of their queriers.
//!
//! The paths, parameters and answers are those of the API itself. A frontend's jobs on one block (`blockID`) are refused:
//! this server divides its work itself.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    Api, ApiError, metrics,
    params::{Params, once},
    search, tags_router, trace_by_id,
};

/// All routes, without `/querier` and the prefix of the API, which the caller puts before each.
pub fn querier_router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(tags_router())
        .route("/api/traces/{id}", get(trace_by_id::querier_v1))
        .route("/api/v2/traces/{id}", get(trace_by_id::v2))
        .route("/api/search", get(search::search))
        .route("/api/metrics/query_range", get(metrics::range))
        .layer(middleware::from_fn(no_block_jobs))
        .layer(middleware::from_fn(once))
        .with_state(api)
}

async fn no_block_jobs(request: Request<Body>, next: Next) -> Response {
    if Params::new(request.uri().query()).get("blockID").is_some() {
        let text = "invalid blockID: jobs on one block are not taken: leave it out, and all blocks are searched";
        return ApiError::bad_request(text).into_response();
    }
    next.run(request).await
}
