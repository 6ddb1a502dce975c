//! What a run leaves besides what it learned: its reports, as files.
use super::{directory::File, log::Log, recipe::Reports};
use crate::{
    learner::Learner,
    reports::{
        card::{self, Card},
        left::PAGE,
        page::{Page, keys},
        picture::number,
        progress::clock,
        report::Report,
        results::Standing,
    },
};
use std::path::Path;

/// A run that came to its end.
pub(super) struct Written<'a> {
    pub learner: &'a Learner,
    /// The names of the files of what it learned.
    pub learned: Vec<&'a str>,
    pub report: &'a Report,
    pub standing: &'a Standing,
    pub log: &'a Log,
    /// The file of its settings.
    pub settings: &'a [u8],
    pub reports: Reports,
}

impl Written<'_> {
    /// The files, for a directory in which a card of somebody else stays as it is.
    pub fn files(&self, directory: &Path) -> Vec<File> {
        let mut files = self.standing.results();
        files.push(self.standing.state(&self.log.history, true));
        files.extend(self.reports.events.then(|| self.log.events()).flatten().map(|(_, file)| file));
        let settings = String::from_utf8_lossy(self.settings);
        let keys = keys(&settings);
        let (name, model) = (self.name(), self.model());
        if card::is_ours(directory) {
            files.push((card::FILE.into(), self.card(&name, model, &keys).text().into_bytes()));
        }
        if self.reports.page {
            let task = &self.report.task;
            let about = format!(
                "{task} on {model}: {} optimiser steps, {:.2} epochs.",
                self.standing.step, self.standing.epoch
            );
            let page = Page {
                title: &name,
                about: &about,
                report: self.report,
                history: &self.log.history,
                hardest: &self.log.hardest,
                settings: &settings,
            };
            files.push((PAGE.into(), page.html().into_bytes()));
        }
        files
    }
    /// What was learned is called.
    fn name(&self) -> String {
        let setup = self.learner.setup().to_string();
        let head = || self.learner.head().map(|head| head.name().to_string());
        match (self.learner.adapters().is_empty(), head()) {
            (false, _) => setup,
            (true, Some(head)) => head,
            (true, None) => "model".into(),
        }
    }
    /// The backbone as its users name it.
    fn model(&self) -> &str {
        let host = self.learner.backbone().host();
        if host.model_name.is_empty() { &host.model_type } else { &host.model_name }
    }
    fn card<'a>(&'a self, name: &'a str, model: &'a str, keys: &'a [(String, Vec<String>)]) -> Card<'a> {
        let (r, s) = (self.report, self.standing);
        let training = [
            ("trained parameters", format!("{} of {}", r.trainable_parameters, r.total_parameters)),
            ("optimiser steps", s.step.to_string()),
            ("epochs", format!("{:.2}", s.epoch)),
            ("training loss", number(s.loss)),
            ("time", clock(r.train_seconds)),
        ];
        let several = self.learner.setup().names().len() > 1;
        let card = Card {
            name,
            model,
            is_of_hub: self.learner.backbone().commit().is_some(),
            model_type: &self.learner.backbone().host().model_type,
            files: self.learned.clone(),
            head: self.learner.head().map(|head| head.config().head_type()),
            setup: several.then(|| self.learner.setup().to_string()),
            metrics: r.metrics.as_ref(),
            training: training.into(),
            ..Card::default()
        };
        card.with_settings(keys)
    }
}
