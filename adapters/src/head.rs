//! Classification heads: AdapterHub's `ClassificationHead`.
//!
//! ```text
//! z = W_n dropout( … act(W_1 dropout(x) + b_1) … ) + b_n
//! ```
//! x is one row for each sequence. Two layers with tanh are AdapterHub's default; one layer over the pooled first token is
//! Hugging Face's `BertForSequenceClassification`.
use crate::{
    Error, Host, Result,
    files::{Card, tensors, write},
};
use engraft_engine::{
    Act, Activation, Checkpoint, Cx, Device, Fresh, Frozen, Init, Linear, Load, Param, ParamSet, Parameters,
    Site, Source, Tensor, Weight,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

const CONFIG: &str = "head_config.json";
const TENSORS: &str = "model_head.safetensors";
/// Beyond these a file is damaged or hostile.
const MOST_LABELS: usize = 1 << 20;
const MOST_LAYERS: usize = 256; // each has its own dropout, numbered in a byte

/// `config` of `head_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Between the layers.
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// `classification`.
    pub head_type: String,
    /// The number of each label.
    pub label2id: Option<BTreeMap<String, u32>>,
    /// Linear layers.
    pub layers: usize,
    /// Labels.
    pub num_labels: usize,
    /// Reads the model's pooler instead of the first token.
    #[serde(default)]
    pub use_pooler: bool,
}
fn yes() -> bool {
    true
}

impl HeadConfig {
    /// AdapterHub's default: two layers with tanh over the first token.
    pub fn classification(labels: &[String]) -> HeadConfig {
        HeadConfig {
            activation_function: Some("tanh".into()),
            bias: true,
            dropout_prob: None,
            head_type: "classification".into(),
            label2id: Some(labels.iter().cloned().zip(0..).collect()),
            layers: 2,
            num_labels: labels.len(),
            use_pooler: false,
        }
    }
    /// One layer over the pooler's output, or over the first token of a model without one.
    pub fn linear(labels: &[String], pooler: bool) -> HeadConfig {
        HeadConfig {
            activation_function: None,
            layers: 1,
            use_pooler: pooler,
            ..HeadConfig::classification(labels)
        }
    }
    /// Label names by number.
    pub fn labels(&self) -> Result<Vec<String>> {
        let Some(map) = &self.label2id else {
            return Ok((0..self.num_labels).map(|i| format!("LABEL_{i}")).collect());
        };
        if map.len() != self.num_labels {
            return Err(Error::Config(format!(
                "`label2id` names {} of {} labels",
                map.len(),
                self.num_labels
            )));
        }
        let mut names = vec![None; self.num_labels];
        for (name, id) in map {
            match names.get_mut(*id as usize) {
                Some(slot @ None) => *slot = Some(name.clone()),
                _ => {
                    return Err(Error::Config(format!(
                        "`label2id` gives `{name}` the number {id}, which is taken or too large"
                    )));
                }
            }
        }
        Ok(names.into_iter().flatten().collect()) // as many names as places, and no place taken twice
    }
    fn activation(&self) -> Result<Option<Activation>> {
        let Some(name) = &self.activation_function else { return Ok(None) };
        let act = Activation::from_name(&name.to_lowercase());
        act.map(Some).ok_or_else(|| {
            Error::Config(format!("`activation_function` is `{name}`, which is not supported"))
        })
    }
    fn check(&self) -> Result<()> {
        if self.head_type != "classification" {
            return Err(Error::Config(format!(
                "`head_type` is `{}`; only `classification` is supported",
                self.head_type
            )));
        }
        if !(2..=MOST_LABELS).contains(&self.num_labels) {
            return Err(Error::Config(format!(
                "`num_labels` is {}; a classification needs 2 to {MOST_LABELS}",
                self.num_labels
            )));
        }
        if !(1..=MOST_LAYERS).contains(&self.layers) {
            return Err(Error::Config(format!("`layers` is {}, expected 1 to {MOST_LAYERS}", self.layers)));
        }
        if let Some(p) = self.dropout_prob.filter(|p| !(*p >= 0.0 && (*p as f32) < 1.0)) {
            return Err(Error::Config(format!("`dropout_prob` is {p}, expected 0 to below 1")));
        }
        self.activation()?;
        self.labels().map(drop)
    }
    /// (index in the library's Sequential, inputs, outputs, bias) of every layer.
    fn shapes(&self, channels: usize) -> Vec<(usize, usize, usize, bool)> {
        let stride = if self.activation_function.is_some() { 3 } else { 2 }; // dropout, linear, activation
        (0..self.layers)
            .map(|l| match l + 1 == self.layers {
                true => (l * stride + 1, channels, self.num_labels, self.bias),
                false => (l * stride + 1, channels, channels, true),
            })
            .collect()
    }
}

/// The layers of a head, made with N(0, 0.02²) and biases of 0, or loaded.
fn build<P: Weight>(
    config: &HeadConfig,
    name: &str,
    channels: usize,
    from: &mut Source<'_, '_>,
) -> Result<Vec<(String, Linear<P>)>> {
    let layer = |(i, input, output, bias): (usize, usize, usize, bool)| {
        let path = format!("heads.{name}.{i}");
        let bias = bias.then_some(Init::Constant(0.0));
        let layer = from.linear(&path, (input, output), Init::Normal(0.02), bias)?;
        Ok((path, layer))
    };
    config.shapes(channels).into_iter().map(layer).collect()
}

/// A classification head, trained (`Param`) or not (`Frozen`).
#[derive(Debug)]
pub struct ClassificationHead<P: Weight> {
    name: String,
    config: HeadConfig,
    labels: Vec<String>,
    layers: Vec<(String, Linear<P>)>,
}

impl ClassificationHead<Param> {
    /// A new head for a model of `channels` channels: weights N(0, 0.02²), biases 0. The seed decides its weights.
    pub fn new(
        name: &str,
        config: HeadConfig,
        channels: usize,
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Self> {
        config.check()?;
        let layers = build(&config, name, channels, &mut Source::New(&mut Fresh::new(device, set, seed)))?;
        Ok(ClassificationHead { name: name.into(), labels: config.labels()?, config, layers })
    }
    /// Trains no more.
    pub fn freeze(self) -> ClassificationHead<Frozen> {
        let layers = self.layers.into_iter().map(|(p, l)| (p, l.freeze())).collect();
        ClassificationHead { name: self.name, config: self.config, labels: self.labels, layers }
    }
}
impl<P: Weight> ClassificationHead<P> {
    /// Loads a head that AdapterHub or engraft saved (`head_config.json`, `model_head.safetensors`).
    pub fn load(directory: &Path, host: &Host, device: &Device, set: &mut ParamSet) -> Result<Self> {
        let path = directory.join(CONFIG);
        let bad = |what: String| Error::File { path: path.clone(), what };
        let card = Card::<HeadConfig>::read(&path, host)?;
        let config = card.config;
        config.check().map_err(|e| bad(e.to_string()))?;
        let name = card.name.ok_or_else(|| bad("no field `name`".into()))?;
        let checkpoint = Checkpoint::open(&directory.join(TENSORS))?;
        let mut load = Load::new(&checkpoint, device, set);
        let layers = build(&config, &name, host.hidden_size, &mut Source::File(&mut load))?;
        if let Some(left) = load.unused().first() {
            let path = directory.join(TENSORS);
            return Err(Error::File { path, what: format!("tensor `{left}` has no place in this head") });
        }
        Ok(ClassificationHead { name, labels: config.labels()?, config, layers })
    }
    /// Its files in AdapterHub's format, by name.
    pub fn files(&self, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        let card = Card::new(self.config.clone(), host, &self.name);
        Ok(vec![(CONFIG.into(), card.bytes()?), (TENSORS.into(), tensors(&self.named())?)])
    }
    /// Saves [`Self::files`] into a directory, which is made where it is missing.
    pub fn save(&self, directory: &Path, host: &Host) -> Result<()> {
        write(directory, &self.files(host)?)
    }
    /// Every weight under its checkpoint name.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        self.layers.iter().for_each(|(path, l)| l.each(path, &mut |name, w| v.push((name, w.tensor()))));
        v
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its configuration.
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }
    /// Label names, by number.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
    /// Logits (sequences, labels) from one row for each sequence. `dropout` is used where the configuration names none.
    pub fn forward<'m>(&'m self, cx: &mut Cx<'m>, pooled: &Act, dropout: f32) -> Result<Act> {
        let p = self.config.dropout_prob.map_or(dropout, |p| p as f32);
        let act = self.config.activation()?;
        cx.enter(Site::head());
        let mut x = pooled.clone();
        for (i, (_, w)) in self.layers.iter().enumerate() {
            x = cx.dropout(x, p, Site::head(), i as u8)?;
            x = cx.matmul(&x, w.get())?;
            if let Some(act) = act.filter(|_| i + 1 < self.layers.len()) {
                x = cx.activate(&x, act)?;
            }
        }
        Ok(x)
    }
}
impl<P: Weight> Parameters for ClassificationHead<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.layers.iter().for_each(|(_, l)| l.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.layers.iter_mut().for_each(|(_, l)| l.visit_mut(f));
    }
}
