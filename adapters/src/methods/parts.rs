//! Projections that stand side by side in the output of one linear layer, each for itself, and
//! trained numbers for columns.
use engraft_engine::{self as engine, Act, Cx, Storage, W};
use std::ops::Range;

/// y of `of` projections side by side, each as `f(cx, projection, its columns)` leaves it.
pub(super) fn on_parts<'m>(
    cx: &mut Cx<'m>,
    y: Act,
    of: usize,
    mut f: impl FnMut(&mut Cx<'m>, usize, Act) -> engine::Result<Act>,
) -> engine::Result<Act> {
    if of == 1 {
        return f(cx, 0, y);
    }
    let (width, mut all) = (y.cols() / of, vec![]);
    for projection in 0..of {
        let own = cx.take_columns(&y, projection * width..(projection + 1) * width)?;
        all.push(f(cx, projection, own)?);
    }
    cx.join_columns(&all.iter().collect::<Vec<_>>())
}
/// Which of the parts that are adapted a projection is, and its numbers among theirs, `width` for
/// each.
pub(super) fn own(parts: &[usize], projection: usize, width: usize) -> Option<(usize, Range<usize>)> {
    let i = parts.iter().position(|p| *p == projection)?;
    Some((i, i * width..(i + 1) * width))
}
/// Some of the numbers of a weight, in f32 and as a row.
pub(super) fn row<'m>(cx: &mut Cx<'m>, w: W<'m>, of: Range<usize>) -> engine::Result<W<'m>> {
    let n = w.elements();
    match of.len() == n && w.storage() == Storage::F32 {
        true => Ok(w),
        false => Ok(W::Computed(cx.part(&w, (1, n), [0..1, of])?)),
    }
}
