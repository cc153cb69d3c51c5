//! The generic attributes with a key, and their values: keys are compared as codes, eight at a time; values are decoded only
//! where the key is the one looked for, in pages that have such an attribute.
//!
//! All leaves of attributes have the same entries, but for the further elements of arrays, which follow the first. So the
//! number of an entry among the keys says where its value is, whatever it belongs to. Where a leaf is not of this simple form
//! (many different keys, keys without a dictionary, empty lists above) the caller decodes it as any other: see `attributes.rs`.

use arrow::array::StringArray;

use super::{
    dictionary::codes_of,
    leaf::LeafPages,
    level_bits::{BitBuilder, Bits, append_max},
    levels::decode_small_codes,
    pages::{DataPage, Page},
    thrift::Encoding,
    values::{Decoder, Dense},
};
use crate::{
    error::{Error, Result},
    scan::gather,
};

fn misfit() -> Error {
    Error::data("levels and values do not fit together")
}

/// The keys of all generic attributes of a scope in a row group.
#[derive(Debug)]
pub(super) struct Keys {
    /// The code of each attribute's key.
    codes: Vec<u8>,
    dictionary: StringArray,
    /// Entries that are attributes; the others stand for things without any.
    present: Bits,
    /// Entries that are the first of what they belong to.
    first: Bits,
}

/// Attributes with a key, in stored order, no two of one owner.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// The entry of each among the keys.
    pub entries: Vec<u32>,
    /// What each belongs to.
    pub owners: Vec<u32>,
}

impl Keys {
    /// Decodes the keys of `owners` things; `None` if the leaf is not of the simple form.
    pub fn decode(pages: &LeafPages<'_>, owners: usize) -> Result<Option<Self>> {
        let column = pages.column;
        let mut decoder = Decoder::new(column.physical, column.text)?;
        let (mut going_on, mut present) = (BitBuilder::default(), BitBuilder::default());
        let mut codes = Vec::new();
        let mut limit = None;
        let mut left = pages.pages();
        while let Some(page) = left.next_page()? {
            match page {
                Page::Dictionary(_) if limit.is_some() => return Err(Error::data("a second dictionary")),
                Page::Dictionary(page) if page.values <= usize::from(u8::MAX) + 1 => {
                    decoder.dictionary(&page)?;
                    limit = Some(page.values);
                }
                Page::Dictionary(_) => return Ok(None),
                Page::Data(page) => {
                    append_max(&page.reps, column.max_rep, page.entries, &mut going_on)?;
                    let count = values_of(&page, append_max(&page.defs, column.max_def, page.entries, &mut present)?)?;
                    match limit {
                        _ if count == 0 => {}
                        Some(limit) if page.encoding == Encoding::Dictionary => {
                            decode_small_codes(&page.values, limit, count, &mut codes)?;
                        }
                        _ => return Ok(None),
                    }
                }
            }
        }
        if left.entries_left() != 0 {
            return Err(Error::data(format!("the column chunk ends {} entries early", left.entries_left())));
        }
        let first = going_on.finish().inverted();
        if first.ones() != owners {
            return Ok(None); // entries that stand for empty lists further up, or damage: the levels tell
        }
        let present = present.finish();
        // What goes on with a list is an attribute, and something has begun before it.
        let begun = first.len() == 0 || first.get(0);
        let both = first.words().iter().zip(present.words()).enumerate();
        if !begun || both.into_iter().any(|(word, (first_of, present))| (first_of | present) != first.inside(word)) {
            return Err(misfit());
        }
        let Dense::Text(text) = decoder.finish()? else { return Err(Error::internal("keys that are not text")) };
        Ok(Some(Self { codes, dictionary: text.values, present, first }))
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.present.len()
    }

    /// The attributes with this key whose owner is not `taken` (no owner is if there is no entry for it). Of a repeated key the
    /// last counts.
    pub fn hits(&self, key: &str, taken: &[bool]) -> Hits {
        let wanted = codes_of(&self.dictionary, key);
        let mut hits = Hits::default();
        let any_taken = taken.contains(&true);
        let mut codes = &self.codes[..];
        for (word, present) in self.present.words().iter().enumerate() {
            let (here, behind) = codes.split_at(present.count_ones() as usize);
            codes = behind;
            let found = wanted.iter().fold(0, |found, code| found | equal(here, *code as u8));
            if found == 0 {
                continue;
            }
            let mut found = deposited(found, *present);
            let (first, before) = (self.first.words()[word], self.first.before_word(word));
            while found != 0 {
                let bit = found.trailing_zeros();
                found &= found - 1;
                let owner = before + (first & (u64::MAX >> (63 - bit))).count_ones() - 1;
                if any_taken && taken[owner as usize] {
                    continue;
                }
                if hits.owners.last() == Some(&owner) {
                    hits.entries.pop();
                    hits.owners.pop();
                }
                hits.entries.push(64 * word as u32 + bit);
                hits.owners.push(owner);
            }
        }
        hits
    }
}

/// The number of values of a page by its levels, if its header says the same.
fn values_of(page: &DataPage, by_levels: usize) -> Result<usize> {
    if page.nulls.is_some_and(|nulls| page.entries - nulls != by_levels) { Err(misfit()) } else { Ok(by_levels) }
}

/// A bit for each of at most 64 codes: whether it is `code`.
fn equal(codes: &[u8], code: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let wanted = u64::from(code) * ONES;
    let (eights, last) = codes.as_chunks::<8>();
    let mut found = 0;
    for (at, eight) in eights.iter().enumerate() {
        // Bytes that are equal become 0; only those leave their highest bit unset in all three.
        let differs = u64::from_le_bytes(*eight) ^ wanted;
        let same = !(((differs & LOW) + LOW) | differs | LOW);
        found |= u64::from(gather(same >> 7)) << (8 * at);
    }
    for (at, other) in last.iter().enumerate() {
        found |= u64::from(*other == code) << (8 * eights.len() + at);
    }
    found
}

/// Bits moved to the places that are set in `mask`, in order.
fn deposited(mut bits: u64, mask: u64) -> u64 {
    let mut gaps = !mask;
    while gaps != 0 {
        let low = (1u64 << gaps.trailing_zeros()) - 1;
        bits = (bits & low) | ((bits & !low) << 1);
        gaps &= gaps - 1;
    }
    bits
}

/// The place of set bit number `n` of a mask that has more than `n`.
fn place_of(n: u32, mask: u64) -> u32 {
    let (mut place, mut gaps) = (n, !mask);
    while gaps != 0 && gaps.trailing_zeros() <= place {
        place += 1;
        gaps &= gaps - 1;
    }
    place
}

/// Values that some attributes have in one leaf.
#[derive(Debug)]
pub(super) struct Picked {
    pub values: Dense,
    /// For each value, the number of its attribute among those asked for; ascending, and repeated for an array.
    pub of: Vec<u32>,
}

/// The values, in a leaf of attribute values, of the attributes at `wanted` (ascending) among the `entries` of their keys.
pub(super) fn pick(pages: &LeafPages<'_>, entries: usize, wanted: &[u32]) -> Result<Picked> {
    if pages.entries < entries || wanted.last().is_some_and(|last| *last as usize >= entries) {
        return Err(misfit());
    }
    let arrays = pages.entries > entries;
    if arrays && pages.column.max_rep != pages.column.depth + 1 {
        return Err(misfit());
    }
    let mut picker = Picker { pages, wanted, next: 0, start: 0, of: Vec::new(), picks: Vec::new() };
    let mut decoder = Decoder::new(pages.column.physical, pages.column.text)?;
    let mut left = pages.pages();
    while picker.is_open(arrays) {
        let page = left.next_wanted(|entries| arrays || picker.wants(entries))?;
        match page {
            Some(Page::Dictionary(page)) => decoder.dictionary(&page)?,
            Some(Page::Data(page)) => {
                picker.picks.clear();
                let values = if arrays { picker.with_arrays(&page)? } else { picker.without_arrays(&page)? };
                match picker.picks.len() == values {
                    true => decoder.page(&page, values)?,
                    false => decoder.page_at(&page, values, &picker.picks)?,
                }
            }
            None if picker.next < wanted.len() => {
                return Err(Error::data(format!("the column chunk ends {} entries early", left.entries_left())));
            }
            None => break,
        }
    }
    let (values, of) = (decoder.finish()?, picker.of);
    if values.len() == of.len() { Ok(Picked { values, of }) } else { Err(misfit()) }
}

/// The state of a walk through the pages of a leaf of values.
struct Picker<'a> {
    pages: &'a LeafPages<'a>,
    wanted: &'a [u32],
    /// How many of the wanted attributes were passed.
    next: usize,
    /// How many attributes, and entries without any, were passed.
    start: usize,
    of: Vec<u32>,
    /// Places, among a page's values, of those that are wanted.
    picks: Vec<u32>,
}

impl Picker<'_> {
    /// Whether more can be found.
    fn is_open(&self, arrays: bool) -> bool {
        let last_goes_on = || self.next > 0 && self.wanted[self.next - 1] as usize + 1 == self.start;
        self.next < self.wanted.len() || arrays && last_goes_on()
    }

    /// Whether a page of so many entries has a wanted one; it counts as passed if not.
    fn wants(&mut self, entries: usize) -> bool {
        let wants = self.wanted.get(self.next).is_some_and(|entry| (*entry as usize) < self.start + entries);
        self.start += if wants { 0 } else { entries };
        wants
    }

    /// The wanted attributes among the next `entries`, which are passed, and the number of the first of them.
    fn take(&mut self, entries: usize) -> (&[u32], usize) {
        let (first, end) = (self.next, self.start + entries);
        let here = self.wanted[first..].partition_point(|entry| (*entry as usize) < end);
        (self.next, self.start) = (first + here, end);
        (&self.wanted[first..first + here], first)
    }

    /// A page of a leaf in which no attribute has more than one value. Gives the number of its values.
    fn without_arrays(&mut self, page: &DataPage) -> Result<usize> {
        let mut present = BitBuilder::default();
        let values = values_of(page, append_max(&page.defs, self.pages.column.max_def, page.entries, &mut present)?)?;
        let (present, start) = (present.finish(), self.start as u32);
        let (mut of, mut picks) = (std::mem::take(&mut self.of), std::mem::take(&mut self.picks));
        let (here, first) = self.take(page.entries);
        if values == page.entries {
            of.extend(first as u32..(first + here.len()) as u32);
            picks.extend(here.iter().map(|entry| entry - start));
        } else if values > 0 {
            for (number, entry) in (first as u32..).zip(here) {
                let at = (entry - start) as usize;
                if present.get(at) {
                    of.push(number);
                    picks.push(present.rank(at));
                }
            }
        }
        (self.of, self.picks) = (of, picks);
        Ok(values)
    }

    /// The same where some attributes may have more values.
    fn with_arrays(&mut self, page: &DataPage) -> Result<usize> {
        let column = self.pages.column;
        let mut going_on = BitBuilder::default();
        if append_max(&page.reps, column.max_rep, page.entries, &mut going_on)? == 0 {
            return self.without_arrays(page);
        }
        let mut present = BitBuilder::default();
        let values = values_of(page, append_max(&page.defs, column.max_def, page.entries, &mut present)?)?;
        let (going_on, present) = (going_on.finish(), present.finish());
        // What goes on is a value.
        if going_on.words().iter().zip(present.words()).any(|(g, p)| g & !p != 0) {
            return Err(misfit());
        }
        let further = |from: usize| (from..).take_while(|at| going_on.get(*at)).count() as u32;
        if going_on.get(0) {
            // An array that the page before began.
            let Some(last) = self.start.checked_sub(1) else { return Err(misfit()) };
            if self.next > 0 && self.wanted[self.next - 1] as usize == last {
                if self.of.last().copied() != Some(self.next as u32 - 1) {
                    return Err(misfit());
                }
                self.of.extend(std::iter::repeat_n(self.next as u32 - 1, further(0) as usize));
                self.picks.extend(0..further(0));
            }
        }
        for (word, going) in going_on.words().iter().enumerate() {
            let begins = !going & going_on.inside(word);
            let (start, end) = (self.start, self.start + begins.count_ones() as usize);
            self.start = end;
            while let Some(entry) = self.wanted.get(self.next).filter(|entry| (**entry as usize) < end) {
                let at = 64 * word + place_of((*entry as usize - start) as u32, begins) as usize;
                if present.get(at) {
                    let from = present.rank(at);
                    self.of.push(self.next as u32);
                    self.picks.push(from);
                    if going_on.get(at + 1) {
                        let more = further(at + 1);
                        self.of.extend(std::iter::repeat_n(self.next as u32, more as usize));
                        self.picks.extend(from + 1..from + 1 + more);
                    }
                }
                self.next += 1;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_searched_as_bit_by_bit(
            codes in prop::collection::vec(prop_oneof![Just(3u8), Just(131), any::<u8>()], 0..=64),
            code in prop_oneof![Just(3u8), Just(131)],
            mask in any::<u64>(),
        ) {
            let found = equal(&codes, code);
            prop_assert!((0..64).all(|at| (found >> at & 1 == 1) == (codes.get(at) == Some(&code))));
            let places: Vec<u32> = (0..64).filter(|at| mask >> at & 1 == 1).collect();
            let due = places.iter().enumerate().fold(0, |due, (n, place)| due | (found >> n & 1) << place);
            prop_assert_eq!(deposited(found & ((1u128 << places.len()) - 1) as u64, mask), due);
            prop_assert!(places.iter().enumerate().all(|(n, place)| place_of(n as u32, mask) == *place));
        }
    }
}
