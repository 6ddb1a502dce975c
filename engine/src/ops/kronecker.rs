//! (Σ_i A_i ⊗ W_i)ᵀ: the weight of a hypercomplex linear layer (Zhang et al. 2021), made of n small
//! matrices A_i and n matrices W_i, each of which may be a product of two in its turn (Karimi
//! Mahabadi et al. 2021). It is made anew for each use and keeps nothing: what is n times as large
//! as W_i is there for as long as a launch takes.
//!
//! ```text
//! H[(a, p), (b, q)] = Σ_i A_i[a, b] W_i[p, q]          dA_i[a, b] = Σ dH W_i      dW_i[p, q] = Σ dH A_i
//! ```
//! Both sums over i and their gradients are products of matrices: A as (n, a b), W as (n, p q).
use crate::{Act, Backward, Cx, Error, Grads, Result, W, pack, weight::Target};
use engraft_kernels::{
    Buffer, Class, Device, View, ViewMut,
    matmul::{self, Matrix, Plus},
};
use std::sync::Arc;

/// n matrices of one shape.
#[derive(Clone, Debug)]
pub enum Matrices<'m> {
    /// (n, rows, cols).
    Whole(W<'m>),
    /// Products of (n, rows, k) and (n, k, cols).
    Products(W<'m>, W<'m>),
}
/// The shapes of what a Kronecker sum is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KroneckerSum {
    /// n.
    pub terms: usize,
    /// (rows, cols) of the A_i.
    pub a: (usize, usize),
    /// (rows, cols) of the W_i.
    pub w: (usize, usize),
}
struct Op<'m> {
    a: Matrices<'m>,
    w: Matrices<'m>,
    how: KroneckerSum,
}

impl<'m> Matrices<'m> {
    fn parts(&self) -> impl Iterator<Item = &W<'m>> {
        let (first, second) = match self {
            Matrices::Whole(w) => (w, None),
            Matrices::Products(l, r) => (l, Some(r)),
        };
        std::iter::once(first).chain(second)
    }
    fn targets(&self) -> impl Iterator<Item = Target> {
        self.parts().map(W::target)
    }
    fn trains(&self) -> bool {
        self.targets().any(Target::is_some)
    }
    /// k, where they are products.
    fn rank(&self, n: usize, rows: usize) -> usize {
        self.parts().next().map_or(0, |l| l.elements() / (n * rows).max(1))
    }
    fn check(&self, n: usize, (rows, cols): (usize, usize)) -> Result<()> {
        let got: Vec<usize> = self.parts().map(W::elements).collect();
        let want = match self {
            Matrices::Whole(_) => vec![n * rows * cols],
            Matrices::Products(..) => {
                let k = self.rank(n, rows);
                vec![n * rows * k, n * k * cols]
            }
        };
        match got == want {
            true => Ok(()),
            false => Err(Error::Shape { op: "kronecker_sum", left: vec![n, rows, cols], right: got }),
        }
    }
    /// The values, (n, rows, cols), if they are still to be made.
    fn multiplied(&self, d: &Device, n: usize, (rows, cols): (usize, usize)) -> Result<Option<Buffer>> {
        let Matrices::Products(l, r) = self else { return Ok(None) };
        let (l, r) = (l.buffer(), r.buffer());
        let k = self.rank(n, rows);
        let mut all = d.alloc::<f32>(Class::Scratch, n * rows * cols)?;
        for i in 0..n {
            let (left, right) = (nth(l, i, n, (rows, k))?, nth(r, i, n, (k, cols))?);
            let to = ViewMut::of(&mut all, n * rows, cols)?.rows_of(i * rows..(i + 1) * rows)?;
            matmul::times(d, left, Matrix::from(right), Plus::NOTHING, to)?;
        }
        Ok(Some(all))
    }
    /// The values that are there, or were made.
    fn values<'b>(&'b self, made: &'b Option<Buffer>) -> &'b Buffer {
        match (self, made) {
            (_, Some(made)) => made,
            (Matrices::Whole(w) | Matrices::Products(w, _), None) => w.buffer(),
        }
    }
    /// Passes on `f(device, plus, to)`, the gradient of the values, (n, rows cols), plus what is
    /// there.
    fn gradient(
        &self,
        g: &mut Grads<'_>,
        d: &Device,
        n: usize,
        (rows, cols): (usize, usize),
        f: impl Fn(&Device, Plus<'_>, ViewMut<'_>) -> Result<()>,
    ) -> Result<()> {
        let so_far = |acc: bool| if acc { Plus::OUTPUT } else { Plus::NOTHING };
        let (l, r) = match self {
            Matrices::Whole(w) => {
                return g.weight(w.target(), n * rows * cols, |d, to, acc| {
                    f(d, so_far(acc), ViewMut::of(to, n, rows * cols)?)
                });
            }
            Matrices::Products(l, r) => (l, r),
        };
        let k = self.rank(n, rows);
        let mut all = d.alloc::<f32>(Class::Scratch, n * rows * cols)?;
        f(d, Plus::NOTHING, ViewMut::of(&mut all, n, rows * cols)?)?;
        g.weight(l.target(), n * rows * k, |d, to, acc| {
            for i in 0..n {
                let (dy, right) = (nth(&all, i, n, (rows, cols))?, nth(r.buffer(), i, n, (k, cols))?);
                let to = ViewMut::of(to, n * rows, k)?.rows_of(i * rows..(i + 1) * rows)?;
                matmul::times_transposed(d, dy, Matrix::from(right), so_far(acc), to)?;
            }
            Ok(())
        })?;
        g.weight(r.target(), n * k * cols, |d, to, acc| {
            for i in 0..n {
                let (dy, left) = (nth(&all, i, n, (rows, cols))?, nth(l.buffer(), i, n, (rows, k))?);
                let to = ViewMut::of(to, n * k, cols)?.rows_of(i * k..(i + 1) * k)?;
                matmul::transposed_times(d, left, dy, to, acc)?;
            }
            Ok(())
        })
    }
}
/// The i-th of n matrices.
fn nth(all: &Buffer, i: usize, n: usize, (rows, cols): (usize, usize)) -> Result<View<'_>> {
    Ok(View::of(all, n * rows, cols)?.rows_of(i * rows..(i + 1) * rows)?)
}
/// y (cols, rows) = xᵀ, exactly: a product with ones on the diagonal, the smaller of the two there
/// are.
fn transpose(d: &Device, x: View<'_>, ones: &Buffer, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (x.rows(), x.cols());
    let small = View::of(ones, rows.min(cols), rows.min(cols))?;
    match cols <= rows {
        true => matmul::times_transposed(d, small, Matrix::from(x), Plus::NOTHING, y)?,
        false => matmul::transposed_times(d, x, small, y, false)?,
    }
    Ok(())
}

impl KroneckerSum {
    /// (rows, cols) of the sum.
    fn dims(&self) -> (usize, usize) {
        (self.a.0 * self.w.0, self.a.1 * self.w.1)
    }
    /// The numbers of an A_i.
    fn blocks(&self) -> usize {
        self.a.0 * self.a.1
    }
    /// Ones on the diagonal of a matrix as large as [`transpose`] needs it.
    fn ones(&self, d: &Device) -> Result<Buffer> {
        let n = self.w.0.min(self.w.1);
        let at = |i: usize| if i.is_multiple_of(n + 1) { 1f32 } else { 0.0 };
        Ok(d.upload(Class::Scratch, &(0..n * n).map(at).collect::<Vec<_>>())?)
    }
    /// The place of block (i / cols, i % cols) of H in Hᵀ.
    fn place(&self, i: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let ((a, b), (p, q)) = ((i / self.a.1, i % self.a.1), self.w);
        (b * q..(b + 1) * q, a * p..(a + 1) * p)
    }
}
impl<'m> Cx<'m> {
    /// (Σ_i A_i ⊗ W_i)ᵀ: (out, in), the weight of a layer y = x Σ_i A_i ⊗ W_i.
    pub fn kronecker_sum(&mut self, a: Matrices<'m>, w: Matrices<'m>, how: KroneckerSum) -> Result<Act> {
        a.check(how.terms, how.a)?;
        w.check(how.terms, how.w)?;
        let (d, n, (p, q)) = (self.device().clone(), how.terms, how.w);
        let (input, output) = how.dims();
        let mut blocks = self.alloc(how.blocks() * p * q)?;
        {
            let (of_a, of_w) = (a.multiplied(&d, n, how.a)?, w.multiplied(&d, n, how.w)?);
            let left = View::of(a.values(&of_a), n, how.blocks())?;
            let right = View::of(w.values(&of_w), n, p * q)?;
            matmul::transposed_times(&d, left, right, ViewMut::of(&mut blocks, how.blocks(), p * q)?, false)?;
        }
        let (ones, mut h) = (how.ones(&d)?, self.alloc(input * output)?);
        for i in 0..how.blocks() {
            let (rows, cols) = how.place(i);
            let to = ViewMut::of(&mut h, output, input)?.rows_of(rows)?.cols_of(cols)?;
            transpose(&d, nth(&blocks, i, how.blocks(), how.w)?, &ones, to)?;
        }
        let h = Act::new(h, input, pack([output]))?;
        let targets: Vec<Target> = a.targets().chain(w.targets()).collect();
        if !self.needed(&[], &targets) {
            return Ok(h);
        }
        a.parts().chain(w.parts()).for_each(W::hold);
        Ok(self.record(h, Op { a, w, how }))
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "kronecker_sum"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (d, how, n, (p, q)) = (cx.device().clone(), self.how, self.how.terms, self.how.w);
        let (input, output) = how.dims();
        let (ones, mut blocks) = (how.ones(&d)?, cx.alloc(how.blocks() * p * q)?);
        for i in 0..how.blocks() {
            let (rows, cols) = how.place(i);
            let from = View::of(&dy, output, input)?.rows_of(rows)?.cols_of(cols)?;
            let to = ViewMut::of(&mut blocks, how.blocks() * p, q)?.rows_of(i * p..(i + 1) * p)?;
            transpose(&d, from, &ones, to)?;
        }
        drop(dy);
        let blocks = View::of(&blocks, how.blocks(), p * q)?;
        if self.a.trains() {
            let made = self.w.multiplied(&d, n, how.w)?;
            let w = View::of(self.w.values(&made), n, p * q)?;
            self.a.gradient(g, &d, n, how.a, |d, plus, to| {
                Ok(matmul::times_transposed(d, w, Matrix::from(blocks), plus, to)?)
            })?;
        }
        if self.w.trains() {
            let made = self.a.multiplied(&d, n, how.a)?;
            let a = View::of(self.a.values(&made), n, how.blocks())?;
            self.w.gradient(g, &d, n, how.w, |d, plus, to| {
                Ok(matmul::times(d, a, Matrix::from(blocks), plus, to)?)
            })?;
        }
        Ok(())
    }
}
