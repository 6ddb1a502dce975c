//! Files of the hub into the cache, each whole or not at all.
use super::{
    Failed,
    cache::Place,
    client::{Client, Head, wrong},
    files::{Need, wanted},
    home::Home,
    name::{Name, is_commit, is_file},
};
use crate::{
    Error,
    reports::progress::{Bytes, Mode},
};
use engraft_engine::{Checkpoint, output};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

type Result<T> = std::result::Result<T, Failed>;

/// How often in a row a download may break off without a byte more.
const TRIES: usize = 3;
/// What lies between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks the hub for a model, and downloads what is needed of it and not in the cache. Gives the
/// commit.
pub fn fetch(home: &Home, name: &Name, place: &Place, need: Need, mode: Mode) -> Result<String> {
    let client = Client::new(home);
    let (commit, mut names) = list(&client, home, name)?;
    names.retain(|path| !path.contains('/')); // only what lies at the top
    let snapshot = place.snapshot(&commit);
    let source = Source { client, name, place, commit: &commit, snapshot: &snapshot, home, mode };
    let wanted = wanted(&names, need, |index| {
        source.file(index)?;
        Checkpoint::shards_of(&snapshot.join(index)).map_err(Failed::from)
    })?;
    if !wanted.missing.is_empty() {
        let missing = wanted.missing.join(", ");
        return Err(wrong(name, format!("{} has no {missing}, which is needed", home.endpoint)));
    }
    wanted.files.iter().try_for_each(|file| source.file(file))?;
    refer(name, place, &commit)?;
    Ok(commit)
}

/// The commit of a revision, and its files.
fn list(client: &Client<'_>, home: &Home, name: &Name) -> Result<(String, BTreeSet<String>)> {
    let listing = client.list(name)?;
    let commit = listing.sha;
    if !is_commit(&commit) {
        return Err(wrong(name, format!("{} says that its commit is `{commit}`", home.endpoint)));
    }
    Ok((commit, listing.siblings.into_iter().map(|s| s.path).filter(|path| is_file(path)).collect()))
}

/// Asks the hub for the commit of a revision, and its files.
pub fn look(home: &Home, name: &Name) -> Result<(String, BTreeSet<String>)> {
    list(&Client::new(home), home, name)
}

/// Downloads a file of a commit, unless it is in the cache.
pub fn file(home: &Home, name: &Name, place: &Place, (commit, file): (&str, &str), mode: Mode) -> Result<()> {
    let snapshot = place.snapshot(commit);
    Source { client: Client::new(home), name, place, commit, snapshot: &snapshot, home, mode }.file(file)?;
    refer(name, place, commit)
}

/// Says that the revision is here when it is, and not again: a cache may be there to be read.
fn refer(name: &Name, place: &Place, commit: &str) -> Result<()> {
    let reference = place.reference();
    let said = fs::read_to_string(&reference).unwrap_or_default();
    if name.revision != commit && said.trim() != commit {
        make_folder(&reference)?;
        output::write_atomically(reference, commit.as_bytes())?;
    }
    Ok(())
}

/// A commit that files are fetched of.
struct Source<'a> {
    client: Client<'a>,
    name: &'a Name,
    place: &'a Place,
    commit: &'a str,
    snapshot: &'a Path,
    home: &'a Home,
    mode: Mode,
}

impl Source<'_> {
    /// Sees to it that a file is there.
    fn file(&self, file: &str) -> Result<()> {
        let link = self.snapshot.join(file);
        if link.is_file() {
            return Ok(());
        }
        let broke_off = |failed| match failed {
            // the hub is there, so this is no matter of the cache
            Failed::Unasked(why) => wrong(self.name, format!("{file}: {why}; started again, it goes on")),
            failed => failed,
        };
        let head = self.client.head(self.name, self.commit, file).map_err(broke_off)?;
        let blob = self.place.folder.join("blobs").join(&head.etag);
        self.blob(file, &head, &blob).map_err(broke_off)?;
        make_folder(&link)?;
        let depth = 2 + file.matches('/').count();
        Ok(put_link(&blob, &link, depth).map_err(failed(&link))?)
    }
    fn blob(&self, file: &str, head: &Head, blob: &Path) -> Result<()> {
        let is_there = || fs::metadata(blob).is_ok_and(|found| found.len() == head.size);
        if is_there() {
            return Ok(());
        }
        let locks = self.home.cache.join(".locks").join(self.name.folder());
        let lock = locks.join(format!("{}.lock", head.etag));
        make_folder(&lock)?;
        make_folder(blob)?;
        let held =
            OpenOptions::new().write(true).create(true).truncate(false).open(&lock).map_err(failed(&lock))?;
        match held.lock() {
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(failed(&lock)(e).into()),
            _ => {}
        }
        if is_there() {
            return Ok(()); // another program has just fetched it
        }
        let path = blob.with_file_name(format!("{}.incomplete", head.etag));
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut to = options.map_err(failed(&path))?;
        self.fill(file, head, &mut to, &path)?;
        to.sync_all().map_err(failed(&path))?;
        drop(to);
        Ok(fs::rename(&path, blob).map_err(failed(blob))?)
    }
    /// Writes the content of a blob into a file, which may have its beginning.
    fn fill(&self, file: &str, head: &Head, to: &mut File, path: &Path) -> Result<()> {
        let shown = Bytes::new(self.mode, &format!("{} {file}", self.name), head.size);
        let is_hash = head.etag.len() == 64; // SHA-256; what goes on must be checked in the end
        let (mut tries, mut is_new) = (TRIES, false);
        loop {
            let before = to.metadata().map_err(failed(path))?.len();
            let before = if is_hash && before <= head.size { before } else { 0 };
            is_new |= before == 0;
            let outcome = match before < head.size || before == 0 {
                true => self.pour(file, before, head.size, to, path, &shown)?,
                false => Ok(()),
            };
            let there = to.metadata().map_err(failed(path))?.len();
            if let Err(why) = outcome {
                if is_hash && there > before {
                    tries = TRIES;
                    continue;
                }
                tries -= 1;
                if tries == 0 {
                    let of = head.size;
                    return Err(Failed::Unasked(format!(
                        "the download broke off at byte {there} of {of} ({why})"
                    )));
                }
                std::thread::sleep(PAUSE);
                continue;
            }
            if !is_hash || hash(to).map_err(failed(path))? == head.etag.to_ascii_lowercase() {
                return Ok(());
            }
            to.set_len(0).map_err(failed(path))?;
            if is_new {
                let etag = &head.etag;
                return Err(wrong(
                    self.name,
                    format!("{file} came with other bytes than SHA-256 {etag} stands for: try again"),
                ));
            }
        }
    }
    /// Downloads what follows behind a byte. In the inner result is why it broke off, if it did.
    fn pour(
        &self,
        file: &str,
        from: u64,
        size: u64,
        to: &mut File,
        path: &Path,
        shown: &Bytes,
    ) -> Result<std::result::Result<(), String>> {
        let mut answer = match self.client.get(self.name, self.commit, file, from) {
            Err(Failed::Unasked(why)) => return Ok(Err(why)),
            answer => answer?,
        };
        let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
        let goes_on = range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
        let mut at = if answer.status() == 206 && goes_on { from } else { 0 };
        if answer.status() == 206 && !goes_on {
            return Err(wrong(
                self.name,
                format!("{file} was asked for from byte {from} on, and comes from elsewhere"),
            ));
        }
        to.set_len(at).and_then(|()| to.seek(SeekFrom::Start(at))).map_err(failed(path))?;
        let mut body = answer.body_mut().with_config().limit(u64::MAX).reader();
        let mut part = vec![0; 1 << 16];
        loop {
            shown.at(at);
            let n = match body.read(&mut part) {
                Ok(0) if at == size => return Ok(Ok(())),
                Ok(0) => return Ok(Err("the answer ended".into())),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Err(e.to_string())),
            };
            at += n as u64;
            if at > size {
                to.set_len(0).map_err(failed(path))?;
                return Err(wrong(
                    self.name,
                    format!("{file} is longer than the {size} bytes that it should have"),
                ));
            }
            to.write_all(&part[..n]).map_err(failed(path))?;
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| engraft_engine::Error::Write { path: path.into(), source }.into()
}
/// The directory of a file.
fn make_folder(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    Ok(fs::create_dir_all(folder).map_err(failed(folder))?)
}
/// SHA-256 of a whole file.
fn hash(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    io::copy(file, &mut hash)?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
/// A link to a blob under a file's name, so many directories below that of the repository, in one moment; a
/// copy where there are no links.
fn put_link(blob: &Path, link: &Path, depth: usize) -> io::Result<()> {
    let folder = link.parent().unwrap_or(link);
    let beside =
        tempfile::Builder::new().prefix(".link-").make_in(folder, |path| make_link(blob, path, depth))?;
    beside.into_temp_path().persist(link).map_err(|e| e.error)
}
#[cfg(unix)]
fn make_link(blob: &Path, path: &Path, depth: usize) -> io::Result<()> {
    let name = blob.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new(&"../".repeat(depth)).join("blobs").join(name), path)
}
#[cfg(not(unix))]
fn make_link(blob: &Path, path: &Path, _: usize) -> io::Result<()> {
    fs::copy(blob, path).map(drop)
}
