//! How a kernel's `cuda.rs` launches what its `kernel.cu` defines.
//!
//! A launch names the program, the kernel, the grid and the arguments, in the order of the kernel's
//! parameters. Views become what `cuda.cuh` calls a View. The sizes of the arguments are held
//! against those that the PTX declares; everything else is for the caller to say.
use crate::{
    Buffer, ColsMut, Error, Result, View, ViewMut,
    cuda::{Cuda, Program},
};
use cudarc::driver::result;
use std::{ffi::c_void, marker::PhantomData};

/// Blocks of a launch in either direction: more than any GPU runs at a time. Kernels go on from
/// there by themselves, which the stand-in makes them show.
const MOST_BLOCKS: usize = if cfg!(feature = "cuda-sim") { 3 } else { 4096 };
/// Threads of a block that goes element by element.
const THREADS: usize = 256;
/// Elements of each of them, about.
const EACH: usize = 4;

/// One argument, as a kernel gets it: a structure, in words of eight bytes.
#[derive(Debug)]
#[must_use]
pub(crate) struct Arg<'a> {
    words: Vec<u64>,
    size: usize,
    lent: PhantomData<&'a mut ()>,
}
impl<'a> Arg<'a> {
    fn new(word: u64, size: usize) -> Arg<'a> {
        Arg { words: vec![word], size, lent: PhantomData }
    }
    /// A structure of so many whole words.
    pub(crate) fn structure(words: Vec<u64>) -> Arg<'a> {
        Arg { size: 8 * words.len(), words, lent: PhantomData }
    }
    /// The address of a buffer's first element, for a structure that others lend.
    pub(crate) fn address(b: &Buffer) -> Result<u64> {
        Ok(b.cuda()?.address())
    }
    /// The address of a matrix's first element, and its stride.
    pub(crate) fn place(v: View<'_>) -> Result<[u64; 2]> {
        let start = v.start() * v.buffer().dtype().size();
        Ok([Arg::address(v.buffer())? + start as u64, v.stride() as u64])
    }
    /// A matrix that is read: a `View<const T>`.
    pub(crate) fn read(v: View<'a>) -> Result<Arg<'a>> {
        Ok(Arg::structure(Arg::place(v)?.to_vec()))
    }
    /// The same, or a null for none.
    pub(crate) fn read_if(v: Option<View<'a>>) -> Result<Arg<'a>> {
        v.map_or(Ok(Arg::structure(vec![0; 2])), Arg::read)
    }
    /// A matrix that is written: a `View<T>`.
    pub(crate) fn write(v: ViewMut<'a>) -> Result<Arg<'a>> {
        // what is made of the matrix is lent for 'a, as the matrix was
        Ok(Arg::structure(Arg::place(v.view())?.to_vec()))
    }
    /// The same, or a null for none.
    pub(crate) fn write_if(v: Option<ViewMut<'a>>) -> Result<Arg<'a>> {
        v.map_or(Ok(Arg::structure(vec![0; 2])), Arg::write)
    }
    /// Columns of a matrix that are written: a `View<T>`.
    pub(crate) fn write_cols(c: ColsMut<'a>) -> Result<Arg<'a>> {
        Ok(Arg::structure(Arg::place(c.view())?.to_vec()))
    }
    /// The same, or a null for none.
    pub(crate) fn write_cols_if(c: Option<ColsMut<'a>>) -> Result<Arg<'a>> {
        c.map_or(Ok(Arg::structure(vec![0; 2])), Arg::write_cols)
    }
    /// A structure of both.
    pub(crate) fn then(mut self, other: Arg<'a>) -> Arg<'a> {
        self.words.extend(other.words);
        Arg { size: self.size + other.size, ..self }
    }
    /// A matrix of one row that is written: a `T*`.
    pub(crate) fn write_row(v: ViewMut<'a>) -> Result<Arg<'a>> {
        Ok(Arg::new(Arg::write(v)?.words[0], 8))
    }
    /// The elements of a buffer, to be read: a `const T*`.
    pub(crate) fn all(b: &'a Buffer) -> Result<Arg<'a>> {
        Ok(Arg::new(Arg::address(b)?, 8))
    }
    /// The same, or a null for none.
    pub(crate) fn all_if(b: Option<&'a Buffer>) -> Result<Arg<'a>> {
        b.map_or(Ok(Arg::new(0, 8)), Arg::all)
    }
    /// The elements of a buffer, to be written: a `T*`.
    pub(crate) fn all_mut(b: &'a mut Buffer) -> Result<Arg<'a>> {
        Ok(Arg::new(b.cuda_mut()?.address(), 8))
    }
    /// The same, or a null for none.
    pub(crate) fn all_mut_if(b: Option<&'a mut Buffer>) -> Result<Arg<'a>> {
        b.map_or(Ok(Arg::new(0, 8)), Arg::all_mut)
    }
    /// A structure of an even number of words of four bytes.
    pub(crate) fn table(words: &[u32]) -> Arg<'a> {
        let two = |w: &[u32; 2]| u64::from(w[1]) << 32 | u64::from(w[0]);
        Arg::structure(words.as_chunks().0.iter().map(two).collect())
    }
}
/// A `u64`.
impl From<usize> for Arg<'_> {
    fn from(n: usize) -> Self {
        Arg::new(n as u64, 8)
    }
}
/// A `u32`, or an `int`.
impl From<u32> for Arg<'_> {
    fn from(n: u32) -> Self {
        Arg::new(u64::from(n), 4)
    }
}
/// A `u32`: 0 or 1.
impl From<bool> for Arg<'_> {
    fn from(b: bool) -> Self {
        u32::from(b).into()
    }
}
/// A `double`.
impl From<f64> for Arg<'_> {
    fn from(x: f64) -> Self {
        Arg::new(x.to_bits(), 8)
    }
}
/// A `float`.
impl From<f32> for Arg<'_> {
    fn from(x: f32) -> Self {
        Arg::new(u64::from(x.to_bits()), 4)
    }
}

/// The blocks of a launch, and the threads of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// In both directions.
    pub(crate) blocks: [usize; 2],
    /// Of a block.
    pub(crate) threads: usize,
    /// Bytes of shared memory that a block has besides what the kernel declares.
    pub(crate) shared: usize,
}
impl Grid {
    /// Of a kernel that goes through a matrix with `FOR_EACH`.
    pub(crate) fn elements(rows: usize, cols: usize) -> Grid {
        Grid { blocks: [cols.div_ceil(THREADS * EACH), rows], threads: THREADS, shared: 0 }
    }
    /// Blocks of so many threads, for `n` pieces of work.
    pub(crate) fn pieces(n: usize, threads: usize) -> Grid {
        Grid { blocks: [n, 1], threads, shared: 0 }
    }
    /// A block for each row of so many columns, each thread of which has about four of them: whole
    /// warps, and no more than `most` threads.
    pub(crate) fn rows(rows: usize, cols: usize, most: usize) -> Grid {
        Grid::pieces(rows, cols.div_ceil(EACH).clamp(1, most).next_multiple_of(32).min(most))
    }
}
/// Rows and columns to go through: matrices that are all dense are one row.
pub(crate) fn flat(views: &[View<'_>]) -> (usize, usize) {
    let shape = views.first().map_or((0, 0), |v| (v.rows(), v.cols()));
    if views.iter().all(View::is_dense) { (1, shape.0 * shape.1) } else { shape }
}

impl Cuda {
    /// Launches the kernel `name` of `program`. A grid without blocks is no launch.
    ///
    /// # Safety
    /// The arguments are those of the kernel's parameters, in order and type; what the kernel reads
    /// and writes through them, given the grid, lies inside their views and buffers, which are of
    /// this device, and it writes those alone that were given to be written.
    pub(crate) unsafe fn launch(
        &self,
        program: &Program,
        name: &'static str,
        grid: Grid,
        args: &[Arg<'_>],
    ) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let f = self.function(program, name)?;
        let sizes: Vec<usize> = args.iter().map(|a| a.size).collect();
        if sizes != f.parameters {
            let what = format!("{name} takes arguments of {:?} bytes, not {sizes:?}", f.parameters);
            return Err(Error::Cuda(what));
        }
        if grid.shared > 0 {
            f.allow_shared(grid.shared)?;
        }
        let [x, y] = grid.blocks.map(|n| n.min(MOST_BLOCKS) as u32);
        let mut words: Vec<*mut c_void> = args.iter().map(|a| a.words.as_ptr().cast_mut().cast()).collect();
        self.bind()?;
        // SAFETY: the function belongs to a module that is never unloaded, and each pointer is to as
        // many bytes as its parameter has (compared above), which the driver copies before it
        // returns. The rest is this function's contract.
        let launched = unsafe {
            let block = (grid.threads as u32, 1, 1);
            result::launch_kernel(f.raw(), (x, y, 1), block, grid.shared as u32, self.stream(), &mut words)
        };
        launched.map_err(|e| Error::Cuda(format!("{name}: {e}")))
    }
    /// What a kernel needs to report an index that names nothing: `Faults` of `cuda.cuh`. The error
    /// is that of the next call that waits for the device.
    pub(crate) fn faults(&self, kernel: &'static str, what: &'static str, below: usize) -> Arg<'static> {
        let (address, code) = self.fault(kernel, what, below);
        Arg::structure(vec![address, u64::from(code)])
    }
}
