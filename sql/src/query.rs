//! A query that was let in: what it may use, and its plans while they run.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::runtime::SpawnedTask,
    error::{DataFusionError, Result as DfResult},
    execution::{RecordBatchStream, SendableRecordBatchStream, memory_pool::MemoryPool, runtime_env::RuntimeEnv},
    physical_plan::ExecutionPlan,
};
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};
use tracehouse_engine::{
    TenantId,
    error::{Error, ErrorKind, Result},
};

use crate::{
    admission::{Admission, Permit},
    memory::QueryMemory,
};

/// What a query that was let in may use: a slot, some memory, some time. All its sessions and streams hold it; the slot is
/// free again when the last of them is dropped.
#[derive(Debug)]
pub struct Admitted {
    /// The instant at which it is cut off.
    pub deadline: Instant,
    /// The environment of its plans: that of all, with this query's memory.
    pub runtime: Arc<RuntimeEnv>,
    memory: Arc<QueryMemory>,
    /// Whether it was counted as too late.
    late: AtomicBool,
    admission: Arc<Admission>,
    _permit: Permit,
}

impl Admitted {
    /// Waits until a query of this tenant may run.
    pub async fn wait(
        admission: &Arc<Admission>,
        tenant: &TenantId,
        deadline: Instant,
        runtime: &RuntimeEnv,
        bytes_max: usize,
    ) -> Result<Self> {
        let permit = admission.admit(tenant, deadline).await?;
        let memory = Arc::new(QueryMemory::new(runtime.memory_pool.clone(), bytes_max));
        let pool: Arc<dyn MemoryPool> = memory.clone();
        let runtime = Arc::new(RuntimeEnv { memory_pool: pool, ..runtime.clone() });
        Ok(Self { deadline, runtime, memory, late: AtomicBool::new(false), admission: admission.clone(), _permit: permit })
    }

    /// An error of its memory, told apart.
    pub fn explain(&self, error: DataFusionError) -> DataFusionError {
        self.memory.explain(error)
    }

    /// The same for an error from outside of its plans: what is put together of rows takes memory too.
    fn explain_own(&self, error: Error) -> Error {
        let mut causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
        let of_memory = causes.any(|e| matches!(e.downcast_ref(), Some(DataFusionError::ResourcesExhausted(_))));
        if of_memory { self.explain(error.into()).into() } else { error }
    }

    /// Runs a future until the deadline at most.
    pub async fn within<T>(&self, query: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.deadline, query).await {
            Ok(answer) => answer.map_err(|e| self.explain_own(e)),
            Err(_) => Err(self.too_late()),
        }
    }

    /// The error of a query that is cut off; counts it, once.
    fn too_late(&self) -> Error {
        if !self.late.swap(true, Relaxed) {
            self.admission.count_timeout();
        }
        too_late()
    }
}

/// A plan that runs. Dropping the rows stops it.
pub struct Execution {
    /// The plan; its metrics grow while it runs.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Its rows.
    pub rows: SendableRecordBatchStream,
}

/// How often the end of a stalled query is tried again while its rows are being made.
const RETRY: Duration = Duration::from_millis(20);

/// Rows until the deadline, with errors of memory told apart. What the query holds is free at the deadline even if nobody
/// asks for rows any more: a client that stops reading does not keep its slot.
pub struct BoundedRows {
    running: Arc<Mutex<Option<Running>>>,
    schema: SchemaRef,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    _watchdog: SpawnedTask<()>,
}

struct Running {
    rows: SendableRecordBatchStream,
    query: Arc<Admitted>,
}

impl BoundedRows {
    /// The rows of a plan of this query.
    pub fn new(rows: SendableRecordBatchStream, query: Arc<Admitted>) -> Self {
        let (schema, deadline) = (rows.schema(), query.deadline);
        let running = Arc::new(Mutex::new(Some(Running { rows, query })));
        let watched = running.clone();
        let watchdog = SpawnedTask::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            while !cut_off(&watched) {
                tokio::time::sleep(RETRY).await;
            }
        });
        Self { running, schema, ended: false, deadline: Box::pin(tokio::time::sleep_until(deadline)), _watchdog: watchdog }
    }
}

impl Stream for BoundedRows {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match running.as_mut() {
                None => Poll::Ready(Some(Err(too_late().into()))),
                Some(Running { rows, query }) => {
                    let next = rows.poll_next_unpin(context).map(|next| next.map(|b| b.map_err(|e| query.explain(e))));
                    if matches!(next, Poll::Ready(None | Some(Err(_)))) {
                        *running = None;
                    }
                    next
                }
            }
        };
        match next {
            Poll::Ready(next) => {
                self.ended = !matches!(next, Some(Ok(_)));
                Poll::Ready(next)
            }
            Poll::Pending if self.deadline.as_mut().poll(context).is_ready() => {
                self.ended = true;
                cut_off(&self.running);
                Poll::Ready(Some(Err(too_late().into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl RecordBatchStream for BoundedRows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Drops what runs, if nobody uses it at this moment; whether that is done.
fn cut_off(running: &Mutex<Option<Running>>) -> bool {
    let Ok(mut running) = running.try_lock() else { return false };
    if let Some(running) = running.take() {
        running.query.too_late();
    }
    true
}

fn too_late() -> Error {
    Error::new(ErrorKind::TimedOut, "query took too long: narrow its time range or its filter, or raise sql.query_timeout_seconds")
}
