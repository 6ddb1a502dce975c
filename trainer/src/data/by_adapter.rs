//! The adapters that the records of files name.
use super::files::Files;
use super::record::Record;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What the records say that name one adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfAdapter {
    /// The names of all labels.
    pub labels: BTreeSet<String>,
    /// The file and the line in which it is named first.
    pub first: (PathBuf, usize),
}

impl Files {
    /// What there is for each adapter that records name: every record is looked at, and an error is
    /// found here that is in any of them.
    pub fn by_adapter(&self) -> Result<BTreeMap<String, OfAdapter>> {
        let mut all = BTreeMap::<String, OfAdapter>::new();
        for part in self.parts() {
            let part = part?;
            for record in &part.records {
                let name = record.adapter.as_deref().unwrap_or_default();
                if !all.contains_key(name) {
                    let first = (part.path.clone(), record.line);
                    all.insert(name.into(), OfAdapter { labels: BTreeSet::new(), first });
                }
                let labels = all.get_mut(name).map(|one| &mut one.labels);
                labels.into_iter().for_each(|known| add(known, record));
            }
        }
        Ok(all)
    }
}

fn add(known: &mut BTreeSet<String>, record: &Record) {
    for label in record.labels() {
        if !known.contains(&*label) {
            known.insert(label.into_owned());
        }
    }
}
