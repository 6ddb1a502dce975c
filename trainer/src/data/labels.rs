//! Label names and class numbers.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::Dataset;
use super::name::Name;
use super::record::{Label, Record};
use crate::error::{Error, Result, list};

/// The names of labels in training data: those that occur, and all that can, if files list them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelNames {
    found: BTreeSet<String>,
    /// In their order, with the file that lists them.
    listed: Option<(PathBuf, Arc<[String]>)>,
}

impl LabelNames {
    /// Takes up those of a part of the data. An error if its file lists others than a file before.
    pub fn add(&mut self, part: &Dataset) -> Result<()> {
        match (&self.listed, &part.chosen.classes) {
            (None, Some(names)) => self.listed = Some((part.path.clone(), names.clone())),
            (Some((before, known)), Some(names)) if known != names => {
                let (here, there) = (list(names), list(known));
                let why = format!("its classes are {here}, and those of {} are {there}", before.display());
                return Err(Error::file(&part.path, why));
            }
            _ => {}
        }
        for label in part.records.iter().flat_map(Record::labels) {
            if !self.found.contains(&*label) {
                self.found.insert(label.into_owned());
            }
        }
        Ok(())
    }

    /// Those that occur.
    pub fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    /// The names: as files list them, else in sorted order.
    fn in_order(self) -> Result<Vec<String>> {
        let Some((path, listed)) = self.listed else {
            let mut names: Vec<String> = self.found.into_iter().collect();
            names.sort_by(|a, b| natural(a, b));
            return Ok(names);
        };
        match self.found.iter().find(|name| !listed.contains(name)) {
            Some(other) => {
                let known = list(&listed);
                Err(Error::file(
                    &path,
                    format!("it lists the classes {known}, and there is a label `{other}`"),
                ))
            }
            None => Ok(listed.to_vec()),
        }
    }
}

impl From<BTreeSet<String>> for LabelNames {
    fn from(found: BTreeSet<String>) -> LabelNames {
        LabelNames { found, listed: None }
    }
}

/// The classes of a head: names in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    ids: HashMap<String, u32>,
    /// Of names with blanks around them the numbers without these; `None` where two are the same
    /// then.
    bare: HashMap<String, Option<u32>>,
    /// Of every name in small letters and without blanks the number; `None` where two are the same
    /// then.
    small: HashMap<String, Option<u32>>,
}

impl Labels {
    /// The labels of the training data at `path`, two at least: as its files list them, else those that
    /// occur, in sorted order: whole numbers by value and before everything else ("0", "1", .., "10"), the
    /// rest by their characters.
    pub fn learn(path: &Path, names: impl Into<LabelNames>) -> Result<Self> {
        let names = names.into().in_order()?;
        if let [only] = names.as_slice() {
            return Err(Error::file(
                path,
                format!("every row has the label `{only}`; training needs at least two labels"),
            ));
        }
        Self::from_names(names)
    }

    /// The same of any number of labels, one at least.
    pub fn sorted(names: impl Into<LabelNames>) -> Result<Self> {
        Self::from_names(names.into().in_order()?)
    }

    /// The labels of an existing head, in its order.
    pub fn from_names(names: Vec<String>) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::Labels("there are no labels".into()));
        }
        let mut ids = HashMap::with_capacity(names.len());
        for (id, name) in names.iter().enumerate() {
            if ids.insert(name.clone(), id as u32).is_some() {
                return Err(Error::Labels(format!("label `{name}` stands twice in {}", list(&names))));
            }
        }
        let mut bare: HashMap<String, Option<u32>> = HashMap::new();
        for (name, id) in names.iter().zip(0..).filter(|(name, _)| name.trim() != *name) {
            bare.entry(name.trim().into()).and_modify(|id| *id = None).or_insert(Some(id));
        }
        let mut small: HashMap<String, Option<u32>> = HashMap::new();
        for (name, id) in names.iter().zip(0..) {
            small.entry(name.trim().to_lowercase()).and_modify(|id| *id = None).or_insert(Some(id));
        }
        Ok(Self { names, ids, bare, small })
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of class `id`; a number beyond the last is our own bug.
    pub fn name(&self, id: u32) -> &str {
        &self.names[id as usize]
    }

    /// The number of a label.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "no labels is an error when they are made")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of a label that stands in a file: of the label that is called exactly so, else of
    /// the one that it is taken for, else of the only one that is the same but for blanks around
    /// it, else of the only one that is the same but for these and capitals.
    pub fn find(&self, label: &Name) -> Option<u32> {
        let bare = || self.bare.get(label.taken()).copied().flatten();
        let small = || self.small.get(&label.taken().to_lowercase()).copied().flatten();
        self.id(label.exact()).or_else(|| self.id(label.taken())).or_else(bare).or_else(small)
    }

    /// The number of a label that stands at `line` of a file.
    pub fn number(&self, path: &Path, line: usize, label: &Name) -> Result<u32> {
        self.find(label).ok_or_else(|| Error::Label {
            path: path.into(),
            line,
            label: label.taken().into(),
            known: self.names.clone(),
        })
    }

    /// The class number of a record of a file.
    pub fn of(&self, path: &Path, record: &Record) -> Result<u32> {
        match &record.label {
            Label::One(label) => self.number(path, record.line, label),
            _ => Err(Error::line(path, record.line, "no label")),
        }
    }

    /// The class number of every record; an error names the first one with an unknown label, or
    /// without one.
    pub fn ids_of(&self, data: &Dataset) -> Result<Vec<u32>> {
        data.records.iter().map(|record| self.of(&data.path, record)).collect()
    }
}

fn natural(a: &str, b: &str) -> Ordering {
    let whole = |s: &str| s.parse::<i128>().ok();
    match (whole(a), whole(b)) {
        (Some(x), Some(y)) => x.cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}
