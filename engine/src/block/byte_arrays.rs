//! Byte strings of data pages: dictionary codes, or the strings one behind the other in one buffer.

use arrow::{
    array::{BinaryArray, StringArray},
    buffer::{Buffer, OffsetBuffer},
};

use super::{
    delta::decode_delta,
    levels::{decode_codes, decode_codes_at},
    pages::{DataPage, DictionaryPage},
    thrift::Encoding,
    values::{keep, unsupported},
};
use crate::error::{Error, Result};

/// Of a page's codes single ones are looked up if they are fewer than one in this many, and all are unpacked otherwise.
const LOOKED_UP_OF: usize = 8;

/// Bytes that room is made for before they are met.
const BYTES_RESERVED_MAX: usize = 64 << 20;

/// Byte arrays decoded so far.
#[derive(Debug, Default)]
pub(super) struct ByteArrays {
    /// Length of the dictionary, if there is one.
    pub dictionary: Option<usize>,
    /// Used if there is a dictionary.
    pub codes: Vec<i32>,
    /// The dictionary's values first; then those of pages that do not use it.
    pub values: Packed,
}

impl ByteArrays {
    pub fn set_dictionary(&mut self, page: &DictionaryPage) -> Result<()> {
        if self.values.len() > 0 {
            return Err(Error::data("a dictionary that does not come first"));
        }
        self.values.extend_plain(&page.bytes, page.values)?;
        self.dictionary = Some(self.values.len());
        Ok(())
    }

    /// Makes room for `count` values more.
    pub fn reserve(&mut self, count: usize) {
        match self.dictionary {
            Some(_) => self.codes.reserve(count),
            None => self.values.offsets.reserve(count),
        }
    }

    /// Decodes the `count` values of a page.
    pub fn page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        if page.encoding == Encoding::Dictionary {
            return decode_codes(&page.values, self.limit()?, count, &mut self.codes);
        }
        let before = self.values.len();
        self.values.extend_page(page, count)?;
        self.refer_to(before);
        Ok(())
    }

    /// Decodes those of the `count` values of a page that are at `picks`.
    pub fn page_at(&mut self, page: &DataPage, count: usize, picks: &[u32]) -> Result<()> {
        if page.encoding == Encoding::Dictionary {
            let limit = self.limit()?;
            if picks.len() < count / LOOKED_UP_OF {
                return decode_codes_at(&page.values, limit, count, picks, &mut self.codes);
            }
            let start = self.codes.len();
            decode_codes(&page.values, limit, count, &mut self.codes)?;
            keep(&mut self.codes, start, picks);
            return Ok(());
        }
        let before = self.values.len();
        let mut all = Packed::default();
        all.extend_page(page, count)?;
        picks.iter().try_for_each(|at| self.values.push(all.get(*at as usize)))?;
        self.refer_to(before);
        Ok(())
    }

    fn limit(&self) -> Result<usize> {
        self.dictionary.ok_or_else(|| Error::data("dictionary codes without a dictionary"))
    }

    /// Values from `first` on, of pages that do not use the dictionary, get codes like those that do.
    fn refer_to(&mut self, first: usize) {
        if self.dictionary.is_some() {
            self.codes.extend((first..self.values.len()).map(|i| i as i32));
        }
    }
}

fn cut_off() -> Error {
    Error::data("the values of a page are cut off")
}

/// Delta-encoded lengths of byte arrays, their sum, and where the lengths end.
fn lengths(bytes: &[u8], count: usize) -> Result<(Vec<i64>, usize, usize)> {
    let mut lengths = Vec::with_capacity(count.min(bytes.len()));
    let at = decode_delta(bytes, count, &mut lengths)?;
    let (any, sum) = lengths.iter().fold((0, 0i64), |(any, sum), len| (any | len, sum.wrapping_add(*len)));
    // Negative ones have the highest bit. With none over 4 GiB the sum is right.
    if any >> u32::BITS != 0 { Err(Error::data("a byte array with an impossible length")) } else { Ok((lengths, sum as usize, at)) }
}

/// Byte strings in one buffer.
#[derive(Debug)]
pub(super) struct Packed {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

/// An end of a value as an offset.
fn offset(end: usize) -> Result<i32> {
    i32::try_from(end).map_err(|_| Error::data("the values of a column chunk are over 2 GiB: use smaller row groups"))
}

impl Packed {
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }

    /// Adds a value.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.close()
    }

    /// Ends a value at the end of the buffer.
    fn close(&mut self) -> Result<()> {
        self.offsets.push(offset(self.bytes.len())?);
        Ok(())
    }

    /// Adds the `count` values of a page without a dictionary.
    fn extend_page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        match page.encoding {
            Encoding::Plain => self.extend_plain(&page.values, count),
            Encoding::DeltaLengthByteArray => {
                let (lengths, total, at) = lengths(&page.values, count)?;
                self.extend(&page.values[at..], &lengths, total)
            }
            Encoding::DeltaByteArray => {
                let (prefixes, _, at) = lengths(&page.values, count)?;
                let (suffixes, _, suffixes_at) = lengths(&page.values[at..], count)?;
                self.extend_shared(&page.values[at + suffixes_at..], &prefixes, &suffixes)
            }
            other => Err(unsupported(other)),
        }
    }

    /// Values with their lengths before them.
    fn extend_plain(&mut self, bytes: &[u8], count: usize) -> Result<()> {
        let text = bytes.len().checked_sub(count.saturating_mul(size_of::<u32>())).ok_or_else(cut_off)?;
        self.bytes.reserve(text);
        self.offsets.reserve(count);
        let mut rest = bytes;
        for _ in 0..count {
            let (len, tail) = rest.split_first_chunk().ok_or_else(cut_off)?;
            let len = u32::from_le_bytes(*len) as usize;
            self.push(tail.get(..len).ok_or_else(cut_off)?)?;
            rest = &tail[len..];
        }
        Ok(())
    }

    /// Values one behind the other, `total` bytes in all.
    fn extend(&mut self, bytes: &[u8], lengths: &[i64], total: usize) -> Result<()> {
        let start = self.bytes.len();
        let bytes = bytes.get(..total).ok_or_else(cut_off)?;
        offset(start.saturating_add(total))?;
        if start == 0 {
            // Values of the pages to come are about as long.
            let room = self.offsets.capacity() / lengths.len().max(1);
            self.bytes.reserve(total.saturating_mul(room).min(BYTES_RESERVED_MAX));
        }
        self.bytes.extend_from_slice(bytes);
        let mut end = start as i32;
        self.offsets.extend(lengths.iter().map(|len| {
            end = end.wrapping_add(*len as i32);
            end
        }));
        Ok(())
    }

    /// Values that share a prefix with the value before them in the page.
    fn extend_shared(&mut self, bytes: &[u8], prefixes: &[i64], suffixes: &[i64]) -> Result<()> {
        let (mut at, mut last) = (0usize, self.bytes.len()..self.bytes.len());
        for (prefix, suffix) in prefixes.iter().zip(suffixes) {
            let prefix = *prefix as usize;
            let end = at.checked_add(*suffix as usize).ok_or_else(cut_off)?;
            let suffix = bytes.get(at..end).ok_or_else(cut_off)?;
            if prefix > last.len() {
                return Err(Error::data("a byte array shares more with the one before than that has"));
            }
            let start = self.bytes.len();
            self.bytes.extend_from_within(last.start..last.start + prefix);
            self.bytes.extend_from_slice(suffix);
            self.close()?;
            last = start..self.bytes.len();
            at = end;
        }
        Ok(())
    }

    pub fn into_binary(self) -> BinaryArray {
        BinaryArray::new(OffsetBuffer::new(self.offsets.into()), Buffer::from_vec(self.bytes), None)
    }

    /// The values as text. What is not UTF-8 (Go does not check) comes out with replacement characters.
    pub fn into_text(self) -> Result<StringArray> {
        let binary = self.into_binary();
        // All values are checked in one go, and then that none starts within a character.
        match StringArray::try_new(binary.offsets().clone(), binary.values().clone(), None) {
            Ok(text) => Ok(text),
            Err(_) => {
                let mut lossy = Packed::default();
                for value in binary.iter().flatten() {
                    lossy.push(String::from_utf8_lossy(value).as_bytes())?;
                }
                let binary = lossy.into_binary();
                Ok(StringArray::try_new(binary.offsets().clone(), binary.values().clone(), None)?)
            }
        }
    }
}
