//! What a model is made of, and what adapters add to it: sections, layers, sub-layers, modules.
//!
//! No family is known here. A module is the weights whose names differ in the last word alone;
//! where it stands the model's sites say, and of one without a site the paths of those around it.
use crate::learner::Places;
use engraft_adapters::{Adapter, Module};
use engraft_engine::{Parameters, Part, Point, Site, SiteInfo, SiteKind, Tensor};
use engraft_models::{Kind, Model};
use serde::Serialize;
use std::{collections::BTreeMap, ops::AddAssign};

/// A model's sections, from tokens to logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Architecture {
    /// Embeddings, the stacks of layers, and what stands behind them.
    pub sections: Vec<Section>,
    /// Weights of adapters that stand for the whole model.
    pub shared: Vec<Added>,
}
/// Modules that belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    /// `embeddings`, `layers`, `encoder`, `decoder`, `head`.
    pub name: &'static str,
    /// Of all its weights.
    #[serde(flatten)]
    pub size: Size,
    /// Its layers: those that are alike stand together.
    pub layers: Vec<Alike>,
    /// Modules in no layer; in a stack they stand behind its layers.
    pub rows: Vec<Row>,
}
/// Layers with modules of the same names and shapes, stored alike, with the same additions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alike {
    /// Which, counted through from 0.
    pub layers: Vec<usize>,
    /// How many of them have weights of their own; the others run with those.
    pub sets: usize,
    /// Of the weights of one.
    pub each: Size,
    /// What one consists of, in its order.
    pub parts: Vec<SubLayer>,
}
/// A part of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubLayer {
    /// `attn`, `cross`, `ffn`; `layer` is the residual stream on its way in, or out.
    pub name: &'static str,
    /// Of its weights.
    #[serde(flatten)]
    pub size: Size,
    /// Its modules and sites.
    pub rows: Vec<Row>,
}
/// A module with its weights, or a site that has none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The module, within its layer; of a site without weights what it is.
    pub name: String,
    /// What it computes with, to be read.
    pub shape: String,
    /// The name of the site that it stands at, if there is one.
    pub site: Option<String>,
    /// Of its weights.
    #[serde(flatten)]
    pub size: Size,
    /// Its weights.
    pub tensors: Vec<Stored>,
    /// What stands at the site.
    pub adds: Vec<Added>,
}
/// A weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stored {
    /// The last word of its name.
    pub name: String,
    /// As its files have it.
    pub shape: Vec<usize>,
    /// What it is stored as.
    pub storage: &'static str,
    /// Bytes, scales included.
    pub bytes: usize,
}
/// What an adapter has at a site, or for the whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Added {
    /// The adapter.
    pub adapter: String,
    /// What AdapterHub's checkpoints call modules of its kind.
    pub kind: &'static str,
    /// (name, shape) of its tensors.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Numbers.
    pub parameters: usize,
    /// Those of them that train.
    pub trainable: usize,
}
/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Numbers of the model.
    pub parameters: usize,
    /// Their bytes as they are stored.
    pub bytes: usize,
    /// Numbers of adapters.
    pub added: usize,
}
impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.parameters += other.parameters;
        self.bytes += other.bytes;
        self.added += other.added;
    }
}
impl Size {
    fn of<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Size {
        let mut all = Size::default();
        rows.into_iter().for_each(|row| all += row.size);
        all
    }
}

/// Weights whose names differ in the last word.
struct Weights<'a> {
    path: String,
    /// The layer, and the path within it.
    layer: Option<(usize, String)>,
    /// It stands behind layers, not in front of all of them.
    behind: bool,
    tensors: Vec<(String, &'a Tensor)>,
}

struct Builder<'a> {
    sites: &'a [SiteInfo],
    places: Places,
    modules: Vec<Weights<'a>>,
    adds: BTreeMap<Site, Vec<Added>>,
}

impl Architecture {
    /// Of a model, with these adapters on it.
    pub fn of(model: &dyn Model, adapters: &[&Adapter]) -> Architecture {
        let info = model.info();
        let b = Builder::new(model, adapters);
        let stacks = match info.kind {
            Kind::EncoderDecoder { encoder, .. } => {
                vec![("encoder", 0..encoder), ("decoder", encoder..info.layers)]
            }
            Kind::Encoder | Kind::Decoder => vec![("layers", 0..info.layers)],
        };
        let last = stacks.len() - 1;
        let mut sections =
            vec![Section::new("embeddings", vec![], b.loose(&|s| s.part == Part::Embed, false))];
        for (i, (name, range)) in stacks.into_iter().enumerate() {
            let is_end = |s: Site| match s.part {
                Part::Memory => i < last,
                Part::Head => i == last && s.point == Point::Norm,
                _ => false,
            };
            sections.push(Section::new(name, b.alike(range), b.sited(&is_end)));
        }
        // without a head of its own there is a place for another one, and nothing to draw there
        let is_head = |s: Site| info.has_lm_head && s.part == Part::Head && s.point != Point::Norm;
        let mut head = b.loose(&is_head, true);
        if info.has_lm_head && info.is_tied {
            head.push(Row::without_weights("logits", "the table of embeddings again"));
        }
        if !head.is_empty() {
            sections.push(Section::new("head", vec![], head));
        }
        let shared = adapters.iter().filter_map(|a| Added::shared(a)).collect();
        Architecture { sections, shared }
    }
    /// All that adapters add, and what of it trains.
    pub fn added(&self) -> (usize, usize) {
        let rows = self.sections.iter().flat_map(|s| {
            let of_layers = s
                .layers
                .iter()
                .flat_map(|a| a.parts.iter().flat_map(|p| &p.rows).map(move |row| (row, a.sets)));
            s.rows.iter().map(|row| (row, 1)).chain(of_layers)
        });
        let adds = rows.flat_map(|(row, times)| row.adds.iter().map(move |a| (a, times)));
        let all = adds.chain(self.shared.iter().map(|a| (a, 1)));
        all.fold((0, 0), |(n, t), (a, times)| (n + times * a.parameters, t + times * a.trainable))
    }
}
impl Section {
    fn new(name: &'static str, layers: Vec<Alike>, rows: Vec<Row>) -> Section {
        let mut size = Size::of(&rows);
        layers.iter().for_each(|a| (0..a.sets).for_each(|_| size += a.each));
        Section { name, size, layers, rows }
    }
}
impl Added {
    fn of(adapter: &Adapter, m: &dyn Module) -> Added {
        let (mut tensors, mut trainable) = (vec![], 0);
        m.each(&mut |name, t| tensors.push((name, t.shape().to_vec())));
        m.visit(&mut |p| trainable += p.tensor().elements());
        Added::new(adapter, m.collection(), tensors, trainable)
    }
    fn shared(adapter: &Adapter) -> Option<Added> {
        let (mut tensors, mut trainable) = (vec![], 0);
        let common = adapter.common();
        common.each(&mut |_, kind, name, t| tensors.push((format!("{kind}.{name}"), t.shape().to_vec())));
        common.visit(&mut |p| trainable += p.tensor().elements());
        (!tensors.is_empty()).then(|| Added::new(adapter, "shared", tensors, trainable))
    }
    fn new(
        adapter: &Adapter,
        kind: &'static str,
        tensors: Vec<(String, Vec<usize>)>,
        trainable: usize,
    ) -> Added {
        let parameters = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        Added { adapter: adapter.name().into(), kind, tensors, parameters, trainable }
    }
}
impl Row {
    fn without_weights(name: &str, shape: &str) -> Row {
        let (site, size, tensors, adds) = (None, Size::default(), vec![], vec![]);
        Row { name: name.into(), shape: shape.into(), site, size, tensors, adds }
    }
}

impl<'a> Builder<'a> {
    fn new(model: &'a dyn Model, adapters: &[&Adapter]) -> Builder<'a> {
        let (sites, places) = (model.sites(), Places::of(model.sites()));
        let mut modules = Vec::<Weights<'_>>::new();
        for (name, t) in model.named() {
            let (path, word) = name.rsplit_once('.').unwrap_or((&name, "weight"));
            match modules.last_mut().filter(|m| m.path == path) {
                Some(module) => module.tensors.push((word.into(), t)),
                None => {
                    let layer = places
                        .within(&name)
                        .map(|(l, rest)| (l, rest.rsplit_once('.').map_or("", |(path, _)| path).to_string()));
                    let behind = modules.iter().any(|m| m.layer.is_some());
                    modules.push(Weights {
                        path: path.into(),
                        layer,
                        behind,
                        tensors: vec![(word.into(), t)],
                    });
                }
            }
        }
        let mut adds = BTreeMap::<Site, Vec<Added>>::new();
        for a in adapters {
            a.modules().for_each(|(info, m)| adds.entry(info.site).or_default().push(Added::of(a, m)));
        }
        Builder { sites, places, modules, adds }
    }
    /// The module whose weights a site's operation is.
    fn module(&self, info: &SiteInfo) -> Option<&Weights<'a>> {
        let path = match (&info.norm, info.kind) {
            (_, SiteKind::Linear { .. } | SiteKind::Norm { .. }) => info.in_model(&info.path),
            (Some(norm), _) => info.in_model(&norm.path),
            (None, _) => return None,
        };
        self.modules.iter().find(|m| m.path == path)
    }
    fn row(&self, info: Option<&SiteInfo>, module: Option<&Weights<'a>>) -> Row {
        let adds = info.and_then(|i| self.adds.get(&i.module)).cloned().unwrap_or_default();
        let tensors: Vec<Stored> = module.iter().flat_map(|m| &m.tensors).map(Stored::of).collect();
        let size = Size {
            parameters: tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum(),
            bytes: tensors.iter().map(|t| t.bytes).sum(),
            added: adds.iter().map(|a| a.parameters).sum(),
        };
        let name = match (module, info) {
            (Some(Weights { layer: Some((_, path)), .. }), _) => path.clone(),
            (Some(m), _) => self.places.short(&m.path).to_string(),
            (None, info) => info.map_or("", |i| of_site(i.site)).to_string(),
        };
        let shape = shape(info.map(|i| i.kind), &tensors);
        Row { name, shape, site: info.map(|i| i.site.name()), size, tensors, adds }
    }
    /// The sites of some kind, which are in no layer, with their modules.
    fn sited(&self, is_here: &dyn Fn(Site) -> bool) -> Vec<Row> {
        let here = self.sites.iter().filter(|i| is_here(i.site));
        here.map(|i| self.row(Some(i), self.module(i))).collect()
    }
    /// The same, and modules in no layer and at no site, in front of all layers or behind them.
    fn loose(&self, is_here: &dyn Fn(Site) -> bool, behind: bool) -> Vec<Row> {
        let site = |m: &Weights<'_>| {
            self.sites.iter().find(|i| self.module(i).is_some_and(|own| own.path == m.path))
        };
        let mut rows = vec![];
        for m in self.modules.iter().filter(|m| m.layer.is_none()) {
            match site(m) {
                Some(info) if is_here(info.site) => rows.push(self.row(Some(info), Some(m))),
                None if m.behind == behind => rows.push(self.row(None, Some(m))),
                _ => {}
            }
        }
        let bare = self.sites.iter().filter(|i| is_here(i.site) && self.module(i).is_none());
        rows.extend(bare.map(|i| self.row(Some(i), None)));
        rows
    }
    /// Some layers, those that are alike together.
    fn alike(&self, layers: std::ops::Range<usize>) -> Vec<Alike> {
        let mut found = Vec::<(Alike, Vec<usize>)>::new();
        for l in layers {
            let (parts, own) = self.layer(l);
            match found.iter_mut().find(|(a, _)| a.parts == parts) {
                Some((a, sets)) => {
                    a.layers.push(l);
                    sets.push(own);
                }
                None => {
                    let each = Size::of(parts.iter().flat_map(|p| &p.rows));
                    found.push((Alike { layers: vec![l], sets: 1, each, parts }, vec![own]));
                }
            }
        }
        let counted = |(a, mut sets): (Alike, Vec<usize>)| {
            sets.sort_unstable();
            sets.dedup();
            Alike { sets: sets.len(), ..a }
        };
        found.into_iter().map(counted).collect()
    }
    /// What a layer consists of, and the layer whose weights it runs with.
    fn layer(&self, l: usize) -> (Vec<SubLayer>, usize) {
        let is_here = |i: &&SiteInfo| {
            i.site.layer == l && matches!(i.site.part, Part::Layer | Part::Attn | Part::Cross | Part::Ffn)
        };
        let sites: Vec<&SiteInfo> = self.sites.iter().filter(is_here).collect();
        let own = sites.first().map_or(l, |i| i.module.layer);
        let mut parts = vec![];
        for run in sites.chunk_by(|a, b| a.site.part == b.site.part) {
            let rows = run.iter().map(|i| self.row(Some(i), self.module(i))).collect();
            let name = run.first().map_or("", |i| i.site.part.name());
            parts.push(SubLayer { name, size: Size::default(), rows });
        }
        let at_site =
            |m: &Weights<'_>| sites.iter().any(|i| self.module(i).is_some_and(|o| o.path == m.path));
        let of_layer = |m: &&Weights<'a>| m.layer.as_ref().is_some_and(|(layer, _)| *layer == own);
        for m in self.modules.iter().filter(of_layer).filter(|m| !at_site(m)) {
            let near = |i: &&&SiteInfo| same_words(i.in_model(&i.path), &m.path);
            let of_parts = sites.iter().filter(|i| i.site.part != Part::Layer);
            let part = of_parts.max_by_key(near).map_or("layer", |i| i.site.part.name());
            let row = self.row(None, Some(m));
            match parts.iter_mut().find(|p| p.name == part) {
                Some(p) => p.rows.push(row),
                None => parts.push(SubLayer { name: part, size: Size::default(), rows: vec![row] }),
            }
        }
        parts.iter_mut().for_each(|p| p.size = Size::of(&p.rows));
        (parts, own)
    }
}
impl Stored {
    fn of((name, t): &(String, &Tensor)) -> Stored {
        let (shape, storage) = (t.shape().to_vec(), t.storage().name());
        Stored { name: name.clone(), shape, storage, bytes: t.bytes() }
    }
}

/// Words that two paths have in common, from the first on.
fn same_words(a: &str, b: &str) -> usize {
    a.split('.').zip(b.split('.')).take_while(|(a, b)| a == b).count()
}
/// What a site without weights is.
fn of_site(site: Site) -> &'static str {
    match (site.part, site.point) {
        (Part::Layer, Point::Stream) => "residual stream, in",
        (Part::Layer, Point::Close) => "residual stream, out",
        (Part::Memory, Point::Stream) => "what the decoder reads",
        (Part::Head, _) => "what logits are made of",
        (_, Point::Words) => "words alone",
        (_, Point::Stream) => "residual stream",
        (_, Point::Prefix) => "keys and values",
        (_, Point::Close) => "residual",
        _ => "",
    }
}
/// Sides, as they are read.
pub fn sides(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}
fn shape(kind: Option<SiteKind>, tensors: &[Stored]) -> String {
    let bias = if tensors.iter().any(|t| t.name == "bias") { ", bias" } else { "" };
    match (kind, tensors.first()) {
        (Some(SiteKind::Linear { input, output, parts, .. }), _) => match parts {
            0 | 1 => format!("{input} -> {output}{bias}"),
            n => format!("{input} -> {n} x {}{bias}", output / n),
        },
        (_, Some(t)) => format!("{}{bias}", sides(&t.shape)),
        (Some(SiteKind::Stream { channels } | SiteKind::Prefix { channels }), None) => channels.to_string(),
        (Some(SiteKind::Norm { channels } | SiteKind::Close { channels }), None) => channels.to_string(),
        (None, None) => String::new(),
    }
}
