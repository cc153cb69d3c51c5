//! The receivers, as clients meet them.

use std::io::Write;

use ::http::{Request, Response, StatusCode};
use axum::body::Body;
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, codec::CompressionEncoding};
use tower::ServiceExt;
use tracehouse_engine::{TenantId, trace::Span};

use super::*;
use crate::{
    Config, LiveStore, admin_router, grpc_service, router,
    test_support::{FakeStore, FaultyIo, SharedIo, request, span},
};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

struct Server {
    ingester: Arc<Ingester>,
    live: Arc<LiveStore>,
    store: Arc<FakeStore>,
    io: Arc<FaultyIo>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (live, store, io, shutdown) =
            (LiveStore::new(&config), Arc::<FakeStore>::default(), Arc::<FaultyIo>::default(), CancellationToken::new());
        let disk = Arc::new(SharedIo(io.clone()));
        let ingester = Ingester::start_with(config, dir.path(), live.clone(), store.clone(), disk, shutdown.clone()).await.unwrap();
        Self { ingester, live, store, io, shutdown, _dir: dir }
    }

    fn visible(&self, tenant: &str) -> Vec<u64> {
        self.store.visible(&self.live, &tenant.parse().unwrap())
    }

    async fn send(&self, tenancy: Tenancy, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/v1/traces");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router(self.ingester.clone(), tenancy).oneshot(request.body(body.into()).unwrap()).await.unwrap();
        Answer::of(response).await
    }

    async fn post(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        self.send(Tenancy::Single, &[("content-type", content_type)], body).await
    }
}

struct Answer {
    status: StatusCode,
    content_type: String,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let header = |name| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (content_type, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec();
        Self { status, content_type, retry_after, body }
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.content_type, JSON);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn rpc_status(&self) -> RpcStatus {
        assert_eq!(self.content_type, PROTOBUF);
        RpcStatus::decode(self.body.as_slice()).unwrap()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn json_span(trace: &str, span: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace}","spanId":"{span}","name":"n"}}]}}]}}]}}"#)
}

#[tokio::test]
async fn protobuf_and_json_are_answered_in_kind() {
    let server = Server::start(Config::default()).await;
    let body = request("a", [span(1, 1)]).encode_to_vec();
    for content_type in [PROTOBUF, "application/protobuf", "Application/X-Protobuf; charset=utf-8"] {
        let answer = server.post(content_type, body.clone()).await;
        assert_eq!((answer.status, answer.content_type.as_str(), answer.body.len()), (StatusCode::OK, PROTOBUF, 0));
    }
    let answer = server.post("application/json; charset=utf-8", json_span(&"01".repeat(16), "0000000000000002")).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, serde_json::json!({"partialSuccess": {}})));
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let packed = gzip(&request("a", [span(1, 3)]).encode_to_vec());
    assert_eq!(server.send(Tenancy::Single, &headers, packed).await.status, StatusCode::OK);
    assert_eq!(server.post(PROTOBUF, Vec::new()).await.status, StatusCode::OK);
    // What was sent three times is there three times, as in Tempo.
    assert_eq!(server.visible(TenantId::SINGLE), [1, 1, 1, 2, 3]);
}

#[tokio::test]
async fn bad_spans_are_reported_and_good_ones_taken() {
    let server = Server::start(Config::default()).await;
    let answer = server.post(PROTOBUF, request("a", [span(1, 1), Span::default()]).encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace id has 0 bytes instead of 16"), "{}", partial.error_message);
    let answer = server.post(PROTOBUF, request("a", [Span::default()]).encode_to_vec()).await;
    assert_eq!((answer.status, answer.rpc_status().code), (StatusCode::BAD_REQUEST, 3));
    let answer = server.post(JSON, json_span(&"00".repeat(16), "0000000000000002")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::BAD_REQUEST, &serde_json::json!(3)));
    assert_eq!(server.visible(TenantId::SINGLE), [1]);
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say() {
    let server = Server::start(Config { max_request_bytes: 10_000, ..Config::default() }).await;
    let good = request("a", [span(1, 1)]).encode_to_vec();
    let mut lying = good.clone();
    lying[1] = 0x7f;
    for body in [&good[..good.len() - 1], &good[..good.len() / 2], &lying, b"\xff\xff\xff\xff", b"{}"] {
        let answer = server.post(PROTOBUF, body.to_vec()).await;
        assert_eq!((answer.status, answer.rpc_status().code), (StatusCode::BAD_REQUEST, 3), "{body:?}");
        assert!(answer.rpc_status().details.is_empty() && answer.retry_after.is_none());
    }
    let answer = server.post(JSON, "{\"resourceSpans\": 5}").await;
    assert_eq!(answer.json()["message"], "not an OTLP trace request: resourceSpans must be an array");
    assert_eq!(server.post("text/plain", good.clone()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(server.send(Tenancy::Single, &[], good.clone()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let zstd = [("content-type", PROTOBUF), ("content-encoding", "zstd")];
    assert_eq!(server.send(Tenancy::Single, &zstd, good.clone()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let gzipped = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(server.send(Tenancy::Single, &gzipped, good.clone()).await.status, StatusCode::BAD_REQUEST);
    let packed = gzip(&good);
    assert_eq!(server.send(Tenancy::Single, &gzipped, packed[..packed.len() - 4].to_vec()).await.status, StatusCode::BAD_REQUEST);
    let bomb = gzip(&vec![0; 20 << 20]);
    assert!(bomb.len() > 10_000, "refused by its packed size");
    assert_eq!(server.send(Tenancy::Single, &gzipped, bomb).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let small_bomb = gzip(&vec![0; 1 << 20]);
    assert!(small_bomb.len() < 10_000, "refused while unpacking");
    assert_eq!(server.send(Tenancy::Single, &gzipped, small_bomb).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let answer = server.post(PROTOBUF, vec![0; 10_001]).await;
    assert_eq!((answer.status, answer.rpc_status().code), (StatusCode::PAYLOAD_TOO_LARGE, 8));
    assert!(answer.rpc_status().details.is_empty(), "the same again would not help");
    assert!(server.visible(TenantId::SINGLE).is_empty());
}

#[tokio::test]
async fn tenants_are_kept_apart() {
    let server = Server::start(Config::default()).await;
    let body = |n| request("a", [span(1, n)]).encode_to_vec();
    let header = |tenant| [("content-type", PROTOBUF), ("x-scope-orgid", tenant)];
    assert_eq!(server.send(Tenancy::FromHeader, &header("a"), body(1)).await.status, StatusCode::OK);
    assert_eq!(server.send(Tenancy::FromHeader, &header("b"), body(2)).await.status, StatusCode::OK);
    assert_eq!(server.send(Tenancy::Single, &header("b"), body(3)).await.status, StatusCode::OK);
    let nobody = server.send(Tenancy::FromHeader, &[("content-type", PROTOBUF)], body(4)).await;
    assert_eq!((nobody.status, nobody.rpc_status().code), (StatusCode::UNAUTHORIZED, 16));
    assert_eq!(server.send(Tenancy::FromHeader, &header("../x"), body(5)).await.status, StatusCode::BAD_REQUEST);
    assert_eq!((server.visible("a"), server.visible("b"), server.visible(TenantId::SINGLE)), (vec![1], vec![2], vec![3]));
}

#[tokio::test]
async fn clients_are_told_to_come_back() {
    let server = Server::start(Config { retry_after_seconds: 7, ..Config::default() }).await;
    let body = || request("a", [span(1, 1)]).encode_to_vec();
    server.io.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = server.post(PROTOBUF, body()).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("7")));
    assert_eq!((answer.rpc_status().code, answer.rpc_status().details.len()), (14, 1));
    server.io.full.store(false, std::sync::atomic::Ordering::SeqCst);
    server.shutdown.cancel();
    let answer = server.post(JSON, "{}").await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("7")));
    assert!(answer.json()["message"].as_str().unwrap().contains("shutting down"));
}

#[tokio::test]
async fn flush_over_http() {
    let server =
        Server::start(Config { flush_wait_ms: 3000, flush_retry_min_ms: 60_000, flush_retry_max_ms: 60_000, ..Config::default() }).await;
    server.post(PROTOBUF, request("a", [span(1, 1)]).encode_to_vec()).await;
    let flush = |method: &'static str, uri: &'static str| {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let answer = admin_router(server.ingester.clone()).oneshot(request);
        async { Answer::of(answer.await.unwrap()).await }
    };
    assert_eq!(flush("GET", "/flush?tenant=single-tenant").await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.store.blocks.lock().len(), 1);
    assert_eq!(flush("POST", "/flush").await.status, StatusCode::NO_CONTENT);
    assert_eq!(flush("GET", "/flush?tenant=nobody").await.status, StatusCode::NOT_FOUND);
    assert_eq!(flush("GET", "/flush?tenant=a%2Fb").await.status, StatusCode::BAD_REQUEST);
    server.post(PROTOBUF, request("a", [span(1, 2)]).encode_to_vec()).await;
    server.store.fail_before.store(1, std::sync::atomic::Ordering::SeqCst);
    let answer = flush("GET", "/flush").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(answer.body).unwrap().contains("last error: the store is down"));
}

#[tokio::test]
async fn grpc() {
    let server = Server::start(Config { max_request_bytes: 4000, ..Config::default() }).await;
    let service = grpc_service(server.ingester.clone(), Tenancy::FromHeader);
    let client = TraceServiceClient::new(service).send_compressed(CompressionEncoding::Gzip);
    let send = |tenant: &'static str, export: ExportTraceServiceRequest| {
        let mut client = client.clone();
        async move {
            let mut request = tonic::Request::new(export);
            if !tenant.is_empty() {
                request.metadata_mut().insert("x-scope-orgid", tenant.parse().unwrap());
            }
            client.export(request).await.map(tonic::Response::into_inner)
        }
    };
    assert_eq!(send("a", request("svc", [span(1, 1)])).await.unwrap(), ExportTraceServiceResponse::default());
    let partial = send("a", request("svc", [span(1, 2), Span::default()])).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(send("a", request("svc", [Span::default()])).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(send("", request("svc", [span(1, 3)])).await.unwrap_err().code(), Code::Unauthenticated);
    let large = request("svc", (0..1000).map(|n| span(1, n + 10)));
    assert!(gzip(&large.encode_to_vec()).len() < large.encoded_len() / 5);
    let code = send("a", large).await.unwrap_err().code();
    assert!(matches!(code, Code::OutOfRange | Code::ResourceExhausted), "{code:?}");
    server.shutdown.cancel();
    let status = send("a", request("svc", [span(1, 4)])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = RpcStatus::decode(status.details()).unwrap().details;
    assert_eq!(details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert_eq!(server.visible("a"), [1, 2]);
}
