//! `GET /api/traces/{id}` and `GET /api/v2/traces/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tracehouse_engine::{FoundTrace, TraceId};

use super::{Api, ApiError, params::Params, protobuf, wants_protobuf};
use crate::result::trace::{TraceByIdMetrics, TraceByIdResponse, complete, to_json};

/// The trace as `{"batches": [...]}` or a protobuf `Trace`; 404 if there is none.
pub async fn v1(state: State<Arc<Api>>, id: Path<String>, headers: HeaderMap, query: RawQuery) -> Result<Response, ApiError> {
    let found = find(&state, &id, &headers, query).await?;
    let Some(trace) = found.trace else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    if wants_protobuf(&headers) {
        return Ok(protobuf(&complete(trace.resource_spans, true)));
    }
    Ok(Json(json!({ "batches": to_json(&complete(trace.resource_spans, false)) })).into_response())
}

/// The trace as `TraceByIDResponse`; an empty one if there is none.
pub async fn v2(state: State<Arc<Api>>, id: Path<String>, headers: HeaderMap, query: RawQuery) -> Result<Response, ApiError> {
    let found = find(&state, &id, &headers, query).await?;
    let resource_spans = found.trace.map(|t| t.resource_spans).unwrap_or_default();
    if wants_protobuf(&headers) {
        let metrics = Some(TraceByIdMetrics { inspected_bytes: found.inspected_bytes });
        let trace = Some(complete(resource_spans, true));
        return Ok(protobuf(&TraceByIdResponse { trace, metrics, status: 0, message: String::new() }));
    }
    let trace = match resource_spans.is_empty() {
        true => json!({}),
        false => json!({ "resourceSpans": to_json(&complete(resource_spans, false)) }),
    };
    let metrics = match found.inspected_bytes {
        0 => json!({}),
        bytes => json!({ "inspectedBytes": bytes.to_string() }),
    };
    Ok(Json(json!({ "trace": trace, "metrics": metrics })).into_response())
}

async fn find(api: &Arc<Api>, id: &str, headers: &HeaderMap, RawQuery(query): RawQuery) -> Result<FoundTrace, ApiError> {
    let tenant = api.tenant(headers)?;
    if id.len() > 32 {
        return Err(ApiError::bad_request("trace IDs can't be larger than 128 bits: send at most 32 hex digits"));
    }
    if let Some((at, c)) = id.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ApiError::bad_request(format!(
            "trace IDs can only contain hex characters: invalid character {c:?} at position {}",
            at + 1
        )));
    }
    let id: TraceId = id.parse()?;
    let range = Params::new(query.as_deref()).seconds_range(0)?;
    api.run(&tenant, async |sessions| sessions.engine().find_trace(&tenant, id, range).await).await
}
