//! `tracehouse load`: realistic synthetic traffic of an e-commerce shop, sent over OTLP.

mod calls;
mod scene;
mod send;
mod services;
pub mod shop;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracehouse_engine::clock;

use self::{send::Sender, shop::Shop};
use crate::error::{Error, Result};

/// Spans per second that the times of spans follow when they are sent as fast as possible.
const NOMINAL_RATE: f64 = 1_000.0;
/// How far before now a visit begins that is told in real time, so that its spans lie in the past.
const SETTLE_NANOS: u64 = 1_000_000_000;
/// Latencies kept for the summary.
const LATENCIES_MAX: usize = 100_000;

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, protobuf.
    Http,
}

impl Protocol {
    /// Where a server with default settings listens.
    pub fn default_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://127.0.0.1:4317",
            Self::Http => "http://127.0.0.1:4318",
        }
    }
}

/// What to send, where, and how fast.
#[derive(Clone, Debug)]
pub struct Options {
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: String,
    /// For whom.
    pub tenant: Option<String>,
    /// Seed of all chance.
    pub seed: u64,
    /// Spans per second; 0 is as fast as possible.
    pub rate: f64,
    /// End after this many spans.
    pub spans: Option<u64>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// Time of the first visit (Unix nanoseconds); real time if `None`.
    pub start: Option<u64>,
    /// Spread the spans' times over this long.
    pub period: Option<Duration>,
    /// Spans in a request.
    pub batch: usize,
    /// Requests under way at a time.
    pub concurrency: usize,
}

impl Options {
    /// Endless, at this rate, to a gRPC endpoint, never the same.
    pub fn steady(endpoint: String, rate: f64) -> Self {
        Self {
            protocol: Protocol::Grpc,
            endpoint,
            tenant: None,
            seed: clock::now_unix_nanos(),
            rate,
            spans: None,
            duration: None,
            start: None,
            period: None,
            batch: 512,
            concurrency: 2,
        }
    }
}

/// What was sent and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Spans made and handed to a connection.
    pub sent: u64,
    /// Spans that the server took.
    pub acked: u64,
    /// Spans that the server refused.
    pub rejected: u64,
    /// Spans of requests that were given up.
    pub failed: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Bytes of the requests.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The first reason for a refused span or a failed request.
    pub reason: Option<String>,
    /// Request latencies: median, 99th percentile, maximum.
    pub latency: (Duration, Duration, Duration),
}

impl Report {
    /// The report as one sentence.
    pub fn summary(&self) -> String {
        let rate = self.acked as f64 / self.elapsed.as_secs_f64().max(1e-9);
        let mut text = format!(
            "sent {} spans ({}) in {:.1?}: {} acked ({rate:.0} spans/s), {} rejected, {} failed, {} retries; request latency p50 {:.1?} p99 {:.1?} max {:.1?}",
            HumanCount(self.sent),
            HumanBytes(self.bytes),
            self.elapsed,
            HumanCount(self.acked),
            HumanCount(self.rejected),
            HumanCount(self.failed),
            HumanCount(self.retries),
            self.latency.0,
            self.latency.1,
            self.latency.2,
        );
        if let Some(reason) = &self.reason {
            text = format!("{text}\nfirst reason: {reason}");
        }
        text
    }

    /// Whether every span was taken.
    pub fn all_taken(&self) -> bool {
        self.rejected == 0 && self.failed == 0
    }
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    acked: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    /// Whether the last request was taken: then a failure is worth waiting for.
    healthy: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    reason: Option<String>,
    latencies: VecDeque<Duration>,
}

impl Counters {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, elapsed: Duration) -> Report {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let notes = self.notes();
        let mut sorted: Vec<_> = notes.latencies.iter().copied().collect();
        sorted.sort();
        let at = |q: f64| sorted.get(((sorted.len().saturating_sub(1)) as f64 * q) as usize).copied().unwrap_or_default();
        Report {
            sent: get(&self.sent),
            acked: get(&self.acked),
            rejected: get(&self.rejected),
            failed: get(&self.failed),
            retries: get(&self.retries),
            bytes: get(&self.bytes),
            elapsed,
            reason: notes.reason.clone(),
            latency: (at(0.5), at(0.99), at(1.0)),
        }
    }
}

struct Batch {
    spans: u64,
    body: Bytes,
}

/// Sends traffic until the options' end, or `stop`. A server that cannot be reached at all is an error; refused spans are
/// in the report.
pub async fn run(options: Options, stop: CancellationToken, bar: ProgressBar) -> Result<Report> {
    let began = clock::now();
    let counters = Arc::new(Counters::default());
    let stop = stop.child_token();
    let (queue, batches) = mpsc::channel(options.concurrency.max(1) * 2);
    let batches = Arc::new(tokio::sync::Mutex::new(batches));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.concurrency.max(1) {
        let sender = Sender::new(options.protocol, &options.endpoint, options.tenant.as_deref())?;
        workers.spawn(work(sender, batches.clone(), counters.clone(), stop.clone()));
    }
    drop(batches);
    let (making, made_stop) = (options.clone(), stop.clone());
    let maker = tokio::task::spawn_blocking(move || make(&making, &queue, &made_stop));
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = tick.tick() => show(&bar, &options, &counters.report(began.elapsed())),
            done = workers.join_next() => if done.is_none() { break },
        }
    }
    maker.await.map_err(|e| Error::failed(format!("the generator failed: {e}")))?;
    bar.finish_and_clear();
    let report = counters.report(began.elapsed());
    match &report.reason {
        Some(reason) if report.acked == 0 && report.rejected == 0 && report.failed > 0 => Err(Error::failed(format!(
            "cannot send to {}: {reason}: is `tracehouse serve` running, and is --endpoint right for --protocol?",
            options.endpoint
        ))),
        _ => Ok(report),
    }
}

/// Makes batches at the asked rate.
fn make(options: &Options, queue: &mpsc::Sender<Batch>, stop: &CancellationToken) {
    let mut shop = Shop::new(options.seed);
    let began = clock::now();
    let times = Times::new(options, clock::now_unix_nanos());
    let flush_at = match options.rate {
        // A slow stream is sent five times a second rather than in full batches.
        rate if rate > 0.0 => options.batch.min((rate / 5.0) as usize).max(1),
        _ => options.batch.max(1),
    };
    let (mut made, mut spans) = (0_u64, Vec::new());
    let ends = |made: u64| options.spans.is_some_and(|n| made >= n) || options.duration.is_some_and(|d| began.elapsed() >= d);
    while !stop.is_cancelled() && !ends(made) {
        while spans.len() < flush_at && !ends(made + spans.len() as u64) {
            let at = times.at(made + spans.len() as u64).unwrap_or_else(|| clock::now_unix_nanos().saturating_sub(SETTLE_NANOS));
            spans.extend(shop.visit(at));
        }
        // The last visit is cut, so that `--spans` is exact.
        spans.truncate(options.spans.map_or(usize::MAX, |n| n.saturating_sub(made) as usize));
        if spans.is_empty() {
            break;
        }
        let count = spans.len() as u64;
        let body = scene::request(std::mem::take(&mut spans)).encode_to_vec().into();
        made += count;
        if queue.blocking_send(Batch { spans: count, body }).is_err() {
            break;
        }
        if options.rate > 0.0 {
            let due = Duration::from_secs_f64(made as f64 / options.rate);
            wait(due.saturating_sub(began.elapsed()), stop);
        }
    }
}

/// Sleeps in small steps, so that `stop` is heard.
fn wait(mut left: Duration, stop: &CancellationToken) {
    while !left.is_zero() && !stop.is_cancelled() {
        let step = left.min(Duration::from_millis(100));
        std::thread::sleep(step);
        left -= step;
    }
}

/// When visits begin.
struct Times {
    start: Option<u64>,
    nanos_per_span: f64,
}

impl Times {
    fn new(options: &Options, now: u64) -> Self {
        let period = options.period.map(|p| p.as_nanos() as u64);
        let start = options.start.or(period.map(|p| now.saturating_sub(p)));
        let nanos_per_span = match (period, options.spans) {
            (Some(period), Some(spans)) => period as f64 / spans.max(1) as f64,
            _ if options.rate > 0.0 => 1e9 / options.rate,
            _ => 1e9 / NOMINAL_RATE,
        };
        Self { start, nanos_per_span }
    }

    /// The time of the visit after this many spans; `None` means now.
    fn at(&self, spans: u64) -> Option<u64> {
        self.start.map(|start| start + (spans as f64 * self.nanos_per_span) as u64)
    }
}

async fn work(
    mut sender: Sender,
    batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let add = |n: &AtomicU64, by: u64| n.fetch_add(by, Ordering::Relaxed);
    loop {
        let Some(batch) = batches.lock().await.recv().await else { return };
        add(&counters.sent, batch.spans);
        add(&counters.bytes, batch.body.len() as u64);
        let began = clock::now();
        let known = counters.healthy.load(Ordering::Relaxed);
        match sender.send(batch.body, known).await {
            Ok(ack) => {
                counters.healthy.store(true, Ordering::Relaxed);
                add(&counters.acked, batch.spans.saturating_sub(ack.rejected));
                add(&counters.rejected, ack.rejected);
                add(&counters.retries, ack.retries);
                let mut notes = counters.notes();
                if notes.latencies.len() == LATENCIES_MAX {
                    notes.latencies.pop_front();
                }
                notes.latencies.push_back(began.elapsed());
                if ack.rejected > 0 {
                    notes.reason.get_or_insert(ack.message);
                }
            }
            Err(refusal) => {
                counters.healthy.store(false, Ordering::Relaxed);
                add(&counters.failed, batch.spans);
                counters.notes().reason.get_or_insert(refusal.message);
                // Nothing ever got through: going on would only make the user wait.
                if counters.acked.load(Ordering::Relaxed) == 0 {
                    stop.cancel();
                }
            }
        }
    }
}

/// The progress bar of a load: with an end if there is one.
pub fn progress(options: &Options) -> ProgressBar {
    let (length, bar) = match (options.spans, options.duration) {
        (Some(n), _) => (Some(n), "{bar:30} {percent:>3}% "),
        (None, Some(d)) => (Some(d.as_millis() as u64), "{bar:30} {percent:>3}% "),
        (None, None) => (None, "{spinner} "),
    };
    let bar_style = ProgressStyle::with_template(&format!("{bar}{{elapsed_precise}} {{msg}}"));
    let progress = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    match bar_style {
        Ok(style) => progress.with_style(style),
        Err(_) => progress,
    }
}

fn show(bar: &ProgressBar, options: &Options, report: &Report) {
    bar.set_position(if options.spans.is_some() {
        report.acked + report.rejected + report.failed
    } else {
        report.elapsed.as_millis() as u64
    });
    let rate = report.acked as f64 / report.elapsed.as_secs_f64().max(1e-9);
    let errors = report.rejected + report.failed;
    bar.set_message(format!(
        "sent {} · acked {} · {rate:.0}/s · errors {}",
        HumanCount(report.sent),
        HumanCount(report.acked),
        HumanCount(errors)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_exactly_and_made_again_from_the_same_start() {
        let options = Options {
            seed: 1,
            spans: Some(1_000),
            start: Some(1_760_000_000_000_000_000),
            period: Some(Duration::from_secs(3600)),
            ..Options::steady(String::new(), 0.0)
        };
        let bodies = || {
            let (queue, mut batches) = mpsc::channel(100);
            make(&options, &queue, &CancellationToken::new());
            drop(queue);
            let mut all = Vec::new();
            while let Ok(batch) = batches.try_recv() {
                all.push((batch.spans, batch.body));
            }
            all
        };
        let first = bodies();
        assert_eq!(first.iter().map(|b| b.0).sum::<u64>(), 1_000);
        assert_eq!(first, bodies());
    }

    #[test]
    fn times_follow_the_period_or_the_rate() {
        let steady = Options { start: Some(5), ..Options::steady(String::new(), 100.0) };
        assert_eq!(Times::new(&steady, 0).at(100), Some(1_000_000_005));
        let spread = Options { spans: Some(10), period: Some(Duration::from_secs(10)), ..Options::steady(String::new(), 0.0) };
        assert_eq!(Times::new(&spread, 20_000_000_000).at(5), Some(15_000_000_000));
        assert_eq!(Times::new(&Options::steady(String::new(), 1.0), 9).at(5), None);
    }
}
