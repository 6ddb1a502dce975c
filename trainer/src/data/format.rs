//! How files are written.
use super::columns::Columns;
use super::record::{Chosen, Content, Record, Want};
use super::source::Source;
use crate::error::Result;

/// The records of a file, one after the other.
pub type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// Begins to read a file: which columns are read, and the records. A file without records is no
/// error here.
pub type Open = fn(Source, &Columns, Want) -> Result<(Chosen, Records)>;

/// A way to write records into a file.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The extensions that stand for it.
    pub extensions: &'static [&'static str],
    /// What it holds.
    pub contents: &'static [Content],
    /// Begins to read a file.
    pub open: Open,
}

/// Records that come from a function until it gives none.
pub(super) fn records(mut next: impl FnMut() -> Result<Option<Record>> + 'static) -> Records {
    Box::new(std::iter::from_fn(move || next().transpose()))
}
