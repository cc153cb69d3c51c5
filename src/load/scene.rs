//! One trace in the making: spans are opened and closed at virtual times, so that children lie inside their parents.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::KeyValue,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};
use rand::{Rng, rngs::StdRng};
use std::collections::BTreeMap;

use super::services::{Attribute, Place, Scope, Service, kv};

/// Nanoseconds in a microsecond.
pub const MICRO: u64 = 1_000;
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// A span and where it was made.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pod.
    pub place: Place,
    /// The library.
    pub scope: Scope,
    /// The span.
    pub span: Span,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `exception.type`.
    pub exception: &'static str,
    /// `exception.message` and status message.
    pub message: String,
    /// gRPC status code.
    pub grpc: i64,
    /// HTTP status code.
    pub http: i64,
}

/// When something ended, and how.
pub type Outcome = (u64, Result<(), Fault>);

/// The trace that is being made.
pub struct Scene<'a> {
    /// Source of all chance.
    pub rng: &'a mut StdRng,
    trace_id: [u8; 16],
    placed: Vec<Placed>,
}

/// A span of the scene, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRef(usize);

impl<'a> Scene<'a> {
    /// An empty trace with a new id.
    pub fn new(rng: &'a mut StdRng) -> Self {
        let trace_id = rng.random::<[u8; 16]>();
        Self { rng, trace_id, placed: Vec::with_capacity(40) }
    }

    /// The spans made.
    pub fn finish(self) -> Vec<Placed> {
        self.placed
    }

    /// A pod of a service, by chance.
    pub fn pod(&mut self, service: Service) -> Place {
        Place { service, pod: self.rng.random_range(0..service.pods()) }
    }

    /// Whether something with this probability happens.
    pub fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    /// A latency around `median` microseconds: log-normal, with a tail twenty times as slow once in two hundred.
    pub fn latency(&mut self, median: u64) -> u64 {
        let (a, b): (f64, f64) = (self.rng.random_range(1e-9..1.0), self.rng.random::<f64>());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let tail = if self.chance(0.005) { 20.0 } else { 1.0 };
        ((median * MICRO) as f64 * (0.45 * normal).exp() * tail) as u64
    }

    /// Opens a span.
    pub fn open(&mut self, place: Place, scope: Scope, parent: Option<SpanRef>, name: &str, kind: SpanKind, start: u64) -> SpanRef {
        let span = Span {
            trace_id: self.trace_id.to_vec(),
            span_id: self.rng.random::<[u8; 8]>().to_vec(),
            parent_span_id: parent.map(|p| self.span(p).span_id.clone()).unwrap_or_default(),
            flags: if parent.is_some() { 0x101 } else { 1 },
            name: name.to_owned(),
            kind: kind as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: start,
            ..Default::default()
        };
        self.placed.push(Placed { place, scope, span });
        SpanRef(self.placed.len() - 1)
    }

    /// Closes a span; a fault becomes its error status.
    pub fn close(&mut self, at: SpanRef, end: u64, result: &Result<(), Fault>) {
        let span = &mut self.placed[at.0].span;
        span.end_time_unix_nano = end.max(span.start_time_unix_nano);
        if let Err(fault) = result {
            span.status = Some(Status { code: StatusCode::Error as i32, message: fault.message.clone() });
        }
    }

    /// Marks a span as successful, as some services do.
    pub fn ok(&mut self, at: SpanRef) {
        self.placed[at.0].span.status = Some(Status { code: StatusCode::Ok as i32, message: String::new() });
    }

    /// Adds an attribute.
    pub fn set(&mut self, at: SpanRef, key: &str, value: impl Attribute) {
        self.placed[at.0].span.attributes.push(kv(key, value));
    }

    /// Adds an event.
    pub fn event(&mut self, at: SpanRef, time: u64, name: &str, attributes: Vec<KeyValue>) {
        self.placed[at.0].span.events.push(Event { time_unix_nano: time, name: name.to_owned(), attributes, dropped_attributes_count: 0 });
    }

    /// Records where a fault began.
    pub fn exception(&mut self, at: SpanRef, time: u64, fault: &Fault) {
        let service = self.place(at).service.name();
        let trace =
            format!("{}: {}\n    at {service}.handle({service}:214)\n    at {service}.serve({service}:88)", fault.exception, fault.message);
        self.set(at, "error.type", fault.exception);
        let attributes = vec![
            kv("exception.type", fault.exception),
            kv("exception.message", fault.message.as_str()),
            kv("exception.stacktrace", trace),
            kv("exception.escaped", false),
        ];
        self.event(at, time, "exception", attributes);
    }

    /// Adds a link to a span, of this trace or another.
    pub fn link(&mut self, at: SpanRef, (trace_id, span_id): (Vec<u8>, Vec<u8>), attributes: Vec<KeyValue>) {
        self.placed[at.0].span.links.push(Link { trace_id, span_id, attributes, flags: 0x101, ..Default::default() });
    }

    /// Ids of a span.
    pub fn context(&self, at: SpanRef) -> (Vec<u8>, Vec<u8>) {
        (self.trace_id.to_vec(), self.span(at).span_id.clone())
    }

    /// The first span.
    pub fn root(&self) -> SpanRef {
        SpanRef(0)
    }

    /// Where a span was made.
    pub fn place(&self, at: SpanRef) -> Place {
        self.placed[at.0].place
    }

    fn span(&self, at: SpanRef) -> &Span {
        &self.placed[at.0].span
    }
}

/// Puts spans in one export request, grouped by resource and scope as a collector would send them.
pub fn request(placed: Vec<Placed>) -> ExportTraceServiceRequest {
    let mut groups: BTreeMap<Place, BTreeMap<Scope, Vec<Span>>> = BTreeMap::new();
    for p in placed {
        groups.entry(p.place).or_default().entry(p.scope).or_default().push(p.span);
    }
    let resource_spans = groups.into_iter().map(|(place, scopes)| ResourceSpans {
        resource: Some(place.resource()),
        scope_spans: scopes
            .into_iter()
            .map(|(scope, spans)| ScopeSpans { scope: Some(place.service.scope(scope)), spans, schema_url: SCHEMA_URL.to_owned() })
            .collect(),
        schema_url: SCHEMA_URL.to_owned(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}
