//! Files that `torch.save` writes: a pickle of a dictionary of tensors, whose numbers lie beside
//! it.
//!
//! ```text
//! since 1.6   a ZIP archive, not compressed: NAME/data.pkl, and NAME/data/KEY for each storage
//! before      pickles one after the other: a magic number, 1001, what machine it was, the dictionary, the storages' keys;
//!             then each storage: how many elements it has in eight bytes, and these
//! ```
//! A tensor is a part of a storage: an offset, and a stride for each dimension. Several may share
//! one. Nothing is executed: see [`pickle`].
mod pickle;
mod values;
mod zip;

use safetensors::Dtype;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};
use values::{Strided, Value, Values, width};

/// A tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The byte of the file at which its first element is.
    pub offset: usize,
    /// Where its elements do not lie in their order: by how many bytes the next one in each
    /// dimension is further on.
    pub strides: Option<Vec<usize>>,
}

/// The pickle that older files begin with: the number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;
/// Bytes of a file for each tensor, at the least: its name and what it is take more.
const LEAST: usize = 32;

/// The tensors of a file. The error says what is wrong with it.
pub fn tensors(file: &[u8]) -> Result<Vec<Found>, String> {
    let mut values = Values::default();
    let (top, storages) = match file.get(..4) {
        Some(b"PK\x03\x04") => archive(file, &mut values)?,
        Some([0x80, ..]) => stream(file, &mut values)?,
        _ => return Err("not a file that torch.save writes, or not the whole of one".into()),
    };
    let Some(all) = values.dictionary(top) else {
        return Err("what torch.save wrote is no dictionary of tensors".into());
    };
    if all.len() / 2 > file.len() / LEAST {
        return Err("it names more tensors than there is room for".into());
    }
    let mut found = BTreeMap::new();
    for pair in all.chunks_exact(2) {
        let Value::Text(name) = pair[0] else { return Err("a tensor's name is not a text".into()) };
        let Value::Tensor(t) = pair[1] else {
            return Err(format!("`{name}` is not a tensor: this is more than a model's state dictionary"));
        };
        let t = &values.tensors[t];
        let storage = &values.storages[t.storage];
        let range =
            storages.get(storage.key).ok_or_else(|| format!("tensor `{name}`: its numbers are missing"))?;
        let elements = range.len() / storage.width();
        if !range.len().is_multiple_of(storage.width()) || elements != storage.elements {
            let (n, key) = (storage.elements, storage.key);
            return Err(format!(
                "tensor `{name}`: storage `{key}` should have {n} elements and has {} bytes",
                range.len()
            ));
        }
        let part = storage.part.unwrap_or((0, elements));
        let inside = part.0.checked_add(part.1).filter(|end| *end <= elements);
        let inside =
            inside.map(|end| range.start + part.0 * storage.width()..range.start + end * storage.width());
        let place = inside.and_then(|inside| place(t, inside));
        let (offset, strides) = place.ok_or_else(|| {
            format!("tensor `{name}` of shape {:?} is larger than what the file holds of it", t.shape)
        })?;
        // as in Python, the last one of a name counts
        let one = Found { name: name.into(), dtype: t.dtype, shape: t.shape.clone(), offset, strides };
        found.insert(name, one);
    }
    Ok(found.into_values().collect())
}

/// Where a tensor begins, and its strides in bytes unless its elements lie in their order; none if
/// it leaves its storage, or repeats elements of it.
fn place(t: &Strided, storage: Range<usize>) -> Option<(usize, Option<Vec<usize>>)> {
    let size = width(t.dtype);
    let there = storage.len() / size;
    let elements = t.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    if elements == 0 {
        return Some((storage.start, None));
    }
    let last = t
        .shape
        .iter()
        .zip(&t.strides)
        .try_fold(t.offset, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?))?;
    if last >= there || elements > there {
        return None;
    }
    let mut next = 1;
    let in_order = t.shape.iter().zip(&t.strides).rev().all(|(d, s)| {
        let is_next = *d == 1 || *s == next;
        next *= d;
        is_next
    });
    // the stride of a dimension of one element may be anything
    let strides = t.shape.iter().zip(&t.strides).map(|(d, s)| if *d == 1 { 0 } else { s * size });
    Some((storage.start + t.offset * size, (!in_order).then(|| strides.collect())))
}

type Opened<'a> = (Value<'a>, HashMap<&'a str, Range<usize>>);

/// The layout since 1.6.
fn archive<'a>(file: &'a [u8], values: &mut Values<'a>) -> Result<Opened<'a>, String> {
    let entries = zip::entries(file)?;
    let root = entries.keys().find_map(|n| n.strip_suffix("/data.pkl").filter(|root| !root.contains('/')));
    let root = root.ok_or("the archive has no `data.pkl`: torch.save did not write it")?;
    let entry = |name: &str| entries.get(format!("{root}/{name}").as_str()).cloned();
    if entry("constants.pkl").is_some() {
        return Err("a program of TorchScript, not a dictionary of tensors".into());
    }
    if entry("byteorder").is_some_and(|r| &file[r] != b"little") {
        return Err("its numbers are not in little-endian order".into());
    }
    let pickle = entry("data.pkl").unwrap_or_default();
    let (top, _) = pickle::read(&file[..pickle.end], pickle.start, values)?;
    let key = |name: &'a str| name.strip_prefix(root)?.strip_prefix("/data/");
    Ok((top, entries.iter().filter_map(|(name, range)| Some((key(name)?, range.clone()))).collect()))
}

/// The layout before 1.6.
fn stream<'a>(file: &'a [u8], values: &mut Values<'a>) -> Result<Opened<'a>, String> {
    let mut other = Values::default();
    let (magic, at) = pickle::read(file, 0, &mut other)?;
    if magic != Value::Long(MAGIC) {
        return Err("a pickle that torch.save did not write".into());
    }
    let (version, at) = pickle::read(file, at, &mut other)?;
    if version != Value::Int(VERSION) {
        return Err(format!("its layout has the version {version:?}; {VERSION} is supported"));
    }
    let (machine, at) = pickle::read(file, at, &mut other)?;
    let about = other.dictionary(machine).unwrap_or_default();
    if !about.chunks_exact(2).any(|pair| pair == [Value::Text("little_endian"), Value::Bool(true)]) {
        return Err("its numbers are not in little-endian order".into());
    }
    let (top, at) = pickle::read(file, at, values)?;
    let (keys, mut at) = pickle::read(file, at, &mut other)?;
    let widths: HashMap<&str, usize> = values.storages.iter().map(|s| (s.key, s.width())).collect();
    let mut storages = HashMap::new();
    for key in other.list(keys)? {
        let Value::Text(key) = *key else { return Err("a storage's key is not a text".into()) };
        let width = widths.get(key).ok_or_else(|| format!("no tensor has the storage `{key}`"))?;
        let missing = || format!("storage `{key}`: the file ends too early");
        let count = file.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(missing)?;
        let bytes = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(*width));
        let end =
            bytes.and_then(|n| n.checked_add(at + 8)).filter(|end| *end <= file.len()).ok_or_else(missing)?;
        storages.insert(key, at + 8..end);
        at = end;
    }
    Ok((top, storages))
}
