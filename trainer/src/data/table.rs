//! Rows of cells: TSV and CSV.

use std::collections::VecDeque;
use std::path::Path;

use super::cells::{Line, Quoted, plain};
use super::choices;
use super::columns::{Columns, Quotes};
use super::finder::{Finder, Indices};
use super::format::{Format, Records, records};
use super::header;
use super::lines::Lines;
use super::record::{Chosen, Content, Label, Record, Want};
use crate::error::{Error, Result};
use serde_json::Value;

const CONTENTS: &[Content] = &[
    Content::Texts,
    Content::LabelSets,
    Content::Values,
    Content::Documents,
    Content::Answers,
    Content::Choices,
];
/// TSV's row in the registry.
pub(super) const TSV: Format = Format {
    extensions: &["tsv"],
    contents: CONTENTS,
    open: |source, columns, want| match (columns.quotes, Lines::of(source)?) {
        (Quotes::Literal, lines) => rows(Cells::Plain(lines), columns, want),
        (Quotes::Csv, lines) => rows(Cells::Quoted(Quoted::new(lines, b'\t')), columns, want),
    },
};
/// CSV's row in the registry.
pub(super) const CSV: Format = Format {
    extensions: &["csv"],
    contents: CONTENTS,
    open: |source, columns, want| rows(Cells::Quoted(Quoted::new(Lines::of(source)?, b',')), columns, want),
};

/// Rows that are looked at to find out whether the first one is a header, and about how many bytes.
const AHEAD: (usize, usize) = (1000, 1 << 20);

/// Where rows of cells come from.
enum Cells {
    /// Cells at tabs.
    Plain(Lines),
    /// Cells that may be quoted.
    Quoted(Quoted),
}

impl Cells {
    fn path(&self) -> &Path {
        match self {
            Cells::Plain(lines) => lines.path(),
            Cells::Quoted(quoted) => quoted.path(),
        }
    }
    fn next(&mut self) -> Result<Option<Line>> {
        match self {
            Cells::Plain(lines) => plain(lines),
            Cells::Quoted(quoted) => quoted.next(),
        }
    }
}

/// How a row is read.
enum Form {
    /// Each of some cells is something.
    Cells(Indices),
    /// Several cells are choices.
    Choices(choices::Form),
}

/// Finds the columns, then reads every row by them.
fn rows(mut cells: Cells, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    let path = cells.path().to_path_buf();
    let (mut ahead, mut bytes) = (VecDeque::new(), 0);
    while ahead.len() < 2 || ahead.len() < AHEAD.0 && bytes < AHEAD.1 {
        match cells.next() {
            Ok(Some(line)) => {
                bytes += line.cells.iter().map(String::len).sum::<usize>();
                ahead.push_back(Ok(line));
            }
            Ok(None) => break,
            Err(error) => {
                ahead.push_back(Err(error)); // its turn comes
                break;
            }
        }
    }
    let first = match ahead.pop_front() {
        None => return Err(Error::file(&path, "the file is empty")),
        Some(first) => first?,
    };
    let headed = header::has_header(&path, &first, ahead.iter().flatten(), columns)?;
    let width = first.cells.len();
    let names: Vec<String> = if headed {
        first.cells.iter().map(|cell| cell.trim().into()).collect()
    } else {
        (0..width).map(|i| i.to_string()).collect()
    };
    let find = Finder { path: &path, names: &names, what: "column" };
    let group = find.group(columns)?;
    let form = match (want.content, headed) {
        (Content::Choices, false) => {
            return Err(Error::file(
                &path,
                "choices are found by the names of their columns: it needs a header",
            ));
        }
        (Content::Choices, true) => Form::Choices(choices::Form::find(&path, &names, columns, want)?),
        (_, true) => Form::Cells(find.with_header(columns, want)?),
        (_, false) => Form::Cells(find.without_header(columns, want)?),
    };
    if headed && ahead.is_empty() {
        return Err(Error::file(&path, "the file has a header but no rows"));
    }
    if !headed {
        ahead.push_front(Ok(first));
    }
    let show = |index: usize| if headed { format!("`{}`", names[index]) } else { format!("column {index}") };
    let chosen = match &form {
        Form::Cells(at) => {
            let (pair, label) = (at.pair.map(show), at.label.map(show));
            Chosen { text: show(at.text), pair, label, classes: None }
        }
        Form::Choices(form) => form.chosen(),
    };
    let shape = Shape { names, form, group, content: want.content, separator: columns.separator() };
    let next = move || {
        let line = match ahead.pop_front() {
            Some(line) => Some(line?),
            None => cells.next()?,
        };
        line.map(|line| shape.grouped(cells.path(), &line)).transpose()
    };
    Ok((chosen, records(next)))
}

/// What every row is like.
struct Shape {
    names: Vec<String>,
    form: Form,
    group: Option<usize>,
    content: Content,
    /// What stands between the labels of a cell.
    separator: String,
}

impl Shape {
    fn grouped(&self, path: &Path, row: &Line) -> Result<Record> {
        let record = self.record(path, row)?;
        match self.group {
            Some(index) => record.of_group(path, &row.cells[index]),
            None => Ok(record),
        }
    }
    fn record(&self, path: &Path, row: &Line) -> Result<Record> {
        let Shape { names, form, content, separator, .. } = self;
        let width = names.len();
        if row.cells.len() != width {
            let many = |n| format!("{n} column{}", if n == 1 { "" } else { "s" });
            let mut why = format!("{} where the first row has {width}", many(row.cells.len()));
            if row.is_cut_off {
                why += "; cells with line breaks in quotes are read with --quotes csv";
            }
            return Err(Error::line(path, row.line, why));
        }
        let indices = match form {
            Form::Cells(indices) => indices,
            Form::Choices(form) => {
                let cell = |name: &str| {
                    let at = names.iter().position(|have| have == name);
                    Value::from(at.and_then(|at| row.cells.get(at)).map_or("", String::as_str))
                };
                return form.record(path, row.line, &|name| Ok(cell(name)));
            }
        };
        let cell = |index: usize| row.cells[index].as_str();
        let (text, label) = (cell(indices.text), indices.label.map(cell));
        let record = match content {
            Content::Answers => {
                Record::answered(path, row.line, text, label.map(|target| vec![target.into()]))?
            }
            _ => {
                let label = label.map(|label| Label::of_cell(*content, label, separator)).transpose();
                let label = label.map_err(|why| Error::line(path, row.line, why))?;
                Record::row(path, row.line, text, indices.pair.map(cell), label.unwrap_or(Label::None))?
            }
        };
        record.of_adapter(path, indices.adapter.map(cell))
    }
}
