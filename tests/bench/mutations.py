"""Questions made of recorded ones (queries.json of a corpus): other operators, fields, values, stages, times. Every area weighs alike."""
import random, re, urllib.parse

from questions import COMPARISONS, DURATIONS, NUMBERS, STRUCTURAL, Questions, quoted

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|(?:\.|\b(?:span|resource|event|link|instrumentation|trace)[.:])(?:"(?:[^"\\]|\\.)*"|[^\s(){}=<>!,&|~^*/%"`])+'
                   r"|\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h)+(?:\d+(?:ns|us|ms|s|m|h))*|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[!&]?(?:>>|<<|[<>~])=?|!~|=~|!=|=|&&|\|\||[A-Za-z_]\w*|\s+|.", re.S)
FIELD = re.compile(r"^(?:\.|span[.:]|resource\.|event[.:]|link[.:]|instrumentation[.:]|trace:)")
INTRINSIC = {"duration", "name", "status", "kind", "statusMessage", "rootName", "rootServiceName", "traceDuration", "nestedSetLeft", "nestedSetRight", "nestedSetParent"}
KEYWORDS = {"status": ["ok", "error", "unset"], "kind": ["unspecified", "internal", "client", "server", "producer", "consumer"]}
KINDS = {"search": "search", "metrics_range": "series", "metrics_instant": "series", "tags": "tags", "tags_v1": "tags", "tag_values": "tag_values", "tag_values_v1": "tag_values",
         "trace_by_id": "trace", "trace_by_id_v2": "trace", "raw": "raw"}


class Mutations(Questions):
    """An endless row of recorded questions, each changed in one to four places."""

    def __init__(self, known, seed, recorded, areas=None):
        super().__init__(known, seed)
        self.recorded = {}
        for one in recorded:
            if not areas or one["area"] in areas:
                self.recorded.setdefault(one["area"], []).append(one)
        self.filters = sorted({f for one in recorded for f in re.findall(r"\{[^{}]*\}", one["params"].get("q", "")) if one["area"] != "errors"})

    def question(self):
        self.odd, self.span = set(), self.pick(self.known.spans) if self.chance(0.6) else {}
        area = self.pick(sorted(self.recorded))
        source = self.pick(self.recorded[area])
        question = {"kind": source["kind"], "params": dict(source["params"]), "area": area, "from": source["id"]}
        for _ in range(self.pick([1, 1, 2, 2, 3, 4])):
            self.change(question)
        params = question["params"]
        if question["kind"] == "search" and (int_of(params.get("limit", 5000)) or 1) < 1000 or (int_of(params.get("spss", 100)) or 100) < 100:
            question["full"] = dict(params, limit="5000", spss="100")
        if question["kind"].startswith("tag") and (int_of(params.get("limit")) or 0) > 0:
            question["full"] = {k: v for k, v in params.items() if k != "limit"}
        self.look(question)
        return dict(question, odd=sorted(self.odd))

    def change(self, question):
        kind, params = KINDS[question["kind"]], question["params"]
        if kind == "raw":
            params["path"] = self.raw(params["path"])
        elif "q" in params and self.chance(0.8):
            params["q"] = self.text(params["q"], kind)
        else:
            getattr(self, "change_" + kind, self.change_times)(question)

    # ---- text
    def text(self, q, kind):
        dice = self.r.random()
        if dice < 0.7:
            return self.token(q)
        if dice < 0.78:
            return self.in_filter(q)
        return self.whole(q, kind)

    def token(self, q):
        tokens = TOKEN.findall(q)
        places = [i for i, t in enumerate(tokens) if t.strip() and t not in "(){},|"]
        if not places:
            return q
        at = self.pick(places)
        tokens[at] = self.other(tokens, at)
        return "".join(tokens)

    def before(self, tokens, at):
        """The field that the literal at a place is compared with, as far as one sees."""
        return next((t for t in reversed(tokens[max(0, at - 4):at]) if FIELD.match(t) or t in INTRINSIC), "")

    def other(self, tokens, at):
        token = tokens[at]
        if token in COMPARISONS or token in ("=~", "!~"):
            return self.pick(STRUCTURAL) if "}" in "".join(tokens[max(0, at - 2):at]) else self.pick(COMPARISONS + ("=", "!=") + (("=~", "!~") if '"' in "".join(tokens[at:at + 3]) else ()))
        if token in ("&&", "||") or re.fullmatch(r"[!&]?(>>|<<|[<>~])", token):
            return self.pick(["&&", "||"] if "}" not in "".join(tokens[max(0, at - 2):at]) else STRUCTURAL + ["&&", "||"])
        if FIELD.match(token) or token in INTRINSIC:
            return self.rescoped(token) if self.chance(0.35) else self.field()[0]
        if re.match(r'["`\d-]', token) or token in ("true", "false", "nil") or any(token in words for words in KEYWORDS.values()):
            return self.value(self.before(tokens, at), token)
        if token in ("min", "max", "avg", "sum", "count"):
            return self.pick(["min", "max", "avg", "sum", "count"])
        if token.endswith("_over_time") or token == "rate":
            return self.pick(["min_over_time", "max_over_time", "avg_over_time", "sum_over_time", "count_over_time", "rate", "histogram_over_time"])
        if token in ("topk", "bottomk"):
            return self.pick(["topk", "bottomk"])
        if token in "+-*/%^":
            return self.pick(list("+-*/%"))
        return token

    def rescoped(self, field):
        name = re.sub(r"^(span|resource|event|link|instrumentation|trace)?[.:]", "", field)
        return f"{self.pick(['span', 'resource', 'event', 'link', 'instrumentation', ''])}.{name}" if self.chance(0.85) else self.pick(["span:", "trace:", "event:"]) + name

    def value(self, field, old):
        if self.chance(0.25):
            return self.pick([self.pick(NUMBERS), self.pick(DURATIONS), '"nil"', '""', "true", "false", "nil", "error", "server", '"3"', '".*"'])
        if re.fullmatch(r"-?\d+", old) and self.chance(0.5):
            n = int(old)
            return self.pick([str(n + 1), str(n - 1), str(-n), f"{n}.0", f"{n}.5", f'"{n}"', f"{n}s", f"{n}ms"])
        types = {t for t, _ in self.known.values.get(field, [])}
        return self.literal(field, types) if field else old

    def in_filter(self, q):
        """A condition more, or one negated, in one of the filters."""
        found = list(re.finditer(r"\{[^{}]*\}", q))
        if not found:
            return q
        one = self.pick(found)
        inner = one.group()[1:-1].strip()
        new = self.condition() if self.chance(0.7) else self.pick(self.filters)[1:-1].strip() or "true"
        if inner:
            new = self.pick([f"{inner} && {new}", f"{inner} || {new}", f"({inner}) && {new}", f"{new} && ({inner})", f"!({inner})", f"({inner})", f"{new} || {inner}"])
        return q[: one.start()] + "{ " + new + " }" + q[one.end():]

    def whole(self, q, kind):
        if kind == "series":
            return self.whole_series(q)
        other = self.pick(self.filters)
        if kind != "search":
            return self.pick([other, f"{q} && {other}", f"{q} || {other}", q])
        op = self.pick(STRUCTURAL + ["&&", "||"])
        if "with" in q:
            return f"{other} {op} {q}"
        return self.pick([f"{q} | {self.stage()}", f"{q} | {self.stage()}", f"{other} {op} {q}", f"({q}) {op} {other}", f"{other} {op} ({q})", f"{q} with (most_recent=true)", f"{q} | {other}"])

    def whole_series(self, q):
        head, bar, tail = q.partition(" | ")
        dice = self.r.random()
        if not bar or dice < 0.35:
            by = ", ".join(self.field()[0] for _ in range(self.pick([1, 1, 2])))
            return re.sub(r" by ?\(.*?\)", "", q) + f" by ({by})" if re.search(r"\)$", q) else q
        if dice < 0.6:
            return f"{self.pick(self.filters)} {self.pick(STRUCTURAL + ['&&', '||'])} {head} | {tail}" if head.startswith("{") else q
        if dice < 0.75:
            return q + self.pick([" | topk(3)", " | bottomk(2)", " > 0.01", " < 5", " >= 1", " != 0", " | topk(2) > 1", " with (exemplars=3)", " with (exemplars=true)"])
        if dice < 0.9:
            field, _ = self.number()
            return f"{head} | " + self.pick([f"min_over_time({field})", f"max_over_time({field})", f"avg_over_time({field})", f"{{ {field} != nil }} | sum_over_time({field})", f"quantile_over_time({field}, 0.3, .99)", f"histogram_over_time({field})"])
        return f"{head} | {self.stage()} | {tail}" if head.startswith("{") else q

    # ---- parameters
    def change_times(self, question):
        params = question["params"]
        if self.chance(0.5) and "start" in params:
            params.update({k: str(v) for k, v in (self.edges() if self.chance(0.7) else self.window()).items()})
        elif "start" in params:
            name = self.pick(["start", "end"])
            number = int_of(params.get(name))
            if number and number < 10**11:
                params[name] = str(number + self.r.choice([-3600, -60, -1, 1, 60, 600, 3600]))

    def change_search(self, question):
        params = question["params"]
        if "tags" in params and self.chance(0.6):
            params["tags"] = self.legacy()["params"]["tags"]
        elif self.chance(0.3) and "tags" not in params and "q" not in params:
            params.update({k: v for k, v in self.legacy()["params"].items() if k in ("minDuration", "maxDuration", "tags")})
        elif self.chance(0.4):
            params.update(self.pick([{"limit": str(self.r.randint(1, 40))}, {"spss": str(self.r.randint(1, 6))}]))
        else:
            self.change_times(question)

    def change_series(self, question):
        params = question["params"]
        if question["kind"] == "metrics_range" and self.chance(0.4):
            params["step"] = self.pick(["30s", "90s", "7m", "11m", "100s", "1h", "37m", "5m", "600"])
        elif self.chance(0.15):
            params["exemplars"] = str(self.r.randint(0, 120))
        else:
            self.change_times(question)

    def change_tags(self, question):
        params = question["params"]
        self.pick([lambda: params.update(scope=self.pick(["span", "resource", "event", "link", "instrumentation", "intrinsic", "none", "trace", ""])),
                   lambda: params.update(q=self.pick(self.filters)), lambda: self.change_times(question), lambda: params.update(limit=str(self.pick([1, 5, 20])))])()

    def change_tag_values(self, question):
        params = question["params"]
        field = self.field()[0]
        if question["kind"] == "tag_values_v1":
            field = self.pick([re.sub(r"^\w*\.", "", field).strip('"'), field])
        self.pick([lambda: params.update(tag=field), lambda: params.update(tag=field), lambda: params.update(q=self.pick(self.filters)), lambda: self.change_times(question)])()

    def change_trace(self, question):
        params = question["params"]
        if self.chance(0.6):
            params["id"] = self.trace()["params"]["id"]
        else:
            params.update(self.trace()["params"])

    def raw(self, path):
        place, _, query = path.partition("?")
        params = urllib.parse.parse_qsl(query, keep_blank_values=True)
        if not params:
            return path
        at = self.r.randrange(len(params))
        name, value = params[at]
        if name in ("q", "query"):
            value = self.text(value, "series" if "metrics" in place else "search")
        elif re.fullmatch(r"\d+", value):
            value = self.pick([str(int(value) + 60), value + "0", value, "x" + value])
        else:
            params.pop(at) if self.chance(0.3) else params.append(("limit", self.pick(["5", "x", "0"])))
            return place + "?" + urllib.parse.urlencode(params)
        params[at] = (name, value)
        return place + "?" + urllib.parse.urlencode(params)


def int_of(text):
    return int(text) if re.fullmatch(r"-?\d+", str(text or "")) else None
