//! How readers meet the spans that are not in a block yet.

use std::{fmt::Debug, sync::Arc};

use crate::{tenant::TenantId, trace::Trace};

/// A part of the live spans: what one block will hold (or already holds).
#[derive(Clone, Debug)]
pub struct LiveSegment {
    /// The block these spans are being written to, once that is decided. A reader whose catalogue already has this block
    /// must ignore the segment and read the block.
    pub block_id: Option<uuid::Uuid>,
    /// The traces, in no particular order.
    pub traces: Vec<Arc<Trace>>,
}

/// The spans that are acked and durable, but perhaps not in a committed block. `ingest` implements it.
///
/// A span is counted once: it is read from here until the block that holds it is in the reader's catalogue, and from the
/// block after. So a reader takes the live snapshot between two looks at the catalogue that find the same blocks (a segment
/// without a block may become one at any time), and an implementation drops a segment only after its block is in the
/// catalogue.
pub trait LiveSpans: Debug + Send + Sync {
    /// All live segments of a tenant, as they are now. A segment does not change after it is handed out.
    fn snapshot(&self, tenant: &TenantId) -> Vec<LiveSegment>;

    /// Tenants that have live spans.
    fn tenants(&self) -> Vec<TenantId>;
}

/// One trace of one tenant, for questions about a trace that was found.
#[derive(Debug)]
pub struct OneTrace {
    /// Whose it is.
    pub tenant: TenantId,
    /// The trace.
    pub trace: Arc<Trace>,
}

impl LiveSpans for OneTrace {
    fn snapshot(&self, tenant: &TenantId) -> Vec<LiveSegment> {
        let segment = LiveSegment { block_id: None, traces: vec![self.trace.clone()] };
        if *tenant == self.tenant { vec![segment] } else { Vec::new() }
    }

    fn tenants(&self) -> Vec<TenantId> {
        vec![self.tenant.clone()]
    }
}

/// No live spans: a reader of a bucket.
#[derive(Debug, Default)]
pub struct NoLiveSpans;

impl LiveSpans for NoLiveSpans {
    fn snapshot(&self, _: &TenantId) -> Vec<LiveSegment> {
        Vec::new()
    }

    fn tenants(&self) -> Vec<TenantId> {
        Vec::new()
    }
}
