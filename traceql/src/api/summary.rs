//! `GET /api/metrics/summary`, which Tempo had up to 2.x.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::HeaderMap,
};
use tracehouse_engine::clock;

use super::{Api, ApiError, params::Params};
use crate::{
    result::summary::SummaryResponse,
    summary::{SummaryRequest, parse_group_by, summary as run_summary},
};

/// The range when the request names none.
const RANGE_DEFAULT: i64 = 3600 * 1_000_000_000;

/// Groups of an answer when the request names no limit.
const LIMIT_DEFAULT: u64 = 1500;

/// Counts, errors and latencies of server spans by group.
pub async fn summary(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<SummaryResponse>, ApiError> {
    let tenant = api.tenant(&headers)?;
    let params = Params::new(query.as_deref());
    let required = |name: &str, example: &str| {
        params.get(name).ok_or_else(|| ApiError::bad_request(format!("{name} is missing: give it, such as {name}={example}")))
    };
    let now = clock::now_unix_nanos() as i64;
    let (start, end) = params.seconds_range(api.config.max_metrics_duration_seconds)?.unwrap_or((now - RANGE_DEFAULT, now));
    let limit = match params.number("limit")? {
        Some(0) => return Err(ApiError::bad_request("invalid limit: must be a positive number")),
        limit => limit.unwrap_or(LIMIT_DEFAULT),
    };
    let request = SummaryRequest {
        query: required("q", "{}")?.to_owned(),
        group_by: parse_group_by(required("groupBy", "name")?)?,
        start,
        end,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    Ok(Json(api.run(&tenant, async |sessions| run_summary(&sessions, &tenant, &request).await).await?))
}
