//! What is picked out of a leaf, and the bits for things that have a value, against the leaf decoded whole: in all
//! encodings and page versions, and of damaged pages.

use bytes::Bytes;
use parquet::{
    basic::Compression,
    file::reader::{FileReader, SerializedFileReader},
};

use super::{
    Version,
    leaf::{Leaf, LeafPages},
    leaves::{LeafColumn, Leaves},
    number_codes::NumberCodes,
    read_tests::VERSIONS,
    rewrite_tests::{rewrite, ways},
    row_levels::RowMemo,
    values::Dense,
    write_tests::{GOLDEN, blocks},
};

const REQUIRED: [&str; 11] = [
    "TraceID",
    "EndTimeUnixNano",
    "ServiceStats.SpanCount",
    "rs.Resource.ServiceName",
    "rs.ss.Spans.SpanID",
    "rs.ss.Spans.Name",
    "rs.ss.Spans.Kind",
    "rs.ss.Spans.StartTimeUnixNano",
    "rs.ss.Spans.Events.Name",
    "rs.ss.Spans.Attrs.Key",
    "rs.ss.Spans.Attrs.IsArray",
];
const OPTIONAL: [&str; 8] = [
    "rs.Resource.Attrs.Value",
    "rs.ss.Spans.Attrs.Value",
    "rs.ss.Spans.Attrs.ValueInt",
    "rs.ss.Spans.Attrs.ValueDouble",
    "rs.ss.Spans.Attrs.ValueBool",
    "rs.ss.Spans.Events.Attrs.Value",
    "rs.Resource.DedicatedAttributes.String01",
    "rs.ss.Spans.DedicatedAttributes.String01",
];

/// A leaf of one row group.
pub(super) struct Chunk {
    pub column: LeafColumn,
    pub segments: Vec<Bytes>,
    codec: Compression,
    pub entries: usize,
}

impl Chunk {
    pub fn pages(&self) -> LeafPages<'_> {
        let Self { column, segments, codec, entries } = self;
        LeafPages { column, segments, codec: *codec, entries: *entries, row: None, memo: None, some: None, opened: None }
    }

    /// Checks rows decoded by themselves against the whole leaf. Returns how many have a value.
    fn check_rows(&self, step: usize) -> usize {
        let (name, max_def) = (&self.column.path, self.column.max_def as u8);
        let (values, levels) = self.pages().decode_with_levels().unwrap();
        let (shown, mut with_value) = (show(&values), 0);
        let entries = if max_def == 0 { values.len() } else { levels.defs.len() };
        let begins = |at: &usize| levels.reps.get(*at).is_none_or(|rep| *rep == 0);
        let mut starts: Vec<usize> = (0..entries).filter(begins).collect();
        starts.push(entries);
        let values_before = |at: usize| if max_def == 0 { at } else { levels.defs[..at].iter().filter(|def| **def == max_def).count() };
        let memo = RowMemo::default();
        let rows = starts.len() - 1;
        for row in (0..rows).step_by(step).chain(rows.checked_sub(1)) {
            let range = starts[row]..starts[row + 1];
            for memo in [None, Some(&memo)] {
                let pages = LeafPages { row: Some(row), memo, ..self.pages() };
                let (found, found_levels) = pages.decode_with_levels().unwrap();
                let cut = |levels: &[u8]| levels.get(range.clone()).unwrap_or_default().to_vec();
                assert_eq!(show(&found), shown[values_before(range.start)..values_before(range.end)], "{name}, row {row}");
                assert_eq!((found_levels.reps, found_levels.defs), (cut(&levels.reps), cut(&levels.defs)), "{name}, row {row}");
                with_value += usize::from(found.len() > 0);
            }
        }
        assert!(LeafPages { row: Some(rows), ..self.pages() }.decode_with_levels().is_err(), "{name}");
        with_value
    }

    /// Checks the numbers of a leaf in codes, if it has codes, against those of the leaf decoded whole.
    fn check_codes(&self, at: Option<&[u32]>, count: usize, due: &[String]) {
        if let Some(NumberCodes { numbers, codes }) = self.pages().number_codes(count, at).unwrap() {
            let found: Vec<String> = codes.iter().map(|code| numbers[*code as usize].to_string()).collect();
            assert_eq!(found, due, "{}", self.column.path);
        }
        assert!(self.pages().number_codes(count, Some(&[count as u32])).is_err() || self.entries != count);
    }

    /// Checks what few things have against what all have.
    fn check_few(&self, values: &[String], owners: &[u32], count: usize) {
        let name = &self.column.path;
        for (from, step) in [(0, 1), (3, 7), (1, 40), (count / 2, 1000)] {
            let things: Vec<u32> = (from..count).step_by(step).map(|at| at as u32).collect();
            let Some((found, bits)) = self.pages().decode_optional_at(&things, count).unwrap() else {
                assert_ne!(self.entries, count, "{name}");
                return;
            };
            let due: Vec<Option<&String>> = things.iter().map(|thing| owners.binary_search(thing).ok().map(|at| &values[at])).collect();
            assert_eq!(show(&found).iter().collect::<Vec<_>>(), due.iter().flatten().copied().collect::<Vec<_>>(), "{name}");
            let present: Vec<bool> = bits.map_or(vec![true; things.len()], |bits| bits.iter().collect());
            assert_eq!(present, due.iter().map(Option::is_some).collect::<Vec<_>>(), "{name}");
        }
    }

    /// Checks the short ways against the leaf decoded whole.
    fn check(&self) {
        let name = &self.column.path;
        if self.column.is_required() {
            let all = self.pages().decode(None).unwrap().values;
            let shown = show(&all);
            for (from, step) in [(0, 1), (0, 2), (3, 7), (1, 40), (all.len() / 2, 1000)] {
                let positions: Vec<u32> = (from..all.len()).step_by(step).map(|at| at as u32).collect();
                let due: Vec<String> = positions.iter().map(|at| shown[*at as usize].clone()).collect();
                assert_eq!(show(&self.pages().decode_at(&positions, all.len()).unwrap()), due, "{name} from {from} by {step}");
                assert_eq!(show(&all.pick(&positions).unwrap()), due, "{name} from {from} by {step}");
                self.check_codes(Some(&positions), all.len(), &due);
            }
            self.check_codes(None, all.len(), &shown);
            assert_eq!(self.pages().decode_at(&[], all.len()).unwrap().len(), 0);
            assert!(self.pages().decode_at(&[all.len() as u32], all.len()).is_err(), "{name}");
            assert!(self.pages().decode_at(&[0], all.len() + 1).is_err(), "{name}");
        } else {
            let Leaf { values, owners } = self.pages().decode(Some(self.column.depth)).unwrap();
            let owners = owners.unwrap();
            let arrays = owners.of_value.windows(2).any(|pair| pair[0] == pair[1]);
            let found = self.pages().decode_optional(owners.count).unwrap();
            assert_eq!(found.is_none(), arrays, "{name}");
            if let Some((found, bits)) = found {
                assert_eq!(show(&found), show(&values), "{name}");
                let with_value: Vec<u32> = match bits {
                    Some(bits) => bits.set_indices().map(|at| at as u32).collect(),
                    None => (0..owners.count as u32).collect(),
                };
                assert_eq!(with_value, owners.of_value, "{name}");
                self.check_few(&show(&values), &owners.of_value, owners.count);
            }
            // Fewer things than are due are an error.
            assert!(self.pages().decode_optional(self.entries + 1).is_err(), "{name}");
        }
    }
}

/// Every value as text.
pub(super) fn show(values: &Dense) -> Vec<String> {
    let text = |i: usize| match values {
        Dense::Int32(v) => v[i].to_string(),
        Dense::Int64(v) => v[i].to_string(),
        Dense::Double(v) => v[i].to_string(),
        Dense::Bool(v) => v[i].to_string(),
        Dense::Text(v) => v.get(i).to_owned(),
        Dense::Bytes(v) => hex::encode(v.value(i)),
    };
    (0..values.len()).map(text).collect()
}

/// The leaves of a file's first row group at these paths, as far as it has them.
pub(super) fn chunks(file: &[u8], version: Version, paths: &[&str]) -> Vec<Chunk> {
    chunks_of(file, version, |leaves| paths.iter().filter_map(|path| leaves.get(path)).cloned().collect())
}

/// All leaves of a file's first row group.
fn all_chunks(file: &[u8], version: Version) -> Vec<Chunk> {
    chunks_of(file, version, |leaves| leaves.iter().cloned().collect())
}

fn chunks_of(file: &[u8], version: Version, choose: impl Fn(&Leaves) -> Vec<LeafColumn>) -> Vec<Chunk> {
    let file = Bytes::copy_from_slice(file);
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let metadata = reader.metadata();
    let leaves = Leaves::new(metadata.file_metadata().schema_descr(), version).unwrap();
    let chunk = |column: LeafColumn| {
        let meta = metadata.row_group(0).column(column.index);
        let (start, len) = meta.byte_range();
        let segments = vec![file.slice(start as usize..(start + len) as usize)];
        Chunk { column, segments, codec: meta.compression(), entries: meta.num_values() as usize }
    };
    choose(&leaves).into_iter().map(chunk).collect()
}

/// The leaves that are looked at here.
fn looked_at() -> Vec<&'static str> {
    REQUIRED.iter().chain(&OPTIONAL).copied().collect()
}

/// Files of every version, as Tempo wrote them and rewritten, with what each is.
pub(super) fn files() -> Vec<(String, Version, Vec<u8>)> {
    let mut files = Vec::new();
    for version in VERSIONS {
        for (i, folder) in blocks(GOLDEN, version).into_iter().enumerate() {
            let data = std::fs::read(folder.join("data.parquet")).unwrap();
            let format = if version.starts_with("vParquet5") { Version::V5 } else { Version::V4 };
            // All ways for each block would take long and show no more.
            for (way, properties) in ways(&data).into_iter().skip(i).step_by(3) {
                files.push((format!("{version} block {i} as {way}"), format, rewrite(&data, properties)));
            }
            files.push((format!("{version} block {i}"), format, data));
        }
    }
    files
}

#[test]
fn short_ways_give_what_the_whole_leaf_gives() {
    let (mut arrays, mut bits, mut pages) = (0, 0, 0);
    for (what, version, file) in files() {
        for chunk in chunks(&file, version, &looked_at()) {
            let path = &chunk.column.path;
            std::panic::catch_unwind(|| chunk.check()).unwrap_or_else(|_| panic!("{what}, {path}"));
            if !chunk.column.is_required() {
                let due = chunk.pages().decode(Some(chunk.column.depth)).unwrap().owners.unwrap().count;
                match chunk.pages().decode_optional(due).unwrap() {
                    None => arrays += 1,
                    Some((_, found)) => bits += usize::from(found.is_some()),
                }
            }
            pages += 1;
        }
    }
    assert!(arrays > 0 && bits > 0 && pages > 100, "{arrays} leaves with arrays, {bits} with bits, {pages} in all");
}

#[test]
fn rows_are_cut_out_of_every_leaf() {
    let (mut leaves, mut with_value) = (0, 0);
    for (i, (what, version, file)) in files().into_iter().enumerate() {
        for chunk in all_chunks(&file, version) {
            let path = &chunk.column.path;
            // Other rows in each file.
            let found = std::panic::catch_unwind(|| chunk.check_rows(i % 7 * 5 + 9));
            with_value += found.unwrap_or_else(|_| panic!("{what}, {path}"));
            leaves += 1;
        }
    }
    assert!(leaves > 1000 && with_value > 10_000, "{leaves} leaves, {with_value} rows with a value");
}

/// Without checksums damage can go unnoticed, but nothing may panic, and what is found is as long as it must be.
#[test]
fn damaged_pages_never_panic() {
    for (i, (_, version, file)) in files().into_iter().enumerate().step_by(4) {
        for mut chunk in chunks(&file, version, &looked_at()) {
            let due = chunk.entries;
            let positions: Vec<u32> = (0..due as u32).step_by(5).collect();
            let whole = chunk.segments[0].to_vec();
            for at in (i % 29..whole.len()).step_by(101) {
                let mut bytes = whole.clone();
                bytes[at] = bytes[at].wrapping_add(1 + (at % 255) as u8);
                chunk.segments = vec![bytes.into()];
                if let Ok(found) = chunk.pages().decode_at(&positions, due) {
                    assert_eq!(found.len(), positions.len());
                }
                if let Ok(Some((values, bits))) = chunk.pages().decode_optional_at(&positions, due) {
                    assert_eq!(values.len(), bits.map_or(positions.len(), |bits| bits.count_set_bits()));
                }
                if let Ok(Some(NumberCodes { numbers, codes })) = chunk.pages().number_codes(due, None) {
                    assert!(codes.len() == due && codes.iter().all(|code| (*code as usize) < numbers.len()));
                }
                if let Ok(Some((values, bits))) = chunk.pages().decode_optional(due) {
                    assert_eq!(values.len(), bits.map_or(due, |bits| bits.count_set_bits()));
                }
                for row in [0, at % (due + 1)] {
                    let found = LeafPages { row: Some(row), ..chunk.pages() }.decode_with_levels();
                    if let Ok((values, levels)) = found
                        && chunk.column.max_def > 0
                    {
                        let with_value = levels.defs.iter().filter(|def| u32::from(**def) == chunk.column.max_def).count();
                        assert_eq!(values.len(), with_value);
                    }
                }
                if let Ok(Leaf { values, owners: Some(owners) }) = chunk.pages().decode(Some(chunk.column.depth)) {
                    assert_eq!(values.len(), owners.of_value.len());
                    assert!(owners.of_value.iter().all(|owner| (*owner as usize) < owners.count));
                }
            }
        }
    }
}
