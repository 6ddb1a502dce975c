//! Lines of cells, with quotes and without.
use std::collections::VecDeque;
use std::path::Path;

use super::lines::Lines;
use crate::error::{Error, Result};

/// The cells of a row, and the line where they start.
pub(super) struct Line {
    pub line: usize,
    pub cells: Vec<String>,
    /// Where quotes are characters like any other: whether one would be open at its end if they
    /// were not.
    pub is_cut_off: bool,
}

/// The next row of a file whose cells are split at tabs, and nothing else; a line of nothing but
/// spaces is no row.
pub(super) fn plain(lines: &mut Lines) -> Result<Option<Line>> {
    let mut number = lines.number();
    while let Some(line) = lines.next()? {
        number += 1;
        if line.contains('\t') || !line.trim().is_empty() {
            let cells: Vec<String> = line.split('\t').map(Into::into).collect();
            let is_cut_off = line.bytes().filter(|b| *b == b'"').count() % 2 == 1;
            if let Some(cell) = cells.iter().find(|cell| is_quoted(cell)) {
                let shown: String = cell.chars().take(40).collect();
                let place = format!("{}:{number}", lines.path().display());
                lines.note(format!(
                    "{place}: quotes are read as they stand, as in {shown}; --quotes csv takes them away"
                ));
            }
            return Ok(Some(Line { line: number, cells, is_cut_off }));
        }
    }
    Ok(None)
}

/// Whether a cell is as a program writes it that quotes: in quotes, with those inside doubled.
fn is_quoted(cell: &str) -> bool {
    let inside = cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| inside.contains("\"\"") && !inside.replace("\"\"", "").contains('"'))
}

/// Bytes that are split into cells at once.
const PART: usize = 1 << 15;

/// RFC 4180: cells that hold delimiters, quotes or line breaks stand in quotes, and their quotes
/// are doubled.
pub(super) struct Quoted {
    lines: Lines,
    delimiter: u8,
    ready: VecDeque<Line>,
}

impl Quoted {
    pub fn new(lines: Lines, delimiter: u8) -> Quoted {
        Quoted { lines, delimiter, ready: VecDeque::new() }
    }

    pub fn path(&self) -> &Path {
        self.lines.path()
    }

    pub fn next(&mut self) -> Result<Option<Line>> {
        while self.ready.is_empty() {
            // some whole rows: a valid row holds an even number of quotes
            let (first, mut text, mut is_even) = (self.lines.number() + 1, String::new(), true);
            while text.len() < PART || !is_even {
                let Some(line) = self.lines.next_whole()? else { break };
                is_even ^= line.bytes().filter(|b| *b == b'"').count() % 2 == 1;
                text.push_str(line);
            }
            if text.is_empty() {
                return Ok(None);
            }
            self.split(&text, first)?;
        }
        Ok(self.ready.pop_front())
    }

    /// Splits whole rows, the first of which stands in line `line`. A quote that is not closed
    /// would swallow the rest of the file, so it is looked for.
    fn split(&mut self, text: &str, mut line: usize) -> Result<()> {
        let path = self.lines.path();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(text.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut counted = 0;
        while reader.read_record(&mut record).map_err(|error| Error::file(path, error.to_string()))? {
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
            let is_blank = |c: char| c.is_whitespace() && c != char::from(self.delimiter);
            if !raw.trim_matches(is_blank).is_empty() {
                let cells = record.iter().map(Into::into).collect();
                self.ready.push_back(Line { line, cells, is_cut_off: false });
            }
        }
        Ok(())
    }
}
