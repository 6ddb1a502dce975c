//! Every family, and loading a model of any.
use crate::{
    Config, Family, Model, Result, albert, bert, distilbert, electra, gpt_neo, gpt2, gptj, llama, mistral,
    modernbert, qwen2, qwen3, roberta, t5,
};
use engraft_engine::{Checkpoint, Compute, Device, Load, ParamSet, Storage};
use std::path::Path;

/// A model and what came with it.
pub struct Loaded {
    /// The model.
    pub model: Box<dyn Model>,
    /// Tensors of the checkpoint that the model has no use for.
    pub unused: Vec<String>,
    /// Fields of `config.json` that nothing reads and that are not well known.
    pub unread: Vec<String>,
    /// The file or files it came from.
    pub checkpoint: Checkpoint,
}

/// Every family of models.
pub const FAMILIES: &[Family] = &[
    bert::FAMILY,
    roberta::FAMILY,
    roberta::XLM,
    distilbert::FAMILY,
    electra::FAMILY,
    albert::FAMILY,
    modernbert::FAMILY,
    gpt2::FAMILY,
    gpt_neo::FAMILY,
    gptj::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    t5::FAMILY,
    t5::MT5,
];

/// How a model's weights are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What frozen matrices are stored as; as the files have them if it is `None`. Biases and the
    /// weights of norms are f32 always.
    pub storage: Option<Storage>,
    /// How the products of the linear layers are computed; in integers, their weights are stored as
    /// int8.
    pub compute: Compute,
}

/// Loads a Hugging Face model directory, `config.json` and `model.safetensors` or
/// `pytorch_model.bin` or their shards, of a family in [`FAMILIES`], with frozen weights. The Null
/// device reads no values, and where there are no weights takes them to be there, in f32.
pub fn load_frozen(directory: &Path, device: &Device, how: Holding) -> Result<Loaded> {
    load_as(FAMILIES, directory, device, None, how)
}
/// The same with all weights registered in `set` as parameters that train.
pub fn load_trained(directory: &Path, device: &Device, set: &mut ParamSet) -> Result<Loaded> {
    load_as(FAMILIES, directory, device, Some(set), Holding::default())
}
/// The same for families of the caller's own choice. With a set the weights train.
pub fn load_as(
    families: &[Family],
    directory: &Path,
    device: &Device,
    train: Option<&mut ParamSet>,
    how: Holding,
) -> Result<Loaded> {
    let config = Config::open(directory)?;
    let (family, checkpoint) = match family_of(&config, families) {
        Ok(family) => (*family, Checkpoint::open_for(directory, device)?),
        Err(unsaid) => {
            let Ok(checkpoint) = Checkpoint::open_for(directory, device) else { return Err(unsaid) };
            let told = told_by_tensors(directory, &checkpoint, &config, families)?;
            (*told.ok_or(unsaid)?, checkpoint)
        }
    };
    let config = config.with_aliases(family.aliases)?;
    let build = if train.is_some() { family.trained } else { family.frozen };
    let mut none = ParamSet::new();
    let set = train.unwrap_or(&mut none);
    let load = Load::new(&checkpoint, device, set).without(family.prefix);
    let mut load = load.storing(how.storage).computing(how.compute);
    let model = build(&config, &mut load)?;
    let unused = load.unused();
    Ok(Loaded { model, unused, unread: config.finish()?, checkpoint })
}
/// The family of a configuration: that of its `model_type`, or where it is older than this field
/// the one whose classes it names.
fn family_of<'f>(config: &Config, families: &'f [Family]) -> Result<&'f Family> {
    let name = config.text("model_type", "")?;
    // `BertForMaskedLM` is a class of `bert`, `BertweetModel` is none
    let is_class = |family: &str| {
        let family = &family.replace(['-', '_'], ""); // `XLMRobertaModel`, `GPTNeoModel`
        let class = config.class().filter(|_| !config.has("model_type")).unwrap_or_default();
        let rest = class.get(family.len()..).unwrap_or_default();
        class.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family))
            && rest.starts_with(char::is_uppercase)
    };
    families.iter().find(|f| f.name == name || is_class(f.name)).ok_or_else(|| {
        let known: Vec<_> = families.iter().map(|f| f.name).collect();
        config.error(format!("`model_type` is `{name}`; supported: {}", known.join(", ")))
    })
}
/// The family of a configuration of 2019 that has neither field: the one whose weights, in the sizes
/// that it says, the files hold, with the fewest left over. Of several the one that the directory is
/// called after, which is transformers' only rule; none, if no family fits. An error if several are
/// left.
fn told_by_tensors<'f>(
    directory: &Path,
    from: &Checkpoint,
    config: &Config,
    families: &'f [Family],
) -> Result<Option<&'f Family>> {
    if config.has("model_type") || config.class().is_some() || from.names().next().is_none() {
        return Ok(None);
    }
    let fitting = families.iter().filter_map(|f| Some((left_over(f, directory, from).ok()?, f)));
    let fitting: Vec<(usize, &Family)> = fitting.collect();
    let fewest = fitting.iter().map(|(n, _)| *n).min();
    let fitting: Vec<&Family> =
        fitting.into_iter().filter(|(n, _)| Some(*n) == fewest).map(|(_, f)| f).collect();
    // where nothing fits, what is wrong is said of the family whose name begins the tensors
    let begins = |f: &&Family| !f.prefix.is_empty() && from.names().any(|n| n.starts_with(f.prefix));
    let begun: Vec<&Family> = families.iter().filter(begins).collect();
    let candidates = if fitting.is_empty() { begun } else { fitting };
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_word = |f: &&&Family| name.split(|c: char| !c.is_alphanumeric()).any(|word| word == f.name);
    match (&*candidates, candidates.iter().find(is_word)) {
        ([], _) => Ok(families.iter().find(|f| is_word(&f))),
        ([one], _) | (_, Some(one)) => Ok(Some(one)),
        (several, None) => {
            let names: Vec<_> = several.iter().map(|f| format!("`{}`", f.name)).collect();
            Err(config.error(format!(
                "no `model_type`, and by its tensors it may be {}: add `model_type` to say which",
                names.join(" or ")
            )))
        }
    }
}
/// How many tensors a family has no use for; an error if the files lack one of its own. No value is
/// read.
fn left_over(family: &Family, directory: &Path, from: &Checkpoint) -> Result<usize> {
    let (device, mut none) = (Device::null(1), ParamSet::new());
    let config = Config::open(directory)?.with_aliases(family.aliases)?;
    let mut load = Load::new(from, &device, &mut none).without(family.prefix);
    (family.frozen)(&config, &mut load)?;
    Ok(load.unused().len())
}
