//! Runs `compare()`.

use tracehouse_engine::Result;

use super::Run;
use crate::{
    plan::metrics::plan_compare,
    result::metrics::{Compared, Series},
    spansets::Memory,
    syntax::{self, Compare},
};

impl Run<'_> {
    /// The series of `compare()`.
    pub(super) async fn compare(&mut self, series: &syntax::Series, compare: &Compare) -> Result<Vec<Series>> {
        let plan = plan_compare(self.sessions, self.tenant, series, compare, &self.intervals, &self.whole)?;
        let mut compared = Compared::default();
        let physical = self.physical(series, plan).await?;
        // The counts are kept until the most frequent values are known.
        let mut memory = Memory::new("the counts of compare()", &self.context);
        self.rows(physical, |batch| {
            memory.grow(crate::spansets::bytes_of(batch))?;
            compared.add(batch)
        })
        .await?;
        let mut memory = Memory::new("the series of an answer", &self.context);
        compared.series(usize::try_from(compare.top).unwrap_or(0), self.intervals.count, |bytes| memory.hold(bytes))
    }
}
