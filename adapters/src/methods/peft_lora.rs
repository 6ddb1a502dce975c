//! LoRA as PEFT describes it: by the names of modules, with a rank and an α that may differ between
//! them.
use super::{
    Config, Module, Place,
    lora_module::{self, Form},
    magnitude::Dora,
    peft_targets::{Targets, ends_with, given, linear, name, plain},
    start::LoraStart,
    written,
};
use crate::{Error, Result, files::peft::ROOT, grammar::Fields};
use engraft_engine::{LowRank, Part, Point, Site, SiteInfo, SiteKind, Source};
use serde::Deserialize;
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};

/// More fields that say how a LoRA was made or is stored, not what it computes.
const HARMLESS: &[&str] = &[
    "_custom_modules",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",    // the model knows how it stores its weights
    "init_lora_weights", // looked at below
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
];
/// Ways to start that leave the model's own weights alone.
const STARTS: &[&str] = &["true", "false", "gaussian", "eva", "orthogonal"];

/// The `adapter_config.json` of a LoRA that PEFT saved.
#[derive(Clone, Debug)]
pub(super) struct PeftLora {
    /// As they were read.
    fields: Fields,
    known: Known,
    targets: Targets,
    /// How it started: where a part of the model's weights was taken out of them, that is what is
    /// read.
    start: LoraStart,
}
/// The fields that say what is computed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Known {
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    use_rslora: bool,
    use_dora: bool,
    bias: String,
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
}
impl Default for Known {
    fn default() -> Known {
        Known {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            bias: "none".into(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}
const KNOWN: [&str; 8] =
    ["r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "rank_pattern", "alpha_pattern"];

impl PeftLora {
    pub fn read(fields: Fields) -> Result<PeftLora> {
        let given = given(&fields, &KNOWN, HARMLESS)?;
        let text = given
            .get("init_lora_weights")
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_lowercase));
        let start = match text {
            Some(text) if !STARTS.contains(&text.as_str()) => {
                let start = LoraStart::try_from(text.clone()).ok().filter(|start| start.is_pissa());
                start.ok_or_else(|| {
                    Error::Config(format!(
                        "`init_lora_weights` is `{text}`, which changes the model's own weights and is not supported"
                    ))
                })?
            }
            _ => LoraStart::Lora,
        };
        let (known, targets) = (super::read(given.clone())?, super::read(given)?);
        Ok(PeftLora { fields, known, targets, start })
    }
    fn rank(&self, path: &str) -> usize {
        pattern(&self.known.rank_pattern, path).copied().unwrap_or(self.known.r)
    }
    fn alpha(&self, path: &str) -> f64 {
        pattern(&self.known.alpha_pattern, path).copied().unwrap_or(self.known.lora_alpha)
    }
}
fn pattern<'a, T>(patterns: &'a BTreeMap<String, T>, path: &str) -> Option<&'a T> {
    patterns.iter().find(|(n, _)| ends_with(path, n)).map(|(_, x)| x)
}

impl Config for PeftLora {
    fn check(&self) -> Result<()> {
        let k = &self.known;
        self.targets.check()?;
        plain("rank_pattern", k.rank_pattern.keys())?;
        plain("alpha_pattern", k.alpha_pattern.keys())?;
        let wrong = |what: String| Err(Error::Config(what));
        if k.bias != "none" {
            return wrong(format!("`bias` is `{}`; only `none` is supported", k.bias));
        }
        if let Some(r) = k.rank_pattern.values().chain([&k.r]).find(|r| !(1..=lora_module::MOST).contains(*r))
        {
            return wrong(format!("a rank is {r}, expected 1 to {}", lora_module::MOST));
        }
        let mut alphas = k.alpha_pattern.values().chain([&k.lora_alpha]);
        if let Some(a) = alphas.find(|a| !(**a as f32).is_finite()) {
            return wrong(format!("`lora_alpha` is {a}, expected a finite number"));
        }
        if self.start.is_pissa() && k.use_dora {
            return wrong("`init_lora_weights` is a start of a LoRA without `use_dora`".into());
        }
        match k.lora_dropout >= 0.0 && (k.lora_dropout as f32) < 1.0 {
            true => Ok(()),
            false => wrong(format!("`lora_dropout` is {}, expected 0 to below 1", k.lora_dropout)),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { input, output, .. } = place.info.kind else { return Ok(vec![]) };
        let names = ["lora_A", "lora_B"].map(|n| format!("{ROOT}{}.{n}.weight", place.path));
        let is_there = |from: &Source<'_, '_>| match from {
            Source::File(load) => names.iter().any(|n| load.checkpoint().has(n)),
            Source::New(_) => false,
        };
        if !self.targets.has(place.path).unwrap_or_else(|| is_there(from)) {
            return Ok(vec![]);
        }
        let r = self.rank(place.path);
        let scale = lora_module::scale(self.alpha(place.path), r, self.known.use_rslora);
        let how = LowRank::whole(scale as f32, self.known.lora_dropout as f32);
        let magnitude = || (Dora::Peft, format!("{ROOT}{}.lora_magnitude_vector", place.path));
        let (shape, dora) = ((input, output, r), self.known.use_dora.then(magnitude));
        let form = Form { how, shape, names, start: self.start, gate: None, dora };
        lora_module::build(place, form, from)
    }
    fn adapterhub(&self) -> Result<Fields> {
        Err(Error::Config("a LoRA that PEFT saved is written in PEFT's format".into()))
    }
    /// The same product in AdapterHub's words, where those can say which modules it is at.
    fn adapterhub_at(&self, sites: &[SiteInfo], own: &[Site]) -> Result<Fields> {
        let cannot =
            |what: &str| Error::Config(format!("AdapterHub's format cannot say this LoRA exactly: {what}"));
        let (mut at, mut sizes, mut layers) =
            (BTreeMap::<_, BTreeSet<usize>>::new(), vec![], BTreeSet::new());
        for info in sites.iter().filter(|i| matches!(i.kind, SiteKind::Linear { .. })) {
            layers.insert(info.site.layer);
            if own.contains(&info.site) {
                at.entry((info.site.part, info.known_as)).or_default().insert(info.site.layer);
                sizes.push((self.rank(&info.path), self.alpha(&info.path)));
            }
        }
        let Some((r, alpha)) = sizes.first().copied() else { return Err(cannot("it is nowhere")) };
        if sizes.iter().any(|s| *s != (r, alpha)) {
            return Err(cannot("ranks or alphas differ between modules"));
        }
        let adapted = at.values().next().cloned().unwrap_or_default();
        if at.values().any(|layers| *layers != adapted) {
            return Err(cannot("it is at other modules in some layers"));
        }
        let (mut matrices, mut feed_forward) = (vec![], [false; 2]);
        for (part, point) in at.keys() {
            match (part, point) {
                (Part::Attn, Point::Q) => matrices.push("q"),
                (Part::Attn, Point::K) => matrices.push("k"),
                (Part::Attn, Point::V) => matrices.push("v"),
                (Part::Ffn, Point::Up) => feed_forward[0] = true,
                (Part::Ffn, Point::Down) => feed_forward[1] = true,
                (_, Point::Qkv) => {
                    return Err(cannot("query, key and value are one layer, which it takes apart"));
                }
                (_, Point::O) => return Err(cannot("it has none at the output of attention")),
                _ => return Err(cannot("it has none at one of the modules")),
            }
        }
        let fields = json!({
            "architecture": "lora",
            "alpha": alpha * if self.known.use_rslora { (r as f64).sqrt() } else { 1.0 },
            "attn_matrices": matrices,
            "composition_mode": "add",
            "dropout": self.known.lora_dropout,
            "dtype": null,
            "init_weights": "lora",
            "init_weights_seed": null,
            "intermediate_lora": feed_forward[0],
            "leave_out": layers.difference(&adapted).collect::<Vec<_>>(),
            "output_lora": feed_forward[1],
            "r": r,
            "selfattn_lora": !matrices.is_empty(),
            "use_dora": self.known.use_dora,
            "use_gating": false,
            "vera_b": null,
            "vera_d": null,
        });
        written(&fields)
    }
    /// As they were read; what PEFT would take out of the model's weights anew is a part of the
    /// LoRA.
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        let mut fields = self.fields.clone();
        if !self.start.is_pissa() {
            return Ok(fields);
        }
        let k = &self.known;
        let alpha = |a: f64| doubled(1, a, k.use_rslora).1;
        fields.insert("init_lora_weights".into(), true.into());
        fields.insert("r".into(), json!(2 * k.r));
        fields.insert("lora_alpha".into(), json!(alpha(k.lora_alpha)));
        let ranks: BTreeMap<_, _> = k.rank_pattern.iter().map(|(n, r)| (n, 2 * r)).collect();
        let alphas: BTreeMap<_, _> = k.alpha_pattern.iter().map(|(n, a)| (n, alpha(*a))).collect();
        fields.insert("rank_pattern".into(), json!(ranks));
        fields.insert("alpha_pattern".into(), json!(alphas));
        Ok(fields)
    }
}

/// (r, α) of twice the rank with the same scale.
pub(super) fn doubled(r: usize, alpha: f64, rslora: bool) -> (usize, f64) {
    (2 * r, alpha * if rslora { 2f64.sqrt() } else { 2.0 })
}

/// What PEFT's fields say of a LoRA at most sites.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub r: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub dropout: f64,
    pub dora: bool,
}
/// The `adapter_config.json` of PEFT for a LoRA at the sites where `at` gives a rank and an α.
pub(crate) fn fields(
    sites: &[SiteInfo],
    at: impl Fn(&SiteInfo) -> Option<(usize, f64)>,
    said: Said,
) -> Result<Fields> {
    let Said { r, alpha, rslora, dropout, dora } = said;
    let (mut names, mut ranks, mut alphas) = (BTreeSet::new(), Map::new(), Map::new());
    let mut is_in_out = false;
    for info in linear(sites) {
        let Some((own_r, own_alpha)) = at(info) else { continue };
        is_in_out |= matches!(info.kind, SiteKind::Linear { in_out: true, .. });
        let end = name(sites, info, &at);
        names.insert(end);
        if own_r != r {
            ranks.insert(end.into(), json!(own_r));
        }
        if own_alpha != alpha {
            alphas.insert(end.into(), json!(own_alpha));
        }
    }
    let fields = json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": names,
        "fan_in_fan_out": is_in_out,
        "bias": "none",
        "use_rslora": rslora,
        "use_dora": dora,
        "init_lora_weights": true,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    });
    written(&fields)
}
