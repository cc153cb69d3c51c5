//! Cuts what a query reads into jobs, the newest blocks first, so that an answer can be told while it grows.
//!
//! ```text
//! live spans + newest blocks | older blocks | oldest blocks
//!          job 1                  job 2          job 3
//!                            ^ nothing after job 1 starts later than this: its watermark
//! ```

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use datafusion::{error::Result as DfResult, physical_plan::ExecutionPlan};
use futures::StreamExt;
use tokio::time::{Interval, MissedTickBehavior};
use tracehouse_engine::{Snapshot, TenantId, block::BlockMeta};
use tracehouse_sql::{Execution, Sessions};

use crate::{result::search::SearchMetrics, search::metrics_of};

/// Time ranges of blocks may be cut to whole seconds.
const SECOND: i64 = 1_000_000_000;

/// How a query that is told while it runs is cut and how often it gives a sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Size of the blocks of a job.
    pub job_bytes: u64,
    /// Time between two signs of life.
    pub interval: Duration,
}

/// A part of what a query reads.
#[derive(Debug)]
pub struct Job {
    /// Sessions that read this part.
    pub sessions: Sessions,
    /// The blocks of the jobs behind this one.
    pub rest: Vec<Arc<BlockMeta>>,
    /// No span in `rest` starts after this (Unix nanoseconds), by the time ranges of the blocks.
    pub watermark: i64,
}

/// The jobs of a query, newest first, and their number and size; at least one. Blocks outside `range` (Unix nanoseconds,
/// inclusive) are left out.
pub fn cut(sessions: &Sessions, tenant: &TenantId, range: Option<(i64, i64)>, bytes: u64) -> (Vec<Job>, SearchMetrics) {
    let snapshot = sessions.snapshot(tenant);
    let blocks: Vec<Arc<BlockMeta>> = snapshot.blocks.iter().filter(|b| overlaps(b, range)).cloned().collect();
    let groups = blocks.iter().map(|b| b.total_records.max(1)).fold(u32::from(!snapshot.live.is_empty()), u32::saturating_add);
    let total = SearchMetrics {
        total_blocks: blocks.len() as u32,
        total_block_bytes: blocks.iter().map(|b| b.size).sum(),
        total_jobs: groups,
        ..SearchMetrics::default()
    };
    let mut jobs = Vec::new();
    let mut live = snapshot.live.clone();
    let mut from = 0;
    loop {
        let to = from + taken(&blocks[from..], bytes);
        let blocks_of_job = Arc::new(blocks[from..to].to_vec());
        let parts = Snapshot { blocks: blocks_of_job, live: std::mem::take(&mut live), ..snapshot.as_ref().clone() };
        let rest = blocks[to..].to_vec();
        // Blocks come by their end, the newest first.
        let watermark = rest.first().map_or(i64::MIN, |b| end(b).saturating_add(SECOND));
        jobs.push(Job { sessions: sessions.reading(Arc::new(parts)), rest, watermark });
        from = to;
        if from >= blocks.len() {
            return (jobs, total);
        }
    }
}

/// How many of these blocks make a job.
fn taken(blocks: &[Arc<BlockMeta>], bytes: u64) -> usize {
    let mut sum = 0u64;
    let full = blocks.iter().position(|b| {
        sum = sum.saturating_add(b.size.max(1));
        sum >= bytes
    });
    full.map_or(blocks.len(), |last| last + 1)
}

fn end(block: &BlockMeta) -> i64 {
    block.end_time.as_nanosecond() as i64
}

fn overlaps(block: &BlockMeta, range: Option<(i64, i64)>) -> bool {
    range.is_none_or(|(from, to)| block.start_time.as_nanosecond() as i64 <= to && end(block).saturating_add(SECOND) >= from)
}

/// Signs of life while plans run, and what they have cost.
#[derive(Debug)]
pub struct Progress {
    interval: Option<Interval>,
    /// What there is to do; nothing if that is not known.
    total: Option<SearchMetrics>,
    /// What plans that have ended have cost.
    pub cost: SearchMetrics,
}

impl Progress {
    /// No signs: nobody listens.
    pub fn silent() -> Self {
        Self { interval: None, total: None, cost: SearchMetrics::default() }
    }

    /// A sign at once, and one each time the interval is over.
    pub fn new(pace: &Pace, total: SearchMetrics) -> Self {
        let mut interval = tokio::time::interval(pace.interval.max(Duration::from_millis(1)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval: Some(interval), total: Some(total), cost: SearchMetrics::default() }
    }

    /// The next rows of a plan; `sign` is called with the cost so far while they are waited for.
    pub async fn next(&mut self, execution: &mut Execution, sign: &mut (dyn FnMut(SearchMetrics) + Send)) -> Option<DfResult<RecordBatch>> {
        loop {
            let Some(interval) = &mut self.interval else { return execution.rows.next().await };
            tokio::select! {
                biased;
                _ = interval.tick() => sign(self.so_far(metrics_of(execution.plan.as_ref()))),
                rows = execution.rows.next() => return rows,
            }
        }
    }

    /// Counts a plan that has ended.
    pub fn end(&mut self, plan: &dyn ExecutionPlan) {
        self.cost = self.cost.plus(metrics_of(plan));
    }

    /// What has been counted, and that of a plan that runs. If the total is known, what is complete goes up to it.
    pub fn so_far(&self, plan: SearchMetrics) -> SearchMetrics {
        let sum = self.cost.plus(plan);
        let Some(total) = self.total else { return sum };
        SearchMetrics {
            total_blocks: total.total_blocks,
            total_block_bytes: total.total_block_bytes,
            total_jobs: total.total_jobs,
            completed_jobs: sum.completed_jobs.min(total.total_jobs),
            ..sum
        }
    }

    /// What a query has cost in the end: everything is done.
    pub fn whole(&self) -> SearchMetrics {
        let cost = self.so_far(SearchMetrics::default());
        SearchMetrics { completed_jobs: cost.total_jobs, ..cost }
    }
}
