//! A family describes its weights and sites once: a traversal of its modules, on which loading,
//! names, sites and visits rest.
//!
//! [`Layout`] is handed through a model's modules when it is loaded; each call names a weight and
//! says at which site it stands. What comes back are handles; the values, the names and the list of
//! sites are in [`Weights`].
use engraft_engine::{
    LinearForm, LinearRef, Load, Norm, NormKind, NormRef, Param, Parameters, Part, Point, Result, Role, Site,
    SiteInfo, SiteKind, SiteNorm, Tensor, W, Weight,
};

/// A weight among [`Weights`].
#[derive(Clone, Copy, Debug)]
pub struct Id(usize);
/// A linear layer among [`Weights`].
#[derive(Clone, Copy, Debug)]
pub struct LinearId {
    w: Id,
    b: Option<Id>,
    in_out: bool,
}
/// A norm among [`Weights`].
#[derive(Clone, Copy, Debug)]
pub struct NormId {
    w: Id,
    b: Option<Id>,
    eps: f32,
    kind: NormKind,
}

/// All weights of a model under their checkpoint names, and its sites.
#[derive(Debug)]
pub struct Weights<P: Weight> {
    named: Vec<(String, P)>,
    sites: Vec<SiteInfo>,
}
impl<P: Weight> Weights<P> {
    /// A weight at its point of use.
    pub fn get(&self, id: Id) -> W<'_> {
        self.named[id.0].1.get()
    }
    /// A weight at its point of use that has no gradient, although it may be among what trains.
    pub fn constant(&self, id: Id) -> W<'_> {
        W::Stored { tensor: self.named[id.0].1.tensor(), slot: None }
    }
    /// A linear layer at its point of use.
    pub fn linear(&self, l: LinearId) -> LinearRef<'_> {
        LinearRef { w: self.get(l.w), b: l.b.map(|b| self.get(b)), in_out: l.in_out }
    }
    /// A norm at its point of use.
    pub fn norm(&self, n: NormId) -> NormRef<'_> {
        NormRef { w: self.get(n.w), b: n.b.map(|b| self.get(b)), eps: n.eps, kind: n.kind }
    }
    /// Where the model calls hooks.
    pub fn sites(&self) -> &[SiteInfo] {
        &self.sites
    }
    /// Every weight under its checkpoint name.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        self.named.iter().map(|(name, w)| (name.clone(), w.tensor())).collect()
    }
}
impl<P: Weight> Parameters for Weights<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.named.iter().for_each(|(_, w)| w.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.named.iter_mut().for_each(|(_, w)| w.visit_mut(f));
    }
}

/// The traversal of a model's modules.
pub struct Layout<'s, 'a, P: Weight> {
    load: &'s mut Load<'a>,
    weights: Weights<P>,
    outer: &'static str,
}
impl<'s, 'a, P: Weight> Layout<'s, 'a, P> {
    /// A traversal that loads.
    pub fn new(load: &'s mut Load<'a>) -> Layout<'s, 'a, P> {
        Layout { load, weights: Weights { named: vec![], sites: vec![] }, outer: "" }
    }
    /// AdapterHub's class for heads holds the model in one of its modules: `outer` stands in front of
    /// the paths of all sites, and of no weight.
    pub fn inside(self, outer: &'static str) -> Layout<'s, 'a, P> {
        Layout { outer, ..self }
    }
    /// The weights and sites that it has come past.
    pub fn finish(self) -> Weights<P> {
        self.weights
    }
    /// True if the checkpoint has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.load.has(name)
    }
    /// The checkpoint may hold this tensor, and nothing is lost without it.
    pub fn ignore(&mut self, name: &str) {
        self.load.mark(name);
    }
    /// A hook is called here; `path` is where checkpoints keep what hangs here.
    pub fn site(&mut self, site: Site, kind: SiteKind, path: &str) {
        self.push(site, kind, path, None);
    }
    fn push(&mut self, site: Site, kind: SiteKind, path: &str, norm: Option<&str>) {
        let outer = self.outer;
        let inside = |path: &str| match (outer.is_empty(), path.is_empty()) {
            (true, _) => path.to_string(),
            (false, true) => outer.to_string(),
            (false, false) => format!("{outer}.{path}"),
        };
        let norm = norm.map(|n| SiteNorm { path: inside(n), bias: self.has_bias(n) });
        let info = SiteInfo::new(site, kind, inside(path));
        self.weights.sites.push(SiteInfo { norm, outer, ..info });
    }
    /// AdapterHub's configurations take the site that was listed last for this point.
    pub fn known_as(&mut self, point: Point) {
        if let Some(info) = self.weights.sites.last_mut() {
            info.known_as = point;
        }
    }
    /// The end of a sub-layer: `path` is where AdapterHub keeps what hangs there, `norm` the path
    /// of the norm that is applied there in a post-norm model, which has been loaded.
    pub fn close(&mut self, site: Site, channels: usize, path: &str, norm: Option<&str>) {
        self.push(site, SiteKind::Close { channels }, path, norm);
    }
    fn has_bias(&self, path: &str) -> bool {
        let bias = format!("{path}.bias");
        self.weights.named.iter().any(|(n, _)| *n == bias)
    }
    fn add(&mut self, name: String, w: P) -> Id {
        self.weights.named.push((name, w));
        Id(self.weights.named.len() - 1)
    }
    /// A table (rows, cols) of embeddings.
    pub fn table(&mut self, name: &str, rows: usize, cols: usize) -> Result<Id> {
        self.tied_table(name, &[], rows, cols)
    }
    /// The table `name`, of which files may hold copies: the first of all these names that they
    /// have counts, whatever the others hold, as in transformers.
    pub fn tied_table(&mut self, name: &str, copies: &[&str], rows: usize, cols: usize) -> Result<Id> {
        let file = self.first_of(name, copies);
        let w = self.load.get_as(name, file, &[rows, cols], Role::WEIGHT)?;
        std::iter::once(&name).chain(copies).for_each(|n| self.ignore(n));
        Ok(self.add(name.into(), w))
    }
    fn first_of<'n>(&self, name: &'n str, copies: &[&'n str]) -> &'n str {
        std::iter::once(&name).chain(copies).find(|n| self.has(n)).unwrap_or(&name)
    }
    /// A table (rows, cols) of biases, which decay no more than others do.
    pub fn bias_table(&mut self, name: &str, rows: usize, cols: usize) -> Result<Id> {
        let w = self.load.get(name, &[rows, cols], Role::BIAS)?;
        Ok(self.add(name.into(), w))
    }
    /// A bias of `len` numbers by itself.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Id> {
        self.vector_as(name, name, len)
    }
    /// The bias `name`, which the files at hand call `file`.
    pub fn vector_as(&mut self, name: &str, file: &str, len: usize) -> Result<Id> {
        let w = self.load.get_as(name, file, &[len], Role::BIAS)?;
        Ok(self.add(name.into(), w))
    }
    /// Layer `layer` runs with the weights of layer `of`, and its sites have the modules of that
    /// one's.
    pub fn repeat(&mut self, of: usize, layer: usize) {
        let is_in_layer = |s: Site| s.layer == of && !matches!(s.part, Part::Embed | Part::Head);
        let first = self.weights.sites.iter().filter(|i| is_in_layer(i.site)).cloned();
        let again: Vec<_> = first.map(|i| SiteInfo { site: Site { layer, ..i.site }, ..i }).collect();
        self.weights.sites.extend(again);
    }
    /// A linear layer of the module `path`, where no hook is called.
    pub fn plain_linear(&mut self, path: &str, dims: (usize, usize), form: LinearForm) -> Result<LinearId> {
        let l = self.load.linear::<P>(path, dims, form)?;
        let w = self.add(format!("{path}.weight"), l.w);
        let b = l.b.map(|b| self.add(format!("{path}.bias"), b));
        Ok(LinearId { w, b, in_out: form.in_out })
    }
    /// A linear layer of the module `path` at a site; its outputs are those of `parts` projections
    /// side by side.
    pub fn linear(
        &mut self,
        site: Site,
        path: &str,
        (input, output): (usize, usize),
        form: LinearForm,
        parts: usize,
    ) -> Result<LinearId> {
        let (in_out, bias) = (form.in_out, !form.no_bias);
        self.site(site, SiteKind::Linear { input, output, parts, in_out, bias }, path);
        self.plain_linear(path, (input, output), form)
    }
    /// A norm of the module `path`; where it stands by itself, its site.
    pub fn norm(
        &mut self,
        site: Option<Site>,
        path: &str,
        channels: usize,
        eps: f32,
        kind: NormKind,
    ) -> Result<NormId> {
        let n = self.load.norm::<P>(path, channels, eps, kind)?;
        Ok(self.add_norm(site, path, channels, n))
    }
    /// A LayerNorm that has no bias.
    pub fn norm_without_bias(
        &mut self,
        site: Option<Site>,
        path: &str,
        channels: usize,
        eps: f32,
    ) -> Result<NormId> {
        let n = self.load.norm_without_bias::<P>(path, channels, eps)?;
        Ok(self.add_norm(site, path, channels, n))
    }
    fn add_norm(&mut self, site: Option<Site>, path: &str, channels: usize, n: Norm<P>) -> NormId {
        let (eps, kind) = (n.eps, n.kind);
        let w = self.add(format!("{path}.weight"), n.w);
        let b = n.b.map(|b| self.add(format!("{path}.bias"), b));
        if let Some(site) = site {
            self.push(site, SiteKind::Norm { channels }, path, Some(path));
        }
        NormId { w, b, eps, kind }
    }
}
