//! One NVIDIA GPU, through the driver that is found at run time.
//!
//! Nothing of CUDA is needed to build or to start: `libcuda` is looked for when a GPU is asked for, and its absence is
//! an error of [`Cuda::open`].
use crate::{Error, Ledger, Result};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError};
use std::sync::Arc;

/// A GPU and the stream on which everything runs, in order.
#[derive(Debug)]
pub struct Cuda {
    pub(crate) ledger: Ledger,
    pub(crate) stream: Arc<CudaStream>,
}

/// Bytes on a GPU.
#[derive(Debug)]
pub(crate) struct CudaMem(pub(crate) CudaSlice<u8>);

impl From<DriverError> for Error {
    fn from(e: DriverError) -> Error {
        Error::Cuda(e.to_string())
    }
}

impl Cuda {
    pub(crate) fn open(ordinal: usize) -> Result<Cuda> {
        let fail = |why: String| Error::Open { device: "cuda", why };
        // SAFETY: looks for the driver's library and closes it again; nothing of it is called.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(fail("no CUDA driver (libcuda) is installed on this machine".into()));
        }
        let context = CudaContext::new(ordinal).map_err(|e| fail(format!("GPU {ordinal}: {e}")))?;
        Ok(Cuda { ledger: Ledger::default(), stream: context.default_stream() })
    }
    pub(crate) fn alloc(&self, bytes: usize) -> Result<CudaMem> {
        Ok(CudaMem(self.stream.alloc_zeros(bytes.max(1))?))
    }
    pub(crate) fn synchronize(&self) -> Result<()> {
        Ok(self.stream.synchronize()?)
    }
}
impl CudaMem {
    pub(crate) fn read(&self, to: &mut [u8]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        Ok(self.0.stream().clone().memcpy_dtoh(&self.0.slice(..to.len()), to)?)
    }
    pub(crate) fn write(&mut self, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let stream = self.0.stream().clone();
        Ok(stream.memcpy_htod(from, &mut self.0.slice_mut(..from.len()))?)
    }
    pub(crate) fn clear(&mut self) -> Result<()> {
        let stream = self.0.stream().clone();
        Ok(stream.memset_zeros(&mut self.0)?)
    }
    pub(crate) fn copy(&mut self, from: &CudaMem) -> Result<()> {
        let stream = self.0.stream().clone();
        Ok(stream.memcpy_dtod(&from.0, &mut self.0)?)
    }
}
