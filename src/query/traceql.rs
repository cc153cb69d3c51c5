//! `tracehouse traceql`: the answer as Tempo's JSON, or as a row for each span shown (of a metrics query: for each value).

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array},
    error::ArrowError,
};
use tracehouse_engine::{TenantId, clock};
use tracehouse_sql::Sessions;
use tracehouse_traceql::{
    RangeRequest, SearchRequest,
    metrics::{self, time::default_step},
    result::search::{SearchResponse, SpanSummary, TraceSummary},
    syntax::Root,
};

use super::{output::Output, question, source};
use crate::{
    cli::{Format, TraceqlArgs},
    error::{Error, Result},
    roles,
};

/// Asks and writes the answer.
pub async fn run(args: &TraceqlArgs) -> Result<()> {
    let output = Output::new(args.source.format, args.source.output.as_deref())?;
    let query = question(&args.query)?;
    let parsed = tracehouse_traceql::parse(&query)?;
    if matches!(parsed.root, Root::Metrics(_)) {
        return run_metrics(args, query, &output).await;
    }
    let request = SearchRequest { query, range: range(args)?, limit: args.limit as usize, spans_per_span_set: args.spss as usize };
    let (engine, tenant) = source::open(&args.source).await?;
    let sessions = roles::sessions(&Default::default(), engine)?;
    if args.explain {
        return output.write_text(&(tracehouse_traceql::explain(&sessions, &tenant, &request).await? + "\n"));
    }
    let answer = tracehouse_traceql::search(&sessions, &tenant, &request).await?;
    if args.source.format == Format::Json {
        let text = serde_json::to_string_pretty(&answer).map_err(|e| Error::failed(format!("cannot write the answer as JSON: {e}")))?;
        return output.write_text(&(text + "\n"));
    }
    let rows = spans(&answer)?;
    output.write(rows.schema(), futures::stream::iter([Ok::<_, Error>(rows)])).await?;
    Ok(())
}

/// A metrics query, over the last hour if no range is given.
async fn run_metrics(args: &TraceqlArgs, query: String, output: &Output) -> Result<()> {
    const HOUR: i64 = 3600 * 1_000_000_000;
    let (start, end) = range(args)?.unwrap_or((0, i64::MAX));
    let now = clock::now_unix_nanos() as i64;
    let end = if end == i64::MAX { now } else { end };
    let start = if start == 0 { end.saturating_sub(HOUR) } else { start };
    let step = match args.step {
        Some(step) => i64::try_from(step.as_nanos()).ok().filter(|s| *s > 0).ok_or_else(|| Error::usage("--step must be positive"))?,
        None => default_step(start, end),
    };
    metrics::time::check_range(start, end, 0)?;
    metrics::time::check_step(start, end, step, tracehouse_traceql::Config::default().max_metrics_intervals)?;
    let (engine, tenant) = source::open(&args.source).await?;
    let sessions = roles::sessions(&Default::default(), engine)?;
    let request = RangeRequest { query, start, end, step, exemplars: None, series_max: 0 };
    if args.explain {
        return output.write_text(&metrics::explain(&sessions, &tenant, &request).await?);
    }
    if args.source.format == Format::Json {
        let answer = tracehouse_traceql::query_range(&sessions, &tenant, &request).await?;
        let text = serde_json::to_string_pretty(&answer).map_err(|e| Error::failed(format!("cannot write the answer as JSON: {e}")))?;
        return output.write_text(&(text + "\n"));
    }
    write_values(&sessions, &tenant, &request, output).await
}

/// The values of a metrics query as rows: what SQL's `traceql()` gives.
async fn write_values(sessions: &Sessions, tenant: &TenantId, request: &RangeRequest, output: &Output) -> Result<()> {
    let RangeRequest { query, start, end, step, .. } = request;
    let step = format!("{step}ns");
    let sql = format!("select * from traceql('{}', {start}, {end}, '{step}') order by labels, time", query.replace('\'', "''"));
    let frame = sessions.sql(tenant, &sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    output.write(schema, sessions.stream(frame).await?).await?;
    Ok(())
}

/// Unix nanoseconds; open ends reach as far as times do.
fn range(args: &TraceqlArgs) -> Result<Option<(i64, i64)>> {
    let nanos = |t: u64, flag: &str| i64::try_from(t).map_err(|_| Error::usage(format!("--{flag} is after the year 2262")));
    let start = args.start.map(|t| nanos(t, "start")).transpose()?;
    let end = args.end.map(|t| nanos(t, "end")).transpose()?;
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start >= end => Err(Error::usage("--start must be before --end")),
        _ => Ok(Some((start.unwrap_or(0), end.unwrap_or(i64::MAX)))),
    }
}

/// One row for each span that the answer shows.
pub fn spans(answer: &SearchResponse) -> Result<RecordBatch> {
    let rows: Vec<(&TraceSummary, u32, &SpanSummary)> = answer
        .traces
        .iter()
        .flat_map(|t| t.span_sets.iter().map(move |set| (t, set)))
        .flat_map(|(t, set)| set.spans.iter().map(move |span| (t, set.matched, span)))
        .collect();
    let text = |of: &dyn Fn(&(&TraceSummary, u32, &SpanSummary)) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>())
    };
    let time = |of: &dyn Fn(&(&TraceSummary, u32, &SpanSummary)) -> u64| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| of(row) as i64)).with_timezone("UTC"))
    };
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let columns: [(&str, ArrayRef); 10] = [
        ("trace_id", text(&|(t, _, _)| t.trace_id.clone())),
        ("root_service", text(&|(t, _, _)| t.root_service_name.clone())),
        ("root_name", text(&|(t, _, _)| t.root_trace_name.clone())),
        ("trace_start", time(&|(t, _, _)| t.start_time_unix_nano)),
        ("trace_ms", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(t, _, _)| i64::from(t.duration_ms))))),
        ("matched", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, matched, _)| *matched)))),
        ("span_id", text(&|(_, _, s)| s.span_id.clone())),
        ("span_start", time(&|(_, _, s)| s.start_time_unix_nano)),
        ("span_ms", Arc::new(arrow::array::Float64Array::from_iter_values(rows.iter().map(|(_, _, s)| millis(s.duration_nanos))))),
        ("fields", text(&|(_, _, s)| fields(s))),
    ];
    RecordBatch::try_from_iter(columns).map_err(|e: ArrowError| e.into())
}

/// What the query asked about, as `key=value`.
fn fields(span: &SpanSummary) -> String {
    let name = (!span.name.is_empty()).then(|| format!("name={}", span.name));
    let attributes = span.attributes.iter().map(|a| {
        // An OTLP value is an object with one field, named for its type.
        let value = a.value.as_object().and_then(|o| o.values().next()).unwrap_or(&a.value);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={value}", a.key)
    });
    name.into_iter().chain(attributes).collect::<Vec<_>>().join(" ")
}
