//! The memory of one query: a share of what all queries may hold, with a bound of its own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};
use tracehouse_engine::error::{Error, ErrorKind};

/// A pool that takes from another one, up to a bound.
#[derive(Debug)]
pub struct QueryMemory {
    all: Arc<dyn MemoryPool>,
    used: AtomicUsize,
    bytes_max: usize,
    refused: AtomicBool,
}

impl QueryMemory {
    /// At most `bytes_max` bytes of `all`.
    pub fn new(all: Arc<dyn MemoryPool>, bytes_max: usize) -> Self {
        Self { all, used: AtomicUsize::new(0), bytes_max, refused: AtomicBool::new(false) }
    }

    /// An error of the query, told apart: too large by itself, or no memory left beside the other queries.
    pub fn explain(&self, error: DataFusionError) -> DataFusionError {
        if !matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
            return error;
        }
        let (kind, text) = match self.refused.load(Relaxed) {
            true => (
                ErrorKind::TooLarge,
                format!(
                    "query needs more than {} bytes of memory: narrow its time range or its filter, group by fewer values, or raise \
                     sql.query_memory_bytes_max",
                    self.bytes_max
                ),
            ),
            false => {
                (ErrorKind::TooMany, "the queries that run now hold all memory: ask again later, or raise sql.memory_bytes_max".to_owned())
            }
        };
        tracing::info!(%error, "query refused: {text}");
        Error::new(kind, text).into()
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query memory ({} of {} bytes)", self.used.load(Relaxed), self.bytes_max)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.all.grow(reservation, additional);
        self.used.fetch_add(additional, Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.all.shrink(reservation, shrink);
        self.used.fetch_sub(shrink, Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.bytes_max);
        if self.used.fetch_update(Relaxed, Relaxed, fits).is_err() {
            self.refused.store(true, Relaxed);
            // This variant, because it is what makes operators spill.
            let text =
                format!("{additional} bytes more for {} are over the query's {} bytes", reservation.consumer().name(), self.bytes_max);
            return Err(DataFusionError::ResourcesExhausted(text));
        }
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    fn kind(pool: &QueryMemory, error: DataFusionError) -> ErrorKind {
        Error::from(pool.explain(error)).kind()
    }

    #[test]
    fn a_query_has_a_bound_of_its_own_within_that_of_all() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let one = Arc::new(QueryMemory::new(all.clone(), 60));
        let two = Arc::new(QueryMemory::new(all.clone(), 60));
        let (pool_one, pool_two): (Arc<dyn MemoryPool>, Arc<dyn MemoryPool>) = (one.clone(), two.clone());
        let a = MemoryConsumer::new("a").register(&pool_one);
        let b = MemoryConsumer::new("b").register(&pool_two);
        a.try_grow(60).unwrap();
        let error = a.try_grow(1).unwrap_err();
        assert_eq!(kind(&one, error), ErrorKind::TooLarge);
        b.try_grow(40).unwrap();
        let error = b.try_grow(10).unwrap_err();
        assert_eq!(kind(&two, error), ErrorKind::TooMany);
        assert_eq!((one.reserved(), two.reserved(), all.reserved()), (60, 40, 100));
        drop(a);
        b.try_grow(20).unwrap();
        drop(b);
        assert_eq!((one.reserved(), two.reserved(), all.reserved()), (0, 0, 0));
        assert_eq!(kind(&one, DataFusionError::Plan("x".into())), ErrorKind::Invalid);
    }
}
