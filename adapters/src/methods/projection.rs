//! One of the two layers of a bottleneck: a matrix, or one that is made of smaller ones.
use super::{
    BnConfig,
    phm::{Phm, Side},
};
use crate::{Here, Result};
use engraft_engine::{
    self as engine, Cx, Frozen, Init, Linear, LinearRef, Param, Parameters, Source, Tensor, Weight,
};

/// A layer of a bottleneck.
#[derive(Debug)]
pub(super) enum Projection<P: Weight> {
    Plain(Linear<P>),
    Hypercomplex(Box<Phm<P>>),
}
impl<P: Weight> Projection<P> {
    /// That of (inputs, outputs) whose tensors are named under `path`; a plain one starts like
    /// `init`.
    pub fn build(
        c: &BnConfig,
        side: Side,
        dims: (usize, usize),
        path: &str,
        init: Init,
        from: &mut Source<'_, '_>,
    ) -> Result<Projection<P>> {
        Ok(match c.phm_layer {
            true => Projection::Hypercomplex(Box::new(Phm::build(c, side, dims, path, from)?)),
            false => Projection::Plain(from.linear(path, dims, init, Some(Init::Constant(0.0)))?),
        })
    }
    /// At its point of use.
    pub fn get<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>) -> engine::Result<LinearRef<'m>> {
        match self {
            Projection::Plain(l) => Ok(l.get()),
            Projection::Hypercomplex(l) => l.get(cx, here),
        }
    }
    /// The same, if nothing is to be made.
    pub fn plain(&self) -> Option<LinearRef<'_>> {
        match self {
            Projection::Plain(l) => Some(l.get()),
            Projection::Hypercomplex(_) => None,
        }
    }
    /// Calls `f` on its tensors.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a Tensor)) {
        match self {
            Projection::Plain(l) => l.each(path, &mut |name, w| f(name, w.tensor())),
            Projection::Hypercomplex(l) => l.each(path, f),
        }
    }
    /// Trains no more.
    pub fn freeze(self) -> Projection<Frozen> {
        match self {
            Projection::Plain(l) => Projection::Plain(l.freeze()),
            Projection::Hypercomplex(l) => Projection::Hypercomplex(Box::new(l.freeze())),
        }
    }
}
impl<P: Weight> Parameters for Projection<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        match self {
            Projection::Plain(l) => l.visit(f),
            Projection::Hypercomplex(l) => l.visit(f),
        }
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        match self {
            Projection::Plain(l) => l.visit_mut(f),
            Projection::Hypercomplex(l) => l.visit_mut(f),
        }
    }
}
