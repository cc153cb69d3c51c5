// Sends traces with the OpenTelemetry JavaScript SDK (OTLP JSON over HTTP, plain and gzip) and reads them back field by field.
//
//   node otel.mjs send  OUT.json http://127.0.0.1:4318
//   node otel.mjs check OUT.json http://127.0.0.1:3200
//
// `send` writes down what the application said; `check` compares that with /api/v2/traces/{id}, exit status 1 if a field differs.

import { readFileSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual, inspect } from 'node:util';

const [action, file, url] = process.argv.slice(2);
const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'];
const STATUSES = ['UNSET', 'OK', 'ERROR'];

const byText = (a, b) => { const [x, y] = [JSON.stringify(a), JSON.stringify(b)]; return x < y ? -1 : x > y ? 1 : 0; };
const nanos = ([seconds, rest]) => (BigInt(seconds) * 1_000_000_000n + BigInt(rest)).toString();

// A value with its type. JavaScript has one kind of number: the SDK sends whole ones as integers.
function typed(value) {
  if (Array.isArray(value)) return ['array', value.map(typed)];
  if (typeof value === 'number') return Number.isInteger(value) ? ['int', String(value)] : ['double', value];
  return [{ string: 'string', boolean: 'bool' }[typeof value], value];
}

const attributes = (map) => Object.entries(map ?? {}).map(([k, v]) => [k, typed(v)]).sort(byText);

function describe(span) {
  const context = span.spanContext();
  return {
    traceId: context.traceId, spanId: context.spanId, parentSpanId: span.parentSpanContext?.spanId ?? '',
    traceState: context.traceState?.serialize() ?? '', name: span.name, kind: span.kind + 1,
    start: nanos(span.startTime), end: nanos(span.endTime), status: [span.status.code, span.status.message ?? ''],
    attributes: attributes(span.attributes),
    events: span.events.map((e) => [nanos(e.time), e.name, attributes(e.attributes)]).sort(byText),
    links: span.links.map((l) => [l.context.traceId, l.context.spanId, attributes(l.attributes)]).sort(byText),
    resource: attributes(span.resource.attributes),
    scope: [span.instrumentationScope.name, span.instrumentationScope.version ?? ''],
  };
}

async function send() {
  const { SpanKind, SpanStatusCode, trace, ROOT_CONTEXT, TraceFlags } = await import('@opentelemetry/api');
  const { ExportResultCode } = await import('@opentelemetry/core');
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http');
  const { resourceFromAttributes } = await import('@opentelemetry/resources');
  const { BasicTracerProvider, BatchSpanProcessor } = await import('@opentelemetry/sdk-trace-base');

  const said = [];
  const recorder = (exporter) => ({
    export(spans, done) {
      exporter.export(spans, (result) => {
        if (result.code !== ExportResultCode.SUCCESS) { console.error('export failed', result.error); process.exit(1); }
        said.push(...spans.map(describe));
        done(result);
      });
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  });

  for (const compression of ['none', 'gzip']) {
    const exporter = new OTLPTraceExporter({ url: `${url}/v1/traces`, compression });
    const provider = new BasicTracerProvider({
      resource: resourceFromAttributes({ 'service.name': `node-${compression}`, pid: 42, ratio: 0.25, tags: ['x', 'y'], up: true }),
      spanProcessors: [new BatchSpanProcessor(recorder(exporter))],
    });
    const tracer = provider.getTracer('tests.otel', '1.2.3');
    const other = { traceId: '0123456789abcdef0123456789abcdee', spanId: '0123456789abcdef', traceFlags: TraceFlags.SAMPLED, isRemote: true };
    const root = tracer.startSpan('root', {
      kind: SpanKind.SERVER,
      links: [{ context: other, attributes: { why: 'test', n: 1 } }],
      attributes: {
        text: 'plain', empty: '', unicode: 'naïve 日本 🚀', lines: 'a\nb\t"c" \\d', yes: true, no: false, zero: 0, minus: -1,
        exact: Number.MAX_SAFE_INTEGER, half: 0.5, tiny: 5e-324, negative: -2.25, texts: ['a', '', 'ü'], numbers: [1, 2, 3], one: [7],
        halves: [0.5, 1.5], truths: [true, false], nothing: [],
      },
    });
    const below = trace.setSpan(ROOT_CONTEXT, root);
    root.addEvent('plain');
    root.addEvent('with attributes', { text: 'x', n: 2, list: ['a', 'b'], ok: true, half: 0.5 });
    for (const kind of [SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]) {
      tracer.startSpan(`kind ${kind}`, { kind, attributes: { kind } }, below).end();
    }
    for (const status of [{ code: SpanStatusCode.OK }, { code: SpanStatusCode.ERROR, message: 'gone wrong: größe' }]) {
      const span = tracer.startSpan('status', {}, below);
      span.setStatus(status);
      span.end();
    }
    const failed = provider.getTracer('tests.other').startSpan('raises', {}, below);
    failed.recordException(new Error('expected'));
    failed.end();
    root.end();
    tracer.startSpan('continued', { kind: SpanKind.CONSUMER }, trace.setSpanContext(ROOT_CONTEXT, other)).end();
    await provider.forceFlush();
    await provider.shutdown();
  }
  if (said.length !== 20) throw new Error(`${said.length} spans exported`);
  writeFileSync(file, JSON.stringify(said));
  console.log(`${said.length} spans sent`);
}

function anyValue(value) {
  const [[kind, inner]] = Object.entries(value);
  if (kind === 'arrayValue') return ['array', (inner.values ?? []).map(anyValue)];
  return [kind.replace('Value', ''), kind === 'intValue' ? String(inner) : inner];
}

const listOf = (list) => (list ?? []).map((kv) => [kv.key, anyValue(kv.value)]).sort(byText);
const idOf = (text) => Buffer.from(text ?? '', 'base64').toString('hex');
const numberOf = (value, names, prefix) => (typeof value === 'number' ? value : Math.max(0, names.indexOf((value ?? '').replace(prefix, ''))));

async function received(traceId) {
  const answer = await fetch(`${url}/api/v2/traces/${traceId}`);
  if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`);
  const spans = [];
  for (const group of (await answer.json()).trace.resourceSpans ?? []) {
    for (const { scope, spans: list } of group.scopeSpans ?? []) {
      for (const span of list) {
        spans.push({
          traceId: idOf(span.traceId), spanId: idOf(span.spanId), parentSpanId: idOf(span.parentSpanId),
          traceState: span.traceState ?? '', name: span.name ?? '', kind: numberOf(span.kind, KINDS, 'SPAN_KIND_'),
          start: span.startTimeUnixNano, end: span.endTimeUnixNano,
          status: [numberOf(span.status?.code, STATUSES, 'STATUS_CODE_'), span.status?.message ?? ''],
          attributes: listOf(span.attributes),
          events: (span.events ?? []).map((e) => [e.timeUnixNano, e.name ?? '', listOf(e.attributes)]).sort(byText),
          links: (span.links ?? []).map((l) => [idOf(l.traceId), idOf(l.spanId), listOf(l.attributes)]).sort(byText),
          resource: listOf(group.resource?.attributes),
          scope: [scope?.name ?? '', scope?.version ?? ''],
        });
      }
    }
  }
  return spans;
}

async function check() {
  const said = JSON.parse(readFileSync(file, 'utf8'));
  let wrong = said.length === 0 ? 1 : 0;
  for (const traceId of new Set(said.map((s) => s.traceId))) {
    const order = (a, b) => byText(a.spanId, b.spanId);
    const want = said.filter((s) => s.traceId === traceId).sort(order);
    const got = (await received(traceId)).sort(order);
    if (want.length !== got.length) { console.log(`trace ${traceId}: ${want.length} spans sent, ${got.length} came back`); wrong++; continue; }
    want.forEach((w, i) => {
      for (const field of Object.keys(w)) {
        if (!isDeepStrictEqual(w[field], got[i][field])) {
          console.log(`trace ${traceId} span ${w.name} ${field}:\n  sent ${inspect(w[field], { depth: 9 })}\n  got  ${inspect(got[i][field], { depth: 9 })}`);
          wrong++;
        }
      }
    });
  }
  console.log(`${said.length} spans compared, ${wrong} differences`);
  process.exit(wrong ? 1 : 0);
}

await (action === 'send' ? send() : check());
