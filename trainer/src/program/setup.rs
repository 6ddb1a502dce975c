//! From settings to what a run needs: device, backbone, tokenizer, adapter and head, data.
use super::options::{self, Adapter, AdapterInit, Backend, Head, ReductionFactor, Scaling, Settings};
use engraft::{
    BnConfig, Classification, Device, Error, Result,
    adapters::{Placement, Reduction, Start, methods::TrainedScaling},
    data::{Dataset, Labels, Want},
    learner::{Backbone, Classifier, Opening},
    reports::{
        profile::{Recording, check_file, measure},
        progress::{Mode, Progress},
    },
    run::{
        plan::{Work, plan},
        train::Outcome,
    },
    text::{
        batch::Example,
        tokenizer::{Fit, Tokenizer},
    },
};
use engraft_engine::output;
use std::path::Path;

/// Where texts are cut unless said otherwise.
pub const DEFAULT_LENGTH: usize = 128;

/// Opens the device that the settings ask for.
pub fn open(device: Backend, threads: usize) -> Result<Device> {
    Ok(match device {
        Backend::Cpu => Device::cpu(threads),
        Backend::Cuda => Device::cuda(0),
    }
    .map_err(engraft_engine::Error::from)?)
}

/// The bottleneck adapter that the settings describe; none if there is to be none.
pub fn adapter_config(s: &Settings, channels: usize, layers: usize) -> Result<Option<BnConfig>> {
    let mut c = match s.adapter {
        Some(Adapter::Houlsby) => BnConfig::houlsby(),
        Some(Adapter::Pfeiffer) => BnConfig::pfeiffer(),
        Some(Adapter::Parallel) => BnConfig::parallel(),
        Some(Adapter::ScaledParallel) => BnConfig::scaled_parallel(),
        Some(Adapter::None | Adapter::Full) | None => return Ok(None),
    };
    if let Some(width) = s.bottleneck {
        c.reduction_factor = Reduction::to_width(channels, width);
    }
    if let Some(r) = &s.reduction_factor {
        c.reduction_factor = reduction(r, layers)?;
    }
    if let Some(p) = s.placement {
        c.place(match p {
            options::Placement::Attention => Placement::Attention,
            options::Placement::Output => Placement::Output,
            options::Placement::Both => Placement::Both,
        });
    }
    if let Some(f) = &s.non_linearity {
        c.non_linearity = f.clone();
    }
    if let Some(p) = s.adapter_dropout {
        c.dropout = p;
    }
    match s.scaling {
        Some(Scaling::Fixed(x)) => c.scaling = engraft_adapters::Scaling::Fixed(x),
        Some(Scaling::Learned) => c.scaling = engraft_adapters::Scaling::Trained(TrainedScaling::Learned),
        Some(Scaling::Channel) => c.scaling = engraft_adapters::Scaling::Trained(TrainedScaling::Channel),
        None => {}
    }
    c.ln_before = s.ln_before.unwrap_or(c.ln_before);
    c.ln_after = s.ln_after.unwrap_or(c.ln_after);
    if let Some(i) = s.adapter_init {
        c.init_weights = match i {
            AdapterInit::Bert => Start::Bert,
            AdapterInit::MamAdapter => Start::MamAdapter,
            AdapterInit::Houlsby => Start::Houlsby,
            AdapterInit::NearIdentity => Start::NearIdentity,
        };
    }
    for (option, chosen, keep) in [("layers", &s.layers, true), ("leave-out", &s.leave_out, false)] {
        let Some(chosen) = chosen else { continue };
        if chosen.last() >= layers {
            return Err(no_layer(option, chosen.last(), layers));
        }
        c.leave_out = (0..layers).filter(|l| chosen.contains(*l) != keep).collect();
    }
    Ok(Some(c))
}
/// A reduction factor as AdapterHub's configuration has it, for a model of so many layers.
pub fn reduction(r: &ReductionFactor, layers: usize) -> Result<Reduction> {
    if let Some(l) = r.layers.keys().find(|l| **l >= layers) {
        return Err(no_layer("reduction-factor", *l, layers));
    }
    if r.layers.is_empty() {
        return Ok(Reduction::Factor(r.default));
    }
    let one = |(k, v): (&usize, &f64)| (k.to_string(), *v);
    Ok(Reduction::PerLayer(r.layers.iter().map(one).chain([("default".into(), r.default)]).collect()))
}
fn no_layer(option: &'static str, layer: usize, layers: usize) -> Error {
    Error::Option {
        option,
        value: format!("layer {layer}"),
        why: format!("the model has {layers} layers, counted from 0"),
    }
}

/// The backbone that the settings name.
pub fn open_backbone(s: &Settings, device: &Device) -> Result<Backbone> {
    let model = s.model.as_ref().ok_or_else(|| needed("model"))?;
    let how = Opening {
        dropout: s.dropout.map(|p| p as f32),
        storage: s.backbone_dtype.map(Into::into),
        compute: s.backbone_compute.into(),
    };
    match s.adapter == Some(Adapter::Full) {
        true => Backbone::open_to_train(model, device, how),
        false => Backbone::open(model, device, how),
    }
}
/// Its tokenizer, which cuts texts as the settings say.
pub fn tokenizer(s: &Settings, backbone: &Backbone) -> Result<Tokenizer> {
    let (m, name) = (backbone.model(), backbone.directory().display().to_string());
    let fit = Fit {
        model: &name,
        vocabulary: m.info().vocabulary,
        positions: m.info().positions,
        max_length: max_length(s, backbone),
    };
    Tokenizer::load(backbone.directory(), fit)
}
fn max_length(s: &Settings, backbone: &Backbone) -> usize {
    s.max_length.unwrap_or(DEFAULT_LENGTH.min(backbone.model().info().positions.unwrap_or(usize::MAX)))
}
/// The adapter and the head that the settings describe, or those that were saved, on a backbone. `data` is told the labels
/// of a saved head, and gives those of the data with whatever else it has.
pub fn graft<T>(
    s: &Settings,
    backbone: Backbone,
    data: impl FnOnce(Option<Labels>) -> Result<(Labels, T)>,
) -> Result<(Classifier, T)> {
    let m = backbone.model();
    adapter_config(s, m.info().channels, m.info().layers)?; // refused before the data is read
    if s.init.is_some() {
        let c = grafted(s, backbone, &[])?;
        let known = Labels::from_names(c.labels().to_vec())?;
        let (_, data) = data(Some(known))?;
        return Ok((c, data));
    }
    let (labels, data) = data(None)?;
    Ok((grafted(s, backbone, labels.names())?, data))
}
/// The same for labels that are known.
fn grafted(s: &Settings, backbone: Backbone, labels: &[String]) -> Result<Classifier> {
    if let Some(from) = &s.init {
        return backbone.load_classifier(from);
    }
    let m = backbone.model();
    let config = adapter_config(s, m.info().channels, m.info().layers)?;
    let head = match s.head.unwrap_or(Head::Classification) {
        Head::Classification => Classification::new(labels),
        Head::Linear => backbone.linear_head(labels),
    };
    backbone.classifier(s.name.as_deref().unwrap_or("default"), config.map(Into::into), head, s.seed)
}
fn needed(option: &'static str) -> Error {
    Error::Needs { option: "train", needs: option }
}

/// A data file, tokenised.
pub struct Data {
    /// Its rows.
    pub examples: Vec<Example>,
    /// The labels they have.
    pub labels: Labels,
}
pub fn read(path: &Path, s: &Settings, tokenizer: &Tokenizer, known: Option<Labels>) -> Result<Data> {
    let set = Dataset::read(path, &s.columns(), Want::Labels)?;
    let labels = known.map_or_else(|| Labels::learn(&set), Ok)?;
    let ids = labels.ids_of(&set)?;
    Ok(Data { examples: Example::join(tokenizer.encode_all(&set)?, &ids), labels })
}

/// Trains as the settings say, on a model and data that are there: `model`, `train` and `out` must be set.
pub fn train(s: &Settings, mode: Mode) -> Result<Outcome> {
    let file = s.train.as_ref().ok_or_else(|| needed("train"))?;
    s.profile.as_ref().map_or(Ok(()), |f| check_file(f))?;
    output::check_writable(&s.out)?;
    let device = open(s.device, s.threads)?;
    let roofline = s.profile.as_ref().map(|_| measure(&device)).transpose()?;
    let backbone = open_backbone(s, &device)?;
    let tokenizer = tokenizer(s, &backbone)?;
    let (mut classifier, data) = graft(s, backbone, |known| {
        let data = read(file, s, &tokenizer, known)?;
        Ok((data.labels.clone(), data))
    })?;
    if let Some(directory) = &s.cache_prefix {
        classifier.cache_prefix(directory, s.cache_dtype, max_length(s, classifier.backbone()))?;
    }
    let eval = s.eval.as_ref().map(|f| read(f, s, &tokenizer, Some(data.labels.clone()))).transpose()?;
    let eval = eval.as_ref().map(|d| &*d.examples);
    let mut recipe = s.recipe();
    if let Some(budget) = s.memory_budget {
        let null = Device::null(device.threads());
        let mut priced = grafted(s, open_backbone(s, &null)?, data.labels.names())?;
        let plan = plan(&mut priced, &Work::of_run(&recipe, &data.examples, eval), budget.0)?;
        let mut progress = Progress::new(mode, "plan", 0);
        plan.to_string().lines().for_each(|l| progress.line(l));
        recipe.activations = plan.activations();
    }
    let recording = roofline.map(|r| Recording::start(&device, r, 0)).transpose()?;
    let outcome = engraft::run::train::train(&recipe, classifier, &data.examples, eval, recording, mode)?;
    if let (Some(r), Some(file)) = (&outcome.recorded, &s.profile) {
        r.save(file)?;
    }
    Ok(outcome)
}
