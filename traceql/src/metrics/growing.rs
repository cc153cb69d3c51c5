//! Metrics queries that are told while they run: job by job, the newest blocks first.

use tracehouse_engine::{Result, TenantId};
use tracehouse_sql::Sessions;

use super::{InstantRequest, RangeRequest, Run, exemplars_of, metrics_query, time::Intervals};
use crate::{
    jobs::{Job, Pace, Progress, cut},
    result::{
        metrics::{Group, InstantResponse, Merged, RangeResponse, Series, apply, assemble, drop_empty},
        search::SearchMetrics,
    },
    search::parse,
    spansets::program::plain_filters,
    syntax::{self, Metrics, MetricsExpr, MetricsFn, SecondStage},
};

/// Hears of a metrics query while it runs.
pub trait Watch: Send {
    /// How far it is; called now and then.
    fn progress(&mut self, so_far: SearchMetrics);

    /// Samples that are in the answer as they are: no span that is still to be read lies in their intervals. The final answer
    /// has them too.
    fn complete(&mut self, part: RangeResponse);
}

/// Runs a range query to its end, and tells what is complete on the way, the newest intervals first.
pub async fn query_range_growing(
    sessions: &Sessions,
    tenant: &TenantId,
    request: &RangeRequest,
    pace: &Pace,
    watch: &mut dyn Watch,
) -> Result<RangeResponse> {
    let query = parse(&request.query)?;
    let metrics = metrics_query(&query)?;
    let intervals = Intervals::range(request.start, request.end, request.step);
    let sessions = &sessions.reading(sessions.snapshot(tenant));
    let mut run = Run::new(sessions, tenant, intervals, exemplars_of(&query, request.exemplars), &metrics.expr).await?;
    let (jobs, total) = cut(sessions, tenant, Some((intervals.start, intervals.end())), pace.job_bytes);
    run.progress = Progress::new(pace, total);
    if jobs.len() > 1 && grows(metrics) {
        run.jobs = Some(Jobs { jobs, second: &metrics.second, series_max: request.series_max });
    }
    run.watch = Some(watch);
    let series = run.metrics(metrics).await?;
    Ok(RangeResponse::new(series, &intervals, run.progress.whole(), request.series_max))
}

/// Runs an instant query to its end, with signs of life on the way.
pub async fn query_instant_growing(
    sessions: &Sessions,
    tenant: &TenantId,
    request: &InstantRequest,
    pace: &Pace,
    watch: &mut dyn Watch,
) -> Result<InstantResponse> {
    let query = parse(&request.query)?;
    let metrics = metrics_query(&query)?;
    let intervals = Intervals::instant(request.start, request.end);
    let sessions = &sessions.reading(sessions.snapshot(tenant));
    let mut run = Run::new(sessions, tenant, intervals, 0, &metrics.expr).await?;
    run.progress = Progress::new(pace, cut(sessions, tenant, Some((request.start, request.end)), u64::MAX).1);
    run.watch = Some(watch);
    let series = run.metrics(metrics).await?;
    Ok(InstantResponse::new(series, run.progress.whole(), request.series_max))
}

/// Whether the samples of an interval can be told before those of others: each span decides by itself, and no stage compares
/// series that may not be known yet.
fn grows(metrics: &Metrics) -> bool {
    let MetricsExpr::Series(series) = &metrics.expr else { return false };
    let ranks = |s: &SecondStage| matches!(s, SecondStage::TopK(_) | SecondStage::BottomK(_));
    !matches!(series.function, MetricsFn::Compare(_))
        && plain_filters(&series.pipeline).is_some()
        && !series.second.iter().chain(&metrics.second).any(ranks)
}

/// What a query is cut into.
#[derive(Debug)]
pub struct Jobs<'a> {
    jobs: Vec<Job>,
    /// The stages behind those of the series.
    second: &'a [SecondStage],
    series_max: usize,
}

impl Run<'_> {
    /// Runs the plan of a first stage job by job, and tells what is complete after each.
    pub(super) async fn groups_of_jobs(&mut self, series: &syntax::Series, jobs: Jobs<'_>) -> Result<Vec<Group>> {
        let mut merged = Merged::new(&series.function);
        let mut told_from = i64::MAX;
        for job in jobs.jobs {
            merged.add(self.groups(&job.sessions, series).await?);
            if job.rest.is_empty() {
                break;
            }
            let groups: Vec<Group> = merged.groups().cloned().collect();
            let _memory = self.room_for(&groups).await?;
            let mut part = assemble(series, &self.intervals, groups).await?.series;
            self.keep_between(&mut part, job.watermark, told_from);
            apply(&series.second, &mut part);
            drop_empty(&mut part);
            apply(jobs.second, &mut part);
            told_from = told_from.min(job.watermark);
            let part = RangeResponse::new(part, &self.intervals, self.progress.so_far(SearchMetrics::default()), jobs.series_max);
            // Which series are cut off is known in the end only.
            if let Some(watch) = self.watch.as_mut().filter(|_| part.partial.is_none() && !part.series.is_empty()) {
                watch.complete(part);
            }
        }
        Ok(merged.into_groups())
    }

    /// Keeps the values of the intervals that begin at `from` or later and before `to` (Unix nanoseconds).
    fn keep_between(&self, series: &mut [Series], from: i64, to: i64) {
        for values in series.iter_mut().map(|s| &mut s.values) {
            for (i, value) in values.iter_mut().enumerate() {
                let begin = self.intervals.end_of(i).saturating_sub(self.intervals.step);
                if begin < from || begin >= to {
                    *value = f64::NAN;
                }
            }
        }
    }
}
