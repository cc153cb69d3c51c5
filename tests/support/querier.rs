//! The streamed query API as a tonic client calls it.

use prost::Message;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
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
        // Its connection is a task of the tests' runtime.
        Self(block_on(async { Grpc::new(endpoint.connect_lazy()) }))
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
