//! Which attributes a block holds and which values they have: what completion asks, without reading spans.
//!
//! Kept in a file of its own beside Tempo's files of a block (`file`), gathered while the block is written (`collect`),
//! and remembered when it was read (`VocabularyCache`). A block without the file (Tempo's own) has no vocabulary: its columns
//! tell the same.

mod collect;
mod file;

pub use collect::{Bounds, Collector};
pub use file::scope_name;

use std::sync::Arc;

use uuid::Uuid;

use crate::{recent::Recent, scan::AttributeScope};

/// Vocabularies that were read lately, by block; `None` for a block that has none.
pub type VocabularyCache = Recent<Uuid, Option<Arc<Vocabulary>>>;

/// What a block without a vocabulary costs in the cache, in bytes.
pub const ABSENT_BYTES: usize = 128;

/// Name of the file in a block's folder.
pub const FILE_NAME: &str = "tracehouse-vocabulary.json.zst";

/// What an attribute is attached to; `None` stands for TraceQL's intrinsics.
pub type Scope = Option<AttributeScope>;

/// Intrinsics that are kept, by TraceQL's short names. The others are times, numbers and ids: mostly different on every span.
pub const INTRINSICS: [&str; 9] = [
    "event:name",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "status",
    "statusMessage",
];

/// The type of a value, of the elements if it is an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A floating-point number.
    Float,
    /// true or false.
    Bool,
    /// What TraceQL does not see: bytes, key/value lists, empty or mixed arrays, no value at all. No values are kept.
    Other,
}

impl ValueType {
    /// All types, in order.
    pub const ALL: [Self; 5] = [Self::String, Self::Int, Self::Float, Self::Bool, Self::Other];

    /// The name in files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Other => "other",
        }
    }
}

/// One attribute with the values of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is attached.
    pub scope: Scope,
    /// Its key, or the intrinsic's name.
    pub name: Box<str>,
    /// The type of the values.
    pub value_type: ValueType,
    /// How often it occurs: spans that have it themselves, by their resource or scope; events; links. An array counts
    /// once for each element.
    pub count: u64,
    /// Whether `values` are all of them.
    pub complete: bool,
    /// Distinct values as text (an int in decimal, a float so that parsing gives it back) and how often each occurs, sorted
    /// by text. Some of them if there are too many; their counts then are at least this.
    pub values: Vec<(Box<str>, u64)>,
}

/// The attributes of some spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    spans: u64,
    /// Sorted by scope, name, type.
    entries: Vec<Entry>,
}

impl Vocabulary {
    /// Number of spans described.
    pub fn spans(&self) -> u64 {
        self.spans
    }

    /// All entries, by scope, name and type.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of one attribute, one for each type it has.
    pub fn of(&self, scope: Scope, name: &str) -> &[Entry] {
        let from = self.entries.partition_point(|e| (e.scope, &*e.name) < (scope, name));
        let count = self.entries[from..].partition_point(|e| (e.scope, &*e.name) == (scope, name));
        &self.entries[from..from + count]
    }

    /// Memory it takes, roughly, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let values = |e: &Entry| e.values.iter().map(|(v, _)| v.len() + size_of::<(Box<str>, u64)>()).sum::<usize>();
        size_of::<Self>() + self.entries.iter().map(|e| size_of::<Entry>() + e.name.len() + values(e)).sum::<usize>()
    }
}
