//! DELTA_BINARY_PACKED: integers as differences, bit-packed in miniblocks. Source: "Encodings" of apache/parquet-format.

use super::{bits::unpack, levels::varint};
use crate::error::{Error, Result};

/// Differences that are unpacked at a time. A multiple of 8, so that each time starts at a whole byte.
const AT_ONCE: usize = 64;
/// Miniblocks of a block that are believed.
const MINIBLOCKS_MAX: u64 = 1 << 16;

/// An integer as it is stored: wider values are cut, because writers let 32-bit differences wrap around.
pub(super) trait Integer: Copy + Default {
    fn of(value: i64) -> Self;
}

impl Integer for i32 {
    #[inline(always)]
    fn of(value: i64) -> Self {
        value as i32
    }
}

impl Integer for i64 {
    #[inline(always)]
    fn of(value: i64) -> Self {
        value
    }
}

/// Decodes `count` integers behind those in `out`, and returns where the sequence ends. What is in `out` after an error is of
/// no use.
pub(super) fn decode_delta<T: Integer>(bytes: &[u8], count: usize, out: &mut Vec<T>) -> Result<usize> {
    let head = Head::read(bytes)?;
    if head.total != count {
        return Err(Error::data(format!("a page has {} values where {count} are due", head.total)));
    }
    head.decode(bytes, count, true, out)
}

/// Like [`decode_delta`], but only the first `wanted` of however many there are. Returns where all of them end if `to_end`.
pub(super) fn decode_delta_to<T: Integer>(bytes: &[u8], wanted: usize, to_end: bool, out: &mut Vec<T>) -> Result<usize> {
    let head = Head::read(bytes)?;
    if head.total < wanted {
        return Err(Error::data(format!("a page has {} values where {wanted} are due", head.total)));
    }
    head.decode(bytes, wanted, to_end, out)
}

/// What a sequence begins with.
struct Head {
    minis: usize,
    per_mini: usize,
    total: usize,
    first: i64,
    /// Bytes up to the first block.
    len: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut len = 0;
        let block = varint(bytes, &mut len)?;
        let minis = varint(bytes, &mut len)?;
        let total = varint(bytes, &mut len)?;
        let first = zigzag(varint(bytes, &mut len)?);
        let per_mini = block.checked_div(minis).filter(|n| *n > 0 && n % 8 == 0 && block % minis == 0);
        let (Some(per_mini), true) = (per_mini.and_then(|n| usize::try_from(n).ok()), minis <= MINIBLOCKS_MAX) else {
            return Err(Error::data("a delta-encoded page has an impossible block size"));
        };
        let total = usize::try_from(total).map_err(|_| cut_off())?;
        Ok(Self { minis: minis as usize, per_mini, total, first, len })
    }

    /// Decodes the first `wanted` integers, and passes over the others if `to_end`.
    fn decode<T: Integer>(&self, bytes: &[u8], wanted: usize, to_end: bool, out: &mut Vec<T>) -> Result<usize> {
        let Self { per_mini, first, len: mut at, .. } = *self;
        if wanted > 0 {
            out.push(T::of(first));
        }
        let mut sums = Sums { deltas: [0; AT_ONCE], values: [T::default(); AT_ONCE], last: first };
        let (mut wanted, mut left) = (wanted.saturating_sub(1), self.total.saturating_sub(1));
        while if to_end { left } else { wanted } > 0 {
            let min_delta = zigzag(varint(bytes, &mut at)?);
            let widths = bytes[at..].get(..self.minis).ok_or_else(cut_off)?;
            at += widths.len();
            for &width in widths {
                if left == 0 {
                    break; // widths of miniblocks that are not there may be anything
                }
                let rest = &bytes[at..];
                let len = (per_mini / 8).saturating_mul(usize::from(width)).min(rest.len());
                let here = wanted.min(per_mini);
                if here > 0 {
                    sums.miniblock(&rest[..len], u32::from(width), here, min_delta, out)?;
                }
                at += len;
                (wanted, left) = (wanted - here, left - left.min(per_mini));
            }
        }
        Ok(at)
    }
}

/// Room for the integers that are decoded at a time, made once for a page.
struct Sums<T> {
    deltas: [u64; AT_ONCE],
    values: [T; AT_ONCE],
    /// The integer before the next one.
    last: i64,
}

impl<T: Integer> Sums<T> {
    /// Decodes `count` integers of a miniblock.
    fn miniblock(&mut self, bytes: &[u8], width: u32, count: usize, min_delta: i64, out: &mut Vec<T>) -> Result<()> {
        for start in (0..count).step_by(AT_ONCE) {
            let here = AT_ONCE.min(count - start);
            let from = (start / 8).saturating_mul(width as usize);
            unpack(bytes.get(from..).ok_or_else(cut_off)?, width, &mut self.deltas[..here])?;
            let mut last = self.last;
            // Only the last four of a sequence can be incomplete, and nothing is added to them.
            let (deltas, _) = self.deltas[..here.next_multiple_of(4)].as_chunks::<4>();
            for (to, deltas) in self.values.as_chunks_mut::<4>().0.iter_mut().zip(deltas) {
                // Of the additions that wait for each other there is one for four integers.
                let [a, b, c, d] = deltas.map(|delta| min_delta.wrapping_add(delta as i64));
                let (ab, cd) = (a.wrapping_add(b), c.wrapping_add(d));
                *to = [a, ab, ab.wrapping_add(c), ab.wrapping_add(cd)].map(|sum| T::of(last.wrapping_add(sum)));
                last = last.wrapping_add(ab.wrapping_add(cd));
            }
            self.last = last;
            out.extend_from_slice(&self.values[..here]);
        }
        Ok(())
    }
}

fn cut_off() -> Error {
    Error::data("the values of a page are cut off")
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::{super::bits::tests::pack, *};
    use proptest::prelude::*;

    fn put_varint(mut n: u64, bytes: &mut Vec<u8>) {
        while n >= 0x80 {
            bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        bytes.push(n as u8);
    }

    fn put_zigzag(n: i64, bytes: &mut Vec<u8>) {
        put_varint(((n << 1) ^ (n >> 63)) as u64, bytes);
    }

    /// Encodes with `minis` miniblocks of `per_mini` integers a block. The last miniblock is padded.
    fn encode(values: &[i64], minis: usize, per_mini: usize) -> Vec<u8> {
        let mut bytes = vec![];
        put_varint((minis * per_mini) as u64, &mut bytes);
        put_varint(minis as u64, &mut bytes);
        put_varint(values.len() as u64, &mut bytes);
        put_zigzag(values.first().copied().unwrap_or(0), &mut bytes);
        let deltas: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        for block in deltas.chunks(minis * per_mini) {
            let min = *block.iter().min().unwrap();
            put_zigzag(min, &mut bytes);
            let over: Vec<u64> = block.iter().map(|d| d.wrapping_sub(min) as u64).collect();
            let width = |mini: &[u64]| u64::BITS - mini.iter().max().unwrap().leading_zeros();
            let mut widths: Vec<u8> = over.chunks(per_mini).map(|mini| width(mini) as u8).collect();
            widths.resize(minis, 77); // of no miniblock: must not be looked at
            bytes.extend(widths);
            for mini in over.chunks(per_mini) {
                let mut padded = mini.to_vec();
                padded.resize(per_mini, 0);
                bytes.extend(pack(&padded, width(mini)));
            }
        }
        bytes
    }

    fn check(values: &[i64], minis: usize, per_mini: usize) {
        let mut bytes = encode(values, minis, per_mini);
        let end = bytes.len();
        bytes.extend([0xff; 3]);
        let mut out = vec![5i64];
        assert_eq!(decode_delta(&bytes, values.len(), &mut out).unwrap(), end);
        assert_eq!(&out[1..], values);
        let mut cut = vec![];
        decode_delta::<i32>(&bytes, values.len(), &mut cut).unwrap();
        for wanted in [0, values.len() / 3, values.len()] {
            for to_end in [false, true] {
                let mut some = vec![];
                let at = decode_delta_to::<i64>(&bytes, wanted, to_end, &mut some).unwrap();
                assert_eq!(some, values[..wanted]);
                assert!(at == end || !to_end);
            }
        }
        assert!(decode_delta_to::<i64>(&bytes, values.len() + 1, false, &mut vec![]).is_err());
        assert!(cut.iter().copied().eq(values.iter().map(|v| *v as i32)));
        assert!(decode_delta::<i64>(&bytes, values.len() + 1, &mut vec![]).is_err());
    }

    #[test]
    fn every_width_and_count_comes_back() {
        for width in 0..64u32 {
            for count in [0, 1, 2, 7, 8, 9, 31, 32, 33, 34, 65, 129, 1000] {
                let values: Vec<i64> = (0..count).map(|i: i64| i.wrapping_mul(0x5851_f42d_4c95_7f2d) >> (63 - width)).collect();
                check(&values, 4, 32);
                check(&values, 1, 128);
                check(&values, 2, 8);
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let values: Vec<i64> = (0..100).map(|i| i * i * 1_000_003 % 7919).collect();
        let bytes = encode(&values[..97], 4, 32); // three whole miniblocks: nothing can be left out
        for len in 0..bytes.len() {
            assert!(decode_delta::<i64>(&bytes[..len], 97, &mut vec![]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(values in prop::collection::vec(any::<i64>(), 0..300), minis in 1usize..5, eights in 1usize..20) {
            check(&values, minis, eights * 8);
        }

        #[test]
        fn noise_never_panics(values in prop::collection::vec(-9i64..9, 0..99), at in 0usize..60, to in any::<u8>(), count in 0usize..120) {
            let mut bytes = encode(&values, 2, 16);
            let at = at % bytes.len();
            bytes[at] = to;
            for count in [count, values.len()] {
                let mut out = vec![];
                if decode_delta::<i64>(&bytes, count, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), count);
                }
            }
        }
    }
}
