//! The passes beside the products; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, Storage,
    cuda::Program,
    launch::{Arg, Grid},
    storage::Scales,
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// Floats of a `Running` of `kernel.cu`.
const RUNNING: usize = 6;

/// What each row has met so far, to be written by the first block of outputs.
pub(super) fn running(device: &Device, rows: usize) -> Result<Buffer> {
    device.alloc::<f32>(Class::Scratch, area(NAME, "rows", rows, RUNNING)?)
}

/// As [`cpu::exponentials`].
pub(super) fn exponentials(
    d: &Cuda,
    layer: Layer<'_>,
    block: &Range<usize>,
    of: Labels<'_>,
    z: &mut Buffer,
    running: &mut Buffer,
    dx: Option<ViewMut<'_>>,
) -> Result<()> {
    let (rows, writes) = (of.len(), dx.is_some());
    let factors = match layer.w.scales {
        Some(Scales::Rows(scales)) if layer.integer_dx => {
            View::row(scales).cols_of(layer.w.first.0..layer.w.first.0 + layer.w.rows).map(Some)
        }
        _ => Ok(None),
    }?;
    let factors = factors.map_or(Ok([0; 2]), Arg::place)?[0];
    let args = [
        Arg::write(ViewMut::of(z, rows, block.len())?)?,
        Arg::all_if(layer.bias)?,
        Arg::from(factors as usize),
        Arg::all(of.of)?,
        Arg::all_mut(running)?,
        Arg::write_if(dx)?,
        rows.into(),
        block.start.into(),
        block.len().into(),
        layer.w.cols.into(),
        writes.into(),
        (of.smoothing > 0.0).into(),
        d.faults(NAME, "output", layer.w.rows),
        layer.w.rows.into(),
    ];
    // SAFETY: the parameters of `vocabulary_loss_exponentials`. `super::forward` has checked that
    // there is a label for each row, a bias and a scale for each output, and the shape of dx; z has
    // room for a block, and a row has its `Running`.
    unsafe { d.launch(&PROGRAM, "vocabulary_loss_exponentials", Grid::rows(rows, block.len(), 256), &args) }
}

/// As [`cpu::finish`].
pub(super) fn finish(
    d: &Cuda,
    w: Matrix<'_>,
    of: Labels<'_>,
    running: &Buffer,
    shared: Option<&Buffer>,
    out: Outputs<'_>,
) -> Result<()> {
    let rows = of.len();
    let args = [
        Arg::all(running)?,
        rows.into(),
        f64::from(of.smoothing).into(),
        (w.rows as f64).into(),
        Arg::all_mut(out.losses)?,
        Arg::all_mut_if(out.hits)?,
        Arg::all_mut_if(out.lse)?,
    ];
    // SAFETY: the parameters of `vocabulary_loss_finish`: a number for each row, as `super::forward`
    // has checked.
    unsafe { d.launch(&PROGRAM, "vocabulary_loss_finish", Grid::pieces(rows.div_ceil(256), 256), &args) }?;
    let Some(dx) = out.dx else { return Ok(()) };
    let (stored, storage) = w.on_gpu()?;
    let name = match storage {
        Storage::F32 => "vocabulary_loss_subtract_f32",
        Storage::Bf16 => "vocabulary_loss_subtract_bf16",
        Storage::F16 => "vocabulary_loss_subtract_f16",
        Storage::Int8 => "vocabulary_loss_subtract_int8",
        Storage::Nf4 => "vocabulary_loss_subtract_nf4",
    };
    let args = [
        Arg::all(running)?,
        Arg::all(of.of)?,
        stored,
        (1.0 - of.smoothing).into(),
        Arg::all_if(shared)?,
        Arg::write(dx)?,
        rows.into(),
        w.cols.into(),
        w.rows.into(),
    ];
    // SAFETY: the parameters of the kernel for the weight's type; dx is (rows, cols), and what is
    // shared by all rows has as many columns. Labels beyond the outputs are not looked up.
    unsafe { d.launch(&PROGRAM, name, Grid::elements(rows, w.cols), &args) }
}

/// As [`cpu::slopes`].
pub(super) fn slopes(
    d: &Cuda,
    bias: Option<&Buffer>,
    (block, outputs): (&Range<usize>, usize),
    labels: Labels<'_>,
    (lse, dloss): (&Buffer, &Buffer),
    z: &mut Buffer,
) -> Result<()> {
    let (rows, n) = (labels.len(), block.len());
    let args = [
        Arg::write(ViewMut::of(z, rows, n)?)?,
        Arg::all_if(bias)?,
        Arg::all(labels.of)?,
        Arg::all(lse)?,
        Arg::all(dloss)?,
        (1.0 - labels.smoothing).into(),
        (labels.smoothing / outputs as f32).into(),
        rows.into(),
        block.start.into(),
        n.into(),
    ];
    // SAFETY: the parameters of `vocabulary_loss_slopes`. `super::backward` has checked that there
    // are a label and a sum for each row and a bias for each output; z has room for a block.
    unsafe { d.launch(&PROGRAM, "vocabulary_loss_slopes", Grid::elements(rows, n), &args) }
}
