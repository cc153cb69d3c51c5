//! A column chunk taken apart: its dictionary, and its data pages with levels and values side by side, undecoded.
//!
//! Both kinds of data page come out alike. In V2 the levels lie before the (perhaps compressed) values; in V1 they are at
//! the head of the compressed page, each with its length. Every size is checked against the bytes that are there.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::Compression;

use super::thrift::{Encoding, PageHeader, PageKind, page_header};
use crate::error::{Error, Result};

/// The largest page that is decompressed, in bytes.
const PAGE_BYTES_MAX: usize = 1 << 30;
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

/// Pages of a column chunk, from the bytes that hold them.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    segments: &'a [Bytes],
    at: usize,
    codec: Compression,
    has_reps: bool,
    has_defs: bool,
    entries_left: usize,
}

impl<'a> Pages<'a> {
    /// Pages in `segments`, each of which holds whole pages; together they have at most `entries`.
    pub fn new(segments: &'a [Bytes], codec: Compression, has_reps: bool, has_defs: bool, entries: usize) -> Self {
        // Where there are no entries there are no pages, whatever is at the place the footer names.
        let segments = if entries == 0 { &[] } else { segments };
        Self { segments, at: 0, codec, has_reps, has_defs, entries_left: entries }
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
        if header.crc.is_some_and(|crc| crc != crc32fast::hash(&stored)) {
            return Err(Error::data("a page's checksum is wrong"));
        }
        match header.kind {
            PageKind::Dictionary { values, encoding } => {
                if encoding != Encoding::Plain && encoding != Encoding::Dictionary {
                    return Err(unsupported(format!("dictionary page encoding {encoding:?}")));
                }
                let bytes = decompress(self.codec, stored, header.uncompressed_len)?;
                Ok(Page::Dictionary(DictionaryPage { values, bytes }))
            }
            PageKind::V1 { entries, encoding, levels } => {
                self.count(entries)?;
                if levels != Encoding::Rle && (self.has_reps || self.has_defs) {
                    return Err(unsupported(format!("level encoding {levels:?}")));
                }
                let mut values = decompress(self.codec, stored, header.uncompressed_len)?;
                let reps = if self.has_reps { cut_levels(&mut values)? } else { Bytes::new() };
                let defs = if self.has_defs { cut_levels(&mut values)? } else { Bytes::new() };
                Ok(Page::Data(DataPage { entries, nulls: None, reps, defs, encoding, values }))
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
                let values = decompress(codec, values, header.uncompressed_len - levels_len)?;
                Ok(Page::Data(DataPage { entries, nulls: Some(nulls), reps, defs, encoding, values }))
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

/// Decompresses the values of a page. `len` is what the header claims: believed only as far as memory goes.
fn decompress(codec: Compression, stored: Bytes, len: usize) -> Result<Bytes> {
    if codec == Compression::UNCOMPRESSED {
        return if stored.len() == len { Ok(stored) } else { Err(Error::data("the sizes of an uncompressed page differ")) };
    }
    if len == 0 {
        return Ok(Bytes::new()); // a page of nulls; some writers store no bytes at all then
    }
    if len > PAGE_BYTES_MAX {
        return Err(Error::data(format!("a page of {len} bytes is over the limit of {PAGE_BYTES_MAX}")));
    }
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| Error::data("a page cannot be decompressed").with_source(e);
    let bytes = match codec {
        Compression::SNAPPY => {
            // The buffer is zeroed first, so the length is checked before it is believed.
            if snap::raw::decompress_len(&stored).map_err(|e| wrong(e.into()))? != len {
                return Err(Error::data("the length of a snappy page is wrong"));
            }
            if len / 64 > stored.len() {
                return Err(Error::data("a snappy page claims more bytes than it can hold"));
            }
            snap::raw::Decoder::new().decompress_vec(&stored).map_err(|e| wrong(e.into()))?
        }
        Compression::ZSTD(_) => zstd::bulk::decompress(&stored, len).map_err(|e| wrong(e.into()))?,
        Compression::LZ4_RAW => {
            if len / 256 > stored.len() {
                return Err(Error::data("an lz4 page claims more bytes than it can hold"));
            }
            lz4_flex::block::decompress(&stored, len).map_err(|e| wrong(e.into()))?
        }
        Compression::GZIP(_) => {
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(&stored[..]).take(len as u64 + 1).read_to_end(&mut out).map_err(|e| wrong(e.into()))?;
            out
        }
        other => return Err(unsupported(format!("compression {other}"))),
    };
    if bytes.len() == len { Ok(bytes.into()) } else { Err(Error::data("a page decompresses to a wrong length")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_give_back_what_was_stored() {
        let plain = b"trace trace trace trace trace".repeat(20);
        let gzip = {
            let mut e = flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast());
            let mut out = Vec::new();
            e.read_to_end(&mut out).unwrap();
            out
        };
        for (codec, stored) in [
            (Compression::UNCOMPRESSED, plain.clone()),
            (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&plain).unwrap()),
            (Compression::ZSTD(Default::default()), zstd::bulk::compress(&plain, 3).unwrap()),
            (Compression::LZ4_RAW, lz4_flex::block::compress(&plain)),
            (Compression::GZIP(Default::default()), gzip),
        ] {
            let stored = Bytes::from(stored);
            assert_eq!(decompress(codec, stored.clone(), plain.len()).unwrap(), plain, "{codec}");
            assert!(decompress(codec, stored.clone(), plain.len() + 1).is_err(), "{codec}");
            assert!(decompress(codec, stored.slice(..stored.len() / 2), plain.len()).is_err(), "{codec}");
        }
    }
}
