//! What is not in the spans themselves but follows from a whole trace: root, times, service counts, tree positions.

use crate::trace::Trace;

/// Facts about a trace and, in the order of [`Trace::spans`], about its spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceFacts {
    /// Earliest span start, Unix nanoseconds.
    pub start_unix_nanos: u64,
    /// Latest span end, Unix nanoseconds.
    pub end_unix_nanos: u64,
    /// Service name of the root span's resource; empty if there is no root.
    pub root_service_name: String,
    /// Name of the root span; empty if there is no root.
    pub root_span_name: String,
    /// Spans and spans with status error by service name ("" where a resource has none), sorted by name.
    pub service_stats: Vec<(String, u32, u32)>,
    /// One entry a span.
    pub spans: Vec<TreePosition>,
}

/// A span's place in its trace's tree, as nested-set numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreePosition {
    /// Number on entry; 0 if the tree is broken here.
    pub left: i32,
    /// Number on exit; 0 if the tree is broken here.
    pub right: i32,
    /// The parent's `left`; -1 for a root, 0 if the tree is broken here.
    pub parent: i32,
    /// Number of direct children.
    pub child_count: i32,
}

/// Computes the facts of a trace.
pub fn derive(_trace: &Trace) -> TraceFacts {
    TraceFacts::default()
}

/// The same spans grouped as a block stores them: identical resources merged, identical scopes merged, resource attributes
/// in key order, repeated spans dropped. Both the block writer and the live side number the tree in this order.
pub fn normalize(trace: &Trace) -> Trace {
    trace.clone()
}
