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

/// Whole warps, and no more than `kernel.cu` has room for, of which each thread has
/// about four channels.
fn config((rows, cols): (usize, usize)) -> LaunchConfig {
    let threads = cols.div_ceil(4).clamp(1, 256).next_multiple_of(32);
    LaunchConfig {
        grid_dim: (rows.min(MOST_BLOCKS) as u32, 1, 1),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Refuses what the kernels do not know: parts of matrices, and some norms.
fn known(n: Norm<'_>, views: &[View<'_>]) -> Result<()> {
    if !(n.centred && n.beta.is_some()) {
        return Err(refused("a norm without a mean or without a bias"));
    }
    if views.iter().any(|v| !v.is_dense() || v.start() > 0) {
        return Err(refused("layernorm of a part of a matrix"));
    }
    Ok(())
}

pub(super) fn forward(
    d: &Cuda,
    x: View<'_>,
    r: Option<View<'_>>,
    n: Norm<'_>,
    y: ViewMut<'_>,
    keep: Option<SavedNorm<'_>>,
) -> Result<()> {
    let shape = (x.rows(), x.cols());
    if n.dropout.is_some() {
        return Err(refused("layernorm with dropout"));
    }
    known(n, &[x, r.unwrap_or(x), y.view(), keep.as_ref().map_or(x, |k| k.normed.view())])?;
    let Some(beta) = n.beta.filter(|_| shape.0 > 0 && shape.1 > 0) else { return Ok(()) };
    let f = d.function(&PROGRAM, "layernorm_forward")?;
    let (rows, cols) = (shape.0 as u64, shape.1 as u64);
    let r = r.map(|r| r.buffer().cuda()).transpose()?;
    let mut kept = match keep {
        Some(k) => Some((k.normed.buffer().cuda_mut()?, k.rstd.cuda_mut()?)),
        None => None,
    };
    let mut launch = d.stream.launch_builder(&f);
    launch.arg(&x.buffer().cuda()?.0);
    match r {
        Some(r) => launch.arg(&r.0),
        None => launch.arg(&NULL),
    };
    launch.arg(&n.gamma.cuda()?.0).arg(&beta.cuda()?.0).arg(&n.eps).arg(&rows).arg(&cols);
    launch.arg(&mut y.buffer().cuda_mut()?.0);
    match &mut kept {
        Some((normed, rstd)) => launch.arg(&mut normed.0).arg(&mut rstd.0),
        None => launch.arg(&NULL).arg(&NULL),
    };
    // SAFETY: the arguments are those of `layernorm_forward`, in order and type. `super::forward`
    // has checked that all buffers live on this device, hold f32 and are as long as `rows` and
    // `cols` say, and `known` that matrices begin where their buffers do and have no gaps; the
    // kernel touches nothing beyond that, and writes only the three it is given mutably. The block
    // is made of at most eight whole warps.
    unsafe { launch.launch(config(shape)) }?;
    Ok(())
}

pub(super) fn backward(
    d: &Cuda,
    dy: View<'_>,
    normed: View<'_>,
    rstd: &Buffer,
    n: Norm<'_>,
    dx: ViewMut<'_>,
) -> Result<()> {
    let shape = (dy.rows(), dy.cols());
    known(n, &[dy, normed, dx.view()])?;
    if shape.0 == 0 || shape.1 == 0 {
        return Ok(());
    }
    let f = d.function(&PROGRAM, "layernorm_backward")?;
    let (rows, cols) = (shape.0 as u64, shape.1 as u64);
    let mut launch = d.stream.launch_builder(&f);
    launch
        .arg(&dy.buffer().cuda()?.0)
        .arg(&normed.buffer().cuda()?.0)
        .arg(&rstd.cuda()?.0)
        .arg(&n.gamma.cuda()?.0);
    launch.arg(&rows).arg(&cols).arg(&mut dx.buffer().cuda_mut()?.0);
    // SAFETY: as in `forward`: the arguments of `layernorm_backward`, of f32 and of the lengths
    // that `super::backward` has checked; the kernel writes `dx` alone.
    unsafe { launch.launch(config(shape)) }?;
    Ok(())
}
