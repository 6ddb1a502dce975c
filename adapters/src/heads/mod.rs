//! What turns hidden states into predictions, and the registry.
//!
//! A type of head is a file here: its configuration ([`HeadConfig`]) with exactly the fields of
//! AdapterHub's class, and one row ([`HeadType`]) in [`HEADS`]. Their layers are a [`Stack`] all; a
//! crate of its own may bring others ([`HeadLayers`]).
mod built_in;
mod causal_lm;
mod classification;
mod fields;
mod masked_lm;
mod multilabel_classification;
mod multiple_choice;
mod question_answering;
mod reading;
mod seq2seq_lm;
mod stack;
mod tagging;

pub use built_in::BuiltIn;
pub(crate) use built_in::{in_peft, mark};
pub use causal_lm::CausalLm;
pub use classification::Classification;
pub use masked_lm::MaskedLm;
pub use multilabel_classification::MultiLabelClassification;
pub use multiple_choice::MultipleChoice;
pub use question_answering::QuestionAnswering;
pub use seq2seq_lm::Seq2SeqLm;
pub use stack::{Layout, Stack};
pub use tagging::Tagging;

use reading::{adapter_name, read};

use crate::{
    Error, Host, Result,
    files::{Card, HEAD_CONFIG as CONFIG, HEAD_TENSORS, nothing_left, peft, tensors, write},
    grammar::Fields,
};
use engraft_engine::{
    self as engine, Act, Checkpoint, Cx, Device, Fresh, LinearRef, Load, Param, ParamSet, Parameters, Site,
    Source, Tensor, W,
    checkpoint::{TensorData, serialize},
};
use serde_json::Value;
use std::{any::Any, fmt, path::Path};

/// A row of the registry.
#[derive(Debug)]
pub struct HeadType {
    /// The value of `head_type`.
    pub name: &'static str,
    /// The `config` of a `head_config.json`, without `head_type`, for a model.
    pub read: fn(Fields, &Host) -> Result<Box<dyn HeadConfig>>,
    /// The heads of transformers' own models that are of this type.
    pub built_in: &'static [BuiltIn],
}
/// Every type of head.
pub const HEADS: &[&HeadType] = &[
    &causal_lm::HEAD,
    &classification::HEAD,
    &masked_lm::HEAD,
    &multilabel_classification::HEAD,
    &multiple_choice::HEAD,
    &question_answering::HEAD,
    &seq2seq_lm::HEAD,
    &tagging::HEAD,
];

/// The configuration of a head.
pub trait HeadConfig: fmt::Debug + Send + Sync + Any {
    /// The value of `head_type`.
    fn head_type(&self) -> &'static str;
    /// The other fields of AdapterHub's `config`: exactly those of its class.
    fn fields(&self) -> Result<Fields>;
    /// Refuses what cannot be computed.
    fn check(&self) -> Result<()>;
    /// Its layers, named under `place`.
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>>;
    /// Names of the classes by number; none if it predicts no classes.
    fn labels(&self) -> Result<Vec<String>> {
        Ok(vec![])
    }
    /// True if it tells the tokens of the vocabulary apart: then what the model does in front of its
    /// own head is done in front of the last layer.
    fn says_tokens(&self) -> bool {
        false
    }
    /// True if it reads the rows of a decoder beside an encoder as the library has them for all heads
    /// but those of classes: divided by √C where the model shares its table of embeddings.
    fn reads_scaled(&self) -> bool {
        false
    }
    /// True if it reads the model's pooler.
    fn use_pooler(&self) -> bool {
        false
    }
}
impl dyn HeadConfig {
    /// As the type that it is.
    pub fn is<C: HeadConfig>(&self) -> Option<&C> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }
}

impl<C: HeadConfig> From<C> for Box<dyn HeadConfig> {
    fn from(config: C) -> Self {
        Box::new(config)
    }
}

/// Where a head's tensors are named, and what it stands on.
#[derive(Clone, Copy, Debug)]
pub struct HeadPlace<'a> {
    /// The head's name.
    pub name: &'a str,
    /// The model.
    pub host: &'a Host,
    /// What layers are called in a checkpoint that is not AdapterHub's, by their number in the
    /// library's Sequential.
    pub modules: &'a [Option<&'a str>],
    /// True if it trains.
    pub trains: bool,
}
impl HeadPlace<'_> {
    /// The path of a layer, which is number `index` in the library's Sequential.
    pub fn layer(&self, index: usize) -> String {
        match self.modules.get(index).copied().flatten() {
            Some(path) => path.into(),
            None => format!("heads.{}.{index}", self.name),
        }
    }
}

/// The layers of a head: all but the last as one function, and the last by itself, so that a loss
/// over many classes need not have them all at once.
pub trait HeadLayers: Parameters + fmt::Debug + Send + Sync {
    /// What the last layer reads: (rows, C) to (rows, width). `dropout` is used where the
    /// configuration names none.
    fn features<'m>(&'m self, cx: &mut Cx<'m>, x: &Act, dropout: f32) -> engine::Result<Act>;
    /// The last layer, (width) to (classes). `tied` is the model's table of embeddings (classes,
    /// C), which some heads share; such a one has no last layer without it.
    fn last<'m>(&'m self, tied: Option<W<'m>>) -> Option<LinearRef<'m>>;
    /// Calls `f` on every tensor with its name in AdapterHub's checkpoints.
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(String, &'a Tensor));
    /// Trains no more.
    fn freeze(self: Box<Self>) -> Box<dyn HeadLayers>;
}

/// A named head, trained or not.
#[derive(Debug)]
pub struct Head {
    name: String,
    config: Box<dyn HeadConfig>,
    labels: Vec<String>,
    layers: Box<dyn HeadLayers>,
}

impl Head {
    /// A new head for a model: weights N(0, 0.02²), biases 0. The seed decides its weights, all of
    /// which train.
    pub fn new(
        name: &str,
        config: impl Into<Box<dyn HeadConfig>>,
        host: &Host,
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Head> {
        let place = HeadPlace { name, host, modules: &[], trains: true };
        Head::build(config.into(), &place, &mut Source::New(&mut Fresh::new(device, set, seed)))
    }
    fn build(config: Box<dyn HeadConfig>, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Head> {
        config.check()?;
        let (labels, layers) = (config.labels()?, config.build(place, from)?);
        Ok(Head { name: place.name.into(), config, labels, layers })
    }
    /// Loads a head, to train on: one that AdapterHub or engraft saved (`head_config.json`,
    /// `model_head.safetensors` or `pytorch_model_head.bin`), that of one of transformers' models
    /// for tasks too, or one that PEFT saved with an adapter (`modules_to_save`).
    pub fn load(directory: &Path, host: &Host, device: &Device, set: &mut ParamSet) -> Result<Head> {
        Head::load_with(HEADS, directory, host, device, Some(set))
    }
    /// The same; none if there is no head in the directory.
    pub fn find(directory: &Path, host: &Host, device: &Device, set: &mut ParamSet) -> Result<Option<Head>> {
        match directory.join(CONFIG).exists() {
            true => Head::load(directory, host, device, set).map(Some),
            false => built_in::of_peft(directory, host, device, set, true),
        }
    }
    /// The same for a head that does not train.
    pub fn load_frozen(directory: &Path, host: &Host, device: &Device) -> Result<Head> {
        Head::load_with(HEADS, directory, host, device, None)
    }
    /// The same for one of these types; it trains if there is a set for its weights.
    pub fn load_with(
        types: &[&HeadType],
        directory: &Path,
        host: &Host,
        device: &Device,
        set: Option<&mut ParamSet>,
    ) -> Result<Head> {
        let (trains, mut none) = (set.is_some(), ParamSet::new());
        let set = set.unwrap_or(&mut none);
        if !directory.join(CONFIG).exists()
            && let Some(head) = built_in::of_peft(directory, host, device, &mut *set, trains)?
        {
            return Ok(head);
        }
        let path = directory.join(CONFIG);
        let bad = |what: String| Error::File { path: path.clone(), what };
        let card = Card::read(&path, host)?;
        let own = match &card.config {
            Value::Null => Some(built_in::taken_over(types, &card).map_err(|e| bad(e.to_string()))?),
            _ => None,
        };
        let (fields, modules) = own.unwrap_or((card.config, &[]));
        let config = read(types, fields, host).map_err(|e| bad(e.to_string()))?;
        config.check().map_err(|e| bad(e.to_string()))?;
        let name = match card.name {
            Some(name) => name,
            None if modules.is_empty() => return Err(bad("no field `name`".into())),
            // such a head has none: it is called as the adapter beside it
            None => adapter_name(directory).unwrap_or_else(|| peft::NAME.into()),
        };
        let checkpoint = Checkpoint::open_first(directory, &HEAD_TENSORS)?;
        let mut load = Load::new(&checkpoint, device, set);
        let place = HeadPlace { name: &name, host, modules, trains };
        let head = Head::build(config, &place, &mut Source::File(&mut load))?;
        nothing_left(&load, checkpoint.path(), "head")?;
        Ok(head)
    }
    /// Trains no more.
    pub fn freeze(self) -> Head {
        Head { layers: self.layers.freeze(), ..self }
    }
    /// The same under another name.
    pub fn renamed(self, name: &str) -> Head {
        Head { name: name.into(), ..self }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its configuration.
    pub fn config(&self) -> &dyn HeadConfig {
        &*self.config
    }
    /// Names of the classes, by number; none if it predicts no classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
    /// What its last layer reads: see [`HeadLayers::features`].
    pub fn features<'m>(&'m self, cx: &mut Cx<'m>, x: &Act, dropout: f32) -> Result<Act> {
        cx.enter(Site::head());
        Ok(self.layers.features(cx, x, dropout)?)
    }
    /// Its last layer; an error if it needs the model's table of embeddings and there is none: see
    /// [`HeadLayers::last`].
    pub fn last<'m>(&'m self, tied: Option<W<'m>>) -> Result<LinearRef<'m>> {
        let missing = || Error::Config(format!("the head `{}` shares the embeddings of a model", self.name));
        self.layers.last(tied).ok_or_else(missing)
    }
    /// Logits (rows, classes) of these rows of the hidden states, (rows, C). `dropout` is used
    /// where the configuration names none; `tied` is the model's table of embeddings.
    pub fn forward<'m>(&'m self, cx: &mut Cx<'m>, x: &Act, dropout: f32, tied: Option<W<'m>>) -> Result<Act> {
        let x = self.features(cx, x, dropout)?;
        Ok(cx.matmul(&x, self.last(tied)?)?)
    }
    /// Every weight under its checkpoint name.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        self.layers.each(&self.name, &mut |name, t| v.push((name, t)));
        v
    }
    /// The files of a head that is the sum of these with weights. An error if they are not alike.
    pub(crate) fn sum(
        name: &str,
        of: &[&Head],
        weights: &[f64],
        host: &Host,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let Some(first) = of.first() else { return Err(Error::Config("there are no heads".into())) };
        let mut sums: Vec<(String, Vec<usize>, Vec<f64>)> = vec![];
        let mut fields = first.config.fields()?;
        for (head, weight) in of.iter().zip(weights) {
            let mut own = head.config.fields()?;
            own.extend(fields.get("dropout_prob").map(|v| ("dropout_prob".to_string(), v.clone())));
            if head.config.head_type() != first.config.head_type() || own != fields {
                let what = format!("the head `{}` is not configured as the first one", head.name);
                return Err(Error::Config(what));
            }
            let mut all = vec![];
            head.layers.each(name, &mut |n, t| all.push((n, t)));
            for (i, (tensor, t)) in all.into_iter().enumerate() {
                if i == sums.len() {
                    sums.push((tensor, t.shape().to_vec(), vec![0.0; t.elements()]));
                }
                sums[i].2.iter_mut().zip(t.to_f32()?).for_each(|(s, x)| *s += weight * f64::from(x));
            }
        }
        fields.insert("head_type".into(), first.config.head_type().into());
        let narrow = |v: &[f64]| v.iter().map(|x| *x as f32).collect::<Vec<_>>();
        let all = sums.iter().map(|(n, shape, v)| (n.clone(), TensorData::f32(&narrow(v), shape)));
        let data = serialize(&all.collect::<Vec<_>>())?;
        Ok(vec![(CONFIG.into(), Card::new(fields, host, name).bytes()?), (HEAD_TENSORS[0].into(), data)])
    }
    /// Its files in AdapterHub's format, by name.
    pub fn files(&self, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        let mut fields = self.config.fields()?;
        fields.insert("head_type".into(), self.config.head_type().into());
        let card = Card::new(fields, host, &self.name);
        Ok(vec![(CONFIG.into(), card.bytes()?), (HEAD_TENSORS[0].into(), tensors(&self.named())?)])
    }
    /// Saves [`Self::files`] into a directory, which is made where it is missing.
    pub fn save(&self, directory: &Path, host: &Host) -> Result<()> {
        write(directory, &self.files(host)?)
    }
}
impl Parameters for Head {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.layers.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.layers.visit_mut(f);
    }
}
