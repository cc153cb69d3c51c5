//! Spans in: receivers, distributor, write-ahead log, live spans, flush to blocks. Knows no query.
//!
//! A push goes `otlp` -> `ingester` (`otlp::validate`, `distributor`) -> `writer` -> `wal::append` -> `live` -> ack; later
//! `writer` seals, `flush` commits the block and deletes the log.

pub mod config;
pub mod distributor;
pub mod flush;
pub mod ingester;
pub mod live;
pub mod otlp;
pub mod stats;
pub mod wal;

mod writer;

#[cfg(test)]
mod test_support;

pub use config::Config;
pub use flush::BlockCommitter;
pub use ingester::{Ingester, PushOutcome};
pub use live::LiveStore;
pub use otlp::{
    grpc::grpc_service,
    http::{admin_router, router},
};
pub use wal::DataDirLock;
