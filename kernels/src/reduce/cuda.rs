//! A block for some columns, or for a pair; see `kernel.cu`.
use super::*;
use crate::{
    Class, Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// SIDE and PAIRS of `kernel.cu`.
const SIDE: usize = 32;
const PAIRS: usize = 128;
/// Threads of a block that sums by itself.
const THREADS: usize = 1024;

pub(super) fn columns(
    d: &Cuda,
    a: View<'_>,
    b: Option<View<'_>>,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let (rows, cols) = (a.rows(), a.cols());
    let grid = Grid::pieces(cols.div_ceil(SIDE), SIDE * SIDE);
    let y = Arg::write_row(y)?;
    let args = [Arg::read(a)?, Arg::read_if(b)?, y, accumulate.into(), rows.into(), cols.into()];
    // SAFETY: the parameters of `reduce_columns`; `super` has checked that a and b have `rows` and
    // `cols`, and y a value for each column. The block has the size the kernel expects.
    unsafe { d.launch(&PROGRAM, "reduce_columns", grid, &args) }
}

/// Room for so many sums in double precision.
pub(crate) fn sums(device: &Device, n: usize) -> Result<Buffer> {
    device.alloc::<u32>(Class::Scratch, 2 * n)
}

/// y (1) = by times the sum of the first `n` of `sums`.
pub(crate) fn total(d: &Cuda, sums: &Buffer, n: usize, by: f64, y: &mut Buffer) -> Result<()> {
    check_buffer::<u32>(NAME, y.device(), "sums", sums, 2 * n)?;
    check_buffer::<f32>(NAME, sums.device(), "y", y, 1)?;
    let args = [Arg::all(sums)?, n.into(), by.into(), Arg::all_mut(y)?];
    // SAFETY: the parameters of `reduce_total`: there are `n` numbers of two words (checked), and y
    // has room for one; a block of whole warps.
    unsafe { d.launch(&PROGRAM, "reduce_total", Grid::pieces(1, THREADS), &args) }
}

/// What [`dots`] allocates at most at a time: a sum for each pair of a launch.
pub(super) fn workspace(device: &Device, pairs: usize) -> Result<Buffer> {
    sums(device, pairs.min(PAIRS))
}

pub(super) fn dots(device: &Device, d: &Cuda, pairs: &[(&Buffer, &Buffer)]) -> Result<f64> {
    let mut total = 0.0;
    for pairs in pairs.chunks(PAIRS) {
        let mut out = workspace(device, pairs.len())?;
        let mut words = vec![];
        for (a, b) in pairs {
            words.extend([Arg::address(a)?, Arg::address(b)?, a.len() as u64]);
        }
        words.resize(3 * PAIRS, 0);
        let args = [Arg::structure(words), Arg::all_mut(&mut out)?];
        // SAFETY: the parameters of `reduce_dots`, with a pair for each block, whose buffers are of
        // this device, f32, and the second as long as the first, as `super::dots` has checked; `out`
        // has room for a number of two words for each.
        unsafe { d.launch(&PROGRAM, "reduce_dots", Grid::pieces(pairs.len(), THREADS), &args) }?;
        let words = out.read::<u32>()?;
        let number = |w: &[u32; 2]| f64::from_bits(u64::from(w[1]) << 32 | u64::from(w[0]));
        total = words.as_chunks().0.iter().map(number).fold(total, |a, b| a + b);
    }
    Ok(total)
}
