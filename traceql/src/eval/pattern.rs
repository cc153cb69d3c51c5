//! A compiled regular expression that remembers what it found of the texts of dictionaries: a condition is asked of some rows at
//! a time, and each of these slices has the whole dictionary.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use arrow::array::StringArray;
use regex::Regex;

/// Dictionaries that are remembered, those that were asked last: partitions of a scan ask each another one.
const DICTIONARIES_MAX: usize = 16;

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// A TraceQL regular expression: RE2 syntax, anchored at both ends, `.` matches line breaks.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// What was asked last stands last.
    known: Mutex<Vec<Arc<Known>>>,
}

/// What is known of the texts of one dictionary.
#[derive(Debug)]
pub struct Known {
    /// Kept, so that no other dictionary gets its place in memory.
    texts: StringArray,
    verdicts: Box<[AtomicU8]>,
}

/// Whether a text is a regular expression. It may still be too large to be compiled.
pub fn check_regex(pattern: &str) -> Result<(), String> {
    regex_syntax::parse(pattern).map(drop).map_err(|e| e.to_string())
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(pattern: &str) -> Result<Self, String> {
        // Anchored, `a)|(b` would be one.
        check_regex(pattern)?;
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|e| e.to_string())?;
        Ok(Self { regex, known: Mutex::default() })
    }

    /// Whether it matches a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether it matches the text with this number, which is not NULL.
    pub fn is_match_of(&self, known: &Known, text: usize) -> bool {
        let Some(verdict) = known.verdicts.get(text) else { return false };
        match verdict.load(Ordering::Relaxed) {
            UNKNOWN => {
                let matches = self.is_match(known.texts.value(text));
                verdict.store(if matches { YES } else { NO }, Ordering::Relaxed);
                matches
            }
            known => known == YES,
        }
    }

    /// What is known of a dictionary.
    pub fn known(&self, texts: &StringArray) -> Arc<Known> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|known| known.is_of(texts)) {
            let known = all.remove(at);
            all.push(known.clone());
            return known;
        }
        let verdicts = (0..arrow::array::Array::len(texts)).map(|_| AtomicU8::new(UNKNOWN)).collect();
        let known = Arc::new(Known { texts: texts.clone(), verdicts });
        if all.len() == DICTIONARIES_MAX {
            all.remove(0);
        }
        all.push(known.clone());
        known
    }
}

impl Known {
    fn is_of(&self, texts: &StringArray) -> bool {
        let place = |texts: &StringArray| (texts.value_offsets().as_ptr_range(), texts.value_data().as_ptr());
        place(&self.texts) == place(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_of_a_dictionary_is_asked_once() {
        let pattern = Pattern::new("a.*").unwrap();
        let texts = StringArray::from(vec!["ab", "b", "a"]);
        let known = pattern.known(&texts);
        assert_eq!([0, 1, 2, 3].map(|text| pattern.is_match_of(&known, text)), [true, false, true, false]);
        assert!(Arc::ptr_eq(&known, &pattern.known(&texts.clone())));
        // A dictionary of the same texts elsewhere, and a part of the same.
        assert!(!Arc::ptr_eq(&known, &pattern.known(&StringArray::from(vec!["ab", "b", "a"]))));
        let part = pattern.known(&texts.slice(1, 2));
        assert_eq!([0, 1].map(|text| pattern.is_match_of(&part, text)), [false, true]);
        for _ in 0..2 * DICTIONARIES_MAX {
            pattern.known(&StringArray::from(vec!["x"]));
        }
        assert!(!Arc::ptr_eq(&known, &pattern.known(&texts)));
        assert!(Pattern::new("a)|(b").is_err());
    }
}
