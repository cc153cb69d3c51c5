//! What a block is, where it lives, which blocks exist, and how a plan runs over blocks and live spans.
//!
//! Knows no query language and no public wire.

pub mod block;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod derive;
pub mod error;
pub mod grouping;
pub mod recent;
pub mod scan;
pub mod store;
pub mod tenant;
pub mod trace;
pub mod whole;

mod engine;
mod vocabulary;

pub use engine::{Engine, FoundTrace, Places, Snapshot};
pub use error::{Error, ErrorKind, Result};
pub use tenant::TenantId;
pub use trace::{Trace, TraceId};
pub use uuid::Uuid as BlockId;
pub use whole::{WholeTrace, WholeTraces};
