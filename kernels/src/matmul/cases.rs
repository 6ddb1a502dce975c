//! The shapes on which the products are checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase, Storage,
    case::{kept, noise, store, wide},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Product {
    TimesTransposed,
    Times,
    TransposedTimes,
    /// `transposed_times` that adds to what is there.
    Accumulate,
    /// `times_transposed` that adds to rows and a bias, `times` that adds to rows, and
    /// to what is there.
    TransposedRows,
    TimesRows,
    TimesOutput,
}
use Product::*;

/// m, N, K: nothing that is a multiple of a vector, single rows and columns, sums of no terms,
/// matrices of no rows.
pub(crate) const AWKWARD: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (2, 3, 7),
    (3, 7, 2),
    (7, 2, 3),
    (1, 17, 40),
    (17, 1, 33),
    (33, 48, 1),
    (0, 5, 4),
    (5, 4, 0),
    (4, 0, 5),
    (63, 65, 67),
    (10, 96, 131),
    (161, 70, 129),
    (77, 96, 5),
];
/// The same, in several tasks and blocks.
const SEVERAL: [(usize, usize, usize); 4] =
    [(200, 208, 130), (300, 259, 801), (64, 130, 1601), (90, 100, 200)];
/// BERT-base and MiniLM: attention and feed-forward weights, and the two of a bottleneck adapter.
const TIMED: [(usize, usize, usize); 12] = [
    (1, 768, 768),
    (16, 768, 768),
    (96, 768, 768),
    (64, 3072, 768),
    (64, 768, 3072),
    (64, 768, 768),
    (700, 768, 768),
    (700, 3072, 768),
    (700, 768, 3072),
    (700, 1536, 384),
    (2048, 64, 768),
    (2048, 768, 48),
];
const TIMED_GRADIENTS: [(usize, usize, usize); 4] =
    [(700, 64, 768), (2048, 64, 768), (2048, 768, 64), (700, 768, 768)];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for shape in AWKWARD.into_iter().chain(SEVERAL) {
        for storage in Storage::ALL {
            all.push(case(TimesTransposed, storage, shape, false));
            all.push(case(Times, storage, shape, false));
        }
        all.push(case(TransposedTimes, Storage::F32, shape, false));
        for product in [Accumulate, TransposedRows, TimesRows, TimesOutput] {
            all.push(case(product, Storage::F32, shape, false));
        }
    }
    for shape in TIMED {
        all.push(case(TimesTransposed, Storage::F32, shape, true));
        all.push(case(Times, Storage::F32, shape, true));
    }
    for storage in Storage::ALL.into_iter().skip(1) {
        all.push(case(TimesTransposed, storage, (700, 768, 768), true));
        all.push(case(Times, storage, (700, 768, 768), true));
    }
    all.extend(TIMED_GRADIENTS.map(|shape| case(TransposedTimes, Storage::F32, shape, true)));
    all
}

/// One product: x (m, K) or dy (m, N), and W (N, K), or for a gradient dy (m, N) and x (m, K).
fn case(product: Product, storage: Storage, (m, n, k): (usize, usize, usize), timed: bool) -> Case {
    let (name, rows, depth, cols) = match product {
        TimesTransposed => ("times_transposed", m, k, n),
        Times => ("times", m, n, k),
        TransposedTimes => ("transposed_times", n, m, k),
        Accumulate => ("transposed_times, accumulating", n, m, k),
        TransposedRows => ("times_transposed plus rows and bias", m, k, n),
        TimesRows => ("times plus rows", m, n, k),
        TimesOutput => ("times, accumulating", m, n, k),
    };
    let transposed = matches!(product, TimesTransposed | TransposedRows);
    let adds = matches!(product, Accumulate | TransposedRows | TimesRows | TimesOutput);
    let gradient = matches!(product, TransposedTimes | Accumulate);
    let a = noise(1, rows * depth);
    let b = noise(2, depth * cols);
    let shape = if gradient { [m, k] } else { [n, k] };
    let cost = cost([rows, depth, cols], storage.bytes(shape[0], shape[1]), adds);
    let start = noise(3, if adds { rows * cols } else { cols });
    let bias = noise(4, if product == TransposedRows { cols } else { 0 });
    // a sum of few outputs may be close to zero, and errors are relative to the largest
    let tiny = if rows * cols < 100 { 10.0 } else { 1.0 };
    let reference = {
        let (a, b, start, row) = (wide(&a), b.clone(), wide(&start), wide(&bias));
        move || {
            let b = kept(&b, shape, storage);
            let (a_row, a_col) = if gradient { (1, rows) } else { (depth, 1) };
            let of_b = transposed.then(|| transpose(&b, cols, depth));
            let bias =
                (!gradient).then_some(if adds { &row[..] } else { &start[..] }).filter(|b| !b.is_empty());
            let b = of_b.as_deref().unwrap_or(&b);
            let mut c = reference(rows, depth, cols, (&a, a_row, a_col), (b, cols, 1), bias);
            if adds {
                c.iter_mut().zip(&start).for_each(|(c, s)| *c += s);
            }
            c
        }
    };
    let prepare = move |device: &Device| {
        let a = device.upload(Class::Saved, &a)?;
        let (b, scales) = store(device, &b, shape, storage)?;
        let y = if matches!(product, Accumulate | TimesOutput) {
            device.upload(Class::Scratch, &start)?
        } else {
            device.alloc::<f32>(Class::Scratch, rows * cols)?
        };
        let plus = device.upload(Class::Backbone, if gradient { &[] } else { &start[..] })?;
        let bias = device.upload(Class::Backbone, &bias)?;
        let device = device.clone();
        Ok(PreparedCase::new(vec![y], move |y| {
            let y = ViewMut::of(&mut y[0], rows, cols)?;
            if gradient {
                let (dy, x) = (View::of(&a, m, n)?, View::of(&b, m, k)?);
                return transposed_times(&device, dy, x, y, product == Accumulate);
            }
            let (x, w) = (View::of(&a, m, depth)?, Matrix::stored(&b, scales.as_ref(), n, k));
            let onto = || View::of(&plus, rows, cols);
            match product {
                TransposedRows => {
                    let plus = Plus { bias: Some(&bias), base: Base::Rows(onto()?) };
                    times_transposed(&device, x, w, plus, y)
                }
                Times => times(&device, x, w, Plus::bias(&plus), y),
                TimesRows => times(&device, x, w, Plus::rows(onto()?), y),
                TimesOutput => times(&device, x, w, Plus::OUTPUT, y),
                _ => times_transposed(&device, x, w, Plus::bias(&plus), y),
            }
        }))
    };
    Case {
        label: format!("{name} m={m} N={n} K={k} {storage}"),
        tolerance: tiny * (2e-7 + 5e-8 * (depth as f64).sqrt()),
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(prepare),
        reference: Box::new(reference),
    }
}

/// The transpose, so that the reference's inner loop runs along memory.
fn transpose(v: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|i| v[i % rows * cols + i / rows]).collect()
}
