//! 1 / ‖W + s B A‖ for each output of a linear layer: DoRA (Liu et al. 2024) gives the rows of W +
//! s B A other lengths. The sum is there a block of rows at a time, for as long as its squares are
//! added up, made from W as it is stored. It keeps the result.
//!
//! ```text
//! V = W + s B A     u = 1 / √ Σ V²  over the inputs     c = -u³ du
//! dB = s diag(c) V Aᵀ = diag(c) (s W Aᵀ + s² B (A Aᵀ))
//! dA = s Bᵀ diag(c) V = s (diag(c) B)ᵀ W + s² (Bᵀ diag(c) B) A
//! ```
//! Where the outputs are several projections side by side, A and B are those of some of them, as in
//! [`LowRank`]. W is a constant: there is no gradient of it.
use super::LowRank;
use crate::{Act, Backward, Cx, Error, Grads, LinearRef, Result, W, pack, saved::SavedValues};
use engraft_kernels::{
    Buffer, Class, Device, View, ViewMut, elementwise, gather,
    matmul::{self, Matrix, Plus},
    mixture, reduce,
};
use std::{ops::Range, sync::Arc};

/// Rows of W that are decoded at a time.
const BLOCK: usize = 64;

/// The shapes of the matrices.
#[derive(Clone, Debug)]
struct Shape {
    input: usize,
    output: usize,
    /// Outputs of a projection.
    width: usize,
    r: usize,
    parts: Vec<usize>,
    s: f32,
}
struct Op<'m> {
    w: LinearRef<'m>,
    a: W<'m>,
    b: W<'m>,
    shape: Shape,
    u: SavedValues,
}
/// One of the projections: its number among those that are adapted, and its columns of the output.
struct Part {
    number: usize,
    columns: Range<usize>,
}

impl Shape {
    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let part =
            |(number, p): (usize, &usize)| Part { number, columns: p * self.width..(p + 1) * self.width };
        self.parts.iter().enumerate().map(part)
    }
    /// Rows of B, and of the result.
    fn rows(&self) -> usize {
        self.parts.len() * self.width
    }
    /// Rows of A.
    fn ranks(&self) -> usize {
        self.parts.len() * self.r
    }
    fn a<'v>(&self, a: &'v Buffer) -> Result<View<'v>> {
        Ok(View::of(a, self.ranks(), self.input)?)
    }
    fn a_of<'v>(&self, a: &'v Buffer, p: &Part) -> Result<View<'v>> {
        Ok(self.a(a)?.rows_of(p.number * self.r..(p.number + 1) * self.r)?)
    }
    fn of_b(&self, p: &Part) -> Range<usize> {
        p.number * self.width..(p.number + 1) * self.width
    }
    fn b_of<'v>(&self, b: &'v Buffer, p: &Part) -> Result<View<'v>> {
        Ok(View::of(b, self.rows(), self.r)?.rows_of(self.of_b(p))?)
    }
    /// s on the diagonal of a matrix (r, r): products with it transpose what is narrow.
    fn diagonal(&self, d: &Device) -> Result<Buffer> {
        let at = |i: usize| if i.is_multiple_of(self.r + 1) { self.s } else { 0.0 };
        Ok(d.upload(Class::Scratch, &(0..self.r * self.r).map(at).collect::<Vec<_>>())?)
    }
    /// s x, for x (rows, r), as (r, rows).
    fn transposed(&self, d: &Device, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let diagonal = self.diagonal(d)?;
        let diagonal = View::of(&diagonal, self.r, self.r)?;
        Ok(matmul::times_transposed(d, diagonal, Matrix::from(x), Plus::NOTHING, y)?)
    }
    /// Σ V² over the inputs, (1, rows), of W stored (out, in).
    fn squares(&self, d: &Device, w: Matrix<'_>, a: &Buffer, b: &Buffer, to: &mut Buffer) -> Result<()> {
        let (input, mut scaled) = (self.input, d.alloc::<f32>(Class::Scratch, b.len())?);
        elementwise::copy(d, View::row(b), ViewMut::row(&mut scaled))?;
        elementwise::scale(d, self.s, ViewMut::row(&mut scaled))?;
        for p in self.parts() {
            for start in (0..self.width).step_by(BLOCK) {
                let n = BLOCK.min(self.width - start);
                let mut v = decoded(d, w, p.columns.start + start..p.columns.start + start + n)?;
                let b = self.b_of(&scaled, &p)?.rows_of(start..start + n)?;
                let sum = ViewMut::of(&mut v, n, input)?;
                matmul::times(d, b, Matrix::from(self.a_of(a, &p)?), Plus::OUTPUT, sum)?;
                let (v, at) = (View::of(&v, n, input)?, self.of_b(&p).start + start);
                let to = ViewMut::of(to, self.rows(), 1)?.rows_of(at..at + n)?;
                mixture::dots(d, v, v, &[input], to)?;
            }
        }
        Ok(())
    }
    /// The same of W stored (in, out).
    fn squares_in_out(
        &self,
        d: &Device,
        w: Matrix<'_>,
        a: &Buffer,
        b: &Buffer,
        to: &mut Buffer,
    ) -> Result<()> {
        let mut turned = d.alloc::<f32>(Class::Scratch, b.len())?; // the s Bᵀ one below the other
        let of_turned = |p: &Part| p.number * self.r..(p.number + 1) * self.r;
        for p in self.parts() {
            let y = ViewMut::of(&mut turned, self.ranks(), self.width)?.rows_of(of_turned(&p))?;
            self.transposed(d, self.b_of(b, &p)?, y)?;
        }
        for start in (0..self.input).step_by(BLOCK) {
            let n = BLOCK.min(self.input - start);
            let mut v = decoded(d, w, start..start + n)?;
            for p in self.parts() {
                let a = self.a_of(a, &p)?.cols_of(start..start + n)?;
                let b = View::of(&turned, self.ranks(), self.width)?.rows_of(of_turned(&p))?;
                let sum = ViewMut::of(&mut v, n, self.output)?.cols_of(p.columns.clone())?;
                matmul::transposed_times(d, a, b, sum, true)?;
                let v = View::of(&v, n, self.output)?.cols_of(p.columns.clone())?;
                let to = ViewMut::of(to, 1, self.rows())?.cols_of(self.of_b(&p))?;
                reduce::column_dots(d, v, v, to, start > 0)?;
            }
        }
        Ok(())
    }
}
/// Some rows of a stored matrix.
fn decoded(d: &Device, w: Matrix<'_>, rows: Range<usize>) -> Result<Buffer> {
    let mut v = d.alloc::<f32>(Class::Scratch, rows.len() * w.cols)?;
    let to = ViewMut::of(&mut v, rows.len(), w.cols)?;
    let index = d.upload(Class::Scratch, &rows.map(|i| i as u32).collect::<Vec<_>>())?;
    gather::rows(d, w, &index, to, false)?;
    Ok(v)
}

impl<'m> Cx<'m> {
    /// 1 / ‖W + s B A‖ for each output of the projections that have an A and a B, (1, n out / N); 0
    /// where all of it is 0. For n of N projections A (n r, in), B (n out / N, r). With
    /// `is_constant` there is no gradient of it.
    pub fn inverse_norms(
        &mut self,
        w: &LinearRef<'m>,
        [a, b]: [W<'m>; 2],
        how: &LowRank,
        s: f32,
        is_constant: bool,
    ) -> Result<Act> {
        let ((input, output), (ranks, inputs), (rows, r)) = (w.dims(), a.dims(), b.dims());
        let shape = Shape { input, output, width: output / how.of.max(1), r, parts: how.parts.clone(), s };
        let is_sound = (inputs, ranks, rows) == (input, shape.ranks(), shape.rows())
            && shape.width * how.of == output
            && how.parts.iter().all(|p| *p < how.of);
        if !is_sound {
            let (left, right) = (vec![output, input], vec![ranks, inputs, rows, r]);
            return Err(Error::Shape { op: "inverse_norms", left, right });
        }
        let (d, mut squares) = (self.device().clone(), self.alloc(rows)?);
        {
            let (of_a, of_b) = (self.decoded(&a)?, self.decoded(&b)?);
            let (a, b) = (of_a.as_ref().unwrap_or(a.buffer()), of_b.as_ref().unwrap_or(b.buffer()));
            let go = if w.in_out { Shape::squares_in_out } else { Shape::squares };
            go(&shape, &d, w.w.matrix(), a, b, &mut squares)?;
        }
        let inverse = |x: f32| if x > 0.0 { x.sqrt().recip() } else { 0.0 };
        let u: Vec<f32> = squares.read::<f32>()?.into_iter().map(inverse).collect();
        drop(squares);
        let u = Act::new(d.upload(Class::Scratch, &u)?, rows, pack([1]))?;
        if is_constant || !self.needed(&[], &[a.target(), b.target()]) {
            return Ok(u);
        }
        let saved = self.save_for_backward(&u.buf)?;
        a.hold();
        b.hold();
        Ok(self.record(u, Op { w: w.clone(), a, b, shape, u: saved }))
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "inverse_norms"
    }
    fn saved(&self) -> usize {
        self.u.bytes()
    }
    fn run(self: Box<Self>, du: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let Op { w, a, b, shape, u } = *self;
        let (d, (width, r, s)) = (cx.device().clone(), (shape.width, shape.r, shape.s));
        let (of_a, of_b) = (cx.decoded(&a)?, cx.decoded(&b)?);
        let (of_a, of_b) = (of_a.as_ref().unwrap_or(a.buffer()), of_b.as_ref().unwrap_or(b.buffer()));
        let (u, du) = (u.get()?.read::<f32>()?, du.read::<f32>()?);
        let c: Vec<f32> = u.iter().zip(&du).map(|(u, du)| -u * u * u * du).collect();
        let mut of_parts = vec![]; // c and diag(c) B of each
        for p in shape.parts() {
            let c = d.upload(Class::Scratch, &c[shape.of_b(&p)])?;
            let mut cb = cx.alloc(width * r)?;
            let to = ViewMut::of(&mut cb, width, r)?;
            mixture::spread(&d, shape.b_of(of_b, &p)?, View::of(&c, width, 1)?, &[r], to)?;
            of_parts.push((p, c, cb));
        }
        let (rows, ranks, matrix) = (shape.rows(), shape.ranks(), w.w.matrix());
        if b.target().is_some() {
            let mut aw = cx.alloc(ranks * shape.output)?; // A Wᵀ
            let go = if w.in_out { matmul::times } else { matmul::times_transposed };
            go(&d, shape.a(of_a)?, matrix, Plus::NOTHING, ViewMut::of(&mut aw, ranks, shape.output)?)?;
            g.weight(b.target(), rows * r, |d, to, acc| {
                for (p, c, _) in &of_parts {
                    let own =
                        View::of(&aw, ranks, shape.output)?.rows_of(p.number * r..(p.number + 1) * r)?;
                    let mut t = d.alloc::<f32>(Class::Scratch, r * width)?;
                    let scaled = ViewMut::of(&mut t, r, width)?;
                    elementwise::mul_row(d, own.cols_of(p.columns.clone())?, c, scaled)?;
                    let to = ViewMut::of(to, rows, r)?.rows_of(shape.of_b(p))?;
                    let diagonal = shape.diagonal(d)?;
                    let diagonal = View::of(&diagonal, r, r)?;
                    matmul::transposed_times(d, View::of(&t, r, width)?, diagonal, to, acc)?;
                }
                for (p, _, cb) in &of_parts {
                    let (a, mut square) = (shape.a_of(of_a, p)?, d.alloc::<f32>(Class::Scratch, r * r)?);
                    let aa = ViewMut::of(&mut square, r, r)?;
                    matmul::times_transposed(d, a, Matrix::from(a), Plus::NOTHING, aa)?;
                    elementwise::scale(d, s * s, ViewMut::row(&mut square))?;
                    let to = ViewMut::of(to, rows, r)?.rows_of(shape.of_b(p))?;
                    let (cb, aa) = (View::of(cb, width, r)?, Matrix::plain(&square, r, r));
                    matmul::times(d, cb, aa, Plus::OUTPUT, to)?;
                }
                Ok(())
            })?;
        }
        if a.target().is_some() {
            let mut turned = d.zeros::<f32>(Class::Scratch, ranks * shape.output)?; // s (diag(c) B)ᵀ
            for (p, _, cb) in &of_parts {
                let to = ViewMut::of(&mut turned, ranks, shape.output)?;
                let to = to.rows_of(p.number * r..(p.number + 1) * r)?.cols_of(p.columns.clone())?;
                shape.transposed(&d, View::of(cb, width, r)?, to)?;
            }
            g.weight(a.target(), ranks * shape.input, |d, to, acc| {
                let go = if w.in_out { matmul::times_transposed } else { matmul::times };
                let plus = if acc { Plus::OUTPUT } else { Plus::NOTHING };
                let turned = View::of(&turned, ranks, shape.output)?;
                go(d, turned, matrix, plus, ViewMut::of(to, ranks, shape.input)?)?;
                for (p, _, cb) in &of_parts {
                    let (b, mut square) = (shape.b_of(of_b, p)?, d.alloc::<f32>(Class::Scratch, r * r)?);
                    let bcb = ViewMut::of(&mut square, r, r)?;
                    matmul::transposed_times(d, b, View::of(cb, width, r)?, bcb, false)?;
                    elementwise::scale(d, s * s, ViewMut::row(&mut square))?;
                    let to = ViewMut::of(to, ranks, shape.input)?;
                    let to = to.rows_of(p.number * r..(p.number + 1) * r)?;
                    let a = Matrix::from(shape.a_of(of_a, p)?);
                    matmul::times(d, View::of(&square, r, r)?, a, Plus::OUTPUT, to)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
