//! `GET /api/metrics/query_range` and `GET /api/metrics/query`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tracehouse_engine::{Error, clock};

use super::{Api, ApiError, params::Params};
use crate::{
    metrics::{
        InstantRequest, RangeRequest, query_instant, query_range,
        time::{check_range, check_step, default_step, parse_step},
    },
    result::metrics::InstantResponse,
};

/// The range when the request names none.
const SINCE_DEFAULT: i64 = 3600 * 1_000_000_000;

/// Series over time.
pub async fn range(State(api): State<Arc<Api>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let request = range_request(&api, &Params::new(query.as_deref()), clock::now_unix_nanos() as i64)?;
    let found = api.run(&tenant, async |sessions| query_range(&sessions, &tenant, &request).await).await?;
    let json = found.to_json().await.map_err(|e| Error::internal("an answer that is no JSON").with_source(e))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response())
}

/// One value a series, for the whole range.
pub async fn instant(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<InstantResponse>, ApiError> {
    let tenant = api.tenant(&headers)?;
    let request = instant_request(&api, &Params::new(query.as_deref()), clock::now_unix_nanos() as i64)?;
    Ok(Json(api.run(&tenant, async |sessions| query_instant(&sessions, &tenant, &request).await).await?))
}

pub(super) fn range_request(api: &Api, params: &Params, now: i64) -> Result<RangeRequest, ApiError> {
    let config = &api.config;
    let (start, end) = range_of(params, now)?;
    check_range(start, end, config.max_metrics_duration_seconds)?;
    let step = match params.get("step") {
        Some(text) => parse_step(text)
            .filter(|step| *step >= 0)
            .ok_or_else(|| ApiError::bad_request(format!("invalid step: {text:?} is not a number of seconds or a duration such as 30s")))?,
        None => default_step(start, end),
    };
    check_step(start, end, step, config.max_metrics_intervals)?;
    // What lies wholly in the future has no samples.
    let end = end.min(now.saturating_add(step)).max(start);
    let exemplars = params.get("exemplars").and_then(|v| v.parse().ok());
    Ok(RangeRequest { query: text(params), start, end, step, exemplars, series_max: series_max(api, params)? })
}

pub(super) fn instant_request(api: &Api, params: &Params, now: i64) -> Result<InstantRequest, ApiError> {
    let (start, end) = range_of(params, now)?;
    check_range(start, end, api.config.max_metrics_duration_seconds)?;
    if end == start {
        return Err(ApiError::bad_request("end must be greater than start: an instant query needs a range"));
    }
    Ok(InstantRequest { query: text(params), start, end, series_max: series_max(api, params)? })
}

fn text(params: &Params) -> String {
    params.get("q").or_else(|| params.get("query")).unwrap_or_default().to_owned()
}

/// The smaller of the server's bound and the request's; 0 means no bound.
fn series_max(api: &Api, params: &Params) -> Result<usize, ApiError> {
    let requested = usize::try_from(params.number("maxSeries")?.unwrap_or(0)).unwrap_or(usize::MAX);
    Ok(match (api.config.max_metrics_series, requested) {
        (0, n) | (n, 0) => n,
        (a, b) => a.min(b),
    })
}

/// `start` and `end`; what is absent follows from `since` and the time now.
fn range_of(params: &Params, now: i64) -> Result<(i64, i64), ApiError> {
    let since = params.duration("since")?.unwrap_or(SINCE_DEFAULT);
    let end = params.time("end")?.unwrap_or(now);
    let start = params.time("start")?.unwrap_or_else(|| end.saturating_sub(since));
    Ok((start, end))
}
