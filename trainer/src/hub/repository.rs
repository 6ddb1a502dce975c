//! Data sets of the hub, by paths such as `hf:datasets/OWNER/NAME@REVISION:CONFIG:SPLIT`.
//!
//! What such a path stands for is found once, at one commit, and from then on each file has a path of its
//! own: `hf:datasets/OWNER/NAME@COMMIT/FILE`, which means the same for ever.
use super::cache::{Place, files_below};
use super::home::Home;
use super::name::{Name, Within, is_commit};
use super::{Failed, absent, download_file, look};
use crate::{Error, Result, reports::progress::Mode};
use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

/// A data set at a commit.
pub struct Repository {
    home: Home,
    name: Name,
    within: Within,
    commit: String,
    files: BTreeSet<String>,
    mode: Mode,
}

impl Repository {
    /// The data set that a path names, as the hub has it, or else the cache; none if it is a path of files.
    ///
    /// # Errors
    /// A path that begins with `hf:` and names no data set, one that is not there or not for this user, and
    /// one of which nothing is here if the hub is not asked or does not answer.
    pub fn find(path: &Path, mode: Mode) -> Result<Option<Repository>> {
        let Some((name, within)) = Name::of_data(path)? else { return Ok(None) };
        let home = Home::from_env()?;
        let place = Place::new(&home, &name);
        // of a file that is here at its commit nothing is asked
        if let Some(file) = &within.file
            && is_commit(&name.revision)
            && place.snapshot(&name.revision).join(file).is_file()
        {
            let (commit, files) = (name.revision.clone(), BTreeSet::from([file.clone()]));
            return Ok(Some(Repository { home, name, within, commit, files, mode }));
        }
        let (commit, files) = match look(&home, &name) {
            Ok(found) => found,
            Err(Failed::Wrong(error)) => return Err(error),
            Err(Failed::Unasked(why)) => {
                let commit = place.commit()?.map_err(|missing| absent(&name, &missing, &why))?;
                if mode != Mode::Quiet && cfg!(feature = "hub") && !home.offline {
                    let said = format!("note: {why}; {name} is taken from the cache, at commit {commit}");
                    let _ = writeln!(std::io::stderr(), "{said}");
                }
                let snapshot = place.snapshot(&commit);
                if !snapshot.is_dir() {
                    let missing = format!("there is no {}", snapshot.display());
                    return Err(absent(&name, &missing, &why));
                }
                (commit, files_below(&snapshot)?)
            }
        };
        Ok(Some(Repository { home, name, within, commit, files, mode }))
    }

    /// What errors call it.
    pub fn shown(&self) -> String {
        self.name.to_string()
    }
    /// The paths of its files.
    pub fn files(&self) -> &BTreeSet<String> {
        &self.files
    }
    /// The file that was named, if one was.
    pub fn file(&self) -> Option<&str> {
        self.within.file.as_deref()
    }
    /// The configuration or the split that was named, or one after the other.
    pub fn names(&self) -> Vec<&str> {
        self.within.names.iter().map(String::as_str).collect()
    }
    /// The path of a file at this commit.
    pub fn path(&self, file: &str) -> PathBuf {
        format!("{}/{file}", self.name.at(&self.commit)).into()
    }
    /// Where a file is on this machine: in the cache, into which it is downloaded if it is not there.
    pub fn fetch(&self, file: &str) -> Result<PathBuf> {
        let place = Place::new(&self.home, &self.name);
        let path = place.snapshot(&self.commit).join(file);
        if !self.files.contains(file) {
            let why = format!("there is no file {file} in it");
            return Err(Error::Hub { model: self.name.to_string(), why });
        }
        if !path.is_file() {
            let said = download_file(&self.home, &self.name, &place, (&self.commit, file), self.mode);
            said.map_err(|failed| match failed {
                Failed::Wrong(error) => error,
                Failed::Unasked(why) => absent(&self.name, &format!("there is no {}", path.display()), &why),
            })?;
        }
        Ok(path)
    }
}

/// Where the file is that a path stands for: of a data set of the hub in the cache, into which it is
/// downloaded if it is not there; else where the path says.
pub fn file(path: &Path) -> Result<Cow<'_, Path>> {
    if path.exists() {
        return Ok(path.into());
    }
    let Some(repository) = Repository::find(path, Mode::Quiet)? else { return Ok(path.into()) };
    match repository.file() {
        Some(file) => repository.fetch(file).map(Into::into),
        None => {
            let why = "it names no file, and here a file is read".into();
            Err(Error::Hub { model: path.display().to_string(), why })
        }
    }
}
