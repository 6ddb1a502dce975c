//! The shapes on which the products are checked and timed.
use super::*;
use crate::{
    Case, PreparedCase,
    case::{Added, noise, wide},
    matmul::AWKWARD,
};

/// As [`AWKWARD`], in several tasks and blocks.
const SEVERAL: [(usize, usize, usize); 2] = [(520, 208, 130), (30, 259, 1001)];
/// BERT-base and MiniLM: attention and feed-forward weights.
const TIMED: [(usize, usize, usize); 8] = [
    (64, 768, 768),
    (700, 768, 768),
    (700, 3072, 768),
    (700, 768, 3072),
    (700, 1536, 384),
    (2048, 768, 768),
    (2048, 3072, 768),
    (2048, 768, 3072),
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for shape in AWKWARD.into_iter().chain(SEVERAL) {
        for added in Added::ALL {
            all.extend([case(true, shape, added, false), case(false, shape, added, false)]);
        }
    }
    for (rows, cols) in [(0, 3), (3, 0), (1, 1), (5, 7), (40, 100), (33, 1001)] {
        all.extend([rows_case(rows, cols, false, false), rows_case(rows, cols, true, false)]);
    }
    for shape in TIMED {
        all.extend([case(true, shape, Added::Nothing, true), case(false, shape, Added::Nothing, true)]);
    }
    for cols in [768, 3072] {
        all.extend([rows_case(2048, cols, false, true), rows_case(2048, cols, true, true)]);
    }
    all
}

/// Each row of `v` in 8 bits, as the reference does it.
pub(super) fn quantized(v: &[f32], cols: usize) -> (Vec<i8>, Vec<f32>) {
    let rows: Vec<_> = v.chunks(cols.max(1)).map(reference_row).collect();
    (rows.iter().flat_map(|r| &r.0).copied().collect(), rows.iter().map(|r| r.1).collect())
}
/// x with each column times a factor.
pub(super) fn folded(x: &[f32], by: &[f32]) -> Vec<f32> {
    x.iter().enumerate().map(|(i, x)| x * by[i % by.len()]).collect()
}

/// One product of a quantised weight (N, K) with x (m, K) or dy (m, N), which are
/// quantised in the launch.
fn case(transposed: bool, (m, n, k): (usize, usize, usize), added: Added, timed: bool) -> Case {
    let (name, depth, cols) = if transposed { ("times_transposed", k, n) } else { ("times", n, k) };
    let (x, w, bias) = (noise(1, m * depth), noise(2, n * k), noise(3, cols));
    let cost = quantize_cost(m, depth) + product_cost([m, depth, cols], added != Added::Nothing);
    let start = noise(4, m * cols);
    let (w, scales) = match quantized(&w, k) {
        (w, s) if k > 0 => (w, s),
        (w, _) => (w, vec![1.0; n]),
    };
    let reference = {
        let (x, w, scales, bias) = (x.clone(), w.clone(), scales.clone(), wide(&bias));
        let start = wide(&start);
        move || {
            let (x, by) =
                if transposed { (x.clone(), Some(wide(&scales))) } else { (folded(&x, &scales), None) };
            let (q, rows) = quantized(&x, depth);
            let rows = if depth > 0 { wide(&rows) } else { vec![1.0; m] };
            let b = if transposed { (&w[..], 1, k) } else { (&w[..], k, 1) };
            let mut y = reference((m, depth, cols), (&q, depth, 1), b, &rows, by.as_deref(), Some(&bias));
            if added != Added::Nothing {
                y.iter_mut().zip(&start).for_each(|(y, s)| *y += s);
            }
            y
        }
    };
    let prepare = move |device: &Device| {
        let up = |class, v: &[f32]| device.upload(class, v);
        let (x, bias) = (up(Class::Saved, &x)?, up(Class::Backbone, &bias)?);
        let (w, scales) = (device.upload(Class::Backbone, &w)?, Scales::Rows(up(Class::Backbone, &scales)?));
        let y = match added {
            Added::Output => up(Class::Scratch, &start)?,
            _ => device.alloc::<f32>(Class::Scratch, m * cols)?,
        };
        let start = up(Class::Saved, if added == Added::Rows { &start } else { &[] })?;
        let mut q = QuantizedRows::alloc(device, Class::Scratch, m, depth)?;
        let device = device.clone();
        Ok(PreparedCase::new(vec![y], move |y| {
            let Scales::Rows(by) = &scales else { unreachable!() };
            let w = Matrix::stored(&w, Some(&scales), n, k);
            quantize_rows(&device, View::of(&x, m, depth)?, (!transposed).then_some(by), &mut q)?;
            let go = if transposed { times_transposed } else { times };
            let base = added.base(&start, (m, cols))?;
            go(&device, &q, w, Plus { bias: Some(&bias), base }, ViewMut::of(&mut y[0], m, cols)?)
        }))
    };
    Case {
        label: format!(
            "{name} m={m} N={n} K={k}{}",
            match added {
                Added::Nothing => "",
                Added::Rows => " plus rows",
                Added::Output => " plus output",
            }
        ),
        // the sums are exact; what is left are four roundings. Of few outputs all may
        // be close to zero
        tolerance: if m * cols < 100 { 5e-6 } else { 5e-7 },
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(prepare),
        reference: Box::new(reference),
    }
}

/// The scales of quantised rows. (Their integers are no floats; the tests and the
/// products see them.)
fn rows_case(rows: usize, cols: usize, fold: bool, timed: bool) -> Case {
    let (x, by) = (noise(1, rows * cols), noise(2, cols));
    let reference = {
        let (x, by) = (x.clone(), by.clone());
        move || {
            let x = if fold { folded(&x, &by) } else { x.clone() };
            let scales = if cols > 0 { quantized(&x, cols).1 } else { vec![reference_row(&[]).1; rows] };
            wide(&scales)
        }
    };
    Case {
        label: format!("quantize_rows{} {rows}x{cols}", if fold { ", folded" } else { "" }),
        tolerance: 1e-7,
        flops: quantize_cost(rows, cols).flops,
        bytes: quantize_cost(rows, cols).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |device| {
            let (x, by) = (device.upload(Class::Saved, &x)?, device.upload(Class::Backbone, &by)?);
            let mut q = QuantizedRows::alloc(device, Class::Scratch, rows, cols)?;
            let scales = device.alloc::<f32>(Class::Scratch, rows)?;
            let device = device.clone();
            Ok(PreparedCase::new(vec![scales], move |out| {
                quantize_rows(&device, View::of(&x, rows, cols)?, fold.then_some(&by), &mut q)?;
                // the case's output; a copy of a few bytes
                std::mem::swap(&mut out[0], &mut q.scales);
                Ok(())
            }))
        }),
        reference: Box::new(reference),
    }
}
