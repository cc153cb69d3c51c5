"""Other words for a question, which Tempo answers without one of its accidents: what ours must then equal, so that nothing else hides.

Each repair is a rule of one accident that docs/traceql.md, docs/traceql-metrics.md or docs/api.md describe. It changes the question to Tempo
into one of the same meaning, or leaves out of both answers the one thing that the accident touches.
"""
import copy, re

STRING = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
LITERAL = re.compile(rf"(?:{STRING}|{NUMBER}(?:ns|us|µs|ms|s|m|h)?(?:\d+(?:ns|us|ms|s|m|h))*|true|false|nil|ok|error|unset|unspecified|internal|client|server|producer|consumer)(?=[\s(){{}}|&]|$)")
FIELD = re.compile(rf"(?:(?:span|resource|event|link|instrumentation|trace)[.:]|\.)(?:{STRING}|[^\s(){{}}=<>!,&|~^*/%\"`])+|\b(?:duration|name|status|kind|statusMessage|rootName|rootServiceName|traceDuration|nestedSet(?:Left|Right|Parent))\b")
COMPARE = r"(!=|<=|>=|=|<|>)"
ALL = "(duration >= 0s || duration < 0s)"
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
OF_ROOT = r"root(Name|Service)|trace:id|trace:?[dD]uration"
NANOSECONDS = r"_over_time\(\s*(traceDuration|trace:duration|event:timeSinceStart)"


def hidden(text):
    """The text with each string replaced by a word of its own, and what brings them back."""
    kept = []

    def keep(match):
        kept.append(match.group())
        return f"«{len(kept) - 1}»"

    return re.sub(STRING, keep, text), lambda t: re.sub("«(\\d+)»", lambda m: kept[int(m.group(1))], t)


def widened(query):
    """Each filter also asks what every span has, so that storage hands out all spans and the filter itself decides."""
    text, back = hidden(query)
    text = re.sub(r"\{([^{}]*)\}", lambda m: "{ (" + (m.group(1).strip() or "true") + ") && " + ALL + " }", text)
    return back(text)


def turned(query):
    """A literal on the left goes to the right."""
    text, back = hidden(query)
    literal = rf"(«\d+»|{NUMBER}(?:ns|us|ms|s|m|h)?|true|false|nil|ok|error|unset|server|client|internal|producer|consumer)"
    text = re.sub(rf"(?<![\w.»+*/%^-])(?<![+*/%^-] ){literal}\s*{COMPARE}\s*((?:{FIELD.pattern.replace(STRING, '«[0-9]+»')}))(?![\w.(]|\s*[-+*/%^])", lambda m: f"{m.group(3)} {TURNED[m.group(2)]} {m.group(1)}", text)
    return back(text)


def typed(query):
    """A number is compared with ints and floats alike."""
    text, back = hidden(query)
    field = rf"({FIELD.pattern.replace(STRING, '«[0-9]+»')})"

    def both(match):
        name, op, number = match.groups()
        if not re.match(r"\.|span\.|resource\.|event\.|link\.|instrumentation\.", name) or op == "!=":
            return match.group()
        value = float(number)
        if re.fullmatch(r"-?\d+", number):
            other = number + ".0"
        elif value == int(value) and abs(value) < 2**53:
            other = str(int(value))
        elif op in ("<", "<="):
            op2, other = "<=", str(int(value // 1))
            return f"({name} {op} {number} || {name} {op2} {other})"
        elif op in (">", ">="):
            return f"({name} {op} {number} || {name} >= {int(value // 1) + 1})"
        else:
            return match.group()
        return f"({name} {op} {number} || {name} {op} {other})"

    text = re.sub(rf"(?<![-+*/%^])(?<![-+*/%^] ){field}\s*{COMPARE}\s*({NUMBER})(?![\w.]|\s*[-+*/%^])", both, text)
    return back(text)


def absent(query):
    """`= nil` is said as not `!= nil`."""
    text, back = hidden(query)
    field = rf"({FIELD.pattern.replace(STRING, '«[0-9]+»')})"
    text = re.sub(rf"{field}\s*=\s*nil\b", r"!(\1 != nil)", text)
    text = re.sub(rf"nil\s*=\s*{field}", r"!(\1 != nil)", text)
    return back(text)


def summed(query):
    """Only spans that have the number are summed."""
    match = re.search(r"\|\s*sum_over_time\(([^()]+)\)", query)
    if not match or match.group(1).strip() == "duration":
        return query
    return query[: match.start()] + f"| {{ {match.group(1)} != nil && ({match.group(1)} > 0 || {match.group(1)} <= 0 || {match.group(1)} > 0.0 || {match.group(1)} <= 0.0) }} " + query[match.start():]


def unselected(query):
    """Nothing is selected before another stage."""
    text, back = hidden(query)
    return back(re.sub(r"\|\s*select\([^()]*\)\s*(?=\|)", "", text))


def in_seconds(answer):
    for series in answer.get("series") or []:
        for sample in series.get("samples") or [series]:
            if isinstance(sample.get("value"), (int, float)):
                sample["value"] /= 1e9


def without_shown(answer):
    for trace in answer.get("traces") or []:
        for set_ in trace.get("spanSets") or ([trace["spanSet"]] if trace.get("spanSet") else []):
            for span in set_.get("spans") or []:
                span.pop("attributes", None)
                span.pop("name", None)


def without_nil(answer):
    def kept(series):
        return not any(l.get("value", {}).get("stringValue") == "nil" for l in series["labels"])

    answer["series"] = [s for s in answer.get("series") or [] if kept(s)]


def without_arrays(answer):
    """Without what stands for arrays: series of an array here, series named nil there. Nor zeros of two signs."""
    def kept(series):
        values = [l.get("value", {}) for l in series["labels"]]
        return not any("arrayValue" in v or v.get("stringValue") == "nil" or v.get("doubleValue") in (0, "-0") for v in values)

    answer["series"] = [s for s in answer.get("series") or [] if kept(s)]


def without_root(answer):
    """Without what a stage over it takes from the summary of a trace."""
    for trace in answer.get("traces") or []:
        for name in ("rootServiceName", "rootTraceName", "durationMs"):
            trace.pop(name, None)


def without_named(names):
    def drop(answer):
        answer["series"] = [s for s in answer.get("series") or [] if not any(l["key"] in names for l in s["labels"])]

    return drop


def repairs(question):
    """(name of the accident, the question to Tempo, what is left out of Tempo's answer, of ours): to be tried one after the other."""
    params, kind = question["params"], question["kind"]
    query = params.get("q", "")
    if not query or kind not in ("search", "metrics_range", "metrics_instant"):
        return
    metrics = kind != "search"
    theirs, ours = [], []
    if metrics and re.search(NANOSECONDS, query):
        theirs.append(in_seconds)
    if "compare(" in query:
        names = {f.replace("span:", "") for f in FIELD.findall(query)}
        theirs += [without_nil, without_named(names)]
        ours += [without_nil, without_named(names)]
    if metrics and "compare(" not in query:
        theirs.append(without_arrays)
        ours.append(without_arrays)
    if not metrics:
        left_out = [without_shown] + [without_root] * bool(re.search(OF_ROOT, query))
        theirs += left_out
        ours += left_out

    def all_of(steps):
        def run(answer):
            for step in steps:
                step(answer)
        return run

    forms = []
    for changes in ((), (turned,), (summed,), (widened,), (turned, widened), (typed,), (typed, widened), (absent, widened), (turned, typed, widened), (absent, typed, turned, widened), (summed, typed, turned, widened), (unselected,), (unselected, absent, typed, turned, widened)):
        text = query
        for change in changes:
            text = change(text)
        if text not in forms:
            forms.append(text)
            yield "+".join(c.__name__ for c in changes) or "form", dict(question, params=dict(params, q=text)), all_of(theirs), all_of(ours)


def equal_when_repaired(question, tempos, answer, ask, compare):
    """The name of the repair with which Tempo's answer is ours; nothing if there is none.

    `ask(server, question)` gives status and body, `compare(question, theirs, full, ours)` what differs, where `full` is what a cut answer
    is a part of.
    """
    if answer[0] != 200 or not isinstance(answer[1], dict):
        return None
    for name, other, of_theirs, of_ours in repairs(question):
        for tempo in tempos:
            status, body = ask(tempo, other)
            if status != 200 or not isinstance(body, dict):
                continue
            ours, full = copy.deepcopy(answer[1]), None
            of_theirs(body)
            of_ours(ours)
            if "full" in other:
                full = ask(tempo, {"kind": other["kind"], "params": dict(other["full"], q=other["params"]["q"])})[1]
                if not isinstance(full, dict):
                    continue
                of_theirs(full)
            if not compare(other, (200, body), full, (200, ours)):
                return name
    return None


def contains(theirs, ours):
    """Whether all that Tempo found is in our answer too: what a rule that loses spans may have done to it."""
    if theirs[0] != 200 or ours[0] != 200 or not isinstance(ours[1], dict):
        return False
    if "traces" in theirs[1]:
        return spans_in(theirs[1]) <= spans_in(ours[1])
    if "series" in theirs[1]:
        return all(value <= counted(ours[1]).get(at, 0) * (1 + 1e-9) for at, value in counted(theirs[1]).items() if value)
    return False


def spans_in(answer):
    return {(t.get("traceID", ""), s["spanID"]) for t in answer["traces"] or [] for x in t.get("spanSets") or [] for s in x.get("spans") or []}


def counted(answer):
    out = {}
    for series in answer.get("series") or []:
        labels = str(sorted((l["key"], str(l.get("value"))) for l in series["labels"]))
        for sample in series.get("samples") or [series]:
            value = sample.get("value", 0)
            out[labels, sample.get("timestampMs")] = value if isinstance(value, (int, float)) else 0
    return out
