//! `GET /api/traces/{id}` and `GET /api/v2/traces/{id}`, and the same as a querier answers them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tracehouse_engine::{FoundTrace, Places, TenantId, TraceId};
use uuid::Uuid;

use super::{Api, ApiError, Form, form, params::Params, protobuf};
use crate::{
    result::{
        kept::{Depth, cut, encoded_len},
        llm,
        trace::{Trace, TraceByIdMetrics, TraceByIdResponse, complete, to_json},
    },
    trace::{SpanFilter, filter, find},
};

type Answer = Result<Response, ApiError>;

/// The trace as `{"batches": [...]}` or a protobuf `Trace`; 404 if there is none.
pub async fn v1(State(api): State<Arc<Api>>, id: Path<String>, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let request = Request::new(&api, &id, &headers, query.as_deref())?;
    let found = request.find(&api).await?;
    let Some(trace) = found.trace else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let (bytes, max) = (encoded_len(&trace.resource_spans), api.config.max_bytes_per_trace);
    if max > 0 && bytes > max {
        let text = format!("trace {} has {bytes} bytes and exceeds max_bytes_per_trace ({max}): ask /api/v2/traces for a part", trace.id);
        return Err(ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, text });
    }
    if form(&headers) == Form::Protobuf {
        return Ok(protobuf(&complete(trace.resource_spans, true)));
    }
    Ok(Json(json!({ "batches": to_json(&complete(trace.resource_spans, false)) })).into_response())
}

/// The trace as `TraceByIDResponse`; an empty one if there is none.
pub async fn v2(State(api): State<Arc<Api>>, id: Path<String>, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let request = Request::new(&api, &id, &headers, query.as_deref())?;
    let wanted = filter_of(&Params::new(query.as_deref()))?;
    let found = request.find(&api).await?;
    let mut messages = Vec::new();
    let mut resource_spans = match (found.trace, wanted) {
        (None, _) => Vec::new(),
        (Some(trace), None) => trace.resource_spans,
        (Some(trace), Some(wanted)) => {
            let (trace, fewer) =
                api.run(&request.tenant, async |sessions| filter(&sessions, &request.tenant, trace, &wanted).await).await?;
            if fewer {
                messages.push("Trace filtered, only a subset of spans matching the filter is returned".to_owned());
            }
            trace.resource_spans
        }
    };
    let max = api.config.max_bytes_per_trace;
    if max > 0 && encoded_len(&resource_spans) > max {
        cut(&mut resource_spans, max);
        messages.push(format!("Trace exceeds maximum size of {max} bytes, a partial trace is returned"));
    }
    Ok(response(form(&headers), resource_spans, found.inspected_bytes, messages.join("; ")))
}

/// A querier's answer to `/querier/api/traces/{id}`: a `TraceByIDResponse` too, with status 404 if there is no such trace.
pub async fn querier_v1(State(api): State<Arc<Api>>, id: Path<String>, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let found = Request::new(&api, &id, &headers, query.as_deref())?.find(&api).await?;
    let status = if found.trace.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let resource_spans = found.trace.map(|t| t.resource_spans).unwrap_or_default();
    let form = if form(&headers) == Form::Protobuf { Form::Protobuf } else { Form::Json };
    let mut response = response(form, resource_spans, found.inspected_bytes, String::new());
    *response.status_mut() = status;
    Ok(response)
}

/// A `TraceByIDResponse`; it is partial if there is a message that says why.
fn response(form: Form, resource_spans: Vec<tracehouse_engine::trace::ResourceSpans>, inspected_bytes: u64, message: String) -> Response {
    if form == Form::Protobuf {
        let (trace, metrics) = (Some(complete(resource_spans, true)), Some(TraceByIdMetrics { inspected_bytes }));
        return protobuf(&TraceByIdResponse { trace, metrics, status: i32::from(!message.is_empty()), message });
    }
    let trace: Trace = complete(resource_spans, false);
    if form == Form::Llm {
        let body = llm::to_json(&trace, inspected_bytes, &message).to_string();
        return ([(header::CONTENT_TYPE, llm::MEDIA_TYPE)], body).into_response();
    }
    let shown = if trace.resource_spans.is_empty() { json!({}) } else { json!({ "resourceSpans": to_json(&trace) }) };
    let metrics = if inspected_bytes == 0 { json!({}) } else { json!({ "inspectedBytes": inspected_bytes.to_string() }) };
    let mut body = json!({ "trace": shown, "metrics": metrics });
    if !message.is_empty() {
        body["status"] = json!("PARTIAL");
        body["message"] = json!(message);
    }
    Json(body).into_response()
}

/// What is asked for, checked.
struct Request {
    tenant: TenantId,
    id: TraceId,
    range: Option<(i64, i64)>,
    places: Places,
}

impl Request {
    fn new(api: &Api, id: &str, headers: &HeaderMap, query: Option<&str>) -> Result<Self, ApiError> {
        let params = Params::new(query);
        let tenant = api.tenant(headers)?;
        Ok(Self { tenant, id: trace_id(id)?, range: params.both_seconds()?, places: places_of(&params)? })
    }

    async fn find(&self, api: &Api) -> Result<FoundTrace, ApiError> {
        api.run(&self.tenant, async |sessions| find(&sessions, &self.tenant, self.id, self.range, self.places).await).await
    }
}

/// A trace id of 1 to 32 hex digits.
pub(super) fn trace_id(id: &str) -> Result<TraceId, ApiError> {
    if id.len() > 32 {
        return Err(ApiError::bad_request("trace IDs can't be larger than 128 bits: send at most 32 hex digits"));
    }
    if let Some((at, c)) = id.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ApiError::bad_request(format!(
            "trace IDs can only contain hex characters: invalid character {c:?} at position {}",
            at + 1
        )));
    }
    Ok(id.parse()?)
}

/// `mode`, `blockStart`, `blockEnd`: where to look, as Tempo's query frontends tell their queriers.
fn places_of(params: &Params) -> Result<Places, ApiError> {
    let block = |name: &str, default: Uuid| match params.get(name) {
        Some(text) => text.parse().map_err(|_| ApiError::bad_request(format!("invalid {name}: {text:?} is not a UUID"))),
        None => Ok(default),
    };
    let blocks = Some((block("blockStart", Uuid::nil())?, block("blockEnd", Uuid::max())?));
    match params.get("mode").unwrap_or("all") {
        "all" => Ok(Places { live: true, blocks }),
        "ingesters" | "recent" => Ok(Places { live: true, blocks: None }),
        "blocks" => Ok(Places { live: false, blocks }),
        // Other stores than blocks and live spans, of which there are none.
        "external" => Ok(Places { live: false, blocks: None }),
        other => Err(ApiError::bad_request(format!("invalid mode: {other:?} is none of all, ingesters, blocks, external, recent"))),
    }
}

/// `q` with `keep_hierarchy`, `match_depth`, `ancestor_depth`.
fn filter_of(params: &Params) -> Result<Option<SpanFilter>, ApiError> {
    let depth = |name: &str, default: Depth| match params.get(name) {
        None => Ok(default),
        Some("-1") => Ok(Depth::All),
        Some(text) => text.parse().map(Depth::Levels).map_err(|_| {
            ApiError::bad_request(format!("invalid {name}: {text:?} is not a number of levels: give 0 or more, or -1 for all"))
        }),
    };
    let (below, above) = (depth("match_depth", Depth::Levels(0))?, depth("ancestor_depth", Depth::All)?);
    let above = if params.boolean("keep_hierarchy")? == Some(true) { above } else { Depth::Levels(0) };
    Ok(params.get("q").map(|text| SpanFilter::new(text, below, above)).transpose()?)
}
