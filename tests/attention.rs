//! Attention in all its forms against central differences: masks, scales, grouped queries, fused projections, fewer queries
//! than keys, prefixes.
mod support;
use engraft_engine::kernels::attention::{Attention, Inputs, Mask, Span, reference};
use engraft_engine::ops::{Heads, Qkv};
use engraft_engine::*;
use support::differences::*;

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
/// O by plain loops.
fn plain(how: Heads, d: usize, spans: &[Span], q: &[f64], kv: &[[&[f64]; 2]]) -> Vec<f64> {
    let kv_heads = how.kv.unwrap_or(how.count);
    let scale = how.scale.unwrap_or(1.0 / (d as f32).sqrt());
    let a =
        Attention { heads: how.count, kv_heads, head_dim: d, scale, mask: how.mask, dropout: None, spans };
    reference(a, &Inputs { q, kv, bias: None }).0
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
                let qkv = Qkv { q: cols(1), k: cols(2), v: cols(2), first: None };
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
