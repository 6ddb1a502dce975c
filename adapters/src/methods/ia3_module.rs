//! The module of an IA3 (see `ia3.rs`): a factor for each output of a linear layer, or for each
//! input.
use super::{
    gate::Gate,
    lora_module::{COLLECTION, gate, gated},
    parts::{on_parts, own, row},
};
use crate::{AtLinear, Dense, Error, Here, Inner, Module, Result, View};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, LinearRef, Param, Parameters, Role, Source, Tensor, W, Weight,
    checkpoint::TensorData,
};
use std::{ops::Range, sync::Arc};

/// What the factors are multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scaled {
    /// The inputs of the layer.
    Inputs,
    /// Of so many projections whose outputs stand side by side these, in their order.
    Outputs { of: usize, parts: Vec<usize> },
}
/// What an IA3 at a linear layer is like.
pub(super) struct Form {
    pub scaled: Scaled,
    /// α: what the factors are multiplied with.
    pub alpha: f32,
    /// (inputs, outputs)
    pub dims: (usize, usize),
    /// That of the factors.
    pub name: String,
    pub start: Init,
    /// Where its gates are, if it has any.
    pub gate: Option<String>,
}
/// An IA3 at a linear layer.
pub(super) fn build(trains: bool, form: Form, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
    Ok(vec![match trains {
        true => Box::new(Ia3::<Param>::build(form, from)?),
        false => Box::new(Ia3::<Frozen>::build(form, from)?),
    }])
}

#[derive(Debug)]
struct Ia3<P: Weight> {
    /// (n width, 1), or (1, inputs).
    factors: P,
    scaled: Scaled,
    alpha: f32,
    /// Outputs of the whole layer.
    outputs: usize,
    /// In the place of α (Mao et al. 2022).
    gate: Option<Gate<P>>,
}
impl<P: Weight> Ia3<P> {
    fn build(form: Form, from: &mut Source<'_, '_>) -> Result<Ia3<P>> {
        let Form { scaled, alpha, dims: (input, outputs), name, start, gate: path } = form;
        let (shape, n) = match &scaled {
            Scaled::Inputs => ([1, input], 1),
            Scaled::Outputs { of, parts } => ([outputs / of * parts.len(), 1], parts.len()),
        };
        Ok(Ia3 {
            factors: from.get(&name, &shape, Role::WEIGHT, start)?,
            scaled,
            alpha: if path.is_some() { 1.0 } else { alpha },
            outputs,
            gate: gate(path.as_ref(), (input, n), from)?,
        })
    }
    /// α times some of the factors, as a row.
    fn row<'m>(&'m self, cx: &mut Cx<'m>, of: Range<usize>) -> engine::Result<W<'m>> {
        let row = row(cx, self.factors.get(), of)?;
        if self.alpha == 1.0 {
            return Ok(row);
        }
        let n = row.elements();
        let row = cx.part(&row, (1, n), [0..1, 0..n])?;
        Ok(W::Computed(cx.scale(row, self.alpha)?))
    }
    /// The factors of all outputs, those of others 1.
    fn whole(&self, of: usize, parts: &[usize]) -> Result<Vec<f32>> {
        let factors = self.factors.tensor().to_f32()?;
        let width = self.outputs / of;
        let factor = |o: usize| match own(parts, o / width, width) {
            Some((_, range)) => self.alpha * factors[range.start + o % width],
            None => 1.0,
        };
        Ok((0..self.outputs).map(factor).collect())
    }
}
impl<P: Weight> AtLinear for Ia3<P> {
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _: Here<'m>,
        x: &Act,
        _: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let Scaled::Outputs { of, parts } = &self.scaled else {
            let factors = self.row(cx, 0..x.cols())?;
            let x = cx.mul_row(x, factors)?;
            return inner(cx, &x);
        };
        let y = inner(cx, x)?; //                                                             (T, out)
        let open = self.gate.as_ref().map(|g| g.of(cx, x)).transpose()?; //                   (T, n)
        on_parts(cx, y, *of, |cx, projection, y| {
            let Some((i, own)) = own(parts, projection, y.cols()) else { return Ok(y) };
            let factors = self.row(cx, own)?;
            let y = cx.mul_row(&y, factors)?;
            let Some(open) = &open else { return Ok(y) };
            let open = cx.take_columns(open, i..i + 1)?;
            cx.spread(&y, &open, &Arc::from([y.cols()]))
        })
    }
    fn merge(&self, _: Here<'_>, into: &mut Dense) -> Result<()> {
        if self.gate.is_some() {
            return Err(gated());
        }
        let inputs = into.w.len() / self.outputs.max(1);
        match &self.scaled {
            Scaled::Inputs => {
                let factors = self.factors.tensor().to_f32()?;
                let factors = factors.iter().map(|l| l * self.alpha).collect::<Vec<_>>();
                into.w.iter_mut().enumerate().for_each(|(i, w)| *w *= factors[i % inputs]);
            }
            Scaled::Outputs { of, parts } => {
                let factors = self.whole(*of, parts)?;
                into.w.iter_mut().enumerate().for_each(|(i, w)| *w *= factors[i / inputs]);
                into.b.iter_mut().flatten().zip(&factors).for_each(|(b, l)| *b *= l);
            }
        }
        Ok(())
    }
}
impl<P: Weight> Module for Ia3<P> {
    fn view(&self) -> View<'_> {
        View::Linear(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        f("lora_B".into(), self.factors.tensor());
        self.gate.iter().for_each(|g| g.each(&mut |name, w| f(name, w.tensor())));
    }
    /// α is a part of the factors there.
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        if self.gate.is_some() {
            return Err(Error::Config("PEFT's format has no gates".into()));
        }
        let (values, shape) = match &self.scaled {
            Scaled::Inputs => (self.factors.tensor().to_f32()?, self.factors.tensor().shape().to_vec()),
            Scaled::Outputs { of, parts } => (self.whole(*of, parts)?, vec![self.outputs, 1]),
        };
        Ok(vec![("ia3_l", TensorData::f32(&values, &shape))])
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Ia3 { factors, scaled, alpha, outputs, gate } = *self;
        let gate = gate.map(Gate::freeze);
        Box::new(Ia3 { factors: factors.freeze(), scaled, alpha, outputs, gate })
    }
}
impl<P: Weight> Parameters for Ia3<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.factors.visit(f);
        self.gate.iter().for_each(|g| g.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.factors.visit_mut(f);
        self.gate.iter_mut().for_each(|g| g.visit_mut(f));
    }
}
