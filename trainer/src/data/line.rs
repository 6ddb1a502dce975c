//! A row of a table as it stands in its file.
use std::borrow::Cow;

/// Cells, and the line where they start.
pub(super) struct Line<'a> {
    pub line: usize,
    pub cells: Vec<Cow<'a, str>>,
}
