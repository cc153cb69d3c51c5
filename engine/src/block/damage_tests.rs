//! Blocks that are not what they say: each is an error that names the block and what is wrong with it, or is passed over where
//! the settings allow that. Nothing panics, and no size that a file claims is believed.

use std::{path::Path, sync::Arc};

use parquet::schema::printer::print_schema;

use super::{
    BlockMeta, BlockVersion, DedicatedColumn, Version,
    pages::{DataPage, DictionaryPage},
    read_tests::{Damaged, block_on},
    schema::BlockSchema,
    thrift::Encoding,
    v3_tests,
    values::Decoder,
    write_tests::{GOLDEN, traces, write},
};
use crate::{
    Engine,
    config::Config,
    error::ErrorKind,
    scan::{PreparedTrace, SpansTable, prepare},
    store::BlockStore,
    tenant::TenantId,
    trace::TraceId,
};

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

/// A block of a version that holds the set `wrap` and some of `edge`, and its traces.
fn block(root: &Path, version: Version) -> (BlockMeta, Vec<PreparedTrace>) {
    let mut some = traces(GOLDEN, "wrap");
    some.extend(traces(GOLDEN, "edge").into_iter().step_by(9));
    let prepared: Vec<_> = some.iter().map(|t| prepare(t)).collect();
    let normal: Vec<_> = prepared.iter().map(PreparedTrace::trace).collect();
    let block_version = if version == Version::V4 { BlockVersion::V4 } else { BlockVersion::V5 };
    let config = Config { block_version, row_group_values: 2000, ..Config::default() };
    let meta = match version {
        Version::V3 => v3_tests::write(root, DedicatedColumn::defaults(), &normal),
        _ => write(root, &config, DedicatedColumn::defaults(), some).unwrap().1,
    };
    (meta, prepared)
}

fn folder(root: &Path, meta: &BlockMeta) -> std::path::PathBuf {
    root.join(TenantId::single().as_str()).join(meta.block_id.to_string())
}

/// Finds a trace with an engine that may go without `blocks` blocks.
fn find(root: &Path, id: TraceId, blocks: u32) -> (crate::Result<bool>, (u64, u64)) {
    let config = Config { tolerate_failed_blocks: blocks, ..Config::default() };
    let engine = Engine::new(BlockStore::open_local(root, false).unwrap(), config);
    let found = block_on(async {
        engine.poll().await?;
        engine.find_trace(&TenantId::single(), id, None).await
    });
    (found.map(|f| f.trace.is_some()), engine.block_failures().counts())
}

#[test]
fn a_block_that_cannot_be_read_is_named_or_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let (good, traces) = block(root.path(), Version::V5);
    let (bad, _) = block(root.path(), Version::V4);
    let (id, here) = (traces[0].trace().id, folder(root.path(), &bad));
    let json = String::from_utf8(bad.to_json()).unwrap();
    let data = std::fs::read(here.join("data.parquet")).unwrap();
    let format = |name: &str| json.replace("vParquet4", name).into_bytes();
    /// File, what becomes of it, what the error says.
    type Case = (&'static str, Option<Vec<u8>>, &'static [&'static str]);
    let cases: [Case; 9] = [
        ("meta.json", Some(format("vParquet5-preview1")), &["vParquet5-preview1", "preview", "rewrite the block"]),
        ("meta.json", Some(format("vParquet9")), &["vParquet9", "vParquet5", "rewrite it"]),
        ("meta.json", Some(format("vParquet5")), &["column", "missing"]),
        ("meta.json", Some(json.replace("\"size\":", "\"size\":1").into_bytes()), &["meta.json says that data.parquet has 1"]),
        ("meta.json", Some(json.as_bytes()[..json.len() / 2].to_vec()), &["meta.json"]),
        ("data.parquet", Some(data[..data.len() - 20].to_vec()), &["bytes, but it has"]),
        ("data.parquet", Some([&data[..data.len() - 100], &[0x15; 92], &data[data.len() - 8..]].concat()), &["footer is corrupt"]),
        ("data.parquet", None, &["data.parquet"]),
        ("bloom-0", None, &["bloom-0 is missing"]),
    ];
    for (file, content, says) in cases {
        let path = here.join(file);
        let sound = std::fs::read(&path).unwrap();
        match &content {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let (found, counts) = find(root.path(), id, 0);
        let error = found.expect_err(file).to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{file}: {error}");
        assert_eq!(error.matches(&bad.block_id.to_string()).count().min(1), 1, "{error}");
        assert_eq!(counts, (0, 1), "{error}");
        let (found, counts) = find(root.path(), id, 1);
        assert_eq!((found.unwrap(), counts), (true, (1, 0)), "{error}: the other block has the trace");
        std::fs::write(&path, sound).unwrap();
    }
    assert_ne!(good.block_id, bad.block_id);
    assert!(find(root.path(), id, 0).0.unwrap());
}

/// Number of spans that a scan finds with an engine that may go without `blocks` blocks.
fn scan(root: &Path, blocks: u32) -> (Result<usize, String>, (u64, u64)) {
    let config = Config { tolerate_failed_blocks: blocks, ..Config::default() };
    let engine = Arc::new(Engine::new(BlockStore::open_local(root, false).unwrap(), config));
    let context = datafusion::prelude::SessionContext::new();
    let table = SpansTable::new(engine.clone(), TenantId::single());
    context.register_table("spans", Arc::new(table)).unwrap();
    let found = block_on(async {
        engine.poll().await.unwrap();
        context.table("spans").await.unwrap().select_columns(&["trace_id", "name"]).unwrap().collect().await
    });
    let rows = found.map(|batches| batches.iter().map(|b| b.num_rows()).sum()).map_err(|e| e.to_string());
    (rows, engine.block_failures().counts())
}

#[test]
fn a_scan_names_a_damaged_column_or_goes_without_its_block() {
    let root = tempfile::tempdir().unwrap();
    let (_, traces) = block(root.path(), Version::V5);
    let spans: usize = traces.iter().map(|t| t.trace().span_count()).sum();
    let (bad, _) = block(root.path(), Version::V4);
    assert_eq!(scan(root.path(), 0), (Ok(2 * spans), (0, 0)));
    // The pages of the first column; the footer is sound, so the block opens.
    let path = folder(root.path(), &bad).join("data.parquet");
    let mut data = std::fs::read(&path).unwrap();
    data[4..40].fill(0xff);
    std::fs::write(&path, data).unwrap();
    let (rows, counts) = scan(root.path(), 0);
    let error = rows.unwrap_err();
    assert!(error.contains(&bad.block_id.to_string()) && error.contains("column TraceID"), "{error}");
    assert_eq!(counts, (0, 1));
    let (rows, counts) = scan(root.path(), 1);
    assert_eq!(counts, (1, 0), "a block of many row groups is counted once");
    assert!((spans..2 * spans).contains(&rows.unwrap()), "all of the sound block");
}

#[test]
fn columns_that_are_not_what_they_must_be_are_named() {
    let text = |version| {
        let mut out = Vec::new();
        match version {
            Version::V3 => return v3_tests::message(),
            _ => print_schema(&mut out, &BlockSchema::new(version, &[]).unwrap().root()),
        }
        String::from_utf8(out).unwrap()
    };
    let (kind, number) = ("Kind (INTEGER(64,true))", "INT64");
    for version in VERSIONS {
        let schema = text(version);
        let number = if schema.contains(&format!("{number} {kind}")) { number } else { "int64" };
        let whole = format!("required {number} {kind}").to_lowercase();
        let at = schema.to_lowercase().find(&whole).unwrap_or_else(|| panic!("{whole} is not in\n{schema}"));
        let with = |other: &str| format!("{}{other}{}", &schema[..at], &schema[at + whole.len()..]);
        // A file without rows is opened like any other.
        let open = |schema: &str| {
            let root = tempfile::tempdir().unwrap();
            let (meta, traces) = block(root.path(), version);
            let block = block_on(Damaged::of(&folder(root.path(), &meta), &traces));
            let meta = BlockMeta { dedicated_columns: Vec::new(), size: 0, footer_size: 0, ..meta };
            block_on(block.with_meta(meta.clone()).read(v3_tests::file(schema, &[]))).map_err(|e| {
                assert!(e.kind() == ErrorKind::Data && e.to_string().contains(&meta.block_id.to_string()), "{e}");
                e.to_string()
            })
        };
        open(&schema).unwrap_or_else(|e| panic!("{version:?}: {e}"));
        for (other, says) in [
            ("required binary Kind (STRING)", "is of type BYTE_ARRAY instead of INT64"),
            ("required int32 Kind", "is of type INT32 instead of INT64"),
            ("optional int64 Kind (INTEGER(64,true))", "nested in an unexpected way"),
            ("repeated int64 Kind (INTEGER(64,true))", "nested in an unexpected way"),
            ("required int64 Sort (INTEGER(64,true))", "column rs.ss.Spans.Kind is missing"),
        ] {
            let error = open(&with(other)).expect_err(other);
            assert!(error.contains(says) && error.contains("Kind"), "{version:?}, {other}: {error}");
        }
    }
}

#[test]
fn a_dictionary_that_lies_is_an_error() {
    use parquet::basic::Type;
    // Codes of two bits, packed: 0 1 2 3 and four more.
    let codes = vec![2u8, 0b0000_0011, 0b1110_0100, 0b0000_0000];
    for (physical, value) in [(Type::INT64, vec![7; 8]), (Type::BYTE_ARRAY, vec![1, 0, 0, 0, b'x'])] {
        for in_dictionary in 0..5 {
            let mut decoder = Decoder::new(physical, true).unwrap();
            decoder.dictionary(&DictionaryPage { values: in_dictionary, bytes: value.repeat(in_dictionary).into() }).unwrap();
            let none = bytes::Bytes::new();
            let values = codes.clone().into();
            let page = DataPage { entries: 4, nulls: None, reps: none.clone(), defs: none, encoding: Encoding::Dictionary, values };
            match decoder.page(&page, 4) {
                Ok(()) => assert_eq!((in_dictionary, decoder.finish().unwrap().len()), (4, 4)),
                Err(e) => assert!(in_dictionary < 4 && e.to_string().contains("dictionary code"), "{in_dictionary}: {e}"),
            }
        }
        // More values than the page has bytes for.
        let mut decoder = Decoder::new(physical, true).unwrap();
        assert!(decoder.dictionary(&DictionaryPage { values: usize::MAX, bytes: value.into() }).is_err());
    }
}

#[test]
fn rows_in_another_order_are_found_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let (meta, traces) = block(root.path(), Version::V3);
    let block = block_on(Damaged::of(&folder(root.path(), &meta), &traces));
    let mut rows: Vec<_> = traces.iter().map(|t| v3_tests::row(t.trace(), &meta.dedicated_columns)).collect();
    rows.rotate_left(7);
    rows.swap(1, 4);
    let other = v3_tests::file(&v3_tests::message(), &rows);
    let (whole, other) =
        (block_on(block.read(block.data().to_vec())).unwrap(), block_on(block.resized(other.len() as u64).read(other)).unwrap());
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(whole), sorted(other));
}

/// Peak memory of this process in MiB, where the kernel tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + (self.next() % range.len() as u64) as usize
    }
}

/// Changes a file in a few places, as faulty disks, faulty writers and enemies do.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.within(1..4) {
        if data.is_empty() {
            return;
        }
        // The end says where everything is: look there as often as everywhere else.
        let from = if random.within(0..2) == 0 { data.len().saturating_sub(20_000) } else { 0 };
        let at = random.within(from..data.len());
        let end = (at + random.within(1..64)).min(data.len());
        match random.within(0..12) {
            0..6 => data[at] ^= 1 << random.within(0..8),
            6 => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.within(0..5)],
            7 => data[at..end].fill(0),
            8 => data[at..end].fill(0xff),
            9 => drop(data.drain(at..end)),
            10 => {
                let other = random.within(0..data.len());
                let copy = data[other..(other + 64).min(data.len())].to_vec();
                data.splice(at..at, copy);
            }
            _ => data.truncate(at.max(data.len() / 2)),
        }
    }
}

/// A few thousand damaged blocks of all versions, read whole: columns and traces.
#[test]
fn damaged_blocks_never_panic() {
    for version in VERSIONS {
        let root = tempfile::tempdir().unwrap();
        let (meta, traces) = block(root.path(), version);
        block_on(async {
            let block = Damaged::of(&folder(root.path(), &meta), &traces).await;
            let mut random = Random(5);
            let (mut read, mut refused) = (0, 0);
            for _ in 0..700 {
                let mut data = block.data().to_vec();
                mutate(&mut data, &mut random);
                // Sometimes `meta.json` knows, so that the damage is not found by the size alone.
                let size = if random.within(0..10) > 0 { data.len() as u64 } else { meta.size };
                let mut told = BlockMeta { size, ..block.meta().clone() };
                match random.within(0..12) {
                    0 => told.footer_size = random.next() as u32,
                    1 => told.footer_size = 0,
                    2 => told.bloom_shards = random.within(0..4) as u32,
                    3 => drop(told.dedicated_columns.pop()),
                    4 => told.dedicated_columns.reverse(),
                    _ => {}
                }
                match block.with_meta(told).read(data).await {
                    Ok(_) => read += 1,
                    Err(e) => {
                        refused += 1;
                        assert!(!matches!(e.kind(), ErrorKind::Internal | ErrorKind::Invalid), "{e}");
                    }
                }
            }
            assert!(read > 20 && refused > 100, "{version:?}: {read} read, {refused} refused");
        });
    }
    if let Some(peak) = peak_mib() {
        assert!(peak < 2048, "{peak} MiB at the most");
    }
}

#[test]
fn a_replaced_block_was_committed_and_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let (meta, _) = block(root.path(), Version::V5);
    let here = folder(root.path(), &meta);
    let engine = Engine::new(BlockStore::open_local(root.path(), false).unwrap(), Config::default());
    let tenant = TenantId::single();
    let state = || {
        block_on(async {
            engine.poll().await.unwrap();
            let known = engine.snapshot(&tenant).blocks.len();
            let committed = engine.is_committed(&tenant, meta.block_id).await.unwrap();
            (known, committed, engine.is_compacted(&tenant, meta.block_id).await.unwrap())
        })
    };
    assert_eq!(state(), (1, true, false));
    std::fs::copy(here.join("meta.json"), here.join("meta.compacted.json")).unwrap();
    assert_eq!(state(), (0, true, true), "a compactor is about to delete meta.json");
    std::fs::remove_file(here.join("meta.json")).unwrap();
    assert_eq!(state(), (0, true, true));
    std::fs::remove_file(here.join("meta.compacted.json")).unwrap();
    assert_eq!(state(), (0, false, false));
}
