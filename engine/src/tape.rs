//! A pass: what models call, what adapters answer, what is recorded, and the backward pass.
//!
//! A model calls a hook at a site, an adapter answers. Each hook *owns* the model's operation there
//! and its default *is* that operation, so a model without adapters is the plain model, and an
//! adapter can change an input, read a weight, fuse the work or change the rows. A model never
//! names an adapter; all an adapter knows of an architecture is its list of sites.
use crate::{
    Act, Gradients, Grads, KvCache, LinearRef, NormRef, Pending, Prefix, Result, Site, SiteInfo,
    keeping::Keeping, profile_scope::ProfileScope, weight::Target,
};
use engraft_kernels::{Buffer, Class, Device, dropout::Dropout, profile::Place};
use std::sync::Arc;

pub(crate) use crate::{gradients::owned, node::NodeId};

/// One recorded operation. Its fields are what its backward pass needs, so a tape can be
/// listed and priced.
pub trait Backward<'m> {
    /// The operation.
    fn name(&self) -> &'static str;
    /// Bytes it keeps for the backward pass.
    fn saved(&self) -> usize;
    /// Passes the gradient of its output on to its inputs and weights. It may push operations onto
    /// the tape (a replayed segment does), which run next.
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()>;
}

/// What kind of pass this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    record: bool,
    random: Option<(u64, u64)>,
}
impl Pass {
    /// Evaluation: no dropout, nothing recorded.
    pub fn infer() -> Pass {
        Pass { record: false, random: None }
    }
    /// Gradients without dropout.
    pub fn gradients() -> Pass {
        Pass { record: true, random: None }
    }
    /// Gradients with dropout; `seed` names the run and `number` the pass within it.
    pub fn train(seed: u64, number: u64) -> Pass {
        Pass { record: true, random: Some((seed, number)) }
    }
}

/// What adapters answer. Object-safe; every method's default is the model's own operation.
pub trait Hooks: Sync {
    /// The residual stream where its rows may change: behind the embeddings, in front of each
    /// layer and behind it.
    fn stream<'m>(&'m self, _cx: &mut Cx<'m>, _s: Site, x: Act) -> Result<Act> {
        Ok(x)
    }
    /// y = x Wᵀ + b.
    fn linear<'m>(&'m self, cx: &mut Cx<'m>, _s: Site, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        cx.matmul(x, w)
    }
    /// Keys and values beside those of the tokens, for an attention whose input is x.
    fn prefix<'m>(&'m self, _cx: &mut Cx<'m>, _s: Site, _x: &Act) -> Result<Option<Prefix>> {
        Ok(None)
    }
    /// A norm that stands by itself: in front of a sub-layer, behind the embeddings
    /// or the last layer.
    fn norm<'m>(&'m self, cx: &mut Cx<'m>, _s: Site, x: &Act, n: NormRef<'m>) -> Result<Act> {
        cx.normalise(x, n)
    }
    /// The end of a sub-layer: norm(h + r), or h + r in a pre-norm model. What reads h by itself
    /// asks for [`Cx::dropped`] first.
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> Result<Act> {
        cx.drop_add_norm(h, r, norm)
    }
    /// Is the answer here anything but the model's own? Where not, the engine may fuse
    /// across the site.
    fn touches(&self, _s: Site) -> bool {
        false
    }
    /// Do the answers in a layer depend on the place of a row in its sequence? Then the last layer
    /// computes every row, however few are read.
    fn reads_places(&self, _layer: usize) -> bool {
        false
    }
}

/// The model as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;
impl Hooks for Plain {}

/// The first layer that the hooks touch: below it activations are constants.
pub fn first_touched(hooks: &dyn Hooks, sites: &[SiteInfo]) -> Option<usize> {
    sites.iter().filter(|i| hooks.touches(i.site)).map(|i| i.site.layer).min()
}

/// One forward pass: the tape, the hooks, the device. The model and the adapters outlive it (`'m`).
pub struct Cx<'m> {
    device: Device,
    hooks: &'m dyn Hooks,
    pass: Pass,
    nodes: Vec<Node<'m>>,
    scope: ProfileScope,
    pub(crate) keeping: Keeping,
    /// Keys and values of the tokens of passes before.
    pub(crate) cache: Option<KvCache>,
}

/// An operation on the tape, and where in the model it stands.
struct Node<'m> {
    op: Box<dyn Backward<'m> + 'm>,
    at: Place,
}

impl<'m> Cx<'m> {
    /// A pass on `device` in which `hooks` answer.
    pub fn new(device: &Device, hooks: &'m dyn Hooks, pass: Pass) -> Cx<'m> {
        let scope = ProfileScope::new(device, if pass.record { "forward" } else { "inference" });
        Cx {
            device: device.clone(),
            hooks,
            pass,
            nodes: vec![],
            scope,
            keeping: Keeping::default(),
            cache: None,
        }
    }
    /// The same pass, which remembers the keys and values of its tokens and reads those of passes
    /// before. Only for passes that record nothing: what is remembered has no gradients.
    pub fn with_cache(mut self, cache: KvCache) -> Result<Self> {
        if self.pass.record {
            return Err(crate::Error::Cache { what: "serves passes without gradients only".into() });
        }
        self.cache = Some(cache);
        Ok(self)
    }
    /// The place of the next token of an item: 0 in a pass without a cache.
    pub fn place(&self, item: usize) -> usize {
        self.cache.as_ref().map_or(0, |c| c.tokens(item))
    }
    /// Keys and values that layer `layer` attends to besides those of its tokens, as those of an
    /// encoder's output are: made once, and in a pass that remembers taken from there ever after.
    pub fn once(
        &mut self,
        layer: usize,
        make: impl FnOnce(&mut Cx<'m>) -> Result<[Act; 2]>,
    ) -> Result<[Act; 2]> {
        if let Some(made) = self.cache.as_mut().and_then(|c| c.other(layer, None)) {
            return Ok(made);
        }
        let made = make(self)?;
        Ok(self.cache.as_mut().and_then(|c| c.other(layer, Some(made.clone()))).unwrap_or(made))
    }
    /// What the pass has remembered.
    pub fn into_cache(self) -> Option<KvCache> {
        self.cache
    }
    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// The number of the pass within its run, if it is one of training: see [`Pass::train`].
    pub fn training_pass(&self) -> Option<u64> {
        self.pass.random.map(|(_, number)| number)
    }
    /// Operations recorded so far.
    pub fn recorded(&self) -> usize {
        self.nodes.len()
    }
    /// (name, bytes kept) of every recorded operation.
    pub fn tape(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.nodes.iter().map(|n| (n.op.name(), n.op.saved()))
    }
    /// Uninitialised f32 values.
    pub(crate) fn alloc(&self, len: usize) -> Result<Buffer> {
        Ok(self.device.alloc::<f32>(Class::Scratch, len)?)
    }
    /// True if an operation with these inputs and weights must be recorded.
    pub(crate) fn needed(&self, inputs: &[Option<NodeId>], weights: &[Target]) -> bool {
        let trains = inputs.iter().any(Option::is_some) || weights.iter().any(|t| t.is_some());
        self.pass.record && trains && self.keeping.records()
    }
    /// Puts an operation on the tape as the source of `y`.
    pub(crate) fn record(&mut self, mut y: Act, op: impl Backward<'m> + 'm) -> Act {
        y.node = Some(NodeId(self.nodes.len()));
        self.nodes.push(Node { op: Box::new(op), at: self.scope.place() });
        y
    }
    /// The random choices of a site in this pass, if there are any.
    pub(crate) fn dropout_at(&self, p: f32, s: Site, salt: u8) -> Option<Dropout> {
        let (seed, pass) = self.pass.random.filter(|_| p > 0.0)?;
        Some(Dropout::new(p, seed, pass, s.place(salt)))
    }

    // ---- what models call -----------------------------------------------------------------------

    /// What follows belongs to the layer of `s`, or to the head, until another is named: a
    /// profile lists it there. A pass begins at the embeddings, and the hooks below name their
    /// sites themselves.
    pub fn enter(&mut self, s: Site) {
        self.scope.enter_place(&self.device, s.into());
    }
    /// What follows belongs to another phase.
    pub(crate) fn turn(&mut self, phase: &'static str) {
        self.scope.enter_phase(&self.device, phase);
    }
    /// True if every row of a layer must be computed: see [`Hooks::reads_places`].
    pub fn reads_places(&self, layer: usize) -> bool {
        self.hooks.reads_places(layer)
    }
    /// The residual stream at `s`: see [`Hooks::stream`].
    pub fn stream(&mut self, s: Site, x: Act) -> Result<Act> {
        self.enter(s);
        self.hooks.stream(self, s, x)
    }
    /// A linear layer at `s`: see [`Hooks::linear`].
    pub fn linear(&mut self, s: Site, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        self.enter(s);
        self.hooks.linear(self, s, x, w)
    }
    /// The end of a sub-layer at `s`: see [`Hooks::close`].
    pub fn close(&mut self, s: Site, h: Pending, r: &Act, norm: Option<NormRef<'m>>) -> Result<Act> {
        self.enter(s);
        self.hooks.close(self, s, h, r, norm)
    }

    /// Keys and values that an adapter adds to the attention at `s`, whose input is x: see
    /// [`Hooks::prefix`].
    pub fn prefix(&mut self, s: Site, x: &Act) -> Result<Option<Prefix>> {
        self.enter(s);
        self.hooks.prefix(self, s, x)
    }
    /// A norm that stands by itself at `s`: see [`Hooks::norm`].
    pub fn norm(&mut self, s: Site, x: &Act, n: NormRef<'m>) -> Result<Act> {
        self.enter(s);
        self.hooks.norm(self, s, x, n)
    }

    // ---- backward -------------------------------------------------------------------------------

    /// The gradients of Σ y · dy with respect to every `Param` that took part, added to `into`.
    /// Consumes the tape from the top, freeing what it kept as it goes.
    pub fn backward(mut self, y: &Act, dy: Buffer, into: &mut Gradients) -> Result<()> {
        self.turn("backward");
        let mut g = Grads::new(&self.device, into);
        g.node(y.node, Arc::new(dy))?;
        while let Some(Node { op, at }) = self.nodes.pop() {
            let i = self.nodes.len();
            if let Some(dy) = g.take(NodeId(i)) {
                self.scope.enter_place(&self.device, at);
                op.run(dy, &mut g, &mut self)?;
            }
        }
        Ok(())
    }
}
