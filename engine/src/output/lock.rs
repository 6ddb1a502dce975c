//! Locks on directories: one run writes into it, and nobody reads while files are moved.
//!
//! They are the operating system's, which lets them go with the process. Where a file system has
//! none, nothing is locked.
use super::{
    failed,
    moves::{COMMIT, Lock, clean, finish, moving, unsupported},
};
use crate::{Error, Result};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

/// The file that a run locks.
const LOCK: &str = ".lock";

/// Locks a directory, which is made where it is missing, for one who writes into it for a
/// long time; an error if another does. What an earlier one left half-done when it was killed
/// is put in order.
pub fn lock(dir: &Path) -> Result<Lock> {
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let path = dir.join(LOCK);
    if path.is_symlink() {
        return Err(failed(&path)(io::Error::other("it is a link, and what it leads to is not ours")));
    }
    let file = File::create(&path).map_err(failed(&path))?;
    let lock = match file.try_lock() {
        Ok(()) => Lock::on(Some(file)),
        Err(TryLockError::Error(e)) if unsupported(&e) => Lock::on(None),
        Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: dir.into() }),
        Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
    };
    let _moving = moving(dir)?;
    finish(dir)?;
    clean(dir)?;
    Ok(lock)
}

/// Files of `dir` that are read while this is held belong to one moment: a commit that was begun is
/// finished first, and none is placed meanwhile.
pub fn reading(dir: &Path) -> Result<Lock> {
    loop {
        let file = match File::open(dir) {
            Ok(file) if dir.is_dir() => file,
            _ => return Ok(Lock::on(None)), // whoever reads says what is wrong
        };
        let file = match file.lock_shared() {
            Ok(()) => Some(file),
            Err(e) if unsupported(&e) => None,
            Err(source) => return Err(Error::Io { path: dir.into(), source }),
        };
        if !dir.join(COMMIT).exists() {
            return Ok(Lock::on(file));
        }
        drop(file);
        let _moving = moving(dir)?;
        finish(dir)?;
    }
}
