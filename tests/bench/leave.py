#!/usr/bin/env python3
"""How long a server works on for a query whose client has left.

    python3 tests/bench/leave.py target/release/tracehouse FOLDER [--rounds 20] [--seed 1] [--query NAME ...]

FOLDER holds blocks (`<tenant>/<id>/...`), which are linked into a folder of the server's own. Each query is asked once to its end;
then, `--rounds` times, its client leaves at a random moment of that time: it closes its connection over HTTP, or is killed (SQL over
Flight). From then on the CPU clock of the server's process is read every two milliseconds: the query ended when it had used its last
millisecond of five. A query that is answered within 20 ms is left out: nobody leaves in time.
"""
import argparse, os, pathlib, random, shutil, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.parse

import home
import servers

SQL_CLIENT = """
import sys
from adbc_driver_flightsql import dbapi
with dbapi.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    sys.stdin.readline()
    cursor.execute(sys.argv[2])
    cursor.fetch_arrow_table()
    print("done", flush=True)
"""

REGEXES = " || ".join(f"span.user.id =~ `.*a.*b.*-{i}`" for i in range(450))
QUERIES = {
    "search: 450 regular expressions": ("search", "{ " + REGEXES + " }"),
    "search: a regular expression": ("search", '{ span.db.query.text =~ ".*x.*y.*z.*" || span.user.id =~ ".*9.*8.*7.*6.*5" }'),
    "search: all spans, newest 5000 traces": ("search", "{ }"),
    "search: structural": ("search", '{ status = error } >> { kind = client } | by(resource.service.name) | count() > 1'),
    "search: arithmetic": ("search", "{ duration * 3 - 7ms > span.http.response.status_code * 1s }"),
    "metrics: quantile by an attribute": ("range", "{ } | quantile_over_time(duration, 0.5, 0.99) by (span.user.id)"),
    "metrics: rate by a pair": ("range", "{ } | rate() by (span.user.id, name)"),
    "metrics: compare()": ("range", "{ } | compare({ status = error })"),
    "metrics: structural": ("range", '{ kind = server } > { kind = client } | rate() by (name)'),
    "SQL: sort": ("sql", "select name, span_id, duration_ns from spans order by duration_ns desc, span_id limit 300000"),
    "SQL: group": ("sql", "select span_attributes, count(*) from spans group by 1 order by 2 desc limit 10"),
    "SQL: join": ("sql", "select count(*) from spans a join spans b on a.trace_id = b.trace_id and a.duration_ns < b.duration_ns"),
}


class Client:
    """Asks one query and can leave."""

    def __init__(self, server, kind, text, span):
        self.kind = kind
        if kind == "sql":
            self.process = subprocess.Popen([sys.executable, "-c", SQL_CLIENT, "grpc://" + server.at["flight"], text], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            time.sleep(2)  # it connects meanwhile
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
            return
        params = {"q": text, "start": span[0], "end": span[1], **({"limit": 5000} if kind == "search" else {"step": "60s"})}
        path = ("/api/search?" if kind == "search" else "/api/metrics/query_range?") + urllib.parse.urlencode(params)
        where = urllib.parse.urlsplit(server.url)
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    def wait(self):
        if self.kind == "sql":
            return self.process.stdout.readline().strip() == b"done"
        answer = b""
        while part := self.socket.recv(1 << 20):
            answer += part
        return answer.startswith(b"HTTP/1.1 200")

    def leave(self):
        if self.kind == "sql":
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        else:
            self.socket.close()


def worked_on(server, most=10.0):
    """Seconds until the server was idle."""
    began = time.monotonic()
    seen = [(0.0, server.cpu())]
    last = 0.0
    while seen[-1][0] - last < 0.1 and seen[-1][0] < most:
        time.sleep(0.002)
        seen.append((time.monotonic() - began, server.cpu()))
        before = next((s for s in reversed(seen) if s[0] <= seen[-1][0] - 0.005), seen[0])
        if seen[-1][1] - before[1] > 0.001:
            last = seen[-1][0]
    return last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--query", action="append", default=[], help="a part of names of queries; may be repeated")
    args = parser.parse_args()
    home.need_packages()
    pick = random.Random(args.seed)
    with tempfile.TemporaryDirectory(dir=home.scratch()) as folder:
        shutil.copytree(args.folder, pathlib.Path(folder) / "data" / "blocks", copy_function=os.link)
        with servers.Tracehouse(args.binary, pathlib.Path(folder) / "data", "--jaeger-addr", "off") as server:
            metas = list(pathlib.Path(args.folder).glob("*/*/meta.json"))
            span = times(metas)
            print("| query | to its end, ms | left after, ms | worked on, ms: median (most) |\n|---|---|---|---|")
            for name, (kind, text) in QUERIES.items():
                if args.query and not any(part in name for part in args.query):
                    continue
                for _ in range(2):
                    client = Client(server, kind, text, span)
                    began = time.monotonic()
                    good = client.wait()
                    took = time.monotonic() - began
                    client.leave()
                if not good or took < 0.02:
                    print(f"| {name} | {took * 1000:.0f} | {'too fast' if good else 'refused'} | |", flush=True)
                    continue
                worked_on(server)
                ends, after = [], []
                for _ in range(args.rounds):
                    client = Client(server, kind, text, span)
                    wait = pick.uniform(0.05, 0.9) * took
                    time.sleep(wait)
                    client.leave()
                    ends.append(worked_on(server) * 1000)
                    after.append(wait * 1000)
                print(f"| {name} | {took * 1000:.0f} | {min(after):.0f} to {max(after):.0f} | {statistics.median(ends):.0f} ({max(ends):.0f}) |", flush=True)


def times(metas):
    """The first and the last second of these blocks."""
    import datetime, json
    all = [json.loads(meta.read_text()) for meta in metas]
    at = lambda text: int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")[:19] + "+00:00").timestamp())
    return min(at(m["startTime"]) for m in all), max(at(m["endTime"]) for m in all) + 1


if __name__ == "__main__":
    main()
