//! What `engraft` does without arguments: a small backbone and a small data set that ship with the
//! program.
//!
//! They are ordinary files, unpacked into the output directory, so that every other command works
//! on them and a reader can look at them. How the backbone was made is in `trainer/backbone`, how
//! the data in `trainer/examples/demo_data.rs`.
use crate::{Result, output};
use std::path::{Path, PathBuf};

const BACKBONE: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../assets/backbone/config.json")),
    ("model.safetensors", include_bytes!("../assets/backbone/model.safetensors")),
    ("tokenizer.json", include_bytes!("../assets/backbone/tokenizer.json")),
];
const DATA: [(&str, &[u8]); 2] = [
    ("train.tsv", include_bytes!("../assets/demo/train.tsv")),
    ("eval.tsv", include_bytes!("../assets/demo/eval.tsv")),
];

/// Unpacks the backbone and the data under `out`. What is there already is kept; those of the files
/// that are not as they ship are returned.
pub fn unpack(out: &Path) -> Result<Vec<PathBuf>> {
    let mut other = unpack_into(&out.join("backbone"), &BACKBONE)?;
    other.extend(unpack_into(&out.join("data"), &DATA)?);
    Ok(other)
}
/// Unpacks the backbone as `backbone` under `out`, a Hugging Face BERT directory, unless it is
/// there.
pub fn unpack_backbone(out: &Path) -> Result<PathBuf> {
    let directory = out.join("backbone");
    unpack_into(&directory, &BACKBONE)?;
    Ok(directory)
}
fn unpack_into(directory: &Path, files: &[(&str, &[u8])]) -> Result<Vec<PathBuf>> {
    let (mut missing, mut other) = (vec![], vec![]);
    for file in files {
        let path = directory.join(file.0);
        match std::fs::read(&path) {
            Ok(bytes) if bytes == file.1 => {}
            Ok(_) => other.push(path),
            Err(_) => missing.push(*file), // writing says what is wrong
        }
    }
    if !missing.is_empty() {
        output::write_directory(directory, &missing)?;
    }
    Ok(other)
}
