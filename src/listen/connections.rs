//! Connections of a listener: accepted, through TLS if that is set, served as HTTP/1.1 or HTTP/2 on one port. A client that is
//! silent or gone does not hold its connection for ever.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tls::Tls;

/// Longest time for the start of a TLS connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest wait for the head of a request, also between two requests of a connection.
const HEAD: Duration = Duration::from_secs(120);
/// Longest wait for a client that takes no bytes.
const STALL: Duration = Duration::from_secs(60);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Largest head of an HTTP/2 request in bytes.
const HEAD_BYTES_MAX: u32 = 256 << 10;
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1000;
/// Pause after an error of the listener, which is most often a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves a router until `stop`, then lets the requests under way finish.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((socket, _)) => drop(connections.spawn(connection(socket, tls.clone(), router.clone(), stop.clone()))),
            Err(e) if is_of_client(&e) => {}
            Err(e) => {
                tracing::error!(error = %e, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn is_of_client(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset)
}

async fn connection(socket: TcpStream, tls: Option<Arc<Tls>>, router: Router, stop: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let socket = Patient { socket, stalled: None };
    let Some(tls) = tls else { return requests(socket, router, stop).await };
    match tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(socket)).await {
        Ok(Ok(socket)) => requests(socket, router, stop).await,
        Ok(Err(e)) => tracing::debug!(error = %e, "TLS connection refused"),
        Err(_) => tracing::debug!("TLS connection refused: the client takes too long"),
    }
}

async fn requests(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, router: Router, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "connection ended");
    }
}

/// A socket that is given up when the other side takes nothing for too long.
struct Patient {
    socket: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// What a write has come to, or an error if it has waited too long.
    fn judged<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.judged(context, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, bytes);
        self.judged(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.judged(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
