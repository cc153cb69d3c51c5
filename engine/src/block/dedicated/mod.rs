//! Which attributes get a column of their own in the blocks that are written: a list in the settings, or chosen for each block
//! from what it holds. Why: `docs/decisions/0002-dedicated-columns-of-each-block.md`.

mod choose;
mod count;
mod setting;

use std::sync::Arc;

pub use choose::{Usage, Usages, choose};
pub use setting::{DedicatedColumns, DedicatedSetting};

use super::{DedicatedColumn, Version};
use crate::trace::Trace;

/// The dedicated columns of a block of these traces. The same traces in the same order give the same columns.
pub fn choose_for(version: Version, traces: &[Arc<Trace>]) -> Vec<DedicatedColumn> {
    let mut counter = count::Counter::default();
    traces.iter().for_each(|trace| counter.add(trace));
    choose(version, &counter.finish())
}
