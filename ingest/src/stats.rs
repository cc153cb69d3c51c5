//! Counters of the write path, one set a tenant. The process makes metrics of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why spans were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// The trace id is not 16 bytes, or all of them are zero.
    InvalidTraceId,
    /// The span id is not 8 bytes, or all of them are zero.
    InvalidSpanId,
    /// A queue or the live spans are at their bound.
    LiveLimit,
    /// The write-ahead log could not be written.
    LogFailed,
}

impl DiscardReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::InvalidTraceId, Self::InvalidSpanId, Self::LiveLimit, Self::LogFailed];

    /// The value of the metric's label (Tempo's where it has one).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTraceId => "invalid_trace_id",
            Self::InvalidSpanId => "invalid_span_id",
            Self::LiveLimit => "live_traces_exceeded",
            Self::LogFailed => "wal_failed",
        }
    }
}

/// Where an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeScope {
    /// On the resource.
    Resource,
    /// On the instrumentation scope.
    Scope,
    /// On the span.
    Span,
    /// On an event.
    Event,
    /// On a link.
    Link,
}

impl AttributeScope {
    /// All places.
    pub const ALL: [Self; 5] = [Self::Resource, Self::Scope, Self::Span, Self::Event, Self::Link];

    /// The value of the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::Event => "event",
            Self::Link => "link",
        }
    }
}

/// Counters of one tenant since the start. All only grow.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) requests: AtomicU64,
    pub(crate) received_spans: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) discarded: [AtomicU64; 4],
    pub(crate) truncated: [AtomicU64; 5],
    pub(crate) log_bytes: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    pub(crate) log_failures: AtomicU64,
    pub(crate) blocks_flushed: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
}

/// The values of [`Stats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests received.
    pub requests: u64,
    /// Spans received, discarded ones included.
    pub received_spans: u64,
    /// Size of the requests as OTLP protobuf, in bytes.
    pub received_bytes: u64,
    /// Spans discarded, by [`DiscardReason::ALL`].
    pub discarded_spans: [u64; 4],
    /// Attribute keys and values that were cut, by [`AttributeScope::ALL`].
    pub truncated_attributes: [u64; 5],
    /// Bytes appended to the write-ahead log.
    pub log_bytes: u64,
    /// Times the write-ahead log was synced.
    pub log_syncs: u64,
    /// Times it could not be written or synced.
    pub log_failures: u64,
    /// Blocks committed.
    pub blocks_flushed: u64,
    /// Tries to commit a block that failed.
    pub flush_failures: u64,
}

impl Stats {
    /// The values now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            requests: get(&self.requests),
            received_spans: get(&self.received_spans),
            received_bytes: get(&self.received_bytes),
            discarded_spans: self.discarded.each_ref().map(get),
            truncated_attributes: self.truncated.each_ref().map(get),
            log_bytes: get(&self.log_bytes),
            log_syncs: get(&self.log_syncs),
            log_failures: get(&self.log_failures),
            blocks_flushed: get(&self.blocks_flushed),
            flush_failures: get(&self.flush_failures),
        }
    }

    pub(crate) fn discard(&self, reason: DiscardReason, spans: usize) {
        add(&self.discarded[reason as usize], spans);
    }
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
