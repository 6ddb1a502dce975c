//! Matrices that are computed with like weights.
use engraft_engine::{self as engine, Act, Cx, LinearRef, W, pack};

/// Numbers that nothing stands behind, (rows, cols).
pub(super) fn constant(cx: &mut Cx<'_>, values: &[f32], cols: usize) -> engine::Result<Act> {
    let buf = cx.device().upload(engine::Class::Scratch, values)?;
    Act::new(buf, cols, pack([values.len() / cols.max(1)]))
}
/// Another activation's rows, each of them 1.
pub(super) fn ones(cx: &mut Cx<'_>, like: &Act) -> engine::Result<Act> {
    let buf = cx.device().upload(engine::Class::Scratch, &vec![1f32; like.rows()])?;
    Act::new(buf, 1, like.seqs().clone())
}
/// The unit matrix, with rows of zeros below: (rows, cols).
pub(super) fn unit(rows: usize, cols: usize) -> Vec<f32> {
    let mut unit = vec![0f32; rows * cols];
    (0..rows.min(cols)).for_each(|i| unit[i * (cols + 1)] = 1.0);
    unit
}
/// An activation as the weight of a linear layer.
pub(super) fn computed(x: &Act, in_out: bool) -> LinearRef<'static> {
    LinearRef { w: W::Computed(x.clone()), b: None, in_out }
}
