//! IA3 as PEFT describes it: by the names of modules, of which some have their inputs multiplied.
use super::{
    Config,
    ia3_module::{self, Form, Scaled},
    peft_targets::{Names, Targets, given, linear, name},
    written,
};
use crate::{Error, Module, Place, Result, files::peft::ROOT, grammar::Fields};
use engraft_engine::{Init, SiteInfo, SiteKind, Source};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;

/// The `adapter_config.json` of PEFT for an IA3 at the sites where `at` is something.
pub(super) fn fields<T>(sites: &[SiteInfo], at: impl Fn(&SiteInfo) -> Option<T>) -> Result<Fields> {
    let adapted = || linear(sites).filter(|i| at(i).is_some());
    let names: BTreeSet<&str> = adapted().map(|i| name(sites, i, |i| at(i).is_some())).collect();
    written(&json!({
        "peft_type": "IA3",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "target_modules": names,
        "feedforward_modules": [],
        "fan_in_fan_out": adapted().any(|i| matches!(i.kind, SiteKind::Linear { in_out: true, .. })),
        "modules_to_save": null,
        "init_ia3_weights": true,
    }))
}

/// More fields that say how an IA3 was made or is stored, not what it computes.
const HARMLESS: [&str; 2] = [
    "fan_in_fan_out", // the model knows how it stores its weights
    "init_ia3_weights",
];
/// The `adapter_config.json` of an IA3 that PEFT saved.
#[derive(Clone, Debug)]
pub(super) struct PeftIa3 {
    /// As they were read.
    fields: Fields,
    targets: Targets,
    known: Known,
}
#[derive(Clone, Debug, Deserialize)]
struct Known {
    feedforward_modules: Option<Names>,
}
impl PeftIa3 {
    pub fn read(fields: Fields) -> Result<PeftIa3> {
        let given = given(&fields, &["feedforward_modules"], &HARMLESS)?;
        let (targets, known) = (super::read(given.clone())?, super::read(given)?);
        Ok(PeftIa3 { fields, targets, known })
    }
    /// Is the module of this path one whose inputs are multiplied? None: a regular expression
    /// decides.
    fn is_feed_forward(&self, path: &str) -> Option<bool> {
        match &self.known.feedforward_modules {
            // an end of the path, wherever it begins
            Some(Names::Several(names)) => Some(names.iter().any(|n| path.ends_with(n.as_str()))),
            Some(Names::One(_)) => None,
            None => Some(false),
        }
    }
}
impl Config for PeftIa3 {
    fn check(&self) -> Result<()> {
        self.targets.check()?;
        match &self.known.feedforward_modules {
            Some(_) => Ok(()),
            None => Err(Error::Config("no `feedforward_modules`: they are not guessed".into())),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { input, output, .. } = place.info.kind else { return Ok(vec![]) };
        let name = format!("{ROOT}{}.ia3_l", place.path);
        let shape = match from {
            Source::File(load) => load.checkpoint().shape(&name),
            Source::New(_) => None,
        };
        if !self.targets.has(place.path).unwrap_or(shape.is_some()) {
            return Ok(vec![]);
        }
        let is_feed_forward = self.is_feed_forward(place.path).unwrap_or(shape == Some(&[1, input]));
        let scaled = match is_feed_forward {
            true => Scaled::Inputs,
            false => Scaled::Outputs { of: 1, parts: vec![0] },
        };
        let (dims, start) = ((input, output), Init::Constant(1.0));
        let form = Form { scaled, alpha: 1.0, dims, name, start, gate: None };
        ia3_module::build(place.trains, form, from)
    }
    fn adapterhub(&self) -> Result<Fields> {
        Err(Error::Config("an IA3 that PEFT saved is written in PEFT's format".into()))
    }
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        Ok(self.fields.clone())
    }
}
