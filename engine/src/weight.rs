//! `Frozen` and `Param` in storage; `W`, their borrowed sum, at the point of use.
//!
//! Storage is generic (`Bert<Frozen>`, `Bottleneck<Param>`), so that an optimiser can only be
//! handed what trains. Use is erased: an operation needs the values and a place for their gradient
//! or none, and hooks must be object-safe.
use crate::{Act, Compute, Result, Tensor, node::NodeId};
use engraft_kernels::{Buffer, Class, DType, Storage, matmul::Matrix};

/// A weight that never changes: no gradient slot, no `&mut` access to its values, any storage type.
#[derive(Debug)]
pub struct Frozen(Tensor);

/// A weight that trains: f32, with a gradient slot and a name. Made only by a [`ParamSet`].
#[derive(Debug)]
pub struct Param {
    slot: usize,
    name: String,
    role: Role,
    tensor: Tensor,
}

/// What a trained weight is for, as its maker says: nothing is read from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// False for biases and the weights of norms, which weight decay leaves alone.
    pub decays: bool,
    /// Whose learning rate, weight decay and clipping apply.
    pub group: Group,
}
impl Role {
    /// A weight that decays, in the first group.
    pub const WEIGHT: Role = Role { decays: true, group: Group(0) };
    /// A bias or the weight of a norm, in the first group: it does not decay.
    pub const BIAS: Role = Role { decays: false, group: Group(0) };
    /// The same role in another group.
    pub fn of(self, group: Group) -> Role {
        Role { group, ..self }
    }
}

/// Weights that share a learning rate, a weight decay and a norm to which gradients are clipped:
/// one adapter of several that train in company, say. What is not told otherwise is in group 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub u32);

impl Frozen {
    /// Freezes values.
    pub fn new(tensor: Tensor) -> Frozen {
        tensor.buffers().for_each(|b| b.set_class(Class::Backbone));
        Frozen(tensor)
    }
    /// The values.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}

impl Param {
    /// Its place among the gradients of its set.
    pub fn slot(&self) -> usize {
        self.slot
    }
    /// Its name in checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }
    /// The values.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
    /// The values, to be changed by an optimiser.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        self.tensor.buffer_mut()
    }
}

/// The only maker of [`Param`]s. What trains together comes from one set, so that
/// slots do not collide.
#[derive(Clone, Debug, Default)]
pub struct ParamSet {
    elements: Vec<usize>,
}

impl ParamSet {
    /// A set without members.
    pub fn new() -> ParamSet {
        ParamSet::default()
    }
    /// A set without members whose places are behind so many others: what trains beside the members
    /// of another set.
    pub fn behind(places: usize) -> ParamSet {
        ParamSet { elements: vec![0; places] }
    }
    /// A new member. The values must be f32.
    pub fn param(&mut self, name: &str, tensor: Tensor, role: Role) -> Result<Param> {
        if tensor.buffer().dtype() != DType::F32 {
            return Err(engraft_kernels::Error::DType {
                kernel: "param",
                argument: "tensor",
                expected: "f32",
                got: tensor.buffer().dtype(),
            }
            .into());
        }
        tensor.buffer().set_class(Class::Adapter);
        self.elements.push(tensor.elements());
        Ok(Param { slot: self.elements.len() - 1, name: name.into(), role, tensor })
    }
    /// Members, and places in front of them.
    pub fn len(&self) -> usize {
        self.elements.len()
    }
    /// True if nothing trains.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
    /// Numbers that train.
    pub fn elements(&self) -> usize {
        self.elements.iter().sum()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Frozen {}
    impl Sealed for super::Param {}
}

/// [`Frozen`] or [`Param`], and nothing else.
pub trait Weight: sealed::Sealed + std::fmt::Debug + Sized + Send + Sync + 'static {
    /// True for [`Param`].
    const TRAINABLE: bool;
    /// Takes a tensor into storage under a checkpoint name.
    fn make(set: &mut ParamSet, name: &str, tensor: Tensor, role: Role) -> Result<Self>;
    /// The weight at its point of use.
    fn get(&self) -> W<'_>;
    /// Its values.
    fn tensor(&self) -> &Tensor;
    /// Trains no more.
    fn freeze(self) -> Frozen;
    /// Itself, if it trains.
    fn param(&self) -> Option<&Param>;
    /// Itself, if it trains.
    fn param_mut(&mut self) -> Option<&mut Param>;
}
impl Weight for Frozen {
    const TRAINABLE: bool = false;
    fn make(_: &mut ParamSet, _: &str, tensor: Tensor, _: Role) -> Result<Frozen> {
        Ok(Frozen::new(tensor))
    }
    fn get(&self) -> W<'_> {
        W::Stored { tensor: &self.0, slot: None }
    }
    fn tensor(&self) -> &Tensor {
        &self.0
    }
    fn freeze(self) -> Frozen {
        self
    }
    fn param(&self) -> Option<&Param> {
        None
    }
    fn param_mut(&mut self) -> Option<&mut Param> {
        None
    }
}
impl Weight for Param {
    const TRAINABLE: bool = true;
    fn make(set: &mut ParamSet, name: &str, tensor: Tensor, role: Role) -> Result<Param> {
        set.param(name, tensor, role)
    }
    fn get(&self) -> W<'_> {
        W::Stored { tensor: &self.tensor, slot: Some(self.slot) }
    }
    fn tensor(&self) -> &Tensor {
        &self.tensor
    }
    fn freeze(self) -> Frozen {
        Frozen::new(self.tensor)
    }
    fn param(&self) -> Option<&Param> {
        Some(self)
    }
    fn param_mut(&mut self) -> Option<&mut Param> {
        Some(self)
    }
}

/// A weight at its point of use.
#[derive(Clone, Debug)]
pub enum W<'m> {
    /// Stored values, and where their gradient goes if they train.
    Stored {
        /// The values.
        tensor: &'m Tensor,
        /// The place among the gradients of a [`ParamSet`]; none for a frozen weight.
        slot: Option<usize>,
    },
    /// An activation used as a weight (rows, cols): what was computed from other weights. Its
    /// gradient goes on to them.
    Computed(Act),
}

/// Where the gradient of a weight goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nowhere: nothing that trains stands behind the weight.
    Nothing,
    /// To the gradients of a set.
    Slot(usize),
    /// To the operation that computed the weight.
    Node(NodeId),
}
impl Target {
    /// True if somebody wants the gradient.
    pub fn is_some(self) -> bool {
        self != Target::Nothing
    }
}

impl W<'_> {
    pub(crate) fn target(&self) -> Target {
        match self {
            W::Stored { slot, .. } => slot.map_or(Target::Nothing, Target::Slot),
            W::Computed(x) => x.node.map_or(Target::Nothing, Target::Node),
        }
    }
    /// The values, row-major; codes of them, if they are quantised.
    pub fn buffer(&self) -> &Buffer {
        match self {
            W::Stored { tensor, .. } => tensor.buffer(),
            W::Computed(x) => x.buffer(),
        }
    }
    /// The shape: (rows, cols) of what was computed.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            W::Stored { tensor, .. } => tensor.shape().to_vec(),
            W::Computed(x) => vec![x.rows(), x.cols()],
        }
    }
    /// Its values: the product of the shape.
    pub fn elements(&self) -> usize {
        match self {
            W::Stored { tensor, .. } => tensor.elements(),
            W::Computed(x) => x.rows() * x.cols(),
        }
    }
    /// (rows, cols): one row for a vector.
    pub fn dims(&self) -> (usize, usize) {
        match self {
            W::Stored { tensor, .. } => tensor.dims(),
            W::Computed(x) => (x.rows(), x.cols()),
        }
    }
    /// What the values are stored as.
    pub fn storage(&self) -> Storage {
        match self {
            W::Stored { tensor, .. } => tensor.storage(),
            W::Computed(_) => Storage::F32,
        }
    }
    /// In what arithmetic the frozen products of its model are computed.
    pub fn compute(&self) -> Compute {
        match self {
            W::Stored { tensor, .. } => tensor.compute(),
            W::Computed(_) => Compute::F32,
        }
    }
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        match self {
            W::Stored { tensor, .. } => tensor.matrix(),
            W::Computed(x) => Matrix::plain(x.buffer(), x.rows(), x.cols()),
        }
    }
    /// The scales of its rows, if products with it are computed in 8-bit integers.
    pub(crate) fn integers(&self) -> Option<&Buffer> {
        match self {
            W::Stored { tensor, .. } => tensor.integers(),
            W::Computed(_) => None,
        }
    }
    /// The backward pass will read the values: those of a computed weight are held for it.
    pub(crate) fn hold(&self) {
        if let W::Computed(x) = self {
            x.hold();
        }
    }
}

/// Whatever holds weights that may train.
pub trait Parameters {
    /// Calls `f` on every [`Param`] inside.
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param));
    /// Calls `f` on every [`Param`] inside, to be changed.
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param));
}
impl<P: Weight> Parameters for P {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.param().into_iter().for_each(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.param_mut().into_iter().for_each(f);
    }
}
