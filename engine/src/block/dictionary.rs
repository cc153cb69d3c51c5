//! Dictionaries of text leaves: what a leaf holds, known before its values are read.

use std::ops::Range;

use arrow::array::{Array, StringArray};
use bytes::Bytes;
use parquet::{
    basic::{Encoding, EncodingMask},
    file::metadata::ColumnChunkMetaData,
};

use super::{reader::chunk_range, rows::Rows, values::Dense};
use crate::error::{Error, Result};

impl Rows {
    /// The dictionary of a text leaf, if all its values are in it. Decodes no values.
    pub fn dictionary(&self, path: &str) -> Result<Option<StringArray>> {
        if let Some((_, dictionary)) = self.dictionaries.get(path) {
            return Ok(Some(dictionary.clone()));
        }
        match self.decoded.get(path).map(|leaf| &leaf.values) {
            Some(Dense::Text(text)) => Ok(Some(text.values.clone())),
            Some(_) => Ok(None),
            None => self.with_pages(path, |pages| pages.dictionary()),
        }
    }

    /// Where the dictionary of a text leaf is in the file, if the footer says that all its values are in it and it is not
    /// here yet.
    pub fn dictionary_range(&self, path: &str) -> Result<Option<Range<u64>>> {
        let (column, chunk) = self.chunk(path)?;
        if self.is_here(path) || !column.text || !is_all_dictionary(chunk) {
            return Ok(None);
        }
        let all = chunk_range(chunk, self.block().data_len()).map_err(|e| self.wrong(path, e))?;
        let data = u64::try_from(chunk.data_page_offset()).ok().filter(|data| all.contains(data) && *data > all.start);
        Ok(data.map(|data| all.start..data))
    }

    /// Whether the dictionary of a text leaf is remembered: then it is here now.
    pub fn recall_dictionary(&mut self, path: &str) -> bool {
        let known = self.cache().dictionary(self.place(), path);
        known.map(|known| self.dictionaries.insert(path.to_owned(), known)).is_some()
    }

    /// Hands over the page at [`Self::dictionary_range`].
    pub fn insert_dictionary(&mut self, path: String, page: Bytes) -> Result<()> {
        let segments = [page];
        let dictionary = self.with_segments(&path, &segments, (None, None), |pages| pages.dictionary())?;
        let dictionary = dictionary.ok_or_else(|| self.wrong(&path, Error::data("there is no dictionary where the footer says")))?;
        let [page] = segments;
        self.cache().put_dictionary(self.place(), &path, &page, &dictionary);
        self.dictionaries.insert(path, (page, dictionary));
        Ok(())
    }
}

/// Whether the footer says that all data pages of a chunk hold dictionary codes.
pub(super) fn is_all_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    let only = |mask: &EncodingMask| mask.is_only(Encoding::PLAIN_DICTIONARY) || mask.is_only(Encoding::RLE_DICTIONARY);
    chunk.page_encoding_stats_mask().is_some_and(only)
}

/// Codes of the dictionary's entries that equal `text`: one, unless a writer repeats itself.
pub(super) fn codes_of(values: &StringArray, text: &str) -> Vec<i32> {
    (0..values.len()).filter(|i| values.value(*i) == text).map(|i| i as i32).collect()
}
