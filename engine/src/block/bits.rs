//! Bit-packed numbers, least significant bit first, eight at a time.
//!
//! Each width has loops of its own in which shifts and masks are constants: eight numbers take one bounds check and few
//! loads. Which width it is, is decided once for a whole run.

use crate::error::{Error, Result};

/// What numbers are unpacked into.
pub(super) trait Lane: Copy + Default {
    /// The widest numbers that fit, in bits.
    const BITS: u32;
    /// The low bits of a number.
    fn of(number: u64) -> Self;
    /// Calls the loop for a width from 1 to [`BITS`](Self::BITS). The bytes hold all of `out`.
    fn unpack(bytes: &[u8], width: u32, out: &mut [Self]);
}

macro_rules! lane {
    ($type:ty, narrow $($narrow:literal)*, wide $($wide:literal)*) => {
        impl Lane for $type {
            const BITS: u32 = <$type>::BITS;
            #[inline(always)]
            fn of(number: u64) -> Self {
                number as $type
            }
            fn unpack(bytes: &[u8], width: u32, out: &mut [Self]) {
                match width {
                    $($narrow => narrow::<$type, $narrow>(bytes, out),)*
                    $($wide => wide::<$type, $wide>(bytes, out),)*
                    _ => {}
                }
            }
        }
    };
}
lane!(u8, narrow 1 2 3 4 5 6 7 8, wide);
lane!(i32, narrow 1 2 3 4 5 6 7 8, wide 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
lane!(u64, narrow 1 2 3 4 5 6 7 8, wide 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37
    38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);

/// Unpacks as many numbers of `width` bits as `out` has room for. Bytes behind them are not looked at.
pub(super) fn unpack<T: Lane>(bytes: &[u8], width: u32, out: &mut [T]) -> Result<()> {
    if width > T::BITS {
        return Err(Error::data(format!("numbers of {width} bits")));
    }
    if !holds(bytes, width, out.len()) {
        return Err(Error::data("encoded numbers are cut off"));
    }
    match width {
        0 => out.fill(T::default()),
        _ => T::unpack(bytes, width, out),
    }
    Ok(())
}

/// Whether there are bytes for `count` numbers of `width` bits.
pub(super) fn holds(bytes: &[u8], width: u32, count: usize) -> bool {
    count.checked_mul(width as usize).is_some_and(|bits| bits.div_ceil(8) <= bytes.len())
}

/// Number `at` of those of `width` bits, 1 to 32. The bytes must hold it.
pub(super) fn number_at(bytes: &[u8], width: u32, at: usize) -> u32 {
    let bit = at * width as usize;
    let tail = &bytes[bit / 8..];
    let mut word = [0; 8];
    match tail.first_chunk::<8>() {
        Some(eight) => word = *eight,
        None => word[..tail.len()].copy_from_slice(tail),
    }
    ((u64::from_le_bytes(word) >> (bit % 8)) & low(width as usize)) as u32
}

/// A mask of the lowest bits, 1 to 64.
const fn low(bits: usize) -> u64 {
    u64::MAX >> (64 - bits)
}

/// Widths up to 8: eight numbers are in one word.
fn narrow<T: Lane, const W: usize>(bytes: &[u8], out: &mut [T]) {
    let (groups, _) = out.as_chunks_mut::<8>();
    let (mut from, mut done) = (bytes, 0);
    for to in groups {
        let Some(word) = from.first_chunk() else { break };
        *to = spread::<W>(u64::from_le_bytes(*word)).to_le_bytes().map(|byte| T::of(u64::from(byte)));
        from = &from[W..];
        done += 8;
    }
    // The last groups, where a whole word would reach past the end.
    for to in out[done..].chunks_mut(8) {
        let (here, behind) = from.split_at(from.len().min(W));
        let mut word = [0; 8];
        word[..here.len()].copy_from_slice(here);
        let eight = spread::<W>(u64::from_le_bytes(word)).to_le_bytes();
        to.iter_mut().zip(eight).for_each(|(to, byte)| *to = T::of(u64::from(byte)));
        from = behind;
    }
}

/// Eight numbers of `W` bits, 1 to 8, moved into a byte each: the upper half of them goes up, then of each half, and of
/// each quarter.
#[inline(always)]
const fn spread<const W: usize>(packed: u64) -> u64 {
    const HALVES: u64 = 0x1_0000_0001;
    const QUARTERS: u64 = 0x1_0001_0001_0001;
    let x = (packed & low(4 * W)) | ((packed & (low(4 * W) << (4 * W))) << (32 - 4 * W));
    let (keep, lift) = (HALVES * low(2 * W), HALVES * (low(2 * W) << (2 * W)));
    let x = (x & keep) | ((x & lift) << (16 - 2 * W));
    let (keep, lift) = (QUARTERS * low(W), QUARTERS * (low(W) << W));
    (x & keep) | ((x & lift) << (8 - W))
}

/// Widths from 9: eight numbers take `W` bytes.
fn wide<T: Lane, const W: usize>(bytes: &[u8], out: &mut [T]) {
    let (groups, rest) = out.as_chunks_mut::<8>();
    let mut from = bytes;
    for to in groups {
        let Some((eight, behind)) = from.split_first_chunk() else { return };
        *to = numbers::<T, W>(eight);
        from = behind;
    }
    if !rest.is_empty() {
        let mut eight = [0; W];
        let len = from.len().min(W);
        eight[..len].copy_from_slice(&from[..len]);
        rest.copy_from_slice(&numbers::<T, W>(&eight)[..rest.len()]);
    }
}

#[inline(always)]
fn numbers<T: Lane, const W: usize>(bytes: &[u8; W]) -> [T; 8] {
    [
        T::of(number::<W, 0>(bytes)),
        T::of(number::<W, 1>(bytes)),
        T::of(number::<W, 2>(bytes)),
        T::of(number::<W, 3>(bytes)),
        T::of(number::<W, 4>(bytes)),
        T::of(number::<W, 5>(bytes)),
        T::of(number::<W, 6>(bytes)),
        T::of(number::<W, 7>(bytes)),
    ]
}

/// Number `J` of eight. The load is moved to the front where it would reach past the end; a number that still needs a
/// ninth byte has one, because it does not end with the group.
#[inline(always)]
fn number<const W: usize, const J: usize>(bytes: &[u8; W]) -> u64 {
    let at = if J * W / 8 < W - 8 { J * W / 8 } else { W - 8 };
    let shift = J * W - at * 8;
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    let mut number = u64::from_le_bytes(word) >> shift;
    if shift + W > 64 {
        number |= u64::from(bytes[at + 8]) << (64 - shift);
    }
    number & low(W)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packs bit by bit.
    pub(in crate::block) fn pack(values: &[u64], width: u32) -> Vec<u8> {
        let mut bytes = vec![0; (values.len() * width as usize).div_ceil(8)];
        for (at, value) in values.iter().enumerate() {
            for bit in 0..width as usize {
                let to = at * width as usize + bit;
                bytes[to / 8] |= u8::from((value >> bit) & 1 == 1) << (to % 8);
            }
        }
        bytes
    }

    fn check<T: Lane + PartialEq + std::fmt::Debug>(values: &[u64], width: u32, behind: usize) {
        let values: Vec<u64> = values.iter().map(|v| v & low(width as usize)).collect();
        let mut bytes = pack(&values, width);
        let exact = bytes.len();
        bytes.resize(exact + behind, 0xa5);
        let due: Vec<T> = values.iter().map(|v| T::of(*v)).collect();
        let mut out = vec![T::default(); values.len()];
        unpack(&bytes, width, &mut out).unwrap();
        assert_eq!(out, due, "{width} bits, {} numbers, {behind} bytes behind", values.len());
        if exact > 0 {
            assert!(unpack(&bytes[..exact - 1], width, &mut out).is_err());
        }
        if width <= 32 {
            (0..values.len()).for_each(|at| assert_eq!(u64::from(number_at(&bytes, width, at)), values[at]));
        }
    }

    #[test]
    fn every_width_and_count_gives_back_what_was_packed() {
        let mut state = 1u64;
        let noise: Vec<u64> = (0..1000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state ^ (state >> 29)
            })
            .collect();
        for width in 1..=64 {
            for count in [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000] {
                for behind in [0, 1, 7, 8, 20] {
                    check::<u64>(&noise[..count], width, behind);
                    if width <= 32 {
                        check::<i32>(&noise[..count], width, behind);
                    }
                    if width <= 8 {
                        check::<u8>(&noise[..count], width, behind);
                    }
                }
            }
        }
    }

    #[test]
    fn widths_that_do_not_fit_are_errors() {
        assert!(unpack(&[0; 100], 9, &mut [0u8; 4]).is_err());
        assert!(unpack(&[0; 100], 33, &mut [0i32; 4]).is_err());
        assert!(unpack(&[0; 100], 65, &mut [0u64; 4]).is_err());
        let mut out = [7u64; 3];
        unpack(&[], 0, &mut out).unwrap();
        assert_eq!(out, [0; 3]);
    }

    proptest! {
        #[test]
        fn unpack_gives_back_what_was_packed(width in 1u32..=64, values in prop::collection::vec(any::<u64>(), 0..90), behind in 0usize..9) {
            check::<u64>(&values, width, behind);
        }
    }
}
