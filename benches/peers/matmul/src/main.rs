//! The products of one frozen linear layer, timed one request at a time for matmul.py.
//!
//! A request is a line `SIDE OP M N K`: SIDE is engraft, matrixmultiply, gemm or peak; OP is
//! `forward`, y (M, N) = x Wᵀ, or
//! `gradient`, dx (M, K) = dy W, with W (N, K) as it is stored. The answer is a line: operations in
//! a second, and the result's last number. `peak` is multiply-adds in registers only. The one
//! argument is the number of threads.
use anyhow::{Context, Result, bail};
use engraft_kernels::{
    Buffer, Class, Device, View, ViewMut,
    matmul::{self, Matrix, Plus},
    profile::burst,
};
use gemm::Parallelism;
use std::{
    io::{BufRead, Write, stdin, stdout},
    time::{Duration, Instant},
};

/// How long a side is timed, and how long it runs before: threads that slept need some milliseconds
/// until they run side by side again.
const BATCH: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let threads: usize = std::env::args().nth(1).context("the number of threads is missing")?.parse()?;
    // SAFETY: nothing else runs yet. matrixmultiply reads it at its first product.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads.to_string()) };
    let device = Device::cpu(threads)?;
    let mut layer = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [side, op, m, n, k] = words[..] else { bail!("`{line}` is not SIDE OP M N K") };
        let size = [m.parse()?, n.parse()?, k.parse()?];
        if side == "peak" {
            let rate = device.install(|| rate(|| Ok(burst(&device)?)))?;
            writeln!(stdout(), "{rate} 0")?;
            continue;
        }
        if layer.as_ref().is_none_or(|l: &Layer| l.size != size) {
            layer = None; // the old one makes room first
        }
        let layer = match &mut layer {
            Some(l) => l,
            none => none.insert(Layer::new(&device, size)?),
        };
        let flops = 2.0 * size.map(|x| x as f64).iter().product::<f64>();
        let forward = match op {
            "forward" => true,
            "gradient" => false,
            _ => bail!("`{op}` is neither forward nor gradient"),
        };
        let rate = match side {
            "engraft" => device.install(|| rate(|| layer.engraft(&device, forward).map(|()| flops))),
            "matrixmultiply" => rate(|| {
                matrixmultiply(layer.product(forward));
                Ok(flops)
            }),
            "gemm" => rate(|| {
                gemm(layer.product(forward), threads);
                Ok(flops)
            }),
            _ => bail!("there is no side `{side}`"),
        }?;
        let last = match side {
            "engraft" => layer.ours[if forward { 3 } else { 4 }].read::<f32>()?.last().copied(),
            _ => layer.product(forward).c.last().copied(),
        };
        writeln!(stdout(), "{rate} {}", last.unwrap_or(f32::NAN))?;
    }
    Ok(())
}

/// Operations in a second of `f`, which says how many one call is.
fn rate(mut f: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut batch = || {
        let (start, mut flops) = (Instant::now(), 0.0);
        while start.elapsed() < BATCH {
            flops += f()?;
        }
        Ok(flops / start.elapsed().as_secs_f64())
    };
    batch()?;
    batch()
}

/// A weight, its activations and their gradients, W (n, k), x (m, k), dy (m, n), for the others and
/// for engraft.
struct Layer {
    size: [usize; 3],
    w: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    out: Vec<f32>,
    ours: [Buffer; 5],
}

/// C (rows, cols) = A (rows, depth) B.
struct Product<'a> {
    rows: usize,
    depth: usize,
    cols: usize,
    a: &'a [f32],
    b: &'a [f32],
    /// Distance between B's rows and columns.
    b_row: usize,
    b_col: usize,
    c: &'a mut [f32],
}

impl Layer {
    fn new(device: &Device, size: [usize; 3]) -> Result<Layer> {
        let [m, n, k] = size;
        let numbers =
            |len: usize| (0..len).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect::<Vec<_>>();
        let (w, x, dy) = (numbers(n * k), numbers(m * k), numbers(m * n));
        let on_device = |v: &[f32]| device.upload(Class::Scratch, v);
        let result = |len: usize| device.zeros::<f32>(Class::Scratch, len);
        let ours = [on_device(&w)?, on_device(&x)?, on_device(&dy)?, result(m * n)?, result(m * k)?];
        Ok(Layer { size, w, x, dy, out: vec![0.0; m * n.max(k)], ours })
    }
    fn engraft(&mut self, device: &Device, forward: bool) -> Result<()> {
        let ([m, n, k], [w, x, dy, y, dx]) = (self.size, &mut self.ours);
        let w = Matrix::plain(w, n, k);
        match forward {
            true => {
                let (x, y) = (View::of(x, m, k)?, ViewMut::of(y, m, n)?);
                matmul::times_transposed(device, x, w, Plus::NOTHING, y)?;
            }
            false => {
                let (dy, dx) = (View::of(dy, m, n)?, ViewMut::of(dx, m, k)?);
                matmul::times(device, dy, w, Plus::NOTHING, dx)?;
            }
        }
        Ok(())
    }
    fn product(&mut self, forward: bool) -> Product<'_> {
        let ([rows, n, k], b) = (self.size, &self.w[..]);
        let c = &mut self.out[..rows * if forward { n } else { k }];
        match forward {
            true => Product { rows, depth: k, cols: n, a: &self.x, b, b_row: 1, b_col: k, c },
            false => Product { rows, depth: n, cols: k, a: &self.dy, b, b_row: k, b_col: 1, c },
        }
    }
}

fn matrixmultiply(p: Product<'_>) {
    let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.as_mut_ptr());
    let [a_row, b_row, b_col, c_row] = [p.depth, p.b_row, p.b_col, p.cols].map(|x| x as isize);
    // SAFETY: A, B and C are as long as their sizes and strides say.
    unsafe {
        matrixmultiply::sgemm(p.rows, p.depth, p.cols, 1.0, a, a_row, 1, b, b_row, b_col, 0.0, c, c_row, 1);
    }
}

fn gemm(p: Product<'_>, threads: usize) {
    let how = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.as_mut_ptr());
    let [a_row, b_row, b_col, c_row] = [p.depth, p.b_row, p.b_col, p.cols].map(|x| x as isize);
    // SAFETY: A, B and C are as long as their sizes and strides say.
    unsafe {
        let (m, n, k) = (p.rows, p.cols, p.depth);
        gemm::gemm(
            m, n, k, c, 1, c_row, false, a, 1, a_row, b, b_col, b_row, 0.0, 1.0, false, false, false, how,
        );
    }
}
