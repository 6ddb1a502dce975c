//! Files that are read as one data set, as often as needed and never as a whole.
use super::columns::Columns;
use super::dataset::Dataset;
use super::formats::format;
use super::labels::LabelNames;
use super::reading::Reading;
use super::record::{Chosen, Content, Want};
use super::source::{Notes, STDIN, Source};
use super::survey::{Seeing, Survey};
use crate::error::{Error, Result};
use crate::hub;
use std::path::{Path, PathBuf};

/// The most records of a part, and the most bytes of text, of which the last record may hold more.
const PART: (usize, usize) = (1024, 1 << 18);

/// Files with records, in their order.
#[derive(Debug, Clone)]
pub struct Files {
    paths: Vec<PathBuf>,
    columns: Columns,
    want: Want,
    notes: Notes,
}

impl Files {
    /// The files at these paths, of which `-` is the standard input. An error if a name does not
    /// say how its file is to be read; nothing is opened yet.
    pub fn new(paths: &[PathBuf], columns: &Columns, want: Want) -> Result<Files> {
        for path in paths {
            format(path, columns.format.as_deref(), want.content)?;
        }
        if let (Some(column), true) = (&columns.adapter, !want.content.has_texts()) {
            let why = "only a text in a row of a table or in an object has an adapter beside it".into();
            return Err(Error::Option { option: "adapter-column", value: format!("`{column}`"), why });
        }
        if let (Some((from, _)), true) = (&columns.schemes, want.content != Content::Words) {
            let why = "only words are tagged in a scheme".into();
            return Err(Error::Option { option: "scheme-from", value: from.to_string(), why });
        }
        Ok(Files { paths: paths.into(), columns: columns.clone(), want, notes: Notes::default() })
    }

    /// What errors about all of them say.
    pub fn name(&self) -> PathBuf {
        let name = |path: &PathBuf| match path.as_os_str() == STDIN {
            true => "stdin".into(),
            false => path.clone(),
        };
        match &self.paths[..] {
            [] => PathBuf::new(),
            [one] => name(one),
            [first, rest @ ..] => format!("{} and {} more", name(first).display(), rest.len()).into(),
        }
    }

    /// The records in parts, each of one file and small.
    pub fn parts(&self) -> impl Iterator<Item = Result<Dataset>> + '_ {
        let mut paths = self.paths.iter();
        let mut reading: Option<Reading> = None;
        let mut before: Option<(PathBuf, Chosen)> = None;
        let mut next = move || loop {
            if let Some(reading) = &mut reading
                && let Some(part) = part(reading)?
            {
                return Ok(Some(part));
            }
            let Some(path) = paths.next() else { return Ok(None) };
            let source = |notes: &Notes| Source::open(path, notes);
            let opened = Reading::of(path, source, &self.columns, self.want, &self.notes)?;
            let (first, chosen) = before.get_or_insert_with(|| (path.clone(), opened.chosen.clone()));
            if chosen.pair.is_some() != opened.chosen.pair.is_some() {
                let pair = |chosen: &Chosen| if chosen.pair.is_some() { "a second text" } else { "none" };
                let (here, there) = (pair(&opened.chosen), pair(chosen));
                let why = format!("{here} for each text, and {there} in {}", first.display());
                return Err(Error::file(path, why));
            }
            reading = Some(opened);
        };
        std::iter::from_fn(move || next().transpose())
    }

    /// All records.
    pub fn read(&self) -> Result<Dataset> {
        let mut parts = self.parts();
        let none = || Error::file(&self.name(), "the file is empty");
        let mut all = parts.next().ok_or_else(none)??;
        all.path = self.name();
        for part in parts {
            all.append(part?);
        }
        Ok(all)
    }

    /// What there is: every record is looked at, and an error is found here that is in any of them.
    pub fn survey(&self) -> Result<Survey> {
        let (mut names, mut seeing) = (LabelNames::default(), Seeing::default());
        for part in self.parts() {
            let part = part?;
            seeing.add(&part);
            names.add(&part)?;
        }
        Ok(Survey { names, seen: seeing.end() })
    }

    /// An error unless the files can be read again: the standard input and pipes cannot.
    pub fn check_again(&self) -> Result<()> {
        for path in &self.paths {
            let (name, is_again) = match path.as_os_str() == STDIN {
                true => (Path::new("stdin"), false),
                false => {
                    let failed = |source| Error::Read { path: path.clone(), source };
                    (path.as_path(), std::fs::metadata(hub::file(path)?).map_err(failed)?.is_file())
                }
            };
            if !is_again {
                return Err(Error::file(
                    name,
                    "it can be read only once, and it is needed again: in every epoch of a stream, or for a teacher",
                ));
            }
        }
        Ok(())
    }

    /// What there is to say about the files, as far as they were read.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }
}

/// The next few records of a file, if there are any left.
fn part(reading: &mut Reading) -> Result<Option<Dataset>> {
    let (most, room) = PART;
    let (mut records, mut bytes) = (vec![], 0);
    while records.len() < most && bytes < room {
        let Some(record) = reading.next().transpose()? else { break };
        bytes += record.bytes() + record.pair().map_or(0, str::len);
        records.push(record);
    }
    let (path, chosen) = (reading.path.clone(), reading.chosen.clone());
    Ok((!records.is_empty()).then(|| Dataset::of(path, records, chosen)))
}
