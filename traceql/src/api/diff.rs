//! `POST /api/v2/traces/diff`: two traces side by side.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tracehouse_engine::{FoundTrace, Places, Trace, TraceId};
use tracehouse_sql::Sessions;

use super::{Api, ApiError, params::Params, trace_by_id::trace_id};
use crate::{
    diff::{Format, diff as compare},
    result::kept::encoded_len,
    trace::find,
};

/// Largest request, in bytes: two ids and what goes with them.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
struct Request {
    base: Option<Side>,
    compare: Option<Side>,
    #[serde(default)]
    format: Option<String>,
}

/// A trace, and when it was, in Unix seconds.
#[derive(Deserialize)]
struct Side {
    #[serde(default, rename = "traceId", alias = "traceID")]
    trace_id: String,
    start: Option<u64>,
    end: Option<u64>,
}

/// Compares the traces that the body names.
pub async fn diff(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let request: Request = serde_json::from_slice(&body).map_err(|e| {
        ApiError::bad_request(format!(
            "invalid body: {e}: send {{\"base\": {{\"traceId\": \"...\"}}, \"compare\": {{\"traceId\": \"...\"}}}} as JSON"
        ))
    })?;
    let format = request.format.unwrap_or_default();
    let format = Format::parse(&format).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid format: {format:?} is none of trace-patch-v0, trace-summary-v0-native, trace-summary-v0-composed"
        ))
    })?;
    let (base, other) = (Wanted::new("base", request.base)?, Wanted::new("compare", request.compare)?);
    let found = async |sessions: Sessions| {
        let find = |wanted: &Wanted| find(&sessions, &tenant, wanted.id, wanted.range, Places::default());
        Ok((find(&base).await?, find(&other).await?))
    };
    let found = api.run(&tenant, found).await?;
    let (base, other) = (base.whole(found.0, &api)?, other.whole(found.1, &api)?);
    let max = api.config.max_bytes_per_trace;
    let bytes = encoded_len(&base.resource_spans) + encoded_len(&other.resource_spans);
    if max > 0 && bytes > max {
        let text = format!("the traces have {bytes} bytes together, more than max_bytes_per_trace ({max}): they cannot be compared");
        return Err(ApiError { status: StatusCode::TOO_MANY_REQUESTS, text });
    }
    let text = api.run(&tenant, async |_| compare(&base, &other, format)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// One side, checked.
struct Wanted {
    name: &'static str,
    id: TraceId,
    range: Option<(i64, i64)>,
}

impl Wanted {
    fn new(name: &'static str, side: Option<Side>) -> Result<Self, ApiError> {
        let wrong = |text: String| ApiError::bad_request(format!("invalid {name}: {text}"));
        let side = side.ok_or_else(|| wrong("it is missing: give {\"traceId\": \"...\"}".to_owned()))?;
        if side.trace_id.is_empty() {
            return Err(wrong("traceId is missing".to_owned()));
        }
        let times = [("start", side.start), ("end", side.end)].into_iter().filter_map(|(n, v)| Some((n, v?.to_string())));
        let range = Params::of(times).both_seconds().map_err(|e| wrong(e.text))?;
        Ok(Self { name, id: trace_id(&side.trace_id).map_err(|e| wrong(e.text))?, range })
    }

    /// The trace, if it is there and not so large that an answer would show only a part of it.
    fn whole(&self, found: FoundTrace, api: &Api) -> Result<Trace, ApiError> {
        let Some(trace) = found.trace.filter(|t| t.span_count() > 0) else {
            return Err(ApiError { status: StatusCode::NOT_FOUND, text: format!("{} trace {} not found", self.name, self.id) });
        };
        let max = api.config.max_bytes_per_trace;
        if max > 0 && encoded_len(&trace.resource_spans) > max {
            let text =
                format!("{} trace {} is larger than max_bytes_per_trace ({max}): a part of it cannot be compared", self.name, self.id);
            return Err(ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, text });
        }
        Ok(trace)
    }
}
