//! What moves rows and columns, turns them or opens them, against central differences of its
//! forward pass in double precision.
mod support;
use engraft_engine::kernels::rotary::{self, Angles, Pairs};
use engraft_engine::kernels::{activation, gated, layernorm};
use engraft_engine::ops::Rotation;
use engraft_engine::*;
use std::sync::Arc;
use support::differences::*;

/// For operations that need no dropout.
fn plain(
    what: &str,
    leaves: &[Leaf],
    op: impl for<'m> Fn(&mut Cx<'m>, &[W<'m>]) -> Act,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    check(what, Pass::gradients(), leaves, op, reference);
}
/// The rows of a matrix with so many columns.
fn rows_of(x: &[f64], cols: usize, rows: impl IntoIterator<Item = usize>) -> Vec<f64> {
    rows.into_iter().flat_map(|r| x[r * cols..][..cols].to_vec()).collect()
}
fn seq(start: usize, len: usize, item: usize, extra: usize) -> Seq {
    Seq { start, len, item, extra, ..Seq::default() }
}

#[test]
fn heads_have_norms_of_their_own() {
    for (rows, heads, d) in [(3, 2, 4), (1, 1, 3), (4, 3, 1), (2, 5, 6)] {
        for (kind, centred) in [(NormKind::Rms, false), (NormKind::Layer, true)] {
            for make in [leaf, frozen] {
                plain(
                    &format!("norms of {heads} heads of {d} in {rows} rows, {kind:?}"),
                    &[leaf(1, &[rows, heads * d]), make(2, &[d])],
                    |cx, w| {
                        let x = input(cx, w[0].clone(), &pack([rows]));
                        let n = NormRef { w: w[1].clone(), b: None, eps: 0.1, kind };
                        let y = cx.normalise_heads(&x, n).unwrap();
                        assert_eq!((y.rows(), y.cols()), (rows, heads * d));
                        y
                    },
                    |x| layernorm::reference(&x[0], &x[1], None, f64::from(0.1f32), centred).0,
                );
            }
        }
    }
    // no whole heads
    let (device, mut set) = (support::cpu(), ParamSet::new());
    let ones = Tensor::new(device.upload(Class::Scratch, &[1f32; 4]).unwrap(), &[4]).unwrap();
    let w = set.param("norm", ones, Role::WEIGHT).unwrap();
    let x = Act::new(device.upload(Class::Scratch, &[1f32; 6]).unwrap(), 6, pack([1])).unwrap();
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let n = NormRef { w: w.get(), b: None, eps: 0.1, kind: NormKind::Rms };
    assert!(cx.normalise_heads(&x, n).is_err());
}

#[test]
fn first_rows_are_those_of_prompts_unless_they_stand_behind() {
    let seqs: Arc<[Seq]> = [seq(0, 3, 0, 1), seq(3, 1, 1, 0), seq(4, 2, 2, 2), seq(6, 4, 3, 3)].into();
    plain(
        "first rows",
        &[leaf(1, &[10, 3])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            cx.take_rows(&x, &Rows::First).unwrap()
        },
        |x| rows_of(&x[0], 3, [0, 3, 4, 6]),
    );
    let seqs: Arc<[Seq]> = seqs.iter().map(|s| Seq { first: s.extra, ..s.clone() }).collect();
    plain(
        "first tokens",
        &[leaf(1, &[10, 3])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            let y = cx.take_rows(&x, &Rows::First).unwrap();
            let of = |s: &Seq| (s.item, s.len, s.extra);
            let want = [(0, 1, 0), (1, 1, 0), (2, 0, 0), (3, 1, 0)];
            assert_eq!(y.seqs().iter().map(of).collect::<Vec<_>>(), want);
            y
        },
        |x| rows_of(&x[0], 3, [1, 3, 9]),
    );
}

#[test]
fn each_sequence_has_rows_of_a_kind_of_its_own() {
    let seqs: Arc<[Seq]> = [seq(0, 3, 0, 1), seq(3, 3, 1, 0), seq(6, 2, 2, 2), seq(8, 4, 3, 1)].into();
    let these = Rows::These([vec![], vec![], vec![], vec![2, 0]].into());
    let each = Rows::Each([Rows::All, Rows::Last, Rows::First, these.clone()].into());
    assert!(!each.are_in_line() && Rows::Each([Rows::All, Rows::Last].into()).are_in_line());
    let begin = |rows: &Rows| seqs.iter().map(|s| rows.begin(s)).collect::<Vec<_>>();
    assert_eq!(begin(&each), [Some(1), Some(2), Some(0), None]);
    plain(
        "rows of each kind",
        &[leaf(1, &[12, 3])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            let few = Rows::Each([Rows::All, Rows::Last].into());
            assert!(cx.take_rows(&x, &few).is_err());
            assert!(cx.take_rows(&x, &Rows::Each([Rows::All, few, Rows::All, Rows::All].into())).is_err());
            let y = cx.take_rows(&x, &each).unwrap();
            assert_eq!(y.seqs().iter().map(|s| s.len).collect::<Vec<_>>(), [2, 1, 1, 2]);
            y
        },
        |x| rows_of(&x[0], 3, [1, 2, 5, 6, 11, 9]),
    );
}

#[test]
fn rows_that_are_used_twice_get_both_gradients() {
    let (chosen, seqs) = (Rows::These([vec![2, 0, 2], vec![1]].into()), pack([3, 2]));
    plain(
        "take_rows twice, and the whole",
        &[leaf(1, &[5, 3])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            let a = cx.take_rows(&x, &chosen).unwrap();
            let b = cx.take_rows(&x, &Rows::These([vec![0, 1, 2], vec![0]].into())).unwrap();
            let sum = cx.add(&a, &b).unwrap();
            let whole = cx.take_sequences(&x, &[0, 1]).unwrap();
            let first = cx.take_rows(&whole, &Rows::These([vec![0, 1, 2], vec![1]].into())).unwrap();
            cx.add(&sum, &first).unwrap()
        },
        |x| {
            let [a, b, c] = [[2, 0, 2, 4], [0, 1, 2, 3], [0, 1, 2, 4]].map(|r| rows_of(&x[0], 3, r));
            a.iter().zip(b).zip(c).map(|((a, b), c)| a + b + c).collect()
        },
    );
}

#[test]
fn sequences_are_taken_and_merged_again() {
    // three sequences of which the second is empty; what is merged is packed in another order than
    // its parts
    let seqs: Arc<[Seq]> = [seq(0, 2, 0, 1), seq(2, 0, 1, 0), seq(2, 3, 2, 0)].into();
    plain(
        "take and merge",
        &[leaf(1, &[5, 4])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &seqs);
            let a = cx.take_sequences(&x, &[2]).unwrap();
            let b = cx.take_sequences(&x, &[1, 0]).unwrap();
            assert_eq!(b.seqs()[..], [seq(0, 0, 1, 0), seq(0, 2, 0, 1)]);
            let a = cx.scale(a, 3.0).unwrap();
            let y = cx.merge_sequences(&[(&a, &[2]), (&b, &[1, 0])]).unwrap();
            assert_eq!(y.seqs(), x.seqs());
            y
        },
        |x| x[0].iter().enumerate().map(|(i, x)| if i < 8 { *x } else { 3.0 * x }).collect(),
    );
    plain(
        "one of two activations",
        &[leaf(1, &[2, 3]), leaf(2, &[3, 3])],
        |cx, w| {
            let (a, b) = (input(cx, w[0].clone(), &pack([1, 1])), input(cx, w[1].clone(), &pack([3])));
            cx.merge_sequences(&[(&a, &[2, 0]), (&b, &[1])]).unwrap()
        },
        |x| [&x[0][3..], &x[1], &x[0][..3]].concat(),
    );
}

#[test]
fn rows_in_front_are_no_tokens() {
    let front: Arc<[Seq]> = [seq(0, 1, 1, 1), seq(1, 2, 0, 0)].into();
    plain(
        "prepend",
        &[leaf(1, &[3, 2]), leaf(2, &[4, 2])],
        |cx, w| {
            let (f, x) = (input(cx, w[0].clone(), &front), input(cx, w[1].clone(), &pack([3, 1])));
            let y = cx.prepend(&f, &x).unwrap();
            assert_eq!(y.seqs()[..], [seq(0, 5, 0, 2), seq(5, 2, 1, 1)]);
            y
        },
        |x| [&x[0][2..], &x[1][..6], &x[0][..2], &x[1][6..]].concat(),
    );
}

#[test]
fn columns_are_taken_and_joined() {
    plain(
        "columns",
        &[leaf(1, &[3, 7]), leaf(2, &[3, 2])],
        |cx, w| {
            let seqs = pack([1, 2]);
            let (x, y) = (input(cx, w[0].clone(), &seqs), input(cx, w[1].clone(), &seqs));
            let (a, b) = (cx.take_columns(&x, 1..4).unwrap(), cx.take_columns(&x, 3..7).unwrap());
            let none = cx.take_columns(&x, 2..2).unwrap();
            cx.join_columns(&[&b, &y, &none, &a]).unwrap()
        },
        |x| {
            (0..3)
                .flat_map(|i| {
                    [&x[0][i * 7 + 3..][..4], &x[1][i * 2..][..2], &x[0][i * 7 + 1..][..3]].concat()
                })
                .collect()
        },
    );
}

#[test]
fn heads_in_some_columns_are_turned() {
    let (cols, frequencies, positions) = (14, [1.0f32, 0.3], [0u32, 1, 2, 0, 7]);
    let angles: Vec<f64> =
        positions.iter().flat_map(|p| frequencies.map(|f| f64::from(*p as f32 * f))).collect();
    for pairs in [Pairs::Halves, Pairs::Neighbours] {
        plain(
            &format!("rotate {pairs:?}"),
            &[leaf(1, &[5, cols])],
            |cx, w| {
                let x = input(cx, w[0].clone(), &pack([3, 2]));
                let angles = Angles::new(cx.device(), Class::Scratch, &frequencies, 8, 1.0).unwrap();
                let how = Rotation { angles: angles.into(), pairs, head_dim: 6, columns: 2..14 };
                cx.rotate(x, how, &positions).unwrap()
            },
            |x| {
                let row = |(x, angles): (&[f64], &[f64])| {
                    let turned = rotary::reference(&x[2..], 2, pairs, angles, 2);
                    [&x[..2], &turned].concat()
                };
                x[0].chunks(cols).zip(angles.chunks(2)).flat_map(row).collect()
            },
        );
    }
}

#[test]
fn gated_products() {
    for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        plain(
            &format!("gated {f:?}"),
            &[leaf(1, &[4, 5]), leaf(2, &[4, 5])],
            |cx, w| {
                let (a, b) = (input(cx, w[0].clone(), &pack([4])), input(cx, w[1].clone(), &pack([4])));
                cx.gated(&a, f, &b).unwrap()
            },
            |x| gated::reference(f, &x[0], &x[1]),
        );
    }
    let twice = |x: &f64| activation::value(Activation::Silu, *x) * x;
    plain(
        "gated by itself",
        &[leaf(1, &[3, 2])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([3]));
            cx.gated(&x, Activation::Silu, &x).unwrap()
        },
        |x| x[0].iter().map(twice).collect(),
    );
}

#[test]
fn parts_of_weights() {
    // a vector that is taken for a matrix, and two parts of one weight that overlap
    plain(
        "part",
        &[leaf(1, &[12]), leaf(2, &[4, 3])],
        |cx, w| {
            let a = cx.part(&w[0], (3, 4), [1..3, 1..3]).unwrap();
            let b = cx.part(&w[1], (4, 3), [0..2, 1..3]).unwrap();
            let c = cx.part(&w[1], (4, 3), [1..3, 0..2]).unwrap();
            let sum = cx.add(&a, &b).unwrap();
            cx.add(&sum, &c).unwrap()
        },
        |x| {
            let (a, b) = (&x[0], &x[1]);
            let of = |i: usize, j: usize| a[(i + 1) * 4 + j + 1] + b[i * 3 + j + 1] + b[(i + 1) * 3 + j];
            vec![of(0, 0), of(0, 1), of(1, 0), of(1, 1)]
        },
    );
}

#[test]
fn rows_of_tables_onto_what_is_there() {
    plain(
        "embed_onto",
        &[leaf(1, &[3, 2]), leaf(2, &[2, 2]), leaf(3, &[2, 2])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack([3]));
            cx.embed_onto(x, &[(w[1].clone(), &[1, 0, 1]), (w[2].clone(), &[0, 0, 1])]).unwrap()
        },
        |x| {
            let of = |r: usize, c: usize| x[0][r * 2 + c] + x[1][[2, 0, 2][r] + c] + x[2][[0, 0, 2][r] + c];
            (0..6).map(|i| of(i / 2, i % 2)).collect()
        },
    );
}

#[test]
fn rows_that_are_added_to() {
    let seqs: Arc<[Seq]> = [seq(0, 3, 0, 1), seq(3, 1, 1, 0), seq(4, 2, 2, 0)].into();
    let rows = Rows::These([vec![1], vec![], vec![1, 0]].into());
    plain(
        "add_rows",
        &[leaf(1, &[6, 2]), leaf(2, &[3, 2])],
        |cx, w| {
            let (x, y) = (input(cx, w[0].clone(), &seqs), input(cx, w[1].clone(), &pack([3])));
            cx.add_rows(x, &y, &rows).unwrap()
        },
        |x| {
            let mut sum = x[0].clone();
            for (from, to) in [2, 5, 4].into_iter().enumerate() {
                (0..2).for_each(|c| sum[to * 2 + c] += x[1][from * 2 + c]);
            }
            sum
        },
    );
}
