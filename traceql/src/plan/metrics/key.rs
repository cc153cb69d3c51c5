//! Group keys: a tuple of typed values as bytes, so that the int 1 and the text "1" are two groups, on every node the same.

use crate::syntax::{Kind, Static, Status};

const NIL: u8 = 0;
const INT: u8 = 1;
const FLOAT: u8 = 2;
const STRING: u8 = 3;
const FALSE: u8 = 4;
const TRUE: u8 = 5;
const DURATION: u8 = 6;
const STATUS: u8 = 7;
const KIND: u8 = 8;
const INTS: u8 = 9;
const FLOATS: u8 = 10;
const STRINGS: u8 = 11;
const BOOLS: u8 = 12;

/// Appends a value: a tag, then numbers in 8 bytes (big endian), texts and arrays with their length before them.
pub fn encode(value: &Static, into: &mut Vec<u8>) {
    let number = |into: &mut Vec<u8>, tag, bits: u64| {
        into.push(tag);
        into.extend(bits.to_be_bytes());
    };
    match value {
        Static::Nil => into.push(NIL),
        Static::Int(v) => number(into, INT, *v as u64),
        Static::Float(v) => number(into, FLOAT, (v + 0.0).to_bits()),
        Static::Bool(v) => into.push(if *v { TRUE } else { FALSE }),
        Static::Duration(v) => number(into, DURATION, *v as u64),
        Static::Status(v) => number(into, STATUS, v.to_otlp() as u64),
        Static::Kind(v) => number(into, KIND, v.to_otlp() as u64),
        Static::String(text) => {
            number(into, STRING, text.len() as u64);
            into.extend(text.as_bytes());
        }
        Static::Ints(_) | Static::Floats(_) | Static::Strings(_) | Static::Bools(_) => {
            let items = value.elements().unwrap_or_default();
            let tag = match value {
                Static::Ints(_) => INTS,
                Static::Floats(_) => FLOATS,
                Static::Strings(_) => STRINGS,
                _ => BOOLS,
            };
            number(into, tag, items.len() as u64);
            items.iter().for_each(|item| encode(item, into));
        }
    }
}

/// Reads the values of a key back; `None` if the bytes are no key.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<Static>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(value(&mut bytes)?);
    }
    Some(values)
}

fn value(bytes: &mut &[u8]) -> Option<Static> {
    let (tag, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match *tag {
        NIL => Static::Nil,
        FALSE => Static::Bool(false),
        TRUE => Static::Bool(true),
        INT => Static::Int(number(bytes)? as i64),
        FLOAT => Static::Float(f64::from_bits(number(bytes)?)),
        DURATION => Static::Duration(number(bytes)? as i64),
        STATUS => Static::Status(Status::from_otlp(number(bytes)? as i32)),
        KIND => Static::Kind(Kind::from_otlp(number(bytes)? as i32)),
        STRING => {
            let length = number(bytes)? as usize;
            let (text, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Static::String(std::str::from_utf8(text).ok()?.to_owned())
        }
        INTS | FLOATS | STRINGS | BOOLS => {
            let count = number(bytes)?;
            let items = (0..count).map(|_| value(bytes)).collect::<Option<Vec<_>>>()?;
            array(*tag, items)?
        }
        _ => return None,
    })
}

fn array(tag: u8, items: Vec<Static>) -> Option<Static> {
    macro_rules! all {
        ($variant:ident) => {
            items
                .into_iter()
                .map(|item| match item {
                    Static::$variant(v) => Some(v),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()?
        };
    }
    Some(match tag {
        INTS => Static::Ints(all!(Int)),
        FLOATS => Static::Floats(all!(Float)),
        STRINGS => Static::Strings(all!(String)),
        _ => Static::Bools(all!(Bool)),
    })
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_types_and_values() {
        let values = vec![
            Static::Nil,
            Static::Int(-1),
            Static::String("1".into()),
            Static::String(String::new()),
            Static::Float(0.5),
            Static::Bool(true),
            Static::Bool(false),
            Static::Duration(7),
            Static::Status(Status::Other(7)),
            Static::Kind(Kind::Server),
            Static::Strings(vec!["a".into(), "b".into()]),
            Static::Ints(vec![1, 2]),
            Static::Floats(vec![]),
            Static::Bools(vec![true]),
        ];
        let mut bytes = Vec::new();
        values.iter().for_each(|v| encode(v, &mut bytes));
        assert_eq!(decode(&bytes), Some(values));
        assert_eq!((decode(&[INT, 0]), decode(&[99]), decode(&[])), (None, None, Some(vec![])));
    }
}
