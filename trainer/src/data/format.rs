//! How files are written.
use super::columns::Columns;
use super::record::{Chosen, Content, Record, Want};
use crate::error::Result;
use std::path::Path;

/// Reads the text of a file: its records, and which columns they came from.
pub type Read = fn(&Path, &str, &Columns, Want) -> Result<(Vec<Record>, Chosen)>;

/// A way to write records into a file.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The extensions that stand for it.
    pub extensions: &'static [&'static str],
    /// What it holds.
    pub contents: &'static [Content],
    /// Reads the text of a file, whose name stands in errors. An empty file is no error here.
    pub read: Read,
}
