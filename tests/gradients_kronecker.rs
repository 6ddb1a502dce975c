//! Weights that are Kronecker sums, and whole sequences dropped out, against central differences in
//! double precision.
mod support;
use engraft_engine::ops::{KroneckerSum, Matrices};
use engraft_engine::*;
use support::{Case, cpu, differences::*, noise, relative};

/// n products (rows, k) (k, cols), or what they are given as.
fn multiplied(n: usize, (rows, cols): (usize, usize), k: Option<usize>, x: &[Vec<f64>]) -> Vec<f64> {
    let Some(k) = k else { return x[0].clone() };
    let mut y = vec![0.0; n * rows * cols];
    for i in 0..n {
        for r in 0..rows {
            for c in 0..cols {
                y[(i * rows + r) * cols + c] =
                    (0..k).map(|j| x[0][(i * rows + r) * k + j] * x[1][(i * k + j) * cols + c]).sum();
            }
        }
    }
    y
}
/// The transpose of Σ A_i ⊗ W_i, element by element.
fn kronecker(how: KroneckerSum, a: &[f64], w: &[f64]) -> Vec<f64> {
    let ((ar, ac), (wr, wc)) = (how.a, how.w);
    let (input, output) = (ar * wr, ac * wc);
    let mut h = vec![0.0; input * output];
    for x in 0..input {
        for y in 0..output {
            h[y * input + x] = (0..how.terms)
                .map(|i| {
                    let a = a[(i * ar + x / wr) * ac + y / wc];
                    a * w[(i * wr + x % wr) * wc + y % wc]
                })
                .sum();
        }
    }
    h
}

#[test]
fn kronecker_sums_of_whole_matrices_and_of_products() {
    let shapes = [(1, (1, 1), (1, 1)), (2, (2, 2), (5, 3)), (4, (4, 4), (3, 7)), (3, (3, 2), (4, 4))];
    for (terms, a, w) in shapes {
        let how = KroneckerSum { terms, a, w };
        for ranks in [(None, None), (Some(1), Some(2)), (None, Some(1)), (Some(2), None)] {
            for trains in [(true, true), (true, false), (false, true)] {
                let tensors = |seed: u64, (rows, cols): (usize, usize), k: Option<usize>, trains: bool| {
                    let make = if trains { leaf } else { frozen };
                    match k {
                        None => vec![make(seed, &[terms, rows, cols])],
                        Some(k) => vec![make(seed, &[terms, rows, k]), make(seed + 1, &[terms, k, cols])],
                    }
                };
                let mut leaves = tensors(21, a, ranks.0, trains.0);
                let of_a = leaves.len();
                leaves.extend(tensors(31, w, ranks.1, trains.1));
                check(
                    &format!("{how:?} {ranks:?} {trains:?}"),
                    Pass::gradients(),
                    &leaves,
                    |cx, x| {
                        let matrices = |part: std::ops::Range<usize>| match part.len() {
                            1 => Matrices::Whole(x[part.start].clone()),
                            _ => Matrices::Products(x[part.start].clone(), x[part.start + 1].clone()),
                        };
                        cx.kronecker_sum(matrices(0..of_a), matrices(of_a..x.len()), how).unwrap()
                    },
                    |x| {
                        let (of_x, of_y) = x.split_at(of_a);
                        let first = multiplied(terms, a, ranks.0, of_x);
                        kronecker(how, &first, &multiplied(terms, w, ranks.1, of_y))
                    },
                );
            }
        }
    }
}
#[test]
fn a_kronecker_sum_of_other_shapes_is_refused() {
    let (device, mut set) = (cpu(), ParamSet::new());
    let mut make = |n: usize| {
        let t = Tensor::new(device.upload(Class::Scratch, &noise(1, n)).unwrap(), &[n]).unwrap();
        set.param("leaf", t, Role::WEIGHT).unwrap()
    };
    let (a, w) = (make(8), make(29));
    let mut cx = Cx::new(&device, &Plain, Pass::gradients());
    let how = KroneckerSum { terms: 2, a: (2, 2), w: (5, 3) };
    let e = cx.kronecker_sum(Matrices::Whole(a.get()), Matrices::Whole(w.get()), how).unwrap_err();
    assert!(e.to_string().contains("kronecker_sum") && e.to_string().contains("29"), "{e}");
}

const SITE: Site = Site { layer: 3, part: Part::Ffn, point: Point::Close };
/// 0 or 1 / (1 - p) for each sequence.
fn factors(pass: Pass, lengths: &[usize], items: &[usize]) -> Vec<f32> {
    let (device, cols) = (cpu(), 3);
    let mut cx = Cx::new(&device, &Plain, pass);
    let mut seqs = pack(lengths.iter().copied()).to_vec();
    seqs.iter_mut().zip(items).for_each(|(s, item)| s.item = *item);
    let rows: usize = lengths.iter().sum();
    let x =
        Act::new(device.upload(Class::Scratch, &vec![1f32; rows * cols]).unwrap(), cols, seqs.clone().into());
    let y = cx.drop_sequences(x.unwrap(), 0.25, SITE, 2).unwrap().read().unwrap();
    let one = |s: &Seq| {
        let own = &y[s.start * cols..(s.start + s.len) * cols];
        assert!(own.iter().all(|f| *f == own[0]), "one factor for all rows of a sequence");
        own[0]
    };
    seqs.iter().map(one).collect()
}
#[test]
fn whole_sequences_are_dropped_by_seed_pass_site_and_item() {
    let lengths: Vec<usize> = (0..400).map(|i| 1 + i % 3).collect();
    let items: Vec<usize> = (0..400).collect();
    let first = factors(Pass::train(7, 1), &lengths, &items);
    assert!(first.iter().all(|f| *f == 0.0 || (*f - 4.0 / 3.0).abs() < 1e-6));
    let kept = first.iter().filter(|f| **f > 0.0).count();
    assert!((270..330).contains(&kept), "{kept} of 400 are kept, expected about 300");
    assert_eq!(first, factors(Pass::train(7, 1), &lengths, &items), "the same pass");
    assert_ne!(first, factors(Pass::train(7, 2), &lengths, &items), "another pass");
    assert_ne!(first, factors(Pass::train(8, 1), &lengths, &items), "another run");
    // whatever else is in the batch, and wherever its rows lie
    let two = factors(Pass::train(7, 1), &[5, 2], &[399, 11]);
    assert_eq!(two, [first[399], first[11]]);
    // nothing is dropped where nothing trains
    assert!(factors(Pass::gradients(), &lengths, &items).iter().all(|f| *f == 1.0));
}
#[test]
fn gradients_of_dropped_sequences() {
    let (lengths, cols, pass) = ([2, 1, 3, 1, 2, 1], 3, Pass::train(5, 4));
    let drops = factors(pass, &lengths, &[0, 1, 2, 3, 4, 5]);
    assert!(drops.contains(&0.0) && drops.iter().any(|f| *f > 0.0), "both kinds are tested: {drops:?}");
    let seqs = pack(lengths);
    let rows: usize = lengths.iter().sum();
    check(
        "drop_sequences",
        pass,
        &[leaf(1, &[rows, cols])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            cx.drop_sequences(x, 0.25, SITE, 2).unwrap()
        },
        |x| {
            let of_row = seqs.iter().flat_map(|s| vec![f64::from(drops[s.item]); s.len]);
            let of_row: Vec<f64> = of_row.collect();
            x[0].iter().enumerate().map(|(i, x)| x * of_row[i / cols]).collect()
        },
    );
}

/// Outputs and gradients of a training pass of a case.
fn trained(case: &Case, keep: Keep) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let mut g = Gradients::new();
    let hidden = case.pass_with(&Activations::all(keep), Pass::train(3, 1), &mut g).0;
    (hidden, case.gradients(&g).into_iter().map(|(n, g)| (n, g.unwrap())).collect())
}
#[test]
fn what_is_made_or_dropped_in_a_layer_is_the_same_when_it_is_computed_again() {
    for (name, field) in [("adapter-plus", true), ("compacter", false), ("phm-own", false), ("gated", true)] {
        let case = Case::changed(name, &cpu(), |config| {
            if field {
                config["stochastic_depth"] = 0.4.into();
            }
        });
        let (hidden, gradients) = trained(&case, Keep::F32);
        let (again, others) = trained(&case, Keep::Recompute);
        assert_eq!(hidden, again, "{name}");
        for ((n, a), (_, b)) in gradients.iter().zip(&others) {
            assert!(relative(a, b) < 1e-6, "{name} {n}");
        }
        let plain = trained(&Case::load(name, &cpu()), Keep::F32).0;
        assert_eq!(plain != hidden, field, "{name}: something is dropped where a field says so");
    }
}
