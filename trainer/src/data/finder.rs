//! Which columns of a table are read.
use std::path::Path;

use super::columns::{ANSWERS, Column, Columns, LABEL, PAIRS, TEXTS};
use super::record::{Content, Want};
use crate::error::{Error, Result, list};

/// Indices of the columns that are read.
pub(super) struct Indices {
    pub text: usize,
    pub pair: Option<usize>,
    pub label: Option<usize>,
    pub adapter: Option<usize>,
}

/// Finds columns by their names, which without a header are their numbers.
pub(super) struct Finder<'a> {
    pub path: &'a Path,
    pub names: &'a [String],
    /// What errors call them: column, or field.
    pub what: &'static str,
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
                .ok_or_else(|| self.missing(format!("{} `{name}`", self.what), option)),
        }
    }

    /// The only column that fits; two would be a guess.
    fn once(&self, fits: impl Fn(&str) -> bool, option: &'static str) -> Result<Option<usize>> {
        let found: Vec<usize> = (0..self.names.len()).filter(|&i| fits(&self.names[i])).collect();
        if found.len() > 1 {
            return Err(self.several(&found, option));
        }
        Ok(found.first().copied())
    }

    fn several(&self, which: &[usize], option: &str) -> Error {
        let names: Vec<String> = which.iter().map(|&i| self.names[i].clone()).collect();
        let (what, names) = (self.what, list(&names));
        Error::file(self.path, format!("several {what}s could be meant: {names}; choose with {option}"))
    }

    /// The columns with the usual names of a text and perhaps of a second one: the only ones that
    /// fit, and no part of a pair alone.
    fn texts(&self) -> Result<(usize, Option<usize>)> {
        let named = |name: &'static str| {
            (0..self.names.len()).filter(move |&i| self.names[i].eq_ignore_ascii_case(name))
        };
        let pair = |&(text, pair): &(&'static str, &'static str)| {
            named(text).flat_map(move |text| named(pair).map(move |pair| (text, Some(pair))))
        };
        let mut found: Vec<_> = PAIRS.iter().flat_map(pair).collect();
        let is_part = |i: &usize| found.iter().any(|(text, pair)| text == i || *pair == Some(*i));
        let alone: Vec<_> = TEXTS.into_iter().flat_map(named).filter(|i| !is_part(i)).collect();
        found.extend(alone.into_iter().map(|text| (text, None)));
        match found[..] {
            [one] => Ok(one),
            [] => {
                let wanted = format!("{} {}", self.what, alternatives(&TEXTS));
                Err(self.missing(wanted, "--text-column"))
            }
            _ => {
                let mut all: Vec<usize> =
                    found.iter().flat_map(|(text, pair)| [Some(*text), *pair]).flatten().collect();
                all.sort_unstable();
                all.dedup();
                Err(self.several(&all, "--text-column"))
            }
        }
    }

    fn adapter(&self, columns: &Columns) -> Result<Option<usize>> {
        columns.adapter.as_ref().map(|c| self.at(c, "--adapter-column")).transpose()
    }

    /// The column of groups, if one is named.
    pub fn group(&self, columns: &Columns) -> Result<Option<usize>> {
        columns.group.as_ref().map(|c| self.at(c, "--group-column")).transpose()
    }

    /// The columns of sources and targets, which are named both or neither; of the source alone
    /// where no targets are read.
    pub fn answers(&self, columns: &Columns, want: Want) -> Result<(usize, Option<usize>)> {
        if columns.pair.is_some() {
            let why = "a source is one text".into();
            return Err(Error::Option { option: "text-pair-column", value: "given".into(), why });
        }
        let source = columns.text.as_ref().map(|c| self.at(c, "--text-column")).transpose()?;
        let target = columns.label.as_ref().map(|c| self.at(c, "--label-column")).transpose()?;
        let find = |name: &str| self.names.iter().position(|have| have.eq_ignore_ascii_case(name));
        // by what is known of the one, the other
        let fits = |found: usize, asked: Option<usize>| asked.is_none_or(|asked| asked == found);
        let both = ANSWERS.iter().filter_map(|(s, t)| Some((find(s)?, find(t)?)));
        let mut usual: Vec<_> = both.filter(|(s, t)| fits(*s, source) && fits(*t, target)).collect();
        usual.dedup();
        match (source, target, want.labels, &usual[..]) {
            (Some(source), target, false, _) => Ok((source, target)),
            (Some(source), Some(target), true, _) => Ok((source, Some(target))),
            (_, _, true, [(source, target)]) => Ok((*source, Some(*target))),
            (None, target, false, found) => {
                let mut sources: Vec<usize> = match found.is_empty() {
                    true => ANSWERS.iter().filter_map(|(s, _)| find(s)).collect(),
                    false => found.iter().map(|(s, _)| *s).collect(),
                };
                sources.sort_unstable();
                sources.dedup();
                match sources[..] {
                    [one] => Ok((one, target)),
                    _ => Err(self.missing("a column of sources, and one only".into(), "--text-column")),
                }
            }
            (Some(_), None, true, _) => Err(self.missing("a column of targets".into(), "--label-column")),
            (None, ..) => {
                let wanted = "a column of sources with one of targets, and no others".into();
                Err(self.missing(wanted, "--text-column and --label-column"))
            }
        }
    }

    pub fn with_header(&self, columns: &Columns, want: Want) -> Result<Indices> {
        if want.content == Content::Answers {
            let (text, label) = self.answers(columns, want)?;
            return Ok(Indices { text, pair: None, label, adapter: self.adapter(columns)? });
        }
        let at = |column: &Column, option| self.at(column, option);
        let (text, beside) = match &columns.text {
            Some(column) => (at(column, "--text-column")?, None),
            None => self.texts()?,
        };
        let pair = match &columns.pair {
            Some(column) => Some(at(column, "--text-pair-column")?),
            None => beside,
        };
        let label = match (&columns.label, want.labels) {
            (Some(column), _) => Some(self.at(column, "--label-column")?),
            (None, false) => None,
            (None, true) => {
                let found = self.once(|name| name.eq_ignore_ascii_case(LABEL), "--label-column")?;
                Some(
                    found
                        .ok_or_else(|| self.missing(format!("{} `{LABEL}`", self.what), "--label-column"))?,
                )
            }
        };
        Ok(Indices { text, pair, label, adapter: self.adapter(columns)? })
    }

    pub fn without_header(&self, columns: &Columns, want: Want) -> Result<Indices> {
        let width = self.names.len();
        let at = |column: &Option<Column>, option| column.as_ref().map(|c| self.at(c, option)).transpose();
        let text = at(&columns.text, "--text-column")?;
        let pair = at(&columns.pair, "--text-pair-column")?;
        let label = at(&columns.label, "--label-column")?;
        let adapter = self.adapter(columns)?;
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
            None if width == 2 && pair.is_none() => label.or(adapter).map_or(0, |other| 1 - other),
            None if width == 1 => 0,
            None => return Err(guess("--text-column")),
        };
        Ok(Indices { text, pair, label, adapter })
    }
}

/// `a`, `b` or `c`.
fn alternatives(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
