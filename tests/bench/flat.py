"""The flat copy: the spans of a folder of vParquet5 blocks as one parquet file, one row a span, made by DuckDB alone.

Columns: ids, names, times and nested-set numbers; each attribute that has a dedicated column in the blocks, and the text of database
statements, as a column of its own name; all other attributes of span and resource as a map from key to text (`attrs`, `resource_attrs`).
"""
import glob, json, pathlib, re, time

import duckdb
import pyarrow.parquet as pq

OWN_COLUMNS = ("db.query.text", "db.statement")  # besides the dedicated ones: what a flat schema of spans usually has
PLAIN = """trace_id span_id parent_span_id service name kind status start_ns duration_ns nested_left nested_right nested_parent
    trace_start_ns trace_duration_ns root_service root_name attrs resource_attrs""".split()

TEXT = """case when a.ValueUnsupported is not null then a.ValueUnsupported
 when a.IsArray then coalesce(nullif(a."Value"::varchar, '[]'), nullif(a.ValueInt::varchar, '[]'), nullif(a.ValueDouble::varchar, '[]'), a.ValueBool::varchar)
 else coalesce(a."Value"[1], a.ValueInt[1]::varchar, a.ValueDouble[1]::varchar, a.ValueBool[1]::varchar) end"""


def entries(attributes, without=()):
    """SQL: a list of attributes as a map; of a key that occurs twice, the last value."""
    kept = f"[a for a in {attributes} if a.Key not in ({', '.join(quoted(w) for w in without)})]" if without else attributes
    return f"map_from_entries([{{'k': a.Key, 'v': {TEXT}}} for a in {kept}])"


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def dedicated(metas):
    """(scope, key, column) of the attributes with columns of their own; the same for all blocks."""
    kinds = {json.dumps(m.get("dedicatedColumns", [])) for m in metas}
    if len(kinds) != 1:
        raise SystemExit("the blocks differ in their dedicated columns")
    numbers, found = {}, []
    for column in json.loads(kinds.pop()):
        scope, kind = column.get("s", "span"), {"int": "Int"}.get(column.get("t"), "String")
        numbers[scope, kind] = numbers.get((scope, kind), 0) + 1
        if scope != "event":
            found.append((scope, column["n"], f"{kind}{numbers[scope, kind]:02}"))
    return found


def make(blocks, out):
    """Writes the flat copy of <blocks>/<tenant>/<id>/data.parquet, in the order of the blocks; gives its path."""
    out = pathlib.Path(out)
    if out.exists():
        return out
    files = sorted(glob.glob(f"{blocks}/*/*/data.parquet"))
    metas = [json.loads(pathlib.Path(f).with_name("meta.json").read_text()) for f in files]
    present = {scope: set(re.findall(r"\b(?:String|Int)\d\d\b", text)) for scope, text in groups_of(files[0]).items()}
    owns = [(s, k, c) for s, k, c in dedicated(metas) if c in present[s]]
    columns = [f'{"sp" if s == "span" else "res"}.DedicatedAttributes.{c}[1] as "{k}"' for s, k, c in owns]
    columns += [f"""[a for a in sp.Attrs if a.Key = {quoted(k)}][1]."Value"[1] as "{k}" """ for k in OWN_COLUMNS]
    query = f"""
      with traces as (select TraceID, StartTimeUnixNano, DurationNano, RootServiceName, RootSpanName, unnest(rs) r from read_parquet({files})),
      scopes as (select * exclude (r), r.Resource as res, unnest(r.ss) sc from traces),
      spans as (select * exclude (sc), unnest(sc.Spans) sp from scopes)
      select TraceID as trace_id, sp.SpanID as span_id, sp.ParentSpanID as parent_span_id, res.ServiceName as service, sp.Name as name,
        sp.Kind::int as kind, sp.StatusCode::int as status, sp.StartTimeUnixNano::bigint as start_ns, sp.DurationNano::bigint as duration_ns,
        sp.NestedSetLeft as nested_left, sp.NestedSetRight as nested_right, sp.ParentID as nested_parent,
        StartTimeUnixNano::bigint as trace_start_ns, DurationNano::bigint as trace_duration_ns,
        RootServiceName as root_service, RootSpanName as root_name, {', '.join(columns)},
        {entries('sp.Attrs', OWN_COLUMNS)} as attrs, {entries('res.Attrs')} as resource_attrs
      from spans"""
    temporary = out.with_suffix(".part")
    con = duckdb.connect(config={"temp_directory": str(out.parent / "duckdb-tmp")})
    con.execute(f"copy ({query}) to '{temporary}' (format parquet, compression zstd, write_bloom_filter false)")
    temporary.rename(out)
    return out


def with_blooms(path):
    """A second copy with the bloom filters that DuckDB's own writer adds to dictionary columns; gives its path."""
    out = path.with_name(path.stem + "-blooms.parquet")
    if not out.exists():
        duckdb.execute(f"copy (from '{path}') to '{out}.part' (format parquet, compression zstd)")
        path.with_name(out.name + ".part").rename(out)
    return out


def groups_of(file):
    """Text of the schema's groups of dedicated attributes, by scope."""
    paths = [pq.ParquetFile(file).schema.column(i).path for i in range(len(pq.ParquetFile(file).schema))]
    named = lambda part: " ".join(p for p in paths if part in p)
    return {"span": named("Spans.DedicatedAttributes"), "resource": named("Resource.DedicatedAttributes"), "event": ""}


class Flat:
    """DuckDB and pyarrow over a flat copy."""

    def __init__(self, path):
        self.path = path
        self.con = duckdb.connect()
        self.con.execute(f"create view flat as select * from read_parquet('{path}')")
        self.con.execute("set parquet_metadata_cache = true")
        self.columns = [row[0] for row in self.con.execute("describe flat").fetchall()]

    def attribute(self, scope, key, kind="text"):
        """SQL of an attribute's value."""
        if key in self.columns:
            return f'"{key}"'
        value = f"{'resource_attrs' if scope == 'resource' else 'attrs'}[{quoted(key)}]"
        return {"text": value, "int": f"try_cast({value} as bigint)"}[kind]

    def rows(self, sql):
        return self.con.execute(sql).fetchall()

    def used(self, sql):
        """Columns that a query names."""
        code = re.sub(r"'[^']*'", "''", sql)
        return [c for c in self.columns if (f'"{c}"' in code if "." in c else re.search(rf"\b{c}\b", code))]

    def cpu_ms(self, sql, runs, seconds):
        """CPU ms with one thread."""
        self.con.execute("set threads = 1")
        return repeat(lambda: self.con.execute(sql).fetchall(), time.process_time, runs, seconds)

    def cost(self, sql, runs, seconds):
        """CPU ms with one thread, wall ms with two (medians)."""
        cpu = self.cpu_ms(sql, runs, seconds)
        self.con.execute("set threads = 2")
        wall = repeat(lambda: self.con.execute(sql).fetchall(), time.perf_counter, runs, seconds)
        return {"cpu_ms": cpu, "wall_ms": wall}

    def limit(self, columns, runs, seconds):
        """CPU ms of decoding these columns with one thread: what no reader of the flat copy goes below."""
        read = lambda: pq.ParquetFile(self.path).read(columns, use_threads=False)
        return {"cpu_ms": repeat(read, time.process_time, runs, seconds), "columns": columns}


def repeat(what, clock, runs, seconds):
    """Median milliseconds of one run after one that is not counted, as many runs as fit."""
    what()
    times, end = [], time.perf_counter() + seconds
    while len(times) < runs and (len(times) < 3 or time.perf_counter() < end):
        before = clock()
        what()
        times.append((clock() - before) * 1e3)
    return sorted(times)[len(times) // 2]
