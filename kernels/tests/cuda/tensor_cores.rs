//! Products on tensor cores, which a device is opened for.
use super::{SIM, asked, gpu_with};
use engraft_kernels::{
    Buffer, Case, Class, Device, Products, View, ViewMut,
    matmul::{self, Base, Matrix, Plus},
};

/// What rounding to bf16 may change, relative to the largest result.
const TOLERANCE: f64 = 2e-2;

#[test]
fn every_product_is_close_to_its_reference() {
    let Some(gpu) = gpu_with("products in bf16", Products::Bf16) else { return };
    let all = (matmul::KERNEL.cases)().into_iter();
    // fibers take their time
    let cases: Vec<Case> = all.filter(|c| asked("matmul") && !(SIM && c.flops > 1e6)).collect();
    for c in cases {
        let mut run = (c.prepare)(&gpu).unwrap();
        run.launch().unwrap();
        let (got, expected) = (run.read().unwrap(), (c.reference)());
        let largest = expected.iter().fold(1e-3f64, |a, v| a.max(v.abs()));
        assert_eq!(got.len(), expected.len(), "{}", c.label);
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            // so that NaN fails
            assert!((f64::from(*g) - e).abs() <= TOLERANCE * largest, "{}: [{i}] is {g}, not {e}", c.label);
        }
    }
}

/// Small whole numbers, which bf16 holds, as are their products and sums in f32.
fn whole(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) / 7 % 17) as f32 - 8.0).collect()
}
/// An element of a matrix (rows, cols) that begins behind one column and one row of a wider one.
fn at(v: &[f32], cols: usize, i: usize, j: usize) -> f32 {
    v[(i + 1) * (cols + 2) + 1 + j]
}
fn part(b: &Buffer, rows: usize, cols: usize) -> View<'_> {
    let all = View::of(b, rows + 1, cols + 2).unwrap();
    all.rows_of(1..rows + 1).unwrap().cols_of(1..cols + 1).unwrap()
}
fn part_mut(b: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
    let all = ViewMut::of(b, rows + 1, cols + 2).unwrap();
    all.rows_of(1..rows + 1).unwrap().cols_of(1..cols + 1).unwrap()
}

#[test]
fn whole_numbers_are_exact_in_parts_of_matrices() {
    for products in [Products::F32, Products::Bf16] {
        let Some(d) = gpu_with("parts of matrices", products) else { return };
        whole_numbers(&d);
    }
}
fn whole_numbers(d: &Device) {
    for (m, n, k) in [(1, 1, 1), (3, 2, 70), (63, 65, 67), (64, 64, 32), (130, 129, 33), (5, 4, 0)] {
        let len = |rows: usize, cols: usize| (rows + 1) * (cols + 2);
        let (x, w, base, bias) = (whole(1, len(m, k)), whole(2, len(n, k)), whole(3, len(m, n)), whole(4, n));
        let (y, dy) = (whole(5, len(m, n)), whole(6, len(m, n)));
        let up = |v: &[f32]| d.upload(Class::Scratch, v).unwrap();
        let (on_x, on_w, on_base, on_bias) = (up(&x), up(&w), up(&base), up(&bias));
        let check =
            |label: &str, got: Vec<f32>, (rows, cols): (usize, usize), e: &dyn Fn(usize, usize) -> f32| {
                for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                    let (got, e) = (at(&got, cols, i, j), e(i, j));
                    assert_eq!(got, e, "{label} {m} {n} {k}: ({i}, {j})");
                }
                let before = whole(5, len(rows, cols));
                let untouched = (0..rows + 1).all(|i| got[i * (cols + 2)] == before[i * (cols + 2)]);
                assert!(untouched, "{label} {m} {n} {k}: beside the matrix");
            };
        let sum = |len: usize, f: &dyn Fn(usize) -> f32| (0..len).map(f).sum::<f32>();
        let mut to = up(&y);
        let plus = Plus { bias: Some(&on_bias), base: Base::Rows(part(&on_base, m, n)) };
        let weight = Matrix::from(part(&on_w, n, k));
        matmul::times_transposed(d, part(&on_x, m, k), weight, plus, part_mut(&mut to, m, n)).unwrap();
        check("times_transposed", to.read().unwrap(), (m, n), &|i, j| {
            sum(k, &|p| at(&x, k, i, p) * at(&w, k, j, p)) + at(&base, n, i, j) + bias[j]
        });
        let mut to = up(&whole(5, len(m, k)));
        let (on_dy, before) = (up(&dy), whole(5, len(m, k)));
        matmul::times(d, part(&on_dy, m, n), weight, Plus::OUTPUT, part_mut(&mut to, m, k)).unwrap();
        check("times", to.read().unwrap(), (m, k), &|i, j| {
            sum(n, &|p| at(&dy, n, i, p) * at(&w, k, p, j)) + at(&before, k, i, j)
        });
        let mut to = up(&whole(5, len(n, k)));
        let g = part_mut(&mut to, n, k);
        matmul::transposed_times(d, part(&on_dy, m, n), part(&on_x, m, k), g, false).unwrap();
        check("transposed_times", to.read().unwrap(), (n, k), &|i, j| {
            sum(m, &|p| at(&dy, n, p, i) * at(&x, k, p, j))
        });
    }
}
