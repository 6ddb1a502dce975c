//! The directory of a run: its own from beginning to end, with files of one moment at every time.
//!
//! What belongs to it is listed in `.files`, so that the next run that is sent here takes away what
//! this one wrote, in the very moment its own first files appear, and nothing that somebody else
//! put there.
use crate::{Error, Result, reports::left};
use engraft_adapters::files;
use engraft_engine::output::{self, Commit, Lock};
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

/// Names of the files of a run, a name a line.
const FILES: &str = ".files";
/// The settings of a run that has saved nothing yet.
pub const BEGUN: &str = ".run.toml";

/// A file by name, and its bytes.
pub type File = (String, Vec<u8>);
/// What writes a file bit by bit.
pub type Writer<'a> = &'a dyn Fn(&mut dyn Write) -> engraft_engine::Result<()>;

/// The directory of a run.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: Lock,
    /// The run's settings: the name of their file, and its bytes.
    settings: File,
    /// Files that the run has in it.
    own: BTreeSet<String>,
    /// Files of the run that was there before.
    earlier: BTreeSet<String>,
}

impl Directory {
    /// Takes a directory for a new run, which is made where it is missing; an error if another run
    /// writes into it. `settings` is the file that says how the run goes: it lies there as
    /// [`BEGUN`] until there is something to save beside it.
    pub fn begin(path: &Path, settings: File) -> Result<Directory> {
        let mut d = Directory::go_on(path, settings)?;
        d.earlier = files::names().into_iter().map(String::from).chain(std::mem::take(&mut d.own)).collect();
        d.earlier.insert(BEGUN.into());
        output::write_atomically(path.join(BEGUN), &d.settings.1)?;
        Ok(d)
    }
    /// Takes the directory of a run that goes on.
    pub fn go_on(path: &Path, settings: File) -> Result<Directory> {
        let lock = output::lock(path)?;
        let list = path.join(FILES);
        let own = match std::fs::read_to_string(&list) {
            Ok(names) => names
                .lines()
                .filter(|name| output::is_name(name) && *name != FILES && left::is_ours(path, name))
                .map(String::from)
                .collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(source) => return Err(Error::Read { path: list, source }),
        };
        Ok(Directory { path: path.into(), _lock: lock, settings, own, earlier: BTreeSet::new() })
    }
    /// The settings in full, as soon as all of them are known.
    pub fn set_settings(&mut self, settings: File) {
        self.settings = settings;
    }
    /// The file of settings, as far as they are known.
    pub fn settings(&self) -> &File {
        &self.settings
    }
    /// The names of the files that the run has in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// In one moment: `whole`, if given, is all that the run has besides its reports, else what it
    /// has stays; `more` comes or is replaced, and so does what is to be `streamed`, a name and a
    /// writer; whatever is `over` goes, and so do the files of the run before.
    pub fn save(
        &mut self,
        whole: Option<&[File]>,
        more: &[File],
        streamed: Option<(&str, Writer<'_>)>,
        over: &[&str],
    ) -> Result<()> {
        let mut commit = Commit::begin(&self.path)?;
        let mut names = self.own.clone();
        names.retain(|name| whole.is_none() || left::is_report(name));
        for (name, bytes) in whole.into_iter().flatten().chain(more).chain([&self.settings]) {
            commit.file(name, bytes)?;
            names.insert(name.clone());
        }
        if let Some((name, write)) = streamed {
            commit.file_with(name, |to| write(to))?;
            names.insert(name.into());
        }
        names.retain(|name| !over.contains(&name.as_str()));
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        commit.file(FILES, list.as_bytes())?;
        for name in self.earlier.iter().chain(&self.own).filter(|name| !names.contains(*name)) {
            commit.without(name);
        }
        commit.place()?;
        (self.own, self.earlier) = (names, BTreeSet::new());
        Ok(())
    }
}

impl Drop for Directory {
    /// Of a run that failed before it saved anything nothing stays; a kill leaves the settings to
    /// begin with again.
    fn drop(&mut self) {
        if self.earlier.contains(BEGUN) {
            let _ = std::fs::remove_file(self.path.join(BEGUN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        (name.into(), text.into())
    }
    fn names(dir: &Path) -> Vec<String> {
        let mut v: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        v.retain(|name| name != FILES && name != ".lock");
        v.sort();
        v
    }

    #[test]
    fn files_of_the_run_before_go_when_the_first_ones_come() {
        let dir = tempfile::tempdir().unwrap();
        let settings = || file("run.toml", "new");
        for name in ["notes.txt", "adapter.safetensors", "head_config.json"] {
            std::fs::write(dir.path().join(name), "old").unwrap();
        }
        let mut first = Directory::begin(dir.path(), settings()).unwrap();
        assert!(Directory::begin(dir.path(), settings()).is_err(), "it is taken");
        first.save(Some(&[file("model.safetensors", "1")]), &[], Some(("state", &|_| Ok(()))), &[]).unwrap();
        assert_eq!(names(dir.path()), ["model.safetensors", "notes.txt", "run.toml", "state"]);
        first.save(None, &[file("report.json", "1")], None, &["state"]).unwrap();
        assert_eq!(names(dir.path()), ["model.safetensors", "notes.txt", "report.json", "run.toml"]);
        drop(first);

        drop(Directory::begin(dir.path(), settings()).unwrap());
        assert!(!dir.path().join(BEGUN).exists(), "it failed before it had anything to save");
        let mut second = Directory::begin(dir.path(), settings()).unwrap();
        assert_eq!(
            names(dir.path()),
            [BEGUN, "model.safetensors", "notes.txt", "report.json", "run.toml"],
            "nothing is lost before there is something else"
        );
        second.save(Some(&[file("adapter.safetensors", "2")]), &[], None, &[]).unwrap();
        assert_eq!(names(dir.path()), ["adapter.safetensors", "notes.txt", "run.toml"]);
        drop(second);
        let mut third = Directory::go_on(dir.path(), settings()).unwrap();
        third.save(None, &[file("report.json", "2")], None, &[]).unwrap();
        assert_eq!(names(dir.path()), ["adapter.safetensors", "notes.txt", "report.json", "run.toml"]);
    }

    #[test]
    fn a_list_names_nothing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(dir.path().join("mine"), "").unwrap();
        std::fs::write(
            out.join(FILES),
            "../mine\n/etc/hostname\nout/../x\nout/x/y\n.files\n\na/x\nreport.json\n",
        )
        .unwrap();
        let d = Directory::go_on(&out, file("run.toml", "")).unwrap();
        assert_eq!(d.own.iter().collect::<Vec<_>>(), ["a/x", "report.json"]);
    }
}
