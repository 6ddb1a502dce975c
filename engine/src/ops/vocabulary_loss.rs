//! The cross-entropy of a linear layer with many outputs, a vocabulary, whose logits are never held
//! whole. Only rows that have a label are computed.
//!
//! It keeps the gradient of the labelled rows of x, which costs least while their logits are there;
//! and if W or b trains, those rows and the logarithm of each one's sum of exponentials, from which
//! the logits are computed again.
use super::cross_entropy::labelled;
use crate::{
    Act, Backward, Compute, Cx, Error, Grads, LinearRef, Result, W, pack, saved::SavedValues, tape::NodeId,
};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    cross_entropy::IGNORED,
    elementwise, gather,
    matmul::Matrix,
    reduce,
    vocabulary_loss::{self, Gradients, Labels, Layer, Outputs},
};
use std::sync::Arc;

/// The rows that have a label, one after the other.
struct Labelled {
    x: Arc<Buffer>,
    labels: Buffer,
    /// Which rows they are; nothing, if they are all.
    index: Option<Buffer>,
}
/// What the gradients of the layer are computed from.
struct Trained {
    x: SavedValues,
    labels: Buffer,
    smoothing: f32,
    lse: Buffer,
}
struct Op<'m> {
    w: LinearRef<'m>,
    trained: Option<Trained>,
    dx: Option<SavedValues>,
    index: Option<Buffer>,
    rows: usize,
    x: Option<NodeId>,
}
fn layer<'a>(w: &'a LinearRef<'_>) -> Layer<'a> {
    let integers = w.w.integers().is_some();
    Layer {
        w: w.w.matrix(),
        bias: w.b.as_ref().map(W::buffer),
        integer_logits: integers,
        integer_dx: integers && w.w.compute() == Compute::Int8,
    }
}

impl<'m> Cx<'m> {
    /// One number, the sum over the rows of x (T, C) of -log softmax(x Wᵀ + b) at the label; and
    /// how many rows that are. Those whose label is [`IGNORED`] add nothing and cost nothing.
    pub fn linear_cross_entropy(
        &mut self,
        x: &Act,
        w: LinearRef<'m>,
        labels: &[u32],
    ) -> Result<(Act, usize)> {
        self.linear_cross_entropy_smoothed(x, w, labels, 0.0)
    }
    /// The same where a label stands for 1 - ε of what is expected, and all outputs share the rest:
    /// ε is `smoothing`, from 0 to below 1. The layer is (out, in) if it is not 0.
    pub fn linear_cross_entropy_smoothed(
        &mut self,
        x: &Act,
        w: LinearRef<'m>,
        labels: &[u32],
        smoothing: f32,
    ) -> Result<(Act, usize)> {
        let count = check(x, &w, labels)?;
        if smoothing != 0.0 && (w.in_out || !(0.0..1.0).contains(&smoothing)) {
            let (op, left) = ("linear_cross_entropy_smoothed", vec![x.rows, x.cols]);
            return Err(Error::Shape { op, left, right: w.w.shape() });
        }
        if w.in_out {
            let z = self.matmul(x, w)?; // its outputs are no rows that could be taken a block at a time
            return self.cross_entropy(&z, labels);
        }
        let of = self.labelled(x, labels, count)?;
        let trains = w.targets().iter().any(|t| t.is_some());
        let needed = self.needed(&[x.node], &w.targets());
        let mut losses = self.alloc(count)?;
        let room = |is: bool, n: usize| if needed && is { self.alloc_saved(n).map(Some) } else { Ok(None) };
        let mut dx = room(x.node.is_some(), count * x.cols)?;
        let mut lse = room(trains, count)?;
        let to = dx.as_mut().map(|dx| ViewMut::of(dx, count, x.cols)).transpose()?;
        let out = Outputs { losses: &mut losses, hits: None, lse: lse.as_mut(), dx: to };
        let rows = View::of(&of.x, count, x.cols)?;
        let smoothed = Labels { of: &of.labels, smoothing };
        vocabulary_loss::forward(self.device(), rows, smoothed, layer(&w), out)?;
        let mut loss = self.alloc(1)?;
        reduce::column_sums(self.device(), View::of(&losses, count, 1)?, ViewMut::row(&mut loss), false)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !needed {
            return Ok((y, count));
        }
        let Labelled { x: rows, labels, index } = of;
        let dx = dx.map(|dx| self.save_for_backward(&Arc::new(dx))).transpose()?;
        let trained = match lse {
            Some(lse) => {
                lse.set_class(Class::Saved);
                labels.set_class(Class::Saved);
                w.w.hold();
                Some(Trained { x: self.save_for_backward(&rows)?, labels, smoothing, lse })
            }
            None => None,
        };
        let index = index.filter(|_| dx.is_some());
        index.iter().for_each(|i| i.set_class(Class::Saved));
        Ok((self.record(y, Op { w, trained, dx, index, rows: x.rows, x: x.node }), count))
    }
    /// -log softmax(x Wᵀ + b) at the label of every row of x (T, C), and whether no output is larger
    /// than that of the label; 0 and false where there is none: for evaluation.
    pub fn linear_cross_entropies(
        &mut self,
        x: &Act,
        w: &LinearRef<'m>,
        labels: &[u32],
    ) -> Result<Vec<(f32, bool)>> {
        let count = check(x, w, labels)?;
        let mut losses = match w.in_out {
            true => losses_of(&self.matmul(x, w.clone())?, labels)?,
            false => {
                let of = self.labelled(x, labels, count)?;
                let (mut losses, mut hits) = (self.alloc(count)?, self.alloc(count)?);
                let out = Outputs { losses: &mut losses, hits: Some(&mut hits), lse: None, dx: None };
                let rows = View::of(&of.x, count, x.cols)?;
                vocabulary_loss::forward(self.device(), rows, Labels::plain(&of.labels), layer(w), out)?;
                let hits = hits.read::<f32>()?.into_iter().map(|hit| hit > 0.0);
                losses.read::<f32>()?.into_iter().zip(hits).collect()
            }
        }
        .into_iter();
        let one = |l: &u32| if *l == IGNORED { (0.0, false) } else { losses.next().unwrap_or_default() };
        Ok(labels.iter().map(one).collect())
    }
    fn labelled(&self, x: &Act, labels: &[u32], count: usize) -> Result<Labelled> {
        let upload = |v: &[u32]| self.device().upload(Class::Scratch, v);
        if count == x.rows {
            return Ok(Labelled { x: x.buf.clone(), labels: upload(labels)?, index: None });
        }
        let (index, labels): (Vec<u32>, Vec<u32>) =
            (0..).zip(labels.iter().copied()).filter(|(_, l)| *l != IGNORED).unzip();
        let (index, mut rows) = (upload(&index)?, self.alloc(count * x.cols)?);
        let to = ViewMut::of(&mut rows, count, x.cols)?;
        gather::rows(self.device(), Matrix::plain(&x.buf, x.rows, x.cols), &index, to, false)?;
        Ok(Labelled { x: Arc::new(rows), labels: upload(&labels)?, index: Some(index) })
    }
}
/// The same of the logits z (T, classes), one after the other for the rows that have a label.
fn losses_of(z: &Act, labels: &[u32]) -> Result<Vec<(f32, bool)>> {
    let values = z.read()?;
    let rows = values.chunks_exact(z.cols.max(1)).zip(labels).filter(|(_, label)| **label != IGNORED);
    rows.map(|(row, label)| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|z| f64::from(z - top).exp()).sum();
        let beyond = || Error::Shape {
            op: "linear_cross_entropies",
            left: vec![z.rows, z.cols],
            right: vec![*label as usize],
        };
        let of_label = row.get(*label as usize).ok_or_else(beyond)?;
        Ok(((f64::from(top - of_label) + sum.ln()) as f32, *of_label >= top))
    })
    .collect()
}
fn check(x: &Act, w: &LinearRef<'_>, labels: &[u32]) -> Result<usize> {
    if x.cols != w.dims().0 {
        let left = vec![x.rows, x.cols];
        return Err(Error::Shape { op: "linear_cross_entropy", left, right: w.w.shape() });
    }
    labelled("linear_cross_entropy", x, labels)
}

impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }
    fn saved(&self) -> usize {
        let trained = self.trained.as_ref().map_or(0, |t| t.x.bytes() + t.labels.bytes() + t.lse.bytes());
        trained
            + self.dx.as_ref().map_or(0, SavedValues::bytes)
            + self.index.as_ref().map_or(0, Buffer::bytes)
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (cols, outputs) = self.w.dims();
        if let Some(Trained { x, labels, smoothing, lse }) = &self.trained {
            let of = Labels { of: labels, smoothing: *smoothing };
            let [weight, bias] = self.w.targets();
            let (x, device) = (x.get()?, cx.device().clone());
            // both come from the logits, which are computed once
            let mut db = if bias.is_some() { Some(cx.alloc(outputs)?) } else { None };
            let rows = View::of(&x, labels.len(), cols)?;
            let mut go = |dw: Option<(ViewMut<'_>, bool)>| {
                let to = Gradients { dw, db: db.as_mut().map(|db| (ViewMut::row(db), false)) };
                vocabulary_loss::backward(&device, rows, of, layer(&self.w), lse, &dy, to)
            };
            match weight.is_some() {
                true => g.weight(weight, outputs * cols, |_, dw, acc| {
                    Ok(go(Some((ViewMut::of(dw, outputs, cols)?, acc)))?)
                })?,
                false => go(None)?,
            }
            if let Some(db) = db {
                g.weight(bias, outputs, |d, to, acc| match acc {
                    true => Ok(elementwise::axpy(d, 1.0, View::row(&db), ViewMut::row(to))?),
                    false => Ok(elementwise::copy(d, View::row(&db), ViewMut::row(to))?),
                })?;
            }
        }
        let Some(dx) = &self.dx else { return Ok(()) };
        let (dx, mut scaled) = (dx.get()?, cx.alloc(dx.len())?);
        elementwise::mul_row(cx.device(), View::row(&dx), &dy, ViewMut::row(&mut scaled))?;
        let Some(index) = &self.index else { return g.node(self.x, Arc::new(scaled)) };
        let (rows, scaled) = (self.rows, View::of(&scaled, index.len(), cols)?);
        g.node_part(self.x, (rows, cols), |d, dx| Ok(gather::scatter(d, scaled, index, dx)?))
    }
}
