//! The same block in other encodings, page versions and codecs, as other writers would store it, is read the same.

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    column::{reader::ColumnReader, writer::ColumnWriter},
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion},
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};
use proptest::prelude::*;

use super::{
    pages::{DataPage, DictionaryPage},
    read_tests::{Damaged, VERSIONS, block_on, small_block},
    thrift,
    values::Decoder,
};

/// Copies a file leaf by leaf. `rows` is the number of rows of each new row group.
pub(super) fn rewrite(file: &[u8], properties: WriterProperties) -> Vec<u8> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).unwrap();
    for group in 0..reader.num_row_groups() {
        let from = reader.get_row_group(group).unwrap();
        let mut to = writer.next_row_group().unwrap();
        for leaf in 0..from.num_columns() {
            let mut column = to.next_column().unwrap().unwrap();
            macro_rules! copy {
                ($from:expr, $to:expr) => {{
                    let (mut defs, mut reps, mut values) = (vec![], vec![], vec![]);
                    while $from.read_records(1 << 20, Some(&mut defs), Some(&mut reps), &mut values).unwrap().0 > 0 {}
                    let levels = |levels: &Vec<i16>| (!levels.is_empty()).then(|| levels.clone());
                    $to.write_batch(&values, levels(&defs).as_deref(), levels(&reps).as_deref()).unwrap();
                }};
            }
            match (from.get_column_reader(leaf).unwrap(), column.untyped()) {
                (ColumnReader::Int32ColumnReader(mut f), ColumnWriter::Int32ColumnWriter(t)) => copy!(f, t),
                (ColumnReader::Int64ColumnReader(mut f), ColumnWriter::Int64ColumnWriter(t)) => copy!(f, t),
                (ColumnReader::DoubleColumnReader(mut f), ColumnWriter::DoubleColumnWriter(t)) => copy!(f, t),
                (ColumnReader::BoolColumnReader(mut f), ColumnWriter::BoolColumnWriter(t)) => copy!(f, t),
                (ColumnReader::ByteArrayColumnReader(mut f), ColumnWriter::ByteArrayColumnWriter(t)) => copy!(f, t),
                _ => panic!("no vParquet leaf has this type"),
            }
            column.close().unwrap();
        }
        to.close().unwrap();
    }
    writer.close().unwrap();
    out
}

/// Ways in which other writers may store a block.
pub(super) fn ways(file: &[u8]) -> Vec<(String, WriterProperties)> {
    let base = || WriterProperties::builder().set_data_page_row_count_limit(1).set_write_batch_size(1);
    let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(Default::default()),
    ];
    let mut ways = Vec::new();
    let mut add = |name: String, builder: WriterPropertiesBuilder| ways.push((name, builder.build()));
    for version in versions {
        for codec in codecs {
            add(format!("{version:?} {codec}"), base().set_writer_version(version).set_compression(codec));
        }
        // A dictionary that overflows: plain pages follow those that use it.
        let small = base().set_writer_version(version).set_dictionary_page_size_limit(40);
        add(format!("{version:?} small dictionaries"), small.set_statistics_enabled(EnabledStatistics::None));
        add(
            format!("{version:?} one page, no index"),
            WriterProperties::builder().set_writer_version(version).set_offset_index_disabled(true),
        );
        for encoding in [Encoding::PLAIN, Encoding::DELTA_BYTE_ARRAY, Encoding::BYTE_STREAM_SPLIT] {
            let mut builder = base().set_writer_version(version).set_dictionary_enabled(false);
            let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap();
            for column in reader.metadata().file_metadata().schema_descr().columns() {
                let fits = match (encoding, column.physical_type()) {
                    (Encoding::PLAIN, _) => true,
                    (Encoding::DELTA_BYTE_ARRAY, t) => t == parquet::basic::Type::BYTE_ARRAY,
                    (_, t) => t != parquet::basic::Type::BYTE_ARRAY && t != parquet::basic::Type::BOOLEAN,
                };
                if fits {
                    builder = builder.set_column_encoding(ColumnPath::new(column.path().parts().to_vec()), encoding);
                }
            }
            add(format!("{version:?} {encoding}"), builder);
        }
    }
    ways
}

#[test]
fn a_block_in_any_encoding_is_read_the_same() {
    for version in VERSIONS {
        block_on(async {
            let block = Damaged::new(&small_block(version)).await;
            let due = block.read(block.data().to_vec()).await.unwrap();
            for (way, properties) in ways(block.data()) {
                let data = rewrite(block.data(), properties);
                let block = block.resized(data.len() as u64);
                let found = block.read(data).await.unwrap_or_else(|e| panic!("{version} as {way}: {e}"));
                assert!(found == due, "{version} as {way}");
            }
        });
    }
}

/// Without checksums damage can go unnoticed, but nothing may panic.
#[test]
fn damage_without_checksums_never_panics() {
    block_on(async {
        let block = Damaged::new(&small_block("vParquet5")).await;
        for (i, (_, properties)) in ways(block.data()).into_iter().enumerate() {
            let data = rewrite(block.data(), properties);
            let block = block.resized(data.len() as u64);
            for at in (i * 7..data.len()).step_by(487) {
                let mut data = data.clone();
                data[at] = data[at].wrapping_add(1 + (at % 255) as u8);
                block.read(data).await.ok();
            }
        }
    });
}

proptest! {
    /// Pages without a checksum reach the decoders whatever they hold.
    #[test]
    fn noise_in_pages_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        dictionary in prop::collection::vec(any::<u8>(), 0..40),
        count in 0usize..300,
        in_dictionary in 0usize..9,
        small in any::<bool>(),
    ) {
        use parquet::basic::Type;
        use thrift::Encoding::*;
        // Small numbers make headers that are nearly right.
        let bytes: Vec<u8> = if small { bytes.iter().map(|b| b % 9).collect() } else { bytes };
        for physical in [Type::INT32, Type::INT64, Type::DOUBLE, Type::BOOLEAN, Type::BYTE_ARRAY] {
            for encoding in [Plain, Rle, Dictionary, DeltaBinaryPacked, DeltaLengthByteArray, DeltaByteArray, ByteStreamSplit] {
                let mut decoder = Decoder::new(physical, true).unwrap();
                decoder.dictionary(&DictionaryPage { values: in_dictionary, bytes: dictionary.clone().into() }).ok();
                let (values, none) = (Bytes::from(bytes.clone()), Bytes::new());
                let page = DataPage { entries: count, nulls: None, reps: none.clone(), defs: none, encoding, values };
                if decoder.page(&page, count).is_ok() {
                    prop_assert_eq!(decoder.finish().unwrap().len(), count);
                }
                let picks: Vec<u32> = (0..count as u32).filter(|at| at % 3 == 1).collect();
                let mut decoder = Decoder::new(physical, true).unwrap();
                decoder.dictionary(&DictionaryPage { values: in_dictionary, bytes: dictionary.clone().into() }).ok();
                if decoder.page_at(&page, count, &picks).is_ok() {
                    prop_assert_eq!(decoder.finish().unwrap().len(), picks.len());
                }
            }
        }
        thrift::page_header(&bytes).ok();
        thrift::offset_index(&bytes).ok();
        thrift::column_index(&bytes).ok();
    }
}
