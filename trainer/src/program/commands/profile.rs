//! `engraft profile`.
use crate::program::{
    args::Profile,
    options::Settings,
    print::{say, tell},
    setup::{DEFAULT_LENGTH, graft, open, open_backbone, read, tokenizer},
};
use anyhow::{Context, Result};
use engraft::{
    Error,
    data::Labels,
    demo,
    learner::Backbone,
    reports::{
        profile::{Recorded, check_file, measure},
        progress::Mode,
        report::json_line,
    },
    run::profile::{Plan, batches_of, random_batches, run as profile},
};

pub fn run(p: &Profile) -> Result<()> {
    let mut s = p.settings()?;
    if let Some(file) = &p.trace {
        check_file(file)?;
    }
    // the built-in backbone, while it is profiled
    let folder = tempfile::tempdir().context("a temporary directory")?;
    if s.model.is_none() {
        s.model = Some(demo::unpack_backbone(folder.path())?);
    }
    let recorded = take(&s, p)?;
    if let Some(file) = &p.trace {
        recorded.save(file)?;
        if !s.quiet {
            tell(&format!("trace in {}; https://ui.perfetto.dev opens it", file.display()));
        }
    }
    if !s.quiet {
        say(&recorded.summary.to_string())?;
    }
    if s.json {
        say(&json_line(&recorded.summary))?;
    }
    Ok(())
}

/// Takes the steps, on the settings' data, or on random tokens if they name none.
fn take(s: &Settings, p: &Profile) -> engraft::Result<Recorded> {
    let device = open(s.device, s.threads)?;
    let roofline = measure(&device)?;
    let backbone = open_backbone(s, &device)?;
    let (recipe, mode) = (s.recipe(), Mode::detect(s.quiet));
    let plan = Plan { steps: p.steps, warmup: p.warmup };
    match &s.train {
        Some(file) => {
            let tokenizer = tokenizer(s, &backbone)?;
            let (mut classifier, examples) = graft(s, backbone, |known| {
                let data = read(file, s, &tokenizer, known)?;
                Ok((data.labels, data.examples))
            })?;
            profile(&recipe, &mut classifier, batches_of(&recipe, &examples), roofline, &plan, mode)
        }
        None => {
            let (length, vocabulary) = (length(&backbone, p.length)?, backbone.model().info().vocabulary);
            let (mut classifier, classes) = graft(s, backbone, |known| {
                let labels = known.map_or_else(|| Labels::from_names(vec!["0".into(), "1".into()]), Ok)?;
                let classes = labels.names().len();
                Ok((labels, classes))
            })?;
            let batches = random_batches(&recipe, length, vocabulary, classes);
            profile(&recipe, &mut classifier, batches, roofline, &plan, mode)
        }
    }
}

/// Tokens of each random text: as many as training would keep of a text, if nothing is said.
fn length(backbone: &Backbone, given: Option<usize>) -> engraft::Result<usize> {
    let positions = backbone.model().info().positions.unwrap_or(usize::MAX);
    let length = given.unwrap_or(DEFAULT_LENGTH.min(positions));
    if !(1..=positions).contains(&length) {
        let why = format!("{} takes 1 to {positions} tokens", backbone.directory().display());
        return Err(Error::Option { option: "length", value: length.to_string(), why });
    }
    Ok(length)
}
