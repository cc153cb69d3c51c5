//! Writes a block: `data.parquet`, blooms, index, vocabulary, and `meta.json` last.
//!
//! Traces are shredded into column writers a few thousand spans at a time; what is held in memory is one row group in its
//! compressed form, the open pages and the dictionaries. Finished row groups leave for the store at once.

use std::{collections::HashMap, io, iter::Peekable, sync::Arc};

use bytes::Bytes;
use futures::future::try_join_all;
use parquet::{
    column::writer::{ColumnWriter, get_column_writer},
    file::{
        properties::WriterPropertiesPtr,
        writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite},
    },
};
use tokio::sync::mpsc::{Sender, channel};

use crate::{
    block::{BlockMeta, Version, bloom::Bloom, index, schema::BlockSchema, shred::Shredder, vocabulary},
    config::Config,
    derive::{Grouped, derive_grouped},
    error::{Error, ErrorKind, Result},
    store::{BlockStore, PART_BYTES, paths},
    tenant::TenantId,
    trace::{Trace, TraceId},
};

/// Spans shredded before the buffers go to the column writers: enough to amortise the call, few enough to stay in cache.
const CHUNK_SPANS: usize = 1024;

/// The last bytes of a parquet file: the length of the footer, and the magic number.
const TAIL_BYTES: usize = 8;

/// Writes all files of a block and returns its finished meta. `meta` brings ids, tenant, version and dedicated columns.
/// The traces may be in any order; each id occurs once.
///
/// When this returns the block is durable and visible; when it fails the block is not visible, and files of it may remain.
pub async fn write_block(store: &BlockStore, config: &Config, meta: BlockMeta, mut traces: Vec<Arc<Trace>>) -> Result<BlockMeta> {
    let version = meta.version()?;
    if version < Version::V4 {
        return Err(Error::new(ErrorKind::Unsupported, format!("format {}: only vParquet4 and vParquet5 are written", meta.format)));
    }
    let tenant: TenantId = meta.tenant_id.parse()?;
    traces.sort_by_key(|t| t.id);
    if traces.is_empty() {
        return Err(Error::invalid("a block needs at least one trace"));
    }
    if let Some(pair) = traces.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Error::invalid(format!("trace {} occurs twice in one block: merge its parts first", pair[0].id)));
    }

    let (parts, received) = channel(1);
    let (config, dedicated) = (config.clone(), meta.dedicated_columns.clone());
    let encode = tokio::task::spawn_blocking(move || {
        let schema = BlockSchema::new(version, &dedicated)?;
        encode(&config, &schema, traces, PartWriter::new(parts))
    });
    let data = paths::data(&tenant, meta.block_id);
    let (encoded, uploaded) = tokio::join!(encode, store.put_parts(&data, received));
    // An upload that fails makes the encoder fail too, so its error is the cause.
    let uploaded = uploaded?;
    let encoded = encoded.map_err(|e| Error::internal("block encoder failed").with_source(e))??;
    if !uploaded {
        return Err(Error::internal("block encoder ended without an end of file"));
    }

    let shards = encoded.bloom.shards();
    try_join_all((0u32..).zip(shards).map(|(i, shard)| {
        let path = paths::bloom(&tenant, meta.block_id, i);
        async move { store.put(&path, shard.to_bytes()).await }
    }))
    .await?;
    store.put(&paths::index(&tenant, meta.block_id), index::to_json(&encoded.last_ids)).await?;
    store.put(&paths::vocabulary(&tenant, meta.block_id), encoded.vocabulary.encode()?).await?;
    let meta = encoded.finish(meta)?;
    store.put(&paths::meta(&tenant, meta.block_id), meta.to_json()).await?;
    Ok(meta)
}

/// What is known after `data.parquet` is written.
#[derive(Debug)]
struct Encoded {
    traces: u64,
    /// Highest trace id of each row group.
    last_ids: Vec<TraceId>,
    bloom: Bloom,
    vocabulary: vocabulary::Vocabulary,
    times: Times,
    size: u64,
    footer_size: u32,
}

impl Encoded {
    fn finish(&self, meta: BlockMeta) -> Result<BlockMeta> {
        let time = |seconds: u64| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            jiff::Timestamp::from_second(seconds).map_err(|e| Error::internal("span time out of range").with_source(e))
        };
        const SECOND: u64 = 1_000_000_000;
        Ok(BlockMeta {
            start_time: time(self.times.first / SECOND)?,
            end_time: time(self.times.last.div_ceil(SECOND))?,
            total_objects: self.traces,
            size: self.size,
            total_records: count_u32(self.last_ids.len(), "row groups")?,
            bloom_shards: count_u32(self.bloom.shards().len(), "bloom shards")?,
            footer_size: self.footer_size,
            replication_factor: 1,
            index_page_size: 0,
            ..meta
        })
    }
}

fn count_u32(n: usize, what: &str) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::internal(format!("{n} {what} in one block")))
}

/// The first and the last moment of any span, Unix nanoseconds. A span that ends before it starts counts with both.
#[derive(Clone, Copy, Debug)]
struct Times {
    first: u64,
    last: u64,
}

impl Times {
    fn cover(&mut self, trace: &Grouped<'_>) {
        for (_, span) in trace.spans() {
            let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
            self.first = self.first.min(start).min(end);
            self.last = self.last.max(start).max(end);
        }
    }
}

/// Writes `data.parquet` of traces in ascending order of ids.
fn encode(config: &Config, schema: &BlockSchema, traces: Vec<Arc<Trace>>, sink: PartWriter) -> Result<Encoded> {
    let spans: usize = traces.iter().map(|t| t.span_count()).sum();
    let spans_a_trace = spans.max(1) as f64 / traces.len().max(1) as f64;
    let properties = schema.properties()?;
    let mut file = SerializedFileWriter::new(sink, schema.root(), properties.clone())?;
    let mut block = RowGroups {
        schema,
        properties,
        shredder: Shredder::new(schema),
        weight_max: config.row_group_values.max(1),
        spans_a_trace,
        ids: Vec::new(),
        times: Times { first: u64::MAX, last: 0 },
        vocabulary: vocabulary::Collector::new(vocabulary::Bounds::FILE),
    };
    let mut traces = traces.into_iter().peekable();
    let mut last_ids = Vec::new();
    while traces.peek().is_some() {
        block.write_one(&mut file, &mut traces)?;
        last_ids.extend(block.ids.last());
    }
    file.finish()?;
    let sink = file.inner_mut();
    sink.end()?;
    let (size, footer_size) = (sink.written, sink.footer_size());
    let RowGroups { ids, times, vocabulary, .. } = block;
    Ok(Encoded {
        traces: ids.len() as u64,
        last_ids,
        bloom: Bloom::build(&ids, config.bloom_false_positive, config.bloom_shard_size_bytes),
        vocabulary: vocabulary.finish(),
        times: Times { first: times.first.min(times.last), ..times },
        size,
        footer_size,
    })
}

/// What lives from row group to row group.
struct RowGroups<'a> {
    schema: &'a BlockSchema,
    properties: WriterPropertiesPtr,
    shredder: Shredder,
    weight_max: u64,
    /// Spans of a trace on average.
    spans_a_trace: f64,
    ids: Vec<TraceId>,
    times: Times,
    vocabulary: vocabulary::Collector,
}

impl RowGroups<'_> {
    /// Fills one row group and appends it to the file.
    fn write_one(
        &mut self,
        file: &mut SerializedFileWriter<PartWriter>,
        traces: &mut Peekable<impl Iterator<Item = Arc<Trace>>>,
    ) -> Result<()> {
        let mut weight = 0;
        let spans = self.fill(traces, &mut weight);
        let properties = self.leaf_properties(spans);
        // All column writers are open at once, each with a buffer of its own: parquet wants the columns one after the
        // other, the traces bring them all together.
        let columns = self.schema.descriptor.columns();
        let mut chunks: Vec<_> = columns.iter().map(|_| TrackedWrite::new(Vec::new())).collect();
        let mut writers: Vec<ColumnWriter<'_>> = columns
            .iter()
            .zip(&mut chunks)
            .zip(properties)
            .map(|((c, chunk), own)| get_column_writer(c.clone(), own, Box::new(SerializedPageWriter::new(chunk))))
            .collect();
        self.shredder.columns.drain_into(&mut writers)?;
        while self.fill(traces, &mut weight) > 0 {
            self.shredder.columns.drain_into(&mut writers)?;
        }
        let closed = writers.into_iter().map(ColumnWriter::close).collect::<Result<Vec<_>, _>>()?;
        let mut row_group = file.next_row_group()?;
        for (chunk, close) in chunks.into_iter().zip(closed) {
            row_group.append_column(&Bytes::from(chunk.into_inner()?), close)?;
        }
        row_group.close()?;
        Ok(())
    }

    /// Shreds some traces; the number of their spans (at least one for each). 0 at the end of the row group.
    fn fill(&mut self, traces: &mut Peekable<impl Iterator<Item = Arc<Trace>>>, weight: &mut u64) -> usize {
        let mut spans = 0;
        while spans < CHUNK_SPANS
            && let Some(trace) = traces.next_if(|_| *weight < self.weight_max)
        {
            let trace = Grouped::new(&trace);
            let facts = derive_grouped(&trace);
            self.ids.push(trace.id);
            self.times.cover(&trace);
            self.vocabulary.add(&trace, &facts);
            self.shredder.trace(&trace, &facts);
            *weight += self.shredder.columns.take_weight();
            spans += facts.spans.len().max(1);
        }
        spans
    }

    /// How each leaf is to be written. How many rows a page holds is estimated by the first of the row group's traces, which are as
    /// good as drawn at random, and `spans` of which are shredded.
    fn leaf_properties(&self, spans: usize) -> Vec<WriterPropertiesPtr> {
        let mut known: HashMap<usize, WriterPropertiesPtr> = HashMap::new();
        let of = |leaf| match self.shredder.columns.entries(leaf) {
            // What a footer says to be empty is not read at all.
            0 => self.properties.clone(),
            entries => match self.schema.page_rows(leaf, entries as f64 * self.spans_a_trace / spans.max(1) as f64) {
                Some(rows) => {
                    let new = || Arc::new(self.properties.as_ref().clone().into_builder().set_data_page_row_count_limit(rows).build());
                    known.entry(rows).or_insert_with(new).clone()
                }
                None => self.properties.clone(),
            },
        };
        (0..self.schema.descriptor.num_columns()).map(of).collect()
    }
}

/// Sends what is written to the uploader in parts, and waits while it has enough.
struct PartWriter {
    parts: Sender<Bytes>,
    part: Vec<u8>,
    written: u64,
    tail: [u8; TAIL_BYTES],
}

impl PartWriter {
    fn new(parts: Sender<Bytes>) -> Self {
        Self { parts, part: Vec::new(), written: 0, tail: [0; TAIL_BYTES] }
    }

    fn send(&mut self, part: Vec<u8>) -> io::Result<()> {
        self.parts.blocking_send(part.into()).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload stopped"))
    }

    /// Sends what is left and the mark that this is all of it.
    fn end(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.part);
        if !rest.is_empty() {
            self.send(rest)?;
        }
        self.send(Vec::new())
    }

    /// Length of the footer, after the file is written.
    fn footer_size(&self) -> u32 {
        let [a, b, c, d, ..] = self.tail;
        u32::from_le_bytes([a, b, c, d])
    }
}

impl io::Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        self.written += bytes.len() as u64;
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.copy_within(last.len().., 0);
        self.tail[TAIL_BYTES - last.len()..].copy_from_slice(last);
        if self.part.len() >= PART_BYTES {
            let part = std::mem::take(&mut self.part);
            self.send(part)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
