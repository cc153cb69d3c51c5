//! Metrics stages: the function that makes series, its labels, and what follows.

use super::super::ast::{Compare, MetricsExpr, MetricsFn, Pipeline, SecondStage, Series, Stage};
use super::super::lexer::Tok;
use super::{Parsed, Parser};

/// Values kept per attribute by `compare()` when not given.
const COMPARE_TOP_DEFAULT: i64 = 10;

impl Parser<'_> {
    /// A metrics function after `|` with all that follows, if there is one; takes the stages.
    pub(super) fn series(&mut self, stages: &mut Vec<Stage>) -> Parsed<Option<(MetricsExpr, usize)>> {
        let Some((function, height)) = self.metrics_fn()? else {
            return Ok(None);
        };
        let labelled = !matches!(function, MetricsFn::Compare(_)) && self.eat_word("by");
        let by = if labelled { self.field_list()? } else { Vec::new() };
        let second = self.second_stages()?;
        let pipeline = Pipeline { stages: std::mem::take(stages) };
        let series = Series { pipeline, function, by, second };
        Ok(Some((MetricsExpr::Series(Box::new(series)), height)))
    }

    fn metrics_fn(&mut self) -> Parsed<Option<(MetricsFn, usize)>> {
        let Some(name) = self.word() else {
            return Ok(None);
        };
        let of_field = match name {
            "rate" | "count_over_time" | "quantile_over_time" | "compare" => None,
            "min_over_time" => Some(MetricsFn::MinOverTime as fn(_) -> _),
            "max_over_time" => Some(MetricsFn::MaxOverTime as fn(_) -> _),
            "sum_over_time" => Some(MetricsFn::SumOverTime as fn(_) -> _),
            "avg_over_time" => Some(MetricsFn::AvgOverTime as fn(_) -> _),
            "histogram_over_time" => Some(MetricsFn::HistogramOverTime as fn(_) -> _),
            _ => return Ok(None),
        };
        self.advance();
        self.expect_symbol("(")?;
        let mut height = 1;
        let function = match (of_field, name) {
            (Some(of_field), _) => of_field(self.field_name()?),
            (None, "quantile_over_time") => {
                let field = self.field_name()?;
                MetricsFn::QuantileOverTime(field, self.quantiles()?)
            }
            (None, "compare") => {
                let (compare, filter_height) = self.compare_arguments()?;
                height += filter_height;
                MetricsFn::Compare(compare)
            }
            (None, "rate") => MetricsFn::Rate,
            (None, _) => MetricsFn::CountOverTime,
        };
        self.expect_symbol(")")?;
        Ok(Some((function, height)))
    }

    /// `, q` once or more.
    fn quantiles(&mut self) -> Parsed<Vec<f64>> {
        let mut quantiles = Vec::new();
        self.expect_symbol(",")?;
        loop {
            quantiles.push(match *self.peek() {
                Tok::Int(value) => value as f64,
                Tok::Float(value) => value,
                _ => return Err(self.unexpected(&["INTEGER", "FLOAT"])),
            });
            self.advance();
            if !self.eat_symbol(",") {
                return Ok(quantiles);
            }
        }
    }

    /// `{ filter }[, top[, start, end]]`
    fn compare_arguments(&mut self) -> Parsed<(Compare, usize)> {
        let (filter, height) = self.spanset_filter()?;
        let top = if self.eat_symbol(",") { self.integer()? } else { COMPARE_TOP_DEFAULT };
        let mut range_ns = None;
        if self.eat_symbol(",") {
            let start_ns = self.integer()?;
            self.expect_symbol(",")?;
            range_ns = Some((start_ns, self.integer()?));
        }
        Ok((Compare { filter, top, range_ns }, height))
    }

    /// `| topk(n)`, `| bottomk(n)` and comparisons, any number of them.
    pub(super) fn second_stages(&mut self) -> Parsed<Vec<SecondStage>> {
        let mut stages = Vec::new();
        loop {
            if let Some((op, _)) = self.value_op().filter(|(op, _)| op.is_comparison()) {
                self.advance();
                stages.push(SecondStage::Compare(op, self.number()?));
            } else if self.eat_symbol("|") {
                let make: fn(i64) -> SecondStage = match self.word() {
                    Some("topk") => SecondStage::TopK,
                    Some("bottomk") => SecondStage::BottomK,
                    _ => return Err(self.unexpected(&["topk", "bottomk"])),
                };
                self.advance();
                self.expect_symbol("(")?;
                let limit = self.integer()?;
                self.expect_symbol(")")?;
                stages.push(make(limit));
            } else {
                return Ok(stages);
            }
        }
    }
}
