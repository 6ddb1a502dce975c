//! `engraft adapters list`.
use crate::program::{args::List, print::say};
use anyhow::{Context, Result};
use engraft::adapters::files::{Found, find};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

pub fn run(l: &List) -> Result<ExitCode> {
    let mut all = vec![];
    for directory in &l.directories {
        walk(directory, &mut all)?;
    }
    match l.json {
        true => say(&serde_json::json!({ "adapters": all }).to_string())?,
        false => all.iter().try_for_each(|found| say(&line(found)))?,
    }
    Ok(match all.iter().all(|found| found.error.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
/// What is in a directory and in those below it, by name; links are not followed.
fn walk(directory: &Path, all: &mut Vec<Found>) -> Result<()> {
    all.extend(find(directory));
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut below: Vec<PathBuf> = vec![];
    for entry in entries {
        let entry = entry?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() && !is_hidden {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|directory| walk(directory, all))
}
fn line(found: &Found) -> String {
    let Found { directory, name, method, parameters, bytes, .. } = found;
    let mut said = vec![format!("{}: {}", directory.display(), found.kind)];
    if let Some(error) = &found.error {
        return format!("{}, cannot be read: {error}", said.concat());
    }
    said.extend(name.as_ref().map(|name| format!("`{name}`")));
    said.extend((!method.is_empty()).then(|| method.clone()));
    if let Some(format) = found.format {
        said.push(format!("{format}, {parameters} parameters, {bytes} bytes"));
    }
    let layers: Vec<String> = found.layers.iter().map(usize::to_string).collect();
    said.extend((!layers.is_empty()).then(|| format!("layers {}", layers.join(" "))));
    if let Some(head) = &found.head {
        let kind = head.head_type.as_deref().unwrap_or("the model's own kind");
        let labels = if head.labels.is_empty() { "none".into() } else { head.labels.join(", ") };
        said.push(format!("head {kind} of labels {labels}"));
    }
    let model = &found.model;
    let model =
        [model.model_type.clone(), model.name.clone(), model.hidden_size.map(|n| format!("{n} channels"))];
    let model: Vec<String> = model.into_iter().flatten().collect();
    said.extend((!model.is_empty()).then(|| format!("for {}", model.join(", "))));
    said.join("; ")
}
