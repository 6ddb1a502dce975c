//! The cases of the kernels that run on a GPU.
use engraft_kernels::{
    Buffer, Case, Class, DType, Device, Element, Error, KERNELS, PreparedCase, View, ViewMut, layernorm,
    matmul::{self, Plus},
};
use half::{bf16, f16};
use std::rc::Rc;

/// Values between -1 and 1.
pub fn noise(seed: u32, n: usize) -> Rc<Vec<f32>> {
    let mut s = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = move || {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        (s >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    Rc::new((0..n).map(|_| next()).collect())
}
pub fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|x| f64::from(*x)).collect()
}
pub fn case(
    label: String,
    prepare: impl Fn(&Device) -> Result<PreparedCase, Error> + 'static,
    reference: impl Fn() -> Vec<f64> + 'static,
) -> Case {
    Case {
        label,
        tolerance: 1e-5,
        flops: 0.0,
        bytes: 0.0,
        timed: false,
        cuda: true,
        prepare: Box::new(prepare),
        reference: Box::new(reference),
    }
}
/// The same values, as the type holds them.
pub fn rounded(v: &[f32], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::Bf16 => v.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
        DType::F16 => v.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
        _ => v.to_vec(),
    }
}
pub fn upload(d: &Device, v: &[f32], dtype: DType) -> Result<Buffer, Error> {
    fn with<T: Element>(d: &Device, v: &[f32], f: impl Fn(f32) -> T) -> Result<Buffer, Error> {
        d.upload(Class::Backbone, &v.iter().map(|x| f(*x)).collect::<Vec<T>>())
    }
    match dtype {
        DType::Bf16 => with(d, v, bf16::from_f32),
        DType::F16 => with(d, v, f16::from_f32),
        _ => with(d, v, |x| x),
    }
}

pub const EPS: f32 = 1e-5;
pub fn norm<'a>(gamma: &'a Buffer, beta: &'a Buffer) -> layernorm::Norm<'a> {
    layernorm::Norm { gamma, beta: Some(beta), eps: EPS, centred: true, dropout: None }
}

pub fn normalise(rows: usize, cols: usize, residual: bool, keep: bool) -> Case {
    let (x, r, gamma, beta) = (noise(1, rows * cols), noise(2, rows * cols), noise(3, cols), noise(4, cols));
    let data = [x.clone(), r.clone(), gamma.clone(), beta.clone()];
    let prepare = move |d: &Device| {
        let up = |i: usize| d.upload::<f32>(Class::Saved, &data[i]);
        let (x, r, gamma, beta) = (up(0)?, up(1)?, up(2)?, up(3)?);
        let mut out = vec![d.alloc::<f32>(Class::Scratch, rows * cols)?];
        if keep {
            out.push(d.alloc::<f32>(Class::Saved, rows * cols)?);
            out.push(d.alloc::<f32>(Class::Saved, rows)?);
        }
        let d = d.clone();
        Ok(PreparedCase::new(out, move |out| {
            let n = norm(&gamma, &beta);
            let (x, r) = (View::of(&x, rows, cols)?, View::of(&r, rows, cols)?);
            let r = residual.then_some(r);
            match out {
                [y] => layernorm::forward(&d, x, r, n, ViewMut::of(y, rows, cols)?, None),
                [y, normed, rstd] => {
                    let kept = layernorm::SavedNorm { normed: ViewMut::of(normed, rows, cols)?, rstd };
                    layernorm::forward(&d, x, r, n, ViewMut::of(y, rows, cols)?, Some(kept))
                }
                _ => unreachable!("one or three outputs"),
            }
        }))
    };
    let reference = move || {
        let mut s = wide(&x);
        if residual {
            s.iter_mut().zip(r.iter()).for_each(|(s, r)| *s += f64::from(*r));
        }
        let (gamma, beta) = (wide(&gamma), wide(&beta));
        let (y, hat, rstd) = layernorm::reference(&s, &gamma, Some(&beta), f64::from(EPS), true);
        if keep { [y, hat, rstd].concat() } else { y }
    };
    case(format!("layernorm forward {rows}x{cols} residual {residual} keep {keep}"), prepare, reference)
}
pub fn normalise_backward(rows: usize, cols: usize) -> Case {
    let (dy, hat, rstd, gamma) =
        (noise(5, rows * cols), noise(6, rows * cols), noise(7, rows), noise(8, cols));
    let data = [dy.clone(), hat.clone(), rstd.clone(), gamma.clone()];
    let prepare = move |d: &Device| {
        let up = |i: usize| d.upload::<f32>(Class::Saved, &data[i]);
        let (dy, hat, rstd, gamma) = (up(0)?, up(1)?, up(2)?, up(3)?);
        let beta = d.zeros::<f32>(Class::Adapter, cols)?;
        let out = vec![d.alloc::<f32>(Class::Scratch, rows * cols)?];
        let d = d.clone();
        Ok(PreparedCase::new(out, move |out| {
            let (dy, hat) = (View::of(&dy, rows, cols)?, View::of(&hat, rows, cols)?);
            let dx = ViewMut::of(&mut out[0], rows, cols)?;
            layernorm::backward(&d, dy, hat, &rstd, norm(&gamma, &beta), dx, None)
        }))
    };
    let reference =
        move || layernorm::reference_backward(&wide(&dy), &wide(&hat), &wide(&rstd), &wide(&gamma), true);
    case(format!("layernorm backward {rows}x{cols}"), prepare, reference)
}

/// y (m, n) = x (m, k) W + bias, W stored (n, k) if `transposed`, else (k, n).
pub fn product(transposed: bool, [m, n, k]: [usize; 3], dtype: DType, biased: bool) -> Case {
    let (x, w, bias) = (noise(11, m * k), noise(12, n * k), noise(13, n));
    let data = [x.clone(), w.clone(), bias.clone()];
    let prepare = move |d: &Device| {
        let (x, bias) = (upload(d, &data[0], DType::F32)?, upload(d, &data[2], DType::F32)?);
        let w = upload(d, &data[1], dtype)?;
        let out = vec![d.alloc::<f32>(Class::Scratch, m * n)?];
        let d = d.clone();
        Ok(PreparedCase::new(out, move |out| {
            let plus = if biased { Plus::bias(&bias) } else { Plus::NOTHING };
            if transposed {
                let w = matmul::Matrix::plain(&w, n, k);
                matmul::times_transposed(&d, View::of(&x, m, k)?, w, plus, ViewMut::of(&mut out[0], m, n)?)
            } else {
                let w = matmul::Matrix::plain(&w, k, n);
                matmul::times(&d, View::of(&x, m, k)?, w, plus, ViewMut::of(&mut out[0], m, n)?)
            }
        }))
    };
    let reference = move || {
        let (w, bias) = (wide(&rounded(&w, dtype)), wide(&bias));
        let strides = if transposed { (1, k) } else { (n, 1) };
        let bias = biased.then_some(&bias[..]);
        matmul::reference(m, k, n, (&wide(&x), k, 1), (&w, strides.0, strides.1), bias)
    };
    let name = if transposed { "times_transposed" } else { "times" };
    case(format!("matmul {name} {m}x{n} depth {k} {dtype} bias {biased}"), prepare, reference)
}
/// G (n, k) = dyᵀ x or G += dyᵀ x, over m rows.
pub fn gradient([m, n, k]: [usize; 3], accumulate: bool) -> Case {
    let (dy, x, g) = (noise(21, m * n), noise(22, m * k), noise(23, n * k));
    let data = [dy.clone(), x.clone(), g.clone()];
    let prepare = move |d: &Device| {
        let up = |i: usize| d.upload::<f32>(Class::Grad, &data[i]);
        let (dy, x, g) = (up(0)?, up(1)?, up(2)?);
        let d = d.clone();
        Ok(PreparedCase::new(vec![g], move |out| {
            let (dy, x) = (View::of(&dy, m, n)?, View::of(&x, m, k)?);
            matmul::transposed_times(&d, dy, x, ViewMut::of(&mut out[0], n, k)?, accumulate)
        }))
    };
    let reference = move || {
        let mut r = matmul::reference(n, m, k, (&wide(&dy), 1, n), (&wide(&x), k, 1), None);
        if accumulate {
            r.iter_mut().zip(g.iter()).for_each(|(r, g)| *r += f64::from(*g));
        }
        r
    };
    case(format!("matmul transposed_times {n}x{k} depth {m} accumulate {accumulate}"), prepare, reference)
}

/// The registry's cases for a GPU, and shapes that try the grid: one element, ragged tiles, several
/// blocks, more rows than a launch has blocks, no depth at all.
pub fn cases() -> Vec<Case> {
    // the shapes that are worth timing on a GPU take too long on fibers
    let registered = KERNELS.iter().flat_map(|k| (k.cases)());
    let mut all: Vec<Case> = registered.filter(|c| c.cuda && !(crate::SIM && c.timed)).collect();
    all.extend([normalise(4100, 3, true, true), normalise_backward(4100, 3)]);
    for (rows, cols) in [(1, 1), (1, 2), (3, 33), (2, 768), (5, 1023)] {
        all.extend([(true, true), (false, false)].map(|(r, k)| normalise(rows, cols, r, k)));
        all.push(normalise_backward(rows, cols));
    }
    let shapes = [[1, 1, 1], [63, 65, 67], [64, 64, 16], [1, 130, 5], [130, 1, 7], [65, 66, 0], [2, 3, 200]];
    for (i, shape) in shapes.into_iter().enumerate() {
        for transposed in [true, false] {
            for (t, dtype) in [DType::F32, DType::Bf16, DType::F16].into_iter().enumerate() {
                all.push(product(transposed, shape, dtype, (i + t) % 2 == 0));
            }
        }
    }
    for shape in [[1, 1, 1], [67, 63, 65], [16, 64, 128], [0, 5, 70]] {
        all.extend([true, false].map(|accumulate| gradient(shape, accumulate)));
    }
    all
}

// ---- tests --------------------------------------------------------------------------------------
