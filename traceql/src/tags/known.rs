//! What was read of blocks whose vocabulary does not tell all, or that have none, kept in memory within a bound: blocks do not
//! change.

use std::sync::Arc;

use tracehouse_engine::{BlockId, recent::Recent, scan::AttributeScope};

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
        size_of::<(BlockId, Question, Self)>() + items
    }
}

/// Answers that were given lately.
#[derive(Debug)]
pub struct Known(Recent<(BlockId, Question), Answer>);

impl Known {
    /// Nothing known yet; never more than so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Recent::new(bytes_max))
    }

    /// The answer, if it is known.
    pub fn get(&self, block: BlockId, question: &Question) -> Option<Answer> {
        self.0.get(&(block, question.clone()))
    }

    /// Keeps an answer.
    pub fn put(&self, block: BlockId, question: Question, answer: Answer) {
        let bytes = answer.bytes();
        self.0.put((block, question), answer, bytes);
    }
}
