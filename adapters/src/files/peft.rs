//! PEFT's checkpoints: `base_model.model.{module}.{tensor}`, and heads among the modules that were saved whole.
use super::{CONFIG, Format, json};
use crate::{Adapter, Head, Result};
use engraft_engine::{
    Load,
    checkpoint::{TensorData, serialize},
};

/// PEFT's files do not say an adapter's name; it calls one `default` unless it is told otherwise.
pub(crate) const NAME: &str = "default";
/// What stands in front of every name.
pub(crate) const ROOT: &str = "base_model.model.";
/// The heads of transformers' models for tasks, which PEFT saves with an adapter (`modules_to_save`).
const HEADS: [&str; 2] = ["classifier", "score"];

/// An adapter's files, with the head among its tensors if transformers has such a one.
pub(crate) fn files(adapter: &Adapter, head: Option<&Head>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut fields = adapter.config().peft(adapter.sites())?;
    let mut all = vec![];
    for (info, module) in adapter.modules() {
        all.extend(module.peft()?.into_iter().map(|(t, data)| (format!("{ROOT}{}.{t}", info.path), data)));
    }
    if let Some((head, (module, task))) = head.and_then(|h| Some((h, h.config().transformers()?))) {
        fields.insert("task_type".into(), task.into());
        fields.insert("modules_to_save".into(), vec![module].into());
        for (name, t) in head.named() {
            let tensor = name.rsplit('.').next().unwrap_or_default();
            all.push((format!("{ROOT}{module}.{tensor}"), TensorData::f32(&t.to_f32()?, t.shape())));
        }
    }
    Ok(vec![(CONFIG.into(), json(&fields)?), (Format::Peft.tensors().into(), serialize(&all)?)])
}
/// The tensors of a head among those of an adapter have their place: [`crate::Head::load`] reads them.
pub(crate) fn mark_heads(load: &mut Load<'_>) {
    let names: Vec<String> = load.unused();
    names.iter().filter(|n| head_of(n).is_some()).for_each(|n| load.mark(n));
}
/// (head, tensor) of a tensor's name.
pub(crate) fn head_of(name: &str) -> Option<(&'static str, &str)> {
    let rest = name.strip_prefix(ROOT)?;
    HEADS.iter().find_map(|h| Some((*h, rest.strip_prefix(h)?.strip_prefix('.')?)))
}
