//! The heads of transformers' own models for tasks, which AdapterHub's types describe too: as
//! AdapterHub saves them, and among the tensors of an adapter of PEFT's (`modules_to_save`).
use super::{HEADS, Head, HeadConfig, HeadPlace, HeadType, reading::read};
use crate::{
    Error, Fields, Host, Result,
    files::{CONFIG, Card, Format, object, peft},
};
use engraft_engine::{Checkpoint, Device, Load, ParamSet, Source, checkpoint::TensorData};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

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

/// How the name of a class ends, and PEFT's name of its task.
const TASKS: [(&str, &str); 3] = [
    ("ForQuestionAnswering", "QUESTION_ANS"),
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
];
/// Fields that say nothing of which head it is.
const OWN: [&str; 4] = ["dropout_prob", "head_type", "label2id", "num_labels"];

impl BuiltIn {
    /// The class of a task for a model: transformers names them all alike.
    fn is_for(&self, host: &Host, end: &str) -> bool {
        let class = host.model_class.as_str();
        let name = ["AdapterModel", "Model"].into_iter().find_map(|end| class.strip_suffix(end));
        name.is_some_and(|name| self.class.strip_prefix(name) == Some(end))
    }
    /// AdapterHub's `config` of it, without its labels.
    fn config(&self, name: &str) -> Value {
        let mut config = (self.fields)();
        config["head_type"] = name.into();
        config
    }
    /// The modules that PEFT saves whole: the first parts of its layers' names.
    fn saved(&self) -> BTreeSet<&'static str> {
        self.modules.iter().flatten().filter_map(|path| path.split('.').next()).collect()
    }
}
/// Every head of transformers, with the name of its type.
fn all<'t>(types: &'t [&'t HeadType]) -> impl Iterator<Item = (&'static str, &'static BuiltIn)> + use<'t> {
    types.iter().flat_map(|t| t.built_in.iter().map(move |b| (t.name, b)))
}

/// The `config` of a head that the model's class has by itself, and what its layers are called.
pub(super) fn taken_over(
    types: &[&HeadType],
    card: &Card,
) -> Result<(Value, &'static [Option<&'static str>])> {
    let class = card.model_class.as_deref().unwrap_or_default();
    let Some((name, head)) = all(types).find(|(_, b)| b.class == class) else {
        let known: Vec<_> = all(types).map(|(_, b)| b.class).collect();
        return Err(Error::Config(format!(
            "`config` is null, and the head of `{class}` is not known; supported: {}",
            known.join(", ")
        )));
    };
    let mut config = head.config(name);
    // labels without a number for each stay without names
    let labels = card.label2id.as_ref().and_then(Value::as_object).map(Fields::len);
    let count = card.num_labels.or(labels);
    if let Some(n) = count.filter(|_| head.labelled) {
        config["num_labels"] = n.into();
        config["label2id"] = card.label2id.clone().filter(|_| labels == count).unwrap_or_default();
    }
    Ok((config, head.modules))
}

/// The tensors of a head among those of an adapter of PEFT's have their place: [`Head::load`] reads
/// them.
pub(crate) fn mark(load: &mut Load<'_>) {
    load.unused().iter().filter(|n| root(n).is_some()).for_each(|n| load.mark(n));
}
/// What stands in front of the head that a tensor of PEFT's belongs to; none if it belongs to none.
fn root(tensor: &str) -> Option<&'static str> {
    let (root, rest) = [peft::ROOT, peft::OUTER].iter().find_map(|r| Some((*r, tensor.strip_prefix(r)?)))?;
    let module = rest.split('.').next()?;
    let of_a_task = |b: &BuiltIn| TASKS.iter().any(|(end, _)| b.class.ends_with(end));
    all(HEADS).any(|(_, b)| of_a_task(b) && b.saved().contains(module)).then_some(root)
}
/// The head among the tensors of an adapter of PEFT's, if there is one.
pub(super) fn of_peft(
    directory: &Path,
    host: &Host,
    device: &Device,
    set: &mut ParamSet,
    trains: bool,
) -> Result<Option<Head>> {
    let path = directory.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let fields = object(&path)?;
    if Format::of(&fields) != Format::Peft {
        return Ok(None);
    }
    let checkpoint = Checkpoint::open_first(directory, &Format::Peft.readable())?;
    let Some(root) = checkpoint.names().find_map(root) else { return Ok(None) };
    let task = fields.get("task_type").and_then(Value::as_str);
    let end = TASKS.iter().find(|(_, of)| Some(*of) == task).map(|(end, _)| *end);
    let Some((name, head)) = end.and_then(|end| all(HEADS).find(|(_, b)| b.is_for(host, end))) else {
        let task = fields.get("task_type").unwrap_or(&Value::Null);
        let (kind, what) = (&host.model_type, "what the head in its tensors is like is not known");
        return Err(Error::File { path, what: format!("`task_type` is {task} on a `{kind}`: {what}") });
    };
    let names: Vec<_> = head.modules.iter().map(|m| m.map(|path| format!("{root}{path}"))).collect();
    let last = names.iter().flatten().next_back().map(|path| format!("{path}.weight"));
    let rows = last.and_then(|last| Some(*checkpoint.shape(&last)?.first()?));
    let mut config = head.config(name);
    config["num_labels"] = rows.unwrap_or_default().into();
    let config = read(HEADS, config, host)?;
    let mut load = Load::new(&checkpoint, device, set);
    let modules: Vec<_> = names.iter().map(Option::as_deref).collect();
    let place = HeadPlace { name: peft::NAME, host, modules: &modules, trains };
    let made = Head::build(config, &place, &mut Source::File(&mut load))?;
    match load.unused().into_iter().find(|n| self::root(n).is_some()) {
        Some(left) => {
            let what = format!("tensor `{left}` has no place in the head of `{}`", head.class);
            Err(Error::File { path: checkpoint.path().into(), what })
        }
        None => Ok(Some(made)),
    }
}
/// What PEFT's files say of a head of transformers' own: its task, the modules that are saved whole,
/// and their tensors, by their names in the model.
pub(crate) type InPeft<'a> = (&'static str, BTreeSet<&'static str>, Vec<(String, TensorData<'a>)>);

/// A head as PEFT's files hold it; none if transformers' class of the model has another one.
pub(crate) fn in_peft<'a>(head: &'a Head, host: &Host) -> Result<Option<InPeft<'a>>> {
    let own = head.config().fields()?;
    let Some((task, found)) = TASKS.iter().find_map(|(end, task)| {
        let is_this = |(name, b): &(&str, &BuiltIn)| {
            *name == head.config().head_type() && b.is_for(host, end) && is_same(&own, b.config(name), host)
        };
        all(HEADS).find(is_this).map(|(_, b)| (*task, b))
    }) else {
        return Ok(None);
    };
    let start = format!("heads.{}.", head.name());
    let mut tensors = vec![];
    for (name, t) in head.named() {
        let at = name.strip_prefix(&start).and_then(|rest| rest.split_once('.'));
        let named = at.and_then(|(index, tensor)| Some((index.parse::<usize>().ok()?, tensor)));
        let module = named.and_then(|(index, tensor)| Some((found.modules.get(index).copied()??, tensor)));
        let Some((module, tensor)) = module else { return Ok(None) };
        tensors.push((format!("{module}.{tensor}"), TensorData::f32(&t.to_f32()?, t.shape())));
    }
    Ok(Some((task, found.saved(), tensors)))
}
/// Whether a head with these fields is that of a `config`, whatever its labels.
fn is_same(own: &Fields, config: Value, host: &Host) -> bool {
    let Ok(Ok(theirs)) = read(HEADS, config, host).map(|c: Box<dyn HeadConfig>| c.fields()) else {
        return false;
    };
    // nothing stands between layers where there is one
    let is_one = own.get("layers") == Some(&1.into());
    let counts = |n: &str| !(OWN.contains(&n) || is_one && n == "activation_function");
    own.iter().filter(|(n, _)| counts(n)).all(|(n, v)| theirs.get(n) == Some(v))
        && theirs.keys().filter(|n| counts(n)).all(|n| own.contains_key(n))
}
