//! The values of data pages, decoded into dense vectors: no nulls, no levels, one value behind the other.
//!
//! All encodings that parquet writers use are read; text that is dictionary-encoded stays so. Source: "Encodings" of
//! apache/parquet-format.

use std::ops::Range;

use arrow::{
    array::{Array, AsArray, BinaryArray, StringArray},
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
};
use parquet::basic::Type;

use super::{
    levels::{Hybrid, Run, decode_codes, unpack, varint},
    pages::{DataPage, DictionaryPage},
    thrift::Encoding,
};
use crate::error::{Error, Result};

/// The values of a leaf.
#[derive(Clone, Debug)]
pub(super) enum Dense {
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    Double(ScalarBuffer<f64>),
    Bool(ScalarBuffer<u8>),
    Text(Text),
    Bytes(BinaryArray),
}

/// Text: dictionary codes and the dictionary, or the values themselves.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// One code a value, each a position in `values`; `None` if `values` are the values.
    pub codes: Option<ScalarBuffer<i32>>,
    pub values: StringArray,
}

impl Text {
    /// The position in [`values`](Self::values) of value number `at`.
    #[inline]
    pub fn code(&self, at: usize) -> usize {
        self.codes.as_ref().map_or(at, |codes| codes[at] as usize)
    }

    /// Value number `at`.
    pub fn get(&self, at: usize) -> &str {
        self.values.value(self.code(at))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.codes.as_ref().map_or(self.values.len(), |c| c.len())
    }
}

impl Dense {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Int32(v) => v.len(),
            Self::Int64(v) => v.len(),
            Self::Double(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::Bytes(v) => v.len(),
        }
    }

    /// Some of the values. The range must be inside.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (at, len) = (range.start, range.len());
        match self {
            Self::Int32(v) => Self::Int32(v.slice(at, len)),
            Self::Int64(v) => Self::Int64(v.slice(at, len)),
            Self::Double(v) => Self::Double(v.slice(at, len)),
            Self::Bool(v) => Self::Bool(v.slice(at, len)),
            Self::Bytes(v) => Self::Bytes(v.slice(at, len)),
            Self::Text(Text { codes: Some(codes), values }) => {
                Self::Text(Text { codes: Some(codes.slice(at, len)), values: values.clone() })
            }
            Self::Text(Text { codes: None, values }) => Self::Text(Text { codes: None, values: values.slice(at, len) }),
        }
    }
}

/// Collects the pages of one leaf.
#[derive(Debug)]
pub(super) enum Decoder {
    Int32(Numbers<i32>),
    Int64(Numbers<i64>),
    Double(Numbers<f64>),
    Bool(Vec<u8>),
    Text(ByteArrays),
    Bytes(ByteArrays),
}

impl Decoder {
    /// A decoder for a physical type; byte arrays are text if `text`.
    pub fn new(physical: Type, text: bool) -> Result<Self> {
        Ok(match physical {
            Type::INT32 => Self::Int32(Numbers::default()),
            Type::INT64 => Self::Int64(Numbers::default()),
            Type::DOUBLE => Self::Double(Numbers::default()),
            Type::BOOLEAN => Self::Bool(Vec::new()),
            Type::BYTE_ARRAY if text => Self::Text(ByteArrays::default()),
            Type::BYTE_ARRAY => Self::Bytes(ByteArrays::default()),
            other => return Err(Error::data(format!("physical type {other}"))),
        })
    }

    /// Takes the dictionary. It comes before the data pages.
    pub fn dictionary(&mut self, page: &DictionaryPage) -> Result<()> {
        match self {
            Self::Int32(n) => n.set_dictionary(page),
            Self::Int64(n) => n.set_dictionary(page),
            Self::Double(n) => n.set_dictionary(page),
            Self::Text(b) | Self::Bytes(b) => b.set_dictionary(page),
            Self::Bool(_) => Err(Error::data("booleans with a dictionary")),
        }
    }

    /// Decodes the `count` values of a page.
    pub fn page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        match self {
            Self::Int32(n) => n.page(page, count),
            Self::Int64(n) => n.page(page, count),
            Self::Double(n) => n.page(page, count),
            Self::Text(b) | Self::Bytes(b) => b.page(page, count),
            Self::Bool(out) => booleans(page, count, out),
        }
    }

    /// All values.
    pub fn finish(self) -> Result<Dense> {
        Ok(match self {
            Self::Int32(n) => Dense::Int32(n.out.into()),
            Self::Int64(n) => Dense::Int64(n.out.into()),
            Self::Double(n) => Dense::Double(n.out.into()),
            Self::Bool(out) => Dense::Bool(out.into()),
            Self::Text(b) => {
                let codes = b.dictionary.is_some().then(|| b.codes.into());
                Dense::Text(Text { codes, values: b.values.into_text()? })
            }
            Self::Bytes(b) => {
                let values = b.values.into_binary();
                match b.dictionary {
                    None => Dense::Bytes(values),
                    Some(_) => {
                        let codes = arrow::array::Int32Array::new(b.codes.into(), None);
                        Dense::Bytes(arrow::compute::take(&values, &codes, None)?.as_binary::<i32>().clone())
                    }
                }
            }
        })
    }
}

fn cut_off() -> Error {
    Error::data("the values of a page are cut off")
}

fn unsupported(encoding: Encoding) -> Error {
    Error::data(format!("encoding {encoding:?} is not supported here"))
}

/// A number of fixed width.
pub(super) trait Number: Copy + Default + std::fmt::Debug {
    const BYTES: usize;
    fn from_le(bytes: &[u8]) -> Self;
    /// `None` for numbers that are not integers.
    fn from_int(value: i64) -> Option<Self>;
}

macro_rules! number {
    ($type:ty, $from_int:expr) => {
        impl Number for $type {
            const BYTES: usize = size_of::<$type>();
            fn from_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$type>()];
                raw.copy_from_slice(bytes);
                <$type>::from_le_bytes(raw)
            }
            fn from_int(value: i64) -> Option<Self> {
                $from_int(value)
            }
        }
    };
}
number!(i32, |v| Some(v as i32));
number!(i64, Some);
number!(f64, |_| None);

/// Numbers decoded so far.
#[derive(Debug, Default)]
pub(super) struct Numbers<T> {
    dictionary: Option<Vec<T>>,
    out: Vec<T>,
}

impl<T: Number> Numbers<T> {
    fn set_dictionary(&mut self, page: &DictionaryPage) -> Result<()> {
        let mut values = Vec::new();
        plain(&page.bytes, page.values, &mut values)?;
        self.dictionary = Some(values);
        Ok(())
    }

    fn page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        let out = &mut self.out;
        match page.encoding {
            Encoding::Plain => plain(&page.values, count, out),
            Encoding::Dictionary => {
                let dictionary = self.dictionary.as_ref().ok_or_else(|| Error::data("dictionary codes without a dictionary"))?;
                let mut codes = Vec::new();
                decode_codes(&page.values, dictionary.len(), count, &mut codes)?;
                out.extend(codes.iter().map(|c| dictionary[*c as usize]));
                Ok(())
            }
            Encoding::DeltaBinaryPacked if T::from_int(0).is_some() => {
                delta(&page.values, count, |v| out.extend(T::from_int(v)))?;
                Ok(())
            }
            Encoding::ByteStreamSplit => {
                let bytes = page.values.get(..count.saturating_mul(T::BYTES)).ok_or_else(cut_off)?;
                let mut raw = vec![0; T::BYTES];
                for i in 0..count {
                    raw.iter_mut().enumerate().for_each(|(stream, byte)| *byte = bytes[stream * count + i]);
                    out.push(T::from_le(&raw));
                }
                Ok(())
            }
            other => Err(unsupported(other)),
        }
    }
}

fn plain<T: Number>(bytes: &[u8], count: usize, out: &mut Vec<T>) -> Result<()> {
    let bytes = bytes.get(..count.saturating_mul(T::BYTES)).ok_or_else(cut_off)?;
    out.extend(bytes.chunks_exact(T::BYTES).map(T::from_le));
    Ok(())
}

fn booleans(page: &DataPage, count: usize, out: &mut Vec<u8>) -> Result<()> {
    match page.encoding {
        Encoding::Plain => unpack(&page.values, 1, count, |bit| out.push(bit as u8)),
        Encoding::Rle => {
            let mut runs = Hybrid::new(page.values.get(4..).ok_or_else(cut_off)?, 1, count)?;
            while let Some(run) = runs.next_run()? {
                match run {
                    Run::Repeat { value, count } => out.resize(out.len() + count, u8::from(value != 0)),
                    Run::Packed { bytes, count } => unpack(bytes, 1, count, |bit| out.push(bit as u8))?,
                }
            }
            Ok(())
        }
        other => Err(unsupported(other)),
    }
}

/// Decodes DELTA_BINARY_PACKED: `count` integers, given to `put` one by one. Returns where the sequence ends.
fn delta(bytes: &[u8], count: usize, mut put: impl FnMut(i64)) -> Result<usize> {
    let mut at = 0;
    let block = varint(bytes, &mut at)?;
    let minis = varint(bytes, &mut at)?;
    let total = varint(bytes, &mut at)?;
    let mut value = zigzag(varint(bytes, &mut at)?);
    if total != count as u64 {
        return Err(Error::data(format!("a page has {total} values where {count} are due")));
    }
    let per_mini = block.checked_div(minis).filter(|n| *n > 0 && n % 8 == 0 && block % minis == 0);
    let (Some(per_mini), true) = (per_mini.and_then(|n| usize::try_from(n).ok()), minis <= 1 << 16) else {
        return Err(Error::data("a delta-encoded page has an impossible block size"));
    };
    if count == 0 {
        return Ok(at);
    }
    put(value);
    let mut left = count - 1;
    while left > 0 {
        let min_delta = zigzag(varint(bytes, &mut at)?);
        let widths_at = at;
        at += minis as usize;
        if at > bytes.len() {
            return Err(cut_off());
        }
        for &width in &bytes[widths_at..widths_at + minis as usize] {
            if left == 0 {
                break; // widths of miniblocks that are not there may be anything
            }
            let rest = &bytes[at..];
            let len = (per_mini / 8).saturating_mul(usize::from(width)).min(rest.len());
            let here = left.min(per_mini);
            unpack(&rest[..len], u32::from(width), here, |d| {
                value = value.wrapping_add(min_delta).wrapping_add(d as i64);
                put(value);
            })?;
            at += len;
            left -= here;
        }
    }
    Ok(at)
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Byte arrays decoded so far.
#[derive(Debug, Default)]
pub(super) struct ByteArrays {
    /// Length of the dictionary, if there is one.
    dictionary: Option<usize>,
    /// Used if there is a dictionary.
    codes: Vec<i32>,
    /// The dictionary's values first; then those of pages that do not use it.
    values: Packed,
}

impl ByteArrays {
    fn set_dictionary(&mut self, page: &DictionaryPage) -> Result<()> {
        if self.values.len() > 0 {
            return Err(Error::data("a dictionary that does not come first"));
        }
        plain_bytes(&page.bytes, page.values, &mut self.values)?;
        self.dictionary = Some(self.values.len());
        Ok(())
    }

    fn page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        let before = self.values.len();
        match page.encoding {
            Encoding::Dictionary => {
                let limit = self.dictionary.ok_or_else(|| Error::data("dictionary codes without a dictionary"))?;
                return decode_codes(&page.values, limit, count, &mut self.codes);
            }
            Encoding::Plain => plain_bytes(&page.values, count, &mut self.values)?,
            Encoding::DeltaLengthByteArray => {
                let (lengths, at) = lengths(&page.values, count)?;
                self.values.extend(&page.values[at..], &lengths)?;
            }
            Encoding::DeltaByteArray => {
                let (prefixes, at) = lengths(&page.values, count)?;
                let (suffixes, suffixes_at) = lengths(&page.values[at..], count)?;
                self.values.extend_shared(&page.values[at + suffixes_at..], &prefixes, &suffixes)?;
            }
            other => return Err(unsupported(other)),
        }
        if self.dictionary.is_some() {
            self.codes.extend((before..self.values.len()).map(|i| i as i32));
        }
        Ok(())
    }
}

fn plain_bytes(bytes: &[u8], count: usize, out: &mut Packed) -> Result<()> {
    let mut rest = bytes;
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk().ok_or_else(cut_off)?;
        let len = u32::from_le_bytes(*len) as usize;
        out.push(tail.get(..len).ok_or_else(cut_off)?)?;
        rest = &tail[len..];
    }
    Ok(())
}

/// Delta-encoded lengths, and where they end.
fn lengths(bytes: &[u8], count: usize) -> Result<(Vec<usize>, usize)> {
    let mut out = Vec::new();
    let mut negative = false;
    let at = delta(bytes, count, |len| {
        negative |= len < 0;
        out.push(len as usize);
    })?;
    if negative { Err(Error::data("a byte array with a negative length")) } else { Ok((out, at)) }
}

/// Byte strings in one buffer.
#[derive(Debug)]
struct Packed {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Packed {
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.close()
    }

    /// Ends a value at the end of the buffer.
    fn close(&mut self) -> Result<()> {
        let end = i32::try_from(self.bytes.len())
            .map_err(|_| Error::data("the values of a column chunk are over 2 GiB: use smaller row groups"))?;
        self.offsets.push(end);
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8], lengths: &[usize]) -> Result<()> {
        let mut at = 0usize;
        for len in lengths {
            let end = at.checked_add(*len).ok_or_else(cut_off)?;
            self.push(bytes.get(at..end).ok_or_else(cut_off)?)?;
            at = end;
        }
        Ok(())
    }

    /// Values that share a prefix with the value before them in the page.
    fn extend_shared(&mut self, bytes: &[u8], prefixes: &[usize], suffixes: &[usize]) -> Result<()> {
        let (mut at, mut last) = (0usize, self.bytes.len()..self.bytes.len());
        for (prefix, suffix) in prefixes.iter().zip(suffixes) {
            let end = at.checked_add(*suffix).ok_or_else(cut_off)?;
            let suffix = bytes.get(at..end).ok_or_else(cut_off)?;
            if *prefix > last.len() {
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

    fn into_binary(self) -> BinaryArray {
        BinaryArray::new(OffsetBuffer::new(self.offsets.into()), Buffer::from_vec(self.bytes), None)
    }

    /// The values as text. What is not UTF-8 (Go does not check) comes out with replacement characters.
    fn into_text(self) -> Result<StringArray> {
        let binary = self.into_binary();
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
