//! One file under way.
use super::columns::Columns;
use super::format::Records;
use super::formats::format;
use super::lines::{Lines, Notes};
use super::record::{Chosen, Record, Want};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A file under way. An error comes once, and nothing behind it.
pub(super) struct Reading {
    pub path: PathBuf,
    pub chosen: Chosen,
    records: Records,
    is_empty: bool,
    is_over: bool,
}

impl Reading {
    /// Begins to read; `path` says how.
    pub fn of(
        path: &Path,
        lines: impl FnOnce(&Notes) -> Result<Lines>,
        columns: &Columns,
        want: Want,
        notes: &Notes,
    ) -> Result<Reading> {
        let format = format(path, columns.format.as_deref(), want.content)?;
        let lines = lines(notes)?;
        let path = lines.path().to_path_buf();
        let (chosen, records) = (format.open)(lines, columns, want)?;
        Ok(Reading { path, chosen, records, is_empty: true, is_over: false })
    }
}

impl Iterator for Reading {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.is_over {
            return None;
        }
        let next = self.records.next();
        self.is_over = !matches!(next, Some(Ok(_)));
        match next {
            None if self.is_empty => Some(Err(Error::file(&self.path, "the file is empty"))),
            next => {
                self.is_empty = false;
                next
            }
        }
    }
}
