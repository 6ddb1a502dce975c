//! `engraft predict`.
use super::{Loaded, load};
use crate::program::{args::Predict, print::say, setup::records};
use anyhow::{Result, bail};
use engraft::{
    data::{Content, Dataset},
    reports::{progress::Mode, report::json_line},
    run::evaluate::{Encoded, predict},
    tasks::Purpose,
};

pub fn run(p: &Predict) -> Result<()> {
    let Loaded { learner, task, tokenizer, columns } = load(&p.grafted, p.reading.options(), &p.run)?;
    if let (None, Some(pair)) = (&p.input, &columns.pair) {
        bail!(
            "what was learned reads pairs of texts (`text-pair-column` is {pair}): give them in a file, with --input"
        );
    }
    let data = match (&p.input, task.content) {
        (Some(file), _) => records(task, file, &columns, Purpose::Predict)?,
        (None, Content::Words) => Dataset::of_sentences("--text", &p.text)?,
        (None, Content::Texts | Content::Documents) => Dataset::of_texts("--text", &p.text)?,
    };
    let encoded = Encoded::new(data, &learner, &tokenizer, Purpose::Predict)?;
    let predictions = predict(&learner, &encoded, p.reading.batch(), Mode::detect(p.run.quiet))?;
    if p.run.json {
        let all: Vec<_> = predictions.into_iter().map(|x| x.json).collect();
        return say(&json_line(&serde_json::json!({"task": task.name, "predictions": all})));
    }
    predictions.iter().try_for_each(|x| say(&x.text))
}
