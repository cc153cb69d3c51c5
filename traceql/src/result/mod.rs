//! Tempo's answers, made from rows.

pub mod json;
pub mod kept;
pub mod llm;
pub mod metrics;
pub mod search;
mod shown;
pub mod summary;
pub mod tempopb;
pub mod trace;
