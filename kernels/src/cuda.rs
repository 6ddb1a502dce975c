//! One NVIDIA GPU, through the driver that is found at run time.
//!
//! Nothing of CUDA is needed to build or to start: `libcuda` is looked for when a GPU is asked for,
//! and its absence is an error of [`Cuda::open`]. A kernel is a `kernel.cu` beside its `cuda.rs`,
//! compiled ahead to the committed `kernel.ptx`, which the driver turns into the GPU's own code
//! when the kernel is first launched.
//!
//! With the feature `cuda-sim` the driver is the stand-in of `kernels/cuda-sim`, which runs kernels
//! on the processor.
use crate::{Error, Ledger, Result};
use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtrMut, DriverError, result, sys,
    },
    nvrtc::Ptx,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// A GPU and the stream on which everything runs, in order.
#[derive(Debug)]
pub struct Cuda {
    pub(crate) ledger: Ledger,
    pub(crate) stream: Arc<CudaStream>,
    loaded: Mutex<Loaded>,
}

/// What has been launched so far.
#[derive(Debug, Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<&'static str, CudaFunction>,
}

/// One `kernel.ptx`.
pub(crate) struct Program {
    /// The kernel's folder.
    pub(crate) name: &'static str,
    pub(crate) ptx: &'static str,
}

/// Bytes on a GPU: at least one, so that an empty buffer is nothing special.
#[derive(Debug)]
pub(crate) struct CudaMem(pub(crate) CudaSlice<u8>);

/// The pointer passed for an argument that is left out.
pub(crate) const NULL: u64 = 0;
/// What the PTX is compiled for: later GPUs run it too.
const COMPUTE_CAPABILITY: (i32, i32) = (8, 0);
/// The CUDA version whose drivers read the PTX: NVRTC 12.4 wrote it.
const DRIVER: (i32, i32) = (12, 4);

impl From<DriverError> for Error {
    fn from(e: DriverError) -> Error {
        Error::Cuda(e.to_string())
    }
}

impl Cuda {
    pub(crate) fn open(ordinal: usize) -> Result<Cuda> {
        let fail = |why: String| Error::Open { device: "cuda", why };
        #[cfg(feature = "cuda-sim")]
        load_stand_in().map_err(fail)?;
        // cudarc panics where it finds no library, so that is asked first. SAFETY: looks for the
        // driver's library and closes it again; nothing of it is called but what the loader runs.
        if !unsafe { sys::is_culib_present() } {
            return Err(fail("no CUDA driver (libcuda) is installed on this machine".into()));
        }
        let of_driver = |e: DriverError| fail(format!("GPU {ordinal}: {e}"));
        let count = CudaContext::device_count().map_err(of_driver)?;
        if !usize::try_from(count).is_ok_and(|count| ordinal < count) {
            return Err(fail(format!("there is no GPU {ordinal}: the driver has {count}")));
        }
        let mut version = 0;
        // SAFETY: writes one integer, which outlives the call.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(of_driver)?;
        let version = (version / 1000, version % 1000 / 10);
        if version < DRIVER {
            let (a, b, c, d) = (version.0, version.1, DRIVER.0, DRIVER.1);
            return Err(fail(format!("the driver is for CUDA {a}.{b}; {c}.{d} or later is needed")));
        }
        let context = CudaContext::new(ordinal).map_err(of_driver)?;
        let capability = context.compute_capability().map_err(of_driver)?;
        if capability < COMPUTE_CAPABILITY {
            let (a, b, c, d) = (capability.0, capability.1, COMPUTE_CAPABILITY.0, COMPUTE_CAPABILITY.1);
            let name = context.name().map_err(of_driver)?;
            return Err(fail(format!(
                "GPU {ordinal} ({name}) has compute capability {a}.{b}; {c}.{d} or later is needed"
            )));
        }
        // SAFETY: events order uses of memory by several streams. Here each context has one,
        // on which everything that touches its memory runs in order: allocation, copies,
        // launches and freeing.
        unsafe { context.disable_event_tracking() };
        Ok(Cuda { ledger: Ledger::default(), stream: context.default_stream(), loaded: Mutex::default() })
    }
    /// What the driver calls this GPU.
    pub fn name(&self) -> Result<String> {
        Ok(self.stream.context().name()?)
    }
    /// `bytes` bytes whose contents are unspecified (NaN in debug builds).
    pub(crate) fn alloc(&self, bytes: usize) -> Result<CudaMem> {
        let bytes = bytes.max(1);
        // SAFETY: the bytes are unset, and every value of a byte is a `u8`. They are read on this
        // side only through a copy by the driver.
        let mut mem = unsafe { self.stream.alloc::<u8>(bytes) }.map_err(|e| match e {
            DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY) => Error::Memory { device: "cuda", bytes },
            e => e.into(),
        })?;
        if cfg!(debug_assertions) {
            let (at, _use) = mem.device_ptr_mut(&self.stream);
            // SAFETY: `at` is the start of `bytes` bytes allocated above on this stream, whose
            // context that call has made current on this thread.
            unsafe { result::memset_d8_async(at, 0xff, bytes, self.stream.cu_stream()) }?;
        }
        Ok(CudaMem(mem))
    }
    pub(crate) fn synchronize(&self) -> Result<()> {
        Ok(self.stream.synchronize()?)
    }
    /// The kernel `name` of `program`, loaded on its first use. Kernels of all programs have
    /// different names.
    pub(crate) fn function(&self, program: &Program, name: &'static str) -> Result<CudaFunction> {
        let fail = |e: DriverError| Error::Cuda(format!("{}: loading {name}: {e}", program.name));
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(f) = loaded.functions.get(name) {
            return Ok(f.clone());
        }
        let module = match loaded.modules.get(program.name) {
            Some(m) => m.clone(),
            None => {
                let m = self.stream.context().load_module(Ptx::from_src(program.ptx)).map_err(fail)?;
                loaded.modules.insert(program.name, m.clone());
                m
            }
        };
        let f = module.load_function(name).map_err(fail)?;
        loaded.functions.insert(name, f.clone());
        Ok(f)
    }
}

impl CudaMem {
    /// Waits for everything launched so far; what went wrong there is this call's error.
    pub(crate) fn read(&self, to: &mut [u8]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let stream = self.0.stream();
        stream.memcpy_dtoh(&self.0.slice(..to.len()), to)?;
        Ok(stream.synchronize()?)
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

/// Makes the stand-in the library that cudarc finds under the driver's name.
#[cfg(feature = "cuda-sim")]
fn load_stand_in() -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    static LIBRARY: std::sync::OnceLock<Result<Library, String>> = std::sync::OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let path = env!("ENGRAFT_CUDA_SIM_LIBRARY");
        // SAFETY: our own library, built with this crate; its initialisers fill a table of kernels.
        // It stays open for as long as the process runs.
        unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| format!("{path}: {e}"))
    });
    library.as_ref().map(drop).map_err(String::clone)
}
