//! The write path as a whole: acks, crashes, faults, bounds, races.

use std::{
    collections::{BTreeSet, HashSet},
    sync::atomic::AtomicUsize,
};

use parking_lot::Mutex;
use tracehouse_engine::trace::Span;

use super::*;
use crate::test_support::{FakeStore, FaultyIo, Hook, SharedIo, request, span};

struct World {
    ingester: Arc<Ingester>,
    live: Arc<LiveStore>,
    store: Arc<FakeStore>,
    io: Arc<FaultyIo>,
    folder: PathBuf,
    tenant: TenantId,
}

fn quick() -> Config {
    Config { flush_retry_min_ms: 5, flush_retry_max_ms: 20, push_wait_ms: 300, flush_wait_ms: 5000, ..Config::default() }
}

impl World {
    async fn start(folder: &Path, config: Config, store: Arc<FakeStore>) -> Self {
        let (live, io) = (LiveStore::new(&config), Arc::new(FaultyIo::default()));
        let shared = Arc::new(SharedIo(io.clone()));
        let ingester = Ingester::start_with(config, folder, live.clone(), store.clone(), shared, CancellationToken::new()).await.unwrap();
        Self { ingester, live, store, io, folder: folder.to_owned(), tenant: TenantId::single() }
    }

    async fn push(&self, spans: impl IntoIterator<Item = Span>) -> Result<PushOutcome> {
        let request = request("svc", spans);
        let len = request.encoded_len();
        self.ingester.push(&self.tenant, request, len).await
    }

    fn visible(&self) -> Vec<u64> {
        self.store.visible(&self.live, &self.tenant)
    }

    /// Ends without flushing, as a killed process does (but for the memory).
    async fn kill(self) -> (Arc<FakeStore>, PathBuf) {
        self.ingester.stop.cancel();
        self.ingester.tenants.write().clear();
        self.ingester.tracker.close();
        self.ingester.tracker.wait().await;
        (self.store, self.folder)
    }

    async fn restart(self, config: Config) -> Self {
        let (store, folder) = self.kill().await;
        Self::start(&folder, config, store).await
    }

    fn log_files(&self) -> usize {
        std::fs::read_dir(self.folder.join(self.tenant.as_str())).map_or(0, Iterator::count)
    }
}

#[tokio::test]
async fn pushed_spans_are_visible_survive_a_kill_and_become_blocks_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), quick(), Arc::default()).await;
    let outcome = world.push([span(1, 1), span(2, 2), Span::default()]).await.unwrap();
    assert_eq!((outcome.accepted_spans, outcome.rejected_spans), (2, 1));
    world.push([span(1, 3), span(1, 1)]).await.unwrap();
    assert_eq!(world.visible(), [1, 1, 2, 3]);
    let world = world.restart(quick()).await;
    assert_eq!(world.visible(), [1, 1, 2, 3]);
    world.push([span(1, 1), span(3, 4)]).await.unwrap();
    world.ingester.flush(Some(&world.tenant)).await.unwrap();
    assert_eq!(world.visible(), [1, 1, 1, 2, 3, 4]);
    assert_eq!((world.store.blocks.lock().len(), world.log_files(), world.live.live_bytes()), (1, 0, 0));
    world.ingester.flush(None).await.unwrap();
    assert_eq!(world.store.blocks.lock().len(), 1, "nothing live, no block");
    let world = world.restart(quick()).await;
    assert_eq!(world.visible(), [1, 1, 1, 2, 3, 4]);
    let (_, stats) = world.ingester.stats().remove(0);
    assert_eq!(stats.received_spans, 0);
    let unknown = world.ingester.flush(Some(&"nobody".parse().unwrap())).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn only_bad_spans_are_an_error_and_nothing_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), quick(), Arc::default()).await;
    let error = world.push([Span::default()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("1 of 1 spans rejected"), "{error}");
    assert_eq!(world.push([]).await.unwrap(), PushOutcome::default());
    assert_eq!(world.log_files(), 0);
    assert_eq!(world.ingester.stats()[0].1.discarded_spans, [1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_waits_for_the_sync_and_one_sync_serves_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::start(dir.path(), quick(), Arc::default()).await);
    world.push([span(1, 1)]).await.unwrap();
    let syncs = world.io.syncs.load(Ordering::SeqCst);
    let waiting = {
        // Held on another thread, since the guard must not be held across an await.
        let (world, (open, closed)) = (world.clone(), std::sync::mpsc::channel::<()>());
        let holder = std::thread::spawn(move || {
            let _gate = world.io.gate.lock();
            closed.recv().ok();
        });
        (open, holder)
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let pushes: Vec<_> = (2..42)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move { world.push([span(1, n)]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(pushes.iter().all(|p| !p.is_finished()));
    assert_eq!(world.visible(), [1], "not durable, not visible");
    drop(waiting.0);
    waiting.1.join().unwrap();
    for push in pushes {
        push.await.unwrap().unwrap();
    }
    assert_eq!(world.visible().len(), 41);
    let syncs = world.io.syncs.load(Ordering::SeqCst) - syncs;
    assert!(syncs <= 3, "{syncs} syncs for 40 requests");
}

#[tokio::test]
async fn a_failed_sync_fails_the_push_and_is_never_taken_for_durable() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), quick(), Arc::default()).await;
    world.push([span(1, 1)]).await.unwrap();
    world.io.fail_sync.store(true, Ordering::SeqCst);
    for n in 2..5 {
        let error = world.push([span(1, n)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(world.visible(), [1]);
    world.io.fail_sync.store(false, Ordering::SeqCst);
    world.push([span(1, 9)]).await.unwrap();
    assert_eq!((world.visible(), world.log_files()), (vec![1, 9], 2));
    let world = world.restart(quick()).await;
    assert_eq!(world.visible(), [1, 9]);
    world.ingester.flush(None).await.unwrap();
    assert_eq!((world.visible(), world.log_files()), (vec![1, 9], 0));
}

#[tokio::test]
async fn a_full_disk_refuses_with_a_remedy_loses_nothing_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { trace_idle_ms: 60_000, max_trace_live_ms: 60_000, max_carry_percent: 90, ..quick() };
    let world = World::start(dir.path(), config.clone(), Arc::default()).await;
    world.push([span(1, 1)]).await.unwrap();
    world.io.full.store(true, Ordering::SeqCst);
    let error = world.push([span(1, 2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the disk is full, free some space"), "{error}");
    assert_eq!(world.push([span(1, 2)]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // A block cannot be sealed either; the spans stay.
    world.ingester.flush(None).await.unwrap_err();
    assert_eq!(world.visible(), [1]);
    world.io.full.store(false, Ordering::SeqCst);
    world.push([span(1, 3)]).await.unwrap();
    let world = world.restart(config).await;
    assert_eq!(world.visible(), [1, 3]);
    world.ingester.flush(None).await.unwrap();
    assert_eq!((world.visible(), world.log_files()), (vec![1, 3], 0));
}

#[tokio::test]
async fn a_store_that_is_down_or_loses_answers_makes_each_block_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), quick(), Arc::default()).await;
    world.push([span(1, 1)]).await.unwrap();
    world.store.fail_before.store(3, Ordering::SeqCst);
    world.ingester.flush(None).await.unwrap();
    world.push([span(2, 2)]).await.unwrap();
    world.store.fail_after.store(1, Ordering::SeqCst);
    world.ingester.flush(None).await.unwrap();
    assert_eq!((world.visible(), world.store.blocks.lock().len()), (vec![1, 2], 2));
    assert_eq!(world.ingester.stats()[0].1.flush_failures, 4);
    // Down for good: the spans are live before and after a restart, and readers see them once.
    world.store.fail_before.store(usize::MAX, Ordering::SeqCst);
    world.push([span(3, 3)]).await.unwrap();
    let error = tokio::time::timeout(Duration::from_millis(100), world.ingester.flush(None)).await;
    assert!(error.is_err() && world.visible() == [1, 2, 3]);
    let world = world.restart(quick()).await;
    assert_eq!(world.visible(), [1, 2, 3]);
    world.push([span(4, 4)]).await.unwrap();
    world.store.fail_before.store(0, Ordering::SeqCst);
    world.ingester.flush(None).await.unwrap();
    assert_eq!((world.visible(), world.store.blocks.lock().len(), world.log_files()), (vec![1, 2, 3, 4], 4, 0));
}

#[tokio::test]
async fn bounds_refuse_for_a_while_and_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        max_request_bytes: 2000,
        max_live_bytes: 2000,
        max_block_bytes: 1 << 20,
        max_sealed_blocks: 1,
        push_wait_ms: 30,
        ..quick()
    };
    let world = World::start(dir.path(), config, Arc::default()).await;
    world.store.fail_before.store(usize::MAX, Ordering::SeqCst);
    let mut taken = 0;
    let error = loop {
        match world.push([span(1, taken + 1)]).await {
            Ok(_) => taken += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), ErrorKind::TooMany, "{error}");
    assert!((5..50).contains(&taken) && world.visible().len() == taken as usize);
    let error = world.push((0..100).map(|n| span(2, n + 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let flush = world.ingester.flush(None);
    assert!(tokio::time::timeout(Duration::from_millis(50), flush).await.is_err());
    let error = world.push([span(1, 999)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooMany, "sealed spans count");
    world.store.fail_before.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.push([span(1, 999)]).await.unwrap();
    assert_eq!(world.ingester.stats()[0].1.discarded_spans, [0, 0, 102, 0]);
}

#[tokio::test]
async fn shutdown_refuses_flushes_and_keeps_what_it_could_not_flush() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { shutdown_flush_ms: 100, ..quick() };
    let world = World::start(dir.path(), config.clone(), Arc::default()).await;
    world.push([span(1, 1)]).await.unwrap();
    world.ingester.shutdown().await;
    assert_eq!((world.store.blocks.lock().len(), world.log_files()), (1, 0));
    assert_eq!(world.push([span(1, 2)]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let world = world.restart(config.clone()).await;
    world.push([span(2, 2)]).await.unwrap();
    world.store.fail_before.store(usize::MAX, Ordering::SeqCst);
    world.ingester.shutdown().await;
    assert_eq!(world.store.blocks.lock().len(), 1);
    let world = world.restart(config).await;
    assert_eq!(world.visible(), [1, 2]);
}

#[tokio::test]
async fn old_and_large_generations_become_blocks_by_themselves() {
    for config in [
        Config { max_block_duration_ms: 50, ..quick() },
        Config { max_block_bytes: 1, ..quick() },
        Config { max_block_traces: 1, ..quick() },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { trace_idle_ms: 0, ..config };
        let world = World::start(dir.path(), config, Arc::default()).await;
        world.push([span(1, 1)]).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(5), async {
            while world.store.blocks.lock().is_empty() || world.log_files() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap();
        assert_eq!(world.visible(), [1]);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// What is left of a process that was killed at one moment.
struct Remains {
    at: String,
    acked: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    store: Arc<FakeStore>,
    folder: tempfile::TempDir,
}

/// Kills the process before every single change to the disk or the store, starts another on what is left, and counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_point_loses_no_acked_span_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        max_block_traces: 4,
        trace_idle_ms: 60_000,
        max_trace_live_ms: 60_000,
        max_carry_percent: 60,
        flush_concurrency: 1,
        ..quick()
    };
    let world = World::start(dir.path(), config.clone(), Arc::default()).await;
    let (acked, sent) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(Mutex::new(BTreeSet::new())));
    let remains = Arc::new(Mutex::new(Vec::new()));
    for hook in [&world.io.hook, &world.store.hook] {
        let (acked, sent, remains, store, folder) =
            (acked.clone(), sent.clone(), remains.clone(), world.store.clone(), world.folder.clone());
        let take = move |what: &str| {
            // The lock keeps other threads from changing anything meanwhile, since they must take it first.
            let mut remains = remains.lock();
            let left = tempfile::tempdir().unwrap();
            let acked = acked.lock().clone();
            copy_folder(&folder, left.path());
            let (store, sent) = (store.copy(), sent.lock().clone());
            let at = format!("{what} {}", remains.len());
            remains.push(Remains { at, acked, sent, store, folder: left });
        };
        hook.set(Hook(Box::new(take))).unwrap();
    }
    for n in 1..=24u64 {
        let spans = [span((n % 7) as u8, n), span((n % 3) as u8 + 10, 1000 + n)];
        sent.lock().extend([n, 1000 + n]);
        world.push(spans).await.unwrap();
        acked.lock().extend([n, 1000 + n]);
        if n % 6 == 0 {
            world.store.fail_after.store(1, Ordering::SeqCst);
        }
        if n == 18 {
            world.ingester.flush(None).await.unwrap();
        }
    }
    world.ingester.shutdown().await;
    let remains = std::mem::take(&mut *remains.lock());
    let kinds: HashSet<_> = remains.iter().map(|r| r.at.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(remains.len() > 100, "{} points", remains.len());
    for Remains { at, acked, sent, store, folder } in remains {
        let after = World::start(folder.path(), config.clone(), store).await;
        check(&at, "after replay", &acked, &sent, &after.visible());
        after.ingester.flush(None).await.unwrap();
        check(&at, "after flush", &acked, &sent, &after.visible());
        assert_eq!(after.log_files(), 0, "{at}");
    }
}

fn check(at: &str, when: &str, acked: &BTreeSet<u64>, sent: &BTreeSet<u64>, visible: &[u64]) {
    let set: BTreeSet<_> = visible.iter().copied().collect();
    assert_eq!(set.len(), visible.len(), "killed before {at}, {when}: spans twice");
    assert!(set.is_superset(acked), "killed before {at}, {when}: acked spans missing");
    assert!(set.is_subset(sent), "killed before {at}, {when}: spans nobody sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_count_each_acked_span_once_while_blocks_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { max_block_traces: 20, trace_idle_ms: 3, max_trace_live_ms: 10, max_sealed_blocks: 100, ..quick() };
    let world = Arc::new(World::start(dir.path(), config, Arc::default()).await);
    let (begun, acked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pushers: Vec<_> = (0..4u64)
        .map(|p| {
            let (world, begun, acked) = (world.clone(), begun.clone(), acked.clone());
            tokio::spawn(async move {
                for n in 0..150u64 {
                    begun.fetch_add(2, Ordering::SeqCst);
                    let id = p * 10_000 + n * 2 + 1;
                    world.push([span((n % 50) as u8, id), span(((n + 7) % 50) as u8, id + 1)]).await.unwrap();
                    acked.fetch_add(2, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let flusher = {
        let world = world.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                world.ingester.flush(None).await.unwrap();
            }
        })
    };
    let mut looks = 0;
    while pushers.iter().any(|p| !p.is_finished()) || looks == 0 {
        let at_least = acked.load(Ordering::SeqCst);
        let mut visible = world.visible();
        let at_most = begun.load(Ordering::SeqCst);
        let count = visible.len();
        visible.dedup();
        assert_eq!(visible.len(), count, "a span twice");
        assert!((at_least..=at_most).contains(&count), "{at_least} <= {count} <= {at_most}");
        looks += 1;
        tokio::task::yield_now().await;
    }
    for task in pushers.into_iter().chain([flusher]) {
        task.await.unwrap();
    }
    assert_eq!(world.visible().len(), 1200);
    assert!(world.store.blocks.lock().len() > 5 && looks > 10);
}
