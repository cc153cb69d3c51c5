//! The time model of metrics: how a range is cut into intervals, and which range a request means.
//!
//! An interval is open on its left and closed on its right, and a sample's timestamp is the end of its interval. Only a
//! span's start counts.

use tracehouse_engine::{Error, Result};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;

/// The intervals of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Where the first interval begins, in Unix nanoseconds.
    pub start: i64,
    /// Length of an interval in nanoseconds; at least 1.
    pub step: i64,
    /// Number of intervals; at least 1.
    pub count: usize,
    /// One interval for the whole range (an instant query).
    pub instant: bool,
}

impl Intervals {
    /// The intervals of a range query: the range is widened to whole steps, and one interval comes before it, so that the
    /// first sample lies at the aligned start.
    pub fn range(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let from = start.div_euclid(step) * step;
        let to = end.div_euclid(step).saturating_add(i64::from(end.rem_euclid(step) != 0)).saturating_mul(step);
        let count = (to.saturating_sub(from) / step).max(0) as usize + 1;
        Self { start: from.saturating_sub(step), step, count, instant: false }
    }

    /// The one interval of an instant query.
    pub fn instant(start: i64, end: i64) -> Self {
        Self { start, step: end.saturating_sub(start).max(1), count: 1, instant: true }
    }

    /// The end of an interval, which is its sample's timestamp, in Unix nanoseconds.
    pub fn end_of(&self, interval: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(interval as i64 + 1))
    }

    /// Where the last interval ends, in Unix nanoseconds.
    pub fn end(&self) -> i64 {
        self.end_of(self.count - 1)
    }

    /// Length of an interval in seconds.
    pub fn step_seconds(&self) -> f64 {
        self.step as f64 / SECOND as f64
    }
}

/// The step when the request names none: about 240 intervals, rounded down to what reads well.
pub fn default_step(start: i64, end: i64) -> i64 {
    let range = end.saturating_sub(start).max(0);
    let step = range / 240;
    if range < MINUTE {
        let unit = SECOND / 20;
        return (step / unit * unit).max(unit);
    }
    let units = [60 * MINUTE, 5 * MINUTE, MINUTE, 15 * SECOND, 5 * SECOND, SECOND];
    let unit = units.into_iter().find(|u| step > *u).unwrap_or(SECOND);
    (step / unit * unit).max(SECOND)
}

/// Checks a range as Tempo does. `duration_max` and `intervals_max` 0 mean no bound.
pub fn check_range(start: i64, end: i64, duration_max_seconds: u64) -> Result<()> {
    if start <= 0 {
        return Err(Error::invalid("start required: send start (and end) in Unix seconds, or since"));
    }
    if end < start {
        return Err(Error::invalid(format!("end must be greater than start: received start={start} end={end}")));
    }
    let max = i64::try_from(duration_max_seconds).unwrap_or(i64::MAX).saturating_mul(SECOND);
    if max > 0 && end - start > max {
        let text = go_duration(duration_max_seconds);
        return Err(Error::invalid(format!("metrics query time range exceeds the maximum allowed duration of {text}")));
    }
    Ok(())
}

/// Checks that a range is not cut into too many intervals.
pub fn check_step(start: i64, end: i64, step: i64, intervals_max: u64) -> Result<()> {
    let range = end.saturating_sub(start);
    let text = crate::syntax::duration::format;
    if intervals_max > 0 && (step <= 0 || (range / step) as u64 > intervals_max) {
        let minimum = range / i64::try_from(intervals_max).unwrap_or(i64::MAX);
        let (step, minimum) = (text(step.max(0)), text(minimum.max(1)));
        return Err(Error::invalid(format!("step of {step} is too small, minimum step for given range is {minimum}")));
    }
    if step <= 0 {
        return Err(Error::invalid("step must be greater than 0"));
    }
    Ok(())
}

/// Whole seconds as Go prints a duration: `24h0m0s`.
fn go_duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// Reads a time: Unix seconds (up to 10 digits), Unix nanoseconds (more digits), seconds with a fraction, or RFC 3339.
pub fn parse_time(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return if text.len() <= 10 { number.checked_mul(SECOND) } else { Some(number) };
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let (whole, fraction) = text.split_once('.')?;
        let fraction = format!("{fraction:0<9}");
        let nanos: i64 = fraction.get(..9)?.parse().ok()?;
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        return whole.checked_mul(SECOND)?.checked_add(nanos);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Reads a step: seconds, perhaps with a fraction, or a duration such as `1m30s`; nanoseconds.
pub fn parse_step(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let nanos = seconds * SECOND as f64;
        return (seconds.is_finite() && nanos.abs() < i64::MAX as f64).then_some(nanos.round() as i64);
    }
    match text.strip_prefix('-') {
        Some(rest) => crate::syntax::duration::parse(rest).map(|d| -d),
        None => crate::syntax::duration::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_widened_to_whole_steps() {
        let of = |start: i64, end: i64, step: i64| {
            let i = Intervals::range(start * SECOND, end * SECOND, step * SECOND);
            (i.end_of(0) / SECOND, i.end() / SECOND, i.count)
        };
        // Recorded answers of Tempo: metrics-rate-001, params-037, params-041, errors-104.
        assert_eq!(of(1_768_478_400, 1_768_485_600, 300), (1_768_478_400, 1_768_485_600, 25));
        assert_eq!(of(1_768_478_400, 1_768_485_600, 10_800), (1_768_478_400, 1_768_489_200, 2));
        assert_eq!(of(1_768_481_407, 1_768_481_468, 15), (1_768_481_400, 1_768_481_475, 6));
        assert_eq!(of(1_768_478_500, 1_768_478_500, 300), (1_768_478_400, 1_768_478_700, 2));
        let instant = Intervals::instant(10, 30);
        assert_eq!((instant.count, instant.end(), instant.step), (1, 30, 20));
    }

    #[test]
    fn default_steps_read_well() {
        let cases = [(30, 100), (60, 1000), (1500, 5000), (7200, 30_000), (86_400, 300_000), (604_800, 2_400_000)];
        for (range, expected_ms) in cases {
            assert_eq!(default_step(0, range * SECOND) / 1_000_000, expected_ms, "range of {range} s");
        }
        assert_eq!(default_step(0, 0), SECOND / 20);
    }

    #[test]
    fn times_and_steps_are_read_in_all_forms() {
        assert_eq!(parse_time("1768478400"), Some(1_768_478_400 * SECOND));
        assert_eq!(parse_time("1768478400000000000"), Some(1_768_478_400 * SECOND));
        assert_eq!(parse_time("1768478400.25"), Some(1_768_478_400 * SECOND + SECOND / 4));
        assert_eq!(parse_time("2026-01-15T12:00:00Z"), Some(1_768_478_400 * SECOND));
        assert_eq!(parse_time("2026-01-15T13:00:00.5+01:00"), Some(1_768_478_400 * SECOND + SECOND / 2));
        assert_eq!((parse_time("now"), parse_time(""), parse_time("-5")), (None, None, None));
        assert_eq!((parse_step("60"), parse_step("0.5"), parse_step("1m")), (Some(60 * SECOND), Some(SECOND / 2), Some(60 * SECOND)));
        assert_eq!((parse_step("1500ms"), parse_step("-5s"), parse_step("abc")), (Some(3 * SECOND / 2), Some(-5 * SECOND), None));
    }

    #[test]
    fn limits_name_the_remedy() {
        let hours = |h: i64| h * 3600 * SECOND;
        assert!(check_range(1, hours(24) + 1, 86_400).is_ok());
        let e = check_range(1, hours(25), 86_400).unwrap_err().to_string();
        assert_eq!(e, "metrics query time range exceeds the maximum allowed duration of 24h0m0s");
        let e = check_step(0, hours(2), SECOND / 1000, 10_000).unwrap_err().to_string();
        assert_eq!(e, "step of 1ms is too small, minimum step for given range is 720ms");
        assert!(check_step(0, hours(2), 720 * SECOND / 1000, 10_000).is_ok());
    }
}
