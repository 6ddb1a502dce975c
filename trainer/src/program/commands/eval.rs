//! `engraft eval`.
use super::{Loaded, load};
use crate::program::{
    args::Eval,
    mixed::Mixed,
    options::Options,
    print::{note, say},
    setup::{files, was_cut},
};
use anyhow::Result;
use engraft::{
    data::{Content, expand},
    reports::{
        process::peak_rss_bytes,
        progress::Mode,
        report::{Evaluation, json_line},
    },
    run::evaluate::{Encoded, evaluate, evaluate_mixed},
    tasks::{Evaluated, Purpose},
};
use serde_json::{Map, json};
use std::time::Instant;

pub fn run(e: &Eval) -> Result<()> {
    if e.grafted.adapter_column.is_some() {
        return mixed(e);
    }
    let reading = Options { label_column: e.label_column.clone(), ..e.reading.options() };
    let Loaded { learner, task, tokenizer, columns } = load(&e.grafted, reading, &e.run)?;
    let files = files(task, &expand(&e.data)?, &columns, Purpose::Evaluate)?;
    let encoded = Encoded::read(&files, &learner, &tokenizer, Purpose::Evaluate)?;
    note(files.notes(), e.run.quiet);
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), e.run.quiet);
    let start = Instant::now();
    let found = evaluate(&learner, &encoded, e.reading.batch(), Mode::detect(e.run.quiet))?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens = encoded.examples.tokens() as u64;
    let tokens_per_second = tokens as f64 / seconds.max(1e-9);
    let (metrics, peak_rss_bytes) = (found.metrics, peak_rss_bytes());
    let done = Evaluation { metrics, seconds, tokens, tokens_per_second, peak_rss_bytes };
    if e.run.json {
        return say(&json_line(&done));
    }
    let scores = &done.metrics.scores;
    let first = learner.task().metrics().first().and_then(|m| Some(m.show(scores.get(m.name)?)));
    say(&format!(
        "{} {} in {seconds:.1} s ({tokens_per_second:.0} tokens/s): {}, loss {:.4}",
        done.metrics.examples,
        match task.content {
            Content::Texts => "texts",
            Content::Words => "sentences",
            Content::Documents => "documents",
            Content::Answers => "texts with their targets",
        },
        first.unwrap_or_default(),
        scores.get("loss").unwrap_or(f64::NAN)
    ))?;
    found.lines.iter().try_for_each(|line| say(line))
}

/// Each adapter on the rows that name it.
fn mixed(e: &Eval) -> Result<()> {
    let reading = Options { label_column: e.label_column.clone(), ..e.reading.options() };
    let m = Mixed::load(&e.grafted, reading, &e.data, Purpose::Evaluate, &e.run)?;
    let found = evaluate_mixed(
        &m.learners(),
        &m.encoded.iter().collect::<Vec<_>>(),
        e.reading.batch(),
        Mode::detect(e.run.quiet),
    )?;
    let named = m.named.iter().zip(found);
    if e.run.json {
        let one = |((name, _), found): (&(String, _), Evaluated)| (name.clone(), json!(found.metrics));
        return say(&json_line(&json!({"adapters": named.map(one).collect::<Map<_, _>>()})));
    }
    for ((name, learner), found) in named {
        let scores = &found.metrics.scores;
        let all = learner.task().metrics();
        let shown = all.iter().filter_map(|metric| Some(metric.show(scores.get(metric.name)?)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        say(&format!("{name}: {} texts: {shown}", found.metrics.examples))?;
    }
    Ok(())
}
