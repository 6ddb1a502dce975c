//! How the matrices of a frozen model are stored.
//!
//! All computation is in f32; what a weight is *stored* as is a choice between bytes and accuracy:
//!
//! ```text
//! f32, bf16, f16   W[i][k] as it is                                                    4, 2, 2 bytes
//! int8             W[i][k] = s[i] q[i][k],  s[i] = max |W[i]| / 127, q in -127..=127   1 byte + 4 a row
//! nf4              W[i][k] = a[b] L[c[i][k]], b the block of 64 that holds k           half a byte + 1 a block
//! ```
//! int8 has one scale for each row, which is an output channel of a linear layer stored (out, in)
//! and a token of an embedding table. [`nf4`] has one for each block of a row, quantised in turn.
//! Nothing but the panels that a product is just using is ever decoded: see [`crate::matmul`].
mod convert;
mod cuda;
pub mod nf4;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use crate::{Buffer, DType, Device, Error, Nf4Pair, Result, View, check_buffer};
pub use convert::convert;
use half::{bf16, f16};
use std::ops::Range;
use view::{Floats, Int8, Nf4, Stored};

/// A storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// IEEE single precision.
    F32,
    /// Brain float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Eight-bit integers with a scale for each row.
    Int8,
    /// Four-bit NormalFloat (Dettmers et al. 2023) in blocks of 64 with quantised scales.
    Nf4,
}
impl Storage {
    /// All of them.
    pub const ALL: [Storage; 5] = [Storage::F32, Storage::Bf16, Storage::F16, Storage::Int8, Storage::Nf4];
    /// The name used in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Storage::F32 => "f32",
            Storage::Bf16 => "bf16",
            Storage::F16 => "f16",
            Storage::Int8 => "int8",
            Storage::Nf4 => "nf4",
        }
    }
    /// What the elements of its buffer are.
    pub fn dtype(self) -> DType {
        match self {
            Storage::F32 => DType::F32,
            Storage::Bf16 => DType::Bf16,
            Storage::F16 => DType::F16,
            Storage::Int8 => DType::I8,
            Storage::Nf4 => DType::Nf4,
        }
    }
    /// The storage type with such elements; none for indices and scales.
    pub fn of(dtype: DType) -> Option<Storage> {
        Storage::ALL.into_iter().find(|s| s.dtype() == dtype)
    }
    /// True if there are scales beside the elements.
    pub fn is_quantised(self) -> bool {
        matches!(self, Storage::Int8 | Storage::Nf4)
    }
    /// Bytes of a matrix, scales included.
    pub fn bytes(self, rows: usize, cols: usize) -> usize {
        match self {
            Storage::Int8 => rows * (cols + 4),
            Storage::Nf4 => {
                let blocks = rows * nf4::blocks(cols);
                rows * nf4::pairs(cols) + blocks + 4 * nf4::ranges(blocks)
            }
            float => rows * cols * float.dtype().size(),
        }
    }
}
impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the elements of a quantised matrix are multiplied by.
#[derive(Debug)]
pub enum Scales {
    /// int8: one f32 for each row.
    Rows(Buffer),
    /// nf4: one for each block, quantised.
    Blocks {
        /// Bytes (u8), [`nf4::blocks`] of them for each row: which of [`nf4::STEPS`] a block has.
        codes: Buffer,
        /// f32, two for each group of [`nf4::GROUP`] blocks: (m, r), and a block's scale
        /// is m + r · step.
        ranges: Buffer,
    },
}
impl Scales {
    /// The same on another device.
    pub(crate) fn moved(self, device: &Device) -> Result<Scales> {
        Ok(match self {
            Scales::Rows(scales) => Scales::Rows(scales.moved(device)?),
            Scales::Blocks { codes, ranges } => {
                Scales::Blocks { codes: codes.moved(device)?, ranges: ranges.moved(device)? }
            }
        })
    }
    /// Their buffers.
    pub fn buffers(&self) -> Vec<&Buffer> {
        match self {
            Scales::Rows(scales) => vec![scales],
            Scales::Blocks { codes, ranges } => vec![codes, ranges],
        }
    }
}

/// A stored weight, row-major, or some of its rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements: f32, bf16, f16, i8, or pairs of nf4 codes, in which every stored row starts
    /// with a byte of its own.
    pub data: &'a Buffer,
    /// What they are multiplied by, if they are i8 or nf4.
    pub scales: Option<&'a Scales>,
    /// N: outputs of a linear layer stored (out, in).
    pub rows: usize,
    /// K: its inputs.
    pub cols: usize,
    /// The row and column of what is stored at which the matrix begins.
    pub(crate) first: (usize, usize),
    /// Columns of a stored row.
    pub(crate) stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of any storage type: what [`convert`] makes.
    pub fn stored(data: &'a Buffer, scales: Option<&'a Scales>, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix { data, scales, rows, cols, first: (0, 0), stride: cols }
    }
    /// A matrix of f32, bf16 or f16.
    pub fn plain(data: &'a Buffer, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::stored(data, None, rows, cols)
    }
    /// These of its rows.
    pub fn rows_of(self, rows: Range<usize>) -> Result<Matrix<'a>> {
        self.part(rows, 0..self.cols)
    }
    /// These of its columns. Of an nf4 matrix they must begin with a block: at a multiple
    /// of [`nf4::BLOCK`].
    pub fn cols_of(self, cols: Range<usize>) -> Result<Matrix<'a>> {
        if self.data.dtype() == DType::Nf4 && !cols.start.is_multiple_of(nf4::BLOCK) {
            let (start, block) = (cols.start, nf4::BLOCK);
            let what = format!(
                "columns of an nf4 matrix begin with a block, at a multiple of {block}, not at {start}"
            );
            return Err(Error::Invalid { kernel: "storage", what });
        }
        self.part(0..self.rows, cols)
    }
    fn part(self, rows: Range<usize>, cols: Range<usize>) -> Result<Matrix<'a>> {
        let inside = |r: &Range<usize>, n| r.start <= r.end && r.end <= n;
        if !(inside(&rows, self.rows) && inside(&cols, self.cols)) {
            return Err(Error::Part { rows, cols, of: (self.rows, self.cols) });
        }
        let first = (self.first.0 + rows.start, self.first.1 + cols.start);
        Ok(Matrix { rows: rows.len(), cols: cols.len(), first, ..self })
    }
    /// Bytes it is stored in.
    pub(crate) fn bytes(&self) -> usize {
        Storage::of(self.data.dtype()).map_or(0, |s| s.bytes(self.rows, self.cols))
    }
    /// An error if a buffer is too short, of a type that does not go with the others, or on another
    /// device than the data.
    pub fn validate(&self) -> Result<()> {
        self.check("storage", "matrix", self.data.device())
    }
    pub(crate) fn check(&self, kernel: &'static str, argument: &'static str, device: &Device) -> Result<()> {
        let too_many = || Error::uncountable(kernel, argument, (self.rows, self.cols));
        let sum = |a: usize, b: usize| a.checked_add(b).ok_or_else(too_many);
        let area = |a: usize, b: usize| a.checked_mul(b).ok_or_else(too_many);
        let empty = self.rows == 0 || self.cols == 0;
        // the stored rows up to the last that is used
        let rows = sum(self.first.0, self.rows)?;
        let len = if empty { 0 } else { sum(area(rows - 1, self.stride)?, sum(self.first.1, self.cols)?)? };
        match (self.data.dtype(), self.scales) {
            (DType::F32, None) => check_buffer::<f32>(kernel, device, argument, self.data, len),
            (DType::Bf16, None) => check_buffer::<bf16>(kernel, device, argument, self.data, len),
            (DType::F16, None) => check_buffer::<f16>(kernel, device, argument, self.data, len),
            (DType::I8, Some(Scales::Rows(scales))) => {
                check_buffer::<i8>(kernel, device, argument, self.data, len)?;
                check_buffer::<f32>(kernel, device, "scales", scales, rows)
            }
            (DType::Nf4, Some(Scales::Blocks { codes, ranges })) => {
                let len = if empty { 0 } else { area(rows, nf4::pairs(self.stride))? };
                check_buffer::<Nf4Pair>(kernel, device, argument, self.data, len)?;
                let blocks = area(rows, nf4::blocks(self.stride))?;
                check_buffer::<u8>(kernel, device, "scales", codes, blocks)?;
                check_buffer::<f32>(kernel, device, "ranges", ranges, nf4::ranges(blocks))
            }
            (got, _) => {
                let expected = "f32, bf16, f16, or i8 or nf4 with the scales that belong to it";
                Err(Error::DType { kernel, argument, expected, got })
            }
        }
    }
    /// Its elements, of floats in host memory.
    pub(crate) fn floats<'h, E>(&self, data: &'h [E]) -> Floats<'h, E> {
        Floats { data: self.used(data, self.first.1, self.stride), stride: self.stride }
    }
    /// The same of integers and the scales of their rows.
    pub(crate) fn int8<'h>(&self, data: &'h [i8], scales: &'h [f32]) -> Int8<'h> {
        let data = self.used(data, self.first.1, self.stride);
        Int8 { data, scales: scales.get(self.first.0..).unwrap_or_default(), stride: self.stride }
    }
    /// The same of nf4 codes.
    pub(crate) fn nf4<'h>(&self, data: &'h [Nf4Pair], codes: &'h [u8], ranges: &'h [f32]) -> Nf4<'h> {
        let (stride, blocks) = (nf4::pairs(self.stride), nf4::blocks(self.stride));
        let first_block = self.first.0 * blocks + self.first.1 / nf4::BLOCK;
        let data = self.used(data, self.first.1 / 2, stride);
        Nf4 { data, codes, ranges, stride, blocks, first_block }
    }
    /// What is stored from the first element on. An empty matrix may begin behind the end.
    fn used<'h, E>(&self, data: &'h [E], col: usize, stride: usize) -> &'h [E] {
        data.get(self.first.0 * stride + col..).unwrap_or_default()
    }
    /// The values, row-major, decoded one by one. The Null device gives zeros.
    pub fn decode(&self) -> Result<Vec<f32>> {
        self.validate()?;
        let size = (self.rows, self.cols);
        Ok(match (self.data.dtype(), self.scales) {
            (DType::I8, Some(Scales::Rows(scales))) => {
                decoded(self.int8(&self.data.read()?, &scales.read()?), size)
            }
            (DType::Nf4, Some(Scales::Blocks { codes, ranges })) => {
                decoded(self.nf4(&self.data.read()?, &codes.read()?, &ranges.read()?), size)
            }
            (DType::Bf16, _) => decoded(self.floats(&self.data.read::<bf16>()?), size),
            (DType::F16, _) => decoded(self.floats(&self.data.read::<f16>()?), size),
            _ => decoded(self.floats(&self.data.read::<f32>()?), size),
        })
    }
}
impl<'a> From<View<'a>> for Matrix<'a> {
    /// The same matrix as a weight.
    fn from(v: View<'a>) -> Matrix<'a> {
        let (data, stride) = (v.buffer(), v.stride());
        let first = (v.start().checked_div(stride).unwrap_or(0), v.start().checked_rem(stride).unwrap_or(0));
        Matrix { data, scales: None, rows: v.rows(), cols: v.cols(), first, stride }
    }
}
fn decoded(from: impl Stored, (rows, cols): (usize, usize)) -> Vec<f32> {
    let mut to = vec![0.0; rows * cols];
    to.chunks_mut(cols.max(1)).enumerate().for_each(|(i, row)| from.decode(i, 0, row));
    to
}
