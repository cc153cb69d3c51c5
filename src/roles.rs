//! Wires the crates together: which part needs which, in one place. Everything here is glue.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracehouse_engine::{Engine, store::BlockStore};
use tracehouse_ingest::{
    Ingester, LiveStore,
    stats::{AttributeScope, DiscardReason, StatsSnapshot},
    wal::segment::FILE_HEADER_BYTES,
};
use tracehouse_sql::{Extensions, Sessions};
use tracehouse_traceql::{
    Api, StreamingQuerier,
    mcp::{self, ApiBackend, Docs},
};

use crate::{
    config::Config,
    error::Result,
    http::{self, Pages, Routers},
    listen::Readiness,
    metrics::{Labelled, Metrics, Samples},
};

/// Folder of the blocks in a data folder.
pub const BLOCKS: &str = "blocks";
/// Folder of the write-ahead log in a data folder.
pub const WAL: &str = "wal";

/// The parts of a process that does everything, as `/status/services` shows them.
const SERVICES: &[&str] = &["distributor", "ingester", "query-frontend", "querier", "flight-sql", "blocklist-poller"];

/// What runs behind the listeners.
pub struct Roles {
    /// Behind the HTTP port.
    pub http: Router,
    /// Behind the OTLP gRPC port.
    pub otlp_grpc: Router,
    /// Behind the OTLP HTTP port.
    pub otlp_http: Router,
    /// Behind the Flight port.
    pub flight: Router,
    /// Behind the Jaeger port.
    pub jaeger: Router,
    /// Where plans are made and run.
    pub sessions: Sessions,
    ingester: Arc<Ingester>,
}

/// Starts all parts: the write-ahead log is replayed and the blocks are listed when this returns. `stop` ends them; `end` is
/// cancelled when a request asks for the end of the process.
pub async fn start(
    config: &Config,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
    end: CancellationToken,
) -> Result<Roles> {
    let data_dir = config.server.data_dir();
    let tenancy = config.server.tenancy();
    let live = LiveStore::new(&config.ingest);
    let store = BlockStore::open_local(&data_dir.join(BLOCKS), true)?;
    let engine = Arc::new(Engine::new(store, config.engine.clone()).with_live(live.clone()));
    // The blocks first: the replay deletes the log of those that are there.
    readiness.set(Some("starting: listing the blocks"));
    engine.poll().await?;
    readiness.set(Some("starting: replaying the write-ahead log"));
    let ingester = Ingester::start(config.ingest.clone(), &data_dir.join(WAL), live.clone(), engine.clone(), stop.child_token()).await?;
    tokio::spawn(poll(engine.clone(), stop.clone()));
    let sessions = sessions(&config.sql, engine.clone())?;
    let api = Arc::new(Api::new(sessions.clone(), tenancy, config.traceql.clone()));
    let grpc = Routes::new(StreamingQuerier::new(api.clone())).into_axum_router();
    let routers = Routers {
        api: tracehouse_traceql::router(api.clone()).merge(mcp(&config.traceql, api.clone())),
        querier: tracehouse_traceql::querier_router(api.clone()),
        others: tracehouse_ingest::admin_router(ingester.clone()).merge(grpc.reset_fallback()),
    };
    let otlp_grpc = Routes::new(tracehouse_ingest::grpc_service(ingester.clone(), tenancy));
    let otlp_http = tracehouse_ingest::router(ingester.clone(), tenancy);
    let flight = Routes::new(tracehouse_flight::service(sessions.clone(), tenancy, config.flight.clone()));
    watch_engine(&metrics, engine);
    watch_queries(&metrics, sessions.clone());
    watch_ingest(&metrics, ingester.clone());
    let pages = Pages { readiness, metrics: metrics.clone(), config: config.clone(), services: SERVICES.to_vec(), end };
    Ok(Roles {
        http: http::router(Arc::new(pages), routers),
        otlp_grpc: http::other("otlp_grpc", "OTLP over gRPC", metrics.clone(), otlp_grpc.into_axum_router()),
        otlp_http: http::other("otlp_http", "OTLP over HTTP: POST /v1/traces", metrics.clone(), otlp_http),
        flight: http::other("flight", "Arrow Flight SQL", metrics.clone(), flight.into_axum_router()),
        jaeger: http::other("jaeger", "requests of Jaeger UI, such as /api/services", metrics, tracehouse_traceql::jaeger::router(api)),
        sessions,
        ingester,
    })
}

impl Roles {
    /// Ends what must not be cut off: what was acknowledged is safe when this returns.
    pub async fn shutdown(self) {
        self.ingester.shutdown().await;
    }
}

/// The endpoint for language models, if it is wanted.
fn mcp(config: &tracehouse_traceql::Config, api: Arc<Api>) -> Router {
    if !config.mcp_enabled {
        return Router::new();
    }
    let docs = Docs {
        traceql: include_str!("../docs/traceql.md"),
        metrics: include_str!("../docs/traceql-metrics.md"),
        sql: include_str!("../docs/sql.md"),
        operate: include_str!("../docs/operate.md"),
        settings: include_str!("../docs/config.md"),
    };
    let hosts = config.mcp_allowed_hosts.split(',').map(|h| h.trim().to_owned()).filter(|h| !h.is_empty()).collect();
    Router::new().route_service("/api/mcp", mcp::service(ApiBackend::new(api), docs, hosts))
}

/// Sessions that know TraceQL's functions too.
pub fn sessions(config: &tracehouse_sql::Config, engine: Arc<Engine>) -> Result<Sessions> {
    let functions = Arc::new(tracehouse_traceql::table::TableFunctions::default());
    let extensions = Extensions { sessions: vec![functions], ..Extensions::default() };
    Ok(Sessions::with_extensions(config.clone(), engine, extensions)?)
}

/// Lists the blocks again and again, for those that others wrote.
async fn poll(engine: Arc<Engine>, stop: CancellationToken) {
    let pause = Duration::from_secs(engine.config().blocklist_poll_seconds.max(1));
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if let Err(e) = engine.poll().await {
            tracing::warn!(error = %e, "the blocks could not be listed: the last list stays");
        }
    }
}

/// Adds the spans of a data folder that are in its write-ahead log only.
pub async fn with_unflushed(engine: Engine, data_dir: &Path) -> Result<Engine> {
    if has_unflushed(&data_dir.join(WAL)) {
        eprintln!(
            "hint: {} has spans that are not in a block yet and not in this answer: ask its server, or let it write them with GET /flush",
            data_dir.display()
        );
    }
    Ok(engine)
}

/// Whether a write-ahead log holds anything: one of its segments is more than a header.
fn has_unflushed(wal: &Path) -> bool {
    let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "wal");
    files(wal.to_owned())
        .flat_map(|tenant| files(tenant.path()))
        .filter(|file| is_segment(&file.path()))
        .any(|file| file.metadata().is_ok_and(|m| m.len() > FILE_HEADER_BYTES as u64))
}

/// What the engine counts.
fn watch_engine(metrics: &Metrics, engine: Arc<Engine>) {
    metrics.collect("engine", move |out: &mut Samples<'_>| {
        let tenants = engine.tenants();
        let blocks = tenants.iter().map(|t| (vec![("tenant", t.to_string())], engine.snapshot(t).blocks.len() as f64));
        out.gauges("tempodb_blocklist_length", "Blocks of each tenant", blocks.collect::<Vec<Labelled>>())?;
        let (requests, bytes) = engine.store().counters();
        out.counter("tracehouse_store_requests", "Requests to the block store", requests as f64)?;
        out.counter("tracehouse_store_read_bytes", "Bytes read from the block store", bytes as f64)?;
        let columns = engine.column_cache();
        out.counter("tracehouse_column_cache_hits", "Columns that queries asked for and that were remembered", columns.hits as f64)?;
        out.counter("tracehouse_column_cache_misses", "Columns that were decoded for all spans", columns.misses as f64)?;
        out.gauge("tracehouse_column_cache_bytes", "Memory for columns that were decoded lately", columns.bytes as f64)?;
        let (skipped, failed) = engine.block_failures().counts();
        let outcome = |name: &str, count: u64| (vec![("outcome", name.to_owned())], count as f64);
        let help = "Blocks that a query could not read, and went without (skipped) or failed (failed)";
        out.counters("tracehouse_block_failures", help, [outcome("skipped", skipped), outcome("failed", failed)])
    });
}

/// What the gate before all queries counts.
fn watch_queries(metrics: &Metrics, sessions: Sessions) {
    let tasks = tokio::runtime::Handle::current().metrics();
    metrics.collect("queries", move |out: &mut Samples<'_>| {
        let gate = sessions.admission();
        let queued = gate.queued.iter().map(|(tenant, n)| (vec![("tenant", tenant.to_string())], *n as f64));
        out.gauges("tempo_query_frontend_queue_length", "Queries that wait for their turn", queued.collect::<Vec<Labelled>>())?;
        out.counter("tempo_query_frontend_discarded_requests", "Queries refused because a queue was full", gate.rejected as f64)?;
        out.gauge("tracehouse_queries_running", "Queries that run", gate.running as f64)?;
        out.counter("tracehouse_queries_admitted", "Queries that were let in", gate.admitted as f64)?;
        out.counter("tracehouse_queries_timed_out", "Queries that took longer than they may", gate.timed_out as f64)?;
        out.counter("tracehouse_query_wait_seconds", "Time that queries have waited for their turn", gate.waited.as_secs_f64())?;
        out.gauge("tracehouse_tasks", "Tasks of the process, of queries and connections among others", tasks.num_alive_tasks() as f64)
    });
}

/// What the write path counts, by tenant: name, meaning, value.
type IngestCounter = (&'static str, &'static str, fn(&StatsSnapshot) -> u64);

const INGEST_COUNTERS: &[IngestCounter] = &[
    ("tracehouse_ingest_requests", "Requests received", |s| s.requests),
    ("tempo_distributor_spans_received", "Spans received", |s| s.received_spans),
    ("tempo_distributor_bytes_received", "Size of the requests as OTLP protobuf", |s| s.received_bytes),
    ("tracehouse_wal_bytes", "Bytes appended to the write-ahead log", |s| s.log_bytes),
    ("tracehouse_wal_syncs", "Times the write-ahead log was synced", |s| s.log_syncs),
    ("tracehouse_wal_failures", "Times the write-ahead log could not be written", |s| s.log_failures),
    ("tempo_ingester_blocks_flushed", "Blocks committed", |s| s.blocks_flushed),
    ("tempo_ingester_failed_flushes", "Tries to commit a block that failed", |s| s.flush_failures),
];

fn watch_ingest(metrics: &Metrics, ingester: Arc<Ingester>) {
    metrics.collect("ingest", move |out: &mut Samples<'_>| {
        let stats = ingester.stats();
        let by = |label: &'static str, name: &'static str, value: &dyn Fn(&StatsSnapshot) -> u64| -> Vec<Labelled> {
            stats.iter().map(|(t, s)| (vec![("tenant", t.to_string()), (label, name.to_owned())], value(s) as f64)).collect()
        };
        for (name, help, value) in INGEST_COUNTERS {
            let values = stats.iter().map(|(t, s)| (vec![("tenant", t.to_string())], value(s) as f64));
            out.counters(name, help, values.collect::<Vec<_>>())?;
        }
        let discarded = DiscardReason::ALL.into_iter().flat_map(|r| by("reason", r.as_str(), &|s| s.discarded_spans[r as usize]));
        out.counters("tempo_discarded_spans", "Spans not taken", discarded.collect::<Vec<_>>())?;
        let cut = AttributeScope::ALL.into_iter().flat_map(|a| by("scope", a.as_str(), &|s| s.truncated_attributes[a as usize]));
        out.counters("tempo_distributor_attributes_truncated", "Attribute keys and values that were cut", cut.collect::<Vec<_>>())?;
        out.gauge("tempo_ingester_live_traces", "Traces with spans that are in no block yet", ingester.live().live_traces() as f64)?;
        out.gauge("tempo_ingester_live_trace_bytes", "Size of these spans as OTLP protobuf", ingester.live().live_bytes() as f64)
    });
}
