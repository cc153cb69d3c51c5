//! OTLP/gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.

use std::sync::Arc;

use async_trait::async_trait;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding};
use tracehouse_engine::{
    Error,
    tenant::{TENANT_HEADER, Tenancy},
};

use super::{Receiver, response, rpc_status};
use crate::ingester::Ingester;

/// The service, to be added to a tonic server. Takes gzip; refuses messages over `max_request_bytes`.
pub fn grpc_service(ingester: Arc<Ingester>, tenancy: Tenancy) -> TraceServiceServer<impl TraceService> {
    let limit = ingester.config().max_request_bytes;
    TraceServiceServer::new(OtlpGrpc(Receiver { ingester, tenancy }))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit)
}

struct OtlpGrpc(Receiver);

#[async_trait]
impl TraceService for OtlpGrpc {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let retry_after = self.0.ingester.config().retry_after_seconds;
        let status = |e: Error| status(&e, retry_after);
        let tenant = self.0.tenant(request.metadata().get(TENANT_HEADER).map(|v| v.to_str())).map_err(status)?;
        let request = request.into_inner();
        let encoded_len = request.encoded_len();
        let outcome = self.0.ingester.push(&tenant, request, encoded_len).await.map_err(status)?;
        Ok(Response::new(response(&outcome)))
    }
}

fn status(e: &Error, retry_after_seconds: u32) -> Status {
    let rpc = rpc_status(e, retry_after_seconds);
    Status::with_details(Code::from_i32(rpc.code), rpc.message.clone(), rpc.encode_to_vec().into())
}
