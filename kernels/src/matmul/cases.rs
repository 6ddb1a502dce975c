//! The shapes on which the products are checked and timed.
use super::*;
use crate::{
    Case, Class, Run,
    case::{noise, wide},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Product {
    TimesTransposed,
    Times,
    TransposedTimes,
    /// `transposed_times` that adds to what is there.
    Accumulate,
}
use Product::*;

/// m, N, K: nothing that is a multiple of a vector, single rows and columns, sums of no terms, matrices of no rows.
const AWKWARD: [(usize, usize, usize); 16] = [
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
    (200, 208, 130),
    (300, 259, 801),
];
/// BERT-base and MiniLM: attention and feed-forward weights, and the two of a bottleneck adapter.
const TIMED: [(usize, usize, usize); 7] = [
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
    for shape in AWKWARD {
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            all.push(case(TimesTransposed, dtype, shape, false));
            all.push(case(Times, dtype, shape, false));
        }
        all.push(case(TransposedTimes, DType::F32, shape, false));
        all.push(case(Accumulate, DType::F32, shape, false));
    }
    for shape in TIMED {
        all.push(case(TimesTransposed, DType::F32, shape, true));
        all.push(case(Times, DType::F32, shape, true));
    }
    for dtype in [DType::Bf16, DType::F16] {
        all.push(case(TimesTransposed, dtype, (700, 768, 768), true));
        all.push(case(Times, dtype, (700, 768, 768), true));
    }
    all.extend(TIMED_GRADIENTS.map(|shape| case(TransposedTimes, DType::F32, shape, true)));
    all
}

/// One product: x (m, K) or dy (m, N), and W (N, K), or for a gradient dy (m, N) and x (m, K).
fn case(product: Product, dtype: DType, (m, n, k): (usize, usize, usize), timed: bool) -> Case {
    let (name, rows, depth, cols) = match product {
        TimesTransposed => ("times_transposed", m, k, n),
        Times => ("times", m, n, k),
        TransposedTimes => ("transposed_times", n, m, k),
        Accumulate => ("transposed_times, accumulating", n, m, k),
    };
    let gradient = matches!(product, TransposedTimes | Accumulate);
    let cost = cost(rows, depth, cols, dtype, product == Accumulate);
    let a = noise(1, rows * depth);
    let b = rounded(noise(2, depth * cols), dtype);
    let start = noise(3, if product == Accumulate { rows * cols } else { cols });
    // a sum of few outputs may be close to zero, and errors are relative to the largest
    let tiny = if rows * cols < 100 { 10.0 } else { 1.0 };
    let reference = {
        let (a, b, start) = (wide(&a), wide(&b), wide(&start));
        move || {
            let (a_row, a_col) = if gradient { (1, rows) } else { (depth, 1) };
            let turned = (product == TimesTransposed).then(|| turn(&b, cols, depth));
            let bias = (!gradient).then_some(&start[..]);
            let b = turned.as_deref().unwrap_or(&b);
            let mut c = reference(rows, depth, cols, (&a, a_row, a_col), (b, cols, 1), bias);
            if product == Accumulate {
                c.iter_mut().zip(&start).for_each(|(c, s)| *c += s);
            }
            c
        }
    };
    let prepare = move |device: &Device| {
        let a = device.upload(Class::Saved, &a)?;
        let b = store(device, &b, dtype)?;
        let y = if product == Accumulate {
            device.upload(Class::Scratch, &start)?
        } else {
            device.alloc::<f32>(Class::Scratch, rows * cols)?
        };
        let bias = device.upload(Class::Backbone, if gradient { &[] } else { &start[..] })?;
        let device = device.clone();
        Ok(Run::new(vec![y], move |y| {
            let w = Matrix { data: &b, rows: n, cols: k };
            match product {
                TimesTransposed => times_transposed(&device, &a, m, w, Some(&bias), &mut y[0]),
                Times => times(&device, &a, m, w, Some(&bias), &mut y[0]),
                _ => transposed_times(&device, &a, n, &b, k, m, &mut y[0], product == Accumulate),
            }
        }))
    };
    Case {
        label: format!("{name} m={m} N={n} K={k} {dtype}"),
        tolerance: tiny * (2e-7 + 5e-8 * (depth as f64).sqrt()),
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(prepare),
        reference: Box::new(reference),
    }
}

/// What a storage type keeps of `v`.
fn rounded(v: Vec<f32>, dtype: DType) -> Vec<f32> {
    v.into_iter()
        .map(|x| match dtype {
            DType::Bf16 => bf16::from_f32(x).to_f32(),
            DType::F16 => f16::from_f32(x).to_f32(),
            _ => x,
        })
        .collect()
}
fn store(device: &Device, v: &[f32], dtype: DType) -> Result<Buffer> {
    match dtype {
        DType::Bf16 => {
            device.upload(Class::Backbone, &v.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        }
        DType::F16 => {
            device.upload(Class::Backbone, &v.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())
        }
        _ => device.upload(Class::Backbone, v),
    }
}
/// The transpose, so that the reference's inner loop runs along memory.
fn turn(v: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|i| v[i % rows * cols + i / rows]).collect()
}
