//! The gradients of a product of two narrow matrices beside a linear layer, against finite differences in double precision.
mod support;
use engraft_engine::{Act, Class, Cx, LowRank, Pass, Plain, Point, Site, pack};
use support::{
    cpu, differences,
    differences::{check, frozen, leaf},
};

/// y + s (dropout(x) Aᵀ) Bᵀ for some of the projections that stand side by side in y, in plain loops.
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
