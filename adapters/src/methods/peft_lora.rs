//! LoRA as PEFT describes it: by the names of modules, with a rank and an α that may differ between them.
use super::{
    Config, Module, Place,
    lora_module::{self, LoraStart},
};
use crate::{Error, Result, grammar::Fields};
use engraft_engine::{LowRank, Part, Point, Site, SiteInfo, SiteKind, Source};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Fields that say how a LoRA was made or is stored, not what it computes.
const HARMLESS: &[&str] = &[
    "_custom_modules",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "fan_in_fan_out", // the model knows how it stores its weights
    "inference_mode",
    "init_lora_weights", // looked at below
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save", // heads; other modules' tensors have no place, which is an error
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];
/// Ways to start that leave the model's own weights alone.
const STARTS: &[&str] = &["true", "false", "gaussian", "eva", "orthogonal"];

/// The `adapter_config.json` of a LoRA that PEFT saved.
#[derive(Clone, Debug)]
pub(super) struct PeftLora {
    /// As they were read.
    fields: Fields,
    known: Known,
}
/// The fields that say what is computed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Known {
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    use_rslora: bool,
    bias: String,
    target_modules: Option<Names>,
    exclude_modules: Option<Names>,
    layers_to_transform: Option<Layers>,
    layers_pattern: Option<Names>,
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
            bias: "none".into(),
            target_modules: None,
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}
const KNOWN: [&str; 11] = [
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "bias",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
];
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub(super) enum Names {
    One(String),
    Several(Vec<String>),
}
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a layer or a list of layers")]
enum Layers {
    One(usize),
    Several(Vec<usize>),
}

impl PeftLora {
    pub fn read(fields: Fields) -> Result<PeftLora> {
        for (name, value) in &fields {
            let is_nothing = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(a) => a.is_empty(),
                Value::Object(o) => o.is_empty(),
                _ => false,
            };
            if !(is_nothing || KNOWN.contains(&name.as_str()) || HARMLESS.contains(&name.as_str())) {
                return Err(Error::Config(format!("`{name}` is {value}, which is not supported")));
            }
        }
        if let Some(start) = fields.get("init_lora_weights").filter(|v| !v.is_null()) {
            let text = start.as_str().map_or_else(|| start.to_string(), |s| s.to_lowercase());
            if !STARTS.contains(&text.as_str()) {
                return Err(Error::Config(format!(
                    "`init_lora_weights` is {start}, which changes the model's own weights and is not supported"
                )));
            }
        }
        let given = fields.iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| (n.clone(), v.clone()));
        let known: Known = super::read(given.collect())?;
        Ok(PeftLora { fields, known })
    }
    /// Does PEFT adapt the module of this path? None: a regular expression decides. Such a one is not evaluated; which
    /// modules it matched, the tensors of the file say.
    fn targets(&self, path: &str) -> Option<bool> {
        let is_excluded = match &self.known.exclude_modules {
            Some(Names::One(_)) => return None,
            Some(Names::Several(names)) => names.iter().any(|n| ends_with(path, n)),
            None => false,
        };
        match &self.known.target_modules {
            _ if is_excluded => Some(false),
            Some(Names::One(all)) if all == "all-linear" => Some(true), // heads excepted
            Some(Names::One(_)) => None,
            Some(Names::Several(names)) => {
                Some(names.iter().any(|n| ends_with(path, n)) && self.is_in_layers(path))
            }
            None => Some(false),
        }
    }
    /// `layers_to_transform`: the first number of the path, or that behind one of the patterns.
    fn is_in_layers(&self, path: &str) -> bool {
        let layers: &[usize] = match &self.known.layers_to_transform {
            None => return true,
            Some(Layers::One(l)) => &[*l],
            Some(Layers::Several(all)) if all.is_empty() => return true,
            Some(Layers::Several(all)) => all,
        };
        let parts: Vec<&str> = path.split('.').collect();
        let patterns = self.known.layers_pattern.as_ref().map_or(&[][..], Names::list);
        let is_layer = |w: &&[&str]| {
            let is_behind = patterns.is_empty() || patterns.iter().any(|p| p == w[0]);
            is_behind && w[1].parse::<usize>().is_ok()
        };
        // a number is followed by something
        let numbered = parts.get(..parts.len().saturating_sub(1)).unwrap_or_default();
        let found = numbered.windows(2).find(is_layer).and_then(|w| w[1].parse().ok());
        found.is_some_and(|l: usize| layers.contains(&l))
    }
    fn rank(&self, path: &str) -> usize {
        pattern(&self.known.rank_pattern, path).copied().unwrap_or(self.known.r)
    }
    fn alpha(&self, path: &str) -> f64 {
        pattern(&self.known.alpha_pattern, path).copied().unwrap_or(self.known.lora_alpha)
    }
}
impl Names {
    fn list(&self) -> &[String] {
        match self {
            Names::One(one) => std::slice::from_ref(one),
            Names::Several(all) => all,
        }
    }
}
/// Is the path this name, or does it end with it?
pub(super) fn ends_with(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}
fn pattern<'a, T>(patterns: &'a BTreeMap<String, T>, path: &str) -> Option<&'a T> {
    patterns.iter().find(|(n, _)| ends_with(path, n)).map(|(_, x)| x)
}
/// PEFT reads names as regular expressions here. What is no plain name is refused: it would silently match other modules.
fn plain<'a>(field: &str, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let is_plain = |n: &&String| n.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
    match names.into_iter().find(|n| !is_plain(n)) {
        None => Ok(()),
        Some(n) => Err(Error::Config(format!(
            "`{field}` has the regular expression `{n}`; lists of names are supported"
        ))),
    }
}

impl Config for PeftLora {
    fn check(&self) -> Result<()> {
        let k = &self.known;
        plain("layers_pattern", k.layers_pattern.as_ref().map_or(&[][..], Names::list))?;
        plain("rank_pattern", k.rank_pattern.keys())?;
        plain("alpha_pattern", k.alpha_pattern.keys())?;
        let wrong = |what: String| Err(Error::Config(what));
        if k.bias != "none" {
            return wrong(format!("`bias` is `{}`; only `none` is supported", k.bias));
        }
        if k.target_modules.is_none() {
            return wrong("no `target_modules`: they are not guessed".into());
        }
        if let Some(r) = k.rank_pattern.values().chain([&k.r]).find(|r| !(1..=lora_module::MOST).contains(*r))
        {
            return wrong(format!("a rank is {r}, expected 1 to {}", lora_module::MOST));
        }
        let mut alphas = k.alpha_pattern.values().chain([&k.lora_alpha]);
        if let Some(a) = alphas.find(|a| !(**a as f32).is_finite()) {
            return wrong(format!("`lora_alpha` is {a}, expected a finite number"));
        }
        match k.lora_dropout >= 0.0 && (k.lora_dropout as f32) < 1.0 {
            true => Ok(()),
            false => wrong(format!("`lora_dropout` is {}, expected 0 to below 1", k.lora_dropout)),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { input, output, .. } = place.info.kind else { return Ok(vec![]) };
        let names = ["lora_A", "lora_B"].map(|n| format!("base_model.model.{}.{n}.weight", place.path));
        let is_there = |from: &Source<'_, '_>| match from {
            Source::File(load) => names.iter().any(|n| load.checkpoint().has(n)),
            Source::New(_) => false,
        };
        if !self.targets(place.path).unwrap_or_else(|| is_there(from)) {
            return Ok(vec![]);
        }
        let r = self.rank(place.path);
        let scale = lora_module::scale(self.alpha(place.path), r, self.known.use_rslora);
        let how = LowRank::whole(scale as f32, self.known.lora_dropout as f32);
        lora_module::build(place.trains, how, (input, output, r), names, LoraStart::Lora, from)
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
                at.entry((info.site.part, info.site.point)).or_default().insert(info.site.layer);
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
            "init_weights": "lora",
            "intermediate_lora": feed_forward[0],
            "leave_out": layers.difference(&adapted).collect::<Vec<_>>(),
            "output_lora": feed_forward[1],
            "r": r,
            "selfattn_lora": !matrices.is_empty(),
            "use_gating": false,
        });
        object(fields)
    }
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        Ok(self.fields.clone())
    }
}

/// The `adapter_config.json` of PEFT for a LoRA at the sites where `at` gives a rank and an α; r and
/// α are those of most.
pub(crate) fn fields(
    sites: &[SiteInfo],
    at: impl Fn(&SiteInfo) -> Option<(usize, f64)>,
    (r, alpha): (usize, f64),
    rslora: bool,
    dropout: f64,
) -> Result<Fields> {
    let linear = || sites.iter().filter(|i| matches!(i.kind, SiteKind::Linear { .. }));
    let (mut names, mut ranks, mut alphas) = (BTreeSet::new(), Map::new(), Map::new());
    let mut is_in_out = false;
    for info in linear() {
        let Some((own_r, own_alpha)) = at(info) else { continue };
        is_in_out |= matches!(info.kind, SiteKind::Linear { in_out: true, .. });
        // the shortest end of the path, of two names or more, that no other module has
        let starts = info.path.match_indices('.').map(|(i, _)| i + 1).rev().skip(1);
        let is_exact = |end: &&str| linear().all(|i| !ends_with(&i.path, end) || at(i) == at(info));
        let end = starts.map(|i| &info.path[i..]).find(is_exact).unwrap_or(&info.path);
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
        "use_dora": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    });
    object(fields)
}
fn object(fields: Value) -> Result<Fields> {
    match fields {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::Config("a configuration is an object".into())),
    }
}
