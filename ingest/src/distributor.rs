//! Takes a request apart by trace id.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tracehouse_engine::{
    Trace, TraceId,
    trace::{ResourceSpans, ScopeSpans, Span},
};

/// The spans of a request as one part of a trace for each trace id, grouped by resource and scope as they came. Trace ids
/// must be valid. A resource is copied once for each trace that has spans of it, a scope likewise.
pub fn split_by_trace(request: ExportTraceServiceRequest) -> Vec<Trace> {
    let mut split = Split::default();
    for mut resource_spans in request.resource_spans {
        split.begin_resource();
        for mut scope_spans in std::mem::take(&mut resource_spans.scope_spans) {
            for (at, spans) in split.group(std::mem::take(&mut scope_spans.spans)) {
                let scope_spans = ScopeSpans { spans, ..scope_spans.clone() };
                split.add(at, &resource_spans, scope_spans);
            }
        }
    }
    split.parts
}

#[derive(Default)]
struct Split {
    parts: Vec<Trace>,
    index: HashMap<TraceId, usize>,
    /// For each part, the number of the resource whose group was opened last.
    opened: Vec<usize>,
    resource: usize,
}

impl Split {
    fn begin_resource(&mut self) {
        self.resource += 1;
    }

    fn part_of(&mut self, span: &Span) -> usize {
        let id = TraceId::from_slice(&span.trace_id).unwrap_or_default();
        *self.index.entry(id).or_insert_with(|| {
            self.parts.push(Trace { id, resource_spans: Vec::new() });
            self.opened.push(0);
            self.parts.len() - 1
        })
    }

    /// Spans by part, in the order in which the parts first occur.
    fn group(&mut self, spans: Vec<Span>) -> Vec<(usize, Vec<Span>)> {
        let mut groups: Vec<(usize, Vec<Span>)> = Vec::new();
        let mut slots: HashMap<usize, usize> = HashMap::new();
        for span in spans {
            let part = match groups.last() {
                // Spans of one trace tend to stand together.
                Some((at, last)) if last.last().is_some_and(|s: &Span| s.trace_id == span.trace_id) => *at,
                _ => self.part_of(&span),
            };
            let slot = *slots.entry(part).or_insert_with(|| {
                groups.push((part, Vec::new()));
                groups.len() - 1
            });
            groups[slot].1.push(span);
        }
        groups
    }

    fn add(&mut self, at: usize, resource: &ResourceSpans, scope_spans: ScopeSpans) {
        let groups = &mut self.parts[at].resource_spans;
        if std::mem::replace(&mut self.opened[at], self.resource) != self.resource {
            groups.push(resource.clone());
        }
        if let Some(last) = groups.last_mut() {
            last.scope_spans.push(scope_spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{request, span};

    #[test]
    fn each_trace_gets_its_spans_with_their_resources() {
        let mut both = request("a", [span(1, 1), span(2, 2), span(1, 3)]);
        both.resource_spans.extend(request("b", [span(2, 4)]).resource_spans);
        let parts = split_by_trace(both);
        let first = request("a", [span(1, 1), span(1, 3)]).resource_spans;
        let mut second = request("a", [span(2, 2)]).resource_spans;
        second.extend(request("b", [span(2, 4)]).resource_spans);
        assert_eq!(parts.iter().map(|p| p.resource_spans.clone()).collect::<Vec<_>>(), [first, second]);
        assert_eq!(parts[0].id, TraceId::from_slice(&span(1, 1).trace_id).unwrap());
        assert!(split_by_trace(ExportTraceServiceRequest::default()).is_empty());
    }
}
