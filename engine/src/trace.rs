//! A trace in memory: OTLP messages grouped under one trace id, and the rules for putting its parts together.
//!
//! OTLP's wire types live here and in `ingest` only; the rest of the engine sees columns.

use std::{collections::HashSet, fmt, str::FromStr};

pub use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event, span::Link},
};

use crate::error::Error;

#[cfg(test)]
pub(crate) mod builder;

/// A 16-byte trace id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// Takes the bytes of an OTLP trace id; `None` unless there are exactly 16 (OTLP's rule).
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Hex without leading zeros, as Tempo's search results and `TraceIDText` show it.
    pub fn short_hex(&self) -> String {
        let full = self.to_string();
        full.trim_start_matches('0').to_owned()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl FromStr for TraceId {
    type Err = Error;

    /// Hex of 1 to 32 digits, left-padded with zeros (Tempo accepts short and odd ids in paths).
    fn from_str(s: &str) -> Result<Self, Error> {
        if s.is_empty() || s.len() > 32 {
            return Err(Error::invalid(format!("trace id {s:?} must have 1 to 32 hex digits")));
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(format!("{s:0>32}"), &mut bytes).map_err(|_| Error::invalid(format!("trace id {s:?} is not hexadecimal")))?;
        Ok(Self(bytes))
    }
}

/// All known spans of one trace id. Every span in it has this trace id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The id shared by all spans.
    pub id: TraceId,
    /// The spans, as OTLP groups them: by resource, then by scope.
    pub resource_spans: Vec<ResourceSpans>,
}

impl Trace {
    /// All spans with their resource and scope groups, in stored order.
    pub fn spans(&self) -> impl Iterator<Item = (&ResourceSpans, &ScopeSpans, &Span)> {
        self.resource_spans.iter().flat_map(|rs| rs.scope_spans.iter().flat_map(move |ss| ss.spans.iter().map(move |s| (rs, ss, s))))
    }

    /// Number of spans.
    pub fn span_count(&self) -> usize {
        self.resource_spans.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len()).sum()
    }

    /// Whether the trace, from its first start to its last end, overlaps the range (Unix nanoseconds, inclusive).
    pub fn overlaps(&self, (from, to): (i64, i64)) -> bool {
        let spans = || self.spans().map(|(_, _, s)| s);
        let start = spans().map(|s| s.start_time_unix_nano as i64).min();
        let end = spans().map(|s| s.end_time_unix_nano as i64).max();
        start.zip(end).is_some_and(|(start, end)| start <= to && end >= from)
    }

    /// Adds the spans of another copy of the same trace that this one does not have: of each span id and kind (Tempo's
    /// rule: a client and a server span may share an id). Spans that one copy holds twice stay twice, as in Tempo's answers.
    pub fn merge(&mut self, mut part: Trace) {
        let seen: HashSet<_> = self.spans().map(|(_, _, s)| (s.span_id.clone(), s.kind)).collect();
        for rs in &mut part.resource_spans {
            for ss in &mut rs.scope_spans {
                ss.spans.retain(|s| !seen.contains(&(s.span_id.clone(), s.kind)));
            }
            rs.scope_spans.retain(|ss| !ss.spans.is_empty());
        }
        self.resource_spans.extend(part.resource_spans.into_iter().filter(|rs| !rs.scope_spans.is_empty()));
    }
}
