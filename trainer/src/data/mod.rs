//! Records from files: texts or words, with their labels.
//!
//! A file is read record by record and never held as a whole: every record is either good or an
//! error that names file and line. [`Files`] are what a data set is read from, in small parts and
//! as often as needed; a [`Dataset`] is such a part, or all of it in memory. [`Labels`] maps label
//! names to class numbers. [`FORMATS`] lists how files may be written: by extension, in front of
//! `.gz` where they are packed, and by what a task reads of them.
//!
//! | extension | records |
//! |---|---|
//! | `.tsv` | cells split at tabs; quotes are ordinary characters and nothing is escaped, as in the GLUE files, unless asked for ([`Quotes`]) |
//! | `.csv` | RFC 4180: cells split at commas, quoted where they hold commas, quotes or line breaks |
//! | `.jsonl`, `.ndjson` | one JSON object a line; a label may be a string, a number or a boolean, words and their labels are lists, as are choices; a source may be a list of sentences, which spaces join, and a target a list of references |
//! | `.json` | questions as SQuAD has them: articles with paragraphs, or a list of objects |
//! | `.conll` and others | a word a line with its tags, for words |
//! | `.conllu` | Universal Dependencies, for words |
//! | `.parquet`, `.arrow` | a row is the object that it would be in JSONL; integers that are classes of `datasets` are their names |
//! | `.txt` | a document a line, or documents apart by blank lines; for words the same as `.conll` |
//!
//! [`expand`] finds the files that patterns, directories and data sets of the hub stand for.
//!
//! All texts are UTF-8, with or without a byte order mark, with either kind of line ending; blank lines
//! are skipped.

mod by_adapter;
mod cells;
mod choices;
mod columnar;
mod columns;
mod conll;
mod conllu;
mod dataset;
mod documents;
mod elements;
mod fields;
mod files;
mod finder;
mod format;
mod formats;
mod forms;
mod header;
mod jsonl;
mod labels;
mod lines;
mod name;
mod object;
mod objects;
mod questions;
mod reading;
mod record;
mod sets;
mod source;
mod squad;
mod survey;
mod table;
mod words;

pub use by_adapter::OfAdapter;
pub use columns::{Column, Columns, Documents, Header, Quotes};
pub use dataset::Dataset;
pub use files::Files;
pub use format::{Format, Open, Records};
pub use formats::FORMATS;
pub use labels::{LabelNames, Labels};
pub use lines::Lines;
pub use name::Name;
pub use record::{Chosen, Content, Input, Label, NO_NUMBER, Purpose, Record, Span, Want};
pub use sets::expand;
pub use source::{Notes, STDIN, Source};
pub(crate) use survey::Seeing;
pub use survey::{Seen, Survey};

#[cfg(test)]
mod tests;
