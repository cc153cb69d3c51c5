//! Codes of spans, as short as they can be: a byte each where there are no more than 256 values.

use arrow::buffer::{BooleanBuffer, ScalarBuffer};

/// A code for each span, or for each group of spans.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // their widths
pub enum Codes {
    Bytes(ScalarBuffer<u8>),
    Shorts(ScalarBuffer<u16>),
    Words(ScalarBuffer<u32>),
}

impl From<ScalarBuffer<u32>> for Codes {
    fn from(codes: ScalarBuffer<u32>) -> Self {
        Self::Words(codes)
    }
}

impl From<Vec<u32>> for Codes {
    fn from(codes: Vec<u32>) -> Self {
        Self::Words(codes.into())
    }
}

impl Codes {
    /// Codes below `count`, in as few bytes as that takes.
    pub fn packed(codes: ScalarBuffer<u32>, count: usize) -> Self {
        match count {
            0..=0x100 => Self::Bytes(codes.iter().map(|code| *code as u8).collect()),
            0x101..=0x1_0000 => Self::Shorts(codes.iter().map(|code| *code as u16).collect()),
            _ => Self::Words(codes),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(codes) => codes.len(),
            Self::Shorts(codes) => codes.len(),
            Self::Words(codes) => codes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their size in memory in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(codes) => codes.len(),
            Self::Shorts(codes) => codes.len() * size_of::<u16>(),
            Self::Words(codes) => codes.len() * size_of::<u32>(),
        }
    }

    /// All of them.
    pub fn words(&self) -> ScalarBuffer<u32> {
        match self {
            Self::Bytes(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Self::Shorts(codes) => codes.iter().map(|code| u32::from(*code)).collect(),
            Self::Words(codes) => codes.clone(),
        }
    }

    /// Those at these places.
    pub fn at(&self, places: &[u32]) -> ScalarBuffer<u32> {
        let places = places.iter().map(|place| *place as usize);
        match self {
            Self::Bytes(codes) => places.map(|place| u32::from(codes[place])).collect(),
            Self::Shorts(codes) => places.map(|place| u32::from(codes[place])).collect(),
            Self::Words(codes) => places.map(|place| codes[place]).collect(),
        }
    }

    /// A bit for each: whether `yes` has true at its place.
    pub fn bits_where(&self, yes: &[bool]) -> BooleanBuffer {
        match self {
            Self::Bytes(codes) => bits_where(codes, yes),
            Self::Shorts(codes) => bits_where(codes, yes),
            Self::Words(codes) => bits_where(codes, yes),
        }
    }
}

/// The lowest bits of the bytes as one byte: each factor's bit moves one of them to its place in the highest byte.
#[inline(always)]
pub(crate) fn gather(bytes: u64) -> u8 {
    (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// A number that stands for a value.
trait Code: Copy + PartialEq {
    fn of(place: usize) -> Self;
    fn place(self) -> usize;
}

macro_rules! codes {
    ($($number:ty),*) => {$(
        impl Code for $number {
            fn of(place: usize) -> Self {
                place as Self
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    )*};
}
codes!(u8, u16, u32);

fn bits_where<T: Code>(codes: &[T], yes: &[bool]) -> BooleanBuffer {
    let mut chosen = yes.iter().enumerate().filter(|(_, yes)| **yes).map(|(place, _)| T::of(place));
    // A few are compared with, vectors at a time.
    match [chosen.next(), chosen.next(), chosen.next(), chosen.next(), chosen.next()] {
        [Some(one), None, ..] => bits_by(codes, |code| code == one),
        [Some(one), Some(two), None, ..] => bits_by(codes, |code| (code == one) | (code == two)),
        [Some(one), Some(two), Some(three), four, None] => {
            let four = four.unwrap_or(three);
            bits_by(codes, |code| (code == one) | (code == two) | (code == three) | (code == four))
        }
        _ => bits_by(codes, |code| yes[code.place()]),
    }
}

/// A bit for each code, 64 at a time: in bytes first, which are compared together.
#[inline(always)]
fn bits_by<T: Copy>(codes: &[T], chosen: impl Fn(T) -> bool) -> BooleanBuffer {
    const AT_ONCE: usize = 64;
    let mut bytes: Vec<u8> = Vec::with_capacity(codes.len().div_ceil(8));
    let (whole, rest) = codes.as_chunks::<AT_ONCE>();
    let mut verdicts = [0u8; AT_ONCE];
    for codes in whole {
        for (verdict, code) in verdicts.iter_mut().zip(codes) {
            *verdict = chosen(*code).into();
        }
        let (eights, _) = verdicts.as_chunks::<8>();
        bytes.extend(eights.iter().map(|eight| gather(u64::from_le_bytes(*eight))));
    }
    for codes in rest.chunks(8) {
        bytes.push(codes.iter().enumerate().map(|(at, code)| u8::from(chosen(*code)) << at).sum());
    }
    BooleanBuffer::new(bytes.into(), 0, codes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_whatever_their_width() {
        for count in [1, 256, 257, 65_536, 65_537] {
            let codes: ScalarBuffer<u32> = (0..count).rev().collect();
            let packed = Codes::packed(codes.clone(), count as usize);
            assert_eq!((packed.words(), packed.len()), (codes, count as usize));
            assert_eq!(packed.at(&[0, count - 1])[..], [count - 1, 0], "{count}");
        }
        let size = |count: u32| Codes::packed((0..1000).map(|i| i % count).collect(), count as usize).size();
        assert_eq!([256, 257, 65_537].map(size), [1000, 2000, 4000]);
    }

    #[test]
    fn codes_are_chosen_one_by_one() {
        let codes: Vec<u32> = (0..211).map(|i| i * i % 7).collect();
        for chosen in [&[2][..], &[1, 4], &[1, 2, 6], &[0, 1, 2, 4], &[0, 1, 2, 4, 5], &[]] {
            let due: Vec<bool> = codes.iter().map(|code| chosen.contains(code)).collect();
            for count in [7, 300, 70_000] {
                let yes: Vec<bool> = (0..count).map(|code| chosen.contains(&code)).collect();
                let packed = Codes::packed(codes.clone().into(), count as usize);
                assert_eq!(packed.bits_where(&yes).iter().collect::<Vec<_>>(), due, "{chosen:?} of {count}");
            }
        }
    }
}
