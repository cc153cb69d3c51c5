//! A real server: the binary `tracehouse serve` on free ports over a folder of the test.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::TracesData};
use prost::Message;
use serde::Deserialize;

use super::{Answer, hex, http};

/// Where the server listens, as it says in `listeners.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Addresses {
    /// HTTP API and gRPC queries.
    pub http: String,
    /// OTLP gRPC.
    pub otlp_grpc: String,
    /// OTLP HTTP.
    pub otlp_http: String,
    /// Flight SQL.
    pub flight: String,
    /// Jaeger query API.
    pub jaeger: Option<String>,
}

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    home: PathBuf,
    addresses: Addresses,
    more: Vec<(String, String)>,
}

/// How a server is called, up to the name of its data folder.
const SERVE: [&str; 2] = ["serve", "--data-dir"];

/// Why a server did not start.
#[derive(Debug)]
pub struct Refusal {
    /// How the process ended.
    pub status: ExitStatus,
    /// What it wrote to stderr and stdout.
    pub text: String,
}

/// `/api/v2/traces/{id}` in protobuf, as far as the tests read it.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
}

impl Server {
    /// Starts a server in a folder: `home/data` holds its data, `home/log` what it writes.
    #[track_caller]
    pub fn start(home: &Path) -> Self {
        Self::start_with(home, &[])
    }

    /// Starts a server with settings: variables of its environment.
    #[track_caller]
    pub fn start_with(home: &Path, settings: &[(&str, &str)]) -> Self {
        match Self::try_start(home, settings) {
            Ok(server) => server,
            Err(refusal) => panic!("the server ended with {}:\n{}", refusal.status, refusal.text),
        }
    }

    /// Starts a server, or says why it ended before it was ready.
    pub fn try_start(home: &Path, settings: &[(&str, &str)]) -> Result<Self, Refusal> {
        Self::try_start_at(home, &home.join("data"), settings)
    }

    /// The same with the data in another folder.
    pub fn try_start_at(home: &Path, data: &Path, settings: &[(&str, &str)]) -> Result<Self, Refusal> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracehouse"));
        command.args(SERVE).arg(data);
        Self::launch(home, command, settings, &|_| data.to_owned())
    }

    /// Starts a server whose data folder is a disk of so many kilobytes, which only the server sees; or `None` where this
    /// process may not mount one.
    pub fn start_on_small_disk(home: &Path, kilobytes: u32, settings: &[(&str, &str)]) -> Option<Self> {
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        let mount = format!("mount -t tmpfs -o size={kilobytes}k none '{}'", data.display());
        let mounts = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", script]);
            command
        };
        if !mounts(&mount).status().is_ok_and(|s| s.success()) {
            return None;
        }
        let mut command = mounts(&format!("{mount} && exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_tracehouse")).args(SERVE).arg(&data);
        // The shell becomes the server, so its process id stays.
        let server = Self::launch(home, command, settings, &|pid| seen_by(pid, &data));
        Some(server.unwrap_or_else(|r| panic!("the server ended with {}:\n{}", r.status, r.text)))
    }

    /// Runs a command until it is a ready server; `data` says where its data folder is, by process id.
    fn launch(home: &Path, mut command: Command, settings: &[(&str, &str)], data: &dyn Fn(u32) -> PathBuf) -> Result<Self, Refusal> {
        fs::create_dir_all(home).unwrap();
        // What a killed server left says nothing about this one.
        let before = fs::read_to_string(data(std::process::id()).join("listeners.json")).ok();
        let log = fs::OpenOptions::new().create(true).append(true).open(home.join("log")).unwrap();
        let start = log.metadata().unwrap().len() as usize;
        for flag in ["--http-addr", "--otlp-grpc-addr", "--otlp-http-addr", "--flight-addr", "--jaeger-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        command.envs(settings.iter().copied()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let file = data(child.id()).join("listeners.json");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(Refusal { status, text: read_log(home).split_off(start) });
            }
            let now = fs::read_to_string(&file).ok();
            let fresh = now.filter(|n| Some(n) != before.as_ref()).and_then(|n| serde_json::from_str::<Addresses>(&n).ok());
            if let Some(addresses) = fresh {
                let more = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
                let server = Self { child, home: home.to_owned(), addresses, more };
                return server.until_ready(start);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_ready(mut self, log_start: usize) -> Result<Self, Refusal> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(Refusal { status, text: read_log(&self.home).split_off(log_start) });
            }
            let ready = super::block_on(http::send(http::client().get(self.url("/ready"))));
            if ready.is_ok_and(|a| a.status == 200) {
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A URL of the HTTP port.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.addresses.http)
    }

    fn scheme(&self) -> &'static str {
        if self.more.iter().any(|(name, _)| name == "TRACEHOUSE_SERVER__TLS_CERT_FILE") { "https" } else { "http" }
    }

    /// `GET path` on the HTTP port.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        http::get(&self.url(path), &[])
    }

    /// `GET path?params` on the HTTP port.
    #[track_caller]
    pub fn ask(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.get(&http::with_query(path, params))
    }

    /// The OTLP HTTP address of traces.
    pub fn otlp_url(&self) -> String {
        format!("{}://{}/v1/traces", self.scheme(), self.addresses.otlp_http)
    }

    /// Sends spans as protobuf over HTTP and wants all of them taken.
    #[track_caller]
    pub fn push(&self, request: &ExportTraceServiceRequest) {
        self.push_bytes(request.encode_to_vec());
    }

    /// Sends an encoded request and wants all of it taken.
    #[track_caller]
    pub fn push_bytes(&self, body: Vec<u8>) {
        let answer = http::post(&self.otlp_url(), &[("content-type", "application/x-protobuf")], body).ok();
        assert!(answer.body.is_empty(), "partial success: {:?}", answer.text());
    }

    /// Writes all live spans to blocks, now.
    #[track_caller]
    pub fn flush(&self) {
        let answer = http::post(&self.url("/flush"), &[], Vec::new());
        assert!(answer.status / 100 == 2, "flush: {} {}", answer.status, answer.text());
    }

    /// The spans of a trace, as the API gives them in protobuf; `None` if there is no such trace.
    #[track_caller]
    pub fn trace(&self, id: &[u8]) -> Option<TracesData> {
        let url = self.url(&format!("/api/v2/traces/{}", hex(id)));
        decode_trace(&http::get(&url, &[("accept", "application/protobuf")]))
    }

    /// Blocks that are whole: folders with a `meta.json`.
    pub fn blocks(&self) -> Vec<PathBuf> {
        let list = |p: &Path| fs::read_dir(p).into_iter().flatten().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        let tenants = list(&self.data().join("blocks"));
        tenants.iter().filter(|p| p.is_dir()).flat_map(|t| list(t)).filter(|b| b.join("meta.json").exists()).collect()
    }

    /// Ends it as a crash does, and starts another one over the same data with the same settings.
    #[track_caller]
    pub fn crash_and_restart(self) -> Self {
        let (home, more) = (self.home.clone(), self.more.clone());
        self.kill();
        let settings: Vec<(&str, &str)> = more.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Self::start_with(&home, &settings)
    }

    /// Ends it as a crash does: no signal it could catch.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits until it has.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = read_log(&self.home);
        if thread::panicking() {
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let _ = writeln!(std::io::stderr(), "--- the server's last words\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        } else {
            assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        }
    }
}

/// The trace of an answer in protobuf of `/api/v2/traces/{id}`.
#[track_caller]
pub fn decode_trace(answer: &Answer) -> Option<TracesData> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.content_type, "application/protobuf");
    let trace = TraceByIdResponse::decode(answer.body.as_slice()).unwrap().trace;
    trace.filter(|t| !t.resource_spans.is_empty())
}

/// A path as a process sees it that may have mounts of its own.
pub fn seen_by(pid: u32, path: &Path) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
}

fn read_log(home: &Path) -> String {
    String::from_utf8_lossy(&fs::read(home.join("log")).unwrap_or_default()).into_owned()
}
