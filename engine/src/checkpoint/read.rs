//! Reading: one file or shards, memory-mapped, checked before anything is computed.
use super::{
    header::{CHECKSUM, Checksum, NOTE},
    torch,
};
use crate::{Error, Result, Tensor};
use engraft_kernels::{Class, DType, Device, MappedFile};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
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
    /// Where the elements do not lie in their order: by how many bytes the next one in each
    /// dimension is further on.
    pub strides: Option<Vec<usize>>,
}
impl Entry {
    /// The elements of a strided tensor in their order. `from` begins with the first.
    fn gather(&self, from: &[u8], strides: &[usize]) -> Vec<u8> {
        let size = self.dtype.bitsize() / 8;
        let mut all = Vec::with_capacity(self.bytes);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        while all.len() < self.bytes {
            all.extend(&from[at..at + size]);
            for ((i, n), stride) in index.iter_mut().zip(&self.shape).zip(strides).rev() {
                *i += 1;
                at += stride;
                if *i < *n {
                    break;
                }
                at -= *i * stride;
                *i = 0;
            }
        }
        all
    }
}

/// What the weights of a model directory are called: one file, or the index of several, whose name
/// ends in `.index.json`. The first that is there counts.
pub const MODEL: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// The extensions of files that `torch.save` writes; others are safetensors.
const TORCH: &[&str] = &["bin", "pt", "pth"];
/// What a file begins with that Git LFS has not fetched.
const POINTER: &[u8] = b"version https://git-lfs";

/// The tensors of a file of safetensors or of `torch.save`, or of all shards of an index.
pub struct Checkpoint {
    path: PathBuf,
    pub(super) files: Vec<Arc<MappedFile>>,
    pub(super) assumed: bool,
    tensors: BTreeMap<String, Entry>,
    note: Option<String>,
}

impl Checkpoint {
    /// True if a model directory has weights.
    pub fn is_in(directory: &Path) -> bool {
        MODEL.iter().any(|name| directory.join(name).exists())
    }
    /// Opens a file, or in a directory `model.safetensors`, the shards that
    /// `model.safetensors.index.json` names, `pytorch_model.bin`, or its shards: the first of them
    /// that is there.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        match path.is_dir() {
            true => Checkpoint::open_first(path, MODEL),
            false => Checkpoint::from_files(path, &[path.to_path_buf()]),
        }
    }
    /// Opens the first of these files that a directory has; one whose name ends in `.index.json`
    /// stands for the shards that it names.
    pub fn open_first(directory: &Path, names: &[&str]) -> Result<Checkpoint> {
        let found = names.iter().map(|n| directory.join(n)).find(|p| p.exists());
        match found {
            Some(index) if index.to_string_lossy().ends_with(".index.json") => Checkpoint::shards(&index),
            Some(file) => Checkpoint::from_files(&file, std::slice::from_ref(&file)),
            None => {
                let others = names.iter().skip(1).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ");
                let path = directory.join(names.first().copied().unwrap_or_default());
                Err(Error::File { path, what: format!("No such file, and there is no {others} either") })
            }
        }
    }
    /// The names of the shards of an index, which lie beside it.
    pub fn shards_of(index: &Path) -> Result<BTreeSet<String>> {
        Ok(weight_map(index)?.into_values().collect())
    }
    fn shards(index: &Path) -> Result<Checkpoint> {
        let map = weight_map(index)?;
        let shards: BTreeSet<PathBuf> = map.values().map(|file| index.with_file_name(file)).collect();
        let all = Checkpoint::from_files(index, &shards.into_iter().collect::<Vec<_>>())?;
        match map.keys().find(|n| !all.tensors.contains_key(*n)) {
            Some(name) => {
                let what = format!("tensor `{name}` is in none of the shards");
                Err(Error::File { path: index.into(), what })
            }
            None => Ok(all),
        }
    }
    /// The same, for a device. Where there is no file, the Null device, which reads no values,
    /// takes every tensor to be there, in f32.
    pub fn open_for(path: &Path, device: &Device) -> Result<Checkpoint> {
        if device.is_null() && path.is_dir() && !Checkpoint::is_in(path) {
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
        if map.bytes().starts_with(POINTER) {
            return Err(bad(
                "Git LFS has not fetched this file: it is a pointer to it (`git lfs pull`)".into()
            ));
        }
        let is_torch = path.extension().is_some_and(|e| TORCH.iter().any(|t| *t == e));
        let read = if is_torch { Checkpoint::torch } else { Checkpoint::safetensors };
        for (name, entry) in read(map.bytes(), self.files.len()).map_err(bad)? {
            if self.tensors.contains_key(&name) {
                return Err(bad(format!("tensor `{name}` is in two shards")));
            }
            self.tensors.insert(name, entry);
        }
        self.note = if is_torch { None } else { said(map.bytes(), NOTE) };
        self.files.push(map);
        Ok(())
    }
    /// The tensors of file number `file`, which holds these bytes; or what is wrong with it.
    fn safetensors(bytes: &[u8], file: usize) -> Result<Vec<(String, Entry)>, String> {
        let parsed =
            SafeTensors::deserialize(bytes).map_err(|e| format!("not a whole safetensors file: {e}"))?;
        if let Some(sum) = said(bytes, CHECKSUM) {
            let mut sorted: Vec<_> = parsed.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            let mut found = Checksum::new();
            sorted.iter().for_each(|(name, t)| found.add(name, t.data()));
            if sum != found.end() {
                return Err("the tensors do not match the checksum in the header: the file is damaged".into());
            }
        }
        let entry = |(name, t): (&str, safetensors::tensor::TensorView<'_>)| {
            let offset = t.data().as_ptr() as usize - bytes.as_ptr() as usize;
            let (len, dtype, shape) = (t.data().len(), t.dtype(), t.shape().to_vec());
            (name.to_string(), Entry { file, offset, bytes: len, dtype, shape, strides: None })
        };
        Ok(parsed.iter().map(entry).collect())
    }
    /// The same for one that `torch.save` wrote.
    fn torch(bytes: &[u8], file: usize) -> Result<Vec<(String, Entry)>, String> {
        let entry = |t: torch::Found| {
            let bytes = t.shape.iter().product::<usize>() * (t.dtype.bitsize() / 8);
            let torch::Found { name, dtype, shape, offset, strides } = t;
            (name, Entry { file, offset, bytes, dtype, shape, strides })
        };
        Ok(torch::tensors(bytes)?.into_iter().map(entry).collect())
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// What [`super::write()`] was told to say about the tensors.
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
            // who has no other use for it need not hold it
            self.files[t.file].release(t.offset..t.offset + t.bytes);
        }
        h.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    pub(super) fn find(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::Missing { path: self.path.clone(), name: name.into() })
    }
    /// The elements of a tensor in their order, as the file has them where they lie so.
    pub(super) fn data(&self, t: &Entry) -> Cow<'_, [u8]> {
        let file = &self.files[t.file].bytes()[t.offset..];
        match &t.strides {
            None => Cow::Borrowed(&file[..t.bytes]),
            Some(strides) => Cow::Owned(t.gather(file, strides)),
        }
    }
    /// The same of floats, doubles rounded to f32.
    pub(super) fn floats_of(&self, t: &Entry) -> Cow<'_, [u8]> {
        let bytes = self.data(t);
        match t.dtype {
            Dtype::F64 => Cow::Owned(f64s(&bytes).flat_map(|x| (x as f32).to_le_bytes()).collect()),
            _ => bytes,
        }
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
            Dtype::F32 | Dtype::F64 => DType::F32, // doubles are rounded where they are read
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
        let bytes = self.floats_of(t);
        let finite = match dtype {
            DType::F32 => f32s(&bytes).all(f32::is_finite),
            DType::Bf16 => bf16s(&bytes).all(bf16::is_finite),
            _ => f16s(&bytes).all(f16::is_finite),
        };
        if !finite {
            return Err(Error::NotFinite { path: self.path.clone(), name: name.into() });
        }
        Ok((t, dtype))
    }
    /// A tensor of the given shape as f32 values.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (t, dtype) = self.sound(name, shape)?;
        let bytes = self.floats_of(t);
        Ok(match dtype {
            DType::Bf16 => bf16s(&bytes).map(bf16::to_f32).collect(),
            DType::F16 => f16s(&bytes).map(f16::to_f32).collect(),
            _ => f32s(&bytes).collect(),
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
        Ok(self
            .data(t)
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap_or_default()))
            .collect())
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

/// Bytes of a file as numbers.
pub(super) fn f32s(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
fn f64s(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap_or_default()))
}
pub(super) fn bf16s(bytes: &[u8]) -> impl Iterator<Item = bf16> {
    bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]))
}
pub(super) fn f16s(bytes: &[u8]) -> impl Iterator<Item = f16> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]))
}

/// What the header of a safetensors file says under a name.
fn said(bytes: &[u8], name: &str) -> Option<String> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    header.metadata().as_ref()?.get(name).cloned()
}
/// Of each tensor the shard that an index says it is in: a file beside the index.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let bad = |what: String| Error::File { path: index.into(), what };
    let text = std::fs::read_to_string(index).map_err(|source| Error::Io { path: index.into(), source })?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let map = json["weight_map"].as_object().ok_or_else(|| bad("no `weight_map`".into()))?;
    let shard = |(name, file): (&String, &serde_json::Value)| {
        let file =
            file.as_str().ok_or_else(|| bad(format!("`weight_map` of `{name}` is not a file name")))?;
        let mut parts = Path::new(file).components();
        match (parts.next(), parts.next()) {
            (Some(std::path::Component::Normal(_)), None) => Ok((name.clone(), file.to_string())),
            _ => Err(bad(format!("`{file}` is not the name of a file beside the index"))),
        }
    };
    map.iter().map(shard).collect()
}
