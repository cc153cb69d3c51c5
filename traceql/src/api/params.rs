//! Query parameters: read once, checked with the parameter's name and the remedy in the error.

use std::collections::{HashMap, HashSet};

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::ApiError;
use crate::metrics::time::parse_time;

/// Parameters that mean something to one of the endpoints; others are ignored, as Tempo does.
const KNOWN: &[&str] = &[
    "ancestor_depth",
    "blockEnd",
    "blockID",
    "blockStart",
    "end",
    "exemplars",
    "groupBy",
    "keep_hierarchy",
    "limit",
    "match_depth",
    "maxDuration",
    "maxSeries",
    "minDuration",
    "mode",
    "q",
    "query",
    "scope",
    "since",
    "spss",
    "start",
    "step",
    "tags",
];

/// Latest time in Unix seconds that is taken for one: the year 5138. What is larger is in another unit.
const SECONDS_MAX: u64 = 99_999_999_999;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Refuses a request that gives a parameter twice: which of the two is meant cannot be known.
pub async fn once(request: Request<Body>, next: Next) -> Response {
    let mut seen = HashSet::new();
    for (name, _) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        if KNOWN.contains(&name.as_ref()) && !seen.insert(name.clone()) {
            return ApiError::bad_request(format!("invalid {name}: it is given more than once: give it once")).into_response();
        }
    }
    next.run(request).await
}

/// The parameters of a request, each once (see [`once`]).
#[derive(Clone, Debug, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// Reads the query part of a URL.
    pub fn new(query: Option<&str>) -> Self {
        let mut all = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            all.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(all)
    }

    /// Parameters by name; empty values count as absent.
    pub fn of(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The value, unless absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// All parameters that have a value but these, sorted by name.
    pub fn others(&self, known: &[&str]) -> Vec<(String, String)> {
        let mut others: Vec<_> =
            self.0.iter().filter(|(k, v)| !known.contains(&k.as_str()) && !v.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
        others.sort();
        others
    }

    /// A whole number, not negative.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        // Not `+5`: in a URL the plus is a blank, so whoever sends one means something else.
        let read = |v: &str| v.parse().ok().filter(|_| !v.starts_with('+'));
        self.get(name)
            .map(|v| read(v).ok_or_else(|| ApiError::bad_request(format!("invalid {name}: {v:?} is not a whole number of at least 0"))))
            .transpose()
    }

    /// A truth value, in the forms Go reads.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|v| match v {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(ApiError::bad_request(format!("invalid {name}: {v:?} is neither true nor false"))),
            })
            .transpose()
    }

    /// A time in Unix seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let number = self.number(name)?;
        if let Some(n) = number.filter(|n| *n > SECONDS_MAX) {
            return Err(ApiError::bad_request(format!(
                "invalid {name}: {n} is too large for Unix seconds: send seconds, not milliseconds or nanoseconds"
            )));
        }
        Ok(number)
    }

    /// A duration such as `1.5s` or `1h30m`, or `0`, in nanoseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|v| {
                (v == "0")
                    .then_some(0)
                    .or_else(|| crate::syntax::duration::parse(v))
                    .ok_or_else(|| ApiError::bad_request(format!("invalid {name}: {v:?} is not a duration such as 100ms, 1.5s or 1h30m")))
            })
            .transpose()
    }

    /// `start` and `end` of a trace by id, which count only if both are there: one of them, or 0, says nothing, as in Tempo.
    pub fn both_seconds(&self) -> Result<Option<(i64, i64)>, ApiError> {
        let given = |name| Ok::<_, ApiError>(self.seconds(name)?.is_some_and(|n| n > 0));
        let (start, end) = (given("start")?, given("end")?);
        if start && end { self.seconds_range(0) } else { Ok(None) }
    }

    /// `start` and `end` in Unix seconds, as nanoseconds; `None` if neither is there or both are 0. `max_seconds` 0 means no bound.
    pub fn seconds_range(&self, max_seconds: u64) -> Result<Option<(i64, i64)>, ApiError> {
        let (start, end) = (self.seconds("start")?.unwrap_or(0), self.seconds("end")?.unwrap_or(0));
        if (start, end) == (0, 0) {
            return Ok(None);
        }
        if end <= start {
            return Err(not_before(start, end));
        }
        Ok(Some(bounded(start, end, max_seconds)?))
    }

    /// The last `since`, which counts before `start` and `end`, in nanoseconds.
    pub fn since_range(&self, now: i64, max_seconds: u64) -> Result<Option<(i64, i64)>, ApiError> {
        let Some(since) = self.duration("since")?.filter(|since| *since > 0) else { return Ok(None) };
        let seconds = |nanos: i64| nanos.max(0) as u64 / SECOND;
        bounded(seconds(now.saturating_sub(since)), seconds(now), max_seconds).map(Some)
    }

    /// `start` and `end` in any form that metrics take, as whole seconds in nanoseconds, or the last `since`; `None` if nothing
    /// of it is there. `max_seconds` 0 means no bound.
    pub fn time_range(&self, now: i64, max_seconds: u64) -> Result<Option<(i64, i64)>, ApiError> {
        if let Some(range) = self.since_range(now, max_seconds)? {
            return Ok(Some(range));
        }
        let (start, end) = match (self.time("start")?, self.time("end")?) {
            (Some(start), Some(end)) => (start.max(0) as u64 / SECOND, end.max(0) as u64 / SECOND),
            (None, None) => return Ok(None),
            _ => return Err(ApiError::bad_request("only one of start and end is there: send both or neither")),
        };
        if (start, end) == (0, 0) {
            return Ok(None);
        }
        if end < start {
            return Err(not_before(start, end));
        }
        Ok(Some(bounded(start, end, max_seconds)?))
    }

    /// A time in Unix seconds, Unix nanoseconds or RFC 3339, as nanoseconds.
    pub fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text: &str| {
            parse_time(text).ok_or_else(|| {
                ApiError::bad_request(format!("invalid {name}: {text:?} is not in Unix seconds, Unix nanoseconds or RFC 3339"))
            })
        };
        self.get(name).map(read).transpose()
    }
}

fn not_before(start: u64, end: u64) -> ApiError {
    ApiError::bad_request(format!("http parameter start must be before end. received start={start} end={end}"))
}

/// Both seconds as nanoseconds, if they are not too far from each other.
fn bounded(start: u64, end: u64, max_seconds: u64) -> Result<(i64, i64), ApiError> {
    if max_seconds > 0 && end - start > max_seconds {
        let hours = max_seconds / 3600;
        return Err(ApiError::bad_request(format!(
            "range specified by start and end exceeds {hours}h0m0s. received start={start} end={end}"
        )));
    }
    let nanos = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(SECOND as i64);
    Ok((nanos(start), nanos(end)))
}
