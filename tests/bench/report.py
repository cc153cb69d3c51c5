"""The figures as a table."""


def heading(facts):
    blocks = f"{facts['blocks']} blocks of {facts['block_bytes'] / 1e6:.1f} MB ({facts['block_bytes'] / facts['spans']:.1f} bytes a span)"
    return f"{facts['data']}: {facts['spans']:,} spans in {facts['traces']:,} traces, {blocks}; flat copy {facts['flat_bytes'] / 1e6:.1f} MB; {facts['cores']} cores"


def pair(figures):
    return f"{ms(figures['cpu_ms'])} / {ms(figures['wall_ms'])}" if figures and "cpu_ms" in figures else ""


def ms(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def cell(text):
    return text.replace("|", "\\|")


def mega(value):
    return f"{value / 1e6:.2f}" if value < 1e7 else f"{value / 1e6:.0f}"


def table(results, facts, old):
    """A Markdown table: CPU ms / wall ms (medians), what was read, and how our CPU compares."""
    tempo, own, cold = (any(k in r for r in results.values()) for k in ("tempo", "own_sql", "cold"))
    head = ["query", "values equal", "ours", "wall min..max", "MB read", "inspected MB", "M spans/s", "peak MiB", "DuckDB", "with blooms, CPU", "limit CPU", "ours / DuckDB CPU"]
    head += ["SQL over Flight"] * own + ["cold wall, MB"] * cold + ["Tempo", "Tempo, any traces", "Tempo / ours CPU"] * tempo + ["before / now CPU"] * bool(old)
    lines = ["", "CPU ms / wall ms; DuckDB: CPU with one thread, wall with two", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, r in results.items():
        if "differs" in r:
            lines.append(f"| {cell(name)} | **ANSWERS DIFFER: {r['differs']}** |")
            continue
        o, duck, limit = r["ours"], r.get("duckdb"), r.get("limit")
        cells = [cell(name), f"{r['compared']:,}", pair(o), f"{ms(o['wall_min_ms'])}..{ms(o['wall_max_ms'])}", mega(o["read_bytes"]), mega(o["inspected_bytes"]),
                 f"{o['spans_per_s'] / 1e6:.1f}", f"{o['peak_mib']:.0f}", pair(duck), ms(duck["blooms_cpu_ms"]) if duck else "", ms(limit["cpu_ms"]) if limit else "",
                 f"{o['cpu_ms'] / duck['cpu_ms']:.2f}" if duck else ""]
        cells += [pair(r.get("own_sql")) or r.get("own_sql", {}).get("differs", "")] * own
        cells += [f"{ms(r['cold']['wall_ms'])}, {mega(r['cold']['read_bytes'])}" if "cold" in r else ""] * cold
        if tempo:
            t = r.get("tempo", {})
            cells += [pair(t) or t.get("note", ""), pair(t.get("any")), f"{t['cpu_ms'] / max(o['cpu_ms'], 0.01):.1f}" if "cpu_ms" in t else ""]
        if old:
            before = old.get(name, {}).get("ours")
            cells.append(f"{before['cpu_ms'] / max(o['cpu_ms'], 0.01):.1f}" if before else "")
        lines.append("| " + " | ".join(cells) + " |")
    if "tempo" in facts:
        t = facts["tempo"]
        lines += ["", f"Tempo over {t['blocks']} blocks: {t['number']} of {t['bytes'] / 1e6:.1f} MB ({t['bytes'] / facts['spans']:.1f} bytes a span), peak {t['peak_mib']:.0f} MiB"]
    if "tempo_ingest" in facts:
        t = facts["tempo_ingest"]
        lines.append(f"Tempo took the spans in with {t['cpu_s'] / facts['spans'] * 1e6:.1f} CPU seconds a million, peak {t['peak_mib']:.0f} MiB")
    notes = {f"{name}: {r['note']}" for name, r in results.items() if r.get("note")}
    return "\n".join([*lines, "", *sorted(notes)])
