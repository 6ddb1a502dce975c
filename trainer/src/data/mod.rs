//! Texts with labels, from TSV, CSV and JSONL files.
//!
//! A data set fits in memory, so a file is read at once and checked at once: every row is either good or an
//! error that names file and line, before the first training step. [`Dataset::read`] is the way in;
//! [`Labels`] maps label names to class numbers.
//!
//! | extension | rows |
//! |---|---|
//! | `.tsv` | cells split at tabs; quotes are ordinary characters and nothing is escaped, as in the GLUE files |
//! | `.csv` | RFC 4180: cells split at commas, quoted where they hold commas, quotes or line breaks |
//! | `.jsonl` | one JSON object a line; a label may be a string, a number or a boolean |
//!
//! All are UTF-8, with or without a byte order mark, with either kind of line ending; blank lines are skipped.

mod columns;
mod header;
mod jsonl;
mod labels;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use columns::{Column, Columns, Header};
pub use labels::Labels;

/// One text (or pair of texts), perhaps with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The text; never empty.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The label's name, without the spaces around it.
    pub label: Option<String>,
    /// Where the row starts in its file, counted from one.
    pub line: usize,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Cells split at tabs, no quoting.
    Tsv,
    /// RFC 4180.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// The format that the extension of `path` stands for.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("tsv") => Ok(Self::Tsv),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => Err(Error::file(
                path,
                "the extension must be .tsv, .csv or .jsonl: it says how to read the file",
            )),
        }
    }
}

/// Whether labels are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Every row must have a label: training and evaluation.
    Labels,
    /// Labels are not looked at, unless the label column is named: prediction.
    TextsOnly,
}

/// The rows of one file, in its order.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Where they came from; error messages name it.
    pub path: PathBuf,
    /// At least one row.
    pub rows: Vec<Row>,
    /// The columns that were read.
    pub chosen: Chosen,
}

/// Which columns were read, to be shown to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The text's column, by name where there is a header and by index otherwise.
    pub text: String,
    /// The second text's.
    pub pair: Option<String>,
    /// The label's.
    pub label: Option<String>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text from {}", self.text)?;
        if let Some(pair) = &self.pair {
            write!(f, " and {pair}")?;
        }
        match &self.label {
            Some(label) => write!(f, ", label from {label}"),
            None => Ok(()),
        }
    }
}

impl Dataset {
    /// Reads a `.tsv`, `.csv` or `.jsonl` file.
    pub fn read(path: impl AsRef<Path>, columns: &Columns, want: Want) -> Result<Self> {
        let path = path.as_ref();
        let format = Format::of(path)?;
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, format, &bytes, columns, want)
    }

    /// Texts that stand in no file, numbered from one.
    pub fn of_texts(texts: &[String]) -> Result<Self> {
        let path = Path::new("--text");
        let row = |(i, text): (usize, &String)| match text.trim().is_empty() {
            true => Err(Error::line(path, i + 1, "the text is empty")),
            false => Ok(Row { text: text.clone(), pair: None, label: None, line: i + 1 }),
        };
        let rows = texts.iter().enumerate().map(row).collect::<Result<_>>()?;
        Ok(Self { path: path.into(), rows, chosen: Chosen { text: "--text".into(), pair: None, label: None } })
    }

    /// Reads bytes; `path` only names them in errors.
    pub fn parse(
        path: impl AsRef<Path>,
        format: Format,
        bytes: &[u8],
        columns: &Columns,
        want: Want,
    ) -> Result<Self> {
        let path = path.as_ref();
        let text = utf8(path, bytes)?;
        if text.trim().is_empty() {
            return Err(Error::file(path, "the file is empty"));
        }
        let (rows, chosen) = match format {
            Format::Tsv => table::rows(path, table::tsv(text), columns, want)?,
            Format::Csv => table::rows(path, table::csv(path, text)?, columns, want)?,
            Format::Jsonl => jsonl::rows(path, text, columns, want)?,
        };
        Ok(Self { path: path.into(), rows, chosen })
    }

    /// Texts that come from elsewhere; `name` names them in errors, as in "`name`:2" for the second.
    pub fn of_texts(name: &str, texts: &[String]) -> Result<Self> {
        let path = PathBuf::from(name);
        if texts.is_empty() {
            return Err(Error::file(&path, "there are no texts"));
        }
        let rows = texts.iter().enumerate().map(|(i, text)| row(&path, i + 1, text, None, None));
        let rows = rows.collect::<Result<_>>()?;
        Ok(Self { path, rows, chosen: Chosen { text: name.into(), pair: None, label: None } })
    }

    /// Number of rows.
    #[expect(clippy::len_without_is_empty, reason = "a data set without rows is an error when it is read")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The text of a file, without its byte order mark.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::file(path, "the file is UTF-16; save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let byte = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
        let found = bytes[error.valid_up_to()];
        Error::line(path, line, format!("not UTF-8: byte {byte} of the line is 0x{found:02x}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Checks what was found in one row and puts it together.
fn row(path: &Path, line: usize, text: &str, pair: Option<&str>, label: Option<&str>) -> Result<Row> {
    let filled = |what: &str, cell: &str| {
        if cell.trim().is_empty() {
            Err(Error::line(path, line, format!("the {what} is empty")))
        } else {
            Ok(())
        }
    };
    filled("text", text)?;
    pair.map_or(Ok(()), |pair| filled("second text", pair))?;
    label.map_or(Ok(()), |label| filled("label", label))?;
    Ok(Row {
        text: text.into(),
        pair: pair.map(Into::into),
        label: label.map(|label| label.trim().into()),
        line,
    })
}

#[cfg(test)]
mod tests;
