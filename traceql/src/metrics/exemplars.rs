//! Chooses groups whose exemplars an answer shows, looks their spans up, and hangs them on the series.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Decimal128Type, TimestampNanosecondType},
};
use tracehouse_engine::{Error, Result};

use super::{Run, time::Intervals};
use crate::{
    eval::{columns_of, single_values_of},
    plan::metrics::{decode, float64, plan_exemplars},
    result::metrics::{Exemplar, Group, Label, Series},
    syntax::{self, MetricsFn, Static},
};

/// Label of an exemplar's trace.
const TRACE_LABEL: &str = "trace:id";

/// A time slot shows at most two.
const PER_SLOT: usize = 2;

impl Run<'_> {
    /// Adds exemplars to the series of a first stage.
    pub(super) async fn exemplars(&mut self, series: &syntax::Series, found: &mut [Series], groups: &[(usize, Group)]) -> Result<()> {
        let chosen = choose(groups, self.exemplars, &self.intervals);
        if chosen.is_empty() {
            return Ok(());
        }
        let mut wanted: HashMap<i128, (usize, &Group)> =
            chosen.into_iter().filter_map(|(at, group)| Some((group.witness?, (*at, group)))).collect();
        let places = wanted.keys().copied().collect();
        let plan = plan_exemplars(self.sessions, self.tenant, series, places, &self.intervals, &self.whole)?;
        let own_value = !matches!(series.function, MetricsFn::Rate | MetricsFn::CountOverTime | MetricsFn::HistogramOverTime(_));
        let cost = self.progress.cost;
        let physical = self.prepare(plan.plan).await?;
        self.rows(physical, |batch| add(batch, &plan.shown, &mut wanted, own_value, found)).await?;
        // The spans were counted by the first plan.
        let inspected_bytes = self.progress.cost.inspected_bytes;
        self.progress.cost = crate::result::search::SearchMetrics { inspected_bytes, ..cost };
        for series in found {
            series.exemplars.sort_by_key(|e| e.time);
        }
        Ok(())
    }
}

/// At most `limit` groups, spread over time: at most two of each slot, slots taking turns. Each slot begins with another series,
/// and its second group is of the next one, if there is one.
fn choose<'a>(groups: &'a [(usize, Group)], limit: usize, intervals: &Intervals) -> Vec<&'a (usize, Group)> {
    let slots = limit.div_ceil(PER_SLOT).max(1);
    let series = groups.iter().map(|(series, _)| series + 1).max().unwrap_or(1);
    let mut by_slot: BTreeMap<usize, Slot<'_>> = BTreeMap::new();
    for group in groups.iter().filter(|(_, g)| g.witness.is_some()) {
        let slot = group.1.interval * slots / intervals.count.max(1);
        let distance = (group.0 + series - slot % series) % series;
        by_slot.entry(slot).or_default().offer(((distance, group.1.witness), group));
    }
    let turns = (0..PER_SLOT).flat_map(|turn| by_slot.values().filter_map(move |slot| slot.turn(turn)));
    turns.take(limit).collect()
}

/// A group, and what comes first: how far its series is from the one that the slot begins with, then its witness.
type Candidate<'a> = ((usize, Option<i128>), &'a (usize, Group));

/// The best groups of a slot.
#[derive(Default)]
struct Slot<'a> {
    first: Option<Candidate<'a>>,
    /// The second of the same series, and the first of the series that comes next.
    twin: Option<Candidate<'a>>,
    next: Option<Candidate<'a>>,
}

impl<'a> Slot<'a> {
    fn offer(&mut self, new: Candidate<'a>) {
        let before = |known: &Option<Candidate<'a>>| known.as_ref().is_none_or(|known| new.0 < known.0);
        match self.first.as_ref().map(|first| first.0.0.cmp(&new.0.0)) {
            None => self.first = Some(new),
            Some(Ordering::Greater) => (self.next, self.twin, self.first) = (self.first.take(), None, Some(new)),
            Some(Ordering::Equal) if before(&self.first) => (self.twin, self.first) = (self.first.take(), Some(new)),
            Some(Ordering::Equal) if before(&self.twin) => self.twin = Some(new),
            Some(Ordering::Less) if before(&self.next) => self.next = Some(new),
            Some(_) => {}
        }
    }

    fn turn(&self, turn: usize) -> Option<&'a (usize, Group)> {
        let chosen = if turn == 0 { self.first.as_ref() } else { self.next.as_ref().or(self.twin.as_ref()) };
        chosen.map(|(_, group)| *group)
    }
}

/// Takes from a batch the spans that are still wanted.
fn add(
    batch: &RecordBatch,
    shown: &[(syntax::Field, Option<usize>)],
    wanted: &mut HashMap<i128, (usize, &Group)>,
    own_value: bool,
    found: &mut [Series],
) -> Result<()> {
    let wrong = || Error::internal("an exemplar plan gave columns of another type");
    let places = batch.column(0).as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?;
    let starts = batch.column(1).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(wrong)?;
    let traces = batch.column(2).as_string_opt::<i32>().ok_or_else(wrong)?;
    let numbers = float64(batch.column(3))?;
    let mut columns = &batch.columns()[4..];
    let mut read = Vec::with_capacity(shown.len());
    for (field, in_key) in shown {
        let (own, rest) = columns.split_at_checked(if in_key.is_some() { 0 } else { columns_of(field).len() }).ok_or_else(wrong)?;
        read.push(if in_key.is_some() { None } else { Some(single_values_of(field, own)?) });
        columns = rest;
    }
    for row in 0..batch.num_rows() {
        let Some((series, group)) = wanted.remove(&places.value(row)) else { continue };
        let Some(series) = found.get_mut(series) else { continue };
        let key = decode(&group.key).ok_or_else(wrong)?;
        let sample = series.values.get(group.interval).copied().unwrap_or(f64::NAN);
        let mut labels = vec![Label::text(TRACE_LABEL, traces.value(row).trim_start_matches('0'))];
        let of_key = |at: &Option<usize>| at.and_then(|at| key.get(at).cloned()).unwrap_or(Static::Nil);
        let values = shown
            .iter()
            .zip(&read)
            .map(|((field, in_key), read)| (field.to_string(), read.as_ref().map_or_else(|| of_key(in_key), |values| values.get(row))));
        labels.extend(
            values.filter(|(name, value)| *value != Static::Nil && name != TRACE_LABEL).map(|(name, value)| Label::new(name, value)),
        );
        let value = if own_value && numbers.is_valid(row) { numbers.value(row) } else { sample };
        series.exemplars.push(Exemplar { labels, value, time: starts.value(row), interval: group.interval });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_are_bounded_and_spread() {
        let intervals = Intervals::range(1_000_000_000, 10_000_000_000, 1_000_000_000);
        let group = |interval: usize| Group { key: vec![], interval, exponent: 0, count: 1, value: 0.0, witness: Some(interval as i128) };
        let groups: Vec<(usize, Group)> = (0..50).map(|i| (i / 10, group(i % 10))).collect();
        let of = |limit| choose(&groups, limit, &intervals).iter().map(|(_, g)| g.interval).collect::<Vec<_>>();
        assert_eq!(of(100).len(), 20);
        assert_eq!(of(2).len(), 2);
        let series_of_two: Vec<usize> = choose(&groups, 2, &intervals).iter().map(|(series, _)| *series).collect();
        assert_ne!(series_of_two[0], series_of_two[1]);
        let four = of(4);
        assert_eq!(four.len(), 4);
        assert!(four.iter().any(|i| *i < 5) && four.iter().any(|i| *i >= 5));
        assert_eq!(choose(&[], 10, &intervals).len(), 0);
    }
}
