//! The settings of a server: one plain structure, with the settings of each crate inside it.

mod check;
mod load;
mod print;

pub use load::{Overrides, environment, from_process, load};
pub use print::{markdown, yaml, yaml_diff};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All settings. Flags are stronger than the environment (`TRACEHOUSE_<SECTION>__<FIELD>`), which is stronger than the
/// file, which is stronger than the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The process: listeners, data folder, tenants, logs.
    pub server: ServerConfig,
    /// Blocks: how they are found, read and written.
    pub engine: tracehouse_engine::config::Config,
    /// Spans in: receivers, write-ahead log, live spans, flush.
    pub ingest: tracehouse_ingest::Config,
    /// Sessions: what plans may use while they run.
    pub sql: tracehouse_sql::Config,
    /// TraceQL and the query API: limits of questions.
    pub traceql: tracehouse_traceql::Config,
    /// Flight SQL: bounds on messages.
    pub flight: tracehouse_flight::Config,
}

/// The process: listeners, data folder, tenants, logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Folder for everything the process keeps: `blocks/<tenant>/<block>/`, `wal/`, `listeners.json`.
    pub data_dir: String,
    /// Address of the HTTP API and of gRPC queries (both on one port); port 0 picks a free one.
    pub http_addr: String,
    /// Address of the OTLP gRPC receiver.
    pub otlp_grpc_addr: String,
    /// Address of the OTLP HTTP receiver.
    pub otlp_http_addr: String,
    /// Address of the Arrow Flight SQL service.
    pub flight_addr: String,
    /// Address of the Jaeger query API. Empty for `127.0.0.1:16686`, or a free port where that is taken; `off` for none.
    pub jaeger_addr: String,
    /// Certificate chain in PEM, the server's own certificate first; empty for no TLS.
    pub tls_cert_file: String,
    /// Private key of the certificate in PEM.
    pub tls_key_file: String,
    /// Certificates in PEM of those who sign clients' certificates: with it, a client that shows none of theirs is refused.
    pub tls_client_ca_file: String,
    /// Pause between two looks at whether the files of TLS have changed, in seconds; 0 for never. New ones count for new
    /// connections.
    pub tls_reload_seconds: u64,
    /// The listeners that take TLS connections, and only these, if a certificate is set.
    pub tls_listeners: Vec<ListenerName>,
    /// Prefix of all `/api/...` paths, such as `/tempo`; empty for none.
    pub http_api_prefix: String,
    /// Whether each request names its tenant in `X-Scope-OrgID`. If not, everything belongs to `single-tenant`.
    pub multitenancy_enabled: bool,
    /// What is logged to stderr: `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,tracehouse_ingest=debug`.
    pub log_level: String,
    /// How long requests under way may take to finish after SIGTERM or SIGINT, in seconds.
    pub shutdown_timeout_seconds: u64,
}

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names of the addresses
pub enum ListenerName {
    Http,
    OtlpGrpc,
    OtlpHttp,
    Flight,
    Jaeger,
}

impl ListenerName {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Http, Self::OtlpGrpc, Self::OtlpHttp, Self::Flight, Self::Jaeger];
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: "./tracehouse-data".to_owned(),
            http_addr: "127.0.0.1:3200".to_owned(),
            otlp_grpc_addr: "127.0.0.1:4317".to_owned(),
            otlp_http_addr: "127.0.0.1:4318".to_owned(),
            flight_addr: "127.0.0.1:8815".to_owned(),
            jaeger_addr: String::new(),
            tls_cert_file: String::new(),
            tls_key_file: String::new(),
            tls_client_ca_file: String::new(),
            tls_reload_seconds: 30,
            tls_listeners: ListenerName::ALL.into(),
            http_api_prefix: String::new(),
            multitenancy_enabled: false,
            log_level: "info".to_owned(),
            shutdown_timeout_seconds: 30,
        }
    }
}

impl ServerConfig {
    /// The data folder.
    pub fn data_dir(&self) -> &std::path::Path {
        std::path::Path::new(&self.data_dir)
    }

    /// Who requests are for.
    pub fn tenancy(&self) -> tracehouse_engine::tenant::Tenancy {
        use tracehouse_engine::tenant::Tenancy;
        if self.multitenancy_enabled { Tenancy::FromHeader } else { Tenancy::Single }
    }
}

/// The JSON schema of the settings, with nothing behind references.
fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}
