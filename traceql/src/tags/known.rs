//! What was read of blocks whose vocabulary does not tell all, or that have none, kept in memory within a bound: blocks do not
//! change.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tracehouse_engine::{BlockId, scan::AttributeScope};

use super::TagValue;
use crate::syntax::Field;

/// A question about one block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The names of a scope.
    Names(AttributeScope),
    /// The values of a field.
    Values(Field),
}

/// Its answer: names, or values.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Names.
    Names(Arc<[String]>),
    /// Values.
    Values(Arc<[TagValue]>),
}

impl Answer {
    fn bytes(&self) -> usize {
        let items = match self {
            Self::Names(names) => names.iter().map(|n| n.len() + size_of::<String>()).sum::<usize>(),
            Self::Values(values) => values.iter().map(|v| v.value.len() + size_of::<TagValue>()).sum(),
        };
        size_of::<(BlockId, Question, Kept)>() + items
    }
}

/// Answers, the least used of which go when there are too many.
#[derive(Debug)]
pub struct Known {
    bytes_max: usize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    clock: u64,
    bytes: usize,
    answers: HashMap<(BlockId, Question), Kept>,
}

#[derive(Debug)]
struct Kept {
    used: u64,
    answer: Answer,
}

impl Known {
    /// Nothing known yet; never more than so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, recent: Mutex::default() }
    }

    /// The answer, if it is known.
    pub fn get(&self, block: BlockId, question: &Question) -> Option<Answer> {
        let mut recent = self.recent.lock();
        recent.clock += 1;
        let now = recent.clock;
        let kept = recent.answers.get_mut(&(block, question.clone()))?;
        kept.used = now;
        Some(kept.answer.clone())
    }

    /// Keeps an answer.
    pub fn put(&self, block: BlockId, question: Question, answer: Answer) {
        let bytes = answer.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let mut recent = self.recent.lock();
        recent.clock += 1;
        let kept = Kept { used: recent.clock, answer };
        recent.bytes += bytes;
        if let Some(before) = recent.answers.insert((block, question), kept) {
            recent.bytes -= before.answer.bytes();
        }
        while recent.bytes > self.bytes_max {
            let Some(oldest) = recent.answers.iter().min_by_key(|(_, k)| k.used).map(|(q, _)| q.clone()) else { break };
            if let Some(dropped) = recent.answers.remove(&oldest) {
                recent.bytes -= dropped.answer.bytes();
            }
        }
    }
}
