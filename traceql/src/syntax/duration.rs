//! Duration literals: `1h30m`, `1.5s`, `2w`, and their printed form.
//!
//! Two notations are accepted, as in Tempo: Prometheus' (`1y2w3d4h5m6s7ms`: whole numbers,
//! units in falling order, each at most once) and Go's (`1.5h`, `10us`: fractions, any order,
//! nothing longer than hours).

use std::fmt::Write as _;

const NS_PER_US: i64 = 1_000;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_M: i64 = 60 * NS_PER_S;
const NS_PER_H: i64 = 60 * NS_PER_M;
const NS_PER_D: i64 = 24 * NS_PER_H;

/// Reads an unsigned duration, in nanoseconds. `None` if it is not one or exceeds `i64`.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    parse_prometheus(text).or_else(|| parse_go(text))
}

/// Prometheus' notation.
fn parse_prometheus(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] =
        [("y", 365 * NS_PER_D), ("w", 7 * NS_PER_D), ("d", NS_PER_D), ("h", NS_PER_H), ("m", NS_PER_M), ("s", NS_PER_S), ("ms", NS_PER_MS)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_while(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_while(after, |c| c.is_ascii_alphabetic());
        // Units already passed are gone from the iterator: this enforces order and uniqueness.
        let (_, ns) = units.find(|(name, _)| *name == unit)?;
        let value: i64 = digits.parse().ok()?;
        total = total.checked_add(value.checked_mul(*ns)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Go's notation (`time.ParseDuration`) without a sign.
fn parse_go(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (whole, after) = split_while(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_while(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = split_while(after, |c| c != '.' && !c.is_ascii_digit());
        let unit_ns = go_unit_ns(unit)?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit_ns.unsigned_abs())?)?;
        total = total.checked_add(fraction_ns(fraction, unit_ns))?;
        rest = after;
    }
    i64::try_from(total).ok()
}

fn go_unit_ns(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        // Both micro signs: U+00B5 and U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => NS_PER_US,
        "ms" => NS_PER_MS,
        "s" => NS_PER_S,
        "m" => NS_PER_M,
        "h" => NS_PER_H,
        _ => return None,
    })
}

/// The digits after the point, in nanoseconds, truncated.
fn fraction_ns(digits: &str, unit_ns: i64) -> u64 {
    let (mut value, mut scale): (i128, i128) = (0, 1);
    // Digits beyond the 18th are below a nanosecond in every unit.
    for digit in digits.bytes().take(18) {
        value = value * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * i128::from(unit_ns) / scale).unwrap_or(0)
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

/// Writes a duration of so many nanoseconds as Go does: `1h30m0s`, `1.5s`, `20ms`, `0s`.
#[must_use]
pub fn format(ns: i64) -> String {
    let mut out = String::from(if ns < 0 { "-" } else { "" });
    let ns = ns.unsigned_abs();
    let (s, m, h) = (NS_PER_S as u64, NS_PER_M as u64, NS_PER_H as u64);
    match ns {
        0 => out.push_str("0s"),
        1..1_000 => push_decimal(&mut out, ns, 1, "ns"),
        1_000..1_000_000 => push_decimal(&mut out, ns, NS_PER_US as u64, "\u{b5}s"),
        1_000_000..1_000_000_000 => push_decimal(&mut out, ns, NS_PER_MS as u64, "ms"),
        _ => {
            if ns >= h {
                let _ = write!(out, "{}h", ns / h);
            }
            if ns >= m {
                let _ = write!(out, "{}m", ns % h / m);
            }
            push_decimal(&mut out, ns % m, s, "s");
        }
    }
    out
}

/// Appends `ns / unit_ns` as a decimal number without trailing zeros.
fn push_decimal(out: &mut String, ns: u64, unit_ns: u64, unit: &str) {
    let _ = write!(out, "{}", ns / unit_ns);
    let rest = ns % unit_ns;
    if rest > 0 {
        let width = unit_ns.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push_str(unit);
}
