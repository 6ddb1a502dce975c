//! For now: the reference.
use super::*;
use crate::Cpu;

pub(super) fn forward(
    _d: &Cpu,
    x: &Buffer,
    r: Option<&Buffer>,
    n: Norm<'_>,
    y: &mut Buffer,
    keep: Option<Kept<'_>>,
) -> Result<()> {
    let len = n.rows * n.cols;
    let mut s = x.host::<f32>()?[..len].to_vec();
    if let Some(r) = r {
        s.iter_mut().zip(r.host::<f32>()?).for_each(|(s, r)| *s += r);
    }
    let (o, hat, inv) = reference(&s, &n.gamma.host::<f32>()?[..n.cols], n.beta.host()?, n.eps);
    y.host_mut::<f32>()?[..len].copy_from_slice(&o);
    if let Some(k) = keep {
        k.normed.host_mut::<f32>()?[..len].copy_from_slice(&hat);
        k.rstd.host_mut::<f32>()?[..n.rows].copy_from_slice(&inv);
    }
    Ok(())
}
pub(super) fn backward(
    _d: &Cpu,
    dy: &Buffer,
    normed: &Buffer,
    rstd: &Buffer,
    n: Norm<'_>,
    dx: &mut Buffer,
) -> Result<()> {
    let len = n.rows * n.cols;
    let d = reference_backward(
        &dy.host::<f32>()?[..len],
        normed.host()?,
        &rstd.host()?[..n.rows],
        &n.gamma.host()?[..n.cols],
    );
    dx.host_mut::<f32>()?[..len].copy_from_slice(&d);
    Ok(())
}
