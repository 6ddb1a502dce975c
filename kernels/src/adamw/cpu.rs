//! One pass over the four buffers.
use super::*;
use crate::Cpu;

pub(super) fn step(
    _d: &Cpu,
    s: Step,
    w: &mut Buffer,
    g: &Buffer,
    m: &mut Buffer,
    v: &mut Buffer,
) -> Result<()> {
    let power = |b: f32| 1.0 - f64::from(b).powi(i32::try_from(s.t).unwrap_or(i32::MAX));
    let lr = (f64::from(s.lr) / power(s.beta1)) as f32;
    let root = power(s.beta2).sqrt() as f32;
    let keep = 1.0 - s.lr * s.weight_decay;
    let (w, g, m, v) = (w.host_mut::<f32>()?, g.host::<f32>()?, m.host_mut::<f32>()?, v.host_mut::<f32>()?);
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * s.grad_scale;
        *m += (g - *m) * (1.0 - s.beta1);
        *v = *v * s.beta2 + g * g * (1.0 - s.beta2);
        *w = *w * keep - lr * *m / (v.sqrt() / root + s.eps);
    }
    Ok(())
}
