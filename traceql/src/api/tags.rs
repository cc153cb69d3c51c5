//! Names and values of attributes, for autocomplete.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
};
use serde_json::{Value, json};
use tracehouse_engine::scan::AttributeScope;

use super::{Api, ApiError, params::Params};
use crate::{
    syntax::{Attribute, Field, Scope, Static, parse_attribute},
    tags::{INTRINSICS, SCOPES, TagsRequest, names, values},
};

/// Bytes of values in one answer (Tempo's `max_bytes_per_tag_values_query`).
const VALUES_BYTES_MAX: usize = 1_000_000;

/// `GET /api/search/tags`: all names in one list.
pub async fn names_v1(state: State<Arc<Api>>, headers: HeaderMap, query: RawQuery) -> Result<Json<Value>, ApiError> {
    let (scopes, _) = find_names(&state, &headers, query).await?;
    let flat: BTreeSet<String> = scopes.into_iter().flat_map(|(_, names)| names).collect();
    Ok(Json(json!({ "tagNames": flat, "metrics": {} })))
}

/// `GET /api/v2/search/tags`: names by scope.
pub async fn names_v2(state: State<Arc<Api>>, headers: HeaderMap, query: RawQuery) -> Result<Json<Value>, ApiError> {
    let (mut scopes, intrinsics) = find_names(&state, &headers, query).await?;
    if intrinsics {
        scopes.push(("intrinsic", INTRINSICS.iter().map(|s| (*s).to_owned()).collect()));
    }
    let scopes: Vec<_> =
        scopes.into_iter().filter(|(_, tags)| !tags.is_empty()).map(|(name, tags)| json!({ "name": name, "tags": tags })).collect();
    Ok(Json(json!({ "scopes": scopes, "metrics": {} })))
}

type Names = Vec<(&'static str, BTreeSet<String>)>;

async fn find_names(api: &Arc<Api>, headers: &HeaderMap, RawQuery(query): RawQuery) -> Result<(Names, bool), ApiError> {
    let tenant = api.tenant(headers)?;
    let params = Params::new(query.as_deref());
    let asked = params.get("scope").unwrap_or("none");
    let one = SCOPES.into_iter().find(|s| s.as_str() == asked);
    let scopes = match (one, asked) {
        (Some(scope), _) => vec![scope],
        (None, "none") => SCOPES.to_vec(),
        (None, "intrinsic" | "trace") => Vec::new(),
        _ => {
            return Err(ApiError::bad_request(format!(
                "invalid scope: {asked}: use resource, span, event, link, instrumentation, intrinsic, trace or none"
            )));
        }
    };
    let request = request_of(api, &params)?;
    if scopes.is_empty() {
        let v1 = vec![("intrinsic", INTRINSICS.iter().map(|s| (*s).to_owned()).collect())];
        return Ok(if asked == "intrinsic" { (v1, false) } else { (Vec::new(), false) });
    }
    let found = api.run(&tenant, async |sessions| names(&sessions, &tenant, &scopes, &request).await).await?;
    let named: Names = found.into_iter().map(|(scope, names): (AttributeScope, _)| (scope.as_str(), names)).collect();
    Ok((named, asked == "none"))
}

fn request_of(api: &Api, params: &Params) -> Result<TagsRequest, ApiError> {
    let range = params.seconds_range(api.config.max_search_duration_seconds)?;
    // Tempo ignores a limit that is no number here.
    let limit = params.number("limit").ok().flatten().unwrap_or(0) as usize;
    Ok(TagsRequest { query: params.get("q").map(str::to_owned), range, limit })
}

/// `GET /api/search/tag/{name}/values`: values as text, whatever the attribute's scope.
pub async fn values_v1(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let tenant = api.tenant(&headers)?;
    let name = tag_of(&rest)?;
    let request = request_of(&api, &Params::new(query.as_deref()))?;
    let field = match name {
        "name" | "status.code" | "root.name" | "root.service.name" => {
            let intrinsic = match name {
                "status.code" => "status",
                "root.name" => "rootName",
                "root.service.name" => "rootServiceName",
                name => name,
            };
            parse_attribute(intrinsic).map_err(|e| ApiError::bad_request(e.to_string()))?
        }
        name => Field::Attribute(Attribute { parent: false, scope: Scope::None, name: name.to_owned() }),
    };
    let found = api.run(&tenant, async |sessions| values(&sessions, &tenant, &field, VALUES_BYTES_MAX, &request).await).await?;
    let texts: BTreeSet<String> = found.iter().map(|v| text_of(v).1).collect();
    Ok(Json(json!({ "tagValues": texts, "metrics": {} })))
}

/// `GET /api/v2/search/tag/{attribute}/values`: typed values.
pub async fn values_v2(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let tenant = api.tenant(&headers)?;
    let name = tag_of(&rest)?;
    let field = parse_attribute(name)
        .map_err(|e| ApiError::bad_request(format!("please provide a valid tagName: failed to parse identifier {name}: {e}")))?;
    let request = request_of(&api, &Params::new(query.as_deref()))?;
    let found = api.run(&tenant, async |sessions| values(&sessions, &tenant, &field, VALUES_BYTES_MAX, &request).await).await?;
    let values: Vec<Value> = found
        .iter()
        .map(|v| {
            let (kind, text) = text_of(v);
            if text.is_empty() { json!({ "type": kind }) } else { json!({ "type": kind, "value": text }) }
        })
        .collect();
    Ok(Json(json!({ "tagValues": values, "metrics": {} })))
}

/// The tag of `tag/values`.
fn tag_of(rest: &str) -> Result<&str, ApiError> {
    rest.strip_suffix("/values").ok_or_else(|| ApiError::bad_request("this path ends with /values, the tag before it"))
}

/// Type and text of a value.
fn text_of(value: &Static) -> (&'static str, String) {
    match value {
        Static::String(text) => ("string", text.clone()),
        Static::Int(v) => ("int", v.to_string()),
        Static::Float(v) => ("float", format!("{v:?}")),
        Static::Bool(v) => ("bool", v.to_string()),
        Static::Duration(_) => ("duration", value.to_string()),
        _ => ("keyword", value.to_string()),
    }
}
