use super::*;
use crate::{
    Class, Element, ViewMut,
    case::{noise, store},
    matmul,
};
use proptest::prelude::*;

/// Everything that a matrix is stored as, on a device.
fn converted(d: &Device, v: &[f32], rows: usize, cols: usize, to: Storage) -> (Buffer, Option<Scales>) {
    let plain = d.upload(Class::Scratch, v).unwrap();
    convert(Matrix::plain(&plain, rows, cols), to, Class::Backbone).unwrap()
}
fn int8(v: &[f32], rows: usize, cols: usize) -> (Vec<i8>, Vec<f32>) {
    match converted(&Device::cpu(2).unwrap(), v, rows, cols, Storage::Int8) {
        (data, Some(Scales::Rows(scales))) => (data.read().unwrap(), scales.read().unwrap()),
        other => panic!("{other:?}"),
    }
}
/// Data, codes and ranges.
fn nf4(v: &[f32], rows: usize, cols: usize) -> (Vec<u8>, Vec<u8>, Vec<f32>) {
    match converted(&Device::cpu(2).unwrap(), v, rows, cols, Storage::Nf4) {
        (data, Some(Scales::Blocks { codes, ranges })) => {
            let data = data.read::<Nf4Pair>().unwrap().into_iter().map(|p| p.0).collect();
            (data, codes.read().unwrap(), ranges.read().unwrap())
        }
        other => panic!("{other:?}"),
    }
}
fn decoded(v: &[f32], rows: usize, cols: usize, to: Storage) -> Vec<f32> {
    let (data, scales) = store(&Device::cpu(2).unwrap(), v, [rows, cols], to).unwrap();
    Matrix::stored(&data, scales.as_ref(), rows, cols).decode().unwrap()
}
/// Rows that are odd, short, single, empty, and longer than a group of blocks.
const SHAPES: [(usize, usize); 11] = [
    (0, 5),
    (5, 0),
    (1, 1),
    (3, 2),
    (2, 3),
    (7, 63),
    (5, 64),
    (4, 65),
    (3, 129),
    (300, 70),
    (2, 64 * 300 + 1),
];

#[test]
fn the_levels_are_quantiles_of_the_normal_distribution() {
    let below = |z: f64| 0.5 * (1.0 + libm::erf(z / 2f64.sqrt()));
    // the quantile of 0.9677083 by bisection
    let (offset, mut low, mut high) = (0.967_708_3, 0.0, 5.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) < offset { low = middle } else { high = middle }
    }
    for (i, level) in nf4::LEVELS.iter().enumerate() {
        let (side, parts) = if i < 7 { (7 - i, 7.0) } else { (i - 7, 8.0) };
        let want = 0.5 + (offset - 0.5) * side as f64 / parts;
        let got = below(f64::from(level.abs()) * low);
        assert!((got - want).abs() < 1e-6, "level {i}: probability {got}, {want} expected");
        assert_eq!(level.is_sign_negative(), i < 7);
    }
    assert_eq!(nf4::LEVELS[usize::from(nf4::ZERO)], 0.0);
}

#[test]
fn the_steps_are_those_of_the_dynamic_map() {
    let mut want = vec![0.0, 1.0];
    for i in 0..7 {
        let parts = 2usize.pow(i);
        let edges: Vec<f64> = (0..=parts).map(|j| 0.1 + 0.9 * j as f64 / parts as f64).collect();
        for pair in edges.windows(2) {
            let middle = 10f64.powi(i as i32 - 6) * (pair[0] + pair[1]) / 2.0;
            want.extend([middle, -middle]);
        }
    }
    want.sort_by(f64::total_cmp);
    assert_eq!(want.len(), 256);
    for (got, want) in nf4::STEPS.iter().zip(&want) {
        assert!((f64::from(*got) - want).abs() <= 1e-7 * want.abs(), "{got}, {want} expected");
    }
}

#[test]
fn int8_rows_are_rounded_to_multiples_of_their_scale() {
    for (rows, cols) in SHAPES {
        let v = noise(1, rows * cols);
        let (data, scales) = int8(&v, rows, cols);
        assert_eq!((data.len(), scales.len()), (rows * cols, rows));
        for i in 0..rows {
            let row = &v[i * cols..(i + 1) * cols];
            let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert_eq!(scales[i], largest / 127.0);
            for (q, x) in data[i * cols..].iter().zip(row) {
                let off = (f64::from(*q) - f64::from(*x) / f64::from(scales[i])).abs();
                assert!(off <= 0.500_01, "{x} is {q} times {}", scales[i]);
            }
            assert!(cols == 0 || data[i * cols..(i + 1) * cols].iter().any(|q| q.abs() == 127));
        }
    }
    let (data, scales) = int8(&[0.0, -0.0, 1e-45, -1e-45, 3.0e38, -3.4e38], 3, 2);
    assert_eq!(data, [0, 0, 0, 0, 112, -127]);
    assert!(scales[..2] == [0.0, 0.0] && scales[2].is_finite());
}

#[test]
fn nf4_blocks_are_rounded_to_levels_of_their_scale() {
    for (rows, cols) in SHAPES {
        let v = noise(2, rows * cols);
        let (data, codes, ranges) = nf4(&v, rows, cols);
        let (pairs, blocks) = (cols.div_ceil(2), cols.div_ceil(64));
        assert_eq!((data.len(), codes.len()), (rows * pairs, rows * blocks));
        assert_eq!(ranges.len(), 2 * (rows * blocks).div_ceil(256));
        for i in 0..rows {
            for b in 0..blocks {
                let block = &v[i * cols..(i + 1) * cols][b * 64..cols.min(b * 64 + 64)];
                let at = i * blocks + b;
                let (m, r) = (ranges[at / 256 * 2], ranges[at / 256 * 2 + 1]);
                let scale = m + r * nf4::STEPS[usize::from(codes[at])];
                let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                // the widest gap between steps is 0.9 / 64, and -1 is none
                assert!((scale - largest).abs() <= r * 0.0071, "{scale} for {largest}, {m} {r}");
                for (k, x) in block.iter().enumerate() {
                    let byte = data[i * pairs + (b * 64 + k) / 2];
                    let code = if k % 2 == 0 { byte & 15 } else { byte >> 4 };
                    let off = |level: f32| (x - level * scale).abs();
                    let nearest = nf4::LEVELS.iter().map(|l| off(*l)).fold(f32::INFINITY, f32::min);
                    let got = off(nf4::LEVELS[usize::from(code)]);
                    assert!(got <= nearest * 1.000_01 + 1e-6 * scale.abs(), "{x}: code {code} of {scale}");
                }
            }
            if cols % 2 == 1 {
                assert_eq!(data[(i + 1) * pairs - 1] >> 4, nf4::ZERO, "what pads a row is zero");
            }
        }
    }
}

#[test]
fn a_few_large_blocks_do_not_spoil_their_group() {
    let mut v = noise(3, 256 * 64);
    v.iter_mut().for_each(|x| *x *= 0.03);
    v[..64].iter_mut().for_each(|x| *x *= 100.0);
    let got = decoded(&v, 64, 256, Storage::Nf4);
    let error = |range: std::ops::Range<usize>| {
        let squares = |f: &dyn Fn(usize) -> f32| range.clone().map(|i| f64::from(f(i)).powi(2)).sum::<f64>();
        (squares(&|i| got[i] - v[i]) / squares(&|i| v[i])).sqrt()
    };
    assert!(error(0..64) < 0.12 && error(64..v.len()) < 0.12, "{} {}", error(0..64), error(64..v.len()));
}

#[test]
fn zeros_stay_zeros() {
    for storage in Storage::ALL {
        assert!(decoded(&[0.0; 130], 2, 65, storage).iter().all(|x| *x == 0.0), "{storage}");
        // a block of zeros among others, whose scale may come out below zero
        let mut v = noise(4, 640);
        v[128..192].fill(0.0);
        assert!(decoded(&v, 5, 128, storage)[128..192].iter().all(|x| *x == 0.0), "{storage}");
    }
}

#[test]
fn values_are_near_what_they_were_and_as_many_bytes_as_promised() {
    let (rows, cols) = (96, 384);
    let v = noise(5, rows * cols);
    let squares = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    for (storage, error) in [
        (Storage::F32, 0.0),
        (Storage::Bf16, 2e-3),
        (Storage::F16, 3e-4),
        (Storage::Int8, 8e-3),
        (Storage::Nf4, 0.1),
    ] {
        let got = decoded(&v, rows, cols, storage);
        let difference: Vec<f32> = got.iter().zip(&v).map(|(a, b)| a - b).collect();
        let off = (squares(&difference) / squares(&v)).sqrt();
        assert!(off <= error && (off > error / 3.0 || error == 0.0), "{storage}: {off:e}");
        for (rows, cols) in SHAPES {
            let d = Device::cpu(1).unwrap();
            let (data, scales) = store(&d, &noise(6, rows * cols), [rows, cols], storage).unwrap();
            let bytes =
                data.bytes() + scales.iter().flat_map(Scales::buffers).map(Buffer::bytes).sum::<usize>();
            assert_eq!(bytes, storage.bytes(rows, cols), "{storage} {rows} x {cols}");
        }
    }
}

fn bytes<T: Element + Into<f64>>(b: &Buffer) -> Vec<u64> {
    b.read::<T>().unwrap().into_iter().map(|x| x.into().to_bits()).collect()
}
#[test]
fn the_number_of_threads_changes_nothing_and_the_null_device_predicts_the_memory() {
    for (rows, cols) in SHAPES {
        let v = noise(7, rows * cols);
        for storage in Storage::ALL {
            let mut first = None;
            for threads in [1, 2, 3] {
                let (cpu, null) = (Device::cpu(threads).unwrap(), Device::null(threads));
                let (data, scales) = converted(&cpu, &v, rows, cols, storage);
                let all: Vec<Vec<u64>> = std::iter::once(&data)
                    .chain(scales.iter().flat_map(Scales::buffers))
                    .map(|b| match b.dtype() {
                        DType::F32 => bytes::<f32>(b),
                        DType::Bf16 => bytes::<bf16>(b),
                        DType::F16 => bytes::<f16>(b),
                        DType::I8 => bytes::<i8>(b),
                        DType::U8 => bytes::<u8>(b),
                        _ => b.read::<Nf4Pair>().unwrap().iter().map(|p| p.0.into()).collect(),
                    })
                    .collect();
                assert_eq!(first.get_or_insert_with(|| all.clone()), &all);
                let kept = converted(&null, &v, rows, cols, storage);
                assert_eq!(cpu.ledger().usage(), null.ledger().usage(), "{storage} {rows} x {cols}");
                drop((data, scales, kept));
                assert_eq!(cpu.ledger().usage().live_total(), 0);
            }
        }
    }
}

#[test]
fn halves_are_converted_as_their_values() {
    let v: Vec<f32> = noise(8, 3 * 70).iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    let d = Device::cpu(1).unwrap();
    let half: Vec<bf16> = v.iter().map(|x| bf16::from_f32(*x)).collect();
    let half = d.upload(Class::Scratch, &half).unwrap();
    for storage in Storage::ALL {
        let (data, scales) = convert(Matrix::plain(&half, 3, 70), storage, Class::Backbone).unwrap();
        let got = Matrix::stored(&data, scales.as_ref(), 3, 70).decode().unwrap();
        assert_eq!(got, decoded(&v, 3, 70, storage), "{storage}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let d = Device::cpu(1).unwrap();
    let (data, scales) = store(&d, &noise(9, 130), [2, 65], Storage::Int8).unwrap();
    let (pairs, blocks) = store(&d, &noise(9, 130), [2, 65], Storage::Nf4).unwrap();
    let (scales, blocks) = (scales.unwrap(), blocks.unwrap());
    let matrix = Matrix::stored;
    assert!(matrix(&data, Some(&scales), 2, 65).validate().is_ok());
    assert!(matrix(&pairs, Some(&blocks), 2, 65).validate().is_ok());
    for (data, scales) in [(&data, None), (&pairs, None), (&data, Some(&blocks)), (&pairs, Some(&scales))] {
        assert!(matches!(matrix(data, scales, 2, 65).validate(), Err(Error::DType { .. })));
    }
    let beyond = |r| matches!(r, Err(Error::Length { .. } | Error::Invalid { .. }));
    for (rows, cols) in [(3, 43), (2, 66), (usize::MAX, 2)] {
        assert!(beyond(matrix(&data, Some(&scales), rows, cols).validate()));
    }
    let e = matrix(&data, Some(&scales), usize::MAX, 2).validate().unwrap_err().to_string();
    assert_eq!(e, format!("storage: `matrix` of {} x 2 elements is larger than any memory", usize::MAX));
    // enough codes, but not enough scales
    for (rows, cols) in [(66, 2), (usize::MAX, 2), (2, usize::MAX)] {
        assert!(beyond(matrix(&pairs, Some(&blocks), rows, cols).validate()));
    }
    let again = convert(matrix(&data, Some(&scales), 2, 65), Storage::Nf4, Class::Backbone);
    assert!(matches!(again, Err(Error::DType { .. })));
    let ids = d.upload(Class::Scratch, &[1u32; 4]).unwrap();
    assert!(matrix(&ids, None, 2, 2).validate().is_err());
    let elsewhere = Device::cpu(1).unwrap();
    let refused = matrix(&data, Some(&scales), 2, 65).check("x", "y", &elsewhere);
    assert!(matches!(refused, Err(Error::Elsewhere { .. })));
}

#[test]
fn some_rows_of_a_matrix_are_a_matrix() {
    let (d, x) = (Device::cpu(2).unwrap(), noise(11, 3 * 70));
    let up = d.upload(Class::Scratch, &x).unwrap();
    for storage in Storage::ALL {
        let (data, scales) = store(&d, &noise(10, 300 * 70), [300, 70], storage).unwrap();
        let whole = Matrix::stored(&data, scales.as_ref(), 300, 70);
        let all = whole.decode().unwrap();
        for (part, rows) in [
            (whole.rows_of(0..300), 0..300),
            (whole.rows_of(7..290).unwrap().rows_of(124..125), 131..132),
            (whole.rows_of(131..290), 131..290),
            (whole.rows_of(300..300), 300..300),
        ] {
            let (part, n) = (part.unwrap(), rows.len());
            let values = &all[rows.start * 70..rows.end * 70];
            assert_eq!(part.decode().unwrap(), values, "{storage}");
            let mut y = d.alloc::<f32>(Class::Scratch, 3 * n).unwrap();
            let (x3, to) = (View::of(&up, 3, 70).unwrap(), ViewMut::of(&mut y, 3, n).unwrap());
            matmul::times_transposed(&d, x3, part, matmul::Plus::NOTHING, to).unwrap();
            let want = matmul::reference(3, 70, n, (&x, 70, 1), (values, 1, 70), None);
            let near = |(y, w): (f32, &f32)| assert!((y - w).abs() < 1e-4, "{storage}: {y} {w}");
            y.read::<f32>().unwrap().into_iter().zip(&want).for_each(near);
        }
        assert!(matches!(whole.rows_of(299..301), Err(Error::Part { .. })));
    }
}

proptest! {
    #[test]
    fn any_matrix_is_near_itself(rows in 0..20usize, cols in 0..200usize, seed: u64, power in -30..30i32) {
        let v: Vec<f32> = noise(seed, rows * cols).iter().map(|x| x * 2f32.powi(power)).collect();
        // nf4's scales are themselves rounded, to steps that the largest of a group decides
        let largest = v.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (storage, share, step) in [(Storage::Int8, 0.5001 / 127.0, 0.0), (Storage::Nf4, 0.16, largest / 120.0)] {
            let got = decoded(&v, rows, cols, storage);
            prop_assert_eq!(got.len(), v.len());
            for (row, got) in v.chunks(cols.max(1)).zip(got.chunks(cols.max(1))) {
                let most = row.iter().fold(0f32, |m, x| m.max(x.abs())) * share + step;
                for (x, y) in row.iter().zip(got) {
                    prop_assert!((x - y).abs() <= most, "{storage}: {x} became {y}");
                }
            }
        }
    }
}
