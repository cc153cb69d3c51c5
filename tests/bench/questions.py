"""Random questions to a server that speaks Tempo's API, made from TraceQL's grammar and from what its data hold."""
import json, random, re, urllib.parse

WORDS = {"trace:duration": "duration", "traceDuration": "duration", "span:duration": "duration", "duration": "duration",
         "trace:rootName": "string", "rootName": "string", "trace:rootService": "string", "rootServiceName": "string", "trace:id": "id",
         "span:name": "string", "name": "string", "span:kind": "kind", "kind": "kind", "span:status": "status", "status": "status",
         "span:statusMessage": "string", "statusMessage": "string", "span:id": "id", "span:parentID": "id", "span:childCount": "int",
         "event:name": "string", "event:timeSinceStart": "duration", "link:traceID": "id", "link:spanID": "id",
         "instrumentation:name": "string", "instrumentation:version": "string",
         "nestedSetLeft": "int", "nestedSetRight": "int", "nestedSetParent": "int"}
REPEATED = ("event", "link")
STRUCTURAL = [a + b for a in ("", "!", "&") for b in (">", ">>", "<", "<<", "~")]
DURATIONS = ["0s", "1ns", "999ns", "1us", "1500ns", "1.5ms", "10ms", "20ms", "100ms", "0.25s", "1s", "1m30s", "1h"]
NUMBERS = ["0", "1", "-1", "3", "42", "100", "200", "404", "500", "1000", "0.5", "-0.25", "1.5", "2.0", "1e3"]
DEDICATED = ["resource.k8s." + n + ".name" for n in ("cluster", "namespace", "pod", "container")] + ["span.http.method", "span.http.status_code", "span.http.url", "span.url.path"]
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


# What a question may run into -> how the docs name it (docs/traceql.md, docs/traceql-metrics.md, docs/api.md).
ACCIDENTS = {
    "nil": "= nil loses spans", "not": "!(...) loses spans", "turned": "a literal on the left", "numbers": "the literal's type picks the column",
    "constant": "a constant beside || loses spans", "links": "conditions on links hold of spans without links",
    "ids": "order and patterns of ids", "negated": "minus of what is absent", "array": "arithmetic on an array, != on an array", "arrays": "by() of arrays",
    "events": "a filter on events and a later stage over the same field", "root": "a stage over a root's name loses it",
    "tree": "{ } loses spans without a place in the tree", "union": "unions of descendants lose spans", "seconds": "durations other than duration in nanoseconds",
    "sum": "sum_over_time starts again", "floats": "quantiles of floats", "compare": "compare() counts otherwise",
    "completion": "conditions that completion leaves out or cannot read", "stale": "maxStaleValues", "groups": "tags within one resource",
    "unfiltered": "metrics do not evaluate arithmetic in filters", "zeros": "bottomk() among series of zeros",
    "selected": "a stage behind select() finds nothing",
    "mixed": "numbers of a field that is also text",
    "power": "powers of ints with their sides exchanged", "sets": "nested sets that did not pass read as 0",
    "dedicated": "absent attributes with dedicated columns, and other types in them", "unsigned": "aggregates of a root's -1",
    "names": "service names that are numbers",
    "labels": "labels that an alternative of the filter asks for",
}


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def attribute(scope, name):
    named = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    plain = re.fullmatch(r"[\w./-]+", name) and not (scope == "parent" or name.startswith(("span.", "resource.", "parent.")))
    return f"{'' if scope == 'none' else scope}.{name if plain else named}"


class Known:
    """What the data hold, as a server tells it: attributes with their values, traces, times."""

    def __init__(self, get, first, last):
        def answer(path, **params):
            status, body = get(f"{path}?{urllib.parse.urlencode(params)}")
            if status != 200:
                raise SystemExit(f"{path} answered {status}: {body[:300]!r}")
            return json.loads(body)

        self.first, self.last = first, last
        everything = answer("/api/search", q="{}", start=first, end=last, limit=200_000, spss=3)["traces"]
        self.traces = [t["traceID"].zfill(32) for t in everything]
        self.starts = sorted(int(s["startTimeUnixNano"]) for t in everything for x in t["spanSets"] for s in x["spans"])
        self.values, self.names, self.arrays = {}, {}, set()
        for scope in answer("/api/v2/search/tags", limit=0)["scopes"]:
            for name in scope["tags"]:
                field = name if scope["name"] == "intrinsic" else attribute(scope["name"], name)
                if scope["name"] == "intrinsic" and name not in WORDS:
                    continue
                path = f"/api/v2/search/tag/{urllib.parse.quote(field, safe='')}/values"
                self.values[field] = [(v["type"], v.get("value", "")) for v in answer(path).get("tagValues", [])][:300]
                self.names.setdefault(scope["name"], []).append(name)
                if scope["name"] != "intrinsic":
                    shown = answer("/api/search", q=f"{{ {field} != nil }} | select({field})", limit=300, spss=100, start=first, end=last)
                    spans = [s for t in shown["traces"] for x in t["spanSets"] for s in x["spans"]]
                    if any("arrayValue" in a["value"] for s in spans for a in s.get("attributes", []) if a["key"] == name):
                        self.arrays.add(field)


        self.spans = [span for id_ in self.traces[:: max(1, len(self.traces) // 150)] for span in spans_of(answer(f"/api/v2/traces/{id_}"))]


def spans_of(answer):
    """The spans of a trace, each as what TraceQL sees of it: field -> (type, value)."""
    for group in answer["trace"]["resourceSpans"]:
        resource = typed("resource", group.get("resource", {}).get("attributes", []))
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                own = {**resource, **typed("span", span.get("attributes", []))}
                own["name"] = ("string", span.get("name", ""))
                own["kind"] = ("kind", str(span.get("kind", "SPAN_KIND_UNSPECIFIED")).removeprefix("SPAN_KIND_").lower())
                own["status"] = ("status", str(span.get("status", {}).get("code", "STATUS_CODE_UNSET")).removeprefix("STATUS_CODE_").lower())
                for repeated in REPEATED:
                    for item in span.get(repeated + "s", []):
                        own.update(typed(repeated, item.get("attributes", [])))
                        own.update({"event:name": ("string", item.get("name", ""))} if repeated == "event" else {})
                own.update(typed("instrumentation", scope.get("scope", {}).get("attributes", [])))
                if not own["kind"][1].isdigit() and not own["status"][1].isdigit():
                    yield own


def typed(scope, attributes):
    types = {"stringValue": "string", "intValue": "int", "doubleValue": "float", "boolValue": "bool"}
    values = ((a["key"], *next(iter(a["value"].items()), ("", ""))) for a in attributes)
    return {attribute(scope, key): (types[kind], str(v).lower() if kind == "boolValue" else str(v)) for key, kind, v in values if kind in types}


class Questions:
    """An endless row of questions. Each says with `odd` which known accidents of Tempo it may run into."""

    AREAS = {"search": 42, "series": 22, "tag_values": 9, "tags": 4, "trace": 5, "legacy": 6, "wrong": 12}

    def __init__(self, known, seed, areas=None):
        self.known, self.r = known, random.Random(seed)
        self.odd, self.span = set(), {}
        self.areas = {area: weight for area, weight in self.AREAS.items() if not areas or area in areas}

    # ---- what a condition is made of
    def chance(self, share):
        return self.r.random() < share

    def pick(self, items):
        return self.r.choice(items)

    def field(self):
        """A field and the types of its values."""
        if self.span and self.chance(0.6):
            field = self.pick(list(self.span))
            types = {WORDS[field]} if field in WORDS else {t for t, _ in self.known.values.get(field, [])} | {self.span[field][0]}
            return ("." + field.split(".", 1)[1] if field.startswith(("span.", "resource.")) and self.chance(0.15) else field), types
        if self.chance(0.4):
            word = self.pick(list(WORDS))
            return word, {WORDS[word]}
        scope = self.pick(["span"] * 6 + ["resource"] * 3 + ["none"] * 3 + ["event", "link", "instrumentation"])
        sources = ["span", "resource"] if scope == "none" else [scope]
        own = [s for s in sources if self.known.names.get(s)]
        if not own:
            return "span.nope", set()
        name = self.pick(self.known.names[self.pick(own)])
        types = {t for s in sources for t, _ in self.known.values.get(attribute(s, name), [])}
        return attribute(scope, name), types

    def literal(self, field, types):
        """A literal that the field may well be compared with."""
        if self.chance(0.06):
            return self.pick([self.pick(NUMBERS), self.pick(DURATIONS), '"nil"', '""', "true", "error", "server", '"3"'])
        own = [self.span[f] for f in (field, "span" + field, "resource" + field) if f in self.span]
        values = own if own and self.chance(0.8) else self.known.values.get(field) or [v for s in ("span", "resource") for v in self.known.values.get(s + field, [])]
        kind = next(iter(types), "string") if len(types) == 1 else None
        if kind in ("status", "kind") and own and self.chance(0.7):
            return own[0][1]
        if kind == "status":
            return self.pick(["ok", "error", "unset"])
        if kind == "kind":
            return self.pick(["unspecified", "internal", "client", "server", "producer", "consumer"])
        if kind == "duration":
            return self.pick(DURATIONS) if self.chance(0.9) else self.pick(NUMBERS)
        if kind == "id":
            return quoted(self.pick(self.known.traces)) if self.chance(0.8) else '""'
        if field in WORDS and kind == "int":
            return str(self.r.randint(-2, 12))
        if not values:
            return self.pick(NUMBERS) if self.chance(0.3) else quoted("x")
        type_, value = self.pick(values)
        if type_ == "int":
            return str(int(value) + self.r.choice((0, 0, 0, 1, -1))) if abs(int(value)) < 2**62 else str(max(int(value), 1 - 2**63))
        if type_ == "float":
            return "0.5" if not re.fullmatch(r"-?\d+(\.\d+)?", value) else f"{value}"
        if type_ == "bool":
            return value
        return quoted(value[:300]) if self.chance(0.9) or "`" in value else f"`{value[:300]}`"

    def regex(self, field):
        own = [self.span[field]] if field in self.span and self.chance(0.7) else self.known.values.get(field, [])
        texts = [v for t, v in own if t == "string" and 0 < len(v) < 60] or ["a"]
        text = re.escape(self.pick(texts)).replace("\\ ", " ").replace("\\-", "-")
        text = re.sub(r"\\([^\w])", r"[\1]", text) if not re.search(r"\\[\[\]^\\]", text) else "x"
        short = text[: self.r.randint(1, 4)]
        short = short if re.fullmatch(r"[\w ]+", short) else "a"
        return quoted(self.pick([text, short + ".*", ".*" + short, f".*{short}.*", f"{short}|{text}", f"(?i){text}", ".*", ".+", "", "[a-z]+", ".{4}", f"^{text}$"]))

    def condition(self):
        field, types = self.field()
        dice = self.r.random()
        if dice < 0.5:
            return self.comparison(field, types)
        if dice < 0.64:
            op = self.pick(["=~", "=~", "!~"])
            self.of_ids(field, op)
            return f"{field} {op} {self.regex(field)}"
        if dice < 0.74:
            return f"{field} != nil"
        if dice < 0.76 and field not in WORDS:
            self.odd.add("nil")
            return self.pick([f"{field} = nil", f"nil = {field}"])
        if dice < 0.82:
            other, others = self.field()
            return f"{field} {self.pick(COMPARISONS)} {other}"
        if dice < 0.90:
            return self.arithmetic()
        if dice < 0.93:
            return self.pick(["true", "false", "1 = 1", "2 < 1", '"a" != "b"', "1.0 = 1", "1s > 999ms"])
        if dice < 0.95 and types in ({"bool"}, set()):
            return field
        if dice < 0.97:
            self.odd.add("not")
            return f"!({self.condition()})"
        if dice < 0.985:
            self.odd.add("turned")
            self.of_ids(field, "<")
            return f"{self.literal(field, types)} {self.pick(COMPARISONS)} {field}"
        return "nestedSetParent < 0"

    def comparison(self, field, types):
        literal = self.literal(field, types)
        op = self.pick(COMPARISONS + ("=",) * 5)
        self.of_ids(field, op)
        numeric = {"int": r"-?\d+", "float": r"-?\d[\d.]*(e\d+)?"}
        if field not in WORDS and re.match(r"-?\d", literal):
            own = next((t for t, form in numeric.items() if re.fullmatch(form, literal)), "duration")
            if types & {"int", "float"} - {own}:
                self.odd.add("numbers")
        return f"{field} {op} {literal}"

    def of_ids(self, field, op):
        if WORDS.get(field) == "id" and op not in ("=", "!="):
            self.odd.add("ids")
        if field.startswith("link:") and op != "=":
            self.odd.add("links")

    def arithmetic(self):
        if self.chance(0.3):
            a, b = self.pick(["duration", "traceDuration"]), self.pick(["duration", "traceDuration", "10ms", "1s"])
            return f"{a} {self.pick('+-')} {b} {self.pick(COMPARISONS)} {self.pick(DURATIONS)}"
        numeric = [f for f, values in self.known.values.items() if any(t in ("int", "float") for t, _ in values)]
        field = self.pick(numeric + ["nestedSetLeft", "span:childCount"])
        op = self.pick("+-*/%+-*")
        literal = self.pick([n for n in NUMBERS if float(n)])
        sign = "-" if self.chance(0.1) else ""
        self.odd.update(["negated"] if sign else [])
        return f"{sign}{field} {op} {literal} {self.pick(COMPARISONS)} {self.pick(NUMBERS)}"

    def expression(self, depth=0):
        parts = [self.condition()]
        while len(parts) < 4 and self.chance(0.3):
            parts.append(self.condition() if depth or not self.chance(0.15) else f"({self.expression(1)})")
        text = parts[0]
        for part in parts[1:]:
            text += f" {self.pick(['&&', '&&', '||'])} {part}"
        return text

    def filter(self):
        return "{ }" if self.chance(0.08) else f"{{ {self.expression()} }}"

    # ---- pipelines
    def spansets(self):
        dice = self.r.random()
        if dice < 0.62:
            return self.filter()
        if dice < 0.85:
            return f"{self.filter()} {self.pick(STRUCTURAL + ['&&', '||', '&&', '||'])} {self.filter()}"
        a, b, c = self.filter(), self.filter(), self.filter()
        op, other = self.pick(STRUCTURAL + ["&&", "||"]), self.pick(STRUCTURAL + ["&&", "||"])
        if dice < 0.95:
            return self.pick([f"({a} {op} {b}) {other} {c}", f"{a} {op} ({b} {other} {c})", f"{a} {op} {b} {other} {c}"])
        return f"({a} | count() > {self.r.randint(0, 3)}) {self.pick(['&&', '||', '>>', '>'])} ({b} | {self.aggregate()})"

    def number(self):
        field, types = self.field()
        while not types & {"int", "float", "duration"}:
            field, types = self.field()
        return field, types

    def aggregate(self):
        op = self.pick(COMPARISONS)
        if self.chance(0.45):
            return f"count() {op} {self.r.randint(0, 9)}"
        field, types = self.number()
        if self.chance(0.2):
            field += f" {self.pick('+*')} 2"
        name = self.pick(["min", "max", "sum", "avg"])
        return f"{name}({field}) {op} {self.pick(DURATIONS if types == {'duration'} else NUMBERS)}"

    def stage(self):
        dice = self.r.random()
        if dice < 0.35:
            return self.aggregate()
        if dice < 0.6:
            field = self.field()[0]
            self.odd.update(["arrays"] if self.arrays_of(field) else [])
            return f"by({field})" if self.chance(0.85) else f"by({self.pick(['duration > 10ms', 'span:childCount > 1', 'status = error', 'name != rootName'])})"
        if dice < 0.8:
            return f"select({', '.join(self.field()[0] for _ in range(self.r.randint(1, 3)))})"
        if dice < 0.9:
            return "coalesce()"
        return self.filter()

    def pipeline(self, most=3):
        stages = [self.spansets()]
        while len(stages) < most and self.chance(0.35):
            stages.append(self.stage())
        return " | ".join(stages)

    def arrays_of(self, field):
        return field in self.known.arrays or field.startswith(".") and any(s + field in self.known.arrays for s in ("span", "resource"))

    # ---- metrics
    def labels(self, most):
        fields = [self.field()[0] for _ in range(self.pick([1, 1, 1, 2, 2, most]))]
        self.odd.update(["arrays"] if any(self.arrays_of(f) for f in fields) else [])
        return f" by ({', '.join(dict.fromkeys(fields))})"

    def metrics(self):
        first = self.filter() if self.chance(0.8) else self.pipeline(2)
        dice = self.r.random()
        most = 5
        if dice < 0.4:
            function = self.pick(["rate()", "count_over_time()"])
        elif dice < 0.45:
            self.odd.add("compare")
            return f"{first} | compare({self.filter()}{self.pick(['', ', 5', ', 1000'])})"
        else:
            field, types = self.number() if self.chance(0.95) else self.field()
            function = self.pick(["min", "max", "avg", "sum", "histogram", "quantile"])
            self.odd.update(["seconds"] if field in ("traceDuration", "trace:duration", "event:timeSinceStart") else [])
            self.odd.update(["sum"] if function == "sum" and field not in WORDS else [])
            self.odd.update(["floats"] if function in ("histogram", "quantile") and "float" in types else [])
            most = 4 if function in ("avg", "histogram", "quantile") else 5
            more = ", " + self.pick(["0.5", "0.9", "0, 1", ".95", "0.25, 0.5, 0.75"]) if function == "quantile" else ""
            function = f"{function}_over_time({field}{more})"
        text = f"{first} | {function}" + (self.labels(most) if self.chance(0.6) else "")
        while self.chance(0.25):
            text += self.pick([f" | topk({self.r.randint(1, 4)})", f" | bottomk({self.r.randint(1, 4)})", f" {self.pick(COMPARISONS)} {self.pick(NUMBERS + ['10ms', '1s'])}"])
        return text + (f" with({self.pick(['exemplars=false', 'most_recent=true', 'nope=1'])})" if self.chance(0.05) else "")

    # ---- requests
    def window(self):
        return {"start": self.known.first, "end": self.known.last}

    def edges(self):
        """A range whose ends lie on or near spans, in whole seconds."""
        a, b = sorted((self.pick(self.known.starts) // 10**9 + self.r.choice((-1, 0, 0, 1)) for _ in range(2)))
        return {"start": a, "end": max(b, a + 1)}

    def time_form(self, ns):
        forms = [str(ns // 10**9), str(ns), f"{ns / 1e9:.3f}", self.rfc3339(ns)]
        return self.pick(forms)

    @staticmethod
    def rfc3339(ns):
        import datetime

        at = datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc)
        return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{ns % 10**9:09d}" if ns % 10**9 else "") + "Z"

    def search(self):
        params = {"q": self.pipeline(), **self.window(), "limit": 5000, "spss": 100}
        dice = self.r.random()
        if dice < 0.15:
            params.update(self.edges())
        if dice > 0.8:
            cut = dict(params, **self.pick([{"limit": self.r.randint(1, 30)}, {"spss": self.r.randint(1, 4)}, {"limit": 7, "spss": 1}]))
            return {"kind": "search", "params": cut, "full": params}
        return {"kind": "search", "params": params}

    def legacy(self):
        names = [(n, v) for s in ("span", "resource") for n in self.known.names[s] for t, v in self.known.values[attribute(s, n)] if t != "float" and len(v) < 40]
        tags = dict(self.r.sample(names, self.pick([0, 1, 1, 2])))
        tags.update({k: v for k, v in [self.pick([("name", "GET"), ("status.code", "error"), ("root.name", "a"), ("service.name", "a"), ("http.status_code", "200"), ("error", "true")])] if self.chance(0.4)})
        params = {"tags": " ".join(f"{n}={quoted(v)}" for n, v in tags.items() if re.fullmatch(r"[\w./-]+", n)), **self.window(), "limit": 5000}
        if self.chance(0.5):
            params["minDuration"] = self.pick(["1ms", "10ms", "0.1s", "1s500ms", "1m", "0", "2h"])
        if self.chance(0.3):
            params["maxDuration"] = self.pick(["5ms", "50ms", "1s", "1h", "3h"])
        return {"kind": "search", "params": params}

    def completion(self):
        unfinished = self.pick(["", "", "", " && span.x = ", " && name = "])
        parts = " && ".join(self.condition() for _ in range(self.pick([1, 1, 2]))) + unfinished
        query = self.pick([f"{{ {parts} }}", f"{{ {parts} }}", "{}", f"{{ {parts}", f"{{ {parts} || {self.condition()} }}"])
        params = dict(self.pick([{}, {}, {"q": query}, {"q": query}, {"q": query}]), **self.window())
        if self.chance(0.1):
            params["maxStaleValues"] = self.r.randint(1, 5)
        return params

    def tags(self):
        params = self.completion()
        if self.chance(0.6):
            params["scope"] = self.pick(["span", "resource", "event", "link", "instrumentation", "intrinsic", "none", "trace"])
        if self.chance(0.25):
            params.pop("q", None)
            return {"kind": "tags_v1", "params": params}
        return {"kind": "tags", "params": params}

    def tag_values(self):
        params = self.completion()
        field = self.field()[0]
        if self.chance(0.2):
            params.pop("q", None)
            return {"kind": "tag_values_v1", "params": dict(params, tag=self.pick([field.split(".", 1)[-1], field, "service.name", "status.code"]))}
        return {"kind": "tag_values", "params": dict(params, tag=field)}

    def trace(self):
        id_ = self.pick(self.known.traces)
        form = self.r.random()
        if form < 0.2:
            id_ = self.pick([id_.upper(), id_.lstrip("0"), id_[:16], "0" * 16 + id_[16:], id_[:-1], id_ + "0", "xyz", id_[:10] + "g", "0", "0x" + id_[:8]])
        params = {"id": id_}
        if self.chance(0.3):
            params.update(self.pick([self.window(), self.edges(), {"start": self.known.first}, {"start": 1, "end": 2}, {"start": "a"}, {"start": 9, "end": 3}]))
        return {"kind": self.pick(["trace_by_id", "trace_by_id_v2"]), "params": params}

    def series(self):
        params = {"q": self.metrics()}
        a, b = self.edges().values() if self.chance(0.4) else self.window().values()
        a, b = a * 10**9, b * 10**9
        if self.chance(0.3):
            a, b = sorted((self.pick(self.known.starts) + self.r.choice((-1, 0, 1)) for _ in range(2)))
            b = max(b, a + 10**9)
        params.update(start=self.time_form(a), end=self.time_form(b))
        if self.chance(0.25):
            return {"kind": "metrics_instant", "params": params}
        seconds = (b - a) / 1e9
        if self.chance(0.9):
            params["step"] = self.pick([s for s, n in (("1s", 1), ("7s", 7), ("15", 15), ("60s", 60), ("1m", 60), ("90.5", 90.5), ("5m", 300), ("10m", 600), ("1h", 3600), ("600000ms", 600), ("2h30m", 9000)) if seconds / n < 700])
        return {"kind": "metrics_range", "params": params}

    def wrong(self):
        """A question that is likely to be refused."""
        good = self.pick([self.search, self.series, self.tag_values, self.tags])()
        params = good["params"]
        good.pop("full", None)
        params.update({k: v for k, v in {"limit": 5000, "spss": 100}.items() if k in params})
        bad = self.pick(["q", "q", "q", "number", "time"])
        if bad == "q" and "q" in params:
            text = params["q"]
            at = self.r.randint(0, len(text) - 1)
            params["q"] = self.pick([text[:at] + text[at + 1:], text[:at], text[:at] + self.pick(list("{}()=|&!~.\"><^+-*/%,")) + text[at:],
                                     text.replace(self.pick(["=", "{", "}", "&&", ">", "|"]), self.pick(["==", "", "&", "in", "||"]), 1)])
        elif bad == "number":
            params[self.pick(["limit", "spss", "step", "minDuration", "maxDuration", "exemplars", "maxStaleValues"])] = self.pick(["-1", "0", "abc", "1.5", "", "99999999999", "1e3", "10m"])
        else:
            params[self.pick(["start", "end", "since"])] = self.pick(["-1", "0", "abc", "1.5", "", "99999999999999999999", "2026-01-15", "1h", "now"])
        return good

    def question(self):
        """The next one: kind and params as in a corpus' queries.json, `odd`, and for a cut answer `full`."""
        self.odd, self.span = set(), self.pick(self.known.spans) if self.chance(0.85) else {}
        area = self.r.choices(list(self.areas), self.areas.values())[0]
        question = getattr(self, area)()
        self.look(question)
        return dict(question, area=area, odd=sorted(self.odd))

    def look(self, question):
        """Accidents that show in the whole of a query only."""
        query, kind = question["params"].get("q", ""), question["kind"]
        stages = query.split("|")[1:] if " | " in query else []
        behind = " ".join(stages)
        tests = {
            "constant": "||" in query and re.search(r'true|false|1 = 1|2 < 1|"a" != "b"|1.0 = 1|1s > 999ms', query),
            "events": re.search(r"timeSinceStart [-+*/%]", query) or re.search(r"(event|link):", query.split(" | ")[0]) and re.search(r"(by|min|max|avg|sum)\([^)]*(event|link)[.:]", behind)
            or len(re.findall(r"(?:event|link)[.:]", query)) > 1,
            "root": re.search(r"root(Name|Service)|by\(trace:id|trace:?[dD]uration( [-+*/%]|\)|,)|[-+*/%] trace:?[dD]uration", query) and kind == "search",
            "unfiltered": kind.startswith("metrics") and re.search(r" [-+*/%] |false|2 < 1", query.split(" | ")[0]),
            "zeros": kind == "metrics_range" and "bottomk" in query and " by " in query,
            "links": re.search(r"(<|>|=|~) link:", query),
            "selected": re.search(r"select\(.*\|", query),
            "tree": re.search(r"\} (!?[<>~]+|&[<>~]+) ", query) and re.search(r"\{ \}|true|\d = 1 |\" !=", query) or re.search("![<>~]", query),
            "union": re.search("&>>|&<<", query),
            "floats": self.measures_floats(query),
            "dedicated": any(d in query for d in self.mixed_dedicated()),
            "compare": "compare(" in query and re.search(r"!\(|= nil|nil =|true|false|\|\|", query),
            "mixed": re.search(r"!= -?[\d.]+ .*by\(", query),
            "array": any(re.search(re.escape(f) + r" (!=|!~|[-+*/%^])", query) for f in self.known.arrays),
            "unsigned": re.search(r"(avg|max|sum|min)\(nestedSetParent", query),
            "names": "service.name" in query and re.search(r'service.name\s*[<>!=]+\s*-?\d', query),
            "seconds": re.search(r"_over_time\(event:timeSinceStart", query),
            "completion": kind.startswith("tag") and re.search(r"(trace|span):id|parentID|timeSinceStart|link:|= *(}|&&|$)|^{[^}]*$|root|resource|instrumentation|traceDuration|trace:|duration|kind|status|name|!\(|> 0", query)
            or kind.startswith("tag") and "kind" in str(question["params"].get("tag")),
            "stale": "maxStaleValues" in question["params"],
            "power": "^" in query, "sets": "nestedSet" in query and "||" in query,
            "labels": "||" in query and " by" in query and kind.startswith("metrics"),
            "groups": len(re.findall("=", question["params"].get("tags", ""))) > 1 or re.search(r'=(""|\s|$)', question["params"].get("tags", "")),
        }
        self.odd.update(name for name, found in tests.items() if found)

    def mixed_dedicated(self):
        """Attributes with dedicated columns by default that hold more than texts, or are absent as the text nil."""
        known = self.known.values
        return [f.split(".", 1)[1] for f in DEDICATED if len({t for t, _ in known.get(f, [])}) > 1]

    def measures_floats(self, query):
        """Whether a quantile or histogram is asked of an attribute with floats among its values."""
        field = re.search(r"(?:quantile|histogram)_over_time\(\s*((?:span|resource|event|link|instrumentation)?\.[^,)]+)", query)
        name = field and field.group(1).strip().split(".", 1)[1]
        return bool(name) and any(t == "float" for f, values in self.known.values.items() if f.endswith("." + name) for t, _ in values)
