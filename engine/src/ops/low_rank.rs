//! y + s (dropout(x) Aᵀ) Bᵀ: a product of two narrow matrices beside a linear layer (LoRA, Hu et
//! al. 2022), in two operations, so that others can stand between them. It costs no pass of its own
//! over y.
//!
//! ```text
//! narrow   h = s dropout(x) Aᵀ        dA = s dhᵀ dropout(x)     dx = s dropout'(dh A)
//! widen    y + h Bᵀ                   dB = dyᵀ h                dh = dy B
//! ```
//! It keeps h, which is narrow, if B trains, and x if A does; the products on x of several keep the
//! same one. What was dropped out is drawn again.
//!
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
    /// The products: each has r columns of h and `width` of y.
    fn blocks(&self, r: usize, width: usize) -> Vec<Block> {
        let block = |(i, part): (usize, &usize)| Block {
            h: i * r..(i + 1) * r,
            b: i * width..(i + 1) * width,
            y: part * width..(part + 1) * width,
        };
        self.parts.iter().enumerate().map(block).collect()
    }
}

struct Narrow<'m> {
    a: W<'m>,
    scale: f32,
    dropout: Option<Dropout>,
    rows: usize,
    saved: Option<SavedValues>,
    x: Option<NodeId>,
}
struct Widen<'m> {
    b: W<'m>,
    blocks: Vec<Block>,
    /// (rows, columns of h, columns of y)
    shape: (usize, usize, usize),
    saved: Option<SavedValues>,
    h: Option<NodeId>,
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
        let h = self.narrow(s, x, a, how)?;
        self.widen(&h, b, how, y)
    }
    /// s dropout(x) Aᵀ: x (T, in) and A (n r, in) to (T, n r).
    pub fn narrow(&mut self, s: Site, x: &Act, a: W<'m>, how: &LowRank) -> Result<Act> {
        let (m, (ranks, input)) = (x.rows, a.dims());
        if x.cols != input {
            return Err(Error::Shape { op: "narrow", left: vec![m, x.cols], right: vec![ranks, input] });
        }
        let (d, dropout) = (self.device().clone(), self.dropout_at(how.dropout, s, 1));
        let mut h = self.alloc(m * ranks)?;
        {
            let read = dropped(&d, dropout, &x.buf, (m, input))?;
            let to = ViewMut::of(&mut h, m, ranks)?;
            matmul::times_transposed(&d, View::of(&read, m, input)?, a.matrix(), Plus::NOTHING, to)?;
        }
        elementwise::scale(&d, how.scale, ViewMut::of(&mut h, m, ranks)?)?;
        let h = x.like(h, ranks);
        if !self.needed(&[x.node], &[a.target()]) {
            return Ok(h);
        }
        let saved = if a.target().is_some() { Some(self.save_for_backward(&x.buf)?) } else { None };
        a.hold();
        Ok(self.record(h, Narrow { a, scale: how.scale, dropout, rows: m, saved, x: x.node }))
    }
    /// y + h Bᵀ: h (T, n r), y (T, out), B (n out / N, r). y is written over if nobody else has it.
    pub fn widen(&mut self, h: &Act, b: W<'m>, how: &LowRank, y: Act) -> Result<Act> {
        let (m, n, (rows, r)) = (h.rows, how.parts.len(), b.dims());
        let width = y.cols / how.of.max(1);
        let is_sound = y.rows == m
            && (h.cols, rows, y.cols) == (n * r, n * width, how.of * width)
            && how.parts.iter().all(|p| *p < how.of);
        if !is_sound {
            let (left, right) = (vec![m, h.cols, y.rows, y.cols], vec![rows, r]);
            return Err(Error::Shape { op: "widen", left, right });
        }
        let (d, blocks, shape) = (self.device().clone(), how.blocks(r, width), (m, h.cols, y.cols));
        let (node, seqs) = (y.node, y.seqs);
        let mut sum = owned(y.buf)?;
        for block in &blocks {
            let h = h.view()?.cols_of(block.h.clone())?;
            let to = ViewMut::of(&mut sum, m, shape.2)?.cols_of(block.y.clone())?;
            matmul::times_transposed(&d, h, b.matrix().rows_of(block.b.clone())?, Plus::OUTPUT, to)?;
        }
        let sum = Act::of(sum, (m, shape.2), seqs);
        if !self.needed(&[h.node, node], &[b.target()]) {
            return Ok(sum);
        }
        let saved = if b.target().is_some() { Some(self.save_for_backward(&h.buf)?) } else { None };
        b.hold();
        Ok(self.record(sum, Widen { b, blocks, shape, saved, h: h.node, y: node }))
    }
}
impl<'m> Backward<'m> for Narrow<'m> {
    fn name(&self) -> &'static str {
        "narrow"
    }
    fn saved(&self) -> usize {
        self.saved.as_ref().map_or(0, SavedValues::bytes)
    }
    fn run(self: Box<Self>, dh: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (m, (ranks, input), d) = (self.rows, self.a.dims(), cx.device().clone());
        let mut dh = owned(dh)?;
        elementwise::scale(&d, self.scale, ViewMut::of(&mut dh, m, ranks)?)?;
        let dh = View::of(&dh, m, ranks)?;
        if let Some(x) = &self.saved {
            let x = dropped(&d, self.dropout, &x.get()?, (m, input))?;
            g.weight(self.a.target(), ranks * input, |d, a, acc| {
                let to = ViewMut::of(a, ranks, input)?;
                Ok(matmul::transposed_times(d, dh, View::of(&x, m, input)?, to, acc)?)
            })?;
        }
        match self.dropout.filter(|_| self.x.is_some()) {
            None => g.node_plus(self.x, (m, input), |d, plus, dx| {
                Ok(matmul::times(d, dh, self.a.matrix(), plus, dx)?)
            }),
            Some(how) => {
                let mut dx = cx.alloc(m * input)?;
                matmul::times(&d, dh, self.a.matrix(), Plus::NOTHING, ViewMut::of(&mut dx, m, input)?)?;
                dropout::apply(&d, how, ViewMut::of(&mut dx, m, input)?)?;
                g.node(self.x, Arc::new(dx))
            }
        }
    }
}
impl<'m> Backward<'m> for Widen<'m> {
    fn name(&self) -> &'static str {
        "widen"
    }
    fn saved(&self) -> usize {
        self.saved.as_ref().map_or(0, SavedValues::bytes)
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let ((m, ranks, output), (rows, r)) = (self.shape, self.b.dims());
        let all = View::of(&dy, m, output)?;
        if let Some(h) = &self.saved {
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
        if self.h.is_some() {
            let mut dh = cx.alloc(m * ranks)?;
            for block in &self.blocks {
                let to = ViewMut::of(&mut dh, m, ranks)?.cols_of(block.h.clone())?;
                let (dy, b) = (all.cols_of(block.y.clone())?, self.b.matrix().rows_of(block.b.clone())?);
                matmul::times(cx.device(), dy, b, Plus::NOTHING, to)?;
            }
            g.node(self.h, Arc::new(dh))?;
        }
        g.node(self.y, dy)
    }
}
