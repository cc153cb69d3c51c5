//! Values of few things, of a leaf that a thing has at most one of: pages without any of them are passed over.

use arrow::{
    array::{BooleanBufferBuilder, UInt32Array},
    buffer::BooleanBuffer,
};

use super::{
    leaf::LeafPages,
    owners::Presence,
    pages::Page,
    rows::Rows,
    values::{Decoder, Dense},
};
use crate::error::{Error, Result};

impl Rows {
    /// What [`optional`](Self::optional) gives, for the things at these positions (ascending) only; `None` if it takes the whole
    /// leaf to tell.
    pub fn optional_at(&mut self, path: &str, things: &UInt32Array) -> Result<Option<(Dense, Option<BooleanBuffer>)>> {
        let due = self.owner_count(path)?;
        if !self.is_undecoded(path) {
            return Ok(None);
        }
        self.with_pages(path, |pages| pages.decode_optional_at(things.values(), due))
    }
}

impl LeafPages<'_> {
    pub(super) fn decode_optional_at(&self, positions: &[u32], due: usize) -> Result<Option<(Dense, Option<BooleanBuffer>)>> {
        if positions.last().is_some_and(|last| *last as usize >= due) {
            return Err(Error::internal("a value is picked that a leaf does not have"));
        }
        // Each thing has an entry at least. As many entries as things: no thing has more, and none stands for an empty list.
        if self.row.is_some() || self.some.is_some() || self.entries != due {
            return Ok(None);
        }
        let mut decoder = Decoder::new(self.column.physical, self.column.text)?;
        let mut present = BooleanBufferBuilder::new(positions.len());
        let (mut pages, mut start, mut left, mut picks) = (self.pages(), 0, positions, Vec::new());
        while let Some(next) = left.first().map(|p| *p as usize) {
            let page = pages.next_wanted(|entries| {
                let wanted = next < start + entries;
                start += if wanted { 0 } else { entries };
                wanted
            })?;
            let page = match page {
                Some(Page::Dictionary(page)) => {
                    decoder.dictionary(&page)?;
                    continue;
                }
                Some(Page::Data(page)) => page,
                None => return Err(Error::data(format!("the column chunk ends {} entries early", pages.entries_left()))),
            };
            let mut here = Presence::new(self.column, self.column.depth, page.entries);
            let values = here.page(&page)?;
            if page.nulls.is_some_and(|nulls| page.entries - nulls != values) {
                return Err(Error::data("levels and values do not fit together"));
            }
            if here.things() != page.entries {
                return Ok(None);
            }
            let (wanted, behind) = left.split_at(left.partition_point(|p| (*p as usize) < start + page.entries));
            let places = wanted.iter().map(|p| *p as usize - start);
            picks.clear();
            match here.finish() {
                None => {
                    picks.extend(places.map(|p| p as u32));
                    present.append_n(wanted.len(), true);
                }
                Some(bits) => {
                    let (mut counted, mut rank) = (0, 0);
                    for place in places {
                        rank += bits.slice(counted, place - counted).count_set_bits();
                        counted = place;
                        present.append(bits.value(place));
                        if bits.value(place) {
                            picks.push(rank as u32);
                        }
                    }
                }
            }
            decoder.page_at(&page, values, &picks)?;
            (start, left) = (start + page.entries, behind);
        }
        let present = present.finish();
        let all = present.count_set_bits() == present.len();
        Ok(Some((decoder.finish()?, (!all).then_some(present))))
    }
}
