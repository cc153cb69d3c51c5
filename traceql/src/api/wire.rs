//! Names and values in protobuf: their JSON answers as messages, for clients that accept protobuf and for gRPC.

use axum::{
    extract::{MatchedPath, Request},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use tracehouse_engine::{Error, Result};

use super::{ApiError, Form, form, protobuf};
use crate::result::tempopb::{SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsResponse, SearchTagsV2Response};

/// Largest answer that is turned into another form, in bytes; the API makes none that is larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Middleware: answers in JSON become protobuf if the client accepts that.
pub async fn tags_in_protobuf(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned()).unwrap_or_default();
    let wanted = form(request.headers()) == Form::Protobuf;
    let answer = next.run(request).await;
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if !wanted || !is_json {
        return answer;
    }
    turned(&route, answer).await.unwrap_or_else(|e| ApiError::from(e).into_response())
}

async fn turned(route: &str, answer: Response) -> Result<Response> {
    let (names, typed) = (route.ends_with("/search/tags"), route.contains("/v2/search/"));
    Ok(match (names, typed) {
        (true, false) => protobuf(&message::<SearchTagsResponse>(answer).await?),
        (true, true) => protobuf(&message::<SearchTagsV2Response>(answer).await?),
        (false, false) => protobuf(&message::<SearchTagValuesResponse>(answer).await?),
        (false, true) => protobuf(&message::<SearchTagValuesV2Response>(answer).await?),
    })
}

/// The message of an answer in JSON.
pub async fn message<M: DeserializeOwned>(answer: Response) -> Result<M> {
    let body = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|e| Error::internal("an answer cannot be read").with_source(e))?;
    serde_json::from_slice(&body).map_err(|e| Error::internal("an answer is not as its message").with_source(e))
}
