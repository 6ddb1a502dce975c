//! A kernel's entry in the registry: what it is called, and the shapes on which it is
//! checked and timed.
use crate::{
    Buffer, Class, Device, Result, View,
    epilogue::Base,
    storage::{Matrix, Scales, Storage, convert},
};
use half::{bf16, f16};

/// One row of [`crate::KERNELS`].
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The folder's name.
    pub name: &'static str,
    /// The shapes on which it is checked, awkward ones first, and timed.
    pub cases: fn() -> Vec<Case>,
}

/// One shape of one kernel: how to run it, what must come out, and what it costs.
pub struct Case {
    /// Operation and shape.
    pub label: String,
    /// The largest difference allowed, relative to the largest value of the output.
    pub tolerance: f64,
    /// Floating-point operations of one launch.
    pub flops: f64,
    /// Bytes that one launch must read and write at least.
    pub bytes: f64,
    /// True for shapes worth timing.
    pub timed: bool,
    /// True if there is code for a GPU.
    pub cuda: bool,
    /// Puts the inputs on a device.
    pub prepare: Prepare,
    /// The outputs in double precision, by plain loops.
    pub reference: Box<dyn Fn() -> Vec<f64>>,
}

type Prepare = Box<dyn Fn(&Device) -> Result<PreparedCase>>;
type Launch = Box<dyn FnMut(&mut [Buffer]) -> Result<()>>;

/// A case with its inputs on a device.
pub struct PreparedCase {
    outputs: Vec<Buffer>,
    launch: Launch,
}

impl PreparedCase {
    /// A run that writes f32 `outputs`.
    pub fn new(
        outputs: Vec<Buffer>,
        launch: impl FnMut(&mut [Buffer]) -> Result<()> + 'static,
    ) -> PreparedCase {
        PreparedCase { outputs, launch: Box::new(launch) }
    }
    /// Launches once.
    pub fn launch(&mut self) -> Result<()> {
        (self.launch)(&mut self.outputs)
    }
    /// All outputs, one after the other.
    pub fn read(&self) -> Result<Vec<f32>> {
        let mut v = Vec::new();
        for b in &self.outputs {
            v.extend(b.read::<f32>()?);
        }
        Ok(v)
    }
}

/// What a case adds its product to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Added {
    Nothing,
    Rows,
    Output,
}
impl Added {
    pub(crate) const ALL: [Added; 3] = [Added::Nothing, Added::Rows, Added::Output];

    /// For a launch; `rows` hold the matrix (of this shape) that is added if it is rows.
    pub(crate) fn base(self, rows: &Buffer, shape: (usize, usize)) -> Result<Base<View<'_>>> {
        Ok(match self {
            Added::Nothing => Base::Nothing,
            Added::Rows => Base::Rows(View::of(rows, shape.0, shape.1)?),
            Added::Output => Base::Output,
        })
    }
}

/// `n` reproducible values, roughly normal with mean 0 and deviation 1.
#[doc(hidden)]
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 40) as f32 / (1u64 << 24) as f32
    };
    // the sum of four uniforms on [0, 1) has variance 1/3
    (0..n).map(|_| (uniform() + uniform() + uniform() + uniform() - 2.0) * 3f32.sqrt()).collect()
}
/// To double precision.
#[doc(hidden)]
pub fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|x| f64::from(*x)).collect()
}
/// A matrix (rows, cols) on a device as it is stored in a type.
pub(crate) fn store(
    d: &Device,
    v: &[f32],
    [rows, cols]: [usize; 2],
    storage: Storage,
) -> Result<(Buffer, Option<Scales>)> {
    Ok(match storage {
        Storage::F32 => (d.upload(Class::Backbone, v)?, None),
        Storage::Bf16 => {
            (d.upload(Class::Backbone, &v.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())?, None)
        }
        Storage::F16 => {
            (d.upload(Class::Backbone, &v.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>())?, None)
        }
        Storage::Int8 | Storage::Nf4 => {
            let plain = d.upload(Class::Scratch, v)?;
            convert(Matrix::plain(&plain, rows, cols), storage, Class::Backbone)?
        }
    })
}
/// What a storage type keeps of a matrix.
pub(crate) fn kept(v: &[f32], [rows, cols]: [usize; 2], storage: Storage) -> Vec<f64> {
    let decode = || -> Result<Vec<f32>> {
        let (data, scales) = store(&Device::cpu(1)?, v, [rows, cols], storage)?;
        Matrix::stored(&data, scales.as_ref(), rows, cols).decode()
    };
    wide(&decode().expect("the processor stores a matrix"))
}
