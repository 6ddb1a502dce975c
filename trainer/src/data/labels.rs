//! Label names and class numbers.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::dataset::Dataset;
use super::name::Name;
use super::record::{Label, Record};
use crate::error::{Error, Result, list};

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
    /// The labels that occur in the training data at `path`, in sorted order: whole numbers by
    /// value and before everything else ("0", "1", .., "10"), the rest by their characters.
    pub fn learn(path: &Path, names: BTreeSet<String>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().collect();
        if let [only] = names.as_slice() {
            return Err(Error::file(
                path,
                format!("every row has the label `{only}`; training needs at least two labels"),
            ));
        }
        Self::sorted(names)
    }

    /// Labels in sorted order, as [`Self::learn`] has them.
    pub fn sorted(names: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by(|a, b| natural(a, b));
        Self::from_names(names)
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
