//! Fields that several types of heads have, and what is wrong with them.
use super::{HeadLayers, HeadPlace, Layout, stack::LayerShape};
use crate::{Error, Result};
use engraft_engine::{Activation, Source};
use std::collections::BTreeMap;

/// Beyond these a file is damaged or hostile.
pub(super) const MOST_LABELS: usize = 1 << 20;
pub(super) const MOST_LAYERS: usize = 256; // each has its own dropout, numbered in a byte

/// The number of each label.
pub(super) type Label2Id = Option<BTreeMap<String, u32>>;

pub(super) fn numbered(labels: &[String]) -> Label2Id {
    Some(labels.iter().cloned().zip(0..).collect())
}
/// Label names by number.
pub(super) fn names(label2id: &Label2Id, labels: usize) -> Result<Vec<String>> {
    let Some(map) = label2id else {
        return Ok((0..labels).map(|i| format!("LABEL_{i}")).collect());
    };
    if map.len() != labels {
        return Err(Error::Config(format!("`label2id` names {} of {labels} labels", map.len())));
    }
    let mut names = vec![None; labels];
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
pub(super) fn activation(name: Option<&String>) -> Result<Option<Activation>> {
    let Some(name) = name else { return Ok(None) };
    let act = Activation::from_name(&name.to_lowercase());
    act.map(Some)
        .ok_or_else(|| Error::Config(format!("`activation_function` is `{name}`, which is not supported")))
}
pub(super) fn count(field: &str, n: usize, least: usize, most: usize) -> Result<()> {
    match (least..=most).contains(&n) {
        true => Ok(()),
        false => Err(Error::Config(format!("`{field}` is {n}, expected {least} to {most}"))),
    }
}
pub(super) fn probability(field: &str, p: Option<f64>) -> Result<()> {
    match p.filter(|p| !(*p >= 0.0 && (*p as f32) < 1.0)) {
        Some(p) => Err(Error::Config(format!("`{field}` is {p}, expected 0 to below 1"))),
        None => Ok(()),
    }
}
/// The fields of AdapterHub's `PredictionHead`: dropout, linear, activation, for each layer but the last, which has no activation.
pub(super) struct Prediction<'a> {
    /// Name of the activation function.
    pub act: Option<&'a String>,
    /// Whether the last layer has a bias.
    pub bias: bool,
    pub dropout: Option<f64>,
    pub label2id: &'a Label2Id,
    pub labels: usize,
    pub layers: usize,
}
impl Prediction<'_> {
    pub fn check(&self, least_labels: usize) -> Result<()> {
        count("num_labels", self.labels, least_labels, MOST_LABELS)?;
        count("layers", self.layers, 1, MOST_LAYERS)?;
        probability("dropout_prob", self.dropout)?;
        activation(self.act)?;
        names(self.label2id, self.labels).map(drop)
    }
    pub fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        let act = activation(self.act)?;
        let stride = if act.is_some() { 3 } else { 2 };
        let input = place.host.hidden_size;
        let layer = |l: usize| {
            let (output, bias) = if l + 1 == self.layers { (self.labels, self.bias) } else { (input, true) };
            LayerShape { index: l * stride + 1, input, output, bias, norm: None }
        };
        let layers = (0..self.layers).map(layer).collect();
        Layout { layers, act, drops: true, dropout: self.dropout, tied: false }.build(place, from)
    }
}
