//! What mixes outputs, and what is decided once for a sequence, against central differences in
//! double precision.
mod support;
use engraft_engine::kernels::mixture;
use engraft_engine::*;
use std::sync::Arc;
use support::differences::*;

fn plain(
    what: &str,
    leaves: &[Leaf],
    op: impl for<'m> Fn(&mut Cx<'m>, &[W<'m>]) -> Act,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    check(what, Pass::gradients(), leaves, op, reference);
}

#[test]
fn dot_products_and_shares_of_groups() {
    for widths in [vec![1], vec![3, 2], vec![1, 4, 1, 2]] {
        let (rows, cols, n) = (4, widths.iter().sum(), widths.len());
        let groups: Arc<[usize]> = widths.clone().into();
        for trains in [[true, true], [true, false], [false, true]] {
            let make = |i: usize, seed, shape: &[usize]| match trains[i] {
                true => leaf(seed, shape),
                false => frozen(seed, shape),
            };
            plain(
                "group_dots",
                &[make(0, 1, &[rows, cols]), make(1, 2, &[rows, cols])],
                |cx, w| {
                    let [a, b] = [0, 1].map(|i| input(cx, w[i].clone(), &pack([rows])));
                    cx.group_dots(&a, &b, &groups).unwrap()
                },
                |x| mixture::reference_dots(&x[0], &x[1], &widths),
            );
            plain(
                "spread",
                &[make(0, 1, &[rows, cols]), make(1, 2, &[rows, n])],
                |cx, w| {
                    let [x, p] = [0, 1].map(|i| input(cx, w[i].clone(), &pack([rows])));
                    cx.spread(&x, &p, &groups).unwrap()
                },
                |x| mixture::reference_spread(&x[0], &x[1], &widths),
            );
        }
    }
}

#[test]
fn a_softmax_over_every_so_many_columns() {
    for (n, stride) in [(1, 1), (3, 1), (6, 2), (6, 3), (4, 4)] {
        plain(
            "softmax",
            &[leaf(1, &[5, n])],
            |cx, w| {
                let s = input(cx, w[0].clone(), &pack([2, 3]));
                cx.softmax(&s, stride).unwrap()
            },
            |x| mixture::reference_softmax(&x[0], n, stride),
        );
    }
}

#[test]
fn the_mean_of_a_sequence_and_a_row_for_all_of_its_rows() {
    let lengths = [3, 0, 1, 4];
    let rows: usize = lengths.iter().sum();
    let of_row: Vec<usize> = lengths.iter().enumerate().flat_map(|(s, n)| vec![s; *n]).collect();
    let means = |x: &[f64]| {
        let mut y = vec![0f64; lengths.len() * 2];
        for (row, s) in of_row.iter().enumerate() {
            (0..2).for_each(|c| y[s * 2 + c] += x[row * 2 + c] / lengths[*s] as f64);
        }
        y
    };
    plain(
        "sequence_means",
        &[leaf(1, &[rows, 2])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack(lengths));
            let y = cx.sequence_means(&x).unwrap();
            assert_eq!(
                y.seqs().iter().map(|s| (s.start, s.len)).collect::<Vec<_>>(),
                [(0, 1), (1, 1), (2, 1), (3, 1)]
            );
            y
        },
        |x| means(&x[0]),
    );
    plain(
        "to_rows",
        &[frozen(1, &[rows, 2]), leaf(2, &[4, 3])],
        |cx, w| {
            let (like, x) = (input(cx, w[0].clone(), &pack(lengths)), input(cx, w[1].clone(), &pack([4])));
            let y = cx.to_rows(&x, &like).unwrap();
            assert_eq!(y.seqs(), like.seqs());
            y
        },
        |x| of_row.iter().flat_map(|s| x[1][s * 3..][..3].to_vec()).collect(),
    );
}

#[test]
fn values_of_weights_are_computed_with() {
    for shape in [&[3, 4][..], &[5]] {
        plain(
            "values",
            &[leaf(1, shape), leaf(2, shape)],
            |cx, w| {
                // read twice, so that gradients add up
                let [a, b, c] = [0, 1, 0].map(|i| cx.values(w[i].clone()).unwrap());
                let sum = cx.add(&a, &b).unwrap();
                cx.add(&sum, &c).unwrap()
            },
            |x| x[0].iter().zip(&x[1]).map(|(a, b)| 2.0 * a + b).collect(),
        );
    }
}

#[test]
fn sequences_in_pieces_and_whole_again() {
    let (lengths, sizes) = ([4, 1, 0, 3], [2, 0, 2]);
    plain(
        "split_sequences",
        &[leaf(1, &[8, 2])],
        |cx, w| {
            let x = input(cx, w[0].clone(), &pack(lengths));
            let parts = cx.split_sequences(&x, &sizes).unwrap();
            let lens = |x: &Act| x.seqs().iter().map(|s| s.len).collect::<Vec<_>>();
            assert_eq!(parts.iter().map(lens).collect::<Vec<_>>(), [[2, 1, 0, 2], [0; 4], [2, 0, 0, 1]]);
            let last = cx.scale(parts[2].clone(), 3.0).unwrap();
            let y = cx.join_sequences(&[&parts[0], &parts[1], &last], x.seqs()).unwrap();
            assert_eq!(y.seqs(), x.seqs());
            y
        },
        |x| {
            let factor = |row: usize| if [2, 3, 7].contains(&row) { 3.0 } else { 1.0 };
            x[0].iter().enumerate().map(|(i, x)| x * factor(i / 2)).collect()
        },
    );
    let device = support::cpu();
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let x = Act::new(device.zeros::<f32>(Class::Scratch, 8).unwrap(), 2, pack([3, 1])).unwrap();
    assert!(cx.split_sequences(&x, &[1, 1]).unwrap_err().to_string().contains("split_sequences"));
    let parts = cx.split_sequences(&x, &[2, 2]).unwrap();
    let e = cx.join_sequences(&[&parts[0]], x.seqs()).unwrap_err().to_string();
    assert!(e.contains("join_sequences"), "{e}");
}
