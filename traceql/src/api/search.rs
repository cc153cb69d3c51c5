//! `GET /api/search`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use super::{Api, ApiError, params::Params, protobuf, wants_protobuf};
use crate::{
    result::tempopb::SearchResponse,
    search::{SearchRequest, search as run_search},
};

/// Answers a search in TraceQL (`q`), or by the old `tags`, `minDuration`, `maxDuration`.
pub async fn search(State(api): State<Arc<Api>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let request = request_of(&api, &Params::new(query.as_deref()))?;
    let found = api.run(&tenant, async |sessions| run_search(&sessions, &tenant, &request).await).await?;
    if wants_protobuf(&headers) {
        return Ok(protobuf(&SearchResponse::from(found)));
    }
    Ok(Json(found).into_response())
}

/// Reads and checks the parameters; gRPC requests come as parameters too.
pub(super) fn request_of(api: &Api, params: &Params) -> Result<SearchRequest, ApiError> {
    let config = &api.config;
    if params.get("q").is_some() && params.get("tags").is_some() {
        return Err(ApiError::bad_request("invalid request: can't specify tags and q in the same query"));
    }
    let range = params.seconds_range(config.max_search_duration_seconds)?;
    let limit = match params.number("limit")? {
        Some(0) => return Err(ApiError::bad_request("invalid limit: must be a positive number")),
        Some(n) if n > config.max_result_limit.into() => {
            return Err(ApiError::bad_request(format!("limit {n} exceeds max limit {}", config.max_result_limit)));
        }
        n => n.unwrap_or(config.default_result_limit.into()),
    };
    let spans = match params.number("spss")? {
        Some(n) if n > config.max_spans_per_span_set.into() => {
            return Err(ApiError::bad_request(format!("spans per span set exceeds {}. received {n}", config.max_spans_per_span_set)));
        }
        // Tempo takes 0 for the default too, though it documents it as unlimited.
        None | Some(0) => config.default_spans_per_span_set.into(),
        Some(n) => n,
    };
    let query = match params.get("q") {
        Some(q) => q.to_owned(),
        None => legacy_query(params)?,
    };
    Ok(SearchRequest { query, range, limit: limit as usize, spans_per_span_set: spans as usize })
}

/// The search of Tempo before TraceQL, as TraceQL.
fn legacy_query(params: &Params) -> Result<String, ApiError> {
    let (min, max) = (params.duration("minDuration")?, params.duration("maxDuration")?);
    if min.zip(max).is_some_and(|(min, max)| max <= min) {
        return Err(ApiError::bad_request("invalid maxDuration: must be greater than minDuration"));
    }
    let mut conditions = Vec::new();
    for (key, value) in parse_tags(params.get("tags").unwrap_or_default())? {
        conditions.push(tag_condition(&key, &value));
    }
    conditions.extend(min.map(|d| format!("trace:duration >= {d}ns")));
    conditions.extend(max.map(|d| format!("trace:duration <= {d}ns")));
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

fn tag_condition(key: &str, value: &str) -> String {
    let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    match key {
        "name" => format!("name = {quoted}"),
        "root.name" => format!("trace:rootName = {quoted}"),
        "root.service.name" => format!("trace:rootService = {quoted}"),
        "status.code" if ["ok", "error", "unset"].contains(&value) => format!("status = {value}"),
        _ => {
            let name = format!(".\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            format!("{name} = {quoted}")
        }
    }
}

/// Reads `key=value key2="value 2"` (logfmt).
fn parse_tags(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let bad = |at: usize, what: &str| {
        ApiError::bad_request(format!("invalid tags: {what} at pos {at}: write key=value, values with spaces in double quotes"))
    };
    let mut tags = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some(&(at, c)) = chars.peek() {
        if c == ' ' {
            chars.next();
            continue;
        }
        let mut key = String::new();
        while let Some((_, c)) = chars.next_if(|(_, c)| *c != '=' && *c != ' ') {
            key.push(c);
        }
        if key.is_empty() || key.contains('"') {
            return Err(bad(at, "unexpected character"));
        }
        if chars.next_if(|(_, c)| *c == '=').is_none() {
            return Err(bad(at, "no value for the key"));
        }
        let mut value = String::new();
        if chars.next_if(|(_, c)| *c == '"').is_some() {
            loop {
                match chars.next() {
                    None => return Err(bad(at, "unterminated quoted value")),
                    Some((_, '"')) => break,
                    Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                    Some((_, c)) => value.push(c),
                }
            }
        } else {
            while let Some((at, c)) = chars.next_if(|(_, c)| *c != ' ') {
                if c == '=' || c == '"' {
                    return Err(bad(at, &format!("unexpected {c:?}")));
                }
                value.push(c);
            }
        }
        tags.push((key, value));
    }
    Ok(tags)
}
