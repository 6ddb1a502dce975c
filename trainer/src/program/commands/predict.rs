//! `engraft predict`.
use super::{Loaded, load_telling};
use crate::program::{
    args::Predict,
    mixed::Mixed,
    print::{note, say},
    routed::Routing,
    setup::{found_files, was_cut},
};
use anyhow::{Result, bail};
use engraft::{
    Error,
    adapters::Setup,
    data::{Content, Dataset},
    learner::Learner,
    reports::{progress::Mode, report::json_line},
    run::evaluate::{Encoded, predict, predict_mixed},
    tasks::{Prediction, Purpose, one_line},
};
use serde_json::{Map, Value, json};
use std::path::Path;

pub fn run(p: &Predict) -> Result<()> {
    if p.grafted.adapter_column.is_some() {
        return mixed(p);
    }
    if let Some(directory) = &p.grafted.route {
        return routed(p, directory);
    }
    let (grafted, answers) = p.grafted.in_turn()?;
    let Loaded { mut learner, task, told, tokenizer, columns } =
        load_telling(&grafted, p.reading.options(), &told(p), &p.run)?;
    if let (true, Some(pair)) = (p.input.is_empty(), &columns.pair) {
        bail!(
            "what was learned reads pairs of texts (`text-pair-column` is {pair}): give them in a file, with --input"
        );
    }
    let generating = p.answering.of(&learner, &tokenizer)?;
    let data = match (&p.input[..], task.content_for(&told)) {
        ([], Content::Words) => Some(Dataset::of_sentences("--text", &p.text)?),
        ([], Content::Questions | Content::Choices) => {
            bail!("the task {} reads more than a text: give a file, with --input", task.name)
        }
        ([], _) => Some(Dataset::of_texts("--text", &p.text)?),
        _ => None,
    };
    let encoded = match data {
        Some(data) => Encoded::new(data, &learner, &tokenizer, Purpose::Predict)?,
        None => {
            let files = found_files((task, &told), &p.input, &columns, Purpose::Predict, p.run.quiet)?;
            let encoded = Encoded::read(&files, &learner, &tokenizer, Purpose::Predict)?;
            note(files.notes(), p.run.quiet);
            encoded
        }
    };
    let encoded = Encoded { generating, ..encoded };
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), p.run.quiet);
    if !answers.is_empty() {
        return in_turn(p, &mut learner, (task.name, &encoded), answers);
    }
    let predictions = predict(&learner, &encoded, p.reading.batch(), Mode::detect(p.run.quiet))?;
    if p.run.json {
        let all: Vec<_> = predictions.into_iter().map(|x| x.json).collect();
        return say(&json_line(&serde_json::json!({"task": task.name, "predictions": all})));
    }
    predictions.iter().try_for_each(|x| say(&x.text))
}

/// Each of several answers for every text.
fn in_turn(
    p: &Predict,
    learner: &mut Learner,
    (task, on): (&str, &Encoded),
    answers: Vec<Setup>,
) -> Result<()> {
    let (mut names, mut said) = (vec![], vec![]);
    for answer in answers {
        names.push(answer.to_string());
        learner.set_setup(answer)?;
        said.push(predict(learner, on, p.reading.batch(), Mode::detect(p.run.quiet))?.into_iter());
    }
    let count = said.first().map_or(0, ExactSizeIterator::len);
    let mut all: Vec<Vec<(&String, Prediction)>> = vec![];
    for _ in 0..count {
        let each = names.iter().zip(&mut said);
        all.push(each.filter_map(|(name, x)| Some((name, x.next()?))).collect());
    }
    if p.run.json {
        let one = |answers: Vec<(&String, Prediction)>| -> Map<String, Value> {
            answers.into_iter().map(|(name, x)| (name.clone(), x.json)).collect()
        };
        let all: Vec<_> = all.into_iter().map(one).collect();
        return say(&json_line(&json!({"task": task, "predictions": all})));
    }
    let mut lines = all.iter().flatten();
    lines.try_for_each(|(name, x)| say(&format!("{}\t{}", one_line(name), x.text)))
}

/// What the task is told besides what others are.
fn told(p: &Predict) -> Map<String, Value> {
    p.best.map(|n| ("best".to_string(), n.into())).into_iter().collect()
}

/// Each row by the adapter that it names.
fn mixed(p: &Predict) -> Result<()> {
    p.answering.refuse_mixed()?;
    if p.best.is_some() {
        return Err(Error::Exclusive { one: "best", other: "adapter-column" }.into());
    }
    let m = Mixed::load(&p.grafted, p.reading.options(), &p.input, Purpose::Predict, &p.run)?;
    let (mode, task) = (Mode::detect(p.run.quiet), m.named[0].1.task().name());
    let predictions = predict_mixed(&m.learners(), &m.of_record, &m.encoded, p.reading.batch(), mode)?;
    let named = m.of_record.iter().map(|n| m.named[*n].0.as_str()).zip(predictions);
    if p.run.json {
        let one = |(name, x): (&str, Prediction)| {
            let mut all = Map::from_iter([("adapter".to_string(), name.into())]);
            all.extend(x.json.as_object().cloned().unwrap_or_default());
            all
        };
        let all: Vec<_> = named.map(one).collect();
        return say(&json_line(&serde_json::json!({"task": task, "predictions": all})));
    }
    named.into_iter().try_for_each(|(name, x)| say(&format!("{}\t{}", one_line(name), x.text)))
}

/// Each text by the adapter of the task that it is like.
fn routed(p: &Predict, directory: &Path) -> Result<()> {
    let r = Routing::load(p, directory)?;
    let mode = Mode::detect(p.run.quiet);
    let said = predict_mixed(&r.learners(), &r.of_text, &r.encoded, p.reading.batch(), mode)?;
    let mut said = said.into_iter();
    let mut all = vec![];
    for (text, routed) in r.texts.iter().zip(&r.routed) {
        let name = &r.router.names()[routed.nearest];
        let adapter = Some(name).filter(|_| !routed.is_unknown);
        let answer = adapter.and_then(|_| said.next());
        if p.run.json {
            let head = json!({"adapter": adapter, "nearest": name, "distance": routed.distance});
            let mut one = head.as_object().cloned().unwrap_or_default();
            one.extend(answer.and_then(|x| x.json.as_object().cloned()).unwrap_or_default());
            all.push(one);
            continue;
        }
        match answer {
            Some(answer) => say(&format!("{}\t{}", one_line(name), answer.text))?,
            None => say(&format!("unknown\t{}", one_line(text)))?,
        }
    }
    if p.run.json {
        say(&json_line(&json!({"predictions": all})))?;
    }
    Ok(())
}
