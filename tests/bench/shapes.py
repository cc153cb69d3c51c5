"""The questions of the suite: each in TraceQL (over HTTP) and in SQL for the flat copy, with the form in which answers are compared.

`table`: the nine queries of the level-free scan's table. `search`, `metrics`: the shapes of Tempo's own block benchmarks, in our
words. `trace`, `tags`: trace by id, tag names and values. What a data set has no attributes for is left out.
"""
import dataclasses, typing

from flat import quoted

MINUTE = 60
NEWEST = 20  # traces of a search answer: the default


@dataclasses.dataclass
class Shape:
    group: str
    name: str
    kind: str  # search, range, instant, id, values
    text: str  # TraceQL, id or tag
    sql: str  # for DuckDB; its rows in the order that answers.py expects of the kind
    labels: tuple = ()  # of metrics: what `by` names
    step: int = MINUTE
    params: dict = dataclasses.field(default_factory=dict)
    own_sql: typing.Optional[str] = None  # for our table `spans`, over Flight SQL
    total_sql: typing.Optional[str] = None  # of searches: number of traces and of matched spans, all of them
    note: str = ""
    answer: typing.Any = None  # ours, once it was found equal to DuckDB's
    totals: tuple = ()  # of a search: traces and matched spans in all
    tempo: str = "same"  # same: its answer must be equal; estimate: only timed; refused: not asked


# Values to ask for in the spans of `tracehouse load`.
SHOP = {
    "service": "checkout",
    "slow": 100,  # ms, of that service
    "many": ("rpc.system", "grpc"),
    "few": ("user.id", "user-00042"),
    "high": "user.id",
    "medium": ("span", "http.route"),
    "regex": ("db.query.text", "SELECT .* FROM products.*"),
    "name_many": "shop.CatalogueService/GetProduct",
    "name_few": "process orders",
    "resource": ("host.name", "ip-10-0-27-8.internal"),
    "resource_own": ("k8s.pod.name", None),  # None: the most frequent
    "status_code": "http.response.status_code",
    "route": "http.route",
    "root_service": "frontend",
    "root_name": "POST /api/checkout",
    "trace_slow": 500,
    "parent": "frontend",
    "service_regex": "ca.*",
    "int": "server.port",
}


def of_data(flat):
    """The same for any data: frequent and rare values that it has."""
    one = lambda sql: (flat.rows(sql) or [None])[0]
    first = lambda sql: (one(sql) or (None,))[0]
    values = dict(SHOP, service=first("select service from flat group by 1 order by count(*) desc limit 1"), slow=1, trace_slow=10)
    values["name_many"] = first("select name from flat group by 1 order by count(*) desc, name limit 1")
    values["name_few"] = first("select name from flat group by 1 order by count(*), name limit 1")
    values["root_service"] = values["parent"] = first("select root_service from flat group by 1 order by count(*) desc limit 1")
    values["root_name"] = first("select root_name from flat group by 1 order by count(*), root_name limit 1")
    values["service_regex"] = values["service"][:2].replace(".", "[.]") + ".*"
    pairs = "(select unnest(map_entries({0})) e from flat)"
    text = "where e.value !~ '^[-0-9.]*$' and e.value not in ('true', 'false') and e.value not like '[%' and length(e.value) < 100"
    frequent = f"select e.key, e.value from {pairs} {text} group by 1, 2 order by count(*) {{1}}, 1, 2 limit 1"
    values["many"] = one(frequent.format("attrs", "desc"))
    values["few"] = one(frequent.format("attrs", ""))
    values["resource"] = one(frequent.format("resource_attrs", "desc"))
    values["high"] = first(f"select e.key from {pairs.format('attrs')} {text} group by 1 order by count(distinct e.value) desc, 1 limit 1")
    has = lambda key: key in flat.columns and first(f'select count("{key}") from flat') > 0
    pick = lambda *keys: next((k for k in keys if has(k)), None)
    values["route"] = pick("http.route", "http.url", "url.path")
    values["medium"] = ("span", values["route"]) if values["route"] else None
    values["status_code"] = pick("http.response.status_code", "http.status_code")
    values["int"] = pick("server.port")
    values["resource_own"] = next(((k, None) for k in ("k8s.pod.name",) if has(k)), None)
    statement = pick("db.query.text", "db.statement")
    values["regex"] = (statement, ".*SELECT.*|.*find.*") if statement else None
    return values


class Maker:
    """Makes shapes for a flat copy."""

    def __init__(self, flat, values, out):
        self.flat, self.v, self.out = flat, values, out

    def span(self, key, kind="text"):
        return self.flat.attribute("span", key, kind)

    def resource(self, key):
        return self.flat.attribute("resource", key)

    def search(self, name, text, where=None, matched=None, having="", own_sql=None):
        """`where` chooses spans of `flat`; `matched` is a query of trace id, trace start and matched spans instead."""
        matched = matched or f"select trace_id, trace_start_ns, count(*) from flat where {where} group by all {having}"
        sql = f"{matched} order by 2 desc limit {NEWEST}"
        total = f"select count(*), coalesce(sum(n), 0)::bigint from ({matched}) t(id, start, n)"
        self.out.append(Shape("search", name, "search", text, sql, params={"limit": NEWEST}, total_sql=total, own_sql=own_sql))

    def metric(self, name, text, value="count(*)", where="true", by=(), labels=(), group="metrics", step=MINUTE, source="flat", **more):
        """A range query: rows of labels, the end of the interval in ms, and the value."""
        at = f"((start_ns + {step}_000_000_000 - 1) // {step}_000_000_000) * {step}_000"
        columns = "".join(f"{b}, " for b in by)
        kind, params = more.pop("kind", "range"), more.pop("params", {"exemplars": 2})
        if kind == "range":
            sql = f"select {columns}{at} as at, {value} from {source} where {where} group by {', '.join(str(i + 1) for i in range(len(by) + 1))}"
        else:
            sql = f"select {columns}{value} from {source} where {where}" + (f" group by {', '.join(str(i + 1) for i in range(len(by)))}" if by else "")
        self.out.append(Shape(group, name, kind, text, sql, labels=tuple(labels), step=step, params=params, **more))


def searches(m):
    v, none = m.v, "no-such-value"
    error, service = "status = 2", "service"
    if v["many"]:
        (k, x), (fk, fx) = v["many"], v["few"]
        m.search("span attribute, many hits", f'{{ span.{k} = "{x}" }}', f"{m.span(k)} = {quoted(x)}")
        m.search("span attribute, few hits", f'{{ span.{fk} = "{fx}" }}', f"{m.span(fk)} = {quoted(fx)}")
        m.search("span attribute, no hit", f'{{ span.{fk} = "{none}" }}', f"{m.span(fk)} = '{none}'")
    if v["regex"]:
        k, x = v["regex"]
        m.search("span attribute, regex", f'{{ span.{k} =~ "{x}" }}', f"regexp_full_match({m.span(k)}, {quoted(x)})")
    many, few = v["name_many"], v["name_few"]
    m.search("name, many hits", f'{{ name = "{many}" }}', f"name = {quoted(many)}")
    m.search("name, few hits", f'{{ name = "{few}" }}', f"name = {quoted(few)}")
    m.search("name, no hit", f'{{ name = "{none}" }}', f"name = '{none}'")
    if v["resource"]:
        k, x = v["resource"]
        m.search("resource attribute, hit", f'{{ resource.{k} = "{x}" }}', f"{m.resource(k)} = {quoted(x)}")
        m.search("resource attribute, no hit", f'{{ resource.{k} = "{none}" }}', f"{m.resource(k)} = '{none}'")
    if v["resource_own"]:
        k, x = v["resource_own"]
        x = x or m.flat.rows(f'select "{k}" from flat group by 1 order by count(*) desc, 1 limit 1')[0][0]
        m.search("resource dedicated, hit", f'{{ resource.{k} = "{x}" }}', f"{m.resource(k)} = {quoted(x)}")
        m.search("resource dedicated, no hit", f'{{ resource.{k} = "{none}" }}', f"{m.resource(k)} = '{none}'")
    either, either_sql = "status = error", error
    if v["status_code"]:
        c = v["status_code"]
        either, either_sql = f"(status = error || span.{c} >= 500)", f"({error} or {m.span(c, 'int')} >= 500)"
    root, root_name = v["root_service"], v["root_name"]
    m.search("root service and (error or status)", f'{{ rootServiceName = "{root}" && {either} }}', f"root_service = {quoted(root)} and {either_sql}")
    m.search("root name and (error or status)", f'{{ rootName = "{root_name}" && {either} }}', f"root_name = {quoted(root_name)} and {either_sql}")
    m.search("trace duration and (error or status)", f"{{ traceDuration > {v['trace_slow']}ms && {either} }}",
             f"trace_duration_ns > {v['trace_slow']}_000_000 and {either_sql}")
    m.search("unscoped attribute, no hit", f'{{ .no.such.key = "{none}" }}', f"{m.span('no.such.key')} = '{none}' or {m.resource('no.such.key')} = '{none}'")
    r = v["service_regex"]
    by_regex, name = f"regexp_full_match(service, {quoted(r)})", f"name = {quoted(many)}"
    m.search("resource regex and name", f'{{ resource.service.name =~ "{r}" && name = "{many}" }}', f"{by_regex} and {name}")
    m.search("resource regex or name", f'{{ resource.service.name =~ "{r}" || name = "{few}" }}', f"({by_regex} or name = {quoted(few)})")
    m.search("count() > 1", "{ status = error } | count() > 1", error, having="having count(*) > 1")
    below = f"""select d.trace_id, d.trace_start_ns, count(*) from flat d semi join flat a on a.trace_id = d.trace_id and {service_is('a', v['parent'])}
        and a.nested_left > 0 and a.nested_left < d.nested_left and a.nested_right > d.nested_right where d.status = 2 group by all"""
    m.search("structural >>", f'{{ resource.service.name = "{v["parent"]}" }} >> {{ status = error }}', matched=below)
    m.search("spanset ||", f'{{ name = "{many}" }} || {{ name = "{few}" }}', f"name in ({quoted(many)}, {quoted(few)})")
    s = v["service"]
    m.search("four predicates", f'{{ resource.service.name = "{s}" && kind = server && duration > {v["slow"]}ms && status = error }}',
             f"{service} = {quoted(s)} and kind = 2 and duration_ns > {v['slow']}_000_000 and {error}")
    m.search("six predicates", f'{{ (kind = server || kind = client) && duration > {v["slow"]}ms && {either} && rootName != "{few}" && resource.service.name != "{root}" }}',
             f"kind in (2, 3) and duration_ns > {v['slow']}_000_000 and {either_sql} and root_name <> {quoted(few)} and service <> {quoted(root)}")
    m.search("select()", "{ status = error } | select(span:kind, resource.service.name)", error)


def service_is(alias, name):
    return f"{alias}.service = {quoted(name)}"


def metrics(m):
    v = m.v
    by_service = {"by": ["service"], "labels": ["resource.service.name"]}
    m.metric("rate", "{ } | rate()", "count(*) / 60")
    m.metric("rate, spanonly_fetch=false", "{ } | rate() with(spanonly_fetch=false)", "count(*) / 60")
    m.metric("rate, sample=true", "{ } | rate() with(sample=true)", "count(*) / 60", tempo="estimate", note="exact here, an estimate in Tempo")
    m.metric("rate by low cardinality", "{ } | rate() by (resource.service.name)", "count(*) / 60", **by_service)
    if v["medium"]:
        scope, k = v["medium"]
        m.metric("rate by medium cardinality", f"{{ }} | rate() by ({scope}.{k})", "count(*) / 60", by=[m.flat.attribute(scope, k)], labels=[f"{scope}.{k}"])
    if v["high"]:
        m.metric("rate by high cardinality", f"{{ }} | rate() by (span.{v['high']})", "count(*) / 60", by=[m.span(v["high"])], labels=[f"span.{v['high']}"],
                 params={"exemplars": 2, "maxSeries": 1000}, note="1,000 series of the answer are asked for", tempo="estimate")
    name = quoted(v["name_many"])
    m.metric("rate, filtered", f'{{ name = "{v["name_many"]}" }} | rate()', "count(*) / 60", f"name = {name}")
    m.metric("rate, two predicates", f'{{ resource.service.name = "{v["service"]}" && kind = server }} | rate()', "count(*) / 60",
             f"service = {quoted(v['service'])} and kind = 2")
    m.metric("rate of errors", "{ status = error } | rate()", "count(*) / 60", "status = 2")
    bucket, many = "ceil(log2(duration_ns))::int", "duration_ns >= 2"
    for title, q in (("p50", "0.5"), ("p90, p99", "0.9, 0.99"), ("p50, p90, p99, p999", "0.5, 0.9, 0.99, 0.999")):
        m.metric(f"quantile {title}", f"{{ }} | quantile_over_time(duration, {q})", where=many, by=[bucket], labels=["p"])
    m.metric("quantile by", "{ } | quantile_over_time(duration, 0.99) by (resource.service.name)", where=many,
             by=["service", bucket], labels=["resource.service.name", "p"])
    m.metric("histogram", "{ } | histogram_over_time(duration)", where=many, by=[f"pow(2, {bucket}) / 1e9"], labels=["__bucket"])
    for function, aggregate in (("avg", "avg(duration_ns) / 1e9"), ("max", "max(duration_ns) / 1e9"), ("min", "min(duration_ns) / 1e9")):
        m.metric(f"{function} by", f"{{ }} | {function}_over_time(duration) by (resource.service.name)", aggregate, **by_service)
    pairs = """(select status = 2 as chosen, start_ns, unnest(list_concat(map_entries(attrs), [{'key': 'name', 'value': name},
        {'key': 'kind', 'value': kind::varchar}, {'key': 'service', 'value': service}], map_entries(resource_attrs))) e from flat)"""
    m.metric("compare()", "{ } | compare({ status = error })", by=["chosen", "e.key", "e.value"], source=pairs, labels=["compare"],
             note="totals by attribute are compared", tempo="estimate")
    below = f"""(select c.start_ns from flat c semi join flat p on p.trace_id = c.trace_id and p.nested_left = c.nested_parent
        and c.nested_parent > 0 and p.service = {quoted(v['parent'])} where c.kind = 3)"""
    m.metric("structural >", f'{{ resource.service.name = "{v["parent"]}" }} > {{ kind = client }} | rate()', "count(*) / 60", source=below)
    errors, all_ = "count(*) filter (status = 2)", "count(*)"
    rate, rate_errors = "{ } | rate()", "{ status = error } | rate()"
    for title, op, value in (("/", "/", f"{errors} / {all_}"), ("+", "+", f"({errors} + {all_}) / 60"), ("-", "-", f"({errors} - {all_}) / 60")):
        m.metric(f"math {title}", f"({rate_errors}) {op} ({rate})", value, tempo="refused")
    m.metric("math / by", "({ status = error } | rate() by (resource.service.name)) / ({ } | rate() by (resource.service.name))",
             f"{errors} / {all_}", **by_service, tempo="refused")


def table(m):
    """The nine queries of the level-free scan; `own_sql` asks the same over Flight SQL."""
    v = m.v
    plain = {"group": "table", "params": {"exemplars": 0}}
    by_service = dict(plain, by=["service"], labels=["resource.service.name"])
    hint = "with(exemplars=false)"
    binned = "select service_name, date_bin(interval '60 seconds', start_time) as at, count(*) as n from spans group by 1, 2"
    m.metric("count by service, 50 s (start ns)", f"{{ }} | count_over_time() by (resource.service.name) {hint}", step=50, own_sql=binned, **by_service)
    m.metric("count by service, 60 s (rounded start)", f"{{ }} | count_over_time() by (resource.service.name) {hint}", **by_service)
    count = "select count(*) as n from spans where "

    def filtered(name, text, where, own):
        m.metric(name, f"{{ {text} }} | count_over_time()", where=where, kind="instant", own_sql=count + own, **plain)

    s = v["service"]
    filtered("service = and duration >", f'resource.service.name = "{s}" && duration > {v["slow"]}ms',
             f"service = {quoted(s)} and duration_ns > {v['slow']}_000_000", f"service_name = {quoted(s)} and duration_ns > {v['slow']}000000")
    if v["status_code"]:
        c = v["status_code"]
        filtered("dedicated int >= 500", f"span.{c} >= 500", f"{m.span(c, 'int')} >= 500", f"json_get_int(span_attributes, {quoted(c)}) >= 500")
    if v["route"]:
        k = v["route"]
        own = f"select span_attributes->>{quoted(k)} as route, date_bin(interval '60 seconds', start_time) as at, count(*) as n from spans group by 1, 2"
        m.metric("count by dedicated string, 60 s", f"{{ }} | count_over_time() by (span.{k}) {hint}", by=[m.span(k)], labels=[f"span.{k}"], own_sql=own, **plain)
    if v["regex"]:
        k, x = v["regex"]
        filtered("regex on a generic string", f'span.{k} =~ "{x}"', f"regexp_full_match({m.span(k)}, {quoted(x)})", f"span_attributes->>{quoted(k)} ~ {quoted('^(' + x + ')$')}")
    if v["many"]:
        (k, x), none = v["many"], "no-such-value"
        filtered("generic attribute =, matches", f'span.{k} = "{x}"', f"{m.span(k)} = {quoted(x)}", f"span_attributes->>{quoted(k)} = {quoted(x)}")
        filtered("key present, value absent", f'span.{k} = "{none}"', f"{m.span(k)} = '{none}'", f"span_attributes->>{quoted(k)} = '{none}'")
        filtered("key absent", f'span.no.such.key = "{none}"', f"{m.span('no.such.key')} = '{none}'", f"span_attributes->>'no.such.key' = '{none}'")


def lookups(m):
    hit = m.flat.rows("select lower(hex(trace_id)) from flat group by trace_id order by count(*) desc, 1 limit 1")[0][0]
    miss = "0123456789abcdef0123456789abcdef"
    for name, trace in (("trace by id, hit", hit), ("trace by id, miss", miss)):
        m.out.append(Shape("trace", name, "id", trace, f"select lower(hex(span_id)) from flat where trace_id = unhex('{trace}')"))
    tags = [("tag values, resource.service.name", "resource.service.name", "service"), ("tag values, name", "name", "name")]
    if m.v["high"]:
        tags.append(("tag values, high cardinality", f"span.{m.v['high']}", m.span(m.v["high"])))
    for name, tag, column in tags:
        m.out.append(Shape("tags", name, "values", tag, f"select distinct {column} from flat where {column} is not null",
                           tempo="estimate", note="Tempo leaves out what has a dedicated column"))
    if m.v["many"]:
        k, x = m.v["many"]
        m.out.append(Shape("tags", "tag values with a filter", "values", "name", f"select distinct name from flat where {m.span(k)} = {quoted(x)}",
                           params={"q": f'{{ span.{k} = "{x}" }}'}, tempo="estimate"))


def all_shapes(flat, values):
    out = []
    maker = Maker(flat, values, out)
    for part in (table, searches, metrics, lookups):
        part(maker)
    return out
