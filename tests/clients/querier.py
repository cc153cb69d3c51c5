"""Asks the queries of a corpus over gRPC and over HTTP/1.1, on the same port, and compares the answers.

    querier.py HOST:PORT CORPUS [--ca CERT.pem] [--every N]

The streamed answer is put together as Grafana does it: the first copy of a trace wins, the newest value of a series at a time
wins, the metrics of the last message count. It must be the answer over HTTP, and an error must have the same text.
Ends with status 1 and the differences if it is not.
"""

import argparse
import json
import os
import ssl
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc

HERE = os.path.dirname(os.path.abspath(__file__))
MESSAGE_BYTES_MAX = 2 << 20  # Grafana's clients take 4 MiB
CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED"}


def generated():
    """The classes of querier.proto."""
    folder = tempfile.mkdtemp()
    done = protoc.main(["protoc", f"-I{HERE}", f"--python_out={folder}", f"--grpc_python_out={folder}", "querier.proto"])
    assert done == 0, "querier.proto does not compile"
    sys.path.insert(0, folder)
    import querier_pb2
    import querier_pb2_grpc

    return querier_pb2, querier_pb2_grpc


pb, services = generated()


def nanos(text):
    return int(text) if len(text) > 10 else int(text) * 10**9


def seconds(step):
    units = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    unit = next(u for u in units if step.endswith(u))
    return int(step.removesuffix(unit)) * units[unit]


def asks(query):
    """Method, request and path of a query; nothing if one of its parameters has no place in a request."""
    kind, params = query["kind"], dict(query["params"])
    tag = params.get("tag", "")
    quoted = urllib.parse.quote(tag, safe="")
    ways = {
        "search": ("Search", pb.SearchAsk, "/api/search", {"limit": int, "spss": int, "start": int, "end": int}),
        "tags": ("SearchTagsV2", pb.NamesAsk, "/api/v2/search/tags", {"limit": int, "start": int, "end": int}),
        "tags_v1": ("SearchTags", pb.NamesAsk, "/api/search/tags", {"limit": int, "start": int, "end": int}),
        "tag_values": ("SearchTagValuesV2", pb.ValuesAsk, f"/api/v2/search/tag/{quoted}/values", {"limit": int, "start": int, "end": int}),
        "tag_values_v1": ("SearchTagValues", pb.ValuesAsk, f"/api/search/tag/{quoted}/values", {"limit": int, "start": int, "end": int}),
        "metrics_range": ("MetricsQueryRange", pb.RangeAsk, "/api/metrics/query_range",
                          {"start": nanos, "end": nanos, "step": seconds, "exemplars": int, "maxSeries": int}),
        "metrics_instant": ("MetricsQueryInstant", pb.InstantAsk, "/api/metrics/query", {"start": nanos, "end": nanos}),
    }
    if kind not in ways:
        return None
    method, message, path, types = ways[kind]
    try:
        fields = {name: types.get(name, str)(value) for name, value in params.items()}
        # Zero is "not there" in a request, and an error among parameters.
        if any(value == 0 for value in fields.values()):
            return None
        request = message(**fields)
    except (ValueError, StopIteration):
        return None
    params.pop("tag", None)
    return method, request, f"{path}?{urllib.parse.urlencode(params)}"


def over_http(base, path, context):
    try:
        with urllib.request.urlopen(base + path, timeout=120, context=context) as answer:
            return 200, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode().strip()


def over_grpc(stub, method, request):
    try:
        messages = list(getattr(stub, method)(request, timeout=120))
    except grpc.RpcError as e:
        return e.code().name, e.details().strip()
    assert messages, f"{method}: no message"
    for message in messages:
        assert message.HasField("metrics"), f"{method}: a message without metrics"
        assert message.ByteSize() <= MESSAGE_BYTES_MAX, f"{method}: a message of {message.ByteSize()} bytes"
    done = [m.metrics.completedJobs for m in messages]
    last = messages[-1].metrics
    assert last.completedJobs == last.totalJobs and done == sorted(done), f"{method}: progress {done} of {last.totalJobs}"
    return "OK", [MessageToDict(m, preserving_proto_field_name=True) for m in messages]


def text(value):
    return json.dumps(value, sort_keys=True)


def known_spans(spans):
    """A span set: which of the spans are shown is not said where not all are."""
    shown = sorted(map(text, spans.get("spans", [])))
    return text([spans.get("matched"), spans.get("attributes"), shown if len(shown) == spans.get("matched") else len(shown)])


def trace(found):
    sets = sorted(map(known_spans, found.get("spanSets", [])))
    return [found.get(name) for name in ("rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "serviceStats")] + [sets]


def numbers(value):
    """Doubles as they come back from text."""
    return float(value) if not isinstance(value, str) else value


def whole(method, messages):
    """The answer that messages make; over HTTP there is one."""
    get = lambda name: [item for m in messages for item in m.get(name, [])]
    if method == "Search":
        traces = {}
        for found in get("traces"):
            assert len(messages) > 0 and found["traceID"] not in traces, f"trace {found['traceID']} came twice"
            traces[found["traceID"]] = trace(found)
        return traces
    if method == "SearchTagsV2":
        scopes = {}
        for scope in get("scopes"):
            scopes.setdefault(scope["name"], set()).update(scope.get("tags", []))
        return scopes
    if method == "SearchTags":
        return set(get("tagNames"))
    if method.startswith("SearchTagValues"):
        return set(map(text, get("tagValues")))
    status = [messages[-1].get(name) for name in ("status", "message")]
    status[0] = {"PARTIAL": 1}.get(status[0], status[0])
    if method == "MetricsQueryInstant":
        return status, sorted((text(s["labels"]), numbers(s.get("value", 0.0))) for s in messages[-1].get("series", []))
    samples = {}
    for series in get("series"):
        labels = text(series.get("labels", []))
        samples.setdefault((labels, None), None)
        for sample in series.get("samples", []):
            samples[labels, sample.get("timestampMs", "0")] = numbers(sample.get("value", 0.0))
    return status, samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("corpus")
    parser.add_argument("--ca")
    parser.add_argument("--every", type=int, default=1)
    args = parser.parse_args()
    context = None
    if args.ca:
        host = args.target.replace("127.0.0.1", "localhost")
        with open(args.ca, "rb") as file:
            channel = grpc.secure_channel(host, grpc.ssl_channel_credentials(file.read()))
        context = ssl.create_default_context(cafile=args.ca)
        base = f"https://{host}"
    else:
        channel, base = grpc.insecure_channel(args.target), f"http://{args.target}"
    stub = services.StreamingQuerierStub(channel)
    with open(os.path.join(args.corpus, "queries.json"), encoding="utf-8") as file:
        queries = [(q, asks(q)) for q in json.load(file)]
    queries = [(q, ask) for q, ask in queries if ask][:: args.every]
    wrong, methods, errors, streamed = 0, set(), 0, 0
    for query, (method, request, path) in queries:
        code, answer = over_http(base, path, context)
        name, messages = over_grpc(stub, method, request)
        methods.add(method)
        if code != 200:
            errors += 1
            good = (name, messages) == (CODES.get(code, "INTERNAL"), answer)
        else:
            good = name == "OK" and whole(method, messages) == whole(method, [answer])
            streamed += name == "OK" and len(messages) > 1
        if not good:
            wrong += 1
            print(f"{query['id']} {query['params']}\n  HTTP {code}: {text(answer)[:600]}\n  gRPC {name}: {text(messages)[:600]}")
    print(f"{len(queries)} queries, {wrong} differences; {errors} errors, {streamed} answers in several messages, {len(methods)} methods")
    sys.exit(1 if wrong or not queries else 0)


if __name__ == "__main__":
    main()
