"""Sends traces with the OpenTelemetry Python SDK and reads them back field by field.

    otel.py send  OUT.json --grpc http://127.0.0.1:4317 --http http://127.0.0.1:4318
    otel.py check OUT.json --api http://127.0.0.1:3200

`send` writes down what the application said, not what the SDK made of it on the wire; `check` compares that with the answer of
/api/v2/traces/{id}. Ends with status 1 and the difference if a field is not the same.
"""

import argparse
import base64
import json
import sys
import urllib.request

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

KINDS = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3, SpanKind.PRODUCER: 4, SpanKind.CONSUMER: 5}
STATUSES = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}
KIND_NAMES = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
STATUS_NAMES = ["UNSET", "OK", "ERROR"]


def typed(value):
    """A value with its type, the same for what was sent and what came back."""
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, int):
        return ["int", value]
    if isinstance(value, float):
        return ["double", repr(value)]
    if isinstance(value, str):
        return ["string", value]
    return ["array", [typed(v) for v in value]]


def attributes(mapping):
    return sorted([key, typed(value)] for key, value in (mapping or {}).items())


def hex_id(number, digits):
    return f"{number:0{digits}x}"


def describe(span):
    scope, context = span.instrumentation_scope, span.context
    return {
        "traceId": hex_id(context.trace_id, 32),
        "spanId": hex_id(context.span_id, 16),
        "parentSpanId": hex_id(span.parent.span_id, 16) if span.parent else "",
        "traceState": context.trace_state.to_header(),
        "name": span.name,
        "kind": KINDS[span.kind],
        "start": span.start_time,
        "end": span.end_time,
        "status": [STATUSES[span.status.status_code], span.status.description or ""],
        "attributes": attributes(span.attributes),
        "events": sorted([e.timestamp, e.name, attributes(e.attributes)] for e in span.events),
        "links": sorted(
            # A link's trace state is left out: this SDK does not send it.
            [hex_id(l.context.trace_id, 32), hex_id(l.context.span_id, 16), attributes(l.attributes)]
            for l in span.links
        ),
        "resource": attributes(span.resource.attributes),
        "scope": [scope.name, scope.version or "", attributes(scope.attributes)],
    }


class Recorder(SpanExporter):
    """Hands spans on and remembers them; an export that fails ends the program."""

    def __init__(self, exporter, said):
        self.exporter, self.said = exporter, said

    def export(self, spans):
        result = self.exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            print("export failed", file=sys.stderr)
            self.said.clear()
        self.said.extend(describe(s) for s in spans)
        return result

    def shutdown(self):
        self.exporter.shutdown()


VALUES = {
    "text": "plain", "empty": "", "unicode": "naïve 日本 🚀", "lines": "a\nb\t\"c\" \\d", "true": True, "false": False,
    "zero": 0, "minus": -1, "large": 2**63 - 1, "small": -(2**63), "exact": 2**53 + 1,
    "half": 0.5, "whole": 3.0, "tiny": 5e-324, "huge": 1.7976931348623157e308, "negative": -2.25,
    "texts": ["a", "", "ü"], "numbers": [1, 2, 3], "one": [7], "halves": [0.5, 1.0], "truths": [True, False], "none at all": [],
}


def talk(provider, way):
    """One trace with every kind, status and type of value."""
    tracer = provider.get_tracer("tests.otel", "1.2.3", schema_url="https://example.com/1", attributes={"way": way, "n": 1})
    other = SpanContext(0x0123456789ABCDEF0123456789ABCDEF, 0x0123456789ABCDEF, True, TraceFlags(1), TraceState([("vendor", "x")]))
    remote = SpanContext(trace.get_current_span().get_span_context().trace_id, 0, False)
    assert not remote.is_valid
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER, attributes=VALUES, links=[Link(other, {"why": "test", "n": 1})]) as root:
        root.add_event("plain")
        root.add_event("with attributes", {"text": "x", "n": 2, "list": ["a", "b"], "ok": True, "half": 0.5})
        root.add_link(root.get_span_context(), {"self": True})
        for kind in SpanKind:
            with tracer.start_as_current_span(f"kind {kind.name}", kind=kind) as span:
                span.set_attribute("kind", kind.name)
        for status in (Status(StatusCode.OK), Status(StatusCode.ERROR, "gone wrong: größe"), Status(StatusCode.ERROR)):
            with tracer.start_as_current_span(f"status {status.status_code.name}") as span:
                span.set_status(status)
        try:
            with provider.get_tracer("tests.other").start_as_current_span("raises"):
                raise ValueError("expected")
        except ValueError:
            pass
        # Fixed times, an end at the start, and a name that is empty.
        tracer.start_span("", start_time=1_700_000_000_000_000_001).end(1_700_000_000_000_000_001)
    # A parent that another service has, with a trace state of its own.
    context = trace.set_span_in_context(trace.NonRecordingSpan(other))
    tracer.start_span("continued", context=context, kind=SpanKind.CONSUMER, attributes={"way": way}).end()


def send(args):
    said = []
    ways = {
        "grpc": GrpcExporter(endpoint=args.grpc, insecure=True),
        "http": HttpExporter(endpoint=args.http + "/v1/traces"),
        "http-gzip": HttpExporter(endpoint=args.http + "/v1/traces", compression=Compression.Gzip),
    }
    for way, exporter in ways.items():
        resource = Resource({"service.name": "python-" + way, "service.version": "1", "pid": 42, "ratio": 0.25, "tags": ["x", "y"], "up": True})
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(SimpleSpanProcessor(Recorder(exporter, said)))
        before = len(said)
        talk(provider, way)
        provider.shutdown()
        assert len(said) - before == 12, f"{way}: {len(said) - before} spans exported"
    with open(args.file, "w", encoding="utf-8") as file:
        json.dump(said, file)
    print(f"{len(said)} spans sent")


def any_value(value):
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return ["array", [any_value(v) for v in inner.get("values", [])]]
    name = kind.removesuffix("Value")
    return [name, {"int": int, "double": lambda x: repr(float(x))}.get(name, lambda x: x)(inner)]


def list_of(key_values):
    return sorted([kv["key"], any_value(kv["value"])] for kv in key_values or [])


def id_of(text):
    return base64.b64decode(text or "").hex()


def number_of(value, names, prefix):
    return value if isinstance(value, int) else names.index((value or prefix + names[0]).removeprefix(prefix))


def received(api, trace_id):
    with urllib.request.urlopen(f"{api}/api/v2/traces/{trace_id}", timeout=60) as answer:
        body = json.load(answer)
    for group in body["trace"].get("resourceSpans", []):
        for scoped in group.get("scopeSpans", []):
            scope = scoped.get("scope", {})
            for span in scoped["spans"]:
                yield {
                    "traceId": id_of(span["traceId"]),
                    "spanId": id_of(span["spanId"]),
                    "parentSpanId": id_of(span.get("parentSpanId")),
                    "traceState": span.get("traceState", ""),
                    "name": span.get("name", ""),
                    "kind": number_of(span.get("kind"), KIND_NAMES, "SPAN_KIND_"),
                    "start": int(span["startTimeUnixNano"]),
                    "end": int(span["endTimeUnixNano"]),
                    "status": [number_of(span.get("status", {}).get("code"), STATUS_NAMES, "STATUS_CODE_"), span.get("status", {}).get("message", "")],
                    "attributes": list_of(span.get("attributes")),
                    "events": sorted([int(e["timeUnixNano"]), e.get("name", ""), list_of(e.get("attributes"))] for e in span.get("events", [])),
                    "links": sorted(
                        [id_of(l["traceId"]), id_of(l["spanId"]), list_of(l.get("attributes"))] for l in span.get("links", [])
                    ),
                    "resource": list_of(group.get("resource", {}).get("attributes")),
                    "scope": [scope.get("name", ""), scope.get("version", ""), list_of(scope.get("attributes"))],
                }


def check(args):
    with open(args.file, encoding="utf-8") as file:
        said = json.load(file)
    wrong = 0
    for trace_id in sorted({s["traceId"] for s in said}):
        # The trace that three exporters continue holds a span of each.
        order = lambda s: s["spanId"]
        want = sorted((s for s in said if s["traceId"] == trace_id), key=order)
        got = sorted(received(args.api, trace_id), key=order)
        if [order(s) for s in want] != [order(s) for s in got]:
            print(f"trace {trace_id}: {len(want)} spans sent, {len(got)} came back")
            wrong += 1
            continue
        for w, g in zip(want, got):
            for field in w:
                if w[field] != g[field]:
                    print(f"trace {trace_id} span {w['name']!r} {field}:\n  sent {w[field]}\n  got  {g[field]}")
                    wrong += 1
    print(f"{len(said)} spans compared, {wrong} differences")
    sys.exit(1 if wrong or not said else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["send", "check"])
    parser.add_argument("file")
    parser.add_argument("--grpc")
    parser.add_argument("--http")
    parser.add_argument("--api")
    args = parser.parse_args()
    send(args) if args.action == "send" else check(args)


if __name__ == "__main__":
    main()
