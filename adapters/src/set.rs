//! Several adapters at hand, of which one at a time answers.
use crate::{Adapter, Error, Result};
use engraft_engine::{Hooks, Param, Parameters, Plain};
use std::collections::BTreeMap;

/// Adapters by name, trained and frozen ones side by side. To change the one that answers costs nothing.
#[derive(Debug, Default)]
pub struct AdapterSet {
    adapters: BTreeMap<String, Adapter>,
}

impl AdapterSet {
    /// None yet.
    pub fn new() -> AdapterSet {
        AdapterSet::default()
    }
    /// One more; an error if there is one of its name.
    pub fn add(&mut self, adapter: Adapter) -> Result<()> {
        let name = adapter.name().to_string();
        match self.adapters.contains_key(&name) {
            true => Err(Error::Config(format!("there is an adapter `{name}` already"))),
            false => {
                self.adapters.insert(name, adapter);
                Ok(())
            }
        }
    }
    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<Adapter> {
        self.adapters.remove(name)
    }
    /// The adapter of a name; an error that lists the others if there is none.
    pub fn get(&self, name: &str) -> Result<&Adapter> {
        self.adapters.get(name).ok_or_else(|| {
            let known: Vec<_> = self.adapters.keys().map(|n| format!("`{n}`")).collect();
            Error::Config(format!("there is no adapter `{name}`; there are: {}", known.join(", ")))
        })
    }
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.adapters.values()
    }
    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }
    /// What answers a model's hooks when this adapter is the active one; the plain model if none is.
    pub fn activate(&self, name: Option<&str>) -> Result<&dyn Hooks> {
        match name {
            Some(name) => Ok(self.get(name)?),
            None => Ok(&Plain),
        }
    }
}
impl Parameters for AdapterSet {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.adapters.values().for_each(|a| a.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.adapters.values_mut().for_each(|a| a.visit_mut(f));
    }
}
