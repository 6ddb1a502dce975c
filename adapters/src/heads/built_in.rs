//! Heads of transformers' own models for tasks.
use crate::{Error, Result, files::Card, grammar::Fields};
use serde_json::Value;

/// The head of one of transformers' models for tasks, as AdapterHub takes it over
/// (`head_utils.py`).
#[derive(Debug)]
pub struct BuiltIn {
    /// The class of the model.
    pub class: &'static str,
    /// The fields of the same head in AdapterHub's `config`, without those of its labels.
    pub fields: fn() -> Value,
    /// Whether it tells labels apart.
    pub labelled: bool,
    /// What each layer is called in the model's files, by its number in the library's Sequential.
    pub modules: &'static [Option<&'static str>],
}

/// The `config` of a head that the model's class has by itself, and what its layers are called; of
/// all that there are, each with its type.
pub(super) fn config(
    all: &[(&'static str, &'static BuiltIn)],
    card: &Card,
) -> Result<(Value, &'static [Option<&'static str>])> {
    let class = card.model_class.as_deref().unwrap_or_default();
    let Some((name, head)) = all.iter().find(|(_, b)| b.class == class) else {
        let known: Vec<_> = all.iter().map(|(_, b)| b.class).collect();
        return Err(Error::Config(format!(
            "`config` is null, and the head of `{class}` is not known; supported: {}",
            known.join(", ")
        )));
    };
    let mut config = (head.fields)();
    config["head_type"] = (*name).into();
    // labels without a number for each stay without names
    let labels = card.label2id.as_ref().and_then(Value::as_object).map(Fields::len);
    let count = card.num_labels.or(labels);
    if let Some(n) = count.filter(|_| head.labelled) {
        config["num_labels"] = n.into();
        config["label2id"] = card.label2id.clone().filter(|_| labels == count).unwrap_or_default();
    }
    Ok((config, head.modules))
}
