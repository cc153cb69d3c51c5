//! Opens a block: reads the footer once, with the page index before it, and finds the columns by path.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    bloom::BloomShard,
    chunk::RowGroupSource,
    chunk_cache::{ChunkCache, ColumnCacheStats},
    leaves::Leaves,
    page_index::{IndexBytes, expected_bytes, index_ranges},
    promoted::{Promoted, promoted},
    shape::SpanCounts,
};
use crate::{
    block::{BlockMeta, Version},
    error::{Error, Result},
    recent::Recent,
    scan::ChunkSource,
    store::{BlockStore, paths},
    tenant::TenantId,
};

/// Length and magic number behind the footer.
const TAIL_BYTES: u64 = 8;
const MAGIC: &[u8; 4] = b"PAR1";
/// Read at the end of the file where `meta.json` does not say how long the footer is.
const FOOTER_GUESS_BYTES: u64 = 64 * 1024;
/// The longest footer that is read.
const FOOTER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is remembered of blocks that were read lately.
#[derive(Debug)]
pub struct BlockCache {
    footers: Recent<Uuid, Arc<Footer>>,
    /// By block and row group.
    shapes: Recent<(Uuid, usize), SpanCounts>,
    chunks: ChunkCache,
    /// By block and number of the file.
    pub(super) blooms: Recent<(Uuid, u32), Arc<BloomShard>>,
}

/// Bounds of a [`BlockCache`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheSizes {
    /// How many footers are kept.
    pub footers: usize,
    /// Bytes of what says which spans belong together.
    pub shape_bytes: usize,
    /// Bytes of columns and what else is remembered of row groups.
    pub column_bytes: usize,
    /// Bytes of bloom filters of trace ids.
    pub bloom_bytes: usize,
}

impl BlockCache {
    /// A cache within these bounds.
    pub fn new(sizes: CacheSizes) -> Self {
        Self {
            footers: Recent::new(sizes.footers),
            shapes: Recent::new(sizes.shape_bytes),
            chunks: ChunkCache::new(sizes.column_bytes),
            blooms: Recent::new(sizes.bloom_bytes),
        }
    }

    /// What remembering columns has brought so far.
    pub fn column_stats(&self) -> ColumnCacheStats {
        self.chunks.stats()
    }
}

/// What is known of a block's data before any of it is read.
#[derive(Debug)]
pub(super) struct Footer {
    metadata: ParquetMetaData,
    version: Version,
    leaves: Leaves,
    promoted: Vec<Promoted>,
    /// Size of `data.parquet` in bytes.
    data_len: u64,
    /// The page index of each row group, once it is known.
    indexes: Vec<OnceCell<IndexBytes>>,
}

impl Footer {
    /// `before` are the bytes of the file that end where the footer begins, at `end`.
    fn new(metadata: ParquetMetaData, meta: &BlockMeta, version: Version, data_len: u64, before: &[u8], end: u64) -> Result<Self> {
        let leaves = Leaves::new(metadata.file_metadata().schema_descr(), version)?;
        let promoted = promoted(meta, version, &leaves)?;
        let start = end - before.len() as u64;
        let known = |range: &Range<u64>| {
            let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
            let bytes = before.get(from..from + usize::try_from(range.end - range.start).ok()?)?;
            Some((range.start, Bytes::copy_from_slice(bytes)))
        };
        let index = |group: &RowGroupMetaData| {
            let parts = index_ranges(group, data_len).iter().map(known).collect::<Option<Vec<_>>>();
            OnceCell::new_with(parts.map(IndexBytes::new))
        };
        let indexes = metadata.row_groups().iter().map(index).collect();
        Ok(Self { metadata, version, leaves, promoted, data_len, indexes })
    }
}

/// A block open for reading.
#[derive(Debug)]
pub struct BlockReader {
    store: BlockStore,
    tenant: TenantId,
    meta: Arc<BlockMeta>,
    footer: Arc<Footer>,
    cache: Arc<BlockCache>,
}

impl BlockReader {
    /// Reads the footer (or takes it from `cache`) and finds the columns.
    pub async fn open(store: &BlockStore, cache: &Arc<BlockCache>, tenant: &TenantId, meta: Arc<BlockMeta>) -> Result<Arc<Self>> {
        let footer = match cache.footers.get(&meta.block_id) {
            Some(footer) => footer,
            None => {
                let footer = read_footer(store, tenant, &meta).await.map_err(|e| e.context(format!("block {}", meta.block_id)))?;
                let footer = Arc::new(footer);
                cache.footers.put(meta.block_id, footer.clone(), 1);
                footer
            }
        };
        Ok(Arc::new(Self { store: store.clone(), tenant: tenant.clone(), meta, footer, cache: cache.clone() }))
    }

    /// The block, if its footer is in `cache`.
    pub fn open_in_memory(store: &BlockStore, cache: &Arc<BlockCache>, tenant: &TenantId, meta: &Arc<BlockMeta>) -> Option<Arc<Self>> {
        let footer = cache.footers.get(&meta.block_id)?;
        Some(Arc::new(Self { store: store.clone(), tenant: tenant.clone(), meta: meta.clone(), footer, cache: cache.clone() }))
    }

    /// The block's `meta.json`.
    pub fn meta(&self) -> &Arc<BlockMeta> {
        &self.meta
    }

    /// Number of row groups.
    pub fn row_groups(&self) -> Range<usize> {
        0..self.footer.metadata.num_row_groups()
    }

    /// One row group, to be scanned.
    pub fn row_group(self: &Arc<Self>, index: usize) -> Arc<dyn ChunkSource> {
        Arc::new(RowGroupSource::new(self.clone(), index))
    }

    /// Which spans of a row group belong together, if that was found out lately.
    pub(super) fn known_shape(&self, row_group: usize) -> Option<SpanCounts> {
        self.cache.shapes.get(&(self.meta.block_id, row_group))
    }

    /// Remembers which spans of a row group belong together.
    pub(super) fn remember_shape(&self, row_group: usize, shape: SpanCounts) {
        let size = shape.size();
        self.cache.shapes.put((self.meta.block_id, row_group), shape, size);
    }

    /// What is remembered of row groups of this block and others.
    pub(super) fn remembered(&self) -> &ChunkCache {
        &self.cache.chunks
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    pub(super) fn store(&self) -> &BlockStore {
        &self.store
    }

    pub(super) fn leaves(&self) -> &Leaves {
        &self.footer.leaves
    }

    /// Attributes with a column of their own, of all scopes.
    pub(super) fn promoted(&self) -> &[Promoted] {
        &self.footer.promoted
    }

    /// The version of its format.
    pub(super) fn version(&self) -> Version {
        self.footer.version
    }

    /// Size of `data.parquet` in bytes.
    pub(super) fn data_len(&self) -> u64 {
        self.footer.data_len
    }

    /// What the footer says about a row group.
    pub(super) fn row_group_metadata(&self, index: usize) -> Result<&RowGroupMetaData> {
        let group = self.footer.metadata.row_groups().get(index);
        group.ok_or_else(|| Error::internal(format!("block {} has no row group {index}", self.meta.block_id)))
    }

    /// Number of traces in a row group.
    pub(super) fn trace_count(&self, row_group: usize) -> Result<usize> {
        let rows = self.row_group_metadata(row_group)?.num_rows();
        let rows = usize::try_from(rows).ok().filter(|rows| u32::try_from(*rows).is_ok());
        rows.ok_or_else(|| Error::data(format!("block {}, row group {row_group}: an impossible number of rows", self.meta.block_id)))
    }

    /// What the footer says about a column chunk.
    pub(super) fn chunk(&self, row_group: usize, column: usize) -> Result<&ColumnChunkMetaData> {
        let chunk = self.row_group_metadata(row_group)?.columns().get(column);
        chunk.ok_or_else(|| Error::data(format!("block {}, row group {row_group} has no column number {column}", self.meta.block_id)))
    }

    /// The page index of a row group, if it was read already.
    pub(super) fn known_index(&self, row_group: usize) -> Option<&IndexBytes> {
        self.footer.indexes.get(row_group)?.get()
    }

    /// Size of the page index of a row group.
    pub(super) fn index_bytes(&self, row_group: usize) -> Result<u64> {
        let ranges = index_ranges(self.row_group_metadata(row_group)?, self.data_len());
        Ok(ranges.iter().map(|range| range.end - range.start).sum())
    }

    /// The page index of a row group. It usually came with the footer, and is read once otherwise.
    pub(super) async fn index(&self, row_group: usize) -> Result<&IndexBytes> {
        let group = self.row_group_metadata(row_group)?;
        let cell = self.footer.indexes.get(row_group).ok_or_else(|| Error::internal("a row group without a place for its index"))?;
        let read = async || {
            let ranges = index_ranges(group, self.data_len());
            let parts = self.read(&ranges).await?;
            Ok(IndexBytes::new(ranges.iter().map(|r| r.start).zip(parts).collect()))
        };
        cell.get_or_try_init(read).await
    }

    /// Ranges of `data.parquet`.
    pub(super) async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(&paths::data(&self.tenant, self.meta.block_id), ranges).await
    }
}

/// Where a column chunk is in a file of `data_len` bytes.
pub(super) fn chunk_range(chunk: &ColumnChunkMetaData, data_len: u64) -> Result<Range<u64>> {
    let data = chunk.data_page_offset();
    // Some writers put 0 where there is no dictionary.
    let start = chunk.dictionary_page_offset().filter(|d| *d > 0 && *d < data).unwrap_or(data);
    let range = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
    let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?)).filter(|r| r.end <= data_len);
    range.ok_or_else(|| Error::data("the column chunk lies outside of the file"))
}

async fn read_footer(store: &BlockStore, tenant: &TenantId, meta: &BlockMeta) -> Result<Footer> {
    let version = meta.version()?;
    let path = paths::data(tenant, meta.block_id);
    let size = match meta.size {
        0 => store.size(&path).await?,
        size => size,
    };
    let bytes = match footer_bytes(store, tenant, meta, size).await {
        Ok(bytes) => bytes,
        Err(e) => {
            // The usual reason: the file is not as long as `meta.json` says.
            return Err(match store.size(&path).await {
                Ok(actual) if actual != size => {
                    Error::data(format!("meta.json says that data.parquet has {size} bytes, but it has {actual}")).with_source(e)
                }
                _ => e,
            });
        }
    };
    let (before, bytes) = bytes;
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes).map_err(|e| Error::data("the footer is corrupt").with_source(e))?;
    Footer::new(metadata, meta, version, size, &before, size - TAIL_BYTES - bytes.len() as u64)
}

/// The thrift structure at the end of the file, without its length and the magic number; and what was read before it.
async fn footer_bytes(store: &BlockStore, tenant: &TenantId, meta: &BlockMeta, size: u64) -> Result<(Bytes, Bytes)> {
    let path = paths::data(tenant, meta.block_id);
    let claimed = match meta.footer_size {
        0 => FOOTER_GUESS_BYTES,
        len => u64::from(len) + TAIL_BYTES + expected_bytes(size),
    };
    let read = async |len: u64| -> Result<Bytes> {
        let bytes = store.get_ranges(&path, std::slice::from_ref(&(size - len..size))).await?;
        bytes.into_iter().next().ok_or_else(|| Error::internal("no range was read"))
    };
    if size < TAIL_BYTES {
        return Err(Error::data(format!("data.parquet has {size} bytes, too few for a parquet file")));
    }
    let mut bytes = read(claimed.min(size).max(TAIL_BYTES)).await?;
    let tail = bytes.split_off(bytes.len() - TAIL_BYTES as usize);
    let (Some(len), true) = (tail.first_chunk(), tail.ends_with(MAGIC)) else {
        return Err(Error::data("data.parquet does not end as a parquet file does"));
    };
    let len = u64::from(u32::from_le_bytes(*len));
    if len > FOOTER_BYTES_MAX || len + TAIL_BYTES > size {
        return Err(Error::data(format!("a footer of {len} bytes cannot be")));
    }
    if len > bytes.len() as u64 {
        bytes = read(len + TAIL_BYTES).await?;
        bytes.truncate(len as usize);
    }
    let footer = bytes.split_off(bytes.len() - len as usize);
    Ok((bytes, footer))
}
