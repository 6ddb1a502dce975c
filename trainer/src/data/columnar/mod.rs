//! Tables of typed columns: Parquet, and Arrow's two formats for files.
//!
//! They are read in batches ([`table`]), and a row is the object that it would be as a line of JSONL
//! ([`value`]): what columns are called and what they hold is the same there. Where the file has the
//! features of Hugging Face's `datasets`, an integer of a `ClassLabel` is the name of its class
//! ([`features`]), but for choices, whose labels are numbers.
mod arrow;
mod features;
mod parquet;
mod table;
mod value;

use super::columns::Columns;
use super::format::{Format, Records};
use super::forms;
use super::record::{Chosen, Content, Want};
use super::source::Source;
use crate::error::Result;
use table::{Rows, Table};

/// Parquet's row in the registry.
pub(super) const PARQUET: Format = Format {
    extensions: &["parquet"],
    contents: Content::ALL,
    open: |source, columns, want| {
        open(source, |source| Ok(Box::new(parquet::File::open(source)?)), columns, want)
    },
};
/// Arrow's row in the registry.
pub(super) const ARROW: Format = Format {
    extensions: &["arrow"],
    contents: Content::ALL,
    open: |source, columns, want| {
        open(source, |source| Ok(Box::new(arrow::File::open(source)?)), columns, want)
    },
};

fn open(
    source: Source,
    table: impl FnOnce(Source) -> Result<Box<dyn Table>>,
    columns: &Columns,
    want: Want,
) -> Result<(Chosen, Records)> {
    let (path, notes) = (source.path().clone(), source.notes().clone());
    let rows = Rows::of(path, notes, table(source)?, want.content != Content::Choices)?;
    forms::open(Box::new(rows), columns, want)
}
