//! `engraft quantize`.
use crate::program::{
    args::Quantize,
    options::Backend,
    print::{note_unused, say},
    setup::{is_same, open},
};
use anyhow::{Result, bail};
use engraft::{
    engine::output,
    learner::{Backbone, Opening},
    reports::progress::Mode,
};
use engraft_engine::Storage;
use serde::Serialize;
use std::path::PathBuf;

/// What was written.
#[derive(Serialize)]
struct Written {
    dtype: &'static str,
    parameters: usize,
    bytes: usize,
    f32_bytes: usize,
    out: PathBuf,
}

pub fn run(q: &Quantize) -> Result<()> {
    let device = open(Backend::Cpu, q.threads)?;
    let storage = Storage::from(q.dtype);
    let how = Opening { storage: Some(storage), progress: Mode::detect(false), ..Opening::default() };
    let backbone = Backbone::open(&q.model, &device, how)?;
    note_unused(&backbone);
    // once the directory is there, `a/../model` too is known for what it is
    output::check_writable(&q.out)?;
    if is_same(backbone.directory(), &q.out) {
        bail!("--out is the model's own directory {}: the weights it holds would be lost", q.out.display());
    }
    let files = backbone.files()?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    output::write_directory(&q.out, &files)?;
    let named = backbone.model().named();
    let parameters: usize = named.iter().map(|(_, t)| t.elements()).sum();
    let written = Written {
        dtype: storage.name(),
        parameters,
        bytes: named.iter().map(|(_, t)| t.bytes()).sum(),
        f32_bytes: 4 * parameters,
        out: q.out.clone(),
    };
    if q.json {
        return say(&serde_json::to_string(&written)?);
    }
    let share = 100.0 * written.bytes as f64 / written.f32_bytes.max(1) as f64;
    say(&format!(
        "{} parameters as {}: {} bytes, {share:.1} % of f32; written to {}",
        written.parameters,
        written.dtype,
        written.bytes,
        written.out.display()
    ))
}
