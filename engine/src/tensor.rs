//! Values with a shape, in any storage type.
use crate::{Error, Result};
use engraft_kernels::{Buffer, Class, Device, Storage, matmul::Matrix, storage::Scales};

/// In what arithmetic the products with a frozen weight are computed.
///
/// In 8-bit integers a weight is held as such, with a scale for each output channel, and in no
/// other form: see [`engraft_kernels::matmul_int8`].
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
    /// The tensor of a model whose frozen products are computed like this. It is its own
    /// products if it is the weight of a linear layer, stored as int8; of a norm it is those
    /// that read its output.
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
    pub(crate) fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buf
    }
    /// What quantised values are multiplied by.
    pub fn scales(&self) -> Option<&Scales> {
        self.scales.as_ref()
    }
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
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

/// A device to put new tensors on, and how.
pub(crate) fn upload(device: &Device, class: Class, values: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::new(device.upload(class, values)?, shape)
}
