//! What is grafted onto a backbone, new or saved.
use super::{
    backbone::Backbone,
    learner::Learner,
    part::{NewPart, Part, check},
};
use crate::{Error, Result, tasks::Task};
use engraft_adapters::{
    Adapter, AdapterSet, Base, Config, Fusion, Head, HeadConfig, Loading, Setup, export::Composition, fusion,
};
use engraft_engine::{ParamSet, Storage, output};
use std::path::{Path, PathBuf};

/// What is grafted onto a backbone.
#[derive(Default)]
pub struct Graft {
    /// The new adapter's and the head's name.
    pub name: String,
    /// The new adapter, if there is to be one.
    pub adapter: Option<Box<dyn Config>>,
    /// Adapters that were saved, by the names that they are given here.
    pub saved: Vec<(String, PathBuf)>,
    /// Whether those train.
    pub joint: bool,
    /// How all of them are put together; none: the new adapter alone, or a fusion of those that
    /// were saved.
    pub setup: Option<Setup>,
    /// How new fusions mix, as a configuration string; none: AdapterFusion.
    pub fusion: Option<String>,
    /// The head; none to read the model's own language-modelling head.
    pub head: Option<Box<dyn HeadConfig>>,
    /// The seed decides all new weights.
    pub seed: u64,
}

/// Streams of random numbers of their own, so that a head starts the same with and without an
/// adapter, and each fusion by itself.
const HEAD_STREAM: u64 = 0x6865_6164;
const FUSION_STREAM: u64 = 0x6675_7365;

impl Graft {
    /// How the adapters are put together.
    fn setup(&self) -> Setup {
        let saved = || self.saved.iter().map(|(name, _)| Setup::One(name.clone()));
        match (&self.setup, &self.adapter, self.saved.len()) {
            (Some(setup), ..) => setup.clone(),
            (None, Some(_), 0) => Setup::One(self.name.clone()),
            (None, Some(_), _) => Setup::Stack(saved().chain([Setup::One(self.name.clone())]).collect()),
            (None, None, 0) => Setup::Identity,
            (None, None, 1) => saved().next().unwrap_or_default(),
            (None, None, _) => Setup::fuse(saved()),
        }
    }
    /// The adapters and fusions of the setup.
    fn adapters(
        self,
        backbone: &Backbone,
        base: Base<'_>,
        params: &mut ParamSet,
    ) -> Result<(AdapterSet, Setup)> {
        let (setup, device, host) = (self.setup(), backbone.device(), backbone.host());
        let (mut set, names) = (AdapterSet::new(), setup.distinct());
        let idle = |name: &str| {
            let why = format!("`{setup}` does not name the adapter `{name}`");
            Err(Error::Option { option: "setup", value: setup.to_string(), why })
        };
        for (name, directory) in &self.saved {
            if !names.contains(&name.as_str()) {
                return idle(name);
            }
            let adapter = match self.joint {
                true => Adapter::load(directory, host, base, device, params)?,
                false => Adapter::load_frozen(directory, host, base, device)?,
            };
            set.add(adapter.renamed(name)?)?;
        }
        if let Some(config) = self.adapter {
            if !names.contains(&self.name.as_str()) {
                return idle(&self.name);
            }
            set.add(Adapter::new(&self.name, config, base, device, params, self.seed)?)?;
        }
        for (i, fusion) in setup.fusions().into_iter().enumerate() {
            let config = fusion::parse(self.fusion.as_deref().unwrap_or("attention"), &Default::default())?;
            let (name, of) = (&fusion.name, set.members(&fusion)?);
            let seed = self.seed ^ FUSION_STREAM ^ (i as u64) << 32;
            let fusion = Fusion::with_name(name, config, &of, base, device, params, seed)?;
            set.add_fusion(fusion)?;
        }
        set.activate(&setup, setup.items().unwrap_or(1))?; // refused before there is a batch
        Ok((set, setup))
    }
}

impl Backbone {
    /// A new learner on this model: what a graft describes, and the head of its task.
    ///
    /// A backbone that trains serves one learner: it is handed over.
    pub fn learner(self, graft: Graft, task: Box<dyn Task>) -> Result<Learner> {
        let mut params = self.continue_set()?;
        self.grafted(graft, task, &mut params)
    }
    /// Several of them, that learn from mixed batches: the places of their gradients are apart
    /// ([`step_mixed`](crate::run::mixed::step_mixed)). A backbone that trains is refused.
    pub fn learners(self, all: impl IntoIterator<Item = (Graft, Box<dyn Task>)>) -> Result<Vec<Learner>> {
        if self.trains.is_some() {
            return Err(Error::Model("a model whose weights train serves one learner only".into()));
        }
        let mut params = ParamSet::new();
        let one = |(graft, task)| self.clone().grafted(graft, task, &mut params);
        all.into_iter().map(one).collect()
    }
    /// A new learner of several tasks, each with a head of its own, and one adapter for all of
    /// them: it learns from batches that say of every example which task it is of, by number
    /// ([`step_mixed`](crate::run::mixed::step_mixed)). The graft has no head. A backbone that
    /// trains is refused.
    pub fn learner_of(self, graft: Graft, parts: Vec<NewPart>) -> Result<Learner> {
        check(&parts)?;
        if self.trains.is_some() || graft.head.is_some() {
            return Err(Error::Model("several tasks have heads of their own, on a frozen model".into()));
        }
        let (mut params, seed) = (ParamSet::new(), graft.seed);
        let named = self.model().named();
        let grafted = graft.adapters(&self, self.base(&named), &mut params)?;
        drop(named);
        let mut all = vec![];
        for NewPart { name, head, task, weight } in parts {
            self.check_head(head.as_deref())?;
            let head = self.new_head(&name, head, &mut params, seed)?;
            all.push(Part { name, head, task, weight });
        }
        Learner::new(self, grafted, all)
    }
    fn grafted(self, mut graft: Graft, task: Box<dyn Task>, params: &mut ParamSet) -> Result<Learner> {
        self.check_head(graft.head.as_deref())?;
        let (name, seed, head) = (graft.name.clone(), graft.seed, graft.head.take());
        let named = self.model().named();
        let grafted = graft.adapters(&self, self.base(&named), params)?;
        drop(named);
        let head = self.new_head(&name, head, params, seed)?;
        Learner::new(self, grafted, vec![Part { name, head, task, weight: 1.0 }])
    }
    /// A learner that starts from what was saved, without the adapter's modules in some layers,
    /// with a new head for a task of its own; none where the model's own serves.
    pub fn learner_from(
        self,
        directory: impl AsRef<Path>,
        leave_out: &[usize],
        head: Option<Box<dyn HeadConfig>>,
        seed: u64,
        task: Box<dyn Task>,
    ) -> Result<Learner> {
        self.check_head(head.as_deref())?;
        let directory = directory.as_ref();
        let _held = output::reading(directory)?;
        let mut params = self.continue_set()?;
        let how = without(leave_out);
        let (set, setup, _) = self.saved(directory, &how, Some(&mut params))?;
        let head = self.new_head(setup.last().unwrap_or_default(), head, &mut params, seed)?;
        Learner::new(self, (set, setup), vec![Part::saved(head, task)])
    }
    /// What was saved by [`Learner::save`], AdapterHub or PEFT: adapters with a head or without, or
    /// a head alone. `task` makes the task from the type of the head and its labels.
    pub fn load_learner(
        self,
        directory: impl AsRef<Path>,
        task: impl FnOnce(Option<&Head>) -> Result<Box<dyn Task>>,
    ) -> Result<Learner> {
        self.load_learner_without(directory, &[], task)
    }
    /// The same without the adapter's modules in some layers, counted from 0.
    pub fn load_learner_without(
        self,
        directory: impl AsRef<Path>,
        leave_out: &[usize],
        task: impl FnOnce(Option<&Head>) -> Result<Box<dyn Task>>,
    ) -> Result<Learner> {
        let directory = directory.as_ref();
        let _held = output::reading(directory)?;
        let mut params = self.continue_set()?;
        let how = without(leave_out);
        let (set, setup, at) = self.saved(directory, &how, Some(&mut params))?;
        let head = match &at {
            Some(at) => Head::find(at, self.host(), self.device(), &mut params)?,
            None => None,
        };
        self.check_head(head.as_ref().map(Head::config))?;
        let task = task(head.as_ref())?;
        Learner::new(self, (set, setup), vec![Part::saved(head, task)])
    }
    /// The same of a learner that answers and learns no more: any number of them share one model.
    /// The matrices of its adapters are stored like that, as they are in their files if it is
    /// `None`, and decoded where they are used.
    pub fn load_frozen_learner(
        self,
        directory: impl AsRef<Path>,
        storage: Option<Storage>,
        task: impl FnOnce(Option<&Head>) -> Result<Box<dyn Task>>,
    ) -> Result<Learner> {
        let directory = directory.as_ref();
        let _held = output::reading(directory)?;
        let how = Loading { storage, ..Loading::default() };
        let (set, setup, at) = self.saved(directory, &how, None)?;
        let find = |at: PathBuf| Head::find(&at, self.host(), self.device(), &mut ParamSet::new());
        let head = at.map(find).transpose()?.flatten().map(Head::freeze);
        self.check_head(head.as_ref().map(Head::config))?;
        let task = task(head.as_ref())?;
        Learner::new(self, (set, setup), vec![Part::saved(head, task)])
    }
    /// The same of an adapter of one directory with the head of another.
    pub fn load_with_head(
        self,
        adapter: impl AsRef<Path>,
        head: impl AsRef<Path>,
        task: impl FnOnce(Option<&Head>) -> Result<Box<dyn Task>>,
    ) -> Result<Learner> {
        let (adapter, head) = (adapter.as_ref(), head.as_ref());
        let (_adapter, _head) = (output::reading(adapter)?, output::reading(head)?);
        let (set, setup, _) = self.saved(adapter, &Loading::default(), None)?;
        let head = Head::find(head, self.host(), self.device(), &mut ParamSet::new())?.map(Head::freeze);
        self.check_head(head.as_ref().map(Head::config))?;
        let task = task(head.as_ref())?;
        Learner::new(self, (set, setup), vec![Part::saved(head, task)])
    }
    /// The adapters of a directory, which train if there is a set for their weights, and where its
    /// head is.
    fn saved(
        &self,
        directory: &Path,
        how: &Loading,
        params: Option<&mut ParamSet>,
    ) -> Result<(AdapterSet, Setup, Option<PathBuf>)> {
        let (device, host, named) = (self.device(), self.host(), self.model().named());
        let base = self.base(&named);
        if Composition::is_in(directory) {
            if !how.leave_out.is_empty() {
                let why = "it holds several adapters; layers are left out of one".into();
                return Err(Error::Option { option: "leave-out", value: "given".into(), why });
            }
            let Composition { set, setup, head } = match params {
                Some(params) => Composition::load(directory, host, base, device, params)?,
                None => Composition::load_stored(directory, host, base, device, how.storage)?,
            };
            return Ok((set, setup, head));
        }
        let (mut set, mut setup) = (AdapterSet::new(), Setup::Identity);
        let there = |name: &str| directory.join(name).exists();
        if there("adapter_config.json") || !there("head_config.json") {
            let adapter = Adapter::load_as(how, directory, host, base, device, params)?;
            setup = Setup::One(adapter.name().into());
            set.add(adapter)?;
        }
        Ok((set, setup, Some(directory.into())))
    }
    fn new_head(
        &self,
        name: &str,
        config: Option<Box<dyn HeadConfig>>,
        params: &mut ParamSet,
        seed: u64,
    ) -> Result<Option<Head>> {
        let new = |c| Head::new(name, c, self.host(), self.device(), params, seed ^ HEAD_STREAM);
        Ok(config.map(new).transpose()?)
    }
}

/// As it was saved, but for some layers.
fn without(layers: &[usize]) -> Loading {
    Loading { leave_out: layers.to_vec(), ..Loading::default() }
}
