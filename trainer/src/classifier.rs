//! A backbone with an adapter and a classification head, and the step that trains them.
pub use crate::storage::Opening;
use crate::{
    Error, Result,
    batch::Batch,
    prefix::{Precision, Prefix, sha256},
    storage::{check_compute, frozen_only},
};
use engraft_adapters::{Adapter, BnConfig, ClassificationHead, HeadConfig, Host};
use engraft_engine::{
    Act, Activations, AdamW, Checkpoint, Class, Compute, Cx, Device, Gradients, Hooks, Param, ParamSet,
    Parameters, Pass, Plain, Storage, first_touched,
    kernels::{self, profile::Mark},
    optim::clip_factor,
};
use engraft_models::{Model, Rows, Tokens};
use ndarray::Array2;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A model directory, loaded. Cheap to clone: any number of classifiers share one frozen model.
#[derive(Clone)]
pub struct Backbone {
    model: Arc<dyn Model>,
    directory: PathBuf,
    device: Device,
    host: Host,
    unused: Vec<String>,
    trains: Option<Arc<ParamSet>>,
}

impl Backbone {
    /// Loads a frozen model: `config.json` and `model.safetensors` or its shards.
    pub fn open(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, false)
    }
    /// Loads a model all of whose weights will train: full fine-tuning, the baseline. They are f32; another storage type
    /// is refused.
    pub fn open_to_train(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, true)
    }
    fn load(directory: &Path, device: &Device, how: Opening, train: bool) -> Result<Backbone> {
        let Opening { dropout, storage, compute } = how;
        check_compute(compute, storage, train)?;
        if let Some(p) = dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(Error::Option {
                option: "dropout",
                value: p.to_string(),
                why: "it is 0 to below 1".into(),
            });
        }
        let mut set = ParamSet::new();
        let mut loaded = match (train, storage) {
            (true, Some(other)) if other != Storage::F32 => return Err(frozen_only(other)),
            (true, _) => engraft_models::load(directory, device, &mut set, true)?,
            (false, _) => engraft_models::load_frozen(directory, device, storage, compute)?,
        };
        if let Some(p) = dropout {
            loaded.model.set_dropout(p);
        }
        let host = Host {
            hidden_size: loaded.model.channels(),
            model_class: loaded.model.checkpoint_class().into(),
            model_name: directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            model_type: loaded.model.model_type().into(),
        };
        Ok(Backbone {
            model: loaded.model.into(),
            directory: directory.into(),
            device: device.clone(),
            host,
            unused: loaded.unused,
            trains: train.then(|| Arc::new(set)),
        })
    }
    /// The model.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }
    /// Where it was loaded from.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// What it lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// What adapters made for it say about it.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// Tensors of its files that it has no use for.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }
    /// Last hidden states of the plain model, (tokens, channels).
    pub fn hidden_states(&self, tokens: &Tokens) -> Result<Array2<f32>> {
        self.device.install(|| {
            let mut cx = Cx::new(&self.device, &Plain, Pass::infer());
            Ok(self.model.forward(&mut cx, tokens, Rows::All)?.to_array()?)
        })
    }
    /// A linear head's configuration: over the pooler where there is one.
    pub fn linear_head(&self, labels: &[String]) -> HeadConfig {
        HeadConfig::linear(labels, self.model.has_pooler())
    }
    /// A new classifier on this model: a head, and an adapter if one is described. The seed decides their weights.
    ///
    /// A backbone that trains serves one classifier: it is handed over.
    pub fn classifier(
        self,
        name: &str,
        adapter: Option<BnConfig>,
        head: HeadConfig,
        seed: u64,
    ) -> Result<Classifier> {
        self.check_head(&head)?;
        let mut set = self.continue_set()?;
        let (device, sites) = (self.device.clone(), self.model.sites());
        let adapter = adapter.map(|c| Adapter::new(name, c, &sites, &device, &mut set, seed)).transpose()?;
        // a stream of its own, so that the head starts the same with and without an adapter
        let head = ClassificationHead::new(
            name,
            head,
            self.host.hidden_size,
            &device,
            &mut set,
            seed ^ 0x6865_6164,
        )?;
        Ok(Classifier { backbone: self, adapter, head, prefix: None })
    }
    /// A classifier that was saved: `head_config.json` with its tensors, and `adapter_config.json` with its tensors unless
    /// only a head was trained.
    pub fn load_classifier(self, directory: impl AsRef<Path>) -> Result<Classifier> {
        let (directory, mut set) = (directory.as_ref(), self.continue_set()?);
        let (device, sites) = (self.device.clone(), self.model.sites());
        let adapter = match directory.join("adapter_config.json").exists()
            || !directory.join("head_config.json").exists()
        {
            true => Some(Adapter::load(directory, &self.host, &sites, &device, &mut set)?),
            false => None,
        };
        let head = ClassificationHead::load(directory, &self.host, &device, &mut set)?;
        self.check_head(head.config())?;
        Ok(Classifier { backbone: self, adapter, head, prefix: None })
    }
    fn check_head(&self, head: &HeadConfig) -> Result<()> {
        if head.use_pooler && !self.model.has_pooler() {
            return Err(Error::Model(format!(
                "the head reads a pooler, which {} does not have",
                self.directory.display()
            )));
        }
        Ok(())
    }
    /// The set whose slots follow those of the model's own trained weights.
    fn continue_set(&self) -> Result<ParamSet> {
        match &self.trains {
            None => Ok(ParamSet::new()),
            Some(set) if Arc::strong_count(set) == 1 => Ok(ParamSet::clone(set)),
            Some(_) => Err(Error::Model("a model whose weights train serves one classifier only".into())),
        }
    }
}

/// What a classifier trains, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Numbers that train.
    pub trainable: usize,
    /// All numbers.
    pub total: usize,
}

/// A backbone with an adapter and a head.
pub struct Classifier {
    backbone: Backbone,
    adapter: Option<Adapter<Param>>,
    head: ClassificationHead<Param>,
    prefix: Option<Prefix>,
}

/// What a pass gives, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// (tokens, channels).
    pub hidden: Array2<f32>,
    /// (sequences, labels).
    pub logits: Array2<f32>,
    /// The mean cross-entropy, if there were labels.
    pub loss: Option<f32>,
}

impl Classifier {
    /// The model under it.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }
    /// The adapter, if it has one.
    pub fn adapter(&self) -> Option<&Adapter<Param>> {
        self.adapter.as_ref()
    }
    /// The head.
    pub fn head(&self) -> &ClassificationHead<Param> {
        &self.head
    }
    /// Label names, by number.
    pub fn labels(&self) -> &[String] {
        self.head.labels()
    }
    /// True if the model's own weights train.
    pub fn is_full(&self) -> bool {
        self.backbone.trains.is_some()
    }
    /// Numbers that train, and all numbers.
    pub fn size(&self) -> Size {
        let mut trainable = 0;
        self.visit(&mut |p| trainable += p.tensor().elements());
        let count =
            |v: Vec<(String, &engraft_engine::Tensor)>| v.iter().map(|(_, t)| t.elements()).sum::<usize>();
        let added = self.adapter.as_ref().map_or(0, |a| count(a.named())) + count(self.head.named());
        Size { trainable, total: count(self.backbone.model.named()) + added }
    }
    /// Calls `f` on everything that trains.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.backbone.model.visit(f);
        self.adapter.iter().for_each(|a| a.visit(f));
        self.head.visit(f);
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
    fn parameters(&mut self) -> Result<Vec<&mut dyn Parameters>> {
        let mut v: Vec<&mut dyn Parameters> = vec![];
        if self.backbone.trains.is_some() {
            let shared =
                || Error::Model("a model whose weights train is shared: drop the other backbone".into());
            v.push(Arc::get_mut(&mut self.backbone.model).ok_or_else(shared)?);
        }
        v.extend(self.adapter.as_mut().map(|a| a as &mut dyn Parameters));
        v.push(&mut self.head);
        Ok(v)
    }
    fn hooks(&self) -> &dyn Hooks {
        self.adapter.as_ref().map_or(&Plain as &dyn Hooks, |a| a)
    }
    /// (last hidden states of these rows, logits).
    fn logits<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens, rows: Rows) -> Result<(Act, Act)> {
        let model = &*self.backbone.model;
        let hidden = match &self.prefix {
            Some(p) if rows == Rows::First => p.hidden(model, cx, tokens)?,
            _ => model.forward(cx, tokens, rows)?,
        };
        let pooled = model.pool(cx, &hidden, self.head.config().use_pooler)?;
        let logits = self.head.forward(cx, &pooled, model.head_dropout())?;
        Ok((hidden, logits))
    }
    /// From now on what lies below the first trained module is computed once for each text and kept in `directory`: see
    /// [`crate::prefix`]. `max_length` is where texts are cut. An error if there is nothing below it, or if it has dropout
    /// and is no constant.
    pub fn cache_prefix(&mut self, directory: &Path, precision: Precision, max_length: usize) -> Result<()> {
        let (b, model) = (&self.backbone, &self.backbone.model);
        let refused = |why: String| {
            let value = directory.display().to_string();
            Err(Error::Option { option: "cache-prefix", value, why })
        };
        if self.is_full() {
            return refused("the whole backbone trains, so nothing in it is a constant".into());
        }
        if model.dropout() > 0.0 {
            let p = model.dropout();
            return refused(format!(
                "below the first trained layer the backbone drops out with probability {p}: set `dropout` to 0"
            ));
        }
        let from = first_touched(self.hooks(), &model.sites()).unwrap_or(model.layers());
        if from == 0 {
            return refused("the first layer has an adapter, so there is nothing below to cache".into());
        }
        let file = |name: &str| {
            let path = b.directory.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(sha256(&bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("none".into()),
                Err(source) => Err(Error::Read { path, source }),
            }
        };
        let storage: BTreeSet<_> = model.named().iter().map(|(_, t)| t.buffer().dtype().name()).collect();
        let in_integers = model.named().iter().any(|(_, t)| t.compute() != Compute::F32);
        let isa = kernels::isa().map_err(engraft_engine::Error::from)?;
        let setting = [
            ("backbone", Checkpoint::open(&b.directory)?.fingerprint()),
            ("config.json", file("config.json")?),
            ("tokenizer.json", file("tokenizer.json")?),
            ("max_length", max_length.to_string()),
            ("storage", format!("{storage:?}")),
            ("products", if in_integers { "int8" } else { "f32" }.into()),
            ("kernels", isa.name().into()),
        ];
        self.prefix = Some(Prefix::open(directory, &setting, precision, from, model.channels(), &b.device)?);
        Ok(())
    }
    /// The cache of the frozen prefix, if there is one.
    pub fn prefix(&self) -> Option<&Prefix> {
        self.prefix.as_ref()
    }
    /// Logits without dropout: (sequences, labels).
    pub fn predict(&self, tokens: &Tokens) -> Result<Array2<f32>> {
        let device = &self.backbone.device;
        device.install(|| {
            let mut cx = Cx::new(device, self.hooks(), Pass::infer());
            Ok(self.logits(&mut cx, tokens, Rows::First)?.1.to_array()?)
        })
    }
    /// A pass without dropout; with labels the loss, and if `gradients` are asked for those of every trained tensor are added.
    pub fn examine(
        &self,
        tokens: &Tokens,
        labels: Option<&[u32]>,
        gradients: Option<&mut Gradients>,
    ) -> Result<Output> {
        let device = &self.backbone.device;
        let pass = if gradients.is_some() { Pass::gradients() } else { Pass::infer() };
        device.install(|| {
            let mut cx = Cx::new(device, self.hooks(), pass);
            let (hidden, logits) = self.logits(&mut cx, tokens, Rows::All)?;
            let mut out = Output { hidden: hidden.to_array()?, logits: logits.to_array()?, loss: None };
            if let Some(labels) = labels {
                let loss = cx.cross_entropy(&logits, labels)?;
                out.loss = loss.read()?.first().copied();
                if let Some(into) = gradients {
                    drop((hidden, logits));
                    cx.backward(&loss, one(device, 1.0)?, into)?;
                }
            }
            Ok(out)
        })
    }
    /// The mean loss of a batch in a training pass, and the bytes that each layer kept; `weight` times its gradients are added
    /// to `into`.
    fn learn(
        &self,
        batch: &Batch,
        pass: Pass,
        policy: &Activations,
        weight: f32,
        into: &mut Gradients,
    ) -> Result<(f64, Vec<usize>)> {
        let device = &self.backbone.device;
        device.install(|| {
            let mut cx = Cx::new(device, self.hooks(), pass).with_activations(policy);
            let (_, logits) = self.logits(&mut cx, &packed(batch), Rows::First)?;
            let loss = cx.cross_entropy(&logits, &batch.labels)?;
            drop(logits);
            let value = loss.read()?.first().copied().unwrap_or_default();
            let kept = cx.kept_by_layer().to_vec();
            if value.is_finite() {
                cx.backward(&loss, one(device, weight)?, into)?;
            }
            Ok((f64::from(value), kept))
        })
    }
    /// The files of the classifier, by name: adapter and head in AdapterHub's format; after full fine-tuning the model with
    /// its tokenizer, and the head.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let host = &self.backbone.host;
        let mut files = self.head.files(host)?;
        if let Some(a) = &self.adapter {
            files.extend(a.files(host)?);
        }
        if self.is_full() {
            files.push(("model.safetensors".into(), self.backbone.weights()?));
            files.extend(self.backbone.companions()?);
        }
        Ok(files)
    }
    /// Saves [`Classifier::files`] into a directory, which is made where it is missing: all of them, or none.
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<()> {
        self.save_with(directory.as_ref(), vec![])
    }
    /// The same, with more files.
    pub(crate) fn save_with(&self, directory: &Path, more: Vec<(String, Vec<u8>)>) -> Result<()> {
        let files = [self.files()?, more].concat();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        engraft_engine::output::write_directory(directory, &files)?;
        if self.adapter.is_none() {
            // one that was saved here before would be taken for a part of this classifier
            for name in ["adapter_config.json", "adapter.safetensors"] {
                let path = directory.join(name);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(engraft_engine::Error::Write { path, source: e }.into());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
/// A batch as the model takes it.
pub(crate) fn packed(b: &Batch) -> Tokens {
    Tokens { ids: b.ids.clone(), types: b.types.clone(), lengths: b.lengths.clone() }
}
fn one(device: &Device, value: f32) -> Result<engraft_engine::Buffer> {
    Ok(device.upload(Class::Scratch, &[value]).map_err(engraft_engine::Error::from)?)
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The mean loss over the examples of the step, before its update.
    pub loss: f64,
    /// The norm of the gradients of all trained weights, before clipping.
    pub norm: f64,
}

/// The state of a training run: optimiser, and which random numbers come next.
#[derive(Debug)]
pub struct Trainer {
    optimiser: AdamW,
    clip: f64,
    seed: u64,
    passes: u64,
    steps: u64,
    activations: Activations,
    kept_by_layer: Vec<usize>,
}

impl Trainer {
    /// A run; gradients are clipped to the norm `clip` (0: not at all).
    pub fn new(optimiser: AdamW, clip: f64, seed: u64) -> Trainer {
        let (activations, kept_by_layer) = (Activations::default(), vec![]);
        Trainer { optimiser, clip, seed, passes: 0, steps: 0, activations, kept_by_layer }
    }
    /// The same run with another policy for what the layers keep for the backward pass; without it they keep f32.
    pub fn with_activations(self, activations: Activations) -> Trainer {
        Trainer { activations, ..self }
    }
    /// Bytes that each layer kept for the backward pass of the last batch.
    pub fn kept_by_layer(&self) -> &[usize] {
        &self.kept_by_layer
    }
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// One update from one batch, or from several whose gradients are accumulated: the mean over all their examples. A loss
    /// that is not a number is an error, and changes nothing.
    pub fn step(&mut self, c: &mut Classifier, batches: &[Batch], lr: f64) -> Result<Step> {
        let device = c.backbone.device.clone();
        device.install(|| {
            let _span = device.mark(Mark::Step(self.steps + 1));
            self.take(c, batches, lr)
        })
    }
    fn take(&mut self, c: &mut Classifier, batches: &[Batch], lr: f64) -> Result<Step> {
        let examples: usize = batches.iter().map(Batch::len).sum();
        let (mut gradients, mut loss) = (Gradients::new(), 0.0);
        for b in batches {
            let share = b.len() as f64 / examples as f64;
            let pass = Pass::train(self.seed, self.passes);
            self.passes += 1;
            let (mean, kept) = c.learn(b, pass, &self.activations, share as f32, &mut gradients)?;
            loss += share * mean;
            self.kept_by_layer = kept;
        }
        let norm = if loss.is_finite() { gradients.sum_of_squares()?.sqrt() } else { f64::NAN };
        if !norm.is_finite() {
            return Err(Error::Diverged { step: self.steps + 1, loss, norm });
        }
        let factor = clip_factor(norm, self.clip);
        self.optimiser.step(&mut c.parameters()?, &gradients, lr, factor)?;
        self.steps += 1;
        Ok(Step { loss, norm })
    }
}
