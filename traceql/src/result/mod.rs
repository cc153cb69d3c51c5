//! Tempo's answers, made from rows.

pub mod json;
pub mod metrics;
pub mod search;
mod shown;
pub mod tempopb;
pub mod trace;
