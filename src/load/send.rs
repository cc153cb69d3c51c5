//! Sends export requests over OTLP, gRPC or HTTP, and backs off when the server asks for it.

use std::{str::FromStr, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tracehouse_engine::tenant::TENANT_HEADER;

use super::Protocol;
use crate::error::{Error, Result};

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Attempts while the server has answered before.
const ATTEMPTS: u64 = 12;
/// Attempts while it never has: about three seconds.
const FIRST_ATTEMPTS: u64 = 6;

/// A connection to a receiver.
pub enum Sender {
    /// OTLP over gRPC.
    Grpc {
        /// The connection.
        client: Grpc<Channel>,
        /// The tenant to send for.
        tenant: Option<String>,
    },
    /// OTLP over HTTP with protobuf bodies.
    Http {
        /// The connection pool.
        client: reqwest::Client,
        /// Where `/v1/traces` is.
        url: String,
        /// The tenant to send for.
        tenant: Option<String>,
    },
}

/// What the server said to a request that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Spans it refused.
    pub rejected: u64,
    /// Why.
    pub message: String,
    /// How often the request was sent again before.
    pub retries: u64,
}

/// Why a request was not taken.
#[derive(Debug)]
pub struct Refusal {
    /// What the server or the connection said.
    pub message: String,
    /// Whether the same request may be taken later.
    retryable: bool,
    pause: Option<Duration>,
}

impl Sender {
    /// A connection, made when it is first used.
    pub fn new(protocol: Protocol, endpoint: &str, tenant: Option<&str>) -> Result<Self> {
        let tenant = tenant.map(str::to_owned);
        let wrong = |why: &dyn std::fmt::Display| {
            Error::usage(format!("--endpoint {endpoint:?}: {why}: give one like {}", protocol.default_endpoint()))
        };
        match protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from_str(endpoint).map_err(|e| wrong(&e))?;
                match endpoint.uri().scheme_str() {
                    Some("http") => {}
                    Some("https") => return Err(wrong(&"gRPC over TLS is not supported here, use --protocol http")),
                    _ => return Err(wrong(&"no scheme")),
                }
                let channel = endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT).tcp_nodelay(true).connect_lazy();
                Ok(Self::Grpc { client: Grpc::new(channel), tenant })
            }
            Protocol::Http => {
                let parsed = url::Url::parse(endpoint).map_err(|e| wrong(&e))?;
                let base = parsed.as_str().trim_end_matches('/');
                let url = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
                let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(|e| wrong(&e))?;
                Ok(Self::Http { client, url, tenant })
            }
        }
    }

    /// Sends a request until it is taken, the server says it never will be, or there were too many attempts.
    /// `known` says that this server has answered before, so that it is worth waiting for.
    pub async fn send(&mut self, body: Bytes, known: bool) -> Result<Ack, Refusal> {
        let attempts = if known { ATTEMPTS } else { FIRST_ATTEMPTS };
        let mut pause = FIRST_PAUSE;
        for retries in 0.. {
            match self.attempt(body.clone()).await {
                Ok(ack) => return Ok(Ack { retries, ..ack }),
                Err(refusal) if !refusal.retryable || retries + 1 >= attempts => return Err(refusal),
                Err(refusal) => {
                    tracing::debug!(message = refusal.message, retries, "backing off");
                    tokio::time::sleep(refusal.pause.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        unreachable!("the loop above ends by itself")
    }

    async fn attempt(&mut self, body: Bytes) -> Result<Ack, Refusal> {
        let response = match self {
            Self::Grpc { client, tenant } => export_grpc(client, tenant.as_deref(), body).await?,
            Self::Http { client, url, tenant } => export_http(client, url, tenant.as_deref(), body).await?,
        };
        let partial = response.partial_success.unwrap_or_default();
        Ok(Ack { rejected: partial.rejected_spans.max(0) as u64, message: partial.error_message, retries: 0 })
    }
}

async fn export_grpc(client: &mut Grpc<Channel>, tenant: Option<&str>, body: Bytes) -> Result<ExportTraceServiceResponse, Refusal> {
    let mut request = Request::new(body);
    if let Some(tenant) = tenant {
        let value = MetadataValue::from_str(tenant).map_err(|_| Refusal::never("the tenant is not a legal header value"))?;
        request.metadata_mut().insert(TENANT_HEADER, value);
    }
    client.ready().await.map_err(|e| Refusal::later(describe(&e)))?;
    let answer = client.unary(request, PathAndQuery::from_static(EXPORT_PATH), RawCodec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let retryable = matches!(status.code(), Code::ResourceExhausted | Code::Unavailable | Code::Aborted | Code::DeadlineExceeded);
        // The status' own text repeats its code and its cause.
        let cause = std::error::Error::source(&status).map(describe).unwrap_or_else(|| status.message().to_owned());
        Refusal { message: format!("{:?}: {cause}", status.code()), retryable, pause: None }
    })
}

async fn export_http(
    client: &reqwest::Client,
    url: &str,
    tenant: Option<&str>,
    body: Bytes,
) -> Result<ExportTraceServiceResponse, Refusal> {
    let mut request = client.post(url).header("content-type", "application/x-protobuf").body(body);
    if let Some(tenant) = tenant {
        request = request.header(TENANT_HEADER, tenant);
    }
    let response = request.send().await.map_err(|e| Refusal::later(describe(&e)))?;
    let status = response.status();
    let pause = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = response.bytes().await.map_err(|e| Refusal::later(describe(&e)))?;
    if status.is_success() {
        return ExportTraceServiceResponse::decode(body).map_err(|e| Refusal::never(format!("the answer is not OTLP: {e}")));
    }
    let retryable = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let text = String::from_utf8_lossy(&body);
    Err(Refusal { message: format!("{status}: {}", text.chars().take(300).collect::<String>()), retryable, pause })
}

impl Refusal {
    fn later(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true, pause: None }
    }

    fn never(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false, pause: None }
    }
}

/// An error with its causes: the outermost of a connection's errors says little.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Sends bytes that are encoded already, so that a request is encoded once however often it is sent.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        ExportTraceServiceResponse::decode(bytes).map(Some).map_err(|e| Status::internal(format!("the answer is not OTLP: {e}")))
    }
}
