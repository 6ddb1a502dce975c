//! VeRA as PEFT describes it: by the names of modules.
use super::{
    Config,
    peft_targets::{Targets, given, linear, name},
    vera_module::{self, Form, KEYS, PEFT},
    written,
};
use crate::{Common, Error, Module, Place, Result, files::peft::ROOT, grammar::Fields};
use engraft_engine::{Init, LowRank, SiteInfo, SiteKind, Source, checkpoint::TensorData};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;

/// The tensors that stand for the whole model.
pub(super) fn tensors(common: &Common) -> Result<Vec<(String, TensorData<'_>)>> {
    let named = KEYS.into_iter().zip(PEFT).filter_map(|(key, name)| Some((name, common.tensor(key)?)));
    named.map(|(name, t)| Ok((name.to_string(), TensorData::f32(&t.to_f32()?, t.shape())))).collect()
}
/// The `adapter_config.json` of PEFT for a VeRA at the sites where `at` is something.
pub(super) fn fields<T>(
    sites: &[SiteInfo],
    at: impl Fn(&SiteInfo) -> Option<T>,
    r: usize,
    dropout: f64,
) -> Result<Fields> {
    let adapted = || linear(sites).filter(|i| at(i).is_some());
    let names: BTreeSet<&str> = adapted().map(|i| name(sites, i, |i| at(i).is_some())).collect();
    written(&json!({
        "peft_type": "VERA",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": r,
        "target_modules": names,
        "projection_prng_key": 0,
        "save_projection": true,
        "vera_dropout": dropout,
        "fan_in_fan_out": adapted().any(|i| matches!(i.kind, SiteKind::Linear { in_out: true, .. })),
        "bias": "none",
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
    }))
}

/// More fields that say how a VeRA was made or is stored, not what it computes.
const HARMLESS: [&str; 4] = [
    "d_initial",
    "fan_in_fan_out", // the model knows how it stores its weights
    "init_weights",
    "projection_prng_key", // what it made is in the file
];
const KNOWN: [&str; 4] = ["r", "vera_dropout", "save_projection", "bias"];

/// The `adapter_config.json` of a VeRA that PEFT saved.
#[derive(Clone, Debug)]
pub(super) struct PeftVera {
    /// As they were read.
    fields: Fields,
    targets: Targets,
    known: Known,
}
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Known {
    r: usize,
    vera_dropout: f64,
    save_projection: bool,
    bias: String,
}
impl Default for Known {
    fn default() -> Known {
        Known { r: 256, vera_dropout: 0.0, save_projection: true, bias: "none".into() }
    }
}
impl PeftVera {
    pub fn read(fields: Fields) -> Result<PeftVera> {
        let given = given(&fields, &KNOWN, &HARMLESS)?;
        let (targets, known) = (super::read(given.clone())?, super::read(given)?);
        Ok(PeftVera { fields, targets, known })
    }
}
/// The shapes of the shared matrices of a file; zeros for one that is not there.
fn shapes(from: &Source<'_, '_>) -> [[usize; 2]; 2] {
    let shape = |name: &str| match from {
        Source::File(load) => load.checkpoint().shape(name).and_then(|s| <[usize; 2]>::try_from(s).ok()),
        Source::New(_) => None,
    };
    PEFT.map(|name| shape(name).unwrap_or_default())
}
impl Config for PeftVera {
    fn check(&self) -> Result<()> {
        self.targets.check()?;
        let (k, wrong) = (&self.known, |what: String| Err(Error::Config(what)));
        match () {
            () if k.bias != "none" => wrong(format!("`bias` is `{}`; only `none` is supported", k.bias)),
            () if !k.save_projection => wrong(
                "`save_projection` is false: the file lacks the matrices, which PyTorch's generator made"
                    .into(),
            ),
            () if !(1..=super::lora_module::MOST).contains(&k.r) => {
                wrong(format!("`r` is {}, expected a rank from 1 to {}", k.r, super::lora_module::MOST))
            }
            () if !(k.vera_dropout >= 0.0 && (k.vera_dropout as f32) < 1.0) => {
                wrong(format!("`vera_dropout` is {}, expected 0 to below 1", k.vera_dropout))
            }
            () => Ok(()),
        }
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        let [[_, input], [output, _]] = shapes(from);
        let (r, start) = (self.known.r, Init::Constant(0.0));
        vera_module::share(place, [[r, input], [output, r]], (start, start), true, to, from)
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { input, output, .. } = place.info.kind else { return Ok(vec![]) };
        let names = ["d", "b"].map(|n| format!("{ROOT}{}.vera_lambda_{n}", place.path));
        let is_there = |from: &Source<'_, '_>| match from {
            Source::File(load) => names.iter().any(|n| load.checkpoint().has(n)),
            Source::New(_) => false,
        };
        if !self.targets.has(place.path).unwrap_or_else(|| is_there(from)) {
            return Ok(vec![]);
        }
        let [[_, most_in], [most_out, _]] = shapes(from);
        if input > most_in || output > most_out {
            return Err(Error::Config(format!(
                "`{}` is for {most_in} inputs and `{}` for {most_out} outputs; `{}` has {input} and {output}",
                PEFT[0], PEFT[1], place.path
            )));
        }
        let (how, shape) =
            (LowRank::whole(1.0, self.known.vera_dropout as f32), (input, output, self.known.r));
        let form = Form { how, shape, starts: (0.1, 0.0), names, is_pefts: true, gate: None };
        vera_module::build(place.trains, form, from)
    }
    fn adapterhub(&self) -> Result<Fields> {
        Err(Error::Config("a VeRA that PEFT saved is written in PEFT's format".into()))
    }
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        Ok(self.fields.clone())
    }
    fn peft_tensors<'c>(&self, common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        tensors(common)
    }
}
