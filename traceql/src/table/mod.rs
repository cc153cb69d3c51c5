//! `traceql('{ ... }')`: TraceQL as a table of SQL, so that its answers join with anything.
//!
//! ```text
//! traceql(query [, start, end [, step]])
//!     a search    -> the columns of `spans`, `spanset`, `spanset_attributes`: a row for each matching span of each spanset
//!     metrics     -> `labels`, `time`, `value`: a row for each value of each series
//! ```

mod metrics;
mod search;

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{DataFusionError, Result as DfResult, ScalarValue},
    logical_expr::{Expr, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
    prelude::SessionContext,
};
use tracehouse_engine::{Error, Result, TenantId};
use tracehouse_sql::{SessionExtension, Sessions};

use crate::{
    config::Config,
    metrics::time::{parse_step, parse_time},
    search::parse,
    syntax::Root,
};
use metrics::MetricsTable;
use search::SearchTable;

/// Name of the function.
pub const NAME: &str = "traceql";

/// Gives each session the table function of its tenant.
#[derive(Clone, Debug, Default)]
pub struct TableFunctions {
    config: Config,
}

impl TableFunctions {
    /// With these limits.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl SessionExtension for TableFunctions {
    fn extend(&self, sessions: &Sessions, tenant: &TenantId, session: &SessionContext) {
        let function = Function { sessions: sessions.clone(), tenant: tenant.clone(), config: self.config.clone() };
        session.register_udtf(NAME, Arc::new(function));
    }
}

#[derive(Debug)]
struct Function {
    sessions: Sessions,
    tenant: TenantId,
    config: Config,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> DfResult<Arc<dyn TableProvider>> {
        let values = args.exprs().iter().map(|e| constant(e, args.session())).collect::<DfResult<Vec<_>>>()?;
        self.table(&values).map_err(DataFusionError::from)
    }
}

impl Function {
    fn table(&self, values: &[ScalarValue]) -> Result<Arc<dyn TableProvider>> {
        let usage = "write traceql('query'), traceql('query', start, end) or traceql('query', start, end, step)";
        let (query, range, step) = match values {
            [query] => (query, None, None),
            [query, start, end] => (query, Some((start, end)), None),
            [query, start, end, step] => (query, Some((start, end)), Some(step)),
            _ => return Err(Error::invalid(usage)),
        };
        let text = query.try_as_str().flatten().ok_or_else(|| Error::invalid(format!("the query must be text: {usage}")))?;
        let range = range.map(|(start, end)| Ok::<_, Error>((time("start", start)?, time("end", end)?))).transpose()?;
        if let Some((start, end)) = range.filter(|(start, end)| start > end) {
            return Err(Error::invalid(format!("start must be before end: got {start} and {end} in Unix nanoseconds")));
        }
        let query = parse(text)?;
        let (sessions, tenant) = (self.sessions.clone(), self.tenant.clone());
        Ok(match &query.root {
            Root::Spansets(_) if step.is_some() => return Err(Error::invalid("a search has no step: write traceql('query', start, end)")),
            Root::Spansets(_) => Arc::new(SearchTable::new(sessions, tenant, query, range)),
            Root::Metrics(_) => {
                let step = step.map(duration).transpose()?;
                Arc::new(MetricsTable::new(sessions, tenant, query, range, step, &self.config)?)
            }
        })
    }
}

/// The value of an expression without columns, such as `now() - interval '1 hour'`.
fn constant(expr: &Expr, session: &dyn Session) -> DfResult<ScalarValue> {
    let context = SimplifyContext::builder();
    let context = match session.execution_props().query_execution_start_time {
        Some(start) => context.with_query_execution_start_time(Some(start)),
        None => context.with_current_time(),
    };
    let context = context.with_config_options(Arc::new(session.config_options().clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.coerce(expr.clone(), &datafusion::common::DFSchema::empty())?;
    match simplifier.simplify(expr)? {
        Expr::Literal(value, _) => Ok(value),
        other => Err(DataFusionError::Plan(format!("the arguments of traceql() must be constants: {other} is not"))),
    }
}

/// A time: a timestamp, or what the HTTP API takes (RFC 3339, Unix seconds, Unix nanoseconds). Unix nanoseconds.
fn time(name: &str, value: &ScalarValue) -> Result<i64> {
    let wrong = || Error::invalid(format!("{name} must be a timestamp, RFC 3339 text, Unix seconds or Unix nanoseconds: got {value}"));
    if let Some(text) = value.try_as_str() {
        let text = text.ok_or_else(wrong)?;
        return parse_time(text).map_or_else(|| cast_time(value).ok_or_else(wrong), Ok);
    }
    match value {
        ScalarValue::Int64(Some(number)) => parse_time(&number.to_string()).ok_or_else(wrong),
        _ => cast_time(value).ok_or_else(wrong),
    }
}

fn cast_time(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))).ok()? {
        ScalarValue::TimestampNanosecond(nanos, _) => nanos,
        _ => None,
    }
}

/// A duration: an interval without months, a number of seconds, or text such as `1m30s`. Nanoseconds.
fn duration(value: &ScalarValue) -> Result<i64> {
    let nanos = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            i64::from(interval.days).checked_mul(24 * 3600 * 1_000_000_000).and_then(|days| days.checked_add(interval.nanoseconds))
        }
        ScalarValue::Int64(Some(seconds)) => seconds.checked_mul(1_000_000_000),
        ScalarValue::Float64(Some(seconds)) => parse_step(&seconds.to_string()),
        _ => value.try_as_str().flatten().and_then(parse_step),
    };
    let positive = nanos.filter(|n| *n > 0);
    positive.ok_or_else(|| Error::invalid(format!("step must be an interval, a number of seconds or text such as '1m': got {value}")))
}
