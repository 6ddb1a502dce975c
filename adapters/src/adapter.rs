//! A named adapter: a bottleneck at every site its configuration asks for, and its answer to the model's hooks.
use crate::{
    BnConfig, Bottleneck, Error, Host, Result,
    bottleneck::{At, New},
    files::{Card, tensors, write},
};
use engraft_engine::{
    Act, Activation, Checkpoint, Cx, Device, Fresh, Frozen, Hooks, Load, NormRef, Param, ParamSet,
    Parameters, Pending, Site, SiteInfo, SiteKind, Source, Tensor, Weight,
};
use std::{collections::BTreeMap, path::Path};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter.safetensors";

/// Bottlenecks grafted onto a model, trained (`Param`) or not (`Frozen`).
#[derive(Debug)]
pub struct Adapter<P: Weight> {
    name: String,
    config: BnConfig,
    act: Activation,
    modules: BTreeMap<Site, (String, Bottleneck<P>)>,
}

/// The sites where an adapter stands: (site, channels, path of its module).
fn sites<'a>(
    config: &'a BnConfig,
    all: &'a [SiteInfo],
    name: &'a str,
) -> impl Iterator<Item = (Site, usize, String)> + 'a {
    all.iter().filter_map(move |i| match i.kind {
        SiteKind::Close { channels } if config.stands_at(i.site) => {
            Some((i.site, channels, format!("{}.adapters.{name}", i.path)))
        }
        _ => None,
    })
}

fn check_layers(config: &BnConfig, all: &[SiteInfo]) -> Result<()> {
    let layers = all.iter().map(|i| i.site.layer + 1).max().unwrap_or(0);
    match config.leave_out.iter().find(|l| **l >= layers) {
        Some(l) => Err(Error::Config(format!("`leave_out` names layer {l}; the model has {layers}"))),
        None => Ok(()),
    }
}

impl Adapter<Param> {
    /// A new adapter on a model with these sites. The seed decides its weights.
    pub fn new(
        name: &str,
        config: BnConfig,
        all: &[SiteInfo],
        device: &Device,
        set: &mut ParamSet,
        seed: u64,
    ) -> Result<Self> {
        if name.is_empty() || name.contains(['.', ',', '/', '\\']) {
            return Err(Error::Config(format!("`{name}` cannot be the name of an adapter")));
        }
        config.check()?;
        check_layers(&config, all)?;
        let mut fresh = Fresh::new(device, set, seed);
        let mut modules = BTreeMap::new();
        for (site, channels, path) in sites(&config, all, name) {
            let width = config.reduction_factor.width(channels, site.layer)?;
            let new = New { config: &config, channels, width, path: &path };
            let module = Bottleneck::build(new, &mut Source::New(&mut fresh))?;
            modules.insert(site, (path, module));
        }
        if modules.is_empty() {
            return Err(Error::Config("`leave_out` leaves no layer: there is nothing to train".into()));
        }
        Ok(Adapter { name: name.into(), act: config.activation()?, config, modules })
    }
    /// Trains no more: it records nothing.
    pub fn freeze(self) -> Adapter<Frozen> {
        let modules = self.modules.into_iter().map(|(s, (p, m))| (s, (p, m.freeze()))).collect();
        Adapter { name: self.name, config: self.config, act: self.act, modules }
    }
}

impl<P: Weight> Adapter<P> {
    /// Loads an adapter that AdapterHub or engraft saved (`adapter_config.json`, `adapter.safetensors`). It is refused if it
    /// is for another model, or if a tensor is missing, left over or of another shape.
    pub fn load(
        directory: &Path,
        host: &Host,
        all: &[SiteInfo],
        device: &Device,
        set: &mut ParamSet,
    ) -> Result<Self> {
        let path = directory.join(CONFIG);
        let bad = |what: String| Error::File { path: path.clone(), what };
        let card = Card::<BnConfig>::read(&path, host)?;
        let mut config = card.config;
        if card.version.is_none() {
            // files older than the `version` field used these names for the other formula
            config.non_linearity = match config.non_linearity.as_str() {
                "gelu" => "gelu_new".into(),
                "gelu_orig" => "gelu".into(),
                other => other.into(),
            };
        }
        config.check().and_then(|()| check_layers(&config, all)).map_err(|e| bad(e.to_string()))?;
        let name = card.name.ok_or_else(|| bad("no field `name`".into()))?;
        let checkpoint = Checkpoint::open(&directory.join(TENSORS))?;
        let mut load = Load::new(&checkpoint, device, set);
        let mut modules = BTreeMap::new();
        for (site, channels, path) in sites(&config, all, &name) {
            let width = config.reduction_factor.width(channels, site.layer)?;
            // a plain `BertModel` saves without the prefix of the model with heads
            let short = path.split_once('.').map_or("", |(_, rest)| rest);
            let plain = checkpoint.names().any(|n| n.starts_with(short));
            let at = if plain { short } else { &path };
            let new = New { config: &config, channels, width, path: at };
            let module = Bottleneck::build(new, &mut Source::File(&mut load))?;
            modules.insert(site, (path, module));
        }
        if let Some(left) = load.unused().first() {
            let path = directory.join(TENSORS);
            return Err(Error::File { path, what: format!("tensor `{left}` has no place in this adapter") });
        }
        Ok(Adapter { name, act: config.activation()?, config, modules })
    }
    /// Its files in AdapterHub's format, by name.
    pub fn files(&self, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        let card = Card::new(self.config.clone(), host, &self.name);
        Ok(vec![(CONFIG.into(), card.bytes()?), (TENSORS.into(), tensors(&self.named())?)])
    }
    /// Saves [`Self::files`] into a directory, which is made where it is missing.
    pub fn save(&self, directory: &Path, host: &Host) -> Result<()> {
        write(directory, &self.files(host)?)
    }
    /// Every weight under its checkpoint name.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        for (path, m) in self.modules.values() {
            m.each(path, &mut |name, w| v.push((name, w.tensor())));
        }
        v
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its configuration.
    pub fn config(&self) -> &BnConfig {
        &self.config
    }
    /// (path, module) of every site, in the order of the model.
    pub fn modules(&self) -> impl Iterator<Item = (Site, &str, &Bottleneck<P>)> {
        self.modules.iter().map(|(s, (p, m))| (*s, p.as_str(), m))
    }
}

impl<P: Weight> Hooks for Adapter<P> {
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> engraft_engine::Result<Act> {
        let Some((_, m)) = self.modules.get(&s) else { return cx.drop_add_norm(h, r, norm) };
        let h = cx.dropped(h)?;
        let (m, at) = (m.get(&self.config, self.act), At { r, norm: norm.as_ref() });
        let state = m.enter(cx, &h, at)?;
        let x = m.run(cx, state, s)?;
        m.leave(cx, x, &h, at)
    }
    fn touches(&self, s: Site) -> bool {
        self.modules.contains_key(&s)
    }
}
impl<P: Weight> Parameters for Adapter<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.modules.values().for_each(|(_, m)| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.modules.values_mut().for_each(|(_, m)| m.visit_mut(f));
    }
}
