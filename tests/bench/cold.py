#!/usr/bin/env python3
"""What a question costs a process that knows nothing: requests, bytes and round trips over S3, by a bucket that counts.

    python3 tests/bench/cold.py target/release/tracehouse FOLDER [--traceql QUERY ...] [--json]

FOLDER holds tenants with blocks. It is served as a bucket whose answers all take `--delay` milliseconds, so that requests made at
the same time are seen to be. Each query runs in a process of its own (`tracehouse traceql`). Only requests for `data.parquet` are
counted, others (lists, `meta.json`) a server makes while nobody waits. Round trips are the longest chain of requests each of which
began after the one before had been answered; `first data` says in which of them the first bytes came that are not of a file's end.
"""
import argparse, http.server, json, os, pathlib, re, subprocess, sys, threading, time, urllib.parse
from xml.sax.saxutils import escape

QUERIES = {
    "no match: no such key": '{ span.nosuch = "x" }',
    "no match: no such value": '{ resource.service.name = "nosuch" }',
    "no match: longer than any span": "{ duration > 10000h }",
    "no match: status above any": "{ span.http.response.status_code >= 1000 }",
    "few hits: the longest spans": "{ duration > 4500ms }",
    "few hits: two conditions": '{ resource.service.name = "checkout" && duration > 2s }',
    "many hits, newest 20": "{ status = error }",
    "metrics: rate by service": "{} | rate() by (resource.service.name)",
}


class Bucket(http.server.ThreadingHTTPServer):
    """A folder as the bucket `bucket`; notes each request for data."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root, delay):
        super().__init__(("127.0.0.1", 0), Request)
        self.root, self.delay, self.lock, self.seen = pathlib.Path(root), delay, threading.Lock(), []


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        began = time.monotonic()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        key = urllib.parse.unquote(url.path).removeprefix("/bucket").lstrip("/")
        if "list-type" in query:
            return self.answer(200, self.listing(query).encode(), {"Content-Type": "application/xml"})
        path = self.server.root / key
        if not path.is_file():
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        data = path.read_bytes()
        headers = {"ETag": '"0"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.command == "HEAD":
            self.send_response(200)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            return self.end_headers()
        first, last = (int(wanted[1]), min(int(wanted[2]), len(data) - 1)) if wanted else (0, len(data) - 1)
        body = data[first:last + 1]
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        time.sleep(self.server.delay)
        if path.name == "data.parquet":
            with self.server.lock:
                is_end = last == len(data) - 1
                self.server.seen.append({"began": began, "ended": time.monotonic(), "bytes": len(body), "end": is_end})
        self.answer(206 if wanted else 200, body, headers)

    def listing(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        contents, prefixes = [], set()
        for path in sorted(self.server.root.rglob("*")):
            key = path.relative_to(self.server.root).as_posix()
            if not path.is_file() or not key.startswith(prefix):
                continue
            rest = key[len(prefix):]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                contents.append(f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                                f"<ETag>\"0\"</ETag><Size>{path.stat().st_size}</Size></Contents>")
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(prefixes))
        return ('<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>'
                + "".join(contents) + prefixes + "</ListBucketResult>")


def rounds(seen):
    """The place of each request in the longest chain up to it."""
    seen.sort(key=lambda r: r["began"])
    for request in seen:
        request["round"] = 1 + max((r["round"] for r in seen if "round" in r and r["ended"] <= request["began"]), default=0)
    return max((r["round"] for r in seen), default=0)


def ask(bucket, binary, query):
    bucket.seen.clear()
    address = f"http://127.0.0.1:{bucket.server_address[1]}"
    env = {**os.environ, "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
           "AWS_REGION": "us-east-1"}
    command = [binary, "traceql", "--data-dir", "s3://bucket", "--format", "json", query]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{query}: {done.stderr}")
    seen = bucket.seen
    total = rounds(seen)
    data = [r for r in seen if not r["end"]]
    return {"requests": len(seen), "bytes": sum(r["bytes"] for r in seen), "rounds": total,
            "end_requests": len(seen) - len(data), "end_bytes": sum(r["bytes"] for r in seen if r["end"]),
            "first_data": min((r["round"] for r in data), default=0), "answer": done.stdout}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("folder")
    parser.add_argument("--traceql", nargs="*", help="ask these instead")
    parser.add_argument("--delay", type=float, default=30, help="milliseconds of each answer")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    bucket = Bucket(args.folder, args.delay / 1000)
    threading.Thread(target=bucket.serve_forever, daemon=True).start()
    queries = {q: q for q in args.traceql} if args.traceql else QUERIES
    results = {name: ask(bucket, args.binary, query) for name, query in queries.items()}
    if args.json:
        return print(json.dumps(results))
    print("| query | requests | KB | of them footers and indexes | round trips | first data in |\n|---|---|---|---|---|---|")
    for name, r in results.items():
        print(f"| {name} | {r['requests']} | {r['bytes'] / 1000:,.0f} | {r['end_requests']}, {r['end_bytes'] / 1000:,.0f} KB "
              f"| {r['rounds']} | {r['first_data'] or '-'} |")


if __name__ == "__main__":
    sys.exit(main())
