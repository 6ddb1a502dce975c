//! A linear layer with many outputs and softmax cross-entropy behind it, without its logits ever
//! being held whole:
//!
//! ```text
//! z = x Wᵀ + b        loss_i = log Σ_j exp z_ij - z_i,label        lse_i = log Σ_j exp z_ij
//! dx = (softmax z - onehot) W      dW = (softmax z - onehot)ᵀ x · dloss      db = Σ_i (softmax z - onehot) · dloss
//! ```
//! With labels smoothed by ε (Szegedy et al. 2016, arXiv:1512.00567) a label stands for 1 - ε of
//! what is expected and all V outputs share the rest: `loss_i = log Σ_j exp z_ij - (1 - ε) z_i,label -
//! ε/V Σ_j z_ij`, and (1 - ε) onehot + ε/V takes the place of onehot.
//!
//! Rows of W are taken in blocks of [`BLOCK`]. Along the way each row of x has the largest logit so
//! far and the sum of the exponentials below it, rescaled where a larger one comes (Milakov &
//! Gimelshein 2018, arXiv:1805.02867). dx is computed while a block's logits are there: Σ_j
//! exp(z_ij - top) W_j is summed and rescaled with the exponentials, and divided at the end. So a
//! frozen W costs two products, those of the loss and of dx; dW needs the final sums, and computes
//! the logits again. All of it is in products of [`crate::matmul`], or of [`crate::matmul_int8`],
//! and the passes over their logits.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Class, Cost, Cpu, Cuda, Device, Error, Kernel, Result, View, ViewMut, check_buffer,
    matmul::{self, Matrix, Plus, area},
    matmul_int8::{self, QuantizedRows},
    reduce,
};
use num_traits::Float;
use std::ops::Range;

const NAME: &str = "vocabulary_loss";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Outputs whose logits are held at a time. It does not depend on the rows: neither does
/// what a row gets.
pub const BLOCK: usize = 2048;

/// The layer: V outputs of C inputs.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// W (V, C), stored in any type.
    pub w: Matrix<'a>,
    /// b, V values.
    pub bias: Option<&'a Buffer>,
    /// Logits are computed in 8-bit integers, which W must be stored as.
    pub integer_logits: bool,
    /// And so is dx: the exponentials are rounded for each row and block.
    pub integer_dx: bool,
}

/// What n rows are expected to give.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// The output of each row (n, u32).
    pub of: &'a Buffer,
    /// ε, the share of all outputs together: from 0 to below 1.
    pub smoothing: f32,
}
impl<'a> Labels<'a> {
    /// Those of a buffer as they are.
    pub fn plain(of: &'a Buffer) -> Labels<'a> {
        Labels { of, smoothing: 0.0 }
    }
    fn len(&self) -> usize {
        self.of.len()
    }
}

/// What the forward pass gives, for n rows.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The loss of each row (n).
    pub losses: &'a mut Buffer,
    /// 1 where no output is larger than that of the label, else 0 (n).
    pub hits: Option<&'a mut Buffer>,
    /// The logarithm of the sum of each row's exponentials (n), which [`backward`] reads.
    pub lse: Option<&'a mut Buffer>,
    /// The gradient of the sum of the losses (n, C).
    pub dx: Option<ViewMut<'a>>,
}

/// The passes over n logits, beside the products; and dx (m).
fn cost(n: usize, dx: usize) -> Cost {
    Cost::new(4 * n + 2 * dx, 8 * n + 12 * dx)
}

impl Layer<'_> {
    fn check(&self, device: &Device, x: View<'_>, labels: Labels<'_>) -> Result<()> {
        self.w.check(NAME, "w", device)?;
        check_buffer::<u32>(NAME, device, "labels", labels.of, 0)?;
        x.expect::<f32>(NAME, device, "x", (labels.len(), self.w.cols))?;
        self.bias.map_or(Ok(()), |b| check_buffer::<f32>(NAME, device, "bias", b, self.w.rows))
    }
    /// The ranges of outputs that are taken one after the other.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let outputs = self.w.rows;
        (0..outputs).step_by(BLOCK).map(move |first| first..outputs.min(first + BLOCK))
    }
    /// Room for a block's logits.
    fn room(&self, device: &Device, rows: usize) -> Result<Buffer> {
        device.alloc::<f32>(Class::Scratch, area(NAME, "z", rows, self.w.rows.min(BLOCK))?)
    }
    /// x in 8 bits, if that is what the logits are computed from.
    fn quantized(&self, device: &Device, x: View<'_>) -> Result<Option<QuantizedRows>> {
        if !self.integer_logits {
            return Ok(None);
        }
        let mut q = QuantizedRows::alloc(device, Class::Scratch, x.rows(), x.cols())?;
        matmul_int8::quantize_rows(device, x, None, &mut q)?;
        Ok(Some(q))
    }
}
/// z = x Wᵀ for a part of W; x in 8 bits too, if that is what counts.
fn logits(
    device: &Device,
    x: View<'_>,
    q: Option<&QuantizedRows>,
    w: Matrix<'_>,
    z: ViewMut<'_>,
) -> Result<()> {
    match q {
        Some(q) => matmul_int8::times_transposed(device, q, w, Plus::NOTHING, z),
        None => matmul::times_transposed(device, x, w, Plus::NOTHING, z),
    }
}

/// The loss of every row of x (n, C) against its label (n, u32), and what [`Outputs`] asks for. A
/// label beyond the outputs is an error: rows without one are not to be given.
pub fn forward(
    device: &Device,
    x: View<'_>,
    labels: Labels<'_>,
    layer: Layer<'_>,
    mut out: Outputs<'_>,
) -> Result<()> {
    layer.check(device, x, labels)?;
    let (rows, cols) = (labels.len(), layer.w.cols);
    check_buffer::<f32>(NAME, device, "losses", out.losses, rows)?;
    for (name, b) in [("lse", &out.lse), ("hits", &out.hits)] {
        b.as_ref().map_or(Ok(()), |b| check_buffer::<f32>(NAME, device, name, b, rows))?;
    }
    out.dx.as_ref().map_or(Ok(()), |dx| dx.view().expect::<f32>(NAME, device, "dx", (rows, cols)))?;
    let mut running = Running::of(device, labels, layer)?;
    let dx = if out.dx.is_some() { rows * cols } else { 0 };
    let _span = device.span(NAME, "forward", || cost(rows * layer.w.rows, dx));
    let (mut z, q) = (layer.room(device, rows)?, layer.quantized(device, x)?);
    for block in layer.blocks() {
        let (n, w) = (block.len(), layer.w.rows_of(block.clone())?);
        logits(device, x, q.as_ref(), w, ViewMut::of(&mut z, rows, n)?)?;
        let dx = out.dx.as_mut().map(ViewMut::reborrow);
        match &mut running {
            Running::Cpu(d, r) => cpu::exponentials(d, layer, &block, labels, &mut z, r, dx)?,
            Running::Cuda(d, r) => cuda::exponentials(d, layer, &block, labels, &mut z, r, dx)?,
            Running::Null(_) => {}
        }
        let Some(dx) = &mut out.dx else { continue };
        let plus = if block.start == 0 { Plus::NOTHING } else { Plus::OUTPUT };
        let exponentials = View::of(&z, rows, n)?;
        if layer.integer_dx {
            let mut q = QuantizedRows::alloc(device, Class::Scratch, rows, n)?;
            matmul_int8::quantize_rows(device, exponentials, None, &mut q)?;
            matmul_int8::times(device, &q, w, plus, dx.reborrow())?;
        } else {
            matmul::times(device, exponentials, w, plus, dx.reborrow())?;
        }
    }
    // -ε times the mean row of W is a part of dx
    let mut shared = None;
    if labels.smoothing > 0.0 && out.dx.is_some() {
        let each = vec![-labels.smoothing / layer.w.rows as f32; layer.w.rows];
        let each = device.upload(Class::Scratch, &each)?;
        let mut sum = device.alloc::<f32>(Class::Scratch, cols)?;
        matmul::times(device, View::row(&each), layer.w, Plus::NOTHING, ViewMut::row(&mut sum))?;
        shared = Some(sum);
    }
    match &running {
        Running::Cpu(d, r) => cpu::finish(d, layer.w, labels, r, shared.as_ref(), out),
        Running::Cuda(d, r) => cuda::finish(d, layer.w, labels, r, shared.as_ref(), out),
        Running::Null(_) => Ok(()),
    }
}
/// Where it is computed, and what each row has met so far.
enum Running<'d> {
    Cpu(&'d Cpu, Vec<cpu::Running>),
    Cuda(&'d Cuda, Buffer),
    /// What the GPU would hold, if it is one that is counted for.
    Null(#[allow(dead_code)] Option<Buffer>),
}
impl<'d> Running<'d> {
    /// An error if a label is beyond the outputs; a GPU finds that out later.
    fn of(device: &'d Device, labels: Labels<'_>, layer: Layer<'_>) -> Result<Running<'d>> {
        let rows = labels.len();
        Ok(match device {
            Device::Cpu(d) => {
                cpu::check(labels.of, layer.w.rows)?;
                Running::Cpu(d, vec![cpu::Running::default(); rows])
            }
            Device::Cuda(d) => Running::Cuda(d, cuda::running(device, rows)?),
            Device::Null(d) if d.is_gpu() => Running::Null(Some(cuda::running(device, rows)?)),
            Device::Null(_) => Running::Null(None),
        })
    }
}

/// Where the gradients of the layer go, and whether they are added to what is there.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// That of W (V, C).
    pub dw: Option<(ViewMut<'a>, bool)>,
    /// That of b (1, V).
    pub db: Option<(ViewMut<'a>, bool)>,
}

/// dloss (1) times the gradients of the layer for the sum of the losses, from what the forward pass
/// was given and its `lse`.
pub fn backward(
    device: &Device,
    x: View<'_>,
    labels: Labels<'_>,
    layer: Layer<'_>,
    lse: &Buffer,
    dloss: &Buffer,
    mut to: Gradients<'_>,
) -> Result<()> {
    layer.check(device, x, labels)?;
    let (rows, outputs, cols) = (labels.len(), layer.w.rows, layer.w.cols);
    check_buffer::<f32>(NAME, device, "lse", lse, rows)?;
    check_buffer::<f32>(NAME, device, "dloss", dloss, 1)?;
    for (name, g, shape) in [("dw", &to.dw, (outputs, cols)), ("db", &to.db, (1, outputs))] {
        g.as_ref().map_or(Ok(()), |(g, _)| g.view().expect::<f32>(NAME, device, name, shape))?;
    }
    if let Device::Cpu(_) = device {
        cpu::check(labels.of, layer.w.rows)?;
    }
    let _span = device.span(NAME, "backward", || cost(rows * outputs, 0));
    let (mut z, q) = (layer.room(device, rows)?, layer.quantized(device, x)?);
    for block in layer.blocks() {
        let w = layer.w.rows_of(block.clone())?;
        logits(device, x, q.as_ref(), w, ViewMut::of(&mut z, rows, block.len())?)?;
        match device {
            Device::Cpu(d) => cpu::slopes(d, layer.bias, (&block, outputs), labels, lse, dloss, &mut z)?,
            Device::Cuda(d) => {
                cuda::slopes(d, layer.bias, (&block, outputs), labels, (lse, dloss), &mut z)?;
            }
            Device::Null(_) => {}
        }
        let dz = View::of(&z, rows, block.len())?;
        if let Some((dw, accumulate)) = &mut to.dw {
            let dw = dw.reborrow().rows_of(block.clone())?;
            matmul::transposed_times(device, dz, x, dw, *accumulate)?;
        }
        if let Some((db, accumulate)) = &mut to.db {
            reduce::column_sums(device, dz, db.reborrow().cols_of(block)?, *accumulate)?;
        }
    }
    Ok(())
}

/// Plain loops, W (V, C) and b as numbers: each row's loss with labels smoothed so much, and the
/// gradients of their sum by x, W and b.
pub fn reference<T: Float>(
    x: &[T],
    (labels, smoothing): (&[u32], T),
    w: &[T],
    bias: Option<&[T]>,
    (outputs, cols): (usize, usize),
) -> [Vec<T>; 4] {
    let zero = T::zero();
    let share = smoothing / T::from(outputs).unwrap_or_else(T::one);
    let (mut losses, mut dx) = (vec![], vec![zero; labels.len() * cols]);
    let (mut dw, mut db) = (vec![zero; outputs * cols], vec![zero; outputs]);
    for (i, label) in labels.iter().enumerate() {
        let x = &x[i * cols..][..cols];
        let logit = |j: usize| {
            let start = bias.map_or(zero, |b| b[j]);
            x.iter().zip(&w[j * cols..]).fold(start, |t, (x, w)| t + *x * *w)
        };
        let z: Vec<T> = (0..outputs).map(logit).collect();
        let top = z.iter().fold(T::neg_infinity(), |m, z| m.max(*z));
        let sum = z.iter().fold(zero, |t, z| t + (*z - top).exp());
        let all = z.iter().fold(zero, |t, z| t + *z);
        losses.push(sum.ln() + top - (T::one() - smoothing) * z[*label as usize] - share * all);
        for (j, z) in z.iter().enumerate() {
            let hit = if j == *label as usize { T::one() - smoothing } else { zero };
            let dz = (*z - top).exp() / sum - hit - share;
            db[j] = db[j] + dz;
            for k in 0..cols {
                dx[i * cols + k] = dx[i * cols + k] + dz * w[j * cols + k];
                dw[j * cols + k] = dw[j * cols + k] + dz * x[k];
            }
        }
    }
    [losses, dx, dw, db]
}
