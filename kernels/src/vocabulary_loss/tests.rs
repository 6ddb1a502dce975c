use super::*;
use crate::{
    Storage,
    case::{noise, store, wide},
    simd::check,
};
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradients_are_the_slopes() {
    let (rows, outputs, cols, labels) = (3, 5, 4, [4, 0, 4]);
    let [x, w, b] = [rows * cols, outputs * cols, outputs].map(|n| wide(&noise(n as u64, n)));
    for smoothing in [0.0, 0.2] {
        let labels = (&labels[..], smoothing);
        let loss = |x: &[f64], w: &[f64], b: &[f64]| {
            reference(x, labels, w, Some(b), (outputs, cols))[0].iter().sum::<f64>()
        };
        let [_, dx, dw, db] = reference(&x, labels, &w, Some(&b), (outputs, cols));
        check::differences(&x, &dx, |x| loss(x, &w, &b));
        check::differences(&w, &dw, |w| loss(&x, w, &b));
        check::differences(&b, &db, |b| loss(&x, &w, b));
    }
}

/// The losses, dx, and lse of a layer without bias.
fn run(d: &Device, x: &[f32], labels: &[u32], w: &[f32], storage: Storage, integers: bool) -> [Vec<f32>; 3] {
    let cols = x.len() / labels.len().max(1);
    let outputs = w.len() / cols.max(1);
    let (w, scales) = store(d, w, [outputs, cols], storage).unwrap();
    let w = Matrix::stored(&w, scales.as_ref(), outputs, cols);
    let layer = Layer { w, bias: None, integer_logits: integers, integer_dx: integers };
    let [mut losses, mut lse, mut dx] =
        [labels.len(), labels.len(), x.len()].map(|n| d.alloc::<f32>(Class::Scratch, n).unwrap());
    let to = ViewMut::of(&mut dx, labels.len(), cols).unwrap();
    let (up, out) =
        (check::up(d, x), Outputs { losses: &mut losses, hits: None, lse: Some(&mut lse), dx: Some(to) });
    forward(
        d,
        View::of(&up, labels.len(), cols).unwrap(),
        Labels::plain(&check::indices(d, labels)),
        layer,
        out,
    )
    .unwrap();
    [losses, dx, lse].map(|b| b.read().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn any_shape(rows in 1usize..20, outputs in 1usize..5000, cols in 1usize..40, threads in 1usize..4, large in 0..3) {
        let by = [0.1, 1.0, 30.0][large as usize];
        let x: Vec<f32> = noise(1, rows * cols).iter().map(|x| x * by).collect();
        let w = noise(2, outputs * cols);
        let labels: Vec<u32> = (0..rows).map(|i| (i * 1009 % outputs) as u32).collect();
        let [losses, dx, ..] = reference(&wide(&x), (&labels, 0.0), &wide(&w), None, (outputs, cols));
        check::levels(|_| {
            let got = run(&Device::cpu(threads).unwrap(), &x, &labels, &w, Storage::F32, false);
            assert!(check::distance(&got[0], &losses) < 1e-5);
            // what cancels in dx is of the size of W
            let near = |(d, want): (&f32, &f64)| (f64::from(*d) - want).abs() < 1e-4 * f64::from(1f32.max(by));
            assert!(got[1].iter().zip(&dx).all(near));
            assert!(got[2].iter().all(|l| l.is_finite()));
        });
    }
}

#[test]
fn a_row_gets_what_it_gets_alone() {
    let (rows, outputs, cols) = (70, BLOCK + 900, 48);
    let (x, w) = (noise(1, rows * cols), noise(2, outputs * cols));
    let labels: Vec<u32> = (0..rows).map(|i| (i * 1009 % outputs) as u32).collect();
    check::levels(|level| {
        let d = Device::cpu(2).unwrap();
        for (storage, integers) in [(Storage::F32, false), (Storage::Int8, true)] {
            let all = run(&d, &x, &labels, &w, storage, integers);
            for i in [0, 33, 69] {
                let alone = run(&d, &x[i * cols..][..cols], &labels[i..=i], &w, storage, integers);
                for (all, (alone, each)) in all.iter().zip(alone.iter().zip([1, cols, 1])) {
                    assert!(check::same(&all[i * each..][..each], alone), "{level:?} {storage} row {i}");
                }
            }
        }
    });
}

#[test]
fn far_logits() {
    check::levels(|_| {
        let d = Device::cpu(1).unwrap();
        let [losses, dx, lse] = run(&d, &[1.0], &[1], &[-1e30, 0.0, -1e30], Storage::F32, false);
        assert_eq!((losses[0], dx[0], lse[0]), (0.0, 0.0, 0.0));
        let [losses, dx, lse] = run(&d, &[1.0], &[1], &[200.0, 0.0], Storage::F32, false);
        assert_eq!((losses[0], dx[0], lse[0]), (200.0, 200.0, 200.0));
        // the largest logit comes in the second block
        let mut w = vec![0.0; BLOCK + 1];
        w[BLOCK] = 100.0;
        let [losses, dx, _] = run(&d, &[1.0], &[BLOCK as u32], &w, Storage::F32, false);
        assert_eq!((losses[0], dx[0]), (0.0, 0.0));
        assert!(run(&d, &[f32::NAN], &[0], &w, Storage::F32, false)[0][0].is_nan());
    });
}

#[test]
fn the_label_hits_where_no_output_is_larger() {
    check::levels(|_| {
        let d = Device::cpu(2).unwrap();
        let mut w = vec![0.5; BLOCK + 3];
        (w[1], w[BLOCK + 1]) = (3.0, 2.0);
        let go = |x: &[f32], labels: &[u32]| {
            let (x, labels, w) = (check::up(&d, x), check::indices(&d, labels), check::up(&d, &w));
            let w = Matrix::plain(&w, BLOCK + 3, 1);
            let layer = Layer { w, bias: None, integer_logits: false, integer_dx: false };
            let [mut losses, mut hits] = [labels.len(); 2].map(|n| check::up(&d, &vec![7.0; n]));
            let out = Outputs { losses: &mut losses, hits: Some(&mut hits), lse: None, dx: None };
            forward(&d, View::of(&x, labels.len(), 1).unwrap(), Labels::plain(&labels), layer, out).unwrap();
            hits.read::<f32>().unwrap()
        };
        let last = BLOCK as u32 + 1;
        assert_eq!(go(&[1.0, 1.0, 1.0, -1.0, -1.0, 0.0], &[1, 0, last, 1, 0, 2]), [1., 0., 0., 0., 1., 1.]);
        assert_eq!(go(&[f32::NAN], &[0]), [0.0]);
    });
}

#[test]
fn parts_of_matrices() {
    let (rows, outputs, cols) = (5, BLOCK + 40, 7);
    let [x, w] = [rows * cols, outputs * cols].map(|n| noise(n as u64, n));
    let labels: Vec<u32> = (0..rows).map(|i| (i * 1009 % outputs) as u32).collect();
    check::levels(|_| {
        let d = Device::cpu(2).unwrap();
        let [losses, dx, _] = run(&d, &x, &labels, &w, Storage::F32, false);
        // the same among other rows and columns
        let mut padded = vec![9.0; (rows + 2) * 11];
        for (i, row) in x.chunks(cols).enumerate() {
            padded[(i + 1) * 11 + 3..][..cols].copy_from_slice(row);
        }
        let (up, w) = (check::up(&d, &padded), check::up(&d, &[&[5.0; 2 * 7][..], &w].concat()));
        let w = Matrix::plain(&w, outputs + 2, cols).rows_of(2..outputs + 2).unwrap();
        let layer = Layer { w, bias: None, integer_logits: false, integer_dx: false };
        let part = View::of(&up, rows + 2, 11).unwrap().rows_of(1..rows + 1).unwrap().cols_of(3..3 + cols);
        let (mut to_losses, mut to) = (check::up(&d, &vec![0.0; rows]), check::up(&d, &padded));
        let to_dx = ViewMut::of(&mut to, rows + 2, 11).unwrap().rows_of(1..rows + 1).unwrap();
        let to_dx = to_dx.cols_of(3..3 + cols).unwrap();
        let out = Outputs { losses: &mut to_losses, hits: None, lse: None, dx: Some(to_dx) };
        forward(&d, part.unwrap(), Labels::plain(&check::indices(&d, &labels)), layer, out).unwrap();
        assert!(check::same(&to_losses.read::<f32>().unwrap(), &losses));
        for (i, x) in to.read::<f32>().unwrap().into_iter().enumerate() {
            let (row, col) = (i / 11, i % 11);
            let inside = (1..rows + 1).contains(&row) && (3..3 + cols).contains(&col);
            assert_eq!(x, if inside { dx[(row - 1) * cols + col - 3] } else { 9.0 });
        }
    });
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let (x, w, two) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 9]), check::up(&d, &[0.0; 2]));
    let layer = Layer { w: Matrix::plain(&w, 3, 3), bias: None, integer_logits: false, integer_dx: false };
    let mut losses = check::up(&d, &[0.0; 2]);
    let mut go = |labels: &Buffer, layer: Layer<'_>| {
        let out = Outputs { losses: &mut losses, hits: None, lse: None, dx: None };
        forward(&d, View::of(&x, 2, 3).unwrap(), Labels::plain(labels), layer, out).unwrap_err()
    };
    let (good, bad) = (check::indices(&d, &[0, 2]), check::indices(&d, &[0, 3]));
    assert!(matches!(go(&bad, layer), Error::Range { got: 3, below: 3, .. }));
    assert!(matches!(go(&check::indices(&d, &[0; 4]), layer), Error::Shape { argument: "x", .. }));
    assert!(matches!(go(&x, layer), Error::DType { argument: "labels", .. }));
    let biased = Layer { bias: Some(&two), ..layer };
    assert!(matches!(go(&good, biased), Error::Length { argument: "bias", .. }));
    let integers = Layer { integer_logits: true, ..layer };
    assert!(matches!(go(&good, integers), Error::DType { argument: "w", .. }));
}
