//! `engraft eval`.
use super::{Loaded, load};
use crate::program::{
    args::Eval,
    mixed::Mixed,
    print::{note, say},
    setup::{found_files, was_cut},
};
use anyhow::Result;
use engraft::{
    Error,
    adapters::Setup,
    data::Content,
    learner::Learner,
    reports::{
        by_example::{self, ExamplePrediction},
        place::check_file,
        process::peak_rss_bytes,
        progress::Mode,
        report::{Evaluation, json_line},
    },
    run::{
        evaluate::{Encoded, Found, evaluate, evaluate_mixed},
        generating::Generating,
    },
    tasks::Purpose,
    text::tokenizer::Tokenizer,
};
use serde_json::{Map, json};
use std::sync::Arc;

pub fn run(e: &Eval) -> Result<()> {
    e.predictions.as_ref().map_or(Ok(()), |file| check_file(file))?;
    if e.grafted.adapter_column.is_some() {
        return mixed(e);
    }
    let reading = e.labels.over(e.reading.options());
    let (grafted, answers) = e.grafted.in_turn()?;
    if let (Some(file), false) = (&e.predictions, answers.is_empty()) {
        let why = "--setup gives several answers for each text, and a file has one".into();
        let value = file.display().to_string();
        return Err(Error::Option { option: "predictions", value, why }.into());
    }
    let Loaded { mut learner, task, told, tokenizer, columns } = load(&grafted, reading, &e.run)?;
    let generating = e.generating(&learner, &tokenizer)?;
    let files = found_files((task, &told), &e.data, &columns, Purpose::Evaluate, e.run.quiet)?;
    let encoded = match e.predictions {
        Some(_) => Encoded::read_by_example(&files, &learner, &tokenizer)?,
        None => Encoded::read(&files, &learner, &tokenizer, Purpose::Evaluate)?,
    };
    let encoded = Encoded { generating, ..encoded };
    note(files.notes(), e.run.quiet);
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), e.run.quiet);
    if !answers.is_empty() {
        return in_turn(e, &mut learner, &encoded, answers);
    }
    let found = evaluate(&learner, &encoded, e.reading.batch(), Mode::detect(e.run.quiet))?;
    let seconds = found.seconds;
    e.predictions.as_ref().map_or(Ok(()), |file| by_example::write(file, &found.examples))?;
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
        match learner.task().content() {
            Content::Texts | Content::LabelSets | Content::Values => "texts",
            Content::Words => "sentences",
            Content::Documents => "documents",
            Content::Answers => "texts with their targets",
            Content::Questions => "questions",
            Content::Choices => "texts with choices",
        },
        first.unwrap_or_default(),
        scores.get("loss").unwrap_or(f64::NAN)
    ))?;
    found.lines.iter().try_for_each(|line| say(line))
}

impl Eval {
    /// What generates the answers that are compared with targets; it does unless something else is
    /// said.
    fn generating(
        &self,
        learner: &Learner,
        tokenizer: &Arc<Tokenizer>,
    ) -> engraft::Result<Option<Arc<Generating>>> {
        let is_off = self.predict_with_generate == Some(false);
        match self.answering.given().filter(|_| is_off) {
            Some((option, _)) => return Err(Error::Needs { option, needs: "predict-with-generate" }),
            None if is_off => return Ok(None),
            None => {}
        }
        let found = self.answering.of(learner, tokenizer)?;
        if found.is_none() && self.predict_with_generate.is_some() {
            let why = format!("the task {} generates no answers", learner.task().name());
            return Err(Error::Option { option: "predict-with-generate", value: "true".into(), why });
        }
        Ok(found)
    }
}

/// Each of several answers for all texts.
fn in_turn(e: &Eval, learner: &mut Learner, on: &Encoded, answers: Vec<Setup>) -> Result<()> {
    let mut found = vec![];
    for answer in answers {
        let name = answer.to_string();
        learner.set_setup(answer)?;
        found.push((name, evaluate(learner, on, e.reading.batch(), Mode::detect(e.run.quiet))?));
    }
    if e.run.json {
        let one = |(name, found): (String, Found)| (name, json!(found.metrics));
        return say(&json_line(&json!({"answers": found.into_iter().map(one).collect::<Map<_, _>>()})));
    }
    found.iter().try_for_each(|(name, found)| say(&scores(name, learner, found)))
}
/// What was found of somebody, in a line.
fn scores(name: &str, learner: &Learner, found: &Found) -> String {
    let all = learner.task().metrics().iter();
    let shown = all.filter_map(|metric| Some(metric.show(found.metrics.scores.get(metric.name)?)));
    format!("{name}: {} texts: {}", found.metrics.examples, shown.collect::<Vec<_>>().join(", "))
}

/// Each adapter on the rows that name it.
fn mixed(e: &Eval) -> Result<()> {
    e.answering.refuse_mixed()?;
    let reading = e.labels.over(e.reading.options());
    let mut m = Mixed::load(&e.grafted, reading, &e.data, Purpose::Evaluate, &e.run)?;
    m.encoded.iter_mut().for_each(|encoded| encoded.by_example = e.predictions.is_some());
    let found = evaluate_mixed(
        &m.learners(),
        &m.encoded.iter().map(Some).collect::<Vec<_>>(),
        e.reading.batch(),
        Mode::detect(e.run.quiet),
    )?;
    let mut found: Vec<Found> = found.into_iter().flatten().collect();
    if let Some(file) = &e.predictions {
        let mut each: Vec<_> =
            found.iter_mut().map(|f| std::mem::take(&mut f.examples).into_iter()).collect();
        let rows = (1..).zip(&m.of_record);
        let row = |(row, n): (usize, &usize)| {
            let (id, adapter) = (row.to_string(), Some(m.named[*n].0.clone()));
            Some(ExamplePrediction { id, adapter, ..each[*n].next()? })
        };
        by_example::write(file, &rows.filter_map(row).collect::<Vec<_>>())?;
    }
    let named = m.named.iter().zip(found);
    if e.run.json {
        let one = |((name, _), found): (&(String, _), Found)| (name.clone(), json!(found.metrics));
        return say(&json_line(&json!({"adapters": named.map(one).collect::<Map<_, _>>()})));
    }
    let mut named = named;
    named.try_for_each(|((name, learner), found)| say(&scores(name, learner, &found)))
}
