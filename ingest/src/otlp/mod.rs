//! OTLP receivers: gRPC and HTTP, and the errors both send.

pub mod grpc;
pub mod http;
pub mod json;
pub mod validate;

use std::sync::Arc;

use prost::Message;
use tracehouse_engine::{Error, ErrorKind, TenantId, tenant::Tenancy};

use crate::ingester::{Ingester, PushOutcome};

/// What both receivers need: where spans go, and whose they are.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub ingester: Arc<Ingester>,
    pub tenancy: Tenancy,
}

impl Receiver {
    /// The tenant of a request, by its header.
    pub fn tenant<E>(&self, header: Option<Result<&str, E>>) -> Result<TenantId, Error> {
        let header = header.transpose().map_err(|_| Error::invalid("X-Scope-OrgID holds bytes that are not visible ASCII"))?;
        self.tenancy.resolve(header)
    }
}

/// `google.rpc.Status`, the body of every OTLP error.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Seconds>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// Whether the client should send the same again, after a pause. OTLP clients retry `RESOURCE_EXHAUSTED` only if told so.
pub(crate) fn is_retryable(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::TooMany | ErrorKind::Unavailable)
}

/// The error as OTLP sends it, with `RetryInfo` if trying again makes sense.
pub(crate) fn rpc_status(e: &Error, retry_after_seconds: u32) -> RpcStatus {
    let retry = || Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo { retry_delay: Some(Seconds { seconds: retry_after_seconds.into() }) }.encode_to_vec(),
    };
    let details = is_retryable(e).then(retry).into_iter().collect();
    RpcStatus { code: e.kind().grpc_code(), message: e.to_string(), details }
}

/// The answer to a push.
pub(crate) fn response(outcome: &PushOutcome) -> opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse {
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    let partial_success = (outcome.rejected_spans > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: outcome.rejected_spans as i64,
        error_message: outcome.message.clone().unwrap_or_default(),
    });
    ExportTraceServiceResponse { partial_success }
}

#[cfg(test)]
mod tests;
