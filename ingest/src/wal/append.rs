//! Appends records to a segment. What [`SegmentWriter::append`] accepted is on the disk.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tracehouse_engine::{Error, ErrorKind, Result};

use super::segment;

/// An open file of the log. A trait, so that tests can make it fail.
pub trait WalFile: Send + Sync {
    /// Appends all bytes.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to this length.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl WalFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_data()
    }
}

/// How the log changes a folder.
pub trait WalIo: Debug + Send + Sync {
    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WalFile>>;
    /// Renames a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file, which may be gone already.
    fn remove(&self, file: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Debug, Default)]
pub struct DiskIo;

impl WalIo for DiskIo {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WalFile>> {
        Ok(Box::new(OpenOptions::new().append(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// A segment that is being written.
pub struct SegmentWriter {
    file: Box<dyn WalFile>,
    number: u64,
    path: PathBuf,
    /// Up to here everything is durable.
    durable_len: u64,
}

impl Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").field("path", &self.path).field("durable_len", &self.durable_len).finish_non_exhaustive()
    }
}

/// Path of a segment.
pub fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.wal"))
}

impl SegmentWriter {
    /// Creates a segment, durably. Nothing is left behind when this fails.
    pub fn create(io: &dyn WalIo, folder: &Path, number: u64) -> Result<Self> {
        let path = segment_path(folder, number);
        let mut file = io.create(&path).map_err(|e| failed("create", &path, e))?;
        let header = segment::file_header();
        let written = file.append(&header).and_then(|()| file.sync()).and_then(|()| io.sync_folder(folder));
        if let Err(e) = written {
            std::fs::remove_file(&path).ok();
            return Err(failed("write", &path, e));
        }
        Ok(Self { file, number, path, durable_len: header.len() as u64 })
    }

    /// Appends framed records and syncs once. After an error the segment must not be written to again: see
    /// [`abandon`](Self::abandon).
    pub fn append(&mut self, records: &[u8]) -> Result<()> {
        self.file.append(records).map_err(|e| failed("write", &self.path, e))?;
        // A failed sync may have thrown the bytes away and the next one may succeed all the same: it is never repeated.
        self.file.sync().map_err(|e| failed("sync", &self.path, e))?;
        self.durable_len += records.len() as u64;
        Ok(())
    }

    /// Whether the segment holds a durable record.
    pub fn has_records(&self) -> bool {
        self.durable_len > segment::FILE_HEADER_BYTES as u64
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the segment is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up a segment after a failed append: cuts what was not made durable, and removes the file if nothing was.
    /// Returns whether it still holds acked spans.
    pub fn abandon(mut self) -> bool {
        if !self.has_records() {
            std::fs::remove_file(&self.path).ok();
            return false;
        }
        if let Err(e) = self.file.cut(self.durable_len) {
            // The tail was not acked; if it is replayed, its spans only come back although the client was told to retry.
            tracing::warn!(path = %self.path.display(), error = %e, "cannot cut the end of a failed segment");
        }
        true
    }
}

/// An error of the log that names the file and what to do.
pub(crate) fn failed(what: &str, path: &Path, e: io::Error) -> Error {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = if full { "the disk is full, free some space" } else { "check the disk" };
    Error::new(ErrorKind::Unavailable, format!("cannot {what} write-ahead log file {}: {remedy}", path.display())).with_source(e)
}
