//! Query parameters: read once, checked with the parameter's name and the remedy in the error.

use std::collections::HashMap;

use super::ApiError;

/// The parameters of a request. If one occurs twice, the first counts.
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
        self.get(name)
            .map(|v| v.parse().map_err(|_| ApiError::bad_request(format!("invalid {name}: {v:?} is not a whole number of at least 0"))))
            .transpose()
    }

    /// A duration such as `1.5s` or `1h30m`, in nanoseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|v| {
                crate::syntax::duration::parse(v)
                    .ok_or_else(|| ApiError::bad_request(format!("invalid {name}: {v:?} is not a duration such as 100ms, 1.5s or 1h30m")))
            })
            .transpose()
    }

    /// `start` and `end` in Unix seconds, as nanoseconds; `None` if neither is there. `max_seconds` 0 means no bound.
    pub fn seconds_range(&self, max_seconds: u64) -> Result<Option<(i64, i64)>, ApiError> {
        let (start, end) = (self.number("start")?, self.number("end")?);
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
        if end <= start {
            return Err(ApiError::bad_request(format!("http parameter start must be before end. received start={start} end={end}")));
        }
        if max_seconds > 0 && end - start > max_seconds {
            let hours = max_seconds / 3600;
            return Err(ApiError::bad_request(format!(
                "range specified by start and end exceeds {hours}h0m0s. received start={start} end={end}"
            )));
        }
        let nanos = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        Ok(Some((nanos(start), nanos(end))))
    }
}
