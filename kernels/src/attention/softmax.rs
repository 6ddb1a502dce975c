//! The row sweeps of attention: scores to exponentials, and back. Rows of scores are whole vectors
//! long; what a query does not see, and what lies behind the last key, becomes zeros.
use super::{Mask, Span};
use crate::{
    dropout::{Dropout, Row},
    simd::{F32s, Simd, math, simd},
};
use std::ops::Range;

/// What the queries of a block see of a range of keys.
#[derive(Clone, Copy)]
pub(super) struct VisibleKeys {
    /// The position of the first query.
    position: usize,
    /// Positions in front of a query's own and behind it that it sees.
    reach: (usize, usize),
    /// The first keys, which all queries see.
    free: usize,
    /// The number of the first key of the range, and its keys.
    first: usize,
    n: usize,
}
impl VisibleKeys {
    /// All queries and all keys of a span.
    pub(super) fn of_span(s: &Span, mask: Mask) -> VisibleKeys {
        VisibleKeys { position: s.position, reach: mask.reach(), free: s.free, first: 0, n: s.keys() }
    }
    /// The queries from the i-th on, and some of the keys: from the first on if
    /// there are free ones.
    pub(super) fn part(self, i: usize, keys: &Range<usize>) -> VisibleKeys {
        VisibleKeys { position: self.position.saturating_add(i), first: keys.start, n: keys.len(), ..self }
    }
    /// Whether each of so many queries sees every key of the range.
    fn is_whole(&self, rows: usize) -> bool {
        let whole = [0..0, 0..self.n];
        // what is seen begins and ends later from query to query
        rows == 0 || (self.of(0) == whole && self.of(rows - 1) == whole)
    }
    /// What the i-th query sees, as places in the range: free keys, and those that the mask lets
    /// through. The first is empty if the second goes on where it ends, or reaches into it.
    #[inline(always)]
    pub(super) fn of(&self, i: usize) -> [Range<usize>; 2] {
        let at = self.position.saturating_add(i);
        let inside = |key: usize| key.saturating_sub(self.first).min(self.n);
        let free = inside(self.free);
        let (start, end) = (
            inside(at.saturating_sub(self.reach.0)),
            inside(at.saturating_add(self.reach.1).saturating_add(1)),
        );
        if start <= free { [0..0, 0..end.max(free)] } else { [0..free, start..end.max(start)] }
    }
}

/// Dropout on a block of probabilities: its first row, and the column of its first key.
#[derive(Clone, Copy)]
pub(super) struct Drop {
    pub dropout: Dropout,
    pub row: usize,
    pub col: u32,
}
impl Drop {
    /// The factors of the i-th row.
    #[inline(always)]
    fn of(&self, i: usize) -> Row {
        self.dropout.row(self.row + i).from(self.col)
    }
}

/// The last part of a row of scores that is seen: of whole vectors, where the row
/// has room for them.
#[inline(always)]
fn last_part<'a>(row: &'a mut [f32], seen: &Range<usize>, lanes: usize) -> &'a mut [f32] {
    let end = (seen.start + seen.len().next_multiple_of(lanes)).min(row.len());
    &mut row[seen.start..end]
}
/// Zeros in a row of scores where nothing is seen, but where [`last_part`] reaches.
#[inline(always)]
fn clear(row: &mut [f32], [free, own]: &[Range<usize>; 2], lanes: usize) {
    let behind = (own.start + own.len().next_multiple_of(lanes)).clamp(free.end, row.len());
    // mostly there is nothing to clear, and even that would be a call
    if free.end < own.start {
        row[free.end..own.start].fill(0.0);
    }
    if behind < row.len() {
        row[behind..].fill(0.0);
    }
}

simd! {
    /// Rows of raw scores x, `stride` apart, of whole vectors that hold the keys of `visible`,
    /// become exp(scale x - top), top the largest that is seen, dropped out; `tops` and `sums`, one
    /// number for each row: top, and the sum before dropout.
    pub(super) fn softmax<S>(s, x: &mut [f32], stride: usize, visible: VisibleKeys, scale: f32, drop: Option<Drop>,
        tops: &mut [f32], sums: &mut [f32]) {
        let (n, width) = (visible.n, visible.n.next_multiple_of(S::V::LANES));
        if visible.is_whole(tops.len()) {
            for (i, (top, sum)) in tops.iter_mut().zip(sums).enumerate() {
                let row = &mut x[i * stride..][..width];
                *top = math::largest(s, &row[..n], scale);
                *sum = match drop {
                    None => exponentials(s, row, n, scale, *top, None),
                    Some(d) => exponentials(s, row, n, scale, *top, Some(d.of(i))),
                };
            }
            return;
        }
        for (i, (top, sum)) in tops.iter_mut().zip(sums).enumerate() {
            let row = &mut x[i * stride..][..width];
            let [free, own] = visible.of(i);
            let drop = drop.map(|d| d.of(i));
            *top = math::largest(s, &row[own.clone()], scale);
            *sum = 0.0;
            if !free.is_empty() {
                *top = top.max(math::largest(s, &row[free.clone()], scale));
                *sum = exponentials(s, &mut row[free.clone()], free.len(), scale, *top, drop);
            }
            let first = drop.map(|d| d.after(own.start));
            *sum += match first {
                None => exponentials(s, last_part(row, &own, S::V::LANES), own.len(), scale, *top, None),
                Some(d) => exponentials(s, last_part(row, &own, S::V::LANES), own.len(), scale, *top, Some(d)),
            };
            clear(row, &[free, own], S::V::LANES);
        }
    }
}

/// What is left of a row behind its whole vectors: another whole one, but at the end of a row.
#[inline(always)]
fn load_end<S: Simd>(s: S, x: &[f32]) -> S::V {
    if x.len() == S::V::LANES { s.load(x) } else { s.load_part(x) }
}
#[inline(always)]
fn store_end<V: F32s>(v: V, x: &mut [f32]) {
    if x.len() == V::LANES { v.store(x) } else { v.store_part(x) }
}

/// The first `n` values x = exp(scale x - top), dropped out, and the sum before that;
/// zeros behind them.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], n: usize, scale: f32, top: f32, drop: Option<Row>) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(-top));
    let (whole, end) = x.split_at_mut(n / l * l);
    let mut sum = s.splat(0.0);
    for (j, x) in whole.chunks_exact_mut(l).enumerate() {
        let e = math::exp(s.load(x).fma(scale, low));
        sum = sum + e;
        match drop {
            None => e.store(x),
            Some(f) => (e * f.at(s, j * l)).store(x),
        }
    }
    if !end.is_empty() {
        let e = math::exp(load_end(s, end).fma(scale, low)).first(n % l);
        sum = sum + e;
        match drop {
            None => store_end(e, end),
            Some(f) => store_end(e * f.at(s, n / l * l), end),
        }
    }
    sum.sum()
}

simd! {
    /// Rows of raw scores x and of d = dO Vᵀ, as [`softmax`] takes them. The scores become
    /// probabilities P = exp(scale x - lse), dropped out; d becomes the gradient of the raw scores:
    /// scale · P ∘ (dP - rowsum(P ∘ dP)), dP = d dropped out.
    pub(super) fn softmax_backward<S>(s, x: &mut [f32], d: &mut [f32], stride: usize, visible: VisibleKeys, scale: f32,
        drop: Option<Drop>, lse: &[f32]) {
        let (n, width) = (visible.n, visible.n.next_multiple_of(S::V::LANES));
        let is_whole = visible.is_whole(lse.len());
        for (i, lse) in lse.iter().enumerate() {
            let (x, d) = (&mut x[i * stride..][..width], &mut d[i * stride..][..width]);
            let how = (scale, *lse);
            let sum = match (is_whole, drop) {
                (true, None) => probabilities(s, x, d, n, how, None),
                (true, Some(drop)) => probabilities(s, x, d, n, how, Some(drop.of(i))),
                (false, _) => seen_probabilities(s, x, d, visible.of(i), how, drop.map(|d| d.of(i))),
            };
            to_gradients(s, x, d, scale, sum, drop);
        }
    }
}
/// The same as [`probabilities`] of what is seen, and zeros elsewhere.
#[inline(always)]
fn seen_probabilities<S: Simd>(
    s: S,
    x: &mut [f32],
    d: &[f32],
    [free, own]: [Range<usize>; 2],
    how: (f32, f32),
    row: Option<Row>,
) -> f32 {
    let l = S::V::LANES;
    let mut sum = 0.0;
    if !free.is_empty() {
        sum = probabilities(s, &mut x[free.clone()], &d[free.clone()], free.len(), how, row);
    }
    let part = last_part(x, &own, l);
    let of_d = &d[own.start..][..part.len()];
    sum += probabilities(s, part, of_d, own.len(), how, row.map(|row| row.after(own.start)));
    clear(x, &[free, own], l);
    sum
}
/// A row of probabilities as [`probabilities`] leaves them, which become what they are dropped out,
/// and of d, which becomes the gradient of the raw scores.
#[inline(always)]
fn to_gradients<S: Simd>(s: S, x: &mut [f32], d: &mut [f32], scale: f32, sum: f32, drop: Option<Drop>) {
    let (l, zero) = (S::V::LANES, s.splat(0.0));
    let Some(drop) = drop else {
        let low = s.splat(-scale * sum);
        for (x, d) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)) {
            (s.load(x) * s.load(d).fma(s.splat(scale), low)).store(d);
        }
        return;
    };
    let low = s.splat(-scale * sum * (1.0 - drop.dropout.p()));
    for (x, d) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)) {
        let signed = s.load(x);
        let p = zero.max(signed);
        p.fma(s.load(d) * scale, signed.abs() * low).store(d);
        p.store(x);
    }
}
/// The first `n` values x become P = exp(scale x - lse); with dropout P / (1 - p), its sign that of
/// what is dropped; zeros behind them. Returns the sum of the products of P, dropped out, and d.
#[inline(always)]
fn probabilities<S: Simd>(
    s: S,
    x: &mut [f32],
    d: &[f32],
    n: usize,
    (scale, lse): (f32, f32),
    drop: Option<Row>,
) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(-lse));
    let mut sum = s.splat(0.0);
    let (whole, end) = x.split_at_mut(n / l * l);
    let (d, d_end) = d.split_at(n / l * l);
    let dropped = |p: S::V| if drop.is_some() { s.splat(0.0).max(p) } else { p };
    for (j, (x, d)) in whole.chunks_exact_mut(l).zip(d.chunks_exact(l)).enumerate() {
        let mut p = math::exp(s.load(x).fma(scale, low));
        if let Some(f) = drop {
            p = p * f.signed(s, j * l);
        }
        p.store(x);
        sum = dropped(p).fma(s.load(d), sum);
    }
    if !end.is_empty() {
        let mut p = math::exp(load_end(s, end).fma(scale, low)).first(n % l);
        if let Some(f) = drop {
            p = p * f.signed(s, n / l * l);
        }
        store_end(p, end);
        sum = dropped(p).fma(load_end(s, d_end), sum);
    }
    sum.sum()
}

simd! {
    /// Rows of raw scores x, `stride` apart and `n` long, become scale x + b; the bias of the first
    /// value of row i is `bias[first - i]`.
    pub(super) fn add_bias<S>(s, x: &mut [f32], stride: usize, rows: usize, n: usize, scale: f32, bias: &[f32],
        first: usize) {
        let l = S::V::LANES;
        for i in 0..rows {
            let (x, b) = (&mut x[i * stride..][..n], &bias[first - i..][..n]);
            for (x, b) in x.chunks_mut(l).zip(b.chunks(l)) {
                s.load_part(x).fma(s.splat(scale), s.load_part(b)).store_part(x);
            }
        }
    }
}
simd! {
    /// Rows of gradients d of biased scores, as [`add_bias`] takes them, are added to the gradient
    /// of the bias; then they are multiplied by `scale`.
    pub(super) fn add_to_bias<S>(s, d: &mut [f32], stride: usize, rows: usize, n: usize, scale: f32,
        gradient: &mut [f32], first: usize) {
        let l = S::V::LANES;
        for i in 0..rows {
            let (d, g) = (&mut d[i * stride..][..n], &mut gradient[first - i..][..n]);
            for (d, g) in d.chunks_mut(l).zip(g.chunks_mut(l)) {
                let x = s.load_part(d);
                (s.load_part(g) + x).store_part(g);
                (x * scale).store_part(d);
            }
        }
    }
}
