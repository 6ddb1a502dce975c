//! Records from files: texts or words, with their labels.
//!
//! A data set fits in memory, so a file is read at once and checked at once: every record is either good or an error that names
//! file and line, before the first training step. [`Dataset::read`] is the way in; [`Labels`] maps label names to class numbers.
//! [`FORMATS`] lists how files may be written: by extension, and by what a task reads of them.
//!
//! | extension | records |
//! |---|---|
//! | `.tsv` | cells split at tabs; quotes are ordinary characters and nothing is escaped, as in the GLUE files |
//! | `.csv` | RFC 4180: cells split at commas, quoted where they hold commas, quotes or line breaks |
//! | `.jsonl` | one JSON object a line; a label may be a string, a number or a boolean, words and their labels are lists |
//! | `.conll` and others | a word a line with its tags, for words |
//! | `.conllu` | Universal Dependencies, for words |
//! | `.txt` | a document a line, or documents apart by blank lines; for words the same as `.conll` |
//!
//! All are UTF-8, with or without a byte order mark, with either kind of line ending; blank lines are skipped.

mod columns;
mod conll;
mod conllu;
mod dataset;
mod documents;
mod format;
mod header;
mod jsonl;
mod labels;
mod line;
mod record;
mod table;
mod words;

pub use columns::{Column, Columns, Documents, Header};
pub use dataset::{Dataset, FORMATS};
pub use format::Format;
pub use labels::Labels;
pub use record::{Chosen, Content, Input, Label, Record, Want};

#[cfg(test)]
mod tests;
