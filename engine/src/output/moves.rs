//! How files that were prepared get into their places, and the lock that this takes.
use super::{disk::sync_directory, failed, is_name};
use crate::Result;
use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// A commit that counts, until the last of its files is in its place.
pub(super) const COMMIT: &str = ".commit";
/// In front of the name of a directory in which a commit is prepared.
pub(super) const PREPARING: &str = ".preparing-";
/// The file in a commit that names what is to be removed, a name a line.
pub(super) const REMOVED: &str = ".removed";

/// A directory that is locked, until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}
impl Lock {
    /// Of a file that is locked; none where nothing can be.
    pub(super) fn on(file: Option<File>) -> Lock {
        Lock { _file: file }
    }
}

/// Moves the files of a commit that counts into their places. To be called under the
/// lock of [`moving`].
pub(super) fn finish(dir: &Path) -> Result<()> {
    let commit = dir.join(COMMIT);
    // the directory may be a stranger's: a link in the place of the commit would have files moved
    // that lie elsewhere
    match fs::symlink_metadata(&commit) {
        Ok(is) if is.is_dir() => {}
        Ok(_) => return Err(failed(&commit)(io::ErrorKind::NotADirectory.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(&commit)(source)),
    }
    let removed = match fs::read_to_string(commit.join(REMOVED)) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(failed(&commit)(source)),
    };
    // and a list of his reaches nothing outside of it
    for name in removed.lines().filter(|name| is_name(name)) {
        let path = dir.join(name);
        if let Some((folder, _)) = name.split_once('/') {
            not_through_a_link(&dir.join(folder))?;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(e)),
            _ => {}
        }
        if let Some((folder, _)) = name.split_once('/') {
            let _ = fs::remove_dir(dir.join(folder)); // if it is empty
        }
    }
    move_files(&commit, dir)?;
    fs::remove_dir_all(&commit).map_err(failed(&commit))?;
    sync_directory(dir);
    Ok(())
}
/// Refuses a folder that is a link: what is put there would lie elsewhere.
fn not_through_a_link(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(is) if is.is_symlink() => Err(failed(folder)(io::ErrorKind::NotADirectory.into())),
        _ => Ok(()),
    }
}
/// Moves the files of a directory, and those of its folders, into another.
fn move_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let place = to.join(entry.file_name());
        if entry.file_type().map_err(failed(from))?.is_dir() {
            not_through_a_link(&place)?;
            fs::create_dir_all(&place).map_err(failed(&place))?;
            move_files(&entry.path(), &place)?;
        } else if entry.file_name() != REMOVED {
            fs::rename(entry.path(), &place).map_err(failed(&place))?;
        }
    }
    sync_directory(to);
    Ok(())
}

/// Removes what commits left that were killed while they were prepared. Only for one who knows that
/// no other is prepared.
pub(super) fn clean(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        if entry.file_name().to_string_lossy().starts_with(PREPARING) {
            fs::remove_dir_all(entry.path()).map_err(failed(&entry.path()))?;
        }
    }
    Ok(())
}

/// For one who moves files into their places: waits until nobody else moves or reads.
pub(super) fn moving(dir: &Path) -> Result<Lock> {
    let Ok(file) = File::open(dir) else { return Ok(Lock::on(None)) };
    match file.lock() {
        Ok(()) => Ok(Lock::on(Some(file))),
        Err(e) if unsupported(&e) => Ok(Lock::on(None)),
        Err(source) => Err(failed(dir)(source)),
    }
}

/// Some file systems cannot lock, and some systems no directories.
pub(super) fn unsupported(e: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(e.kind(), Unsupported | InvalidInput | PermissionDenied)
}
