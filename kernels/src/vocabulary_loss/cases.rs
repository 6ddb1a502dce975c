//! The shapes on which the loss is checked and timed.
use super::*;
use crate::{
    Case, Isa, PreparedCase, Storage,
    case::{kept, noise, store, wide},
    profile::{Profile, Roofline},
    storage::Scales,
};

/// Rows, outputs, inputs.
type Shape = [usize; 3];

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Loss,
    LossAndDx,
    Layer,
}

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    let plain = Kind {
        shape: [0; 3],
        what: What::Loss,
        storage: Storage::F32,
        bias: false,
        integers: false,
        smoothing: 0.0,
    };
    for shape in
        [[0, 3, 5], [1, 1, 1], [3, 2, 1], [5, 7, 0], [7, 33, 17], [4, BLOCK + 1, 9], [33, 2 * BLOCK + 70, 65]]
    {
        for what in [What::Loss, What::LossAndDx, What::Layer] {
            v.extend([false, true].map(|bias| Kind { shape, what, bias, ..plain }.case(false)));
        }
    }
    for what in [What::Loss, What::LossAndDx, What::Layer] {
        for shape in [[3, 2, 2], [5, 7, 4], [33, 2 * BLOCK + 70, 65]] {
            v.push(Kind { shape, what, bias: true, smoothing: 0.1, ..plain }.case(false));
        }
    }
    let some = Kind { shape: [9, BLOCK + 300, 70], what: What::LossAndDx, bias: true, ..plain };
    v.extend(Storage::ALL.map(|storage| Kind { storage, ..some }.case(false)));
    v.push(Kind { storage: Storage::Int8, what: What::Layer, ..some }.case(false));
    v.push(Kind { storage: Storage::Int8, integers: true, ..some }.case(false));
    v.push(Kind { storage: Storage::Nf4, smoothing: 0.3, ..some }.case(false));
    let large = Kind { shape: [512, 8192, 768], ..plain };
    v.extend([What::Loss, What::LossAndDx, What::Layer].map(|what| Kind { what, ..large }.case(true)));
    let large = Kind { what: What::LossAndDx, ..large };
    v.push(Kind { storage: Storage::Bf16, ..large }.case(true));
    v.push(Kind { storage: Storage::Int8, integers: true, ..large }.case(true));
    v
}

/// x, W (of a spread that gives logits of a few units), b and labels.
fn inputs([rows, outputs, cols]: Shape) -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<u32>) {
    let spread = 2.0 / (cols.max(1) as f32).sqrt();
    let w = noise(2, outputs * cols).iter().map(|w| w * spread).collect();
    let label = |i: usize| (i * 7919 % outputs) as u32;
    (noise(1, rows * cols), w, noise(3, outputs), (0..rows).map(label).collect())
}
const DLOSS: f32 = 0.7;

/// One launch on a device: what it reads.
struct Inputs {
    x: Buffer,
    w: Buffer,
    scales: Option<Scales>,
    bias: Option<Buffer>,
    labels: Buffer,
    lse: Buffer,
    dloss: Buffer,
    integers: bool,
    smoothing: f32,
    shape: Shape,
}
impl Inputs {
    /// W is given apart, because a timed one is large.
    fn new(d: &Device, c: &Kind, [x, w, bias]: [&[f32]; 3], labels: &[u32]) -> Result<Inputs> {
        let [rows, outputs, cols] = c.shape;
        let up = |v: &[f32]| d.upload(Class::Scratch, v);
        let (w, scales) = store(d, w, [outputs, cols], c.storage)?;
        let bias = if c.bias { Some(up(bias)?) } else { None };
        let mut inputs = Inputs {
            x: up(x)?,
            w,
            scales,
            bias,
            labels: d.upload(Class::Scratch, labels)?,
            lse: d.alloc::<f32>(Class::Scratch, rows)?,
            dloss: up(&[DLOSS])?,
            integers: c.integers,
            smoothing: c.smoothing,
            shape: c.shape,
        };
        if c.what == What::Layer {
            let (mut lse, mut losses) = (up(&vec![0.0; rows])?, up(&vec![0.0; rows])?);
            let out = Outputs { losses: &mut losses, hits: None, lse: Some(&mut lse), dx: None };
            forward(d, View::of(&inputs.x, rows, cols)?, inputs.labels(), inputs.layer(), out)?;
            inputs.lse = lse;
        }
        Ok(inputs)
    }
    fn labels(&self) -> Labels<'_> {
        Labels { of: &self.labels, smoothing: self.smoothing }
    }
    fn layer(&self) -> Layer<'_> {
        let [_, outputs, cols] = self.shape;
        let w = Matrix::stored(&self.w, self.scales.as_ref(), outputs, cols);
        let (integer_logits, integer_dx) = (self.integers, self.integers);
        Layer { w, bias: self.bias.as_ref(), integer_logits, integer_dx }
    }
    fn launch(&self, d: &Device, what: What, y: &mut [Buffer]) -> Result<()> {
        let [rows, outputs, cols] = self.shape;
        let x = View::of(&self.x, rows, cols)?;
        match (what, y) {
            (What::Layer, [dw, db]) => {
                // the one is set, the other added to
                let (dw, db) = (ViewMut::of(dw, outputs, cols)?, ViewMut::row(db));
                let to = Gradients { dw: Some((dw, false)), db: Some((db, true)) };
                backward(d, x, self.labels(), self.layer(), &self.lse, &self.dloss, to)
            }
            (_, [losses, dx @ ..]) => {
                let dx = dx.first_mut().map(|dx| ViewMut::of(dx, rows, cols)).transpose()?;
                forward(d, x, self.labels(), self.layer(), Outputs { losses, hits: None, lse: None, dx })
            }
            _ => unreachable!("a launch has outputs"),
        }
    }
}

/// A case, in short.
#[derive(Clone, Copy)]
struct Kind {
    shape: Shape,
    what: What,
    storage: Storage,
    bias: bool,
    integers: bool,
    smoothing: f32,
}
impl Kind {
    fn outputs(&self, d: &Device) -> Result<Vec<Buffer>> {
        let [rows, outputs, cols] = self.shape;
        let alloc = |n: usize| d.alloc::<f32>(Class::Scratch, n);
        Ok(match self.what {
            What::Loss => vec![alloc(rows)?],
            What::LossAndDx => vec![alloc(rows)?, alloc(rows * cols)?],
            What::Layer => vec![alloc(outputs * cols)?, d.upload(Class::Scratch, &vec![1f32; outputs])?],
        })
    }
    /// What the launch and the products in it cost, as the Null device records it.
    fn cost(&self) -> Cost {
        let [rows, outputs, cols] = self.shape;
        let record = || -> Result<Option<Profile>> {
            let (d, none) = (Device::null(1), |n: usize| vec![0f32; n]);
            let (x, w, bias) = (none(rows * cols), none(outputs * cols), none(outputs));
            let inputs = Inputs::new(&d, self, [&x, &w, &bias], &vec![0; rows])?;
            let mut y = self.outputs(&d)?;
            let (flops, integer, bytes) = (1.0, 1.0, 1.0);
            d.start_profile(Roofline { isa: Isa::Portable, threads: 1, flops, integer, bytes })?;
            inputs.launch(&d, self.what, &mut y)?;
            Ok(d.end_profile())
        };
        let events = record().ok().flatten().map_or(vec![], |p| p.events);
        events.iter().fold(Cost::default(), |sum, e| sum + e.cost)
    }
    fn case(self, timed: bool) -> Case {
        let Kind { shape, what, storage, bias, integers, smoothing } = self;
        let cost = self.cost();
        let of = |is: bool, name: &'static str| if is { name } else { "" };
        let [rows, outputs, cols] = shape;
        Case {
            label: format!(
                "{what:?} {rows} of {outputs}x{cols} {storage}{}{}{}",
                of(bias, " + bias"),
                of(smoothing > 0.0, " smoothed"),
                of(integers, " in integers")
            ),
            // in integers x and the exponentials are rounded to 8 bits
            tolerance: if integers { 3e-2 } else { 3e-6 },
            flops: cost.flops,
            bytes: cost.bytes,
            timed,
            cuda: true,
            prepare: Box::new(move |d| {
                let (x, w, b, labels) = inputs(shape);
                let (inputs, d) = (Inputs::new(d, &self, [&x, &w, &b], &labels)?, d.clone());
                Ok(PreparedCase::new(self.outputs(&d)?, move |y| inputs.launch(&d, what, y)))
            }),
            reference: Box::new(move || {
                let (x, w, b, labels) = inputs(shape);
                let (w, b) = (kept(&w, [outputs, cols], storage), wide(&b));
                let [losses, dx, dw, db] = reference(
                    &wide(&x),
                    (&labels, smoothing.into()),
                    &w,
                    bias.then_some(&b[..]),
                    (outputs, cols),
                );
                match what {
                    What::Loss => losses,
                    What::LossAndDx => [losses, dx].concat(),
                    What::Layer => {
                        let dloss = f64::from(DLOSS);
                        let db = db.iter().map(|d| 1.0 + dloss * d);
                        dw.iter().map(|d| dloss * d).chain(db).collect()
                    }
                }
            }),
        }
    }
}
