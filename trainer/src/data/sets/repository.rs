//! Files that are called and divided as in a data set's repository on the hub, on it or in a directory.
//!
//! If the card (`README.md`) says which files are what, that holds. Else a file's split is in front of
//! `-00000-of-00002` in its name, or the one word for a split in its name or in that of its directory; and
//! a directory that is called otherwise is a configuration. Only one file needs no split: it is `train`.
use super::card;
use super::catalogue::{Chosen, Configuration, DEFAULT, Split};
use super::names::{KINDS, TRAIN, is_data, split, word};
use crate::error::{Error, Result, list};
use std::collections::BTreeSet;
use std::path::Path;

const CARD: &str = "README.md";
/// A directory that is no configuration.
const DATA: &str = "data";

/// The configurations of a repository with these files; `read` reads one of them.
pub(super) fn configurations(
    shown: &Path,
    files: &BTreeSet<String>,
    read: impl FnOnce(&str) -> Result<String>,
) -> Result<Vec<Configuration>> {
    let data: Vec<&String> = files.iter().filter(|file| is_data(file)).collect();
    if data.is_empty() {
        let some: Vec<String> = files.iter().take(10).cloned().collect();
        let there = if some.is_empty() { "it is empty".into() } else { format!("it has {}", list(&some)) };
        let kinds = KINDS.join(", .");
        return Err(Error::file(
            shown,
            format!("there is no data in it, which is in files .{kinds}; {there}"),
        ));
    }
    if files.contains(CARD) {
        let found =
            card::configurations(&shown.join(CARD), &read(CARD)?, |directory, patterns| match patterns {
                Some(patterns) => Ok(Chosen::Files(fitting(shown, &data, directory, patterns)?)),
                None => Ok(Chosen::Splits(by_name(shown, &below(&data, directory))?)),
            })?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let mut names: Vec<&str> = data.iter().map(|file| configuration(file)).collect();
    names.sort_unstable();
    names.dedup();
    let one = |name: &str| {
        let own: Vec<&String> = data.iter().copied().filter(|file| configuration(file) == name).collect();
        Ok(Configuration { name: name.into(), is_default: false, splits: by_name(shown, &own)? })
    };
    names.into_iter().map(one).collect()
}

/// The configuration that a file is of.
fn configuration(file: &str) -> &str {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    let mut own = folders.split('/').filter(|part| !part.is_empty() && *part != DATA);
    own.next().filter(|part| word(part).is_none()).unwrap_or(DEFAULT)
}

/// The files below a directory of the repository; all of them if none is given.
fn below<'a>(data: &[&'a String], directory: Option<&str>) -> Vec<&'a String> {
    let folder = directory.map(|d| format!("{}/", d.trim_matches('/')));
    data.iter().copied().filter(|file| folder.as_ref().is_none_or(|f| file.starts_with(f))).collect()
}

/// The files that fit one of the patterns.
fn fitting(
    shown: &Path,
    data: &[&String],
    directory: Option<&str>,
    patterns: &[String],
) -> Result<Vec<String>> {
    let strict = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let mut all = vec![];
    for pattern in patterns {
        let card = shown.join(CARD);
        let whole =
            directory.map_or_else(|| pattern.clone(), |d| format!("{}/{pattern}", d.trim_matches('/')));
        let plain = whole.trim_start_matches("./");
        let parsed = glob::Pattern::new(plain);
        let parsed = parsed.map_err(|e| Error::file(&card, format!("`{pattern}` is no pattern: {e}")))?;
        for file in data.iter().filter(|file| parsed.matches_with(file, strict)) {
            if !all.contains(*file) {
                all.push(file.to_string());
            }
        }
    }
    Ok(all)
}

/// Splits of files by their names.
fn by_name(shown: &Path, files: &[&String]) -> Result<Vec<Split>> {
    let mut splits: Vec<Split> = vec![];
    for file in files {
        let name = match split(file) {
            Some(name) => name,
            None if files.len() == 1 => TRAIN.into(),
            None => {
                let some: Vec<String> = files.iter().take(10).map(ToString::to_string).collect();
                let why = format!("nothing says which split `{file}` is of; there are the data files");
                return Err(Error::file(shown, format!("{why} {}: name files", list(&some))));
            }
        };
        match splits.iter_mut().find(|split| split.name.as_ref() == Some(&name)) {
            Some(split) => split.files.push(file.to_string()),
            None => splits.push(Split { name: Some(name), files: vec![file.to_string()] }),
        }
    }
    Ok(splits)
}
