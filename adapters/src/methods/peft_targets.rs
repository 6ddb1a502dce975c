//! Which modules PEFT's configurations name: those it adapts, by the ends of their paths.
use crate::{Error, Result, grammar::Fields};
use engraft_engine::{SiteInfo, SiteKind};
use serde::Deserialize;
use serde_json::Value;

/// `target_modules` and the fields that narrow it down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Targets {
    target_modules: Option<Names>,
    exclude_modules: Option<Names>,
    layers_to_transform: Option<Layers>,
    layers_pattern: Option<Names>,
}
/// The names of its fields.
pub(super) const TARGETS: [&str; 4] =
    ["target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"];
/// A name, which is a regular expression, or several, which are plain.
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

/// Fields of all methods that say how an adapter was made or is stored, not what it computes.
const HARMLESS: [&str; 8] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "modules_to_save", // heads; other modules' tensors have no place, which is an error
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
];

/// Refuses fields that are neither known nor harmless, unless they are at a value that says
/// nothing; gives those that have a value.
pub(super) fn given(fields: &Fields, known: &[&str], harmless: &[&str]) -> Result<Fields> {
    refuse_others(fields, &[known, harmless, &TARGETS])?;
    Ok(fields.iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| (n.clone(), v.clone())).collect())
}
/// Refuses fields that are neither among these nor harmless for all methods, unless they are at a
/// value that says nothing.
pub(super) fn refuse_others(fields: &Fields, known: &[&[&str]]) -> Result<()> {
    for (name, value) in fields {
        let is_nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        let is_known = known.iter().chain(&[&HARMLESS[..]]).any(|all| all.contains(&name.as_str()));
        if !(is_nothing || is_known) {
            return Err(Error::Config(format!("`{name}` is {value}, which is not supported")));
        }
    }
    Ok(())
}

impl Targets {
    pub fn check(&self) -> Result<()> {
        plain("layers_pattern", self.layers_pattern.as_ref().map_or(&[][..], Names::list))?;
        match self.target_modules {
            Some(_) => Ok(()),
            None => Err(Error::Config("no `target_modules`: they are not guessed".into())),
        }
    }
    /// Does PEFT adapt the module of this path? None: a regular expression decides. Such a one is
    /// not evaluated; which modules it matched, the tensors of the file say.
    pub fn has(&self, path: &str) -> Option<bool> {
        let is_excluded = match &self.exclude_modules {
            Some(Names::One(_)) => return None,
            Some(Names::Several(names)) => names.iter().any(|n| ends_with(path, n)),
            None => false,
        };
        match &self.target_modules {
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
        let layers: &[usize] = match &self.layers_to_transform {
            None => return true,
            Some(Layers::One(l)) => &[*l],
            Some(Layers::Several(all)) if all.is_empty() => return true,
            Some(Layers::Several(all)) => all,
        };
        let parts: Vec<&str> = path.split('.').collect();
        let patterns = self.layers_pattern.as_ref().map_or(&[][..], Names::list);
        let is_layer = |w: &&[&str]| {
            let is_behind = patterns.is_empty() || patterns.iter().any(|p| p == w[0]);
            is_behind && w[1].parse::<usize>().is_ok()
        };
        // a number is followed by something
        let numbered = parts.get(..parts.len().saturating_sub(1)).unwrap_or_default();
        let found = numbered.windows(2).find(is_layer).and_then(|w| w[1].parse().ok());
        found.is_some_and(|l: usize| layers.contains(&l))
    }
}
impl Names {
    pub fn list(&self) -> &[String] {
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
/// PEFT reads names as regular expressions here. What is no plain name is refused: it would
/// silently match other modules.
pub(super) fn plain<'a>(field: &str, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let is_plain = |n: &&String| n.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
    match names.into_iter().find(|n| !is_plain(n)) {
        None => Ok(()),
        Some(n) => Err(Error::Config(format!(
            "`{field}` has the regular expression `{n}`; lists of names are supported"
        ))),
    }
}

/// The linear layers of a model.
pub(super) fn linear(sites: &[SiteInfo]) -> impl Iterator<Item = &SiteInfo> {
    sites.iter().filter(|i| matches!(i.kind, SiteKind::Linear { .. }))
}
/// What names the module of a linear layer: the shortest end of its path, of two names or more,
/// that only modules have of which `what` says the same.
pub(super) fn name<'i, T: PartialEq>(
    sites: &[SiteInfo],
    info: &'i SiteInfo,
    what: impl Fn(&SiteInfo) -> T,
) -> &'i str {
    let starts = info.path.match_indices('.').map(|(i, _)| i + 1).rev().skip(1);
    let is_exact = |end: &&str| linear(sites).all(|i| !ends_with(&i.path, end) || what(i) == what(info));
    starts.map(|i| &info.path[i..]).find(is_exact).unwrap_or(&info.path)
}
