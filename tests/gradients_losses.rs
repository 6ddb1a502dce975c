//! Every loss against central differences of its forward pass in double precision.
mod support;
use engraft_engine::*;
use proptest::prelude::*;
use support::differences::*;

/// -log softmax(z) at the label, summed over the rows that have one.
fn losses(z: &[f64], labels: &[u32]) -> f64 {
    smoothed(z, labels, 0.0)
}
/// The same where all classes together stand for a share of what is expected.
fn smoothed(z: &[f64], labels: &[u32], share: f64) -> f64 {
    let classes = z.len() / labels.len().max(1);
    let row = |(i, label): (usize, &u32)| {
        let z = &z[i * classes..][..classes];
        let top = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
        let expected = (1.0 - share) * z[*label as usize] + share * z.iter().sum::<f64>() / classes as f64;
        z.iter().map(|z| (z - top).exp()).sum::<f64>().ln() + top - expected
    };
    labels.iter().enumerate().filter(|(_, l)| **l != IGNORED).map(row).sum()
}
/// Labels below `classes`, every `gap`-th row without one.
fn labels(rows: usize, classes: usize, gap: usize) -> Vec<u32> {
    (0..rows).map(|i| if i % gap == gap - 1 { IGNORED } else { (i * 5 % classes) as u32 }).collect()
}

#[test]
fn cross_entropy_of_logits() {
    for (rows, classes, gap) in [(1, 1, 9), (1, 2, 9), (1, 2, 1), (5, 2, 2), (7, 11, 3), (7, 11, 9)] {
        let labels = labels(rows, classes, gap);
        check(
            &format!("cross_entropy {rows} {classes} without every {gap}th"),
            Pass::gradients(),
            &[leaf(1, &[rows, classes])],
            |cx, w| {
                let z = input(cx, w[0].clone(), &pack(labels.iter().map(|_| 1)));
                let (loss, count) = cx.cross_entropy(&z, &labels).unwrap();
                assert_eq!(count, labels.iter().filter(|l| **l != IGNORED).count());
                loss
            },
            |x| vec![losses(&x[0], &labels)],
        );
    }
}

/// -log softmax over the rows of each example at its target, summed over examples and averaged over
/// columns.
fn of_rows(z: &[f64], lengths: &[usize], targets: &[u32]) -> f64 {
    let columns = targets.len() / lengths.len();
    let (mut sum, mut first) = (0.0, 0);
    for (rows, targets) in lengths.iter().zip(targets.chunks(columns)) {
        for (k, target) in targets.iter().enumerate().filter(|(_, t)| **t != IGNORED) {
            let column: Vec<f64> = (0..*rows).map(|i| z[(first + i) * columns + k]).collect();
            sum += losses(&column, &[*target]);
        }
        first += rows;
    }
    sum / columns as f64
}
#[test]
fn cross_entropy_of_rows_of_ragged_examples() {
    for (lengths, targets) in [
        (&[1][..], &[0][..]),
        (&[3, 1, 4], &[2, 0, IGNORED]),
        (&[5, 2], &[1, 4, 0, 0]),
        (&[2, 0, 6, 3], &[IGNORED, 1, IGNORED, IGNORED, 5, 0, IGNORED, IGNORED]),
        (&[4], &[3, 0, 2]),
    ] {
        let (rows, columns) = (lengths.iter().sum::<usize>(), targets.len() / lengths.len());
        check(
            &format!("cross_entropy_of_rows {lengths:?} {targets:?}"),
            Pass::gradients(),
            &[leaf(1, &[rows, columns])],
            |cx, w| {
                let z = input(cx, w[0].clone(), &pack([rows]));
                let (loss, count) = cx.cross_entropy_of_rows(&z, lengths, targets).unwrap();
                let labelled = targets.chunks(columns).filter(|t| t.iter().any(|t| *t != IGNORED));
                assert_eq!(count, labelled.count());
                assert!(cx.cross_entropy_of_rows(&z, lengths, &[]).is_err());
                loss
            },
            |x| vec![of_rows(&x[0], lengths, targets)],
        );
    }
}

/// x Wᵀ + b, or x W + b if stored (in, out).
fn logits(x: &[Vec<f64>], [rows, outputs, inputs]: [usize; 3], in_out: bool) -> Vec<f64> {
    let (down, right) = if in_out { (outputs, 1) } else { (1, inputs) };
    let bias = x.get(2).map(Vec::as_slice);
    kernels::matmul::reference(rows, inputs, outputs, (&x[0], inputs, 1), (&x[1], down, right), bias)
}
fn linear(
    shape: [usize; 3],
    [in_out, bias, trains]: [bool; 3],
    gap: usize,
    (x_trains, smoothing): (bool, f32),
) {
    let [rows, outputs, inputs] = shape;
    let (make, of_x) = (if trains { leaf } else { frozen }, if x_trains { leaf } else { frozen });
    let w = if in_out { [inputs, outputs] } else { [outputs, inputs] };
    let mut leaves = vec![of_x(1, &[rows, inputs]), make(2, &w)];
    leaves.extend(bias.then(|| make(3, &[outputs])));
    let labels = labels(rows, outputs, gap);
    check(
        &format!(
            "linear_cross_entropy {shape:?} in_out {in_out} bias {bias} trains {trains} {x_trains} gap {gap} ε {smoothing}"
        ),
        Pass::gradients(),
        &leaves,
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([rows]));
            let layer = LinearRef { w: w[1].clone(), b: w.get(2).cloned(), in_out };
            let each = cx.linear_cross_entropies(&x, &layer, &labels).unwrap();
            let sum: f32 = each.iter().map(|(loss, _)| loss).sum();
            let whole = cx.linear_cross_entropy(&x, layer.clone(), &labels).unwrap().0.read().unwrap()[0];
            assert!((sum - whole).abs() <= 1e-5 * whole.abs());
            assert!(each.iter().zip(&labels).all(|(e, l)| *l != IGNORED || *e == (0.0, false)));
            let (loss, count) = cx.linear_cross_entropy_smoothed(&x, layer, &labels, smoothing).unwrap();
            assert_eq!(count, labels.iter().filter(|l| **l != IGNORED).count());
            loss
        },
        |x| vec![smoothed(&logits(x, shape, in_out), &labels, smoothing.into())],
    );
}
#[test]
fn cross_entropy_of_a_linear_layer_trained_and_frozen() {
    for shape in [[1, 1, 1], [5, 2, 3], [7, 11, 4]] {
        for i in 0..8 {
            for gap in [1, 3, 99] {
                let how = [i & 1 > 0, i & 2 > 0, i & 4 > 0];
                linear(shape, how, gap, (true, 0.0));
                if !how[0] {
                    linear(shape, how, gap, (true, 0.1));
                }
                if how[2] && gap > 1 {
                    linear(shape, how, gap, (false, 0.0));
                }
            }
        }
    }
}
#[test]
fn cross_entropy_of_a_linear_layer_of_several_blocks() {
    let outputs = kernels::vocabulary_loss::BLOCK + 30;
    linear([3, outputs, 2], [false, true, true], 3, (true, 0.0));
    linear([3, outputs, 2], [false, true, true], 3, (true, 0.2));
    linear([3, outputs, 2], [false, false, false], 99, (true, 0.0));
}

#[test]
fn what_a_loss_of_a_vocabulary_keeps() {
    let device = support::cpu();
    let (rows, outputs, inputs) = (6, 40, 8);
    let labels = labels(rows, outputs, 3);
    let tensor = |seed, shape: &[usize]| {
        let values = support::noise(seed, shape.iter().product());
        Tensor::new(device.upload(Class::Scratch, &values).unwrap(), shape).unwrap()
    };
    let mut set = ParamSet::new();
    let x = set.param("x", tensor(1, &[rows, inputs]), Role::WEIGHT).unwrap();
    let trained = set.param("w", tensor(2, &[outputs, inputs]), Role::WEIGHT).unwrap();
    let frozen = Frozen::new(tensor(2, &[outputs, inputs]));
    let (some, constant) = (4, Frozen::new(tensor(1, &[rows, inputs])));
    // the gradient of the labelled rows and which they are; those rows, their labels and the sums'
    // logarithms
    let (for_x, for_w) = (4 * some * inputs + 4 * some, 4 * some * inputs + 8 * some);
    let kept = |x, w| kept(&device, x, w, &labels);
    assert_eq!(kept(x.get(), frozen.get()), Some(for_x));
    assert_eq!(kept(constant.get(), trained.get()), Some(for_w));
    assert_eq!(kept(x.get(), trained.get()), Some(for_x + for_w));
    assert_eq!(kept(constant.get(), frozen.get()), None);
}
fn kept<'m>(device: &Device, x: W<'m>, w: W<'m>, labels: &[u32]) -> Option<usize> {
    let mut cx = Cx::new(device, &Plain, Pass::gradients());
    let x = input(&mut cx, x, &pack([labels.len()]));
    cx.linear_cross_entropy(&x, LinearRef { w, b: None, in_out: false }, labels).unwrap();
    cx.tape().find(|n| n.0 == "linear_cross_entropy").map(|n| n.1)
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = support::cpu();
    let tensor = |n: usize| device.upload(Class::Scratch, &vec![0.5f32; n]).unwrap();
    let w = Frozen::new(Tensor::new(tensor(12), &[4, 3]).unwrap());
    let layer = || LinearRef { w: w.get(), b: None, in_out: false };
    let in_out = Frozen::new(Tensor::new(tensor(12), &[3, 4]).unwrap());
    let in_out = || LinearRef { w: in_out.get(), b: None, in_out: true };
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let x = Act::new(tensor(6), 3, pack([2])).unwrap();
    for labels in [&[0u32][..], &[0, 4]] {
        for layer in [layer(), in_out()] {
            assert!(cx.linear_cross_entropies(&x, &layer, labels).is_err(), "{labels:?}");
            assert!(cx.linear_cross_entropy(&x, layer, labels).is_err(), "{labels:?}");
        }
    }
    let narrow = Act::new(tensor(4), 2, pack([2])).unwrap();
    assert!(cx.linear_cross_entropy(&narrow, layer(), &[0, 0]).is_err());
    let (loss, count) = cx.linear_cross_entropy(&x, layer(), &[IGNORED; 2]).unwrap();
    assert_eq!((loss.read().unwrap(), count), (vec![0.0], 0));
    assert!(cx.squared_error(&x, &[0.0; 5]).is_err());
}

#[test]
fn squared_errors() {
    for (rows, cols) in [(1, 1), (5, 1), (4, 3)] {
        let targets = support::noise(7, rows * cols);
        check(
            &format!("squared_error {rows} {cols}"),
            Pass::gradients(),
            &[leaf(1, &[rows, cols])],
            |cx, w| {
                let z = input(cx, w[0].clone(), &pack([rows]));
                let (loss, count) = cx.squared_error(&z, &targets).unwrap();
                assert_eq!(count, rows * cols);
                loss
            },
            |x| vec![x[0].iter().zip(&targets).map(|(z, t)| (z - f64::from(*t)).powi(2)).sum()],
        );
    }
}

#[test]
fn labels_that_each_are_there_or_not() {
    for (rows, cols) in [(1, 1), (5, 1), (4, 3)] {
        let targets: Vec<f32> = (0..rows * cols).map(|i| [1.0, 0.0, 0.25][i % 3]).collect();
        let loss = |z: f64, y: f64| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        check(
            &format!("binary_cross_entropy {rows} {cols}"),
            Pass::gradients(),
            &[leaf(1, &[rows, cols])],
            |cx, w| {
                let z = input(cx, w[0].clone(), &pack([rows]));
                assert!(cx.binary_cross_entropy(&z, &targets[1..]).is_err());
                let (loss, count) = cx.binary_cross_entropy(&z, &targets).unwrap();
                assert_eq!(count, rows);
                loss
            },
            |x| {
                let all = x[0].iter().zip(&targets).map(|(z, y)| loss(*z, f64::from(*y)));
                vec![all.sum::<f64>() / cols as f64]
            },
        );
    }
}

/// How far softmax(s z) is from q, row by row.
fn divergence(z: &[f64], q: &[f64], s: f64, classes: usize) -> f64 {
    let row = |(z, q): (&[f64], &[f64])| {
        let all = z.iter().map(|z| (s * z).exp()).sum::<f64>().ln();
        let one = |(z, q): (&f64, &f64)| if *q > 0.0 { q * (q.ln() - s * z + all) } else { 0.0 };
        z.iter().zip(q).map(one).sum::<f64>()
    };
    z.chunks(classes).zip(q.chunks(classes)).map(row).sum()
}
#[test]
fn divergence_from_a_teacher() {
    for (rows, classes, s) in [(1, 1, 1.0f32), (1, 2, 0.5), (5, 2, 2.0), (7, 11, 0.25)] {
        // every third row has no target
        let weights = support::noise(3, rows * classes).into_iter().map(|x| x.abs() + 0.01);
        let mut q: Vec<f32> = weights.collect();
        for (i, row) in q.chunks_mut(classes).enumerate() {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|q| *q = if i % 3 == 2 { 0.0 } else { *q / sum });
        }
        check(
            &format!("divergence {rows} {classes} {s}"),
            Pass::gradients(),
            &[leaf(1, &[rows, classes])],
            |cx, w| {
                let z = input(cx, w[0].clone(), &pack([rows]));
                assert!(cx.divergence(&z, &q[1..], s).is_err());
                cx.divergence(&z, &q, s).unwrap()
            },
            |x| vec![divergence(&x[0], &wide(&q), s.into(), classes)],
        );
    }
}

#[test]
fn rows_of_length_one() {
    for (rows, cols) in [(1, 1), (1, 3), (5, 4)] {
        check(
            &format!("unit_rows {rows} {cols}"),
            Pass::gradients(),
            &[leaf(1, &[rows, cols])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack([rows]));
                cx.unit_rows(&x).unwrap()
            },
            |x| {
                let row = |x: &[f64]| {
                    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                    x.iter().map(|x| x / length).collect::<Vec<f64>>()
                };
                x[0].chunks(cols).flat_map(row).collect()
            },
        );
    }
    let device = support::cpu();
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let x =
        Act::new(device.upload(Class::Scratch, &[0.0f32, 0.0, 3.0, -4.0]).unwrap(), 2, pack([2])).unwrap();
    assert_eq!(cx.unit_rows(&x).unwrap().read().unwrap(), [0.0, 0.0, 0.6, -0.8], "zeros stay");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn linear_layers_of_any_shape((rows, outputs, inputs) in (1..9usize, 1..30usize, 1..9usize), gap in 1..5usize, how: [bool; 3]) {
        linear([rows, outputs, inputs], how, gap, (true, 0.0));
    }
}

#[test]
fn a_pull_to_where_a_weight_stood() {
    for shape in [&[1][..], &[7], &[5, 3], &[63, 65]] {
        let n: usize = shape.iter().product();
        let (at, strength) = (support::noise(5, n), support::noise(6, n));
        let strength: Vec<f32> = strength.iter().map(|x| if x.abs() < 0.1 { 0.0 } else { x * x }).collect();
        let long = vec![0f32; n + 1];
        check(
            &format!("pull {shape:?}"),
            Pass::gradients(),
            &[leaf(1, shape)],
            |cx, w| {
                let up = |values: &[f32]| cx.device().upload(kernels::Class::Scratch, values).unwrap();
                let [a, f, long] = [&at, &strength, &long].map(|values| up(values));
                assert!(cx.pull(&w[0], &a, &long).is_err() && cx.pull(&w[0], &long, &f).is_err());
                // what was left by another use of the weight is added to
                let (one, other) = (cx.pull(&w[0], &a, &f).unwrap(), cx.pull(&w[0], &a, &f).unwrap());
                cx.add(&one, &other).unwrap()
            },
            |x| {
                let all = x[0].iter().zip(&at).zip(&strength);
                vec![all.map(|((w, a), f)| f64::from(*f) * (w - f64::from(*a)).powi(2)).sum()]
            },
        );
    }
}
