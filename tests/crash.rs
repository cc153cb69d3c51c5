//! `kill -9` under load: of the spans that were acknowledged none is missing and none is there twice, whatever was under way:
//! pushes, flushes, blocks half written.
//!
//! `CRASH_ROUNDS` (3) and `CRASH_SEED` make more of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{Server, hex, http, number, otlp, sql::Sql};

/// Trace id and span id.
type Id = (Vec<u8>, Vec<u8>);

/// Short enough that blocks are cut by themselves while the load runs.
const SETTINGS: &[(&str, &str)] = &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "150"), ("TRACEHOUSE_INGEST__TRACE_IDLE_MS", "20")];

const SENDERS: u64 = 3;
const SPANS_PER_PUSH: u64 = 20;
const START: u64 = 1_772_366_400_000_000_000;

/// What the senders know after a round.
#[derive(Default)]
struct Load {
    acked: Mutex<BTreeSet<Id>>,
    sent: AtomicU64,
    acks: AtomicU64,
    over: AtomicBool,
}

impl Load {
    /// Pushes until the server is gone. A trace's spans come in several pushes, so that crashes fall between them.
    fn push_until_gone(&self, url: &str, sender: u64, round: u64) {
        let content = [("content-type", "application/x-protobuf")];
        for push in 0.. {
            let spans: Vec<_> = (0..SPANS_PER_PUSH)
                .map(|i| {
                    let mut trace = vec![sender as u8, round as u8];
                    trace.resize(8, 0xaa);
                    trace.extend((push / 3 * SPANS_PER_PUSH + i).to_be_bytes());
                    let start = START + (round * 10_000 + push) * 1_000_000;
                    otlp::span(&trace, (push << 32) | (i + 1), "load", start)
                })
                .collect();
            let ids: Vec<Id> = spans.iter().map(|s| (s.trace_id.clone(), s.span_id.clone())).collect();
            self.sent.fetch_add(ids.len() as u64, Ordering::Relaxed);
            match http::try_post(url, &content, otlp::request("load", spans).encode_to_vec()) {
                Ok(answer) if answer.status == 200 => {
                    self.acked.lock().unwrap().extend(ids);
                    self.acks.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{} {}", answer.status, answer.text()),
                Err(_) => return,
            }
            if self.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Asks for flushes until the server is gone, at any moment of the load.
    fn flush_until_gone(&self, url: &str, random: &mut StdRng) {
        while !self.over.load(Ordering::Relaxed) {
            let until = self.acks.load(Ordering::Relaxed) + random.random_range(1..20);
            while self.acks.load(Ordering::Relaxed) < until && !self.over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            if http::try_post(url, &[], Vec::new()).is_err() {
                return;
            }
        }
    }
}

/// One round: load, a crash after a random number of acknowledgements, and what was acknowledged.
fn crash_under_load(server: Server, round: u64, random: &mut StdRng) -> BTreeSet<Id> {
    let load = Load::default();
    let (push_url, flush_url) = (server.otlp_url(), server.url("/flush"));
    let kill_after = random.random_range(5..150);
    let mut flushes = StdRng::seed_from_u64(random.random());
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (load, url) = (&load, &push_url);
            scope.spawn(move || load.push_until_gone(url, sender, round));
        }
        if round % 3 != 2 {
            scope.spawn(|| load.flush_until_gone(&flush_url, &mut flushes));
        }
        while load.acks.load(Ordering::Relaxed) < kill_after {
            thread::yield_now();
        }
        server.kill();
        load.over.store(true, Ordering::Relaxed);
    });
    load.acked.into_inner().unwrap()
}

/// All acknowledged spans are there once, and no span is there twice, by SQL and by trace id.
#[track_caller]
fn check(server: &Server, acked: &BTreeSet<Id>, sample: &mut StdRng) {
    let mut sql = Sql::connect(server);
    let rows = sql.query("SELECT trace_id, span_id, count(*) FROM spans GROUP BY trace_id, span_id");
    let counts: BTreeMap<(String, String), String> = rows.into_iter().map(|r| ((r[0].clone(), r[1].clone()), r[2].clone())).collect();
    let twice: Vec<_> = counts.iter().filter(|(_, n)| *n != "1").take(5).collect();
    assert!(twice.is_empty(), "spans that SQL counts twice: {twice:?}");
    let missing: Vec<_> = acked.iter().filter(|(t, s)| !counts.contains_key(&(hex(t), hex(s)))).map(|(t, s)| (hex(t), hex(s))).collect();
    assert!(
        missing.is_empty(),
        "{} acknowledged spans of {} that SQL misses, such as {:?}",
        missing.len(),
        acked.len(),
        &missing[..missing.len().min(5)]
    );

    let mut by_trace: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
    for (trace, span) in acked {
        by_trace.entry(trace).or_default().insert(span);
    }
    // Every trace would take long: each round looks at others.
    let mut traces: Vec<_> = by_trace.into_iter().collect();
    while traces.len() > 200 {
        traces.swap_remove(sample.random_range(0..traces.len()));
    }
    for (trace, spans) in traces {
        let found = server.trace(trace).unwrap_or_else(|| panic!("trace {} is gone", hex(trace)));
        let ids = found.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).map(|s| s.span_id.as_slice());
        let mut seen = BTreeSet::new();
        for id in ids {
            assert!(seen.insert(id), "trace {}: span {} twice", hex(trace), hex(id));
        }
        assert!(spans.is_subset(&seen), "trace {}: spans missing: {} of {}", hex(trace), spans.difference(&seen).count(), spans.len());
    }
}

#[test]
fn no_acknowledged_span_is_lost_or_doubled_by_a_crash() {
    let (rounds, seed) = (number("CRASH_ROUNDS", 3), number("CRASH_SEED", 1));
    let home = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut acked = BTreeSet::new();
    let mut server = Server::start_with(home.path(), SETTINGS);
    for round in 0..rounds {
        eprintln!("round {round} of {rounds}, CRASH_SEED={seed}: {} spans acknowledged so far", acked.len());
        let more = crash_under_load(server, round, &mut random);
        assert!(!more.is_empty());
        acked.extend(more);
        server = Server::start_with(home.path(), SETTINGS);
        check(&server, &acked, &mut random);
        if round % 2 == 1 {
            server.flush();
            check(&server, &acked, &mut random);
        }
    }
    // And all of it again from an orderly end.
    assert!(server.stop().success());
    let server = Server::start_with(home.path(), SETTINGS);
    check(&server, &acked, &mut random);
    server.flush();
    check(&server, &acked, &mut random);
}

/// Files of the write-ahead log, newest last.
fn wal_files(data: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), found),
                false => found.push(entry.path()),
            }
        }
    }
    let mut found = Vec::new();
    walk(&data.join("wal"), &mut found);
    found.retain(|p| p.metadata().unwrap().len() > 64);
    found.sort();
    found
}

/// A server with one acknowledged span in its log, killed; the span and the largest file of the log.
fn killed_with_a_log(home: &Path) -> (Id, PathBuf) {
    let server = Server::start_with(home, &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    let trace = [7; 16];
    let mut span = otlp::span(&trace, 1, "torn", START);
    span.attributes = vec![otlp::text("filler", &"x".repeat(500))];
    let id = (span.trace_id.clone(), span.span_id.clone());
    server.push(&otlp::request("torn", vec![span]));
    let data = server.data();
    server.kill();
    let file = wal_files(&data).into_iter().max_by_key(|p| p.metadata().unwrap().len());
    (id, file.expect("an acknowledged span, but no log"))
}

#[test]
fn a_torn_tail_of_the_log_hides_nothing_before_it() {
    for tail in [&[0u8; 1][..], &[0; 4096], &[0xff; 7], &[0x01, 0x02, 0x03, 0x00, 0x00, 0x10, 0x00]] {
        let home = tempfile::tempdir().unwrap();
        let (id, file) = killed_with_a_log(home.path());
        let mut bytes = fs::read(&file).unwrap();
        // Half of a record that was never acknowledged, or what a file system leaves after a power cut.
        bytes.extend_from_slice(tail);
        fs::write(&file, bytes).unwrap();
        let server = Server::start(home.path());
        let acked = BTreeSet::from([id]);
        check(&server, &acked, &mut StdRng::seed_from_u64(0));
        server.flush();
        check(&server.crash_and_restart(), &acked, &mut StdRng::seed_from_u64(0));
    }
}

#[test]
fn a_log_cut_at_any_byte_is_replayed_or_refused_in_words() {
    let home = tempfile::tempdir().unwrap();
    let (_, file) = killed_with_a_log(home.path());
    let whole = fs::read(&file).unwrap();
    let mut random = StdRng::seed_from_u64(3);
    for i in 0..8 {
        let cut = if i == 0 { 0 } else { random.random_range(1..whole.len()) };
        fs::write(&file, &whole[..cut]).unwrap();
        match Server::try_start(home.path(), &[]) {
            // What was cut off was the only span.
            Ok(server) => assert_eq!(Sql::connect(&server).number("SELECT count(*) FROM spans"), 0, "cut at {cut}"),
            Err(refusal) => {
                assert!(!refusal.text.contains("panicked"), "cut at {cut}: {}", refusal.text);
                assert!(refusal.text.contains("wal"), "cut at {cut}: does not name the file: {}", refusal.text);
            }
        }
        // The next cut starts from the same folder.
        for left in wal_files(&home.path().join("data")) {
            fs::remove_file(left).unwrap();
        }
        fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_folder_has_one_process() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let other = tempfile::tempdir().unwrap();
    let refusal = Server::try_start_at(other.path(), &server.data(), &[]).err().expect("two processes over one folder");
    assert!(!refusal.status.success());
    let folder = server.data().display().to_string();
    assert!(refusal.text.contains(&folder), "does not name the folder: {}", refusal.text);
    assert!(!refusal.text.contains("panicked"), "{}", refusal.text);
    // The first is not disturbed, and when it has gone the folder is free.
    assert_eq!(server.get("/ready").status, 200);
    server.kill();
    drop(Server::start(home.path()));
}
