#!/usr/bin/env python3
"""Writes a data set of traces that are legal and odd, in OTLP: odd_data.py --out DIR [--seed 1] [--traces 120]

The same seed gives the same bytes. Besides ordinary trees there are resources without attributes, equal resources twice in a request,
several scopes a resource, empty texts, keys with spaces, quotes, dots and other alphabets, values of every type below equal keys,
arrays (empty, mixed, of arrays), maps, bytes, the largest and smallest numbers, NaN, infinities, spans of no duration and of hours,
equal span ids in one trace and in many, traces without a root, with two and with cycles, events and links of all kinds.
Spans that end before they start are left out: one upsets Tempo's column statistics of its whole block.
"""
import argparse, hashlib, json, math, pathlib, random, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
from make_edge import KV, Null, attrs, f64, ld, st, vi  # noqa: E402

FIRST = 1768460400 * 10**9  # 2026-01-15T07:00:00Z
SECONDS = 7000
KEYS = ["a", "b", "n", "x.y", "x.y.z", "two words", 'q"q', "ключ", "http.method", "http.status_code", "http.url", "db.system", "error", "span.a", "name", "status", "m", "list", "big"]
RESOURCE = ["a", "host", "k8s.pod.name", "k8s.cluster.name", "cluster", "region", "x.y", "two words", "n", "deployment.environment", "list"]
TEXTS = ["", "a", "b", "A", "nil", "true", "1", "1.5", "two words", 'q"q', "é", "日本", "x" * 300, "GET", "POST", "200", "a\nb", "\\", "%", ".*", "ok"]
INTS = [0, 1, -1, 2, 3, 5, 10, 200, 404, 500, -3, 1000, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -2**63, 1_000_000_000]
FLOATS = [0.0, -0.0, 1.0, 1.5, -1.5, 2.0, 0.1, 3.0, 1e-9, 1e21, 1e300, -1e300, math.inf, -math.inf, math.nan, 200.0]
NAMES = ["", "GET /", "work", "Work", "a b", "日本", "nil", "x", "y", "z", "1", "{ }"]
SERVICES = ["web", "db", "cart", "a b", "ñ", "", "nil"]
OTHER = [Null, KV({}), KV({"k": 1, "l": ["a"]}), b"", b"\x00\xff", b"text", [[1], ["a"]], [1, "a"], [1, 1.5], ["a", True, 2], [KV({"k": "v"})], [Null]]


class Data:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.requests = []

    def chance(self, share):
        return self.r.random() < share

    def scalar(self, kind):
        return {"s": lambda: self.r.choice(TEXTS), "i": lambda: self.r.choice(INTS), "f": lambda: self.r.choice(FLOATS), "b": lambda: self.chance(0.5)}[kind]()

    def value(self, key):
        # Each key has a type that most of its values have.
        usual = "sifb"[hashlib.md5(key.encode()).digest()[0] % 4] if key not in ("http.method", "db.system", "host") else "s"
        dice = self.r.random()
        if key == "list" or dice > 0.92:
            kind = self.r.choice("sifb")
            return [self.scalar(kind) for _ in range(self.r.choice([0, 1, 1, 2, 3]))]
        if dice > 0.88:
            return self.r.choice(OTHER)
        return self.scalar(usual if dice < 0.7 else self.r.choice("sifb"))

    def attributes(self, keys, most):
        chosen = self.r.sample(keys, self.r.randint(0, most))
        chosen += chosen[:1] if self.chance(0.03) else []
        return [(k, self.value(k)) for k in chosen]

    def resource(self):
        dice = self.r.random()
        if dice < 0.05:
            return None
        if dice < 0.1:
            return b""
        own = self.attributes(RESOURCE, 4)
        if dice < 0.9:
            service = self.r.choice([self.r.choice(SERVICES)] * 12 + [5, True, ["web"]])
            own.insert(self.r.randint(0, len(own)), ("service.name", service))
        return attrs(1, own) + vi(2, self.r.choice([0, 0, 0, 2]))

    def scope(self):
        if self.chance(0.2):
            return b""
        # The version tells scopes of other attributes apart, which Tempo merges otherwise.
        own = self.attributes(["a", "b", "n", "two words"], 2)
        version = "" if not own else str(self.r.randint(0, 10**9))
        return st(1, self.r.choice(["lib", "", "lib ñ", "net/http"])) + st(2, version) + attrs(3, own)

    def event(self, start, duration):
        at = start + self.r.choice([0, 1, 1000, 1_000_000, duration, duration + 5, 10**9])
        return f64(1, at) + st(2, self.r.choice(["exception", "log", "", "日本", "nil"])) + attrs(3, self.attributes(["a", "b", "n", "exception.type", "list"], 3)) + vi(4, self.r.choice([0, 0, 1]))

    def link(self, trace):
        target = trace if self.chance(0.3) else hashlib.md5(b"%d" % self.r.randint(0, 9)).digest()
        return ld(1, target) + ld(2, span_id(self.r.randint(0, 6))) + st(3, self.r.choice(["", "a=b"])) + attrs(4, self.attributes(["a", "b", "n"], 2))

    def span(self, trace, number, parent, start):
        duration = self.r.choice([0, 1, 999, 1000, 1_000_000, 1_500_000, 20_000_000, 10**9, 90 * 10**9, self.r.randint(0, 10**9)] + ([7200 * 10**9] if self.chance(0.03) else []))
        events = b"".join(ld(11, self.event(start, duration)) for _ in range(self.r.choice([0, 0, 0, 1, 2, 3])))
        links = b"".join(ld(13, self.link(trace)) for _ in range(self.r.choice([0, 0, 0, 0, 1, 2])))
        status = ld(15, st(2, self.r.choice(["", "", "boom", "nil"])) + vi(3, self.r.choice([0, 1, 2]))) if self.chance(0.5) else b""
        return (ld(1, trace) + ld(2, span_id(number)) + st(3, self.r.choice(["", "", "a=b", "ot=th:8"])) + (ld(4, span_id(parent)) if parent is not None else b"")
                + st(5, self.r.choice(NAMES)) + vi(6, self.r.choice([0, 1, 2, 2, 3, 3, 4, 5])) + f64(7, start) + f64(8, start + duration)
                + attrs(9, self.attributes(KEYS, 6)) + events + links + status)

    def trace(self, index, count):
        id_ = hashlib.sha256(f"odd/{index}/{self.r.random()}".encode()).digest()[:16]
        if index % 17 == 3:
            id_ = b"\0" * 8 + id_[8:]
        start = FIRST + int(index / count * SECONDS) * 10**9 + self.r.choice([0, 0, 1, self.r.randint(0, 10**9)])
        shape, size = self.r.random(), self.r.choice([1, 1, 2, 3, 5, 8, 13])
        groups = [(self.resource(), [self.scope() for _ in range(self.r.randint(1, 3))]) for _ in range(self.r.randint(1, 3))]
        placed = [[[] for _ in scopes] for _, scopes in groups]
        for number in range(size):
            parent = self.r.randint(0, number - 1) if number else None
            if shape < 0.08:
                parent = 77 if number == 0 else parent  # no root
            elif shape < 0.16 and number == size - 1:
                parent = None  # another root
            elif shape < 0.22 and number > 1:
                parent = number + 1 if number < size - 1 else number - 1  # a cycle
            own = self.r.randint(0, number) if shape > 0.95 and number else number  # a span id twice
            group = self.r.randrange(len(groups))
            scope = self.r.randrange(len(placed[group]))
            placed[group][scope].append(self.span(id_, own, parent, start + number * self.r.choice([0, 1000, 1_000_000])))
        out = b""
        for (resource, scopes), spans in zip(groups, placed):
            body = b"" if resource is None else ld(1, resource)
            for scope, own in zip(scopes, spans):
                if own:
                    body += ld(2, (ld(1, scope) if scope else b"") + b"".join(ld(2, s) for s in own))
            if any(spans):
                out += ld(1, body)
                if self.chance(0.05) and size == 1:
                    break
        self.requests.append(out)


def span_id(number):
    """The same ids in every trace; some with zeros in front."""
    return bytes([0, 0, 0, 0, 0, 0, 1, number + 1]) if number % 5 == 4 else hashlib.md5(b"span %d" % number).digest()[:8]


def write(folder, seed, traces=120):
    """Writes the data set `folder` of a corpus (DIR/data/NAME)."""
    data = Data(seed)
    for index in range(traces):
        data.trace(index, traces)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{folder.name}-000.otlp.pb").write_bytes(b"".join(data.requests))
    told = {"traces": traces, "files": 1, "min_ns": FIRST, "max_ns": FIRST + (SECONDS + 7300) * 10**9, "window": {"start": FIRST // 10**9, "end": FIRST // 10**9 + SECONDS + 200}}
    (folder / "manifest.json").write_text(json.dumps(told, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder of the data set, DIR/data/NAME of a corpus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traces", type=int, default=120)
    args = parser.parse_args()
    write(args.out, args.seed, args.traces)


if __name__ == "__main__":
    main()
