//! The only code that names `object_store`: one place where blocks live, a local folder or a bucket.

pub mod paths;
mod upload;

pub use upload::PART_BYTES;

use std::{
    collections::HashSet,
    ops::Range,
    path::{Path as FsPath, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path, prefix::PrefixStore};
use uuid::Uuid;

use crate::{
    block::BlockMeta,
    error::{Error, ErrorKind, Result},
    tenant::TenantId,
};

/// Ranges closer than this are fetched in one request.
const COALESCE_GAP_BYTES: u64 = 64 * 1024;
/// Ranges of a local file closer than this are read in one go: a call costs about as much as the bytes.
const LOCAL_GAP_BYTES: u64 = 4 * 1024;
/// So many bytes of a local file are read by one thread, one range after the other; more by several.
const LOCAL_BYTES_MAX: u64 = 4 << 20;

/// Where blocks live. Paths in it are `<tenant>/<block id>/<file>` (see [`paths`]).
#[derive(Clone, Debug)]
pub struct BlockStore {
    inner: Arc<dyn ObjectStore>,
    local_root: Option<PathBuf>,
    location: String,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes_read: AtomicU64,
}

impl BlockStore {
    /// Opens a local folder of tenants. It is created if `create`, and must exist otherwise.
    pub fn open_local(root: &FsPath, create: bool) -> Result<Self> {
        if create {
            std::fs::create_dir_all(root).map_err(|e| Error::from(e).context(format!("cannot create {}", root.display())))?;
        }
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|e| Error::new(ErrorKind::NotFound, format!("no block folder at {}", root.display())).with_source(e))?;
        Ok(Self {
            inner: Arc::new(store),
            local_root: Some(root.to_owned()),
            location: root.display().to_string(),
            counters: Arc::default(),
        })
    }

    /// Opens a URL (`s3://bucket/prefix`, `gs://`, `az://`, `file:///folder`) or a local path. `options` are the store's
    /// own settings (`aws_access_key_id`, `aws_endpoint`, `aws_allow_http`, ...), lower-case, as read from the environment.
    pub fn open(location: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let url = match url::Url::parse(location) {
            Ok(url) if url.scheme() == "file" => {
                let path = url.to_file_path().map_err(|()| Error::invalid(format!("{location} is not a local path")))?;
                return Self::open_local(&path, false);
            }
            Ok(url) if url.scheme().len() > 1 => url,
            _ => return Self::open_local(FsPath::new(location), false),
        };
        let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(|e| {
            Error::invalid(format!("cannot open {location}: use s3://, gs://, az://, http(s)://, file:// or a path")).with_source(e)
        })?;
        let inner: Arc<dyn ObjectStore> = match prefix.as_ref() {
            "" => Arc::from(store),
            _ => Arc::new(PrefixStore::new(store, prefix)),
        };
        Ok(Self { inner, local_root: None, location: location.to_owned(), counters: Arc::default() })
    }

    /// Where this is, for messages.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Requests made and bytes read since the store was opened.
    pub fn counters(&self) -> (u64, u64) {
        (self.counters.requests.load(Ordering::Relaxed), self.counters.bytes_read.load(Ordering::Relaxed))
    }

    /// The whole object.
    pub async fn get(&self, path: &Path) -> Result<Bytes> {
        self.count(1, 0);
        let bytes = self.inner.get(path).await?.bytes().await?;
        self.count(0, bytes.len() as u64);
        Ok(bytes)
    }

    /// Several ranges of an object, in the order given; near ones are fetched together. Fails if one is past the end.
    pub async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(bytes) = self.local_ranges(path, ranges).await {
            return Ok(bytes);
        }
        let merged = merge_ranges(ranges, COALESCE_GAP_BYTES);
        self.count(merged.len() as u64, merged.iter().map(|r| r.end - r.start).sum());
        let fetched: Vec<Bytes> = futures::stream::iter(merged.clone().into_iter().map(|range| async move {
            let want = range.end - range.start;
            let bytes = self.inner.get_range(path, range.clone()).await?;
            if bytes.len() as u64 == want {
                Ok(bytes)
            } else {
                Err(Error::data(format!("{path} ends before byte {}: the file is truncated", range.end)))
            }
        }))
        .buffered(8)
        .try_collect()
        .await?;
        Ok(cut_out(ranges, &merged, &fetched))
    }

    /// Several ranges of a local file, which is opened once for all of them. `None` if they are many bytes, or on any error, which is
    /// found again when they are read one by one.
    async fn local_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        self.local_root.as_ref()?;
        let merged = merge_ranges(ranges, LOCAL_GAP_BYTES);
        let bytes: u64 = merged.iter().map(|r| r.end - r.start).sum();
        if bytes > LOCAL_BYTES_MAX || merged.is_empty() {
            return None;
        }
        let fetched = self.inner.get_ranges(path, &merged).await.ok()?;
        if fetched.len() != merged.len() || fetched.iter().zip(&merged).any(|(got, want)| got.len() as u64 != want.end - want.start) {
            return None;
        }
        self.count(1, bytes);
        Some(cut_out(ranges, &merged, &fetched))
    }

    /// Size of an object in bytes.
    pub async fn size(&self, path: &Path) -> Result<u64> {
        self.count(1, 0);
        Ok(self.inner.head(path).await?.size)
    }

    /// Whether there is such an object.
    pub async fn exists(&self, path: &Path) -> Result<bool> {
        match self.size(path).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes a whole object, durably (a local file and its folder are synced).
    pub async fn put(&self, path: &Path, bytes: impl Into<Bytes>) -> Result<()> {
        self.count(1, 0);
        self.inner.put(path, PutPayload::from_bytes(bytes.into())).await?;
        self.sync(path).await
    }

    /// Deletes a block: `meta.json` first, so that no reader sees a part of it.
    pub async fn delete_block(&self, tenant: &TenantId, block: Uuid) -> Result<()> {
        let meta = paths::meta(tenant, block);
        match self.inner.delete(&meta).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let files: Vec<_> = self.inner.list(Some(&paths::block(tenant, block))).try_collect().await?;
        for file in files {
            self.inner.delete(&file.location).await?;
        }
        if let Some(root) = &self.local_root {
            // An object store has no folders; a local one keeps the empty folder, which is only untidy.
            std::fs::remove_dir(root.join(paths::block(tenant, block).as_ref())).ok();
        }
        Ok(())
    }

    /// Names of the tenants that have a folder.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.count(1, 0);
        let listed = self.inner.list_with_delimiter(None).await?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename()?.parse().ok()).collect())
    }

    /// Ids of the blocks of a tenant that are committed and that no compactor has replaced.
    pub async fn block_ids(&self, tenant: &TenantId) -> Result<Vec<Uuid>> {
        self.count(1, 0);
        let (mut live, mut replaced) = (Vec::new(), HashSet::new());
        let mut files = self.inner.list(Some(&paths::tenant(tenant)));
        while let Some(file) = files.try_next().await? {
            let mut parts = file.location.parts().skip(1);
            let id = parts.next().and_then(|id| id.as_ref().parse::<Uuid>().ok());
            match (id, parts.next(), parts.next()) {
                (Some(id), Some(name), None) if name.as_ref() == paths::META => live.push(id),
                // Between a copy and a delete there are both: the block is replaced.
                (Some(id), Some(name), None) if name.as_ref() == paths::META_COMPACTED => drop(replaced.insert(id)),
                _ => {}
            }
        }
        live.retain(|id| !replaced.contains(id));
        Ok(live)
    }

    /// The `meta.json` of a block; `None` if it is not committed, or is marked compacted.
    pub async fn block_meta(&self, tenant: &TenantId, block: Uuid) -> Result<Option<BlockMeta>> {
        let path = paths::meta(tenant, block);
        match self.get(&path).await {
            Ok(bytes) => BlockMeta::from_json(&bytes, path.as_ref()).map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn sync(&self, path: &Path) -> Result<()> {
        let Some(root) = &self.local_root else { return Ok(()) };
        let file = root.join(path.as_ref());
        tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            std::fs::File::open(&file)?.sync_all()?;
            for folder in file.ancestors().skip(1).take(3) {
                std::fs::File::open(folder)?.sync_all()?;
            }
            Ok(())
        })
        .await
        .map_err(|e| Error::internal("sync task failed").with_source(e))??;
        Ok(())
    }

    fn count(&self, requests: u64, bytes: u64) {
        self.counters.requests.fetch_add(requests, Ordering::Relaxed);
        self.counters.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Requests that [`BlockStore::get_ranges`] makes for these ranges, and the bytes they bring.
pub fn request_cost(ranges: &[Range<u64>]) -> (u64, u64) {
    let merged = merge_ranges(ranges, COALESCE_GAP_BYTES);
    (merged.len() as u64, merged.iter().map(|r| r.end - r.start).sum())
}

/// Ranges out of the bytes of merged ones.
fn cut_out(ranges: &[Range<u64>], merged: &[Range<u64>], fetched: &[Bytes]) -> Vec<Bytes> {
    let cut = |r: &Range<u64>| {
        let at = merged.partition_point(|m| m.end < r.end);
        let base = merged[at].start;
        fetched[at].slice((r.start - base) as usize..(r.end - base) as usize)
    };
    ranges.iter().map(cut).collect()
}

/// The ranges in order, those that touch or are no further apart than `gap` joined.
fn merge_ranges(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end + gap => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_fetched_together() {
        let far = 10 * COALESCE_GAP_BYTES;
        assert_eq!(merge_ranges(&[20..30, 0..10, far..far + 1], COALESCE_GAP_BYTES), vec![0..30, far..far + 1]);
    }

    #[tokio::test]
    async fn ranges_come_back_in_the_order_asked() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::open_local(dir.path(), true).unwrap();
        let path = Path::from("t/x");
        store.put(&path, Bytes::from_static(b"0123456789")).await.unwrap();
        let got = store.get_ranges(&path, &[7..9, 0..2, 1..8]).await.unwrap();
        assert_eq!(store.counters().1, 9);
        assert_eq!(got, [Bytes::from_static(b"78"), Bytes::from_static(b"01"), Bytes::from_static(b"1234567")]);
        assert!(store.get_ranges(&path, std::slice::from_ref(&(5..50))).await.is_err());
        let far = vec![7u8; LOCAL_BYTES_MAX as usize + 2];
        store.put(&path, far).await.unwrap();
        for end in [LOCAL_BYTES_MAX, LOCAL_BYTES_MAX + 2] {
            let got = store.get_ranges(&path, &[1..end, 0..1]).await.unwrap();
            assert_eq!([got[0].len() as u64, got[1].len() as u64], [end - 1, 1]);
        }
        assert!(store.get_ranges(&path, &[]).await.unwrap().is_empty());
    }
}
