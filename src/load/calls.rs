//! The calls that services make, with the attributes of OpenTelemetry's semantic conventions.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::Rng;

use super::{
    scene::{Fault, MICRO, Outcome, Scene, SpanRef},
    services::{Scope, Service, kv},
};

/// A gRPC method of the shop.
pub struct Method {
    /// Who serves it.
    pub service: Service,
    /// `rpc.service`.
    pub rpc_service: &'static str,
    /// `rpc.method`.
    pub method: &'static str,
    /// Microseconds of the handler's own work.
    pub work: u64,
}

/// Calls a method over gRPC: a client span in the caller's pod, a server span in another; `body` is the handler.
pub fn rpc(
    s: &mut Scene<'_>,
    parent: SpanRef,
    m: &Method,
    start: u64,
    body: impl FnOnce(&mut Scene<'_>, SpanRef, u64) -> Outcome,
) -> Outcome {
    let name = format!("{}/{}", m.rpc_service, m.method);
    let place = s.pod(m.service);
    let client = s.open(s.place(parent), Scope::Rpc, Some(parent), &name, SpanKind::Client, start);
    let arrives = start + s.latency(250);
    let server = s.open(place, Scope::Rpc, Some(client), &name, SpanKind::Server, arrives);
    for span in [client, server] {
        s.set(span, "rpc.system", "grpc");
        s.set(span, "rpc.service", m.rpc_service);
        s.set(span, "rpc.method", m.method);
        s.set(span, "server.address", m.service.name());
        s.set(span, "server.port", m.service.port());
    }
    s.set(client, "network.peer.address", format!("10.0.{}.{}", place.pod + 12, m.service.port() % 250));
    s.set(server, "network.type", "ipv4");
    let begin = arrives + s.latency(m.work / 2);
    let (end, result) = body(s, server, begin);
    let end = end + s.latency(m.work / 2);
    s.close(server, end, &result);
    let back = end + s.latency(200);
    s.close(client, back, &result);
    let code = result.as_ref().map_or_else(|f| f.grpc, |()| 0);
    s.set(client, "rpc.grpc.status_code", code);
    s.set(server, "rpc.grpc.status_code", code);
    (back, result)
}

/// A handler that does nothing but its own work.
pub fn work(_: &mut Scene<'_>, _: SpanRef, t: u64) -> Outcome {
    (t, Ok(()))
}

/// A request to an HTTP route.
pub struct Route {
    /// Who serves it.
    pub service: Service,
    /// `http.request.method`.
    pub method: &'static str,
    /// `http.route`.
    pub route: &'static str,
    /// `url.path`.
    pub path: String,
}

/// Serves an HTTP request, as the root of a trace or below a client span; `body` is the handler.
pub fn http_server(
    s: &mut Scene<'_>,
    parent: Option<SpanRef>,
    r: &Route,
    start: u64,
    body: impl FnOnce(&mut Scene<'_>, SpanRef, u64) -> Outcome,
) -> Outcome {
    let place = s.pod(r.service);
    let span = s.open(place, Scope::Http, parent, &format!("{} {}", r.method, r.route), SpanKind::Server, start);
    s.set(span, "http.request.method", r.method);
    s.set(span, "http.route", r.route);
    s.set(span, "url.path", r.path.as_str());
    s.set(span, "url.scheme", "https");
    s.set(span, "server.address", if parent.is_some() { r.service.name() } else { "shop.example.com" });
    s.set(span, "server.port", if parent.is_some() { r.service.port() } else { 443 });
    s.set(span, "network.protocol.version", if parent.is_some() { "1.1" } else { "2" });
    let begin = start + s.latency(400);
    let (end, result) = body(s, span, begin);
    let end = end + s.latency(300);
    s.set(span, "http.response.status_code", result.as_ref().map_or_else(|f| f.http, |()| 200));
    s.close(span, end, &result);
    (end, result)
}

/// Calls an HTTP route from another service.
pub fn http_call(
    s: &mut Scene<'_>,
    parent: SpanRef,
    r: &Route,
    start: u64,
    body: impl FnOnce(&mut Scene<'_>, SpanRef, u64) -> Outcome,
) -> Outcome {
    let client = http_client(s, parent, r.method, r.service.name(), r.service.port(), &r.path, start);
    let arrives = start + s.latency(300);
    let (end, result) = http_server(s, Some(client), r, arrives, body);
    let back = end + s.latency(250);
    s.set(client, "http.response.status_code", result.as_ref().map_or_else(|f| f.http, |()| 200));
    s.close(client, back, &result);
    (back, result)
}

/// Opens the client span of an HTTP call.
pub fn http_client(s: &mut Scene<'_>, parent: SpanRef, method: &str, address: &str, port: i64, path: &str, start: u64) -> SpanRef {
    let client = s.open(s.place(parent), Scope::Http, Some(parent), method, SpanKind::Client, start);
    s.set(client, "http.request.method", method);
    s.set(client, "server.address", address);
    s.set(client, "server.port", port);
    s.set(client, "url.full", format!("http://{address}:{port}{path}"));
    client
}

/// A statement for PostgreSQL.
pub struct Statement {
    /// `db.operation.name`.
    pub operation: &'static str,
    /// `db.collection.name`.
    pub table: &'static str,
    /// `db.namespace`.
    pub database: &'static str,
    /// `db.query.text`.
    pub text: &'static str,
    /// Microseconds it takes.
    pub median: u64,
}

/// Runs a statement; `slow` is a factor on its time. It fails once in two thousand.
pub fn postgres(s: &mut Scene<'_>, parent: SpanRef, q: &Statement, slow: u64, start: u64) -> Outcome {
    let span = s.open(s.place(parent), Scope::Db, Some(parent), &format!("{} {}", q.operation, q.table), SpanKind::Client, start);
    s.set(span, "db.system.name", "postgresql");
    s.set(span, "db.namespace", q.database);
    s.set(span, "db.collection.name", q.table);
    s.set(span, "db.operation.name", q.operation);
    s.set(span, "db.query.text", q.text);
    s.set(span, "server.address", format!("postgres-{}.shop.svc", q.database));
    s.set(span, "server.port", 5432);
    let end = start + s.latency(q.median * slow);
    let result = if s.chance(0.0005) {
        let message = "canceling statement due to statement timeout".to_owned();
        let fault = Fault { exception: "PSQLException", message, grpc: 4, http: 504 };
        s.set(span, "db.response.status_code", "57014");
        s.exception(span, end, &fault);
        Err(fault)
    } else {
        let rows = s.rng.random_range(1..40);
        s.set(span, "db.response.returned_rows", rows);
        Ok(())
    };
    s.close(span, end, &result);
    (end, result)
}

/// Runs a Redis command. It fails once in three thousand.
pub fn redis(s: &mut Scene<'_>, parent: SpanRef, command: &str, text: String, start: u64) -> Outcome {
    let span = s.open(s.place(parent), Scope::Db, Some(parent), command, SpanKind::Client, start);
    s.set(span, "db.system.name", "redis");
    s.set(span, "db.namespace", "0");
    s.set(span, "db.operation.name", command);
    s.set(span, "db.query.text", text);
    s.set(span, "server.address", "redis-cart.shop.svc");
    s.set(span, "server.port", 6379);
    let end = start + s.latency(350);
    let result = if s.chance(0.0003) {
        let message = "no connection is active to redis-cart:6379".to_owned();
        let fault = Fault { exception: "RedisConnectionException", message, grpc: 14, http: 503 };
        s.exception(span, end, &fault);
        Err(fault)
    } else {
        Ok(())
    };
    s.close(span, end, &result);
    (end, result)
}

/// The topic of placed orders.
pub const ORDERS: &str = "orders";

/// Publishes a message; gives the producer span.
pub fn publish(s: &mut Scene<'_>, parent: SpanRef, key: &str, start: u64) -> (u64, SpanRef) {
    let span = s.open(s.place(parent), Scope::Messaging, Some(parent), &format!("send {ORDERS}"), SpanKind::Producer, start);
    messaging(s, span, "send", "send");
    s.set(span, "messaging.kafka.message.key", key);
    let size = s.rng.random_range(400..2400);
    s.set(span, "messaging.message.body.size", size);
    let end = start + s.latency(900);
    s.close(span, end, &Ok(()));
    (end, span)
}

/// The attributes that all messaging spans share.
pub fn messaging(s: &mut Scene<'_>, span: SpanRef, operation: &str, kind: &str) {
    s.set(span, "messaging.system", "kafka");
    s.set(span, "messaging.destination.name", ORDERS);
    s.set(span, "messaging.operation.name", operation);
    s.set(span, "messaging.operation.type", kind);
    let partition = s.rng.random_range(0..6);
    s.set(span, "messaging.destination.partition.id", format!("{partition}"));
    let offset = s.rng.random_range(100_000..9_000_000);
    s.set(span, "messaging.kafka.offset", offset);
    s.set(span, "server.address", "kafka-0.kafka.shop.svc");
    s.set(span, "server.port", 9092);
}

/// A consumer that handles the message of `producer` in the same trace, after it was sent.
pub fn consume(
    s: &mut Scene<'_>,
    producer: SpanRef,
    service: Service,
    group: &str,
    at: u64,
    body: impl FnOnce(&mut Scene<'_>, SpanRef, u64) -> Outcome,
) -> Outcome {
    let place = s.pod(service);
    let start = at + s.latency(4_000);
    let span = s.open(place, Scope::Messaging, Some(producer), &format!("process {ORDERS}"), SpanKind::Consumer, start);
    messaging(s, span, "process", "process");
    s.set(span, "messaging.consumer.group.name", group);
    let context = s.context(producer);
    s.link(span, context, vec![kv("messaging.batch.index", 0)]);
    let (end, result) = body(s, span, start + 200 * MICRO);
    s.close(span, end, &result);
    (end, result)
}
