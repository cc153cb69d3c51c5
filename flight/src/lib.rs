//! Arrow on the wire: Flight SQL for clients. Knows no TraceQL.

mod actions;
mod answer;
mod catalogs;
mod config;
mod handle;
mod plain;
mod service;
mod sql_info;
mod status;
#[cfg(test)]
mod tests;

use arrow_flight::flight_service_server::FlightServiceServer;
use tracehouse_engine::tenant::Tenancy;
use tracehouse_sql::Sessions;

pub use config::Config;
pub use service::FlightSql;
pub use status::status;

/// The gRPC service that speaks Flight SQL; to be added to a tonic server.
pub fn service(sessions: Sessions, tenancy: Tenancy, config: Config) -> FlightServiceServer<FlightSql> {
    let message_bytes_max = config.message_bytes_max;
    FlightServiceServer::new(FlightSql::new(sessions, tenancy, config)).max_decoding_message_size(message_bytes_max)
}
