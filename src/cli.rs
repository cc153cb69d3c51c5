//! The command line, as clap reads it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracehouse_engine::clock;

use crate::{config::Overrides, load};

/// A SQL-queryable trace lakehouse: OTLP in, Tempo-compatible blocks on object storage, TraceQL and SQL out.
#[derive(Debug, Parser)]
#[command(name = "tracehouse", version, after_help = AFTER, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Start here:
  tracehouse demo                          a server with traffic, questions and their answers
  tracehouse serve                         a server on 127.0.0.1:3200 (HTTP, gRPC), :4317 and :4318 (OTLP), :8815 (Flight SQL)
  tracehouse load --rate 1000              traffic for it
  tracehouse sql 'SELECT count(*) FROM spans'
  tracehouse traceql '{ status = error }'";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server: receive spans, keep them, answer questions
    #[command(after_help = SERVE)]
    Serve(ServeArgs),
    /// Ask a question in SQL, without a server
    #[command(after_help = SQL)]
    Sql(SqlArgs),
    /// Ask a question in TraceQL, without a server
    #[command(after_help = TRACEQL)]
    Traceql(TraceqlArgs),
    /// Send realistic synthetic traces to a server
    #[command(after_help = LOAD)]
    Load(LoadArgs),
    /// Show everything at once: a server, traffic, questions and answers
    #[command(after_help = DEMO)]
    Demo(DemoArgs),
    /// Print the settings of a server
    #[command(after_help = CONFIG)]
    Config(ConfigArgs),
}

const SERVE: &str = "\
Examples:
  tracehouse serve
  tracehouse serve --data-dir /var/lib/tracehouse --http-addr 0.0.0.0:3200
  tracehouse serve --http-addr 127.0.0.1:0        a free port: see <data-dir>/listeners.json
  tracehouse serve --config tracehouse.yaml       `tracehouse config > tracehouse.yaml` makes one

Every setting is also a variable: TRACEHOUSE_SERVER__HTTP_ADDR=127.0.0.1:3300.
SIGTERM or Ctrl-C ends it in order: requests are finished, nothing acknowledged is lost.";

/// Flags of `serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// YAML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for blocks, the write-ahead log and listeners.json [default: ./tracehouse-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// HTTP API and gRPC queries, on one port [default: 127.0.0.1:3200]
    #[arg(long, value_name = "HOST:PORT")]
    pub http_addr: Option<String>,
    /// OTLP gRPC receiver [default: 127.0.0.1:4317]
    #[arg(long, value_name = "HOST:PORT")]
    pub otlp_grpc_addr: Option<String>,
    /// OTLP HTTP receiver, protobuf and JSON [default: 127.0.0.1:4318]
    #[arg(long, value_name = "HOST:PORT")]
    pub otlp_http_addr: Option<String>,
    /// Arrow Flight SQL [default: 127.0.0.1:8815]
    #[arg(long, value_name = "HOST:PORT")]
    pub flight_addr: Option<String>,
    /// Jaeger query API for Jaeger UI, or off [default: 127.0.0.1:16686, or a free port where that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    pub jaeger_addr: Option<String>,
    /// error, warn, info, debug, trace, or a list such as info,tracehouse_ingest=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeArgs {
    /// The settings that were given.
    pub fn overrides(&self) -> Overrides {
        let given = [
            ("server.data_dir", &self.data_dir),
            ("server.http_addr", &self.http_addr),
            ("server.otlp_grpc_addr", &self.otlp_grpc_addr),
            ("server.otlp_http_addr", &self.otlp_http_addr),
            ("server.flight_addr", &self.flight_addr),
            ("server.jaeger_addr", &self.jaeger_addr),
            ("server.log_level", &self.log_level),
        ];
        given.into_iter().filter_map(|(path, value)| Some((path.to_owned(), value.clone()?))).collect()
    }
}

/// Where the spans are that a question is about.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// A data folder of `serve`, a folder of Tempo's blocks (a folder of a tenant with folders of blocks), or a URL: s3://bucket/prefix, gs://, az://
    #[arg(long, value_name = "DIR|URL", default_value = "./tracehouse-data")]
    pub data_dir: String,
    /// Whose spans [default: single-tenant, or the only tenant there is]
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the answer to a file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For reading
    Table,
    /// One JSON array of objects
    Json,
    /// With a line of names
    Csv,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC file (Feather)
    Arrow,
}

const SQL: &str = "\
Examples:
  tracehouse sql 'SELECT service_name, count(*) FROM spans GROUP BY 1 ORDER BY 2 DESC'
  tracehouse sql --data-dir /var/tempo/blocks 'SELECT * FROM spans LIMIT 5'        Tempo's own blocks
  AWS_REGION=eu-west-1 tracehouse sql --data-dir s3://bucket/traces --tenant team-a 'SELECT count(*) FROM spans'
  tracehouse sql --format parquet --output slow.parquet 'SELECT * FROM spans WHERE duration_ns > 1000000000'
  echo 'SHOW TABLES' | tracehouse sql -

Credentials of a bucket come from the usual variables (AWS_*, GOOGLE_*, AZURE_*).";

/// Flags of `sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The question; - reads it from stdin
    pub query: String,
    /// Where the spans are.
    #[command(flatten)]
    pub source: SourceArgs,
    /// At most this many rows
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
}

const TRACEQL: &str = "\
Examples:
  tracehouse traceql '{ resource.service.name = \"checkout\" && duration > 100ms }'
  tracehouse traceql --start -1h --limit 100 --format json '{ status = error }'
  tracehouse traceql --start -1h --step 5m '{ kind = server } | rate() by (resource.service.name)'
  tracehouse traceql --explain '{ span.http.response.status_code >= 500 }'

Times: 2026-05-01T12:00:00Z, Unix seconds, or -15m (before now).";

/// Flags of `traceql`.
#[derive(Debug, Args)]
pub struct TraceqlArgs {
    /// The question; - reads it from stdin
    pub query: String,
    /// Where the spans are.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Only traces after this time [metrics: an hour before the end]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub start: Option<u64>,
    /// Only traces before this time [metrics: now]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub end: Option<u64>,
    /// At most this many traces
    #[arg(long, value_name = "TRACES", default_value_t = 20)]
    pub limit: u32,
    /// At most this many spans of each span set
    #[arg(long, value_name = "SPANS", default_value_t = 3)]
    pub spss: u32,
    /// Metrics: one value each so often, such as 30s or 5m [default: about 240 in the range]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub step: Option<Duration>,
    /// Show the plan instead of running it
    #[arg(long)]
    pub explain: bool,
}

const LOAD: &str = "\
Examples:
  tracehouse load --rate 1000 --duration 1m
  tracehouse load --rate 0 --spans 1000000                      as fast as possible
  tracehouse load --spans 100000 --rate 0 --seed 7 --start-time 2026-05-01T12:00:00Z --period 1h
                                                                the same spans in every run
  tracehouse load --protocol http --endpoint http://127.0.0.1:4318 --tenant team-a

The traffic is that of an e-commerce shop (frontend, cart, checkout, payment, ...) in OpenTelemetry's semantic conventions.
Ends with exit code 1 if the server refused spans.";

/// Flags of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Spans per second; 0 means as fast as possible
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub rate: f64,
    /// End after this time, such as 30s or 5m [default: endless]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// End after this many spans
    #[arg(long, value_name = "N")]
    pub spans: Option<u64>,
    /// The same seed and times make the same spans [default: another one each time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Time of the first span: 2026-05-01T12:00:00Z, Unix seconds, or -1h [default: now, in real time]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub start_time: Option<u64>,
    /// Spread the times of --spans over this long, from --start-time on (or up to now)
    #[arg(long, value_parser = humantime::parse_duration, requires = "spans")]
    pub period: Option<Duration>,
    /// Send for this tenant (X-Scope-OrgID)
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to send
    #[arg(long, value_enum, default_value_t = load::Protocol::Grpc)]
    pub protocol: load::Protocol,
    /// Where to send [default: http://127.0.0.1:4317 for grpc, http://127.0.0.1:4318 for http]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Spans in a request
    #[arg(long, value_name = "SPANS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub concurrency: u32,
}

impl LoadArgs {
    /// As the generator takes them.
    pub fn options(&self) -> load::Options {
        load::Options {
            protocol: self.protocol,
            endpoint: self.endpoint.clone().unwrap_or_else(|| self.protocol.default_endpoint().to_owned()),
            tenant: self.tenant.clone(),
            seed: self.seed.unwrap_or_else(clock::now_unix_nanos),
            rate: self.rate,
            spans: self.spans,
            duration: self.duration,
            start: self.start_time,
            period: self.period,
            batch: self.batch as usize,
            concurrency: self.concurrency as usize,
        }
    }
}

const DEMO: &str = "\
Examples:
  tracehouse demo
  tracehouse demo --for 30s            ends by itself; exit code 0 if every step succeeded";

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after this time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub run_for: Option<Duration>,
    /// Keep the data in this folder
    #[arg(long, value_name = "DIR", default_value = "./tracehouse-data")]
    pub data_dir: String,
    /// Log level of the server
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
}

const CONFIG: &str = "\
Examples:
  tracehouse config > tracehouse.yaml            all settings with what they mean
  tracehouse config --config tracehouse.yaml     what that file and the environment come to
  tracehouse config --markdown > docs/config.md  the reference page";

/// Flags of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// YAML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the reference page instead
    #[arg(long)]
    pub markdown: bool,
}

/// A time as nanoseconds since the Unix epoch.
fn time(text: &str) -> Result<u64, String> {
    let far = || format!("{text:?} is too far from 1970");
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).map_err(|e| format!("{e}: give a duration such as -15m"))?;
        return clock::now_unix_nanos().checked_sub(u64::try_from(ago.as_nanos()).map_err(|_| far())?).ok_or_else(far);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000_000_000).ok_or_else(far);
    }
    let at = humantime::parse_rfc3339_weak(text).map_err(|e| format!("{e}: give 2026-05-01T12:00:00Z, Unix seconds or -15m"))?;
    let since = at.duration_since(std::time::UNIX_EPOCH).map_err(|_| far())?;
    u64::try_from(since.as_nanos()).map_err(|_| far())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err("must be a number of spans per second, 0 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        assert_eq!(time("1760000000"), Ok(1_760_000_000_000_000_000));
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(time("-1h").is_ok_and(|t| t < clock::now_unix_nanos()));
        for wrong in ["", "yesterday", "-", "-1", "-99999999years", "1960-01-01T00:00:00Z", "99999999999999999999"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hyphens_and_flags_are_told_apart() {
        let cli = Cli::try_parse_from(["tracehouse", "traceql", "--start", "-1h", "-"]).expect("parses");
        let Command::Traceql(args) = cli.command else { panic!("traceql") };
        assert!(args.start.is_some());
        assert_eq!(args.query, "-");
        assert!(Cli::try_parse_from(["tracehouse", "load", "--rate", "-1"]).is_err());
    }
}
