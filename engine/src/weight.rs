//! `Frozen` and `Param` in storage; `W`, their borrowed sum, at the point of use.
//!
//! Storage is generic (`Bert<Frozen>`, `Bottleneck<Param>`), so that an optimiser can only be handed what trains. Use is
//! erased: an operation needs the values and a gradient slot or none, and hooks must be object-safe.
use crate::{Error, Result};
use engraft_kernels::{Buffer, Class, DType, Device, Storage, matmul::Matrix, storage::Scales};

/// In what arithmetic the products with a frozen weight are computed.
///
/// In 8-bit integers a weight is held as such, with a scale for each output channel, and in no other form: see
/// [`engraft_kernels::matmul_int8`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// In f32.
    #[default]
    F32,
    /// y = x Wᵀ in integers, x rounded for each token; dx = dy W in f32.
    Int8Forward,
    /// Both in integers, dy rounded for each token too.
    Int8,
}

/// Values with a shape, in any storage type.
#[derive(Debug)]
pub struct Tensor {
    buf: Buffer,
    scales: Option<Scales>,
    shape: Vec<usize>,
    compute: Compute,
}

impl Tensor {
    /// Floats of the given shape.
    pub fn new(buf: Buffer, shape: &[usize]) -> Result<Tensor> {
        if buf.len() != shape.iter().product::<usize>() {
            return Err(Error::Shape { op: "tensor", left: shape.to_vec(), right: vec![buf.len()] });
        }
        let tensor = Tensor { buf, scales: None, shape: shape.to_vec(), compute: Compute::F32 };
        tensor.matrix().validate()?;
        Ok(tensor)
    }
    /// A matrix (rows, cols) in the buffers that `convert` makes.
    pub fn stored(buf: Buffer, scales: Option<Scales>, [rows, cols]: [usize; 2]) -> Result<Tensor> {
        let tensor = Tensor { buf, scales, shape: vec![rows, cols], compute: Compute::F32 };
        tensor.matrix().validate()?;
        Ok(tensor)
    }
    /// The tensor of a model whose frozen products are computed like this. It is its own products if it is the weight of a
    /// linear layer, stored as int8; of a norm it is those that read its output.
    pub fn computing(self, compute: Compute) -> Tensor {
        Tensor { compute, ..self }
    }
    /// In what arithmetic the frozen products of its model are computed.
    pub fn compute(&self) -> Compute {
        self.compute
    }
    /// The scales of its rows, if products with it are computed in 8-bit integers.
    pub(crate) fn integers(&self) -> Option<&Buffer> {
        match (self.compute, &self.scales) {
            (Compute::Int8Forward | Compute::Int8, Some(Scales::Rows(scales))) => Some(scales),
            _ => None,
        }
    }
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Its values: the product of the shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
    /// What it is stored as.
    pub fn storage(&self) -> Storage {
        Storage::of(self.buf.dtype()).unwrap_or(Storage::F32) // `validate` leaves no other
    }
    /// Bytes, scales included.
    pub fn bytes(&self) -> usize {
        self.buffers().map(Buffer::bytes).sum()
    }
    /// The values, row-major; codes of them, if they are quantised.
    pub fn buffer(&self) -> &Buffer {
        &self.buf
    }
    /// What quantised values are multiplied by.
    pub fn scales(&self) -> Option<&Scales> {
        self.scales.as_ref()
    }
    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        std::iter::once(&self.buf).chain(self.scales.iter().flat_map(Scales::buffers))
    }
    /// The values as f32, whatever they are stored as.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(self.matrix().decode()?)
    }
    /// (rows, cols): one row for a vector.
    pub(crate) fn dims(&self) -> (usize, usize) {
        match self.shape[..] {
            [n] => (1, n),
            [r, c] => (r, c),
            _ => (1, self.elements()),
        }
    }
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let (rows, cols) = self.dims();
        Matrix::stored(&self.buf, self.scales.as_ref(), rows, cols)
    }
}

/// A weight that never changes: no gradient slot, no `&mut` access to its values, any storage type.
#[derive(Debug)]
pub struct Frozen(Tensor);

/// A weight that trains: f32, with a gradient slot and a name. Made only by a [`ParamSet`].
#[derive(Debug)]
pub struct Param {
    slot: usize,
    name: String,
    decays: bool,
    tensor: Tensor,
}

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
    /// False for biases and the weights of norms, which weight decay leaves alone.
    pub fn decays(&self) -> bool {
        self.decays
    }
    /// The values.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
    /// The values, to be changed by an optimiser.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.tensor.buf
    }
    /// Trains no more.
    pub fn freeze(self) -> Frozen {
        Frozen::new(self.tensor)
    }
}

/// The only maker of [`Param`]s. What trains together comes from one set, so that slots do not collide.
#[derive(Clone, Debug, Default)]
pub struct ParamSet {
    elements: Vec<usize>,
}

impl ParamSet {
    /// A set without members.
    pub fn new() -> ParamSet {
        ParamSet::default()
    }
    /// A new member. The values must be f32. Weight decay passes over biases and norms, recognised by their names as
    /// Hugging Face's trainer does.
    pub fn param(&mut self, name: &str, tensor: Tensor) -> Result<Param> {
        if tensor.buf.dtype() != DType::F32 {
            return Err(engraft_kernels::Error::DType {
                kernel: "param",
                argument: "tensor",
                expected: "f32",
                got: tensor.buf.dtype(),
            }
            .into());
        }
        tensor.buf.set_class(Class::Adapter);
        self.elements.push(tensor.buf.len());
        let lower = name.to_lowercase();
        let decays = !(lower.contains("bias") || lower.contains("norm"));
        Ok(Param { slot: self.elements.len() - 1, name: name.into(), decays, tensor })
    }
    /// Members.
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
pub trait Weight: sealed::Sealed + Sized + Send + Sync + 'static {
    /// True for [`Param`].
    const TRAINABLE: bool;
    /// Takes a tensor into storage under a checkpoint name.
    fn make(set: &mut ParamSet, name: &str, tensor: Tensor) -> Result<Self>;
    /// The weight at its point of use.
    fn get(&self) -> W<'_>;
    /// Itself, if it trains.
    fn param(&self) -> Option<&Param>;
    /// Itself, if it trains.
    fn param_mut(&mut self) -> Option<&mut Param>;
}
impl Weight for Frozen {
    const TRAINABLE: bool = false;
    fn make(_: &mut ParamSet, _: &str, tensor: Tensor) -> Result<Frozen> {
        Ok(Frozen::new(tensor))
    }
    fn get(&self) -> W<'_> {
        W { tensor: &self.0, slot: None }
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
    fn make(set: &mut ParamSet, name: &str, tensor: Tensor) -> Result<Param> {
        set.param(name, tensor)
    }
    fn get(&self) -> W<'_> {
        W { tensor: &self.tensor, slot: Some(self.slot) }
    }
    fn param(&self) -> Option<&Param> {
        Some(self)
    }
    fn param_mut(&mut self) -> Option<&mut Param> {
        Some(self)
    }
}

/// A borrowed weight: its values, and its gradient slot if it trains.
#[derive(Clone, Copy, Debug)]
pub struct W<'m> {
    /// The values.
    pub tensor: &'m Tensor,
    /// Where its gradient goes; none for a frozen weight.
    pub slot: Option<usize>,
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

/// y = x Wᵀ + b, or x W + b where the checkpoint stores (in, out) as GPT-2's `Conv1D` does.
#[derive(Debug)]
pub struct Linear<P: Weight> {
    /// W.
    pub w: P,
    /// b.
    pub b: Option<P>,
    /// True if W is stored (in, out).
    pub in_out: bool,
}
/// A borrowed [`Linear`].
#[derive(Clone, Copy, Debug)]
pub struct LinearRef<'m> {
    /// W.
    pub w: W<'m>,
    /// b.
    pub b: Option<W<'m>>,
    /// True if W is stored (in, out).
    pub in_out: bool,
}
impl<P: Weight> Linear<P> {
    /// At its point of use.
    pub fn get(&self) -> LinearRef<'_> {
        LinearRef { w: self.w.get(), b: self.b.as_ref().map(P::get), in_out: self.in_out }
    }
    /// Calls `f` on its weights, named `{path}.weight` and `{path}.bias`.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a P)) {
        f(format!("{path}.weight"), &self.w);
        self.b.iter().for_each(|b| f(format!("{path}.bias"), b));
    }
}
impl<P: Weight> Parameters for Linear<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.w.visit(f);
        self.b.iter().for_each(|b| b.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.w.visit_mut(f);
        self.b.iter_mut().for_each(|b| b.visit_mut(f));
    }
}
impl Linear<Param> {
    /// Trains no more.
    pub fn freeze(self) -> Linear<Frozen> {
        Linear { w: self.w.freeze(), b: self.b.map(Param::freeze), in_out: self.in_out }
    }
}
impl LinearRef<'_> {
    /// (inputs, outputs).
    pub fn dims(&self) -> (usize, usize) {
        let (r, c) = self.w.tensor.dims();
        if self.in_out { (r, c) } else { (c, r) }
    }
}

/// LayerNorm over the channels of a row: (x - mean) / √(var + eps) γ + β.
#[derive(Debug)]
pub struct Norm<P: Weight> {
    /// γ.
    pub w: P,
    /// β.
    pub b: P,
    /// Added to the variance.
    pub eps: f32,
}
/// A borrowed [`Norm`].
#[derive(Clone, Copy, Debug)]
pub struct NormRef<'m> {
    /// γ.
    pub w: W<'m>,
    /// β.
    pub b: W<'m>,
    /// Added to the variance.
    pub eps: f32,
}
impl<P: Weight> Norm<P> {
    /// At its point of use.
    pub fn get(&self) -> NormRef<'_> {
        NormRef { w: self.w.get(), b: self.b.get(), eps: self.eps }
    }
    /// Calls `f` on its weights, named `{path}.weight` and `{path}.bias`.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a P)) {
        f(format!("{path}.weight"), &self.w);
        f(format!("{path}.bias"), &self.b);
    }
}
impl<P: Weight> Parameters for Norm<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.w.visit(f);
        self.b.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.w.visit_mut(f);
        self.b.visit_mut(f);
    }
}
impl Norm<Param> {
    /// Trains no more.
    pub fn freeze(self) -> Norm<Frozen> {
        Norm { w: self.w.freeze(), b: self.b.freeze(), eps: self.eps }
    }
}

/// A device to put new tensors on, and how.
pub(crate) fn upload(device: &Device, class: Class, values: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::new(device.upload(class, values)?, shape)
}
