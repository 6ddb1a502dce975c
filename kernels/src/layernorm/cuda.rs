//! A block for each row; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::{NULL, Program},
};
use cudarc::driver::{LaunchConfig, PushKernelArg};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// Blocks of one launch: more than any GPU runs at a time. They share the rows.
const MOST_BLOCKS: usize = 4096;

/// Whole warps, and no more than `kernel.cu` has room for, of which each thread has about four channels.
fn config(n: &Norm<'_>) -> LaunchConfig {
    let threads = n.cols.div_ceil(4).clamp(1, 256).next_multiple_of(32);
    LaunchConfig {
        grid_dim: (n.rows.min(MOST_BLOCKS) as u32, 1, 1),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

pub(super) fn forward(
    d: &Cuda,
    x: &Buffer,
    r: Option<&Buffer>,
    n: Norm<'_>,
    y: &mut Buffer,
    keep: Option<Kept<'_>>,
) -> Result<()> {
    if n.rows == 0 || n.cols == 0 {
        return Ok(());
    }
    let f = d.function(&PROGRAM, "layernorm_forward")?;
    let (rows, cols) = (n.rows as u64, n.cols as u64);
    let r = r.map(Buffer::cuda).transpose()?;
    let mut kept = match keep {
        Some(k) => Some((k.normed.cuda_mut()?, k.rstd.cuda_mut()?)),
        None => None,
    };
    let mut launch = d.stream.launch_builder(&f);
    launch.arg(&x.cuda()?.0);
    match r {
        Some(r) => launch.arg(&r.0),
        None => launch.arg(&NULL),
    };
    launch.arg(&n.gamma.cuda()?.0).arg(&n.beta.cuda()?.0).arg(&n.eps).arg(&rows).arg(&cols);
    launch.arg(&mut y.cuda_mut()?.0);
    match &mut kept {
        Some((normed, rstd)) => launch.arg(&mut normed.0).arg(&mut rstd.0),
        None => launch.arg(&NULL).arg(&NULL),
    };
    // SAFETY: the arguments are those of `layernorm_forward`, in order and type. `super::forward` has checked that all
    // buffers live on this device, hold f32 and are as long as `rows` and `cols` say; the kernel touches nothing beyond
    // that, and writes only the three it is given mutably. The block is made of at most eight whole warps.
    unsafe { launch.launch(config(&n)) }?;
    Ok(())
}

pub(super) fn backward(
    d: &Cuda,
    dy: &Buffer,
    normed: &Buffer,
    rstd: &Buffer,
    n: Norm<'_>,
    dx: &mut Buffer,
) -> Result<()> {
    if n.rows == 0 || n.cols == 0 {
        return Ok(());
    }
    let f = d.function(&PROGRAM, "layernorm_backward")?;
    let (rows, cols) = (n.rows as u64, n.cols as u64);
    let mut launch = d.stream.launch_builder(&f);
    launch.arg(&dy.cuda()?.0).arg(&normed.cuda()?.0).arg(&rstd.cuda()?.0).arg(&n.gamma.cuda()?.0);
    launch.arg(&rows).arg(&cols).arg(&mut dx.cuda_mut()?.0);
    // SAFETY: as in `forward`: the arguments of `layernorm_backward`, of f32 and of the lengths that `super::backward`
    // has checked; the kernel writes `dx` alone.
    unsafe { launch.launch(config(&n)) }?;
    Ok(())
}
