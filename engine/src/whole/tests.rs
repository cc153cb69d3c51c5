//! Traces in several parts: what is found, and what follows from all of their spans.

use std::sync::Arc;

use super::{rows::Row, *};
use crate::{
    config::Config,
    scan::{LiveSegment, LiveSpans},
    store::BlockStore,
    trace::{
        Span, Trace, TraceId,
        builder::{resource, scope, span, status, text},
    },
};

const TENANT: &str = "single-tenant";

fn tenant() -> TenantId {
    let tenant = TenantId::single();
    assert_eq!(tenant.to_string(), TENANT);
    tenant
}

fn part(id: u8, service: &str, spans: impl IntoIterator<Item = Span>) -> Arc<Trace> {
    let resource_spans = vec![resource([("service.name", text(service))], [scope("", [], spans)])];
    Arc::new(Trace { id: TraceId([id; 16]), resource_spans })
}

fn at(seconds: u64, span: Span) -> Span {
    let start = seconds * 1_000_000_000;
    Span { start_time_unix_nano: start, end_time_unix_nano: start + 500_000_000, ..span }
}

#[derive(Debug)]
struct Live(Vec<Arc<Trace>>);

impl LiveSpans for Live {
    fn snapshot(&self, _: &TenantId) -> Vec<LiveSegment> {
        vec![LiveSegment { block_id: None, traces: self.0.clone() }]
    }

    fn tenants(&self) -> Vec<TenantId> {
        vec![tenant()]
    }
}

async fn engine(dir: &std::path::Path, blocks: Vec<Vec<Arc<Trace>>>, live: Vec<Arc<Trace>>) -> Engine {
    let store = BlockStore::open_local(dir, true).unwrap();
    let engine = Engine::new(store, Config::default()).with_live(Arc::new(Live(live)));
    for traces in blocks {
        engine.commit_block(&tenant(), crate::clock::new_block_id(), traces).await.unwrap();
    }
    engine
}

#[tokio::test]
async fn parts_in_blocks_and_live_make_one_trace() {
    let dir = tempfile::tempdir().unwrap();
    let alone = part(9, "alone", [at(1, span(1, 0))]);
    let blocks = vec![
        vec![part(1, "web", [at(10, span(2, 1)), at(30, span(3, 2))]), alone],
        vec![part(1, "web", [at(20, span(4, 3))]), part(2, "db", [at(5, span(1, 0))])],
    ];
    let failed = Span { status: status(2), ..span(1, 0) };
    let live = vec![part(1, "front", [at(8, failed)]), part(3, "x", [at(5, span(1, 0))])];
    let engine = engine(dir.path(), blocks, live).await;
    let whole = engine.whole_traces(&tenant(), &engine.snapshot(&tenant()), None).await.unwrap().unwrap();
    assert_eq!(whole.iter().count(), 1);
    let id = "01".repeat(16);
    let trace = whole.get(&id).unwrap();
    assert_eq!((trace.facts.root_service_name.as_str(), trace.facts.root_span_name.as_str()), ("front", "span 1"));
    assert_eq!((trace.start(), trace.end()), (8_000_000_000, 30_500_000_000));
    assert_eq!(trace.facts.service_stats, [("front".to_owned(), 1, 1), ("web".to_owned(), 3, 0)]);
    let place = |id: u64, start: i64| trace.place((&format!("{id:016x}"), span(id, 0).kind, start * 1_000_000_000, 0)).unwrap();
    let (root, child, last) = (place(1, 8), place(2, 10), place(4, 20));
    assert_eq!((root.left, root.right, root.parent, root.child_count), (1, 8, -1, 1));
    assert_eq!((child.left, child.right, child.parent), (2, 7, 1));
    assert_eq!((last.left, last.right, last.child_count), (4, 5, 0));
    // The parts end at 8.5 s, 30.5 s and 20.5 s: one lies outside of each of these ranges.
    assert_eq!(whole.reaching_into((25_000_000_000, 26_000_000_000)), [id.as_str()]);
    assert_eq!(whole.widened((25_000_000_000, 26_000_000_000)), (8_000_000_000, 30_500_000_000));
    assert_eq!(whole.reaching_into((0, 60_000_000_000)), Vec::<&str>::new());
    // Known from now on.
    assert!(Arc::ptr_eq(&whole, &engine.whole_traces(&tenant(), &engine.snapshot(&tenant()), None).await.unwrap().unwrap()));
}

#[tokio::test]
async fn whole_traces_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = vec![vec![part(1, "a", [at(1, span(1, 0))])], vec![part(2, "a", [at(1, span(1, 0))])]];
    let engine = engine(dir.path(), blocks, vec![part(3, "a", [at(1, span(1, 0))])]).await;
    assert!(engine.whole_traces(&tenant(), &engine.snapshot(&tenant()), None).await.unwrap().is_none());
}

#[test]
fn parts_keep_their_order() {
    let row = |id: &str, parent: &str, part, start| Row { id: id.into(), parent: parent.into(), part, start, ..Row::default() };
    // In the second part c was stored before b; a, of the first, starts before both, and the root last.
    let trace = rows::whole(vec![row("a", "r", 0, 1), row("r", "", 0, 9), row("c", "r", 1, 5), row("b", "r", 1, 2)]);
    let left = |id: &str, start| trace.place((id, 0, start, 0)).unwrap().left;
    assert_eq!((left("r", 9), left("a", 1), left("c", 5), left("b", 2)), (1, 2, 4, 6));
}

#[test]
fn copies_between_parts_are_one_span() {
    let row = |id: &str, parent: &str, part, left| Row { id: id.into(), parent: parent.into(), part, left, ..Row::default() };
    let copy = |part| [row("a", "", part, 1), row("b", "a", part, 2)];
    let trace = rows::whole([0, 1, 2].into_iter().flat_map(copy).collect());
    let place = trace.place(("b", 0, 0, 2)).unwrap();
    assert_eq!((place.left, place.parent), (2, 1));
    assert_eq!(trace.facts.service_stats, [(String::new(), 2, 0)]);
}

#[test]
fn copies_have_places_of_their_own() {
    let row = |id: &str, parent: &str, left| Row { id: id.into(), parent: parent.into(), left, ..Row::default() };
    let trace = rows::whole(vec![row("a", "", 1), row("b", "a", 2), row("b", "a", 4)]);
    let left = |stored| trace.place(("b", 0, 0, stored)).unwrap().left;
    assert_eq!((left(2), left(4), left(7)), (2, 4, 2));
    assert_eq!(trace.place(("c", 0, 0, 0)), None);
}
