//! Fields that several types of heads have, and what is wrong with them.
use super::{HeadLayers, HeadPlace, Layout, stack::LayerShape};
use crate::{Error, Fields, Result};
use engraft_engine::{Activation, Source};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use std::collections::BTreeMap;

/// Beyond these a file is damaged or hostile.
pub(super) const MOST_LABELS: usize = 1 << 20;
pub(super) const MOST_LAYERS: usize = 256; // each has its own dropout, numbered in a byte

/// The number of each label.
pub(super) type Label2Id = Option<BTreeMap<String, u32>>;

/// `label2id` of a file, whose numbers may be texts: the library puts them through Python's `int`.
pub(super) fn label2id<'de, D: Deserializer<'de>>(d: D) -> Result<Label2Id, D::Error> {
    let Some(map) = Option::<BTreeMap<String, Value>>::deserialize(d)? else { return Ok(None) };
    let one = |(label, id): (String, Value)| match number(&id) {
        Some(id) => Ok((label, id)),
        None => Err(D::Error::custom(format!("`label2id` gives `{label}` the number {id}"))),
    };
    map.into_iter().map(one).collect::<Result<_, _>>().map(Some)
}
fn number(id: &Value) -> Option<u32> {
    match id {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(n) => {
            let whole =
                n.as_u64().or_else(|| n.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
            u32::try_from(whole?).ok()
        }
        _ => None,
    }
}
/// `id2label`, which a file may have instead, as `label2id`.
pub(super) fn turned(fields: &mut Fields) -> Result<()> {
    let Some(id2label) =
        fields.remove("id2label").filter(|_| fields.get("label2id").is_none_or(Value::is_null))
    else {
        return Ok(());
    };
    let Value::Object(names) = id2label else {
        return match id2label.is_null() {
            true => Ok(()),
            false => Err(Error::Config(format!("`id2label` is {id2label}, expected labels by number"))),
        };
    };
    let mut turned = Fields::new();
    for (id, label) in names {
        let Value::String(label) = label else {
            return Err(Error::Config(format!("`id2label` gives {id} the label {label}, expected a text")));
        };
        if turned.insert(label.clone(), id.into()).is_some() {
            return Err(Error::Config(format!("`id2label` has the label `{label}` twice")));
        }
    }
    fields.insert("label2id".into(), turned.into());
    Ok(())
}
pub(super) fn numbered(labels: &[String]) -> Label2Id {
    Some(labels.iter().cloned().zip(0..).collect())
}
/// The library's defaults.
pub(super) fn tanh() -> Option<String> {
    Some("tanh".into())
}
pub(super) fn yes() -> bool {
    true
}
pub(super) fn one() -> usize {
    1
}
pub(super) fn two() -> usize {
    2
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
/// The fields of AdapterHub's `PredictionHead`: dropout, linear, activation, for each layer but the
/// last, which has no activation.
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
