//! For now: the reference, row blocks in parallel.
use super::*;
use crate::{Class, Cpu, DType};

/// What a launch allocates for its threads' packed panels.
pub(super) fn workspace(device: &Device) -> Result<Buffer> {
    device.alloc::<f32>(Class::Scratch, device.threads())
}
fn decode(w: Matrix<'_>) -> Result<Vec<f32>> {
    Ok(match w.data.dtype() {
        DType::F32 => w.data.host::<f32>()?.to_vec(),
        DType::Bf16 => w.data.host::<bf16>()?.iter().map(|x| x.to_f32()).collect(),
        _ => w.data.host::<f16>()?.iter().map(|x| x.to_f32()).collect(),
    })
}
pub(super) fn times_transposed(
    _d: &Cpu,
    device: &Device,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    bias: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    let _ = workspace(device)?;
    let b = bias.map(|b| b.host()).transpose()?;
    let r = reference(m, w.cols, w.rows, (x.host()?, w.cols, 1), (&decode(w)?, 1, w.cols), b);
    y.host_mut()?[..m * w.rows].copy_from_slice(&r);
    Ok(())
}
pub(super) fn times(
    _d: &Cpu,
    device: &Device,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    bias: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    let _ = workspace(device)?;
    let b = bias.map(|b| b.host()).transpose()?;
    let r = reference(m, w.rows, w.cols, (x.host()?, w.rows, 1), (&decode(w)?, w.cols, 1), b);
    y.host_mut()?[..m * w.cols].copy_from_slice(&r);
    Ok(())
}
#[allow(clippy::too_many_arguments)]
pub(super) fn transposed_times(
    _d: &Cpu,
    device: &Device,
    dy: &Buffer,
    n: usize,
    x: &Buffer,
    k: usize,
    m: usize,
    g: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    let _ = workspace(device)?;
    let r = reference::<f32>(n, m, k, (dy.host()?, 1, n), (x.host()?, k, 1), None);
    for (g, r) in g.host_mut::<f32>()?.iter_mut().zip(r) {
        *g = if accumulate { *g + r } else { r };
    }
    Ok(())
}
