//! Every differentiable operation against central differences in double precision.
mod support;
use engraft_engine::kernels::{activation, layernorm, matmul};
use engraft_engine::ops::{Heads, Qkv};
use engraft_engine::*;
use proptest::prelude::*;
use support::{cpu, differences::*, noise};

/// For operations that need no dropout.
fn plain(
    what: &str,
    leaves: &[Leaf],
    op: impl for<'m> Fn(&mut Cx<'m>, &[W<'m>]) -> Act,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    check(what, Pass::gradients(), leaves, op, reference);
}

fn linear([m, k, n]: [usize; 3], [in_out, bias, trains, residual]: [bool; 4], seed: u64) {
    let make = if trains { leaf } else { frozen };
    let mut leaves = vec![leaf(seed, &[m, k]), make(seed + 1, &if in_out { [k, n] } else { [n, k] })];
    leaves.push(if residual { leaf(seed + 3, &[m, n]) } else { frozen(seed + 3, &[0, n]) });
    leaves.extend(bias.then(|| make(seed + 2, &[n])));
    let what = format!("linear {m} {k} {n} in_out {in_out} bias {bias} trains {trains} residual {residual}");
    let (down, right) = if in_out { (n, 1) } else { (1, k) };
    plain(
        &what,
        &leaves,
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([m]));
            let layer = LinearRef { w: w[1].clone(), b: w.get(3).cloned(), in_out };
            match residual {
                true => {
                    let r = input(cx, w[2].clone(), &pack([m]));
                    cx.matmul_plus(&x, layer, &r).unwrap()
                }
                false => cx.matmul(&x, layer).unwrap(),
            }
        },
        |x| {
            let bias = x.get(3).map(Vec::as_slice);
            let mut y = matmul::reference(m, k, n, (&x[0], k, 1), (&x[1], down, right), bias);
            y.iter_mut().zip(&x[2]).for_each(|(y, r)| *y += r);
            y
        },
    );
}
#[test]
fn linear_layers_stored_either_way_with_and_without_bias_trained_and_frozen() {
    for (m, k, n) in [(1, 1, 1), (1, 5, 3), (7, 1, 4), (6, 9, 1), (11, 7, 5)] {
        for i in 0..16 {
            linear([m, k, n], [i & 1 > 0, i & 2 > 0, i & 4 > 0, i & 8 > 0], 3);
        }
    }
}

/// (about the mean, with a bias)
type Kind = (bool, bool);

fn norm(rows: usize, cols: usize, eps: f32, kind: Kind, residual: bool, trains: bool, seed: u64) {
    let make = if trains { leaf } else { frozen };
    let (centred, bias) = kind;
    let mut leaves = vec![leaf(seed, &[rows, cols]), make(seed + 1, &[cols])];
    leaves.extend(bias.then(|| make(seed + 2, &[cols])));
    leaves.extend(residual.then(|| leaf(seed + 3, &[rows, cols])));
    plain(
        &format!("norm {rows} {cols} {kind:?} residual {residual} trains {trains}"),
        &leaves,
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([rows]));
            let kind = if centred { NormKind::Layer } else { NormKind::Rms };
            let n = NormRef { w: w[1].clone(), b: bias.then(|| w[2].clone()), eps, kind };
            match w.get(2 + usize::from(bias)) {
                None => cx.normalise(&x, n).unwrap(),
                Some(r) => {
                    let r = input(cx, r.clone(), &pack([rows]));
                    cx.add_norm(&x, &r, Some(n)).unwrap()
                }
            }
        },
        |x| {
            let mut s = x[0].clone();
            let r = x.get(2 + usize::from(bias));
            r.iter().for_each(|r| s.iter_mut().zip(*r).for_each(|(s, r)| *s += r));
            let bias = bias.then(|| &x[2][..]);
            layernorm::reference(&s, &x[1], bias, f64::from(eps), centred).0
        },
    );
}
#[test]
fn norms_of_every_kind_with_and_without_a_residual_trained_and_frozen() {
    // two equal channels have no variance but eps; with eps 0.1 one channel's derivative is zero
    for (rows, cols, eps) in [(1, 1, 0.1), (1, 7, 1e-5), (5, 3, 1e-5), (6, 16, 1e-12)] {
        for (residual, trains) in [(false, false), (false, true), (true, false), (true, true)] {
            for kind in [(true, true), (true, false), (false, false), (false, true)] {
                norm(rows, cols, eps, kind, residual, trains, 5);
            }
        }
    }
}

#[test]
fn every_activation() {
    for f in Activation::ALL {
        let mut x = leaf(7, &[9, 13]);
        x.values.iter_mut().enumerate().for_each(|(i, x)| *x *= [0.5, 2.0, 7.0][i % 3]);
        for kink in [0f32, 6.0, 10.0] {
            // no derivative there
            x.values.iter_mut().filter(|x| (**x - kink).abs() < 1e-3).for_each(|x| *x += 0.01);
        }
        plain(
            &format!("{f:?}"),
            &[x],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack([4, 5]));
                cx.activate(&x, f).unwrap()
            },
            |x| x[0].iter().map(|x| activation::value(f, *x)).collect(),
        );
    }
}

#[test]
fn sums_and_products() {
    for (rows, cols) in [(1, 1), (1, 6), (5, 1), (7, 4)] {
        let seqs = pack([rows]);
        let two = |seed| leaf(seed, &[rows, cols]);
        let sum = |x: &[Vec<f64>]| x[0].iter().zip(&x[1]).map(|(a, b)| a + b).collect::<Vec<_>>();
        plain(
            "add",
            &[two(1), two(2)],
            |cx, w| {
                let (a, b) = (input(cx, w[0].clone(), &seqs), input(cx, w[1].clone(), &seqs));
                cx.add(&a, &b).unwrap()
            },
            sum,
        );
        plain(
            "add_norm without a norm",
            &[two(1), two(2)],
            |cx, w| {
                let (a, b) = (input(cx, w[0].clone(), &seqs), input(cx, w[1].clone(), &seqs));
                cx.add_norm(&a, &b, None).unwrap()
            },
            sum,
        );
        plain(
            "scale",
            &[two(3)],
            |cx, w| {
                let x = input(cx, w[0].clone(), &seqs);
                cx.scale(x, -1.75).unwrap()
            },
            |x| x[0].iter().map(|x| -1.75 * x).collect(),
        );
        for (n, make) in [(1, leaf as fn(u64, &[usize]) -> Leaf), (cols, leaf), (1, frozen), (cols, frozen)] {
            plain(
                &format!("mul_row {n}"),
                &[two(4), make(5, &[n])],
                |cx, w| {
                    let x = input(cx, w[0].clone(), &seqs);
                    cx.mul_row(&x, w[1].clone()).unwrap()
                },
                |x| {
                    x[0].iter()
                        .enumerate()
                        .map(|(i, y)| y * x[1][if n == 1 { 0 } else { i % cols }])
                        .collect()
                },
            );
        }
    }
}

#[test]
fn what_is_used_several_times_gets_the_sum_of_the_gradients() {
    // x + x + 2x + W x, twice through the same W
    let (rows, c) = (4, 3);
    plain(
        "fan-out",
        &[leaf(1, &[rows, c]), leaf(2, &[c, c])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([rows]));
            let layer = LinearRef { w: w[1].clone(), b: None, in_out: false };
            let a = cx.add(&x, &x).unwrap();
            let b = cx.scale(x.clone(), 2.0).unwrap();
            let d = cx.matmul(&x, layer.clone()).unwrap();
            let e = cx.matmul(&d, layer).unwrap();
            let y = cx.add(&a, &b).unwrap();
            cx.add(&y, &e).unwrap()
        },
        |x| {
            let times = |v: &[f64]| matmul::reference(rows, c, c, (v, c, 1), (&x[1], 1, c), None);
            let twice = times(&times(&x[0]));
            x[0].iter().zip(twice).map(|(x, y)| 4.0 * x + y).collect()
        },
    );
}

/// The factors that dropout multiplies with at a site in a pass: what becomes of ones.
fn factors(pass: Pass, rows: usize, cols: usize, p: f32, s: Site, salt: u8) -> Vec<f64> {
    let device = cpu();
    let ones = device.upload(Class::Scratch, &vec![1f32; rows * cols]).unwrap();
    let mut cx = Cx::new(&device, &Plain, pass);
    let y = cx.dropout(Act::new(ones, cols, pack([rows])).unwrap(), p, s, salt).unwrap();
    let v = wide(&y.read().unwrap());
    let scale = f64::from(1.0 / (1.0 - p));
    assert!(v.iter().all(|x| *x == 0.0 || *x == scale), "a factor is 0 or 1 / (1 - p)");
    v
}
#[test]
fn dropout_in_a_training_pass() {
    for (rows, cols, p) in [(1, 1, 0.5), (1, 40, 0.5), (30, 1, 0.25), (12, 11, 0.1)] {
        let (pass, s) = (Pass::train(17, 3), Site::ffn(2, Point::Down));
        let keep = factors(pass, rows, cols, p, s, 4);
        check(
            &format!("dropout {rows} {cols}"),
            pass,
            &[leaf(8, &[rows, cols])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack([rows]));
                cx.dropout(x, p, s, 4).unwrap()
            },
            |x| x[0].iter().zip(&keep).map(|(x, k)| x * k).collect(),
        );
    }
}

#[test]
fn the_end_of_a_sub_layer_drops_out_what_it_adds() {
    for (rows, cols, p) in [(1, 7, 0.5), (5, 3, 0.25), (6, 20, 0.1)] {
        let (pass, s, eps) = (Pass::train(17, 3), Site::attn(1, Point::O), 1e-5);
        let keep = factors(pass, rows, cols, p, s, 2);
        for (trains, has_norm) in [(false, true), (true, true), (false, false)] {
            let make = if trains { leaf } else { frozen };
            let rows_of = |seed| leaf(seed, &[rows, cols]);
            check(
                &format!("drop_add_norm {rows} {cols} trains {trains} norm {has_norm}"),
                pass,
                &[rows_of(1), make(2, &[cols]), make(3, &[cols]), rows_of(4)],
                |cx, w| {
                    let (x, r) =
                        (input(cx, w[0].clone(), &pack([rows])), input(cx, w[3].clone(), &pack([rows])));
                    let h = cx.drop_later(x, p, s, 2);
                    cx.drop_add_norm(
                        h,
                        &r,
                        has_norm.then_some(NormRef {
                            w: w[1].clone(),
                            b: Some(w[2].clone()),
                            eps,
                            kind: NormKind::Layer,
                        }),
                    )
                    .unwrap()
                },
                |x| {
                    let dropped = x[0].iter().zip(&keep).map(|(x, k)| x * k);
                    let sum: Vec<f64> = dropped.zip(&x[3]).map(|(x, r)| x + r).collect();
                    match has_norm {
                        true => layernorm::reference(&sum, &x[1], Some(&x[2]), f64::from(eps), true).0,
                        false => sum,
                    }
                },
            );
        }
    }
}

#[test]
fn embeddings_sum_the_rows_of_several_tables() {
    let (word, kind) = ([3u32, 0, 3, 3, 1], [0u32, 1, 1, 0, 0]);
    plain(
        "embed",
        &[leaf(1, &[5, 4]), leaf(2, &[2, 4]), frozen(3, &[5, 4])],
        |cx, w| {
            cx.embed(&[(w[0].clone(), &word), (w[1].clone(), &kind), (w[2].clone(), &word)], pack([2, 3]))
                .unwrap()
        },
        |x| {
            let at = |i: usize, j: usize| {
                x[0][word[i] as usize * 4 + j]
                    + x[1][kind[i] as usize * 4 + j]
                    + x[2][word[i] as usize * 4 + j]
            };
            (0..20).map(|n| at(n / 4, n % 4)).collect()
        },
    );
}

/// softmax(Q Kᵀ / √d) ∘ keep · V by plain loops; sequence i of `q` attends to sequence i of `kv`.
fn attention(
    q: &[usize],
    kv: &[usize],
    heads: usize,
    c: usize,
    keep: &dyn Fn(usize, usize) -> f64,
    x: &[Vec<f64>],
) -> Vec<f64> {
    let d = c / heads;
    let mut o = vec![0.0; x[0].len()];
    let (mut row, mut first) = (0, 0);
    for (nq, nk) in q.iter().zip(kv) {
        for i in row..row + nq {
            for h in 0..heads {
                let score = |j: usize| {
                    (0..d).map(|e| x[0][i * c + h * d + e] * x[1][j * c + h * d + e]).sum::<f64>()
                        / (d as f64).sqrt()
                };
                let p: Vec<f64> = (first..first + nk).map(|j| score(j).exp()).collect();
                let sum: f64 = p.iter().sum();
                for (n, p) in p.iter().enumerate() {
                    for e in 0..d {
                        o[i * c + h * d + e] +=
                            p / sum * keep(i, h * nk + n) * x[2][(first + n) * c + h * d + e];
                    }
                }
            }
        }
        (row, first) = (row + nq, first + nk);
    }
    o
}
fn attend(q: &[usize], kv: &[usize], heads: usize, c: usize, p: f32, seed: u64) {
    let (pass, s) = (Pass::train(23, 1), Site::attn(1, Point::Probs));
    let (rows, keys) = (q.iter().sum::<usize>(), kv.iter().sum::<usize>());
    let wide = heads * kv.iter().max().unwrap();
    let f = if p > 0.0 { factors(pass, rows, wide, p, s, 0) } else { vec![1.0; rows * wide] };
    let leaves = [leaf(seed, &[rows, c]), leaf(seed + 1, &[keys, c]), leaf(seed + 2, &[keys, c])];
    check(
        &format!("attend {q:?} {kv:?} heads {heads} channels {c} dropout {p}"),
        pass,
        &leaves,
        |cx, w| {
            let (sq, sk) = (pack(q.iter().copied()), pack(kv.iter().copied()));
            let (q, k, v) =
                (input(cx, w[0].clone(), &sq), input(cx, w[1].clone(), &sk), input(cx, w[2].clone(), &sk));
            let how = Heads { count: heads, dropout: p, ..Heads::default() };
            cx.attend(s, Qkv::of(&q, &k, &v), how).unwrap()
        },
        |x| attention(q, kv, heads, c, &|i, n| f[i * wide + n], x),
    );
}
#[test]
fn attention_over_ragged_sequences_with_and_without_dropout() {
    for p in [0.0, 0.3] {
        attend(&[1], &[1], 1, 1, p, 1);
        attend(&[5], &[5], 1, 4, p, 2);
        attend(&[3, 1, 6], &[3, 1, 6], 2, 8, p, 3);
        attend(&[2, 4], &[5, 1], 3, 6, p, 4); // other keys than queries, as with prefixes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn linear_layers_of_any_shape((m, k, n) in (1..20usize, 1..20usize, 1..20usize), seed in 0..1000u64) {
        linear([m, k, n], [seed % 2 > 0, seed % 3 > 0, true, seed % 5 > 2], seed);
    }
    #[test]
    fn norms_of_any_shape((rows, cols) in (1..12usize, 3..24usize), seed in 0..1000u64) {
        norm(rows, cols, 1e-5, (seed % 3 > 0, seed % 5 > 1), seed % 2 > 0, true, seed);
    }
    #[test]
    fn attention_of_any_shape(lengths in prop::collection::vec(1..7usize, 1..4), heads in 1..4usize, d in 1..5usize, seed in 0..1000u64) {
        attend(&lengths, &lengths, heads, heads * d, if seed % 2 > 0 { 0.2 } else { 0.0 }, seed);
    }
}

#[test]
fn a_wrong_gradient_is_caught() {
    let want = wide(&noise(1, 20));
    agree("right", &narrow(&want), &want).unwrap();
    for wrong in [
        want.iter().map(|x| x * 1.001).collect::<Vec<_>>(), // a factor
        want.iter().map(|x| -x).collect(),                  // a sign
        want.iter().rev().copied().collect(),               // an order
        want.iter().enumerate().map(|(i, x)| if i == 3 { x + 1e-3 } else { *x }).collect(), // one number
        want.iter().map(|_| f64::NAN).collect(),
    ] {
        assert!(agree("wrong", &narrow(&wrong), &want).is_err());
    }
    assert!(agree("zero", &[0.1], &[0.0]).is_err());
    // and the whole comparison: the values are right, but the tape has lost one of two terms
    let lost = std::panic::catch_unwind(|| {
        plain(
            "lost",
            &[leaf(1, &[2, 2])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack([2]));
                let copy = x.buffer().duplicate(Class::Scratch).unwrap();
                let copy = Act::new(copy, 2, pack([2])).unwrap();
                cx.add(&x, &copy).unwrap()
            },
            |x| x[0].iter().map(|x| 2.0 * x).collect(),
        )
    });
    let message = lost.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("lost: gradient of tensor 0: 5.0e-1"), "{message}");
}
