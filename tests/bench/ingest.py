#!/usr/bin/env python3
"""What taking spans in costs: a server on a fresh folder, `tracehouse load` as fast as it goes over OTLP/gRPC, then /flush.

    tests/bench/ingest.py BINARY [--spans 1000000] [--runs 3]

For each run and at the end the median: spans a second until all were acked (each ack means synced to the write-ahead log),
CPU seconds of the server per million spans until then and until everything is in a committed block, peak resident memory,
and bytes per span of the blocks. Linux only (it reads /proc).
"""
import argparse, json, os, pathlib, signal, statistics, subprocess, tempfile, time, urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


def run(binary, spans):
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        ports = [x for name in ("http", "otlp-grpc", "otlp-http", "flight") for x in (f"--{name}-addr", "127.0.0.1:0")]
        server = subprocess.Popen([binary, "serve", "--data-dir", data, "--log-level", "warn", *ports])
        try:
            while not (data / "listeners.json").exists():
                if server.poll() is not None:
                    raise SystemExit("the server ended")
                time.sleep(0.05)
            at = json.loads((data / "listeners.json").read_text())
            time.sleep(0.5)
            before, start = cpu(server.pid), time.monotonic()
            load = [binary, "load", "--endpoint", "http://" + at["otlp_grpc"], "--spans", str(spans), "--rate", "0", "--seed", "1"]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wall, acked = time.monotonic() - start, cpu(server.pid) - before
            urllib.request.urlopen(urllib.request.Request(f"http://{at['http']}/flush", method="POST")).read()
            block = cpu(server.pid) - before
            size = sum(f.stat().st_size for f in (data / "blocks").rglob("data.parquet"))
            return {
                "spans/s acked": spans / wall,
                "CPU s/M spans, acked": acked / spans * 1e6,
                "CPU s/M spans, in blocks": block / spans * 1e6,
                "peak RSS MiB": peak_mib(server.pid),
                "bytes/span": size / spans,
            }
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for _ in range(args.runs):
        rows.append(run(args.binary, args.spans))
        print({k: round(v, 1) for k, v in rows[-1].items()}, flush=True)
    for key in rows[0]:
        values = sorted(r[key] for r in rows)
        print(f"{key:28} median {statistics.median(values):12.1f}   {values[0]:.1f} .. {values[-1]:.1f}")


if __name__ == "__main__":
    main()
