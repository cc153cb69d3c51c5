"""Asks, compares, measures: what each side needs for each query."""
import dataclasses, json, os, shutil, statistics, sys, time

import answers, servers


def ours(args, folder, flat, window, shapes, facts):
    """Compares every answer of our server with DuckDB's, then measures; gives the figures by query."""
    results = {}
    with servers.Tracehouse(args.binary, folder / "ours", env={"TRACEHOUSE_TRACEQL__MAX_SEARCH_DURATION_SECONDS": "0"}) as server:
        for shape in shapes:
            result = {"group": shape.group, "text": shape.text, "sql": shape.sql, "note": shape.note}
            results[f"{shape.group}: {shape.name}"] = result
            differs = compare(server, flat, shape, window)
            if differs:
                result["differs"] = differs
            else:
                result["compared"] = len(shape.answer)
                result["ours"] = cost(server, answers.url(shape, window), args.runs, args.seconds, facts["spans"])
            if shape.own_sql and args.sql:
                result["own_sql"] = flight_cost(server, shape, args.runs, args.seconds)
            progress(f"{shape.group}: {shape.name}", result.get("differs") or f"{result['ours']['cpu_ms']:.1f} ms CPU")
        facts["peak_mib_at_the_end"] = server.peak_mib()
    if args.cold:
        for shape in shapes:
            result = results[f"{shape.group}: {shape.name}"]
            if "ours" in result:
                result["cold"] = cold(args, folder, shape, window)
                progress(f"cold, {shape.group}: {shape.name}", f"{result['cold']['wall_ms']:.1f} ms")
    return results


def compare(server, flat, shape, window):
    """What differs between our answer and DuckDB's: a sentence, or None."""
    status, body = server.get(answers.url(shape, window))
    if status != 200 and not (shape.kind == "id" and status == 404):
        return f"status {status}: {body[:200].decode(errors='replace')}"
    found = answers.of_http(shape, body) if status == 200 else []
    shape.answer = found
    differs = answers.differences(shape, found, answers.of_rows(shape, flat.rows(shape.sql)))
    if differs or not shape.total_sql:
        return differs
    status, body = server.get(answers.url(shape, window, everything=True))
    if status != 200:
        return f"status {status} when asked for all traces: {body[:200].decode(errors='replace')}"
    whole = answers.of_http(shape, body)
    traces, spans = flat.rows(shape.total_sql)[0]
    found = shape.totals = (len(whole), sum(whole.values()))
    # A search gives at most so many traces; then only the number can be told.
    return None if found == (traces, spans) or len(whole) == answers.ALL < traces else f"{found} traces and spans in all, DuckDB {(traces, spans)}"


def cost(server, path, runs, seconds, spans):
    """CPU of the process, wall time, bytes and memory of one request, over repetitions of a warm server."""
    for _ in range(2):
        _, body = server.get(path)
    server.forget_peak()
    read, requests, taken = store_bytes(server), server.metric("tracehouse_store_requests_total"), server.read_bytes()
    walls, end, before = [], time.perf_counter() + seconds, server.cpu()
    while len(walls) < runs and (len(walls) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        server.get(path)
        walls.append((time.perf_counter() - start) * 1e3)
    cpu = (server.cpu() - before) * 1e3 / len(walls)
    n, wall = len(walls), statistics.median(walls)
    return {
        "cpu_ms": cpu, "wall_ms": wall, "wall_min_ms": min(walls), "wall_max_ms": max(walls), "runs": n,
        "read_bytes": (store_bytes(server) - read) / n, "requests": (server.metric("tracehouse_store_requests_total") - requests) / n,
        "rchar_bytes": (server.read_bytes() - taken) / n, "inspected_bytes": inspected(body),
        "peak_mib": server.peak_mib(), "spans_per_s": spans / wall * 1e3, "answer_bytes": len(body),
    }


def store_bytes(server):
    return server.metric("tracehouse_store_read_bytes_total")


def inspected(body):
    """Bytes that the answer says it looked at."""
    try:
        return int((json.loads(body).get("metrics") or {}).get("inspectedBytes", 0))
    except ValueError:
        return 0


def cold(args, folder, shape, window):
    """The first answer of a new server whose blocks are not in the page cache."""
    for file in (folder / "ours" / "blocks").rglob("*"):
        if file.is_file():
            with open(file, "rb") as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with servers.Tracehouse(args.binary, folder / "ours") as server:
        before, read = server.cpu(), store_bytes(server)
        start = time.perf_counter()
        server.get(answers.url(shape, window))
        wall = (time.perf_counter() - start) * 1e3
        return {"wall_ms": wall, "cpu_ms": (server.cpu() - before) * 1e3, "read_bytes": store_bytes(server) - read}


def flight_cost(server, shape, runs, seconds):
    """CPU and wall time of a statement over Flight SQL; its counts must add up to those of the TraceQL answer."""
    import adbc_driver_flightsql.dbapi as flightsql

    walls = []
    with flightsql.connect("grpc://" + server.at["flight"], autocommit=True) as connection, connection.cursor() as cursor:

        def ask():
            cursor.execute(shape.own_sql)
            return cursor.fetch_arrow_table()

        counted, expected = sum(ask()["n"].to_pylist()), sum((shape.answer or {}).values())
        if counted != expected:
            return {"text": shape.own_sql, "differs": f"{counted} spans, TraceQL {expected:.0f}"}
        end, before = time.perf_counter() + seconds, server.cpu()
        while len(walls) < runs and (len(walls) < 3 or time.perf_counter() < end):
            start = time.perf_counter()
            ask()
            walls.append((time.perf_counter() - start) * 1e3)
        return {"cpu_ms": (server.cpu() - before) * 1e3 / len(walls), "wall_ms": statistics.median(walls), "text": shape.own_sql}


def duckdb(args, flat, shapes, results):
    """DuckDB's cost on the flat copy, without and with bloom filters, and that of decoding the same columns only."""
    from flat import Flat, with_blooms

    limits, blooms = {}, Flat(with_blooms(flat.path))
    for shape in shapes:
        result = results[f"{shape.group}: {shape.name}"]
        if "differs" in result:
            continue
        result["duckdb"] = flat.cost(shape.sql, args.runs, args.seconds)
        result["duckdb"]["blooms_cpu_ms"] = blooms.cpu_ms(shape.sql, args.runs, args.seconds / 2)
        columns = tuple(flat.used(shape.sql))
        if columns and columns not in limits:
            limits[columns] = flat.limit(list(columns), args.runs, args.seconds)
        result["limit"] = limits.get(columns)
        progress(f"DuckDB, {shape.group}: {shape.name}", f"{result['duckdb']['cpu_ms']:.1f} ms CPU")


def tempo(args, folder, window, shapes, results, facts, send):
    """Tempo's column: on the same spans, taken in by itself or read from our blocks; equal answers only."""
    binary, own = os.environ["TEMPO_BIN"], args.tempo_blocks == "own"
    blocks = tempo_blocks(binary, folder, facts, args, send) if own else folder / "ours" / "blocks"
    run = folder / "tempo-run"
    with servers.Tempo(binary, run, None if (run / "blocks").exists() else blocks) as server:
        facts["tempo"] = {"blocks": args.tempo_blocks, "number": len(server.metas()), "bytes": sum(m["size"] for m in server.metas())}
        for shape in shapes:
            result = results[f"{shape.group}: {shape.name}"]
            if "differs" in result:
                continue
            if shape.tempo == "refused":
                result["tempo"] = {"note": "not in Tempo 3.0"}
                continue
            note = tempo_differs(server, shape, window)
            # Without equal answers a time says nothing; where they cannot be equal, the note says so.
            result["tempo"] = {"note": note} if note and shape.tempo == "same" else {"note": shape.note, **tempo_cost(server, newest(shape, window), args)}
            if shape.kind == "search" and "cpu_ms" in result["tempo"]:
                result["tempo"]["any"] = tempo_cost(server, answers.url(shape, window), args)
            progress(f"Tempo, {shape.group}: {shape.name}", note or f"{result['tempo']['cpu_ms']:.0f} ms CPU")
        facts["tempo"]["peak_mib"] = server.peak_mib()
    if not own:
        shutil.rmtree(run, ignore_errors=True)


def tempo_blocks(binary, folder, facts, args, send):
    """Blocks of the same spans that Tempo wrote itself, made once; what taking them in cost is in `facts`."""
    kept, told = folder / "tempo-blocks", folder / "tempo-blocks.json"
    if not told.exists():
        work = folder / "tempo-ingest"
        shutil.rmtree(work, ignore_errors=True)
        with servers.Tempo(binary, work) as server:
            before = server.cpu()
            send(f"127.0.0.1:{server.at['otlp_http' if args.data else 'otlp_grpc']}")
            quiet, last = 0, None
            while quiet < 40:  # seconds without a change, every block that was cut is complete and listed
                time.sleep(1)
                now = (server.metric("tempo_live_store_blocks_cut_total"), server.metric("tempo_live_store_local_blocks_flushed_total"), len(server.metas()))
                quiet, last = (quiet + 1 if now == last and now[0] == now[1] == now[2] > 0 else 0), now
            cost = {"cpu_s": server.cpu() - before, "peak_mib": server.peak_mib(), "traces": sum(m["totalObjects"] for m in server.metas())}
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(work / "blocks", kept)
        shutil.rmtree(work, ignore_errors=True)
        told.write_text(json.dumps(cost))
    facts["tempo_ingest"] = json.loads(told.read_text())
    return kept


def newest(shape, window):
    """The request to Tempo: of a search, for the newest traces as we answer it; without the hint it stops at any it meets."""
    if shape.kind == "search":
        shape = dataclasses.replace(shape, text=shape.text + " with(most_recent=true)")
    return answers.url(shape, window)


def tempo_differs(server, shape, window):
    """Whether Tempo's answer is not ours: a sentence, or None. Of a search, the number of all traces and spans is asked for too."""
    status, body = server.get(newest(shape, window))
    if status not in (200, 404):
        return f"status {status}: {body[:120].decode(errors='replace').strip()}"
    theirs = answers.of_http(shape, body) if status == 200 else []
    if shape.kind == "search":
        whole = answers.of_http(shape, server.get(answers.url(shape, window, everything=True))[1])
        found = (len(whole), sum(whole.values()))
        if found != shape.totals:
            return f"{found} traces and spans in all, ours {shape.totals}"
    return answers.differences(dataclasses.replace(shape, labels=()), theirs, shape.answer)


def tempo_cost(server, path, args):
    walls, end = [], time.perf_counter() + args.seconds
    server.get(path)
    before = server.cpu()
    while len(walls) < args.runs and (len(walls) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        _, body = server.get(path)
        walls.append((time.perf_counter() - start) * 1e3)
    return {"cpu_ms": (server.cpu() - before) * 1e3 / len(walls), "wall_ms": statistics.median(walls), "inspected_bytes": inspected(body)}


def progress(name, text):
    print(f"  {name}: {text}", file=sys.stderr, flush=True)
