//! Fields that several types of heads have, and what is wrong with them.
use super::{Layout, stack::LayerShape};
use crate::{Error, Result};
use engraft_engine::Activation;
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
/// The layers of AdapterHub's `PredictionHead`: dropout, linear, activation, for each but the last, which has no activation.
pub(super) fn prediction(
    (channels, labels): (usize, usize),
    layers: usize,
    act: Option<Activation>,
    bias: bool,
    dropout: Option<f64>,
) -> Layout {
    let stride = if act.is_some() { 3 } else { 2 };
    let layer = |l: usize| match l + 1 == layers {
        true => LayerShape { index: l * stride + 1, input: channels, output: labels, bias, norm: None },
        false => {
            LayerShape { index: l * stride + 1, input: channels, output: channels, bias: true, norm: None }
        }
    };
    Layout { layers: (0..layers).map(layer).collect(), act, drops: true, dropout, tied: false }
}
