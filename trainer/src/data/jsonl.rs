//! JSONL: one object a line.
use super::format::Format;
use super::forms;
use super::lines::Lines;
use super::object::Object;
use super::objects::Objects;
use super::record::Content;
use super::source::Notes;
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format {
    extensions: &["jsonl", "ndjson"],
    contents: Content::ALL,
    open: |source, columns, want| {
        let objects = JsonLines { lines: Lines::of(source)?, first: None };
        forms::open(Box::new(objects), columns, want)
    },
};

/// The objects of the lines that are not blank.
struct JsonLines {
    lines: Lines,
    /// The first one, until it has its turn.
    first: Option<Object>,
}

impl JsonLines {
    fn read(&mut self) -> Result<Option<Object>> {
        let path = self.lines.path().clone();
        let mut number = self.lines.number();
        while let Some(line) = self.lines.next()? {
            number += 1;
            if !line.trim().is_empty() {
                return Object::parse(&path, number, line).map(Some);
            }
        }
        Ok(None)
    }
}

impl Objects for JsonLines {
    fn path(&self) -> &Arc<Path> {
        self.lines.path()
    }
    fn notes(&self) -> &Notes {
        self.lines.notes()
    }
    fn names(&mut self) -> Result<Vec<String>> {
        self.first = self.read()?;
        let empty = || Error::file(self.lines.path(), "the file is empty");
        Ok(self.first.as_ref().ok_or_else(empty)?.names())
    }
    fn next(&mut self) -> Result<Option<Object>> {
        match self.first.take() {
            None => self.read(),
            first => Ok(first),
        }
    }
}
