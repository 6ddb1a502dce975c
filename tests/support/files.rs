//! Model directories and safetensors files, taken apart to be put together wrongly.
use super::fixture;
use engraft_engine::Checkpoint;
use half::{bf16, f16};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}
impl StoredTensor {
    pub fn f32(values: &[f32], shape: &[usize]) -> StoredTensor {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        StoredTensor { dtype: "F32", shape: shape.into(), bytes }
    }
    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
    /// The values as they are stored in `dtype`.
    pub fn to(&self, dtype: &'static str) -> StoredTensor {
        let v = self.values();
        let bytes = match dtype {
            "F16" => v.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            "BF16" => v.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => unreachable!("{dtype}"),
        };
        StoredTensor { dtype, shape: self.shape.clone(), bytes }
    }
    /// The values after a trip through `dtype`, in f32.
    pub fn through(&self, dtype: &'static str) -> StoredTensor {
        let rounded: Vec<f32> = match dtype {
            "F16" => self.values().iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
            _ => self.values().iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
        };
        StoredTensor::f32(&rounded, &self.shape)
    }
}

/// A safetensors file: its tensors and its metadata.
pub type Tensors = BTreeMap<String, StoredTensor>;
pub fn tensors(path: &Path) -> Tensors {
    let c = Checkpoint::open(path).unwrap();
    let one = |n: &str| {
        let shape = c.shape(n).unwrap();
        (n.to_string(), StoredTensor::f32(&c.values(n, shape).unwrap(), shape))
    };
    c.names().map(one).collect()
}
/// The tensors of a file whatever they hold, byte by byte.
pub fn raw(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let one = |(name, t): (&String, &Value)| {
        let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(t[key].clone()).unwrap() };
        let dtype = ["F32", "F16", "BF16", "I8", "U8"].into_iter().find(|d| t["dtype"] == *d).unwrap();
        let at = numbers("data_offsets");
        let bytes = bytes[header + at[0]..header + at[1]].to_vec();
        (name.clone(), StoredTensor { dtype, shape: numbers("shape"), bytes })
    };
    json.as_object().unwrap().iter().filter(|(n, _)| *n != "__metadata__").map(one).collect()
}
/// The JSON header of a file, and its data.
pub fn parts(t: &Tensors) -> (Value, Vec<u8>) {
    let (mut header, mut data) = (json!({"__metadata__": {"format": "pt"}}), vec![]);
    for (name, s) in t {
        let from = data.len();
        data.extend(&s.bytes);
        header[name] = json!({"dtype": s.dtype, "shape": s.shape, "data_offsets": [from, data.len()]});
    }
    (header, data)
}
/// A file with this header, which is filled up with `spaces`.
pub fn assemble(header: &Value, data: &[u8], spaces: usize) -> Vec<u8> {
    let header = header.to_string() + &" ".repeat(spaces);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
/// The bytes of a well-formed file.
pub fn safetensors(t: &Tensors) -> Vec<u8> {
    let (header, data) = parts(t);
    let spaces = header.to_string().len().next_multiple_of(8) - header.to_string().len();
    assemble(&header, &data, spaces)
}

/// A model directory.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    pub config: Value,
    pub tensors: Tensors,
}
impl ModelFiles {
    /// The tiny BERT.
    pub fn fixture() -> ModelFiles {
        ModelFiles::at(&fixture("model"))
    }
    pub fn at(dir: &Path) -> ModelFiles {
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let tensors = tensors(&dir.join("model.safetensors"));
        ModelFiles { config: serde_json::from_str(&text).unwrap(), tensors }
    }
    pub fn with(mut self, field: &str, value: Value) -> ModelFiles {
        self.config[field] = value;
        self
    }
    /// Other names for the tensors; those without one go.
    pub fn named(&self, name: impl Fn(&str) -> Option<String>) -> ModelFiles {
        let tensors = self.tensors.iter().filter_map(|(n, t)| Some((name(n)?, t.clone()))).collect();
        ModelFiles { config: self.config.clone(), tensors }
    }
    /// Other contents for the tensors.
    pub fn map(&self, f: impl Fn(&StoredTensor) -> StoredTensor) -> ModelFiles {
        let tensors = self.tensors.iter().map(|(n, t)| (n.clone(), f(t))).collect();
        ModelFiles { config: self.config.clone(), tensors }
    }
    pub fn write(&self) -> tempfile::TempDir {
        let dir = self.write_config();
        std::fs::write(dir.path().join("model.safetensors"), safetensors(&self.tensors)).unwrap();
        dir
    }
    pub fn write_config(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), self.config.to_string()).unwrap();
        dir
    }
    /// In two shards with an index.
    pub fn write_sharded(&self) -> tempfile::TempDir {
        let dir = self.write_config();
        let (mut shards, mut map) = ([Tensors::new(), Tensors::new()], json!({}));
        for (i, (name, t)) in self.tensors.iter().enumerate() {
            shards[i % 2].insert(name.clone(), t.clone());
            map[name] = json!(format!("model-0000{}-of-00002.safetensors", i % 2 + 1));
        }
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("model-0000{}-of-00002.safetensors", i + 1);
            std::fs::write(dir.path().join(name), safetensors(shard)).unwrap();
        }
        write_index(dir.path(), &json!({"metadata": {"total_size": 0}, "weight_map": map}));
        dir
    }
}
pub fn write_index(dir: &Path, index: &Value) {
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
