//! The module of a LoRA, whoever describes it: a product of two narrow matrices beside a linear layer (see [`super::lora`]).
use crate::{AtLinear, Factors, Here, Inner, Module, Result, View};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, LinearRef, LowRank, Param, Parameters, Role, Source, Tensor,
    Weight, checkpoint::TensorData,
};
use serde::{Deserialize, Serialize};

/// Ranks beyond this come from a damaged file.
pub(super) const MOST: usize = 1 << 16;

/// How new weights start (`init_weights`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraStart {
    /// A uniform as PyTorch's linear layers, B zero.
    Lora,
    /// Both N(0, 0.02²).
    Bert,
}
impl LoraStart {
    /// (A, B).
    pub(super) fn of(self) -> (Init, Init) {
        match self {
            LoraStart::Lora => (Init::KaimingUniform, Init::Constant(0.0)),
            LoraStart::Bert => (Init::Normal(0.02), Init::Normal(0.02)),
        }
    }
}

/// α / r, or α / √r.
pub(super) fn scale(alpha: f64, r: usize, rslora: bool) -> f64 {
    alpha / if rslora { (r as f64).sqrt() } else { r as f64 }
}

/// What AdapterHub's checkpoints call the modules.
pub(super) const COLLECTION: &str = "loras";

/// A rank-r product beside a linear layer of `input` to `output` channels.
pub(super) fn build(
    trains: bool,
    how: LowRank,
    shape: (usize, usize, usize),
    names: [String; 2],
    start: LoraStart,
    from: &mut Source<'_, '_>,
) -> Result<Vec<Box<dyn Module>>> {
    Ok(vec![match trains {
        true => Box::new(Lora::<Param>::build(how, shape, &names, start, from)?),
        false => Box::new(Lora::<Frozen>::build(how, shape, &names, start, from)?),
    }])
}

/// A LoRA at a linear layer.
#[derive(Debug)]
pub struct Lora<P: Weight> {
    a: P,
    b: P,
    how: LowRank,
}
impl<P: Weight> Lora<P> {
    fn build(
        how: LowRank,
        (input, output, r): (usize, usize, usize),
        [a, b]: &[String; 2],
        start: LoraStart,
        from: &mut Source<'_, '_>,
    ) -> Result<Lora<P>> {
        let (n, width, init) = (how.parts.len(), output / how.of, start.of());
        Ok(Lora {
            a: from.get(a, &[n * r, input], Role::WEIGHT, init.0)?,
            b: from.get(b, &[n * width, r], Role::WEIGHT, init.1)?,
            how,
        })
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
        _: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let y = inner(cx, x)?;
        cx.low_rank(here.site, x, [self.a.get(), self.b.get()], &self.how, y)
    }
    fn delta(&self) -> Result<Vec<f32>> {
        let (input, width, r) = self.dims();
        let (a, b) = (self.a.tensor().to_f32()?, self.b.tensor().to_f32()?);
        let mut delta = vec![0f32; self.how.of * width * input];
        let mut row = vec![0f64; input];
        for (g, part) in self.how.parts.iter().enumerate() {
            for o in 0..width {
                row.fill(0.0);
                for k in 0..r {
                    let factor = f64::from(self.how.scale) * f64::from(b[(g * width + o) * r + k]);
                    let a = &a[(g * r + k) * input..][..input];
                    row.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * f64::from(*a));
                }
                let to = &mut delta[(part * width + o) * input..][..input];
                to.iter_mut().zip(&row).for_each(|(to, sum)| *to = *sum as f32);
            }
        }
        Ok(delta)
    }
    fn factors(&self) -> Option<Factors<'_>> {
        Some(Factors { a: self.a.tensor(), b: self.b.tensor(), how: &self.how })
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
    }
    /// The parts of a fused layer side by side: the As stacked, the Bs as blocks of a matrix (out, n r).
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        let ((input, width, r), n) = (self.dims(), self.how.parts.len());
        let b = self.b.tensor().to_f32()?;
        let mut blocks = vec![0f32; self.how.of * width * n * r];
        for (g, part) in self.how.parts.iter().enumerate() {
            for o in 0..width {
                let to = (part * width + o) * n * r + g * r;
                blocks[to..to + r].copy_from_slice(&b[(g * width + o) * r..][..r]);
            }
        }
        Ok(vec![
            ("lora_A.weight", TensorData::f32(&self.a.tensor().to_f32()?, &[n * r, input])),
            ("lora_B.weight", TensorData::f32(&blocks, &[self.how.of * width, n * r])),
        ])
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Lora { a, b, how } = *self;
        Box::new(Lora { a: a.freeze(), b: b.freeze(), how })
    }
}
impl<P: Weight> Parameters for Lora<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.a.visit(f);
        self.b.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.a.visit_mut(f);
        self.b.visit_mut(f);
    }
}
