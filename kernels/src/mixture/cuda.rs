//! A warp for each group, and a thread for each softmax; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// GROUPS of `kernel.cu`.
const GROUPS: usize = 128;
const THREADS: usize = 256;

/// A kernel over the groups of every row, as many launches as it takes.
///
/// # Safety
/// a and y, and b, are matrices on `d` of the shapes that the kernel `name` reads and writes for
/// groups of these widths.
unsafe fn by_groups(
    d: &Cuda,
    name: &'static str,
    [a, b]: [View<'_>; 2],
    widths: &[usize],
    mut y: ViewMut<'_>,
) -> Result<()> {
    let too_wide = |_| Error::Invalid { kernel: NAME, what: "the groups are too wide for a GPU".into() };
    let all: Vec<_> = groups(widths).collect();
    for (n, some) in all.chunks(GROUPS).enumerate() {
        let mut columns = [0u32; 2 * GROUPS];
        for (g, group) in some.iter().enumerate() {
            columns[g] = u32::try_from(group.start).map_err(too_wide)?;
            columns[GROUPS + g] = u32::try_from(group.len()).map_err(too_wide)?;
        }
        let args = [
            Arg::read(a)?,
            Arg::read(b)?,
            Arg::table(&columns),
            (n * GROUPS).into(),
            Arg::write(y.reborrow())?,
            a.rows().into(),
            some.len().into(),
        ];
        let blocks = [some.len().div_ceil(THREADS / 32), a.rows()];
        // SAFETY: the parameters of both kernels over groups; the rest is this function's contract.
        unsafe { d.launch(&PROGRAM, name, Grid { blocks, threads: THREADS, shared: 0 }, &args) }?;
    }
    Ok(())
}

pub(super) fn dots(d: &Cuda, inputs: [View<'_>; 2], widths: &[usize], s: ViewMut<'_>) -> Result<()> {
    // SAFETY: `super::dots` has checked that the inputs have the columns of all groups, and s one
    // for each.
    unsafe { by_groups(d, "mixture_dots", inputs, widths, s) }
}
pub(super) fn spread(d: &Cuda, x: View<'_>, p: View<'_>, widths: &[usize], y: ViewMut<'_>) -> Result<()> {
    // SAFETY: `super::spread` has checked that x and y have the columns of all groups, and p one for
    // each.
    unsafe { by_groups(d, "mixture_spread", [x, p], widths, y) }
}
pub(super) fn softmax(d: &Cuda, s: View<'_>, stride: usize, p: ViewMut<'_>) -> Result<()> {
    let (rows, groups) = (s.rows(), s.cols());
    let args = [Arg::read(s)?, Arg::write(p)?, stride.into(), rows.into(), groups.into()];
    // SAFETY: the parameters of `mixture_softmax`; `super::softmax` has checked that both matrices
    // have `rows` and `groups`.
    unsafe { d.launch(&PROGRAM, "mixture_softmax", Grid::elements(rows, stride), &args) }
}
pub(super) fn softmax_backward(
    d: &Cuda,
    [dp, p]: [View<'_>; 2],
    stride: usize,
    ds: ViewMut<'_>,
) -> Result<()> {
    let (rows, groups) = (p.rows(), p.cols());
    let args = [Arg::read(dp)?, Arg::read(p)?, Arg::write(ds)?, stride.into(), rows.into(), groups.into()];
    // SAFETY: as in `softmax`: the parameters of `mixture_softmax_backward`.
    unsafe { d.launch(&PROGRAM, "mixture_softmax_backward", Grid::elements(rows, stride), &args) }
}
