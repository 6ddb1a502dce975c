//! `engraft forward`: how anybody checks engraft against anything.
use super::{as_recorded, hold};
use crate::program::{
    args::{Forward, skipped},
    options::{AdapterChoice, Options},
    print::{note_unused, warn_of_strangers},
    setup::{bare, open, open_backbone, saved, task},
};
use anyhow::{Context, Result, anyhow, bail};
use engraft::{
    adapters::Active,
    tasks::{Given, Task},
    text::example::{Example, Reads},
};
use engraft_engine::{
    Gradients,
    checkpoint::{TensorData, save},
};
use engraft_models::Tokens;
use ndarray::Array2;
use serde::Deserialize;
use std::path::Path;

/// The file of `--ids`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    input_ids: Vec<Vec<u32>>,
    token_type_ids: Option<Vec<Vec<u32>>>,
    /// What the decoder of an encoder-decoder reads, for each sequence; behind the model's start
    /// token what its task has there, if they are missing.
    decoder_input_ids: Option<Vec<Vec<u32>>>,
    /// A number or a list for each sequence, as the task wants.
    labels: Option<Vec<Given>>,
}
impl Input {
    fn tokens(&self) -> Result<Tokens> {
        let mut tokens = Tokens::new(&self.input_ids);
        if let Some(types) = &self.token_type_ids {
            if types.len() != self.input_ids.len() {
                bail!("`token_type_ids` has {} lists, `input_ids` {}", types.len(), self.input_ids.len());
            }
            if let Some(i) = (0..types.len()).find(|i| types[*i].len() != self.input_ids[*i].len()) {
                bail!("list {i}: {} token types for {} ids", types[i].len(), self.input_ids[i].len());
            }
            tokens.types = types.concat();
        }
        if tokens.lengths.is_empty() {
            bail!("`input_ids` is empty");
        }
        if let Some(targets) = &self.decoder_input_ids {
            if targets.len() != self.input_ids.len() {
                let (n, inputs) = (targets.len(), self.input_ids.len());
                bail!("`decoder_input_ids` has {n} lists, `input_ids` {inputs}");
            }
            tokens = tokens.with_target(targets);
        }
        if let Some(n) = self.labels.as_ref().map(Vec::len).filter(|n| *n != tokens.lengths.len()) {
            bail!("{n} labels for {} sequences", tokens.lengths.len());
        }
        Ok(tokens)
    }
    /// The sequences, as a task reads them.
    fn examples(&self, task: &dyn Task) -> Result<Vec<Example>> {
        let one = |i: usize| {
            let example = task.example(self.input_ids[i].clone(), self.labels.as_ref().map(|l| &l[i]));
            let mut example = example.map_err(|why| anyhow!("sequence {i}: {why}"))?;
            if let Some(types) = &self.token_type_ids {
                example.types = types[i].clone();
            }
            if let Some(target) = &self.decoder_input_ids {
                let Reads::Decoded { .. } = example.reads else {
                    bail!("the decoder reads the input for the task {}: no `decoder_input_ids`", task.name());
                };
                let Some((start, rest)) = target[i].split_first() else {
                    bail!("sequence {i}: its list of `decoder_input_ids` is empty");
                };
                example.reads = Reads::Decoded { start: Some(*start), tokens: rest.to_vec() };
                if !example.labels.is_empty() && example.labels.len() != target[i].len() {
                    let (n, read) = (example.labels.len(), target[i].len());
                    bail!("sequence {i}: {n} labels for {read} tokens of the decoder");
                }
            }
            Ok(example)
        };
        (0..self.input_ids.len()).map(one).collect()
    }
}

fn tensor(a: &Array2<f32>) -> TensorData<'static> {
    TensorData::f32(&a.iter().copied().collect::<Vec<_>>(), a.shape())
}

/// Where the rows of each sequence end, behind a 0.
fn ends(rows: impl Iterator<Item = usize>) -> (String, TensorData<'static>) {
    let mut ends = vec![0i64];
    rows.for_each(|n| ends.push(ends[ends.len() - 1] + n as i64));
    ("cu_seqlens".into(), TensorData::i64(&ends, &[ends.len()]))
}

pub fn run(f: &Forward) -> Result<()> {
    let text = std::fs::read_to_string(&f.ids).with_context(|| format!("cannot read {}", f.ids.display()))?;
    let input: Input = serde_json::from_str(&text).with_context(|| f.ids.display().to_string())?;
    let tokens = input.tokens().with_context(|| f.ids.display().to_string())?;
    let directory = f.adapter.as_deref();
    let _held = hold(directory)?;
    let given = Options {
        model: Some(f.model.clone()),
        task: f.task.clone(),
        compat: f.compat,
        ..f.stored.options()
    };
    let mut s = as_recorded(given, directory, false)?;
    let asked = task(s.task.as_ref())?;
    let alone = directory.is_none() && asked.is_some();
    let is_full = |a: &Path| !a.join("adapter_config.json").exists() && a.join("model.safetensors").exists();
    if f.grad && (alone || directory.is_some_and(is_full)) {
        s.adapter = Some(AdapterChoice::Full);
    }
    let backbone = open_backbone(&s, &open(f.device, f.threads)?)?;
    note_unused(&backbone);
    directory.map_or(Ok(()), |d| warn_of_strangers(&backbone, d, false))?;
    let skipped = skipped(f.skip_layers.as_ref(), backbone.model().info().layers)?;
    let blame = |e: engraft::Error| match e {
        engraft::Error::Models(engraft_models::Error::Input(_)) => {
            anyhow::Error::from(e).context(f.ids.display().to_string())
        }
        e => e.into(),
    };
    let fills = asked.is_some_and(|t| (t.known)(vec![], &s.told()).is_ok_and(|task| task.fills()));
    let headless = f.adapter.as_ref().filter(|_| !(fills && backbone.model().info().has_lm_head));
    let without_head = headless.map(|d| bare(&backbone, d)).transpose()?.flatten();
    if (f.adapter.is_none() && !alone) || without_head.is_some() {
        if f.grad || input.labels.is_some() {
            bail!("`labels` and --grad need a head: pass --adapter with a directory that has one");
        }
        let hidden = match &without_head {
            Some(adapter) => {
                let active = Active::for_all(adapter, tokens.lengths.len()).without_layers(skipped.clone());
                backbone.hidden_states_with(&active, &tokens)
            }
            None => backbone.hidden_states(&tokens),
        };
        let hidden = hidden.map_err(blame)?;
        let out = [ends(tokens.outputs().iter().copied()), ("last_hidden_state".into(), tensor(&hidden))];
        return Ok(save(&f.out, &out)?);
    }
    let (mut learner, _) = saved(backbone, directory, asked, &s.told())?;
    learner.set_compat(s.compat.into());
    learner.skip_layers(skipped)?;
    if f.grad && input.labels.is_none() {
        bail!("{}: --grad needs `labels`", f.ids.display());
    }
    let examples = input.examples(learner.task()).with_context(|| f.ids.display().to_string())?;
    if f.grad && !examples.iter().any(Example::is_labelled) {
        bail!("{}: --grad needs a label that is not negative", f.ids.display());
    }
    let mut gradients = Gradients::new();
    let r = learner.examine(&examples, f.grad.then_some(&mut gradients)).map_err(blame)?;
    let rows = examples.iter().map(|e| if e.reads.decoded() > 0 { e.rows() } else { e.ids.len() });
    let mut out = vec![ends(rows), ("last_hidden_state".into(), tensor(&r.hidden))];
    out.push(("logits".into(), tensor(&r.logits)));
    out.extend(r.loss.map(|l| ("loss".into(), TensorData::f32(&[l], &[]))));
    let mut read = Ok(());
    learner.visit(&mut |p| {
        if let Some(g) = gradients.get(p) {
            match g.read::<f32>() {
                Ok(v) => out.push((format!("grad.{}", p.name()), TensorData::f32(&v, p.tensor().shape()))),
                Err(e) => read = Err(engraft_engine::Error::from(e)),
            }
        }
    });
    read?;
    Ok(save(&f.out, &out)?)
}
