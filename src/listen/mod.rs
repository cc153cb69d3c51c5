//! Listeners: bound first, so that a taken port is known at once; gates, closed until the process is ready.

mod connections;
mod tls;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, RwLock},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use self::tls::Tls;
use crate::{
    config::{ListenerName, ServerConfig},
    error::{Error, Result},
};

/// Where Jaeger UI looks for Jaeger.
const JAEGER_DEFAULT: &str = "127.0.0.1:16686";

/// Name of the file in the data folder that says what listens where.
const FILE: &str = "listeners.json";

/// Where the process listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// HTTP API and gRPC queries.
    pub http: SocketAddr,
    /// OTLP gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP HTTP.
    pub otlp_http: SocketAddr,
    /// Flight SQL.
    pub flight: SocketAddr,
    /// Jaeger query API, unless off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jaeger: Option<SocketAddr>,
}

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    addresses: Addresses,
    /// The process that listens there.
    pid: u32,
}

/// A bound socket, and the TLS of its connections.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
}

/// Bound sockets.
pub struct Listeners {
    /// HTTP API and gRPC queries.
    pub http: Listener,
    /// OTLP gRPC.
    pub otlp_grpc: Listener,
    /// OTLP HTTP.
    pub otlp_http: Listener,
    /// Flight SQL.
    pub flight: Listener,
    /// Jaeger query API, unless off.
    pub jaeger: Option<Listener>,
}

impl Listeners {
    /// Binds all, or names the flag of the first that cannot be.
    pub async fn bind(config: &ServerConfig) -> Result<Self> {
        let tls = Tls::new(config)?;
        let listener = |name: ListenerName, socket: TcpListener| {
            let tls = tls.clone().filter(|_| config.tls_listeners.contains(&name));
            Listener { socket, tls }
        };
        Ok(Self {
            http: listener(ListenerName::Http, bind("http-addr", &config.http_addr).await?),
            otlp_grpc: listener(ListenerName::OtlpGrpc, bind("otlp-grpc-addr", &config.otlp_grpc_addr).await?),
            otlp_http: listener(ListenerName::OtlpHttp, bind("otlp-http-addr", &config.otlp_http_addr).await?),
            flight: listener(ListenerName::Flight, bind("flight-addr", &config.flight_addr).await?),
            jaeger: bind_jaeger(&config.jaeger_addr).await?.map(|socket| listener(ListenerName::Jaeger, socket)),
        })
    }

    /// Where they are bound: the real ports where 0 was asked for.
    pub fn addresses(&self) -> Result<Addresses> {
        Ok(Addresses {
            http: self.http.socket.local_addr()?,
            otlp_grpc: self.otlp_grpc.socket.local_addr()?,
            otlp_http: self.otlp_http.socket.local_addr()?,
            flight: self.flight.socket.local_addr()?,
            jaeger: self.jaeger.as_ref().map(|l| l.socket.local_addr()).transpose()?,
        })
    }
}

/// Jaeger's usual port, unless an address is given: two servers on one machine need not be told apart for its sake.
async fn bind_jaeger(address: &str) -> Result<Option<TcpListener>> {
    Ok(Some(match address {
        "off" => return Ok(None),
        "" => match TcpListener::bind(JAEGER_DEFAULT).await {
            Ok(listener) => listener,
            Err(_) => bind("jaeger-addr", "127.0.0.1:0").await?,
        },
        address => bind("jaeger-addr", address).await?,
    }))
}

async fn bind(flag: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::failed(match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another process: choose another address with --{flag} (port 0 picks a free one)")
            }
            std::io::ErrorKind::InvalidInput => format!("--{flag} {address:?} is not an address: give HOST:PORT, such as 127.0.0.1:3200"),
            _ => format!("cannot listen on {address}: {e}: see --{flag}"),
        })
    })
}

impl Addresses {
    /// Writes them into the data folder, whole or not at all. The file is gone again after an orderly end.
    pub fn write(&self, data_dir: &Path) -> Result<ListenersFile> {
        let path = data_dir.join(FILE);
        let part = data_dir.join(format!("{FILE}.part"));
        let text = serde_json::to_string_pretty(&Written { addresses: *self, pid: std::process::id() })
            .map_err(|e| Error::failed(format!("{FILE}: {e}")))?;
        std::fs::write(&part, text + "\n")
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
        Ok(ListenersFile { path })
    }

    /// Forgets the file of a process that ended without order.
    pub fn forget(data_dir: &Path) {
        let _ = std::fs::remove_file(data_dir.join(FILE));
    }
}

/// Removes the file when dropped.
#[derive(Debug)]
pub struct ListenersFile {
    path: PathBuf,
}

impl Drop for ListenersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the process takes requests, and why not.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<Option<String>>>);

impl Readiness {
    /// Not ready, for this reason.
    pub fn not_yet(reason: &str) -> Self {
        Self(Arc::new(RwLock::new(Some(reason.to_owned()))))
    }

    /// Sets or takes away the reason for not being ready.
    pub fn set(&self, reason: Option<&str>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = reason.map(str::to_owned);
    }

    /// Why the process is not ready; `None` if it is.
    pub fn reason(&self) -> Option<String> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The answer to `/ready`.
    pub fn answer(&self) -> Response {
        match self.reason() {
            None => (StatusCode::OK, "ready\n").into_response(),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        }
    }
}

/// Stands before a router that is not there yet.
#[derive(Clone, Debug)]
pub struct Gate {
    readiness: Readiness,
    behind: Arc<OnceLock<Router>>,
}

impl Gate {
    /// A closed gate.
    pub fn new(readiness: Readiness) -> Self {
        Self { readiness, behind: Arc::default() }
    }

    /// Opens it, once.
    pub fn open(&self, router: Router) {
        let _ = self.behind.set(router);
    }

    async fn pass(self, request: Request<Body>) -> Response {
        if let Some(router) = self.behind.get() {
            let answer: Result<Response, Infallible> = router.clone().call(request).await;
            return answer.unwrap_or_else(|never| match never {});
        }
        let reason = self.readiness.reason().unwrap_or_else(|| "starting".to_owned());
        unavailable(&request, &reason)
    }

    /// Serves this gate on a listener, HTTP/1.1 and HTTP/2 on the same port, with TLS or without, until `stop`; then lets
    /// the requests under way finish.
    pub fn serve(&self, listener: Listener, stop: CancellationToken) -> JoinHandle<()> {
        let gate = self.clone();
        let router = Router::new().fallback(move |request: Request<Body>| gate.clone().pass(request));
        tokio::spawn(connections::serve(listener.socket, listener.tls, router, stop))
    }
}

fn unavailable(request: &Request<Body>, reason: &str) -> Response {
    if is_grpc(request) {
        return grpc_error(14, reason);
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{reason}\n")).into_response()
}

/// Whether the client speaks gRPC.
pub fn is_grpc(request: &Request<Body>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A gRPC answer that is only a status.
pub fn grpc_error(code: u16, message: &str) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(message) {
        headers.insert("grpc-message", message);
    }
    response
}

#[cfg(test)]
mod tests;
