//! Names and values of attributes, for completion.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracehouse_engine::clock;

use super::{Api, ApiError, Form, form, params::Params};
use crate::{
    result::llm,
    syntax::{Attribute, Field, Scope, parse_attribute},
    tags::{TagNames, TagScope, TagValues, TagsRequest},
};

/// `GET /api/search/tags`: all names in one list, of which `limit` holds; the intrinsics only if they are asked for.
pub async fn names_v1(state: State<Arc<Api>>, headers: HeaderMap, query: RawQuery) -> Result<Json<Value>, ApiError> {
    let (scope, limit, found) = find_names(&state, &headers, query).await?;
    let wanted = found.scopes.into_iter().filter(|(name, _)| scope == TagScope::Intrinsic || *name != "intrinsic");
    let flat: BTreeSet<String> = wanted.flat_map(|(_, names)| names).collect();
    let flat: Vec<String> = flat.into_iter().take(if limit == 0 { usize::MAX } else { limit }).collect();
    Ok(Json(json!({ "tagNames": flat, "metrics": found.cost })))
}

/// `GET /api/v2/search/tags`: names by scope.
pub async fn names_v2(state: State<Arc<Api>>, headers: HeaderMap, query: RawQuery) -> Result<Json<Value>, ApiError> {
    let (_, _, found) = find_names(&state, &headers, query).await?;
    let scopes: Vec<_> = found.scopes.into_iter().map(|(name, tags)| json!({ "name": name, "tags": tags })).collect();
    Ok(Json(json!({ "scopes": scopes, "metrics": found.cost })))
}

async fn find_names(api: &Arc<Api>, headers: &HeaderMap, RawQuery(query): RawQuery) -> Result<(TagScope, usize, TagNames), ApiError> {
    let tenant = api.tenant(headers)?;
    let params = Params::new(query.as_deref());
    let asked = params.get("scope").unwrap_or_default();
    let scope = TagScope::parse(asked).ok_or_else(|| {
        ApiError::bad_request(format!("invalid scope: {asked}: use resource, span, event, link, instrumentation, intrinsic, trace or none"))
    })?;
    let request = request_of(api, &params)?;
    let found = api.run(&tenant, async |sessions| api.completion.names(&sessions, &tenant, scope, &request).await).await?;
    Ok((scope, request.limit, found))
}

fn request_of(api: &Api, params: &Params) -> Result<TagsRequest, ApiError> {
    let range = params.time_range(clock::now_unix_nanos() as i64, api.config.max_search_duration_seconds)?;
    // Tempo ignores a limit that is no number here.
    let limit = params.number("limit").ok().flatten().unwrap_or(0) as usize;
    Ok(TagsRequest { query: params.get("q").map(str::to_owned), range, limit })
}

/// `GET /api/search/tag/{name}/values`: values as text, whatever the attribute's scope. Takes no query.
pub async fn values_v1(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let tenant = api.tenant(&headers)?;
    let field = field_v1(tag_of(&rest)?)?;
    let request = TagsRequest { query: None, ..request_of(&api, &Params::new(query.as_deref()))? };
    let found = api.run(&tenant, async |sessions| api.completion.values(&sessions, &tenant, &field, &request).await).await?;
    let texts: BTreeSet<String> = found.values.into_iter().map(|v| v.value).collect();
    Ok(Json(json!({ "tagValues": texts, "metrics": found.cost })))
}

/// The field that the old API means by a name: some intrinsics by names of its own, the attributes Tempo once kept in
/// columns in their scopes, all else an attribute without scope.
pub fn field_v1(name: &str) -> Result<Field, ApiError> {
    let text = match name {
        "name" | "rootName" | "rootServiceName" | "trace:id" | "span:id" => name,
        "status.code" => "status",
        "root.name" => "rootName",
        "root.service.name" => "rootServiceName",
        _ => {
            let scope = match name {
                "service.name" | "cluster" | "namespace" | "pod" | "container" | "k8s.namespace.name" | "k8s.cluster.name"
                | "k8s.pod.name" | "k8s.container.name" => Scope::Resource,
                "http.method" | "http.url" | "http.status_code" => Scope::Span,
                _ => Scope::None,
            };
            return Ok(Field::Attribute(Attribute { parent: false, scope, name: name.to_owned() }));
        }
    };
    parse_attribute(text).map_err(|e| ApiError::bad_request(e.to_string()))
}

/// The field that a tag of the API means: an attribute or intrinsic as TraceQL writes it.
pub fn field_v2(name: &str) -> Result<Field, ApiError> {
    parse_attribute(name)
        .map_err(|e| ApiError::bad_request(format!("please provide a valid tagName: failed to parse identifier {name}: {e}")))
}

/// `GET /api/v2/search/tag/{attribute}/values`: typed values.
pub async fn values_v2(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let tenant = api.tenant(&headers)?;
    let field = field_v2(tag_of(&rest)?)?;
    let request = request_of(&api, &Params::new(query.as_deref()))?;
    let found = api.run(&tenant, async |sessions| api.completion.values(&sessions, &tenant, &field, &request).await).await?;
    if form(&headers) == Form::Llm {
        return Ok(([(header::CONTENT_TYPE, llm::MEDIA_TYPE)], llm::values_to_json(&found).to_string()).into_response());
    }
    let TagValues { values, cost } = found;
    Ok(Json(json!({ "tagValues": values, "metrics": cost })).into_response())
}

/// The tag of `tag/values`.
fn tag_of(rest: &str) -> Result<&str, ApiError> {
    let tag = rest.strip_suffix("/values").filter(|tag| !tag.is_empty());
    let text = "no such path: it ends with /values, the tag before it";
    tag.ok_or_else(|| ApiError { status: StatusCode::NOT_FOUND, text: text.to_owned() })
}
