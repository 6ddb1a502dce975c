//! A frozen model, and what is grafted onto it.
use crate::{
    Error, Result,
    classifier::Classifier,
    storage::{Opening, check_compute, frozen_only},
};
use engraft_adapters::{Adapter, BnConfig, ClassificationHead, HeadConfig, Host};
use engraft_engine::{Cx, Device, ParamSet, Pass, Plain, Storage};
use engraft_models::{Model, Rows, Tokens};
use ndarray::Array2;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A model directory, loaded. Cheap to clone: any number of classifiers share one frozen model.
#[derive(Clone)]
pub struct Backbone {
    pub(crate) model: Arc<dyn Model>,
    directory: PathBuf,
    device: Device,
    host: Host,
    unused: Vec<String>,
    pub(crate) trains: Option<Arc<ParamSet>>,
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
        Ok(Classifier::of(self, adapter, head))
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
        Ok(Classifier::of(self, adapter, head))
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
