//! `engraft eval`.
use super::load;
use crate::program::{args::Eval, print::say};
use anyhow::Result;
use engraft::{
    data::{Dataset, Labels, Want},
    reports::{
        process::peak_rss_bytes,
        progress::Mode,
        report::{Evaluation, json_line},
    },
    run::evaluate::evaluate,
    text::batch::Example,
};
use std::time::Instant;

pub fn run(e: &Eval) -> Result<()> {
    let (classifier, tokenizer) = load(&e.grafted, &e.reading, &e.run)?;
    let data = Dataset::read(&e.data, &e.reading.columns(e.label_column.as_ref()), Want::Labels)?;
    let labels = Labels::from_names(classifier.labels().to_vec())?.ids_of(&data)?;
    let examples = Example::join(tokenizer.encode_all(&data)?, &labels);
    let start = Instant::now();
    let metrics = evaluate(&classifier, &examples, e.reading.batch(), Mode::detect(e.run.quiet))?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens = examples.iter().map(|e| e.ids.len() as u64).sum();
    let tokens_per_second = tokens as f64 / seconds.max(1e-9);
    let done = Evaluation { metrics, seconds, tokens, tokens_per_second, peak_rss_bytes: peak_rss_bytes() };
    if e.run.json {
        return say(&json_line(&done));
    }
    let (m, s) = (&done.metrics, done.metrics.scores);
    say(&format!(
        "{} texts in {seconds:.1} s ({tokens_per_second:.0} tokens/s): accuracy {:.2} %, loss {:.4}",
        m.examples,
        100.0 * s.accuracy,
        s.loss
    ))?;
    say(&format!("macro F1 {:.4}, micro F1 {:.4}, Matthews {:.4}", s.macro_f1, s.micro_f1, s.matthews))?;
    let width = m.classes.iter().map(|c| c.label.chars().count()).max().unwrap_or(0).max(5);
    say(&format!("{:width$}  precision  recall      F1  texts   predicted as", "label"))?;
    for (c, row) in m.classes.iter().zip(&m.confusion) {
        let row: Vec<String> = row.iter().map(|n| format!("{n:>6}")).collect();
        say(&format!(
            "{:width$}  {:>9.4}  {:.4}  {:.4}  {:>5}  {}",
            c.label,
            c.precision,
            c.recall,
            c.f1,
            c.support,
            row.join("")
        ))?;
    }
    Ok(())
}
