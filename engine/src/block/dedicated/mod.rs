//! Which attributes get a column of their own in the blocks that are written: a list in the settings, or chosen for each block
//! from what it holds. Why: `docs/decisions/0002-dedicated-columns-of-each-block.md`.

mod choose;
mod count;
mod setting;

use std::sync::Arc;

pub use choose::{Usage, Usages, choose};
pub use setting::{DedicatedColumns, DedicatedSetting};

use super::{DedicatedColumn, Version};
use crate::trace::Trace;

/// The dedicated columns of a block of these traces. The same traces in the same order give the same columns.
pub fn choose_for(version: Version, traces: &[Arc<Trace>]) -> Vec<DedicatedColumn> {
    let mut counter = count::Counter::default();
    traces.iter().for_each(|trace| counter.add(trace));
    choose(version, &counter.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Engine,
        config::Config,
        derive::normalize,
        store::BlockStore,
        tenant::TenantId,
        trace::{
            Span, Status, TraceId, Value,
            builder::{array, attributes, int, resource, scope, span, text},
        },
    };

    /// A trace of twelve spans, each with these attributes.
    fn part(id: u8, first: u64, pairs: &[(&str, Value)]) -> Arc<Trace> {
        let spans = (first..first + 12).map(|i| Span {
            trace_id: vec![id; 16],
            attributes: attributes(pairs.to_vec()),
            status: Some(Status::default()),
            ..span(i, 0)
        });
        let of_resource = [("host", text("a")), ("service.name", text("cart"))];
        Arc::new(Trace { id: TraceId([id; 16]), resource_spans: vec![resource(of_resource, [scope("", [], spans)])] })
    }

    #[tokio::test]
    async fn blocks_choose_for_themselves_and_lose_nothing() {
        let blocks = [
            vec![part(1, 1, &[("a", text("x")), ("b", int(1)), ("list", array([text("x")])), ("half", Value::DoubleValue(0.5))])],
            vec![
                part(2, 1, &[("a", text("z"))]),
                part(1, 50, &[("a", int(1)), ("b", int(2)), ("list", text("y")), ("http.url", text("/"))]),
            ],
        ];
        // Beside Tempo's defaults. In the second block `a` has two types.
        let due = ["Span a, Span b", "Span list, Span b"];
        for (setting, due) in [(DedicatedColumns::Auto, due), (DedicatedColumns::List(vec![]), ["", ""])] {
            let dir = tempfile::tempdir().unwrap();
            let config = Config { parquet_dedicated_columns: setting, ..Config::default() };
            let engine = Engine::new(BlockStore::open_local(dir.path(), true).unwrap(), config);
            for (traces, due) in blocks.iter().zip(due) {
                let meta = engine.commit_block(&TenantId::single(), crate::clock::new_block_id(), traces.clone()).await.unwrap();
                let others = meta.dedicated_columns.iter().filter(|c| !DedicatedColumn::defaults().contains(c));
                assert_eq!(others.map(|c| format!("{:?} {}", c.scope, c.name)).collect::<Vec<_>>().join(", "), due);
            }
            for id in [1, 2] {
                let found = engine.find_trace(&TenantId::single(), TraceId([id; 16]), None).await.unwrap().trace.unwrap();
                let mut whole = Trace { id: found.id, resource_spans: Vec::new() };
                blocks.iter().flatten().filter(|t| t.id == found.id).for_each(|t| whole.merge(normalize(t)));
                assert_eq!(sorted(found), sorted(whole));
            }
        }
    }

    /// In normal grouping, with attributes in order of keys and spans in order of ids.
    fn sorted(trace: Trace) -> Trace {
        let mut trace = normalize(&trace);
        for span in trace.resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans).flat_map(|ss| &mut ss.spans) {
            span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        }
        for ss in trace.resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans) {
            ss.spans.sort_by(|a, b| a.span_id.cmp(&b.span_id));
        }
        trace
    }
}
