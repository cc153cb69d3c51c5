//! Parts of a trace: the spans that a filter keeps, with what is above and below them; a trace cut to a size.

use std::collections::{HashMap, HashSet, VecDeque};

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::search::SpanSummary;

/// How many levels of the tree: all, or so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every level.
    All,
    /// At most this many; 0 is none.
    Levels(usize),
}

/// A span among those of its trace: id, start and duration. The id alone will not do, a client and a server span may share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpanKey(String, u64, u64);

impl From<&SpanSummary> for SpanKey {
    fn from(span: &SpanSummary) -> Self {
        Self(span.span_id.clone(), span.start_time_unix_nano, span.duration_nanos)
    }
}

impl From<&Span> for SpanKey {
    fn from(span: &Span) -> Self {
        let duration = span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano);
        Self(hex::encode(&span.span_id), span.start_time_unix_nano, duration)
    }
}

/// The matched spans of a trace, with `below` levels of their descendants and `above` levels of their ancestors, in the order
/// and the groups they had.
pub fn keep(trace: &mut Vec<ResourceSpans>, matched: &HashSet<SpanKey>, below: Depth, above: Depth) {
    let spans = || trace.iter().flat_map(|rs| &rs.scope_spans).flat_map(|ss| &ss.spans);
    let seeds: Vec<Vec<u8>> = spans().filter(|s| matched.contains(&SpanKey::from(*s))).map(|s| s.span_id.clone()).collect();
    let mut parents: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    let mut children: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for span in spans().filter(|s| !s.parent_span_id.is_empty() && s.parent_span_id != s.span_id) {
        parents.entry(&span.span_id).or_default().push(&span.parent_span_id);
        children.entry(&span.parent_span_id).or_default().push(&span.span_id);
    }
    let mut related = walk(&seeds, &parents, above);
    related.extend(walk(&seeds, &children, below));
    retain(trace, |span| matched.contains(&SpanKey::from(span)) || related.contains(&span.span_id));
}

/// What can be reached from the seeds within some levels; breadth first, so that each is found at its least level.
fn walk(seeds: &[Vec<u8>], next: &HashMap<&[u8], Vec<&[u8]>>, depth: Depth) -> HashSet<Vec<u8>> {
    let mut found = HashSet::new();
    let mut open: VecDeque<(Vec<u8>, usize)> = seeds.iter().map(|id| (id.clone(), 0)).collect();
    while let Some((id, level)) = open.pop_front() {
        if depth == Depth::Levels(level) {
            continue;
        }
        for near in next.get(id.as_slice()).into_iter().flatten() {
            if found.insert(near.to_vec()) {
                open.push_back((near.to_vec(), level + 1));
            }
        }
    }
    found
}

/// Keeps some spans; groups that are empty then go.
fn retain(trace: &mut Vec<ResourceSpans>, mut wanted: impl FnMut(&Span) -> bool) {
    for rs in trace.iter_mut() {
        for ss in &mut rs.scope_spans {
            ss.spans.retain(&mut wanted);
        }
        rs.scope_spans.retain(|ss| !ss.spans.is_empty());
    }
    trace.retain(|rs| !rs.scope_spans.is_empty());
}

/// Number of spans.
pub fn span_count(trace: &[ResourceSpans]) -> usize {
    trace.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len()).sum()
}

/// Bytes of a trace as protobuf.
pub fn encoded_len(trace: &[ResourceSpans]) -> u64 {
    trace.iter().map(|rs| rs.encoded_len() as u64).sum()
}

/// Cuts a trace to a size: the spans that come first stay. `bytes_max` counts protobuf, resources and scopes included.
pub fn cut(trace: &mut Vec<ResourceSpans>, bytes_max: u64) {
    let mut left = bytes_max;
    let mut take = |bytes: usize| {
        let fits = bytes as u64 <= left;
        left = if fits { left - bytes as u64 } else { 0 };
        fits
    };
    for rs in trace.iter_mut() {
        let own = rs.resource.as_ref().map_or(0, Message::encoded_len);
        if !take(own) {
            rs.scope_spans.clear();
        }
        for ss in &mut rs.scope_spans {
            let own = ss.scope.as_ref().map_or(0, Message::encoded_len);
            if !take(own) {
                ss.spans.clear();
            }
            ss.spans.retain(|span| take(span.encoded_len()));
        }
        rs.scope_spans.retain(|ss: &ScopeSpans| !ss.spans.is_empty());
    }
    trace.retain(|rs| !rs.scope_spans.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trace of spans with one-byte ids: id and parent.
    fn trace(spans: &[(u8, u8)]) -> Vec<ResourceSpans> {
        let span = |(id, parent): &(u8, u8)| Span {
            span_id: vec![*id],
            parent_span_id: if *parent == 0 { vec![] } else { vec![*parent] },
            start_time_unix_nano: u64::from(*id),
            end_time_unix_nano: u64::from(*id),
            ..Span::default()
        };
        let group =
            |spans: Vec<Span>| ResourceSpans { scope_spans: vec![ScopeSpans { spans, ..Default::default() }], ..Default::default() };
        spans.iter().map(|s| group(vec![span(s)])).collect()
    }

    fn ids(trace: &[ResourceSpans]) -> Vec<u8> {
        trace.iter().flat_map(|rs| &rs.scope_spans).flat_map(|ss| &ss.spans).map(|s| s.span_id[0]).collect()
    }

    #[test]
    fn levels_are_counted_from_each_match() {
        // 1 > 2 > 3 > 4 > 5, and 6 beside 3; 7 and 8 are each other's parents.
        let tree = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 2), (7, 8), (8, 7)];
        let kept = |matched: &[u8], below, above| {
            let mut t = trace(&tree);
            let matched = matched.iter().map(|id| SpanKey(hex::encode([*id]), u64::from(*id), 0)).collect();
            keep(&mut t, &matched, below, above);
            ids(&t)
        };
        use Depth::{All, Levels};
        assert_eq!(kept(&[3], Levels(0), Levels(0)), [3]);
        assert_eq!(kept(&[3], Levels(0), All), [1, 2, 3]);
        assert_eq!(kept(&[3], Levels(0), Levels(1)), [2, 3]);
        assert_eq!(kept(&[3], Levels(1), Levels(0)), [3, 4]);
        assert_eq!(kept(&[2], All, Levels(0)), [2, 3, 4, 5, 6]);
        assert_eq!(kept(&[7], All, All), [7, 8]);
        assert_eq!(kept(&[], All, All), [0u8; 0]);
    }

    #[test]
    fn a_cut_trace_is_no_larger_than_asked() {
        let whole = trace(&[(1, 0), (2, 1), (3, 2)]);
        let one = encoded_len(&whole[..1]);
        let mut t = whole.clone();
        cut(&mut t, encoded_len(&whole));
        assert_eq!(ids(&t), [1, 2, 3]);
        let mut t = whole.clone();
        cut(&mut t, one * 2);
        assert!(ids(&t).starts_with(&[1]) && ids(&t).len() < 3);
        cut(&mut t, 1);
        assert!(t.is_empty());
    }
}
