//! The values of data pages, decoded into dense vectors: no nulls, no levels, one value behind the other.
//!
//! All encodings that parquet writers use are read; text that is dictionary-encoded stays so. Source: "Encodings" of
//! apache/parquet-format.

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, StringArray, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use parquet::basic::Type;

use super::{
    bits::unpack,
    byte_arrays::ByteArrays,
    delta::{Integer, decode_delta, decode_delta_to},
    levels::{decode_codes, decode_hybrid},
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

    /// The values at these positions. They must be inside.
    pub fn pick(&self, positions: &[u32]) -> Result<Self> {
        fn some<T: Copy>(values: &[T], positions: &[u32]) -> Vec<T> {
            positions.iter().map(|at| values[*at as usize]).collect()
        }
        let taken = |values: &dyn Array| -> Result<ArrayRef> { Ok(take(values, &UInt32Array::from(positions.to_vec()), None)?) };
        Ok(match self {
            Self::Int32(v) => Self::Int32(some(v, positions).into()),
            Self::Int64(v) => Self::Int64(some(v, positions).into()),
            Self::Double(v) => Self::Double(some(v, positions).into()),
            Self::Bool(v) => Self::Bool(some(v, positions).into()),
            Self::Bytes(v) => Self::Bytes(taken(v)?.as_binary::<i32>().clone()),
            Self::Text(Text { codes: Some(codes), values }) => {
                Self::Text(Text { codes: Some(some(codes, positions).into()), values: values.clone() })
            }
            Self::Text(Text { codes: None, values }) => Self::Text(Text { codes: None, values: taken(values)?.as_string::<i32>().clone() }),
        })
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

    /// Makes room for `count` values more. Best called when the dictionary is known.
    pub fn reserve(&mut self, count: usize) {
        match self {
            Self::Int32(n) => n.out.reserve(count),
            Self::Int64(n) => n.out.reserve(count),
            Self::Double(n) => n.out.reserve(count),
            Self::Text(b) | Self::Bytes(b) => b.reserve(count),
            Self::Bool(out) => out.reserve(count),
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

    /// Decodes those of the `count` values of a page that are at `picks`, ascending.
    pub fn page_at(&mut self, page: &DataPage, count: usize, picks: &[u32]) -> Result<()> {
        match picks.last() {
            None => return Ok(()),
            Some(last) if *last as usize >= count => return Err(Error::internal("a value is picked that a page does not have")),
            Some(_) => {}
        }
        match self {
            Self::Int32(n) => n.page_at(page, count, picks),
            Self::Int64(n) => n.page_at(page, count, picks),
            Self::Double(n) => n.page_at(page, count, picks),
            Self::Text(b) | Self::Bytes(b) => b.page_at(page, count, picks),
            Self::Bool(out) => {
                let start = out.len();
                booleans(page, count, out)?;
                keep(out, start, picks);
                Ok(())
            }
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
                        let codes = Int32Array::new(b.codes.into(), None);
                        Dense::Bytes(take(&values, &codes, None)?.as_binary::<i32>().clone())
                    }
                }
            }
        })
    }
}

/// Of the values from `start` on, keeps those at `picks` (ascending, counted from `start`).
pub(super) fn keep<T: Copy>(values: &mut Vec<T>, start: usize, picks: &[u32]) {
    for (to, from) in picks.iter().enumerate() {
        values[start + to] = values[start + *from as usize];
    }
    values.truncate(start + picks.len());
}

pub(super) fn cut_off() -> Error {
    Error::data("the values of a page are cut off")
}

pub(super) fn unsupported(encoding: Encoding) -> Error {
    Error::data(format!("encoding {encoding:?} is not supported here"))
}

/// A number of fixed width.
pub(super) trait Number: Copy + Default + std::fmt::Debug {
    const BYTES: usize;
    fn from_le(bytes: &[u8]) -> Self;
    /// Adds the numbers that the bytes are.
    fn plain(bytes: &[u8], out: &mut Vec<Self>);
    /// Decodes `count` numbers that are stored as differences; an error for numbers that are not integers.
    fn delta(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> Result<()>;
    /// Decodes the first `wanted` of them.
    fn delta_to(bytes: &[u8], wanted: usize, out: &mut Vec<Self>) -> Result<()>;
}

macro_rules! number {
    ($type:ty, $delta:expr, $delta_to:expr) => {
        impl Number for $type {
            const BYTES: usize = size_of::<$type>();
            fn from_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$type>()];
                raw.copy_from_slice(bytes);
                <$type>::from_le_bytes(raw)
            }
            fn plain(bytes: &[u8], out: &mut Vec<Self>) {
                out.extend(bytes.as_chunks().0.iter().map(|raw| <$type>::from_le_bytes(*raw)));
            }
            fn delta(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> Result<()> {
                $delta(bytes, count, out)
            }
            fn delta_to(bytes: &[u8], wanted: usize, out: &mut Vec<Self>) -> Result<()> {
                $delta_to(bytes, wanted, out)
            }
        }
    };
}
number!(i32, |bytes, count, out| decode_delta(bytes, count, out).map(drop), first_of_delta);
number!(i64, |bytes, count, out| decode_delta(bytes, count, out).map(drop), first_of_delta);
number!(f64, |_, _, _| Err(unsupported(Encoding::DeltaBinaryPacked)), |_, _, _| Err(unsupported(Encoding::DeltaBinaryPacked)));

fn first_of_delta<T: Integer>(bytes: &[u8], wanted: usize, out: &mut Vec<T>) -> Result<()> {
    decode_delta_to(bytes, wanted, false, out).map(drop)
}

/// Numbers decoded so far.
#[derive(Debug, Default)]
pub(super) struct Numbers<T> {
    dictionary: Option<Vec<T>>,
    /// Codes of the page that is being decoded.
    codes: Vec<i32>,
    out: Vec<T>,
}

impl<T: Number> Numbers<T> {
    fn set_dictionary(&mut self, page: &DictionaryPage) -> Result<()> {
        let mut values = Vec::new();
        T::plain(plain_bytes::<T>(&page.bytes, page.values)?, &mut values);
        self.dictionary = Some(values);
        Ok(())
    }

    fn page(&mut self, page: &DataPage, count: usize) -> Result<()> {
        let out = &mut self.out;
        match page.encoding {
            Encoding::Plain => T::plain(plain_bytes::<T>(&page.values, count)?, out),
            Encoding::Dictionary => {
                let dictionary = self.dictionary.as_ref().ok_or_else(|| Error::data("dictionary codes without a dictionary"))?;
                self.codes.clear();
                decode_codes(&page.values, dictionary.len(), count, &mut self.codes)?;
                out.extend(self.codes.iter().map(|c| dictionary[*c as usize]));
            }
            Encoding::DeltaBinaryPacked => T::delta(&page.values, count, out)?,
            Encoding::ByteStreamSplit => {
                let bytes = plain_bytes::<T>(&page.values, count)?;
                let mut raw = vec![0; T::BYTES];
                for i in 0..count {
                    raw.iter_mut().enumerate().for_each(|(stream, byte)| *byte = bytes[stream * count + i]);
                    out.push(T::from_le(&raw));
                }
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }

    fn page_at(&mut self, page: &DataPage, count: usize, picks: &[u32]) -> Result<()> {
        let start = self.out.len();
        if page.encoding == Encoding::Plain {
            let bytes = plain_bytes::<T>(&page.values, count)?;
            self.out.extend(picks.iter().map(|at| T::from_le(&bytes[*at as usize * T::BYTES..][..T::BYTES])));
        } else {
            self.page(page, count)?;
            keep(&mut self.out, start, picks);
        }
        Ok(())
    }
}

/// The bytes of `count` numbers.
fn plain_bytes<T: Number>(bytes: &[u8], count: usize) -> Result<&[u8]> {
    bytes.get(..count.saturating_mul(T::BYTES)).ok_or_else(cut_off)
}

fn booleans(page: &DataPage, count: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    match page.encoding {
        Encoding::Plain if page.values.len() < count.div_ceil(8) => Err(cut_off()),
        Encoding::Plain => {
            out.resize(start + count, 0);
            unpack(&page.values, 1, &mut out[start..])
        }
        Encoding::Rle => {
            decode_hybrid(page.values.get(4..).ok_or_else(cut_off)?, 1, count, out)?;
            out[start..].iter_mut().for_each(|bit| *bit = u8::from(*bit != 0));
            Ok(())
        }
        other => Err(unsupported(other)),
    }
}
