"""Servers under test: ours, and a Grafana Tempo (single binary, local storage) if there is one. Linux only (/proc)."""
import glob, http.client, json, os, pathlib, shutil, signal, socket, subprocess, time, urllib.parse

TEMPO_CONFIG = """\
target: all
stream_over_http_enabled: true
server: {{http_listen_address: 127.0.0.1, http_listen_port: {http}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}, log_level: warn}}
memberlist: {{bind_addr: [127.0.0.1], bind_port: {gossip}, advertise_addr: 127.0.0.1}}
usage_report: {{reporting_enabled: false}}
distributor:
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1, instance_interface_names: [lo]}}
  receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp_grpc}"}}, http: {{endpoint: "127.0.0.1:{otlp_http}"}}}}}}}}
live_store:
  max_trace_live: 5m
  max_trace_idle: 2s
  flush_check_period: 12s
  max_block_duration: {block_duration}
  max_block_bytes: 500000000
  shutdown_marker_dir: {dir}/live-store/shutdown-marker
  wal: {{path: {dir}/live-store/traces, ingestion_time_range_slack: 350000h}}
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1, instance_interface_names: [lo]}}
  partition_ring: {{kvstore: {{store: inmemory}}}}
querier: {{frontend_worker: {{frontend_address: "127.0.0.1:{grpc}"}}}}
metrics_generator:
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1, instance_interface_names: [lo]}}
  storage: {{path: {dir}/generator/wal}}
backend_scheduler:
  local_work_path: {dir}/scheduler
  provider: {{compaction: {{compaction: {{block_retention: 876000h}}}}}}
backend_worker:
  backend_scheduler_addr: "127.0.0.1:{grpc}"
  finish_on_shutdown_timeout: 1s
  compaction: {{block_retention: 876000h}}
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1, instance_interface_names: [lo]}}
storage:
  trace:
    backend: local
    local: {{path: {dir}/blocks}}
    wal: {{path: {dir}/wal, ingestion_time_range_slack: 350000h}}
    block: {{version: {version}}}
    blocklist_poll: 1s
overrides:
  defaults:
    ingestion: {{rate_limit_bytes: 2000000000, burst_size_bytes: 2000000000, max_traces_per_user: 0}}
    global: {{max_bytes_per_trace: 0}}
    read: {{unsafe_query_hints: true}}
    compaction: {{compaction_disabled: true, block_retention: 876000h}}
"""


class Server:
    """A process that answers Tempo's HTTP API at `url`."""

    def start_process(self, command, log):
        self.log = open(log, "ab")
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=self.log)
        self.pid, self.connection = self.process.pid, None

    def get(self, path, method="GET", body=None, headers=None):
        """Status and body of an answer; one connection is kept."""
        for attempt in (1, 2):
            if self.connection is None:
                where = urllib.parse.urlsplit(self.url)
                self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=600)
            try:
                self.connection.request(method, path, body, {"Accept": "application/json", **(headers or {})})
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, ConnectionError):
                self.connection = None
                if attempt == 2 or self.process.poll() is not None:
                    raise

    def wait_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.get("/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"the server did not start: see {self.log.name}")

    def metric(self, name):
        """The sum of a metric over its labels."""
        total = 0.0
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.split("{")[0].split(" ")[0] == name:
                total += float(line.rpartition(" ")[2])
        return total

    def cpu(self):
        """CPU seconds of the process so far, of all its threads, to the nanosecond."""
        return time.clock_gettime((~self.pid << 3) | 2)  # CPUCLOCK_SCHED of another process, as clock_getcpuclockid(3) makes it

    def forget_peak(self):
        """The next `peak_mib` counts from now."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_mib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024

    def read_bytes(self):
        """Bytes that the process got from read() and the like so far; of other kinds of files and sockets too."""
        return int(pathlib.Path(f"/proc/{self.pid}/io").read_text().split()[1])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Tracehouse(Server):
    """Our server over a data folder."""

    def __init__(self, binary, folder, *flags, env=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        addresses = self.folder / "listeners.json"
        addresses.unlink(missing_ok=True)
        ports = [x for name in ("http", "otlp-grpc", "otlp-http", "flight") for x in (f"--{name}-addr", "127.0.0.1:0")]
        os.environ.update(env or {})
        self.start_process([binary, "serve", "--data-dir", self.folder, "--log-level", "warn", *ports, *flags], str(self.folder) + ".log")
        while not addresses.exists():
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: see {self.log.name}")
            time.sleep(0.05)
        self.at = json.loads(addresses.read_text())
        self.url = "http://" + self.at["http"]
        self.wait_ready()

    def flush(self):
        status, body = self.get("/flush", "POST")
        if status >= 300:
            raise SystemExit(f"/flush answered {status}: {body[:300]!r}")


class Tempo(Server):
    """Tempo over a folder of its own; `blocks` (<tenant>/<id>/...) is copied there first."""

    def __init__(self, binary, folder, blocks=None, version="vParquet5", block_duration="1s"):
        self.folder = pathlib.Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        if blocks:
            shutil.copytree(blocks, self.folder / "blocks", ignore=shutil.ignore_patterns("index.json.gz", "index.pb.zst"), dirs_exist_ok=True)
        names = ("http", "grpc", "otlp_grpc", "otlp_http", "gossip")
        self.at = dict(zip(names, free_ports(len(names))))
        config = self.folder / "tempo.yaml"
        config.write_text(TEMPO_CONFIG.format(dir=self.folder, version=version, block_duration=block_duration, **self.at))
        self.url = f"http://127.0.0.1:{self.at['http']}"
        self.command = [binary, f"-config.file={config}"]
        self.start_process(self.command, self.folder / "tempo.log")
        self.wait_ready()
        self.wait_for_blocks(len(self.metas()))

    def start_again(self):
        """Starts it again if it has ended: some questions end its process."""
        self.connection = None
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            return
        self.log.close()
        self.start_process(self.command, self.folder / "tempo.log")
        self.wait_ready()
        self.wait_for_blocks(len(self.metas()))

    def metas(self):
        return [json.loads(pathlib.Path(f).read_text()) for f in glob.glob(f"{self.folder}/blocks/*/*/meta.json")]

    def wait_for_blocks(self, number, seconds=120):
        """Until the block list has that many blocks."""
        end = time.monotonic() + seconds
        while self.metric("tempodb_blocklist_length") != number:
            if time.monotonic() > end:
                raise SystemExit(f"Tempo lists {self.metric('tempodb_blocklist_length')} of {number} blocks: see {self.log.name}")
            time.sleep(0.3)


def free_ports(number):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
