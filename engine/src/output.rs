//! Writing results so that they are there whole or not at all.
//!
//! Every file is first written beside its place under a temporary name, then flushed to the disk, and only
//! then renamed, which the operating system does at once. A full disk or a lost connection therefore leaves
//! what was there before, and no half-written file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::TempPath;

use crate::{Error, Result};

/// Writes one file.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_on(&Os, path.as_ref(), bytes)
}

/// Writes several files into `dir`, which is made where it is missing. All of them are complete on the disk
/// before the first one appears under its name, so whatever is likely to fail leaves none of them.
pub fn write_directory<B: AsRef<[u8]>>(dir: impl AsRef<Path>, files: &[(&str, B)]) -> Result<()> {
    write_directory_on(&Os, dir.as_ref(), files)
}

/// Makes sure that a run which takes hours can save what it finds: makes `dir` where it is missing, and
/// writes and removes a file in it.
pub fn check_writable(dir: impl AsRef<Path>) -> Result<()> {
    let dir = dir.as_ref();
    make_directory(dir)?;
    tempfile::NamedTempFile::new_in(dir).map(drop).map_err(|source| Error::Write { path: dir.into(), source })
}

/// What is asked of a file system: a test has one with a full disk.
trait Disk {
    type File: Write;

    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Returns when the file's content is on the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
}

struct Os;

impl Disk for Os {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }
}

/// A file under its temporary name; removed when dropped before it is put in its place.
struct Staged {
    temporary: TempPath,
    path: PathBuf,
}

impl Staged {
    fn write<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<Self> {
        let failed = |source| Error::Write { path: path.into(), source };
        let Some(name) = path.file_name() else {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file")));
        };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let prefix = format!(".{}.", name.to_string_lossy());
        let mut file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".tmp")
            .make_in(folder, |temporary| disk.create(temporary))
            .map_err(failed)?;
        let to = file.as_file_mut();
        to.write_all(bytes).and_then(|()| to.flush()).and_then(|()| disk.sync(to)).map_err(failed)?;
        Ok(Self { temporary: file.into_temp_path(), path: path.into() })
    }

    fn place(self) -> Result<()> {
        let Staged { temporary, path } = self;
        temporary.persist(&path).map_err(|e| Error::Write { path, source: e.error })
    }
}

fn write_on<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<()> {
    Staged::write(disk, path, bytes)?.place()?;
    sync_directory(path.parent());
    Ok(())
}

fn write_directory_on<D: Disk, B: AsRef<[u8]>>(disk: &D, dir: &Path, files: &[(&str, B)]) -> Result<()> {
    let made = make_directory(dir)?;
    let write = || -> Result<()> {
        let staged: Vec<Staged> = files
            .iter()
            .map(|(name, bytes)| Staged::write(disk, &dir.join(name), bytes.as_ref()))
            .collect::<Result<_>>()?;
        staged.into_iter().try_for_each(Staged::place)
    };
    let result = write();
    if result.is_err() {
        // Only those that are empty go.
        made.iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
    }
    sync_directory(Some(dir));
    result
}

/// Makes a directory and those above it; returns the ones that were missing, outermost first.
fn make_directory(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .map(Into::into)
        .collect();
    missing.reverse();
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.into(), source })?;
    Ok(missing)
}

/// A rename lasts once the directory is on the disk. Not every system lets a directory be opened, and the
/// files are whole either way, so this may fail.
fn sync_directory(dir: Option<&Path>) {
    let dir = dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so many bytes left in each file, which notices it when writing or when flushing.
    struct Full {
        room: usize,
        late: bool,
    }

    struct FullFile {
        file: File,
        room: usize,
        late: bool,
    }

    impl Disk for Full {
        type File = FullFile;

        fn create(&self, path: &Path) -> io::Result<FullFile> {
            Ok(FullFile { file: Os.create(path)?, room: self.room, late: self.late })
        }

        fn sync(&self, file: &FullFile) -> io::Result<()> {
            if file.late { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl Write for FullFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = if self.late { bytes.len() } else { bytes.len().min(self.room) };
            if n == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room = self.room.saturating_sub(n);
            self.file.write(&bytes[..n])
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        write_directory(dir.path().join("x/y"), &[("a", "1"), ("b", "2")]).unwrap();
        write_directory(dir.path().join("x/y"), &[("a", "3")]).unwrap();
        assert_eq!(names(&dir.path().join("x/y")), ["a", "b"]);
        assert_eq!(fs::read(dir.path().join("x/y/a")).unwrap(), b"3");
        assert_eq!(names(dir.path()), ["a.json", "x"]);
    }

    #[test]
    fn a_full_disk_leaves_what_was_there() {
        for late in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let full = Full { room: 4, late };
            let path = dir.path().join("a");
            write_atomically(&path, b"old").unwrap();
            let error = write_on(&full, &path, b"longer than the room").unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
            assert_eq!(
                (fs::read(&path).unwrap(), names(dir.path())),
                (b"old".to_vec(), vec!["a".to_string()])
            );
            let error =
                write_directory_on(&full, dir.path(), &[("a", "new"), ("b", "too long")]).unwrap_err();
            assert!(matches!(error, Error::Write { .. }), "{error}");
            assert_eq!(
                (fs::read(&path).unwrap(), names(dir.path())),
                (b"old".to_vec(), vec!["a".to_string()])
            );
            let new = dir.path().join("new/deep");
            write_directory_on(&full, &new, &[("b", "too long")]).unwrap_err();
            assert_eq!(names(dir.path()), ["a"], "the directories made for it are gone");
        }
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for result in [
            check_writable(file.join("out")),
            check_writable(&file),
            write_atomically(file.join("out"), b""),
            write_directory(file.join("out"), &[("a", "")]),
            write_atomically(dir.path(), b""),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(
                error.starts_with("cannot write ") && error.contains(dir.path().to_str().unwrap()),
                "{error}"
            );
        }
        assert_eq!(names(dir.path()), ["file"]);
        check_writable(dir.path().join("a/b")).unwrap();
        assert_eq!(names(&dir.path().join("a/b")).len(), 0);
    }
}
