//! A frozen model, and what is grafted onto it.
use super::opening::Opening;
use crate::{Error, Result};
use engraft_adapters::{Adapter, Base, HeadConfig, Host};
use engraft_engine::{
    Cx, Device, Hooks, ParamSet, Pass, Plain, Tensor,
    checkpoint::{TensorData, serialize},
    output,
};
use engraft_models::{Holding, Model, Rows, Tokens, load_as};
use ndarray::Array2;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A model directory, loaded. Cheap to clone: any number of learners share one frozen model.
#[derive(Clone)]
pub struct Backbone {
    pub(super) model: Arc<dyn Model>,
    directory: PathBuf,
    device: Device,
    host: Host,
    unused: Vec<String>,
    unread: Vec<String>,
    pub(super) trains: Option<Arc<ParamSet>>,
}

impl Backbone {
    /// Loads a frozen model: `config.json` and `model.safetensors` or `pytorch_model.bin` or their
    /// shards.
    pub fn open(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, false)
    }
    /// Loads a model all of whose weights will train: full fine-tuning, the baseline. They are f32; another storage type
    /// is refused.
    pub fn open_to_train(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, true)
    }
    fn load(directory: &Path, device: &Device, how: Opening, train: bool) -> Result<Backbone> {
        how.check(train)?;
        let _held = output::reading(directory)?;
        let Opening { dropout, storage, compute, families } = how;
        let mut set = ParamSet::new();
        let (train_in, how) = (train.then_some(&mut set), Holding { storage, compute });
        let mut loaded = load_as(families, directory, device, train_in, how)?;
        if let Some(p) = dropout {
            loaded.model.set_dropout(p);
        }
        let host = Host {
            hidden_size: loaded.model.info().channels,
            model_class: loaded.model.info().class.into(),
            vocabulary: loaded.model.info().vocabulary,
            model_name: directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            model_type: loaded.model.info().family.into(),
            tied: loaded.model.info().is_tied,
            norm_eps: loaded.model.info().head_eps,
        };
        Ok(Backbone {
            model: loaded.model.into(),
            directory: directory.into(),
            device: device.clone(),
            host,
            unused: loaded.unused,
            unread: loaded.unread,
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
    /// Fields of its configuration that nothing reads and that are not well known.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }
    /// What makers of adapters see of the model; `named` are its weights, as [`Model::named`] gives them.
    pub fn base<'a>(&'a self, named: &'a [(String, &'a Tensor)]) -> Base<'a> {
        let base = Base::new(self.model.sites(), named).in_directory(&self.directory);
        base.with_attention_dropout(self.model.info().attention_dropout)
    }
    /// An adapter that was saved for it, by itself. It does not train.
    pub fn load_adapter(&self, directory: impl AsRef<Path>) -> Result<Adapter> {
        Ok(Adapter::load_frozen(
            directory.as_ref(),
            &self.host,
            self.base(&self.model.named()),
            &self.device,
        )?)
    }
    /// Last hidden states of the plain model, (tokens, channels).
    pub fn hidden_states(&self, tokens: &Tokens) -> Result<Array2<f32>> {
        self.hidden_states_with(&Plain, tokens)
    }
    /// The same with an adapter on it.
    pub fn hidden_states_with(&self, hooks: &dyn Hooks, tokens: &Tokens) -> Result<Array2<f32>> {
        self.device.install(|| {
            let mut cx = Cx::new(&self.device, hooks, Pass::infer());
            Ok(self.model.forward(&mut cx, tokens, &Rows::All)?.to_array()?)
        })
    }
    /// Refuses a head that reads what the model does not have.
    pub(super) fn check_head(&self, head: Option<&dyn HeadConfig>) -> Result<()> {
        if head.is_some_and(|h| h.use_pooler()) && !self.model.info().has_pooler {
            return Err(Error::Model(format!(
                "the head reads a pooler, which {} does not have",
                self.directory.display()
            )));
        }
        Ok(())
    }
    /// The set whose slots follow those of the model's own trained weights.
    pub(super) fn continue_set(&self) -> Result<ParamSet> {
        match &self.trains {
            None => Ok(ParamSet::new()),
            Some(set) if Arc::strong_count(set) == 1 => Ok(ParamSet::clone(set)),
            Some(_) => Err(Error::Model("a model whose weights train serves one learner only".into())),
        }
    }
    /// The model directory's files, by name: config.json, tokenizer.json, and the weights in a model.safetensors, in the
    /// storage types that they have here.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.companions()?;
        files.push(("model.safetensors".into(), self.weights()?));
        Ok(files)
    }
    pub(crate) fn weights(&self) -> Result<Vec<u8>> {
        let mut tensors = vec![];
        for (name, t) in self.model.named() {
            tensors.extend(TensorData::of(&name, t));
        }
        Ok(serialize(&tensors)?)
    }
    /// The files of a model directory beside its weights: configuration, tokenizer, vocabulary, chat template.
    pub(crate) fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let failed = |path: PathBuf| move |source| Error::Read { path, source };
        let mut files = vec![];
        for entry in std::fs::read_dir(self.directory()).map_err(failed(self.directory().into()))? {
            let path = entry.map_err(failed(self.directory().into()))?.path();
            if let Some(name) =
                path.file_name().and_then(|n| n.to_str()).filter(|n| path.is_file() && is_companion(n))
            {
                files.push((name.to_string(), std::fs::read(&path).map_err(failed(path.clone()))?));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Whether a file of a model directory says how the model or its tokenizer works, and is none of weights or of a run.
fn is_companion(name: &str) -> bool {
    let kinds = ["json", "txt", "model", "jinja", "tiktoken", "py"];
    let is_of_kind =
        name.rsplit_once('.').is_some_and(|(_, kind)| kinds.contains(&kind)) && !name.starts_with('.');
    let of_others = engraft_adapters::files::names();
    is_of_kind && !name.ends_with(".index.json") && name != "report.json" && !of_others.contains(&name)
}
