//! The shapes on which rows are gathered and scattered, checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase, Storage,
    case::{kept, noise, store},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (n, cols) in [(0, 3), (1, 1), (5, 7), (40, 33), (9, 0), (3, 515)] {
        for storage in Storage::ALL {
            v.extend([false, true].map(|accumulate| rows_case(n, 9, cols, storage, accumulate, false)));
        }
        if cols > 0 {
            v.push(scatter_case(n, 9, cols, false));
        }
    }
    v.push(rows_case(2048, 30_522, 768, Storage::F32, false, true));
    v.push(rows_case(2048, 30_522, 768, Storage::Bf16, true, true));
    for storage in [Storage::Int8, Storage::Nf4] {
        v.push(rows_case(2048, 30_522, 768, storage, false, true));
    }
    v.push(scatter_case(16, 2048, 768, true));
    v
}
fn index(n: usize, rows: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 13 % rows) as u32).collect()
}
fn rows_case(n: usize, rows: usize, cols: usize, storage: Storage, accumulate: bool, timed: bool) -> Case {
    let (size, len) = (rows * cols, n * cols);
    let cost = cost(storage.bytes(n, cols), len, accumulate);
    Case {
        label: format!("rows {n} of {rows}x{cols} {storage}{}", if accumulate { ", added" } else { "" }),
        tolerance: 1e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (table, scales) = store(d, &noise(1, size), [rows, cols], storage)?;
            let index = d.upload(Class::Scratch, &index(n, rows))?;
            let y = d.upload(Class::Scratch, &noise(2, len))?;
            let d = d.clone();
            Ok(PreparedCase::new(vec![y], move |y| {
                let table = Matrix::stored(&table, scales.as_ref(), rows, cols);
                super::rows(&d, table, &index, ViewMut::of(&mut y[0], n, cols)?, accumulate)
            }))
        }),
        reference: Box::new(move || {
            let (table, y, index) =
                (kept(&noise(1, size), [rows, cols], storage), noise(2, len), index(n, rows));
            let old = |i: usize| if accumulate { f64::from(y[i]) } else { 0.0 };
            let of = |i: usize| table[index[i / cols] as usize * cols + i % cols];
            (0..len).map(|i| old(i) + of(i)).collect()
        }),
    }
}
fn scatter_case(n: usize, rows: usize, cols: usize, timed: bool) -> Case {
    Case {
        label: format!("scatter {n} to {rows}x{cols}"),
        tolerance: 3e-7,
        flops: cost(4 * n * cols, n * cols, true).flops,
        bytes: cost(4 * n * cols, n * cols, true).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let dy = d.upload(Class::Scratch, &noise(1, n * cols))?;
            let index = d.upload(Class::Scratch, &index(n, rows))?;
            let table = d.upload(Class::Scratch, &noise(2, rows * cols))?;
            let d = d.clone();
            Ok(PreparedCase::new(vec![table], move |y| {
                scatter(&d, View::of(&dy, n, cols)?, &index, ViewMut::of(&mut y[0], rows, cols)?)
            }))
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
