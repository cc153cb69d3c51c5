//! Decompression of pages, into buffers that are used again: a scan decompresses page after page, and each is decoded and
//! gone before the next.

use std::{cell::RefCell, io::Read};

use bytes::Bytes;
use parquet::basic::Compression;
use zstd::bulk::Decompressor;

use crate::error::{Error, Result};

/// The largest page that is decompressed, in bytes.
const PAGE_BYTES_MAX: usize = 1 << 30;
/// The largest buffer that a thread keeps for its next page, in bytes. Writers cut pages at 1 MiB and less.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// What a thread keeps from page to page.
#[derive(Default)]
struct Scratch {
    /// A buffer that no page uses.
    spare: Vec<u8>,
    zstd: Option<Decompressor<'static>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A page in a buffer that goes back to the thread when nobody looks at the page any more.
struct Page {
    buffer: Vec<u8>,
    len: usize,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() <= SPARE_BYTES_MAX {
            // A thread that ends has no scratch any more.
            SCRATCH
                .try_with(|scratch| {
                    if let Ok(mut scratch) = scratch.try_borrow_mut()
                        && scratch.spare.capacity() < buffer.capacity()
                    {
                        scratch.spare = buffer;
                    }
                })
                .ok();
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Decompresses the values of a page. `len` is what the header claims: believed only as far as memory goes.
pub(super) fn decompress(codec: Compression, stored: Bytes, len: usize) -> Result<Bytes> {
    if codec == Compression::UNCOMPRESSED {
        return if stored.len() == len { Ok(stored) } else { Err(Error::data("the sizes of an uncompressed page differ")) };
    }
    if len == 0 {
        return Ok(Bytes::new()); // a page of nulls; some writers store no bytes at all then
    }
    if len > PAGE_BYTES_MAX {
        return Err(Error::data(format!("a page of {len} bytes is over the limit of {PAGE_BYTES_MAX}")));
    }
    let wrong = |e: Cause| Error::data("a page cannot be decompressed").with_source(e);
    let bytes = match codec {
        Compression::SNAPPY => {
            // The buffer is zeroed first, so the length is checked before it is believed.
            if snap::raw::decompress_len(&stored).map_err(|e| wrong(e.into()))? != len {
                return Err(Error::data("the length of a snappy page is wrong"));
            }
            if len / 64 > stored.len() {
                return Err(Error::data("a snappy page claims more bytes than it can hold"));
            }
            snappy(&stored, len).map_err(wrong)?
        }
        Compression::ZSTD(_) => zstd(&stored, len).map_err(wrong)?,
        Compression::LZ4_RAW => {
            if len / 256 > stored.len() {
                return Err(Error::data("an lz4 page claims more bytes than it can hold"));
            }
            lz4_flex::block::decompress(&stored, len).map_err(|e| wrong(e.into()))?.into()
        }
        Compression::GZIP(_) => {
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(&stored[..]).take(len as u64 + 1).read_to_end(&mut out).map_err(|e| wrong(e.into()))?;
            out.into()
        }
        other => return Err(Error::data(format!("compression {other} is not supported"))),
    };
    if bytes.len() == len { Ok(bytes) } else { Err(Error::data("a page decompresses to a wrong length")) }
}

fn snappy(stored: &[u8], len: usize) -> Result<Bytes, Cause> {
    let mut buffer = SCRATCH.with_borrow_mut(|scratch| std::mem::take(&mut scratch.spare));
    // What was there before is written over: only what is added to the buffer has to be zeroed.
    if buffer.capacity() < len {
        buffer = vec![0; len];
    } else if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let written = snap::raw::Decoder::new().decompress(stored, &mut buffer[..len])?;
    Ok(Bytes::from_owner(Page { buffer, len: written }))
}

fn zstd(stored: &[u8], len: usize) -> Result<Bytes, Cause> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = std::mem::take(&mut scratch.spare);
        buffer.clear();
        if buffer.capacity() < len {
            buffer = Vec::with_capacity(len);
        }
        let zstd = match &mut scratch.zstd {
            Some(zstd) => zstd,
            none => none.insert(Decompressor::new()?),
        };
        let written = zstd.decompress_to_buffer(stored, &mut buffer)?;
        Ok(Bytes::from_owner(Page { buffer, len: written }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_give_back_what_was_stored() {
        let gzip = |plain: &[u8]| {
            let mut e = flate2::read::GzEncoder::new(plain, flate2::Compression::fast());
            let mut out = Vec::new();
            e.read_to_end(&mut out).unwrap();
            out
        };
        // Buffers are used again for longer, shorter and other pages, and pages that are still looked at stay as they are.
        let mut kept = vec![];
        for repeat in [20, 200, 3, 90] {
            let plain = format!("trace {repeat} trace trace trace trace").repeat(repeat).into_bytes();
            for (codec, stored) in [
                (Compression::UNCOMPRESSED, plain.clone()),
                (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&plain).unwrap()),
                (Compression::ZSTD(Default::default()), zstd::bulk::compress(&plain, 3).unwrap()),
                (Compression::LZ4_RAW, lz4_flex::block::compress(&plain)),
                (Compression::GZIP(Default::default()), gzip(&plain)),
            ] {
                let stored = Bytes::from(stored);
                assert_eq!(decompress(codec, stored.clone(), plain.len()).unwrap(), plain, "{codec}");
                let page = decompress(codec, stored.clone(), plain.len()).unwrap();
                kept.push((page.slice(3..), plain.clone()));
                assert!(decompress(codec, stored.clone(), plain.len() + 1).is_err(), "{codec}");
                assert!(decompress(codec, stored.clone(), plain.len() - 1).is_err(), "{codec}");
                assert!(decompress(codec, stored.slice(..stored.len() / 2), plain.len()).is_err(), "{codec}");
            }
        }
        assert!(kept.iter().all(|(page, plain)| page == &plain[3..]));
    }
}
