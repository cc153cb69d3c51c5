//! Jaeger's parameters, and the search they mean in TraceQL.

use std::{collections::BTreeMap, fmt::Write};

use tracehouse_engine::{Error, Result};

use crate::{metrics::time::parse_time, syntax::duration};

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// How far back a search goes that names no start (Jaeger's `max-lookback` of searches).
const LOOKBACK_DEFAULT: i64 = 48 * 3600 * SECOND;

/// How far back dependencies go when the request does not say.
const DEPENDENCIES_LOOKBACK_DEFAULT: i64 = 24 * 3600 * SECOND;

/// Traces of an answer when the request does not say.
const LIMIT_DEFAULT: usize = 100;

/// Decoded parameters in their order. Only `traceID` and `tag` mean something when they occur more than once.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query part of a URL.
    pub fn new(query: Option<&str>) -> Self {
        let all = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(all.map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// The value, unless absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values that are not empty.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(k, v)| k == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The value, or an error that asks for it.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::invalid(format!("parameter '{name}' is required")))
    }

    fn parsed<T>(&self, name: &str, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let read = |text: &str| read(text).ok_or_else(|| Error::invalid(format!("unable to parse param '{name}': {text:?} is not {what}")));
        self.get(name).map(read).transpose()
    }

    /// A whole number of some unit, in nanoseconds.
    fn in_units(&self, name: &str, what: &str, unit: i64) -> Result<Option<i64>> {
        self.parsed(name, what, |text| text.parse::<i64>().ok().filter(|n| *n >= 0)?.checked_mul(unit))
    }

    fn duration(&self, name: &str) -> Result<Option<i64>> {
        // 0 in any unit means no bound.
        Ok(self.parsed(name, "a duration such as 1.2s, 100ms or 500us", duration::parse)?.filter(|d| *d > 0))
    }

    fn limit(&self, name: &str, max: usize) -> Result<usize> {
        let limit = self.parsed(name, "a positive whole number", |text| text.parse::<usize>().ok().filter(|n| *n > 0))?;
        Ok(limit.unwrap_or(LIMIT_DEFAULT).min(max))
    }
}

/// A search for traces.
#[derive(Debug, PartialEq)]
pub struct TraceQuery {
    /// One span must meet all of these.
    pub traceql: String,
    /// Unix nanoseconds, inclusive.
    pub range: (i64, i64),
    /// Most traces.
    pub limit: usize,
}

/// What a search asks of one span.
#[derive(Debug, Default)]
struct Conditions<'a> {
    service: Option<&'a str>,
    operation: Option<&'a str>,
    tags: BTreeMap<String, String>,
    duration_min: Option<i64>,
    duration_max: Option<i64>,
}

impl TraceQuery {
    /// Of `/api/traces`: times in microseconds, `tags` as a JSON map, `tag` as `key:value`.
    pub fn v1(params: &Params, now: i64, limit_max: usize) -> Result<Self> {
        let mut tags = BTreeMap::new();
        for tag in params.all("tag") {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| Error::invalid(format!("malformed 'tag' parameter, expecting key:value, received: {tag}")))?;
            tags.insert(key.to_owned(), value.to_owned());
        }
        for text in params.all("tags") {
            tags.extend(tags_of(text, "tags")?);
        }
        let conditions = Conditions {
            service: Some(params.required("service")?),
            operation: params.get("operation"),
            tags,
            duration_min: params.duration("minDuration")?,
            duration_max: params.duration("maxDuration")?,
        };
        let micros = "in Unix microseconds";
        let (start, end) = (params.in_units("start", micros, MICROSECOND)?, params.in_units("end", micros, MICROSECOND)?);
        // "custom" is what Jaeger UI says when it sends a start itself.
        let lookback = params.get("lookback").and_then(duration::parse);
        Self::new(&conditions, (start, end), lookback, params.limit("limit", limit_max)?, now)
    }

    /// Of `/api/v3/trace-summaries`: `query.` before each name, times in RFC 3339, `attributes` as a JSON map.
    pub fn v3(params: &Params, now: i64, limit_max: usize) -> Result<Self> {
        let conditions = Conditions {
            service: params.get("query.serviceName"),
            operation: params.get("query.operationName"),
            tags: params.get("query.attributes").map(|text| tags_of(text, "query.attributes")).transpose()?.unwrap_or_default(),
            duration_min: params.duration("query.durationMin")?,
            duration_max: params.duration("query.durationMax")?,
        };
        let time = |name| params.parsed(name, "a time in RFC 3339", parse_time);
        let range = (time("query.startTimeMin")?, time("query.startTimeMax")?);
        Self::new(&conditions, range, None, params.limit("query.searchDepth", limit_max)?, now)
    }

    fn new(
        conditions: &Conditions,
        (start, end): (Option<i64>, Option<i64>),
        lookback: Option<i64>,
        limit: usize,
        now: i64,
    ) -> Result<Self> {
        let end = end.unwrap_or(now);
        let start = start.unwrap_or_else(|| end.saturating_sub(lookback.unwrap_or(LOOKBACK_DEFAULT)));
        if start > end {
            return Err(Error::invalid("the search ends before it starts: send a start before the end"));
        }
        if conditions.duration_min.zip(conditions.duration_max).is_some_and(|(min, max)| max < min) {
            return Err(Error::invalid("the longest duration is below the shortest: 'maxDuration' should be greater than 'minDuration'"));
        }
        Ok(Self { traceql: conditions.traceql(), range: (start, end), limit })
    }
}

impl Conditions<'_> {
    fn traceql(&self) -> String {
        let mut all = Vec::new();
        all.extend(self.service.map(|s| format!("resource.service.name = {}", quoted(s))));
        all.extend(self.operation.map(|o| format!("name = {}", quoted(o))));
        all.extend(self.tags.iter().map(|(key, value)| tag_condition(key, value)));
        all.extend(self.duration_min.map(|d| format!("duration >= {d}ns")));
        all.extend(self.duration_max.map(|d| format!("duration <= {d}ns")));
        format!("{{ {} }}", all.join(" && "))
    }
}

/// A tag as TraceQL. Jaeger's tags are text; an attribute of another type is met by its own text. What Jaeger calls tags but is
/// no attribute in OTLP has a name there of its own.
fn tag_condition(key: &str, value: &str) -> String {
    let text = quoted(value);
    match (key, value) {
        ("error", "true") => return "status = error".to_owned(),
        ("error", "false") => return "status != error".to_owned(),
        ("span.kind", kind) if kind_of(kind).is_ok() => return format!("kind = {kind}"),
        ("otel.status_code", "OK" | "ERROR" | "UNSET") => return format!("status = {}", value.to_lowercase()),
        ("otel.status_description", _) => return format!("statusMessage = {text}"),
        ("otel.scope.name" | "otel.library.name", _) => return format!("instrumentation:name = {text}"),
        ("otel.scope.version" | "otel.library.version", _) => return format!("instrumentation:version = {text}"),
        _ => {}
    }
    let name = format!(".{}", quoted(key));
    let mut any = format!("{name} = {text}");
    if value.parse::<i64>().is_ok() {
        let _ = write!(any, " || {name} = {value}");
    }
    if let Some(number) = value.parse::<f64>().ok().filter(|f| f.is_finite()) {
        // Always with a point, which makes it a float for TraceQL.
        let _ = write!(any, " || {name} = {number:?}");
    }
    if matches!(value, "true" | "false") {
        let _ = write!(any, " || {name} = {value}");
    }
    format!("({any})")
}

/// A JSON map of texts; other values are taken as their own text.
fn tags_of(text: &str, name: &str) -> Result<BTreeMap<String, String>> {
    let map: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).map_err(|e| {
        Error::invalid(format!("malformed '{name}' parameter, cannot read JSON: {e}: send a map such as {{\"http.method\":\"GET\"}}"))
    })?;
    let plain = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(map.into_iter().map(|(key, value)| (key, plain(value))).collect())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A kind of span as it is called in TraceQL and SQL.
pub fn kind_of(text: &str) -> Result<&'static str> {
    const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    KINDS
        .into_iter()
        .find(|k| *k == text)
        .ok_or_else(|| Error::invalid(format!("unsupported span kind: '{text}': use one of {}", KINDS.join(", "))))
}

/// The range of `/api/dependencies`, in Unix nanoseconds, inclusive.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependencies {
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

impl Dependencies {
    /// Reads `endTs` and `lookback`, both in milliseconds.
    pub fn new(params: &Params, now: i64) -> Result<Self> {
        let end = params.in_units("endTs", "in Unix milliseconds", MILLISECOND)?.unwrap_or(now);
        let lookback = params.in_units("lookback", "a number of milliseconds", MILLISECOND)?.unwrap_or(DEPENDENCIES_LOOKBACK_DEFAULT);
        Ok(Self { start: end.saturating_sub(lookback), end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000 * SECOND;

    fn v1(query: &str) -> Result<TraceQuery> {
        TraceQuery::v1(&Params::new(Some(query)), NOW, 1500)
    }

    #[test]
    fn a_search_becomes_traceql_that_can_be_read() {
        let query = v1("service=a%22b&operation=GET+/x&tags=%7B%22http.status_code%22%3A%22500%22%2C%22error%22%3A%22true%22%7D&minDuration=1.5ms&maxDuration=2s&start=1000000&end=2000000&limit=20&lookback=custom").unwrap();
        assert_eq!(
            query.traceql,
            r#"{ resource.service.name = "a\"b" && name = "GET /x" && status = error && (."http.status_code" = "500" || ."http.status_code" = 500 || ."http.status_code" = 500.0) && duration >= 1500000ns && duration <= 2000000000ns }"#
        );
        assert_eq!((query.range, query.limit), ((SECOND, 2 * SECOND), 20));
        crate::search::parse(&query.traceql).unwrap();
        let tags = "service=a&tag=k:v:w&tag=ok:true&tag=span.kind:server&tag=otel.scope.name:lib&tag=f:-0.25";
        let query = v1(tags).unwrap();
        assert!(query.traceql.contains(r#"(."k" = "v:w")"#) && query.traceql.contains(r#"."ok" = true"#), "{}", query.traceql);
        assert!(query.traceql.contains("kind = server") && query.traceql.contains(r#"instrumentation:name = "lib""#), "{}", query.traceql);
        crate::search::parse(&query.traceql).unwrap();
        assert_eq!((query.range, query.limit), ((NOW - LOOKBACK_DEFAULT, NOW), 100));
        assert_eq!(v1("service=a&lookback=1h&limit=9999").unwrap().range.0, NOW - 3600 * SECOND);
        assert_eq!(v1("service=a&limit=9999").unwrap().limit, 1500);
    }

    #[test]
    fn the_third_version_names_things_otherwise() {
        let text = "query.serviceName=a&query.startTimeMin=1970-01-01T00:00:01Z&query.startTimeMax=1970-01-01T00:00:02.5Z&query.searchDepth=7&query.durationMin=1s&query.attributes=%7B%22a%22%3A1%7D";
        let query = TraceQuery::v3(&Params::new(Some(text)), NOW, 1500).unwrap();
        assert_eq!((query.range, query.limit), ((SECOND, 2_500_000_000), 7));
        assert!(query.traceql.starts_with(r#"{ resource.service.name = "a" && (."a" = "1" || ."a" = 1"#), "{}", query.traceql);
        crate::search::parse(&query.traceql).unwrap();
        let all = TraceQuery::v3(&Params::new(None), NOW, 1500).unwrap();
        crate::search::parse(&all.traceql).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, part) in [
            ("", "'service' is required"),
            ("service=a&start=x", "'start'"),
            ("service=a&end=-5", "'end'"),
            ("service=a&end=99999999999999999", "'end'"),
            ("service=a&limit=0", "'limit'"),
            ("service=a&minDuration=5", "'minDuration'"),
            ("service=a&minDuration=2s&maxDuration=1s", "'maxDuration'"),
            ("service=a&tags=x", "'tags'"),
            ("service=a&tag=x", "'tag'"),
            ("service=a&start=3&end=2", "ends before"),
        ] {
            let text = v1(query).unwrap_err().to_string();
            assert!(text.contains(part), "{query}: {text}");
        }
        assert!(kind_of("SERVER").is_err());
        let hour = Dependencies::new(&Params::new(Some("endTs=7200000&lookback=3600000")), NOW).unwrap();
        assert_eq!(hour, Dependencies { start: 3600 * SECOND, end: 7200 * SECOND });
        assert!(Dependencies::new(&Params::new(Some("endTs=1.5")), NOW).is_err());
    }
}
