//! The kernels that run on a GPU, on whatever answers as one.
//!
//! With `--features cuda-sim` that is the stand-in of `kernels/cuda-sim`. Without it, it is the
//! machine's first GPU, and on a machine that has none the tests only look at the error that says
//! so. What was done is printed in any case.
//!
//! `ENGRAFT_CUDA_CASES=NAME,..` takes the cases of these kernels alone, and `ENGRAFT_CUDA_FLOPS=N`
//! those with no more operations.
mod tensor_cores;

use engraft_kernels::{
    Buffer, Case, Class, DType, Device, Error, KERNELS, Products, Storage, View, ViewMut, cross_entropy,
    cross_entropy_of_rows, dropout, gather, layernorm,
    matmul::{self, Plus},
    storage::convert,
};
use half::bf16;
use std::{env, fmt::Display, io::Write};

/// Values about 0.
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0) * 1.7).collect()
}

const SIM: bool = cfg!(feature = "cuda-sim");

/// To the terminal, past the test harness, which keeps what successful tests print.
fn say(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "cuda: {what}");
}

/// The device, or nothing where there is none.
fn gpu(test: &str) -> Option<Device> {
    gpu_with(test, Products::F32)
}
fn gpu_with(test: &str, products: Products) -> Option<Device> {
    match Device::cuda_with(0, products) {
        Ok(d) => {
            let Device::Cuda(gpu) = &d else { panic!("another device was opened") };
            say(format!("{test}: on {}", gpu.name().expect("its name")));
            Some(d)
        }
        Err(e) if SIM => panic!("the stand-in must open: {e}"),
        Err(e) => {
            say(format!("{test}: SKIPPED, {e}"));
            None
        }
    }
}

// ---- cases --------------------------------------------------------------------------------------

#[test]
fn a_machine_without_a_driver_is_told_so() {
    // SAFETY: looks for the driver's library; nothing of it is called.
    let driver = SIM || unsafe { cudarc::driver::sys::is_culib_present() };
    match Device::cuda(0) {
        Ok(_) => assert!(driver),
        Err(e) if SIM => panic!("the stand-in must open: {e}"),
        Err(e) => {
            say(format!("no GPU here: {e}"));
            assert!(matches!(e, Error::Open { device: "cuda", .. }), "{e}");
            if !driver {
                let message = "cannot open cuda: no CUDA driver (libcuda) is installed on this machine";
                assert_eq!(e.to_string(), message);
            }
        }
    }
}

/// Whether the cases of this kernel are to be run.
fn asked(name: &str) -> bool {
    env::var("ENGRAFT_CUDA_CASES").map_or(true, |all| all.split(',').any(|n| n == name))
}
/// The registry's cases for a GPU, each with the name of its kernel.
fn cases() -> Vec<(&'static str, Case)> {
    let flops =
        env::var("ENGRAFT_CUDA_FLOPS").map_or(f64::INFINITY, |f| f.parse().expect("a number of operations"));
    let all =
        KERNELS.iter().filter(|k| asked(k.name)).flat_map(|k| (k.cases)().into_iter().map(|c| (k.name, c)));
    // the shapes that are worth timing on a GPU take too long on fibers
    all.filter(|(_, c)| c.cuda && !(SIM && c.timed) && c.flops <= flops).collect()
}

#[test]
fn every_case_matches_its_reference() {
    let Some(gpu) = gpu("every case") else { return };
    let cases = cases();
    let mut worst = 0f64;
    for (name, c) in &cases {
        let what = format!("{name} {}", c.label);
        let run = |d: &Device| {
            let mut run = (c.prepare)(d).unwrap_or_else(|e| panic!("{what}: {e}"));
            run.launch().unwrap_or_else(|e| panic!("{what} on {}: {e}", d.name()));
            run.read().unwrap_or_else(|e| panic!("{what} on {}: {e}", d.name()))
        };
        let (got, expected) = (run(&gpu), (c.reference)());
        let finite = expected.iter().filter(|v| v.is_finite());
        let largest = finite.fold(1e-3f64, |a, v| a.max(v.abs()));
        assert_eq!(got.len(), expected.len(), "{what}");
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            let error = if f64::from(*g) == *e { 0.0 } else { (f64::from(*g) - e).abs() / largest };
            // so that NaN fails
            assert!(error <= c.tolerance, "{what}: [{i}] is {g}, not {e}");
            worst = worst.max(error);
        }
        // fibers take their time
        if !SIM || c.flops < 1e6 {
            let same = run(&gpu).iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{what}: another launch gave other bits");
        }
    }
    assert!(!cases.is_empty(), "there is something to run");
    say(format!("{} cases agree, the largest difference is {worst:.1e}", cases.len()));
}

#[test]
fn weights_are_converted_as_on_the_processor() {
    let Some(d) = gpu("conversion") else { return };
    let (cpu, values) = (Device::cpu(1).unwrap(), noise(5 * 131));
    for to in Storage::ALL {
        let bytes = |d: &Device| {
            let x = d.upload(Class::Scratch, &values).unwrap();
            let (data, scales) = convert(matmul::Matrix::plain(&x, 5, 131), to, Class::Backbone).unwrap();
            assert!(data.device().same(d) && data.class() == Class::Backbone);
            matmul::Matrix::stored(&data, scales.as_ref(), 5, 131).decode().unwrap()
        };
        assert_eq!(bytes(&d), bytes(&cpu), "{to}");
    }
}

#[test]
fn an_index_that_names_nothing_is_the_error_of_the_next_wait() {
    let Some(d) = gpu("indices") else { return };
    let up = |v: &[u32]| d.upload(Class::Scratch, v).unwrap();
    let (x, index) = (d.zeros::<f32>(Class::Scratch, 6).unwrap(), up(&[1, 7, 2]));
    let mut y = d.zeros::<f32>(Class::Scratch, 6).unwrap();
    let table = matmul::Matrix::plain(&x, 3, 2);
    gather::rows(&d, table, &index, ViewMut::of(&mut y, 3, 2).unwrap(), false).unwrap();
    let says = |r: Result<(), Error>, words: &str| assert_eq!(r.unwrap_err().to_string(), words);
    says(y.read::<f32>().map(drop), "gather: there is no row 7: there are 3, counted from 0");
    assert_eq!(y.read::<f32>().unwrap(), [0.0; 6], "it is told once");
    gather::scatter(&d, View::of(&x, 3, 2).unwrap(), &index, ViewMut::of(&mut y, 3, 2).unwrap()).unwrap();
    says(d.synchronize(), "gather: there is no row 7: there are 3, counted from 0");
    let mut loss = d.zeros::<f32>(Class::Scratch, 1).unwrap();
    let (z, probs) = (View::of(&x, 3, 2).unwrap(), ViewMut::of(&mut y, 3, 2).unwrap());
    cross_entropy::forward(&d, z, &index, probs, &mut loss).unwrap();
    says(d.synchronize(), "cross_entropy: there is no class 7: there are 2, counted from 0");
    for (lengths, targets, words) in [
        (vec![1, 2], vec![0, 0, 2, 1], "row of an example 2: there are 3"),
        (vec![1, 1], vec![0, 0, 0, 0], "end of the examples at row 2: there are 3"),
    ] {
        let probs = ViewMut::of(&mut y, 3, 2).unwrap();
        cross_entropy_of_rows::forward(&d, z, &up(&lengths), &up(&targets), probs, &mut loss).unwrap();
        says(d.synchronize(), &format!("cross_entropy_of_rows: there is no {words}, counted from 0"));
    }
}

/// A norm with a bias.
fn norm<'a>(gamma: &'a Buffer, beta: &'a Buffer) -> layernorm::Norm<'a> {
    layernorm::Norm { gamma, beta: Some(beta), eps: 1e-5, centred: true, dropout: None }
}

#[test]
fn parts_of_matrices_are_written_and_nothing_beside_them() {
    let Some(d) = gpu("parts of matrices") else { return };
    let cpu = Device::cpu(1).unwrap();
    let values: Vec<f32> = (0..40).map(|x| x as f32 / 7.0 - 2.0).collect();
    let run = |d: &Device| {
        let up = |n| d.upload::<f32>(Class::Scratch, &values[..n]).unwrap();
        let (x, mut y, row) = (up(40), up(40), up(4));
        let x = View::of(&x, 5, 8).unwrap().rows_of(2..5).unwrap().cols_of(3..7).unwrap();
        let to = ViewMut::of(&mut y, 5, 8).unwrap().rows_of(1..4).unwrap().cols_of(1..5).unwrap();
        layernorm::forward(d, x, None, norm(&row, &row), to, None).unwrap();
        let to = ViewMut::of(&mut y, 5, 8).unwrap().rows_of(4..5).unwrap().cols_of(6..8).unwrap();
        dropout::apply(d, dropout::Dropout::new(0.5, 1, 2, 3), to).unwrap();
        let weight = up(40);
        let w = matmul::Matrix::plain(&weight, 5, 8).rows_of(1..3).unwrap().cols_of(2..6).unwrap();
        let to = ViewMut::of(&mut y, 5, 8).unwrap().rows_of(0..3).unwrap().cols_of(6..8).unwrap();
        matmul::times_transposed(d, x, w, Plus::OUTPUT, to).unwrap();
        y.read::<f32>().unwrap()
    };
    for (i, (a, b)) in run(&d).iter().zip(run(&cpu)).enumerate() {
        assert!((a - b).abs() < 1e-5, "[{i}] is {a}, not {b}");
    }
}

#[test]
fn empty_launches_do_nothing() {
    let Some(d) = gpu("empty launches") else { return };
    let f = |n| d.upload::<f32>(Class::Scratch, &vec![3.0; n]).unwrap();
    let (empty, some) = (f(0), f(6));
    let mut out = f(6);
    for (rows, cols) in [(0, 6), (6, 0), (0, 0)] {
        let (n, x) = (norm(&some, &some), View::of(&empty, rows, cols).unwrap());
        layernorm::forward(&d, x, None, n, ViewMut::of(&mut out, rows, cols).unwrap(), None).unwrap();
        layernorm::backward(&d, x, x, &some, n, ViewMut::of(&mut out, rows, cols).unwrap(), None).unwrap();
    }
    let none = |rows, cols| matmul::Matrix::plain(&some, rows, cols);
    let bias = Plus::bias(&some);
    let of = |b, rows, cols| View::of(b, rows, cols).unwrap();
    fn to(b: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
        ViewMut::of(b, rows, cols).unwrap()
    }
    matmul::times_transposed(&d, of(&some, 0, 3), none(2, 3), bias, to(&mut out, 0, 2)).unwrap();
    matmul::times_transposed(&d, of(&some, 2, 3), none(0, 3), bias, to(&mut out, 2, 0)).unwrap();
    matmul::times(&d, of(&some, 0, 2), none(2, 3), bias, to(&mut out, 0, 3)).unwrap();
    matmul::times(&d, of(&some, 2, 3), none(3, 0), bias, to(&mut out, 2, 0)).unwrap();
    matmul::transposed_times(&d, of(&some, 2, 0), of(&some, 2, 3), to(&mut out, 0, 3), false).unwrap();
    matmul::transposed_times(&d, of(&some, 3, 2), of(&some, 3, 0), to(&mut out, 2, 0), false).unwrap();
    assert_eq!(out.read::<f32>().unwrap(), [3.0; 6]);
    // a product over nothing is zero, or what was there
    matmul::transposed_times(&d, of(&empty, 0, 2), of(&empty, 0, 3), to(&mut out, 2, 3), true).unwrap();
    assert_eq!(out.read::<f32>().unwrap(), [3.0; 6]);
    matmul::transposed_times(&d, of(&empty, 0, 2), of(&empty, 0, 3), to(&mut out, 2, 3), false).unwrap();
    assert_eq!(out.read::<f32>().unwrap(), [0.0; 6]);
}

#[test]
fn buffers_hold_what_is_written() {
    let Some(d) = gpu("buffers") else { return };
    for len in [0, 1, 5, 1000] {
        let values: Vec<u32> = (0..len as u32).collect();
        let mut b = d.upload(Class::Scratch, &values).unwrap();
        assert_eq!(b.read::<u32>().unwrap(), values);
        let copy = b.duplicate(Class::Saved).unwrap();
        b.clear().unwrap();
        assert_eq!(b.read::<u32>().unwrap(), vec![0; len]);
        assert_eq!(copy.read::<u32>().unwrap(), values);
        assert!(matches!(b.write(&vec![1u32; len + 1]), Err(Error::Length { .. })));
        assert!(matches!(b.read::<f32>(), Err(Error::DType { .. })));
    }
    let halves = [bf16::from_f32(1.5), bf16::from_f32(-2.0), bf16::NAN];
    let back = d.upload(Class::Backbone, &halves).unwrap().read::<bf16>().unwrap();
    assert_eq!(back.into_iter().map(bf16::to_bits).collect::<Vec<_>>(), halves.map(bf16::to_bits));
    d.synchronize().unwrap();
    if cfg!(debug_assertions) {
        let fresh = d.alloc::<f32>(Class::Scratch, 3).unwrap();
        assert!(fresh.read::<f32>().unwrap().iter().all(|x| x.is_nan()));
    }

    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("map-{}", std::process::id()));
    std::fs::write(&path, [9u8, 1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    let file = engraft_kernels::MappedFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mapped = d.map(Class::Backbone, &file, 1, DType::U32, 2).unwrap();
    assert_eq!((mapped.read::<u32>().unwrap(), mapped.is_mapped()), (vec![1, 2], false));
    assert!(d.map(Class::Backbone, &file, 9, DType::U32, 0).unwrap().read::<u32>().unwrap().is_empty());
    assert!(d.map(Class::Backbone, &file, 1, DType::U32, 3).is_err());
}

#[test]
fn the_ledger_counts_what_the_device_holds() {
    let Some(d) = gpu("the ledger") else { return };
    let null = Device::null(1);
    for d in [&d, &null] {
        let a = d.zeros::<f32>(Class::Backbone, 10).unwrap();
        let b = a.duplicate(Class::Saved).unwrap();
        let c = d.alloc::<bf16>(Class::Grad, 3).unwrap();
        b.set_class(Class::Optim);
        let u = d.ledger().usage();
        assert_eq!(Class::ALL.map(|c| u.live(c)), [40, 0, 6, 40, 0, 0], "{}", d.name());
        assert_eq!((u.live_total(), u.peak_total()), (86, 86), "{}", d.name());
        drop((a, b, c));
        assert_eq!(d.ledger().usage().live_total(), 0, "{}", d.name());
    }
    // what is dropped can be had again: this is more than the stand-in has
    for _ in 0..17 {
        d.alloc::<f32>(Class::Scratch, 16 << 20).unwrap();
    }
    assert_eq!(d.ledger().usage().peak_total(), 64 << 20);
    assert!(d.alloc::<f32>(Class::Scratch, 1 << 45).is_err());
    assert_eq!(d.ledger().usage().live_total(), 0);
}

#[test]
fn arguments_of_another_device_are_refused() {
    let Some(d) = gpu("wrong devices") else { return };
    let other = Device::cuda(0).unwrap();
    let mut y = d.zeros::<f32>(Class::Scratch, 4).unwrap();
    for elsewhere in [Device::cpu(1).unwrap(), Device::null(1), other] {
        let x = elsewhere.zeros::<f32>(Class::Scratch, 4).unwrap();
        let here = d.zeros::<f32>(Class::Scratch, 4).unwrap();
        let refused = |r| assert!(matches!(r, Err(Error::Elsewhere { .. })), "{r:?}");
        let n = norm(&here, &here);
        let (far, near) = (View::row(&x), View::row(&here));
        refused(layernorm::forward(&d, near, Some(far), n, ViewMut::row(&mut y), None));
        refused(layernorm::backward(&d, far, near, &here, n, ViewMut::row(&mut y), None));
        let w = matmul::Matrix::plain(&x, 2, 2);
        let of = |b| View::of(b, 2, 2).unwrap();

        refused(matmul::times(&d, of(&here), w, Plus::NOTHING, ViewMut::of(&mut y, 2, 2).unwrap()));
        let to = ViewMut::of(&mut y, 2, 2).unwrap();
        refused(matmul::times_transposed(&d, of(&here), w, Plus::NOTHING, to));
        let to = ViewMut::of(&mut y, 2, 2).unwrap();
        refused(matmul::transposed_times(&d, of(&here), of(&x), to, false));
    }
    assert_eq!(y.read::<f32>().unwrap(), [0.0; 4]);
}

#[test]
fn there_is_no_such_gpu() {
    if gpu("no such GPU").is_none() {
        return;
    }
    // the second would be 0 if it were cut to 32 bits
    for ordinal in [1000, 1 << 32, usize::MAX] {
        let e = Device::cuda(ordinal).unwrap_err().to_string();
        assert!(
            e.starts_with(&format!("cannot open cuda: there is no GPU {ordinal}: the driver has ")),
            "{e}"
        );
    }
}

#[test]
fn several_threads_share_a_gpu() {
    let Some(d) = gpu("several threads") else { return };
    std::thread::scope(|s| {
        for i in 0..4u32 {
            let d = d.clone();
            s.spawn(move || {
                for n in 1..20 {
                    let v = vec![i; n];
                    let b = d.upload(Class::Scratch, &v).unwrap();
                    assert_eq!(b.duplicate(Class::Saved).unwrap().read::<u32>().unwrap(), v);
                    let cases = (layernorm::KERNEL.cases)();
                    let c = &cases[n + 4 * i as usize];
                    let mut run = (c.prepare)(&d).unwrap();
                    run.launch().unwrap();
                    let (got, expected) = (run.read().unwrap(), (c.reference)());
                    assert!(got.iter().zip(&expected).all(|(g, e)| (f64::from(*g) - e).abs() < 1e-4));
                }
            });
        }
    });
}

#[cfg(feature = "cuda-sim")]
mod sim {
    use super::*;
    use std::process::{Command, Output};

    /// Runs one test of this program in a process of its own, with an environment variable.
    fn child(test: &str, variable: &str, value: &str) -> Output {
        let mut c = Command::new(std::env::current_exe().unwrap());
        c.args([test, "--exact", "--include-ignored", "--nocapture"]).env(variable, value).output().unwrap()
    }

    /// The other tests run them ascending; 1 is descending, and others are shuffled.
    #[test]
    fn the_order_of_threads_does_not_matter() {
        for seed in ["1", "7"] {
            let test = "every_case_matches_its_reference";
            let out = child(test, "ENGRAFT_CUDA_SIM_SEED", seed);
            let (said, also) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
            assert!(out.status.success() && also.contains("1 passed"), "order {seed}: {said}{also}");
            say(format!("and so they do with threads in order {seed}"));
        }
    }

    #[test]
    #[ignore = "a part of the next test"]
    fn opens() {
        match Device::cuda(0) {
            Ok(_) => println!("it opened"),
            Err(e) => println!("it did not open: {e}"),
        }
    }
    #[test]
    fn a_driver_that_fails_is_an_error() {
        let out = child("sim::opens", "ENGRAFT_CUDA_SIM_INIT", "100");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "it panicked: {}", String::from_utf8_lossy(&out.stderr));
        let message = "it did not open: cannot open cuda: GPU 0: DriverError(CUDA_ERROR_NO_DEVICE";
        assert!(said.contains(message), "{said}");
    }

    #[test]
    fn memory_that_does_not_fit_is_an_error() {
        let d = gpu("too much memory").unwrap();
        let e = d.alloc::<f32>(Class::Scratch, 2 << 30).unwrap_err();
        assert_eq!(e.to_string(), format!("out of memory on cuda: {} bytes were asked for", 8u64 << 30));
    }
}
