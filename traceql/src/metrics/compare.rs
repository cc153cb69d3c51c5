//! Runs `compare()`.

use arrow::array::{Array, AsArray};
use tracehouse_engine::{Error, Result};

use super::Run;
use crate::{
    plan::metrics::{counts_at, int32, int64, plan_check, plan_compare},
    result::metrics::{Compared, Series, Side},
    syntax::{self, Compare},
};

impl Run<'_> {
    /// The series of `compare()`.
    pub(super) async fn compare(&mut self, series: &syntax::Series, compare: &Compare) -> Result<Vec<Series>> {
        let plan = plan_compare(self.sessions, self.tenant, series, compare, &self.intervals, &self.whole)?;
        let mut compared = Compared::new(self.intervals.count);
        let physical = self.physical(series, plan).await?;
        self.rows(physical, |batch| {
            let intervals = int32(batch.column(0))?;
            let selected = batch.column(1).as_boolean_opt().ok_or_else(|| Error::internal("a selection is no truth value"))?;
            for row in 0..batch.num_rows() {
                let side = if selected.is_valid(row) && selected.value(row) { Side::Selection } else { Side::Baseline };
                compared.add(side, intervals.value(row).max(0) as usize, counts_at(batch.column(2), row)?);
            }
            Ok(())
        })
        .await?;
        self.forget_bytes(series, &mut compared).await?;
        compared.series(usize::try_from(compare.top).unwrap_or(0))
    }

    /// JSON shows bytes as text. Where all texts of an attribute could be bytes, a look at the typed values tells.
    async fn forget_bytes(&mut self, series: &syntax::Series, compared: &mut Compared) -> Result<()> {
        let suspects = compared.suspects();
        if suspects.is_empty() {
            return Ok(());
        }
        let plan = plan_check(self.sessions, self.tenant, series, &self.intervals, &suspects, &self.whole)?;
        let cost = self.progress.cost;
        let mut typed = vec![0i64; suspects.len()];
        let physical = self.prepare(plan).await?;
        self.rows(physical, |batch| {
            for (sum, array) in typed.iter_mut().zip(batch.columns()) {
                *sum += int64(array)?.iter().flatten().sum::<i64>();
            }
            Ok(())
        })
        .await?;
        // The spans were counted by the first plan.
        let inspected_bytes = self.progress.cost.inspected_bytes;
        self.progress.cost = crate::result::search::SearchMetrics { inspected_bytes, ..cost };
        for (field, _) in suspects.iter().zip(typed).filter(|(_, typed)| *typed == 0) {
            compared.forget_texts(field);
        }
        Ok(())
    }
}
