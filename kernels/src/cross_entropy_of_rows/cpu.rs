//! Examples in parallel, several small ones at once; exponentials in single precision, their sums
//! and the loss in double.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, PIECE, each_line},
    simd::{F32s, Level, math, parts, simd},
};
use std::ops::Range;

/// The rows of each example; an error unless they are all rows, and every target is one of its own.
fn examples(lengths: &[u32], targets: &[u32], rows: usize, columns: usize) -> Result<Vec<Range<usize>>> {
    let (mut end, mut all) = (0usize, vec![]);
    for (e, length) in lengths.iter().enumerate() {
        let (from, below) = (end, *length as usize);
        let own = targets[e * columns..][..columns].iter().filter(|t| **t != IGNORED).max();
        if let Some(got) = own.map(|t| *t as usize).filter(|t| *t >= below) {
            return Err(Error::Range { kernel: NAME, what: "row", got, below });
        }
        end = end.saturating_add(below);
        all.push(from..end);
    }
    match end == rows {
        true => Ok(all),
        false => Err(Error::Length { kernel: NAME, argument: "lengths", expected: rows, got: end }),
    }
}
pub(super) fn forward(
    d: &Cpu,
    z: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let (level, columns, stride) = (Level::current()?, z.cols(), probs.view().stride());
    let (lengths, targets) = (lengths.host::<u32>()?, targets.host::<u32>()?);
    let all = examples(lengths, targets, z.rows(), columns)?;
    let z = Lines::<f32>::of(z, Cut::Rows)?;
    // as many examples as are worth a task, with their part of the probabilities
    let (mut rest, mut groups, mut from) = (probs.host::<f32>()?, vec![], 0);
    while from < all.len() {
        let start = all[from].start;
        let worth = |e: &Range<usize>| (e.end - start) * columns >= PIECE;
        let to = all[from..].iter().position(worth).map_or(all.len(), |n| from + n + 1);
        let own = ((all[to - 1].end - start) * stride).min(rest.len());
        let (part, behind) = rest.split_at_mut(own);
        rest = behind;
        groups.push((from..to, part));
        from = to;
    }
    let mut losses = vec![0.0; groups.len()];
    parts(d, groups.into_iter().zip(&mut losses), |_, ((group, part), loss)| {
        let first = all[group.start].start;
        for e in group {
            let (rows, targets) = (all[e].clone(), &targets[e * columns..][..columns]);
            let part = part.get_mut((rows.start - first) * stride..).unwrap_or_default();
            *loss += example(level, rows, &z, targets, part, stride);
        }
    });
    loss.host_mut::<f32>()?[0] = (losses.iter().sum::<f64>() / share::<f64>(columns)) as f32;
    Ok(())
}
/// The sum over the columns of one example; `p` begins with its own row of probabilities.
fn example(
    level: Level,
    rows: Range<usize>,
    z: &Lines<'_, f32>,
    targets: &[u32],
    p: &mut [f32],
    stride: usize,
) -> f64 {
    let columns = targets.len();
    if rows.is_empty() || columns == 0 {
        return 0.0;
    }
    let mut tops = vec![f32::NEG_INFINITY; columns];
    for row in rows.clone() {
        tops.iter_mut().zip(z.at(row)).for_each(|(top, z)| *top = top.max(*z));
    }
    let p = &mut p[..(rows.len() - 1) * stride + columns];
    for (p, row) in p.chunks_mut(stride).zip(rows.clone()) {
        p.iter_mut().zip(z.at(row)).zip(&tops).for_each(|((p, z), top)| *p = z - top);
    }
    match stride == columns {
        true => exponentials(level, p),
        false => p.chunks_mut(stride).for_each(|p| exponentials(level, &mut p[..columns])),
    }
    let mut sums = vec![0f64; columns];
    for p in p.chunks(stride) {
        sums.iter_mut().zip(p).for_each(|(sum, p)| *sum += f64::from(*p));
    }
    for p in p.chunks_mut(stride) {
        for ((p, sum), target) in p.iter_mut().zip(&sums).zip(targets) {
            *p = if *target == IGNORED { 0.0 } else { *p * (1.0 / sum) as f32 };
        }
    }
    let loss = |(k, target): (usize, &u32)| match *target {
        IGNORED => 0.0,
        target => sums[k].ln() - f64::from(z.at(rows.start + target as usize)[k] - tops[k]),
    };
    targets.iter().enumerate().map(loss).sum()
}
simd! {
    /// exp of every value.
    fn exponentials<S>(s, x: &mut [f32]) {
        for x in x.chunks_mut(S::V::LANES) {
            math::exp(s.load_part(x)).store_part(x);
        }
    }
}
pub(super) fn backward(
    d: &Cpu,
    dloss: &Buffer,
    probs: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    mut dz: ViewMut<'_>,
) -> Result<()> {
    let (columns, stride) = (probs.cols(), dz.view().stride());
    let (lengths, targets) = (lengths.host::<u32>()?, targets.host::<u32>()?);
    let all = examples(lengths, targets, probs.rows(), columns)?;
    let by = dloss.host::<f32>()?[0] / share::<f32>(columns);
    let cut = Cut::of([probs.is_dense(), dz.view().is_dense()]);
    let p = Lines::<f32>::of(probs, cut)?;
    each_line(d, dz.reborrow(), cut, |i, dz: &mut [f32]| {
        dz.iter_mut().zip(p.at(i)).for_each(|(dz, p)| *dz = p * by);
    })?;
    let (p, dz) = (Lines::<f32>::of(probs, Cut::Rows)?, dz.host::<f32>()?);
    for (e, rows) in all.into_iter().enumerate() {
        for k in (0..columns).filter(|k| targets[e * columns + k] != IGNORED) {
            let row = rows.start + targets[e * columns + k] as usize;
            dz[row * stride + k] = (p.at(row)[k] - 1.0) * by;
        }
    }
    Ok(())
}
