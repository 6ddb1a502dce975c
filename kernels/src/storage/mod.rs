//! How the matrices of a frozen model are stored.
//!
//! All computation is in f32; what a weight is *stored* as is a choice between bytes and accuracy:
//!
//! ```text
//! f32, bf16, f16   W[i][k] as it is                                                    4, 2, 2 bytes
//! int8             W[i][k] = s[i] q[i][k],  s[i] = max |W[i]| / 127, q in -127..=127   1 byte + 4 a row
//! nf4              W[i][k] = a[b] L[c[i][k]], b the block of 64 that holds k           half a byte + 1 a block
//! ```
//! int8 has one scale for each row, which is an output channel of a linear layer stored (out, in) and a token of an
//! embedding table. [`nf4`] has one for each block of a row, quantised in turn. Nothing but the panels that a product is
//! just using is ever decoded: see [`crate::matmul`].
mod convert;
pub mod nf4;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use crate::{Buffer, DType, Device, Element, Error, Nf4Pair, Result, need};
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
        /// f32, two for each group of [`nf4::GROUP`] blocks: (m, r), and a block's scale is m + r · step.
        ranges: Buffer,
    },
}
impl Scales {
    /// Their buffers.
    pub fn buffers(&self) -> Vec<&Buffer> {
        match self {
            Scales::Rows(scales) => vec![scales],
            Scales::Blocks { codes, ranges } => vec![codes, ranges],
        }
    }
}

/// A stored weight: `rows` x `cols`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements: f32, bf16, f16, i8, or pairs of nf4 codes, in which every row starts with a byte of its own.
    pub data: &'a Buffer,
    /// What they are multiplied by, if they are i8 or nf4.
    pub scales: Option<&'a Scales>,
    /// The row of the buffers at which it starts.
    pub(crate) first: usize,
    /// N: outputs of a linear layer stored (out, in).
    pub rows: usize,
    /// K: its inputs.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of f32, bf16 or f16.
    pub fn plain(data: &'a Buffer, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::stored(data, None, rows, cols)
    }
    /// A matrix of any storage type: what [`convert`] makes.
    pub fn stored(data: &'a Buffer, scales: Option<&'a Scales>, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix { data, scales, first: 0, rows, cols }
    }
    /// These of its rows.
    pub fn rows_of(self, rows: Range<usize>) -> Result<Matrix<'a>> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(Error::Part { rows, cols: 0..self.cols, of: (self.rows, self.cols) });
        }
        Ok(Matrix { first: self.first + rows.start, rows: rows.len(), ..self })
    }
    /// Its elements in host memory, of which a row has `each`, from its first row on.
    pub(crate) fn host<T: Element>(&self, each: usize) -> Result<&'a [T]> {
        Ok(&self.data.host::<T>()?[self.first * each..])
    }
    /// Bytes it is stored in.
    pub(crate) fn bytes(&self) -> usize {
        Storage::of(self.data.dtype()).map_or(0, |s| s.bytes(self.rows, self.cols))
    }
    /// An error if a buffer is too short, of a type that does not go with the others, or on another device than the
    /// data.
    pub fn validate(&self) -> Result<()> {
        self.check("storage", "matrix", self.data.device())
    }
    pub(crate) fn check(&self, kernel: &'static str, argument: &'static str, device: &Device) -> Result<()> {
        let area = |a: usize, b: usize| {
            let too_many = Error::Length { kernel, argument, expected: usize::MAX, got: 0 };
            a.checked_mul(b).ok_or(too_many)
        };
        let lines = self.first.checked_add(self.rows).unwrap_or(usize::MAX);
        let len = area(lines, self.cols)?;
        match (self.data.dtype(), self.scales) {
            (DType::F32, None) => need::<f32>(kernel, device, argument, self.data, len),
            (DType::Bf16, None) => need::<bf16>(kernel, device, argument, self.data, len),
            (DType::F16, None) => need::<f16>(kernel, device, argument, self.data, len),
            (DType::I8, Some(Scales::Rows(scales))) => {
                need::<i8>(kernel, device, argument, self.data, len)?;
                need::<f32>(kernel, device, "scales", scales, lines)
            }
            (DType::Nf4, Some(Scales::Blocks { codes, ranges })) => {
                let pairs = area(lines, nf4::pairs(self.cols))?;
                need::<Nf4Pair>(kernel, device, argument, self.data, pairs)?;
                let blocks = area(lines, nf4::blocks(self.cols))?;
                need::<u8>(kernel, device, "scales", codes, blocks)?;
                need::<f32>(kernel, device, "ranges", ranges, nf4::ranges(blocks))
            }
            (got, _) => {
                let expected = "f32, bf16, f16, or i8 or nf4 with the scales that belong to it";
                Err(Error::DType { kernel, argument, expected, got })
            }
        }
    }
    /// The values, row-major, decoded one by one. The Null device gives zeros.
    pub fn decode(&self) -> Result<Vec<f32>> {
        self.validate()?;
        let (lines, stride) = (self.first..self.first + self.rows, self.cols);
        match (self.data.dtype(), self.scales) {
            (DType::I8, Some(Scales::Rows(scales))) => {
                let (data, scales) = (self.data.read()?, scales.read()?);
                Ok(decoded(Int8 { data: &data, scales: &scales, stride }, lines, stride))
            }
            (DType::Nf4, Some(Scales::Blocks { codes, ranges })) => {
                let (data, codes, ranges) = (self.data.read()?, codes.read()?, ranges.read()?);
                let (stride, blocks) = (nf4::pairs(self.cols), nf4::blocks(self.cols));
                let view = Nf4 { data: &data, codes: &codes, ranges: &ranges, stride, blocks, before: 0 };
                Ok(decoded(view, lines, self.cols))
            }
            (DType::Bf16, _) => {
                Ok(decoded(Floats { data: &self.data.read::<bf16>()?, stride }, lines, stride))
            }
            (DType::F16, _) => Ok(decoded(Floats { data: &self.data.read::<f16>()?, stride }, lines, stride)),
            _ => Ok(decoded(Floats { data: &self.data.read::<f32>()?, stride }, lines, stride)),
        }
    }
}
fn decoded(from: impl Stored, lines: Range<usize>, cols: usize) -> Vec<f32> {
    let mut to = vec![0.0; lines.len() * cols];
    to.chunks_mut(cols.max(1)).zip(lines).for_each(|(row, line)| from.decode(line, 0, row));
    to
}
