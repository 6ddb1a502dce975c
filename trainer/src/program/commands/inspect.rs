//! `engraft inspect`.
use super::{as_recorded, hold};
use crate::program::{
    args::Inspect,
    options::{Backend, Options},
    print::{note_unused, say, warn_of_strangers},
    setup::{bare, open, open_backbone, saved, task},
};
use anyhow::Result;
use engraft::learner::Places;
use engraft_engine::Tensor;
use serde::Serialize;
use std::collections::BTreeMap;

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
}

fn group(places: &Places, named: Vec<(String, &Tensor)>) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::<String, Part>::new();
    named.iter().for_each(|(n, t)| parts.entry(places.part(n)).or_default().add(t));
    parts
}

pub fn run(i: &Inspect) -> Result<()> {
    let directory = i.adapter.as_deref();
    let _held = hold(directory)?;
    let given = Options { model: Some(i.model.clone()), ..i.stored.options() };
    let s = as_recorded(given, directory, false)?;
    let backbone = open_backbone(&s, &open(Backend::Cpu, 1)?)?;
    note_unused(&backbone);
    directory.map_or(Ok(()), |d| warn_of_strangers(&backbone, d, false))?;
    let m = backbone.model();
    let places = Places::of(m.sites());
    let mut storage = BTreeMap::new();
    m.named().iter().for_each(|(_, t)| *storage.entry(t.storage().name()).or_default() += t.bytes());
    let mut table = Table {
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
    };
    if let Some(directory) = directory
        && let Some(adapter) = bare(&backbone, directory)?
    {
        table.trainable_parameters = adapter.named().iter().map(|(_, t)| t.elements()).sum();
        table.total_parameters += table.trainable_parameters;
        table.adapter = group(&places, adapter.named());
    } else if directory.is_some() {
        let (l, kind) = saved(backbone, directory, task(s.task.as_ref())?, &s.told())?;
        let size = l.size();
        (table.trainable_parameters, table.total_parameters) = (size.trainable, size.total);
        table.adapter = group(&places, l.adapters().named());
        l.head().iter().flat_map(|h| h.named()).for_each(|(_, t)| table.head.add(t));
        table.labels = l.task().labels().to_vec();
        table.task = Some(kind.name);
    }
    if i.json {
        return say(&serde_json::to_string(&table)?);
    }
    show(&table)
}

fn show(t: &Table) -> Result<()> {
    say(&format!(
        "{}: {} layers of {} channels, {} tokens, {} positions",
        t.model_type,
        t.layers,
        t.channels,
        t.vocabulary,
        t.positions.map_or("any number of".into(), |n| n.to_string())
    ))?;
    let stored: Vec<String> = t.storage.iter().map(|(d, b)| format!("{d} {b} bytes")).collect();
    say(&format!("stored as {}", stored.join(", ")))?;
    say(&format!("{:<14} {:>12} {:>12} {:>12}", "part", "parameters", "bytes", "adapter"))?;
    for (name, p) in &t.backbone {
        let a = t.adapter.get(name).copied().unwrap_or_default();
        say(&format!("{name:<14} {:>12} {:>12} {:>12}", p.parameters, p.bytes, a.parameters))?;
    }
    if t.task.is_some() {
        say(&format!("{:<14} {:>12} {:>12} {:>12}", "head", "", "", t.head.parameters))?;
    }
    if t.trainable_parameters == 0 {
        return say(&format!("in all: {} parameters", t.total_parameters));
    }
    let share = 100.0 * t.trainable_parameters as f64 / t.total_parameters as f64;
    say(&format!("trainable: {} of {} ({share:.2} %)", t.trainable_parameters, t.total_parameters))?;
    say(&match t.task {
        Some(task) => format!("task: {task}"),
        None => "there is no head".into(),
    })?;
    if !t.labels.is_empty() {
        say(&format!("labels: {}", t.labels.join(", ")))?;
    }
    Ok(())
}
