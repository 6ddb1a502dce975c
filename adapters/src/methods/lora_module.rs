//! The module of a LoRA, whoever describes it: a product of two narrow matrices beside a linear
//! layer (see [`super::lora`]).
use super::{
    gate::Gate,
    magnitude::{Dora, Magnitude},
    start::LoraStart,
};
use crate::{AtLinear, Dense, Error, Factors, Here, Inner, Module, Place, Result, View};
use engraft_engine::{
    self as engine, Act, Class, Cx, Frozen, Init, LinearRef, LowRank, Param, Parameters, Role, Source,
    Tensor, Weight, checkpoint::TensorData,
};

/// Ranks beyond this come from a damaged file.
pub(super) const MOST: usize = 1 << 16;

/// α / r, or α / √r.
pub(super) fn scale(alpha: f64, r: usize, rslora: bool) -> f64 {
    alpha / if rslora { (r as f64).sqrt() } else { r as f64 }
}

/// What AdapterHub's checkpoints call the modules.
pub(super) const COLLECTION: &str = "loras";

/// What a rank-r product beside a linear layer is like.
pub(super) struct Form {
    pub how: LowRank,
    /// (inputs, outputs, r)
    pub shape: (usize, usize, usize),
    /// Those of A and B.
    pub names: [String; 2],
    pub start: LoraStart,
    /// Where its gates are, if it has any.
    pub gate: Option<String>,
    /// Whose DoRA it is, if it is one, and the name of the lengths.
    pub dora: Option<(Dora, String)>,
}
/// A rank-r product beside the linear layer of a place.
pub(super) fn build(
    place: &Place<'_>,
    form: Form,
    from: &mut Source<'_, '_>,
) -> Result<Vec<Box<dyn Module>>> {
    Ok(vec![match place.trains {
        true => Box::new(Lora::<Param>::build(place, form, from)?),
        false => Box::new(Lora::<Frozen>::build(place, form, from)?),
    }])
}

/// The gates of so many parts that read `channels`, under `path`: in the library a linear layer of
/// PyTorch's but for its weight.
pub(super) fn gate<P: Weight>(
    path: Option<&String>,
    (channels, parts): (usize, usize),
    from: &mut Source<'_, '_>,
) -> Result<Option<Gate<P>>> {
    let start = (Init::Normal(0.02), Init::Uniform((channels as f32).sqrt().recip()));
    Ok(path.map(|path| Gate::build((channels, parts), path, start, from)).transpose()?)
}

/// A LoRA at a linear layer.
#[derive(Debug)]
pub struct Lora<P: Weight> {
    a: P,
    b: P,
    how: LowRank,
    /// (A₀, B₀): what A and B were at first, if the product is how they differ from that.
    first: Option<[Frozen; 2]>,
    /// In the place of s (Mao et al. 2022).
    gate: Option<Gate<P>>,
    /// The lengths of the weight's rows, if they train.
    magnitude: Option<Magnitude<P>>,
}
impl<P: Weight> Lora<P> {
    fn build(place: &Place<'_>, form: Form, from: &mut Source<'_, '_>) -> Result<Lora<P>> {
        let Form { mut how, shape: (input, output, r), names: [a, b], start, gate: path, dora } = form;
        let (n, width, init) = (how.parts.len(), output / how.of, start.of(input, r));
        if path.is_some() {
            how.scale = 1.0;
        }
        let shapes = [[n * r, input], [n * width, r]];
        let values = match from {
            // what was trained is in the file; what it started from is not
            Source::File(_) if !start.is_pissa() => None,
            _ => start.values(place, &how, r)?,
        };
        let first = match &values {
            Some(values) if start.is_pissa() => {
                let w = place.weight("weight")?;
                if w.storage().is_quantised() && matches!(from, Source::File(_)) {
                    return Err(Error::Config(format!(
                        "it was trained beside what `{start}` left of whole weights; those of this backbone are quantised"
                    )));
                }
                let d = w.buffer().device();
                let one = |i: usize| -> Result<Frozen> {
                    let buffer = d.upload(Class::Adapter, &values[i]).map_err(engine::Error::from)?;
                    Ok(Frozen::new(Tensor::new(buffer, &shapes[i])?))
                };
                Some([one(0)?, one(1)?])
            }
            _ => None,
        };
        let mut get = |name: &str, i: usize, init: Init| match &values {
            Some(values) => from.get_from(name, &shapes[i], Role::WEIGHT, || values[i].clone()),
            None => from.get(name, &shapes[i], Role::WEIGHT, init),
        };
        Ok(Lora {
            a: get(&a, 0, init.0)?,
            b: get(&b, 1, init.1)?,
            first,
            gate: gate(path.as_ref(), (input, n), from)?,
            magnitude: match dora {
                Some((of, name)) => Some(Magnitude::build(of, &how, &name, place, from)?),
                None => None,
            },
            how,
        })
    }
    /// A and B as they are saved: of each part [A; A₀] and [B, -B₀].
    fn whole(&self) -> Result<[Vec<f32>; 2]> {
        let (a, b) = (self.a.tensor().to_f32()?, self.b.tensor().to_f32()?);
        let Some([a0, b0]) = &self.first else { return Ok([a, b]) };
        let (input, _, r) = self.dims();
        let (a0, b0) = (a0.tensor().to_f32()?, b0.tensor().to_f32()?);
        let below = |(a, a0): (&[f32], &[f32])| [a, a0].concat();
        let a = a.chunks(r * input).zip(a0.chunks(r * input)).flat_map(below).collect();
        let beside =
            |(b, b0): (&[f32], &[f32])| b.iter().copied().chain(b0.iter().map(|x| -x)).collect::<Vec<_>>();
        Ok([a, b.chunks(r).zip(b0.chunks(r)).flat_map(beside).collect()])
    }
    /// The rank that is saved.
    fn saved_rank(&self) -> usize {
        let (_, _, r) = self.dims();
        if self.first.is_some() { 2 * r } else { r }
    }
    /// (inputs, outputs of a part, rank).
    fn dims(&self) -> (usize, usize, usize) {
        let n = self.how.parts.len();
        let (a, b) = (self.a.tensor().shape(), self.b.tensor().shape());
        (a[1], b[0] / n, b[1])
    }
}
impl<P: Weight> AtLinear for Lora<P> {
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let y = inner(cx, x)?;
        let mut h = cx.narrow(here.site, x, self.a.get(), &self.how)?; //                     (T, n r)
        if let Some(gate) = &self.gate {
            let open = gate.of(cx, x)?; //                                                    (T, n)
            h = cx.spread(&h, &open, &vec![self.dims().2; self.how.parts.len()].into())?;
        }
        let mut y = cx.widen(&h, self.b.get(), &self.how, y)?;
        if let Some([a, b]) = &self.first {
            let less = LowRank { scale: -self.how.scale, dropout: 0.0, ..self.how.clone() };
            y = cx.low_rank(here.site, x, [a.get(), b.get()], &less, y)?;
        }
        match &self.magnitude {
            Some(m) => m.apply(cx, w, [self.a.get(), self.b.get()], &self.how, y),
            None => Ok(y),
        }
    }
    fn merge(&self, _: Here<'_>, into: &mut Dense) -> Result<()> {
        if self.gate.is_some() {
            return Err(gated());
        }
        let ([a, b], (input, width, _)) = (self.whole()?, self.dims());
        let dims = (input, width, self.saved_rank());
        let add = |s: f32, into: &mut Dense| add(s, &self.how.parts, [&a, &b], dims, into);
        match &self.magnitude {
            Some(m) => m.merge(&self.how, add, into)?,
            None => add(self.how.scale, into),
        }
        Ok(())
    }
    fn factors(&self) -> Option<Factors<'_>> {
        let is_plain = self.gate.is_none() && self.magnitude.is_none() && self.first.is_none();
        is_plain.then(|| Factors { a: self.a.tensor(), b: self.b.tensor(), how: &self.how })
    }
}
/// Why AdapterHub's DoRA has no place in PEFT's files.
pub(super) fn not_pefts() -> Error {
    Error::Config("PEFT's format has no DoRA as AdapterHub computes it: see `as_peft`".into())
}
/// Why a gated module cannot be merged.
pub(super) fn gated() -> Error {
    Error::Config("its gate differs from sequence to sequence".into())
}
/// W + s B A, for (inputs, outputs of a part, rank).
pub(super) fn add(
    s: f32,
    parts: &[usize],
    [a, b]: [&[f32]; 2],
    (input, width, r): (usize, usize, usize),
    into: &mut Dense,
) {
    let mut row = vec![0f64; input];
    for (g, part) in parts.iter().enumerate() {
        for o in 0..width {
            row.fill(0.0);
            for k in 0..r {
                let factor = f64::from(s) * f64::from(b[(g * width + o) * r + k]);
                let a = &a[(g * r + k) * input..][..input];
                row.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * f64::from(*a));
            }
            let to = &mut into.w[(part * width + o) * input..][..input];
            to.iter_mut().zip(&row).for_each(|(w, sum)| *w += *sum as f32);
        }
    }
}
impl<P: Weight> Module for Lora<P> {
    fn view(&self) -> View<'_> {
        View::Linear(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        f("lora_A".into(), self.a.tensor());
        f("lora_B".into(), self.b.tensor());
        self.first.iter().flatten().zip(["first.lora_A", "first.lora_B"]).for_each(|(w, name)| {
            f(name.into(), w.tensor());
        });
        self.gate.iter().for_each(|g| g.each(&mut |name, w| f(name, w.tensor())));
        self.magnitude.iter().for_each(|m| f("m.weight".into(), m.tensor()));
    }
    fn adapterhub(&self) -> Result<Vec<(String, TensorData<'_>)>> {
        let mut all = vec![];
        self.each(&mut |name, t| all.push((name, t)));
        let ([a, b], (input, width, _), r) = (self.whole()?, self.dims(), self.saved_rank());
        let n = self.how.parts.len();
        let own = [
            ("lora_A".to_string(), TensorData::f32(&a, &[n * r, input])),
            ("lora_B".to_string(), TensorData::f32(&b, &[n * width, r])),
        ];
        let rest = all.into_iter().filter(|(name, _)| !name.contains("lora_"));
        let rest = rest.map(|(name, t)| Ok((name, TensorData::f32(&t.to_f32()?, t.shape()))));
        own.into_iter().map(Ok).chain(rest).collect()
    }
    /// The parts of a fused layer side by side: the As stacked, the Bs as blocks of a matrix (out,
    /// n r).
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        if self.gate.is_some() {
            return Err(Error::Config("PEFT's format has no gates".into()));
        }
        let ((input, width, _), r, n) = (self.dims(), self.saved_rank(), self.how.parts.len());
        let [a, b] = self.whole()?;
        let mut blocks = vec![0f32; self.how.of * width * n * r];
        for (g, part) in self.how.parts.iter().enumerate() {
            for o in 0..width {
                let to = (part * width + o) * n * r + g * r;
                blocks[to..to + r].copy_from_slice(&b[(g * width + o) * r..][..r]);
            }
        }
        let mut all = vec![
            ("lora_A.weight", TensorData::f32(&a, &[n * r, input])),
            ("lora_B.weight", TensorData::f32(&blocks, &[self.how.of * width, n * r])),
        ];
        if let Some(m) = &self.magnitude {
            if m.of() == Dora::AdapterHub {
                return Err(not_pefts());
            }
            all.push(("lora_magnitude_vector", TensorData::f32(&m.tensor().to_f32()?, m.tensor().shape())));
        }
        Ok(all)
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Lora { a, b, how, first, gate, magnitude } = *self;
        let (gate, magnitude) = (gate.map(Gate::freeze), magnitude.map(Magnitude::freeze));
        Box::new(Lora { a: a.freeze(), b: b.freeze(), how, first, gate, magnitude })
    }
}
impl<P: Weight> Parameters for Lora<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.a.visit(f);
        self.b.visit(f);
        self.gate.iter().for_each(|g| g.visit(f));
        self.magnitude.iter().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.a.visit_mut(f);
        self.b.visit_mut(f);
        self.gate.iter_mut().for_each(|g| g.visit_mut(f));
        self.magnitude.iter_mut().for_each(|m| m.visit_mut(f));
    }
}
