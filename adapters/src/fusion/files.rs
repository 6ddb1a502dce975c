//! A named fusion: what mixes at the sites of a model, and its files.
use super::{FusionConfig, Mixer, read};
use crate::{
    Adapter, Base, Common, Error, Here, Host, Place, Result, Setup,
    files::{Card, Paths, json, nothing_left, object, older, tensors, write},
};
use engraft_engine::{
    Checkpoint, Device, Fresh, Load, Param, ParamSet, Parameters, Part, Site, SiteInfo, SiteKind, Source,
    Tensor,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What a fusion is.
const CONFIG: &str = "adapter_fusion_config.json";
/// The files that may hold its tensors when they are read, the first that is there; it is written
/// to the first.
const TENSORS: [&str; 2] = ["model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin"];
/// What checkpoints call the modules of fusions.
const COLLECTION: &str = "adapter_fusion_layer";

/// A fusion of adapters: what mixes their outputs at each site.
#[derive(Debug)]
pub struct Fusion {
    name: String,
    adapters: Vec<String>,
    config: Box<dyn FusionConfig>,
    sites: Vec<SiteInfo>,
    common: Common,
    mixers: BTreeMap<Site, Box<dyn Mixer>>,
    /// Sites whose mixer is that of another one, because layers share their weights.
    shared: BTreeMap<Site, Site>,
}
impl Fusion {
    /// A new fusion of adapters that stand on a model, named after them: see [`Fusion::with_name`].
    pub fn new<'b>(
        config: Box<dyn FusionConfig>,
        adapters: &[&dyn Member],
        base: impl Into<Base<'b>>,
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Fusion> {
        let name = adapters.iter().map(|a| a.label()).collect::<Vec<_>>().join(",");
        Fusion::with_name(&name, config, adapters, base, device, set, seed)
    }
    /// A new fusion of adapters, or of other fusions, that stand on a model, wherever one of them
    /// stands at the end of a sub-layer. Its weights train. It is refused where they stand in
    /// different places.
    pub fn with_name<'b>(
        name: &str,
        config: Box<dyn FusionConfig>,
        adapters: &[&dyn Member],
        base: impl Into<Base<'b>>,
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Fusion> {
        let base = base.into();
        let names: Vec<String> = adapters.iter().map(|a| a.label()).collect();
        if let Some((_, twice)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(Error::Config(format!("`{twice}` is fused with itself")));
        }
        let all = adapters.iter().map(|a| a.closes()).collect::<Vec<_>>();
        let parts = |sites: &BTreeSet<Site>| sites.iter().map(|s| s.part).collect::<BTreeSet<Part>>();
        for (name, sites) in names.iter().zip(&all) {
            if sites.is_empty() {
                let what = format!("`{name}` is no bottleneck adapter, and nothing else can be fused");
                return Err(Error::Config(what));
            }
            if parts(sites) != parts(&all[0]) {
                return Err(Error::Config(format!(
                    "`{}` and `{name}` cannot be fused: they do not stand behind the same sub-layers (`mh_adapter`, \
                     `output_adapter`, `cross_adapter`)",
                    names[0]
                )));
            }
        }
        let sites: BTreeSet<Site> = all.into_iter().flatten().collect();
        let mut fusion = Fusion::empty(name.into(), names, config, base);
        let from = &mut Source::New(&mut Fresh::new(device, set, seed));
        fusion.build(base, &Paths::default(), |s, _| sites.contains(&s), true, from)?;
        Ok(fusion)
    }
    /// Loads a fusion that AdapterHub or engraft saved, to train on.
    pub fn load<'b>(
        directory: &Path,
        host: &Host,
        base: impl Into<Base<'b>>,
        device: &Device,
        set: &mut ParamSet,
    ) -> Result<Fusion> {
        Fusion::read(directory, host, base.into(), device, Some(set))
    }
    /// The same for a fusion that does not train.
    pub fn load_frozen<'b>(
        directory: &Path,
        host: &Host,
        base: impl Into<Base<'b>>,
        device: &Device,
    ) -> Result<Fusion> {
        Fusion::read(directory, host, base.into(), device, None)
    }
    fn read(
        directory: &Path,
        host: &Host,
        base: Base<'_>,
        device: &Device,
        set: Option<&mut ParamSet>,
    ) -> Result<Fusion> {
        let path = directory.join(CONFIG);
        let bad = |what: String| Error::File { path: path.clone(), what };
        let mut fields = object(&path)?;
        let adapters = match fields.remove("adapter_names") {
            // the library of 2020 and 2021 wrote one text
            Some(serde_json::Value::String(names)) => names.split(',').map(String::from).collect(),
            Some(v) => {
                serde_json::from_value::<Vec<String>>(v).map_err(|e| bad(format!("`adapter_names`: {e}")))?
            }
            None => return Err(bad("no field `adapter_names`".into())),
        };
        let card = Card::of(fields, &path, host)?;
        let config = match card.config {
            serde_json::Value::Object(fields) => read(fields).map_err(|e| bad(e.to_string()))?,
            _ => return Err(bad("no field `config`".into())),
        };
        let name = card.name.unwrap_or_else(|| adapters.join(","));
        let checkpoint = Checkpoint::open_first(directory, &TENSORS)?;
        let (trains, mut none) = (set.is_some(), ParamSet::new());
        let mut load = Load::new(&checkpoint, device, set.unwrap_or(&mut none)).renaming(older::renamed);
        let held: Vec<&str> = checkpoint.names().collect();
        let common = usize::from(config.is_shared());
        let mut fusion = Fusion::empty(name, adapters, config, base);
        // one that has no weights of a site's own stands everywhere
        let is_here = |_, path: &str| {
            held.len() == common
                || held.iter().any(|n| n.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
        };
        let paths = Paths::of(base.sites, &checkpoint, "");
        fusion.build(base, &paths, is_here, trains, &mut Source::File(&mut load)).map_err(|e| match e {
            Error::Config(what) => bad(what),
            other => other,
        })?;
        nothing_left(&load, checkpoint.path(), "fusion")?;
        Ok(fusion)
    }
    fn empty(name: String, adapters: Vec<String>, config: Box<dyn FusionConfig>, base: Base<'_>) -> Fusion {
        let (common, mixers) = (Common::default(), BTreeMap::new());
        let others = base.sites.iter().filter(|i| i.module != i.site);
        let shared = others.map(|i| (i.site, i.module)).collect();
        Fusion { name, adapters, config, sites: base.sites.to_vec(), common, mixers, shared }
    }
    fn build(
        &mut self,
        base: Base<'_>,
        paths: &Paths,
        is_here: impl Fn(Site, &str) -> bool,
        trains: bool,
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        self.config.check()?;
        let n = self.adapters.len();
        if let Some(info) = self.sites.iter().find(|i| i.site == Site::EMBED) {
            let place = Place { info, base, adapter: &self.name, path: paths.at(info), trains };
            self.config.common(&place, &place.module(COLLECTION), n, &mut self.common, from)?;
        }
        let closes = |i: &&SiteInfo| i.module == i.site && matches!(i.kind, SiteKind::Close { .. });
        for info in self.sites.iter().filter(closes) {
            let place = Place { info, base, adapter: &self.name, path: paths.at(info), trains };
            let path = place.module(COLLECTION);
            if is_here(info.site, &path) {
                let mixer = self.config.build(&place, &path, n, from)?;
                self.mixers.insert(info.site, mixer);
            }
        }
        match self.mixers.is_empty() {
            true => Err(Error::Config("there is no place in this model for this fusion".into())),
            false => Ok(()),
        }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What it was made for: the names of adapters, and those of other fusions in brackets.
    pub fn adapters(&self) -> &[String] {
        &self.adapters
    }
    /// Its configuration.
    pub fn config(&self) -> &dyn FusionConfig {
        &*self.config
    }
    /// Refuses to fuse other adapters than those that it was made for; some of them will do. For
    /// each member of a composition the number of the adapter that it stands for.
    pub(crate) fn places(&self, of: &[Setup]) -> Result<Vec<usize>> {
        let place = |s: &Setup| {
            let name = s.label().unwrap_or_else(|| s.to_string());
            let known = || {
                let all = self.adapters.join("`, `");
                Error::Config(format!(
                    "the fusion `{}` was made for `{all}`, and not for `{name}`",
                    self.name
                ))
            };
            self.adapters.iter().position(|a| *a == name).ok_or_else(known)
        };
        of.iter().map(place).collect()
    }
    /// What mixes at a site.
    pub(crate) fn at(&self, s: Site) -> Option<(&dyn Mixer, Here<'_>)> {
        let mixer = self.mixers.get(self.shared.get(&s).unwrap_or(&s))?;
        Some((&**mixer, Here { site: s, common: &self.common }))
    }
    /// What mixes, in the order of the model.
    pub fn mixers(&self) -> impl Iterator<Item = (Site, &dyn Mixer)> {
        self.mixers.iter().map(|(s, m)| (*s, &**m))
    }
    /// Trains no more.
    pub fn freeze(self) -> Fusion {
        let mixers = self.mixers.into_iter().map(|(s, m)| (s, m.freeze())).collect();
        Fusion { mixers, common: self.common.freeze(), ..self }
    }
    /// Every weight under its name in AdapterHub's checkpoints.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        self.common.each(&mut |_, _, name, w| v.push((name.into(), w)));
        for info in &self.sites {
            if let Some(m) = self.mixers.get(&info.site) {
                let path = format!("{}.{COLLECTION}.{}", info.path, self.name);
                m.each(&mut |tensor, w| v.push((format!("{path}.{tensor}"), w)));
            }
        }
        v
    }
    /// Its files by name.
    pub fn files(&self, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        let card = Card::new(self.config.fields()?, host, &self.name);
        let mut fields = serde_json::to_value(&card).map_err(|e| Error::Config(e.to_string()))?;
        fields["adapter_names"] = self.adapters.clone().into();
        Ok(vec![(CONFIG.into(), json(&fields)?), (TENSORS[0].into(), tensors(&self.named())?)])
    }
    /// Saves [`Self::files`] into a directory, which is made where it is missing.
    pub fn save(&self, directory: &Path, host: &Host) -> Result<()> {
        write(directory, &self.files(host)?)
    }
}
/// What a fusion mixes: an adapter, or another fusion.
pub trait Member {
    /// What the fusion calls it.
    fn label(&self) -> String;
    /// Where it stands at the end of a sub-layer.
    fn closes(&self) -> BTreeSet<Site>;
}
impl Member for Adapter {
    fn label(&self) -> String {
        self.name().into()
    }
    fn closes(&self) -> BTreeSet<Site> {
        let here = |(info, m): (&SiteInfo, &dyn crate::Module)| {
            matches!(m.view(), crate::View::Close(c) if c.narrow().is_some()).then_some(info.site)
        };
        self.modules().filter_map(here).collect()
    }
}
impl Member for Fusion {
    fn label(&self) -> String {
        Setup::label_of_fusion(&self.name)
    }
    fn closes(&self) -> BTreeSet<Site> {
        self.mixers.keys().copied().collect()
    }
}
impl Parameters for Fusion {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.common.visit(f);
        self.mixers.values().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.common.visit_mut(f);
        self.mixers.values_mut().for_each(|m| m.visit_mut(f));
    }
}
