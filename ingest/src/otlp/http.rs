//! OTLP/HTTP: `POST /v1/traces`, protobuf or JSON, gzip or not; and the operators' `/flush`.

use std::{io::Read, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::sync::Semaphore;
use tracehouse_engine::{
    Error, ErrorKind, Result, TenantId,
    tenant::{TENANT_HEADER, Tenancy},
};

use super::{Receiver, is_retryable, json, response, rpc_status};
use crate::ingester::{Ingester, PushOutcome};

/// Bodies larger than this are decoded away from the threads that serve connections.
const LARGE_BODY_BYTES: usize = 256 << 10;

/// `POST /v1/traces`.
pub fn router(ingester: Arc<Ingester>, tenancy: Tenancy) -> Router {
    let slots = Arc::new(Semaphore::new(ingester.config().max_concurrent_requests));
    Router::new().route("/v1/traces", post(export)).with_state(Http { receiver: Receiver { ingester, tenancy }, slots })
}

/// `GET` or `POST /flush[?tenant=...]`: makes blocks of live spans and answers 204 when they are committed. For operators:
/// it names any tenant.
pub fn admin_router(ingester: Arc<Ingester>) -> Router {
    Router::new().route("/flush", get(flush).post(flush)).with_state(ingester)
}

#[derive(Clone)]
struct Http {
    receiver: Receiver,
    /// Bounds the memory of bodies that are being read.
    slots: Arc<Semaphore>,
}

#[derive(serde::Deserialize)]
struct FlushParams {
    tenant: Option<String>,
}

async fn flush(State(ingester): State<Arc<Ingester>>, Query(params): Query<FlushParams>) -> Response {
    let flushed = async {
        let tenant = params.tenant.filter(|t| !t.is_empty()).map(|t| t.parse::<TenantId>()).transpose()?;
        ingester.flush(tenant.as_ref()).await
    };
    match flushed.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(e) => (status_code(&e), e.to_string()).into_response(),
    }
}

/// How a body is written, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }

    fn decode(self, body: Vec<u8>) -> Result<(ExportTraceServiceRequest, usize)> {
        match self {
            Self::Protobuf => {
                let request = ExportTraceServiceRequest::decode(body.as_slice())
                    .map_err(|e| Error::invalid("the body is not an OTLP trace request in protobuf").with_source(e))?;
                Ok((request, body.len()))
            }
            Self::Json => {
                let request = json::decode(&body)?;
                let len = request.encoded_len();
                Ok((request, len))
            }
        }
    }

    fn answer(self, status: StatusCode, protobuf: &impl Message, json: &serde_json::Value) -> Response {
        let body = match self {
            Self::Protobuf => protobuf.encode_to_vec(),
            Self::Json => json.to_string().into_bytes(),
        };
        (status, [(CONTENT_TYPE, self.content_type())], body).into_response()
    }

    fn success(self, outcome: &PushOutcome) -> Response {
        let partial = match outcome.rejected_spans {
            0 => serde_json::json!({}),
            n => serde_json::json!({"rejectedSpans": n.to_string(), "errorMessage": outcome.message}),
        };
        self.answer(StatusCode::OK, &response(outcome), &serde_json::json!({ "partialSuccess": partial }))
    }

    fn failure(self, e: &Error, retry_after_seconds: u32) -> Response {
        let rpc = rpc_status(e, retry_after_seconds);
        let mut answer = self.answer(status_code(e), &rpc, &serde_json::json!({"code": rpc.code, "message": rpc.message}));
        if is_retryable(e) {
            answer.headers_mut().insert(RETRY_AFTER, retry_after_seconds.into());
        }
        answer
    }
}

fn status_code(e: &Error) -> StatusCode {
    StatusCode::from_u16(e.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn export(State(http): State<Http>, request: Request) -> Response {
    let Some(encoding) = Encoding::of(request.headers()) else {
        let text = "content-type must be application/x-protobuf or application/json";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    };
    let compressed = match request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding must be gzip or identity").into_response(),
    };
    match http.take(encoding, compressed, request).await {
        Ok(outcome) => encoding.success(&outcome),
        Err(e) => encoding.failure(&e, http.receiver.ingester.config().retry_after_seconds),
    }
}

impl Http {
    async fn take(&self, encoding: Encoding, compressed: bool, request: Request) -> Result<PushOutcome> {
        let ingester = &self.receiver.ingester;
        ingester.check_accepting()?;
        let tenant = self.receiver.tenant(request.headers().get(TENANT_HEADER).map(HeaderValue::to_str))?;
        let slot = tokio::time::timeout(ingester.config().push_wait(), self.slots.clone().acquire_owned()).await;
        let busy =
            |_| Error::new(ErrorKind::TooMany, "too many requests at the same time: send larger ones, or raise max_concurrent_requests");
        let slot = slot.map_err(busy)?.map_err(|e| Error::internal("receiver").with_source(e))?;
        let limit = ingester.config().max_request_bytes;
        let body = tokio::time::timeout(Duration::from_millis(ingester.config().request_timeout_ms), read_body(request.into_body(), limit));
        let body = body.await.map_err(|_| Error::invalid("the body did not arrive in time (request_timeout_ms)"))??;
        let small = !compressed && body.len() <= LARGE_BODY_BYTES;
        let decode = move || encoding.decode(if compressed { gunzip(&body, limit)? } else { body });
        let (export, encoded_len) = match small {
            true => decode()?,
            false => {
                let decoded = tokio::task::spawn_blocking(decode).await;
                decoded.map_err(|e| Error::internal("a body could not be decoded").with_source(e))??
            }
        };
        drop(slot);
        ingester.push(&tenant, export, encoded_len).await
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes (max_request_bytes): send smaller batches"))
}

/// The whole body, if it is not longer than `limit`.
async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>> {
    let (mut read, mut chunks) = (Vec::new(), body.into_data_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Error::invalid("the body could not be read to its end").with_source(e))?;
        if read.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

/// Unpacks gzip, but not more than `limit` bytes of it: a small body can hold gigabytes.
fn gunzip(body: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(body).take(limit as u64 + 1);
    reader.read_to_end(&mut unpacked).map_err(|e| Error::invalid("the body is not valid gzip").with_source(e))?;
    if unpacked.len() > limit { Err(too_large(limit)) } else { Ok(unpacked) }
}
