//! What `engraft` does without arguments: a small backbone and a small data set that ship with the program.
//!
//! They are ordinary files, unpacked into the output directory, so that every other command works on them and a reader can look
//! at them. How the backbone was made is in `trainer/backbone`, how the data in `trainer/examples/demo_data.rs`.
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

/// Unpacks the backbone and the data under `out`.
pub fn unpack(out: &Path) -> Result<()> {
    unpack_backbone(out)?;
    Ok(output::write_directory(out.join("data"), &DATA)?)
}
/// Unpacks the backbone as `backbone` under `out`: a Hugging Face BERT directory.
pub fn unpack_backbone(out: &Path) -> Result<PathBuf> {
    let directory = out.join("backbone");
    output::write_directory(&directory, &BACKBONE)?;
    Ok(directory)
}
