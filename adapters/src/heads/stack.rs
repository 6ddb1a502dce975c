//! Linear layers one after the other.
//!
//! ```text
//! z = W_n dropout( … norm(act(W_1 dropout(x) + b_1)) … ) + b_n
//! ```
use super::{HeadLayers, HeadPlace};
use crate::Result;
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, Linear, LinearRef, Norm, Param, Parameters, Role,
    Site, Source, Tensor, W, Weight,
};

/// What a [`Stack`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The layers, in order.
    pub layers: Vec<LayerShape>,
    /// Behind every layer but the last.
    pub act: Option<Activation>,
    /// There is dropout in front of every layer.
    pub drops: bool,
    /// Its probability; none: the model's own.
    pub dropout: Option<f64>,
    /// The matrix of the last layer is the model's table of embeddings.
    pub tied: bool,
}
/// One linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Its number in the library's Sequential.
    pub index: usize,
    /// Inputs.
    pub input: usize,
    /// Outputs.
    pub output: usize,
    /// It has a bias.
    pub bias: bool,
    /// The number of a LayerNorm behind it.
    pub norm: Option<usize>,
}

/// Linear layers, with what stands between them.
#[derive(Debug)]
pub struct Stack<P: Weight> {
    layout: Layout,
    inner: Vec<(Linear<P>, Option<Norm<P>>)>,
    last: Last<P>,
}
/// The last layer.
#[derive(Debug)]
enum Last<P: Weight> {
    Own(Linear<P>),
    /// The matrix is the model's, which does not train; the bias beside it does not either, as in
    /// the library.
    Tied(Option<Box<Frozen>>),
}

impl Layout {
    /// The layers, made or loaded. New weights are N(0, 0.02²), biases 0.
    pub fn build(self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        Ok(match place.trains {
            true => Box::new(Stack::<Param>::build(self, place, from)?),
            false => Box::new(Stack::<Frozen>::build(self, place, from)?),
        })
    }
}
impl<P: Weight> Stack<P> {
    fn build(layout: Layout, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Stack<P>> {
        let (weight, zero) = (Init::Normal(0.02), Init::Constant(0.0));
        let (mut inner, mut last) = (vec![], Last::Tied(None));
        for (i, l) in layout.layers.iter().enumerate() {
            let path = place.layer(l.index);
            if let Some(parent) = path.strip_suffix(".decoder") {
                from.mark(&format!("{parent}.bias")); // transformers has that of a vocabulary twice
            }
            if i + 1 < layout.layers.len() {
                let linear = from.linear(&path, (l.input, l.output), weight, l.bias.then_some(zero))?;
                let eps = place.host.norm_eps;
                let norm = l.norm.map(|n| from.norm(&place.layer(n), l.output, eps)).transpose()?;
                inner.push((linear, norm));
                continue;
            }
            last = match layout.tied {
                true => {
                    from.mark(&format!("{path}.weight")); // the library writes it all the same
                    let mut bias = || from.get(&format!("{path}.bias"), &[l.output], Role::BIAS, zero);
                    Last::Tied(l.bias.then(&mut bias).transpose()?.map(Box::new))
                }
                false => {
                    Last::Own(from.linear(&path, (l.input, l.output), weight, l.bias.then_some(zero))?)
                }
            };
        }
        Ok(Stack { layout, inner, last })
    }
    fn drop<'m>(&self, cx: &mut Cx<'m>, x: Act, dropout: f32, layer: usize) -> engine::Result<Act> {
        let p = self.layout.dropout.map_or(dropout, |p| p as f32);
        match self.layout.drops {
            true => cx.dropout(x, p, Site::head(), layer as u8),
            false => Ok(x),
        }
    }
}
impl<P: Weight> HeadLayers for Stack<P> {
    fn features<'m>(&'m self, cx: &mut Cx<'m>, x: &Act, dropout: f32) -> engine::Result<Act> {
        let mut x = x.clone();
        for (i, (linear, norm)) in self.inner.iter().enumerate() {
            x = self.drop(cx, x, dropout, i)?;
            x = cx.matmul(&x, linear.get())?;
            if let Some(act) = self.layout.act {
                x = cx.activate(&x, act)?;
            }
            if let Some(norm) = norm {
                x = cx.normalise(&x, norm.get())?;
            }
        }
        self.drop(cx, x, dropout, self.inner.len())
    }
    fn last<'m>(&'m self, tied: Option<W<'m>>) -> Option<LinearRef<'m>> {
        match &self.last {
            Last::Own(linear) => Some(linear.get()),
            Last::Tied(b) => Some(LinearRef { w: tied?, b: b.as_deref().map(Frozen::get), in_out: false }),
        }
    }
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(String, &'a Tensor)) {
        for ((linear, norm), l) in self.inner.iter().zip(&self.layout.layers) {
            let f = &mut |name, w: &'a P| f(name, w.tensor());
            linear.each(&format!("heads.{name}.{}", l.index), f);
            norm.iter().zip(l.norm).for_each(|(norm, n)| norm.each(&format!("heads.{name}.{n}"), f));
        }
        let path = self.layout.layers.last().map(|l| format!("heads.{name}.{}", l.index));
        match (&self.last, path) {
            (Last::Own(linear), Some(path)) => linear.each(&path, &mut |name, w| f(name, w.tensor())),
            (Last::Tied(Some(b)), Some(path)) => f(format!("{path}.bias"), b.tensor()),
            _ => {}
        }
    }
    fn freeze(self: Box<Self>) -> Box<dyn HeadLayers> {
        let Stack { layout, inner, last } = *self;
        let inner = inner.into_iter().map(|(l, n)| (l.freeze(), n.map(Norm::freeze))).collect();
        let last = match last {
            Last::Own(linear) => Last::Own(linear.freeze()),
            Last::Tied(bias) => Last::Tied(bias),
        };
        Box::new(Stack { layout, inner, last })
    }
}
impl<P: Weight> Parameters for Stack<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        for (linear, norm) in &self.inner {
            linear.visit(f);
            norm.iter().for_each(|n| n.visit(f));
        }
        if let Last::Own(linear) = &self.last {
            linear.visit(f);
        }
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        for (linear, norm) in &mut self.inner {
            linear.visit_mut(f);
            norm.iter_mut().for_each(|n| n.visit_mut(f));
        }
        if let Last::Own(linear) = &mut self.last {
            linear.visit_mut(f);
        }
    }
}
