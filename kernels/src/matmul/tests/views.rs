//! Parts of matrices as arguments.
use super::*;

/// Parts of larger matrices: `before` rows and columns in front, `behind` of them behind.
struct Frame {
    before: (usize, usize),
    behind: (usize, usize),
}
impl Frame {
    fn size(&self, rows: usize, cols: usize) -> (usize, usize) {
        (self.before.0 + rows + self.behind.0, self.before.1 + cols + self.behind.1)
    }
    /// The matrix inside, and NaN around it.
    fn around(&self, v: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        let (high, wide) = self.size(rows, cols);
        let mut all = vec![f32::NAN; high * wide];
        for (i, row) in v.chunks(cols.max(1)).enumerate().take(rows) {
            all[(self.before.0 + i) * wide + self.before.1..][..cols].copy_from_slice(row);
        }
        all
    }
    fn part(&self, rows: usize, cols: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        (self.before.0..self.before.0 + rows, self.before.1..self.before.1 + cols)
    }
    fn view<'a>(&self, b: &'a Buffer, rows: usize, cols: usize) -> View<'a> {
        let ((high, wide), (r, c)) = (self.size(rows, cols), self.part(rows, cols));
        View::of(b, high, wide).unwrap().rows_of(r).unwrap().cols_of(c).unwrap()
    }
    fn view_mut<'a>(&self, b: &'a mut Buffer, rows: usize, cols: usize) -> ViewMut<'a> {
        let ((high, wide), (r, c)) = (self.size(rows, cols), self.part(rows, cols));
        ViewMut::of(b, high, wide).unwrap().rows_of(r).unwrap().cols_of(c).unwrap()
    }
}
proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// A launch on parts gives the bits that it gives on copies of them, and touches nothing else.
    #[test]
    fn parts_of_matrices_are_arguments(
        m in prop_oneof![0..40usize, 90..200usize], n in 0..70usize, k in 0..70usize, plus in 0..3usize,
        product in 0..3usize, storage in 0..5usize, before in (0..3usize, 0..3usize), behind in (0..3usize, 0..3usize),
    ) {
        let (device, frame) = (Device::cpu(2).unwrap(), Frame { before, behind });
        // columns of nf4 begin with a block
        let storage = Storage::ALL[if product == 2 { 0 } else { storage }];
        let step = if storage == Storage::Nf4 { nf4::BLOCK } else { 1 };
        let of_w = Frame { before: (before.0, before.1 * step), behind };
        let up = |v: &[f32]| device.upload(Class::Scratch, v).unwrap();
        let (rows, depth, cols) = [(m, k, n), (m, n, k), (n, m, k)][product];
        let (a_rows, a_cols) = if product == 2 { (m, n) } else { (rows, depth) };
        let (w_rows, w_cols) = if product == 2 { (m, k) } else { (n, k) };
        let (a, w, r) = (noise(1, a_rows * a_cols), noise(2, w_rows * w_cols), noise(3, rows * cols));
        let bias = up(&noise(4, cols));
        // not NaN: it would be quantised with the rest
        let around: Vec<f32> = of_w.around(&w, w_rows, w_cols).iter().map(|x| if x.is_nan() { 0.5 } else { *x }).collect();
        let size = of_w.size(w_rows, w_cols);
        let (stored, scales) = store(&device, &around, [size.0, size.1], storage).unwrap();
        let (r_w, c_w) = of_w.part(w_rows, w_cols);
        let part = Matrix::stored(&stored, scales.as_ref(), size.0, size.1).rows_of(r_w).unwrap().cols_of(c_w).unwrap();
        let copy = up(&part.decode().unwrap());
        for isa in sets() {
            let go = |a: View<'_>, w: Matrix<'_>, x: View<'_>, r: View<'_>, y: ViewMut<'_>| {
                let base = [Base::Nothing, Base::Rows(r), Base::Output][plus];
                let plus = Plus { bias: (plus < 2).then_some(&bias), base };
                with(isa, || match product {
                    0 => times_transposed(&device, a, w, plus, y),
                    1 => times(&device, a, w, plus, y),
                    _ => transposed_times(&device, a, x, y, base_is_output(plus)),
                }).unwrap();
            };
            let (dense_a, dense_r, mut want) = (up(&a), up(&r), up(&r));
            let dense = |b, rows, cols| View::of(b, rows, cols).unwrap();
            let weight = Matrix::plain(&copy, w_rows, w_cols);
            go(dense(&dense_a, a_rows, a_cols), weight, dense(&copy, w_rows, w_cols), dense(&dense_r, rows, cols), ViewMut::of(&mut want, rows, cols).unwrap());
            let in_frame = |v: &[f32], rows, cols| up(&frame.around(v, rows, cols));
            let (framed_a, framed_x) = (in_frame(&a, a_rows, a_cols), in_frame(&w, w_rows, w_cols));
            let (framed_r, mut got) = (in_frame(&r, rows, cols), in_frame(&r, rows, cols));
            go(frame.view(&framed_a, a_rows, a_cols), part, frame.view(&framed_x, w_rows, w_cols), frame.view(&framed_r, rows, cols), frame.view_mut(&mut got, rows, cols));
            let (want, got) = (frame.around(&want.read::<f32>().unwrap(), rows, cols), got.read::<f32>().unwrap());
            prop_assert!(check::same(&got, &want), "{}", isa.name());
        }
    }
}
fn base_is_output(plus: Plus<'_>) -> bool {
    matches!(plus.base, Base::Output)
}
