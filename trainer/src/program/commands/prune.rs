//! `engraft prune`.
use super::{
    Loaded,
    adapters::{settings, write},
    load,
};
use crate::program::{
    args::{Parts, Prune, Worth},
    options::Options,
    print::{note, say},
    setup::{found_files, was_cut},
};
use anyhow::Result;
use engraft::{
    Error,
    adapters::{
        Adapter,
        pruning::{Neurons, effects, magnitudes, prune, widths},
    },
    engine::Gradients,
    learner::Learner,
    reports::{
        metrics::{Metric, Metrics},
        progress::Mode,
        report::json_line,
    },
    run::evaluate::{Encoded, evaluate},
    tasks::Purpose,
    text::example::Example,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What was left out, and what came of it.
struct Row {
    /// As it is shown.
    name: String,
    parameters: usize,
    metrics: Metrics,
    more: Value,
}

pub fn run(p: &Prune) -> Result<()> {
    if let Some(share) = p.shares.iter().find(|share| !(0.0..1.0).contains(*share)) {
        let why = "a share is 0 to below 1".into();
        return Err(Error::Option { option: "shares", value: share.to_string(), why }.into());
    }
    let reading = Options { label_column: p.label_column.clone(), ..p.reading.options() };
    let Loaded { learner, task, told, tokenizer, columns } = load(&p.grafted, reading, &p.run)?;
    let files = found_files((task, &told), &p.data, &columns, Purpose::Evaluate, p.run.quiet)?;
    let encoded = Encoded::read(&files, &learner, &tokenizer, Purpose::Evaluate)?;
    note(files.notes(), p.run.quiet);
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), p.run.quiet);
    let metric = learner.task().metrics().first().copied();
    let metric = metric.ok_or_else(|| Error::Model("the task has no score".into()))?;
    let rows = match p.what {
        Parts::Neurons => neurons(p, learner, &encoded)?,
        Parts::Layers => layers(p, learner, &encoded)?,
    };
    show(p, &metric, &rows)
}

fn score(p: &Prune, learner: &Learner, on: &Encoded) -> Result<Metrics> {
    Ok(evaluate(learner, on, p.reading.batch(), Mode::detect(p.run.quiet))?.metrics)
}

/// The one adapter that is pruned.
fn the_adapter(learner: &Learner) -> Result<&Adapter> {
    let mut all = learner.adapters().iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::Model("there is no adapter to prune".into()).into()),
        _ => Err(Error::Model("adapters that work together are pruned one by one".into()).into()),
    }
}

fn parameters(adapter: &Adapter) -> usize {
    adapter.named().iter().map(|(_, t)| t.elements()).sum()
}

/// Smaller adapters, each evaluated and written.
fn neurons(p: &Prune, learner: Learner, on: &Encoded) -> Result<Vec<Row>> {
    let directory = p.grafted.adapter.as_deref().ok_or(Error::Needs { option: "prune", needs: "adapter" })?;
    let out = p.out.as_deref().ok_or(Error::Needs { option: "prune", needs: "out" })?;
    let worth = match p.by {
        Worth::Magnitude => magnitudes(the_adapter(&learner)?)?,
        Worth::Effect => of_effect(p, &learner, on)?,
    };
    let whole = parameters(the_adapter(&learner)?);
    let (task, host) = (learner.task().name().to_string(), learner.backbone().recorded_host()?);
    let mut rows = vec![Row {
        name: "nothing".into(),
        parameters: whole,
        metrics: score(p, &learner, on)?,
        more: json!({"share": 0.0}),
    }];
    for share in &p.shares {
        let kept = widths(&worth, *share, p.across);
        let adapter = the_adapter(&learner)?;
        let mut all = prune(adapter, &worth, &kept, &host)?;
        if let Some(head) = learner.head() {
            all.extend(head.files(&host)?);
        }
        all.extend(settings(directory)?);
        let own = out.join(format!("without-{}", (100.0 * share).round()));
        write(&own, &all, &[directory])?;
        let labels = learner.task().labels().to_vec();
        let kind = engraft::tasks::TaskType::named(&task)?;
        let smaller =
            learner.backbone().clone().load_learner(&own, |_| (kind.known)(labels, &Default::default()))?;
        rows.push(Row {
            name: format!("{:.0} % of the neurons", 100.0 * share),
            parameters: parameters(the_adapter(&smaller)?),
            metrics: score(p, &smaller, on)?,
            more: json!({"share": share, "widths": kept, "out": own.to_string_lossy()}),
        });
    }
    Ok(rows)
}

/// The mean effects over some batches of the data.
fn of_effect(p: &Prune, learner: &Learner, on: &Encoded) -> Result<Vec<Neurons>> {
    let adapter = the_adapter(learner)?;
    let size = on.examples.len().div_ceil(p.batches).clamp(1, 32);
    let mut sum = magnitudes(adapter)?;
    sum.iter_mut().for_each(|n| n.worth.fill(0.0));
    let all: Vec<Example> = on.examples.iter().take(size * p.batches).collect();
    for batch in all.chunks(size).filter(|batch| batch.iter().any(Example::is_labelled)) {
        let mut gradients = Gradients::new();
        learner.examine(batch, Some(&mut gradients))?;
        let found = effects(adapter, |p| match gradients.get(p) {
            Some(gradient) => Ok(gradient.read().map_err(engraft::engine::Error::from)?),
            None => Ok(vec![0.0; p.tensor().elements()]),
        })?;
        for (sum, found) in sum.iter_mut().zip(found) {
            sum.worth.iter_mut().zip(found.worth).for_each(|(sum, worth)| *sum += worth);
        }
    }
    Ok(sum)
}

/// The adapters of each layer left out by themselves, and of more and more layers, those that matter
/// least first.
fn layers(p: &Prune, mut learner: Learner, on: &Encoded) -> Result<Vec<Row>> {
    let adapter = the_adapter(&learner)?;
    let all: BTreeSet<usize> = adapter.modules().map(|(info, _)| info.site.layer).collect();
    let of_layers = |learner: &Learner, gone: &[usize]| -> Result<usize> {
        let left = the_adapter(learner)?.modules().filter(|(info, _)| !gone.contains(&info.site.layer));
        let mut sum = 0;
        left.for_each(|(_, m)| m.each(&mut |_, t| sum += t.elements()));
        Ok(sum)
    };
    let row = |learner: &mut Learner, name: String, gone: &[usize]| -> Result<Row> {
        learner.skip_layers(gone.to_vec())?;
        let (parameters, metrics) = (of_layers(learner, gone)?, score(p, learner, on)?);
        Ok(Row { name, parameters, metrics, more: json!({"layers": gone}) })
    };
    let mut rows = vec![row(&mut learner, "nothing".into(), &[])?];
    let mut alone = vec![];
    for layer in &all {
        let one = row(&mut learner, format!("layer {layer}"), &[*layer])?;
        alone.push((one.metrics.scores.get("loss").unwrap_or(f64::NAN), *layer));
        rows.push(one);
    }
    alone.sort_by(|a, b| a.0.total_cmp(&b.0));
    let order: Vec<usize> = alone.into_iter().map(|(_, layer)| layer).collect();
    for n in 2..=order.len() {
        let mut gone = order[..n].to_vec();
        gone.sort_unstable();
        let names: Vec<String> = gone.iter().map(usize::to_string).collect();
        rows.push(row(&mut learner, format!("layers {}", names.join(",")), &gone)?);
    }
    Ok(rows)
}

fn show(p: &Prune, metric: &Metric, rows: &[Row]) -> Result<()> {
    if p.run.json {
        let one = |row: &Row| {
            let mut object =
                json!({"left_out": row.name, "parameters": row.parameters, "scores": row.metrics.scores});
            if let (Some(object), Some(more)) = (object.as_object_mut(), row.more.as_object()) {
                object.extend(more.clone());
            }
            object
        };
        return say(&json_line(&json!({"pruned": rows.iter().map(one).collect::<Vec<_>>()})));
    }
    let of = |row: &Row, name: &str| row.metrics.scores.get(name).unwrap_or(f64::NAN);
    let whole = rows.first().map_or(f64::NAN, |row| of(row, metric.name));
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("left out".len());
    say(&format!("{:<width$}  parameters  {}", "left out", metric.name))?;
    for row in rows {
        let lost = of(row, metric.name) - whole;
        let change = if row.name == "nothing" { String::new() } else { format!("  {lost:+.4}") };
        say(&format!("{:<width$}  {:>10}  {:.4}{change}", row.name, row.parameters, of(row, metric.name)))?;
    }
    if let (Parts::Neurons, Some(out)) = (p.what, &p.out) {
        say(&format!("written to {}; `engraft train --init` trains one of them further", out.display()))?;
    }
    Ok(())
}
