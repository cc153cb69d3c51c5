//! A column chunk taken apart: its dictionary, and its data pages with levels and values side by side, undecoded.
//!
//! Both kinds of data page come out alike. In V2 the levels lie before the (perhaps compressed) values; in V1 they are at
//! the head of the compressed page, each with its length. Every size is checked against the bytes that are there.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::Compression;

use super::{
    decompress::decompress,
    thrift::{Encoding, PageHeader, PageKind, page_header},
};
use crate::error::{Error, Result};

/// Entries (values and nulls) of a column chunk that are believed; run-length encoded levels could claim any number.
pub(super) const CHUNK_ENTRIES_MAX: usize = 1 << 28;

/// A dictionary page: PLAIN values.
#[derive(Clone, Debug)]
pub(super) struct DictionaryPage {
    pub values: usize,
    pub bytes: Bytes,
}

/// A data page.
#[derive(Clone, Debug)]
pub(super) struct DataPage {
    /// Values and nulls.
    pub entries: usize,
    /// How many of them have no value, if the header says so (V2).
    pub nulls: Option<usize>,
    /// Repetition levels, run-length encoded; empty if the column has none.
    pub reps: Bytes,
    /// Definition levels, run-length encoded; empty if the column has none.
    pub defs: Bytes,
    pub encoding: Encoding,
    pub values: Bytes,
}

/// A page with what it is.
#[derive(Clone, Debug)]
pub(super) enum Page {
    Dictionary(DictionaryPage),
    Data(DataPage),
}

/// What lies compressed in a page.
#[derive(Clone, Debug)]
pub(super) struct Compressed {
    bytes: Bytes,
    codec: Compression,
    len: usize,
}

impl Compressed {
    /// The values of a page, or of a dictionary.
    pub fn decompress(self) -> Result<Bytes> {
        decompress(self.codec, self.bytes, self.len)
    }
}

/// Pages of a column chunk, from the bytes that hold them.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    segments: &'a [Bytes],
    at: usize,
    codec: Compression,
    has_reps: bool,
    has_defs: bool,
    entries_left: usize,
    /// Counts data pages that were decompressed.
    opened: Option<&'a AtomicU64>,
}

impl<'a> Pages<'a> {
    /// Pages in `segments`, each of which holds whole pages; together they have at most `entries`.
    pub fn new(segments: &'a [Bytes], codec: Compression, has_reps: bool, has_defs: bool, entries: usize) -> Self {
        // Where there are no entries there are no pages, whatever is at the place the footer names.
        let segments = if entries == 0 { &[] } else { segments };
        Self { segments, at: 0, codec, has_reps, has_defs, entries_left: entries, opened: None }
    }

    /// Counts the data pages that are opened.
    #[must_use]
    pub fn counted(mut self, opened: Option<&'a AtomicU64>) -> Self {
        self.opened = opened;
        self
    }

    /// Entries that no page has brought yet.
    pub fn entries_left(&self) -> usize {
        self.entries_left
    }

    /// The next page; `None` at the end.
    pub fn next_page(&mut self) -> Result<Option<Page>> {
        match self.next_stored()? {
            Some((header, stored)) => self.page(header, stored).map(Some),
            None => Ok(None),
        }
    }

    /// Like [`next_page`](Self::next_page), but the values come as they are stored, and there are none in the page.
    pub fn next_compressed(&mut self) -> Result<Option<(Page, Compressed)>> {
        match self.next_stored()? {
            Some((header, stored)) => self.compressed(header, stored).map(Some),
            None => Ok(None),
        }
    }

    /// Like [`next_page`](Self::next_page), but passes over data pages that are not `wanted`, which is asked with the number
    /// of their entries. They are neither checked nor decompressed.
    pub fn next_wanted(&mut self, mut wanted: impl FnMut(usize) -> bool) -> Result<Option<Page>> {
        while let Some((header, stored)) = self.next_stored()? {
            match header.kind {
                PageKind::V1 { entries, .. } | PageKind::V2 { entries, .. } if !wanted(entries) => self.count(entries)?,
                _ => return self.page(header, stored).map(Some),
            }
        }
        Ok(None)
    }

    /// The dictionary, if all data pages use it. Nothing but the dictionary is decompressed; no page is left after this.
    pub fn dictionary(&mut self) -> Result<Option<DictionaryPage>> {
        let mut dictionary = None;
        while let Some((header, stored)) = self.next_stored()? {
            match header.kind {
                PageKind::Dictionary { .. } => {
                    if let Page::Dictionary(page) = self.page(header, stored)? {
                        dictionary = Some(page);
                    }
                }
                PageKind::V1 { encoding: Encoding::Dictionary, .. } | PageKind::V2 { encoding: Encoding::Dictionary, .. } => {}
                // A page of nulls may be of any encoding.
                PageKind::V2 { entries, nulls, .. } if entries == nulls => {}
                _ => return Ok(None),
            }
        }
        Ok(dictionary)
    }

    /// The next page as it is stored.
    fn next_stored(&mut self) -> Result<Option<(PageHeader, Bytes)>> {
        loop {
            let Some(segment) = self.segments.first() else { return Ok(None) };
            if self.at >= segment.len() {
                self.segments = &self.segments[1..];
                self.at = 0;
                continue;
            }
            let (header, header_len) = page_header(&segment[self.at..])?;
            let start = self.at + header_len;
            if header.stored_len > segment.len() - start {
                return Err(Error::data("a page reaches past the end of its column chunk"));
            }
            self.at = start + header.stored_len;
            if header.kind != PageKind::Other {
                return Ok(Some((header, segment.slice(start..self.at))));
            }
        }
    }

    fn page(&mut self, header: PageHeader, stored: Bytes) -> Result<Page> {
        let (mut page, values) = self.compressed(header, stored)?;
        match &mut page {
            Page::Dictionary(page) => page.bytes = values.decompress()?,
            Page::Data(page) => page.values = values.decompress()?,
        }
        Ok(page)
    }

    fn compressed(&mut self, header: PageHeader, stored: Bytes) -> Result<(Page, Compressed)> {
        if header.crc.is_some_and(|crc| crc != crc32fast::hash(&stored)) {
            return Err(Error::data("a page's checksum is wrong"));
        }
        if let (Some(opened), PageKind::V1 { .. } | PageKind::V2 { .. }) = (self.opened, header.kind) {
            opened.fetch_add(1, Ordering::Relaxed);
        }
        match header.kind {
            PageKind::Dictionary { values, encoding } => {
                if encoding != Encoding::Plain && encoding != Encoding::Dictionary {
                    return Err(unsupported(format!("dictionary page encoding {encoding:?}")));
                }
                let compressed = Compressed { bytes: stored, codec: self.codec, len: header.uncompressed_len };
                Ok((Page::Dictionary(DictionaryPage { values, bytes: Bytes::new() }), compressed))
            }
            PageKind::V1 { entries, encoding, levels } => {
                self.count(entries)?;
                if levels != Encoding::Rle && (self.has_reps || self.has_defs) {
                    return Err(unsupported(format!("level encoding {levels:?}")));
                }
                let mut page = DataPage { entries, nulls: None, reps: Bytes::new(), defs: Bytes::new(), encoding, values: Bytes::new() };
                if !self.has_reps && !self.has_defs {
                    return Ok((Page::Data(page), Compressed { bytes: stored, codec: self.codec, len: header.uncompressed_len }));
                }
                // The levels are compressed with the values.
                let mut bytes = decompress(self.codec, stored, header.uncompressed_len)?;
                page.reps = if self.has_reps { cut_levels(&mut bytes)? } else { Bytes::new() };
                page.defs = if self.has_defs { cut_levels(&mut bytes)? } else { Bytes::new() };
                let len = bytes.len();
                Ok((Page::Data(page), Compressed { bytes, codec: Compression::UNCOMPRESSED, len }))
            }
            PageKind::V2 { entries, nulls, encoding, defs_len, reps_len, compressed } => {
                self.count(entries)?;
                let levels_len = defs_len.checked_add(reps_len).filter(|len| *len <= stored.len().min(header.uncompressed_len));
                let (Some(levels_len), true) = (levels_len, nulls <= entries) else {
                    return Err(Error::data("a page header's counts contradict each other"));
                };
                let reps = stored.slice(..reps_len);
                let defs = stored.slice(reps_len..levels_len);
                let values = stored.slice(levels_len..);
                let codec = if compressed { self.codec } else { Compression::UNCOMPRESSED };
                let compressed = Compressed { bytes: values, codec, len: header.uncompressed_len - levels_len };
                let page = DataPage { entries, nulls: Some(nulls), reps, defs, encoding, values: Bytes::new() };
                Ok((Page::Data(page), compressed))
            }
            PageKind::Other => Err(Error::internal("an unknown page was not skipped")),
        }
    }

    fn count(&mut self, entries: usize) -> Result<()> {
        let left = self.entries_left.checked_sub(entries);
        self.entries_left = left.ok_or_else(|| Error::data("a column chunk has more entries than the footer says"))?;
        Ok(())
    }
}

/// Cuts the levels off the head of a V1 page.
fn cut_levels(page: &mut Bytes) -> Result<Bytes> {
    let cut = || Error::data("the levels of a page are cut off");
    let len = u32::from_le_bytes(*page.first_chunk().ok_or_else(cut)?) as usize;
    if len > page.len() - 4 {
        return Err(cut());
    }
    let levels = page.slice(4..4 + len);
    *page = page.slice(4 + len..);
    Ok(levels)
}

/// Not of kind `Unsupported`: that means a block which may be passed over, and this one must not be.
fn unsupported(what: String) -> Error {
    Error::data(format!("{what} is not supported"))
}
