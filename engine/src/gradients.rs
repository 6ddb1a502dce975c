//! Gradients: of trained weights, which the optimiser takes, and on their way through a tape.
use crate::{Group, Param, Parameters, Result, node::NodeId, weight::Target};
use engraft_kernels::{Buffer, Class, Device, View, ViewMut, elementwise, matmul::Plus, profile::Mark};
use std::{collections::BTreeMap, sync::Arc};

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
    /// The norms of the gradients of the weights inside `of`: of each group, summed in the
    /// order of the slots.
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

/// Gradients on their way through the tape. They attach lazily: the first one is taken as it is,
/// later ones are added.
pub struct Grads<'g> {
    device: Device,
    nodes: Vec<Option<Arc<Buffer>>>,
    params: &'g mut Gradients,
}
impl<'g> Grads<'g> {
    pub(crate) fn new(device: &Device, params: &'g mut Gradients) -> Grads<'g> {
        Grads { device: device.clone(), nodes: vec![], params }
    }
    /// What has come for an operation.
    pub(crate) fn take(&mut self, NodeId(i): NodeId) -> Option<Arc<Buffer>> {
        self.nodes.get_mut(i)?.take()
    }
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
                    elementwise::axpy(&self.device, 1.0, View::row(&d), ViewMut::row(y))?;
                    a
                } else {
                    let mut y = self.device.alloc::<f32>(Class::Scratch, d.len())?;
                    elementwise::add(&self.device, View::row(&a), View::row(&d), ViewMut::row(&mut y))?;
                    Arc::new(y)
                }
            }
        };
        self.nodes[i] = Some(sum);
        Ok(())
    }
    /// A gradient (rows, cols) for the source of an activation, if it was recorded, computed by a
    /// product: `f(device, plus, to)` sets `to` to the product plus what has come for this source
    /// so far. The sum costs no pass of its own.
    pub fn node_plus(
        &mut self,
        id: Option<NodeId>,
        (rows, cols): (usize, usize),
        f: impl FnOnce(&Device, Plus<'_>, ViewMut<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(NodeId(i)) = id else { return Ok(()) };
        let so_far = self.nodes.get_mut(i).and_then(Option::take);
        let sum = match so_far.map(Arc::try_unwrap) {
            Some(Ok(mut y)) => {
                f(&self.device, Plus::OUTPUT, ViewMut::of(&mut y, rows, cols)?)?;
                y
            }
            shared => {
                let mut y = self.device.alloc::<f32>(Class::Scratch, rows * cols)?;
                let plus = match &shared {
                    Some(Err(so_far)) => Plus::rows(View::of(so_far, rows, cols)?),
                    _ => Plus::NOTHING,
                };
                f(&self.device, plus, ViewMut::of(&mut y, rows, cols)?)?;
                y
            }
        };
        self.node(id, Arc::new(sum))
    }
    /// A gradient for a part of the source of an activation, if it was recorded: `f(device, to)`
    /// adds it to what has come for the source so far, (rows, cols), which is zeros at first.
    pub fn node_part(
        &mut self,
        id: Option<NodeId>,
        (rows, cols): (usize, usize),
        f: impl FnOnce(&Device, ViewMut<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(i) = id else { return Ok(()) };
        let mut sum = match self.take(i) {
            Some(so_far) => owned(so_far)?,
            None => self.device.zeros::<f32>(Class::Scratch, rows * cols)?,
        };
        f(&self.device, ViewMut::of(&mut sum, rows, cols)?)?;
        self.node(id, Arc::new(sum))
    }
    /// The gradient of a weight, if it trains or was computed from one that does: `f(device,
    /// buffer, accumulate)` sets the buffer, or adds to it where another use of the weight has
    /// left its gradient.
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
