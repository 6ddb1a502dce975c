//! y + s (dropout(x) Aᵀ) Bᵀ: a product of two narrow matrices beside a linear layer (LoRA, Hu et
//! al. 2022). It costs no pass of its own over y. It keeps h = s dropout(x) Aᵀ, which is narrow,
//! if B trains, and x if A does; the products on x of several keep the same one. What was dropped
//! out is drawn again.
//!
//! ```text
//! dB = dyᵀ h     dh = s dy B     dA = dhᵀ dropout(x)     dx = dropout'(dh A)
//! ```
//! Where the columns of y are several projections side by side, there may be an A and a B for each
//! of some of them: the As stand one below the other, and so do the Bs.
use crate::{
    Act, Backward, Cx, Error, Grads, Result, Site, W,
    saved::SavedValues,
    tape::{NodeId, owned},
};
use engraft_kernels::{
    Buffer, Device, View, ViewMut, dropout,
    dropout::Dropout,
    elementwise,
    matmul::{self, Plus},
};
use std::{ops::Range, sync::Arc};

/// What a product of two narrow matrices is multiplied with, what it reads, and which
/// columns it is added to.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// s.
    pub scale: f32,
    /// The probability with which elements of x are dropped while training.
    pub dropout: f32,
    /// Projections of equal width that stand side by side in y ...
    pub of: usize,
    /// ... and which of them have an A and a B, in their order.
    pub parts: Vec<usize>,
}
impl LowRank {
    /// For all columns of y as one.
    pub fn whole(scale: f32, dropout: f32) -> LowRank {
        LowRank { scale, dropout, of: 1, parts: vec![0] }
    }
}

struct Op<'m> {
    a: W<'m>,
    b: W<'m>,
    scale: f32,
    dropout: Option<Dropout>,
    blocks: Vec<Block>,
    /// (rows, inputs, outputs)
    shape: (usize, usize, usize),
    saved: Option<SavedValues>,
    h: Option<SavedValues>,
    x: Option<NodeId>,
    y: Option<NodeId>,
}
/// One of the products.
#[derive(Clone, Debug)]
struct Block {
    /// Its columns of h, which are its rows of A.
    h: Range<usize>,
    /// Its rows of B.
    b: Range<usize>,
    /// Its columns of y.
    y: Range<usize>,
}

/// What is read: x, or x with elements dropped.
fn dropped(d: &Device, how: Option<Dropout>, x: &Arc<Buffer>, shape: (usize, usize)) -> Result<Arc<Buffer>> {
    let Some(how) = how else { return Ok(x.clone()) };
    let mut x = owned(x.clone())?;
    dropout::apply(d, how, ViewMut::of(&mut x, shape.0, shape.1)?)?;
    Ok(Arc::new(x))
}

impl<'m> Cx<'m> {
    /// y + s (dropout(x) Aᵀ) Bᵀ: x (T, in), y (T, out); for n of N projections A (n r, in), B (n
    /// out / N, r). y is written over if nobody else has it.
    pub fn low_rank(&mut self, s: Site, x: &Act, [a, b]: [W<'m>; 2], how: &LowRank, y: Act) -> Result<Act> {
        let (m, n, (ranks, input), (rows, r)) = (x.rows, how.parts.len(), a.dims(), b.dims());
        let width = y.cols / how.of.max(1);
        let is_sound = (x.cols, y.rows) == (input, m)
            && (ranks, rows, y.cols) == (n * r, n * width, how.of * width)
            && how.parts.iter().all(|p| *p < how.of);
        if !is_sound {
            let (left, right) = (vec![m, x.cols, y.rows, y.cols], vec![ranks, input, rows, r]);
            return Err(Error::Shape { op: "low_rank", left, right });
        }
        let block = |(i, part): (usize, &usize)| Block {
            h: i * r..(i + 1) * r,
            b: i * width..(i + 1) * width,
            y: part * width..(part + 1) * width,
        };
        let blocks: Vec<Block> = how.parts.iter().enumerate().map(block).collect();
        let shape = (m, input, y.cols);
        let (d, dropout) = (self.device().clone(), self.dropout_at(how.dropout, s, 1));
        let mut h = self.alloc(m * ranks)?;
        {
            let read = dropped(&d, dropout, &x.buf, (m, input))?;
            let to = ViewMut::of(&mut h, m, ranks)?;
            matmul::times_transposed(&d, View::of(&read, m, input)?, a.matrix(), Plus::NOTHING, to)?;
        }
        elementwise::scale(&d, how.scale, ViewMut::of(&mut h, m, ranks)?)?;
        let (node, seqs) = (y.node, y.seqs);
        let mut sum = owned(y.buf)?;
        for block in &blocks {
            let h = View::of(&h, m, ranks)?.cols_of(block.h.clone())?;
            let to = ViewMut::of(&mut sum, m, shape.2)?.cols_of(block.y.clone())?;
            matmul::times_transposed(&d, h, b.matrix().rows_of(block.b.clone())?, Plus::OUTPUT, to)?;
        }
        let sum = Act::of(sum, (m, shape.2), seqs);
        if !self.needed(&[x.node, node], &[a.target(), b.target()]) {
            return Ok(sum);
        }
        let saved = if a.target().is_some() { Some(self.save_for_backward(&x.buf)?) } else { None };
        let h = if b.target().is_some() { Some(self.save_for_backward(&Arc::new(h))?) } else { None };
        a.hold();
        b.hold();
        let op = Op { a, b, scale: how.scale, dropout, blocks, shape, saved, h, x: x.node, y: node };
        Ok(self.record(sum, op))
    }
}
impl Op<'_> {
    /// dh = s dy B
    fn narrow_gradient(&self, d: &Device, dy: View<'_>, dh: &mut Buffer) -> Result<()> {
        for block in &self.blocks {
            let to = ViewMut::of(dh, self.shape.0, self.a.dims().0)?.cols_of(block.h.clone())?;
            let (dy, b) = (dy.cols_of(block.y.clone())?, self.b.matrix().rows_of(block.b.clone())?);
            matmul::times(d, dy, b, Plus::NOTHING, to)?;
        }
        Ok(elementwise::scale(d, self.scale, ViewMut::of(dh, self.shape.0, self.a.dims().0)?)?)
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "low_rank"
    }
    fn saved(&self) -> usize {
        [&self.saved, &self.h].into_iter().flatten().map(SavedValues::bytes).sum()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let ((m, input, output), (ranks, _), (rows, r)) = (self.shape, self.a.dims(), self.b.dims());
        let all = View::of(&dy, m, output)?;
        if let Some(h) = &self.h {
            let h = h.get()?;
            let h = View::of(&h, m, ranks)?;
            g.weight(self.b.target(), rows * r, |d, b, acc| {
                for block in &self.blocks {
                    let to = ViewMut::of(b, rows, r)?.rows_of(block.b.clone())?;
                    let (dy, h) = (all.cols_of(block.y.clone())?, h.cols_of(block.h.clone())?);
                    matmul::transposed_times(d, dy, h, to, acc)?;
                }
                Ok(())
            })?;
        }
        if self.saved.is_some() || self.x.is_some() {
            let mut dh = cx.alloc(m * ranks)?;
            self.narrow_gradient(cx.device(), all, &mut dh)?;
            let dh = View::of(&dh, m, ranks)?;
            if let Some(x) = &self.saved {
                let x = dropped(cx.device(), self.dropout, &x.get()?, (m, input))?;
                g.weight(self.a.target(), ranks * input, |d, a, acc| {
                    let to = ViewMut::of(a, ranks, input)?;
                    Ok(matmul::transposed_times(d, dh, View::of(&x, m, input)?, to, acc)?)
                })?;
            }
            match self.dropout.filter(|_| self.x.is_some()) {
                None => g.node_plus(self.x, (m, input), |d, plus, dx| {
                    Ok(matmul::times(d, dh, self.a.matrix(), plus, dx)?)
                })?,
                Some(how) => {
                    let mut dx = cx.alloc(m * input)?;
                    let to = ViewMut::of(&mut dx, m, input)?;
                    matmul::times(cx.device(), dh, self.a.matrix(), Plus::NOTHING, to)?;
                    dropout::apply(cx.device(), how, ViewMut::of(&mut dx, m, input)?)?;
                    g.node(self.x, Arc::new(dx))?;
                }
            }
        }
        g.node(self.y, dy)
    }
}
