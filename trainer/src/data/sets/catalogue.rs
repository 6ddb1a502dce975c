//! The splits of a data set.
use super::super::record::Purpose;
use super::names::{TRAIN, kind, sharded, stem};
use crate::error::{Error, Result, list};
use std::path::{Path, PathBuf};

/// What `datasets` calls the only configuration.
pub(super) const DEFAULT: &str = "default";
/// What the split is called that a run is evaluated on. A test split is never among them: it has to be
/// named.
const HELD_OUT: [&str; 5] = ["validation", "valid", "val", "dev", "eval"];

/// A data set.
#[derive(Debug, PartialEq)]
pub(super) struct Catalogue {
    /// What errors call it.
    pub shown: PathBuf,
    pub configurations: Vec<Configuration>,
}

/// Splits that go together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Configuration {
    pub name: String,
    /// Whether it is meant where none is named.
    pub is_default: bool,
    pub splits: Vec<Split>,
}

/// What a card says of a configuration: files, or that their names say of which splits they are.
pub(super) enum Chosen {
    Files(Vec<String>),
    Splits(Vec<Split>),
}

/// A part of it.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    /// None of data that is not split.
    pub name: Option<String>,
    /// Below the directory of the data set.
    pub files: Vec<String>,
}

impl Catalogue {
    /// The files, below a directory, of what is named: a configuration, a split, or one after the other.
    pub fn files(&self, directory: &Path, names: &[&str], purpose: Purpose) -> Result<Vec<PathBuf>> {
        let (configuration, split) = match names {
            [configuration, split] => (self.configuration(configuration)?, Some(*split)),
            [one] => match self.default() {
                Ok(default) if default.split(one).is_some() => (default, Some(*one)),
                Ok(default) if self.configurations.len() == 1 && default.name != *one => {
                    (default, Some(*one))
                }
                _ => (self.configuration(one)?, None),
            },
            _ => (self.default()?, None),
        };
        let split = self.split(configuration, split, purpose)?;
        check(&self.shown, split)?;
        Ok(split.files.iter().map(|file| directory.join(file)).collect())
    }

    fn bad<T>(&self, why: String) -> Result<T> {
        Err(Error::file(&self.shown, why))
    }

    /// The configuration that is meant where none is named.
    fn default(&self) -> Result<&Configuration> {
        let all = &self.configurations;
        let named = all.iter().find(|c| c.is_default).or_else(|| all.iter().find(|c| c.name == DEFAULT));
        match (named, &all[..]) {
            (Some(one), _) | (None, [one]) => Ok(one),
            _ => {
                let why = format!("it has the configurations {}", self.names());
                self.bad(format!("{why}: name one, as in {}:{}", self.shown.display(), all[0].name))
            }
        }
    }

    fn names(&self) -> String {
        list(&self.configurations.iter().map(|c| c.name.clone()).collect::<Vec<_>>())
    }

    fn configuration(&self, name: &str) -> Result<&Configuration> {
        match self.configurations.iter().find(|c| c.name == name) {
            Some(found) => Ok(found),
            None if self.configurations.len() == 1 => {
                let splits = self.configurations[0].listed();
                self.bad(format!("it has no configuration `{name}`, but one with {splits}"))
            }
            None => self.bad(format!("it has no configuration `{name}`; there are {}", self.names())),
        }
    }

    fn split<'a>(
        &'a self,
        configuration: &'a Configuration,
        name: Option<&str>,
        purpose: Purpose,
    ) -> Result<&'a Split> {
        let splits = &configuration.splits;
        if let ([one @ Split { name: None, .. }], None) = (&splits[..], name) {
            return Ok(one);
        }
        let found: Vec<&Split> = match (name, purpose) {
            (Some(name), _) => configuration.split(name).into_iter().collect(),
            (None, Purpose::Train) => configuration.split(TRAIN).into_iter().collect(),
            (None, Purpose::Evaluate) => {
                HELD_OUT.iter().filter_map(|name| configuration.split(name)).collect()
            }
            (None, Purpose::Predict) => splits.iter().collect(),
        };
        let there = configuration.listed();
        match (&found[..], name) {
            ([one], _) => Ok(one),
            (_, Some(name)) => self.bad(format!("it has no split `{name}`, but {there}")),
            _ => {
                let what = match purpose {
                    Purpose::Train => "to learn from",
                    Purpose::Evaluate => "to evaluate on",
                    Purpose::Predict => "to read",
                };
                let of = match self.configurations.len() {
                    1 => String::new(),
                    _ => format!("{}:", configuration.name),
                };
                let shown = self.shown.display();
                self.bad(format!("it has {there}: name the one {what}, as in {shown}:{of}SPLIT"))
            }
        }
    }
}

impl Configuration {
    fn split(&self, name: &str) -> Option<&Split> {
        self.splits.iter().find(|split| split.name.as_deref() == Some(name))
    }
    /// Its splits, as errors list them.
    fn listed(&self) -> String {
        let names: Vec<String> = self.splits.iter().filter_map(|split| split.name.clone()).collect();
        match names.len() {
            0 => "all in one".into(),
            1 => format!("the split {}", list(&names)),
            _ => format!("the splits {}", list(&names)),
        }
    }
}

/// An error unless the files of a split are of one kind, and all there are.
fn check(shown: &Path, Split { name, files }: &Split) -> Result<()> {
    let name = name.as_deref().unwrap_or_default();
    if files.is_empty() {
        return Err(Error::file(shown, format!("there is no file of the split `{name}`")));
    }
    if let Some(other) = files.iter().find(|file| kind(file) != kind(&files[0])) {
        let why = format!("the split `{name}` is there as `{}` and as `{other}`: name files", files[0]);
        return Err(Error::file(shown, why));
    }
    let shards = |file: &String| sharded(stem(file)).map(|(_, count)| count);
    match files.iter().find_map(shards).filter(|count| *count != files.len()) {
        Some(count) => {
            let why = format!("of the {count} files of the split `{name}` there are {}", files.len());
            Err(Error::file(shown, why))
        }
        None => Ok(()),
    }
}
