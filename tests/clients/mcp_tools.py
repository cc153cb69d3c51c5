"""Asks a server through the Model Context Protocol, as a language model's client does; the spans are those of shop.spans.

    mcp_tools.py URL
"""

import asyncio
import json
import sys

from mcp import Client, MCPError

TOOLS = {
    "traceql-search", "traceql-metrics-instant", "traceql-metrics-range", "get-trace", "trace-diff", "get-attribute-names",
    "get-attribute-values", "docs-traceql", "docs-config", "sql-query",
}
WINDOW = {"start": "2026-03-01T12:00:00Z", "end": "2026-03-01T16:00:00Z"}


def text(result):
    assert len(result.content) == 1, result
    return result.content[0].text


async def main(url, modes):
    for mode in modes:
        async with Client(url + "/api/mcp", mode=mode) as client:
            await check(client)


async def check(client):
    print(client.server_info, client.protocol_version)
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == TOOLS, set(tools) ^ TOOLS
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    assert tools["get-trace"].input_schema["required"] == ["trace_id"]

    async def ask(tool, /, **arguments):
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, text(result)
        return text(result)

    async def refused(tool, part, /, **arguments):
        result = await client.call_tool(tool, arguments)
        assert result.is_error and part in text(result), (part, result)

    found = json.loads(await ask("traceql-search", query="{ status = error }", **WINDOW))
    assert [t["traceID"] for t in found["traces"]] == ["b4", "a3", "a1"], found
    await refused("traceql-search", "parse error", query="{ nope", **WINDOW)
    await refused("traceql-search", "argument query is missing", **WINDOW)
    await refused("traceql-search", "RFC 3339", query="{}", start="yesterday")
    rate = json.loads(await ask("traceql-metrics-instant", query="{} | count_over_time()", **WINDOW))
    assert [s["value"] for s in rate["series"]] == [10], rate
    series = json.loads(await ask("traceql-metrics-range", query="{ kind = server } | count_over_time()", **WINDOW))
    assert sum(s.get("value", 0) for s in series["series"][0]["samples"]) == 4, series
    await refused("traceql-metrics-instant", "use traceql-search", query="{}", **WINDOW)
    await refused("traceql-metrics-range", "use traceql-search", query="{}", **WINDOW)
    await refused("traceql-search", "use traceql-metrics-instant", query="{} | rate()", **WINDOW)
    trace = json.loads(await ask("get-trace", trace_id="a1"))
    assert sorted(s["serviceName"] for s in trace["trace"]["services"]) == ["auth", "web"], trace
    await refused("get-trace", "hex", trace_id="x/y")
    names = json.loads(await ask("get-attribute-names", scope="event"))
    assert names["scopes"][0]["name"] == "event" and "exception.type" in names["scopes"][0]["tags"], names
    values = await ask("get-attribute-values", name="resource.service.name")
    assert all(name in values for name in ("auth", "late", "web")), values
    only = await ask("get-attribute-values", **{"name": "resource.service.name", "filter-query": "{ name = `check token` }"})
    assert "auth" in only and "late" not in only, only
    assert json.loads(only)["tagValues"] == {"string": ["auth"]}, only
    await refused("get-attribute-values", "400", name="nope")
    await refused("get-attribute-values", "filter-query", **{"name": "resource.service.name", "filter-query": "nope"})
    diff = json.loads(await ask("trace-diff", base_trace_id="a1", compare_trace_id="a2"))
    assert diff["summary"]["changedServices"] == ["auth", "web"] and diff["patch"]["stats"]["removedSpans"] == 2, diff
    times = {"base_start": "2026-03-01T12:00:00Z", "base_end": "2026-03-01T12:01:00Z"}
    native = json.loads(await ask("trace-diff", base_trace_id="a1", compare_trace_id="a2", format="trace-summary-v0-native", **times))
    assert native == diff["summary"], native
    await refused("trace-diff", "base_end", base_trace_id="a1", compare_trace_id="a2", base_start="2026-03-01T12:00:00Z")
    await refused("trace-diff", "404", base_trace_id="a1", compare_trace_id="dead")
    await refused("trace-diff", "format", base_trace_id="a1", compare_trace_id="a2", format="nope")
    await refused("get-attribute-names", "invalid scope", scope="nope")
    assert "TraceQL" in await ask("docs-traceql", name="basic")
    assert "metrics" in await ask("docs-traceql", name="metrics")
    assert "multitenancy_enabled" in await ask("docs-config", name="config-reference")
    rows = json.loads(await ask("sql-query", query="SELECT status, count(*) AS n FROM spans GROUP BY status ORDER BY status"))
    assert rows == [{"status": "error", "n": 3}, {"status": "ok", "n": 3}, {"status": "unset", "n": 5}], rows
    await refused("sql-query", "nonsense", query="SELECT * FROM nonsense")
    await refused("sql-query", "", query="DROP TABLE spans")
    many = json.loads(await ask("sql-query", query="SELECT a.name FROM spans a, spans b, spans c, spans d"))
    assert len(many) == 1000, len(many)

    resources = {str(r.uri): r for r in (await client.list_resources()).resources}
    assert "docs://traceql/metrics" in resources and "docs://config/reference" in resources, resources
    page = await client.read_resource("docs://traceql/basic")
    assert page.contents[0].mime_type == "text/markdown" and "TraceQL" in page.contents[0].text
    for wrong in (client.call_tool("nope", {}), client.read_resource("docs://nope")):
        try:
            await wrong
        except MCPError:
            continue
        raise AssertionError("an unknown name was taken")


asyncio.run(main(sys.argv[1], sys.argv[2:] or ["auto"]))
