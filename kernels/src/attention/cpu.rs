//! For now: the reference.
use super::*;
use crate::{Class, Cpu};

/// What a launch allocates for its threads.
pub(super) fn workspace(device: &Device, a: Attention<'_>, _backward: bool) -> Result<Buffer> {
    let (q, k) = a.longest();
    device.alloc::<f32>(Class::Scratch, device.threads() * q * k)
}
pub(super) fn forward(
    _d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: &mut Buffer,
    lse: Option<&mut Buffer>,
) -> Result<()> {
    let _ = workspace(device, a, false)?;
    let (y, l) = reference::<f32>(a, x.q.host()?, x.k.host()?, x.v.host()?);
    o.host_mut::<f32>()?.copy_from_slice(&y);
    if let Some(lse) = lse {
        lse.host_mut::<f32>()?.copy_from_slice(&l);
    }
    Ok(())
}
pub(super) fn backward(
    _d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    _lse: &Buffer,
    d_o: &Buffer,
    g: Gradients<'_>,
) -> Result<()> {
    let _ = workspace(device, a, true)?;
    let (q, k, v) = reference_backward::<f32>(a, x.q.host()?, x.k.host()?, x.v.host()?, d_o.host()?);
    g.dq.host_mut::<f32>()?.copy_from_slice(&q);
    g.dk.host_mut::<f32>()?.copy_from_slice(&k);
    g.dv.host_mut::<f32>()?.copy_from_slice(&v);
    Ok(())
}
