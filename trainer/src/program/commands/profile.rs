//! `engraft profile`.
use crate::program::{
    args::Profile,
    options::Settings,
    print::{say, tell},
    setup::{files, learn, learner, length, max_length, open, open_backbone, tokenizer},
};
use anyhow::{Context, Result, bail};
use engraft::{
    demo,
    reports::{
        place::check_file,
        profile::{Recorded, measure},
        progress::Mode,
        report::json_line,
    },
    run::{
        anew::MadeAnew,
        evaluate::Encoded,
        profile::{StepCount, batches_of, random_batches, run as profile},
        source::Source,
    },
    tasks::{Purpose, TaskType},
};

pub fn run(p: &Profile) -> Result<()> {
    let mut s = p.settings()?;
    if s.variant.is_some() {
        bail!("--setup is a run for each of its members: profile one of them");
    }
    s.expand(Mode::detect(s.quiet))?;
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
    let mode = Mode::detect(s.quiet);
    let steps = StepCount { steps: p.steps, warmup: p.warmup };
    let Some(paths) = &s.train else {
        let (length, vocabulary) = (length(&backbone, p.length)?, backbone.model().info().vocabulary);
        let two = || ["0", "1"].map(String::from).to_vec();
        let (mut learner, kind) = learner(s, backbone, |kind| (kind.known)(two(), &s.told()))?;
        let recipe = s.recipe();
        let labels = match learner.task().labels() {
            [] => two(),
            labels => labels.to_vec(),
        };
        let sampled = (kind.known)(labels, &s.told())?;
        let batches = random_batches(&recipe, &*sampled, length, vocabulary);
        return profile(&recipe, &mut learner, batches, roofline, &steps, mode);
    };
    let tokenizer = tokenizer(&backbone, max_length(s.max_length, &backbone), s)?;
    let open = |kind: &TaskType| files((kind, &s.told()), paths, &s.columns(), Purpose::Train);
    let (mut learner, kind) = learner(s, backbone, |kind| Ok(learn(kind, &open(kind)?, &s.told())?.0))?;
    let files = open(kind)?;
    let Encoded { examples, .. } = Encoded::read(&files, &learner, &tokenizer, Purpose::Train)?;
    let (recipe, task) = (s.recipe(), (kind.known)(learner.task().labels().to_vec(), &s.told())?);
    let anew = task.anew(&tokenizer)?.map(|by| MadeAnew::new(&examples, by, s.seed));
    let source: &dyn Source = anew.as_ref().map_or(&examples, |anew| anew);
    profile(&recipe, &mut learner, batches_of(&recipe, source), roofline, &steps, mode)
}
