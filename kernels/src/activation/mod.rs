//! Element-wise non-linearities, by the names of Hugging Face `ACT2FN` and AdapterHub.
//!
//! The backward pass keeps the input: dx = dy · f'(x).
mod cases;
mod cpu;
mod cuda;
mod curves;
mod scalar;
#[cfg(test)]
mod tests;

use crate::{Cost, Device, Error, Kernel, Result, View, ViewMut, matmul_int8::QuantizedRows};
pub(crate) use cpu::{derivatives, values};
pub(crate) use cuda::argument;
pub use scalar::{derivative, value};

const NAME: &str = "activation";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// A non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x Φ(x), Φ the normal distribution (Hendrycks & Gimpel 2016).
    Gelu,
    /// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): GELU as in the first BERT and GPT-2 code.
    GeluTanh,
    /// [`Activation::Gelu`] with its value kept within [-10, 10].
    Gelu10,
    /// x σ(1.702 x).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// max(x, 0)².
    Relu2,
    /// x where positive, else 0.01 x.
    LeakyRelu,
    /// x σ(x), also called swish.
    Silu,
    /// x tanh(log(1 + eˣ)).
    Mish,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// 0.5 (1 + erf((x - μ) / (σ √2))), μ = 0.707107, σ = 0.282095 (Ma et al. 2022; √½ and √(1 /
    /// 4π), as Hugging Face rounds them).
    Laplace,
    /// exp(5 · 0.636 atan(x / 5)), within e⁻⁵ and e⁵: what GLOW couplings multiply by (Ardizzone et al.
    /// 2019). It has no name as a layer's non-linearity.
    SoftExp,
    /// x.
    Linear,
}

#[allow(clippy::approx_constant)] // √½ as Hugging Face rounds it
const LAPLACE_MU: f32 = 0.707_107;
const LAPLACE_SIGMA: f32 = 0.282_095;
/// What bounds the exponent of `SoftExp`, and its slope at 0: 2/π as FrEIA and AdapterHub round it.
const SOFT_EXP: [f32; 2] = [5.0, 0.636];

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 15] = {
        use Activation::*;
        [
            Gelu, GeluTanh, Gelu10, QuickGelu, Relu, Relu6, Relu2, LeakyRelu, Silu, Mish, Sigmoid, Tanh,
            Laplace, SoftExp, Linear,
        ]
    };
    /// The non-linearity that Hugging Face or AdapterHub call `name`, if it has no
    /// weights of its own.
    pub fn from_name(name: &str) -> Option<Activation> {
        use Activation::*;
        Some(match name {
            "gelu" | "gelu_python" => Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" | "gelu_python_tanh" => GeluTanh,
            "gelu_10" => Gelu10,
            "quick_gelu" => QuickGelu,
            "relu" => Relu,
            "relu6" => Relu6,
            "relu2" => Relu2,
            "leaky_relu" | "leakyrelu" => LeakyRelu,
            "silu" | "swish" => Silu,
            "mish" => Mish,
            "sigmoid" => Sigmoid,
            "tanh" => Tanh,
            "laplace" => Laplace,
            "linear" => Linear,
            _ => return None,
        })
    }
}

/// Of n elements: the gradient is read and written over.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(n, if back { 12 } else { 8 } * n)
}

/// The elements of x, which has the shape of the other.
fn check(device: &Device, x: View<'_>, name: &'static str, other: &ViewMut<'_>) -> Result<usize> {
    let shape = (x.rows(), x.cols());
    x.expect::<f32>(NAME, device, "x", shape)?;
    other.view().expect::<f32>(NAME, device, name, shape)?;
    Ok(shape.0 * shape.1)
}

/// y = f(x), element by element.
pub fn forward(device: &Device, f: Activation, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, x, "y", &y)?;
    let _span = device.span(NAME, "forward", || cost(n, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, f, x, y),
        Device::Cuda(d) => cuda::forward(d, f, x, y),
        Device::Null(_) => Ok(()),
    }
}

/// The same; and the rows of y in 8 bits too, while the first-level cache holds them.
pub fn forward_quantized(
    device: &Device,
    f: Activation,
    x: View<'_>,
    y: ViewMut<'_>,
    q: &mut QuantizedRows,
) -> Result<()> {
    let n = check(device, x, "y", &y)?;
    q.check(NAME, "q", device, x.rows(), x.cols())?;
    let _span = device.span(NAME, "forward_quantized", || cost(n, false) + Cost::new(0, n));
    match device {
        Device::Cpu(d) => cpu::forward_quantized(d, f, x, y, q),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: "activation to 8 bits", device: "cuda" }),
        Device::Null(_) => Ok(()),
    }
}

/// d *= f'(x): the gradient at the output becomes the gradient at the input.
pub fn backward(device: &Device, f: Activation, x: View<'_>, d: ViewMut<'_>) -> Result<()> {
    let n = check(device, x, "d", &d)?;
    let _span = device.span(NAME, "backward", || cost(n, true));
    match device {
        Device::Cpu(c) => cpu::backward(c, f, x, d),
        Device::Cuda(c) => cuda::backward(c, f, x, d),
        Device::Null(_) => Ok(()),
    }
}
