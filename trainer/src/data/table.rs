//! Rows of cells: TSV and CSV.

use std::borrow::Cow;
use std::path::Path;

use super::columns::{Column, Columns, LABEL, TEXTS};
use super::format::Format;
use super::header;
use super::line::Line;
use super::record::{Chosen, Content, Record, Want};
use crate::error::{Error, Result, list};

const CONTENTS: &[Content] = &[Content::Texts, Content::Documents];
/// TSV's row in the registry.
pub(super) const TSV: Format = Format {
    extensions: &["tsv"],
    contents: CONTENTS,
    read: |path, text, columns, want| rows(path, tsv(text), columns, want),
};
/// CSV's row in the registry.
pub(super) const CSV: Format = Format {
    extensions: &["csv"],
    contents: CONTENTS,
    read: |path, text, columns, want| rows(path, csv(path, text)?, columns, want),
};

/// Splits lines at `\n` or `\r\n` and cells at tabs; a line of nothing but spaces is no row.
fn tsv(text: &str) -> Vec<Line<'_>> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    lines
        .filter(|(_, line)| line.contains('\t') || !line.trim().is_empty())
        .map(|(i, line)| Line { line: i + 1, cells: line.split('\t').map(Cow::Borrowed).collect() })
        .collect()
}

/// RFC 4180. A quote that is not closed would swallow the rest of the file, so it is looked for: a record of
/// a valid file holds an even number of quotes.
fn csv<'a>(path: &Path, text: &'a str) -> Result<Vec<Line<'a>>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut records = Vec::new();
    let (mut line, mut counted) = (1, 0);
    loop {
        let more = reader.read_record(&mut record).map_err(|error| Error::file(path, error.to_string()))?;
        if !more {
            return Ok(records);
        }
        // The position is that of the line breaks before the record, if there are any.
        let from = record.position().map_or(0, |position| position.byte() as usize);
        let start = from + text[from..].bytes().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let end = reader.position().byte() as usize;
        line += text[counted..start].bytes().filter(|&b| b == b'\n').count();
        counted = start;
        let raw = &text[start..end];
        if raw.bytes().filter(|&b| b == b'"').count() % 2 == 1 {
            let why = "a quote is left open; inside a quoted cell a quote is written twice, and a cell \
                       with a quote in it is quoted";
            return Err(Error::line(path, line, why));
        }
        if !raw.trim().is_empty() {
            records.push(Line { line, cells: record.iter().map(|cell| Cow::Owned(cell.into())).collect() });
        }
    }
}

/// Indices of the columns that are read.
struct Indices {
    text: usize,
    pair: Option<usize>,
    label: Option<usize>,
}

/// Finds the columns, then reads every record by them.
fn rows(path: &Path, records: Vec<Line<'_>>, columns: &Columns, want: Want) -> Result<(Vec<Record>, Chosen)> {
    let Some(first) = records.first() else { return Err(Error::file(path, "the file is empty")) };
    let width = first.cells.len();
    let headed = header::has_header(path, &records, columns)?;
    let names: Vec<String> = if headed {
        first.cells.iter().map(|cell| cell.trim().into()).collect()
    } else {
        (0..width).map(|i| i.to_string()).collect()
    };
    let find = Finder { path, names: &names };
    let indices = if headed { find.with_header(columns, want)? } else { find.without_header(columns, want)? };
    let data = &records[usize::from(headed)..];
    if data.is_empty() {
        return Err(Error::file(path, "the file has a header but no rows"));
    }
    let mut rows = Vec::with_capacity(data.len());
    for Line { line, cells } in data {
        if cells.len() != width {
            let many = |n| format!("{n} column{}", if n == 1 { "" } else { "s" });
            let why = format!("{} where the first row has {width}", many(cells.len()));
            return Err(Error::line(path, *line, why));
        }
        let cell = |index: usize| cells[index].as_ref();
        rows.push(Record::row(
            path,
            *line,
            cell(indices.text),
            indices.pair.map(cell),
            indices.label.map(cell),
        )?);
    }
    let show = |index: usize| if headed { format!("`{}`", names[index]) } else { format!("column {index}") };
    let chosen =
        Chosen { text: show(indices.text), pair: indices.pair.map(show), label: indices.label.map(show) };
    Ok((rows, chosen))
}

struct Finder<'a> {
    path: &'a Path,
    names: &'a [String],
}

impl Finder<'_> {
    fn missing(&self, wanted: String, option: &'static str) -> Error {
        Error::Column { path: self.path.into(), wanted, columns: self.names.to_vec(), option }
    }

    fn at(&self, column: &Column, option: &'static str) -> Result<usize> {
        match column {
            Column::Index(index) if *index < self.names.len() => Ok(*index),
            Column::Index(index) => Err(self.missing(format!("column {index} (counted from 0)"), option)),
            Column::Name(name) => self
                .once(|have| have == name, option)?
                .ok_or_else(|| self.missing(format!("column `{name}`"), option)),
        }
    }

    /// The only column that fits; two would be a guess.
    fn once(&self, fits: impl Fn(&str) -> bool, option: &'static str) -> Result<Option<usize>> {
        let found: Vec<usize> = (0..self.names.len()).filter(|&i| fits(&self.names[i])).collect();
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|&i| self.names[i].clone()).collect();
            let why = format!("several columns could be meant: {}; choose with {option}", list(&names));
            return Err(Error::file(self.path, why));
        }
        Ok(found.first().copied())
    }

    fn with_header(&self, columns: &Columns, want: Want) -> Result<Indices> {
        let usual = |name: &str| TEXTS.iter().find(|(text, _)| text.eq_ignore_ascii_case(name));
        let text = match &columns.text {
            Some(column) => self.at(column, "--text-column")?,
            None => {
                let wanted = || "column `text`, `sentence` or `sentence1`".to_string();
                self.once(|name| usual(name).is_some(), "--text-column")?
                    .ok_or_else(|| self.missing(wanted(), "--text-column"))?
            }
        };
        let pair = match (&columns.pair, &columns.text) {
            (Some(column), _) => Some(self.at(column, "--text-pair-column")?),
            (None, Some(_)) => None,
            (None, None) => match usual(&self.names[text]) {
                Some((_, Some(pair))) => {
                    self.once(|name| name.eq_ignore_ascii_case(pair), "--text-pair-column")?
                }
                _ => None,
            },
        };
        let label = match (&columns.label, want.labels) {
            (Some(column), _) => Some(self.at(column, "--label-column")?),
            (None, false) => None,
            (None, true) => {
                let found = self.once(|name| name.eq_ignore_ascii_case(LABEL), "--label-column")?;
                Some(found.ok_or_else(|| self.missing(format!("column `{LABEL}`"), "--label-column"))?)
            }
        };
        Ok(Indices { text, pair, label })
    }

    fn without_header(&self, columns: &Columns, want: Want) -> Result<Indices> {
        let width = self.names.len();
        let at = |column: &Option<Column>, option| column.as_ref().map(|c| self.at(c, option)).transpose();
        let text = at(&columns.text, "--text-column")?;
        let pair = at(&columns.pair, "--text-pair-column")?;
        let label = at(&columns.label, "--label-column")?;
        let guess = |option: &str| {
            let why =
                format!("there is no header and there are {width} columns: say which with {option} INDEX");
            Error::file(self.path, why)
        };
        let label = match (label, want.labels) {
            (None, true) if width == 1 => {
                return Err(self.missing("column with labels".into(), "--label-column"));
            }
            (None, true) if width == 2 => Some(1 - text.unwrap_or(0)),
            (None, true) => return Err(guess("--label-column")),
            (label, _) => label,
        };
        let text = match text {
            Some(text) => text,
            None if width == 2 && pair.is_none() => label.map_or(0, |label| 1 - label),
            None if width == 1 => 0,
            None => return Err(guess("--text-column")),
        };
        Ok(Indices { text, pair, label })
    }
}
