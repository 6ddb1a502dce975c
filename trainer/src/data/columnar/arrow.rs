//! Arrow's IPC formats: a stream of batches, as `datasets` saves them, and the file that is such a stream
//! between two marks. One batch is in memory at a time.
use super::super::source::{Source, first, unreadable};
use super::table::Table;
use crate::error::{Error, Result};
use crate::guarded::guarded;
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{Schema, SchemaRef};
use std::cell::Cell;
use std::io::{self, BufRead, Cursor, Read};
use std::rc::Rc;

/// What a file of the other format begins with, and then its stream.
const FILE: &[u8; 8] = b"ARROW1\0\0";
/// What other files begin with.
const OTHERS: [(&[u8], &str); 2] = [(b"FEA1", "Feather of version 1"), (b"PAR1", "Parquet")];
/// How batches may be compressed, which is undone with C code only or is seldom.
const CODECS: [&str; 2] = ["lz4", "zstd"];
/// What errors call the crate.
const CRATE: &str = "arrow";

/// A file.
pub(super) struct File {
    schema: SchemaRef,
    reader: StreamReader<Watched>,
    /// Whether the bytes came to their end.
    has_ended: Rc<Cell<bool>>,
    is_over: bool,
}

impl File {
    /// Reads what the file says of its columns.
    pub fn open(source: Source) -> Result<File> {
        let path = source.path().clone();
        let bad = |why: String| Error::file(&path, why);
        let (mut reader, packed) = source.reader()?;
        let start = first(&mut reader, FILE.len() as u64).map_err(|e| unreadable(&path, e, packed))?;
        if start.is_empty() {
            return Err(bad("the file is empty".into()));
        }
        if let Some((_, name)) = OTHERS.iter().find(|(mark, _)| start.starts_with(mark)) {
            return Err(bad(format!("it is a file of {name}, not of Arrow")));
        }
        let start = if start == FILE { vec![] } else { start };
        let has_ended = Rc::new(Cell::new(false));
        let bytes =
            Watched { inner: Box::new(Cursor::new(start).chain(reader)), has_ended: has_ended.clone() };
        let reader = guarded(CRATE, || StreamReader::try_new(bytes, None)).map_err(bad)?;
        Ok(File { schema: reader.schema(), reader, has_ended, is_over: false })
    }
}

impl Table for File {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn only(&mut self, _: &[usize]) -> Result<(), String> {
        Ok(()) // a batch is read as a whole, and what lies in it is not copied
    }
    fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        if self.is_over {
            return Ok(None);
        }
        let batch = guarded(CRATE, || self.reader.next().transpose());
        self.is_over = !matches!(batch, Ok(Some(_)));
        match batch {
            // the stream says where it ends, and nothing behind it is looked at
            Ok(None) if self.has_ended.get() => {
                Err("the file ends without the end of its stream: it was cut off".into())
            }
            Err(why) => Err(match CODECS.iter().find(|codec| why.contains(&format!("{codec} IPC"))) {
                Some(codec) => {
                    format!("its batches are compressed with {codec}; write it without compression")
                }
                None => why,
            }),
            batch => Ok(batch?),
        }
    }
}

/// A reader that says whether it came to its end.
struct Watched {
    inner: Box<dyn BufRead>,
    has_ended: Rc<Cell<bool>>,
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.has_ended.set(self.has_ended.get() || n == 0 && !into.is_empty());
        Ok(n)
    }
}
