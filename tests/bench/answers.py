"""Answers of both sides in one form, so that they can be compared before any time is told."""
import base64, json, math, urllib.parse

PATHS = {"search": "/api/search", "range": "/api/metrics/query_range", "instant": "/api/metrics/query"}
ALL = 262_144  # the largest limit of a search


class Window:
    """The time range of the data in whole minutes, wide enough for every interval."""

    def __init__(self, first_ns, last_ns):
        self.start, self.end = first_ns // 60_000_000_000 * 60 - 60, last_ns // 60_000_000_000 * 60 + 120


def url(shape, window, everything=False):
    """Path and parameters of a shape's request; `everything` asks a search for all traces."""
    params = dict(shape.params, start=window.start, end=window.end)
    if shape.kind == "id":
        return f"/api/v2/traces/{shape.text}"
    if shape.kind == "values":
        return f"/api/v2/search/tag/{urllib.parse.quote(shape.text, safe='')}/values?{urllib.parse.urlencode(params)}"
    params["q"] = shape.text
    if shape.kind == "range":
        params["step"] = f"{shape.step}s"
    if everything:
        params.update(limit=ALL, spss=1)
    return f"{PATHS[shape.kind]}?{urllib.parse.urlencode(params)}"


def plain(value):
    """A label's value as text: typed JSON of an answer, or a value of a row; absent is None."""
    if isinstance(value, dict):
        kind, value = next(iter(value.items()), ("", None))
        if kind == "doubleValue":
            value = float(value)
    if value is None or value == "nil":
        return None
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def labels(series):
    return {label["key"]: label.get("value") or {} for label in series.get("labels", [])}


def of_http(shape, body):
    """The answer of a server in the shape's form."""
    told = json.loads(body)
    if shape.kind == "search":
        return {t["traceID"].lstrip("0"): sum(s.get("matched", 0) for s in t.get("spanSets") or []) for t in told.get("traces") or []}
    if shape.kind == "id":
        groups = [s for r in (told.get("trace") or {}).get("resourceSpans") or [] for s in r.get("scopeSpans") or []]
        return sorted(hex_of(s["spanId"]) for g in groups for s in g["spans"])
    if shape.kind == "values":
        return sorted(v["value"] for v in told.get("tagValues") or [])
    points = {}
    for series in told.get("series") or []:
        named = labels(series)
        if shape.labels == ("compare",):
            of_total(points, named, series)
            continue
        key = tuple(plain(named.get(name)) for name in shape.labels)
        for sample in series.get("samples") or [{"value": series.get("value", 0)}]:
            value = float(sample.get("value") or 0)
            if value and not math.isnan(value):
                at = key + ((int(sample["timestampMs"]),) if "timestampMs" in sample else ())
                points[at] = points.get(at, 0) + value
    return points


def of_total(points, named, series):
    """compare(): the totals of an attribute, over time."""
    meta = plain(named.pop("__meta_type", None)) or ""
    if meta.endswith("_total"):
        for name in named:
            total = sum(float(s.get("value") or 0) for s in series.get("samples") or [])
            points[meta == "selection_total", name] = total


def hex_of(span_id):
    return (span_id if len(span_id) == 16 else base64.b64decode(span_id).hex()).lower()


def of_rows(shape, rows):
    """The answer of DuckDB in the shape's form."""
    if shape.kind == "search":
        return {bytes(r[0]).hex().lstrip("0"): r[2] for r in rows}
    if shape.kind in ("id", "values"):
        return sorted(str(r[0]) for r in rows)
    if shape.labels == ("compare",):
        totals = {}
        for chosen, key, _, _, n in rows:
            totals[bool(chosen), key] = totals.get((bool(chosen), key), 0) + n
        return totals
    if "p" in shape.labels:
        return quantiles(shape, rows)
    keyed = ((tuple(map(plain, r[: len(shape.labels)])) + tuple(map(int, r[len(shape.labels) : -1])), r[-1]) for r in rows)
    return {key: float(value) for key, value in keyed if value}


def quantiles(shape, rows):
    """Quantiles from counts by power of two, as docs/traceql-metrics.md tells them; durations in seconds."""
    asked = [float(q) for q in shape.text.split("duration,")[1].split(")")[0].split(",")]
    counts = {}
    for *key, bucket, at, n in rows:
        counts.setdefault((tuple(map(plain, key)), int(at)), {})[bucket] = n
    points = {}
    for (key, at), buckets in counts.items():
        for q in asked:
            rank, before, last = max(1, math.ceil(q * sum(buckets.values()))), 0, None
            for bucket in sorted(buckets):
                if before + buckets[bucket] >= rank:
                    low = last if last is not None else bucket - 1
                    power = low + (bucket - low) * (rank - before) / buckets[bucket]
                    points[key + (plain(q), at)] = 2**power / 1e9
                    break
                before, last = before + buckets[bucket], bucket
    return points


def differences(shape, ours, theirs):
    """What differs between two answers: a sentence, or None."""
    if shape.labels == ("compare",):
        return compare_totals(ours, theirs)
    if shape.params.get("maxSeries"):
        kept = {key[:-1] for key in ours}
        if len(kept) != min(shape.params["maxSeries"], len({key[:-1] for key in theirs})):
            return f"{len(kept)} series"
        theirs = {key: value for key, value in theirs.items() if key[:-1] in kept}
    if isinstance(ours, list):
        return None if ours == theirs else f"{len(ours)} and {len(theirs)} values, {len(set(ours) & set(theirs))} common"
    missing, extra = [k for k in theirs if k not in ours], [k for k in ours if k not in theirs]
    if missing or extra:
        return f"{len(ours)} and {len(theirs)} values; missing {missing[:2]}, unexpected {extra[:2]}"
    wrong = [k for k in ours if not math.isclose(ours[k], theirs[k], rel_tol=1e-9)]
    return f"{len(wrong)} of {len(ours)} values differ: {wrong[0]}: {ours[wrong[0]]} and {theirs[wrong[0]]}" if wrong else None


def compare_totals(ours, rows):
    """compare(): the totals of the attributes that both sides know by a comparable name."""
    named = {}
    for (chosen, name), total in ours.items():
        key = {"resource.service.name": "service"}.get(name, name.removeprefix("span.").removeprefix("resource."))
        named.setdefault((chosen, key), []).append(total)
    both = [k for k in rows if k in named]
    if len(both) < min(6, len(rows)):
        return f"only {len(both)} attributes in common"
    wrong = [k for k in both if rows[k] not in named[k]]
    return f"totals of {len(wrong)} of {len(both)} attributes differ: {wrong[0]}: {named[wrong[0]]} and {rows[wrong[0]]}" if wrong else None
