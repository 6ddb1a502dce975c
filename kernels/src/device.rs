//! Where buffers live and kernels run.
//!
//! There are three devices. `Cpu` owns a pool of threads and a pool of memory. `Cuda` is one NVIDIA
//! GPU. `Null` runs the same programs, allocates nothing and computes nothing: its ledger
//! *predicts* what a run will hold.
use crate::{
    Buffer, Class, DType, Element, Error, Ledger, Result,
    buffer::Mem,
    cuda::{Cuda, Products},
    host::{Block, Blocks},
    profile::Recorder,
    team::{Shared, Team},
};
use std::{path::Path, sync::Arc};

/// A device: cheap to clone, shared by every buffer that lives on it.
#[derive(Clone, Debug)]
pub enum Device {
    /// This machine's processor.
    Cpu(Arc<Cpu>),
    /// An NVIDIA GPU.
    Cuda(Arc<Cuda>),
    /// No device at all: shapes and bytes only.
    Null(Arc<Null>),
}

/// A pool of threads, a pool of memory, and a ledger.
#[derive(Debug)]
pub struct Cpu {
    pub(crate) ledger: Ledger,
    pub(crate) blocks: Blocks,
    pub(crate) recorder: Arc<Recorder>,
    team: Team,
}

/// The device that only counts.
#[derive(Debug)]
pub struct Null {
    pub(crate) ledger: Ledger,
    pub(crate) recorder: Arc<Recorder>,
    threads: usize,
    is_gpu: bool,
}

impl Device {
    /// The processor, with a pool of `threads` threads (0: one for each core; more than
    /// 1024 are refused).
    pub fn cpu(threads: usize) -> Result<Device> {
        if threads > 1024 {
            return Err(Error::Open { device: "cpu", why: format!("{threads} threads are more than 1024") });
        }
        let team = Team::new(threads).map_err(|e| Error::Open { device: "cpu", why: e.to_string() })?;
        Ok(Device::Cpu(Arc::new(Cpu {
            ledger: Ledger::default(),
            blocks: Blocks::default(),
            recorder: Arc::default(),
            team,
        })))
    }
    /// GPU number `ordinal`; an error where there is no driver or no such GPU.
    pub fn cuda(ordinal: usize) -> Result<Device> {
        Device::cuda_with(ordinal, Products::default())
    }
    /// The same, with products computed in another way.
    pub fn cuda_with(ordinal: usize, products: Products) -> Result<Device> {
        Ok(Device::Cuda(Arc::new(Cuda::open(ordinal, products)?)))
    }
    /// A device that counts what a CPU with that many threads would allocate.
    pub fn null(threads: usize) -> Device {
        Device::counting(threads.max(1), false)
    }
    /// A device that counts what a GPU would allocate.
    pub fn null_gpu() -> Device {
        Device::counting(1, true)
    }
    /// The device that counts what this one would allocate.
    pub fn counterpart(&self) -> Device {
        match self {
            Device::Cuda(_) => Device::null_gpu(),
            _ => Device::null(self.threads()),
        }
    }
    fn counting(threads: usize, is_gpu: bool) -> Device {
        let (ledger, recorder) = (Ledger::default(), Arc::default());
        Device::Null(Arc::new(Null { ledger, recorder, threads, is_gpu }))
    }
    /// "cpu", "cuda" or "null".
    pub fn name(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Null(_) => "null",
        }
    }
    /// Threads that compute on this device's behalf (1 for a GPU).
    pub fn threads(&self) -> usize {
        match self {
            Device::Cpu(d) => d.threads(),
            Device::Cuda(_) => 1,
            Device::Null(d) => d.threads,
        }
    }
    /// True for the device that computes nothing; what is read from it is zero.
    pub fn is_null(&self) -> bool {
        matches!(self, Device::Null(_))
    }
    /// The counters of everything that lives here.
    pub fn ledger(&self) -> &Ledger {
        match self {
            Device::Cpu(d) => &d.ledger,
            Device::Cuda(d) => &d.ledger,
            Device::Null(d) => &d.ledger,
        }
    }
    /// True if both are the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu(a), Device::Cpu(b)) => Arc::ptr_eq(a, b),
            (Device::Cuda(a), Device::Cuda(b)) => Arc::ptr_eq(a, b),
            (Device::Null(a), Device::Null(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// A buffer of `len` elements whose contents are unspecified (NaN in debug builds).
    pub fn alloc<T: Element>(&self, class: Class, len: usize) -> Result<Buffer> {
        self.raw(class, T::DTYPE, len)
    }
    pub(crate) fn raw(&self, class: Class, dtype: DType, len: usize) -> Result<Buffer> {
        let bytes = len
            .checked_mul(dtype.size())
            .filter(|b| *b < isize::MAX as usize / 2)
            .ok_or(Error::Memory { device: self.name(), bytes: len.saturating_mul(dtype.size()) })?;
        let mem = match self {
            Device::Cpu(d) => Mem::Host(d.blocks.take(bytes)?),
            Device::Cuda(d) => Mem::Cuda(d.alloc(bytes)?),
            Device::Null(_) => Mem::Null,
        };
        Ok(Buffer::new(self.clone(), mem, dtype, len, class))
    }
    /// A buffer of zeros.
    pub fn zeros<T: Element>(&self, class: Class, len: usize) -> Result<Buffer> {
        let mut b = self.alloc::<T>(class, len)?;
        b.clear()?;
        Ok(b)
    }
    /// A buffer with the given values.
    pub fn upload<T: Element>(&self, class: Class, values: &[T]) -> Result<Buffer> {
        let mut b = self.alloc::<T>(class, values.len())?;
        b.write(values)?;
        Ok(b)
    }
    /// `len` elements of a mapped file, from byte `offset`: used in place on the CPU where the
    /// alignment allows it, copied elsewhere. The range must lie inside the file.
    pub fn map(
        &self,
        class: Class,
        file: &Arc<MappedFile>,
        offset: usize,
        dtype: DType,
        len: usize,
    ) -> Result<Buffer> {
        let beyond = || {
            let held = file.bytes().len();
            let what =
                format!("the file has {held} bytes: not {len} elements of {dtype} from byte {offset} on");
            Error::Invalid { kernel: "map", what }
        };
        let bytes = file
            .bytes()
            .get(offset..)
            .and_then(|b| b.get(..len.checked_mul(dtype.size())?))
            .ok_or_else(beyond)?;
        if let Device::Cpu(_) = self
            && bytes.as_ptr().align_offset(dtype.size()) == 0
        {
            return Ok(Buffer::new(self.clone(), Mem::Mapped(file.clone(), offset), dtype, len, class));
        }
        let mut b = self.raw(class, dtype, len)?;
        b.write_bytes(bytes)?;
        Ok(b)
    }
    /// Runs `f` on one of the device's own threads, while the others wait for the kernels it
    /// launches: they start without a hand-over. For whole passes, from any thread. Parallel
    /// operations of rayon in `f` run on its thread alone, but for `rayon::broadcast`, which
    /// would wait for ever.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match self {
            Device::Cpu(d) => d.team.install(f),
            _ => f(),
        }
    }
    /// Waits until everything launched so far is done.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cuda(d) => d.synchronize(),
            _ => Ok(()),
        }
    }
}

impl Null {
    /// True if it counts for a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        self.is_gpu
    }
}

impl Cpu {
    /// Threads in the pool.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }
    /// Runs `f(task, thread)` for every task below `n`; each thread takes a share of neighbouring
    /// tasks first. What a task computes must depend on its number alone: then results do not
    /// depend on the number of threads. No two calls that run at once have the same `thread`, which
    /// is below `threads()`.
    pub(crate) fn each(&self, n: usize, f: impl Fn(usize, usize) + Sync) {
        self.team.each(n, &f);
    }
    /// Cuts `y` into pieces of `rows` rows of `cols` values and runs `f(first row, piece)` on
    /// each in parallel.
    pub(crate) fn rows<T: Send>(
        &self,
        y: &mut [T],
        cols: usize,
        rows: usize,
        f: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        let (len, piece) = (y.len(), (cols * rows).max(1));
        let y = Shared(y.as_mut_ptr());
        self.each(len.div_ceil(piece), |i, _| {
            let first = i * piece;
            // SAFETY: the pieces are disjoint parts of `y`, and each is taken once.
            let piece = unsafe { std::slice::from_raw_parts_mut(y.get().add(first), piece.min(len - first)) };
            f(i * rows, piece);
        });
    }
}

/// A read-only file in memory.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps `path`.
    pub fn open(path: &Path) -> Result<Arc<MappedFile>> {
        let file = |source| Error::File { path: path.to_path_buf(), source };
        let f = std::fs::File::open(path).map_err(file)?;
        // SAFETY: the bytes are only ever read. As for every mapping, a file that another program
        // truncates while it is mapped ends this one with SIGBUS, and one that is rewritten in
        // place changes under it; model files are neither, and engraft itself writes files under a
        // temporary name and renames them.
        let map = unsafe { memmap2::Mmap::map(&f) }.map_err(file)?;
        Ok(Arc::new(MappedFile(map)))
    }
    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
    /// Says that a range of the file is not needed any more: its pages leave memory. What is read
    /// there all the same comes from the file again. Does nothing where the system cannot.
    pub fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if range.end <= self.0.len() && range.start < range.end {
            // SAFETY: the mapping is of a file and is never written, so that a page that was
            // dropped is read from the file with the same bytes; nobody can tell. A failure leaves
            // the pages where they are.
            let _ = unsafe {
                self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

pub(crate) type HostBlock = Block;
