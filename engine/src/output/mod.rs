//! Writing results so that they are there whole or not at all.
//!
//! A file is first written beside its place under a temporary name, then flushed to the disk, and
//! only then renamed, which the operating system does at once. A full disk or a lost connection
//! therefore leaves what was there before, and no half-written file. Files that belong together are
//! a [`Commit`]: after a kill at any moment either all of them are there or none.
mod commit;
mod disk;
mod lock;
mod moves;
#[cfg(test)]
mod tests;

pub use commit::Commit;
pub use lock::{lock, reading};
pub use moves::Lock;

use crate::{Error, Result};
use disk::{Disk, Os};
use std::{fs, io, path::Path};

/// Writes one file.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_on(&Os, path.as_ref(), bytes)
}

/// Writes several files into `dir`, which is made where it is missing: one [`Commit`].
pub fn write_directory<B: AsRef<[u8]>>(dir: impl AsRef<Path>, files: &[(&str, B)]) -> Result<()> {
    let mut commit = Commit::begin(dir)?;
    for (name, bytes) in files {
        commit.file(name, bytes.as_ref())?;
    }
    commit.place()
}

/// Makes sure that a run which takes hours can save what it finds: makes `dir` where it is missing,
/// and writes and removes a file in it.
pub fn check_writable(dir: impl AsRef<Path>) -> Result<()> {
    let dir = dir.as_ref();
    fs::create_dir_all(dir).and_then(|()| tempfile::NamedTempFile::new_in(dir)).map(drop).map_err(failed(dir))
}

/// Whether it is the name of a file in a directory or in a folder of it (`folder/file`), and
/// no way out of it.
pub fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_part = |part: &&str| Path::new(part).file_name().is_some_and(|only| only == *part);
    parts.len() <= 2 && parts.iter().all(is_part)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Write { path: path.into(), source }
}

fn write_on(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let Some(name) = path.file_name() else {
        let nameless = io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file");
        return Err(failed(path)(nameless));
    };
    if path.is_dir() {
        return Err(failed(path)(io::ErrorKind::IsADirectory.into()));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", name.to_string_lossy());
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .make_in(folder, |temporary| disk.create(temporary))
        .map_err(failed(path))?;
    let to = file.as_file_mut();
    to.write_all(bytes).and_then(|()| to.flush()).and_then(|()| to.sync()).map_err(failed(path))?;
    file.into_temp_path().persist(path).map_err(|e| failed(path)(e.error))?;
    disk::sync_directory(folder);
    Ok(())
}
