//! Is the first row a header? A wrong guess costs a row of data or trains on column names, so what
//! can be read both ways is an error that says what to pass.
//!
//! With `--header auto`:
//!
//! 1. Where a column is given by name, the first row is the header, and the name must be in it.
//! 2. Otherwise the first row *looks like a header* if all its cells look like names (at most 40
//!    characters: a letter or `_`, then letters, digits, `_`, `-`, `.` or spaces, at most three
//!    words; no cell twice) and at least one is a usual name (`text`, `sentence`, `label`, `id`, ...:
//!    [`USUAL`], in capitals or not). Beside a usual name a cell may be empty or `Unnamed: 0`, as
//!    pandas calls its row numbers. It *looks like data* if neither holds. If only one holds, or if it
//!    looks like a header but what stands in the label's place is the label of a later row too (of the
//!    first thousand), it could be either.
//! 3. A row that could be either is data if what stands in the label's place (the label column's
//!    index, else the last column of two or more) is the label of a later row too and no cell is a
//!    usual name; otherwise it is an error.

use std::path::Path;

use super::cells::Line;
use super::columns::{Column, Columns, Header};
use crate::error::{Error, Result};

/// Names that columns usually have.
pub(super) const USUAL: [&str; 36] = [
    "text",
    "text_pair",
    "text_a",
    "text_b",
    "text1",
    "text2",
    "sentence",
    "sentence1",
    "sentence2",
    "sentence_a",
    "sentence_b",
    "premise",
    "hypothesis",
    "question",
    "question1",
    "question2",
    "answer",
    "review",
    "document",
    "title",
    "label",
    "labels",
    "class",
    "category",
    "target",
    "gold_label",
    "id",
    "idx",
    "index",
    "pair_id",
    "source",
    "summary",
    "article",
    "highlights",
    "mr",
    "ref",
];

/// Whether the first row names the columns; `later` are rows behind it.
pub(super) fn has_header<'a>(
    path: &Path,
    first: &Line,
    later: impl Iterator<Item = &'a Line>,
    columns: &Columns,
) -> Result<bool> {
    let by_name = columns.all().find_map(|column| match column {
        Column::Name(name) => Some(name),
        Column::Index(_) => None,
    });
    match (columns.header, by_name) {
        (Header::Yes, _) | (Header::Auto, Some(_)) => Ok(true),
        (Header::No, None) => Ok(false),
        (Header::No, Some(name)) => Err(Error::Option {
            option: "header",
            value: "no".into(),
            why: format!("column `{name}` is given by name; give its index, counted from 0"),
        }),
        (Header::Auto, None) => detect(path, first, later, columns),
    }
}

fn detect<'a>(
    path: &Path,
    first: &Line,
    mut later: impl Iterator<Item = &'a Line>,
    columns: &Columns,
) -> Result<bool> {
    let cells: Vec<&str> = first.cells.iter().map(|cell| cell.trim()).collect();
    let (names, usual) = looks(&cells);
    let bare: Vec<&str> = cells.iter().map(|cell| unquoted(cell)).collect();
    if !names && looks(&bare) == (true, true) {
        let why = "the first row seems to be column names in quotes: pass --quotes csv, or --header no";
        return Err(Error::line(path, first.line, why));
    }
    let label = match &columns.label {
        Some(Column::Index(index)) => Some(*index),
        _ if cells.len() > 1 => Some(cells.len() - 1),
        _ => None,
    };
    let found = label.and_then(|at| Some((at, *cells.get(at)?))).filter(|(_, cell)| !is_nameless(cell));
    let again =
        found.is_some_and(|(at, cell)| later.any(|row| row.cells.get(at).is_some_and(|c| c.trim() == cell)));
    match (names, usual, again) {
        (true, true, false) => Ok(true),
        (false, false, _) | (true, false, true) => Ok(false),
        _ => {
            let shown: String = cells.join(" | ").chars().take(80).collect();
            let why = format!(
                "the first row ({shown}) could be column names or data: pass --header yes or --header no"
            );
            Err(Error::line(path, first.line, why))
        }
    }
}

/// Whether all cells look like names, and whether there is a usual name among them.
fn looks(cells: &[&str]) -> (bool, bool) {
    // a column of row numbers, which pandas writes without a name or as "Unnamed: 0"
    let named: Vec<&str> = cells.iter().copied().filter(|cell| !is_nameless(cell)).collect();
    let names = named.iter().all(|cell| is_name(cell))
        && named.iter().enumerate().all(|(i, cell)| !named[..i].contains(cell));
    let usual = named.iter().any(|cell| USUAL.iter().any(|name| name.eq_ignore_ascii_case(cell)));
    (names && (usual || named.len() == cells.len()), usual)
}

/// A cell without the quotes around it.
fn unquoted(cell: &str) -> &str {
    cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell)
}

/// Whether a header may have this in the place of a name: pandas' row numbers, or what stands
/// behind a last delimiter.
fn is_nameless(cell: &str) -> bool {
    let number = cell.strip_prefix("Unnamed: ").unwrap_or("x");
    cell.is_empty() || number.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(cell: &str) -> bool {
    cell.chars().count() <= 40
        && cell.split(' ').count() <= 3
        && cell.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && cell.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c))
}
