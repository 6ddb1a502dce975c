//! What a path of data stands for: a file, the files of a pattern, a data set in a directory or of the hub.
//!
//! A data set has splits, and perhaps several configurations of them: it is what `datasets` saved
//! ([`saved`]), or files that are called and divided as in the repositories of the hub ([`repository`]).
//! `DIR:SPLIT` or `DIR:CONFIG:SPLIT` names one; where none is named the split depends on what it is for, and
//! what could be several is an error that lists them.
mod card;
mod catalogue;
mod names;
mod repository;
mod saved;

use super::record::Purpose;
use crate::error::{Error, Result};
use crate::hub;
use crate::reports::progress::Mode;
use catalogue::{Catalogue, Configuration, DEFAULT};
use std::path::{Path, PathBuf};

/// The files that paths stand for: of patterns such as `data/*.tsv` those of each in the order of their
/// names, of data sets those of a split, in their order. A path of a file that is there stands for itself,
/// whatever characters are in it. What is of the hub is downloaded.
pub fn expand(paths: &[PathBuf], purpose: Purpose, mode: Mode) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    for path in paths {
        match one(path, purpose, mode)? {
            Some(files) => all.extend(files),
            None => all.push(path.clone()),
        }
    }
    Ok(all)
}

/// The files that a path stands for, unless it is one.
fn one(path: &Path, purpose: Purpose, mode: Mode) -> Result<Option<Vec<PathBuf>>> {
    if path.is_dir() {
        return catalogue(path)?.files(path, &[], purpose).map(Some);
    }
    if path.exists() {
        return Ok(None);
    }
    let Some(text) = path.to_str() else { return Ok(None) };
    if let Some(repository) = hub::Repository::find(path, mode)? {
        return of_hub(&repository, purpose).map(Some);
    }
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    for named in 1..parts.len() {
        let (names, directory) = parts.split_at(named);
        let directory = directory.iter().rev().copied().collect::<Vec<_>>().join(":");
        if !directory.is_empty() && Path::new(&directory).is_dir() {
            let names: Vec<&str> = names.iter().rev().copied().collect();
            let directory = Path::new(&directory);
            return catalogue(directory)?.files(directory, &names, purpose).map(Some);
        }
    }
    if text.contains(['*', '?', '[']) {
        return matching(path, text).map(Some);
    }
    Ok(None)
}

/// The data set in a directory.
fn catalogue(directory: &Path) -> Result<Catalogue> {
    let configurations = match saved::splits(directory)? {
        Some(splits) => vec![Configuration { name: DEFAULT.into(), is_default: true, splits }],
        None => {
            let read = |card: &str| text(directory.join(card));
            repository::configurations(directory, &hub::files_below(directory)?, read)?
        }
    };
    Ok(Catalogue { shown: directory.into(), configurations })
}

fn text(path: PathBuf) -> Result<String> {
    std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
}

/// The files of a data set of the hub.
fn of_hub(repository: &hub::Repository, purpose: Purpose) -> Result<Vec<PathBuf>> {
    let files = match repository.file() {
        Some(file) => vec![PathBuf::from(file)],
        None => {
            let shown = PathBuf::from(repository.shown());
            let read = |card: &str| text(repository.fetch(card)?);
            let configurations = repository::configurations(&shown, repository.files(), read)?;
            Catalogue { shown, configurations }.files(Path::new(""), &repository.names(), purpose)?
        }
    };
    let fetched = |file: PathBuf| {
        let file = file.to_string_lossy().replace('\\', "/");
        repository.fetch(&file)?;
        Ok(repository.path(&file))
    };
    files.into_iter().map(fetched).collect()
}

/// The files whose paths fit a pattern.
fn matching(path: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern).map_err(|e| Error::file(path, format!("no pattern: {e}")))?;
    let mut all = vec![];
    for file in found {
        let failed = |e: glob::GlobError| Error::Read { path: e.path().into(), source: e.into() };
        let file = file.map_err(failed)?;
        if !file.is_dir() {
            all.push(file);
        }
    }
    match all.is_empty() {
        true => Err(Error::file(path, "no file has a name like this")),
        false => Ok(all),
    }
}
