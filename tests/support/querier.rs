//! The streamed query API as a tonic client calls it.

use prost::Message;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::CompressionEncoding,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use super::{Server, block_on};

/// A client on the HTTP port of a server.
#[derive(Clone)]
pub struct Querier(Grpc<Channel>);

impl Querier {
    /// Connects when it is used first.
    pub fn new(server: &Server) -> Self {
        let endpoint = Endpoint::from_shared(server.url("")).unwrap();
        Self::over(&endpoint)
    }

    /// The same over TLS, trusting this certificate only; with a certificate and its key of its own, if the server asks for one.
    pub fn with_tls(server: &Server, ca: &str, own: Option<(&str, &str)>) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
        let tls = own.map_or(tls.clone(), |(cert, key)| tls.identity(Identity::from_pem(cert, key)));
        let endpoint = Endpoint::from_shared(server.url("")).unwrap().tls_config(tls).unwrap();
        Self::over(&endpoint)
    }

    /// Takes compressed messages, as Grafana does. Its connection is a task of the tests' runtime.
    fn over(endpoint: &Endpoint) -> Self {
        Self(block_on(async { Grpc::new(endpoint.connect_lazy()).accept_compressed(CompressionEncoding::Gzip) }))
    }

    /// Calls a method.
    pub async fn call<M, R>(&self, method: &str, request: Request<M>) -> Result<Streaming<R>, Status>
    where
        M: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path: PathAndQuery = format!("/tempopb.StreamingQuerier/{method}").parse().unwrap();
        Ok(grpc.server_streaming(request, path, ProstCodec::<M, R>::default()).await?.into_inner())
    }

    /// Calls a method and takes all its messages.
    pub async fn all<M, R>(&self, method: &str, message: M) -> Result<Vec<R>, Status>
    where
        M: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        self.all_of(method, Request::new(message)).await
    }

    /// The same with metadata.
    pub async fn all_of<M, R>(&self, method: &str, request: Request<M>) -> Result<Vec<R>, Status>
    where
        M: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let mut stream = self.call::<M, R>(method, request).await?;
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}
