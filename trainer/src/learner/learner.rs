//! A backbone with an adapter and a classification head.
use super::{
    backbone::Backbone,
    prefix::{Precision, Prefix, sha256},
};
use crate::{Error, Result, text::batch::Batch};
use engraft_adapters::{Adapter, Config, Head, heads::Classification};
use engraft_engine::{
    Act, Activations, Checkpoint, Class, Compute, Cx, Device, Gradients, Hooks, Param, Parameters, Pass,
    Plain, Site, first_touched, kernels,
};
use engraft_models::{Rows, Tokens};
use ndarray::Array2;
use std::{collections::BTreeSet, path::Path, sync::Arc};

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
    adapter: Option<Adapter>,
    head: Head,
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

impl Backbone {
    /// A new classifier on this model: a head, and an adapter if one is described. The seed decides their weights.
    ///
    /// A backbone that trains serves one classifier: it is handed over.
    pub fn classifier(
        self,
        name: &str,
        adapter: Option<Box<dyn Config>>,
        head: Classification,
        seed: u64,
    ) -> Result<Classifier> {
        self.check_head(head.use_pooler)?;
        let mut set = self.continue_set()?;
        let (device, sites) = (self.device().clone(), self.model.sites());
        let adapter = adapter.map(|c| Adapter::new(name, c, sites, &device, &mut set, seed)).transpose()?;
        // a stream of its own, so that the head starts the same with and without an adapter
        let head = Head::new(name, head, self.host(), &device, &mut set, seed ^ 0x6865_6164)?;
        Ok(Classifier::of(self, adapter, head))
    }
    /// A classifier that was saved: `head_config.json` with its tensors, and `adapter_config.json` with its tensors unless
    /// only a head was trained.
    pub fn load_classifier(self, directory: impl AsRef<Path>) -> Result<Classifier> {
        let (directory, mut set) = (directory.as_ref(), self.continue_set()?);
        let (device, sites) = (self.device().clone(), self.model.sites());
        let adapter = match directory.join("adapter_config.json").exists()
            || !directory.join("head_config.json").exists()
        {
            true => Some(Adapter::load(directory, self.host(), sites, &device, &mut set)?),
            false => None,
        };
        let head = Head::load(directory, self.host(), &device, &mut set)?;
        self.check_head(head.config().use_pooler())?;
        Ok(Classifier::of(self, adapter, head))
    }
}

impl Classifier {
    fn of(backbone: Backbone, adapter: Option<Adapter>, head: Head) -> Classifier {
        Classifier { backbone, adapter, head, prefix: None }
    }
    /// The model under it.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }
    /// The adapter, if it has one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }
    /// The head.
    pub fn head(&self) -> &Head {
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
    pub(crate) fn parameters(&mut self) -> Result<Vec<&mut dyn Parameters>> {
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
            _ => model.forward(cx, tokens, &rows)?,
        };
        cx.enter(Site::head());
        let mut pooled = cx.take_rows(&hidden, &model.info().summary)?;
        if self.head.config().use_pooler() {
            pooled = model.pool(cx, &pooled)?;
        }
        let logits = self.head.forward(cx, &pooled, model.info().head_dropout, None)?;
        Ok((hidden, logits))
    }
    /// From now on what lies below the first trained module is computed once for each text and kept in `directory`: see
    /// [`crate::learner::prefix`]. `max_length` is where texts are cut. An error if there is nothing below it, or if it has dropout
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
        if model.info().dropout > 0.0 {
            let p = model.info().dropout;
            return refused(format!(
                "below the first trained layer the backbone drops out with probability {p}: set `dropout` to 0"
            ));
        }
        let from = first_touched(self.hooks(), model.sites()).unwrap_or(model.info().layers);
        if from == 0 {
            return refused("the first layer has an adapter, so there is nothing below to cache".into());
        }
        let file = |name: &str| {
            let path = b.directory().join(name);
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
            ("backbone", Checkpoint::open(b.directory())?.fingerprint()),
            ("config.json", file("config.json")?),
            ("tokenizer.json", file("tokenizer.json")?),
            ("max_length", max_length.to_string()),
            ("storage", format!("{storage:?}")),
            ("products", if in_integers { "int8" } else { "f32" }.into()),
            ("kernels", isa.name().into()),
        ];
        self.prefix =
            Some(Prefix::open(directory, &setting, precision, from, model.info().channels, b.device())?);
        Ok(())
    }
    /// The cache of the frozen prefix, if there is one.
    pub fn prefix(&self) -> Option<&Prefix> {
        self.prefix.as_ref()
    }
    /// Logits without dropout: (sequences, labels).
    pub fn predict(&self, tokens: &Tokens) -> Result<Array2<f32>> {
        let device = self.backbone.device();
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
        let device = self.backbone.device();
        let pass = if gradients.is_some() { Pass::gradients() } else { Pass::infer() };
        device.install(|| {
            let mut cx = Cx::new(device, self.hooks(), pass);
            let (hidden, logits) = self.logits(&mut cx, tokens, Rows::All)?;
            let mut out = Output { hidden: hidden.to_array()?, logits: logits.to_array()?, loss: None };
            if let Some(labels) = labels {
                let (loss, count) = cx.cross_entropy(&logits, labels)?;
                out.loss = loss.read()?.first().map(|sum| sum / count as f32);
                if let Some(into) = gradients {
                    drop((hidden, logits));
                    cx.backward(&loss, one(device, 1.0 / count as f32)?, into)?;
                }
            }
            Ok(out)
        })
    }
    /// The mean loss of a batch in a training pass, and the bytes that each layer kept; `weight` times its gradients are added
    /// to `into`.
    pub(crate) fn learn(
        &self,
        batch: &Batch,
        pass: Pass,
        policy: &Activations,
        weight: f32,
        into: &mut Gradients,
    ) -> Result<(f64, Vec<usize>)> {
        let device = self.backbone.device();
        device.install(|| {
            let mut cx = Cx::new(device, self.hooks(), pass).with_activations(policy);
            let (_, logits) = self.logits(&mut cx, &packed(batch), Rows::First)?;
            let (loss, count) = cx.cross_entropy(&logits, &batch.labels)?;
            drop(logits);
            let value = loss.read()?.first().copied().unwrap_or_default() / count as f32;
            let kept = cx.kept_by_layer().to_vec();
            if value.is_finite() {
                cx.backward(&loss, one(device, weight / count as f32)?, into)?;
            }
            Ok((f64::from(value), kept))
        })
    }
    /// The files of the classifier, by name: adapter and head in AdapterHub's format; after full fine-tuning the model with
    /// its tokenizer, and the head.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let host = self.backbone.host();
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
