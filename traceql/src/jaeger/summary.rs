//! A trace in a line, as `/api/v3/trace-summaries` shows it.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use tracehouse_engine::Trace;

use super::model::service_name;

/// OTLP's number of the status error.
const ERROR: i32 = 2;

/// The line.
pub fn summary(trace: &Trace) -> Value {
    let ids: HashSet<&[u8]> = trace.spans().map(|(_, _, s)| s.span_id.as_slice()).collect();
    let mut services: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let (mut orphans, mut start, mut end) = (0u64, u64::MAX, 0);
    // The root: a span without parent, else one whose parent is missing; of several the first in time.
    let mut root: Option<((bool, u64), &str, &str)> = None;
    for (rs, _, span) in trace.spans() {
        let service = service_name(rs.resource.as_ref().map_or(&[], |r| &r.attributes));
        let is_error = span.status.as_ref().is_some_and(|s| s.code == ERROR);
        let counts = services.entry(service).or_default();
        *counts = (counts.0 + 1, counts.1 + u64::from(is_error));
        start = start.min(span.start_time_unix_nano);
        end = end.max(span.end_time_unix_nano);
        let has_parent = !span.parent_span_id.is_empty();
        if has_parent && ids.contains(span.parent_span_id.as_slice()) {
            continue;
        }
        orphans += u64::from(has_parent);
        let rank = (has_parent, span.start_time_unix_nano);
        if root.is_none_or(|(best, ..)| rank < best) {
            root = Some((rank, service, &span.name));
        }
    }
    let (spans, errors) = services.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    let (_, root_service, root_name) = root.unwrap_or(((false, 0), "", ""));
    let services = services.iter().map(|(name, (spans, errors))| json!({"name": name, "spanCount": spans, "errorSpanCount": errors}));
    json!({
        "traceId": trace.id.to_string(),
        "rootServiceName": root_service,
        "rootOperationName": root_name,
        "minStartTimeUnixNano": if spans == 0 { 0 } else { start }.to_string(),
        "maxEndTimeUnixNano": end.to_string(),
        "spanCount": spans,
        "errorSpanCount": errors,
        "orphanSpanCount": orphans,
        "services": services.collect::<Vec<_>>(),
    })
}
