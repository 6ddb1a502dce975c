//! Parquet: of a file only the pages under way are in memory, and of its columns only those that are
//! read.
use super::super::source::Source;
use super::table::Table;
use crate::error::{Error, Result};
use crate::guarded::guarded;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use std::fs;

/// Rows that are read at once at most, and about how many bytes.
const BATCH: (usize, i64) = (1024, 1 << 20);
/// What errors call the crate.
const CRATE: &str = "parquet";

/// A file.
pub(super) struct File {
    schema: SchemaRef,
    state: State,
}

enum State {
    Opened(Box<ParquetRecordBatchReaderBuilder<fs::File>>),
    Reading(Box<ParquetRecordBatchReader>),
    Over,
}

impl File {
    /// Reads what the file says of its columns.
    pub fn open(source: Source) -> Result<File> {
        let path = source.path().clone();
        let file = source.file()?;
        let size = file.metadata().map_err(|source| Error::Read { path: path.to_path_buf(), source })?.len();
        if size == 0 {
            return Err(Error::file(&path, "the file is empty"));
        }
        let builder = guarded(CRATE, || ParquetRecordBatchReaderBuilder::try_new(file));
        let builder = builder.map_err(|why| Error::file(&path, why))?;
        let schema = builder.schema().clone();
        Ok(File { schema, state: State::Opened(Box::new(builder)) })
    }
}

impl Table for File {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn only(&mut self, columns: &[usize]) -> Result<(), String> {
        let State::Opened(builder) = std::mem::replace(&mut self.state, State::Over) else { return Ok(()) };
        let reader = guarded(CRATE, || {
            let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
            let (mut bytes, mut rows) = (0_i64, 1_i64);
            for group in builder.metadata().row_groups() {
                rows = rows.saturating_add(group.num_rows().max(0));
                let read = group.columns().iter().enumerate().filter(|(i, _)| mask.leaf_included(*i));
                for (_, column) in read {
                    check(column)?;
                    bytes = bytes.saturating_add(column.uncompressed_size().max(0));
                }
            }
            let each = (bytes / rows).max(1);
            let batch = usize::try_from(BATCH.1 / each).unwrap_or(1).clamp(1, BATCH.0);
            builder.with_projection(mask).with_batch_size(batch).build().map_err(|e| e.to_string())
        })?;
        self.state = State::Reading(Box::new(reader));
        Ok(())
    }
    fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        if let State::Opened(_) = self.state {
            let all: Vec<usize> = (0..self.schema.fields().len()).collect();
            self.only(&all)?;
        }
        let State::Reading(mut reader) = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(None);
        };
        let batch = guarded(CRATE, || reader.next().transpose())?;
        if batch.is_some() {
            self.state = State::Reading(reader);
        }
        Ok(batch)
    }
}

/// An error that names the codec of a column's pages if it is none of those that are unpacked without C
/// code.
fn check(column: &ColumnChunkMetaData) -> Result<(), String> {
    use Compression::{GZIP, LZ4, LZ4_RAW, SNAPPY, UNCOMPRESSED};
    match column.compression() {
        UNCOMPRESSED | SNAPPY | GZIP(_) | LZ4 | LZ4_RAW => Ok(()),
        other => {
            let (codec, name) = (format!("{other:?}"), column.column_path().string());
            let codec = codec.split('(').next().unwrap_or_default();
            Err(format!(
                "column `{name}` is compressed with {codec}; write it with snappy, gzip, lz4 or without"
            ))
        }
    }
}
