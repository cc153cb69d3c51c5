//! Whole numbers that are stored as codes of a dictionary, left as codes: what filters and groups work on.

use arrow::{
    array::UInt32Array,
    buffer::{BooleanBuffer, ScalarBuffer},
};
use parquet::basic::Type;

use super::{
    leaf::LeafPages,
    levels::{decode_codes, decode_codes_at},
    owners::Presence,
    pages::{DictionaryPage, Page},
    rows::Rows,
    thrift::Encoding,
    values::keep,
};
use crate::error::{Error, Result};

/// Single codes are looked up if they are fewer than one in this many of a page, and all are unpacked otherwise.
const LOOKED_UP_OF: usize = 8;

/// Numbers in codes.
#[derive(Debug)]
pub(super) struct NumberCodes {
    /// The numbers that occur, and perhaps some that do not.
    pub numbers: Vec<i64>,
    /// The code of each thing: a position in `numbers`.
    pub codes: ScalarBuffer<u32>,
}

/// Codes that were checked not to be negative, as they are.
pub(super) fn unsigned(codes: ScalarBuffer<i32>) -> ScalarBuffer<u32> {
    codes.into_inner().into()
}

impl Rows {
    /// The numbers of a leaf that each thing has exactly one of, or of the things `at` these positions (ascending). `None` if
    /// they are not stored as codes, or are decoded already.
    pub fn number_codes(&mut self, path: &str, at: Option<&UInt32Array>) -> Result<Option<NumberCodes>> {
        let due = self.owner_count(path)?;
        if !self.is_stored_as_codes(path)? {
            return Ok(None);
        }
        self.with_pages(path, |pages| pages.number_codes(due, at.map(|at| &at.values()[..])))
    }

    /// The numbers of a leaf that each thing has at most one of, a code for each that is there, and which things have one (`None`:
    /// all). `None` if they are not stored as codes or are decoded already, or if some thing has more.
    pub fn optional_number_codes(&mut self, path: &str) -> Result<Option<(NumberCodes, Option<BooleanBuffer>)>> {
        let due = self.owner_count(path)?;
        if self.chunk(path)?.0.text || !self.is_stored_as_codes(path)? {
            return Ok(None);
        }
        self.with_pages(path, |pages| pages.optional_number_codes(due))
    }
}

impl LeafPages<'_> {
    fn optional_number_codes(&self, due: usize) -> Result<Option<(NumberCodes, Option<BooleanBuffer>)>> {
        if self.row.is_some() || self.some.is_some() {
            return Ok(None);
        }
        let mut presence = Presence::new(self.column, self.column.depth, due.min(self.entries));
        let (mut numbers, mut codes): (Option<Vec<i64>>, Vec<i32>) = (None, Vec::new());
        let mut pages = self.pages();
        while let Some(page) = pages.next_page()? {
            let page = match page {
                Page::Dictionary(page) => {
                    let Some(known) = numbers_of(&page, self.column.physical)? else { return Ok(None) };
                    numbers = Some(known);
                    continue;
                }
                Page::Data(page) => page,
            };
            let values = presence.page(&page)?;
            if page.nulls.is_some_and(|nulls| page.entries - nulls != values) {
                return Err(Error::data("levels and values do not fit together"));
            }
            if values > 0 {
                let (Some(numbers), Encoding::Dictionary) = (&numbers, page.encoding) else { return Ok(None) };
                decode_codes(&page.values, numbers.len(), values, &mut codes)?;
            }
        }
        if pages.entries_left() != 0 {
            return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left())));
        }
        let codes = NumberCodes { numbers: numbers.unwrap_or_default(), codes: unsigned(codes.into()) };
        Ok(self.present(presence, due)?.map(|present| (codes, present)))
    }

    pub(super) fn number_codes(&self, due: usize, at: Option<&[u32]>) -> Result<Option<NumberCodes>> {
        // Where entries stand for empty lists only the levels can tell where the values are.
        if self.row.is_some() || self.some.is_some() || self.entries != due || !self.column.is_required() {
            return Ok(None);
        }
        if at.and_then(|at| at.last()).is_some_and(|last| *last as usize >= due) {
            return Err(Error::internal("a number is picked that a leaf does not have"));
        }
        let (mut numbers, mut codes): (Option<Vec<i64>>, Vec<i32>) = (None, Vec::with_capacity(at.map_or(due, <[u32]>::len)));
        let (mut pages, mut start, mut left, mut picks) = (self.pages(), 0, at.unwrap_or_default(), Vec::new());
        while at.is_none() || !left.is_empty() {
            let page = pages.next_wanted(|entries| {
                let wanted = at.is_none() || left.first().is_some_and(|p| (*p as usize) < start + entries);
                start += if wanted { 0 } else { entries };
                wanted
            })?;
            let page = match page {
                Some(Page::Dictionary(page)) => {
                    let Some(known) = numbers_of(&page, self.column.physical)? else { return Ok(None) };
                    numbers = Some(known);
                    continue;
                }
                Some(Page::Data(page)) => page,
                None => break,
            };
            let (Some(numbers), Encoding::Dictionary) = (&numbers, page.encoding) else { return Ok(None) };
            if self.count_values(&page)? != page.entries {
                return Err(Error::data("levels and values do not fit together"));
            }
            let (entries, before) = (page.entries, codes.len());
            let (here, behind) = left.split_at(left.partition_point(|p| (*p as usize) < start + entries));
            picks.clear();
            picks.extend(here.iter().map(|p| p - start as u32));
            (start, left) = (start + entries, behind);
            if at.is_some() && picks.len() < entries / LOOKED_UP_OF {
                decode_codes_at(&page.values, numbers.len(), entries, &picks, &mut codes)?;
                continue;
            }
            decode_codes(&page.values, numbers.len(), entries, &mut codes)?;
            if at.is_some() {
                keep(&mut codes, before, &picks);
            }
        }
        if codes.len() != at.map_or(due, <[u32]>::len) {
            return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left())));
        }
        Ok(Some(NumberCodes { numbers: numbers.unwrap_or_default(), codes: unsigned(codes.into()) }))
    }
}

/// The entries of a dictionary of whole numbers; `None` for another type.
fn numbers_of(page: &DictionaryPage, physical: Type) -> Result<Option<Vec<i64>>> {
    let cut_off = || Error::data("the values of a page are cut off");
    let bytes = |width: usize| page.bytes.get(..page.values.saturating_mul(width)).ok_or_else(cut_off);
    Ok(match physical {
        Type::INT32 => Some(bytes(4)?.as_chunks().0.iter().map(|raw| i64::from(i32::from_le_bytes(*raw))).collect()),
        Type::INT64 => Some(bytes(8)?.as_chunks().0.iter().map(|raw| i64::from_le_bytes(*raw)).collect()),
        _ => None,
    })
}
