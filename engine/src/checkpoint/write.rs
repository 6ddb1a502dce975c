//! Writing, with a checksum in the header.
use crate::{Error, Result};
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
