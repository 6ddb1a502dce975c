//! Lines in parallel, in double precision.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, PIECE, each_line},
};

pub(super) fn forward(d: &Cpu, loss: Loss, z: View<'_>, targets: View<'_>, sum: &mut Buffer) -> Result<()> {
    let cut = Cut::of([z.is_dense(), targets.is_dense()]);
    let (lines, width) = match cut {
        Cut::Pieces => ((z.rows() * z.cols()).div_ceil(PIECE), PIECE),
        Cut::Rows => (z.rows(), z.cols()),
    };
    let by: f64 = loss.share(z.cols());
    let (z, targets) = (Lines::<f32>::of(z, cut)?, Lines::<f32>::of(targets, cut)?);
    let mut sums = vec![0f64; if width == 0 { 0 } else { lines }];
    d.rows(&mut sums, 1, (PIECE / width.max(1)).max(1), |first, sums| {
        for (i, sum) in sums.iter_mut().enumerate() {
            let pairs = z.at(first + i).iter().zip(targets.at(first + i));
            *sum = pairs.map(|(z, y)| loss.of(f64::from(*z), f64::from(*y))).sum();
        }
    });
    sum.host_mut::<f32>()?[0] = (by * sums.iter().sum::<f64>()) as f32;
    Ok(())
}
pub(super) fn backward(
    d: &Cpu,
    loss: Loss,
    dloss: &Buffer,
    z: View<'_>,
    targets: View<'_>,
    dz: ViewMut<'_>,
) -> Result<()> {
    let cut = Cut::of([z.is_dense(), targets.is_dense(), dz.view().is_dense()]);
    let by = f64::from(dloss.host::<f32>()?[0]) * loss.share::<f64>(z.cols());
    let (z, targets) = (Lines::<f32>::of(z, cut)?, Lines::<f32>::of(targets, cut)?);
    each_line(d, dz, cut, |i, dz: &mut [f32]| {
        for (dz, (z, y)) in dz.iter_mut().zip(z.at(i).iter().zip(targets.at(i))) {
            *dz = (loss.slope(f64::from(*z), f64::from(*y)) * by) as f32;
        }
    })
}
