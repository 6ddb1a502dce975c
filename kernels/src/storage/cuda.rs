//! Stored matrices as kernels on a GPU take them: `Stored` of `cuda.cuh`.
use super::{Matrix, Scales, Storage, nf4};
use crate::{DType, Result, launch::Arg};

impl<'a> Matrix<'a> {
    /// The argument for a launch, which has checked it, and the storage type whose `at` reads it.
    pub(crate) fn on_gpu(&self) -> Result<(Arg<'a>, Storage)> {
        let storage = Storage::of(self.data.dtype()).unwrap_or(Storage::F32);
        let nf4 = self.data.dtype() == DType::Nf4;
        let (stride, blocks) = match nf4 {
            true => (nf4::pairs(self.stride), nf4::blocks(self.stride)),
            false => (self.stride, 0),
        };
        let first = self.first.0 * stride + if nf4 { self.first.1 / 2 } else { self.first.1 };
        let (scales, ranges, first_scale) = match self.scales {
            None => (0, 0, 0),
            Some(Scales::Rows(scales)) => (Arg::address(scales)?, 0, self.first.0),
            Some(Scales::Blocks { codes, ranges }) => {
                let block = self.first.0 * blocks + self.first.1 / nf4::BLOCK;
                (Arg::address(codes)?, Arg::address(ranges)?, block)
            }
        };
        let counts = [stride, blocks, first, first_scale].map(|n| n as u64);
        let words = [&[Arg::address(self.data)?, scales, ranges][..], &counts].concat();
        Ok((Arg::structure(words), storage))
    }
}
