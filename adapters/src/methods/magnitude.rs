//! DoRA (Liu et al. 2024): the rows of a linear layer's weight have lengths that train apart from
//! their directions, which a LoRA changes.
//!
//! ```text
//! AdapterHub   y = c ∘ (x Wᵀ + b + s x (B A)ᵀ)        c = m / ‖W + B A‖
//! PEFT         y = c ∘ (x Wᵀ + s x (B A)ᵀ) + b        c = m / ‖W + s B A‖, ‖..‖ a constant of the backward pass
//! ```
//! The paper's is PEFT's, with or without a gradient of the norm. Where a gate takes the place of
//! s, it does so outside of the norm.
use super::parts::{on_parts, own, row};
use crate::{Dense, Place, Result};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, LinearRef, LowRank, Param, Parameters, Role, SiteKind, Source, Tensor,
    W, Weight,
};

/// Whose DoRA it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dora {
    AdapterHub,
    Peft,
}
/// m, for the projections of a layer that are adapted, one behind the other.
#[derive(Debug)]
pub(super) struct Magnitude<P: Weight> {
    m: P,
    of: Dora,
}
impl<P: Weight> Magnitude<P> {
    /// At a linear layer: new ones are the lengths of the rows of its weight.
    pub fn build(
        of: Dora,
        how: &LowRank,
        name: &str,
        place: &Place<'_>,
        from: &mut Source<'_, '_>,
    ) -> Result<Magnitude<P>> {
        let SiteKind::Linear { input, output, in_out, .. } = place.info.kind else {
            unreachable!("a LoRA stands at linear layers")
        };
        let width = output / how.of;
        let n = width * how.parts.len();
        let values = match from {
            Source::New(_) => {
                let w = place.weight("weight")?.to_f32()?;
                let at =
                    |o: usize, i: usize| f64::from(w[if in_out { i * output + o } else { o * input + i }]);
                let length = |o: usize| (0..input).map(|i| at(o, i) * at(o, i)).sum::<f64>().sqrt() as f32;
                how.parts.iter().flat_map(|p| (p * width..(p + 1) * width).map(length)).collect()
            }
            Source::File(_) => vec![],
        };
        let shape = if of == Dora::Peft { vec![n] } else { vec![n, 1] };
        Ok(Magnitude { m: from.get_from(name, &shape, Role::WEIGHT, || values)?, of })
    }
    /// y = x Wᵀ + b + s x (B A)ᵀ with other lengths of the rows.
    pub fn apply<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        w: &LinearRef<'m>,
        ab: [W<'m>; 2],
        how: &LowRank,
        y: Act,
    ) -> engine::Result<Act> {
        let is_pefts = self.of == Dora::Peft;
        let u = cx.inverse_norms(w, ab, how, self.scale(how), is_pefts)?; //                  (1, n out / N)
        let m = row(cx, self.m.get(), 0..u.cols())?;
        let c = cx.mul_row(&u, m)?;
        on_parts(cx, y, how.of, |cx, projection, y| {
            let Some((_, of)) = own(&how.parts, projection, y.cols()) else { return Ok(y) };
            let c = W::Computed(if of.len() == c.cols() { c.clone() } else { cx.take_columns(&c, of)? });
            let width = y.cols();
            let y = cx.mul_row(&y, c.clone())?;
            let Some(b) = w.b.as_ref().filter(|_| is_pefts) else { return Ok(y) };
            let b = cx.values(b.clone())?; // the bias stays as it is: (1 - c) ∘ b more
            let less = cx.mul_row(&b, c)?;
            let less = cx.scale(less, -1.0)?;
            let more = cx.add(&b, &less)?;
            cx.add_row(y, &more, 0..width)
        })
    }
    /// What B A is multiplied with in the norm.
    fn scale(&self, how: &LowRank) -> f32 {
        if self.of == Dora::Peft { how.scale } else { 1.0 }
    }
    /// Gives the rows of W + s B A their lengths. `add(s, W)` adds s B A.
    pub fn merge(&self, how: &LowRank, add: impl Fn(f32, &mut Dense), into: &mut Dense) -> Result<()> {
        let (m, mut sum) = (self.m.tensor().to_f32()?, into.clone());
        add(self.scale(how), &mut sum);
        add(how.scale, into);
        let width = m.len() / how.parts.len();
        let inputs = into.w.len() / (width * how.of).max(1);
        for (i, part) in how.parts.iter().enumerate() {
            for o in 0..width {
                let row = part * width + o;
                let columns = row * inputs..(row + 1) * inputs;
                let squares = sum.w[columns.clone()].iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                let length = f64::from(m[i * width + o]);
                let c = if squares > 0.0 { length / squares.sqrt() } else { 0.0 };
                let scale = |w: &mut f32| *w = (f64::from(*w) * c) as f32;
                into.w[columns].iter_mut().for_each(scale);
                if let (Dora::AdapterHub, Some(b)) = (self.of, &mut into.b) {
                    scale(&mut b[row]);
                }
            }
        }
        Ok(())
    }
    /// Whose it is.
    pub fn of(&self) -> Dora {
        self.of
    }
    /// The values.
    pub fn tensor(&self) -> &Tensor {
        self.m.tensor()
    }
    /// Trains no more.
    pub fn freeze(self) -> Magnitude<Frozen> {
        Magnitude { m: self.m.freeze(), of: self.of }
    }
}
impl<P: Weight> Parameters for Magnitude<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.m.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.m.visit_mut(f);
    }
}
