mod views;

use super::{cpu::multiply, operands::Lines, *};
use crate::{
    Class, Isa, Nf4Pair, Storage,
    case::{noise, store, wide},
    epilogue::OnHost,
    isa::with,
    simd::check,
    storage::{
        Scales, nf4,
        view::{Floats, Int8, Nf4, Stored},
    },
};
use half::{bf16, f16};
use proptest::prelude::*;

fn sets() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|i| i.available())
}
#[track_caller]
fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0f64, |a, x| a.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*g) - w).abs();
        assert!(off <= tolerance * largest, "{what}: element {i} is {g}, {w} expected, largest {largest}");
    }
}

#[test]
fn every_case_matches_its_reference_with_every_instruction_set() {
    let device = Device::cpu(2).unwrap();
    // without optimisation the largest references take minutes
    let most = if cfg!(debug_assertions) { 1e9 } else { f64::INFINITY };
    for case in (KERNEL.cases)().into_iter().filter(|c| c.flops <= most) {
        let want = (case.reference)();
        for isa in sets() {
            with(isa, || {
                let mut run = (case.prepare)(&device).unwrap();
                run.launch().unwrap();
                close(
                    &run.read().unwrap(),
                    &want,
                    case.tolerance,
                    &format!("{} on {}", case.label, isa.name()),
                );
            });
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_and_the_null_device_predicts_the_memory() {
    let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for isa in sets() {
        for case in (KERNEL.cases)().iter().filter(|c| c.flops < 1e8) {
            with(isa, || {
                let mut first = None;
                for threads in [1, 2, 3] {
                    let peak = |device: &Device| {
                        let mut run = (case.prepare)(device).unwrap();
                        run.launch().unwrap();
                        (run.read().unwrap(), device.ledger().usage())
                    };
                    let (got, held) = peak(&Device::cpu(threads).unwrap());
                    let (_, predicted) = peak(&Device::null(threads));
                    assert_eq!(held, predicted, "{}", case.label);
                    let got = bits(got);
                    assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "{}", case.label);
                }
            });
        }
    }
}

/// A product of matrices with gaps, in buffers with nothing to spare: what must not be read is NaN,
/// what must not be written is looked at. `from` holds B.
fn strided<S: Stored>(isa: Isa, from: S, s: &Shape) {
    let Shape { m, depth, cols, transposed, by_columns, gaps, start, threads } = *s;
    let (a_row, a_col) = if by_columns { (1, m + gaps.0) } else { (depth + gaps.0, 1) };
    let c_row = cols + gaps.2;
    let len = |rows: usize, row: usize, cols: usize, col: usize| {
        if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row + (cols - 1) * col + 1 }
    };
    let a = with_gaps(1, len(m, a_row, depth, a_col), a_row.max(a_col), if by_columns { m } else { depth });
    // decoded line by line, without gaps
    let (lines, each) = s.lines();
    let mut decoded = vec![0.0; lines * each];
    decoded.chunks_mut(each.max(1)).enumerate().for_each(|(i, to)| from.decode(i, 0, to));
    let (b_row, b_col) = if transposed { (1, each) } else { (each, 1) };
    let bias = noise(3, cols);
    let before = noise(4, len(m, c_row, cols, 1));
    let mut c = before.clone();

    let plan = Plan::new(isa, m, depth, cols, by_columns, S::IS_F32 && !transposed);
    let device = Device::cpu(threads).unwrap();
    let Device::Cpu(d) = &device else { unreachable!() };
    let mut workspace = vec![f32::NAN; threads * plan.floats(!S::IS_F32)];
    let plus = OnHost {
        bias: (start == 1).then_some(&bias[..]),
        base: if start > 1 { Base::Output } else { Base::Nothing },
    };
    let (x, w) = (Strided { data: &a, row: a_row, col: a_col }, Lines { from, transposed });
    multiply(d, plan, x, w, plus, (&mut c, c_row), &mut workspace);

    let (wide_a, wide_b, wide_bias) = (wide(&a), wide(&decoded), wide(&bias));
    let mut want = reference(
        m,
        depth,
        cols,
        (&wide_a, a_row, a_col),
        (&wide_b, b_row, b_col),
        (start == 1).then_some(&wide_bias[..]),
    );
    let mut got = Vec::new();
    for (i, (now, old)) in c.iter().zip(&before).enumerate() {
        if i % c_row < cols {
            if start == 2 {
                want[i / c_row * cols + i % c_row] += f64::from(*old);
            }
            got.push(*now);
        } else {
            assert_eq!(now, old, "written between the rows: {s:?}");
        }
    }
    // relative to the largest sum of magnitudes rather than the largest output: there may be
    // only one of them
    want.push((depth as f64).sqrt().max(1.0));
    got.push(*want.last().unwrap() as f32);
    close(&got, &want, 2e-6, &format!("{s:?} on {}", isa.name()));
}

/// Noise in which only the first `live` of every `stride` values are numbers.
fn with_gaps(seed: u64, n: usize, stride: usize, live: usize) -> Vec<f32> {
    noise(seed, n)
        .into_iter()
        .enumerate()
        .map(|(i, x)| if i % stride < live { x } else { f32::NAN })
        .collect()
}
/// B as floats, the lines apart.
fn floats<E: crate::storage::view::Float>(isa: Isa, round: fn(f32) -> E, s: &Shape) {
    let (lines, each) = s.lines();
    let stride = each + s.gaps.1;
    let len = if lines == 0 || each == 0 { 0 } else { (lines - 1) * stride + each };
    let data: Vec<E> = with_gaps(2, len, stride, each).into_iter().map(round).collect();
    strided(isa, Floats { data: &data, stride }, s);
}
/// B quantised, with scales that are not numbers and codes of large ones in the gaps.
fn quantised(isa: Isa, s: &Shape) {
    let (lines, each) = s.lines();
    let device = Device::cpu(1).unwrap();
    let values = noise(2, lines * each);
    let (data, scales) = store(&device, &values, [lines, each], Storage::Int8).unwrap();
    let Some(Scales::Rows(scales)) = scales else { panic!("{scales:?}") };
    let (data, scales) = (data.read::<i8>().unwrap(), scales.read::<f32>().unwrap());
    let stride = each + s.gaps.1;
    let data = apart(&data, each, stride, 127);
    strided(isa, Int8 { data: &data, scales: &scales, stride }, s);

    let (data, scales) = store(&device, &values, [lines, each], Storage::Nf4).unwrap();
    let Some(Scales::Blocks { codes, ranges }) = scales else { panic!("{scales:?}") };
    let (data, codes) = (data.read::<Nf4Pair>().unwrap(), codes.read::<u8>().unwrap());
    let (pairs, blocks) = (nf4::pairs(each), nf4::blocks(each));
    let stride = pairs + s.gaps.1;
    let data = apart(&data, pairs, stride, Nf4Pair(0xff));
    let ranges = ranges.read::<f32>().unwrap();
    strided(isa, Nf4 { data: &data, codes: &codes, ranges: &ranges, stride, blocks, first_block: 0 }, s);
}
/// Lines of `each`, moved apart; nothing follows the last.
fn apart<T: Copy>(data: &[T], each: usize, stride: usize, fill: T) -> Vec<T> {
    let mut to = vec![];
    for line in data.chunks(each.max(1)) {
        to.resize(to.len().next_multiple_of(stride.max(1)), fill);
        to.extend_from_slice(line);
    }
    to
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    m: usize,
    depth: usize,
    cols: usize,
    transposed: bool,
    by_columns: bool,
    gaps: (usize, usize, usize),
    start: usize,
    threads: usize,
}
impl Shape {
    /// How many lines B is stored in, and how long they are.
    fn lines(&self) -> (usize, usize) {
        if self.transposed { (self.cols, self.depth) } else { (self.depth, self.cols) }
    }
}
fn shapes() -> impl Strategy<Value = Shape> {
    let small = || prop_oneof![0..4usize, 5..70usize, 120..200usize];
    let gaps = (0..3usize, 0..3usize, 0..3usize);
    (
        small(),
        prop_oneof![0..4usize, 5..70usize, 700..900usize],
        small(),
        any::<[bool; 2]>(),
        gaps,
        0..3usize,
        1..4usize,
    )
        .prop_map(|(m, depth, cols, [transposed, by_columns], gaps, start, threads)| {
            // a stride of zero addresses nothing that a buffer can hold
            let gaps = (
                gaps.0 + usize::from(m == 0 || depth == 0),
                gaps.1 + usize::from(cols == 0 || depth == 0),
                gaps.2 + usize::from(cols == 0),
            );
            Shape { m, depth, cols, transposed, by_columns, gaps, start, threads }
        })
}

/// What is packed for all depths of some columns is there for the next task with these columns.
#[test]
fn a_deep_weight_packed_once_serves_several_tasks() {
    for (transposed, start, threads) in [(true, 1, 1), (true, 2, 2), (false, 0, 1), (false, 2, 3)] {
        let (m, depth, cols) = (300, 900, 100);
        let s = Shape { m, depth, cols, transposed, by_columns: false, gaps: (1, 2, 3), start, threads };
        for isa in sets() {
            let plan = Plan::new(isa, m, depth, cols, false, !transposed);
            assert!(isa == Isa::Portable || (plan.whole && plan.row_blocks() > 1 && plan.kc < depth));
            floats::<f32>(isa, |x| x, &s);
            floats::<bf16>(isa, bf16::from_f32, &s);
        }
    }
}

/// Row i of a product with W (n, k) has the same bits among all these numbers of rows, of which the
/// last is the largest.
fn same_rows(
    numbers: impl IntoIterator<Item = usize>,
    [n, k]: [usize; 2],
    transposed: bool,
    storage: Storage,
    plus: usize,
) {
    let numbers: Vec<usize> = numbers.into_iter().collect();
    let many = *numbers.last().unwrap();
    let (depth, cols) = if transposed { (k, n) } else { (n, k) };
    let device = Device::cpu(2).unwrap();
    let on_device = |v: &[f32]| device.upload(Class::Scratch, v).unwrap();
    let (x, r, bias) = (noise(1, many * depth), noise(3, many * cols), on_device(&noise(4, cols)));
    let (w, scales) = store(&device, &noise(2, n * k), [n, k], storage).unwrap();
    for isa in sets() {
        let product = |m: usize| {
            let (x, r, mut y) =
                (on_device(&x[..m * depth]), on_device(&r[..m * cols]), on_device(&r[..m * cols]));
            let base = [Base::Nothing, Base::Rows(View::of(&r, m, cols).unwrap()), Base::Output][plus];
            let plus = Plus { bias: (plus > 0).then_some(&bias), base };
            let go = if transposed { times_transposed } else { times };
            let (x, to) = (View::of(&x, m, depth).unwrap(), ViewMut::of(&mut y, m, cols).unwrap());
            let w = Matrix::stored(&w, scales.as_ref(), n, k);
            with(isa, || go(&device, x, w, plus, to)).unwrap();
            y.read::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let all = product(many);
        for m in &numbers {
            let what =
                || format!("{m} rows, W ({n}, {k}) in {storage}, transposed: {transposed}, {}", isa.name());
            assert!(product(*m) == all[..m * cols], "{}", what());
        }
    }
}
#[test]
fn rows_are_the_same_in_any_company_in_every_storage_type() {
    for storage in Storage::ALL {
        for transposed in [false, true] {
            for shape in [[900, 96], [96, 1600], [800, 100]] {
                same_rows([1, 64, 96, 97, 700], shape, transposed, storage, 2);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_and_stride_in_any_storage(shape in shapes()) {
        for isa in sets() {
            floats::<f32>(isa, |x| x, &shape);
            floats::<bf16>(isa, bf16::from_f32, &shape);
            floats::<f16>(isa, f16::from_f32, &shape);
            quantised(isa, &shape);
        }
    }

    #[test]
    fn any_gradient_fresh_or_added(m in 0..300usize, n in 0..300usize, k in 0..300usize, add: bool) {
        let device = Device::cpu(2).unwrap();
        let (dy, x, before) = (noise(1, m * n), noise(2, m * k), noise(3, n * k));
        let mut want = reference(n, m, k, (&wide(&dy), 1, n), (&wide(&x), k, 1), None);
        if add {
            want.iter_mut().zip(&before).for_each(|(w, b)| *w += f64::from(*b));
        }
        let (dy, x) = (device.upload(Class::Saved, &dy).unwrap(), device.upload(Class::Saved, &x).unwrap());
        for isa in sets() {
            let mut g = device.upload(Class::Grad, &before).unwrap();
            let (dy, x) = (View::of(&dy, m, n).unwrap(), View::of(&x, m, k).unwrap());
            let to = ViewMut::of(&mut g, n, k).unwrap();
            with(isa, || transposed_times(&device, dy, x, to, add)).unwrap();
            let mut got = g.read::<f32>().unwrap();
            // not relative to the largest output alone: there may be only one
            got.push((m as f32).sqrt().max(1.0));
            let want: Vec<f64> = want.iter().copied().chain([f64::from(*got.last().unwrap())]).collect();
            close(&got, &want, 2e-6, &format!("m={m} n={n} k={k} on {}", isa.name()));
        }
    }

    /// Few rows are multiplied another way than many; a row must not feel that.
    #[test]
    fn a_row_is_the_same_in_any_company(m in 1..130usize, n in 0..200usize, k in 0..1700usize, plus in 0..3usize, transposed: bool, storage in 0..5usize) {
        same_rows([m, 131], [n, k], transposed, Storage::ALL[storage], plus);
        // whole vectors of columns, which are read in place
        same_rows([m, 131], [n.next_multiple_of(16), k.next_multiple_of(16)], transposed, Storage::ALL[storage], plus);
    }

    #[test]
    fn the_tasks_of_a_plan_cover_the_output_once(m in 0..5000usize, depth in 0..4000usize, cols in 0..5000usize, a_transposed: bool, lines: bool) {
        for isa in Isa::ALL {
            let few = Plan::forward(isa, m % 100, depth, cols, lines);
            prop_assert!(!few.c_transposed || few.kc == Plan::new(isa, 1000, depth, cols, false, false).kc);
            for plan in [Plan::new(isa, m, depth, cols, a_transposed, lines), few] {
            let (m, cols) = (plan.m, plan.cols);
            let (mut area, mut next) = (0, (0, 0));
            for t in 0..plan.tasks() {
                let (i, j, high, wide) = plan.task(t);
                prop_assert_eq!((i, j), next, "down first, then to the right");
                prop_assert!(high > 0 && wide > 0 && i + high <= m && j + wide <= cols);
                let mut from = 0;
                let tiles = plan.tiles(high);
                for x in 0..tiles.count {
                    let (first, rows) = tiles.at(x);
                    prop_assert!(first == from && (1..=plan.tile_rows).contains(&rows));
                    from += rows;
                }
                prop_assert_eq!(from, high);
                area += high * wide;
                next = if i + high < m { (i + high, j) } else { (0, j + wide) };
            }
            prop_assert_eq!(area, m * cols);
            }
        }
    }
}

fn to(b: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
    ViewMut::of(b, rows, cols).unwrap()
}
#[test]
fn shapes_that_do_not_fit_are_refused() {
    let device = Device::cpu(1).unwrap();
    let x = device.upload(Class::Saved, &[1f32; 6]).unwrap();
    let ids = device.upload(Class::Saved, &[1u32; 6]).unwrap();
    let mut y = device.alloc::<f32>(Class::Scratch, 6).unwrap();
    let w = Matrix::plain;
    let of = |rows, cols| View::of(&x, rows, cols).unwrap();
    let is_length = |r: Result<()>| matches!(r, Err(Error::Length { kernel: NAME, .. }));
    let is_shape = |r: Result<()>, what| matches!(r, Err(Error::Shape { kernel: NAME, argument, .. }) if argument == what);
    let huge = times(&device, of(1, 2), w(&x, usize::MAX, 2), Plus::NOTHING, to(&mut y, 1, 2));
    assert!(huge.unwrap_err().to_string().ends_with("x 2 elements is larger than any memory"));
    assert!(is_shape(times(&device, of(1, 3), w(&x, 2, 3), Plus::NOTHING, to(&mut y, 1, 3)), "x"));
    assert!(is_shape(times_transposed(&device, of(3, 2), w(&x, 3, 2), Plus::NOTHING, to(&mut y, 2, 3)), "y"));
    let none = device.zeros::<f32>(Class::Adapter, 0).unwrap();
    let bias = Plus::bias(&none);
    assert!(is_length(times_transposed(&device, of(1, 6), w(&x, 1, 6), bias, to(&mut y, 1, 1))));
    let rows = Plus::rows(of(2, 1));
    assert!(is_shape(times_transposed(&device, of(1, 3), w(&x, 2, 3), rows, to(&mut y, 1, 2)), "plus"));
    assert!(is_shape(transposed_times(&device, of(2, 3), of(2, 3), to(&mut y, 2, 3), false), "g"));
    assert!(is_shape(transposed_times(&device, of(2, 3), of(3, 2), to(&mut y, 3, 2), false), "x"));
    let wrong = times(&device, of(1, 2), w(&ids, 2, 3), Plus::NOTHING, to(&mut y, 1, 3));
    assert!(matches!(wrong, Err(Error::DType { .. })));
    let elsewhere = Device::cpu(1).unwrap();
    let wrong = times(&elsewhere, of(1, 2), w(&x, 2, 3), Plus::NOTHING, to(&mut y, 1, 3));
    assert!(matches!(wrong, Err(Error::Elsewhere { .. })));
}
