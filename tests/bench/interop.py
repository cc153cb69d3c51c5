#!/usr/bin/env python3
"""Whether blocks that we wrote open elsewhere: in Grafana Tempo with the recorded answers, in DuckDB and pyarrow with the same counts.

    TEMPO_BIN=/path/to/tempo tests/bench/interop.py BINARY [--corpus DIR] [--block-version vParquet5] [--columns tempo] [--area A,B]

The data sets of a corpus (default: tests/golden; see its README) go into our server, one after the other and each flushed, so that
each is one block, as Tempo's were when the answers were recorded. Then the blocks are put under the storage of Tempo and of a second
Tempo that gets the blocks Tempo wrote itself (CORPUS/blocks/VERSION), and compare.py asks both every query. Exit status 0 only if
no counted query fails on our blocks that passes on Tempo's own (but where our blocks hold more, RICHER) and all counts agree. Without TEMPO_BIN only the counts are compared.
"""
import argparse, glob, json, os, pathlib, shutil, subprocess, sys, tempfile

import home
import servers

# Where Tempo over our blocks answers otherwise than Tempo over its own, because ours hold what Tempo loses when it writes:
# attributes of scopes that differ in nothing else, and empty arrays of keys with a dedicated column (docs/format.md).
RICHER = {"scopes": "errors-123 tags-v2-001 tags-v2-003 tags-v2-008 tags-v2-010 tags-v2-014 tag-values-v1-012",
          "empty arrays": "errors-123 tags-v1-001 tags-v1-003 tags-v1-004 tags-v1-005 tags-v1-008 tags-v2-001 tags-v2-003 tags-v2-004"
                          " tags-v2-005 tags-v2-010 tags-v2-014 tags-v2-018 trace-by-id-v1-015 trace-by-id-v2-015"}
HERE = pathlib.Path(__file__).resolve().parent
TENANT = "single-tenant"


def write_blocks(binary, corpus, folder, version, columns):
    """Our blocks of the corpus' data sets; gives the folder with <tenant>/<id>."""
    with servers.Tracehouse(binary, folder, env={"TRACEHOUSE_ENGINE__BLOCK_VERSION": version, "TRACEHOUSE_ENGINE__PARQUET_DEDICATED_COLUMNS": columns}) as server:
        for data_set in sorted(os.listdir(corpus / "data")):
            load = [sys.executable, HERE.parent / "golden" / "load.py", "--otlp-url", "http://" + server.at["otlp_http"]]
            subprocess.run([*load, "--corpus", corpus, "--only", data_set], check=True, stdout=subprocess.DEVNULL)
            server.flush()
    return pathlib.Path(folder) / "blocks"


def expected(corpus):
    """Traces and spans of each data set, by its manifest."""
    sets = {}
    for manifest in sorted(glob.glob(str(corpus / "data" / "*" / "manifest.json"))):
        told = json.loads(pathlib.Path(manifest).read_text())
        sets[pathlib.Path(manifest).parent.name] = (told["traces"], told["spans"])
    return sets


def counts_in_duckdb(file):
    import duckdb

    spans = "list_sum(list_transform(rs, lambda r: list_sum(list_transform(r.ss, lambda s: len(s.Spans)))))"
    return duckdb.execute(f"select count(*), sum({spans})::bigint, count(distinct TraceID) from read_parquet(?)", [file]).fetchone()


def counts_in_pyarrow(file):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(file)  # every column: all of it must decode

    def flat(column):
        column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        return pc.list_flatten(column)

    scopes = flat(pc.struct_field(flat(table["rs"]), "ss"))
    spans = flat(pc.struct_field(scopes, "Spans"))
    return table.num_rows, len(spans), len(pc.unique(table["TraceID"]))


def compare(url, corpus, out, area):
    """What compare.py finds: id -> (counted, passed, differences)."""
    command = [sys.executable, HERE.parent / "golden" / "compare.py", "--base-url", url, "--corpus", corpus, "--json", out, "-v"]
    done = subprocess.run([*command, *(["--area", area] if area else [])], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    results = json.loads(pathlib.Path(out).read_text())["results"]
    return {r["id"]: (not r["soft"], r["pass"], r.get("diffs", [])) for r in results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--corpus", type=pathlib.Path, default=HERE.parent / "golden")
    parser.add_argument("--block-version", default="vParquet5")
    parser.add_argument("--columns", default="tempo", help="the setting parquet_dedicated_columns; Tempo 3.0.3 answers otherwise where attributes"
                        " beside its defaults have columns (docs/decisions/0002-dedicated-columns-of-each-block.md)")
    parser.add_argument("--area", help="only these areas")
    parser.add_argument("--json", help="write what was found here")
    args = parser.parse_args()
    home.need_packages()
    tempo, failed = os.environ.get("TEMPO_BIN"), []
    with tempfile.TemporaryDirectory(dir=home.scratch()) as work:
        work = pathlib.Path(work)
        blocks = write_blocks(args.binary, args.corpus, work / "ours", args.block_version, args.columns)
        found = []
        for meta in sorted(glob.glob(f"{blocks}/*/*/meta.json")):
            told, file = json.loads(pathlib.Path(meta).read_text()), str(pathlib.Path(meta).with_name("data.parquet"))
            duck, arrow = counts_in_duckdb(file), counts_in_pyarrow(file)
            same = duck == arrow and duck[0] == told["totalObjects"]
            print(f"{told['format']} block of {told['totalObjects']} traces: DuckDB {duck}, pyarrow {arrow} (traces, spans, trace ids): {'equal' if same else 'DIFFERENT'}")
            failed += [] if same and told["format"] == args.block_version else [meta]
            found.append((duck[0], duck[1]))
        if sorted(found) != sorted(expected(args.corpus).values()):
            failed.append("counts")
            print(f"the data sets have {sorted(expected(args.corpus).values())} (traces, spans), the blocks {sorted(found)}")
        if tempo:
            failed += in_tempo(tempo, blocks, args, work)
        else:
            print("TEMPO_BIN is not set: not opened in Tempo")
    sys.exit(1 if failed else 0)


def in_tempo(tempo, blocks, args, work):
    answers = {}
    for name, source in (("ours", blocks), ("Tempo's", args.corpus / "blocks" / args.block_version)):
        with servers.Tempo(tempo, work / f"tempo-{name[0]}", source, args.block_version) as server:
            answers[name] = compare(server.url, args.corpus, work / "report.json", args.area)
            shutil.copy(server.log.name, work / "log")
        counted = [r for r in answers[name].values() if r[0]]
        print(f"Tempo over {name} blocks: {sum(r[1] for r in counted)} of {len(counted)} counted answers as recorded, of all {sum(r[1] for r in answers[name].values())} of {len(answers[name])}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(answers, indent=1))
    ours, theirs = answers["ours"], answers["Tempo's"]
    worse = [i for i in ours if theirs[i][1] and not ours[i][1]]
    better = [i for i in ours if ours[i][1] and not theirs[i][1]]
    for title, ids in (("as recorded on Tempo's blocks only", worse), ("as recorded on ours only", better)):
        for i in ids:
            why = [reason for reason, known in RICHER.items() if i in known.split()]
            note = "" if ours[i][0] else " (not counted)"
            note += f" (our blocks hold more: {', '.join(why)})" if why else ""
            print(f"{title}: {i}{note}: {'; '.join((ours if ids is worse else theirs)[i][2])[:400]}")
    known = " ".join(RICHER.values()).split()
    return [i for i in worse if ours[i][0] and i not in known]


if __name__ == "__main__":
    main()
