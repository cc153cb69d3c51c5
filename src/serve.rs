//! A server from its start to its end.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracehouse_ingest::DataDirLock;
use tracehouse_sql::Sessions;

use crate::{
    config::Config,
    error::{Error, Result},
    listen::{Addresses, Gate, Listeners, ListenersFile, Readiness},
    metrics::Metrics,
    roles::{self, Roles},
};

/// A server that runs.
pub struct Server {
    /// Where it listens.
    pub addresses: Addresses,
    roles: Roles,
    readiness: Readiness,
    /// Cancelled: stop accepting, finish the requests under way.
    stop: CancellationToken,
    /// Cancelled when a request (`/shutdown`) asks for the end.
    pub end: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
    patience: Duration,
    // Dropped last, in this order: the file goes before another process can have the folder.
    _file: ListenersFile,
    _lock: DataDirLock,
}

impl Server {
    /// Takes the data folder, binds the listeners, replays the log, lists the blocks; ready when this returns.
    pub async fn start(config: Config) -> Result<Self> {
        let data_dir = config.server.data_dir();
        let lock = DataDirLock::acquire(data_dir).map_err(|e| Error::failed(format!("{e}: see --data-dir")))?;
        Addresses::forget(data_dir);
        let listeners = Listeners::bind(&config.server).await?;
        let addresses = listeners.addresses()?;
        let file = addresses.write(data_dir)?;
        let readiness = Readiness::not_yet("starting: replaying the write-ahead log");
        let stop = CancellationToken::new();
        // Whoever drops a half-started server frees its ports.
        let guard = stop.clone().drop_guard();
        let gates: [Gate; 5] = std::array::from_fn(|_| Gate::new(readiness.clone()));
        let [http, otlp_grpc, otlp_http, flight, jaeger] = &gates;
        let mut serving = vec![
            http.serve(listeners.http, stop.clone()),
            otlp_grpc.serve(listeners.otlp_grpc, stop.clone()),
            otlp_http.serve(listeners.otlp_http, stop.clone()),
            flight.serve(listeners.flight, stop.clone()),
        ];
        serving.extend(listeners.jaeger.map(|listener| jaeger.serve(listener, stop.clone())));
        tracing::info!(http = %addresses.http, otlp_grpc = %addresses.otlp_grpc, otlp_http = %addresses.otlp_http,
            flight = %addresses.flight, jaeger = ?addresses.jaeger, data_dir = %data_dir.display(), "listening");
        let end = CancellationToken::new();
        let mut roles = roles::start(&config, readiness.clone(), Arc::new(Metrics::new()), &stop, end.clone()).await?;
        http.open(std::mem::take(&mut roles.http));
        otlp_grpc.open(std::mem::take(&mut roles.otlp_grpc));
        otlp_http.open(std::mem::take(&mut roles.otlp_http));
        flight.open(std::mem::take(&mut roles.flight));
        jaeger.open(std::mem::take(&mut roles.jaeger));
        readiness.set(None);
        tracing::info!("ready");
        guard.disarm();
        let patience = Duration::from_secs(config.server.shutdown_timeout_seconds);
        Ok(Self { addresses, roles, readiness, stop, end, listeners: serving, patience, _file: file, _lock: lock })
    }

    /// Where plans are made and run.
    pub fn sessions(&self) -> &Sessions {
        &self.roles.sessions
    }

    /// Ends in order: no new requests, those under way finish within the time bound, what is live is kept.
    pub async fn shutdown(self) -> Result<()> {
        tracing::info!("stopping");
        self.readiness.set(Some("stopping"));
        self.stop.cancel();
        let finished = async {
            for listener in self.listeners {
                let _ = listener.await;
            }
        };
        if tokio::time::timeout(self.patience, finished).await.is_err() {
            tracing::warn!(
                seconds = self.patience.as_secs(),
                "requests were cut off: they took longer than server.shutdown_timeout_seconds"
            );
        }
        self.roles.shutdown().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Runs a server until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    // A long replay can be broken off: it has changed nothing.
    let Some(server) = shutdown.run_until_cancelled(Server::start(config)).await else { return Ok(()) };
    let server = server?;
    shutdown.run_until_cancelled(server.end.cancelled()).await;
    server.shutdown().await
}
