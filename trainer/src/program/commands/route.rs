//! `engraft route`.
use crate::program::{
    args::Route,
    options::Settings,
    print::{note, note_unused, say},
    setup::{files, max_length, needed, open, open_backbone, task, tokenizer, whole},
};
use anyhow::Result;
use engraft::{
    Error,
    data::{Dataset, expand},
    engine::output::{self, Commit},
    learner::Backbone,
    reports::{
        progress::{Mode, Progress},
        report::json_line,
    },
    routing::{Moments, Router, features, split},
    tasks::{Purpose, TASKS},
    text::tokenizer::Tokenizer,
};
use ndarray::{Array2, ArrayView2, Axis};
use serde_json::json;
use std::path::PathBuf;

pub fn run(r: &Route) -> Result<()> {
    let s = Settings { quiet: r.run.quiet, ..r.settings()? };
    let tasks = s.tasks()?;
    if tasks.len() < 2 {
        let (value, why) = (format!("{}", tasks.len()), "a router chooses among two tasks or more".into());
        return Err(Error::Option { option: "tasks", value, why }.into());
    }
    output::check_writable(&r.out)?;
    let backbone = open_backbone(&s, &open(r.run.device, r.run.threads)?)?;
    if !r.run.quiet {
        note_unused(&backbone);
    }
    let max_length = max_length(s.max_length, &backbone);
    let texts = Texts { r, backbone: &backbone, tokenizer: tokenizer(&backbone, max_length, &s)? };
    let mut moments = Moments::new(tasks.len(), backbone.model().info().channels);
    let (mut names, mut held_out, mut eval) = (vec![], vec![], vec![]);
    for (number, (name, of)) in tasks.iter().enumerate() {
        let within = |e: Error| e.within("task", name);
        let paths = of.train.as_deref().ok_or_else(|| within(needed("train")))?;
        let (learned, others) = texts.learned(of, paths, name).map_err(within)?;
        moments.add(number, learned.view());
        let tested =
            of.eval.as_deref().map(|paths| texts.read(of, paths, name)).transpose().map_err(within)?;
        eval.push(tested.unwrap_or_else(|| others.clone()));
        held_out.push(others);
        names.push(name.clone());
    }
    let router = Router::new(names, moments.gaussians()?, &held_out, (&backbone, r.features, max_length))?;
    let tested = router.test(&eval);
    let mut report = tested.json(&router);
    let on: Vec<_> =
        tasks.iter().map(|(_, of)| if of.eval.is_some() { "eval" } else { "held out" }).collect();
    report["tested_on"] = json!(on);
    let text = serde_json::to_vec_pretty(&report).map_err(|e| Error::file(&r.out, e.to_string()))?;
    let mut commit = Commit::begin(&r.out)?;
    for (name, bytes) in [router.file()?, ("report.json".into(), text)] {
        commit.file(&name, &bytes)?;
    }
    commit.place()?;
    if r.run.json {
        return say(&json_line(&report));
    }
    tested.lines(&router).iter().try_for_each(|line| say(line))?;
    say(&format!("saved in {}", r.out.display()))
}

/// What makes vectors of texts.
struct Texts<'a> {
    r: &'a Route,
    backbone: &'a Backbone,
    tokenizer: Tokenizer,
}
impl Texts<'_> {
    /// Vectors of the texts that say what a task is like, and of others that are held out.
    fn learned(
        &self,
        of: &Settings,
        paths: &[PathBuf],
        name: &str,
    ) -> engraft::Result<(Array2<f32>, Array2<f32>)> {
        let data = self.data(of, paths, Purpose::Train)?;
        if data.len() < 2 {
            return Err(Error::file(&data.path, "a router needs two texts at least"));
        }
        let most = self.r.max_texts.unwrap_or(usize::MAX).max(2);
        let both = split(data.records.len(), most, self.r.seed);
        let both = both.map(|which| self.vectors(&data.part(&which), name));
        let [learned, others] = both;
        Ok((learned?, others?))
    }
    /// Vectors of all texts of files.
    fn read(&self, of: &Settings, paths: &[PathBuf], name: &str) -> engraft::Result<Array2<f32>> {
        self.vectors(&self.data(of, paths, Purpose::Evaluate)?, name)
    }
    fn data(&self, of: &Settings, paths: &[PathBuf], split: Purpose) -> engraft::Result<Dataset> {
        let kind = task(of.task.as_ref())?.unwrap_or(TASKS[0]);
        let files = files(
            (kind, &of.told()),
            &expand(paths, split, Mode::detect(self.r.run.quiet))?,
            &of.columns(),
            Purpose::Predict,
        )?;
        let all = whole(&files)?;
        note(files.notes(), self.r.run.quiet);
        Ok(all)
    }
    fn vectors(&self, data: &Dataset, name: &str) -> engraft::Result<Array2<f32>> {
        /// Records at a time.
        const PART: usize = 1024;
        let mut progress = Progress::new(Mode::detect(self.r.run.quiet), name, data.len() as u64);
        let mut parts = vec![];
        let all: Vec<usize> = (0..data.records.len()).collect();
        for which in all.chunks(PART) {
            let (part, size) = (data.part(which), self.r.batch_size.into());
            parts.push(features(self.backbone, &self.tokenizer, self.r.features, &part, size)?);
            which.iter().for_each(|_| progress.step(None, 0));
        }
        progress.finish();
        let views: Vec<ArrayView2<'_, f32>> = parts.iter().map(|part| part.view()).collect();
        ndarray::concatenate(Axis(0), &views).map_err(|e| Error::Model(e.to_string()))
    }
}
