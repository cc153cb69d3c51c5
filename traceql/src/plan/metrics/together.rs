//! Series that one scan counts: those that count alike, of which one counts all spans of the others. Arithmetic between
//! queries asks for such series (`{ status = error } | rate()` over `{ } | rate()`).

use datafusion::logical_expr::Expr;
use tracehouse_engine::{
    Result, TenantId,
    scan::{MEMBERS_MAX, MembersFunction, SpanColumn},
};
use tracehouse_sql::Sessions;

use super::{SeriesPlan, Whole, aggregated, between, fields_of, matching, scan, with_whole};
use crate::{
    eval::{columns_of, is_repeated},
    metrics::time::Intervals,
    plan::filter::filter_expr,
    spansets::program::plain_filters,
    syntax::{BinaryOp, FieldExpr, MetricsFn, Series},
};

/// Series that one scan counts. The first counts all spans of the others.
#[derive(Debug)]
pub struct Together<'a> {
    all: Vec<&'a Series>,
    /// What the first asks of spans.
    base: Vec<&'a FieldExpr>,
    /// What each of the others asks besides.
    more: Vec<Vec<&'a FieldExpr>>,
}

/// Sets of the given series, of two or more each, that one scan can count.
pub fn together<'a>(series: &[&'a Series]) -> Vec<Together<'a>> {
    let mut open: Vec<(&Series, Vec<&FieldExpr>)> = series.iter().filter_map(|s| Some((*s, conditions(s)?))).collect();
    // Who asks least counts most.
    open.sort_by_key(|(_, conditions)| conditions.len());
    let mut sets = Vec::new();
    while !open.is_empty() {
        let (first, base) = open.remove(0);
        let mut set = Together { all: vec![first], base, more: Vec::new() };
        open.retain(|(series, conditions)| {
            let fits = set.more.len() < MEMBERS_MAX && counts_alike(first, series) && set.base.iter().all(|c| is_among(c, conditions));
            if fits {
                set.all.push(series);
                set.more.push(conditions.iter().filter(|c| !is_among(c, &set.base)).copied().collect());
            }
            !fits
        });
        if !set.more.is_empty() {
            sets.push(set);
        }
    }
    sets
}

impl<'a> Together<'a> {
    /// The series; the first counts all spans of the others.
    pub fn series(&self) -> &[&'a Series] {
        &self.all
    }

    /// Plans the scan. An output column (`Output::Members`) says which of the others, beside the first, count a group.
    pub fn plan(
        &self,
        sessions: &Sessions,
        tenant: &TenantId,
        intervals: &Intervals,
        witnesses: bool,
        whole: &Whole,
    ) -> Result<SeriesPlan> {
        let of_series = |series: &&Series| fields_of(series, &plain_filters(&series.pipeline).unwrap_or_default());
        let fields: Vec<_> = self.all.iter().flat_map(of_series).collect();
        let columns = fields.iter().flat_map(columns_of).chain(witnesses.then_some(SpanColumn::Place));
        let source = matching(between(scan(sessions, tenant, columns)?, intervals)?, &self.base)?;
        let members = MembersFunction::call(self.more.iter().map(|more| all_of(more)).collect::<Result<_>>()?);
        let (plan, outputs) = aggregated(source, self.all[0], intervals, witnesses, Some(members))?;
        Ok(SeriesPlan { plan: with_whole(plan, whole)?, outputs })
    }
}

fn all_of(conditions: &[&FieldExpr]) -> Result<Expr> {
    let all = conditions.iter().map(|condition| filter_expr(condition)).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().reduce(Expr::and).unwrap_or_else(|| datafusion::logical_expr::lit(true)))
}

/// What a series asks of single spans; `None` if it asks more than that.
fn conditions(series: &Series) -> Option<Vec<&FieldExpr>> {
    let filters = plain_filters(&series.pipeline)?;
    // Conditions on events must hold for one event together, so such an expression stays whole.
    let parts = |filter: &&'_ FieldExpr| filter.fields().into_iter().any(is_repeated);
    let mut all = Vec::new();
    for filter in filters {
        match parts(&filter) {
            true => all.push(filter),
            false => all.extend(filter.operands(BinaryOp::And)),
        }
    }
    let always = |condition: &&FieldExpr| matches!(condition, FieldExpr::Static(crate::syntax::Static::Bool(true)));
    all.retain(|condition| !always(condition));
    (!matches!(series.function, MetricsFn::Compare(_))).then_some(all)
}

fn is_among(condition: &FieldExpr, all: &[&FieldExpr]) -> bool {
    // Equal numbers of different types are told apart, too.
    let text = format!("{condition:?}");
    all.iter().any(|other| format!("{other:?}") == text)
}

/// Whether two series group spans alike and keep the same states.
fn counts_alike(a: &Series, b: &Series) -> bool {
    let functions = match (&a.function, &b.function) {
        (MetricsFn::Rate | MetricsFn::CountOverTime, MetricsFn::Rate | MetricsFn::CountOverTime) => true,
        (MetricsFn::QuantileOverTime(a, _), MetricsFn::QuantileOverTime(b, _)) => a == b,
        (a, b) => a == b,
    };
    functions && a.by == b.by
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{MetricsExpr, Root};

    /// The series of an arithmetic query that are counted together, by their numbers.
    fn sets(query: &str) -> Vec<Vec<usize>> {
        let query = crate::search::parse(query).unwrap();
        let Root::Metrics(metrics) = &query.root else { panic!() };
        fn of<'a>(expr: &'a MetricsExpr, all: &mut Vec<&'a Series>) {
            match expr {
                MetricsExpr::Series(series) => all.push(series),
                MetricsExpr::Scalar(_) => {}
                MetricsExpr::Binary { lhs, rhs, .. } => {
                    of(lhs, all);
                    of(rhs, all);
                }
            }
        }
        let mut all = Vec::new();
        of(&metrics.expr, &mut all);
        let number = |series: &&Series| all.iter().position(|s| std::ptr::eq(*s, *series)).unwrap();
        together(&all).iter().map(|set| set.series().iter().map(number).collect()).collect()
    }

    #[test]
    fn parts_of_the_same_spans_are_counted_together() {
        assert_eq!(sets("({ status = error } | rate()) / ({ } | rate())"), [[1, 0]]);
        assert_eq!(sets("({ name = `a` && kind = server } | rate()) / ({ kind = server } | count_over_time())"), [[1, 0]]);
        assert_eq!(sets("({ name = `a` } | { kind = server } | rate()) / ({ kind = server } | rate())"), [[1, 0]]);
        assert_eq!(sets("({ name = `a` } | rate()) / ({ name = `b` } | rate()) + ({ } | rate())"), [[2, 0, 1]]);
    }

    #[test]
    fn what_counts_otherwise_stays_apart() {
        let none: Vec<Vec<usize>> = Vec::new();
        for query in [
            "({ name = `a` } | rate()) / ({ kind = server } | rate())",
            "({ status = error } | rate() by (name)) / ({ } | rate())",
            "({ status = error } | rate()) / ({ } | max_over_time(duration))",
            "({ name = `a` } | rate()) / ({ } >> { } | rate())",
            "({ span.a = 1 && span.b = 2 } | rate()) / ({ span.a = 1.0 } | rate())",
            "({ event.a = 1 && event.b = 2 } | rate()) / ({ event.a = 1 } | rate())",
        ] {
            assert_eq!(sets(query), none, "{query}");
        }
    }
}
