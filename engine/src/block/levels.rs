//! Bits to numbers: bit-packed values, and parquet's hybrid of runs and bit-packed groups (levels, dictionary codes).
//!
//! Source: "Encodings" of apache/parquet-format. Every read is bounds-checked; running out of bytes is an error.

use crate::error::{Error, Result};

fn cut_off() -> Error {
    Error::data("encoded numbers are cut off")
}

/// Number of bits that hold `max`.
pub(super) fn width_of(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// A ULEB128 number at `at`, which moves behind it.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(cut_off)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::data("a variable-length number is too long"))
}

/// Calls `put` with `count` numbers of `width` bits, least significant bit first. `width` is at most 64.
pub(super) fn unpack(bytes: &[u8], width: u32, count: usize, mut put: impl FnMut(u64)) -> Result<()> {
    if width == 0 {
        (0..count).for_each(|_| put(0));
        return Ok(());
    }
    let w = width as usize;
    if width > 64 || count.checked_mul(w).is_none_or(|bits| bits.div_ceil(8) > bytes.len()) {
        return Err(cut_off());
    }
    let mask = u64::MAX >> (64 - width);
    if w <= 8 {
        // Eight numbers take `w` bytes: one load for eight.
        let whole = if bytes.len() >= 8 { ((bytes.len() - 8) / w + 1).min(count / 8) } else { 0 };
        for group in 0..whole {
            let word = word_at(bytes, group * w);
            for i in 0..8 {
                put((word >> (i * w)) & mask);
            }
        }
        for i in whole * 8..count {
            put(number_at(bytes, i * w, mask));
        }
        return Ok(());
    }
    let whole = if w > 56 || bytes.len() < 8 { 0 } else { ((bytes.len() - 8) * 8 / w).min(count) };
    for i in 0..whole {
        put((word_at(bytes, i * w / 8) >> (i * w % 8)) & mask);
    }
    for i in whole..count {
        put(number_at(bytes, i * w, mask));
    }
    Ok(())
}

/// The eight bytes at `at`, which must be there.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The number at a bit position, near the end of the bytes or wider than one load.
fn number_at(bytes: &[u8], bit: usize, mask: u64) -> u64 {
    let tail = &bytes[bit / 8..];
    let mut word = [0; 16];
    let len = tail.len().min(16);
    word[..len].copy_from_slice(&tail[..len]);
    (u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask
}

/// A part of a hybrid sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run<'a> {
    /// The same number `count` times.
    Repeat { value: u32, count: usize },
    /// `count` bit-packed numbers.
    Packed { bytes: &'a [u8], count: usize },
}

/// The runs of a hybrid sequence of `left` numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hybrid<'a> {
    bytes: &'a [u8],
    at: usize,
    width: u32,
    left: usize,
}

impl<'a> Hybrid<'a> {
    /// `count` numbers of `width` bits.
    pub fn new(bytes: &'a [u8], width: u32, count: usize) -> Result<Self> {
        if width > 32 {
            return Err(Error::data(format!("numbers of {width} bits")));
        }
        Ok(Self { bytes, at: 0, width, left: count })
    }

    /// The next run; `None` once all numbers were given out.
    pub fn next_run(&mut self) -> Result<Option<Run<'a>>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            let head = varint(self.bytes, &mut self.at)?;
            let rest = &self.bytes[self.at..];
            let claimed = usize::try_from(head >> 1).map_err(|_| cut_off())?;
            if claimed == 0 {
                continue;
            }
            if head & 1 == 0 {
                let len = self.width.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..len].copy_from_slice(rest.get(..len).ok_or_else(cut_off)?);
                self.at += len;
                let count = claimed.min(self.left);
                self.left -= count;
                return Ok(Some(Run::Repeat { value: u32::from_le_bytes(value), count }));
            }
            // Some writers leave out the padding of the last group.
            let len = claimed.saturating_mul(self.width as usize).min(rest.len());
            let count = claimed.saturating_mul(8).min(self.left);
            self.at += len;
            self.left -= count;
            return Ok(Some(Run::Packed { bytes: &rest[..len], count }));
        }
    }
}

/// Decodes `count` levels of at most `max` behind those in `out`.
pub(super) fn decode_levels(bytes: &[u8], max: u32, count: usize, out: &mut Vec<u8>) -> Result<()> {
    let width = width_of(max);
    let wrong = || Error::data(format!("a level is over the maximum of {max}"));
    let mut runs = Hybrid::new(bytes, width, count)?;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, count } => {
                if value > max {
                    return Err(wrong());
                }
                out.resize(out.len() + count, value as u8);
            }
            Run::Packed { bytes, count } => {
                let mut seen = 0;
                unpack(bytes, width, count, |level| {
                    seen |= u64::from(level > u64::from(max));
                    out.push(level as u8);
                })?;
                if seen != 0 {
                    return Err(wrong());
                }
            }
        }
    }
    Ok(())
}

/// How many of `count` levels are `max`.
pub(super) fn count_max(bytes: &[u8], max: u32, count: usize) -> Result<usize> {
    let width = width_of(max);
    let mut runs = Hybrid::new(bytes, width, count)?;
    let mut found = 0;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, count } => found += if value == max { count } else { 0 },
            Run::Packed { bytes, count } => unpack(bytes, width, count, |level| found += usize::from(level == u64::from(max)))?,
        }
    }
    Ok(found)
}

/// Decodes `count` dictionary codes (the page's first byte is their width) behind those in `out`, each below `limit`.
pub(super) fn decode_codes(bytes: &[u8], limit: usize, count: usize, out: &mut Vec<i32>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (&width, bytes) = bytes.split_first().ok_or_else(cut_off)?;
    let wrong = || Error::data(format!("a dictionary code is not below {limit}, the size of the dictionary"));
    let mut runs = Hybrid::new(bytes, u32::from(width), count)?;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, count } => {
                if value as usize >= limit {
                    return Err(wrong());
                }
                out.resize(out.len() + count, value as i32);
            }
            Run::Packed { bytes, count } => {
                let mut largest = 0;
                unpack(bytes, u32::from(width), count, |code| {
                    largest = largest.max(code);
                    out.push(code as i32);
                })?;
                if largest >= limit as u64 {
                    return Err(wrong());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(values: &[u64], width: u32) -> Vec<u8> {
        let mut bits = vec![];
        for v in values {
            bits.extend((0..width).map(|i| (v >> i) & 1 == 1));
        }
        bits.chunks(8).map(|c| c.iter().enumerate().map(|(i, b)| u8::from(*b) << i).sum()).collect()
    }

    proptest! {
        #[test]
        fn unpack_gives_back_what_was_packed(width in 1u32..=64, values in prop::collection::vec(any::<u64>(), 0..60)) {
            let values: Vec<u64> = values.into_iter().map(|v| v & (u64::MAX >> (64 - width))).collect();
            let bytes = pack(&values, width);
            let mut out = vec![];
            unpack(&bytes, width, values.len(), |v| out.push(v)).unwrap();
            prop_assert_eq!(&out, &values);
            if let Some(short) = bytes.len().checked_sub(1) {
                prop_assert!(unpack(&bytes[..short], width, values.len(), |_| ()).is_err());
            }
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), max in 0u32..6, count in 0usize..500) {
            decode_levels(&bytes, max, count, &mut vec![]).ok();
            count_max(&bytes, max, count).ok();
            let mut codes = vec![];
            if decode_codes(&bytes, 7, count, &mut codes).is_ok() {
                prop_assert_eq!(codes.len(), count);
                prop_assert!(codes.iter().all(|c| (0..7).contains(c)));
            }
        }
    }

    #[test]
    fn runs_and_groups_mix() {
        // 5 times 2, then one group of eight: 0..=3 twice
        let bytes = [0x0a, 0x02, 0x03, 0b1110_0100, 0b1110_0100];
        let mut out = vec![];
        decode_levels(&bytes, 3, 12, &mut out).unwrap();
        assert_eq!(out, [2, 2, 2, 2, 2, 0, 1, 2, 3, 0, 1, 2]);
        assert_eq!(count_max(&bytes, 3, 12).unwrap(), 1);
        assert!(decode_levels(&bytes, 3, 14, &mut vec![]).is_err());
        assert!(decode_levels(&bytes, 2, 12, &mut vec![]).is_err());
    }
}
