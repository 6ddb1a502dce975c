use super::{
    cases::{folded, quantized},
    cpu::{Left, Right, multiply},
    *,
};
use crate::{
    Isa,
    case::{noise, wide},
    epilogue::{Base, OnHost},
    isa::with,
    simd::check,
    storage::{Storage, convert},
};
use proptest::prelude::*;

fn paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|p| p.available())
}

#[test]
fn every_case_on_every_level() {
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        with(isa, || check::cases(KERNEL));
    }
}

/// What every path must give to the bit: exact sums, then the float operations in their order.
fn bits(
    (m, k, n): (usize, usize, usize),
    q: &[i8],
    b: (&[i8], usize, usize),
    rows: &[f32],
    cols: Option<&[f32]>,
    bias: Option<&[f32]>,
    onto: Option<&[f32]>,
) -> Vec<f32> {
    let mut c = vec![];
    for i in 0..m {
        for j in 0..n {
            let sum: i64 = (0..k).map(|p| i64::from(q[i * k + p]) * i64::from(b.0[p * b.1 + j * b.2])).sum();
            let scaled = sum as i32 as f32 * rows[i] * cols.map_or(1.0, |s| s[j]);
            let v = scaled + bias.map_or(0.0, |b| b[j]);
            c.push(onto.map_or(v, |r| v + r[i * n + j]));
        }
    }
    c
}

/// One product on a path, in buffers with nothing to spare and with gaps: what must not be
/// written is looked at.
fn on_path(path: Path, s: &Shape, q: &[i8], w: &[i8], threads: usize) -> Vec<f32> {
    let Shape { m, depth, cols, transposed, gap, with_scales, with_bias, onto } = *s;
    let device = Device::cpu(threads).unwrap();
    let Device::Cpu(d) = &device else { unreachable!() };
    let plan = Plan::new(path, m, depth, cols);
    let width = stride(depth);
    // words that are aligned
    let mut a = vec![0u32; m * width / 4];
    for (i, row) in q.chunks(depth.max(1)).enumerate().take(m) {
        for p in 0..width {
            let byte = row.get(p).map_or(128, |q| *q as u8 ^ 0x80);
            a[(i * width + p) / 4] |= u32::from(byte) << (8 * (p % 4));
        }
    }
    let a: Vec<u8> = a.iter().flat_map(|w| w.to_le_bytes()).collect();
    let a = device.upload(Class::Scratch, &a).unwrap();
    let (lines, line) = if transposed { (cols, depth) } else { (depth, cols) };
    let stride = line + gap;
    let mut stored = vec![99i8; (lines * stride).saturating_sub(gap)];
    for (l, values) in w.chunks(line.max(1)).enumerate().take(lines) {
        stored[l * stride..][..line].copy_from_slice(values);
    }
    let (rows, scales, bias) = (noise(5, m), noise(6, cols), noise(7, cols));
    let (scales, bias) = (with_scales.then_some(&scales[..]), with_bias.then_some(&bias[..]));
    let (added, c_row) = (noise(8, m * cols), cols + gap);
    let mut c = vec![f32::NAN; m * c_row + 3];
    if onto == 2 {
        c.chunks_mut(c_row.max(1))
            .zip(added.chunks(cols.max(1)))
            .for_each(|(c, a)| c[..cols].copy_from_slice(a));
    }
    let mut workspace = vec![u32::MAX; threads * plan.workspace()];
    let left = Left { q: a.host().unwrap(), stride: width, scales: &rows };
    let right = Right { data: &stored, transposed, stride, scales };
    let base = [Base::Nothing, Base::Rows((&added[..], cols)), Base::Output][onto];
    multiply(d, plan, left, right, OnHost { bias, base }, (&mut c, c_row), &mut workspace);
    let (mut got, mut others) = (vec![], c.split_off(m * c_row));
    for row in c.chunks(c_row.max(1)) {
        got.extend_from_slice(&row[..cols]);
        others.extend_from_slice(&row[cols..]);
    }
    assert!(others.iter().all(|x| x.is_nan()), "written beside the output: {s:?} {path:?}");
    let c = got;
    let b = if transposed { (w, 1, depth) } else { (w, cols, 1) };
    let want = bits((m, depth, cols), q, b, &rows, scales, bias, (onto > 0).then_some(&added[..]));
    assert!(check::same(&c, &want), "{s:?} on {path:?} with {threads} threads");
    c
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    m: usize,
    depth: usize,
    cols: usize,
    transposed: bool,
    gap: usize,
    with_scales: bool,
    with_bias: bool,
    /// Nothing, rows, or the output.
    onto: usize,
}
fn shapes() -> impl Strategy<Value = Shape> {
    let size = || prop_oneof![0..5usize, 5..80usize, 120..300usize];
    let many = prop_oneof![0..30usize, 500..600usize];
    (many, size(), size(), 0..3usize, any::<[bool; 3]>(), 0..3usize).prop_map(
        |(m, depth, cols, gap, [transposed, with_scales, with_bias], onto)| Shape {
            m,
            depth,
            cols,
            transposed,
            gap,
            with_scales,
            with_bias,
            onto,
        },
    )
}
/// Any integer that quantising gives.
fn integers(seed: u64, n: usize) -> Vec<i8> {
    noise(seed, n).iter().map(|x| (x * 70.0).clamp(-127.0, 127.0) as i8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_gives_the_same_bits_on_every_path(s in shapes(), seed in 0u64..1000) {
        let (q, w) = (integers(seed, s.m * s.depth), integers(seed + 1, s.depth * s.cols));
        for path in paths() {
            for threads in [1, 3] {
                on_path(path, &s, &q, &w, threads);
            }
        }
    }

    #[test]
    fn rows_are_rounded_alike_on_every_level(rows in 0usize..6, cols in 0usize..200, exponent in -45i32..38, fold: bool, seed in 0u64..1000) {
        let x: Vec<f32> = noise(seed, rows * cols).iter().map(|x| x * 10f32.powi(exponent)).collect();
        let by = noise(seed + 1, cols);
        let (q, scales) = match cols {
            0 => (vec![], vec![reference_row(&[]).1; rows]),
            _ => quantized(&if fold { folded(&x, &by) } else { x.clone() }, cols),
        };
        check::levels(|level| {
            let d = Device::cpu(2).unwrap();
            let mut to = QuantizedRows::alloc(&d, Class::Scratch, rows, cols).unwrap();
            let (x, by) = (check::up(&d, &x), check::up(&d, &by));
            quantize_rows(&d, View::of(&x, rows, cols).unwrap(), fold.then_some(&by), &mut to).unwrap();
            let got = to.read().unwrap();
            assert_eq!(got.0, q, "{level:?}");
            assert!(check::same(&got.1, &scales), "{level:?}");
        });
    }

    #[test]
    fn the_tasks_of_a_plan_cover_the_output_once(m in 0..5000usize, depth in 0..140_000usize, cols in 0..5000usize) {
        for path in Path::ALL {
            let plan = Plan::new(path, m, depth, cols);
            let (mut area, mut next) = (0, (0, 0));
            for t in 0..plan.tasks() {
                let (i, j, high, wide) = plan.task(t);
                prop_assert_eq!((i, j), next, "down first, then to the right");
                prop_assert!(high > 0 && wide > 0 && i + high <= m && j + wide <= cols);
                prop_assert!(j % plan.panel() == 0);
                area += high * wide;
                next = if i + high < m { (i + high, j) } else { (0, j + wide) };
            }
            prop_assert_eq!(area, m * cols);
        }
    }
}

#[test]
fn the_largest_numbers_do_not_saturate_or_overflow() {
    for (depth, a, w) in [(64, 127, 127), (66, -127, 127), (1001, -127, -127), (MAX_DEPTH, 127, -127)] {
        for transposed in [true, false] {
            let s = Shape {
                m: 3,
                depth,
                cols: 5,
                transposed,
                gap: 0,
                with_scales: true,
                with_bias: false,
                onto: 0,
            };
            for path in paths() {
                on_path(path, &s, &vec![a; 3 * depth], &vec![w; 5 * depth], 1);
            }
        }
    }
}

#[test]
fn halves_are_rounded_to_even_and_the_ends_are_kept() {
    let x: Vec<f32> =
        [127.0, -127.0, 0.5, 1.5, -0.5, -1.5, 2.5, 126.5, -126.5, 0.0, -0.0].map(|x| x * 4.0).into();
    check::levels(|level| {
        let d = Device::cpu(1).unwrap();
        let mut to = QuantizedRows::alloc(&d, Class::Scratch, 1, x.len()).unwrap();
        let up = check::up(&d, &x);
        quantize_rows(&d, View::of(&up, 1, x.len()).unwrap(), None, &mut to).unwrap();
        let (q, scale) = to.read().unwrap();
        assert_eq!(
            (&q[..], &scale[..]),
            (&[127, -127, 0, 2, 0, -2, 2, 126, -126, 0, 0][..], &[4.0][..]),
            "{level:?}"
        );
    });
}

#[test]
fn what_is_not_finite_stays_so_and_zeros_stay_zero() {
    let (cols, d) = (37, Device::cpu(1).unwrap());
    let w = d.upload(Class::Backbone, &vec![3i8; 2 * cols]).unwrap();
    let scales = Scales::Rows(check::up(&d, &[1.0, 2.0]));
    let w = Matrix::stored(&w, Some(&scales), 2, cols);
    for (place, bad) in [(0, f32::NAN), (20, f32::INFINITY), (36, f32::NEG_INFINITY), (36, -f32::NAN)] {
        let mut x = noise(1, 2 * cols);
        x[place] = bad;
        x.extend(vec![0.0; cols]);
        check::levels(|level| {
            let mut q = QuantizedRows::alloc(&d, Class::Scratch, 3, cols).unwrap();
            let up = check::up(&d, &x);
            quantize_rows(&d, View::of(&up, 3, cols).unwrap(), None, &mut q).unwrap();
            let mut y = check::up(&d, &[9.0; 6]);
            times_transposed(&d, &q, w, Plus::NOTHING, ViewMut::of(&mut y, 3, 2).unwrap()).unwrap();
            let y = y.read::<f32>().unwrap();
            assert!(y[..2].iter().all(|y| y.is_nan()), "{level:?}: {bad} at {place} gives {y:?}");
            assert!(y[2..4].iter().all(|y| y.is_finite() && *y != 0.0), "{level:?}: {y:?}");
            assert_eq!(y[4..], [0.0, 0.0], "{level:?}");
        });
    }
}

#[test]
fn the_product_is_close_to_the_one_that_is_not_quantised() {
    let (m, n, k) = (50, 130, 384);
    let d = Device::cpu(2).unwrap();
    let w = noise(2, n * k);
    let stored = convert(Matrix::plain(&check::up(&d, &w), n, k), Storage::Int8, Class::Backbone).unwrap();
    let weight = Matrix::stored(&stored.0, stored.1.as_ref(), n, k);
    let Some(Scales::Rows(scales)) = weight.scales else { unreachable!() };
    for transposed in [true, false] {
        let (depth, cols) = if transposed { (k, n) } else { (n, k) };
        let x = noise(1, m * depth);
        let b = if transposed { (1, k) } else { (k, 1) };
        let want = matmul::reference(m, depth, cols, (&wide(&x), depth, 1), (&wide(&w), b.0, b.1), None);
        let mut rows = QuantizedRows::alloc(&d, Class::Scratch, m, depth).unwrap();
        let up = check::up(&d, &x);
        quantize_rows(&d, View::of(&up, m, depth).unwrap(), (!transposed).then_some(scales), &mut rows)
            .unwrap();
        let mut y = d.alloc::<f32>(Class::Scratch, m * cols).unwrap();
        let go = if transposed { times_transposed } else { times };
        go(&d, &rows, weight, Plus::NOTHING, ViewMut::of(&mut y, m, cols).unwrap()).unwrap();
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let off = norm(&mut y.read::<f32>().unwrap().iter().zip(&want).map(|(y, w)| f64::from(*y) - w));
        let share = off / norm(&mut want.iter().copied());
        assert!((0.001..0.02).contains(&share), "{share}");
    }
}

/// In both orders a row has the same bits among any number of rows; and parts of the weight and of
/// the output are arguments.
#[test]
fn a_row_is_the_same_in_any_company_and_so_is_a_part() {
    let (d, n, k, gap) = (Device::cpu(2).unwrap(), 100, 200, 3);
    let (w, scales) = {
        let w = check::up(&d, &noise(2, (n + gap) * (k + gap)));
        convert(Matrix::plain(&w, n + gap, k + gap), Storage::Int8, Class::Backbone).unwrap()
    };
    let Some(Scales::Rows(factors)) = &scales else { unreachable!() };
    let factors = check::up(&d, &factors.read::<f32>().unwrap()[gap..]);
    let w = Matrix::stored(&w, scales.as_ref(), n + gap, k + gap);
    let w = w.rows_of(gap..n + gap).unwrap().cols_of(gap..k + gap).unwrap();
    // the integers and scales of the part alone
    let (values, whole) =
        (w.decode().unwrap(), w.scales.map(Scales::buffers).unwrap()[0].read::<f32>().unwrap());
    let integers =
        values.iter().enumerate().map(|(i, x)| (x / whole[gap + i / k]).round() as i8).collect::<Vec<_>>();
    let integers = d.upload(Class::Backbone, &integers).unwrap();
    let own = Scales::Rows(check::up(&d, &whole[gap..]));
    let copy = Matrix::stored(&integers, Some(&own), n, k);
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for transposed in [true, false] {
            let (depth, cols) = if transposed { (k, n) } else { (n, k) };
            let x = check::up(&d, &noise(1, 700 * depth));
            let product = |m: usize, w: Matrix<'_>, gap: usize| {
                let mut q = QuantizedRows::alloc(&d, Class::Scratch, m, depth).unwrap();
                let mut y = check::up(&d, &vec![7.0; m * (cols + gap)]);
                let to = ViewMut::of(&mut y, m, cols + gap).unwrap().cols_of(gap..cols + gap).unwrap();
                let go = if transposed { times_transposed } else { times };
                with(isa, || {
                    let x = View::of(&x, m, depth)?;
                    quantize_rows(&d, x, (!transposed).then_some(&factors), &mut q)?;
                    go(&d, &q, w, Plus::NOTHING, to)
                })
                .unwrap();
                let y = y.read::<f32>().unwrap();
                assert!(y.chunks(cols + gap).all(|row| row[..gap].iter().all(|y| *y == 7.0)));
                y.chunks(cols + gap).flat_map(|row| row[gap..].to_vec()).collect::<Vec<_>>()
            };
            let all = product(700, copy, 0);
            for m in [1, 64, 96, 97, 700] {
                assert!(check::same(&product(m, w, gap), &all[..m * cols]), "{m} rows on {}", isa.name());
            }
        }
    }
}

fn to(b: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
    ViewMut::of(b, rows, cols).unwrap()
}
#[test]
fn what_does_not_fit_is_refused() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let data = d.upload(Class::Backbone, &[1i8; 6]).unwrap();
    let (scales, mut y) = (Scales::Rows(check::up(&d, &[1.0; 2])), check::up(&d, &[0.0; 6]));
    let w = Matrix::stored(&data, Some(&scales), 2, 3);
    let rows = |m, k| QuantizedRows::alloc(&d, Class::Scratch, m, k).unwrap();
    let length = |r: Result<()>, what: &str| {
        assert!(matches!(r, Err(Error::Length { argument, .. }) if argument == what), "{r:?}");
    };
    let shape = |r: Result<()>, what: &str| {
        assert!(matches!(r, Err(Error::Shape { argument, .. }) if argument == what), "{r:?}");
    };
    let plain = Plus::NOTHING;
    shape(times_transposed(&d, &rows(2, 4), w, plain, to(&mut y, 2, 2)), "x");
    shape(times(&d, &rows(2, 3), w, plain, to(&mut y, 2, 3)), "x");
    shape(times_transposed(&d, &rows(3, 3), w, plain, to(&mut y, 2, 2)), "y");
    length(
        times_transposed(
            &d,
            &rows(1, 3),
            Matrix::stored(&data, Some(&scales), 3, 3),
            plain,
            to(&mut y, 1, 3),
        ),
        "w",
    );
    length(
        times(&d, &rows(1, 6), Matrix::stored(&data, Some(&scales), 6, 1), plain, to(&mut y, 1, 1)),
        "scales",
    );
    let (none, one) = (check::up(&d, &[]), check::up(&d, &[1.0]));
    length(times_transposed(&d, &rows(1, 3), w, Plus::bias(&none), to(&mut y, 1, 2)), "bias");
    let plus = Plus::rows(View::of(&one, 1, 1).unwrap());
    shape(times_transposed(&d, &rows(2, 3), w, plus, to(&mut y, 2, 2)), "plus");
    let long = Matrix::stored(&data, Some(&scales), 1, MAX_DEPTH + 1);
    let e = times_transposed(&d, &rows(1, 3), long, plain, to(&mut y, 1, 1)).unwrap_err();
    assert!(e.to_string().contains("may not fit in 32 bits, at most 133144 do"), "{e}");
    shape(quantize_rows(&d, View::of(&one, 1, 1).unwrap(), None, &mut rows(1, 3)), "x");
    let three = check::up(&d, &[0.0; 3]);
    length(quantize_rows(&d, View::of(&three, 1, 3).unwrap(), Some(&one), &mut rows(1, 3)), "by");
    let float = Matrix::plain(&one, 1, 1);
    let wrong = times_transposed(&d, &rows(1, 1), float, plain, to(&mut y, 1, 1));
    assert!(matches!(wrong, Err(Error::DType { argument: "w", .. })), "{wrong:?}");
    let wrong = times_transposed(&other, &rows(1, 3), w, plain, to(&mut y, 1, 2));
    assert!(matches!(wrong, Err(Error::Elsewhere { .. })), "{wrong:?}");
}
