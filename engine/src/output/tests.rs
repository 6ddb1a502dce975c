use super::{
    disk::Sink,
    moves::{COMMIT, REMOVED},
    *,
};
use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// A disk with so many bytes left in each file, which notices it when writing or when flushing.
#[derive(Clone, Copy)]
struct Full {
    room: usize,
    late: bool,
}

struct FullFile {
    file: File,
    disk: Full,
}

impl Disk for Full {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(FullFile { file: File::create_new(path)?, disk: *self }))
    }
}

impl Write for FullFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = if self.disk.late { bytes.len() } else { bytes.len().min(self.disk.room) };
        if n == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.room = self.disk.room.saturating_sub(n);
        self.file.write(&bytes[..n])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for FullFile {
    fn sync(&self) -> io::Result<()> {
        if self.disk.late { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
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
fn a_commit_replaces_adds_and_removes() {
    let dir = tempfile::tempdir().unwrap();
    write_directory(dir.path(), &[("a", "1"), ("b", "2"), ("c", "3")]).unwrap();
    let mut commit = Commit::begin(dir.path()).unwrap();
    commit.without("a");
    commit.without("b");
    commit.without("never");
    commit.file("b", b"4").unwrap();
    commit.without("b"); // it is in this commit
    commit.file_with("d", |to| to.write_all(b"5").map_err(failed(Path::new("d")))).unwrap();
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"2", "nothing happens before its time");
    commit.place().unwrap();
    assert_eq!(names(dir.path()), ["b", "c", "d"]);
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"4");
    let dropped = Commit::begin(dir.path().join("new/deep")).unwrap();
    drop(dropped);
    assert_eq!(names(dir.path()), ["b", "c", "d"]);
}

/// Whatever was moved before the kill, the next one moves the rest.
#[test]
fn a_commit_that_was_killed_is_finished() {
    for moved in [&[][..], &["a"], &["a", "b"]] {
        let around = tempfile::tempdir().unwrap();
        let outside = around.path().join("outside");
        fs::write(&outside, "another's").unwrap();
        let dir = tempfile::tempdir_in(around.path()).unwrap();
        write_directory(dir.path(), &[("a", "old"), ("b", "old"), ("gone", "old")]).unwrap();
        let commit = dir.path().join(COMMIT);
        fs::create_dir(&commit).unwrap();
        for (name, text) in [("a", "new"), ("b", "new"), (".removed", "gone\nmissing\n../outside\n..")] {
            fs::write(commit.join(name), text).unwrap();
        }
        for name in moved {
            fs::rename(commit.join(name), dir.path().join(name)).unwrap();
        }
        let held = reading(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["a", "b"]);
        assert!(["a", "b"].iter().all(|n| fs::read(dir.path().join(n)).unwrap() == b"new"), "{moved:?}");
        assert!(outside.exists(), "nothing outside is touched");
        drop(held);
        fs::create_dir(&commit).unwrap();
        fs::write(commit.join("a"), "newer").unwrap();
        write_directory(dir.path(), &[("b", "newest")]).unwrap(); // in the order in which they counted
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"newer");
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_commit_or_a_lock_reaches_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mine = other.path().join("notes");
    fs::write(&mine, "mine").unwrap();
    for (name, to) in [(".lock", mine.as_path()), (COMMIT, other.path())] {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(to, &link).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(reading(dir.path()).is_err(), name == COMMIT);
        fs::remove_file(link).unwrap();
    }
    assert_eq!((fs::read(mine).unwrap(), names(dir.path())), (b"mine".to_vec(), vec![".lock".to_string()]));
}

#[test]
fn a_run_has_its_directory_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let held = lock(&out).unwrap();
    assert!(lock(&out).unwrap_err().to_string().starts_with("another run writes into "));
    write_directory(&out, &[("a", "1")]).unwrap(); // it writes itself
    drop(held);
    fs::create_dir(out.join(".preparing-of-one-killed")).unwrap();
    drop(lock(&out).unwrap());
    assert_eq!(names(&out), [".lock", "a"]);
}

#[test]
fn a_reader_sees_files_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let all = ["a", "b", "c", "d"];
    let write = |text: &str| write_directory(dir.path(), &all.map(|n| (n, text))).unwrap();
    write("0");
    let over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|s| {
        let stop = over.clone();
        s.spawn(move || {
            (1..60).for_each(|i| write(&i.to_string()));
            stop.store(true, Relaxed);
        });
        while !over.load(Relaxed) {
            let _held = reading(dir.path()).unwrap();
            let texts = all.map(|n| fs::read(dir.path().join(n)).unwrap());
            assert!(texts.iter().all(|t| *t == texts[0]), "{texts:?}");
        }
    });
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let on = |disk: Full, dir: &Path, files: &[(&str, &str)]| {
        let mut commit = Commit::begin_on(Box::new(disk), dir)?;
        files.iter().try_for_each(|(name, text)| commit.file(name, text.as_bytes()))?;
        commit.place()
    };
    for late in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let full = Full { room: 4, late };
        let path = dir.path().join("a");
        write_atomically(&path, b"old").unwrap();
        let error = write_on(&full, &path, b"longer than the room").unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
        let left = || (fs::read(&path).unwrap(), names(dir.path()));
        assert_eq!(left(), (b"old".to_vec(), vec!["a".to_string()]));
        let error = on(full, dir.path(), &[("a", "new"), ("b", "too long")]).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{error}");
        assert_eq!(left(), (b"old".to_vec(), vec!["a".to_string()]));
        on(full, &dir.path().join("new/deep"), &[("b", "too long")]).unwrap_err();
        assert_eq!(names(dir.path()), ["a"], "the directories made for it are gone");
    }
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for result in [
        check_writable(file.join("out")),
        check_writable(&file),
        write_atomically(file.join("out"), b""),
        write_directory(file.join("out"), &[("a", "")]),
        write_directory(dir.path(), &[("folder", "")]),
        write_directory(dir.path(), &[("../up", "")]),
        write_atomically(dir.path(), b""),
        lock(&file).map(drop),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains(dir.path().to_str().unwrap()),
            "{error}"
        );
    }
    assert_eq!(names(dir.path()), ["file", "folder"]);
    check_writable(dir.path().join("a/b")).unwrap();
    assert_eq!(names(&dir.path().join("a/b")).len(), 0);
    assert!(reading(&dir.path().join("missing")).is_ok(), "who opens the files says what is missing");
}

#[test]
fn files_in_folders_come_and_go_with_the_others() {
    let dir = tempfile::tempdir().unwrap();
    write_directory(dir.path(), &[("a", "1"), ("one/a", "1"), ("two/b,c", "1")]).unwrap();
    fs::write(dir.path().join("two/mine"), "").unwrap();
    let mut commit = Commit::begin(dir.path()).unwrap();
    commit.file("one/a", b"2").unwrap();
    commit.file("three/a", b"2").unwrap();
    for name in ["two/b,c", "../outside", "one/../a"] {
        commit.without(name);
    }
    commit.place().unwrap();
    assert_eq!(names(dir.path()), ["a", "one", "three", "two"]);
    assert_eq!(names(&dir.path().join("two")), ["mine"], "what is not ours stays, and its folder with it");
    assert_eq!(fs::read(dir.path().join("one/a")).unwrap(), b"2");
    // killed behind the rename: whoever comes next moves the rest
    fs::create_dir_all(dir.path().join(".commit/one")).unwrap();
    fs::write(dir.path().join(".commit/one/a"), "3").unwrap();
    fs::write(dir.path().join(".commit/.removed"), "three/a\n../../x\n").unwrap();
    drop(reading(dir.path()).unwrap());
    assert_eq!(names(dir.path()), ["a", "one", "two"]);
    assert_eq!(fs::read(dir.path().join("one/a")).unwrap(), b"3");
    for name in ["one/two/three", "/a", "one/", "/", "", "..", "one/..", "../a", "./a"] {
        assert!(!is_name(name), "{name}");
        assert!(write_directory(dir.path(), &[(name, "")]).is_err(), "{name}");
    }
}
#[cfg(unix)]
#[test]
fn a_folder_that_is_a_link_is_not_gone_through() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(other.path(), dir.path().join("folder")).unwrap();
    fs::write(other.path().join("theirs"), "kept").unwrap();
    for (file, content) in [("folder/ours", "moved"), (REMOVED, "folder/theirs\n")] {
        let commit = dir.path().join(COMMIT);
        fs::create_dir_all(commit.join("folder")).unwrap();
        fs::write(commit.join(file), content).unwrap();
        let error = lock(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("folder"), "{file}: {error}");
        assert_eq!(fs::read_to_string(other.path().join("theirs")).unwrap(), "kept");
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1, "{file}");
        fs::remove_dir_all(commit).unwrap();
    }
}
