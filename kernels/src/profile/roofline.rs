//! What this machine is capable of, measured: the roofline model (Williams, Waterman &
//! Patterson 2009).
//!
//! ```text
//! a launch of f operations in f32, i on 8-bit integers and b bytes takes at least
//! max(f / peak + i / integer peak, b / bandwidth)
//! ```
//! The peak is that of independent chains of fused multiply-adds in registers, the integers' that
//! of the product's tile on data in the first-level cache, the bandwidth that of STREAM's triad
//! (McCalpin 1995), y = b + s c, on arrays that are together twice as large as the largest cache;
//! all on all threads of the pool, the best of several rounds. Memory is counted as STREAM counts
//! it, every array once. Data that is still in a cache comes faster than that, so a small launch
//! can be above its roofline.
use super::entries::Roofline;
use crate::{
    Cpu, Device, Error, Result, isa, matmul_int8,
    simd::{F32s, Level, simd},
};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

impl Roofline {
    /// Measures a processor, in less than two seconds; another device is refused. Memory is taken
    /// from the system and given back, past the device's ledger.
    pub fn measure(device: &Device) -> Result<Roofline> {
        let Device::Cpu(d) = device else {
            return Err(Error::Unsupported { kernel: "roofline", device: device.name() });
        };
        let (isa, level) = (isa()?, Level::current()?);
        let (flops, integer) =
            (rate(|| chains_on_all(d, level)), rate(|| matmul_int8::burst(d, isa, TASKS * d.threads())));
        Ok(Roofline { isa, threads: d.threads(), flops, integer, bytes: bandwidth(d, level)? })
    }
}

/// Chains of multiply-adds: more than are under way at once on any processor, and fewer than
/// AVX2 has registers.
const CHAINS: usize = 12;
const LINKS: usize = 50_000;
const TASKS: usize = 16;

simd! {
    fn chains<S>(s, x: f32) -> f32 {
        let (a, b) = (s.splat(0.5), s.splat(x));
        // each with numbers of its own, or they would be one chain
        let mut c: [S::V; CHAINS] = std::array::from_fn(|i| s.splat(x + i as f32));
        for _ in 0..LINKS {
            for c in &mut c {
                *c = c.fma(a, b);
            }
        }
        c.into_iter().fold(s.splat(0.0), |sum, c| sum + c).sum()
    }
}
simd! {
    fn triad<S>(_s, y: &mut [f32], b: &[f32], c: &[f32], by: f32) {
        for ((y, b), c) in y.iter_mut().zip(b).zip(c) {
            *y = b + by * c;
        }
    }
}

/// The shortest time that `f` takes: of three rounds at least, and of as many as fit
/// into `at_least`.
fn best(at_least: Duration, mut f: impl FnMut()) -> f64 {
    let (start, mut best, mut rounds) = (Instant::now(), f64::INFINITY, 0);
    while rounds < 3 || start.elapsed() < at_least {
        let round = Instant::now();
        f();
        best = best.min(round.elapsed().as_secs_f64());
        rounds += 1;
    }
    best.max(1e-9)
}

/// Keeps all threads of a processor busy with multiply-adds in registers, for some milliseconds,
/// and says how many floating-point operations that was: what a product could do meanwhile, to be
/// timed beside one. Another device is refused.
pub fn burst(device: &Device) -> Result<f64> {
    match device {
        Device::Cpu(d) => Ok(chains_on_all(d, Level::current()?)),
        _ => Err(Error::Unsupported { kernel: "roofline", device: device.name() }),
    }
}
fn chains_on_all(d: &Cpu, level: Level) -> f64 {
    let tasks = TASKS * d.threads();
    d.each(tasks, |_, _| {
        black_box(chains(level, black_box(1.0)));
    });
    (2 * CHAINS * LINKS * level.lanes() * tasks) as f64
}

/// Operations in a second of `f`, which says how many one call is.
fn rate(mut f: impl FnMut() -> f64) -> f64 {
    let mut operations = 0.0;
    let seconds = best(Duration::from_millis(200), || operations = f());
    operations / seconds
}

/// Values of a task.
const PIECE: usize = 64 * 1024;

/// Bytes in a second.
fn bandwidth(d: &Cpu, level: Level) -> Result<f64> {
    let n = (2 * largest_cache()).clamp(96 << 20, 1 << 30) / 3 / size_of::<f32>();
    let array = || -> Result<Vec<f32>> {
        let mut v = vec![];
        let no_room = |_| Error::Memory { device: "cpu", bytes: n * size_of::<f32>() };
        v.try_reserve_exact(n).map_err(no_room)?;
        v.resize(n, 0.0);
        // each thread writes to memory first where it will use it
        d.rows(&mut v, 1, PIECE, |_, v| v.fill(1.0));
        Ok(v)
    };
    let (mut y, b, c) = (array()?, array()?, array()?);
    let seconds = best(Duration::from_millis(200), || {
        d.rows(&mut y, 1, PIECE, |at, y| triad(level, y, &b[at..], &c[at..], 0.5));
        black_box(&mut y);
    });
    Ok((3 * n * size_of::<f32>()) as f64 / seconds)
}

/// Bytes of the largest cache of the first processor, if the system says, else of a large one.
fn largest_cache() -> usize {
    let size = |i: usize| {
        let text =
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/size")).ok()?;
        let text = text.trim();
        let (digits, unit) = match text.strip_suffix('K') {
            Some(digits) => (digits, 1 << 10),
            None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
        };
        digits.parse::<usize>().ok()?.checked_mul(unit)
    };
    (0..8).filter_map(size).max().unwrap_or(64 << 20)
}
