//! For now: the reference.
use super::*;
use crate::Cpu;

pub(super) fn forward(_d: &Cpu, f: Activation, x: &Buffer, y: &mut Buffer) -> Result<()> {
    for (y, x) in y.host_mut::<f32>()?.iter_mut().zip(x.host::<f32>()?) {
        *y = value(f, f64::from(*x)) as f32;
    }
    Ok(())
}
pub(super) fn backward(_d: &Cpu, f: Activation, x: &Buffer, d: &mut Buffer) -> Result<()> {
    for (d, x) in d.host_mut::<f32>()?.iter_mut().zip(x.host::<f32>()?) {
        *d *= derivative(f, f64::from(*x)) as f32;
    }
    Ok(())
}
