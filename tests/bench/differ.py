#!/usr/bin/env python3
"""Asks our server and a Grafana Tempo the same questions and tells where the answers differ.

    TEMPO_BIN=/path/to/tempo tests/bench/differ.py --binary target/release/tracehouse [--corpus DIR] [--seed 1] [--queries 500]
        [--stored tempo|own|live] [--version vParquet5|vParquet4] [--odd SEED] [--recorded QUERIES] [--area search,...] [--json OUT]

Tempo answers over the blocks that it wrote from the corpus (CORPUS/blocks), with its default dedicated columns and again without;
an answer equal to one of both counts. Ours holds the same blocks (`tempo`), or the corpus' data as its own blocks (`own`) or live.
With `--odd` both get a data set of odd_data.py besides, and Tempo writes all blocks anew. The questions come from questions.py, or with
`--recorded` from a corpus' queries.json, each changed in some places (mutations.py). A difference that may come of an accident of
Tempo's which the docs describe counts as that only if the same question in words without the accident has our answer (repairs.py), or if
Tempo's answer is but a part of ours and the question is one where it loses spans. Exit status 1 if another difference is left.
"""
import argparse, collections, http.client, json, os, pathlib, shutil, subprocess, sys, tempfile

import home
import mutations
import odd_data
import repairs
import servers
from questions import ACCIDENTS, Known, Questions

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import compare as golden  # noqa: E402

# Unsigned differences below zero upset Tempo's column statistics: this data set is not asked about.
LEFT_OUT = "wrap"
# Accidents that lose spans in ways that other words do not mend: Tempo's answer is a part of ours.
LOSES = ("tree", "union", "root", "events", "groups", "nil", "not", "constant", "array", "negated", "numbers", "links", "sum")
# Accidents of questions that no form of is answered rightly, each as the docs say it.
WHOLE = ("completion", "stale", "floats", "seconds", "groups", "mixed", "zeros", "unfiltered", "compare", "events", "links", "ids", "power", "sets", "labels", "dedicated", "unsigned", "names")


def block_versions(args):
    return ("vParquet4",) * (args.version == "vParquet4") + ("vParquet5", "vParquet5-no-dedicated")


def load(server, corpus, data_set):
    address = str(server.at["otlp_http"])
    address = address if ":" in address else "127.0.0.1:" + address
    command = [sys.executable, GOLDEN / "load.py", "--otlp-url", "http://" + address, "--corpus", corpus, "--only", data_set]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def with_odd_data(args, binary, work):
    """A copy of the corpus with a data set more, and its blocks as this Tempo writes them."""
    corpus = work / "corpus"
    shutil.copytree(args.corpus / "data", corpus / "data")
    shutil.rmtree(corpus / "data" / LEFT_OUT, ignore_errors=True)
    odd_data.write(corpus / "data" / "odd", args.odd)
    for version in block_versions(args):
        none = version.endswith("no-dedicated")
        setting = version.removesuffix("-no-dedicated") + (", parquet_dedicated_columns: []" if none else "")
        with servers.Tempo(binary, work / ("writes-" + version), version=setting) as tempo:
            for number, data_set in enumerate(sorted(os.listdir(corpus / "data")), 1):
                load(tempo, corpus, data_set)
                tempo.wait_for_blocks(number)
            shutil.copytree(tempo.folder / "blocks", corpus / "blocks" / version, ignore=shutil.ignore_patterns("tempo_cluster_seed.json", "work*"))
    return corpus


def ours(args, folder):
    """Our server, holding the corpus in one of three ways."""
    if args.stored == "tempo":
        shutil.copytree(args.corpus / "blocks" / block_versions(args)[0], folder / "blocks")
    live = {"TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS": "3600000"} if args.stored == "live" else None
    server = servers.Tracehouse(args.binary, folder, env=live)
    if args.stored != "tempo":
        for data_set in sorted(os.listdir(args.corpus / "data")):
            load(server, args.corpus, data_set)
            if args.stored == "own":
                server.flush()
    return server


def window(corpus):
    """The time of the data in Unix seconds, with a minute on both sides."""
    told = [json.loads(m.read_text()) for m in (corpus / "data").glob("*/manifest.json") if m.parent.name != LEFT_OUT]
    return min(m["min_ns"] for m in told) // 10**9 - 60, max(m["max_ns"] for m in told) // 10**9 + 60


def ask(server, question):
    status, body = server.get(golden.url_of(question))
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body.decode(errors="replace")


def differences(question, theirs, tempo, answer):
    """What differs from an answer of Tempo's; of an answer that is cut, from a part of Tempo's whole one."""
    full = ask(tempo, {"kind": question["kind"], "params": question["full"]})[1] if "full" in question and theirs[0] == 200 else None
    return compare_with(question, theirs, full, answer)


def compare_with(question, theirs, full, answer):
    """What differs. Series of zeros, which Tempo has of what occurs before the first interval only, do not count; of `compare()` only
    totals are compared where equal ones are cut."""
    answers = {"full": {"body": full}} if full is not None else {}
    check = {"subset_of": "full"} if answers else {"ties": True} if "compare(" in str(question["params"].get("q")) else {}
    if question["kind"] == "metrics_range" and theirs[0] == answer[0] == 200:
        theirs, answer = without_zeros(theirs), without_zeros(answer)
    return golden.compare_one(dict(question, check=check), {"status": theirs[0], "body": theirs[1]}, *answer, answers)


def without_zeros(answer):
    series = [s for s in answer[1].get("series") or [] if any(x.get("value") for x in s.get("samples", [])) or s["labels"][0]["key"] == "__name__"]
    return answer[0], dict(answer[1], series=series)


def lists_in(body):
    """The lists of names or values that a limit bounds, each by itself."""
    return [s["tags"] for s in body.get("scopes", []) if s["name"] != "intrinsic"] + [body[k] for k in ("tagNames", "tagValues") if k in body]


def compare(question, tempos, server):
    """What differs from every Tempo (as told of the first), and both answers. Names and values that a limit cuts are not defined:
    the whole answers are compared, and ours must keep the limit."""
    if "full" in question and question["kind"].startswith("tag"):
        limit, whole = int(question["params"]["limit"]), {k: v for k, v in question.items() if k != "full"}
        status, body = ask(server, question)
        most = max((len(v) for v in lists_in(body)), default=0) if status == 200 else 0
        diffs, theirs, answer = compare(dict(whole, params=question["full"]), tempos, server)
        return diffs + [f"{most} of at most {limit}"] * (most > limit), theirs, answer
    answer, first = ask(server, question), None
    for tempo in tempos:
        theirs = ask(tempo, question)
        found = differences(question, theirs, tempo, answer)
        first = first or (found, theirs, answer)
        if not found:
            return [], theirs, answer
    return first


def explained(question, diffs, theirs, answer, tempos, stored):
    """The accident of Tempo's that a difference is, as the docs name it; nothing if it is none of them, or more than it."""
    if theirs[0] >= 500:
        return "fails while it runs"
    if answer[0] == 400 and "more than once" in str(answer[1]):
        return "a parameter twice is refused"
    kind, odd = question["kind"], question["odd"]
    if stored != "tempo" and kind.startswith("tag") and not any("missing" in diff for diff in diffs):
        return "what Tempo loses when it writes"
    if not kind.startswith(("tag", "trace")):
        repair = repairs.equal_when_repaired(question, tempos, answer, ask, compare_with)
        if repair:
            return "as Tempo answers in other words: " + repair
        if repairs.contains(theirs, answer):
            name = next((name for name in odd if name in LOSES), None)
            if name:
                return "part of ours: " + ACCIDENTS[name]
    return next((ACCIDENTS[name] for name in odd if name in WHOLE), None)


def short(answer):
    text = json.dumps(answer[1], ensure_ascii=False) if not isinstance(answer[1], str) else answer[1].strip()
    return f"{answer[0]} {text[:160]}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--corpus", type=pathlib.Path, default=GOLDEN)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--stored", choices=("tempo", "own", "live"), default="tempo")
    parser.add_argument("--version", choices=("vParquet5", "vParquet4"), default="vParquet5")
    parser.add_argument("--odd", type=int, metavar="SEED", help="with a data set of odd_data.py besides")
    parser.add_argument("--recorded", type=pathlib.Path, metavar="QUERIES", help="change the questions of this queries.json")
    parser.add_argument("--area", help="only these: " + ", ".join(Questions.AREAS) + "; with --recorded those of the file")
    parser.add_argument("--json", type=pathlib.Path, help="write every difference here, one a line")
    args = parser.parse_args()
    args.tempo = os.environ.get("TEMPO_BIN") or parser.error("set TEMPO_BIN to a Tempo 3.0 binary")
    return args


def source_of(args, server):
    known, areas = Known(server.get, *window(args.corpus)), args.area and args.area.split(",")
    if not args.recorded:
        return Questions(known, args.seed, areas)
    # What Tempo 3.0 does not know yet is recorded of a later version.
    recorded = [one for one in json.loads(args.recorded.read_text()) if one["area"] != "metrics-math"]
    return mutations.Mutations(known, args.seed, recorded, areas)


def is_empty(answer):
    return answer[0] == 200 and isinstance(answer[1], dict) and not any(v for k, v in answer[1].items() if k != "metrics")


def ask_all(args, server, tempos, questions):
    """Asks so many questions; the differences, and how many answers were empty."""
    found, empty, asked = [], 0, set()
    while len(asked) < args.queries:
        question = questions.question()
        key = json.dumps([question["kind"], question["params"]], sort_keys=True)
        if key in asked:
            continue
        asked.add(key)
        try:
            diffs, theirs, answer = compare(question, tempos, server)
            why = explained(question, diffs, theirs, answer, tempos, args.stored) if diffs else None
        except (OSError, http.client.HTTPException):
            diffs, theirs, answer, why = ["Tempo ends"], (599, ""), (0, ""), "ends Tempo's process"
            for tempo in tempos:
                tempo.start_again()
        empty += is_empty(theirs)
        if diffs:
            found.append(dict(question, diffs=diffs, tempo=theirs, ours=answer, explained=why))
        if len(asked) % 100 == 0 or len(asked) == args.queries:
            left = sum(not one["explained"] for one in found)
            print(f"{len(asked)} of {args.queries} asked: {len(found)} differ, {left} unexplained", file=sys.stderr, flush=True)
    return found, empty


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(dir=home.scratch(), ignore_cleanup_errors=True) as work:
        work = pathlib.Path(work)
        if args.odd is not None:
            args.corpus = with_odd_data(args, args.tempo, work)
        (work / "ours").mkdir()
        with ours(args, work / "ours") as server:
            tempos = []
            try:
                for version in block_versions(args):
                    tempos.append(servers.Tempo(args.tempo, work / version, args.corpus / "blocks" / version))
                found, empty = ask_all(args, server, tempos, source_of(args, server))
            finally:
                for tempo in tempos:
                    tempo.stop()
    known = collections.Counter(one["explained"] for one in found if one["explained"])
    for one in found:
        if one["explained"]:
            continue
        print(f"\n{one['area']}: {golden.url_of(one)}\n  {one['params'].get('q', '')}\n  Tempo: {short(one['tempo'])}\n  ours:  {short(one['ours'])}")
        print("".join(f"    {diff[:300]}\n" for diff in one["diffs"][:4]), end="")
    if args.json:
        args.json.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found))
    print(f"\n{args.queries} questions ({empty} with empty answers): {len(found) - known.total()} differ, {known.total()} as the docs say:")
    for name, count in known.most_common():
        print(f"  {count:4} {name}")
    sys.exit(1 if len(found) > known.total() else 0)


if __name__ == "__main__":
    main()
