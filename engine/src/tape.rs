//! Recording, and the backward pass.
use crate::{
    Act, Group, Hooks, LinearRef, NormRef, Parameters, Prefix, Result, Site,
    ops::Pending,
    segment::Keeping,
    spot::Spot,
    weight::{Param, Target},
};
use engraft_kernels::{
    Buffer, Class, Device,
    dropout::Dropout,
    elementwise,
    matmul::Plus,
    profile::{Mark, Place},
};
use std::{collections::BTreeMap, sync::Arc};

/// The place of a recorded operation on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(usize);

/// One recorded operation. Its fields are what its backward pass needs, so a tape can be listed and priced.
pub trait Backward<'m> {
    /// The operation.
    fn name(&self) -> &'static str;
    /// Bytes it keeps for the backward pass.
    fn saved(&self) -> usize;
    /// Passes the gradient of its output on to its inputs and weights. It may push operations onto the tape (a replayed
    /// segment does), which run next.
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

/// One forward pass: the tape, the hooks, the device. The model and the adapters outlive it (`'m`).
pub struct Cx<'m> {
    device: Device,
    hooks: &'m dyn Hooks,
    pass: Pass,
    nodes: Vec<Node<'m>>,
    spot: Spot,
    pub(crate) keeping: Keeping,
}

/// An operation on the tape, and where in the model it stands.
struct Node<'m> {
    op: Box<dyn Backward<'m> + 'm>,
    at: Place,
}

impl<'m> Cx<'m> {
    /// A pass on `device` in which `hooks` answer.
    pub fn new(device: &Device, hooks: &'m dyn Hooks, pass: Pass) -> Cx<'m> {
        let spot = Spot::new(device, if pass.record { "forward" } else { "inference" });
        Cx { device: device.clone(), hooks, pass, nodes: vec![], spot, keeping: Keeping::default() }
    }
    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
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
        self.nodes.push(Node { op: Box::new(op), at: self.spot.at() });
        y
    }
    /// The random choices of a site in this pass, if there are any.
    pub(crate) fn dropout_at(&self, p: f32, s: Site, salt: u8) -> Option<Dropout> {
        let (seed, pass) = self.pass.random.filter(|_| p > 0.0)?;
        Some(Dropout::new(p, seed, pass, s.place(salt)))
    }

    // ---- what models call ---------------------------------------------------------------------------------------------

    /// What follows belongs to the layer of `s`, or to the head, until another is named: a profile lists it there. A pass
    /// begins at the embeddings, and the hooks below name their sites themselves.
    pub fn enter(&mut self, s: Site) {
        self.spot.enter(&self.device, s.into());
    }
    /// What follows belongs to another phase.
    pub(crate) fn turn(&mut self, phase: &'static str) {
        self.spot.turn(&self.device, phase);
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

    /// Keys and values that an adapter adds to the attention at `s`, whose input is x: see [`Hooks::prefix`].
    pub fn prefix(&mut self, s: Site, x: &Act) -> Result<Option<Prefix>> {
        self.enter(s);
        self.hooks.prefix(self, s, x)
    }
    /// A norm that stands by itself at `s`: see [`Hooks::norm`].
    pub fn norm(&mut self, s: Site, x: &Act, n: NormRef<'m>) -> Result<Act> {
        self.enter(s);
        self.hooks.norm(self, s, x, n)
    }

    // ---- backward -----------------------------------------------------------------------------------------------------

    /// The gradients of Σ y · dy with respect to every `Param` that took part, added to `into`. Consumes the tape from the
    /// top, freeing what it kept as it goes.
    pub fn backward(mut self, y: &Act, dy: Buffer, into: &mut Gradients) -> Result<()> {
        self.turn("backward");
        let mut g = Grads { device: self.device.clone(), nodes: vec![], params: into };
        g.node(y.node, Arc::new(dy))?;
        while let Some(Node { op, at }) = self.nodes.pop() {
            let i = self.nodes.len();
            if let Some(dy) = g.nodes.get_mut(i).and_then(Option::take) {
                self.spot.enter(&self.device, at);
                op.run(dy, &mut g, &mut self)?;
            }
        }
        Ok(())
    }
}

/// The gradients of trained weights, by slot. They hold exactly the `Param`s that took part.
#[derive(Debug, Default)]
pub struct Gradients {
    by_slot: Vec<Option<Buffer>>,
}
impl Gradients {
    /// None yet.
    pub fn new() -> Gradients {
        Gradients::default()
    }
    /// The gradient of a weight, if it took part.
    pub fn get(&self, p: &Param) -> Option<&Buffer> {
        self.by_slot.get(p.slot())?.as_ref()
    }
    /// Weights that took part.
    pub fn len(&self) -> usize {
        self.by_slot.iter().flatten().count()
    }
    /// True if no weight took part.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Where they live; nothing, if there are none.
    pub(crate) fn device(&self) -> Option<&Device> {
        self.by_slot.iter().flatten().next().map(Buffer::device)
    }
    /// Forgets them all.
    pub fn clear(&mut self) {
        self.by_slot.clear();
    }
    /// The norms of the gradients of the weights inside `of`: of each group, summed in the order of the slots.
    pub fn norms(&self, of: &[&dyn Parameters]) -> Result<Norms> {
        let mut norms = Norms::default();
        let Some(d) = self.device() else { return Ok(norms) };
        let _span = d.mark(Mark::Phase("optimiser"));
        let mut by_group: BTreeMap<Group, BTreeMap<usize, &Buffer>> = BTreeMap::new();
        for p in of {
            p.visit(&mut |p| {
                if let Some(g) = self.get(p) {
                    by_group.entry(p.role().group).or_default().insert(p.slot(), g);
                }
            });
        }
        for (group, gradients) in by_group {
            let pairs: Vec<_> = gradients.into_values().map(|b| (b, b)).collect();
            norms.squares.insert(group, engraft_kernels::reduce::dots(d, &pairs)?);
        }
        Ok(norms)
    }
}

/// The norms of gradients, group by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Norms {
    squares: BTreeMap<Group, f64>,
}
impl Norms {
    /// √ Σ g² over the weights of a group; 0 for a group without gradients.
    pub fn of(&self, group: Group) -> f64 {
        self.squares.get(&group).copied().unwrap_or(0.0).sqrt()
    }
    /// √ Σ g² over the weights of all groups.
    pub fn total(&self) -> f64 {
        self.squares.values().sum::<f64>().sqrt()
    }
}

/// Gradients on their way through the tape. They attach lazily: the first one is taken as it is, later ones are added.
pub struct Grads<'g> {
    device: Device,
    nodes: Vec<Option<Arc<Buffer>>>,
    params: &'g mut Gradients,
}
impl Grads<'_> {
    /// A gradient for the source of an activation, if it was recorded.
    pub fn node(&mut self, id: Option<NodeId>, d: Arc<Buffer>) -> Result<()> {
        let Some(NodeId(i)) = id else { return Ok(()) };
        if self.nodes.len() <= i {
            self.nodes.resize_with(i + 1, || None);
        }
        let sum = match self.nodes[i].take() {
            None => d,
            Some(mut a) => {
                if let Some(y) = Arc::get_mut(&mut a) {
                    elementwise::axpy(&self.device, 1.0, &d, y)?;
                    a
                } else {
                    let mut y = self.device.alloc::<f32>(Class::Scratch, d.len())?;
                    elementwise::add(&self.device, &a, &d, &mut y)?;
                    Arc::new(y)
                }
            }
        };
        self.nodes[i] = Some(sum);
        Ok(())
    }
    /// A gradient of `len` values for the source of an activation, if it was recorded, computed by a product:
    /// `f(device, plus, buffer)` sets the buffer to the product plus what has come for this source so far. The sum costs no
    /// pass of its own.
    pub fn node_plus(
        &mut self,
        id: Option<NodeId>,
        len: usize,
        f: impl FnOnce(&Device, Plus<'_>, &mut Buffer) -> Result<()>,
    ) -> Result<()> {
        let Some(NodeId(i)) = id else { return Ok(()) };
        let so_far = self.nodes.get_mut(i).and_then(Option::take);
        let sum = match so_far.map(Arc::try_unwrap) {
            Some(Ok(mut y)) => {
                f(&self.device, Plus::OUTPUT, &mut y)?;
                y
            }
            shared => {
                let mut y = self.device.alloc::<f32>(Class::Scratch, len)?;
                match &shared {
                    Some(Err(rows)) => f(&self.device, Plus::rows(rows), &mut y)?,
                    _ => f(&self.device, Plus::NOTHING, &mut y)?,
                }
                y
            }
        };
        self.node(id, Arc::new(sum))
    }
    /// The gradient of a weight, if it trains or was computed from one that does: `f(device, buffer, accumulate)` sets the
    /// buffer, or adds to it where another use of the weight has left its gradient.
    pub(crate) fn weight(
        &mut self,
        to: Target,
        len: usize,
        f: impl FnOnce(&Device, &mut Buffer, bool) -> Result<()>,
    ) -> Result<()> {
        let slot = match to {
            Target::Nothing => return Ok(()),
            Target::Node(node) => {
                let mut d = self.device.alloc::<f32>(Class::Scratch, len)?;
                f(&self.device, &mut d, false)?;
                return self.node(Some(node), Arc::new(d));
            }
            Target::Slot(slot) => slot,
        };
        let v = &mut self.params.by_slot;
        if v.len() <= slot {
            v.resize_with(slot + 1, || None);
        }
        match &mut v[slot] {
            Some(b) => f(&self.device, b, true),
            none => {
                let mut b = self.device.alloc::<f32>(Class::Grad, len)?;
                f(&self.device, &mut b, false)?;
                *none = Some(b);
                Ok(())
            }
        }
    }
}

/// A gradient to write over: itself if nobody else holds it, else a copy.
pub(crate) fn owned(d: Arc<Buffer>) -> Result<Buffer> {
    match Arc::try_unwrap(d) {
        Ok(b) => Ok(b),
        Err(d) => Ok(d.duplicate(Class::Scratch)?),
    }
}
