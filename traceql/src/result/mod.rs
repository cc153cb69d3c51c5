//! Tempo's answers, made from rows.

pub mod json;
pub mod search;
pub mod trace;
