//! Several data sets to evaluate on, each by its name: `NAME=FILE`.
use super::checks::refused;
use super::table::Settings;
use super::variant::names_a_directory;
use engraft::{
    Error, Result,
    data::{self, Purpose},
    reports::progress::Mode,
    run::evaluate::Encoded,
};
use std::path::{Path, PathBuf};

/// The name and the file of `NAME=FILE`; without a name where there is none in front of it.
fn named(path: &Path) -> (Option<&str>, PathBuf) {
    let parts = path.to_str().and_then(|text| text.split_once('='));
    match parts.filter(|(name, _)| names_a_directory(name)) {
        Some((name, file)) => (Some(name), file.into()),
        None => (None, path.to_path_buf()),
    }
}

/// The same with the files that they stand for.
fn expand(paths: &[PathBuf], mode: Mode) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    for path in paths {
        let (name, file) = named(path);
        let with_name = |file: PathBuf| match name {
            Some(name) => {
                let mut text = std::ffi::OsString::from(format!("{name}="));
                text.push(file);
                text.into()
            }
            None => file,
        };
        all.extend(data::expand(&[file], Purpose::Evaluate, mode)?.into_iter().map(with_name));
    }
    Ok(all)
}

/// A data set: its name, if there are several, and its files.
type Set = (Option<String>, Vec<PathBuf>);

/// The data sets of files, in the order in which their names come first. An error if only some of
/// the files have a name.
fn sets(paths: &[PathBuf]) -> Result<Vec<Set>> {
    let mut sets: Vec<Set> = vec![];
    for path in paths {
        let (name, file) = named(path);
        if sets.first().is_some_and(|(first, _)| first.is_some() != name.is_some()) {
            let why = "all files have a name in front of them, as in NAME=FILE, or none has";
            return Err(refused("eval", path.display(), why));
        }
        match sets.iter_mut().find(|(known, _)| known.as_deref() == name) {
            Some((_, files)) => files.push(file),
            None => sets.push((name.map(String::from), vec![file])),
        }
    }
    Ok(sets)
}

/// The data sets of files, each of which is read: the first, and the others beside it.
pub fn read(paths: &[PathBuf], read: impl Fn(&[PathBuf]) -> Result<Encoded>) -> Result<Encoded> {
    let mut all = vec![];
    for (name, files) in sets(paths)? {
        all.push(Encoded { name, ..read(&files)? });
    }
    let mut all = all.into_iter();
    let first = all.next().ok_or(Error::Needs { option: "train", needs: "eval" })?;
    Ok(Encoded { others: all.collect(), ..first })
}

impl Settings {
    /// Puts the files that its data stand for in their place.
    pub fn expand(&mut self, mode: Mode) -> Result<()> {
        let train = |paths: &mut Vec<PathBuf>| data::expand(paths, Purpose::Train, mode);
        self.train.iter_mut().try_for_each(|paths| train(paths).map(|files| *paths = files))?;
        self.eval.iter_mut().try_for_each(|paths| expand(paths, mode).map(|files| *paths = files))
    }
    /// Refuses names of data sets where there is one for each of several tasks or adapters.
    pub fn check_one_set(&self, what: &str) -> Result<()> {
        match self.eval.iter().flatten().find(|path| named(path).0.is_some()) {
            None => Ok(()),
            Some(path) => {
                let why = format!(
                    "{what} is evaluated on one data set: a file with `=` in its name is ./{}",
                    path.display()
                );
                Err(refused("eval", path.display(), why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Result<Vec<(Option<String>, Vec<PathBuf>)>> {
        sets(&paths.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn files_of_one_name_are_one_set() {
        let set = |name: Option<&str>, files: &[&str]| {
            (name.map(String::from), files.iter().map(PathBuf::from).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a.tsv", "b.tsv"]).unwrap(), [set(None, &["a.tsv", "b.tsv"])]);
        assert_eq!(
            of(&["x=a.tsv", "y=b.tsv", "x=c.tsv"]).unwrap(),
            [set(Some("x"), &["a.tsv", "c.tsv"]), set(Some("y"), &["b.tsv"])]
        );
        assert_eq!(of(&["./x=a.tsv", "=b"]).unwrap(), [set(None, &["./x=a.tsv", "=b"])]);
        assert!(of(&["x=a.tsv", "b.tsv"]).unwrap_err().to_string().contains("b.tsv"));
        let dir = tempfile::tempdir().unwrap();
        ["a1.tsv", "a2.tsv"].iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        let pattern = format!("x={}/a*.tsv", dir.path().display());
        let found = expand(&[pattern.into()], Mode::Quiet).unwrap();
        let file = |name| PathBuf::from(format!("x={}", dir.path().join(name).display()));
        assert_eq!(found, [file("a1.tsv"), file("a2.tsv")]);
    }
}
