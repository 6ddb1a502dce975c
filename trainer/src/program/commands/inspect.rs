//! `engraft inspect`.
use super::{as_recorded, hold};
use crate::program::{
    args::Inspect,
    drawing,
    options::{Backend, Options, Settings},
    print::{note_unused, say, warn_of_strangers},
    setup::{is_headless, open, open_backbone, saved, task},
};
use anyhow::Result;
use engraft::{
    Device,
    adapters::{Adapter, Fields, parse},
    learner::{Backbone, Places},
    reports::architecture::Architecture,
};
use engraft_engine::{Checkpoint, ParamSet, Parameters, Tensor};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};

/// Numbers and bytes of one part.
#[derive(Clone, Copy, Default, Serialize)]
struct Part {
    parameters: usize,
    bytes: usize,
}
impl Part {
    fn add(&mut self, t: &Tensor) {
        self.parameters += t.elements();
        self.bytes += t.bytes();
    }
}
#[derive(Serialize)]
struct Table {
    model_type: &'static str,
    channels: usize,
    layers: usize,
    vocabulary: usize,
    positions: Option<usize>,
    storage: BTreeMap<&'static str, usize>,
    backbone: BTreeMap<String, Part>,
    adapter: BTreeMap<String, Part>,
    head: Part,
    trainable_parameters: usize,
    total_parameters: usize,
    task: Option<&'static str>,
    labels: Vec<String>,
    unused: Vec<String>,
    architecture: Architecture,
}
impl Table {
    /// Of the model alone.
    fn of(backbone: &Backbone) -> Table {
        let (m, places) = (backbone.model(), Places::of(backbone.model().sites()));
        let mut storage = BTreeMap::new();
        m.named().iter().for_each(|(_, t)| *storage.entry(t.storage().name()).or_default() += t.bytes());
        Table {
            model_type: m.info().family,
            channels: m.info().channels,
            layers: m.info().layers,
            vocabulary: m.info().vocabulary,
            positions: m.info().positions,
            storage,
            backbone: group(&places, m.named()),
            adapter: BTreeMap::new(),
            head: Part::default(),
            trainable_parameters: 0,
            total_parameters: m.named().iter().map(|(_, t)| t.elements()).sum(),
            task: None,
            labels: vec![],
            unused: backbone.unused().to_vec(),
            architecture: Architecture::of(m, &[]),
        }
    }
    /// The same with an adapter on it.
    fn with(backbone: &Backbone, adapter: &Adapter) -> Table {
        let mut table = Table::of(backbone);
        adapter.visit(&mut |p| table.trainable_parameters += p.tensor().elements());
        let named = adapter.named();
        table.total_parameters += named.iter().map(|(_, t)| t.elements()).sum::<usize>();
        table.adapter = group(&Places::of(backbone.model().sites()), named);
        table.architecture = Architecture::of(backbone.model(), &[adapter]);
        table
    }
}

fn group(places: &Places, named: Vec<(String, &Tensor)>) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::<String, Part>::new();
    named.iter().for_each(|(n, t)| parts.entry(places.part(n)).or_default().add(t));
    parts
}

pub fn run(i: &Inspect) -> Result<()> {
    let adapter = i.adapter.as_deref();
    let directory = adapter.filter(|a| a.exists());
    let _held = hold(directory)?;
    let given = Options { model: Some(i.model.clone()), ..i.stored.options() };
    let s = as_recorded(given, directory, false)?;
    let table = match (adapter, directory) {
        (_, Some(directory)) => of_directory(&s, directory)?,
        (Some(text), None) => of_string(&s, text)?,
        (None, None) => {
            // of a directory the configuration is enough
            let has_no_weights = i.model.join("config.json").exists() && !Checkpoint::is_in(&i.model);
            let device = if has_no_weights { Device::null(1) } else { open(Backend::Cpu, 1)? };
            let backbone = open_backbone(&s, &device)?;
            note_unused(&backbone);
            Table::of(&backbone)
        }
    };
    if i.json {
        return say(&serde_json::to_string(&table)?);
    }
    show(&table, directory.is_some())
}
/// What a configuration would add: nothing is computed, and no value of a weight read.
fn of_string(s: &Settings, text: &Path) -> Result<Table> {
    let text = &text.to_string_lossy();
    let config = parse(text, &Fields::new()).map_err(|e| {
        anyhow::anyhow!("--adapter: there is no directory `{text}`, and as a configuration: {e}")
    })?;
    let backbone = open_backbone(s, &Device::null(1))?;
    note_unused(&backbone);
    let named = backbone.model().named();
    let set = &mut ParamSet::new();
    let adapter = Adapter::new("adapter", config, backbone.base(&named), backbone.device(), set, 0)?;
    Ok(Table::with(&backbone, &adapter))
}
/// With what was saved.
fn of_directory(s: &Settings, directory: &Path) -> Result<Table> {
    let backbone = open_backbone(s, &open(Backend::Cpu, 1)?)?;
    note_unused(&backbone);
    warn_of_strangers(&backbone, directory, false)?;
    if is_headless(&backbone, directory)? {
        let (named, set) = (backbone.model().named(), &mut ParamSet::new());
        let (host, base) = (backbone.host(), backbone.base(&named));
        return Ok(Table::with(&backbone, &Adapter::load(directory, host, base, backbone.device(), set)?));
    }
    let mut table = Table::of(&backbone);
    let (l, kind) = saved(backbone, Some(directory), task(s.task.as_ref())?, &s.told())?;
    let (model, adapters) = (l.backbone().model(), l.adapters());
    let size = l.size();
    (table.trainable_parameters, table.total_parameters) = (size.trainable, size.total);
    table.adapter = group(&Places::of(model.sites()), adapters.named());
    table.architecture = Architecture::of(model, &adapters.iter().collect::<Vec<_>>());
    l.head().iter().flat_map(|h| h.named()).for_each(|(_, t)| table.head.add(t));
    table.labels = l.task().labels().to_vec();
    table.task = Some(kind.name);
    Ok(table)
}

fn show(t: &Table, is_saved: bool) -> Result<()> {
    let positions = t.positions.map_or("any number of".into(), |n| n.to_string());
    let (family, layers, channels, tokens) = (t.model_type, t.layers, t.channels, t.vocabulary);
    say(&format!(
        "{family}: {layers} layers of {channels} channels, {tokens} tokens, {positions} positions"
    ))?;
    let stored: Vec<String> = t.storage.iter().map(|(d, b)| format!("{d} {b} bytes")).collect();
    say(&format!("stored as {}", stored.join(", ")))?;
    say("")?;
    drawing::lines(&t.architecture).iter().try_for_each(|line| say(line))?;
    say("")?;
    if is_saved {
        say(&format!("{:<14} {:>12} {:>12} {:>12}", "part", "parameters", "bytes", "adapter"))?;
        for (name, p) in &t.backbone {
            let a = t.adapter.get(name).copied().unwrap_or_default();
            say(&format!("{name:<14} {:>12} {:>12} {:>12}", p.parameters, p.bytes, a.parameters))?;
        }
        if t.task.is_some() {
            say(&format!("{:<14} {:>12} {:>12} {:>12}", "head", "", "", t.head.parameters))?;
        }
    }
    if t.trainable_parameters == 0 {
        return say(&format!("in all: {} parameters", t.total_parameters));
    }
    let share = 100.0 * t.trainable_parameters as f64 / t.total_parameters as f64;
    say(&format!("trainable: {} of {} ({share:.2} %)", t.trainable_parameters, t.total_parameters))?;
    if !is_saved {
        return Ok(());
    }
    say(&match t.task {
        Some(task) => format!("task: {task}"),
        None => "there is no head".into(),
    })?;
    if !t.labels.is_empty() {
        say(&format!("labels: {}", t.labels.join(", ")))?;
    }
    Ok(())
}
