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
        CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError,
        result, sys,
    },
    nvrtc::Ptx,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

/// A GPU and the stream on which everything runs, in order.
#[derive(Debug)]
pub struct Cuda {
    pub(crate) ledger: Ledger,
    stream: Arc<CudaStream>,
    loaded: Mutex<Loaded>,
    faults: Faults,
    tables: Mutex<VecDeque<Table>>,
    products: Products,
}

/// How a GPU computes products of matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// In f32 throughout: what the processor computes, but for the order of sums.
    #[default]
    F32,
    /// On tensor cores: both factors are rounded to bf16 as they are read, whatever they are stored
    /// as, and the sums are f32. A factor is off by up to 2^-9 of itself, a result by about 1 % of
    /// the largest. [`crate::matmul`] alone does so.
    Bf16,
}

/// Numbers of the host's that launches read, the same for all layers of a pass.
#[derive(Debug)]
struct Table {
    values: Vec<u32>,
    mem: CudaMem,
}

/// What has been launched so far.
#[derive(Debug, Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<&'static str, Arc<Function>>,
}

/// A kernel that was loaded.
#[derive(Debug)]
pub(crate) struct Function {
    function: CudaFunction,
    /// Bytes of each of its parameters.
    pub(crate) parameters: Vec<usize>,
    /// Shared memory that a launch may ask for by now.
    shared: Mutex<usize>,
}

/// Where kernels report indices that name nothing.
#[derive(Debug)]
struct Faults {
    /// A word of host memory that kernels reach: 0, or one more than a place of `kinds` in the upper
    /// half and the index in the lower. It is never freed before the context.
    word: *mut u64,
    context: Arc<CudaContext>,
    /// Kernel, what its indices name, and the first that is too large.
    kinds: Mutex<Vec<(&'static str, &'static str, usize)>>,
}
// SAFETY: the word is read and written as a whole, on this side when the device is idle.
unsafe impl Send for Faults {}
// SAFETY: as above.
unsafe impl Sync for Faults {}

/// One `kernel.ptx`.
pub(crate) struct Program {
    /// The kernel's folder.
    pub(crate) name: &'static str,
    pub(crate) ptx: &'static str,
}

/// Bytes on a GPU: at least one, so that an empty buffer is nothing special.
#[derive(Debug)]
pub(crate) struct CudaMem(CudaSlice<u8>);

/// Tables that are kept: those of a pass, forward and backward.
const TABLES: usize = 64;
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
    pub(crate) fn open(ordinal: usize, products: Products) -> Result<Cuda> {
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
        keep_freed_memory(&context).map_err(of_driver)?;
        let faults = Faults::new(&context).map_err(of_driver)?;
        let (ledger, stream) = (Ledger::default(), context.default_stream());
        Ok(Cuda { ledger, stream, loaded: Mutex::default(), faults, tables: Mutex::default(), products })
    }
    /// How it computes products.
    pub fn products(&self) -> Products {
        self.products
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
    /// Waits for everything launched so far; what went wrong there is this call's error.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.stream.synchronize()?;
        self.faults.take()
    }
    /// The address of these numbers on the device, for launches that follow directly. Those of the
    /// last few calls are kept there, outside of the ledger: they are not copied again.
    pub(crate) fn table(&self, values: &[u32]) -> Result<u64> {
        let mut tables = self.tables.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(t) = tables.iter().find(|t| t.values == values) {
            return Ok(t.mem.address());
        }
        let mut mem = self.alloc(size_of_val(values))?;
        mem.write(bytemuck::cast_slice(values))?;
        let address = mem.address();
        // the oldest is freed behind the launches that read it, on their stream
        if tables.len() == TABLES {
            tables.pop_front();
        }
        tables.push_back(Table { values: values.to_vec(), mem });
        Ok(address)
    }
    /// Makes this the context of the calling thread.
    pub(crate) fn bind(&self) -> Result<()> {
        Ok(self.stream.context().bind_to_thread()?)
    }
    pub(crate) fn stream(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }
    /// The kernel `name` of `program`, loaded on its first use. Kernels of all programs have
    /// different names.
    pub(crate) fn function(&self, program: &Program, name: &'static str) -> Result<Arc<Function>> {
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
        let f = Arc::new(Function::new(module.load_function(name).map_err(fail)?).map_err(fail)?);
        loaded.functions.insert(name, f.clone());
        Ok(f)
    }
    /// Where a launch of `kernel` reports an index of `what` that is not `below` this, and under
    /// which number.
    pub(crate) fn fault(&self, kernel: &'static str, what: &'static str, below: usize) -> (u64, u32) {
        let mut kinds = self.faults.kinds.lock().unwrap_or_else(|e| e.into_inner());
        let kind = (kernel, what, below);
        let place = kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        });
        (self.faults.word as u64, 1 + place as u32)
    }
}

/// Tells the pool that the device allocates from to keep what is freed for the next that asks: the
/// steady state allocates nothing from the system.
fn keep_freed_memory(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut most = u64::MAX;
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is that of an open context, the pool is its own, and the attribute is an
    // integer of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, threshold, std::ptr::from_mut(&mut most).cast())
    }
}

impl Function {
    fn new(function: CudaFunction) -> Result<Function, DriverError> {
        let mut parameters = vec![];
        loop {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: a loaded function, and two integers that outlive the call.
            let found = unsafe {
                sys::cuFuncGetParamInfo(function.cu_function(), parameters.len(), &mut offset, &mut size)
            };
            match found {
                sys::CUresult::CUDA_SUCCESS => parameters.push(size),
                // there is no such parameter
                sys::CUresult::CUDA_ERROR_INVALID_VALUE => break,
                e => return Err(DriverError(e)),
            }
        }
        Ok(Function { function, parameters, shared: Mutex::new(48 << 10) })
    }
    pub(crate) fn raw(&self) -> sys::CUfunction {
        self.function.cu_function()
    }
    /// Lets launches ask for so many bytes of shared memory.
    pub(crate) fn allow_shared(&self, bytes: usize) -> Result<()> {
        let mut allowed = self.shared.lock().unwrap_or_else(|e| e.into_inner());
        if bytes > *allowed {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(attribute, bytes as i32)?;
            *allowed = bytes;
        }
        Ok(())
    }
}

impl Faults {
    fn new(context: &Arc<CudaContext>) -> Result<Faults, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: the context has just been made current; the word is set before anyone reads it.
        let word = unsafe {
            let word: *mut u64 = result::malloc_host(8, sys::CU_MEMHOSTALLOC_DEVICEMAP)?.cast();
            word.write(0);
            word
        };
        Ok(Faults { word, context: context.clone(), kinds: Mutex::default() })
    }
    /// What was reported since the last call, when the device is idle.
    fn take(&self) -> Result<()> {
        // SAFETY: eight bytes that live as long as self. The device may write them while another
        // thread launches; what is lost then is the report of a fault beside another one.
        let report = unsafe {
            let report = self.word.read_volatile();
            if report != 0 {
                self.word.write_volatile(0);
            }
            report
        };
        let Some(place) = (report >> 32).checked_sub(1) else { return Ok(()) };
        let kinds = self.kinds.lock().unwrap_or_else(|e| e.into_inner());
        match kinds.get(place as usize) {
            Some(&(kernel, what, below)) => {
                Err(Error::Range { kernel, what, got: report as u32 as usize, below })
            }
            None => Err(Error::Cuda(format!("a kernel reported {report:#x}"))),
        }
    }
}
impl Drop for Faults {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `new`, and nobody else has it; the driver waits for what runs. A
            // failure leaves the memory where it is.
            let _ = unsafe { result::free_host(self.word.cast()) };
        }
    }
}

impl CudaMem {
    /// Of the first byte, as kernels see it.
    pub(crate) fn address(&self) -> u64 {
        self.0.device_ptr(self.0.stream()).0
    }
    /// Waits for everything launched so far; what went wrong there is this call's error.
    pub(crate) fn read(&self, device: &Cuda, to: &mut [u8]) -> Result<()> {
        if !to.is_empty() {
            self.0.stream().memcpy_dtoh(&self.0.slice(..to.len()), to)?;
        }
        device.synchronize()
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
    crate::stand_in::library().map(drop)
}
