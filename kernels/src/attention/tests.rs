use super::{
    cases::{Problem, packed, prefixed},
    *,
};
use crate::{Buffer, Class, case::noise, simd::check};
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradients_are_slopes() {
    let spans = vec![Span::new(0..2, 0..3), Span::new(2..5, 3..5)];
    let plain = Problem { scale: 0.6, ..Problem::new("plain", spans, 2, 3) };
    let dropout = Some(Dropout::new(0.3, 1, 2, 3));
    let prefixed = Problem { spans: prefixed(&[(2, 3), (0, 1), (3, 2)]), kv_heads: 1, ..plain.clone() };
    let window = Mask::Window { before: 1, after: 1 };
    for p in [
        Problem { dropout, ..plain.clone() },
        plain,
        Problem { mask: Mask::Causal, dropout, ..prefixed.clone() },
        Problem { mask: window, buckets: 4, ..prefixed },
    ] {
        let (x, d_o) = (p.wide(), p.d_o());
        let loss = |x: &[Vec<f64>]| p.o(x)[0].iter().zip(&d_o).map(|(o, d)| o * f64::from(*d)).sum::<f64>();
        for (i, gradient) in p.gradients(&x).iter().enumerate() {
            check::differences(&x[i], gradient, |changed| {
                let mut x = x.clone();
                x[i] = changed.to_vec();
                loss(&x)
            });
        }
    }
}

/// Some queries of a sequence, and its keys: shared ones, those of a cache, its own.
#[derive(Clone, Debug)]
struct Sequence {
    prefix: Range<usize>,
    past: usize,
    own: usize,
    queries: usize,
}
fn sequence() -> impl Strategy<Value = Sequence> {
    let prefix = prop_oneof![Just((0, 0)), (0usize..6, 0usize..9)];
    let past = prop_oneof![Just(0), 0usize..40];
    (prefix, past, 0usize..50, 0usize..50).prop_map(|((first, len), past, own, queries)| Sequence {
        prefix: first..first + len,
        past,
        own,
        queries: queries.min(own),
    })
}
fn mask() -> impl Strategy<Value = Mask> {
    let window = (0usize..40, 0usize..5).prop_map(|(before, after)| Mask::Window { before, after });
    prop_oneof![Just(Mask::None), Just(Mask::Causal), window]
}
/// The last queries of each sequence, in rows one after the other.
fn spans(sequences: &[Sequence], shifted: bool) -> Vec<Span> {
    let (mut row, mut past, mut own) = (0, 0, 0);
    let span = |s: &Sequence| {
        let keys = [(1, s.prefix.clone()), (2, past..past + s.past), (0, own..own + s.own)];
        let free = s.prefix.len();
        let position = free + s.past + s.own - s.queries;
        let q = row..row + s.queries;
        (row, past, own) = (row + s.queries, past + s.past, own + s.own);
        let kv = keys.into_iter().map(|(of, rows)| Keys { of, rows }).collect();
        Span { q, kv, position, free, bias_position: if shifted { position - free } else { position } }
    };
    sequences.iter().map(span).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shape(
        sequences in prop::collection::vec(sequence(), 0..5),
        (kv_heads, group) in (1usize..4, 1usize..4),
        head_dim in 1usize..70,
        mask in mask(),
        buckets in prop_oneof![Just(0), 1usize..12],
        p in prop::option::of(0.05f32..0.6),
        (shifted, threads) in (any::<bool>(), 2usize..4),
    ) {
        let problem = Problem {
            kv_heads,
            scale: 0.3,
            mask,
            dropout: p.map(|p| Dropout::new(p, 5, 6, 7)),
            buckets,
            ..Problem::new("any", spans(&sequences, shifted), kv_heads * group, head_dim)
        };
        compare(&problem, threads);
    }
    #[test]
    fn any_shape_of_columns(
        lengths in prop::collection::vec(0usize..40, 0..5),
        (kv_heads, group) in (1usize..3, 1usize..4),
        head_dim in 1usize..40,
        mask in mask(),
        threads in 2usize..4,
    ) {
        let new = Problem::new("columns", packed(&lengths), kv_heads * group, head_dim);
        compare(&Problem { kv_heads, mask, fused: true, ..new }, threads);
    }
}
/// Both directions on every level, with one thread and with several.
fn compare(problem: &Problem, threads: usize) {
    let x = problem.wide();
    let want = [problem.o(&x).concat(), problem.arranged(&problem.gradients(&x)).concat()];
    check::levels(|level| {
        for (back, want) in want.iter().enumerate() {
            let run = |threads| {
                let d = Device::cpu(threads).unwrap();
                let mut run = if back > 0 { problem.backward(&d) } else { problem.forward(&d) }.unwrap();
                run.launch().unwrap();
                run.read().unwrap()
            };
            let one = run(1);
            assert!(check::same(&one, &run(threads)), "{level:?} {back}: {threads} threads");
            // not relative to the largest value alone: with one key the gradients of
            // q and k are zero
            let got: Vec<f32> = one.into_iter().chain([1.0]).collect();
            let want: Vec<f64> = want.iter().copied().chain([1.0]).collect();
            let far = check::distance(&got, &want);
            assert!(far < 2e-5, "{level:?} {back}: {far:e}");
        }
    });
}

fn qkv<'a>(q: View<'a>, kv: &'a [Kv<'a>]) -> Qkv<'a> {
    Qkv { q, kv, bias: None }
}
fn plain(spans: &[Span], head_dim: usize, scale: f32) -> Attention<'_> {
    Attention { heads: 1, kv_heads: 1, head_dim, scale, mask: Mask::None, dropout: None, spans }
}

#[test]
fn large_scores_stay_finite() {
    for sign in [-1.0, 1.0] {
        let p = Problem { scale: 100.0 * sign, ..Problem::new("large", vec![Span::new(0..9, 0..21)], 1, 4) };
        check::levels(|level| {
            let d = Device::cpu(1).unwrap();
            for mut run in [p.forward(&d).unwrap(), p.backward(&d).unwrap()] {
                run.launch().unwrap();
                assert!(run.read().unwrap().iter().all(|x| x.is_finite()), "{level:?}");
            }
        });
    }
}

#[test]
fn a_pass_over_the_past_is_the_whole_pass() {
    // the last queries alone, and the last ones behind keys that lie elsewhere, bit by bit
    let (n, c) = (77, 10);
    fn view((buffer, rows): &(Buffer, usize)) -> View<'_> {
        View::of(buffer, *rows, 10).unwrap()
    }
    let x: [Vec<f32>; 3] = [1, 2, 3].map(|i| noise(i, n * c));
    let d = Device::cpu(2).unwrap();
    let run = |spans: &[Span], q: &[f32], kv: &[[&[f32]; 2]]| {
        let up = |x: &[f32]| (check::up(&d, x), x.len() / c);
        let (q, kv): (_, Vec<_>) = (up(q), kv.iter().map(|kv| kv.map(up)).collect());
        let mut o = d.zeros::<f32>(Class::Scratch, q.1 * c).unwrap();
        let a = Attention {
            heads: 2,
            kv_heads: 2,
            mask: Mask::Window { before: 40, after: 0 },
            ..plain(spans, 5, 0.4)
        };
        let kv: Vec<_> = kv
            .iter()
            .map(|[k, v]| Kv { k: View::of(&k.0, k.1, c).unwrap(), v: View::of(&v.0, v.1, c).unwrap() })
            .collect();
        forward(&d, a, qkv(view(&q), &kv), ViewMut::of(&mut o, q.1, c).unwrap(), None).unwrap();
        o.read::<f32>().unwrap()
    };
    check::levels(|_| {
        let whole = run(&[Span::new(0..n, 0..n)], &x[0], &[[&x[1], &x[2]]]);
        for first in [n - 1, n - 3, 30] {
            let (q, last) = (&x[0][first * c..], &whole[first * c..]);
            let span = Span { position: first, ..Span::new(0..n - first, 0..n) };
            assert!(check::same(&run(std::slice::from_ref(&span), q, &[[&x[1], &x[2]]]), last));
            let [k, v] = [&x[1], &x[2]].map(|x| x.split_at(first * c));
            let kv = vec![Keys { of: 1, rows: 0..first }, Keys { of: 0, rows: 0..n - first }];
            assert!(check::same(&run(&[Span { kv, ..span }], q, &[[k.1, v.1], [k.0, v.0]]), last));
        }
    });
}

#[test]
fn gradients_that_nobody_wants_are_left_out() {
    let d = Device::cpu(1).unwrap();
    let spans = prefixed(&[(2, 3), (2, 1)]);
    let a = Attention { heads: 2, kv_heads: 2, mask: Mask::Causal, ..plain(&spans, 3, 1.0) };
    let up = |seed, rows: usize| check::up(&d, &noise(seed, rows * 6));
    let (queries, k, v) = (up(1, 4), up(2, 4), up(3, 4));
    let (pk, pv, d_o) = (up(4, 2), up(5, 2), up(6, 4));
    let view = |b, rows| View::of(b, rows, 6).unwrap();
    let kv = [Kv { k: view(&k, 4), v: view(&v, 4) }, Kv { k: view(&pk, 2), v: view(&pv, 2) }];
    let (mut o, mut lse) = (up(0, 4), check::up(&d, &[0.0; 8]));
    let to = (ViewMut::of(&mut o, 4, 6).unwrap(), ViewMut::of(&mut lse, 4, 2).unwrap());
    forward(&d, a, qkv(view(&queries, 4), &kv), to.0, Some(to.1)).unwrap();
    let run = |wanted: [bool; 5]| {
        let rows = [4, 4, 4, 2, 2];
        let mut out: Vec<_> = rows.map(|rows| d.zeros::<f32>(Class::Scratch, rows * 6).unwrap()).into();
        let mut to: Vec<Option<ColsMut<'_>>> = out
            .iter_mut()
            .zip(rows)
            .zip(wanted)
            .map(|((b, rows), wanted)| wanted.then(|| ViewMut::of(b, rows, 6).unwrap().into()))
            .collect();
        let [q, k, v, pk, pv] = [0, 1, 2, 3, 4].map(|i| to[i].take());
        let g = Gradients { q, kv: vec![[k, v], [pk, pv]], bias: None };
        let lse = View::of(&lse, 4, 2).unwrap();
        backward(&d, a, qkv(view(&queries, 4), &kv), lse, view(&d_o, 4), g).unwrap();
        drop(to);
        out.iter().map(|b| b.read::<f32>().unwrap()).collect::<Vec<_>>()
    };
    let all = run([true; 5]);
    assert!(all.iter().all(|x| x.iter().all(|x| *x != 0.0)));
    for i in 0..5 {
        let only = run(std::array::from_fn(|j| j == i));
        for (j, (got, want)) in only.iter().zip(&all).enumerate() {
            assert!(if i == j { check::same(got, want) } else { got.iter().all(|x| *x == 0.0) });
        }
    }
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let spans = [Span::new(0..2, 0..2), Span::new(1..3, 2..3)];
    let a = plain(&spans, 2, 1.0);
    let (x, mut o, short, ids) = (
        check::up(&d, &[0.0; 6]),
        check::up(&d, &[0.0; 6]),
        check::up(&d, &[0.0; 2]),
        check::indices(&d, &[0; 6]),
    );
    let view = |b, rows| View::of(b, rows, 2).unwrap();
    let kv = [Kv { k: view(&x, 3), v: view(&x, 3) }];
    let mut run = |device: &Device, a: Attention<'_>, x: Qkv<'_>| {
        forward(device, a, x, ViewMut::of(&mut o, 3, 2).unwrap(), None).unwrap_err()
    };
    let good = qkv(view(&x, 3), &kv);
    assert!(run(&d, a, good).to_string().contains("`spans` overlap"));
    let a = Attention { spans: &spans[..1], ..a };
    assert!(matches!(run(&other, a, good), Error::Elsewhere { .. }));
    let few = [Kv { k: view(&short, 1), ..kv[0] }];
    assert!(matches!(run(&d, a, qkv(view(&x, 3), &few)), Error::Shape { argument: "k", .. }));
    assert!(matches!(run(&d, a, qkv(view(&ids, 3), &kv)), Error::DType { argument: "q", .. }));
    assert!(matches!(run(&d, a, qkv(view(&x, 3), &[])), Error::Range { got: 0, below: 0, .. }));
    let uneven = Attention { heads: 2, kv_heads: 0, head_dim: 1, ..a };
    assert_eq!(run(&d, uneven, good).to_string(), "attention: 2 heads of queries cannot share 0 of keys");
    let bias = |bucket, zero| Some(Bias { table: View::of(&x, 2, 1).unwrap(), bucket, zero });
    for (bucket, zero) in [(&[0u32, 0][..], 1), (&[0, 0], 0), (&[0, 0, 2], 1), (&[], 0)] {
        let e = run(&d, a, Qkv { bias: bias(bucket, zero), ..good });
        let words =
            ["there is no row of the bias 2: there are 2", "at distances that `bucket` has no row for"];
        assert!(words.iter().any(|w| e.to_string().contains(w)), "{e}");
    }
    assert!(
        forward(
            &d,
            a,
            Qkv { bias: bias(&[0, 1, 0], 1), ..good },
            ViewMut::of(&mut check::up(&d, &[0.0; 6]), 3, 2).unwrap(),
            None
        )
        .is_ok()
    );
}
