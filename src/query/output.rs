//! Writes an answer in the format asked for, batch by batch where the format allows it.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::{
        display::{DurationFormat, FormatOptions},
        pretty::pretty_format_batches_with_options,
    },
};
use futures::{Stream, StreamExt};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use crate::{
    cli::Format,
    error::{Error, Result},
};

/// Where an answer goes. A file appears whole, or not at all.
pub struct Output {
    format: Format,
    file: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Refuses to show bytes that are not text on a terminal.
    pub fn new(format: Format, file: Option<&Path>) -> Result<Self> {
        if file.is_none() && matches!(format, Format::Parquet | Format::Arrow) && io::stdout().is_terminal() {
            return Err(Error::usage("this format is not for a terminal: give --output FILE, or pipe stdout to another command"));
        }
        let file = file.map(|path| {
            let mut part = path.as_os_str().to_owned();
            part.push(".part");
            (path.to_owned(), PathBuf::from(part))
        });
        Ok(Self { format, file })
    }

    /// Writes batches; gives the number of rows.
    pub async fn write<S, E>(&self, schema: SchemaRef, batches: S) -> Result<u64>
    where
        S: Stream<Item = Result<RecordBatch, E>> + Unpin,
        Error: From<E>,
    {
        let Some((path, part)) = &self.file else {
            let gone = Arc::new(AtomicBool::new(false));
            let result = self.write_to(Box::new(Stdout(gone.clone())), schema, batches).await;
            // A reader that goes away, such as `head`, is not an error.
            return if gone.load(Ordering::Relaxed) { Ok(0) } else { result };
        };
        let failed = |e: io::Error| Error::failed(format!("cannot write {}: {e}", path.display()));
        let file = File::create(part).map_err(failed)?;
        let rows = match self.write_to(Box::new(file), schema, batches).await {
            Ok(rows) => rows,
            Err(e) => {
                let _ = std::fs::remove_file(part);
                return Err(e);
            }
        };
        std::fs::rename(part, path).map_err(failed)?;
        Ok(rows)
    }

    /// Writes text as it is.
    pub fn write_text(&self, text: &str) -> Result<()> {
        match &self.file {
            Some((path, _)) => std::fs::write(path, text).map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display()))),
            None => match io::stdout().write_all(text.as_bytes()) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
                _ => Ok(()),
            },
        }
    }

    async fn write_to<S, E>(&self, to: Box<dyn Write + Send>, schema: SchemaRef, mut batches: S) -> Result<u64>
    where
        S: Stream<Item = Result<RecordBatch, E>> + Unpin,
        Error: From<E>,
    {
        let mut writer = Writer::new(self.format, to, plain_schema(self.format, &schema))?;
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            writer.write(batch)?;
        }
        writer.finish()?;
        Ok(rows)
    }
}

/// Stdout, which remembers that its reader went away: some writers keep no more of an error than its text.
struct Stdout(Arc<AtomicBool>);

impl Stdout {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            self.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.note(io::stdout().flush())
    }
}

type Sink = BufWriter<Box<dyn Write + Send>>;

enum Writer {
    Table(Sink, SchemaRef, Vec<RecordBatch>),
    Json(Box<arrow::json::ArrayWriter<Sink>>),
    Csv(Box<arrow::csv::Writer<Sink>>, SchemaRef),
    Parquet(Box<ArrowWriter<Sink>>),
    Arrow(Box<arrow::ipc::writer::FileWriter<Sink>>, SchemaRef),
}

impl Writer {
    fn new(format: Format, to: Box<dyn Write + Send>, schema: SchemaRef) -> Result<Self> {
        let sink = BufWriter::new(to);
        Ok(match format {
            Format::Table => Self::Table(sink, schema, Vec::new()),
            Format::Json => Self::Json(Box::new(
                arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, arrow::json::writer::JsonArray>(sink),
            )),
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(sink);
                // The names, even if there is no row.
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
                Self::Csv(Box::new(writer), schema)
            }
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(sink, schema, Some(properties)).map_err(arrow::error::ArrowError::from)?))
            }
            Format::Arrow => Self::Arrow(Box::new(arrow::ipc::writer::FileWriter::try_new(sink, &schema)?), schema),
        })
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Table(_, _, batches) => batches.push(batch),
            Self::Json(writer) => writer.write(&batch)?,
            Self::Csv(writer, schema) => writer.write(&cast(&batch, schema)?)?,
            Self::Parquet(writer) => writer.write(&batch).map_err(arrow::error::ArrowError::from)?,
            Self::Arrow(writer, schema) => writer.write(&cast(&batch, schema)?)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Table(mut sink, schema, batches) => {
                writeln!(sink, "{}", table(schema, &batches)?)?;
                sink.flush()?;
            }
            Self::Json(mut writer) => {
                writer.finish()?;
                let mut sink = writer.into_inner();
                writeln!(sink)?;
                sink.flush()?;
            }
            Self::Csv(writer, _) => writer.into_inner().flush()?,
            Self::Parquet(mut writer) => {
                writer.finish().map_err(arrow::error::ArrowError::from)?;
                writer.inner_mut().flush()?;
            }
            Self::Arrow(mut writer, _) => {
                writer.finish()?;
                writer.get_mut().flush()?;
            }
        }
        Ok(())
    }
}

/// A table for reading, as wide as it needs to be.
pub fn table(schema: SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL").with_duration_format(DurationFormat::Pretty);
    let mut all = batches.to_vec();
    if all.is_empty() {
        all.push(RecordBatch::new_empty(schema));
    }
    Ok(pretty_format_batches_with_options(&all, &options)?.to_string())
}

/// CSV knows no lists, and each batch of an IPC file must share its dictionaries: both get plain text.
fn plain_schema(format: Format, schema: &SchemaRef) -> SchemaRef {
    if !matches!(format, Format::Csv | Format::Arrow) {
        return schema.clone();
    }
    let plain = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        nested if nested.is_nested() && format == Format::Csv => DataType::Utf8,
        other => other.clone(),
    };
    let fields: Vec<_> = schema.fields().iter().map(|f| Field::new(f.name(), plain(f.data_type()), f.is_nullable())).collect();
    Arc::new(Schema::new(fields))
}

fn cast(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match (column.data_type(), field.data_type()) {
        (from, DataType::Utf8) if from.is_nested() => as_text(column),
        (_, to) => arrow::compute::cast(column, to),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

fn as_text(column: &arrow::array::ArrayRef) -> Result<arrow::array::ArrayRef, arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let format = arrow::util::display::ArrayFormatter::try_new(column, &options)?;
    let text = (0..column.len()).map(|i| column.is_valid(i).then(|| format.value(i).to_string()));
    Ok(Arc::new(text.collect::<arrow::array::StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, types::Int32Type};

    use super::*;

    fn batches() -> (SchemaRef, Vec<Result<RecordBatch>>) {
        let batch = |names: &[&str]| {
            let names: DictionaryArray<Int32Type> = names.iter().copied().collect();
            let counts: Int64Array = (0..names.len() as i64).map(|n| (n > 0).then_some(n)).collect();
            RecordBatch::try_from_iter_with_nullable([
                ("name", Arc::new(names) as ArrayRef, true),
                ("count", Arc::new(counts) as ArrayRef, true),
            ])
            .unwrap()
        };
        // The dictionaries differ, as those of two blocks do.
        let all = [batch(&["a", "b,c"]), batch(&["c", "c"])];
        (all[0].schema(), all.into_iter().map(Ok).collect())
    }

    async fn written(format: Format) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answer");
        let (schema, all) = batches();
        let rows = Output::new(format, Some(&path)).unwrap().write(schema, futures::stream::iter(all)).await.unwrap();
        assert_eq!(rows, 4);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no part is left");
        std::fs::read(&path).unwrap()
    }

    #[tokio::test]
    async fn every_format_is_written() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(text(written(Format::Table).await).contains("| b,c  | 1     |"));
        assert_eq!(text(written(Format::Csv).await), "name,count\na,\n\"b,c\",1\nc,\nc,1\n");
        let json: serde_json::Value = serde_json::from_slice(&written(Format::Json).await).unwrap();
        assert_eq!(json[1], serde_json::json!({"name": "b,c", "count": 1}));
        assert_eq!(json[0]["count"], serde_json::Value::Null);
        let parquet = bytes::Bytes::from(written(Format::Parquet).await);
        let read = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap();
        assert_eq!(read.map(|b| b.unwrap().num_rows()).sum::<usize>(), 4);
        let arrow = io::Cursor::new(written(Format::Arrow).await);
        let read = arrow::ipc::reader::FileReader::try_new(arrow, None).unwrap();
        assert_eq!(read.map(|b| b.unwrap().num_rows()).sum::<usize>(), 4);
    }

    #[tokio::test]
    async fn empty_answers_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answer");
        for (format, want) in [(Format::Csv, "name,count\n"), (Format::Json, "[]\n")] {
            let (schema, _) = batches();
            Output::new(format, Some(&path))
                .unwrap()
                .write(schema, futures::stream::iter(Vec::<Result<RecordBatch>>::new()))
                .await
                .unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
        }
    }

    #[tokio::test]
    async fn a_failed_answer_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answer");
        let (schema, mut all) = batches();
        all.push(Err(Error::failed("the block is corrupt")));
        let error = Output::new(Format::Csv, Some(&path)).unwrap().write(schema, futures::stream::iter(all)).await.unwrap_err();
        assert_eq!(error.to_string(), "the block is corrupt");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
