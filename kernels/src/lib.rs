//! Devices, buffers, the memory ledger, and the kernels that compute.
//!
//! Everything above this crate is safe Rust that never sees a pointer; `unsafe`, SIMD, threads and
//! CUDA live here. A kernel is a folder: `mod.rs` holds its formula, its launch functions (one
//! `match` over the device), the slow and obvious reference and its cases; `cpu.rs` and `cuda.rs`
//! hold the fast versions. [`KERNELS`] lists them all: parity tests, benches and the profiler
//! iterate that list.
//!
//! All computation is in f32, but for the products of [`matmul_int8`]; weights may be stored as
//! f32, bf16, f16, int8 or nf4 ([`storage`]) and are decoded where they are used. The order of
//! every sum is fixed by the shapes, never by the number of threads, so results are
//! bit-identical for any number.
#![deny(missing_docs)]

mod buffer;
mod case;
mod cuda;
mod device;
mod epilogue;
mod error;
mod host;
mod isa;
mod launch;
mod ledger;
mod lines;

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod bottleneck;
pub mod convert;
pub mod cross_entropy;
pub mod cross_entropy_of_rows;
pub mod divergence;
pub mod dropout;
pub mod elementwise;
pub mod gated;
pub mod gather;
pub mod layernorm;
pub mod matmul;
pub mod matmul_int8;
pub mod mixture;
pub mod pointwise_loss;
pub mod profile;
pub mod reduce;
pub mod rotary;
mod simd;
#[cfg(feature = "cuda-sim")]
pub mod stand_in;
pub mod storage;
mod team;
mod view;
pub mod vocabulary_loss;

pub use buffer::{Buffer, DType, Element, Nf4Pair};
pub use case::{Case, Kernel, PreparedCase};
pub use cuda::{Cuda, Products};
pub use device::{Cpu, Device, MappedFile, Null};
pub use error::{Error, Result};
pub use isa::{Isa, isa};
pub use ledger::{Class, Ledger, Usage};
pub use profile::Cost;
pub use storage::Storage;
pub use view::{ColsMut, View, ViewMut};

/// Every kernel. Parity tests, benches and the profiler iterate this list.
pub const KERNELS: &[Kernel] = &[
    matmul::KERNEL,
    matmul_int8::KERNEL,
    layernorm::KERNEL,
    attention::KERNEL,
    bottleneck::KERNEL,
    activation::KERNEL,
    dropout::KERNEL,
    gather::KERNEL,
    cross_entropy::KERNEL,
    cross_entropy_of_rows::KERNEL,
    vocabulary_loss::KERNEL,
    pointwise_loss::KERNEL,
    divergence::KERNEL,
    gated::KERNEL,
    rotary::KERNEL,
    mixture::KERNEL,
    adamw::KERNEL,
    elementwise::KERNEL,
    reduce::KERNEL,
    convert::KERNEL,
];

/// Refuses a launch whose argument is too short, of another type or on another device.
pub(crate) fn check_buffer<T: Element>(
    kernel: &'static str,
    device: &Device,
    argument: &'static str,
    b: &Buffer,
    len: usize,
) -> Result<()> {
    if !b.device().same(device) {
        return Err(Error::Elsewhere { kernel, argument });
    }
    if b.dtype() != T::DTYPE {
        return Err(Error::DType { kernel, argument, expected: T::DTYPE.name(), got: b.dtype() });
    }
    if b.len() < len {
        return Err(Error::Length { kernel, argument, expected: len, got: b.len() });
    }
    Ok(())
}
