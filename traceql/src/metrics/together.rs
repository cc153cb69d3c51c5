//! Runs first stages that one scan can count.

use tracehouse_engine::Result;

use super::{Run, series_of, text_of};
use crate::{
    plan::metrics::{Together, together},
    result::metrics::{Merged, groups_of_members},
    syntax::{MetricsExpr, Series},
};

/// The sets of a query's first stages that are counted together. Equal ones run once.
pub(super) fn sets_of(expr: &MetricsExpr) -> Vec<Together<'_>> {
    let mut each: Vec<&Series> = Vec::new();
    for series in series_of(expr) {
        if !each.iter().any(|known| text_of(known) == text_of(series)) {
            each.push(series);
        }
    }
    if each.len() < 2 { Vec::new() } else { together(&each) }
}

impl Run<'_> {
    /// Counts what can be counted together; the groups wait for their first stages.
    pub(super) async fn together(&mut self, expr: &MetricsExpr) -> Result<()> {
        // Stages that are planned already run as they are.
        if !self.planned.is_empty() {
            return Ok(());
        }
        for set in sets_of(expr) {
            let plan = set.plan(self.sessions, self.tenant, &self.intervals, self.exemplars > 0, &self.whole)?;
            let physical = self.prepare(plan.plan).await?;
            let mut merged: Vec<Merged> = set.series().iter().map(|series| Merged::new(&series.function)).collect();
            self.rows(physical, |batch| {
                let groups = groups_of_members(batch, &plan.outputs, merged.len())?;
                merged.iter_mut().zip(groups).for_each(|(merged, groups)| merged.add(groups));
                Ok(())
            })
            .await?;
            let counted = set.series().iter().zip(merged);
            self.counted.extend(counted.map(|(series, merged)| (text_of(series), merged.into_groups())));
        }
        Ok(())
    }
}
