//! Linear layers and norms: weights that belong together.
use crate::{Frozen, Param, Parameters, W, Weight, weight::Target};

/// y = x Wᵀ + b, or x W + b where the checkpoint stores (in, out) as GPT-2's `Conv1D` does.
#[derive(Debug)]
pub struct Linear<P: Weight> {
    /// W.
    pub w: P,
    /// b.
    pub b: Option<P>,
    /// True if W is stored (in, out).
    pub in_out: bool,
}
/// A borrowed [`Linear`].
#[derive(Clone, Debug)]
pub struct LinearRef<'m> {
    /// W.
    pub w: W<'m>,
    /// b.
    pub b: Option<W<'m>>,
    /// True if W is stored (in, out).
    pub in_out: bool,
}
impl<P: Weight> Linear<P> {
    /// At its point of use.
    pub fn get(&self) -> LinearRef<'_> {
        LinearRef { w: self.w.get(), b: self.b.as_ref().map(P::get), in_out: self.in_out }
    }
    /// Calls `f` on its weights, named `{path}.weight` and `{path}.bias`.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a P)) {
        f(format!("{path}.weight"), &self.w);
        self.b.iter().for_each(|b| f(format!("{path}.bias"), b));
    }
}
impl<P: Weight> Parameters for Linear<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.w.visit(f);
        self.b.iter().for_each(|b| b.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.w.visit_mut(f);
        self.b.iter_mut().for_each(|b| b.visit_mut(f));
    }
}
impl<P: Weight> Linear<P> {
    /// Trains no more.
    pub fn freeze(self) -> Linear<Frozen> {
        Linear { w: self.w.freeze(), b: self.b.map(P::freeze), in_out: self.in_out }
    }
}
impl LinearRef<'_> {
    /// Where the gradients of W and b go.
    pub(crate) fn targets(&self) -> [Target; 2] {
        [self.w.target(), self.bias_target()]
    }
    /// Where the gradient of b goes.
    pub(crate) fn bias_target(&self) -> Target {
        self.b.as_ref().map_or(Target::Nothing, W::target)
    }
    /// (inputs, outputs).
    pub fn dims(&self) -> (usize, usize) {
        let (r, c) = self.w.dims();
        if self.in_out { (r, c) } else { (c, r) }
    }
}

/// How a norm divides a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm: (x - mean) / √(var + eps) (Ba, Kiros & Hinton 2016).
    #[default]
    Layer,
    /// RMSNorm: x / √(mean x² + eps) (Zhang & Sennrich 2019).
    Rms,
}

/// A norm over the channels of a row: x̂ γ + β.
#[derive(Debug)]
pub struct Norm<P: Weight> {
    /// γ.
    pub w: P,
    /// β.
    pub b: Option<P>,
    /// Added to the variance or the mean square.
    pub eps: f32,
    /// What x̂ is.
    pub kind: NormKind,
}
/// A borrowed [`Norm`].
#[derive(Clone, Debug)]
pub struct NormRef<'m> {
    /// γ.
    pub w: W<'m>,
    /// β.
    pub b: Option<W<'m>>,
    /// Added to the variance or the mean square.
    pub eps: f32,
    /// What x̂ is.
    pub kind: NormKind,
}
impl NormRef<'_> {
    /// Where the gradients of γ and β go.
    pub(crate) fn targets(&self) -> [Target; 2] {
        [self.w.target(), self.b.as_ref().map_or(Target::Nothing, W::target)]
    }
}
impl<P: Weight> Norm<P> {
    /// At its point of use.
    pub fn get(&self) -> NormRef<'_> {
        NormRef { w: self.w.get(), b: self.b.as_ref().map(P::get), eps: self.eps, kind: self.kind }
    }
    /// Calls `f` on its weights, named `{path}.weight` and `{path}.bias`.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a P)) {
        f(format!("{path}.weight"), &self.w);
        self.b.iter().for_each(|b| f(format!("{path}.bias"), b));
    }
}
impl<P: Weight> Parameters for Norm<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.w.visit(f);
        self.b.iter().for_each(|b| b.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.w.visit_mut(f);
        self.b.iter_mut().for_each(|b| b.visit_mut(f));
    }
}
impl<P: Weight> Norm<P> {
    /// Trains no more.
    pub fn freeze(self) -> Norm<Frozen> {
        Norm { w: self.w.freeze(), b: self.b.map(P::freeze), eps: self.eps, kind: self.kind }
    }
}
