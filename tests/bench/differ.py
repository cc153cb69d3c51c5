#!/usr/bin/env python3
"""Asks our server and a Grafana Tempo the same random questions and tells where the answers differ.

    TEMPO_BIN=/path/to/tempo tests/bench/differ.py --binary target/release/tracehouse [--corpus DIR] [--seed 1] [--queries 500]
        [--stored tempo|own|live] [--area search,series,...] [--json OUT]

Tempo answers over the blocks that it wrote from the corpus (CORPUS/blocks), with its default dedicated columns and again without;
an answer equal to one of both counts. Ours holds the same blocks (`tempo`), or the corpus' data as its own blocks (`own`) or live.
The questions come from questions.py; one that may run into an accident of Tempo's which the docs describe says so, and a difference
is then put apart under that name. Exit status 1 if another difference is left.
"""
import argparse, collections, json, os, pathlib, shutil, subprocess, sys, tempfile

import home
import servers
from questions import ACCIDENTS, Known, Questions

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import compare as golden  # noqa: E402

BLOCKS = ("vParquet5", "vParquet5-no-dedicated")
# Unsigned differences below zero upset Tempo's column statistics: this data set is not asked about.
LEFT_OUT = "wrap"


def ours(args, folder):
    """Our server, holding the corpus in one of three ways."""
    if args.stored == "tempo":
        shutil.copytree(args.corpus / "blocks" / BLOCKS[0], folder / "blocks")
    live = {"TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS": "3600000"} if args.stored == "live" else None
    server = servers.Tracehouse(args.binary, folder, env=live)
    if args.stored != "tempo":
        for data_set in sorted(os.listdir(args.corpus / "data")):
            load = [sys.executable, GOLDEN / "load.py", "--otlp-url", "http://" + server.at["otlp_http"], "--corpus", args.corpus, "--only", data_set]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
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
    """What differs from an answer of Tempo's; of an answer that is cut, from a part of Tempo's whole one.

    Series of zeros, which Tempo has of what occurs before the first interval only, do not count.
    """
    answers = {}
    if "full" in question and theirs[0] == 200:
        answers["full"] = {"body": ask(tempo, {"kind": question["kind"], "params": question["full"]})[1]}
        question = dict(question, check={"subset_of": "full"})
    if question["kind"] == "metrics_range" and theirs[0] == answer[0] == 200:
        theirs, answer = without_zeros(theirs), without_zeros(answer)
    return golden.compare_one(question, {"status": theirs[0], "body": theirs[1]}, *answer, answers)


def without_zeros(answer):
    series = [s for s in answer[1].get("series") or [] if any(x.get("value") for x in s.get("samples", [])) or s["labels"][0]["key"] == "__name__"]
    return answer[0], dict(answer[1], series=series)


def compare(question, tempos, server):
    """What differs from every Tempo (as told of the first), and both answers."""
    answer, first = ask(server, question), None
    for tempo in tempos:
        theirs = ask(tempo, question)
        found = differences(question, theirs, tempo, answer)
        first = first or (found, theirs, answer)
        if not found:
            return [], theirs, answer
    return first


def explained(question, diffs, theirs, stored):
    """The accident of Tempo's that may be behind a difference, as the docs name it."""
    if theirs[0] >= 500:
        return "fails while it runs"
    if stored != "tempo" and question["kind"].startswith("tag") and not any("missing" in diff for diff in diffs):
        return "what Tempo loses when it writes"
    return next((ACCIDENTS[name] for name in question["odd"]), None)


def short(answer):
    text = json.dumps(answer[1], ensure_ascii=False) if not isinstance(answer[1], str) else answer[1].strip()
    return f"{answer[0]} {text[:160]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--corpus", type=pathlib.Path, default=GOLDEN)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--stored", choices=("tempo", "own", "live"), default="tempo")
    parser.add_argument("--area", help="only these: " + ", ".join(Questions.AREAS))
    parser.add_argument("--json", type=pathlib.Path, help="write every difference here, one a line")
    args = parser.parse_args()
    binary = os.environ.get("TEMPO_BIN") or parser.error("set TEMPO_BIN to a Tempo 3.0 binary")
    found, known, empty = [], collections.Counter(), 0
    with tempfile.TemporaryDirectory(dir=home.scratch(), ignore_cleanup_errors=True) as work:
        work = pathlib.Path(work)
        (work / "ours").mkdir()
        with ours(args, work / "ours") as server:
            tempos = []
            try:
                for version in BLOCKS:
                    tempos.append(servers.Tempo(binary, work / version, args.corpus / "blocks" / version))
                questions = Questions(Known(server.get, *window(args.corpus)), args.seed, args.area and args.area.split(","))
                for number in range(1, args.queries + 1):
                    question = questions.question()
                    diffs, theirs, answer = compare(question, tempos, server)
                    empty += theirs[0] == 200 and not any(v for k, v in theirs[1].items() if k != "metrics") if isinstance(theirs[1], dict) else 0
                    if diffs:
                        found.append(dict(question, diffs=diffs, tempo=theirs, ours=answer, explained=explained(question, diffs, theirs, args.stored)))
                    if number % 100 == 0 or number == args.queries:
                        print(f"{number} of {args.queries} asked: {len(found)} differ", file=sys.stderr, flush=True)
            finally:
                for tempo in tempos:
                    tempo.stop()
    for one in found:
        if one["explained"]:
            known[one["explained"]] += 1
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
