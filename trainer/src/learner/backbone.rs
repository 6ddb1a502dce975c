//! A frozen model, and what is grafted onto it.
use super::opening::Opening;
use crate::{
    Error, Result,
    hub::{self, Found, Need, is_companion},
};
use engraft_adapters::{Adapter, Base, HeadConfig, Host, Merged, files::Origin};
use engraft_engine::{
    Checkpoint, Cx, Device, Hooks, ParamSet, Pass, Plain, Storage, Tensor,
    checkpoint::{TensorData, serialize, serialize_with},
    output,
};
use engraft_models::{Holding, Model, Rows, Tokens, load_as};
use ndarray::Array2;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// What the header of weights says that are those of another file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Copied {
    copy_of: String,
}

/// A model directory, loaded. Cheap to clone: any number of learners share one frozen model.
#[derive(Clone)]
pub struct Backbone {
    pub(super) model: Arc<dyn Model>,
    directory: PathBuf,
    commit: Option<String>,
    device: Device,
    host: Host,
    unused: Vec<String>,
    unread: Vec<String>,
    pub(super) trains: Option<Arc<ParamSet>>,
    /// See [`Backbone::fingerprint`].
    fingerprint: Arc<OnceLock<Option<String>>>,
}

impl Backbone {
    /// Loads a frozen model: `config.json` and `model.safetensors` or `pytorch_model.bin` or their
    /// shards, in a directory or, by a path such as `hf:OWNER/NAME@REVISION`, of the hub.
    pub fn open(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, false)
    }
    /// Loads a model all of whose weights will train: full fine-tuning, the baseline. They are f32;
    /// another storage type is refused.
    pub fn open_to_train(directory: impl AsRef<Path>, device: &Device, how: Opening) -> Result<Backbone> {
        Backbone::load(directory.as_ref(), device, how, true)
    }
    fn load(path: &Path, device: &Device, how: Opening, train: bool) -> Result<Backbone> {
        how.check(train)?;
        let Opening { dropout, storage, compute, families, progress } = how;
        let need = if device.is_null() { Need::Companions } else { Need::Whole };
        let Found { directory, name, commit } = hub::find(path, need, progress)?;
        let directory = directory.as_path();
        let _held = output::reading(directory)?;
        let mut set = ParamSet::new();
        let (train_in, how) = (train.then_some(&mut set), Holding { storage, compute });
        let mut loaded = load_as(families, directory, device, train_in, how)?;
        if let Some(p) = dropout {
            loaded.model.set_dropout(p);
        }
        let host = Host {
            hidden_size: loaded.model.info().channels,
            embedding_size: loaded.model.info().embedding,
            model_class: loaded.model.info().class.into(),
            vocabulary: loaded.model.info().vocabulary,
            model_name: name,
            model_type: loaded.model.info().family.into(),
            tied: loaded.model.info().is_tied,
            norm_eps: loaded.model.info().head_eps,
            fingerprint: None,
        };
        Ok(Backbone {
            model: loaded.model.into(),
            directory: directory.into(),
            commit,
            device: device.clone(),
            host,
            unused: loaded.unused,
            unread: loaded.unread,
            trains: train.then(|| Arc::new(set)),
            fingerprint: Arc::default(),
        })
    }
    /// The model.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }
    /// Whether both are one loaded model.
    pub fn is_same(&self, other: &Backbone) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }
    /// Where it was loaded from.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// The commit that it is of, if it is a model of the hub.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }
    /// What it lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// What adapters made for it say about it.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// What adapters that are saved for it record: the same, with its fingerprint.
    pub fn recorded_host(&self) -> Result<Host> {
        Ok(Host { fingerprint: self.fingerprint()?, ..self.host.clone() })
    }
    /// What its files are, whatever they are called and however they are held here: SHA-256 of
    /// their tensors. Files that [`Backbone::files`] wrote, in another storage type perhaps, are
    /// what they were made from. None where there are no weights.
    pub fn fingerprint(&self) -> Result<Option<String>> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let _held = output::reading(&self.directory)?;
        let checkpoint = Checkpoint::open_for(&self.directory, &self.device)?;
        let origin = checkpoint.note().and_then(|note| serde_json::from_str::<Copied>(note).ok());
        let found = match (origin, checkpoint.names().next()) {
            (Some(origin), _) => Some(origin.copy_of),
            (None, Some(_)) => Some(checkpoint.fingerprint()),
            (None, None) => None,
        };
        Ok(self.fingerprint.get_or_init(|| found).clone())
    }
    /// What to say of adapters in a directory that were saved for another backbone: a line for
    /// each.
    pub fn strangers(&self, directory: &Path) -> Result<Vec<String>> {
        let recorded = Origin::recorded(directory)?;
        let own = if recorded.is_empty() { None } else { self.fingerprint()? };
        let Some(own) = own else { return Ok(vec![]) };
        let short = |f: &str| f.chars().take(12).collect::<String>();
        let line = |(folder, origin): (PathBuf, Origin)| {
            format!(
                "{} was trained on the backbone `{}` ({}), and {} is another one ({})",
                folder.display(),
                origin.name,
                short(&origin.fingerprint),
                self.directory.display(),
                short(&own)
            )
        };
        let others = recorded.into_iter().filter(|(_, origin)| origin.fingerprint != own);
        Ok(others.map(line).collect())
    }
    /// Tensors of its files that it has no use for.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }
    /// Fields of its configuration that nothing reads and that are not well known.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }
    /// What makers of adapters see of the model; `named` are its weights, as [`Model::named`] gives
    /// them.
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
        self.rows_with(hooks, tokens, &Rows::All)
    }
    /// Those of the plain model of some rows, (rows, channels).
    pub fn hidden_rows(&self, tokens: &Tokens, rows: &Rows) -> Result<Array2<f32>> {
        self.rows_with(&Plain, tokens, rows)
    }
    fn rows_with(&self, hooks: &dyn Hooks, tokens: &Tokens, rows: &Rows) -> Result<Array2<f32>> {
        self.device.install(|| {
            let mut cx = Cx::new(&self.device, hooks, Pass::infer());
            Ok(self.model.forward(&mut cx, tokens, rows)?.to_array()?)
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
    /// The model directory's files, by name: config.json, tokenizer.json, and the weights in a
    /// model.safetensors, in the storage types that they have here.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let copied = self.fingerprint()?.map(|copy_of| Copied { copy_of });
        let note = copied.and_then(|copied| serde_json::to_string(&copied).ok());
        let mut files = self.companions()?;
        files.push(("model.safetensors".into(), self.weights(note.as_deref())?));
        Ok(files)
    }
    /// The model directory's files with an adapter added to the weights, which are in f32 then. An
    /// error if the adapter does more than that, or if weights are quantised: the sum is none of
    /// the few values that such a weight may have.
    pub fn folded(&self, adapter: &Adapter) -> Result<Vec<(String, Vec<u8>)>> {
        let named = self.model.named();
        let coarse = named.iter().find(|(_, t)| matches!(t.storage(), Storage::Int8 | Storage::Nf4));
        if let Some((name, t)) = coarse {
            return Err(Error::Model(format!(
                "{}: `{name}` is stored as {}, and what an adapter adds is finer than that: take the model that it \
                 was made from",
                self.directory.display(),
                t.storage()
            )));
        }
        let mut merged = Merged::copy(&named)?;
        merged.merge(adapter)?;
        let mut files = self.companions()?;
        for (name, bytes) in &mut files {
            if name == "config.json" {
                *bytes = in_f32(bytes).unwrap_or_else(|| bytes.clone());
            }
        }
        // what nobody reads here, the head of another task perhaps, others may
        let (mut all, checkpoint) = (merged.tensors(), Checkpoint::open(&self.directory)?);
        for name in &self.unused {
            let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
            let data = match checkpoint.integers(name, &shape) {
                Ok(values) => TensorData::i64(&values, &shape),
                Err(_) => TensorData::f32(&checkpoint.values(name, &shape)?, &shape),
            };
            all.push((name.clone(), data));
        }
        files.push(("model.safetensors".into(), serialize(&all)?));
        Ok(files)
    }
    pub(crate) fn weights(&self, note: Option<&str>) -> Result<Vec<u8>> {
        let mut tensors = vec![];
        for (name, t) in self.model.named() {
            tensors.extend(TensorData::of(&name, t));
        }
        Ok(serialize_with(&tensors, note)?)
    }
    /// The files of a model directory beside its weights: configuration, tokenizer, vocabulary,
    /// chat template.
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

/// A `config.json` that says of the weights that they are f32, if it says something else.
fn in_f32(config: &[u8]) -> Option<Vec<u8>> {
    let mut v: serde_json::Value = serde_json::from_slice(config).ok()?;
    let fields = v.as_object_mut()?;
    for key in ["torch_dtype", "dtype"] {
        if let Some(dtype) = fields.get_mut(key).filter(|v| v.is_string()) {
            *dtype = "float32".into();
        }
    }
    serde_json::to_vec_pretty(&v).ok()
}
