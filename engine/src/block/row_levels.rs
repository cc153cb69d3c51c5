//! The levels of one row, found among those of its pages without decoding the others: runs are passed over whole, and of
//! bit-packed levels only the zeros are counted, which begin rows.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    bits::{holds, unpack},
    levels::{COUNTED_AT_ONCE, Hybrid, Run, cut_off, width_of},
};
use crate::error::{Error, Result};

/// Searches that are remembered for one row: there are about so many different lists in a trace.
const REMEMBERED_MAX: usize = 64;

/// Where the search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many rows begin before the wanted one.
    Before(usize),
    Within,
    Behind,
}

/// Looks for the entries of a row in page after page.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowSearch {
    state: State,
    first: bool,
}

impl RowSearch {
    /// A search for row number `row`, counted from the first page that is looked at.
    pub fn new(row: usize) -> Self {
        Self { state: State::Before(row), first: true }
    }

    /// Whether the row has begun.
    pub fn is_found(&self) -> bool {
        !matches!(self.state, State::Before(_))
    }

    /// Whether pages that follow hold none of the row.
    pub fn is_done(&self) -> bool {
        self.state == State::Behind
    }

    /// Takes the repetition levels of a page with `entries`, and says which of the entries are of the row.
    pub fn page(&mut self, reps: &[u8], max_rep: u32, entries: usize) -> Result<Range<usize>> {
        if max_rep == 0 {
            return Ok(self.zeros(0, entries).map_or(0..0, |start| start..start + 1));
        }
        let width = width_of(max_rep);
        if width > u8::BITS {
            return Err(Error::data(format!("levels of {width} bits")));
        }
        let mut runs = Hybrid::new(reps, width, entries)?;
        let (mut at, mut start) = (0, (self.state == State::Within).then_some(0));
        while self.state != State::Behind
            && let Some(run) = runs.next_run()?
        {
            let begin = match run {
                Run::Repeat { value, .. } if value > max_rep => {
                    return Err(Error::data(format!("a level is over the maximum of {max_rep}")));
                }
                Run::Repeat { value: 0, count } => {
                    let begin = self.zeros(at, count);
                    // A row of which more is to come ends where the next one begins.
                    let end = begin.map_or(at, |begin| begin + 1);
                    at += count;
                    if self.state == State::Behind {
                        return Ok(begin.or(start).unwrap_or(end)..end);
                    }
                    begin
                }
                Run::Repeat { count, .. } => {
                    self.check_first()?;
                    at += count;
                    None
                }
                Run::Packed { bytes, count } => match self.packed(bytes, width, at, count)? {
                    (begin, Some(end)) => return Ok(begin.or(start).unwrap_or(end)..end),
                    (begin, None) => {
                        at += count;
                        begin
                    }
                },
            };
            start = start.or(begin);
        }
        Ok(start.map_or(0..0, |start| start..entries))
    }

    /// A page that starts within a row cannot be counted from.
    fn check_first(&mut self) -> Result<()> {
        if std::mem::take(&mut self.first) {
            Err(Error::data("a page that the offset index points to starts within a row"))
        } else {
            Ok(())
        }
    }

    /// Takes `count` rows that begin one behind the other from `at` on, and says where the wanted one begins.
    fn zeros(&mut self, at: usize, count: usize) -> Option<usize> {
        self.first = false;
        match self.state {
            State::Before(rows) if rows < count => {
                self.state = if rows + 1 < count { State::Behind } else { State::Within };
                Some(at + rows)
            }
            State::Before(rows) => {
                self.state = State::Before(rows - count);
                None
            }
            State::Within if count > 0 => {
                self.state = State::Behind;
                None
            }
            _ => None,
        }
    }

    /// Takes bit-packed levels from entry `at` on, and says where the row begins and ends among them.
    fn packed(&mut self, bytes: &[u8], width: u32, at: usize, count: usize) -> Result<(Option<usize>, Option<usize>)> {
        if !holds(bytes, width, count) {
            return Err(cut_off());
        }
        let (mut begin, mut levels) = (None, [0u8; COUNTED_AT_ONCE]);
        for start in (0..count).step_by(COUNTED_AT_ONCE) {
            let levels = &mut levels[..COUNTED_AT_ONCE.min(count - start)];
            unpack(&bytes[start / 8 * width as usize..], width, levels)?;
            if levels[0] != 0 {
                self.check_first()?;
            }
            self.first = false;
            if let State::Before(rows) = self.state {
                let zeros = usize::from(levels.iter().fold(0u8, |n, level| n.wrapping_add(u8::from(*level == 0))));
                if zeros <= rows {
                    self.state = State::Before(rows - zeros);
                    continue;
                }
            }
            for zero in levels.iter().enumerate().filter(|(_, level)| **level == 0).map(|(i, _)| at + start + i) {
                match self.state {
                    State::Before(0) => (self.state, begin) = (State::Within, Some(zero)),
                    State::Before(rows) => self.state = State::Before(rows - 1),
                    State::Within | State::Behind => {
                        self.state = State::Behind;
                        return Ok((begin, Some(zero)));
                    }
                }
            }
        }
        Ok((begin, None))
    }
}

/// Searches of the leaves of one row. Leaves of the same list mostly have the same repetition levels, byte for byte.
#[derive(Debug, Default)]
pub(super) struct RowMemo {
    searches: Mutex<Vec<Search>>,
}

#[derive(Debug)]
struct Search {
    reps: Bytes,
    max_rep: u32,
    entries: usize,
    row: usize,
    found: (RowSearch, Range<usize>),
}

impl RowMemo {
    /// A search for a row that begins with this page.
    pub fn search(&self, row: usize, reps: &Bytes, max_rep: u32, entries: usize) -> Result<(RowSearch, Range<usize>)> {
        let same = |s: &&Search| (s.max_rep, s.entries, s.row, s.reps.len()) == (max_rep, entries, row, reps.len()) && s.reps == reps;
        if let Some(known) = self.searches.lock().iter().find(same) {
            return Ok(known.found.clone());
        }
        let mut search = RowSearch::new(row);
        let range = search.page(reps, max_rep, entries)?;
        let mut searches = self.searches.lock();
        if max_rep > 0 && searches.len() < REMEMBERED_MAX {
            searches.push(Search { reps: reps.clone(), max_rep, entries, row, found: (search, range.clone()) });
        }
        Ok((search, range))
    }
}

/// Decodes those of the levels (each at most `max`) that are in `range` behind those in `out`.
pub(super) fn decode_levels_in(bytes: &[u8], max: u32, range: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
    let width = width_of(max);
    if width > u8::BITS {
        return Err(Error::data(format!("levels of {width} bits")));
    }
    let mut runs = Hybrid::new(bytes, width, range.end)?;
    let (mut at, first) = (0, out.len());
    while let Some(run) = runs.next_run()? {
        let (Run::Repeat { count, .. } | Run::Packed { count, .. }) = run;
        let from = range.start.saturating_sub(at);
        match run {
            _ if from >= count => {}
            Run::Repeat { value, .. } if value > max => return Err(Error::data(format!("a level is over the maximum of {max}"))),
            Run::Repeat { value, .. } => out.resize(out.len() + count - from, value as u8),
            Run::Packed { bytes, .. } => {
                if !holds(bytes, width, count) {
                    return Err(cut_off());
                }
                // Eight levels begin at a whole byte.
                let (group, start) = (from / 8, out.len());
                out.resize(start + count - group * 8, 0);
                unpack(&bytes[group * width as usize..], width, &mut out[start..])?;
                out.drain(start..start + from % 8);
            }
        }
        at += count;
    }
    match out[first..].iter().all(|level| u32::from(*level) <= max) {
        true => Ok(()),
        false => Err(Error::data(format!("a level is over the maximum of {max}"))),
    }
}
