//! The bytes of a write-ahead log file (all integers little-endian):
//!
//! ```text
//! file   = "THWAL\r\n" version:u8(=1) record*
//! record = f1 54 57 52 | length:u32 | crc32(length, payload):u32 | payload
//! ```
//!
//! The four bytes before each record let a reader find the next good record behind a damaged one.

use std::ops::Range;

/// First bytes of a file; the version follows.
pub const MAGIC: [u8; 7] = *b"THWAL\r\n";
/// The version written here.
pub const VERSION: u8 = 1;
/// Bytes before the first record.
pub const FILE_HEADER_BYTES: usize = 8;
/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 12;

const RECORD_MAGIC: [u8; 4] = [0xf1, b'T', b'W', b'R'];

/// The bytes that open a file.
pub fn file_header() -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..7].copy_from_slice(&MAGIC);
    header[7] = VERSION;
    header
}

/// Appends a record whose payload `write` appends (less than 4 GiB).
pub fn frame_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&RECORD_MAGIC);
    out.extend_from_slice(&[0; 8]);
    write(out);
    let length = ((out.len() - at - RECORD_HEADER_BYTES) as u32).to_le_bytes();
    let crc = checksum(length, &out[at + RECORD_HEADER_BYTES..]).to_le_bytes();
    out[at + 4..at + 8].copy_from_slice(&length);
    out[at + 8..at + 12].copy_from_slice(&crc);
}

/// Appends a record with this payload.
pub fn frame(out: &mut Vec<u8>, payload: &[u8]) {
    frame_with(out, |out| out.extend_from_slice(payload));
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// What stands next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record that is as it was written.
    Record(&'a [u8]),
    /// The file ends within a record: the writer was stopped here.
    Torn(Range<usize>),
    /// Bytes that were changed after they were written.
    Corrupt(Range<usize>),
}

/// What the header of a file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Header {
    /// Records of a version that is read here follow.
    Good,
    /// The file ends within the header: the writer was stopped here.
    Torn,
    /// A version that is not read here.
    UnknownVersion(u8),
    /// Not a write-ahead log file.
    Corrupt,
}

/// Looks at the header of a file.
pub fn check_header(file: &[u8]) -> Header {
    match file.get(..FILE_HEADER_BYTES) {
        Some(header) if header == file_header() => Header::Good,
        Some(header) if header[..7] == MAGIC => Header::UnknownVersion(header[7]),
        None if file_header().starts_with(file) || file.iter().all(|b| *b == 0) => Header::Torn,
        _ => Header::Corrupt,
    }
}

/// The records of a whole file with a good header, in order, and the damage between them.
#[derive(Debug)]
pub struct Records<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Starts behind the header.
    pub fn new(file: &'a [u8]) -> Self {
        Self { file, at: FILE_HEADER_BYTES.min(file.len()) }
    }

    fn good_record(&self, at: usize) -> Option<&'a [u8]> {
        let header = self.file.get(at..at + RECORD_HEADER_BYTES)?;
        let (magic, rest) = header.split_first_chunk::<4>()?;
        let (length, crc) = rest.split_first_chunk::<4>()?;
        let start = at + RECORD_HEADER_BYTES;
        let payload = self.file.get(start..start.checked_add(u32::from_le_bytes(*length) as usize)?)?;
        (*magic == RECORD_MAGIC && *crc == checksum(*length, payload).to_le_bytes()).then_some(payload)
    }

    /// Whether what follows `at` can be the beginning of a record that was never written to its end.
    fn is_torn(&self, at: usize) -> bool {
        let rest = &self.file[at..];
        let magic = rest.len().min(4);
        let length = rest.get(4..8).and_then(|l| l.try_into().ok()).map(u32::from_le_bytes);
        let cut = rest[..magic] == RECORD_MAGIC[..magic]
            && (rest.len() < RECORD_HEADER_BYTES || length.is_some_and(|l| l as usize > rest.len() - RECORD_HEADER_BYTES));
        // A file system may have made the file longer before it wrote the bytes.
        cut || rest.iter().all(|b| *b == 0)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let (file, from) = (self.file, self.at);
        if from >= file.len() {
            return None;
        }
        if let Some(payload) = self.good_record(from) {
            self.at += RECORD_HEADER_BYTES + payload.len();
            return Some(Item::Record(payload));
        }
        let next = (from + 1..file.len()).find(|&at| file[at] == RECORD_MAGIC[0] && self.good_record(at).is_some());
        self.at = next.unwrap_or(file.len());
        Some(match next {
            None if self.is_torn(from) => Item::Torn(from..file.len()),
            _ => Item::Corrupt(from..self.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = file_header().to_vec();
        payloads.iter().for_each(|p| frame(&mut out, p));
        out
    }

    fn good(file: &[u8]) -> Vec<Vec<u8>> {
        Records::new(file).filter_map(|i| if let Item::Record(p) = i { Some(p.to_vec()) } else { None }).collect()
    }

    #[test]
    fn a_tail_cut_at_any_byte_is_torn_and_costs_only_the_last_record() {
        let whole = file(&[b"first", b"second"]);
        let second = FILE_HEADER_BYTES + RECORD_HEADER_BYTES + 5;
        for cut in second + 1..whole.len() {
            let items: Vec<_> = Records::new(&whole[..cut]).collect();
            assert_eq!(items, [Item::Record(b"first"), Item::Torn(second..cut)], "cut at {cut}");
        }
        assert_eq!(Records::new(&whole[..second]).collect::<Vec<_>>(), [Item::Record(b"first")]);
        let mut zeros = whole.clone();
        zeros.truncate(second);
        zeros.resize(second + 30, 0);
        assert_eq!(Records::new(&zeros).last(), Some(Item::Torn(second..second + 30)));
    }

    #[test]
    fn a_flipped_byte_costs_only_its_record() {
        let whole = file(&[b"first", b"second", b"third"]);
        let second = FILE_HEADER_BYTES + RECORD_HEADER_BYTES + 5;
        let third = second + RECORD_HEADER_BYTES + 6;
        for at in second..third {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            let items: Vec<_> = Records::new(&bad).collect();
            assert_eq!(items, [Item::Record(b"first"), Item::Corrupt(second..third), Item::Record(b"third")], "flipped at {at}");
        }
    }

    #[test]
    fn headers() {
        let good = file_header();
        for (file, header) in [
            (&good[..], Header::Good),
            (&good[..3], Header::Torn),
            (b"", Header::Torn),
            (&[0; 4], Header::Torn),
            (b"THWAL\r\n\x09", Header::UnknownVersion(9)),
            (b"PAR1PAR1", Header::Corrupt),
            (b"PAR1", Header::Corrupt),
        ] {
            assert_eq!(check_header(file), header, "{file:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let whole = file(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(good(&whole), payloads);
        }

        #[test]
        fn damage_never_panics_and_never_invents(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..8),
            at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut whole = file(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let at = at.index(whole.len());
            whole[at] = with;
            whole.truncate(cut.index(whole.len()) + 1);
            for payload in good(&whole) {
                prop_assert!(payloads.contains(&payload));
            }
        }
    }
}
