//! A named adapter: the modules of a method at the sites of a model, and their answers to its
//! hooks.
use crate::{
    Base, Common, Config, Error, Fields, Here, Host, Loading, Module, Place, Result,
    files::{CONFIG, Card, Format, Paths, nothing_left, object, older, own, peft, write},
    heads,
};
use engraft_engine::{
    Checkpoint, Device, Fresh, Load, Param, ParamSet, Parameters, Site, SiteInfo, Source, Tensor,
    checkpoint::{TensorData, serialize_with},
};
use std::{collections::BTreeMap, path::Path};

/// Modules grafted onto a model, some or all of which train.
#[derive(Debug)]
pub struct Adapter {
    name: String,
    config: Box<dyn Config>,
    format: Format,
    sites: Vec<SiteInfo>,
    common: Common,
    modules: BTreeMap<Site, Vec<Box<dyn Module>>>,
    /// The sites that the modules of others answer at.
    shared: BTreeMap<Site, Site>,
}

/// Files and checkpoints make paths of it.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.is_empty() || name.contains(['.', ',', '/', '\\']) {
        true => Err(Error::Config(format!("`{name}` cannot be the name of an adapter"))),
        false => Ok(()),
    }
}

/// Where AdapterHub's checkpoints have the tensors of a module.
fn path(info: &SiteInfo, m: &dyn Module, adapter: &str) -> String {
    format!("{}.{}.{adapter}", m.home(info), m.collection())
}

impl Adapter {
    /// A new adapter on a model with these sites. The seed decides its weights, all of which train.
    pub fn new<'b>(
        name: &str,
        config: impl Into<Box<dyn Config>>,
        base: impl Into<Base<'b>>,
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Adapter> {
        check_name(name)?;
        let (config, base) = (config.into(), base.into());
        let format = match (config.adapterhub(), config.peft(base.sites)) {
            (Ok(_), _) => Format::AdapterHub,
            (Err(_), Ok(_)) => Format::Peft,
            // what cannot be saved is not worth training
            (Err(why), Err(_)) => {
                config.check()?;
                return Err(why);
            }
        };
        let mut adapter = Adapter::empty(name, config, format, base.sites);
        let from = &mut Source::New(&mut Fresh::new(device, set, seed));
        adapter.build(base, true, &Paths::default(), from)?;
        Ok(adapter)
    }
    /// Loads an adapter that AdapterHub, PEFT or engraft saved (`adapter_config.json` and its
    /// tensors), to train on. It is refused if it is for another model, or if a tensor is missing,
    /// left over or of another shape.
    pub fn load<'b>(
        directory: &Path,
        host: &Host,
        base: impl Into<Base<'b>>,
        device: &Device,
        set: &mut ParamSet,
    ) -> Result<Adapter> {
        Adapter::load_as(&Loading::default(), directory, host, base, device, Some(set))
    }
    /// The same for an adapter that does not train.
    pub fn load_frozen<'b>(
        directory: &Path,
        host: &Host,
        base: impl Into<Base<'b>>,
        device: &Device,
    ) -> Result<Adapter> {
        Adapter::load_as(&Loading::default(), directory, host, base, device, None)
    }
    /// The same in another way; it trains if there is a set for its weights.
    pub fn load_as<'b>(
        how: &Loading,
        directory: &Path,
        host: &Host,
        base: impl Into<Base<'b>>,
        device: &Device,
        set: Option<&mut ParamSet>,
    ) -> Result<Adapter> {
        let (path, base) = (directory.join(CONFIG), base.into());
        let bad = |what: String| Error::File { path: path.clone(), what };
        let fields = object(&path)?;
        let format = Format::of(&fields);
        let opened = || Checkpoint::open_first(directory, &format.readable());
        let (name, config, checkpoint) = match format {
            Format::AdapterHub => {
                let mut card = Card::of(fields, &path, host)?;
                let checkpoint = opened();
                let names = checkpoint.iter().flat_map(Checkpoint::names);
                older::without_invertible(&mut card.config, card.kind.as_deref(), names);
                how.leave_out(&mut card.config).map_err(|e| bad(e.to_string()))?;
                let config = how.methods.read(card.config, card.version.as_deref());
                (card.name.ok_or_else(|| bad("no field `name`".into()))?, config, checkpoint)
            }
            Format::Peft if !how.leave_out.is_empty() => {
                return Err(bad("PEFT's configurations cannot say that layers are left out".into()));
            }
            Format::Peft => (peft::NAME.into(), how.methods.read_peft(fields), opened()),
        };
        // what it is comes before what it holds
        let config = config.map_err(|e| bad(e.to_string()))?;
        let checkpoint = checkpoint?;
        let (trains, mut none) = (set.is_some(), ParamSet::new());
        let load = Load::new(&checkpoint, device, set.unwrap_or(&mut none));
        let mut load = load.renaming(|n| older::renamed(n).or_else(|| own::usual(n))).storing(how.storage);
        let mut adapter = Adapter::empty(&name, config, format, base.sites);
        let root = if format == Format::Peft { peft::ROOT } else { "" };
        let paths = Paths::of(base.sites, &checkpoint, root);
        adapter.build(base, trains, &paths, &mut Source::File(&mut load)).map_err(|e| match e {
            Error::Config(what) => bad(what),
            other => other,
        })?;
        if format == Format::Peft {
            heads::mark(&mut load);
        }
        // what stands in layers that are left out has no place any more
        let out: Vec<&SiteInfo> = base.sites.iter().filter(|i| how.is_left_out(i)).collect();
        let is_out = |name: &String| {
            let under = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
            out.iter().any(|i| under(paths.at(i)))
        };
        load.unused().iter().filter(|name| is_out(name)).for_each(|name| load.mark(name));
        nothing_left(&load, checkpoint.path(), "adapter")?;
        Ok(adapter)
    }
    fn empty(name: &str, config: Box<dyn Config>, format: Format, sites: &[SiteInfo]) -> Adapter {
        let others = sites.iter().filter(|i| i.module != i.site);
        let shared = others.map(|i| (i.site, i.module)).collect();
        let (common, modules) = (Common::default(), BTreeMap::new());
        Adapter { name: name.into(), config, format, sites: sites.to_vec(), common, modules, shared }
    }
    fn build(
        &mut self,
        base: Base<'_>,
        trains: bool,
        paths: &Paths,
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        self.config.check()?;
        let layers = self.sites.iter().map(|i| i.site.layer + 1).max().unwrap_or(0);
        if let Some(l) = self.config.leave_out().iter().find(|l| **l >= layers) {
            return Err(Error::Config(format!("`leave_out` names layer {l}; the model has {layers}")));
        }
        let place = |info, path| Place { info, base, adapter: &self.name, path, trains };
        if let Some(info) = self.sites.iter().find(|i| i.site == Site::EMBED) {
            self.config.common(&place(info, paths.at(info)), &mut self.common, from)?;
        }
        for info in self.sites.iter().filter(|i| i.module == i.site) {
            let modules = self.config.build(&place(info, paths.at(info)), from)?;
            if !modules.is_empty() {
                self.modules.insert(info.site, modules);
            }
        }
        match self.modules.is_empty() {
            true => {
                Err(Error::Config("there is no place in this model for it: there is nothing to train".into()))
            }
            false => Ok(()),
        }
    }
    /// Trains no more: it records nothing.
    pub fn freeze(self) -> Adapter {
        let freeze = |(s, v): (Site, Vec<Box<dyn Module>>)| (s, v.into_iter().map(|m| m.freeze()).collect());
        let modules = self.modules.into_iter().map(freeze).collect();
        Adapter { modules, common: self.common.freeze(), ..self }
    }
    /// The same under another name.
    pub fn renamed(self, name: &str) -> Result<Adapter> {
        check_name(name)?;
        Ok(Adapter { name: name.into(), ..self })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// True if a weight of it trains.
    pub fn trains(&self) -> bool {
        let mut trains = false;
        self.visit(&mut |_| trains = true);
        trains
    }
    /// Its configuration.
    pub fn config(&self) -> &dyn Config {
        &*self.config
    }
    /// The sites of the model that it is for.
    pub fn sites(&self) -> &[SiteInfo] {
        &self.sites
    }
    /// What its files are unless another format is asked for: what it was loaded from; for a new
    /// one AdapterHub's, or PEFT's if only that can say what it is.
    pub fn format(&self) -> Format {
        self.format
    }
    /// (site, module) in the order of the model.
    pub fn modules(&self) -> impl Iterator<Item = (&SiteInfo, &dyn Module)> {
        let here = |i: &SiteInfo| self.modules.get(&i.site).into_iter().flatten();
        self.sites.iter().flat_map(move |i| here(i).map(move |m| (i, &**m)))
    }
    /// What its modules share.
    pub fn common(&self) -> &Common {
        &self.common
    }
    /// Every weight under its name in AdapterHub's checkpoints.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = self.shared_weights(&self.name);
        for (info, m) in self.modules() {
            let path = path(info, m, &self.name);
            m.each(&mut |tensor, w| v.push((format!("{path}.{tensor}"), w)));
        }
        v
    }
    fn shared_weights(&self, name: &str) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        self.common.each(&mut |site, collection, tensor, w| {
            let home = self.sites.iter().find(|i| i.site == site).map_or("", |i| &i.path);
            v.push((format!("{home}.{collection}.{name}.{tensor}"), w));
        });
        v
    }
    /// The tensors of AdapterHub's checkpoint, for an adapter of this name.
    pub(crate) fn adapterhub(&self, name: &str) -> Result<Vec<(String, TensorData<'_>)>> {
        let one = |(name, t): (String, &Tensor)| Ok((name, TensorData::f32(&t.to_f32()?, t.shape())));
        let mut all = self.shared_weights(name).into_iter().map(one).collect::<Result<Vec<_>>>()?;
        for (info, m) in self.modules() {
            let path = path(info, m, name);
            all.extend(m.adapterhub()?.into_iter().map(|(tensor, data)| (format!("{path}.{tensor}"), data)));
        }
        Ok(all)
    }
    /// Its files by name, in its own format: see [`Adapter::format`].
    pub fn files(&self, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        self.files_as(self.format, host)
    }
    /// Its files by name; an error if the format cannot say what it is.
    pub fn files_as(&self, format: Format, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        match format {
            Format::AdapterHub => {
                let own: Vec<Site> = self.modules.keys().copied().collect();
                let fields = self.config.adapterhub_at(&self.sites, &own)?;
                let card = Card::new(fields, host, &self.name);
                let of_model = |(name, t)| (own::of_model(&host.model_type, name), t);
                let all: Vec<_> = self.adapterhub(&self.name)?.into_iter().map(of_model).collect();
                let data = serialize_with(&all, host.note().as_deref())?;
                Ok(vec![(CONFIG.into(), card.bytes()?), (format.tensors().into(), data)])
            }
            Format::Peft => {
                let (fields, all) = self.peft()?;
                peft::files(&fields, &all, host)
            }
        }
    }
    /// What PEFT's files say of it: the fields of its configuration, and its tensors.
    pub(crate) fn peft(&self) -> Result<(Fields, Vec<(String, TensorData<'_>)>)> {
        let fields = self.config.peft(&self.sites)?;
        let mut all = self.config.peft_tensors(&self.common)?;
        for (info, module) in self.modules() {
            let named = module.peft()?.into_iter();
            let path = info.in_model(module.home(info));
            all.extend(named.map(|(t, data)| (format!("{}{path}.{t}", peft::ROOT), data)));
        }
        Ok((fields, all))
    }
    /// Saves [`Self::files`] into a directory, which is made where it is missing.
    pub fn save(&self, directory: &Path, host: &Host) -> Result<()> {
        write(directory, &self.files(host)?)
    }
    /// What its modules are told at a site.
    pub(crate) fn here(&self, site: Site) -> Here<'_> {
        Here { site, common: &self.common }
    }
    /// The modules that answer at a site.
    pub(crate) fn at(&self, s: Site) -> &[Box<dyn Module>] {
        self.modules.get(self.shared.get(&s).unwrap_or(&s)).map_or(&[], Vec::as_slice)
    }
}

impl Parameters for Adapter {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.common.visit(f);
        self.modules.values().flatten().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.common.visit_mut(f);
        self.modules.values_mut().flatten().for_each(|m| m.visit_mut(f));
    }
}
