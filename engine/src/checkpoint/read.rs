//! Reading: one file or shards, memory-mapped, checked before anything is computed.
use super::write::{CHECKSUM, Checksum, NOTE};
use crate::{Error, Result, Tensor};
use engraft_kernels::{Class, DType, Device, MappedFile};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) struct Entry {
    pub file: usize,
    pub offset: usize,
    pub bytes: usize,
    pub dtype: Dtype,
    shape: Vec<usize>,
}

/// The tensors of a safetensors file, or of all shards of an index.
pub struct Checkpoint {
    path: PathBuf,
    pub(super) files: Vec<Arc<MappedFile>>,
    pub(super) assumed: bool,
    tensors: BTreeMap<String, Entry>,
    note: Option<String>,
}

impl Checkpoint {
    /// Opens a file, or in a directory `model.safetensors` or the shards that `model.safetensors.index.json` names.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if !path.is_dir() {
            return Checkpoint::from_files(path, &[path.to_path_buf()]);
        }
        let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
        if single.exists() || !index.exists() {
            return Checkpoint::from_files(&single, std::slice::from_ref(&single));
        }
        let bad = |what: String| Error::File { path: index.clone(), what };
        let text =
            std::fs::read_to_string(&index).map_err(|source| Error::Io { path: index.clone(), source })?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| bad("no `weight_map`".into()))?;
        let mut shards = BTreeSet::new();
        for (name, file) in map {
            let file =
                file.as_str().ok_or_else(|| bad(format!("`weight_map` of `{name}` is not a file name")))?;
            if Path::new(file).components().count() != 1
                || !matches!(Path::new(file).components().next(), Some(std::path::Component::Normal(_)))
            {
                return Err(bad(format!("`{file}` is not the name of a file beside the index")));
            }
            shards.insert(path.join(file));
        }
        let all = Checkpoint::from_files(&index, &shards.into_iter().collect::<Vec<_>>())?;
        match map.keys().find(|n| !all.tensors.contains_key(*n)) {
            Some(name) => Err(bad(format!("tensor `{name}` is in none of the shards"))),
            None => Ok(all),
        }
    }
    /// The same, for a device. Where there is no file, the Null device, which reads no values, takes every tensor to be
    /// there, in f32.
    pub fn open_for(path: &Path, device: &Device) -> Result<Checkpoint> {
        let there = |name: &str| path.join(name).exists();
        if device.is_null()
            && path.is_dir()
            && !there("model.safetensors")
            && !there("model.safetensors.index.json")
        {
            let (files, tensors) = (vec![], BTreeMap::new());
            return Ok(Checkpoint { path: path.to_path_buf(), files, assumed: true, tensors, note: None });
        }
        Checkpoint::open(path)
    }
    fn from_files(path: &Path, files: &[PathBuf]) -> Result<Checkpoint> {
        let (path, tensors) = (path.to_path_buf(), BTreeMap::new());
        let mut c = Checkpoint { path, files: vec![], assumed: false, tensors, note: None };
        for file in files {
            c.add(file)?;
        }
        Ok(c)
    }
    fn add(&mut self, path: &Path) -> Result<()> {
        let bad = |what: String| Error::File { path: path.to_path_buf(), what };
        let map = MappedFile::open(path)?;
        let bytes = map.bytes();
        let parsed =
            SafeTensors::deserialize(bytes).map_err(|e| bad(format!("not a whole safetensors file: {e}")))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let entry = |name: &str| header.metadata().as_ref().and_then(|m| m.get(name)).cloned();
        if let Some(sum) = entry(CHECKSUM) {
            let mut sorted: Vec<_> = parsed.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            let mut found = Checksum::new();
            sorted.iter().for_each(|(name, t)| found.add(name, t.data()));
            if sum != found.end() {
                return Err(bad(
                    "the tensors do not match the checksum in the header: the file is damaged".into()
                ));
            }
        }
        self.note = entry(NOTE);
        let file = self.files.len();
        for (name, t) in parsed.iter() {
            let offset = t.data().as_ptr() as usize - bytes.as_ptr() as usize;
            let entry =
                Entry { file, offset, bytes: t.data().len(), dtype: t.dtype(), shape: t.shape().to_vec() };
            if self.tensors.insert(name.to_string(), entry).is_some() {
                return Err(bad(format!("tensor `{name}` is in two shards")));
            }
        }
        self.files.push(map.clone());
        Ok(())
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// What [`super::write`] was told to say about the tensors.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
    /// True if there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.assumed || self.tensors.contains_key(name)
    }
    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }
    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(|t| t.bytes).sum()
    }
    /// SHA-256 over names, types, shapes and values: what a backbone *is*, wherever its file lies.
    pub fn fingerprint(&self) -> String {
        let mut h = Sha256::new();
        for (name, t) in &self.tensors {
            h.update(format!("{name} {:?} {:?}\n", t.dtype, t.shape));
            h.update(self.data(t));
        }
        h.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    pub(super) fn find(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::Missing { path: self.path.clone(), name: name.into() })
    }
    pub(super) fn data(&self, t: &Entry) -> &[u8] {
        &self.files[t.file].bytes()[t.offset..t.offset + t.bytes]
    }
    pub(super) fn expect_shape(&self, name: &str, t: &Entry, shape: &[usize]) -> Result<()> {
        if t.shape == shape {
            return Ok(());
        }
        Err(Error::TensorShape {
            path: self.path.clone(),
            name: name.into(),
            expected: shape.to_vec(),
            got: t.shape.clone(),
        })
    }
    /// What the header says of a tensor of floats of the given shape.
    pub(super) fn entry(&self, name: &str, shape: &[usize]) -> Result<(&Entry, DType)> {
        let path = || self.path.clone();
        let t = self.find(name)?;
        let dtype = match t.dtype {
            Dtype::F32 => DType::F32,
            Dtype::BF16 => DType::Bf16,
            Dtype::F16 => DType::F16,
            other => {
                return Err(Error::TensorType {
                    path: path(),
                    name: name.into(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        self.expect_shape(name, t, shape)?;
        Ok((t, dtype))
    }
    /// A tensor of floats of the given shape, all of them finite.
    pub(super) fn sound(&self, name: &str, shape: &[usize]) -> Result<(&Entry, DType)> {
        let (t, dtype) = self.entry(name, shape)?;
        let bytes = self.data(t);
        let finite = match dtype {
            DType::F32 => {
                bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
            }
            DType::Bf16 => bytes.chunks_exact(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_finite()),
            _ => bytes.chunks_exact(2).all(|b| f16::from_le_bytes([b[0], b[1]]).is_finite()),
        };
        if !finite {
            return Err(Error::NotFinite { path: self.path.clone(), name: name.into() });
        }
        Ok((t, dtype))
    }
    /// A tensor of the given shape as f32 values.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (t, dtype) = self.sound(name, shape)?;
        let bytes = self.data(t);
        Ok(match dtype {
            DType::Bf16 => {
                bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        })
    }
    /// An i64 tensor of the given shape.
    pub fn integers(&self, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
        let (path, name) = (|| self.path.clone(), name.to_string());
        let Some(t) = self.tensors.get(&name) else { return Err(Error::Missing { path: path(), name }) };
        if t.dtype != Dtype::I64 {
            return Err(Error::TensorType { path: path(), name, dtype: format!("{:?}", t.dtype) });
        }
        if t.shape != shape {
            let (expected, got) = (shape.to_vec(), t.shape.clone());
            return Err(Error::TensorShape { path: path(), name, expected, got });
        }
        let bytes = &self.files[t.file].bytes()[t.offset..t.offset + t.bytes];
        Ok(bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap_or_default())).collect())
    }
    /// A tensor of the given shape, for weights that train or are small: in f32.
    pub(super) fn copied(
        &self,
        device: &Device,
        class: Class,
        name: &str,
        shape: &[usize],
    ) -> Result<Tensor> {
        if device.is_null() {
            return self.described(device, class, name, shape);
        }
        let tensor = crate::tensor::upload(device, class, &self.values(name, shape)?, shape)?;
        let t = self.find(name)?;
        self.files[t.file].release(t.offset..t.offset + t.bytes);
        Ok(tensor)
    }
    /// A tensor of the given shape in f32 on the device that computes nothing: no value is read.
    fn described(&self, device: &Device, class: Class, name: &str, shape: &[usize]) -> Result<Tensor> {
        if !self.assumed {
            self.entry(name, shape)?;
        }
        let len = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        let len = len.ok_or(Error::Shape { op: "tensor", left: shape.to_vec(), right: vec![] })?;
        Tensor::new(device.alloc::<f32>(class, len)?, shape)
    }
}
