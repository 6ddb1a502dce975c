//! Several adapters and fusions at hand.
use super::{
    active::Active,
    compat::Compat,
    fused::{Fused, Mixable},
    setup::Setup,
    tree::Tree,
};
use crate::{Adapter, Error, Fusion, Member, Result};
use engraft_engine::{Param, Parameters, Tensor};
use std::collections::BTreeMap;

/// Adapters and fusions by name, trained and frozen ones side by side. To change which of them
/// answer costs nothing.
#[derive(Debug, Default)]
pub struct AdapterSet {
    adapters: BTreeMap<String, Adapter>,
    fusions: BTreeMap<String, Fusion>,
}

impl AdapterSet {
    /// None yet.
    pub fn new() -> AdapterSet {
        AdapterSet::default()
    }
    /// One more; an error if there is one of its name.
    pub fn add(&mut self, adapter: Adapter) -> Result<()> {
        insert(&mut self.adapters, "an adapter", adapter.name().to_string(), adapter)
    }
    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<Adapter> {
        self.adapters.remove(name)
    }
    /// The adapter of a name; an error that lists the others if there is none.
    pub fn get(&self, name: &str) -> Result<&Adapter> {
        find(&self.adapters, "adapter", name)
    }
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.adapters.values()
    }
    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }
    /// Adds a fusion; an error if there is one of its name.
    pub fn add_fusion(&mut self, fusion: Fusion) -> Result<()> {
        insert(&mut self.fusions, "a fusion", fusion.name().to_string(), fusion)
    }
    /// The fusion of a name; an error that lists the others if there is none.
    pub fn fusion(&self, name: &str) -> Result<&Fusion> {
        find(&self.fusions, "fusion", name)
    }
    /// What a fusion of a setup mixes, to make it of: an error where one of it is not at hand.
    pub fn members(&self, of: &Fused<'_>) -> Result<Vec<&dyn Member>> {
        let one = |mixable: &Mixable<'_>| match mixable {
            Mixable::Adapter(name) => self.get(name).map(|a| a as &dyn Member),
            Mixable::Fusion(name) => self.fusion(name).map(|f| f as &dyn Member),
        };
        of.of.iter().map(one).collect()
    }
    /// All fusions, by name.
    pub fn fusions(&self) -> impl Iterator<Item = &Fusion> {
        self.fusions.values()
    }
    /// Every weight under its name in AdapterHub's checkpoints.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let adapters = self.adapters.values().flat_map(Adapter::named);
        adapters.chain(self.fusions.values().flat_map(Fusion::named)).collect()
    }
    /// What answers a model's hooks under a setup, for batches of so many items.
    pub fn activate(&self, setup: &Setup, items: usize) -> Result<Active<'_>> {
        self.activate_like(Compat::default(), setup, items)
    }
    /// The same, with the results of another library where they differ from what it documents.
    pub fn activate_like(&self, compat: Compat, setup: &Setup, items: usize) -> Result<Active<'_>> {
        let (setups, channels) = setup.normal(items)?;
        let active = Active::new(self.trees(&setups, compat)?, channels);
        match setup {
            Setup::BatchSplit { of, .. } | Setup::Parallel(of) if compat == Compat::Adapters130 => {
                if let Some(child) = of.iter().find(|c| !c.is_plain()) {
                    return Err(Error::Config(format!(
                        "what adapters 1.3.0 makes of `{child}` in `{setup}` is not reproduced"
                    )));
                }
                active.between_ends()
            }
            _ => Ok(active),
        }
    }
    /// The same for items that are not a whole batch, one behind the other, of as many as the setup
    /// wants ([`Setup::items`]): each has the number of its place in such a batch, and a place
    /// behind it counts from the next batch on. So a row of data is answered by the same adapter
    /// whatever rows it is computed with.
    pub fn activate_at(&self, compat: Compat, setup: &Setup, places: &[usize]) -> Result<Active<'_>> {
        Ok(self.activate_like(compat, setup, setup.items().unwrap_or(1))?.at(places))
    }
    /// What answers for a batch each of whose items has a setup of its own: a mixed batch. It has
    /// one channel.
    pub fn activate_each(&self, of_item: &[&Setup]) -> Result<Active<'_>> {
        let mut setups: Vec<Setup> = vec![];
        let mut routes = vec![];
        for setup in of_item {
            let (trees, channels) = setup.normal(1)?;
            let [route] = channels.as_slice() else {
                return Err(Error::Config(format!("`{setup}` is more than one answer for a sequence")));
            };
            let tree = &trees[route[0]];
            routes.push(setups.iter().position(|s| s == tree).unwrap_or_else(|| {
                setups.push(tree.clone());
                setups.len() - 1
            }));
        }
        Ok(Active::new(self.trees(&setups, Compat::default())?, vec![routes]))
    }
    fn trees(&self, setups: &[Setup], compat: Compat) -> Result<Vec<Tree<'_>>> {
        setups.iter().map(|s| self.tree(s, compat)).collect()
    }
    /// A setup without routing, with the adapters and fusions that it names.
    fn tree(&self, setup: &Setup, compat: Compat) -> Result<Tree<'_>> {
        let all = |of: &[Setup]| self.trees(of, compat);
        let tree = match setup {
            Setup::Identity => Tree::Identity,
            Setup::One(name) => Tree::One(self.get(name)?),
            Setup::Stack(of) if compat == Compat::Adapters130 => Tree::Chain(all(of)?),
            Setup::Stack(of) => Tree::Stack(all(of)?),
            Setup::Fuse { of, name } => {
                if compat == Compat::Adapters130 && of.iter().any(|s| !s.fusions().is_empty()) {
                    return Err(Error::Config(format!(
                        "adapters 1.3.0 cannot compute a fusion of fusions: `{setup}`"
                    )));
                }
                let fusion = self.fusion(&Setup::fusion_name(of, name.as_deref()))?;
                let places = fusion.places(of)?;
                let residual_twice = compat == Compat::Adapters130;
                Tree::Fuse { fusion, of: all(of)?, places, residual_twice }
            }
            Setup::Average { of, weights } => {
                let by = if compat == Compat::Adapters130 { of.len() as f64 } else { 1.0 };
                Tree::Average { weights: weights.iter().map(|w| (w / by) as f32).collect(), of: all(of)? }
            }
            Setup::Split { of, splits } => Tree::Split { sizes: splits.clone(), of: all(of)? },
            Setup::BatchSplit { .. } | Setup::Parallel(_) => {
                return Err(Error::Config(format!("`{setup}` is no answer for one sequence")));
            }
        };
        tree.check()
    }
}
fn insert<T>(all: &mut BTreeMap<String, T>, what: &str, name: String, one: T) -> Result<()> {
    match all.contains_key(&name) {
        true => Err(Error::Config(format!("there is {what} `{name}` already"))),
        false => {
            all.insert(name, one);
            Ok(())
        }
    }
}
fn find<'a, T>(all: &'a BTreeMap<String, T>, what: &str, name: &str) -> Result<&'a T> {
    all.get(name).ok_or_else(|| {
        let known: Vec<_> = all.keys().map(|n| format!("`{n}`")).collect();
        Error::Config(format!("there is no {what} `{name}`; there are: {}", known.join(", ")))
    })
}

impl Parameters for AdapterSet {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.adapters.values().for_each(|a| a.visit(f));
        self.fusions.values().for_each(|a| a.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.adapters.values_mut().for_each(|a| a.visit_mut(f));
        self.fusions.values_mut().for_each(|a| a.visit_mut(f));
    }
}
