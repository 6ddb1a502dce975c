//! Mixtures in bottleneck space.
//!
//! Behind its bottleneck an adapter is linear: U_i = s (W_u a_i + b_u). With â = [a, 1] and Û_i = s
//! [W_u | b_u], (C, B + 1), it is Û_i â_i, and a mixture is Σ p_i Û_i â_i = [Û_1 | Û_2 | ..] [p_1
//! â_1; p_2 â_2; ..]. So what a token costs is narrow: nothing of size C² is left, and what is
//! needed of the weights is multiplied out once for all tokens.
use super::{
    Child, Mixture,
    matrices::{constant, ones, unit},
};
use crate::{Scale, Up};
use engraft_engine::{self as engine, Act, Cx, LinearRef, W};
use std::sync::Arc;

/// Adapters in bottleneck space.
pub(super) struct Space {
    /// Û_iᵀ, one below the other: (R, C), R = Σ (B_i + 1).
    pub up: Act,
    /// 1 in the row of each bias, 0 elsewhere: (R, 1).
    pub biases: Act,
    /// â_i side by side: (T, R).
    pub a: Act,
    /// B_i + 1.
    pub widths: Arc<[usize]>,
}
/// These columns of x, (T, n), one beside the other.
pub(super) fn columns<'m>(cx: &mut Cx<'m>, x: &Act, which: &[usize]) -> engine::Result<Act> {
    if which.iter().copied().eq(0..x.cols()) {
        return Ok(x.clone());
    }
    let mut own = vec![];
    for i in which {
        own.push(cx.take_columns(x, *i..*i + 1)?);
    }
    cx.join_columns(&own.iter().collect::<Vec<_>>())
}
/// s x for every row.
pub(super) fn scaled<'m>(cx: &mut Cx<'m>, x: Act, by: Scale<'m>) -> engine::Result<Act> {
    match by {
        Scale::Fixed(1.0) => Ok(x),
        Scale::Fixed(s) => cx.scale(x, s),
        Scale::Row(w) => cx.mul_row(&x, w),
    }
}
/// Û_iᵀ: (B + 1, C).
fn way_up<'m>(cx: &mut Cx<'m>, Up { layer, scaling }: Up<'m>) -> engine::Result<Act> {
    let (b, _) = layer.dims();
    let unit = constant(cx, &unit(b + 1, b), b)?;
    let y = cx.matmul(&unit, LinearRef { b: None, ..layer.clone() })?;
    let y = match layer.b {
        Some(bias) => {
            let mut last = vec![0f32; b + 1];
            last[b] = 1.0;
            let last = constant(cx, &last, 1)?;
            cx.matmul_plus(&last, LinearRef { w: bias, b: None, in_out: true }, &y)?
        }
        None => y,
    };
    scaled(cx, y, scaling)
}
impl Space {
    pub fn of<'m>(cx: &mut Cx<'m>, children: &[Child<'m>]) -> engine::Result<Space> {
        let (mut ups, mut a, mut biases) = (vec![], vec![], vec![]);
        let Some(first) = children.first() else {
            return Err(engine::Error::Shape { op: "fusion", left: vec![0], right: vec![1] });
        };
        let one = ones(cx, &first.a)?;
        for child in children {
            ups.push(way_up(cx, child.up.clone())?);
            biases.extend((0..child.a.cols()).map(|_| 0f32).chain([1.0]));
            a.extend([&child.a, &one]);
        }
        let places: Vec<[usize; 1]> = (0..ups.len()).map(|i| [i]).collect();
        let parts: Vec<(&Act, &[usize])> = ups.iter().zip(&places).map(|(u, i)| (u, i.as_slice())).collect();
        let up = if let [one] = ups.as_slice() { one.clone() } else { cx.merge_sequences(&parts)? };
        let widths = children.iter().map(|c| c.a.cols() + 1).collect();
        Ok(Space { up, biases: constant(cx, &biases, 1)?, a: cx.join_columns(&a)?, widths })
    }
    /// Σ p_i V Û_i â_i; p (T, members), V (C, C) if there is one.
    pub fn mix<'m>(&self, cx: &mut Cx<'m>, shares: &Act, value: Option<W<'m>>) -> engine::Result<Mixture> {
        let up = match value {
            Some(w) => cx.matmul(&self.up, LinearRef { w, b: None, in_out: false })?,
            None => self.up.clone(),
        };
        Ok(Mixture::Narrow { a: cx.spread(&self.a, shares, &self.widths)?, up })
    }
}
