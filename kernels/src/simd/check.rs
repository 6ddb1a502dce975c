//! For tests: every level, every case, any number of threads.
use super::Level;
use crate::{Buffer, Case, Class, Device, Kernel, isa::Isa};
use std::cell::Cell;

thread_local! { static FORCED: Cell<Option<Level>> = const { Cell::new(None) }; }

/// The level that this test runs, if it chose one.
pub(crate) fn forced() -> Option<Level> {
    FORCED.get()
}
/// Runs `f` with each level that this processor has.
pub(crate) fn levels(mut f: impl FnMut(Level)) {
    for level in Isa::ALL.into_iter().filter_map(Level::of) {
        FORCED.set(Some(level));
        f(level);
    }
    FORCED.set(None);
}
/// The largest difference, relative to the largest value; any NaN that is not expected
/// is infinitely far.
pub(crate) fn distance(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "outputs");
    let top = want.iter().filter(|w| w.is_finite()).fold(1e-30f64, |m, w| m.max(w.abs()));
    got.iter().zip(want).fold(0.0, |m: f64, (g, w)| {
        let same = f64::from(*g) == *w || (g.is_nan() && w.is_nan());
        let d = if same { 0.0 } else { (f64::from(*g) - w).abs() / top };
        if d.is_nan() { f64::INFINITY } else { m.max(d) }
    })
}
fn run(case: &Case, device: &Device) -> Vec<f32> {
    let mut r = (case.prepare)(device).unwrap();
    device.ledger().reset_peak();
    r.launch().unwrap();
    r.read().unwrap()
}
/// Every case of a kernel: within its tolerance of the reference on every level, the same bits for
/// any number of threads, and a ledger that the Null device predicts.
pub(crate) fn cases(kernel: Kernel) {
    let all = (kernel.cases)();
    assert!(all.iter().any(|c| c.timed) && all.iter().any(|c| !c.timed));
    for case in all {
        if case.timed && cfg!(debug_assertions) {
            continue; // large: checked in release builds
        }
        let want = (case.reference)();
        levels(|level| {
            let one = run(&case, &Device::cpu(1).unwrap());
            let d = distance(&one, &want);
            assert!(d <= case.tolerance, "{} {} {level:?}: {d:e}", kernel.name, case.label);
            let more: &[usize] = if case.timed { &[2] } else { &[2, 3] };
            for threads in more {
                let (cpu, null) = (Device::cpu(*threads).unwrap(), Device::null(*threads));
                let other = run(&case, &cpu);
                assert!(same(&one, &other), "{} {} {level:?}: {threads} threads", kernel.name, case.label);
                run(&case, &null);
                assert_eq!(
                    cpu.ledger().usage().peak_total(),
                    null.ledger().usage().peak_total(),
                    "{} {}",
                    kernel.name,
                    case.label
                );
            }
        });
    }
}
/// The same bits.
pub(crate) fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
/// Values on a device.
pub(crate) fn up(d: &Device, v: &[f32]) -> Buffer {
    d.upload(Class::Scratch, v).unwrap()
}
/// Indices on a device.
pub(crate) fn indices(d: &Device, v: &[u32]) -> Buffer {
    d.upload(Class::Scratch, v).unwrap()
}
/// That `gradient` is the derivative of `f` at `x`, by central differences in double precision.
pub(crate) fn differences(x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len());
    let h = 1e-5;
    for i in 0..x.len() {
        let mut y = x.to_vec();
        y[i] = x[i] + h;
        let up = f(&y);
        y[i] = x[i] - h;
        let slope = (up - f(&y)) / (2.0 * h);
        let scale = 1.0 + slope.abs();
        assert!((slope - gradient[i]).abs() < 1e-7 * scale, "{i}: {} but the slope is {slope}", gradient[i]);
    }
}
