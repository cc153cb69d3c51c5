//! Completion: which attributes there are, and which values they have. HTTP and gRPC ask the same two questions,
//! [`Completion::names`] and [`Completion::values`].
//!
//! Without a query the blocks' vocabularies and the live spans answer, no span is read; a block without vocabulary is read
//! once and then known. A query that chooses spans is answered by reading those.

mod conditions;
mod known;
mod scan;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tracehouse_engine::{
    BlockId, Result, Snapshot, TenantId,
    block::{
        BlockMeta,
        vocabulary::{Bounds, Collector, Entry, ValueType, Vocabulary},
    },
    scan::AttributeScope,
};
use tracehouse_sql::Sessions;

pub(crate) use conditions::groups;
pub use text::TagValue;

use self::{
    conditions::{Group, filter_of_groups},
    known::{Answer, Known, Question},
    scan::{NameReader, Names, Scan, ValueReader, targets_of, vocabulary_key},
};
use crate::{
    plan::Place,
    result::json::{is_zero, string},
    syntax::{Field, Static},
};

/// Names of one scope are no more than this; a client that needs more asks with a query.
const NAMES_MAX: usize = 100_000;

/// Blocks without vocabulary that are read at the same time.
const BLOCKS_CONCURRENT: usize = 4;

/// The intrinsics that Tempo offers for completion.
pub const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// The scopes whose names are kept in data.
const SCOPES: [AttributeScope; 5] =
    [AttributeScope::Resource, AttributeScope::Span, AttributeScope::Event, AttributeScope::Link, AttributeScope::Instrumentation];

/// Which names are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagScope {
    /// Those of all scopes, and the intrinsics.
    #[default]
    All,
    /// Those of one scope.
    One(AttributeScope),
    /// The intrinsics.
    Intrinsic,
    /// `trace`: a scope that has intrinsics only, so there are none.
    Trace,
}

impl TagScope {
    /// The scope with this name in the API; the empty text means all.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "none" => Some(Self::All),
            "intrinsic" => Some(Self::Intrinsic),
            "trace" => Some(Self::Trace),
            other => SCOPES.into_iter().find(|s| s.as_str() == other).map(Self::One),
        }
    }
}

/// Which spans are looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagsRequest {
    /// A TraceQL query, perhaps unfinished. If nothing can be made of it, all spans are looked at.
    pub query: Option<String>,
    /// Unix nanoseconds, inclusive: blocks and live traces that overlap this range. `None` means all time.
    pub range: Option<(i64, i64)>,
    /// Most names of each scope, or most values; 0 means no bound but the service's own.
    pub limit: usize,
}

/// What an answer has cost (Tempo's `MetadataMetrics`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // Tempo's names
pub struct Cost {
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub inspected_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_jobs: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub completed_jobs: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_blocks: u32,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "string")]
    pub total_block_bytes: u64,
}

/// Names by scope; scopes without names are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagNames {
    /// The scope's name in the API and the names, sorted.
    pub scopes: Vec<(&'static str, Vec<String>)>,
    /// What it has cost.
    pub cost: Cost,
}

/// Values of a tag.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagValues {
    /// Distinct values, sorted by type and text.
    pub values: Vec<TagValue>,
    /// What it has cost.
    pub cost: Cost,
}

/// Answers questions for completion.
#[derive(Debug)]
pub struct Completion {
    known: Known,
    bytes_max: usize,
}

impl Completion {
    /// `bytes_max` bounds the values of one answer, `known_bytes_max` what is kept in memory of blocks without a vocabulary.
    pub fn new(bytes_max: usize, known_bytes_max: usize) -> Self {
        Self { known: Known::new(known_bytes_max), bytes_max }
    }

    /// Names of attributes by scope.
    pub async fn names(&self, sessions: &Sessions, tenant: &TenantId, scope: TagScope, request: &TagsRequest) -> Result<TagNames> {
        let (scopes, intrinsics): (&[AttributeScope], bool) = match &scope {
            TagScope::All => (&SCOPES, true),
            TagScope::One(scope) => (std::slice::from_ref(scope), false),
            TagScope::Intrinsic => (&[], true),
            TagScope::Trace => (&[], false),
        };
        let groups = request.query.as_deref().map_or_else(|| Ok(Vec::new()), groups)?;
        let (mut names, cost) = match groups.is_empty() {
            _ if scopes.is_empty() => (Names::new(), Cost::default()),
            true => self.all_names(sessions, tenant, scopes, request).await?,
            false => self.chosen_names(sessions, tenant, scopes, &groups, request).await?,
        };
        let limit = if request.limit == 0 { NAMES_MAX } else { request.limit.min(NAMES_MAX) };
        let mut found: Vec<(&'static str, Vec<String>)> = Vec::new();
        for scope in scopes {
            let names: Vec<String> = names.remove(scope).unwrap_or_default().into_iter().take(limit).collect();
            if !names.is_empty() {
                found.push((scope.as_str(), names));
            }
        }
        if intrinsics {
            found.push(("intrinsic", INTRINSICS.iter().map(|s| (*s).to_owned()).collect()));
        }
        Ok(TagNames { scopes: found, cost })
    }

    async fn all_names(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        scopes: &[AttributeScope],
        request: &TagsRequest,
    ) -> Result<(Names, Cost)> {
        let snapshot = sessions.engine().snapshot(tenant);
        let mut names = Names::new();
        let mut add = |vocabulary: &Vocabulary| {
            for entry in vocabulary.entries() {
                if let Some(scope) = entry.scope.filter(|s| scopes.contains(s)) {
                    insert(names.entry(scope).or_default(), &entry.name);
                }
            }
        };
        add(&snapshot.live_vocabulary(Collector::new(Bounds::NAMES), request.range));
        let (mut cost, vocabularies, others) = self.vocabularies(sessions, tenant, &snapshot, request.range).await?;
        vocabularies.iter().for_each(|v| add(v));
        let unknown = others.iter().flat_map(|block| scopes.iter().map(|scope| (block.block_id, *scope)));
        let mut read: BTreeMap<BlockId, Vec<AttributeScope>> = BTreeMap::new();
        for (block, scope) in unknown {
            match self.known.get(block, &Question::Names(scope)) {
                Some(Answer::Names(known)) => names.entry(scope).or_default().extend(known.iter().cloned()),
                _ => read.entry(block).or_default().push(scope),
            }
        }
        let read = read.into_iter().map(|(block, scopes)| self.names_of_block(sessions, tenant, block, scopes));
        let mut read = futures::stream::iter(read).buffer_unordered(BLOCKS_CONCURRENT);
        while let Some((found, spent)) = read.try_next().await? {
            cost.inspected_bytes += spent.inspected_bytes;
            for (scope, found) in found {
                names.entry(scope).or_default().extend(found);
            }
        }
        Ok((names, cost))
    }

    /// The names in a block without vocabulary, which are known from now on.
    async fn names_of_block(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        block: BlockId,
        scopes: Vec<AttributeScope>,
    ) -> Result<(Names, Cost)> {
        let mut reader = NameReader::new(&scopes, false, NAMES_MAX);
        let place = Place::Blocks(Arc::new(HashSet::from([block])));
        let mut scan = Scan::start(sessions, tenant, &reader.columns(), None, &place).await?;
        while let Some(batch) = scan.next().await? {
            reader.add(&batch)?;
        }
        for scope in scopes {
            let names: Vec<String> = reader.names.get(&scope).into_iter().flatten().cloned().collect();
            self.known.put(block, Question::Names(scope), Answer::Names(names.into()));
        }
        Ok((reader.names, scan.cost()))
    }

    async fn chosen_names(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        scopes: &[AttributeScope],
        groups: &[Group],
        request: &TagsRequest,
    ) -> Result<(Names, Cost)> {
        let mut reader = NameReader::new(scopes, scopes.len() > 1, NAMES_MAX);
        let filter = filter_of_groups(groups);
        let place = Place::Within(request.range);
        let mut scan = Scan::start(sessions, tenant, &reader.columns(), filter.as_ref(), &place).await?;
        while let Some(batch) = scan.next().await? {
            reader.add(&batch)?;
        }
        // A column that every block has: Tempo names it whichever spans are chosen.
        let snapshot = sessions.engine().snapshot(tenant);
        let live = || snapshot.live.iter().flat_map(|s| &s.traces).any(|t| request.range.is_none_or(|r| t.overlaps(r)));
        let any = snapshot.blocks.iter().any(|b| is_within(b, request.range)) || live();
        if any && scopes.contains(&AttributeScope::Resource) {
            insert(reader.names.entry(AttributeScope::Resource).or_default(), "service.name");
        }
        Ok((reader.names, scan.cost()))
    }

    /// Values of a field; `request.query` may choose spans.
    pub async fn values(&self, sessions: &Sessions, tenant: &TenantId, field: &Field, request: &TagsRequest) -> Result<TagValues> {
        let mut found = Found::new(request.limit, self.bytes_max);
        let mut groups = request.query.as_deref().map_or_else(|| Ok(Vec::new()), groups)?;
        let cost = if groups.is_empty() {
            self.all_values(sessions, tenant, field, request, &mut found).await?
        } else {
            // A group that pins the field to a value tells that value, without looking.
            groups.retain(|group| match group.iter().find_map(|c| c.pins(field)) {
                Some(value) => {
                    found.add(TagValue::new(value));
                    false
                }
                None => true,
            });
            if groups.is_empty() {
                Cost::default()
            } else {
                self.chosen_values(sessions, tenant, field, &groups, request, &mut found).await?
            }
        };
        Ok(TagValues { values: found.values.into_iter().collect(), cost })
    }

    async fn chosen_values(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        field: &Field,
        groups: &[Group],
        request: &TagsRequest,
        found: &mut Found,
    ) -> Result<Cost> {
        let filter = filter_of_groups(groups);
        let reader = ValueReader::new(targets_of(field, true), filter.as_ref(), true)?;
        let place = Place::Within(request.range);
        let mut scan = Scan::start(sessions, tenant, &reader.columns(), filter.as_ref(), &place).await?;
        while let (Some(batch), false) = (scan.next().await?, found.is_full()) {
            reader.read(&batch, &mut |_, value| found.add(TagValue::new(&value)))?;
        }
        Ok(scan.cost())
    }

    async fn all_values(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        field: &Field,
        request: &TagsRequest,
        found: &mut Found,
    ) -> Result<Cost> {
        let targets = targets_of(field, false);
        let keys: Option<Vec<_>> = targets.iter().map(vocabulary_key).collect();
        let Some(keys) = keys else {
            // Ids, times and the like: different on most spans, so no vocabulary has them.
            return self.read_values(sessions, tenant, &targets, &Place::Within(request.range), found).await;
        };
        let snapshot = sessions.engine().snapshot(tenant);
        let (mut cost, vocabularies, others) = self.vocabularies(sessions, tenant, &snapshot, request.range).await?;
        let live = snapshot.live_vocabulary(Collector::of(Bounds::bytes(self.bytes_max), keys.clone()), request.range);
        // To be read: blocks without a vocabulary, and those whose vocabulary has not all values.
        let mut unread: BTreeSet<BlockId> = others.iter().map(|b| b.block_id).collect();
        for (block, vocabulary) in std::iter::once((None, &live)).chain(vocabularies.iter().map(|v| (Some(v.block), &*v.vocabulary))) {
            for entry in keys.iter().flat_map(|(scope, name)| vocabulary.of(*scope, name)) {
                found.add_entry(entry);
                unread.extend(block.filter(|_| !entry.complete));
            }
        }
        let read = unread.into_iter().map(|block| self.values_of_block(sessions, tenant, field, &targets, block));
        let mut read = futures::stream::iter(read).buffer_unordered(BLOCKS_CONCURRENT);
        while !found.is_full() {
            let Some((values, bytes)) = read.try_next().await? else { break };
            values.iter().cloned().for_each(|v| found.add(v));
            cost.inspected_bytes += bytes;
        }
        Ok(cost)
    }

    /// All values in a block, read from its columns and known from now on; and the bytes read for it.
    async fn values_of_block(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        field: &Field,
        targets: &[Field],
        block: BlockId,
    ) -> Result<(Arc<[TagValue]>, u64)> {
        let question = Question::Values(field.clone());
        if let Some(Answer::Values(known)) = self.known.get(block, &question) {
            return Ok((known, 0));
        }
        let mut of_block = Found::new(0, self.bytes_max);
        let place = Place::Blocks(Arc::new(HashSet::from([block])));
        let cost = self.read_values(sessions, tenant, targets, &place, &mut of_block).await?;
        let values: Arc<[TagValue]> = of_block.values.into_iter().collect();
        self.known.put(block, question, Answer::Values(values.clone()));
        Ok((values, cost.inspected_bytes))
    }

    /// Reads the values of all spans of a place, until `found` is full.
    async fn read_values(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        targets: &[Field],
        place: &Place,
        found: &mut Found,
    ) -> Result<Cost> {
        let reader = ValueReader::new(targets.to_vec(), None, false)?;
        let mut scan = Scan::start(sessions, tenant, &reader.columns(), None, place).await?;
        while let (Some(batch), false) = (scan.next().await?, found.is_full()) {
            reader.read(&batch, &mut |target, value| found.add(TagValue::stored(target, &value)))?;
        }
        Ok(scan.cost())
    }

    /// The vocabularies of the blocks in the range, and the blocks that have none.
    async fn vocabularies(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        snapshot: &Snapshot,
        range: Option<(i64, i64)>,
    ) -> Result<OfBlocks> {
        let blocks: Vec<_> = snapshot.blocks.iter().filter(|b| is_within(b, range)).cloned().collect();
        let mut cost = Cost { total_blocks: blocks.len() as u32, ..Cost::default() };
        (cost.total_jobs, cost.completed_jobs) = (cost.total_blocks, cost.total_blocks);
        cost.total_block_bytes = blocks.iter().map(|b| b.size).sum();
        let engine = sessions.engine();
        let read = blocks.into_iter().map(|block| async move {
            let read = engine.vocabulary(tenant, &block).await?;
            Ok::<_, tracehouse_engine::Error>((block, read))
        });
        let mut read = futures::stream::iter(read).buffered(BLOCKS_CONCURRENT * 4);
        let (mut vocabularies, mut others) = (Vec::new(), Vec::new());
        while let Some((block, (vocabulary, bytes))) = read.try_next().await? {
            cost.inspected_bytes += bytes;
            match vocabulary {
                Some(vocabulary) => vocabularies.push(OfBlock { block: block.block_id, vocabulary }),
                None => others.push(block),
            }
        }
        Ok((cost, vocabularies, others))
    }
}

type OfBlocks = (Cost, Vec<OfBlock>, Vec<Arc<BlockMeta>>);

/// A block's vocabulary.
struct OfBlock {
    block: BlockId,
    vocabulary: Arc<Vocabulary>,
}

impl std::ops::Deref for OfBlock {
    type Target = Vocabulary;

    fn deref(&self) -> &Vocabulary {
        &self.vocabulary
    }
}

/// Adds a name, copied only if it is new.
fn insert(names: &mut BTreeSet<String>, name: &str) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

/// Whether a block overlaps the range. Other writers cut times in `meta.json` to whole seconds.
fn is_within(block: &BlockMeta, range: Option<(i64, i64)>) -> bool {
    const SECOND: i64 = 1_000_000_000;
    let (start, end) = (block.start_time.as_nanosecond() as i64, block.end_time.as_nanosecond() as i64);
    range.is_none_or(|(from, to)| start <= to && end.saturating_add(SECOND) >= from)
}

/// Distinct values within bounds.
struct Found {
    values: BTreeSet<TagValue>,
    bytes: usize,
    limit: usize,
    bytes_max: usize,
    full: bool,
}

impl Found {
    /// At most `limit` values (0: any number) of at most `bytes_max` bytes in all.
    fn new(limit: usize, bytes_max: usize) -> Self {
        Self { values: BTreeSet::new(), bytes: 0, limit, bytes_max, full: false }
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn add(&mut self, value: TagValue) {
        if self.full || self.values.contains(&value) {
            return;
        }
        let bytes = self.bytes + value.len();
        if (self.limit > 0 && self.values.len() >= self.limit) || bytes > self.bytes_max {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.values.insert(value);
        self.full = self.limit > 0 && self.values.len() >= self.limit;
    }

    fn add_entry(&mut self, entry: &Entry) {
        for (text, _) in &entry.values {
            let value = match entry.value_type {
                ValueType::String => TagValue { r#type: "string", value: text.to_string() },
                ValueType::Int => TagValue { r#type: "int", value: text.to_string() },
                ValueType::Bool => TagValue { r#type: "bool", value: text.to_string() },
                ValueType::Float => TagValue::new(&Static::Float(text.parse().unwrap_or(f64::NAN))),
                ValueType::Other => continue,
            };
            self.add(value);
        }
    }
}
