//! What every model offers, and the registry.
use crate::{Config, Error, Result, bert};
use engraft_engine::{
    Act, Checkpoint, Compute, Cx, Device, Frozen, Load, Param, ParamSet, Parameters, Seq, SiteInfo, Tensor,
    pack,
};
use std::{path::Path, sync::Arc};

/// A batch of token sequences, one after the other, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids of all sequences.
    pub ids: Vec<u32>,
    /// Segment (token type) of every token.
    pub types: Vec<u32>,
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
}
impl Tokens {
    /// Packs sequences of one segment.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Tokens {
        let ids: Vec<u32> = sequences.iter().flat_map(|s| s.as_ref()).copied().collect();
        Tokens {
            types: vec![0; ids.len()],
            ids,
            lengths: sequences.iter().map(|s| s.as_ref().len()).collect(),
        }
    }
    /// How they are packed.
    pub fn seqs(&self) -> Arc<[Seq]> {
        pack(self.lengths.iter().copied())
    }
    /// The position of every token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.lengths.iter().flat_map(|n| 0..*n as u32).collect()
    }
    /// Refuses what a model with these limits cannot take.
    pub(crate) fn check(&self, vocabulary: usize, positions: usize, segments: usize) -> Result<()> {
        if self.lengths.is_empty() {
            return Err(Error::Input("there is no sequence in the batch".into()));
        }
        if let Some(i) = self.lengths.iter().position(|n| *n == 0 || *n > positions) {
            let n = self.lengths[i];
            return Err(Error::Input(format!(
                "sequence {i} has {n} tokens; the model takes 1 to {positions}"
            )));
        }
        let total: usize = self.lengths.iter().sum();
        if self.ids.len() != total || self.types.len() != total {
            return Err(Error::Input(format!(
                "{} ids and {} token types for {total} tokens",
                self.ids.len(),
                self.types.len()
            )));
        }
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::Input(format!(
                "token id {id} is not in the model's vocabulary of {vocabulary}"
            )));
        }
        if let Some(t) = self.types.iter().find(|t| **t as usize >= segments) {
            return Err(Error::Input(format!("token type {t} is not among the model's {segments}")));
        }
        Ok(())
    }
}

/// A model over frozen or trained weights.
pub trait Model: Parameters + Send + Sync {
    /// The `model_type`.
    fn model_type(&self) -> &'static str;
    /// Channels of the residual stream.
    fn channels(&self) -> usize;
    /// Layers.
    fn layers(&self) -> usize;
    /// Token ids.
    fn vocabulary(&self) -> usize;
    /// The longest sequence.
    fn positions(&self) -> usize;
    /// The class under which AdapterHub's files name this kind of model.
    fn checkpoint_class(&self) -> &'static str;
    /// Dropout of a task head while training, where the head names none itself.
    fn head_dropout(&self) -> f32;
    /// Replaces every dropout probability of the configuration.
    fn set_dropout(&mut self, p: f32);
    /// Where hooks are called.
    fn sites(&self) -> Vec<SiteInfo>;
    /// True if there is a pooler.
    fn has_pooler(&self) -> bool;
    /// Tokens to last hidden states: (tokens, channels).
    fn forward<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens) -> Result<Act>;
    /// Last hidden states to one row for each sequence: the first token, through the pooler if asked for: (sequences,
    /// channels).
    fn pool<'m>(&'m self, cx: &mut Cx<'m>, hidden: &Act, pooler: bool) -> Result<Act>;
    /// Every weight under its checkpoint name.
    fn named(&self) -> Vec<(String, &Tensor)>;
}

/// A model and what came with it.
pub struct Loaded {
    /// The model.
    pub model: Box<dyn Model>,
    /// Tensors of the checkpoint that the model has no use for.
    pub unused: Vec<String>,
    /// The file or files it came from.
    pub checkpoint: Checkpoint,
}

type Build = fn(&Config, &mut Load<'_>) -> Result<Box<dyn Model>>;
/// A row of the registry.
pub struct ModelType {
    /// `model_type` in `config.json`.
    pub name: &'static str,
    frozen: Build,
    trained: Build,
}
/// Every kind of model.
pub const MODELS: &[ModelType] =
    &[ModelType { name: "bert", frozen: bert::build::<Frozen>, trained: bert::build::<Param> }];

/// Loads a Hugging Face model directory: `config.json` and `model.safetensors`, or its shards. With `train` all its weights
/// are registered in `set` as [`Param`]s, else they are [`Frozen`].
pub fn load(directory: &Path, device: &Device, set: &mut ParamSet, train: bool) -> Result<Loaded> {
    load_computing(directory, device, set, train, Compute::F32)
}
/// The same, with the products of frozen linear layers computed like this.
pub fn load_computing(
    directory: &Path,
    device: &Device,
    set: &mut ParamSet,
    train: bool,
    compute: Compute,
) -> Result<Loaded> {
    let config = Config::open(directory)?;
    let name = config.text("model_type", "")?;
    let Some(kind) = MODELS.iter().find(|m| m.name == name) else {
        let known: Vec<_> = MODELS.iter().map(|m| m.name).collect();
        return Err(config.error(format!("`model_type` is `{name}`; supported: {}", known.join(", "))));
    };
    let checkpoint = Checkpoint::open(directory)?;
    let mut load = Load::new(&checkpoint, device, set).computing(compute);
    let model = if train { kind.trained } else { kind.frozen }(&config, &mut load)?;
    let unused = load.unused();
    Ok(Loaded { model, unused, checkpoint })
}
