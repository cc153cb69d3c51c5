//! The vocabulary as a file: lines of JSON, compressed with zstd (which carries a checksum of them). Standard formats both, so
//! `zstd -dc` and DuckDB's `read_json` read it too.
//!
//! The first line is `{"tracehouse_vocabulary":1,"spans":N}`, 1 being the version; then one line an [`Entry`]. A reader
//! ignores fields it does not know and refuses another version.

use std::io::{BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};

use super::{Entry, Scope, ValueType, Vocabulary};
use crate::{
    error::{Error, Result},
    scan::AttributeScope,
};

const VERSION: u32 = 1;

/// zstd's level 3: the file is small beside the block, and higher levels gain little on it.
const LEVEL: i32 = 3;

/// Largest file that is read, decompressed. What [`super::Bounds`] allow for a few hundred attributes is far below.
const DECODED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Largest window a file may ask the decoder to hold, as a power of two (8 MiB: zstd's own default for decoders).
const WINDOW_LOG_MAX: u32 = 23;

#[derive(Serialize, Deserialize)]
struct Header {
    tracehouse_vocabulary: u32,
    spans: u64,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    scope: &'a str,
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    r#type: &'a str,
    count: u64,
    complete: bool,
    #[serde(default)]
    values: Vec<(Box<str>, u64)>,
}

impl Vocabulary {
    /// The bytes of the file.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let failed = |e| Error::internal("vocabulary cannot be compressed").with_source(e);
        let mut out = zstd::Encoder::new(Vec::new(), LEVEL).map_err(failed)?;
        out.include_checksum(true).map_err(failed)?;
        let mut line = |json: serde_json::Result<Vec<u8>>| {
            let mut json = json.map_err(|e| Error::internal("vocabulary cannot be written as JSON").with_source(e))?;
            json.push(b'\n');
            out.write_all(&json).map_err(failed)
        };
        line(serde_json::to_vec(&Header { tracehouse_vocabulary: VERSION, spans: self.spans }))?;
        for e in &self.entries {
            line(serde_json::to_vec(&Line {
                scope: scope_name(e.scope),
                name: (&*e.name).into(),
                r#type: e.value_type.as_str(),
                count: e.count,
                complete: e.complete,
                values: e.values.clone(),
            }))?;
        }
        out.finish().map_err(failed)
    }

    /// Reads the bytes of a file. Corrupt bytes, another version and files beyond the bounds are errors.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = zstd::Decoder::new(bytes).map_err(corrupt)?.single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(corrupt)?;
        Self::from_lines(BufReader::new(decoder.take(DECODED_BYTES_MAX)))
    }

    /// Reads the lines inside a file.
    pub fn from_lines(mut lines: impl BufRead) -> Result<Self> {
        let mut line = Vec::new();
        let mut next = |line: &mut Vec<u8>| -> Result<bool> {
            line.clear();
            Ok(lines.read_until(b'\n', line).map_err(corrupt)? > 0)
        };
        next(&mut line)?;
        let header: Header = serde_json::from_slice(&line).map_err(|e| Error::data("vocabulary has no header").with_source(e))?;
        if header.tracehouse_vocabulary != VERSION {
            return Err(Error::data(format!("vocabulary has version {}, known is {VERSION}", header.tracehouse_vocabulary)));
        }
        let mut entries = Vec::new();
        while next(&mut line)? {
            if line.last() != Some(&b'\n') {
                return Err(Error::data(format!("vocabulary is cut off or larger than {DECODED_BYTES_MAX} bytes")));
            }
            let line: Line<'_> = serde_json::from_slice(&line).map_err(|e| Error::data("vocabulary has a bad line").with_source(e))?;
            entries.push(entry(line)?);
        }
        // Look-ups rely on the order; a file of another writer may have another.
        entries.sort_by(|a: &Entry, b| (a.scope, &a.name, a.value_type).cmp(&(b.scope, &b.name, b.value_type)));
        Ok(Self { spans: header.spans, entries })
    }
}

fn corrupt(e: std::io::Error) -> Error {
    Error::data("vocabulary is corrupt").with_source(e)
}

fn entry(line: Line<'_>) -> Result<Entry> {
    let unknown = |what: &str, found: &str| Error::data(format!("vocabulary names the unknown {what} {found:?}"));
    let value_type = ValueType::ALL.into_iter().find(|t| t.as_str() == line.r#type).ok_or_else(|| unknown("type", line.r#type))?;
    let scope = SCOPES.into_iter().find(|s| scope_name(*s) == line.scope).ok_or_else(|| unknown("scope", line.scope))?;
    Ok(Entry { scope, name: line.name.into(), value_type, count: line.count, complete: line.complete, values: line.values })
}

const SCOPES: [Scope; 6] = [
    None,
    Some(AttributeScope::Span),
    Some(AttributeScope::Resource),
    Some(AttributeScope::Instrumentation),
    Some(AttributeScope::Event),
    Some(AttributeScope::Link),
];

/// The name of a scope in files and tables.
pub fn scope_name(scope: Scope) -> &'static str {
    scope.map_or("intrinsic", AttributeScope::as_str)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Bounds, Collector},
        *,
    };
    use crate::{
        derive::derive,
        trace::{
            Value,
            builder::{array, attributes, resource, scope, span, text, trace},
        },
    };

    fn vocabulary(bounds: Bounds) -> Vocabulary {
        let mut spans: Vec<_> = (1..=3).map(|i| span(i, 0)).collect();
        for (i, span) in (0..).zip(&mut spans) {
            span.attributes = attributes([
                ("number", Value::IntValue(i)),
                ("half", Value::DoubleValue(0.5)),
                ("tags", array([text("a"), text("b")])),
                ("mixed", array([text("a"), Value::IntValue(1)])),
            ]);
        }
        let mut collector = Collector::new(bounds);
        let trace = trace([
            resource([("service.name", text("cart")), ("zone", text("eu \"1\"\n"))], [scope("lib", [], spans)]),
            resource([("service.name", Value::IntValue(7))], [scope("lib", [("x", Value::BoolValue(true))], [span(4, 1)])]),
        ]);
        collector.add(&crate::grouping::Grouped::as_is(&trace), &derive(&trace));
        collector.finish()
    }

    /// Type, count, whether complete, values.
    type Found = (ValueType, u64, bool, Vec<(String, u64)>);

    fn of(vocabulary: &Vocabulary, scope: Scope, name: &str) -> Vec<Found> {
        let values = |e: &Entry| e.values.iter().map(|(v, n)| (v.to_string(), *n)).collect();
        vocabulary.of(scope, name).iter().map(|e| (e.value_type, e.count, e.complete, values(e))).collect()
    }

    #[test]
    fn values_are_counted_by_type() {
        let v = vocabulary(Bounds::FILE);
        let (span, resource) = (Some(AttributeScope::Span), Some(AttributeScope::Resource));
        let one = |text: &str, n| vec![(text.to_owned(), n)];
        assert_eq!(v.spans(), 4);
        assert_eq!(of(&v, span, "half"), [(ValueType::Float, 3, true, one("0.5", 3))]);
        assert_eq!(of(&v, span, "tags"), [(ValueType::String, 6, true, vec![("a".into(), 3), ("b".into(), 3)])]);
        assert_eq!(of(&v, span, "mixed"), [(ValueType::Other, 3, true, vec![])]);
        assert_eq!(of(&v, span, "number")[0].3.len(), 3);
        // A resource whose service.name is no text counts as one with the empty text.
        let services = vec![("cart".to_owned(), 3), (String::new(), 1)];
        let mut found = of(&v, resource, "service.name");
        found[0].3.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        assert_eq!(found, [(ValueType::String, 4, true, services), (ValueType::Int, 1, true, one("7", 1))]);
        assert_eq!(of(&v, Some(AttributeScope::Instrumentation), "x"), [(ValueType::Bool, 1, true, one("true", 1))]);
        assert_eq!(of(&v, None, "status"), [(ValueType::Int, 4, true, one("0", 4))]);
        assert_eq!(of(&v, None, "instrumentation:name"), [(ValueType::String, 4, true, one("lib", 4))]);
        assert!(of(&v, span, "nope").is_empty());
    }

    #[test]
    fn too_many_values_leave_a_sample() {
        let v = vocabulary(Bounds { values: 2, values_min: 1, bytes: 100 });
        assert_eq!(of(&v, Some(AttributeScope::Span), "number"), [(ValueType::Int, 3, false, vec![("0".into(), 1)])]);
        assert_eq!(of(&v, None, "name")[0].1, 4);
        let names = vocabulary(Bounds::NAMES);
        assert_eq!(of(&names, Some(AttributeScope::Resource), "zone"), [(ValueType::String, 3, false, vec![])]);
    }

    #[test]
    fn a_file_reads_back() {
        let before = vocabulary(Bounds::FILE);
        let bytes = before.encode().unwrap();
        assert_eq!(Vocabulary::decode(&bytes).unwrap(), before);
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(Vocabulary::decode(&bytes[..cut]).unwrap_err().kind(), crate::ErrorKind::Data, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            // A bit of the frame's description may not matter; what is read is then the same.
            assert!(Vocabulary::decode(&flipped).map_or(true, |v| v == before), "{at}");
        }
        let other = zstd::encode_all(&b"{\"tracehouse_vocabulary\":2,\"spans\":1}\n"[..], 1).unwrap();
        assert!(Vocabulary::decode(&other).unwrap_err().to_string().contains("version 2"));
    }
}
