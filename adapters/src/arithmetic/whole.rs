//! Adapters of any method made into one, tensor by tensor.
use super::{On, Prune, Recipe, tensors::sum, to_f32};
use crate::{
    Adapter, Error, Fields, Format, Host, Result,
    files::{CONFIG, Card, peft},
};
use engraft_engine::checkpoint::{TensorData, serialize_with};
use serde_json::Value;

/// Fields of a configuration that say nothing of what is computed.
const FREE: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "dropout",
    "inference_mode",
    "init_lora_weights",
    "init_weights",
    "init_weights_seed",
    "lora_dropout",
    "modules_to_save",
    "peft_version",
    "revision",
    "task_type",
];

/// A configuration without what says nothing.
fn essence(v: &Value) -> Value {
    match v {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(k, v)| !FREE.contains(&k.as_str()) && !v.is_null());
            // a list of layers or modules has no order
            let mut all: Vec<(String, Value)> = kept.map(|(k, v)| (k.clone(), essence(v))).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(all.into_iter().collect())
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(essence).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        other => other.clone(),
    }
}
/// Refuses configurations that do not compute alike.
fn alike(name: &str, first: &Fields, other: &Fields) -> Result<()> {
    let [one, two] = [first, other].map(|f| essence(&Value::Object(f.clone())));
    let fields = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    // what kind they are comes first
    let kinds = ["architecture", "peft_type"].map(String::from);
    match kinds.into_iter().chain(fields(&one)).chain(fields(&two)).find(|k| one.get(k) != two.get(k)) {
        None => Ok(()),
        Some(k) => {
            let show = |v: &Value| v.get(&k).map_or("missing".into(), Value::to_string);
            Err(Error::Config(format!(
                "`{name}` is not configured as the first one: `{k}` is {}, and there {}",
                show(&two),
                show(&one)
            )))
        }
    }
}

type Values = (String, Vec<usize>, Vec<f64>);

/// The configuration and the tensors of an adapter under another name.
fn parts(adapter: &Adapter, name: &str) -> Result<(Fields, Vec<Values>)> {
    let (fields, all) = match adapter.format() {
        Format::AdapterHub => (adapter.config().adapterhub()?, adapter.adapterhub(name)?),
        Format::Peft => adapter.peft()?,
    };
    let one = |(name, t): (String, TensorData<'_>)| {
        let values = t.to_f32()?.into_iter().map(f64::from).collect();
        Ok((name, t.shape().to_vec(), values))
    };
    Ok((fields, all.into_iter().map(one).collect::<Result<_>>()?))
}

/// The files of the merged adapter.
pub(super) fn merge(
    recipe: &Recipe,
    name: &str,
    of: &[&Adapter],
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    let (first, prunes) = (of[0], recipe.strategy.prune != Prune::Nothing);
    let weights = recipe.weights(of.len())?;
    if let Some(other) = of.iter().find(|a| a.format() != first.format()) {
        return Err(Error::Config(format!("`{}` is in another format than the first one", other.name())));
    }
    if prunes {
        for (info, m) in of.iter().flat_map(|a| a.modules()) {
            if !m.replaces()?.is_empty() {
                let what =
                    "its weights stand in the place of the model's own, and 0 is not where they came from";
                return Err(Error::Config(format!("`{}` cannot be pruned: {what}", info.path)));
            }
        }
    }
    let all = of.iter().map(|a| parts(a, name)).collect::<Result<Vec<_>>>()?;
    for (adapter, (fields, _)) in of.iter().zip(&all) {
        alike(adapter.name(), &all[0].0, fields)?;
    }
    let mean = if prunes { recipe.weights_with(of.len(), true)? } else { weights.clone() };
    let mut made: Vec<(String, TensorData<'_>)> = vec![];
    for (number, (tensor, shape, _)) in all[0].1.iter().enumerate() {
        let mut same = vec![];
        for (adapter, (_, tensors)) in of.iter().zip(&all) {
            match tensors.get(number).filter(|t| (&t.0, &t.1) == (tensor, shape)) {
                Some(t) => same.push(t.2.clone()),
                None => {
                    let name = adapter.name();
                    return Err(Error::Config(format!("`{name}` has no `{tensor}` {shape:?} in its place")));
                }
            }
        }
        let is_a = tensor.ends_with("lora_A") || tensor.ends_with("lora_A.weight");
        let merged = match shape.len() > 1 {
            true if recipe.strategy.on == On::NegatedB && is_a => {
                sum(&same, &weights.iter().map(|w| w.abs()).collect::<Vec<_>>())
            }
            true => recipe.mixed(same, &weights, number),
            false => sum(&same, &mean),
        };
        made.push((tensor.clone(), TensorData::f32(&to_f32(&merged), shape)));
    }
    let fields = all.into_iter().next().map(|(fields, _)| fields).unwrap_or_default();
    match first.format() {
        Format::AdapterHub => {
            let card = Card::new(fields, host, name);
            let data = serialize_with(&made, host.note().as_deref())?;
            Ok(vec![(CONFIG.into(), card.bytes()?), (Format::AdapterHub.tensors().into(), data)])
        }
        Format::Peft => peft::files(&fields, &made, host),
    }
}
