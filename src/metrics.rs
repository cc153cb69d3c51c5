//! What `/metrics` shows: counters of requests, and at each scrape what the other crates and the kernel have counted.
//!
//! Where Tempo has a metric, it has Tempo's name, so that its dashboards and alerts go on working.

use std::{
    fmt,
    sync::{PoisonError, RwLock},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tracehouse_engine::clock;

/// Labels of a request. The path is the route, never what the client sent, so that their number is bounded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    listener: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    listener: String,
    route: String,
}

/// The metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram>,
}

/// Counts requests of one listener; state of [`count`].
#[derive(Clone, Debug)]
pub struct Listener {
    /// The metrics.
    pub metrics: std::sync::Arc<Metrics>,
    /// The listener's name.
    pub name: &'static str,
}

impl Metrics {
    /// The metrics that every process has.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        let latency = Family::<RouteLabels, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16)));
        registry.register("tracehouse_requests", "Requests answered, by listener, route and HTTP status", requests.clone());
        registry.register("tracehouse_request_duration_seconds", "Time to the answer's first byte", latency.clone());
        registry.register_collector(Box::new(Process { began: clock::now(), start_unix: clock::now_unix_nanos() as f64 / 1e9 }));
        Self { registry: RwLock::new(registry), requests, latency }
    }

    /// Adds values that are read at each scrape.
    pub fn collect(&self, what: &'static str, read: impl Fn(&mut Samples<'_>) -> fmt::Result + Send + Sync + 'static) {
        self.registry.write().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(Reader { what, read: Box::new(read) }));
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut out, &self.registry.read().unwrap_or_else(PoisonError::into_inner));
        out
    }

    fn answered(&self, listener: &str, route: String, status: u16, began: Instant) {
        let listener = listener.to_owned();
        self.latency
            .get_or_create(&RouteLabels { listener: listener.clone(), route: route.clone() })
            .observe(began.elapsed().as_secs_f64());
        self.requests.get_or_create(&RequestLabels { listener, route, status }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Middleware that counts requests by route.
pub async fn count(State(listener): State<Listener>, request: Request<Body>, next: Next) -> Response {
    let began = clock::now();
    let path = request.uri().path();
    let route = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        // gRPC: all methods of a service share one route, and the router let only known services pass.
        Some(route) if route.ends_with("{*rest}") && path.len() < 100 => path.to_owned(),
        Some(route) => route.to_owned(),
        None => "other".to_owned(),
    };
    let response = next.run(request).await;
    let route = if is_unknown_method(&response) { "other".to_owned() } else { route };
    listener.metrics.answered(listener.name, route, response.status().as_u16(), began);
    response
}

/// A gRPC answer "unimplemented": the path is the client's invention.
fn is_unknown_method(response: &Response) -> bool {
    response.headers().get("grpc-status").is_some_and(|s| s == "12")
}

/// Takes values at a scrape.
#[derive(Debug)]
pub struct Samples<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// A value with its labels.
pub type Labelled = (Vec<(&'static str, String)>, f64);

impl Samples<'_> {
    /// A counter with labels; its name ends in `_total` when shown.
    pub fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A gauge with labels.
    pub fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = Labelled>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstCounter::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

struct Reader {
    what: &'static str,
    #[allow(clippy::type_complexity)]
    read: Box<dyn Fn(&mut Samples<'_>) -> fmt::Result + Send + Sync>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Collector for Reader {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.read)(&mut Samples { encoder })
    }
}

#[derive(Debug)]
struct Process {
    began: Instant,
    start_unix: f64,
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Samples { encoder };
        out.gauges("tracehouse_build_info", "Version of this process", [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)])?;
        out.gauge("process_start_time_seconds", "When the process started, in Unix seconds", self.start_unix)?;
        out.gauge("tracehouse_uptime_seconds", "How long the process runs", self.began.elapsed().as_secs_f64())?;
        // Linux only; elsewhere the files are not there.
        if let Some((resident, cpu)) = usage() {
            out.gauge("process_resident_memory_bytes", "Memory in use", resident)?;
            out.counter("process_cpu_seconds", "Processor time used", cpu)?;
        }
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            out.gauge("process_open_fds", "Open files", fds.count() as f64)?;
        }
        Ok(())
    }
}

/// Resident bytes and processor seconds, from `/proc/self` with Linux's usual page and tick.
fn usage() -> Option<(f64, f64)> {
    const TICKS: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches("kB").trim().parse::<f64>().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses and may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (user, system) = (fields.get(11)?.parse::<f64>().ok()?, fields.get(12)?.parse::<f64>().ok()?);
    Some((resident * 1024.0, (user + system) / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new();
        metrics.collect("test", |out| out.counters("tempo_test", "help", [(vec![("tenant", "a".to_owned())], 5.0)]));
        metrics.answered("http", "/api/search".to_owned(), 200, clock::now());
        let text = metrics.text();
        for line in [
            "tempo_test_total{tenant=\"a\"} 5.0",
            "tracehouse_requests_total{listener=\"http\",route=\"/api/search\",status=\"200\"} 1",
            "tracehouse_uptime_seconds ",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
