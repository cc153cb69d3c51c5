//! Traces in several parts: what is stored of a trace beside a span (root, times, tree) is replaced in a plan by what is true
//! of the whole trace. Where no trace is in several parts, plans stay as they are.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int32Builder, Int64Array, Int64Builder, ListBuilder, StringArray, StringBuilder, StringDictionaryBuilder,
        StructBuilder, TimestampNanosecondArray,
    },
    datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType},
};
use datafusion::{
    common::{
        DataFusionError, Result as DfResult,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        expr_rewriter::NamePreserver, lit,
    },
};
use tracehouse_engine::{
    Error, Result, TenantId, WholeTrace, WholeTraces,
    scan::{SpanColumn, SpanField, SpanFilter},
};
use tracehouse_sql::Sessions;

use super::filter::{SPANS, TraceqlFilter, column};

/// The traces in several parts, as a plan needs them.
pub type Whole = Option<Arc<WholeTraces>>;

/// Looks for traces in several parts among those that overlap a range (Unix nanoseconds, inclusive).
pub async fn whole_traces(sessions: &Sessions, tenant: &TenantId, range: Option<(i64, i64)>) -> Result<Whole> {
    sessions.engine().whole_traces(tenant, &sessions.snapshot(tenant), range).await
}

/// Columns whose stored values are those of a part.
const REPLACED: [SpanColumn; 10] = {
    use SpanField as F;
    [
        SpanColumn::Field(F::RootServiceName),
        SpanColumn::Field(F::RootSpanName),
        SpanColumn::Field(F::TraceStartTime),
        SpanColumn::Field(F::TraceEndTime),
        SpanColumn::Field(F::TraceDurationNs),
        SpanColumn::Field(F::NestedSetLeft),
        SpanColumn::Field(F::NestedSetRight),
        SpanColumn::Field(F::NestedSetParent),
        SpanColumn::Field(F::ChildCount),
        SpanColumn::TraceServiceStats,
    ]
};

/// Whether a column's stored values are those of a part of the trace.
pub(super) fn is_of_trace(column: &SpanColumn) -> bool {
    REPLACED.contains(column)
}

/// The columns that say which trace and which span of it a row is.
const KEY: [SpanField; 5] = [SpanField::TraceId, SpanField::SpanId, SpanField::KindCode, SpanField::StartTime, SpanField::NestedSetLeft];

/// The plan with the stored values of traces in several parts replaced. Conditions made by
/// `overlapping_spans` are left alone: they know of the parts already.
pub fn with_whole(plan: LogicalPlan, whole: &Whole) -> Result<LogicalPlan> {
    let Some(whole) = whole else { return Ok(plan) };
    let plan = plan.transform_up(|node| {
        // Ranges of traces are asked of the parts themselves.
        if matches!(&node, LogicalPlan::TableScan(_)) || matches!(&node, LogicalPlan::Filter(f) if is_overlap(&f.predicate)) {
            return Ok(Transformed::no(node));
        }
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(replaced(expr, whole)?.update_data(|e| name.restore(e)))
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(plan.data)
}

/// A condition of a scan with the stored values of traces in several parts replaced.
pub(super) fn condition_with_whole(expr: Expr, whole: &Whole) -> Result<Expr> {
    Ok(match whole {
        Some(whole) => replaced(expr, whole)?.data,
        None => expr,
    })
}

fn replaced(expr: Expr, whole: &Arc<WholeTraces>) -> DfResult<Transformed<Expr>> {
    expr.transform_down(|e| {
        if !whole.has_unnumbered() && is_decided_by_the_span(&e) {
            return Ok(Transformed::new(e, false, datafusion::common::tree_node::TreeNodeRecursion::Jump));
        }
        let of_spans = |c: &datafusion::common::Column| c.relation.as_ref().is_some_and(|r| r.table() == SPANS);
        let stored = match &e {
            Expr::Column(c) if of_spans(c) => REPLACED.into_iter().find(|r| r.name() == c.name),
            _ => None,
        };
        Ok(match stored {
            Some(stored) => {
                let call = WholeFunction::call(stored, whole.clone());
                Transformed::new(call, true, datafusion::common::tree_node::TreeNodeRecursion::Jump)
            }
            None => Transformed::no(e),
        })
    })
}

/// Whether a filter only asks if a span is a root, which its own parent id decides: `nestedSetParent < 0`.
fn is_decided_by_the_span(expr: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    let Some(filter) = call.func.inner().downcast_ref::<SpanFilter>() else { return false };
    let test: &dyn std::any::Any = filter.test().as_ref();
    test.downcast_ref::<TraceqlFilter>().is_some_and(TraceqlFilter::asks_for_roots)
}

/// Whether this is a condition of `overlapping_spans`: a bound of a trace's stored times, or the parts that it names.
fn is_overlap(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => match (binary.left.as_ref(), binary.right.as_ref()) {
            (Expr::Column(c), Expr::Literal(..)) => c.name == "trace_start_time" || c.name == "trace_end_time",
            (left, Expr::InList(_)) => is_overlap(left),
            _ => false,
        },
        _ => false,
    }
}

/// A condition on a trace's stored times, or that the trace reaches into the range with another part.
pub(super) fn or_reaching(condition: Expr, whole: &Whole, range: (i64, i64)) -> Expr {
    let reaching = whole.as_ref().map(|w| w.reaching_into(range)).unwrap_or_default();
    if reaching.is_empty() {
        return condition;
    }
    let ids = reaching.into_iter().map(lit).collect();
    condition.or(column(&SpanColumn::Field(SpanField::TraceId)).in_list(ids, false))
}

/// `whole(column)`: the value for the whole trace if it is in several parts, else the stored one.
#[derive(Debug)]
struct WholeFunction {
    name: String,
    stored: SpanColumn,
    whole: Arc<WholeTraces>,
    signature: Signature,
}

impl WholeFunction {
    fn call(stored: SpanColumn, whole: Arc<WholeTraces>) -> Expr {
        let mut args: Vec<Expr> = vec![column(&stored)];
        let key = if is_of_tree(&stored) { &KEY[..] } else { &KEY[..1] };
        args.extend(key.iter().map(|field| column(&SpanColumn::Field(*field))));
        let name = format!("whole_{}", stored.name());
        ScalarUDF::from(Self { name, stored, whole, signature: Signature::variadic_any(Volatility::Immutable) }).call(args)
    }

    fn evaluate(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let wrong = || Error::internal(format!("{} got an unexpected column", self.name));
        let [stored, ids, key @ ..] = arrays else { return Err(wrong()) };
        let ids = ids.as_string_opt::<i32>().ok_or_else(wrong)?;
        let traces: Vec<Option<&WholeTrace>> = (0..ids.len()).map(|row| self.whole.get(ids.value(row))).collect();
        if traces.iter().all(Option::is_none) {
            return Ok(stored.clone());
        }
        if is_of_tree(&self.stored) {
            return self.of_tree(stored, &traces, key).ok_or_else(wrong);
        }
        self.of_trace(stored, &traces).ok_or_else(wrong)
    }

    fn of_tree(&self, stored: &ArrayRef, traces: &[Option<&WholeTrace>], key: &[ArrayRef]) -> Option<ArrayRef> {
        let [ids, kinds, starts, lefts] = key else { return None };
        let (ids, kinds) = (ids.as_string_opt::<i32>()?, kinds.as_primitive_opt::<Int32Type>()?);
        let (starts, lefts) = (starts.as_primitive_opt::<TimestampNanosecondType>()?, lefts.as_primitive_opt::<Int32Type>()?);
        let stored = stored.as_primitive_opt::<Int32Type>()?;
        let mut out = Int32Builder::with_capacity(traces.len());
        for (row, trace) in traces.iter().enumerate() {
            let place = trace.and_then(|t| t.place((ids.value(row), kinds.value(row), starts.value(row), lefts.value(row))));
            out.append_option(match (place, &self.stored) {
                (None, _) => stored.is_valid(row).then(|| stored.value(row)),
                (Some(place), SpanColumn::Field(SpanField::NestedSetLeft)) => Some(place.left),
                (Some(place), SpanColumn::Field(SpanField::NestedSetRight)) => Some(place.right),
                (Some(place), SpanColumn::Field(SpanField::NestedSetParent)) => Some(place.parent),
                // Blocks that do not know the number of children say nothing.
                (Some(place), _) => stored.is_valid(row).then_some(place.child_count),
            });
        }
        Some(Arc::new(out.finish()))
    }

    fn of_trace(&self, stored: &ArrayRef, traces: &[Option<&WholeTrace>]) -> Option<ArrayRef> {
        Some(match &self.stored {
            SpanColumn::Field(SpanField::RootServiceName) => texts(stored, traces, |t| &t.facts.root_service_name)?,
            SpanColumn::Field(SpanField::RootSpanName) => texts(stored, traces, |t| &t.facts.root_span_name)?,
            SpanColumn::Field(SpanField::TraceStartTime) => times(stored, traces, WholeTrace::start)?,
            SpanColumn::Field(SpanField::TraceEndTime) => times(stored, traces, WholeTrace::end)?,
            SpanColumn::Field(SpanField::TraceDurationNs) => {
                let stored = stored.as_primitive_opt::<Int64Type>()?;
                let nanos = |t: &WholeTrace| t.end().wrapping_sub(t.start());
                let values = traces.iter().zip(stored.iter()).map(|(trace, stored)| trace.map(nanos).or(stored));
                Arc::new(values.collect::<Int64Array>())
            }
            SpanColumn::TraceServiceStats => service_stats(stored, traces)?,
            _ => return None,
        })
    }
}

/// Whether a column tells a span's place in the tree.
fn is_of_tree(column: &SpanColumn) -> bool {
    use SpanField as F;
    matches!(column, SpanColumn::Field(F::NestedSetLeft | F::NestedSetRight | F::NestedSetParent | F::ChildCount))
}

fn texts(stored: &ArrayRef, traces: &[Option<&WholeTrace>], text: impl Fn(&WholeTrace) -> &str) -> Option<ArrayRef> {
    let dictionary = stored.as_dictionary_opt::<Int32Type>()?;
    let dictionary = dictionary.downcast_dict::<StringArray>()?;
    let mut out = StringDictionaryBuilder::<Int32Type>::new();
    for (trace, stored) in traces.iter().zip(dictionary) {
        out.append_option(trace.map(&text).or(stored));
    }
    Some(Arc::new(out.finish()))
}

fn times(stored: &ArrayRef, traces: &[Option<&WholeTrace>], time: impl Fn(&WholeTrace) -> i64) -> Option<ArrayRef> {
    let times = stored.as_primitive_opt::<TimestampNanosecondType>()?;
    let values = traces.iter().zip(times.iter()).map(|(trace, stored)| trace.map(&time).or(stored));
    Some(Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone_opt(times.timezone())))
}

fn service_stats(stored: &ArrayRef, traces: &[Option<&WholeTrace>]) -> Option<ArrayRef> {
    let stored = stored.as_list_opt::<i32>()?;
    let (DataType::List(item), DataType::Struct(fields)) = (stored.data_type(), stored.values().data_type()) else { return None };
    let children: [Box<dyn arrow::array::ArrayBuilder>; 3] =
        [Box::new(StringBuilder::new()), Box::new(Int64Builder::new()), Box::new(Int64Builder::new())];
    let mut out = ListBuilder::new(StructBuilder::new(fields.clone(), children.into())).with_field(item.clone());
    for (row, trace) in traces.iter().enumerate() {
        let known: Vec<(String, i64, i64)> = match trace {
            Some(trace) => trace.facts.service_stats.iter().map(|(n, s, e)| (n.clone(), i64::from(*s), i64::from(*e))).collect(),
            None => stats_of(&stored.value(row))?,
        };
        for (name, spans, errors) in known {
            let one = out.values();
            one.field_builder::<StringBuilder>(0)?.append_value(name);
            one.field_builder::<Int64Builder>(1)?.append_value(spans);
            one.field_builder::<Int64Builder>(2)?.append_value(errors);
            one.append(true);
        }
        out.append(true);
    }
    Some(Arc::new(out.finish()))
}

fn stats_of(list: &ArrayRef) -> Option<Vec<(String, i64, i64)>> {
    let list = list.as_struct_opt()?;
    let names = list.column(0).as_string_opt::<i32>()?;
    let numbers = |at: usize| list.column(at).as_primitive_opt::<Int64Type>();
    let (spans, errors) = (numbers(1)?, numbers(2)?);
    Some((0..list.len()).map(|i| (names.value(i).to_owned(), spans.value(i), errors.value(i))).collect())
}

impl PartialEq for WholeFunction {
    fn eq(&self, other: &Self) -> bool {
        self.stored == other.stored && Arc::ptr_eq(&self.whole, &other.whole)
    }
}

impl Eq for WholeFunction {}

impl Hash for WholeFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stored.hash(state);
    }
}

impl ScalarUDFImpl for WholeFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.stored.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        Ok(ColumnarValue::Array(self.evaluate(&arrays).map_err(DataFusionError::from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_span_decides_is_not_replaced() {
        let filter = |text: &str| {
            let crate::syntax::Root::Spansets(pipeline) = crate::parse(text).unwrap().root else { panic!("{text}") };
            let filters = crate::spansets::program::plain_filters(&pipeline).unwrap();
            super::super::filter_expr(filters[0]).unwrap()
        };
        for text in ["{ nestedSetParent < 0 }", "{ nestedSetParent = -1 }", "{ 0 > nestedSetParent }", "{ nestedSetParent >= 0 }"] {
            assert!(is_decided_by_the_span(&filter(text)), "{text}");
        }
        for text in ["{ nestedSetParent < 1 }", "{ nestedSetParent = 0 }", "{ nestedSetLeft < 0 }", "{ nestedSetParent + 1 = 0 }"] {
            assert!(!is_decided_by_the_span(&filter(text)), "{text}");
        }
    }

    #[test]
    fn bounds_of_traces_are_known() {
        let time = |field, op: fn(Expr, Expr) -> Expr| op(column(&SpanColumn::Field(field)), lit(1i64));
        let bound = time(SpanField::TraceStartTime, Expr::lt_eq);
        assert!(is_overlap(&bound));
        assert!(is_overlap(&bound.or(column(&SpanColumn::Field(SpanField::TraceId)).in_list(vec![lit("x")], false))));
        assert!(!is_overlap(&time(SpanField::StartTime, Expr::lt_eq)));
    }
}
