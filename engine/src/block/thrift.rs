//! The few structures of parquet's thrift compact protocol that are read without the parquet library: page headers, offset
//! and column indexes. Source: `parquet.thrift` of apache/parquet-format, and thrift's compact protocol specification.
//!
//! Page headers are read here, not by the library, so that a page can be skipped or only its dictionary decoded, and so
//! that no size a corrupt file claims is believed.

use crate::error::{Error, Result};

/// How deep structures may lie within each other in what is skipped.
const SKIP_DEPTH_MAX: u8 = 16;

/// An encoding of values, by parquet's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Rle,
    /// RLE_DICTIONARY, and its older name PLAIN_DICTIONARY.
    Dictionary,
    DeltaBinaryPacked,
    DeltaLengthByteArray,
    DeltaByteArray,
    ByteStreamSplit,
    Other(i64),
}

impl Encoding {
    fn of(number: i64) -> Self {
        match number {
            0 => Self::Plain,
            2 | 8 => Self::Dictionary,
            3 => Self::Rle,
            5 => Self::DeltaBinaryPacked,
            6 => Self::DeltaLengthByteArray,
            7 => Self::DeltaByteArray,
            9 => Self::ByteStreamSplit,
            n => Self::Other(n),
        }
    }
}

/// What a page is, with the counts of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    Dictionary {
        values: usize,
        encoding: Encoding,
    },
    V1 {
        entries: usize,
        encoding: Encoding,
        levels: Encoding,
    },
    V2 {
        entries: usize,
        nulls: usize,
        encoding: Encoding,
        defs_len: usize,
        reps_len: usize,
        compressed: bool,
    },
    /// An index page, or one of a later version of the format.
    Other,
}

/// The header before each page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub kind: PageKind,
    /// Bytes of the page without its header, once decompressed.
    pub uncompressed_len: usize,
    /// Bytes of the page without its header, as stored.
    pub stored_len: usize,
    /// CRC-32 of the page as stored.
    pub crc: Option<u32>,
}

/// Reads the header at the start of `bytes`, and says how long it is.
pub(super) fn page_header(bytes: &[u8]) -> Result<(PageHeader, usize)> {
    let mut thrift = Thrift { bytes, at: 0 };
    let (mut kind, mut uncompressed, mut stored, mut crc) = (None, None, None, None);
    let (mut v1, mut v2, mut dictionary) = ([None; 7], [None; 7], [None; 7]);
    thrift.fields(|t, id, wire| {
        match (id, wire) {
            (1, 5) => kind = Some(t.zigzag()?),
            (2, 5) => uncompressed = Some(t.zigzag()?),
            (3, 5) => stored = Some(t.zigzag()?),
            (4, 5) => crc = Some(t.zigzag()? as u32),
            (5, 12) => v1 = t.numbers()?,
            (7, 12) => dictionary = t.numbers()?,
            (8, 12) => v2 = t.numbers()?,
            _ => t.skip(wire, 0)?,
        }
        Ok(())
    })?;
    let kind = match kind.ok_or_else(|| bad("page type"))? {
        0 => PageKind::V1 {
            entries: count(v1[0])?,
            encoding: Encoding::of(v1[1].ok_or_else(|| bad("encoding"))?),
            // Both levels have an encoding of their own; one that is not RLE is told by the first that is not.
            levels: v1[2..4].iter().map(|e| Encoding::of(e.unwrap_or(3))).find(|e| *e != Encoding::Rle).unwrap_or(Encoding::Rle),
        },
        2 => PageKind::Dictionary { values: count(dictionary[0])?, encoding: Encoding::of(dictionary[1].unwrap_or(0)) },
        3 => PageKind::V2 {
            entries: count(v2[0])?,
            nulls: count(v2[1])?,
            encoding: Encoding::of(v2[3].ok_or_else(|| bad("encoding"))?),
            defs_len: count(v2[4])?,
            reps_len: count(v2[5])?,
            compressed: v2[6] != Some(0),
        },
        _ => PageKind::Other,
    };
    Ok((PageHeader { kind, uncompressed_len: count(uncompressed)?, stored_len: count(stored)?, crc }, thrift.at))
}

/// Where a data page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageLocation {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes, header included.
    pub len: u64,
    /// Number of its first row in the row group.
    pub first_row: u64,
}

/// Reads an offset index: the data pages of a column chunk, in order.
pub(super) fn offset_index(bytes: &[u8]) -> Result<Vec<PageLocation>> {
    let mut thrift = Thrift { bytes, at: 0 };
    let mut pages = Vec::new();
    thrift.fields(|t, id, wire| {
        if (id, wire) != (1, 9) {
            return t.skip(wire, 0);
        }
        let (len, item) = t.list()?;
        for _ in 0..len {
            if item != 12 {
                return Err(bad("list of pages"));
            }
            let [offset, size, row, ..] = t.numbers()?;
            pages.push(PageLocation { offset: count(offset)? as u64, len: count(size)? as u64, first_row: count(row)? as u64 });
        }
        Ok(())
    })?;
    Ok(pages)
}

/// What a column index says of the values of each data page, in order: lists of equal length if the index makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PageValues {
    /// Pages without any value. Their bounds mean nothing.
    pub empty: Vec<bool>,
    /// No value is less than this: as a plain value would be stored, byte arrays perhaps cut off.
    pub min: Vec<Vec<u8>>,
    /// No value is greater than this, or than any longer byte array that begins so.
    pub max: Vec<Vec<u8>>,
}

/// Reads a column index.
pub(super) fn column_index(bytes: &[u8]) -> Result<PageValues> {
    let mut thrift = Thrift { bytes, at: 0 };
    let mut pages = PageValues::default();
    thrift.fields(|t, id, wire| {
        match (id, wire) {
            (1, 9) => {
                let (len, item) = t.list()?;
                for _ in 0..len {
                    // The protocol says 1 and 2; old writers stored 0 for false.
                    let empty = if item == 1 || item == 2 { t.byte()? == 1 } else { return Err(bad("list of null pages")) };
                    pages.empty.push(empty);
                }
            }
            (2, 9) => t.binaries(&mut pages.min)?,
            (3, 9) => t.binaries(&mut pages.max)?,
            _ => t.skip(wire, 0)?,
        }
        Ok(())
    })?;
    Ok(pages)
}

fn bad(what: &str) -> Error {
    Error::data(format!("thrift structure without a valid {what}"))
}

fn count(number: Option<i64>) -> Result<usize> {
    number.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| bad("count"))
}

struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Thrift<'_> {
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| Error::data("thrift structure is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(bad("number"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Calls `read` with each field's id and wire type; it must consume the value. Booleans have none: their type is it.
    fn fields(&mut self, mut read: impl FnMut(&mut Self, i16, u8) -> Result<()>) -> Result<()> {
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| bad("field id"))?,
                delta => id.checked_add(i16::from(delta)).ok_or_else(|| bad("field id"))?,
            };
            read(self, id, head & 0x0f)?;
        }
    }

    /// A structure whose fields 1 to 7 are numbers or booleans; others are skipped.
    fn numbers(&mut self) -> Result<[Option<i64>; 7]> {
        let mut numbers = [None; 7];
        self.fields(|t, id, wire| {
            let slot = usize::try_from(id).ok().and_then(|id| id.checked_sub(1)).filter(|at| *at < 7);
            match (slot, wire) {
                (Some(at), 1 | 2) => numbers[at] = Some(i64::from(wire == 1)),
                (Some(at), 4..=6) => numbers[at] = Some(t.zigzag()?),
                _ => t.skip(wire, 0)?,
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    /// The head of a list or set: its length and the wire type of its items.
    fn list(&mut self) -> Result<(u64, u8)> {
        let head = self.byte()?;
        let len = match head >> 4 {
            15 => self.varint()?,
            len => u64::from(len),
        };
        Ok((len, head & 0x0f))
    }

    /// A list of byte strings.
    fn binaries(&mut self, out: &mut Vec<Vec<u8>>) -> Result<()> {
        let (len, item) = self.list()?;
        for _ in 0..len {
            if item != 8 {
                return Err(bad("list of bounds"));
            }
            let len = self.varint()?;
            let start = self.at;
            self.advance(len)?;
            out.push(self.bytes[start..self.at].to_vec());
        }
        Ok(())
    }

    fn skip(&mut self, wire: u8, depth: u8) -> Result<()> {
        if depth > SKIP_DEPTH_MAX {
            return Err(bad("depth"));
        }
        match wire {
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.advance(8)?,
            8 => {
                let len = self.varint()?;
                self.advance(len)?;
            }
            9 | 10 => {
                let (len, item) = self.list()?;
                for _ in 0..len {
                    self.skip_item(item, depth)?;
                }
            }
            11 => {
                let len = self.varint()?;
                if len > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..len {
                        self.skip_item(kinds >> 4, depth)?;
                        self.skip_item(kinds & 0x0f, depth)?;
                    }
                }
            }
            12 => self.fields(|t, _, wire| t.skip(wire, depth + 1))?,
            _ => return Err(bad("wire type")),
        }
        Ok(())
    }

    /// In lists a boolean takes a byte, other than in a field.
    fn skip_item(&mut self, wire: u8, depth: u8) -> Result<()> {
        match wire {
            1 | 2 => self.advance(1),
            _ => self.skip(wire, depth + 1),
        }
    }

    fn advance(&mut self, len: u64) -> Result<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if len > left {
            return Err(Error::data("thrift structure is cut off"));
        }
        self.at += len as usize;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_header() {
        // 1: type=3, 2: uncompressed=100, 3: stored=50, 4: crc=-2, 8: {1: 10, 2: 1, 3: 2, 4: 5, 5: 3, 6: 4, 7: false}
        let bytes = [
            0x15, 0x06, 0x15, 0xc8, 0x01, 0x15, 0x64, 0x15, 0x03, 0x4c, 0x15, 0x14, 0x15, 0x02, 0x15, 0x04, 0x15, 0x0a, 0x15, 0x06, 0x15,
            0x08, 0x12, 0x00, 0x00, 0xff,
        ];
        let (header, len) = page_header(&bytes).unwrap();
        assert_eq!(len, bytes.len() - 1);
        assert_eq!((header.uncompressed_len, header.stored_len, header.crc), (100, 50, Some(u32::MAX - 1)));
        let encoding = Encoding::DeltaBinaryPacked;
        assert_eq!(header.kind, PageKind::V2 { entries: 10, nulls: 1, encoding, defs_len: 3, reps_len: 4, compressed: false });
        for cut in 0..bytes.len() - 2 {
            assert!(page_header(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_column_index() {
        // 1: null_pages=[false, true], 2: min_values=["ab", ""], 3: max_values=["ac", ""], 4: boundary_order=1, 5: null_counts=[0, 9]
        let bytes = [
            0x19, 0x21, 0x02, 0x01, 0x19, 0x28, 0x02, b'a', b'b', 0x00, 0x19, 0x28, 0x02, b'a', b'c', 0x00, 0x15, 0x02, 0x19, 0x26, 0x00,
            0x12, 0x00,
        ];
        let lists = |first: &[u8]| vec![first.to_vec(), Vec::new()];
        let due = PageValues { empty: vec![false, true], min: lists(b"ab"), max: lists(b"ac") };
        assert_eq!(column_index(&bytes).unwrap(), due);
        for cut in 0..bytes.len() {
            assert!(column_index(&bytes[..cut]).is_err());
        }
        // More items than bytes.
        assert!(column_index(&[0x19, 0xf8, 0xff, 0xff, 0xff, 0x7f, 0x00]).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = [0x9c; 4000]; // a struct in field 9 of a struct in field 9 of ...
        assert!(page_header(&deep).is_err());
    }
}
