//! Files that appear in a directory together.
//!
//! ```text
//! DIR/.preparing-XXXXXX/   the new files, while they are written and flushed
//! DIR/.commit/             the same directory, renamed: from this moment on the commit counts
//! DIR/NAME                 where each file of it is moved to; `.commit` goes when it is empty
//! ```
//! A kill before the rename leaves the old files, one behind it a `.commit`, which [`finish`] moves
//! into place: whoever reads the directory or writes into it next calls it first. Those that read
//! and those that move hold a lock on the directory, so that nobody sees half of a commit.
use super::{
    disk::{Disk, Os, sync_directory},
    failed, is_name,
    moves::{COMMIT, PREPARING, REMOVED, finish, moving},
};
use crate::{Error, Result};
use std::{
    collections::BTreeSet,
    fs, io,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Files that are to appear in a directory together, and others that are to go with them.
pub struct Commit {
    disk: Box<dyn Disk>,
    dir: PathBuf,
    /// Directories made for it, outermost first: removed again if nothing comes of it.
    made: Vec<PathBuf>,
    prepared: Option<TempDir>,
    written: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl Commit {
    /// For a directory, which is made where it is missing.
    pub fn begin(dir: impl AsRef<Path>) -> Result<Commit> {
        Commit::begin_on(Box::new(Os), dir.as_ref())
    }
    pub(super) fn begin_on(disk: Box<dyn Disk>, dir: &Path) -> Result<Commit> {
        let made = make_directory(dir)?;
        let (written, removed) = Default::default();
        let mut commit = Commit { disk, dir: dir.into(), made, prepared: None, written, removed };
        let prepared = tempfile::Builder::new().prefix(PREPARING).tempdir_in(dir).map_err(failed(dir))?;
        commit.prepared = Some(prepared);
        Ok(commit)
    }
    /// Adds a file, perhaps in a folder: see [`is_name`].
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file_with(name, |to| to.write_all(bytes).map_err(failed(Path::new(name))))
    }
    /// Adds a file whose content is written bit by bit.
    pub fn file_with(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let place = self.dir.join(name);
        if !is_name(name) {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file");
            return Err(failed(&place)(why));
        }
        if place.is_dir() {
            return Err(failed(&place)(io::ErrorKind::IsADirectory.into()));
        }
        let Some(folder) = &self.prepared else { return Ok(()) };
        let path = folder.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed(&place))?;
        }
        let mut to = BufWriter::new(self.disk.create(&path).map_err(failed(&place))?);
        write(&mut to).map_err(|e| match e {
            Error::Write { source, .. } => failed(&place)(source),
            other => other,
        })?;
        to.flush().and_then(|()| to.get_ref().sync()).map_err(failed(&place))?;
        self.removed.remove(name);
        self.written.insert(name.into());
        Ok(())
    }
    /// A file that is to go, if it is there.
    pub fn without(&mut self, name: &str) {
        if !self.written.contains(name) {
            self.removed.insert(name.into());
        }
    }
    /// Everything happens.
    pub fn place(mut self) -> Result<()> {
        let removed: Vec<&str> = self.removed.iter().map(String::as_str).collect();
        if !removed.is_empty() {
            let list = removed.join("\n");
            self.file_with(REMOVED, |to| to.write_all(list.as_bytes()).map_err(failed(Path::new(REMOVED))))?;
        }
        let Some(prepared) = self.prepared.take() else { return Ok(()) };
        let folders: BTreeSet<&str> =
            self.written.iter().filter_map(|n| Some(n.split_once('/')?.0)).collect();
        folders.into_iter().for_each(|folder| sync_directory(&prepared.path().join(folder)));
        sync_directory(prepared.path());
        let _lock = moving(&self.dir)?;
        finish(&self.dir)?; // of one who was killed
        let to = self.dir.join(COMMIT);
        fs::rename(prepared.path(), &to).map_err(failed(&to))?;
        let _ = prepared.keep(); // it has another name now
        self.made.clear();
        sync_directory(&self.dir);
        finish(&self.dir)
    }
}
impl Drop for Commit {
    fn drop(&mut self) {
        self.prepared = None;
        // only those that are empty go
        self.made.iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
    }
}

/// Makes a directory and those above it; returns the ones that were missing, outermost first.
fn make_directory(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .map(Into::into)
        .collect();
    missing.reverse();
    fs::create_dir_all(dir).map_err(failed(dir))?;
    Ok(missing)
}
