//! One file under way.
use super::columns::{Column, Columns};
use super::format::Records;
use super::formats::format;
use super::name::Name;
use super::record::{Chosen, Label, Record, Want};
use super::source::{Notes, Source};
use crate::error::{Error, Result};
use crate::reports::scores::schemes::Scheme;
use std::path::{Path, PathBuf};

/// What stands in the place of a label's number where there is none, as in the test sets of GLUE.
const NO_LABEL: &str = "-1";

/// A file under way. An error comes once, and nothing behind it.
pub(super) struct Reading {
    pub path: PathBuf,
    pub chosen: Chosen,
    records: Records,
    /// Whether every text needs a label, and whether those without one are left out.
    needs: bool,
    skips: bool,
    skipped: usize,
    /// The scheme of words' tags, and the one that is read.
    schemes: Option<(Scheme, Scheme)>,
    /// The column of groups.
    group: Option<Column>,
    notes: Notes,
    is_empty: bool,
    is_over: bool,
}

impl Reading {
    /// Begins to read; `path` says how.
    pub fn of(
        path: &Path,
        source: impl FnOnce(&Notes) -> Result<Source>,
        columns: &Columns,
        want: Want,
        notes: &Notes,
    ) -> Result<Reading> {
        let format = format(path, columns.format.as_deref(), want.content)?;
        let source = source(notes)?;
        let path = source.path().to_path_buf();
        let (mut chosen, records) = (format.open)(source, columns, want)?;
        if columns.schemes.is_some() {
            chosen.classes = None; // they are tags of the scheme that is converted
        }
        Ok(Reading {
            path,
            chosen,
            records,
            needs: want.labels && want.content.has_texts(),
            skips: columns.skip_unlabelled,
            skipped: 0,
            schemes: columns.schemes,
            group: columns.group.clone(),
            notes: notes.clone(),
            is_empty: true,
            is_over: false,
        })
    }

    /// The next record; an error for a text without the label that it needs, unless those are left
    /// out.
    fn labelled(&mut self) -> Option<Result<Record>> {
        loop {
            let next = self.records.next();
            let Some(Ok(record)) = &next else { return next };
            if let Some(column) = self.group.as_ref().filter(|_| record.group.is_none()) {
                let why = format!("{} has no columns beside what is read", self.path.display());
                let value = format!("`{column}`");
                return Some(Err(Error::Option { option: "group-column", value, why }));
            }
            let is_unlabelled = match &record.label {
                Label::None => self.needs,
                Label::One(name) => self.needs && self.skips && name.taken() == NO_LABEL,
                _ => false,
            };
            match (is_unlabelled, self.skips) {
                (false, _) => return next.map(|next| self.converted(next?)),
                (true, true) => self.skipped += 1,
                (true, false) => {
                    let why = "the label is empty; --skip-unlabelled leaves out what has none";
                    return Some(Err(Error::line(&self.path, record.line, why)));
                }
            }
        }
    }

    /// The same with the tags of its words in the scheme that is asked for. A word without a tag is
    /// outside of entities, and stays without.
    fn converted(&self, mut record: Record) -> Result<Record> {
        let (Some((from, to)), Label::Each(labels)) = (self.schemes, &mut record.label) else {
            return Ok(record);
        };
        let tags: Vec<&str> = labels.iter().map(|l| l.as_ref().map_or("O", Name::taken)).collect();
        let tags =
            from.convert(&tags, to).map_err(|e| Error::line(&self.path, record.line, e.to_string()))?;
        let tagged = labels.iter_mut().zip(tags).filter_map(|(label, tag)| Some((label.as_mut()?, tag)));
        tagged.for_each(|(label, tag)| *label = Name::of_text(&tag));
        Ok(record)
    }

    /// Says at the end of the file how many records were left out.
    fn note(&self) {
        let (n, file) = (self.skipped, self.path.display());
        let note = format!("{n} of the records of {file} have no label and were left out");
        let mut notes = self.notes.borrow_mut();
        if n > 0 && !notes.contains(&note) {
            notes.push(note);
        }
    }
}

impl Iterator for Reading {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.is_over {
            return None;
        }
        let next = self.labelled();
        self.is_over = !matches!(next, Some(Ok(_)));
        match next {
            None if self.is_empty && self.skipped > 0 => {
                Some(Err(Error::file(&self.path, "no record of it has a label")))
            }
            None if self.is_empty => Some(Err(Error::file(&self.path, "the file is empty"))),
            next => {
                if next.is_none() {
                    self.note();
                }
                self.is_empty = false;
                next
            }
        }
    }
}
