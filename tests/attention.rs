//! Attention in all its forms against central differences: masks, scales, grouped queries, fused
//! projections, fewer queries than keys, prefixes, biases of relative positions; and passes that
//! remember against whole ones.
mod support;
use engraft_engine::kernels::attention::{Attention, Inputs, Keys, Mask, Span, reference};
use engraft_engine::ops::{Heads, Qkv, Relative};
use engraft_engine::*;
use support::{cpu, differences::*, noise};

const SITE: Site = Site { layer: 1, part: Part::Attn, point: Point::Probs };
const MASKS: [Mask; 4] =
    [Mask::None, Mask::Causal, Mask::Window { before: 2, after: 0 }, Mask::Window { before: 1, after: 1 }];

/// Sequences of these lengths, one after the other.
fn spans(lengths: &[usize]) -> Vec<Span> {
    let mut at = 0;
    let next = |n: &usize| {
        at += n;
        Span::new(at - n..at, at - n..at)
    };
    lengths.iter().map(next).collect()
}
/// As the kernel takes it.
fn attention(how: Heads, d: usize, spans: &[Span]) -> Attention<'_> {
    let Heads { count: heads, mask, .. } = how;
    let kv_heads = how.kv.unwrap_or(heads);
    let scale = how.scale.unwrap_or(1.0 / (d as f32).sqrt());
    Attention { heads, kv_heads, head_dim: d, scale, mask, dropout: None, spans }
}
/// O by plain loops.
fn plain(how: Heads, d: usize, spans: &[Span], q: &[f64], kv: &[[&[f64]; 2]]) -> Vec<f64> {
    reference(attention(how, d, spans), &Inputs { q, kv, bias: None }).0
}
/// Columns of a matrix.
fn columns(x: &[f64], width: usize, cols: std::ops::Range<usize>) -> Vec<f64> {
    x.chunks(width).flat_map(|row| row[cols.clone()].to_vec()).collect()
}

#[test]
fn masks_scales_and_grouped_queries() {
    let lengths = [3, 1, 0, 5];
    let rows = lengths.iter().sum();
    for mask in MASKS {
        for (count, kv, d, scale) in [(1, None, 3, None), (4, Some(2), 2, Some(0.8)), (3, Some(1), 1, None)] {
            let how = Heads { count, kv, scale, mask, dropout: 0.0 };
            let width = kv.unwrap_or(count) * d;
            let leaves = [leaf(1, &[rows, count * d]), leaf(2, &[rows, width]), leaf(3, &[rows, width])];
            check(
                &format!("{how:?}"),
                Pass::gradients(),
                &leaves,
                |cx, w| {
                    let seqs = pack(lengths);
                    let [q, k, v] = [0, 1, 2].map(|i| input(cx, w[i].clone(), &seqs));
                    cx.attend(SITE, Qkv::of(&q, &k, &v), how).unwrap()
                },
                |x| plain(how, d, &spans(&lengths), &x[0], &[[&x[1], &x[2]]]),
            );
        }
    }
}

#[test]
fn projections_side_by_side() {
    let (lengths, d) = ([2, 4, 1], 3);
    for (count, kv) in [(2, None), (4, Some(2))] {
        let how = Heads { count, kv, mask: Mask::Causal, ..Heads::default() };
        let (q, k) = (count * d, kv.unwrap_or(count) * d);
        let width = q + 2 * k;
        check(
            &format!("fused {how:?}"),
            Pass::gradients(),
            &[leaf(1, &[7, width])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack(lengths));
                let y = cx.attend(SITE, Qkv::fused(&x, &how).unwrap(), how).unwrap();
                assert_eq!(cx.tape().last(), Some(("attention", 4 * 7 * (width + count))));
                y
            },
            |x| {
                let [q, k, v] = [0..q, q..q + k, q + k..width].map(|cols| columns(&x[0], width, cols));
                plain(how, d, &spans(&lengths), &q, &[[&k, &v]])
            },
        );
        // some columns that nobody reads, and the same ones read twice
        check(
            "columns read twice",
            Pass::gradients(),
            &[leaf(1, &[7, 2 * q])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack(lengths));
                let cols = |first| x.cols_of(first..first + q).unwrap();
                let qkv = Qkv { q: cols(1), k: cols(2), v: cols(2), ..Qkv::of(&x, &x, &x) };
                cx.attend(SITE, qkv, Heads { kv: None, ..how }).unwrap()
            },
            |x| {
                let [q, kv] = [1, 2].map(|first| columns(&x[0], 2 * q, first..first + q));
                plain(Heads { kv: None, ..how }, d, &spans(&lengths), &q, &[[&kv, &kv]])
            },
        );
    }
}

#[test]
fn fewer_queries_than_keys() {
    // (rows of queries, the place of the first, keys)
    let sequences = [(1, 4, 5), (2, 0, 3), (3, 1, 4)];
    let (mut spans, mut row, mut key) = (vec![], 0, 0);
    for (queries, position, keys) in sequences {
        spans.push(Span { position, ..Span::new(row..row + queries, key..key + keys) });
        (row, key) = (row + queries, key + keys);
    }
    let first = sequences.map(|s| s.1);
    for mask in MASKS {
        let how = Heads { count: 2, mask, ..Heads::default() };
        let leaves = [leaf(1, &[row, 6]), leaf(2, &[key, 6]), leaf(3, &[key, 6])];
        check(
            &format!("{mask:?}"),
            Pass::gradients(),
            &leaves,
            |cx, w| {
                let [sq, sk] = [pack(sequences.map(|s| s.0)), pack(sequences.map(|s| s.2))];
                let q = input(cx, w[0].clone(), &sq);
                let [k, v] = [1, 2].map(|i| input(cx, w[i].clone(), &sk));
                let qkv = Qkv { first: Some(&first), ..Qkv::of(&q, &k, &v) };
                let unknown = cx.attend(SITE, Qkv { first: None, ..qkv.clone() }, how);
                assert_eq!(unknown.is_err(), mask != Mask::None, "their places matter");
                cx.attend(SITE, qkv, how).unwrap()
            },
            |x| plain(how, 3, &spans, &x[0], &[[&x[1], &x[2]]]),
        );
    }
}

/// Rows of a prefix in front of each sequence, whose queries do not count them.
fn behind(prefixes: &[std::ops::Range<usize>], lengths: &[usize], counts: bool) -> Vec<Span> {
    let mut spans = spans(lengths);
    for (s, rows) in spans.iter_mut().zip(prefixes) {
        let p = rows.len();
        s.kv.insert(0, Keys { of: 1, rows: rows.clone() });
        (s.free, s.position, s.bias_position) = (p, p, if counts { 0 } else { p });
    }
    spans
}

#[test]
fn prefixes_that_sequences_share() {
    let (lengths, prefixes) = ([3, 2, 4, 1], [1..3, 0..0, 0..2, 2..3]);
    for mask in MASKS {
        for (count, kv) in [(2, None), (2, Some(1))] {
            let how = Heads { count, kv, mask, ..Heads::default() };
            let width = kv.unwrap_or(count) * 3;
            let (own, shared) = ([10, width], [4, width]);
            let leaves =
                [leaf(1, &[10, count * 3]), leaf(2, &own), leaf(3, &own), leaf(4, &shared), leaf(5, &shared)];
            check(
                &format!("prefix {how:?}"),
                Pass::gradients(),
                &leaves,
                |cx, w| {
                    let (seqs, rows) = (pack(lengths), pack([4]));
                    let [q, k, v] = [0, 1, 2].map(|i| input(cx, w[i].clone(), &seqs));
                    let [pk, pv] = [3, 4].map(|i| input(cx, w[i].clone(), &rows));
                    let prefix =
                        Prefix { k: pk, v: pv, of: prefixes.iter().map(|r| vec![r.clone()]).collect() };
                    cx.attend(SITE, Qkv { prefix: Some(&prefix), ..Qkv::of(&q, &k, &v) }, how).unwrap()
                },
                |x| {
                    let kv = [[&*x[1], &*x[2]], [&*x[3], &*x[4]]];
                    plain(how, 3, &behind(&prefixes, &lengths, false), &x[0], &kv)
                },
            );
        }
    }
}

#[test]
fn a_bias_of_relative_positions() {
    let (lengths, prefixes) = ([3, 1, 5], [0..2, 0..0, 1..3]);
    let (zero, buckets) = (6, 4);
    // the nearer the finer, as T5's
    let bucket: std::sync::Arc<[u32]> =
        (0..15).map(|i: i32| [0, 1, 2, 2, 3][(i - zero).unsigned_abs().min(4) as usize]).collect();
    let zero = zero as usize;
    for (mask, counts, trains) in
        [(Mask::None, true, true), (Mask::Causal, false, true), (Mask::None, false, false)]
    {
        let how = Heads { count: 2, scale: Some(1.3), mask, ..Heads::default() };
        let table = if trains { leaf(6, &[buckets, 2]) } else { frozen(6, &[buckets, 2]) };
        let (own, shared) = ([9, 4], [3, 4]);
        let leaves = [leaf(1, &own), leaf(2, &own), leaf(3, &own), leaf(4, &shared), leaf(5, &shared), table];
        check(
            &format!("bias {mask:?} {counts} {trains}"),
            Pass::gradients(),
            &leaves,
            |cx, w| {
                let (seqs, rows) = (pack(lengths), pack([3]));
                let [q, k, v] = [0, 1, 2].map(|i| input(cx, w[i].clone(), &seqs));
                let [pk, pv] = [3, 4].map(|i| input(cx, w[i].clone(), &rows));
                let prefix = Prefix { k: pk, v: pv, of: prefixes.iter().map(|r| vec![r.clone()]).collect() };
                let bias =
                    Relative { table: w[5].clone(), bucket: bucket.clone(), zero, prefix_counts: counts };
                let qkv = Qkv { prefix: Some(&prefix), bias: Some(bias), ..Qkv::of(&q, &k, &v) };
                // two layers read the same table
                let y = cx.attend(SITE, qkv.clone(), how).unwrap();
                let z = cx.attend(SITE, qkv, how).unwrap();
                cx.add(&y, &z).unwrap()
            },
            |x| {
                let kv = [[&*x[1], &*x[2]], [&*x[3], &*x[4]]];
                let spans = behind(&prefixes, &lengths, counts);
                let a = attention(how, 2, &spans);
                let o = reference(a, &Inputs { q: &x[0], kv: &kv, bias: Some((&x[5], &bucket, zero)) }).0;
                o.iter().map(|o| 2.0 * o).collect()
            },
        );
    }
}

#[test]
fn a_pass_that_remembers_is_the_whole_pass() {
    let (device, width, lengths) = (cpu(), 6, [9, 5]);
    let values: [Vec<Vec<f32>>; 3] = [1, 2, 3].map(|seed| {
        lengths.iter().enumerate().map(|(i, n)| noise(10 * seed + i as u64, n * width)).collect()
    });
    // the tokens `from..to` of each sequence, which the pass adds
    let pass = |cache: Option<KvCache>, from: [usize; 2], to: [usize; 2], how: Heads| {
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        if let Some(cache) = cache {
            cx = cx.with_cache(cache).unwrap();
            assert_eq!([cx.place(0), cx.place(1)], from);
        }
        let seqs = pack([0, 1].map(|i| to[i] - from[i]));
        let [q, k, v] = [0, 1, 2].map(|m| {
            let rows: Vec<f32> =
                (0..2).flat_map(|i| values[m][i][from[i] * width..to[i] * width].to_vec()).collect();
            Act::new(device.upload(Class::Scratch, &rows).unwrap(), width, seqs.clone()).unwrap()
        });
        let y = cx.attend(SITE, Qkv::of(&q, &k, &v), how).unwrap().read().unwrap();
        let rows = to[0] - from[0];
        ([y[..rows * width].to_vec(), y[rows * width..].to_vec()], cx.into_cache())
    };
    for mask in [Mask::Causal, Mask::Window { before: 3, after: 0 }] {
        let how = Heads { count: 2, mask, ..Heads::default() };
        let whole = pass(None, [0, 0], lengths, how).0;
        let (mut cache, mut at, mut parts) = (KvCache::new(2, 9), [0, 0], [vec![], vec![]]);
        for to in [[4, 1], [5, 1], [6, 4], [9, 5]] {
            let (y, next) = pass(Some(cache), at, to, how);
            parts.iter_mut().zip(y).for_each(|(part, y)| part.extend(y));
            (cache, at) = (next.unwrap(), to);
        }
        assert_eq!(parts, whole, "{mask:?}");
        cache.forget(1);
        assert_eq!([cache.tokens(0), cache.tokens(1)], [9, 0]);
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cache).unwrap();
        let x = Act::new(device.zeros::<f32>(Class::Scratch, width).unwrap(), width, pack([1])).unwrap();
        let full = cx.attend(SITE, Qkv::of(&x, &x, &x), how).unwrap_err().to_string();
        assert!(full.contains("9 tokens"), "{full}");
    }
    assert!(Cx::new(&device, &Plain, Pass::gradients()).with_cache(KvCache::new(1, 1)).is_err());
}
