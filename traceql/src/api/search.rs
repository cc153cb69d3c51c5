//! `GET /api/search`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use tracehouse_engine::clock;

use super::{Api, ApiError, Form, form, params::Params, protobuf};
use crate::{
    legacy::{TagSearchRequest, parse_tags, search_by_tags},
    result::tempopb::SearchResponse,
    search::{SearchRequest, search as run_search},
};

/// Parameters that are never taken for tags.
const RESERVED: [&str; 9] = ["q", "tags", "minDuration", "maxDuration", "limit", "spss", "start", "end", "since"];

/// Answers a search in TraceQL (`q`), or by the old `tags`, `minDuration`, `maxDuration`.
pub async fn search(State(api): State<Arc<Api>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let params = Params::new(query.as_deref());
    let tags = params.get("tags").map(parse_tags).transpose()?;
    let found = match request_of(&api, &params, tags)? {
        Request::Query(request) => api.run(&tenant, async |sessions| run_search(&sessions, &tenant, &request).await).await?,
        Request::Tags(request) => api.run(&tenant, async |sessions| search_by_tags(&sessions, &tenant, &request).await).await?,
    };
    if form(&headers) == Form::Protobuf {
        return Ok(protobuf(&SearchResponse::from(found)));
    }
    Ok(Json(found).into_response())
}

/// What a search asks for, in one of the two ways.
pub(super) enum Request {
    /// In TraceQL.
    Query(SearchRequest),
    /// By tags and durations.
    Tags(TagSearchRequest),
}

/// Reads and checks the parameters; gRPC requests come as parameters too, but for their tags, which need not be text first.
pub(super) fn request_of(api: &Api, params: &Params, tags: Option<Vec<(String, String)>>) -> Result<Request, ApiError> {
    let config = &api.config;
    if params.get("q").is_some() && tags.is_some() {
        return Err(ApiError::bad_request("invalid request: can't specify tags and q in the same query"));
    }
    let max = config.max_search_duration_seconds;
    let range = match params.since_range(clock::now_unix_nanos() as i64, max)? {
        None => params.seconds_range(max)?,
        since => since,
    };
    let limit = match params.number("limit")? {
        Some(0) => return Err(ApiError::bad_request("invalid limit: must be a positive number")),
        Some(n) if n > config.max_result_limit.into() => {
            return Err(ApiError::bad_request(format!("limit {n} exceeds max limit {}", config.max_result_limit)));
        }
        n => n.unwrap_or(config.default_result_limit.into()) as usize,
    };
    let spans = match params.number("spss")? {
        Some(n) if n > config.max_spans_per_span_set.into() => {
            return Err(ApiError::bad_request(format!("spans per span set exceeds {}. received {n}", config.max_spans_per_span_set)));
        }
        // Tempo takes 0 for the default too, though it documents it as unlimited.
        None | Some(0) => config.default_spans_per_span_set.into(),
        Some(n) => n,
    };
    // A TraceQL query does not use the durations, but they must be right.
    let (min_duration_ms, max_duration_ms) = durations(params)?;
    if let Some(query) = params.get("q") {
        return Ok(Request::Query(SearchRequest { query: query.to_owned(), range, limit, spans_per_span_set: spans as usize }));
    }
    let tags = match tags {
        Some(tags) => tags,
        // The oldest way: each parameter is a tag.
        None if range.is_none() => params.others(&RESERVED),
        None => Vec::new(),
    };
    Ok(Request::Tags(TagSearchRequest { tags, min_duration_ms, max_duration_ms, range, limit }))
}

/// `minDuration` and `maxDuration` in whole milliseconds; 0 if absent.
fn durations(params: &Params) -> Result<(u32, u32), ApiError> {
    let millis = |name| {
        let nanos = params.duration(name)?;
        Ok::<_, ApiError>(nanos.map(|n| u32::try_from(n / 1_000_000).unwrap_or(if n < 0 { 0 } else { u32::MAX })))
    };
    let (min, max) = (millis("minDuration")?, millis("maxDuration")?);
    // Tempo's Jaeger bridge always sends both, and 0s for what its user left out.
    if min.zip(max).is_some_and(|(min, max)| max > 0 && min > max) {
        return Err(ApiError::bad_request("invalid maxDuration: must be greater than minDuration"));
    }
    Ok((min.unwrap_or(0), max.unwrap_or(0)))
}
