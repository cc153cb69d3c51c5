//! Parquet's hybrid of runs and bit-packed groups: repetition and definition levels, and dictionary codes.
//!
//! Source: "Encodings" of apache/parquet-format. Every read is bounds-checked; running out of bytes is an error. Numbers
//! are decoded first and compared with their maximum afterwards, all at once.

use super::bits::{Lane, holds, number_at, unpack};
use crate::error::{Error, Result};

/// Levels that are counted at a time: below 256, so that a byte can count them, and whole vectors of most machines.
pub(super) const COUNTED_AT_ONCE: usize = 192;

pub(super) fn cut_off() -> Error {
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

/// Decodes `count` numbers of `width` bits behind those in `out`. What is in `out` after an error is of no use.
pub(super) fn decode_hybrid<T: Lane>(bytes: &[u8], width: u32, count: usize, out: &mut Vec<T>) -> Result<()> {
    if width > T::BITS {
        return Err(Error::data(format!("numbers of {width} bits")));
    }
    let mut runs = Hybrid::new(bytes, width, count)?;
    let start = out.len();
    let mut filled = start;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, count } => {
                // The rest is made room for once the first run shows that there is something.
                if filled == out.len() {
                    out.resize(filled + count, T::of(u64::from(value)));
                } else {
                    out[filled..filled + count].fill(T::of(u64::from(value)));
                }
                filled += count;
            }
            Run::Packed { bytes, count: here } => {
                if !holds(bytes, width, here) {
                    return Err(cut_off());
                }
                if filled == out.len() {
                    out.resize(start + count, T::default());
                }
                unpack(bytes, width, &mut out[filled..filled + here])?;
                filled += here;
            }
        }
    }
    Ok(())
}

/// Decodes `count` levels of at most `max` behind those in `out`.
pub(super) fn decode_levels(bytes: &[u8], max: u32, count: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    decode_hybrid(bytes, width_of(max), count, out)?;
    let highest = out[start..].iter().copied().fold(0, u8::max);
    if u32::from(highest) > max { Err(Error::data(format!("a level is over the maximum of {max}"))) } else { Ok(()) }
}

/// The level that all of `count` levels have, if they are stored as one run.
pub(super) fn only_level(bytes: &[u8], max: u32, count: usize) -> Result<Option<u32>> {
    match Hybrid::new(bytes, width_of(max), count)?.next_run()? {
        Some(Run::Repeat { value, count: all }) if all == count => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// How many of `count` levels are `max`.
pub(super) fn count_max(bytes: &[u8], max: u32, count: usize) -> Result<usize> {
    let width = width_of(max);
    let mut runs = Hybrid::new(bytes, width, count)?;
    let mut found = 0;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, count } => found += if value == max { count } else { 0 },
            Run::Packed { count, .. } if max == 0 => found += count,
            Run::Packed { bytes, count } => {
                if width > 8 || !holds(bytes, width, count) {
                    return Err(cut_off());
                }
                found += if width == 1 { count_bits(bytes, count) } else { count_packed(bytes, width, max as u8, count)? };
            }
        }
    }
    Ok(found)
}

/// How many of the first `count` bits are set.
fn count_bits(bytes: &[u8], count: usize) -> usize {
    let (words, rest) = bytes[..count / 8].as_chunks();
    let ones = |ones: u32| ones as usize;
    let last = if count.is_multiple_of(8) { 0 } else { bytes[count / 8] & ((1 << (count % 8)) - 1) };
    words.iter().map(|word| ones(u64::from_le_bytes(*word).count_ones())).sum::<usize>()
        + rest.iter().map(|byte| ones(byte.count_ones())).sum::<usize>()
        + ones(last.count_ones())
}

/// How many of `count` packed levels are `max`.
fn count_packed(bytes: &[u8], width: u32, max: u8, count: usize) -> Result<usize> {
    let mut found = 0;
    let mut levels = [0u8; COUNTED_AT_ONCE];
    for start in (0..count).step_by(COUNTED_AT_ONCE) {
        let levels = &mut levels[..COUNTED_AT_ONCE.min(count - start)];
        unpack(&bytes[start / 8 * width as usize..], width, levels)?;
        found += usize::from(levels.iter().fold(0u8, |n, level| n.wrapping_add(u8::from(*level == max))));
    }
    Ok(found)
}

fn out_of_dictionary(limit: usize) -> Error {
    Error::data(format!("a dictionary code is not below {limit}, the size of the dictionary"))
}

/// The width that leads a page of dictionary codes, and the codes.
fn codes_of(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let (width, codes) = bytes.split_first().ok_or_else(cut_off)?;
    Ok((u32::from(*width), codes))
}

/// Decodes `count` dictionary codes (the page's first byte is their width) behind those in `out`, each below `limit`.
pub(super) fn decode_codes(bytes: &[u8], limit: usize, count: usize, out: &mut Vec<i32>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (width, bytes) = codes_of(bytes)?;
    let start = out.len();
    decode_hybrid(bytes, width, count, out)?;
    // A difference below zero leaves its sign.
    let last = i32::try_from(limit).unwrap_or(i32::MAX).wrapping_sub(1);
    let signs = out[start..].iter().fold(0, |signs, code| signs | code | last.wrapping_sub(*code));
    if signs >= 0 { Ok(()) } else { Err(out_of_dictionary(limit)) }
}

/// The same for dictionaries of at most 256 entries.
pub(super) fn decode_small_codes(bytes: &[u8], limit: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (width, bytes) = codes_of(bytes)?;
    let start = out.len();
    if width > u8::BITS {
        // Wider than it need be.
        let mut wide: Vec<i32> = Vec::new();
        decode_hybrid(bytes, width, count, &mut wide)?;
        out.extend(wide.iter().map(|code| *code as u8));
        return if wide.iter().all(|code| (*code as u32 as usize) < limit) { Ok(()) } else { Err(out_of_dictionary(limit)) };
    }
    decode_hybrid(bytes, width, count, out)?;
    let highest = out[start..].iter().copied().fold(0, u8::max);
    if usize::from(highest) < limit { Ok(()) } else { Err(out_of_dictionary(limit)) }
}

/// Decodes those of `count` dictionary codes that are at `positions`, ascending and below `count`, like [`decode_codes`].
/// Codes in between are not looked at.
pub(super) fn decode_codes_at(bytes: &[u8], limit: usize, count: usize, positions: &[u32], out: &mut Vec<i32>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let (width, bytes) = codes_of(bytes)?;
    let mut runs = Hybrid::new(bytes, width, count)?;
    let (mut left, mut start, mut highest) = (positions, 0, 0);
    while !left.is_empty()
        && let Some(run) = runs.next_run()?
    {
        let (Run::Repeat { count, .. } | Run::Packed { count, .. }) = run;
        // Most runs have none of few positions.
        let here = if (left[0] as usize) < start + count { left.partition_point(|p| (*p as usize) < start + count) } else { 0 };
        let (here, behind) = left.split_at(here);
        match run {
            Run::Repeat { value, .. } if !here.is_empty() => {
                highest = highest.max(value);
                out.resize(out.len() + here.len(), value as i32);
            }
            Run::Packed { bytes, count } if holds(bytes, width, count) && width > 0 => {
                out.extend(here.iter().map(|p| {
                    let code = number_at(bytes, width, *p as usize - start);
                    highest = highest.max(code);
                    code as i32
                }));
            }
            Run::Packed { bytes, count } if !holds(bytes, width, count) => return Err(cut_off()),
            _ => out.resize(out.len() + here.len(), 0),
        }
        (left, start) = (behind, start + count);
    }
    if (highest as usize) < limit { Ok(()) } else { Err(out_of_dictionary(limit)) }
}

#[cfg(test)]
mod tests {
    use super::{super::bits::tests::pack, *};
    use proptest::prelude::*;

    /// Runs of a hybrid sequence: a number and how often it comes, or numbers for bit-packed groups.
    #[derive(Clone, Debug)]
    enum Part {
        Repeat(u32, usize),
        Packed(Vec<u32>),
    }

    fn parts(max: u32) -> impl Strategy<Value = Vec<Part>> {
        let repeat = (0..=max, prop_oneof![1usize..20, 1usize..2000]).prop_map(|(value, count)| Part::Repeat(value, count));
        let packed = (1usize..40).prop_flat_map(move |groups| prop::collection::vec(0..=max, groups * 8)).prop_map(Part::Packed);
        prop::collection::vec(prop_oneof![repeat, packed], 1..6)
    }

    /// The bytes of the parts, and the numbers that they stand for, one by one.
    fn encode(parts: &[Part], width: u32) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut numbers) = (vec![], vec![]);
        let head = |mut head: usize, bytes: &mut Vec<u8>| {
            while head >= 0x80 {
                bytes.push(head as u8 | 0x80);
                head >>= 7;
            }
            bytes.push(head as u8);
        };
        for part in parts {
            match part {
                Part::Repeat(value, count) => {
                    head(count << 1, &mut bytes);
                    bytes.extend(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
                    numbers.extend(std::iter::repeat_n(*value, *count));
                }
                Part::Packed(values) => {
                    head((values.len() / 8) << 1 | 1, &mut bytes);
                    bytes.extend(pack(&values.iter().map(|v| u64::from(*v)).collect::<Vec<_>>(), width));
                    numbers.extend(values);
                }
            }
        }
        (bytes, numbers)
    }

    fn level_parts() -> impl Strategy<Value = (u32, Vec<Part>)> {
        (0u32..8).prop_flat_map(|max| (Just(max), parts(max)))
    }

    fn code_parts() -> impl Strategy<Value = (u32, Vec<Part>)> {
        (1u32..=20).prop_flat_map(|width| (Just(width), parts((1 << width) - 1)))
    }

    proptest! {
        #[test]
        fn levels_come_back((max, parts) in level_parts(), cut in 0usize..9) {
            let (bytes, numbers) = encode(&parts, width_of(max));
            let count = numbers.len() - cut.min(numbers.len());
            let mut out = vec![9];
            decode_levels(&bytes, max, count, &mut out).unwrap();
            prop_assert!(out[1..].iter().map(|l| u32::from(*l)).eq(numbers[..count].iter().copied()));
            prop_assert_eq!(count_max(&bytes, max, count).unwrap(), numbers[..count].iter().filter(|l| **l == max).count());
            if count > 0 && let Some(only) = only_level(&bytes, max, count).unwrap() {
                prop_assert!(numbers[..count].iter().all(|l| *l == only));
            }
            prop_assert!(decode_levels(&bytes, max, numbers.len() + 1, &mut vec![]).is_err());
            prop_assert!(count_max(&bytes, max, numbers.len() + 1).is_err());
            if let Some(lower) = max.checked_sub(1) && width_of(lower) == width_of(max) {
                let fits = numbers[..count].iter().all(|l| *l <= lower);
                prop_assert_eq!(decode_levels(&bytes, lower, count, &mut vec![]).is_ok(), fits);
            }
        }

        #[test]
        fn codes_come_back((width, parts) in code_parts(), step in 1usize..50, from in 0usize..50) {
            let (codes, numbers) = encode(&parts, width);
            let bytes = [&[width as u8][..], &codes].concat();
            let limit = *numbers.iter().max().unwrap() as usize + 1;
            let mut out = vec![-1];
            decode_codes(&bytes, limit, numbers.len(), &mut out).unwrap();
            prop_assert!(out[1..].iter().map(|c| *c as u32).eq(numbers.iter().copied()));
            prop_assert!(decode_codes(&bytes, limit - 1, numbers.len(), &mut vec![]).is_err());
            prop_assert!(decode_codes(&bytes, limit, numbers.len() + 1, &mut vec![]).is_err());
            prop_assert!(decode_codes(&bytes[..bytes.len() - 1], limit, numbers.len(), &mut vec![]).is_err());

            let positions: Vec<u32> = (from..numbers.len()).step_by(step).map(|p| p as u32).collect();
            let due: Vec<i32> = positions.iter().map(|p| numbers[*p as usize] as i32).collect();
            let mut out = vec![];
            decode_codes_at(&bytes, limit, numbers.len(), &positions, &mut out).unwrap();
            prop_assert_eq!(&out, &due);
            if let Some(highest) = due.iter().max() {
                prop_assert!(decode_codes_at(&bytes, *highest as usize, numbers.len(), &positions, &mut vec![]).is_err());
            }
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), max in 0u32..300, count in 0usize..500) {
            decode_levels(&bytes, max, count, &mut vec![]).ok();
            count_max(&bytes, max, count).ok();
            only_level(&bytes, max, count).ok();
            let mut codes = vec![];
            if decode_codes(&bytes, 7, count, &mut codes).is_ok() {
                prop_assert_eq!(codes.len(), count);
                prop_assert!(codes.iter().all(|c| (0..7).contains(c)));
            }
            let positions: Vec<u32> = (0..count as u32).filter(|p| p % 3 == max % 3).collect();
            codes.clear();
            if decode_codes_at(&bytes, 7, count, &positions, &mut codes).is_ok() {
                prop_assert_eq!(codes.len(), positions.len());
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
