//! Streamed answers. A query runs in a task of its own, so that its slot and memory are free again whether the client reads or
//! not; the task ends when the stream is dropped.
//!
//! ```text
//! task: query --progress, what is final--> bounded channel --> stream of messages --> client
//! ```
//! While the query runs nothing waits for the client: signs of life that find no room are left out, and what is final is sent
//! again with the rest.

use std::{collections::HashSet, sync::Arc, time::Duration};

use datafusion::common::runtime::SpawnedTask;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use prost::Message;
use tokio::sync::mpsc::{self, Sender};
use tonic::{Code, Status};
use tracehouse_engine::{Error, ErrorKind, TenantId};

use super::{Api, ApiError};
use crate::{
    growing::{Watch, search_growing},
    jobs::Pace,
    legacy::{TagSearchRequest, search_by_tags},
    metrics::{
        InstantRequest, RangeRequest,
        growing::{self as metrics, query_instant_growing, query_range_growing},
    },
    result::{
        metrics::RangeResponse,
        search::{self, TraceSummary},
        tempopb::{QueryInstantResponse, QueryRangeResponse, SearchResponse},
    },
    search::SearchRequest,
};

/// Messages that wait for the client at most.
const MESSAGES_MAX: usize = 4;
/// How long a client may take to read a message of the final answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest text of a status in bytes: it travels in a header, which clients bound.
const TEXT_BYTES_MAX: usize = 4096;

/// Messages, and a status if it went wrong.
pub type Answer<M> = BoxStream<'static, Result<M, Status>>;

/// A query that sends its answers somewhere.
type QueryTask = SpawnedTask<Result<(), ApiError>>;

/// Runs a query in a task and gives its messages.
pub fn answer<M: Send + 'static, Q>(query: impl FnOnce(Sender<M>) -> Q) -> Answer<M>
where
    Q: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let task = SpawnedTask::spawn(query(sender));
    let next = |state: Option<(mpsc::Receiver<M>, QueryTask)>| async {
        let (mut messages, task) = state?;
        if let Some(message) = messages.recv().await {
            return Some((Ok(message), Some((messages, task))));
        }
        match task.join().await {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some((Err(status(&e)), None)),
            Err(e) => {
                tracing::error!(error = %e, "query failed");
                Some((Err(Status::internal("query failed: see the server's log")), None))
            }
        }
    };
    stream::unfold(Some((messages, task)), next).boxed()
}

/// The gRPC status of an error, by its HTTP status, as Tempo maps them.
pub fn status(error: &ApiError) -> Status {
    let code = match error.status.as_u16() {
        400 | 405 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        404 => Code::NotFound,
        413 | 429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    };
    let end = error.text.floor_char_boundary(TEXT_BYTES_MAX);
    let mut status = Status::new(code, &error.text[..end]);
    if error.status.as_u16() == 429 {
        status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from_static("1"));
    }
    status
}

/// Sends the messages of a final answer, each as soon as the client has room for it.
pub async fn send_all<M>(to: &Sender<M>, messages: impl IntoIterator<Item = M>) -> Result<(), ApiError> {
    for message in messages {
        match tokio::time::timeout(PATIENCE, to.send(message)).await {
            Ok(Ok(())) => {}
            // The stream was dropped, and this task with it.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Error::new(ErrorKind::TimedOut, "the client does not read its answer").into()),
        }
    }
    Ok(())
}

/// Messages of these items, each of at most about `bytes_max` bytes or of one item; one message if there are no items.
pub fn split<T, M>(items: Vec<T>, bytes_max: usize, bytes_of: impl Fn(&T) -> usize, message: impl Fn(Vec<T>) -> M) -> Vec<M> {
    let mut messages = Vec::new();
    let (mut part, mut held) = (Vec::new(), 0);
    for item in items {
        let bytes = bytes_of(&item);
        if !part.is_empty() && held + bytes > bytes_max {
            messages.push(message(std::mem::take(&mut part)));
            held = 0;
        }
        held += bytes;
        part.push(item);
    }
    if !part.is_empty() || messages.is_empty() {
        messages.push(message(part));
    }
    messages
}

impl Api {
    fn pace(&self) -> Pace {
        Pace { job_bytes: self.config.streaming_job_bytes, interval: Duration::from_millis(self.config.streaming_interval_ms) }
    }

    /// A search, told while it runs.
    pub fn stream_search(self: Arc<Self>, tenant: TenantId, request: SearchRequest) -> Answer<SearchResponse> {
        answer(|to| async move {
            let (pace, bytes_max) = (self.pace(), self.config.streaming_message_bytes_max);
            let mut watch = SearchWatch { to, bytes_max, sent: HashSet::new() };
            let found = self.run(&tenant, async |sessions| search_growing(&sessions, &tenant, &request, &pace, &mut watch).await).await?;
            let rest = found.traces.into_iter().filter(|t| !watch.sent.contains(&t.trace_id)).collect();
            send_all(&watch.to, trace_messages(rest, found.metrics, bytes_max)).await
        })
    }

    /// A search by tags, told in the end.
    pub fn stream_search_by_tags(self: Arc<Self>, tenant: TenantId, request: TagSearchRequest) -> Answer<SearchResponse> {
        answer(|to| async move {
            let found = self.run(&tenant, async |sessions| search_by_tags(&sessions, &tenant, &request).await).await?;
            send_all(&to, trace_messages(found.traces, found.metrics, self.config.streaming_message_bytes_max)).await
        })
    }

    /// A range query, told while it runs.
    pub fn stream_range(self: Arc<Self>, tenant: TenantId, request: RangeRequest) -> Answer<QueryRangeResponse> {
        answer(|to| async move {
            let (pace, bytes_max) = (self.pace(), self.config.streaming_message_bytes_max);
            let mut watch = RangeWatch { to: to.clone(), bytes_max };
            let found =
                self.run(&tenant, async |sessions| query_range_growing(&sessions, &tenant, &request, &pace, &mut watch).await).await?;
            send_all(&to, range_messages(found, bytes_max)).await
        })
    }

    /// An instant query, with signs of life while it runs.
    pub fn stream_instant(self: Arc<Self>, tenant: TenantId, request: InstantRequest) -> Answer<QueryInstantResponse> {
        answer(|to| async move {
            let (pace, bytes_max) = (self.pace(), self.config.streaming_message_bytes_max);
            let mut watch = InstantWatch { to: to.clone() };
            let found =
                self.run(&tenant, async |sessions| query_instant_growing(&sessions, &tenant, &request, &pace, &mut watch).await).await?;
            let QueryInstantResponse { series, metrics, status, message } = found.into();
            let part = |series| QueryInstantResponse { series, metrics, status: 0, message: String::new() };
            let mut messages = split(series, bytes_max, Message::encoded_len, part);
            if let Some(last) = messages.last_mut() {
                (last.status, last.message) = (status, message);
            }
            send_all(&to, messages).await
        })
    }
}

struct SearchWatch {
    to: Sender<SearchResponse>,
    bytes_max: usize,
    /// Traces that were sent; no trace is sent twice.
    sent: HashSet<String>,
}

impl Watch for SearchWatch {
    fn progress(&mut self, so_far: search::SearchMetrics) {
        let _ = self.to.try_send(SearchResponse { traces: Vec::new(), metrics: Some(so_far.into()) });
    }

    fn found(&mut self, traces: Vec<TraceSummary>, so_far: search::SearchMetrics) {
        for message in trace_messages(traces, so_far, self.bytes_max) {
            let ids: Vec<String> = message.traces.iter().map(|t| t.trace_id.clone()).collect();
            if self.to.try_send(message).is_ok() {
                self.sent.extend(ids);
            }
        }
    }
}

fn trace_messages(traces: Vec<TraceSummary>, metrics: search::SearchMetrics, bytes_max: usize) -> Vec<SearchResponse> {
    let message = |traces| SearchResponse { traces, metrics: Some(metrics.into()) };
    split(traces.into_iter().map(Into::into).collect(), bytes_max, Message::encoded_len, message)
}

struct RangeWatch {
    to: Sender<QueryRangeResponse>,
    bytes_max: usize,
}

impl metrics::Watch for RangeWatch {
    fn progress(&mut self, so_far: search::SearchMetrics) {
        let _ = self.to.try_send(QueryRangeResponse { metrics: Some(so_far.into()), ..QueryRangeResponse::default() });
    }

    fn complete(&mut self, part: RangeResponse) {
        for message in range_messages(part, self.bytes_max) {
            let _ = self.to.try_send(message);
        }
    }
}

fn range_messages(found: RangeResponse, bytes_max: usize) -> Vec<QueryRangeResponse> {
    let QueryRangeResponse { series, metrics, status, message } = found.into();
    let part = |series| QueryRangeResponse { series, metrics, status: 0, message: String::new() };
    let mut messages = split(series, bytes_max, Message::encoded_len, part);
    if let Some(last) = messages.last_mut() {
        (last.status, last.message) = (status, message);
    }
    messages
}

struct InstantWatch {
    to: Sender<QueryInstantResponse>,
}

impl metrics::Watch for InstantWatch {
    fn progress(&mut self, so_far: search::SearchMetrics) {
        let _ = self.to.try_send(QueryInstantResponse { metrics: Some(so_far.into()), ..QueryInstantResponse::default() });
    }

    /// An instant query has one interval, which is complete in the end.
    fn complete(&mut self, _: RangeResponse) {}
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn answers_are_split_by_size() {
        let sizes = |items: Vec<usize>| split(items, 10, |i| *i, |part| part);
        assert_eq!(sizes(vec![4, 4, 4, 20, 1, 1]), [vec![4, 4], vec![4], vec![20], vec![1, 1]]);
        assert_eq!(sizes(vec![]), [Vec::<usize>::new()]);
    }

    #[test]
    fn statuses_follow_those_of_http() {
        let of = |code: u16| status(&ApiError { status: StatusCode::from_u16(code).unwrap(), text: "é".repeat(4000) });
        assert_eq!(of(400).code(), Code::InvalidArgument);
        assert_eq!(of(504).code(), Code::DeadlineExceeded);
        assert_eq!(of(500).code(), Code::Internal);
        let full = of(429);
        assert_eq!((full.code(), full.metadata().get("retry-after").unwrap().to_str().unwrap()), (Code::ResourceExhausted, "1"));
        assert!(full.message().len() <= TEXT_BYTES_MAX);
    }

    #[tokio::test]
    async fn the_end_of_a_query_is_the_end_of_its_stream() {
        let fine = answer(|to| async move { send_all(&to, 0..10).await });
        assert_eq!(fine.map(Result::unwrap).collect::<Vec<i32>>().await, (0..10).collect::<Vec<_>>());
        let wrong = answer(|to: Sender<i32>| async move {
            send_all(&to, [1]).await?;
            Err(ApiError::bad_request("no"))
        });
        let wrong: Vec<_> = wrong.collect().await;
        assert!(wrong.len() == 2 && wrong[1].as_ref().is_err_and(|e| e.code() == Code::InvalidArgument), "{wrong:?}");
    }

    #[tokio::test]
    async fn dropping_a_stream_stops_its_query() {
        let alive = Arc::new(());
        let held = alive.clone();
        let mut stream = answer(|to| async move {
            let _held = held;
            loop {
                send_all(&to, [1]).await?;
            }
        });
        assert!(stream.next().await.is_some());
        drop(stream);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
