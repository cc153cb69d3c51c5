//! Long work over many small things, done a few at a time: in between the query can be stopped, and others have their turn.

/// Counts small steps.
#[derive(Debug)]
pub(crate) struct Turns {
    done: usize,
    at_once: usize,
}

impl Turns {
    /// So many steps are done at once: together they should take a few milliseconds.
    pub fn of(at_once: usize) -> Self {
        Self { done: 0, at_once }
    }

    /// To be called once a step.
    pub async fn step(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(self.at_once) {
            tokio::task::yield_now().await;
        }
    }
}
