//! Rows ordered by trace, cut where traces end.

use std::ops::Range;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    compute::concat_batches,
};
use tracehouse_engine::{Error, Result};

use super::bytes_of;

/// Puts batches together so that no trace is cut. Holds the rows of the last trace seen.
#[derive(Debug, Default)]
pub struct Chunks {
    open: Vec<RecordBatch>,
    bytes: usize,
}

impl Chunks {
    /// Adds a batch; gives the rows of the traces that are complete now.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let mut out = Vec::new();
        let ids = trace_ids(&batch)?;
        let Some(last) = ids.len().checked_sub(1) else { return Ok(out) };
        let mut from = 0;
        if let Some(open) = self.open.first() {
            let open_id = trace_ids(open)?.value(0).to_owned();
            from = end_of(ids, 0, &open_id);
            self.hold(batch.slice(0, from));
            if from <= last {
                out.extend(self.finish()?);
            }
        }
        if from <= last {
            let start = start_of(ids, from, ids.value(last));
            if start > from {
                out.push(batch.slice(from, start - from));
            }
            self.hold(batch.slice(start, ids.len() - start));
        }
        Ok(out)
    }

    fn hold(&mut self, rows: RecordBatch) {
        self.bytes += bytes_of(&rows);
        self.open.push(rows);
    }

    /// Bytes of the rows that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of the last trace.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let open = std::mem::take(&mut self.open);
        self.bytes = 0;
        Ok(match open.first() {
            Some(first) => Some(concat_batches(&first.schema(), &open)?),
            None => None,
        })
    }
}

/// The traces of a chunk, as ranges of rows.
pub fn traces(chunk: &RecordBatch) -> Result<Vec<Range<usize>>> {
    let ids = trace_ids(chunk)?;
    let (mut out, mut from) = (Vec::new(), 0);
    while from < ids.len() {
        let to = end_of(ids, from, ids.value(from));
        out.push(from..to);
        from = to;
    }
    Ok(out)
}

/// The first row from `from` on that is of another trace.
fn end_of(ids: &StringArray, from: usize, id: &str) -> usize {
    (from..ids.len()).find(|row| ids.value(*row) != id).unwrap_or(ids.len())
}

/// The first row from `from` on of a trace that goes on to the end.
fn start_of(ids: &StringArray, from: usize, id: &str) -> usize {
    (from..ids.len()).rev().take_while(|row| ids.value(*row) == id).last().unwrap_or(ids.len())
}

/// The first column.
pub fn trace_ids(batch: &RecordBatch) -> Result<&StringArray> {
    batch.column(0).as_string_opt::<i32>().ok_or_else(|| Error::internal("trace ids are not text"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;

    #[test]
    fn no_trace_is_cut() {
        let batch = |ids: &[&str]| {
            let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
            RecordBatch::try_from_iter([("trace_id", ids)]).unwrap()
        };
        let mut chunks = Chunks::default();
        let mut seen = Vec::new();
        let parts: [&[&str]; 7] = [&["a", "a", "b"], &["b"], &["b", "c", "d"], &[], &["e"], &["e", "e"], &["e", "f", "f"]];
        for part in parts {
            seen.extend(chunks.push(batch(part)).unwrap());
        }
        seen.extend(chunks.finish().unwrap());
        let traces: Vec<(String, usize)> = seen
            .iter()
            .flat_map(|c| traces(c).unwrap().into_iter().map(|r| (trace_ids(c).unwrap().value(r.start).to_owned(), r.len())))
            .collect();
        let expected = [("a", 2), ("b", 3), ("c", 1), ("d", 1), ("e", 4), ("f", 2)].map(|(id, n)| (id.to_owned(), n));
        assert_eq!(traces, expected);
        assert!(chunks.finish().unwrap().is_none());
    }
}
