//! Scans of blocks with small pages: what the page index leaves out must be missed by nobody, whatever is asked; and an index that
//! does not tell the truth about itself is no harm.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array},
    datatypes::Int64Type,
};
use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, ident, lit},
    physical_plan::{ExecutionPlan, collect},
    prelude::SessionContext,
};
use parquet::file::properties::WriterProperties;
use proptest::{prelude::*, strategy::ValueTree};

use super::{
    BlockCache, BlockReader, CacheSizes,
    read_tests::{Damaged, block_on, columns, set_of, show},
    rewrite_tests::rewrite,
    write_tests::{GOLDEN, blocks, meta, traces},
};
use crate::{
    Engine,
    config::Config,
    error::{Error, Result},
    scan::{AttributeScope, Passing, SpanChunk, SpanColumn, SpanField, SpanFilter, SpanTest, SpansTable, prepare},
    tenant::TenantId,
};

const VERSIONS: [&str; 3] = ["vParquet5", "vParquet5-many-dedicated", "vParquet4"];

/// The block of the edge set in pages of about so many rows, with or without a page index.
async fn paged(version: &str, rows: usize, indexed: bool) -> (Damaged, Vec<u8>) {
    let folder = blocks(GOLDEN, version).into_iter().find(|f| set_of(&meta(f)) == "edge").unwrap();
    let block = Damaged::new(&folder).await;
    let properties = WriterProperties::builder().set_data_page_row_count_limit(rows).set_write_batch_size(rows);
    let data = rewrite(block.data(), properties.set_offset_index_disabled(!indexed).set_column_index_truncate_length(Some(3)).build());
    (block.resized(data.len() as u64), data)
}

async fn chunk(block: &Damaged) -> Result<Box<dyn SpanChunk>> {
    let cache = Arc::new(BlockCache::new(CacheSizes { footers: 0, shape_bytes: 1000, ..CacheSizes::default() }));
    let reader = BlockReader::open(block.store(), &cache, &TenantId::single(), Arc::new(block.meta().clone())).await?;
    reader.row_group(0).open().await
}

#[test]
fn columns_of_few_spans_are_as_of_all() {
    for version in VERSIONS {
        let all = columns(&traces(GOLDEN, "edge").iter().map(|t| prepare(t)).collect::<Vec<_>>());
        block_on(async {
            let (block, data) = paged(version, 8, true).await;
            block.put(data).await.unwrap();
            let mut whole = chunk(&block).await.unwrap();
            whole.load(&all).await.unwrap();
            let spans = whole.span_count() as u32;
            for (first, step) in [(0, spans / 3), (5, spans / 8), (spans - 1, 1), (spans / 2, 7 * spans / 16)] {
                let some: UInt32Array = (first..spans).step_by(step as usize).collect::<Vec<_>>().into();
                let mut few = chunk(&block).await.unwrap();
                few.load(&[SpanColumn::Field(SpanField::Name)]).await.unwrap();
                few.traces().await.unwrap();
                few.load_for(&all, Some(&some)).await.unwrap();
                for column in all.iter().chain([&SpanColumn::Place]) {
                    if *column == SpanColumn::Place {
                        whole.load(std::slice::from_ref(column)).await.unwrap();
                        few.load_for(std::slice::from_ref(column), Some(&some)).await.unwrap();
                    }
                    let due = whole.column(column, Some(&some)).unwrap();
                    assert_eq!(show(&few.column(column, Some(&some)).unwrap()), show(&due), "{version} {column:?} {some:?}");
                }
                let stats = few.stats();
                assert!(stats.pages_without_span > stats.pages / 4, "{version}: {stats:?}");
            }
        });
    }
}

/// Whether an attribute is a whole number, or an array with one, that is at least this.
#[derive(Debug)]
struct AtLeast(i64, String);

impl SpanTest for AtLeast {
    fn name(&self) -> &str {
        &self.1
    }

    fn evaluate(&self, columns: &[ArrayRef], spans: usize) -> Result<BooleanArray> {
        let values = columns[0].as_struct();
        let ints = values.column_by_name("int").ok_or_else(|| Error::internal("no int"))?.as_primitive::<Int64Type>();
        let lists = values.column_by_name("ints").ok_or_else(|| Error::internal("no ints"))?.as_list::<i32>();
        let any = |at: usize| lists.is_valid(at) && lists.value(at).as_primitive::<Int64Type>().iter().flatten().any(|n| n >= self.0);
        Ok((0..spans).map(|at| Some(ints.is_valid(at) && ints.value(at) >= self.0 || any(at))).collect())
    }

    fn passing(&self) -> Passing {
        Passing { ints: true, ..Passing::NOTHING }
    }
}

fn attribute() -> SpanColumn {
    SpanColumn::Attribute { scope: AttributeScope::Span, key: "http.status_code".into() }
}

/// Conditions of which many are true of few spans.
fn condition() -> impl Strategy<Value = Expr> {
    let number = |field: SpanField| ident(field.describe().0);
    let time = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())));
    let durations = prop_oneof![0i64..100, 0i64..2_000_000_000, Just(i64::MAX), Just(1_000_000)];
    let starts = (0i64..7_200_000).prop_map(|ms| 1_777_636_800_000_000_000 + ms * 1_000_000);
    let names = prop::sample::select(vec!["GET /", "a", "root", "GET", "zz", "", "child", "op"]);
    prop_oneof![
        durations.clone().prop_map(move |n| number(SpanField::DurationNs).gt(lit(n))),
        durations.clone().prop_map(move |n| number(SpanField::DurationNs).lt_eq(lit(n))),
        durations.prop_map(move |n| number(SpanField::TraceDurationNs).eq(lit(n))),
        starts.clone().prop_map(move |n| number(SpanField::StartTime).lt(time(n))),
        starts.prop_map(move |n| number(SpanField::TraceEndTime).gt_eq(time(n))),
        (0i32..7).prop_map(move |n| number(SpanField::KindCode).eq(lit(n))),
        (0i32..4).prop_map(move |n| number(SpanField::StatusCode).gt_eq(lit(n))),
        (0i32..40).prop_map(move |n| number(SpanField::NestedSetLeft).gt(lit(n))),
        (-2i32..20).prop_map(move |n| number(SpanField::NestedSetParent).not_eq(lit(n))),
        (0i32..9).prop_map(move |n| number(SpanField::ChildCount).gt(lit(n))),
        prop::sample::select(vec!["error", "ok", "unset"]).prop_map(move |s| number(SpanField::Status).eq(lit(s))),
        names.clone().prop_map(move |n| number(SpanField::Name).eq(lit(n))),
        names.clone().prop_map(move |n| number(SpanField::Name).gt(lit(n))),
        names.clone().prop_map(move |n| number(SpanField::RootServiceName).gt_eq(lit(n))),
        names.prop_map(move |n| number(SpanField::ServiceName).lt(lit(n))),
        Just(number(SpanField::ServiceName).is_null()),
        Just(number(SpanField::StatusMessage).not_eq(lit(""))),
        prop_oneof![0i64..700, 490i64..510]
            .prop_map(|n| SpanFilter::call(Arc::new(AtLeast(n, format!("at_least({n})"))), vec![ident(attribute().name())])),
    ]
}

/// Three engines over a block with small pages: with an index, without, and with an index and a memory for columns.
async fn engines(version: &str, rows: usize) -> [Arc<Engine>; 3] {
    let mut engines = Vec::new();
    for (indexed, column_cache_bytes) in [(true, 0), (false, 0), (true, 1 << 20)] {
        let (block, data) = paged(version, rows, indexed).await;
        block.put(data).await.unwrap();
        block.commit().await.unwrap();
        let engine = Engine::new(block.store().clone(), Config { scan_parallelism: 1, column_cache_bytes, ..Config::default() });
        engine.poll().await.unwrap();
        engines.push(Arc::new(engine));
    }
    engines.try_into().unwrap_or_else(|_| panic!("three engines"))
}

fn table(engine: &Arc<Engine>) -> SpansTable {
    SpansTable::with_columns(engine.clone(), TenantId::single(), [attribute(), SpanColumn::Place])
}

/// The rows that meet all conditions as text, and the counters of the scan.
async fn ask(engine: &Arc<Engine>, conditions: &[Expr]) -> Result<(Vec<String>, impl Fn(&str) -> usize + use<>)> {
    let shown =
        [SpanField::TraceId, SpanField::SpanId, SpanField::StartTime, SpanField::SpanAttributes, SpanField::Events, SpanField::ScopeName];
    let context = SessionContext::new();
    let mut frame = context.read_table(Arc::new(table(engine)))?;
    for condition in conditions {
        frame = frame.filter(condition.clone())?;
    }
    let columns: Vec<Expr> = shown.iter().map(|f| ident(f.describe().0)).chain([ident(SpanColumn::Place.name())]).collect();
    let plan = frame.select(columns)?.create_physical_plan().await?;
    let batches = collect(plan.clone(), context.task_ctx()).await?;
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<String>> = batch.columns().iter().map(show).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].as_str()).collect::<Vec<_>>().join(" ")));
    }
    Ok((rows, move |name: &str| counted(plan.as_ref(), name)))
}

fn counted(plan: &dyn ExecutionPlan, name: &str) -> usize {
    let own = plan.metrics().and_then(|m| m.sum_by_name(name)).map_or(0, |v| v.as_usize());
    own + plan.children().iter().map(|child| counted(child.as_ref(), name)).sum::<usize>()
}

#[test]
fn nothing_is_missed_for_the_bounds_of_pages_and_what_is_remembered() {
    for (version, rows) in [("vParquet5", 5), ("vParquet4", 8), ("vParquet5-many-dedicated", 9)] {
        block_on(async {
            let [indexed, plain, remembering] = engines(version, rows).await;
            let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() });
            let (mut excluded, mut passed_over, mut cached, mut unplanned) = (0, 0, 0, 0);
            for _ in 0..150 {
                let conditions = prop::collection::vec(condition(), 1..3).new_tree(&mut runner).unwrap().current();
                let (found, count) = ask(&indexed, &conditions).await.unwrap();
                let (due, _) = ask(&plain, &conditions).await.unwrap();
                assert_eq!(found, due, "{version}: {conditions:?}");
                excluded += usize::from(count("pages_excluded_by_page_index") > 0);
                passed_over += usize::from(count("pages_without_span") > 0);
                let (found, count) = ask(&remembering, &conditions).await.unwrap();
                assert_eq!(found, due, "{version}: {conditions:?}");
                cached += usize::from(count("columns_cached") > 0 && count("pages_excluded_by_page_index") > 0);
                if let Some(searched) = table(&remembering).excluded_in_memory(&conditions).await {
                    assert!(due.is_empty(), "{version}: {conditions:?}");
                    unplanned += searched.chunks;
                }
            }
            assert!(excluded > 9 && passed_over > 0 && cached > 0, "{version}: {excluded}, {passed_over}, {cached}");
            assert!(unplanned > 9, "{version}: {unplanned}");
        });
    }
}

#[test]
fn the_counters_say_which_pages_were_left_out() {
    block_on(async {
        let [engine, plain, _] = engines("vParquet5", 5).await;
        // The longest span: one page of durations can hold it.
        let (all, _) = ask(&plain, &[]).await.unwrap();
        let mut durations: Vec<i64> = traces(GOLDEN, "edge")
            .iter()
            .flat_map(|t| t.spans().map(|(_, _, s)| s.end_time_unix_nano.wrapping_sub(s.start_time_unix_nano) as i64).collect::<Vec<_>>())
            .collect();
        durations.sort_unstable();
        durations.dedup();
        let second = durations[durations.len() - 2];
        let (rows, count) = ask(&engine, &[ident("duration_ns").gt(lit(second))]).await.unwrap();
        assert!(!rows.is_empty() && rows.len() < all.len() / 8, "{}", rows.len());
        let (total, excluded) = (count("pages_total"), count("pages_excluded_by_page_index"));
        assert!(excluded > total / 2, "{excluded} of {total}");
        assert!(excluded + count("pages_without_span") < total);
        // Nothing is longer than the longest.
        let (rows, count) = ask(&engine, &[ident("duration_ns").gt(lit(durations[durations.len() - 1]))]).await.unwrap();
        assert_eq!((rows.len(), count("pages_opened"), count("bytes_scanned")), (0, 0, 0));
    });
}

/// Bytes of the index are changed one by one: answers are wrong as the bounds are, or there is an error; nothing panics.
#[test]
fn an_index_that_lies_is_no_harm() {
    block_on(async {
        let (block, data) = paged("vParquet5", 12, true).await;
        let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(data.clone())).unwrap();
        let chunks = metadata.row_group(0).columns();
        let start = chunks.iter().filter_map(|c| c.column_index_offset().min(c.offset_index_offset())).min().unwrap() as usize;
        let footer = u32::from_le_bytes(data[data.len() - 8..data.len() - 4].try_into().unwrap()) as usize;
        let longest = lit(1_000_000_000i64);
        let (mut fine, mut refused) = (0, 0);
        for at in (start..data.len() - 8 - footer).step_by(29) {
            for flip in [0x01, 0x3f, 0xff] {
                let mut data = data.clone();
                data[at] ^= flip;
                block.put(data).await.unwrap();
                block.commit().await.unwrap();
                let engine = Engine::new(block.store().clone(), Config { scan_parallelism: 1, ..Config::default() });
                engine.poll().await.unwrap();
                let engine = Arc::new(engine);
                match ask(&engine, &[ident("duration_ns").gt_eq(longest.clone()), ident("kind_code").eq(lit(2i32))]).await {
                    Ok(_) => fine += 1,
                    Err(e) => {
                        refused += 1;
                        assert!(!matches!(e.kind(), crate::ErrorKind::Internal | crate::ErrorKind::Invalid), "byte {at} ^ {flip:#x}: {e}");
                    }
                }
            }
        }
        assert!(fine > 100 && refused > 0, "{fine} answered, {refused} refused");
    });
}
