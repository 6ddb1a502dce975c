//! A model in the cache, as Python's `huggingface_hub` lays it out:
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION            the commit that a branch or a tag was last seen at
//! models--OWNER--NAME/snapshots/COMMIT/FILE    a link to ../../blobs/ETAG
//! models--OWNER--NAME/blobs/ETAG               a file, whole; ETAG.incomplete while it comes
//! .locks/models--OWNER--NAME/ETAG.lock         held by who downloads it
//! ```
//!
//! A data set is `datasets--OWNER--NAME`, and has files in directories.
use super::{
    files::{Need, wanted},
    home::Home,
    name::{Name, is_commit},
};
use crate::{Error, Result};
use engraft_engine::Checkpoint;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// How deep directories are looked through.
const DEPTH: usize = 6;
/// The most files of a directory.
const FILES: usize = 100_000;

/// Where a cache has a model.
pub struct Place {
    /// `models--OWNER--NAME`.
    pub folder: PathBuf,
    name: Name,
}

impl Place {
    /// In the cache of the environment.
    pub fn new(home: &Home, name: &Name) -> Place {
        Place { folder: home.cache.join(name.folder()), name: name.clone() }
    }
    /// The file that says at which commit the revision was last seen.
    pub fn reference(&self) -> PathBuf {
        self.name.revision.split('/').fold(self.folder.join("refs"), |path, part| path.join(part))
    }
    /// The files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }
    /// The commit of the revision whose files are here, all that are needed; else why not.
    pub fn cached(&self, need: Need) -> Result<Result<String, String>> {
        let commit = match self.commit()? {
            Ok(commit) => commit,
            Err(why) => return Ok(Err(why)),
        };
        let snapshot = self.snapshot(&commit);
        let names = names(&snapshot)?;
        let shards = |index: &str| Checkpoint::shards_of(&snapshot.join(index));
        let missing = wanted(&names, need, shards)?.missing;
        Ok(match missing.is_empty() {
            true => Ok(commit),
            false => Err(format!("{} has no {}", snapshot.display(), missing.join(", "))),
        })
    }
    /// The commit at which the revision was last seen; else why there is none.
    pub fn commit(&self) -> Result<Result<String, String>> {
        let reference = self.reference();
        let commit = match std::fs::read_to_string(&reference) {
            Ok(text) => text.trim().to_string(),
            Err(_) if is_commit(&self.name.revision) => self.name.revision.clone(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(format!("it is not in the cache ({} is missing)", reference.display())));
            }
            Err(source) => return Err(Error::Read { path: reference, source }),
        };
        if !is_commit(&commit) {
            return Err(Error::file(&reference, "this names no commit"));
        }
        Ok(Ok(commit))
    }
}

/// The names of the files that a directory has; none if it is not there.
fn names(directory: &Path) -> Result<BTreeSet<String>> {
    let failed = |source| Error::Read { path: directory.into(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // of a link that leads nowhere there is no file
        found.extend(path.file_name().and_then(|n| n.to_str()).filter(|_| path.is_file()).map(String::from));
    }
    Ok(found)
}

/// Files of a directory and those below it, by their paths in it with `/`; what begins with a dot is not
/// looked at.
pub fn files_below(directory: &Path) -> Result<BTreeSet<String>> {
    let (mut all, mut open) = (BTreeSet::new(), vec![(directory.to_path_buf(), String::new(), 0)]);
    while let Some((folder, prefix, depth)) = open.pop() {
        let failed = |source| Error::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| !n.starts_with('.')) else {
                continue;
            };
            let below = format!("{prefix}{name}");
            match path.is_dir() {
                true if depth < DEPTH => open.push((path, format!("{below}/"), depth + 1)),
                true => {}
                false => drop(all.insert(below)),
            }
        }
        if all.len() > FILES {
            return Err(Error::file(directory, "there are too many files in it for a data set"));
        }
    }
    Ok(all)
}
