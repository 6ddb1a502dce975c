use super::*;
use crate::{
    Class, Isa,
    case::noise,
    isa::with,
    simd::check::{self, distance, same},
};

fn sets() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|i| i.available())
}

#[test]
fn every_case_with_every_instruction_set_any_number_of_threads_and_the_memory_that_null_predicts() {
    // without optimisation the largest take minutes
    let most = if cfg!(debug_assertions) { 1e8 } else { f64::INFINITY };
    for case in (KERNEL.cases)().into_iter().filter(|c| c.flops <= most) {
        let want = (case.reference)();
        for isa in sets() {
            with(isa, || {
                let mut first: Option<Vec<f32>> = None;
                for threads in [1, 2, 3] {
                    let run = |device: &Device| {
                        let mut run = (case.prepare)(device).unwrap();
                        device.ledger().reset_peak();
                        run.launch().unwrap();
                        (run.read().unwrap(), device.ledger().usage())
                    };
                    let (got, held) = run(&Device::cpu(threads).unwrap());
                    assert_eq!(held, run(&Device::null(threads)).1, "{}", case.label);
                    let d = distance(&got, &want);
                    assert!(d <= case.tolerance, "{} on {}: {d:e}", case.label, isa.name());
                    let first = first.get_or_insert_with(|| got.clone());
                    assert!(same(first, &got), "{} on {}: {threads} threads", case.label, isa.name());
                }
            });
        }
    }
}

#[test]
fn the_backward_reference_is_the_slope_of_the_forward_one() {
    for f in [Activation::Gelu, Activation::Tanh, Activation::Silu] {
        let shape @ [m, c, b] = [3, 5, 4];
        let v = |seed, n| crate::case::wide(&noise(seed, n));
        let (x, down, b_d, up, b_u) = (v(1, m * c), v(2, b * c), v(3, b), v(4, b * c), v(5, c));
        let dy = v(6, m * c);
        let w = (&down[..], Some(&b_d[..]), &up[..], Some(&b_u[..]));
        let (a, _) = reference(f, shape, w, &x);
        let (_, dx) = reference_backward(f, shape, (&down, &up), &a, &dy);
        check::differences(&x, &dx, |x| {
            reference(f, shape, w, x).1.iter().zip(&dy).map(|(y, d)| y * d).sum()
        });
    }
}

#[test]
fn nothing_behind_the_operands_is_read_or_written() {
    // buffers with something behind what the launch may touch
    let ([m, c, b], spare) = ([45, 37, 21], 40);
    for isa in sets() {
        with(isa, || {
            let d = Device::cpu(2).unwrap();
            let up = |seed: u64, n: usize| {
                let mut v = noise(seed, n);
                v.resize(n + spare, f32::NAN);
                d.upload(Class::Scratch, &v).unwrap()
            };
            let (x, down, wide, b_d, b_u) = (up(1, m * c), up(2, b * c), up(3, b * c), up(4, b), up(5, c));
            let w = Bottleneck {
                rows: m,
                channels: c,
                width: b,
                down: &down,
                down_bias: Some(&b_d),
                up: &wide,
                up_bias: Some(&b_u),
                f: Activation::Relu,
            };
            let sevens = |n: usize| d.upload(Class::Scratch, &vec![7f32; n + spare]).unwrap();
            let clean = |v: &Buffer, n: usize| {
                let v = v.read::<f32>().unwrap();
                assert!(v[..n].iter().all(|x| x.is_finite()) && v[n..].iter().all(|x| *x == 7.0), "{isa:?}");
            };
            let (mut a, mut y) = (sevens(m * b), sevens(m * c));
            forward(&d, w, &x, Onto::Rows(&x), &mut a, &mut y).unwrap();
            clean(&a, m * b);
            clean(&y, m * c);
            let (mut da, mut dx) = (sevens(m * b), sevens(m * c));
            backward(&d, w, &a, &x, &mut da, Some((Plus::OUTPUT, &mut dx))).unwrap();
            clean(&da, m * b);
            clean(&dx, m * c);
        });
    }
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let six = || check::up(&d, &[1.0; 6]);
    let (x, v, short, ids) = (six(), six(), check::up(&d, &[1.0]), check::indices(&d, &[1; 6]));
    let (mut a, mut y) = (six(), six());
    let w = Bottleneck {
        rows: 2,
        channels: 3,
        width: 2,
        down: &v,
        down_bias: None,
        up: &v,
        up_bias: None,
        f: Activation::Relu,
    };
    let mut go = |w: Bottleneck<'_>, onto: Onto<'_>| forward(&d, w, &x, onto, &mut a, &mut y);
    let is_length = |r: Result<()>| matches!(r, Err(Error::Length { kernel: NAME, .. }));
    assert!(go(w, Onto::Nothing).is_ok());
    assert!(is_length(go(w, Onto::Rows(&short))));
    assert!(is_length(go(Bottleneck { rows: 3, ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { rows: usize::MAX, ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { channels: usize::MAX, ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { width: 3, ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { up: &short, ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { down_bias: Some(&short), ..w }, Onto::Nothing)));
    assert!(is_length(go(Bottleneck { up_bias: Some(&short), ..w }, Onto::Nothing)));
    assert!(matches!(go(Bottleneck { down: &ids, ..w }, Onto::Nothing), Err(Error::DType { .. })));
    let (mut da, mut dx) = (six(), check::up(&d, &[1.0; 5]));
    assert!(is_length(backward(&d, w, &short, &x, &mut da, None)));
    assert!(is_length(backward(&d, w, &x, &x, &mut da, Some((Plus::NOTHING, &mut dx)))));
    let elsewhere = Device::cpu(1).unwrap();
    assert!(matches!(backward(&elsewhere, w, &x, &x, &mut da, None), Err(Error::Elsewhere { .. })));
    // no rows and no width, whatever the channels
    let none = Bottleneck { rows: 0, width: 0, channels: usize::MAX, ..w };
    assert!(forward(&d, none, &x, Onto::Nothing, &mut da, &mut dx).is_ok());
}
