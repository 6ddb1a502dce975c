//! Texts each of which is answered by the adapter of the task that it is like.
use super::args::Predict;
use super::mixed::known;
use super::options::{Options, Settings};
use super::print::{note, note_unused, warn_of_strangers};
use super::setup::{max_length, open, open_backbone, saved, tokenizer, was_cut, whole};
use anyhow::Result;
use engraft::{
    Error,
    data::{Content, Dataset, Files, Want, expand},
    learner::{Backbone, Learner},
    reports::progress::Mode,
    routing::{Routed, Router},
    run::evaluate::Encoded,
    tasks::Purpose,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What is asked, and who answers.
pub struct Routing {
    pub router: Router,
    /// The texts, and what the router says of each.
    pub texts: Vec<String>,
    pub routed: Vec<Routed>,
    /// The adapters that answer for some, each with its texts.
    answering: Vec<Learner>,
    pub encoded: Vec<Encoded>,
    /// For each text that is like a task the number of its adapter.
    pub of_text: Vec<usize>,
}

impl Routing {
    /// Those who answer.
    pub fn learners(&self) -> Vec<&Learner> {
        self.answering.iter().collect()
    }
    /// Reads texts, asks the router, and loads the adapters that it names.
    pub fn load(p: &Predict, directory: &Path) -> Result<Routing> {
        let known = known(&p.grafted.adapters)?;
        let given = Options { model: Some(p.grafted.model.clone()), ..p.grafted.stored.options() };
        let s = Settings { quiet: p.run.quiet, ..given.over(p.reading.options()).settle()? };
        let backbone = open_backbone(&s, &open(p.run.device, p.run.threads)?)?;
        if !s.quiet {
            note_unused(&backbone);
        }
        let router = Router::load(directory, &backbone)?;
        if let Some(name) = router.names().iter().find(|name| !known.contains_key(*name)) {
            let there: Vec<&str> = known.keys().map(String::as_str).collect();
            let why = format!("the router knows the task `{name}`, and --adapters has {}", there.join(", "));
            let value = directory.display().to_string();
            return Err(Error::Option { option: "route", value, why }.into());
        }
        let data = match &p.input[..] {
            [] => Dataset::of_texts("--text", &p.text)?,
            input => read(input, &s)?,
        };
        let routing_tokens = tokenizer(&backbone, router.max_length(), &s)?;
        let routed = router.route(&backbone, &routing_tokens, &data, p.reading.batch())?;
        let mut of_each = BTreeMap::<usize, Vec<usize>>::new();
        for (text, routed) in routed.iter().enumerate().filter(|(_, routed)| !routed.is_unknown) {
            of_each.entry(routed.nearest).or_default().push(text);
        }
        let (mut answering, mut encoded, mut number) = (vec![], vec![], vec![None; data.len()]);
        for (task, which) in of_each {
            let name = &router.names()[task];
            let within = |e: Error| e.within("adapter", name);
            which.iter().for_each(|text| number[*text] = Some(answering.len()));
            let (one, of_it) = answer(&s, &backbone, &known[name], data.part(&which)).map_err(within)?;
            answering.push(one);
            encoded.push(of_it);
        }
        let texts = data.records.iter().map(|record| record.text().into_owned()).collect();
        let of_text = number.into_iter().flatten().collect();
        Ok(Routing { router, texts, routed, answering, encoded, of_text })
    }
}

/// The texts of files.
fn read(input: &[PathBuf], s: &Settings) -> engraft::Result<Dataset> {
    let want = Want { content: Content::Texts, labels: false };
    let files = Files::new(&expand(input, Purpose::Predict, Mode::detect(s.quiet))?, &s.columns(), want)?;
    let all = whole(&files)?;
    note(files.notes(), s.quiet);
    Ok(all)
}

/// A saved adapter with its head, and its texts as it reads them.
fn answer(
    s: &Settings,
    backbone: &Backbone,
    directory: &Path,
    data: Dataset,
) -> engraft::Result<(Learner, Encoded)> {
    warn_of_strangers(backbone, directory, s.quiet)?;
    let recorded = Options::recorded(directory)?.settle()?;
    let (mut learner, kind) = saved(backbone.clone(), Some(directory), None, &recorded.told())?;
    learner.set_compat(recorded.compat.into());
    let data = match kind.content {
        Content::Texts | Content::LabelSets | Content::Values => data,
        Content::Words => {
            let texts: Vec<String> = data.records.iter().map(|record| record.text().into_owned()).collect();
            Dataset::of_sentences(&data.path.to_string_lossy(), &texts)?
        }
        Content::Documents | Content::Answers | Content::Questions | Content::Choices => {
            let why = format!("it does {}, and what it reads is no text by itself", kind.name);
            return Err(Error::Model(why));
        }
    };
    let tokens = tokenizer(backbone, max_length(s.max_length.or(recorded.max_length), backbone), &recorded)?;
    let encoded = Encoded::new(data, &learner, &tokens, Purpose::Predict)?;
    note(was_cut(&encoded, learner.task(), tokens.max_length()), s.quiet);
    Ok((learner, encoded))
}
