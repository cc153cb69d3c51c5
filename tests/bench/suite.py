#!/usr/bin/env python3
"""The benchmark suite: queries over our blocks, the same questions in DuckDB over a flat copy, and in Tempo if there is one.

    tests/bench/suite.py [--binary target/release/tracehouse] [--spans 1000000] [--runs 20] [--only TEXT] [--json OUT] [--compare OLD]
    TEMPO_BIN=/path/to/tempo tests/bench/suite.py ...          adds Tempo's column
    tests/bench/suite.py --data ../shared/data/nezha/onlineboutique-2022-08-22

Data are made once by `tracehouse load` (or sent from --data, a folder of *.otlp.pb.gz) and kept below $TRACEHOUSE_BENCH with the flat
copy and Tempo's blocks; they depend on nothing but the number of spans, the period and the binary that wrote the blocks: remove the
folder, or give --fresh, to write them anew. Every answer is compared with DuckDB's first; what differs is told instead of its time,
and makes the exit status 1. Figures: docs/benchmarks.md. Linux only (it reads /proc).
"""
import argparse, datetime, json, os, pathlib, shutil, subprocess, sys, time

import home

START = 1_780_300_800_000_000_000  # 2026-06-01T08:00:00Z: data are always of the same time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tracehouse")
    parser.add_argument("--writer", help="the binary that writes the blocks; --binary if not given")
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--period", default="1h", help="over which the spans are spread")
    parser.add_argument("--data", type=pathlib.Path, help="send this folder of OTLP files instead")
    parser.add_argument("--runs", type=int, default=20, help="repetitions of a query, at most")
    parser.add_argument("--seconds", type=float, default=3, help="for the repetitions of a query on one side; three are always made")
    parser.add_argument("--only", action="append", default=[], help="groups or parts of names of queries; may be repeated")
    parser.add_argument("--sql", action="store_true", help="also ask the table's queries in SQL over Flight")
    parser.add_argument("--no-duckdb", action="store_true", help="compare answers with DuckDB's but do not time it")
    parser.add_argument("--cold", action="store_true", help="also the first run of a new server with the blocks not in the page cache")
    parser.add_argument("--tempo-blocks", choices=("own", "ours"), default="own", help="whether Tempo takes the spans in itself or reads our blocks")
    parser.add_argument("--forget", action="store_true", help="our server remembers no columns from query to query")
    parser.add_argument("--fresh", action="store_true", help="make data and blocks anew")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures here")
    parser.add_argument("--compare", type=pathlib.Path, help="an earlier --json: its CPU is shown beside")
    return parser.parse_args()


def main():
    args = arguments()
    if args.forget:
        os.environ["TRACEHOUSE_ENGINE__COLUMN_CACHE_BYTES"] = "0"
    home.need_packages()
    import flat, measure, report, shapes
    from answers import Window

    name = args.data.name if args.data else f"load-{args.spans}-{args.period}"
    folder = home.scratch() / name
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    blocks = make_blocks(args, folder)
    copy = flat.Flat(flat.make(blocks, folder / "flat.parquet"))
    spans, traces, first, last = copy.rows("select count(*), count(distinct trace_id), min(start_ns), max(start_ns) from flat")[0]
    window = Window(first, last)
    asked = shapes.all_shapes(copy, shapes.of_data(copy) if args.data else shapes.SHOP)
    asked = [s for s in asked if not args.only or any(o == s.group or o in f"{s.group}: {s.name}" for o in args.only)]
    facts = {
        "data": name, "spans": spans, "traces": traces, "at": datetime.datetime.now().isoformat(timespec="seconds"),
        "blocks": len(list(blocks.glob("*/*/meta.json"))), "cores": os.cpu_count(), "runs": args.runs,
        "block_bytes": sum(f.stat().st_size for f in blocks.rglob("data.parquet")), "flat_bytes": (folder / "flat.parquet").stat().st_size,
    }
    print(report.heading(facts), flush=True)
    results = measure.ours(args, folder, copy, window, asked, facts)
    if not args.no_duckdb:
        measure.duckdb(args, copy, asked, results)
    if os.environ.get("TEMPO_BIN"):
        measure.tempo(args, folder, window, asked, results, facts, lambda url: send(args, url))
    old = json.loads(args.compare.read_text())["queries"] if args.compare else {}
    print(report.table(results, facts, old))
    if args.json:
        args.json.write_text(json.dumps({"facts": facts, "queries": results}, indent=1))
    sys.exit(1 if any("differs" in r for r in results.values()) else 0)


def make_blocks(args, folder):
    """Our blocks of the data, made once: <tenant>/<id>/..."""
    import servers

    blocks = folder / "ours" / "blocks"
    if (folder / "ours.ready").exists():
        return blocks
    shutil.rmtree(folder, ignore_errors=True)
    with servers.Tracehouse(args.writer or args.binary, folder / "ours") as server:
        send(args, server.at["otlp_http"] if args.data else server.at["otlp_grpc"])
        server.flush()
    (folder / "ours.ready").touch()
    return blocks


def send(args, address):
    """The data to an OTLP endpoint: gRPC, or HTTP for --data."""
    if args.data:
        return send_files(args.data, address)
    load = [args.writer or args.binary, "load", "--endpoint", f"http://{address}", "--spans", args.spans, "--rate", "0", "--seed", "1"]
    load += ["--start-time", datetime.datetime.fromtimestamp(START / 1e9, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "--period", args.period]
    subprocess.run([str(x) for x in load], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def send_files(folder, address):
    import gzip, urllib.request

    for file in sorted(folder.rglob("*.otlp.pb.gz")):
        body = gzip.decompress(file.read_bytes())
        request = urllib.request.Request(f"http://{address}/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        for attempt in range(60):
            try:
                urllib.request.urlopen(request).read()
                break
            except urllib.error.HTTPError as e:
                if e.code not in (429, 503) or attempt == 59:
                    raise
                time.sleep(1)


if __name__ == "__main__":
    main()
