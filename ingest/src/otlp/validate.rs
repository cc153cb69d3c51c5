//! What of a request is taken: spans with valid ids, attributes cut to their bound.
//!
//! Tempo refuses a whole request for one bad span; here the good spans are taken and the answer says how many were not.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tracehouse_engine::trace::{KeyValue, Span, Value};

use crate::stats::{AttributeScope, DiscardReason};

/// What validation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Spans left in the request.
    pub accepted: usize,
    /// Spans taken out because of their trace id.
    pub bad_trace_ids: usize,
    /// Spans taken out because of their span id.
    pub bad_span_ids: usize,
    /// What is wrong with the first of them.
    pub first_error: Option<String>,
}

impl Verdict {
    /// Spans taken out.
    pub fn rejected(&self) -> usize {
        self.bad_trace_ids + self.bad_span_ids
    }

    /// What to tell the client, if anything was taken out.
    pub fn message(&self) -> Option<String> {
        let first = self.first_error.as_ref()?;
        let total = self.accepted + self.rejected();
        Some(format!("{} of {total} spans rejected, the first because {first}", self.rejected()))
    }
}

/// Takes out spans without a valid trace id and span id, and groups that are empty then.
pub fn validate(request: &mut ExportTraceServiceRequest) -> Verdict {
    let mut verdict = Verdict::default();
    for resource_spans in &mut request.resource_spans {
        for scope_spans in &mut resource_spans.scope_spans {
            scope_spans.spans.retain(|span| keep(span, &mut verdict));
        }
        resource_spans.scope_spans.retain(|ss| !ss.spans.is_empty());
    }
    request.resource_spans.retain(|rs| !rs.scope_spans.is_empty());
    verdict
}

fn keep(span: &Span, verdict: &mut Verdict) -> bool {
    let reason = check_id("trace id", &span.trace_id, 16).map(|e| (DiscardReason::InvalidTraceId, e));
    let reason = reason.or_else(|| check_id("span id", &span.span_id, 8).map(|e| (DiscardReason::InvalidSpanId, e)));
    let Some((reason, error)) = reason else {
        verdict.accepted += 1;
        return true;
    };
    match reason {
        DiscardReason::InvalidTraceId => verdict.bad_trace_ids += 1,
        _ => verdict.bad_span_ids += 1,
    }
    if verdict.first_error.is_none() {
        let name: String = span.name.chars().take(100).collect();
        verdict.first_error = Some(format!("the {error} (span {name:?})"));
    }
    false
}

/// What is wrong with an id, if anything.
fn check_id(what: &str, id: &[u8], want: usize) -> Option<String> {
    if id.len() != want {
        Some(format!("{what} has {} bytes instead of {want}", id.len()))
    } else if id.iter().all(|b| *b == 0) {
        Some(format!("{what} is all zeros"))
    } else {
        None
    }
}

/// Cuts attribute keys and string values to `max` bytes (0: no bound), never within a character. Returns how many were
/// cut, by [`AttributeScope::ALL`].
pub fn truncate(request: &mut ExportTraceServiceRequest, max: usize) -> [usize; 5] {
    let mut cut = [0; 5];
    if max == 0 {
        return cut;
    }
    let mut each = |scope: AttributeScope, attributes: &mut Vec<KeyValue>| {
        let changed: usize = attributes.iter_mut().map(|a| truncate_attribute(a, max)).sum();
        cut[scope as usize] += changed;
    };
    for resource_spans in &mut request.resource_spans {
        if let Some(resource) = &mut resource_spans.resource {
            each(AttributeScope::Resource, &mut resource.attributes);
        }
        for scope_spans in &mut resource_spans.scope_spans {
            if let Some(scope) = &mut scope_spans.scope {
                each(AttributeScope::Scope, &mut scope.attributes);
            }
            for span in &mut scope_spans.spans {
                each(AttributeScope::Span, &mut span.attributes);
                span.events.iter_mut().for_each(|e| each(AttributeScope::Event, &mut e.attributes));
                span.links.iter_mut().for_each(|l| each(AttributeScope::Link, &mut l.attributes));
            }
        }
    }
    cut
}

fn truncate_attribute(attribute: &mut KeyValue, max: usize) -> usize {
    let mut cut = truncate_text(&mut attribute.key, max);
    if let Some(Value::StringValue(text)) = attribute.value.as_mut().and_then(|v| v.value.as_mut()) {
        cut += truncate_text(text, max);
    }
    cut
}

fn truncate_text(text: &mut String, max: usize) -> usize {
    if text.len() <= max {
        return 0;
    }
    text.truncate(text.floor_char_boundary(max));
    // The request may live for a minute: give the rest back.
    text.shrink_to_fit();
    1
}

#[cfg(test)]
mod tests {
    use tracehouse_engine::trace::{Event, Link};

    use super::*;
    use crate::test_support::{request, span, text};

    #[test]
    fn ids() {
        let cases: [(&str, Vec<u8>, Vec<u8>, &str); 9] = [
            ("good", vec![1; 16], vec![1; 8], ""),
            ("high bytes zero", [[0; 15].as_slice(), &[1]].concat(), [[0; 7].as_slice(), &[1]].concat(), ""),
            ("no trace id", vec![], vec![1; 8], "trace id has 0 bytes instead of 16"),
            ("short trace id", vec![1; 8], vec![1; 8], "trace id has 8 bytes instead of 16"),
            ("long trace id", vec![1; 17], vec![1; 8], "trace id has 17 bytes instead of 16"),
            ("zero trace id", vec![0; 16], vec![1; 8], "trace id is all zeros"),
            ("no span id", vec![1; 16], vec![], "span id has 0 bytes instead of 8"),
            ("long span id", vec![1; 16], vec![1; 16], "span id has 16 bytes instead of 8"),
            ("zero span id", vec![1; 16], vec![0; 8], "span id is all zeros"),
        ];
        for (name, trace_id, span_id, error) in cases {
            let mut bad = span(1, 2);
            (bad.trace_id, bad.span_id) = (trace_id, span_id);
            let mut request = request("a", [span(1, 1), bad]);
            let verdict = validate(&mut request);
            if error.is_empty() {
                assert_eq!((verdict.accepted, verdict.message()), (2, None), "{name}");
            } else {
                assert_eq!((verdict.accepted, verdict.rejected()), (1, 1), "{name}");
                let want = format!("1 of 2 spans rejected, the first because the {error} (span \"span 2\")");
                assert_eq!(verdict.message(), Some(want), "{name}");
                assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 1, "{name}");
            }
        }
        let mut none = request("a", [Span::default()]);
        assert_eq!(validate(&mut none).accepted, 0);
        assert!(none.resource_spans.is_empty());
    }

    #[test]
    fn long_attributes_are_cut_between_characters() {
        let mut s = span(1, 1);
        s.attributes = vec![text("key", "aé€😀"), text("a long key", "v")];
        s.events = vec![Event { attributes: vec![text("k", "too long")], ..Event::default() }];
        s.links = vec![Link { attributes: vec![text("k", "too long")], ..Link::default() }];
        let mut request = request("service", [s]);
        let untouched = request.clone();
        assert_eq!(truncate(&mut request, 0), [0; 5]);
        assert_eq!(truncate(&mut request, 12), [0; 5]);
        assert_eq!(request, untouched);
        assert_eq!(truncate(&mut request, 5), [2, 0, 2, 1, 1]);
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans[0].attributes, [text("key", "aé"), text("a lon", "v")]);
        assert_eq!(spans[0].events[0].attributes, [text("k", "too l")]);
    }
}
