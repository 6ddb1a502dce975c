//! `engraft adapters diff`.
use crate::program::{
    args::Diff,
    print::{reason, say, tell},
};
use anyhow::Result;
use engraft::adapters::files::{Difference, TensorDifference};
use serde_json::Value;
use std::process::ExitCode;

/// 0: there is no difference; 1: there is one; 2: something went wrong.
pub fn run(d: &Diff) -> ExitCode {
    match compare(d) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("error: {}", reason(&error)));
            ExitCode::from(2)
        }
    }
}
fn compare(d: &Diff) -> Result<bool> {
    let found = Difference::of(&d.first, &d.second)?;
    if d.json {
        say(&serde_json::to_string(&found)?)?;
        return Ok(found.is_none());
    }
    let show = |v: &Option<Value>| v.as_ref().map_or("missing".into(), Value::to_string);
    for f in &found.fields {
        say(&format!("{}: {}, {}", f.field, show(&f.first), show(&f.second)))?;
    }
    for (only, directory) in [(&found.only_first, &d.first), (&found.only_second, &d.second)] {
        only.iter().try_for_each(|name| say(&format!("only in {}: {name}", directory.display())))?;
    }
    found.tensors.iter().try_for_each(|t| say(&line(t)))?;
    if found.is_none() {
        say(&format!("no difference: {} tensors are the same", found.same))?;
    }
    Ok(found.is_none())
}
fn line(t: &TensorDifference) -> String {
    if let Some([a, b]) = &t.shapes {
        return format!("{}: {a:?}, {b:?}", t.tensor);
    }
    let number = |x: Option<f64>| x.map_or("undefined".into(), |x| format!("{x:.6}"));
    let (relative, cosine) = (number(t.relative), number(t.cosine));
    format!("{}: max |difference| {:.3e}, relative {relative}, cosine {cosine}", t.tensor, t.max)
}
