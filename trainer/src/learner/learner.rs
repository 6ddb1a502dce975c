//! A backbone with an adapter and a head, and the task that it learns.
use super::{
    anchor::Anchor,
    backbone::Backbone,
    below::Below,
    distillation::Distillation,
    part::Part,
    prefix::{Keeps, Precision, Prefix, hash_of, hashes_of_tokenizer},
    rehearsal::Rehearsal,
};
use crate::{
    Error, Result,
    run::adapter_drop::AdapterDrop,
    tasks::{Answer, Task, Top},
    text::batch::Batch,
};
use engraft_adapters::{Active, AdapterSet, Compat, Head, Setup, Shares, export::composition};
use engraft_engine::{
    Checkpoint, Compute, Cx, Hooks, Param, Parameters, Pass, Rows, Site, first_touched, kernels,
    output::Commit,
};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// What a learner trains, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCount {
    /// Numbers that train.
    pub trainable: usize,
    /// All numbers.
    pub total: usize,
}

/// A backbone with what is grafted onto it, and the task that it learns, or several of them.
pub struct Learner {
    backbone: Backbone,
    pub(super) adapters: AdapterSet,
    setup: Setup,
    pub(super) parts: Vec<Part>,
    prefix: Option<Arc<Prefix>>,
    compat: Compat,
    /// Layers whose adapters do not answer.
    skipped: Vec<usize>,
    /// How it learns from a teacher, if it does.
    pub(super) distillation: Option<Distillation>,
    /// What holds its adapters near earlier tasks.
    pub(super) anchors: Vec<Anchor>,
    /// What it learns again of them.
    pub(super) rehearsal: Option<Rehearsal>,
}

impl Learner {
    pub(super) fn new(
        backbone: Backbone,
        (adapters, setup): (AdapterSet, Setup),
        parts: Vec<Part>,
    ) -> Result<Learner> {
        for Part { task, .. } in &parts {
            task.suits(backbone.model().info()).map_err(|why| {
                let (at, task) = (backbone.directory().display(), task.name());
                Error::Model(format!("{at} is not for the task {task}: {why}"))
            })?;
        }
        let (prefix, compat, skipped, distillation) = (None, Compat::default(), vec![], None);
        let (anchors, rehearsal) = (vec![], None);
        Ok(Learner {
            backbone,
            adapters,
            setup,
            parts,
            prefix,
            compat,
            skipped,
            distillation,
            anchors,
            rehearsal,
        })
    }
    /// The model under it.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }
    /// The adapters and fusions at hand.
    pub fn adapters(&self) -> &AdapterSet {
        &self.adapters
    }
    /// How they are put together.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }
    /// Puts them together in another way, at no cost. An error if that names what is not at hand,
    /// or gives several answers for a text.
    pub fn set_setup(&mut self, setup: Setup) -> Result<()> {
        let items = setup.items().unwrap_or(1);
        if self.adapters.activate(&setup, items)?.channels() != 1 {
            let why = "it gives several answers for each text, and here a text has one".into();
            return Err(Error::Option { option: "setup", value: setup.to_string(), why });
        }
        self.setup = setup;
        Ok(())
    }
    /// From now on the results of a library count where it is not what it documents.
    pub fn set_compat(&mut self, compat: Compat) {
        self.compat = compat;
    }
    /// From now on these layers, counted from 0, go without their adapters (AdapterDrop), at no
    /// cost. An error if the model has no such layer.
    pub fn skip_layers(&mut self, layers: impl IntoIterator<Item = usize>) -> Result<()> {
        let (skipped, all) = (Vec::from_iter(layers), self.backbone.model.info().layers);
        if let Some(l) = skipped.iter().find(|l| **l >= all) {
            let why = format!("the model has {all} layers, counted from 0");
            return Err(Error::Option { option: "skip-layers", value: format!("layer {l}"), why });
        }
        self.skipped = skipped;
        Ok(())
    }
    /// Refuses to leave out the adapters of so many layers that none would be left.
    pub(crate) fn check_adapter_drop(&self, drop: Option<AdapterDrop>) -> Result<()> {
        let Some(drop) = drop else { return Ok(()) };
        let active = self.active_above(self.setup.items().unwrap_or(1), 0)?;
        let is_layer = |s: &Site| !matches!(s.part, engraft_engine::Part::Embed | engraft_engine::Part::Head);
        let sites = self.backbone.model.sites().iter().map(|i| i.site).filter(is_layer);
        let last = sites.filter(|s| active.touches(*s)).map(|s| s.layer).max();
        let why = match last {
            Some(last) if drop.most <= last => return Ok(()),
            Some(last) => {
                format!("the last layer with an adapter is {last}, counted from 0: at most {last} can go")
            }
            None => "no layer has an adapter".into(),
        };
        Err(Error::Option { option: "adapter-drop", value: drop.to_string(), why })
    }
    /// What it learns, at least one: of several tasks each with a head of its own.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
    /// The first of them.
    pub(crate) fn part(&self) -> &Part {
        &self.parts[0]
    }
    /// The head, if it has one of its own; of several tasks that of the first.
    pub fn head(&self) -> Option<&Head> {
        self.part().head()
    }
    /// What it learns; the first of several.
    pub fn task(&self) -> &dyn Task {
        self.part().task()
    }
    fn heads(&self) -> impl Iterator<Item = &Head> {
        self.parts.iter().filter_map(Part::head)
    }
    /// True if the model's own weights train.
    pub fn is_full(&self) -> bool {
        self.backbone.trains.is_some()
    }
    /// Numbers that train, and all numbers.
    pub fn size(&self) -> ParameterCount {
        let mut trainable = 0;
        self.visit(&mut |p| trainable += p.tensor().elements());
        trainable -= self.projections().iter().map(|p| p.tensor().elements()).sum::<usize>();
        ParameterCount { trainable, total: self.named().iter().map(|(_, t)| t.elements()).sum() }
    }
    /// Every weight under its checkpoint name: the model's, the adapter's, the head's.
    pub fn named(&self) -> Vec<(String, &engraft_engine::Tensor)> {
        let mut named = self.backbone.model.named();
        named.extend(self.adapters.named());
        named.extend(self.heads().flat_map(|h| h.named()));
        named
    }
    /// Calls `f` on everything that trains.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.backbone.model.visit(f);
        self.adapters.visit(f);
        self.heads().for_each(|h| h.visit(f));
        self.projections().iter().for_each(f);
    }
    /// What trains beside it to learn from a teacher, and is not saved.
    fn projections(&self) -> &[Param] {
        self.distillation.as_ref().map_or(&[], Distillation::projections)
    }
    /// The name of a trained tensor that holds a number which is not finite, if there is one.
    pub fn not_finite(&self) -> Result<Option<String>> {
        let mut found = Ok(None);
        self.visit(&mut |p| {
            if matches!(found, Ok(None)) {
                let values = p.tensor().to_f32();
                found = values.map(|v| v.iter().any(|x| !x.is_finite()).then(|| p.name().to_string()));
            }
        });
        Ok(found?)
    }
    /// Everything that trains, to be changed.
    pub(crate) fn parameters(&mut self) -> Result<Vec<&mut dyn Parameters>> {
        let mut v: Vec<&mut dyn Parameters> = vec![];
        if self.backbone.trains.is_some() {
            let shared =
                || Error::Model("a model whose weights train is shared: drop the other backbone".into());
            v.push(Arc::get_mut(&mut self.backbone.model).ok_or_else(shared)?);
        }
        v.push(&mut self.adapters);
        let heads = self.parts.iter_mut().filter_map(|part| part.head.as_mut());
        v.extend(heads.map(|h| h as &mut dyn Parameters));
        let projections = self.distillation.iter_mut().flat_map(Distillation::projections_mut);
        v.extend(projections.map(|p| p as &mut dyn Parameters));
        Ok(v)
    }
    /// What answers the model's hooks for examples: where adapters answer for parts of a batch, those
    /// that they have in batches of the data in its order.
    pub(super) fn active(&self, batch: &Batch) -> Result<Active<'_>> {
        self.active_at(&batch.of_sequences(&batch.items), 0)
    }
    fn active_at(&self, places: &[usize], dropped: usize) -> Result<Active<'_>> {
        Ok(self.without_layers(self.adapters.activate_at(self.compat, &self.setup, places)?, dropped))
    }
    /// The same in training, where places in this batch count, without the adapters of so many lower
    /// layers. A batch may be short, as the last of an epoch is; an error if it is too long.
    pub(super) fn active_in_training(&self, batch: &Batch, dropped: usize) -> Result<Active<'_>> {
        if let Some(n) = self.setup.items().filter(|n| *n < batch.len()) {
            let (setup, all) = (&self.setup, batch.len());
            return Err(Error::Model(format!("a batch has {all} examples, and `{setup}` is for {n}")));
        }
        self.active_at(&batch.of_sequences(&Vec::from_iter(0..batch.len())), dropped)
    }
    /// The same for so many sequences.
    pub(crate) fn active_above(&self, items: usize, dropped: usize) -> Result<Active<'_>> {
        Ok(self.without_layers(self.adapters.activate_like(self.compat, &self.setup, items)?, dropped))
    }
    fn without_layers<'a>(&self, active: Active<'a>, dropped: usize) -> Active<'a> {
        let is_whole = dropped == 0 && self.skipped.is_empty();
        if is_whole { active } else { active.without_layers(self.skipped.iter().copied().chain(0..dropped)) }
    }
    pub(crate) fn top(&self) -> Top<'_> {
        self.top_of(self.part())
    }
    /// What stands on the last hidden states for one of its parts.
    pub(crate) fn top_of<'m>(&'m self, part: &'m Part) -> Top<'m> {
        Top::new(&*self.backbone.model, part.head()).filling(part.task().fills())
    }
    /// The first layer that is not the plain model's, or is not frozen, and behind the last one
    /// where there is none: what lies below is the same for all learners on this model.
    pub(crate) fn first_layer(&self) -> Result<usize> {
        if self.is_full() {
            return Ok(0);
        }
        let model = &self.backbone.model;
        let active = self.active_above(self.setup.items().unwrap_or(1), 0)?;
        let first = first_touched(&active, model.sites()).unwrap_or(model.info().layers);
        Ok(first.min(model.info().input_layers()))
    }
    /// Why what lies below the first trained module cannot be computed once for all, if it cannot:
    /// there is nothing below, or it has dropout and is no constant.
    pub fn without_prefix(&self) -> Result<Option<String>> {
        let p = self.backbone.model.info().dropout;
        Ok(if self.is_full() {
            Some("the whole backbone trains, so nothing in it is a constant".into())
        } else if p > 0.0 {
            Some(format!(
                "below the first trained layer the backbone drops out with probability {p}: set `dropout` to 0"
            ))
        } else if self.first_layer()? == 0 {
            Some("the first layer has an adapter, so there is nothing below to cache".into())
        } else {
            None
        })
    }
    /// From now on what lies below the first trained module is computed once for each text and kept
    /// in `directory`: see [`super::prefix`]. `max_length` is where texts are cut. An error if there
    /// is no such thing.
    pub fn cache_prefix(&mut self, directory: &Path, precision: Precision, max_length: usize) -> Result<()> {
        let (b, model) = (&self.backbone, &self.backbone.model);
        if let Some(why) = self.without_prefix()? {
            let value = directory.display().to_string();
            return Err(Error::Option { option: "cache-prefix", value, why });
        }
        let from = self.first_layer()?;
        let storage: BTreeSet<_> = model.named().iter().map(|(_, t)| t.buffer().dtype().name()).collect();
        let in_integers = model.named().iter().any(|(_, t)| t.compute() != Compute::F32);
        let isa = kernels::isa().map_err(engraft_engine::Error::from)?;
        let mut setting = vec![
            ("backbone", Checkpoint::open(b.directory())?.fingerprint()),
            ("config.json", hash_of(b.directory(), "config.json")?),
            ("max_length", max_length.to_string()),
            ("storage", format!("{storage:?}")),
            ("products", if in_integers { "int8" } else { "f32" }.into()),
            ("kernels", isa.name().into()),
        ];
        setting.extend(hashes_of_tokenizer(b.directory())?);
        // behind the last layer only the row that is read is kept, if it is the same in every text
        let summary = |part: &Part| part.task().sample(vec![0], &mut |_| 0).reads.is_summary();
        let again = self.rehearsal.iter().flat_map(|r| &r.of_each).map(|one| &one.part);
        let summary = self.parts.iter().chain(again).all(summary);
        let keeps = if summary { Keeps::Summary(model.info().summary.clone()) } else { Keeps::All };
        let at = (from, model.info().channels);
        self.prefix = Some(Arc::new(Prefix::open(directory, &setting, precision, at, keeps, b.device())?));
        Ok(())
    }
    /// Reads from a cache that another learner of this task on this model opened, if it lies in front
    /// of the same layer; whether it does.
    pub fn share_prefix(&mut self, cache: &Arc<Prefix>) -> Result<bool> {
        let fits = self.first_layer()? == cache.from();
        self.prefix = fits.then(|| cache.clone());
        Ok(fits)
    }
    /// The cache of the frozen prefix, if there is one.
    pub fn prefix(&self) -> Option<&Arc<Prefix>> {
        self.prefix.as_ref()
    }
    /// What the task computes for each example of a batch, without dropout.
    pub fn answers(&self, batch: &Batch) -> Result<Vec<Answer>> {
        self.answers_from(batch, (&mut Below::default(), false))
    }
    /// The same, from what others on this model have computed below; there may be `more` of them.
    pub(crate) fn answers_from(&self, batch: &Batch, below: (&mut Below, bool)) -> Result<Vec<Answer>> {
        let device = self.backbone.device();
        device.install(|| {
            let (active, pass) = (self.active(batch)?, Pass::infer());
            let mut cx = Cx::new(device, &active, pass);
            let x = self.hidden(&mut cx, batch, pass, below)?;
            self.task().answers(&mut cx, self.top(), &x, batch)
        })
    }
    /// Adds to `shares` what the fusions mix of every token of a batch, without dropout.
    pub fn look_at_shares(&self, examples: &Batch, shares: &Shares) -> Result<()> {
        let device = self.backbone.device();
        device.install(|| {
            let active = self.active(examples)?.with_shares(shares);
            let mut cx = Cx::new(device, &active, Pass::infer());
            let model = &self.backbone.model;
            model.forward(&mut cx, &*examples.input_for(model.info())?, &Rows::All)?;
            Ok(())
        })
    }
    /// The files of the learner, by name: adapter and head in the format that they were loaded
    /// from, AdapterHub's for new ones; after full fine-tuning the model with its tokenizer, and
    /// the head. Of several tasks each has a folder of its name, with the adapter and its head.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let host = match self.adapters.is_empty() {
            true => self.backbone.host().clone(),
            false => self.backbone.recorded_host()?,
        };
        let mut files = vec![];
        for part in &self.parts {
            let own = composition(&self.adapters, &self.setup, part.head(), &host)?;
            match self.parts.len() {
                1 => files = own,
                _ => files.extend(own.into_iter().map(|(n, bytes)| (format!("{}/{n}", part.name), bytes))),
            }
        }
        if self.is_full() {
            files.push(("model.safetensors".into(), self.backbone.weights(None)?));
            files.extend(self.backbone.companions()?);
        }
        Ok(files)
    }
    /// Saves [`Learner::files`] into a directory, which is made where it is missing: all of them,
    /// or none. What was saved there before would be taken for a part of this learner, and goes.
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<()> {
        let mut commit = Commit::begin(directory)?;
        for (name, bytes) in self.files()? {
            commit.file(&name, &bytes)?;
        }
        engraft_adapters::files::names().into_iter().for_each(|name| commit.without(name));
        Ok(commit.place()?)
    }
}
