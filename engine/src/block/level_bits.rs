//! Levels as bits: one bit an entry, set where the level is the highest there can be. That is all that is needed to know which
//! entries have a value, and which go on with the list of the entry before.

use super::{
    bits::{holds, unpack},
    levels::{Hybrid, Run, cut_off, width_of},
    owners::{at_least, eight},
};
use crate::{
    error::{Error, Result},
    scan::gather,
};

/// Levels that are unpacked at a time: a multiple of a word's bits.
const AT_ONCE: usize = 256;

/// Bits, and how many are set before each word.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    /// Set bits before each word.
    before: Vec<u32>,
    len: usize,
    ones: usize,
}

impl Bits {
    /// Number of bits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of set bits.
    pub fn ones(&self) -> usize {
        self.ones
    }

    /// The bits, 64 a word. Those behind the end are not set.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Number of set bits before a word.
    pub fn before_word(&self, word: usize) -> u32 {
        self.before[word]
    }

    /// A bit; not set behind the end.
    pub fn get(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Which bits of a word are not behind the end.
    pub fn inside(&self, word: usize) -> u64 {
        match self.len - 64 * word {
            0 => 0,
            left => low(left.min(64)),
        }
    }

    /// The bits turned round.
    pub fn inverted(mut self) -> Self {
        for word in 0..self.words.len() {
            self.words[word] = !self.words[word] & self.inside(word);
            self.before[word] = 64 * word as u32 - self.before[word];
        }
        self.ones = self.len - self.ones;
        self
    }

    /// Number of set bits before `at`, which is inside.
    pub fn rank(&self, at: usize) -> u32 {
        self.before[at / 64] + (self.words[at / 64] & ((1 << (at % 64)) - 1)).count_ones()
    }
}

/// Collects bits.
#[derive(Debug, Default)]
pub(super) struct BitBuilder {
    words: Vec<u64>,
    /// Bits that do not make a word yet, and their number.
    last: u64,
    filled: u32,
    ones: usize,
}

impl BitBuilder {
    /// Number of set bits so far.
    pub fn ones(&self) -> usize {
        self.ones
    }

    /// Adds the lowest `count` bits, 1 to 64; those above are not set.
    fn push(&mut self, bits: u64, count: u32) {
        self.ones += bits.count_ones() as usize;
        self.last |= bits << self.filled;
        let filled = self.filled + count;
        if filled >= 64 {
            self.words.push(self.last);
            // What did not fit; a shift by 64 means that all did.
            self.last = bits.checked_shr(64 - self.filled).unwrap_or(0);
        }
        self.filled = filled % 64;
    }

    /// Adds the same bit `count` times.
    pub fn push_run(&mut self, bit: bool, count: usize) {
        let word = if bit { u64::MAX } else { 0 };
        let first = count.min(((64 - self.filled) % 64) as usize);
        if first > 0 {
            self.push(word & low(first), first as u32);
        }
        let whole = (count - first) / 64;
        self.words.resize(self.words.len() + whole, word);
        self.ones += if bit { whole * 64 } else { 0 };
        let rest = count - first - whole * 64;
        if rest > 0 {
            self.push(word & low(rest), rest as u32);
        }
    }

    /// All bits.
    pub fn finish(mut self) -> Bits {
        let len = self.words.len() * 64 + self.filled as usize;
        if self.filled > 0 {
            self.words.push(self.last);
        }
        let mut ones = 0;
        let before = self.words.iter().map(|word| {
            ones += word.count_ones();
            ones - word.count_ones()
        });
        let before = before.collect();
        Bits { words: self.words, before, len, ones: self.ones }
    }
}

/// The lowest bits, 1 to 64.
fn low(bits: usize) -> u64 {
    u64::MAX >> (64 - bits)
}

/// Adds a bit for each of `count` levels of at most `max`: whether it is `max`. Says how many are.
pub(super) fn append_max(bytes: &[u8], max: u32, count: usize, out: &mut BitBuilder) -> Result<usize> {
    let (before, width) = (out.ones(), width_of(max));
    let mut runs = Hybrid::new(bytes, width, count)?;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeat { value, .. } if value > max => return Err(over(max)),
            Run::Repeat { value, count } => out.push_run(value == max, count),
            Run::Packed { count, .. } if max == 0 => out.push_run(true, count),
            Run::Packed { bytes, count } => {
                if !holds(bytes, width, count) {
                    return Err(cut_off());
                }
                append_packed(bytes, max, count, out)?;
            }
        }
    }
    Ok(out.ones() - before)
}

fn over(max: u32) -> Error {
    Error::data(format!("a level is over the maximum of {max}"))
}

fn append_packed(bytes: &[u8], max: u32, count: usize, out: &mut BitBuilder) -> Result<()> {
    let width = width_of(max);
    let mut levels = [0u8; AT_ONCE];
    let pattern = eight(max as u8);
    for start in (0..count).step_by(AT_ONCE) {
        let here = AT_ONCE.min(count - start);
        let levels = &mut levels[..here];
        unpack(&bytes[start / 8 * width as usize..], width, levels)?;
        if u32::from(levels.iter().copied().fold(0, u8::max)) > max {
            return Err(over(max));
        }
        for word in levels.chunks(64) {
            let (eights, last) = word.as_chunks::<8>();
            let mut bits = 0;
            for (at, levels) in eights.iter().enumerate() {
                bits |= u64::from(gather(at_least(u64::from_le_bytes(*levels), pattern) >> 7)) << (8 * at);
            }
            for (at, level) in last.iter().enumerate() {
                bits |= u64::from(u32::from(*level) == max) << (8 * eights.len() + at);
            }
            out.push(bits, word.len() as u32);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::bits::tests::pack, *};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_those_of_the_levels(
            max in 0u32..8,
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(0u32..8, 1..90)), 0..9),
        ) {
            let (mut out, mut due) = (BitBuilder::default(), vec![]);
            for (repeat, mut levels) in parts {
                levels.iter_mut().for_each(|level| *level %= max + 1);
                let mut bytes = vec![];
                if repeat {
                    let first = levels[0];
                    levels.fill(first);
                    let head = levels.len() << 1;
                    bytes.extend([(head & 0x7f) as u8 | 0x80, (head >> 7) as u8]);
                    bytes.extend(&levels[0].to_le_bytes()[..width_of(max).div_ceil(8) as usize]);
                } else {
                    bytes.push((levels.len().div_ceil(8) << 1 | 1) as u8);
                    let mut padded: Vec<u64> = levels.iter().map(|l| u64::from(*l)).collect();
                    padded.resize(levels.len().next_multiple_of(8), 0);
                    bytes.extend(pack(&padded, width_of(max)));
                }
                let found = append_max(&bytes, max, levels.len(), &mut out).unwrap();
                prop_assert_eq!(found, levels.iter().filter(|l| **l == max).count());
                due.extend(levels.iter().map(|level| *level == max));
            }
            let bits = out.finish();
            prop_assert_eq!(bits.len(), due.len());
            prop_assert_eq!(bits.ones(), due.iter().filter(|b| **b).count());
            let mut rank = 0;
            for (at, bit) in due.iter().enumerate() {
                prop_assert_eq!((bits.get(at), bits.rank(at)), (*bit, rank));
                rank += u32::from(*bit);
            }
            prop_assert!(!bits.get(due.len()));
        }
    }

    #[test]
    fn levels_over_the_maximum_and_cut_off_ones_are_errors() {
        let packed = pack(&[0, 1, 2, 3, 0, 1, 2, 3], 2);
        let mut out = BitBuilder::default();
        assert!(append_max(&[&[3], &packed[..]].concat(), 2, 8, &mut out).is_err());
        assert!(append_max(&[&[3], &packed[..1]].concat(), 3, 8, &mut out).is_err());
        assert!(append_max(&[16, 3], 2, 8, &mut out).is_err());
        assert!(append_max(&[16, 2], 2, 9, &mut out).is_err());
    }
}
