//! The module of a VeRA (see [`super::vera`]): two vectors between and behind two matrices that all
//! modules share.
use super::{
    gate::Gate,
    lora_module::{COLLECTION, add, gate, gated},
};
use crate::{AtLinear, Common, Dense, Error, Here, Inner, Module, Place, Result, SharedWeight, View};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, LinearRef, LowRank, Param, Parameters, Role, Source, Tensor, W,
    Weight, checkpoint::TensorData,
};

/// What AdapterHub's checkpoints call the weights of a whole adapter.
const SHARED: &str = "shared_parameters";
/// A and B.
pub(super) const KEYS: [(&str, &str); 2] = [(SHARED, "lora_A"), (SHARED, "lora_B")];
/// What PEFT calls them.
pub(super) const PEFT: [&str; 2] = ["base_model.vera_A", "base_model.vera_B"];

/// The matrices that all modules share, which do not train: A (r, inputs) and B (outputs, r), named
/// as in PEFT's files or in AdapterHub's.
pub(super) fn share(
    place: &Place<'_>,
    shapes: [[usize; 2]; 2],
    starts: (Init, Init),
    is_pefts: bool,
    to: &mut Common,
    from: &mut Source<'_, '_>,
) -> Result<()> {
    for (i, (key, init)) in KEYS.into_iter().zip([starts.0, starts.1]).enumerate() {
        let name = match is_pefts {
            true => PEFT[i].to_string(),
            false => format!("{}.{}", place.module(SHARED), key.1),
        };
        let what = (&shapes[i][..], Role::WEIGHT, init);
        to.put(key, key.1, SharedWeight::get(false, &name, what, from)?)?;
    }
    Ok(())
}

/// What a VeRA at a linear layer is like.
pub(super) struct Form {
    /// s, and what is dropped of x.
    pub how: LowRank,
    /// (inputs, outputs, r)
    pub shape: (usize, usize, usize),
    /// How d and b start.
    pub starts: (f32, f32),
    /// Those of d and b.
    pub names: [String; 2],
    /// PEFT's files hold vectors, AdapterHub's matrices.
    pub is_pefts: bool,
    /// Where its gate is, if it has one.
    pub gate: Option<String>,
}
/// A VeRA at a linear layer.
pub(super) fn build(trains: bool, form: Form, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
    Ok(vec![match trains {
        true => Box::new(Vera::<Param>::build(form, from)?),
        false => Box::new(Vera::<Frozen>::build(form, from)?),
    }])
}

/// A diagonal (n), or a whole matrix (n, n) where AdapterHub has trained one.
#[derive(Debug)]
struct Diagonal<P: Weight>(P);
impl<P: Weight> Diagonal<P> {
    fn build(
        name: &str,
        n: usize,
        start: f32,
        is_vector: bool,
        from: &mut Source<'_, '_>,
    ) -> Result<Diagonal<P>> {
        let load = match from {
            Source::File(load) if !is_vector => load,
            _ => return Ok(Diagonal(from.get(name, &[n], Role::WEIGHT, Init::Constant(start))?)),
        };
        let all = load.checkpoint().values(name, &[n, n])?;
        let is_diagonal = all.iter().enumerate().all(|(i, x)| i % (n + 1) == 0 || *x == 0.0);
        Ok(Diagonal(match is_diagonal {
            true => {
                load.made(name, &all.iter().copied().step_by(n + 1).collect::<Vec<_>>(), &[n], Role::WEIGHT)?
            }
            false => load.get(name, &[n, n], Role::WEIGHT)?,
        }))
    }
    fn is_whole(&self) -> bool {
        self.0.tensor().shape().len() == 2
    }
    /// x times it, from the right and turned. (T, n)
    fn apply<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> engine::Result<Act> {
        match self.is_whole() {
            true => cx.matmul(x, LinearRef { w: self.0.get(), b: None, in_out: false }),
            false => cx.mul_row(x, self.0.get()),
        }
    }
    /// It times a matrix of `cols` columns.
    fn times(&self, x: &[f32], cols: usize) -> Result<Vec<f32>> {
        let (own, n) = (self.0.tensor().to_f32()?, self.0.tensor().shape()[0]);
        if !self.is_whole() {
            return Ok(x.iter().enumerate().map(|(i, x)| own[i / cols] * x).collect());
        }
        let at = |i: usize| {
            let sum = |k: usize| f64::from(own[i / cols * n + k]) * f64::from(x[k * cols + i % cols]);
            (0..n).map(sum).sum::<f64>() as f32
        };
        Ok((0..n * cols).map(at).collect())
    }
    /// As a matrix.
    fn whole(&self) -> Result<TensorData<'_>> {
        let (own, n) = (self.0.tensor().to_f32()?, self.0.tensor().shape()[0]);
        if self.is_whole() {
            return Ok(TensorData::f32(&own, &[n, n]));
        }
        let mut all = vec![0.0; n * n];
        all.iter_mut().step_by(n + 1).zip(own).for_each(|(to, x)| *to = x);
        Ok(TensorData::f32(&all, &[n, n]))
    }
    /// As a vector, times s.
    fn vector(&self, s: f32) -> Result<TensorData<'_>> {
        if self.is_whole() {
            let what = "PEFT's VeRA has vectors; AdapterHub has trained whole matrices here";
            return Err(Error::Config(what.into()));
        }
        let own: Vec<f32> = self.0.tensor().to_f32()?.into_iter().map(|x| s * x).collect();
        Ok(TensorData::f32(&own, &[own.len()]))
    }
}

#[derive(Debug)]
struct Vera<P: Weight> {
    d: Diagonal<P>,
    b: Diagonal<P>,
    how: LowRank,
    /// (inputs, outputs, r)
    shape: (usize, usize, usize),
    /// In the place of s (Mao et al. 2022).
    gate: Option<Gate<P>>,
}
impl<P: Weight> Vera<P> {
    fn build(form: Form, from: &mut Source<'_, '_>) -> Result<Vera<P>> {
        let Form { mut how, shape, starts, names: [d, b], is_pefts, gate: path } = form;
        if path.is_some() {
            how.scale = 1.0;
        }
        Ok(Vera {
            d: Diagonal::build(&d, shape.2, starts.0, is_pefts, from)?,
            b: Diagonal::build(&b, shape.1, starts.1, is_pefts, from)?,
            how,
            shape,
            gate: gate(path.as_ref(), (shape.0, 1), from)?,
        })
    }
}
/// The first rows and columns of a weight that is as large as the largest layer needs it.
fn corner<'m>(cx: &mut Cx<'m>, w: W<'m>, (rows, cols): (usize, usize)) -> engine::Result<W<'m>> {
    let dims = w.dims();
    match dims == (rows, cols) {
        true => Ok(w),
        false => Ok(W::Computed(cx.part(&w, dims, [0..rows, 0..cols])?)),
    }
}
impl<P: Weight> AtLinear for Vera<P> {
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        x: &Act,
        _: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let (y, (input, output, r)) = (inner(cx, x)?, self.shape);
        let a = corner(cx, here.common.weight(KEYS[0]), (r, input))?;
        let h = cx.narrow(here.site, x, a, &self.how)?; //                                    (T, r)
        let mut h = self.d.apply(cx, &h)?;
        if let Some(gate) = &self.gate {
            let open = gate.of(cx, x)?; //                                                    (T, 1)
            h = cx.spread(&h, &open, &[r].into())?;
        }
        let b = corner(cx, here.common.weight(KEYS[1]), (output, r))?;
        let up = cx.matmul(&h, LinearRef { w: b, b: None, in_out: false })?; //               (T, out)
        let up = self.b.apply(cx, &up)?;
        cx.add(&y, &up)
    }
    fn merge(&self, here: Here<'_>, into: &mut Dense) -> Result<()> {
        if self.gate.is_some() {
            return Err(gated());
        }
        let (input, output, r) = self.shape;
        let corner = |key, rows: usize, cols: usize| -> Result<Vec<f32>> {
            let Some(t) = here.common.tensor(key) else { return Ok(vec![]) };
            let (all, stride) = (t.to_f32()?, t.shape()[1]);
            Ok(all.chunks(stride).take(rows).flat_map(|row| row[..cols].to_vec()).collect())
        };
        let a = self.d.times(&corner(KEYS[0], r, input)?, input)?;
        let b = self.b.times(&corner(KEYS[1], output, r)?, r)?;
        add(self.how.scale, &[0], [&a, &b], self.shape, into);
        Ok(())
    }
}
impl<P: Weight> Module for Vera<P> {
    fn view(&self) -> View<'_> {
        View::Linear(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        f("vera_D".into(), self.d.0.tensor());
        f("vera_B".into(), self.b.0.tensor());
        self.gate.iter().for_each(|g| g.each(&mut |name, w| f(name, w.tensor())));
    }
    /// Matrices, with zeros beside their diagonals.
    fn adapterhub(&self) -> Result<Vec<(String, TensorData<'_>)>> {
        let mut all = vec![("vera_D".into(), self.d.whole()?), ("vera_B".into(), self.b.whole()?)];
        let mut of_gate = vec![];
        self.gate.iter().for_each(|g| g.each(&mut |name, w| of_gate.push((name, w.tensor()))));
        for (name, t) in of_gate {
            all.push((name, TensorData::f32(&t.to_f32()?, t.shape())));
        }
        Ok(all)
    }
    /// s is a part of d there.
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        if self.gate.is_some() {
            return Err(Error::Config("PEFT's format has no gates".into()));
        }
        Ok(vec![("vera_lambda_b", self.b.vector(1.0)?), ("vera_lambda_d", self.d.vector(self.how.scale)?)])
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Vera { d, b, how, shape, gate } = *self;
        let (d, b) = (Diagonal(d.0.freeze()), Diagonal(b.0.freeze()));
        Box::new(Vera { d, b, how, shape, gate: gate.map(Gate::freeze) })
    }
}
impl<P: Weight> Parameters for Vera<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.d.0.visit(f);
        self.b.0.visit(f);
        self.gate.iter().for_each(|g| g.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.d.0.visit_mut(f);
        self.b.0.visit_mut(f);
        self.gate.iter_mut().for_each(|g| g.visit_mut(f));
    }
}
