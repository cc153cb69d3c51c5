//! Small spans, a store and a disk that fail on demand: for the tests of this crate.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::Mutex;
use tracehouse_engine::{
    Error, ErrorKind, Result, TenantId, Trace,
    scan::LiveSpans,
    trace::{AnyValue, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, Value},
};
use uuid::Uuid;

use crate::{
    flush::BlockCommitter,
    live::LiveStore,
    wal::{DiskIo, WalFile, WalIo},
};

/// A span with a made-up trace id and span id.
pub fn span(trace: u8, id: u64) -> Span {
    Span {
        trace_id: [[trace; 8], [1; 8]].concat(),
        span_id: id.max(1).to_be_bytes().to_vec(),
        name: format!("span {id}"),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_001_000,
        ..Span::default()
    }
}

/// A string attribute.
pub fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }), ..KeyValue::default() }
}

/// A request with one resource and one scope.
pub fn request(service: &str, spans: impl IntoIterator<Item = Span>) -> ExportTraceServiceRequest {
    let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let scope = InstrumentationScope { name: "test".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.into_iter().collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

type Block = (TenantId, Vec<Arc<Trace>>);

/// Makes blocks in memory, and can be told to fail.
#[derive(Debug, Default)]
pub struct FakeStore {
    pub blocks: Mutex<HashMap<Uuid, Block>>,
    /// The next commits fail without a trace.
    pub fail_before: AtomicUsize,
    /// The next commits are made, but the answer is lost.
    pub fail_after: AtomicUsize,
    pub hook: OnceLock<Hook>,
}

/// Called before each change to the disk or the store, with its name.
pub struct Hook(pub Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

fn count_down(n: &AtomicUsize) -> bool {
    n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl FakeStore {
    /// The same blocks in another store.
    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self { blocks: Mutex::new(self.blocks.lock().clone()), ..Self::default() })
    }

    /// Span ids that a query sees, as `Engine::snapshot` does it.
    pub fn visible(&self, live: &LiveStore, tenant: &TenantId) -> Vec<u64> {
        let (mut segments, blocks) = loop {
            let before = self.blocks.lock().len();
            let segments = live.snapshot(tenant);
            let blocks = self.blocks.lock();
            if blocks.len() == before {
                break (segments, blocks);
            }
        };
        segments.retain(|s| !s.block_id.is_some_and(|b| blocks.contains_key(&b)));
        let traces = segments.iter().flat_map(|s| &s.traces).chain(blocks.values().filter(|(t, _)| t == tenant).flat_map(|(_, t)| t));
        let mut ids: Vec<_> = traces.flat_map(|t| t.spans()).map(|(_, _, s)| span_number(s)).collect();
        ids.sort_unstable();
        ids
    }
}

/// The number a span was made with.
pub fn span_number(span: &Span) -> u64 {
    u64::from_be_bytes(span.span_id.as_slice().try_into().unwrap())
}

#[async_trait]
impl BlockCommitter for FakeStore {
    async fn commit(&self, tenant: &TenantId, block: Uuid, traces: Vec<Arc<Trace>>) -> Result<()> {
        tokio::task::yield_now().await;
        if count_down(&self.fail_before) {
            return Err(Error::new(ErrorKind::Unavailable, "the store is down"));
        }
        if let Some(hook) = self.hook.get() {
            (hook.0)("commit");
        }
        self.blocks.lock().insert(block, (tenant.clone(), traces));
        match count_down(&self.fail_after) {
            true => Err(Error::new(ErrorKind::Unavailable, "no answer from the store")),
            false => Ok(()),
        }
    }

    async fn adopt(&self, _: &TenantId, block: Uuid) -> Result<bool> {
        Ok(self.blocks.lock().contains_key(&block))
    }
}

/// A disk that can be told to fail.
#[derive(Debug, Default)]
pub struct FaultyIo {
    pub fail_sync: AtomicBool,
    pub full: AtomicBool,
    pub syncs: AtomicUsize,
    /// Syncs wait while this is locked.
    pub gate: Mutex<()>,
    pub hook: OnceLock<Hook>,
}

impl FaultyIo {
    fn before(&self, what: &str) {
        if let Some(hook) = self.hook.get() {
            (hook.0)(what);
        }
    }
}

/// So that files can hold on to their disk.
#[derive(Debug)]
pub struct SharedIo(pub Arc<FaultyIo>);

struct FaultyFile(Box<dyn WalFile>, Arc<FaultyIo>);

impl WalFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.before("append");
        if self.1.full.load(Ordering::SeqCst) {
            self.0.append(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.before("sync");
        drop(self.1.gate.lock());
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        match self.1.fail_sync.load(Ordering::SeqCst) {
            true => Err(io::Error::other("injected")),
            false => self.0.sync(),
        }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.cut(len)
    }
}

impl WalIo for SharedIo {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WalFile>> {
        self.0.before("create");
        Ok(Box::new(FaultyFile(DiskIo.create(path)?, self.0.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before("rename");
        DiskIo.rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.0.before("remove");
        DiskIo.remove(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.before("sync_folder");
        DiskIo.sync_folder(folder)
    }
}
