//! What Jaeger UI asks of Jaeger: its JSON APIs v1 and v3, over the same searches, traces and plans as Tempo's API.
//!
//! `query` reads the requests, and says a search in TraceQL; `model` makes Jaeger's form of a trace; `summary` its short form.
//! The paths are those of Jaeger's query service, so the routes want a port of their own: `/api/traces/{id}` means something
//! else in Tempo's API.

mod model;
mod query;
mod summary;

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tracehouse_engine::{Error, Places, TenantId, Trace, TraceId, clock};

use crate::{
    api::{Api, ApiError},
    search::{SearchRequest, search},
    trace::find,
};
use query::{Dependencies, Params, TraceQuery, kind_of};

/// Traces that are fetched at the same time for one answer.
const FETCH_CONCURRENCY: usize = 4;

/// How long before its child a parent may have started, in nanoseconds, to be found for `/api/dependencies`.
const PARENT_BEFORE: i64 = 24 * 3600 * 1_000_000_000;

/// Paths of this API, for the answer to another one.
pub const PATHS: &[&str] = &[
    "/api/services",
    "/api/services/{service}/operations",
    "/api/operations?service=&spanKind=",
    "/api/traces?service=&operation=&tags=&start=&end=&minDuration=&maxDuration=&limit=",
    "/api/traces/{traceID}",
    "/api/dependencies?endTs=&lookback=",
    "/api/v3/services",
    "/api/v3/operations?service=&span_kind=",
    "/api/v3/trace-summaries?query.serviceName=",
];

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/api/services", get(services_v1))
        .route("/api/services/{service}/operations", get(operation_names))
        .route("/api/operations", get(operations_v1))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/dependencies", get(dependencies))
        .route("/api/v3/services", get(services_v3))
        .route("/api/v3/operations", get(operations_v3))
        .route("/api/v3/trace-summaries", get(trace_summaries))
        .with_state(api)
}

type ApiState = State<Arc<Api>>;

// ------------------------------------------------------------------------------------------------------------ answers

/// An answer of API v1: `data` in its envelope.
fn v1(data: Vec<Value>) -> Response {
    Json(json!({"total": data.len(), "data": data, "limit": 0, "offset": 0, "errors": null})).into_response()
}

/// An error in the envelope of API v1.
struct V1Error(ApiError);

/// An error of API v3.
struct V3Error(ApiError);

impl<E: Into<ApiError>> From<E> for V1Error {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl<E: Into<ApiError>> From<E> for V3Error {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl IntoResponse for V1Error {
    fn into_response(self) -> Response {
        let ApiError { status, text } = self.0;
        let errors = json!([{"code": status.as_u16(), "msg": text}]);
        (status, Json(json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors}))).into_response()
    }
}

impl IntoResponse for V3Error {
    fn into_response(self) -> Response {
        let ApiError { status, text } = self.0;
        (status, Json(json!({"error": {"httpCode": status.as_u16(), "message": text}}))).into_response()
    }
}

// --------------------------------------------------------------------------------------------- services and operations

async fn services_v1(State(api): ApiState, headers: HeaderMap) -> Result<Response, V1Error> {
    Ok(v1(services(&api, &headers).await?.into_iter().map(Value::String).collect()))
}

async fn services_v3(State(api): ApiState, headers: HeaderMap) -> Result<Json<Value>, V3Error> {
    Ok(Json(json!({ "services": services(&api, &headers).await? })))
}

async fn services(api: &Api, headers: &HeaderMap) -> Result<Vec<String>, ApiError> {
    let sql = "SELECT DISTINCT CAST(service_name AS text) FROM spans WHERE service_name IS NOT NULL ORDER BY 1";
    let batches = rows(api, &api.tenant(headers)?, sql, Vec::new()).await?;
    Ok(texts(&batches).into_iter().map(|[name]| name).collect())
}

async fn operation_names(State(api): ApiState, Path(service): Path<String>, headers: HeaderMap) -> Result<Response, V1Error> {
    let mut names: Vec<String> = operations(&api, &headers, &service, None).await?.into_iter().map(|[name, _]| name).collect();
    names.dedup();
    Ok(v1(names.into_iter().map(Value::String).collect()))
}

async fn operations_v1(State(api): ApiState, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, V1Error> {
    let params = Params::new(query.as_deref());
    let found = operations(&api, &headers, params.required("service")?, params.get("spanKind")).await?;
    Ok(v1(found.into_iter().map(operation).collect()))
}

async fn operations_v3(State(api): ApiState, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Json<Value>, V3Error> {
    let params = Params::new(query.as_deref());
    let kind = params.get("span_kind").or_else(|| params.get("spanKind"));
    let found = operations(&api, &headers, params.required("service")?, kind).await?;
    Ok(Json(json!({ "operations": found.into_iter().map(operation).collect::<Vec<_>>() })))
}

fn operation([name, kind]: [String; 2]) -> Value {
    // Jaeger has no word for spans without a kind.
    let kind = if kind == "unspecified" { String::new() } else { kind };
    json!({"name": name, "spanKind": kind})
}

/// Names of spans of a service, with their kinds, sorted.
async fn operations(api: &Api, headers: &HeaderMap, service: &str, kind: Option<&str>) -> Result<Vec<[String; 2]>, ApiError> {
    let tenant = api.tenant(headers)?;
    let kind = kind.map(kind_of).transpose()?;
    let sql = "SELECT DISTINCT CAST(name AS text), CAST(kind AS text) FROM spans \
               WHERE service_name = $1 AND ($2 = '' OR kind = $2) ORDER BY 1, 2";
    Ok(texts(&rows(api, &tenant, sql, vec![service.into(), kind.unwrap_or_default().into()]).await?))
}

// -------------------------------------------------------------------------------------------------------------- traces

async fn trace(State(api): ApiState, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, V1Error> {
    let tenant = api.tenant(&headers)?;
    let id: TraceId = id.parse().map_err(|e: Error| ApiError { status: StatusCode::BAD_REQUEST, text: e.to_string() })?;
    match fetch(&api, &tenant, id, None).await? {
        Some(trace) => Ok(v1(vec![model::trace(&trace)])),
        None => Err(V1Error(ApiError { status: StatusCode::NOT_FOUND, text: "trace not found".to_owned() })),
    }
}

async fn traces(State(api): ApiState, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, V1Error> {
    let tenant = api.tenant(&headers)?;
    let params = Params::new(query.as_deref());
    let ids = params.all("traceID").map(str::parse).collect::<Result<Vec<TraceId>, Error>>()?;
    let found = if ids.is_empty() {
        let query = TraceQuery::v1(&params, clock::now_unix_nanos() as i64, api.config.max_jaeger_traces)?;
        find_traces(&api, &tenant, &query).await?
    } else {
        let ids = ids.into_iter().take(api.config.max_jaeger_traces).collect();
        fetch_all(&api, &tenant, ids, None).await?
    };
    Ok(v1(found.iter().map(model::trace).collect()))
}

async fn trace_summaries(State(api): ApiState, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Json<Value>, V3Error> {
    let tenant = api.tenant(&headers)?;
    let query = TraceQuery::v3(&Params::new(query.as_deref()), clock::now_unix_nanos() as i64, api.config.max_jaeger_traces)?;
    let found = find_traces(&api, &tenant, &query).await?;
    Ok(Json(json!({ "summaries": found.iter().map(summary::summary).collect::<Vec<_>>() })))
}

/// The newest traces with a span that meets all conditions.
async fn find_traces(api: &Api, tenant: &TenantId, query: &TraceQuery) -> Result<Vec<Trace>, ApiError> {
    let request = SearchRequest { query: query.traceql.clone(), range: Some(query.range), limit: query.limit, spans_per_span_set: 1 };
    let found = api.run(tenant, async |sessions| search(&sessions, tenant, &request).await).await?;
    let ids = found.traces.iter().map(|t| t.trace_id.parse()).collect::<Result<_, Error>>()?;
    fetch_all(api, tenant, ids, Some(query.range)).await
}

/// These traces, in this order; those that are gone are left out.
async fn fetch_all(api: &Api, tenant: &TenantId, ids: Vec<TraceId>, range: Option<(i64, i64)>) -> Result<Vec<Trace>, ApiError> {
    let traces = futures::stream::iter(ids).map(|id| fetch(api, tenant, id, range)).buffered(FETCH_CONCURRENCY);
    traces.try_filter_map(|trace| async move { Ok(trace) }).try_collect().await
}

async fn fetch(api: &Api, tenant: &TenantId, id: TraceId, range: Option<(i64, i64)>) -> Result<Option<Trace>, ApiError> {
    Ok(api.run(tenant, async |sessions| find(&sessions, tenant, id, range, Places::default()).await).await?.trace)
}

// -------------------------------------------------------------------------------------------------------- dependencies

/// Calls between services: spans whose parent is a span of another service.
async fn dependencies(State(api): ApiState, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, V1Error> {
    let tenant = api.tenant(&headers)?;
    let Dependencies { start, end } = Dependencies::new(&Params::new(query.as_deref()), clock::now_unix_nanos() as i64)?;
    // A span that several blocks hold counts once.
    let sql = "SELECT parent, child, count(*) FROM ( \
                 SELECT DISTINCT CAST(p.service_name AS text) parent, CAST(c.service_name AS text) child, c.trace_id, c.span_id, c.kind_code \
                 FROM spans c JOIN spans p ON p.trace_id = c.trace_id AND p.span_id = c.parent_span_id \
                 WHERE c.start_time >= $1 AND c.start_time <= $2 AND p.start_time >= $3 AND p.service_name <> c.service_name) calls \
               GROUP BY parent, child ORDER BY parent, child";
    let time = |nanos: i64| ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into()));
    let values = vec![time(start), time(end), time(start.saturating_sub(PARENT_BEFORE))];
    let mut data = Vec::new();
    for batch in rows(&api, &tenant, sql, values).await? {
        let counts = batch.column(2).as_primitive::<arrow::datatypes::Int64Type>();
        for ([parent, child], count) in texts(std::slice::from_ref(&batch)).into_iter().zip(counts.values()) {
            data.push(json!({"parent": parent, "child": child, "callCount": count}));
        }
    }
    Ok(v1(data))
}

// ----------------------------------------------------------------------------------------------------------------- SQL

async fn rows(api: &Api, tenant: &TenantId, sql: &str, values: Vec<ScalarValue>) -> Result<Vec<RecordBatch>, ApiError> {
    api.run(tenant, async |sessions| {
        let frame = sessions.sql_with(tenant, sql, values).await?;
        sessions.collect(frame).await
    })
    .await
}

/// The first columns of some rows, which are text.
fn texts<const N: usize>(batches: &[RecordBatch]) -> Vec<[String; N]> {
    let text = |batch: &RecordBatch, column: usize, row: usize| {
        let values = batch.column(column).as_string_opt::<i32>();
        values.filter(|v| v.is_valid(row)).map_or_else(String::new, |v| v.value(row).to_owned())
    };
    let all = batches.iter().flat_map(|b| (0..b.num_rows()).map(move |row| (b, row)));
    all.map(|(batch, row)| std::array::from_fn(|column| text(batch, column, row))).collect()
}
