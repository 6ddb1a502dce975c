//! What is asked of a file system: a test has one with a full disk.
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

pub(super) trait Disk: Send + Sync {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
}

pub(super) trait Sink: Write {
    /// Returns when the file's content is on the disk.
    fn sync(&self) -> io::Result<()>;
}

pub(super) struct Os;

impl Disk for Os {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create_new(path)?))
    }
}

impl Sink for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A rename lasts once the directory is on the disk. Not every system lets a directory be opened,
/// and the files are whole either way, so this may fail.
pub(super) fn sync_directory(dir: &Path) {
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
}
