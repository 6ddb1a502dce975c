//! LayerNorm tuning (Zhao et al. 2024): the weights and biases of norms train. PEFT's LN_TUNING, in
//! its format, which AdapterHub has no counterpart of.
use super::{
    Config, Method, PeftMethod,
    bitfit::is_in_layer,
    overlaid,
    own_weights::{NormNames, own_norm},
    peft_targets::{Names, ends_with, refuse_others},
    read, written,
};
use crate::{Error, Module, Place, Result, files::peft::ROOT, grammar::Fields};
use engraft_engine::{SiteInfo, SiteKind, Source};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["ln_tuning"],
    architecture: Some("ln_tuning"),
    preset: |_, fields| Ok(Box::new(overlaid(&LnTuningConfig::default(), fields)?)),
    read: |_, _| Err(Error::Config("norms that were tuned are read from PEFT's format".into())),
    peft: Some(PeftMethod { name: "LN_TUNING", read: |fields| Ok(Box::new(PeftLnTuning::read(fields)?)) }),
};
const NAMES: NormNames = NormNames {
    collection: "ln_tuning",
    peft: Some(["ln_tuning_layers.weight", "ln_tuning_layers.bias"]),
    weight: true,
};

/// Which norms train.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LnTuningConfig {
    /// Layers whose norms stay as they are.
    pub leave_out: Vec<usize>,
    /// Ends of the names of norms; all norms if there are none.
    pub target_modules: Vec<String>,
}
impl LnTuningConfig {
    fn targets(&self, info: &SiteInfo) -> bool {
        let is_left_out = is_in_layer(info.site) && self.leave_out.contains(&info.site.layer);
        let is_named = |path: &str| {
            self.target_modules.is_empty() || self.target_modules.iter().any(|n| ends_with(path, n))
        };
        !is_left_out && info.norm.as_ref().is_some_and(|n| is_named(&n.path))
    }
}
/// The module at a place.
fn build(place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
    let (SiteKind::Norm { channels } | SiteKind::Close { channels }) = place.info.kind else {
        return Ok(vec![]);
    };
    let Some(path) = place.norm() else { return Ok(vec![]) };
    own_norm(place, NAMES, channels, &format!("{ROOT}{path}.ln_tuning_layers"), from)
}
fn not_adapterhubs() -> Error {
    Error::Config("AdapterHub's format has no tuned norms; PEFT's has".into())
}
impl Config for LnTuningConfig {
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        if self.targets(place.info) { build(place, from) } else { Ok(vec![]) }
    }
    fn adapterhub(&self) -> Result<Fields> {
        Err(not_adapterhubs())
    }
    fn peft(&self, sites: &[SiteInfo]) -> Result<Fields> {
        let norms = || sites.iter().filter_map(|i| Some((i, i.norm.as_ref()?.path.as_str())));
        let mut names = BTreeSet::new();
        for (_, path) in norms().filter(|(i, _)| self.targets(i)) {
            // the shortest end of the path that only these norms have; a number says too little,
            // and so does a name that heads use
            let parts: Vec<&str> = path.split('.').collect();
            let is_number = |i: usize| parts.get(i).is_some_and(|p| p.parse::<usize>().is_ok());
            let least = if parts.len() < 2 || is_number(parts.len() - 2) { 1 } else { 2 };
            let ends = (least..=parts.len()).map(|n| parts[parts.len() - n..].join("."));
            let is_exact = |end: &String| norms().all(|(i, p)| !ends_with(p, end) || self.targets(i));
            names.insert(ends.into_iter().find(is_exact).unwrap_or_else(|| path.into()));
        }
        written(&json!({
            "peft_type": "LN_TUNING",
            "task_type": null,
            "base_model_name_or_path": null,
            "inference_mode": true,
            "target_modules": names,
            "exclude_modules": null,
            "modules_to_save": null,
        }))
    }
}

/// The `adapter_config.json` of norms that PEFT tuned.
#[derive(Clone, Debug)]
struct PeftLnTuning {
    /// As they were read.
    fields: Fields,
    targets: Targets,
}
#[derive(Clone, Debug, Deserialize)]
struct Targets {
    target_modules: Option<Names>,
    #[serde(default)]
    exclude_modules: Option<Names>,
}
impl PeftLnTuning {
    fn read(fields: Fields) -> Result<PeftLnTuning> {
        refuse_others(&fields, &[&["target_modules", "exclude_modules"]])?;
        let targets = read::<Targets>(fields.clone())?;
        Ok(PeftLnTuning { fields, targets })
    }
    /// Does PEFT tune the norm of this path? None: a regular expression decides. Such a one is not
    /// evaluated; which norms it matched, the tensors of the file say.
    fn targets(&self, path: &str) -> Option<bool> {
        let is_in = |names: &Option<Names>| match names {
            Some(Names::One(_)) => None,
            Some(Names::Several(names)) => Some(names.iter().any(|n| ends_with(path, n))),
            None => Some(false),
        };
        Some(!is_in(&self.targets.exclude_modules)? && is_in(&self.targets.target_modules)?)
    }
}
impl Config for PeftLnTuning {
    fn check(&self) -> Result<()> {
        match self.targets.target_modules {
            Some(_) => Ok(()),
            None => Err(Error::Config("no `target_modules`: they are not guessed".into())),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let Some(path) = place.norm() else { return Ok(vec![]) };
        let is_there = || match from {
            Source::File(load) => load.checkpoint().has(&format!("{ROOT}{path}.ln_tuning_layers.weight")),
            Source::New(_) => false,
        };
        if self.targets(path).unwrap_or_else(is_there) { build(place, from) } else { Ok(vec![]) }
    }
    fn adapterhub(&self) -> Result<Fields> {
        Err(not_adapterhubs())
    }
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        Ok(self.fields.clone())
    }
}
