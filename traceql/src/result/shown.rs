//! Which values of the fields a query names are shown on a matching span.

use arrow::array::{ArrayRef, AsArray};
use tracehouse_engine::Result;

use super::search::wrong;
use crate::{
    eval::{Regexes, Test, Values, is_repeated, values_of},
    plan::{Condition, SearchPlan, Shown},
    syntax::{Field, Intrinsic, Static},
};

/// What Tempo shows as the id of the span that a link is to, where there is no link.
const NO_SPAN: &str = "0000000000000000";

/// The columns of the shown fields of a batch.
pub struct ShownColumns<'a> {
    plan: &'a SearchPlan,
    regexes: &'a Regexes,
    arrays: &'a [ArrayRef],
}

impl<'a> ShownColumns<'a> {
    /// `arrays` has one array for each of the plan's shown fields.
    pub fn new(plan: &'a SearchPlan, regexes: &'a Regexes, arrays: &'a [ArrayRef]) -> Self {
        Self { plan, regexes, arrays }
    }

    /// The fields that are shown of a span, with their values.
    pub fn values(&self, row: usize) -> Result<Vec<(&'a Field, Static)>> {
        let eligible = self.eligible_items(row)?;
        let mut out = Vec::with_capacity(self.arrays.len());
        for (i, (shown, array)) in self.plan.shown.iter().zip(self.arrays).enumerate() {
            let value = if is_repeated(&shown.field) {
                let items = items_of(shown, array, row)?;
                // Tempo shows the last event (or link) that has a value to show.
                let last = (0..items.len()).rev().filter(|n| eligible.allows(i, *n)).map(|n| self.passing(shown, items.get(n)));
                last.into_iter().find(|v| *v != Static::Nil).unwrap_or_else(|| if items.is_empty() { of_none(shown) } else { Static::Nil })
            } else {
                self.passing(shown, values_of(&shown.field, &[array.slice(row, 1)])?.get(0))
            };
            if value != Static::Nil {
                out.push((&shown.field, value));
            }
        }
        Ok(out)
    }

    /// In a conjunction, the events (or links) that pass all conditions on events (or links).
    fn eligible_items(&self, row: usize) -> Result<Eligible> {
        let mut eligible = Eligible::default();
        if !self.plan.conjunction {
            return Ok(eligible);
        }
        for (i, (shown, array)) in self.plan.shown.iter().zip(self.arrays).enumerate() {
            if !is_repeated(&shown.field) || shown.selected {
                continue;
            }
            let group = is_event(&shown.field);
            eligible.groups.resize(self.arrays.len(), None);
            eligible.groups[i] = Some(group);
            if shown.conditions.iter().any(|c| matches!(c, Condition::Test(..))) {
                let items = items_of(shown, array, row)?;
                let passes = (0..items.len()).map(|n| self.passing(shown, items.get(n)) != Static::Nil).collect::<Vec<_>>();
                let so_far = eligible.passes[usize::from(group)].get_or_insert_with(|| vec![true; passes.len()]);
                so_far.iter_mut().zip(passes).for_each(|(all, one)| *all &= one);
            }
        }
        Ok(eligible)
    }

    /// The value if it passes one of the conditions; of an array the elements that do.
    fn passing(&self, shown: &Shown, value: Static) -> Static {
        let conditions = &shown.conditions;
        match value.elements() {
            None if value == Static::Nil => absent(shown),
            None if conditions.iter().any(|c| self.passes(c, &value)) => value,
            None => Static::Nil,
            Some(_) if conditions.contains(&Condition::Any) => value,
            Some(items) => {
                let mut items: Vec<Static> = items.into_iter().filter(|v| conditions.iter().any(|c| self.passes(c, v))).collect();
                match items.len() {
                    0 => Static::Nil,
                    1 => items.remove(0),
                    _ => array_of(&items),
                }
            }
        }
    }

    fn passes(&self, condition: &Condition, value: &Static) -> bool {
        match condition {
            Condition::Any => true,
            Condition::Absent => false,
            Condition::Test(op, literal) => {
                let regex = match literal {
                    Static::String(pattern) if op.is_regex() => self.regexes.get(pattern),
                    _ => None,
                };
                Test { op: *op, literal, regex }.passes(value)
            }
        }
    }
}

/// Which events and links values may be shown of; all, where nothing is said.
#[derive(Default)]
struct Eligible {
    /// For each shown field that is repeated: whether it is of events.
    groups: Vec<Option<bool>>,
    /// By group (links, events): for each item whether it passes.
    passes: [Option<Vec<bool>>; 2],
}

impl Eligible {
    fn allows(&self, shown: usize, item: usize) -> bool {
        let group = self.groups.get(shown).copied().flatten();
        let passes = group.and_then(|g| self.passes[usize::from(g)].as_ref());
        passes.is_none_or(|p| p.get(item).copied().unwrap_or(true))
    }
}

fn is_event(field: &Field) -> bool {
    match field {
        Field::Attribute(a) => a.scope == crate::syntax::Scope::Event,
        Field::Intrinsic(i) => matches!(i, Intrinsic::EventName | Intrinsic::EventTimeSinceStart),
    }
}

fn items_of(shown: &Shown, array: &ArrayRef, row: usize) -> Result<Values> {
    let list = array.as_list_opt::<i32>().ok_or_else(|| wrong(row))?;
    values_of(&shown.field, &[list.value(row)])
}

/// What is shown of a field that has no value.
fn absent(shown: &Shown) -> Static {
    if shown.conditions.contains(&Condition::Absent) { Static::String("nil".to_owned()) } else { Static::Nil }
}

/// What is shown of a span without events (or links) for one of their intrinsic fields, asked for whatever its value.
fn of_none(shown: &Shown) -> Static {
    if !shown.conditions.contains(&Condition::Any) {
        return Static::Nil;
    }
    match shown.field {
        Field::Intrinsic(Intrinsic::EventName | Intrinsic::LinkTraceId) => Static::String(String::new()),
        Field::Intrinsic(Intrinsic::LinkSpanId) => Static::String(NO_SPAN.to_owned()),
        Field::Intrinsic(Intrinsic::EventTimeSinceStart) => Static::Duration(0),
        _ => Static::Nil,
    }
}

/// An array of values of one type.
fn array_of(items: &[Static]) -> Static {
    fn all<T>(items: &[Static], pick: impl Fn(&Static) -> Option<T>) -> Vec<T> {
        items.iter().filter_map(pick).collect()
    }
    match items.first() {
        Some(Static::Int(_)) => Static::Ints(all(items, |v| if let Static::Int(v) = v { Some(*v) } else { None })),
        Some(Static::Float(_)) => Static::Floats(all(items, |v| if let Static::Float(v) = v { Some(*v) } else { None })),
        Some(Static::Bool(_)) => Static::Bools(all(items, |v| if let Static::Bool(v) = v { Some(*v) } else { None })),
        Some(Static::String(_)) => Static::Strings(all(items, |v| if let Static::String(v) = v { Some(v.clone()) } else { None })),
        _ => Static::Nil,
    }
}
