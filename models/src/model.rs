//! What every model offers, and the registry.
use crate::{Config, Error, Result, bert};
use engraft_engine::{
    Act, Checkpoint, Compute, Cx, Device, Frozen, Load, Param, ParamSet, Parameters, Seq, SiteInfo, Storage,
    Tensor, pack,
};
use std::{ops::Range, path::Path, sync::Arc};

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

/// Which of the last hidden states somebody reads. The last layer computes no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Those of all tokens.
    All,
    /// That of the first token of every sequence: all that a classification head reads. The rest of the last layer's
    /// queries, attention output and feed-forward network is work for nothing.
    First,
}
impl Rows {
    /// The rows of x that are read.
    pub(crate) fn of<'m>(self, cx: &mut Cx<'m>, x: &Act) -> engraft_engine::Result<Act> {
        Ok(match self {
            Rows::All => x.clone(),
            Rows::First => cx.first_tokens(x)?,
        })
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
    /// The largest dropout probability below the head while training.
    fn dropout(&self) -> f32;
    /// Tokens to the residual stream in front of the first layer: (tokens, channels).
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens) -> Result<Act>;
    /// Some layers, in order; x is the residual stream in front of them, and the result is that behind them: (tokens,
    /// channels), or (sequences, channels) behind the last layer if only the first tokens are asked for.
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: Rows) -> Result<Act>;
    /// Tokens to last hidden states: (tokens, channels), or (sequences, channels) if only the first tokens are asked for.
    fn forward<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens, rows: Rows) -> Result<Act> {
        let x = self.embed(cx, tokens)?;
        self.run(cx, 0..self.layers(), x, rows)
    }
    /// Last hidden states, of all rows or of the first tokens, to one row for each sequence: the first token, through the pooler if asked for: (sequences,
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
/// are registered in `set` as [`Param`]s, else they are [`Frozen`], stored as the files have them. The Null device reads no
/// values, and where there are no weights takes them to be there, in f32.
pub fn load(directory: &Path, device: &Device, set: &mut ParamSet, train: bool) -> Result<Loaded> {
    let how = if train { |m: &ModelType| m.trained } else { |m: &ModelType| m.frozen };
    build(directory, device, set, how, (None, Compute::F32))
}
/// Loads a model directory with [`Frozen`] weights, its matrices stored as `storage` says, or as the files have them.
/// Biases and the weights of norms are f32 always. The products of its linear layers are computed as `compute` says; in
/// integers, their weights are stored as int8.
pub fn load_frozen(
    directory: &Path,
    device: &Device,
    storage: Option<Storage>,
    compute: Compute,
) -> Result<Loaded> {
    build(directory, device, &mut ParamSet::new(), |m| m.frozen, (storage, compute))
}
fn build(
    directory: &Path,
    device: &Device,
    set: &mut ParamSet,
    how: fn(&ModelType) -> Build,
    (storage, compute): (Option<Storage>, Compute),
) -> Result<Loaded> {
    let config = Config::open(directory)?;
    let name = config.text("model_type", "")?;
    let Some(kind) = MODELS.iter().find(|m| m.name == name) else {
        let known: Vec<_> = MODELS.iter().map(|m| m.name).collect();
        return Err(config.error(format!("`model_type` is `{name}`; supported: {}", known.join(", "))));
    };
    let checkpoint = Checkpoint::open_for(directory, device)?;
    let mut load = Load::new(&checkpoint, device, set).storing(storage).computing(compute);
    let model = how(kind)(&config, &mut load)?;
    let unused = load.unused();
    Ok(Loaded { model, unused, checkpoint })
}
