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

fn to(v: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
    ViewMut::of(v, rows, cols).unwrap()
}
#[test]
fn parts_of_matrices_are_arguments_and_nothing_else_is_read_or_written() {
    // columns of wider matrices, in buffers with something behind
    let ([m, c, b], gap, spare) = ([45, 37, 21], 5, 40);
    for isa in sets() {
        with(isa, || {
            let d = Device::cpu(2).unwrap();
            // `gap` columns in front that are no numbers
            let up = |seed: u64, rows: usize, cols: usize, gap: usize| {
                let mut v = vec![f32::NAN; rows * (cols + gap) + spare];
                for (i, row) in noise(seed, rows * cols).chunks(cols).enumerate() {
                    v[i * (cols + gap) + gap..][..cols].copy_from_slice(row);
                }
                d.upload(Class::Scratch, &v).unwrap()
            };
            let run = |gap: usize| {
                let (x, down, wide) = (up(1, m, c, gap), up(2, b, c, gap), up(3, c, b, gap));
                let (b_d, b_u) = (up(4, 1, b, 0), up(5, 1, c, 0));
                let part =
                    |v, rows, cols| View::of(v, rows, cols + gap).unwrap().cols_of(gap..cols + gap).unwrap();
                let w = Bottleneck {
                    down: part(&down, b, c),
                    down_bias: Some(&b_d),
                    up: part(&wide, c, b),
                    up_bias: Some(&b_u),
                    f: Activation::Relu,
                };
                let sevens = |n: usize| d.upload(Class::Scratch, &vec![7f32; n + spare]).unwrap();
                let clean = |v: &Buffer, rows: usize, cols: usize, gap: usize| {
                    let v = v.read::<f32>().unwrap();
                    let (inside, behind) = v.split_at(rows * (cols + gap));
                    assert!(behind.iter().all(|x| *x == 7.0), "{isa:?}");
                    let rows = inside.chunks(cols + gap);
                    assert!(rows.clone().all(|r| r[..gap].iter().all(|x| *x == 7.0)), "{isa:?}");
                    let values: Vec<f32> = rows.flat_map(|r| r[gap..].to_vec()).collect();
                    assert!(values.iter().all(|x| x.is_finite()), "{isa:?}");
                    values
                };
                let (mut a, mut y) = (sevens(m * b), sevens(m * (c + gap)));
                let x = part(&x, m, c);
                let out = to(&mut y, m, c + gap).cols_of(gap..c + gap).unwrap();
                forward(&d, w, x, Base::Rows(x), to(&mut a, m, b), out).unwrap();
                let mut all = clean(&a, m, b, 0);
                all.extend(clean(&y, m, c, gap));
                let (mut da, mut dx) = (sevens(m * b), sevens(m * (c + gap)));
                let out = to(&mut dx, m, c + gap).cols_of(gap..c + gap).unwrap();
                let a = View::of(&a, m, b).unwrap();
                backward(&d, w, a, x, to(&mut da, m, b), Some((Plus::OUTPUT, out))).unwrap();
                all.extend(clean(&da, m, b, 0));
                all.extend(clean(&dx, m, c, gap));
                all
            };
            assert!(same(&run(0), &run(gap)), "{isa:?}");
        });
    }
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let six = || check::up(&d, &[1.0; 6]);
    let (x, v, short, ids) = (six(), six(), check::up(&d, &[1.0]), check::indices(&d, &[1; 6]));
    let (mut a, mut y) = (check::up(&d, &[1.0; 8]), six());
    let of = |b, rows, cols| View::of(b, rows, cols).unwrap();
    let w = Bottleneck {
        down: of(&v, 2, 3),
        down_bias: None,
        up: of(&v, 3, 2),
        up_bias: None,
        f: Activation::Relu,
    };
    let mut go = |w: Bottleneck<'_>, base: Base<View<'_>>, x: View<'_>, gap: usize| {
        let a = ViewMut::of(&mut a, 2, 2 + gap).unwrap().cols_of(0..2).unwrap();
        forward(&d, w, x, base, a, ViewMut::of(&mut y, 2, 3).unwrap())
    };
    let mut refused = |w: Bottleneck<'_>, base| go(w, base, of(&x, 2, 3), 0).unwrap_err();
    let is_length = |e: Error| matches!(e, Error::Length { kernel: NAME, .. });
    let is_shape = |e: Error| matches!(e, Error::Shape { kernel: NAME, .. });
    assert!(is_shape(refused(w, Base::Rows(of(&short, 1, 1)))));
    assert!(is_shape(refused(Bottleneck { down: of(&v, 3, 2), ..w }, Base::Nothing)));
    assert!(is_shape(refused(Bottleneck { up: of(&v, 2, 3), ..w }, Base::Nothing)));
    assert!(is_length(refused(Bottleneck { down_bias: Some(&short), ..w }, Base::Nothing)));
    assert!(is_length(refused(Bottleneck { up_bias: Some(&short), ..w }, Base::Nothing)));
    let ints = Bottleneck { down: of(&ids, 2, 3), ..w };
    assert!(matches!(refused(ints, Base::Nothing), Error::DType { .. }));
    assert!(is_shape(go(w, Base::Nothing, of(&x, 3, 2), 0).unwrap_err()));
    let e = go(w, Base::Nothing, of(&x, 2, 3), 1).unwrap_err();
    assert_eq!(e.to_string(), "bottleneck: the rows of `a` must follow each other without gaps");
    assert!(go(w, Base::Nothing, of(&x, 2, 3), 0).is_ok());
}
