//! A model as the maker of an adapter sees it.
use crate::{Error, Result};
use engraft_engine::{Checkpoint, Site, SiteInfo, Tensor};
use std::path::Path;

/// A model's sites, and its weights where methods start from them.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// Where hooks are called.
    pub sites: &'a [SiteInfo],
    /// Dropout of attention probabilities while training: a fusion's, unless it says otherwise.
    pub attention_dropout: f32,
    weights: &'a [(String, &'a Tensor)],
    directory: Option<&'a Path>,
}
impl<'a> Base<'a> {
    /// A model with these sites and these weights, under their checkpoint names.
    pub fn new(sites: &'a [SiteInfo], weights: &'a [(String, &'a Tensor)]) -> Base<'a> {
        Base { sites, attention_dropout: 0.0, weights, directory: None }
    }
    /// The same model with this dropout of attention probabilities.
    pub fn with_attention_dropout(self, p: f32) -> Base<'a> {
        Base { attention_dropout: p, ..self }
    }
    /// The same model with the directory that it was loaded from, whose weights may be rounded in
    /// memory.
    pub fn in_directory(self, directory: &'a Path) -> Base<'a> {
        Base { directory: Some(directory), ..self }
    }
    /// What rounding took from a quantised weight: that in the files less that in memory.
    fn rounded_away(&self, name: &str) -> Result<Vec<f32>> {
        let held = self.weight(name)?;
        let wrong = |what: &str| {
            Error::Config(format!("`loftq` starts from what rounding takes from weights: {what}"))
        };
        if !held.storage().is_quantised() {
            return Err(wrong("those of this backbone are not quantised"));
        }
        if held.buffer().device().is_null() {
            return Ok(vec![0.0; held.elements()]);
        }
        let directory = self.directory.ok_or_else(|| wrong("the model's files were not given"))?;
        let files = Checkpoint::open(directory)?;
        let short = name.split_once('.').map_or(name, |(_, rest)| rest);
        let name = if files.has(name) { name } else { short };
        let whole = files.values(name, held.shape()).map_err(|e| wrong(&e.to_string()))?;
        Ok(whole.iter().zip(held.to_f32()?).map(|(w, q)| w - q).collect())
    }
    /// A weight by its name. An error if there is none, or if the weights were not given.
    pub fn weight(&self, name: &str) -> Result<&'a Tensor> {
        if self.weights.is_empty() {
            return Err(Error::Config("this method starts from the weights of the model".into()));
        }
        let found = self.weights.iter().find(|(n, _)| n == name);
        found.map(|(_, t)| *t).ok_or_else(|| Error::Config(format!("the model has no weight `{name}`")))
    }
}
/// A model whose weights nobody asks for.
impl<'a, S: AsRef<[SiteInfo]> + ?Sized> From<&'a S> for Base<'a> {
    fn from(sites: &'a S) -> Base<'a> {
        Base { sites: sites.as_ref(), attention_dropout: 0.0, weights: &[], directory: None }
    }
}

/// Where a module is to stand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The site.
    pub info: &'a SiteInfo,
    /// The model.
    pub base: Base<'a>,
    /// The adapter's name.
    pub adapter: &'a str,
    /// The path under which the checkpoint at hand names what hangs there: that of `info`, or
    /// without its first part.
    pub path: &'a str,
    /// True if the module trains.
    pub trains: bool,
}
impl<'a> Place<'a> {
    /// The path of the module in a checkpoint of AdapterHub, whose modules of a kind hang in one
    /// `collection`.
    pub fn module(&self, collection: &str) -> String {
        let path = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
        format!("{path}{collection}.{}", self.adapter)
    }
    /// The path of the norm that is applied at this site, as the checkpoint at hand names it.
    pub fn norm(&self) -> Option<&str> {
        let path = self.info.norm.as_ref()?.path.as_str();
        match self.path == self.info.path {
            true => Some(path),
            false => path.split_once('.').map(|(_, rest)| rest),
        }
    }
    /// That of the same adapter at another site, which the checkpoint at hand names alike.
    pub fn beside(&self, site: Site) -> Option<Self> {
        let info = self.base.sites.iter().find(|i| i.site == site)?;
        let path = match self.path == self.info.path {
            true => &*info.path,
            false => info.path.split_once('.').map_or("", |(_, rest)| rest),
        };
        Some(Place { info, path, ..*self })
    }
    /// A tensor of the model's module at this site: `weight` or `bias`.
    pub fn weight(&self, tensor: &str) -> Result<&Tensor> {
        self.base.weight(&format!("{}.{tensor}", self.info.in_model(&self.info.path)))
    }
    /// What rounding took from it, if it is quantised; an error if it is not, or if it is already
    /// so in the model's files.
    pub fn rounded_away(&self, tensor: &str) -> Result<Vec<f32>> {
        self.base.rounded_away(&format!("{}.{tensor}", self.info.in_model(&self.info.path)))
    }
}
