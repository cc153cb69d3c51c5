//! The query API of this process as the tools ask it: its own router, without a socket between.

use std::{convert::Infallible, sync::Arc};

use arrow::json::ArrayWriter;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, header, request},
    response::Response,
};
use futures::StreamExt;
use tonic::codegen::Service;
use tracehouse_engine::{Error, TenantId, tenant::TENANT_HEADER};
use tracehouse_sql::Sessions;

use super::Backend;
use crate::api::Api;

/// Most rows of an answer in SQL.
const ROWS_MAX: usize = 1000;

/// Largest answer in bytes: what a language model can still read, and then some.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The query API.
#[derive(Clone, Debug)]
pub struct ApiBackend {
    api: Arc<Api>,
    router: Router,
}

impl ApiBackend {
    /// Over this API.
    pub fn new(api: Arc<Api>) -> Self {
        let router = crate::api::router(api.clone());
        Self { api, router }
    }

    /// One request to the router.
    async fn ask(&self, headers: HeaderMap, mut request: request::Builder, body: Body) -> Result<String, String> {
        if let Some(tenant) = headers.get(TENANT_HEADER) {
            request = request.header(TENANT_HEADER, tenant);
        }
        let request = request.body(body).map_err(|e| format!("the arguments make no request: {e}"))?;
        let answer: Result<Response, Infallible> = self.router.clone().call(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        let status = answer.status();
        let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.await.map_err(|_| format!("the answer is larger than {ANSWER_BYTES_MAX} bytes: ask for less"))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(format!("the request failed with HTTP status {status}: {text}")) }
    }
}

impl Backend for ApiBackend {
    async fn get(&self, headers: HeaderMap, path_and_query: String) -> Result<String, String> {
        self.ask(headers, Request::get(&path_and_query).header(header::ACCEPT, "application/vnd.grafana.llm"), Body::empty()).await
    }

    async fn post(&self, headers: HeaderMap, path: &str, body: String) -> Result<String, String> {
        self.ask(headers, Request::post(path), Body::from(body)).await
    }

    async fn sql(&self, headers: HeaderMap, query: String) -> Result<String, String> {
        let tenant = self.api.tenant(&headers).map_err(|e| e.text)?;
        let rows = self.api.run(&tenant, async |sessions| rows(&sessions, &tenant, &query).await).await.map_err(|e| e.text)?;
        // Without any row there is not even an empty list.
        Ok(if rows.is_empty() { "[]".to_owned() } else { String::from_utf8_lossy(&rows).into_owned() })
    }
}

/// Rows as a JSON list. What is too large is noticed as it grows, not when it is whole.
async fn rows(sessions: &Sessions, tenant: &TenantId, query: &str) -> Result<Vec<u8>, Error> {
    let frame = sessions.sql(tenant, query).await?.limit(0, Some(ROWS_MAX))?;
    let mut batches = sessions.stream(frame).await?;
    let mut writer = ArrayWriter::new(Vec::new());
    while let Some(batch) = batches.next().await {
        writer.write(&batch?)?;
        if writer.get_ref().len() > ANSWER_BYTES_MAX {
            return Err(Error::invalid(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes: ask for less")));
        }
    }
    writer.finish()?;
    Ok(writer.into_inner())
}
