//! Objects too large to hold in memory: written part by part, visible when complete.

use bytes::Bytes;
use object_store::{ObjectStoreExt, WriteMultipart, path::Path};
use tokio::sync::mpsc::Receiver;

use super::BlockStore;
use crate::error::Result;

/// Size of the parts. S3 allows 10,000 parts of an object and at least 5 MiB each.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// Parts of one object that are on their way at the same time.
const PARTS_IN_FLIGHT: usize = 2;

impl BlockStore {
    /// Writes an object from pieces of about [`PART_BYTES`], durably. An empty piece ends it. If the sender goes away before,
    /// nothing is written and the answer is `false`.
    pub async fn put_parts(&self, path: &Path, mut pieces: Receiver<Bytes>) -> Result<bool> {
        let Some(first) = pieces.recv().await else { return Ok(false) };
        let Some(second) = pieces.recv().await else { return Ok(false) };
        if second.is_empty() {
            self.put(path, first).await?;
            return Ok(true);
        }
        self.count(2, 0);
        let mut upload = WriteMultipart::new_with_chunk_size(self.inner.put_multipart(path).await?, PART_BYTES);
        let mut next = Some(second);
        upload.put(first);
        while let Some(piece) = next.filter(|p| !p.is_empty()) {
            self.count(1, 0);
            upload.put(piece);
            if let Err(e) = upload.wait_for_capacity(PARTS_IN_FLIGHT).await {
                upload.abort().await.ok(); // the first error says more
                return Err(e.into());
            }
            next = pieces.recv().await;
            if next.is_none() {
                upload.abort().await?;
                return Ok(false);
            }
        }
        upload.finish().await?;
        self.sync(path).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(pieces: Vec<Bytes>) -> (bool, Option<Bytes>) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::open_local(dir.path(), true).unwrap();
        let path = Path::from("t/b/data");
        let (tx, rx) = tokio::sync::mpsc::channel(1);
        let sender = tokio::spawn(async move {
            for piece in pieces {
                tx.send(piece).await.unwrap();
            }
        });
        let complete = store.put_parts(&path, rx).await.unwrap();
        sender.await.unwrap();
        (complete, store.get(&path).await.ok())
    }

    #[tokio::test]
    async fn objects_appear_whole_or_not_at_all() {
        let small = Bytes::from_static(b"small");
        let large = Bytes::from(vec![7; PART_BYTES + 1]);
        let end = Bytes::new();
        assert_eq!(send(vec![small.clone(), end.clone()]).await, (true, Some(small.clone())));
        assert_eq!(send(vec![small.clone()]).await, (false, None));
        assert_eq!(send(vec![large.clone(), small.clone()]).await, (false, None));
        let (complete, stored) = send(vec![large.clone(), small.clone(), end]).await;
        assert!(complete);
        assert_eq!(stored.unwrap(), [large, small].concat());
    }
}
