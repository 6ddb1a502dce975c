//! Writing, with a checksum in the header.
use super::frozen::{RANGE, SCALE};
use crate::{Error, Result, Tensor};
use engraft_kernels::{
    Buffer, DType, Nf4Pair,
    storage::{Scales, nf4},
};
use half::{bf16, f16};
use safetensors::{Dtype, View};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::HashMap, path::Path};

/// The header entry that holds the checksum of the tensors. Other readers ignore it.
pub(super) const CHECKSUM: &str = "engraft.sha256";

/// SHA-256 over (name, bytes), in the order of the names.
pub(super) fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut all: Vec<_> = tensors.collect();
    all.sort_by_key(|(n, _)| *n);
    let mut h = Sha256::new();
    for (name, data) in all {
        h.update(name);
        h.update([0]);
        h.update(data);
    }
    h.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}
impl TensorData {
    /// f32 values.
    pub fn f32(values: &[f32], shape: &[usize]) -> TensorData {
        TensorData {
            shape: shape.to_vec(),
            dtype: Dtype::F32,
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
    /// i64 values.
    pub fn i64(values: &[i64], shape: &[usize]) -> TensorData {
        TensorData {
            shape: shape.to_vec(),
            dtype: Dtype::I64,
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}
impl TensorData {
    /// What a weight is written as in its storage type: itself under `name`, and its scales beside it.
    pub fn of(name: &str, tensor: &Tensor) -> Result<Vec<(String, TensorData)>> {
        let shape = tensor.shape();
        let mut all = vec![];
        let mut add = |suffix: &str, b: &Buffer, shape: &[usize]| -> Result<()> {
            all.push((format!("{name}{suffix}"), TensorData::whole(b, shape)?));
            Ok(())
        };
        match tensor.scales() {
            None => add("", tensor.buffer(), shape)?,
            Some(Scales::Rows(scales)) => {
                add("", tensor.buffer(), shape)?;
                add(SCALE, scales, &[scales.len()])?;
            }
            Some(Scales::Blocks { codes, ranges }) => {
                let (rows, cols) = tensor.dims();
                add("", tensor.buffer(), &[rows, nf4::pairs(cols)])?;
                add(SCALE, codes, &[rows, nf4::blocks(cols)])?;
                add(RANGE, ranges, &[ranges.len() / 2, 2])?;
            }
        }
        Ok(all)
    }
    /// A buffer as it is.
    fn whole(b: &Buffer, shape: &[usize]) -> Result<TensorData> {
        let (dtype, bytes) = match b.dtype() {
            DType::F32 => (Dtype::F32, b.read::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
            DType::U32 => (Dtype::U32, b.read::<u32>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
            DType::Bf16 => (Dtype::BF16, b.read::<bf16>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
            DType::F16 => (Dtype::F16, b.read::<f16>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
            DType::I8 => (Dtype::I8, b.read::<i8>()?.iter().map(|x| *x as u8).collect()),
            DType::U8 => (Dtype::U8, b.read::<u8>()?),
            DType::Nf4 => (Dtype::U8, b.read::<Nf4Pair>()?.iter().map(|p| p.0).collect()),
        };
        Ok(TensorData { shape: shape.to_vec(), dtype, bytes })
    }
}
impl View for &TensorData {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of a safetensors file.
pub fn serialize(tensors: &[(String, TensorData)]) -> Result<Vec<u8>> {
    let sum = checksum(tensors.iter().map(|(n, t)| (n.as_str(), t.bytes.as_slice())));
    let entries = [(CHECKSUM, sum.as_str()), ("format", "pt")];
    let header = entries.map(|(k, v)| (k.to_string(), v.to_string()));
    let mut bytes =
        safetensors::serialize(tensors.iter().map(|(n, t)| (n.as_str(), t)), Some(HashMap::from(header)))
            .map_err(|e| Error::File { path: "safetensors".into(), what: e.to_string() })?;
    // a hash map has another order in every process: put the entries in ours, which is as long
    let ordered = entries.map(|(k, v)| format!("\"{k}\":\"{v}\"")).join(",");
    let start = 8 + r#"{"__metadata__":{"#.len();
    bytes[start..start + ordered.len()].copy_from_slice(ordered.as_bytes());
    Ok(bytes)
}
/// Writes tensors as a safetensors file, whole or not at all.
pub fn save(path: &Path, tensors: &[(String, TensorData)]) -> Result<()> {
    crate::output::write_atomically(path, &serialize(tensors)?)
}
