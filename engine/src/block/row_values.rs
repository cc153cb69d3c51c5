//! The values of one row out of its pages: only they are decoded, and only the entries of the dictionary that they name.

use std::ops::Range;

use parquet::basic::Type;

use super::{
    byte_arrays::Packed,
    delta::decode_delta_to,
    levels::decode_codes_at,
    pages::{DataPage, DictionaryPage},
    row_levels::decode_levels_in,
    thrift::Encoding,
    values::{Dense, Number, Text, cut_off, unsupported},
};
use crate::error::{Error, Result};

/// Values of a row so far.
#[derive(Debug)]
pub(super) enum RowValues {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<u8>),
    Text(Packed),
    Bytes(Packed),
}

impl RowValues {
    /// None yet, of a physical type; byte arrays are text if `text`.
    pub fn new(physical: Type, text: bool) -> Result<Self> {
        Ok(match physical {
            Type::INT32 => Self::Int32(Vec::new()),
            Type::INT64 => Self::Int64(Vec::new()),
            Type::DOUBLE => Self::Double(Vec::new()),
            Type::BOOLEAN => Self::Bool(Vec::new()),
            Type::BYTE_ARRAY if text => Self::Text(Packed::default()),
            Type::BYTE_ARRAY => Self::Bytes(Packed::default()),
            other => return Err(Error::data(format!("physical type {other}"))),
        })
    }

    /// Takes the values of a page that are in `range`.
    pub fn take(&mut self, page: &DataPage, dictionary: Option<&DictionaryPage>, range: Range<usize>) -> Result<()> {
        match self {
            Self::Int32(out) => numbers(page, dictionary, range, out),
            Self::Int64(out) => numbers(page, dictionary, range, out),
            Self::Double(out) => numbers(page, dictionary, range, out),
            Self::Bool(out) => booleans(page, range, out),
            Self::Text(out) | Self::Bytes(out) => byte_arrays(page, dictionary, range, out),
        }
    }

    /// All values.
    pub fn finish(self) -> Result<Dense> {
        Ok(match self {
            Self::Int32(out) => Dense::Int32(out.into()),
            Self::Int64(out) => Dense::Int64(out.into()),
            Self::Double(out) => Dense::Double(out.into()),
            Self::Bool(out) => Dense::Bool(out.into()),
            Self::Text(out) => Dense::Text(Text { codes: None, values: out.into_text()? }),
            Self::Bytes(out) => Dense::Bytes(out.into_binary()),
        })
    }
}

/// The dictionary codes of a page that are in `range`.
fn codes<'a>(page: &DataPage, dictionary: Option<&'a DictionaryPage>, range: Range<usize>) -> Result<(&'a DictionaryPage, Vec<u32>)> {
    let dictionary = dictionary.ok_or_else(|| Error::data("dictionary codes without a dictionary"))?;
    let (end, positions) = (range.end, range.map(|at| at as u32).collect::<Vec<_>>());
    let mut codes = Vec::with_capacity(positions.len());
    decode_codes_at(&page.values, dictionary.values, end, &positions, &mut codes)?;
    Ok((dictionary, codes.into_iter().map(i32::cast_unsigned).collect()))
}

fn numbers<T: Number>(page: &DataPage, dictionary: Option<&DictionaryPage>, range: Range<usize>, out: &mut Vec<T>) -> Result<()> {
    let bytes = &page.values[..];
    let place =
        |range: Range<usize>| bytes.get(range.start.saturating_mul(T::BYTES)..range.end.saturating_mul(T::BYTES)).ok_or_else(cut_off);
    match page.encoding {
        Encoding::Plain => T::plain(place(range)?, out),
        Encoding::Dictionary => {
            let (dictionary, codes) = codes(page, dictionary, range)?;
            for code in codes {
                let entry = dictionary.bytes.get(code as usize * T::BYTES..).and_then(|b| b.get(..T::BYTES)).ok_or_else(cut_off)?;
                out.push(T::from_le(entry));
            }
        }
        Encoding::DeltaBinaryPacked => {
            let mut all = Vec::new();
            T::delta_to(bytes, range.end, &mut all)?;
            out.extend_from_slice(all.get(range).ok_or_else(cut_off)?);
        }
        Encoding::ByteStreamSplit => {
            // Each stream has one byte of every value.
            let count = bytes.len() / T::BYTES;
            if range.end > count {
                return Err(cut_off());
            }
            let mut raw = vec![0; T::BYTES];
            for at in range {
                raw.iter_mut().enumerate().for_each(|(stream, byte)| *byte = bytes[stream * count + at]);
                out.push(T::from_le(&raw));
            }
        }
        other => return Err(unsupported(other)),
    }
    Ok(())
}

fn booleans(page: &DataPage, range: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
    match page.encoding {
        Encoding::Plain => {
            let bit = |at: usize| page.values.get(at / 8).map(|byte| (byte >> (at % 8)) & 1).ok_or_else(cut_off);
            range.map(bit).try_for_each(|bit| bit.map(|bit| out.push(bit)))
        }
        Encoding::Rle => decode_levels_in(page.values.get(4..).ok_or_else(cut_off)?, 1, range, out),
        other => Err(unsupported(other)),
    }
}

fn byte_arrays(page: &DataPage, dictionary: Option<&DictionaryPage>, range: Range<usize>, out: &mut Packed) -> Result<()> {
    let bytes = &page.values[..];
    match page.encoding {
        Encoding::Plain => {
            let places = plain_places(bytes, range.end)?;
            places[range].iter().try_for_each(|place| out.push(&bytes[place.clone()]))
        }
        Encoding::Dictionary => {
            let (dictionary, codes) = codes(page, dictionary, range)?;
            let places = plain_places(&dictionary.bytes, codes.iter().max().map_or(0, |last| *last as usize + 1))?;
            codes.iter().try_for_each(|code| out.push(&dictionary.bytes[places[*code as usize].clone()]))
        }
        Encoding::DeltaLengthByteArray => {
            let (lengths, end) = lengths(bytes, range.end)?;
            let mut at = lengths[..range.start].iter().fold(end, |at, len| at.saturating_add(*len));
            for len in &lengths[range] {
                out.push(bytes.get(at..).and_then(|b| b.get(..*len)).ok_or_else(cut_off)?)?;
                at += len;
            }
            Ok(())
        }
        Encoding::DeltaByteArray => {
            let (prefixes, end) = lengths(bytes, range.end)?;
            let (suffixes, behind) = lengths(&bytes[end..], range.end)?;
            let (mut value, mut rest) = (Vec::new(), &bytes[end + behind..]);
            for (at, (prefix, suffix)) in prefixes.into_iter().zip(suffixes).enumerate() {
                if prefix > value.len() {
                    return Err(Error::data("a byte array shares more with the one before than that has"));
                }
                value.truncate(prefix);
                value.extend_from_slice(rest.get(..suffix).ok_or_else(cut_off)?);
                rest = &rest[suffix..];
                if at >= range.start {
                    out.push(&value)?;
                }
            }
            Ok(())
        }
        other => Err(unsupported(other)),
    }
}

/// Where the first `count` byte arrays are that have their lengths before them.
fn plain_places(bytes: &[u8], count: usize) -> Result<Vec<Range<usize>>> {
    let mut places = Vec::with_capacity(count.min(bytes.len() / size_of::<u32>()));
    let mut at = 0;
    for _ in 0..count {
        let (len, rest) = bytes[at..].split_first_chunk().ok_or_else(cut_off)?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > rest.len() {
            return Err(cut_off());
        }
        let start = at + size_of::<u32>();
        at = start + len;
        places.push(start..at);
    }
    Ok(places)
}

/// The first `count` of delta-encoded lengths, and where all of them end.
fn lengths(bytes: &[u8], count: usize) -> Result<(Vec<usize>, usize)> {
    let mut lengths = Vec::<i64>::new();
    let end = decode_delta_to(bytes, count, true, &mut lengths)?;
    let length = |len: &i64| u32::try_from(*len).map(|len| len as usize).map_err(|_| Error::data("a byte array with an impossible length"));
    Ok((lengths.iter().map(length).collect::<Result<_>>()?, end))
}
