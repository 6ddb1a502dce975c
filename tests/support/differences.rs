//! Central differences of a forward pass in double precision, to compare an operation's gradients
//! with.
//!
//! An operation is a function of tensors, all of them alike: an input is a table whose rows are
//! looked up in order, so that its gradient can be read like that of a weight. The reference is
//! plain loops over f64.
use super::{cpu, noise, relative};
use engraft_engine::*;
use std::sync::Arc;

const TOLERANCE: f64 = 1e-5;

/// A tensor that an operation reads: its shape, its values, and whether it trains.
pub struct Leaf {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    pub trains: bool,
}
pub fn leaf(seed: u64, shape: &[usize]) -> Leaf {
    Leaf { shape: shape.into(), values: noise(seed, shape.iter().product()), trains: true }
}
pub fn frozen(seed: u64, shape: &[usize]) -> Leaf {
    Leaf { trains: false, ..leaf(seed, shape) }
}
pub fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|x| f64::from(*x)).collect()
}
pub fn narrow(v: &[f64]) -> Vec<f32> {
    v.iter().map(|x| *x as f32).collect()
}

/// The activation whose rows are those of a tensor.
pub fn input<'m>(cx: &mut Cx<'m>, w: W<'m>, seqs: &Arc<[Seq]>) -> Act {
    let index: Vec<u32> = (0..w.shape()[0] as u32).collect();
    cx.embed(&[(w, &index)], seqs.clone()).unwrap()
}
/// The derivative of Σ f · cot with respect to every number of every tensor.
fn differences(leaves: &[Leaf], f: &dyn Fn(&[Vec<f64>]) -> Vec<f64>, cot: &[f32]) -> Vec<Vec<f64>> {
    let mut x: Vec<Vec<f64>> = leaves.iter().map(|l| wide(&l.values)).collect();
    let objective = |x: &[Vec<f64>]| f(x).iter().zip(cot).map(|(y, c)| y * f64::from(*c)).sum::<f64>();
    let h = 1e-5;
    let mut all = vec![];
    for i in 0..x.len() {
        let mut d = vec![];
        for j in 0..x[i].len() {
            let at = x[i][j];
            x[i][j] = at + h;
            let above = objective(&x);
            x[i][j] = at - h;
            let below = objective(&x);
            x[i][j] = at;
            d.push((above - below) / (2.0 * h));
        }
        all.push(d);
    }
    all
}
pub fn agree(what: &str, got: &[f32], want: &[f64]) -> Result<(), String> {
    // an exact zero (a score in a softmax over one key) has no scale of its own
    let top = want.iter().fold(0f64, |m, x| m.max(x.abs()));
    let e = if top < 1e-8 {
        got.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())))
    } else {
        relative(got, &narrow(want))
    };
    if e < TOLERANCE { Ok(()) } else { Err(format!("{what}: {e:.1e}\n{got:?}\n{want:?}")) }
}

/// Compares an operation's values and all its gradients with the reference.
pub fn check(
    what: &str,
    pass: Pass,
    leaves: &[Leaf],
    op: impl for<'m> Fn(&mut Cx<'m>, &[W<'m>]) -> Act,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    enum LeafWeight {
        Frozen(Frozen),
        Param(Param),
    }
    let (device, mut set) = (cpu(), ParamSet::new());
    let stored: Vec<LeafWeight> = leaves
        .iter()
        .map(|l| {
            let t = Tensor::new(device.upload(Class::Scratch, &l.values).unwrap(), &l.shape).unwrap();
            match l.trains {
                true => LeafWeight::Param(set.param("leaf", t, Role::WEIGHT).unwrap()),
                false => LeafWeight::Frozen(Frozen::new(t)),
            }
        })
        .collect();
    let borrowed: Vec<W<'_>> = stored
        .iter()
        .map(|s| match s {
            LeafWeight::Frozen(w) => w.get(),
            LeafWeight::Param(w) => w.get(),
        })
        .collect();

    let mut cx = Cx::new(&device, &Plain, pass);
    let y = op(&mut cx, &borrowed);
    let got = y.read().unwrap();
    let want = reference(&leaves.iter().map(|l| wide(&l.values)).collect::<Vec<_>>());
    agree(&format!("{what}: values"), &got, &want).unwrap_or_else(|e| panic!("{e}"));

    let cot = noise(99, got.len());
    let dy = device.upload(Class::Scratch, &cot).unwrap();
    let mut g = Gradients::new();
    cx.backward(&y, dy, &mut g).unwrap();
    assert_eq!(g.len(), leaves.iter().filter(|l| l.trains).count(), "{what}: gradients");
    let want = differences(leaves, &reference, &cot);
    for (i, (s, want)) in stored.iter().zip(&want).enumerate() {
        if let LeafWeight::Param(p) = s {
            let got = g.get(p).unwrap_or_else(|| panic!("{what}: no gradient for tensor {i}"));
            let got = got.read::<f32>().unwrap();
            agree(&format!("{what}: gradient of tensor {i}"), &got, want).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}
