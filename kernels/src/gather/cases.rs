//! The shapes on which rows are gathered and scattered, checked and timed.
use super::*;
use crate::{Case, Class, DType, Run, case::noise};
use half::{bf16, f16};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (n, cols) in [(0, 3), (1, 1), (5, 7), (40, 33)] {
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            v.extend([rows_case(n, 9, cols, dtype, false, false), rows_case(n, 9, cols, dtype, true, false)]);
        }
        v.push(scatter_case(n, 9, cols, false));
    }
    v.push(rows_case(2048, 30_522, 768, DType::F32, false, true));
    v.push(rows_case(2048, 30_522, 768, DType::Bf16, true, true));
    v.push(scatter_case(16, 2048, 768, true));
    v
}
fn index(n: usize, rows: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 13 % rows) as u32).collect()
}
/// A number as a table of that type holds it.
fn stored(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::Bf16 => bf16::from_f32(x).to_f32(),
        DType::F16 => f16::from_f32(x).to_f32(),
        _ => x,
    }
}

fn rows_case(n: usize, rows: usize, cols: usize, dtype: DType, accumulate: bool, timed: bool) -> Case {
    let (size, len) = (rows * cols, n * cols);
    let cost = cost(n, cols, dtype.size(), accumulate);
    Case {
        label: format!("rows {n} of {rows}x{cols} {dtype}{}", if accumulate { ", added" } else { "" }),
        tolerance: 1e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let table = noise(1, size);
            let table = match dtype {
                DType::Bf16 => {
                    d.upload(Class::Scratch, &table.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
                }
                DType::F16 => {
                    d.upload(Class::Scratch, &table.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())
                }
                _ => d.upload(Class::Scratch, &table),
            }?;
            let index = d.upload(Class::Scratch, &index(n, rows))?;
            let y = d.upload(Class::Scratch, &noise(2, len))?;
            let d = d.clone();
            Ok(Run::new(vec![y], move |y| {
                super::rows(&d, Matrix { data: &table, rows, cols }, &index, &mut y[0], accumulate)
            }))
        }),
        reference: Box::new(move || {
            let (table, y, index) = (noise(1, size), noise(2, len), index(n, rows));
            let old = |i: usize| if accumulate { f64::from(y[i]) } else { 0.0 };
            let of = |i: usize| table[index[i / cols] as usize * cols + i % cols];
            (0..len).map(|i| old(i) + f64::from(stored(dtype, of(i)))).collect()
        }),
    }
}
fn scatter_case(n: usize, rows: usize, cols: usize, timed: bool) -> Case {
    Case {
        label: format!("scatter {n} to {rows}x{cols}"),
        tolerance: 3e-7,
        flops: cost(n, cols, 4, true).flops,
        bytes: cost(n, cols, 4, true).bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let dy = d.upload(Class::Scratch, &noise(1, n * cols))?;
            let index = d.upload(Class::Scratch, &index(n, rows))?;
            let table = d.upload(Class::Scratch, &noise(2, rows * cols))?;
            let d = d.clone();
            Ok(Run::new(vec![table], move |y| scatter(&d, &dy, &index, cols, &mut y[0])))
        }),
        reference: Box::new(move || {
            let (dy, index) = (noise(1, n * cols), index(n, rows));
            let mut table: Vec<f64> = noise(2, rows * cols).into_iter().map(f64::from).collect();
            for (i, x) in dy.iter().enumerate() {
                table[index[i / cols] as usize * cols + i % cols] += f64::from(*x);
            }
            table
        }),
    }
}
