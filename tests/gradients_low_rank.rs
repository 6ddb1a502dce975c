//! The gradients of a product of two narrow matrices beside a linear layer, and of the lengths of
//! the rows of their sum, against finite differences in double precision.
mod support;
use engraft_engine::{Act, Class, Cx, LinearRef, LowRank, Pass, Plain, Point, Site, pack};
use support::{
    cpu, differences,
    differences::{check, frozen, leaf},
};

/// y + s (dropout(x) Aᵀ) Bᵀ for some of the projections that stand side by side in y, in plain
/// loops.
fn low_rank(
    x: &[Vec<f64>],
    [m, c, r, width]: [usize; 4],
    (of, parts): (usize, &[usize]),
    factor: &dyn Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let mut y = x[3].clone();
    for (i, (g, part)) in (0..m).flat_map(|i| parts.iter().enumerate().map(move |p| (i, p))) {
        for k in g * r..(g + 1) * r {
            let h: f64 = (0..c).map(|j| factor(i, j) * x[0][i * c + j] * x[1][k * c + j]).sum();
            for j in 0..width {
                y[i * of * width + part * width + j] += 0.75 * h * x[2][(g * width + j) * r + k % r];
            }
        }
    }
    y
}
#[test]
fn the_product_of_two_narrow_matrices_against_differences() {
    let site = Site::attn(1, Point::Q);
    for (shape @ [m, c, r, width], of, parts) in [
        ([1, 1, 1, 1], 1, &[0][..]),
        ([5, 3, 2, 4], 1, &[0]),
        ([7, 4, 5, 2], 1, &[0]),
        ([4, 3, 1, 3], 3, &[2]),
        ([5, 4, 2, 3], 3, &[0, 2]),
        ([3, 2, 3, 1], 3, &[0, 1, 2]),
    ] {
        for (trains, p) in (1..16).flat_map(|t| [(t, 0.0), (t, 0.5)]) {
            let make = |i: usize| if trains & (1 << i) > 0 { leaf } else { frozen };
            let (n, pass) = (parts.len(), if p > 0.0 { Pass::train(3, 4) } else { Pass::gradients() });
            let leaves = [
                make(0)(1, &[m, c]),
                make(1)(2, &[n * r, c]),
                make(2)(3, &[n * width, r]),
                make(3)(4, &[m, of * width]),
            ];
            // the numbers that are drawn, read off ones
            let device = cpu();
            let ones = device.upload(Class::Scratch, &vec![1f32; m * c]).unwrap();
            let ones = Act::new(ones, c, pack([m])).unwrap();
            let drawn = Cx::new(&device, &Plain, pass).dropout(ones, p, site, 1).unwrap().read().unwrap();
            check(
                &format!("low_rank {shape:?}, {parts:?} of {of}, trains {trains:b}, dropout {p}"),
                pass,
                &leaves,
                |cx, w| {
                    let [x, y] = [0, 3].map(|i| differences::input(cx, w[i].clone(), &pack([m])));
                    let how = LowRank { scale: 0.75, dropout: p, of, parts: parts.into() };
                    cx.low_rank(site, &x, [w[1].clone(), w[2].clone()], &how, y).unwrap()
                },
                |x| low_rank(x, shape, (of, parts), &|i, j| f64::from(drawn[i * c + j])),
            );
        }
    }
}

/// 1 / ‖W + s B A‖ of the rows of W (out, in), or of its columns, for some of the projections that
/// stand side by side.
fn inverse_norms(
    x: &[Vec<f64>],
    [c, r, width]: [usize; 3],
    (of, parts): (usize, &[usize]),
    in_out: bool,
) -> Vec<f64> {
    let mut u = vec![];
    for (g, part) in parts.iter().enumerate() {
        for o in 0..width {
            let row = part * width + o;
            let v = |i: usize| {
                let w = x[0][if in_out { i * of * width + row } else { row * c + i }];
                w + 0.6
                    * (0..r).map(|k| x[2][(g * width + o) * r + k] * x[1][(g * r + k) * c + i]).sum::<f64>()
            };
            u.push(1.0 / (0..c).map(|i| v(i) * v(i)).sum::<f64>().sqrt());
        }
    }
    u
}
#[test]
fn the_lengths_of_the_rows_of_a_sum_against_differences() {
    for (shape @ [c, r, width], of, parts) in [
        ([1, 1, 1], 1, &[0][..]),
        ([3, 2, 5], 1, &[0]),
        ([67, 3, 4], 1, &[0]),
        ([5, 2, 66], 1, &[0]),
        ([5, 2, 4], 3, &[0, 2]),
        ([4, 1, 3], 3, &[1]),
        ([66, 2, 2], 3, &[0, 1, 2]),
    ] {
        for (in_out, trains) in [false, true].into_iter().flat_map(|t| (1..4).map(move |i| (t, i))) {
            let make = |i: usize| if trains & (1 << i) > 0 { leaf } else { frozen };
            let (n, out) = (parts.len(), of * width);
            let leaves = [
                frozen(1, &if in_out { [c, out] } else { [out, c] }),
                make(0)(2, &[n * r, c]),
                make(1)(3, &[n * width, r]),
            ];
            check(
                &format!("inverse_norms {shape:?}, {parts:?} of {of}, in_out {in_out}, trains {trains:b}"),
                Pass::gradients(),
                &leaves,
                |cx, w| {
                    let how = LowRank { scale: 9.0, dropout: 0.0, of, parts: parts.into() };
                    let layer = LinearRef { w: w[0].clone(), b: None, in_out };
                    cx.inverse_norms(&layer, [w[1].clone(), w[2].clone()], &how, 0.6, false).unwrap()
                },
                |x| inverse_norms(x, shape, (of, parts), in_out),
            );
        }
    }
}
#[test]
fn a_constant_length_has_no_gradient_and_rows_of_zeros_have_none() {
    let device = cpu();
    let mut set = engraft_engine::ParamSet::new();
    let tensor = |values: &[f32], shape: &[usize]| {
        engraft_engine::Tensor::new(device.upload(Class::Scratch, values).unwrap(), shape).unwrap()
    };
    let w = engraft_engine::Frozen::new(tensor(&[0.0, 0.0, 3.0, 4.0], &[2, 2]));
    let a = set.param("a", tensor(&[1.0, 1.0], &[1, 2]), engraft_engine::Role::WEIGHT).unwrap();
    let b = set.param("b", tensor(&[0.0, 0.0], &[2, 1]), engraft_engine::Role::WEIGHT).unwrap();
    use engraft_engine::Weight;
    let mut cx = Cx::new(&device, &Plain, Pass::gradients());
    let layer = LinearRef { w: w.get(), b: None, in_out: false };
    let how = LowRank::whole(1.0, 0.0);
    let u = cx.inverse_norms(&layer, [a.get(), b.get()], &how, 1.0, true).unwrap();
    assert_eq!((u.read().unwrap(), cx.recorded()), (vec![0.0, 0.2], 0));
    let wrong = LowRank { of: 2, parts: vec![2], ..how };
    assert!(cx.inverse_norms(&layer, [a.get(), b.get()], &wrong, 1.0, true).is_err());
}
