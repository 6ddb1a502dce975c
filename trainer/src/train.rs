//! A run of training, from settings to a saved adapter and a report.
use crate::{
    Error, Result,
    batch::{Batch, Batches, Example, Order, Size},
    classifier::{Backbone, Classifier, Opening, Trainer},
    config::{self, Adapter, AdapterInit, Backend, Head, ReductionFactor, Scaling, Settings},
    data::{Dataset, Labels, Want},
    evaluate::evaluate,
    metrics::{Metrics, Scores},
    plan::{Plan, Work, plan},
    profile::{Recording, check_file, measure},
    progress::{Mode, Progress},
    report::{Epoch, Report, peak_rss_bytes},
    schedule::Schedule,
    tokenizer::{Fit, Tokenizer},
};
use engraft_adapters::{BnConfig, HeadConfig, Placement, Reduction, Start, config::TrainedScaling};
use engraft_engine::{Activations, AdamW, Device, output};
use std::{path::Path, time::Instant};

/// Where texts are cut unless said otherwise.
pub const DEFAULT_LENGTH: usize = 128;

/// What a run did, and what it leaves.
pub struct Outcome {
    /// The numbers.
    pub report: Report,
    /// The classifier after the last step; where an earlier one was better, that one is saved.
    pub classifier: Classifier,
}

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
            config::Placement::Attention => Placement::Attention,
            config::Placement::Output => Placement::Output,
            config::Placement::Both => Placement::Both,
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
pub(crate) fn reduction(r: &ReductionFactor, layers: usize) -> Result<Reduction> {
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
pub(crate) fn open_backbone(s: &Settings, device: &Device) -> Result<Backbone> {
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
pub(crate) fn tokenizer(s: &Settings, backbone: &Backbone) -> Result<Tokenizer> {
    let (m, name) = (backbone.model(), backbone.directory().display().to_string());
    let fit = Fit {
        model: &name,
        vocabulary: m.vocabulary(),
        positions: Some(m.positions()),
        max_length: max_length(s, backbone),
    };
    Tokenizer::load(backbone.directory(), fit)
}
fn max_length(s: &Settings, backbone: &Backbone) -> usize {
    s.max_length.unwrap_or(DEFAULT_LENGTH.min(backbone.model().positions()))
}
/// The adapter and the head that the settings describe, or those that were saved, on a backbone. `data` is told the labels
/// of a saved head, and gives those of the data with whatever else it has.
pub(crate) fn graft<T>(
    s: &Settings,
    backbone: Backbone,
    data: impl FnOnce(Option<Labels>) -> Result<(Labels, T)>,
) -> Result<(Classifier, T)> {
    let m = backbone.model();
    adapter_config(s, m.channels(), m.layers())?; // refused before the data is read
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
    let config = adapter_config(s, m.channels(), m.layers())?;
    let head = match s.head.unwrap_or(Head::Classification) {
        Head::Classification => HeadConfig::classification(labels),
        Head::Linear => backbone.linear_head(labels),
    };
    backbone.classifier(s.name.as_deref().unwrap_or("default"), config, head, s.seed)
}
fn needed(option: &'static str) -> Error {
    Error::Needs { option: "train", needs: option }
}

/// The order of an epoch, counted from 0.
pub(crate) fn order(s: &Settings, epoch: u64) -> Order {
    if s.no_shuffle { Order::File } else { Order::Shuffled { seed: s.seed, epoch } }
}

/// A data file, tokenised.
pub(crate) struct Data {
    pub examples: Vec<Example>,
    pub labels: Labels,
}
pub(crate) fn read(path: &Path, s: &Settings, tokenizer: &Tokenizer, known: Option<Labels>) -> Result<Data> {
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
    let plan = match s.memory_budget {
        Some(budget) => {
            let null = Device::null(device.threads());
            let mut priced = grafted(s, open_backbone(s, &null)?, data.labels.names())?;
            Some(plan(&mut priced, &Work::of_run(s, &data.examples, eval), budget.0)?)
        }
        None => None,
    };
    let mut run = Run::new(s, classifier, &data.examples, eval, plan, mode);
    run.recording = roofline.map(|r| Recording::start(&device, r, 0)).transpose()?;
    run.go()
}

/// A run under way.
struct Run<'a> {
    s: &'a Settings,
    classifier: Classifier,
    examples: &'a [Example],
    eval: Option<&'a [Example]>,
    activations: Activations,
    /// Optimiser steps.
    total: u64,
    progress: Progress,
    best: Option<(Scores, Metrics)>,
    worse: u64,
    evaluated: u64,
    saved: bool,
    eval_seconds: f64,
    recording: Option<Recording>,
}

impl<'a> Run<'a> {
    fn new(
        s: &'a Settings,
        classifier: Classifier,
        examples: &'a [Example],
        eval: Option<&'a [Example]>,
        plan: Option<Plan>,
        mode: Mode,
    ) -> Run<'a> {
        let total = Run::steps(s, examples);
        let mut progress = Progress::new(mode, "train", total);
        let activations = match &plan {
            Some(plan) => {
                plan.to_string().lines().for_each(|l| progress.line(l));
                plan.activations()
            }
            None => Activations::all(s.keep()),
        };
        Run {
            s,
            classifier,
            examples,
            eval,
            activations,
            total,
            progress,
            best: None,
            worse: 0,
            evaluated: 0,
            saved: false,
            eval_seconds: 0.0,
            recording: None,
        }
    }
    /// Optimiser steps of the whole run. How many batches of so many tokens there are depends on the order: then every epoch
    /// is counted.
    fn steps(s: &Settings, examples: &[Example]) -> u64 {
        let of = |epoch| {
            Batches::new(examples, s.batch(), order(s, epoch)).len().div_ceil(s.gradient_accumulation) as u64
        };
        if s.no_shuffle || matches!(s.batch(), Size::Examples(_)) {
            return s.total_steps(of(0));
        }
        let most = s.max_steps.unwrap_or(u64::MAX);
        let Some(epochs) = s.epochs else { return most };
        let mut total = 0u64;
        for epoch in 0..epochs {
            if total >= most {
                break;
            }
            total = total.saturating_add(of(epoch));
        }
        total.min(most)
    }
    fn go(mut self) -> Result<Outcome> {
        let (s, total, start) = (self.s, self.total, Instant::now());
        let schedule = Schedule::new(s.schedule, s.warmup(), total);
        let optimiser = AdamW::new(s.weight_decay).with(s.adam_beta1, s.adam_beta2, s.adam_eps);
        let mut trainer = Trainer::new(optimiser, s.clip, s.seed).with_activations(self.activations.clone());
        let mut epochs: Vec<Epoch> = vec![];
        let mut stop = false;
        while !stop && trainer.steps() < total {
            let number = epochs.len() as u64;
            let batches: Vec<Batch> = Batches::new(self.examples, s.batch(), order(s, number)).collect();
            let (began, before) = (Instant::now(), self.eval_seconds);
            let mut epoch = Epoch { loss: 0.0, metrics: None, seconds: 0.0, tokens: 0 };
            let mut seen = 0;
            for step in batches.chunks(s.gradient_accumulation) {
                if trainer.steps() >= total || stop {
                    break;
                }
                let lr = s.lr * schedule.factor(trainer.steps());
                let done = trainer.step(&mut self.classifier, step, lr)?;
                let examples: usize = step.iter().map(Batch::len).sum();
                let tokens: usize = step.iter().map(Batch::tokens).sum();
                epoch.loss += done.loss * examples as f64;
                epoch.tokens += tokens as u64;
                seen += examples;
                self.progress.step(Some(done.loss), tokens as u64);
                if s.eval_every.is_some_and(|n| trainer.steps().is_multiple_of(n)) {
                    epoch.metrics = self.check(trainer.steps())?;
                    stop = self.is_patience_over();
                }
            }
            epoch.loss /= seen.max(1) as f64;
            epoch.seconds = began.elapsed().as_secs_f64() - (self.eval_seconds - before);
            let is_last = stop || trainer.steps() >= total;
            if self.evaluated != trainer.steps() && (s.eval_every.is_none() || is_last) {
                epoch.metrics = self.check(trainer.steps())?;
                stop |= self.is_patience_over();
            }
            if let Some(p) = self.classifier.prefix() {
                p.seal()?;
            }
            self.progress.line(&line(number + 1, &epoch));
            epochs.push(epoch);
        }
        if !self.saved {
            self.save(trainer.steps())?;
        }
        let seconds = start.elapsed().as_secs_f64();
        self.finish(epochs, seconds, trainer.steps())
    }
    /// Evaluates, and saves if it is the best so far.
    fn check(&mut self, step: u64) -> Result<Option<Scores>> {
        let Some(eval) = self.eval else { return Ok(None) };
        self.evaluated = step;
        self.progress.pause();
        let start = Instant::now();
        let metrics = evaluate(&self.classifier, eval, self.s.eval_batch_size, Mode::Quiet)?;
        let scores = metrics.scores;
        if !scores.loss.is_finite() {
            return Err(Error::NotFinite { step, what: "the held-out loss".into() });
        }
        if self.best.as_ref().is_none_or(|(best, _)| scores.better(best, self.s.metric)) {
            self.best = Some((scores, metrics));
            self.worse = 0;
            self.save(step)?;
        } else {
            self.worse += 1;
        }
        self.eval_seconds += start.elapsed().as_secs_f64();
        self.progress.resume();
        Ok(Some(scores))
    }
    fn is_patience_over(&self) -> bool {
        self.s.patience.is_some_and(|p| self.worse >= p)
    }
    fn save(&mut self, step: u64) -> Result<()> {
        if let Some(name) = self.classifier.not_finite()? {
            return Err(Error::NotFinite { step, what: format!("`{name}`") });
        }
        let settings = (config::FILE.into(), self.s.to_toml().into_bytes());
        self.classifier.save_with(&self.s.out, vec![settings])?;
        self.saved = true;
        Ok(())
    }
    fn finish(self, epochs: Vec<Epoch>, train_seconds: f64, steps: u64) -> Result<Outcome> {
        let recorded = self.recording.and_then(|r| r.end(steps));
        if let (Some(r), Some(file)) = (&recorded, &self.s.profile) {
            r.save(file)?;
        }
        let size = self.classifier.size();
        let (tokens, seconds) = epochs.iter().fold((0, 0.0), |(t, s), e| (t + e.tokens, s + e.seconds));
        let report = Report {
            task: "classification".into(),
            metrics: self.best.map(|(_, m)| m),
            epochs,
            train_seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            peak_rss_bytes: peak_rss_bytes(),
            ledger_peak_bytes: self.classifier.backbone().device().ledger().usage().peak_total() as u64,
            trainable_parameters: size.trainable as u64,
            total_parameters: size.total as u64,
            out: self.s.out.clone(),
            profile: recorded.map(|r| r.summary),
        };
        let json = serde_json::to_vec_pretty(&report)
            .map_err(|e| Error::File { path: self.s.out.clone(), why: e.to_string() })?;
        output::write_atomically(self.s.out.join("report.json"), &json)?;
        self.progress.finish();
        Ok(Outcome { report, classifier: self.classifier })
    }
}

fn line(number: u64, e: &Epoch) -> String {
    let scores = match &e.metrics {
        Some(m) => format!(", held-out loss {:.4}, accuracy {:.2} %", m.loss, 100.0 * m.accuracy),
        None => String::new(),
    };
    format!(
        "epoch {number}: loss {:.4}{scores} ({:.1} s, {:.0} tokens/s)",
        e.loss,
        e.seconds,
        e.tokens as f64 / e.seconds.max(1e-9)
    )
}
