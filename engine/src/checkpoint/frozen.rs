//! Frozen matrices: in place as they are stored, or converted one by one.
use super::read::{Checkpoint, Entry, bf16s, f16s, f32s};
use crate::{Error, Result, Tensor};
use engraft_kernels::{
    Buffer, Class, DType, Device, Storage,
    matmul::Matrix,
    storage::{Scales, convert, nf4},
};
use half::{bf16, f16};
use safetensors::Dtype;

/// What is appended to a matrix's name for its scales ...
pub(super) const SCALE: &str = ".scale";
/// ... and for what nf4's scales are quantised by.
pub(super) const RANGE: &str = ".range";

/// A matrix in f32, or in another type if it is asked for, of which there is no file.
fn described(device: &Device, shape: [usize; 2], asked: Option<Storage>) -> Result<Tensor> {
    let len = shape[0].checked_mul(shape[1]);
    let len = len.ok_or(Error::Shape { op: "tensor", left: shape.to_vec(), right: vec![] })?;
    let Some(to) = asked.filter(|s| *s != Storage::F32) else {
        return Tensor::new(device.alloc::<f32>(Class::Backbone, len)?, &shape);
    };
    let values = device.alloc::<f32>(Class::Scratch, len)?;
    let (buf, scales) = convert(Matrix::plain(&values, shape[0], shape[1]), to, Class::Backbone)?;
    Tensor::stored(buf, scales, shape)
}

impl Checkpoint {
    /// What a matrix is stored as, if it is quantised, and the names of what belongs to it.
    pub(super) fn quantised(&self, name: &str) -> Option<(Storage, Vec<String>)> {
        let beside = |suffixes: &[&str]| suffixes.iter().map(|s| format!("{name}{s}")).collect();
        match self.find(name).ok()?.dtype {
            Dtype::I8 => Some((Storage::Int8, beside(&[SCALE]))),
            Dtype::U8 => Some((Storage::Nf4, beside(&[SCALE, RANGE]))),
            _ => None,
        }
    }
    /// A matrix in its storage type, in place where the device allows it; in another one if it is
    /// asked for. What is already quantised stays what it is.
    pub(super) fn matrix(
        &self,
        device: &Device,
        name: &str,
        shape: [usize; 2],
        asked: Option<Storage>,
    ) -> Result<Tensor> {
        if self.assumed {
            return described(device, shape, asked);
        }
        let Some((stored, _)) = self.quantised(name) else { return self.floats(device, name, shape, asked) };
        match asked {
            Some(asked) if asked != stored => {
                Err(Error::Stored { path: self.path().into(), name: name.into(), stored, asked })
            }
            _ if stored == Storage::Int8 => self.int8(device, name, shape),
            _ => self.nf4(device, name, shape),
        }
    }

    fn floats(
        &self,
        device: &Device,
        name: &str,
        shape: [usize; 2],
        asked: Option<Storage>,
    ) -> Result<Tensor> {
        let is_null = device.is_null(); // then no value is read
        let (t, dtype) = if is_null { self.entry(name, &shape)? } else { self.sound(name, &shape)? };
        let map = |class| self.place(device, class, t, dtype);
        let to = match asked {
            Some(to) if to.dtype() != dtype => to,
            _ => return Tensor::new(map(Class::Backbone)?, &shape),
        };
        if !is_null && !self.fits(t, dtype, to) {
            return Err(self.wrong(name, format!("holds values beyond the range of {to}")));
        }
        let (buf, scales) =
            convert(Matrix::plain(&map(Class::Scratch)?, shape[0], shape[1]), to, Class::Backbone)?;
        // the pages that were read would stay in memory as long as any tensor of the file does
        self.files[t.file].release(t.offset..t.offset + t.bytes);
        Tensor::stored(buf, scales, shape)
    }
    /// False if a value would become infinite.
    fn fits(&self, t: &Entry, dtype: DType, to: Storage) -> bool {
        let finite = |x: f32| match to {
            Storage::F16 => f16::from_f32(x).is_finite(),
            _ => bf16::from_f32(x).is_finite(),
        };
        match (dtype, to) {
            (DType::F32, Storage::F16 | Storage::Bf16) => f32s(&self.floats_of(t)).all(finite),
            (DType::Bf16, Storage::F16) => bf16s(&self.data(t)).all(|x| finite(x.to_f32())),
            _ => true,
        }
    }

    fn int8(&self, device: &Device, name: &str, [rows, cols]: [usize; 2]) -> Result<Tensor> {
        let t = self.shaped(name, Dtype::I8, &[rows, cols])?;
        if self.data(t).contains(&(i8::MIN as u8)) {
            return Err(
                self.wrong(name, "holds -128, which int8 weights do not; is the file damaged?".into())
            );
        }
        let scale = format!("{name}{SCALE}");
        let s = self.beside(name, &scale, Dtype::F32, &[rows])?;
        if !f32s(&self.data(s)).all(|s| s >= 0.0 && s.is_finite()) {
            return Err(self.wrong(&scale, "holds scales that are not finite or below 0".into()));
        }
        let data = self.place(device, Class::Backbone, t, DType::I8)?;
        let scales = Scales::Rows(self.place(device, Class::Backbone, s, DType::F32)?);
        Tensor::stored(data, Some(scales), [rows, cols])
    }
    fn nf4(&self, device: &Device, name: &str, [rows, cols]: [usize; 2]) -> Result<Tensor> {
        let blocks = nf4::blocks(cols);
        let t = self.shaped(name, Dtype::U8, &[rows, nf4::pairs(cols)])?;
        let (scale, range) = (format!("{name}{SCALE}"), format!("{name}{RANGE}"));
        let s = self.beside(name, &scale, Dtype::U8, &[rows, blocks])?;
        let r = self.beside(name, &range, Dtype::F32, &[nf4::ranges(rows * blocks) / 2, 2])?;
        let ranges: Vec<f32> = f32s(&self.data(r)).collect();
        if !ranges.chunks_exact(2).all(|r| r[1] >= 0.0 && (r[0].abs() + r[1]).is_finite()) {
            return Err(self.wrong(&range, "holds ranges that are not finite or below 0".into()));
        }
        let data = self.place(device, Class::Backbone, t, DType::Nf4)?;
        let (codes, ranges) = (
            self.place(device, Class::Backbone, s, DType::U8)?,
            self.place(device, Class::Backbone, r, DType::F32)?,
        );
        Tensor::stored(data, Some(Scales::Blocks { codes, ranges }), [rows, cols])
    }

    /// A tensor of a type and a shape.
    fn shaped(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&Entry> {
        let t = self.find(name)?;
        if t.dtype != dtype {
            return Err(self.wrong(name, format!("is {:?}, not {dtype:?}", t.dtype)));
        }
        self.expect_shape(name, t, shape)?;
        Ok(t)
    }
    /// A tensor that belongs to the quantised matrix `of`.
    fn beside(&self, of: &str, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&Entry> {
        if !self.has(name) {
            return Err(
                self.wrong(of, format!("is quantised, but its scales are missing: no tensor `{name}`"))
            );
        }
        self.shaped(name, dtype, shape)
    }
    /// All of a tensor on a device: in place where that is allowed.
    fn place(&self, device: &Device, class: Class, t: &Entry, dtype: DType) -> Result<Buffer> {
        if t.strides.is_none() && t.dtype != Dtype::F64 {
            let len = t.bytes / dtype.size();
            return Ok(device.map(class, &self.files[t.file], t.offset, dtype, len)?);
        }
        let bytes = self.floats_of(t);
        Ok(match dtype {
            DType::F32 => device.upload(class, &f32s(&bytes).collect::<Vec<_>>())?,
            DType::Bf16 => device.upload(class, &bf16s(&bytes).collect::<Vec<_>>())?,
            DType::F16 => device.upload(class, &f16s(&bytes).collect::<Vec<_>>())?,
            other => {
                let what = format!("a matrix of {} does not lie in its order in the file", other.name());
                return Err(Error::File { path: self.path().into(), what });
            }
        })
    }
    pub(super) fn wrong(&self, name: &str, what: String) -> Error {
        Error::Tensor { path: self.path().into(), name: name.into(), what }
    }
}
