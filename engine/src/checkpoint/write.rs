//! Writing, with a checksum in the header.
use super::{
    frozen::{RANGE, SCALE},
    header::{CHECKSUM, Checksum, NOTE},
    read::f32s,
};
use crate::{Error, Result, Tensor};
use engraft_kernels::{
    Buffer, DType, Nf4Pair,
    storage::{Scales, nf4},
};
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, io::Write, path::Path};

/// A tensor to be written: bytes, or a buffer that is read when its turn comes.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Bytes<'a>,
}
#[derive(Clone, Debug)]
enum Bytes<'a> {
    Here(Vec<u8>),
    In(&'a Buffer),
}
impl<'a> TensorData<'a> {
    /// f32 values.
    pub fn f32(values: &[f32], shape: &[usize]) -> TensorData<'a> {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorData { shape: shape.to_vec(), dtype: Dtype::F32, bytes: Bytes::Here(bytes) }
    }
    /// i64 values.
    pub fn i64(values: &[i64], shape: &[usize]) -> TensorData<'a> {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorData { shape: shape.to_vec(), dtype: Dtype::I64, bytes: Bytes::Here(bytes) }
    }
    /// What a weight is written as in its storage type: itself under `name`, and its
    /// scales beside it.
    pub fn of(name: &str, tensor: &'a Tensor) -> Vec<(String, TensorData<'a>)> {
        let shape = tensor.shape();
        let mut all = vec![];
        let mut add = |suffix: &str, b: &'a Buffer, shape: &[usize]| {
            all.push((format!("{name}{suffix}"), TensorData::buffer(b, shape)));
        };
        match tensor.scales() {
            None => add("", tensor.buffer(), shape),
            Some(Scales::Rows(scales)) => {
                add("", tensor.buffer(), shape);
                add(SCALE, scales, &[scales.len()]);
            }
            Some(Scales::Blocks { codes, ranges }) => {
                let (rows, cols) = tensor.dims();
                add("", tensor.buffer(), &[rows, nf4::pairs(cols)]);
                add(SCALE, codes, &[rows, nf4::blocks(cols)]);
                add(RANGE, ranges, &[ranges.len() / 2, 2]);
            }
        }
        all
    }
    /// A buffer as it is.
    pub fn buffer(b: &'a Buffer, shape: &[usize]) -> TensorData<'a> {
        let dtype = match b.dtype() {
            DType::F32 => Dtype::F32,
            DType::U32 => Dtype::U32,
            DType::Bf16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::I8 => Dtype::I8,
            DType::U8 | DType::Nf4 => Dtype::U8,
        };
        TensorData { shape: shape.to_vec(), dtype, bytes: Bytes::In(b) }
    }
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Its values, if they are f32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match self.dtype {
            Dtype::F32 => Ok(f32s(&self.bytes()?).collect()),
            _ => Err(Error::Unsupported { op: "values", what: "a tensor that is no f32" }),
        }
    }
    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let b = match &self.bytes {
            Bytes::Here(bytes) => return Ok(Cow::Borrowed(bytes)),
            Bytes::In(b) => b,
        };
        Ok(Cow::Owned(match b.dtype() {
            DType::F32 => b.read::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::U32 => b.read::<u32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::Bf16 => b.read::<bf16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::F16 => b.read::<f16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::I8 => b.read::<i8>()?.iter().map(|x| *x as u8).collect(),
            DType::U8 => b.read::<u8>()?,
            DType::Nf4 => b.read::<Nf4Pair>()?.iter().map(|p| p.0).collect(),
        }))
    }
    fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Here(bytes) => bytes.len(),
            Bytes::In(b) => b.bytes(),
        }
    }
}

/// Writes a safetensors file, one tensor after the other; `note` is said about them in the header.
pub fn write(to: &mut dyn Write, tensors: &[(String, TensorData<'_>)], note: Option<&str>) -> Result<()> {
    let name = |e: std::io::Error| Error::Write { path: "safetensors".into(), source: e };
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut sum = Checksum::new();
    for (name, t) in &sorted {
        sum.add(name, &t.bytes()?);
    }
    let mut about = Map::new();
    about.insert(CHECKSUM.into(), sum.end().into());
    about.extend(note.map(|note| (NOTE.to_string(), note.into())));
    about.insert("format".into(), "pt".into());
    // the widest types first, as the format's own writer has them: every tensor is aligned
    sorted.sort_by(|(a, s), (b, t)| t.dtype.cmp(&s.dtype).then(a.cmp(b)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), Value::Object(about));
    let mut from = 0;
    for (name, t) in &sorted {
        let to = from + t.len();
        header.insert(name.clone(), json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [from, to]}));
        from = to;
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    to.write_all(&(header.len() as u64).to_le_bytes()).map_err(name)?;
    to.write_all(header.as_bytes()).map_err(name)?;
    sorted.iter().try_for_each(|(_, t)| to.write_all(&t.bytes()?).map_err(name))
}
/// The bytes of a safetensors file.
pub fn serialize(tensors: &[(String, TensorData<'_>)]) -> Result<Vec<u8>> {
    serialize_with(tensors, None)
}
/// The same with something said about the tensors in the header: see [`super::Checkpoint::note`].
pub fn serialize_with(tensors: &[(String, TensorData<'_>)], note: Option<&str>) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    write(&mut bytes, tensors, note)?;
    Ok(bytes)
}
/// Writes tensors as a safetensors file, whole or not at all.
pub fn save(path: &Path, tensors: &[(String, TensorData<'_>)]) -> Result<()> {
    crate::output::write_atomically(path, &serialize(tensors)?)
}
