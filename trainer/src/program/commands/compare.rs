//! `engraft compare`.
use crate::program::{args::Compare, print::say};
use anyhow::Result;
use engraft::{
    Error,
    reports::{by_example, comparison::compare, report::json_line},
};
use serde_json::json;

pub fn run(c: &Compare) -> Result<()> {
    if let Some(twice) = c.others.iter().find(|other| **other == c.first) {
        let why = "an evaluation does not differ from itself".into();
        return Err(Error::Option { option: "compare", value: twice.display().to_string(), why }.into());
    }
    let first = by_example::read(&c.first)?;
    let others = c.others.iter().map(by_example::read).collect::<engraft::Result<Vec<_>>>()?;
    let named: Vec<_> = c.others.iter().zip(&others).map(|(path, all)| (path.as_path(), &all[..])).collect();
    let found = compare((&c.first, &first), &named, c.metric.as_deref(), c.trials, c.seed)?;
    if c.json {
        let one = |(path, all): (&std::path::PathBuf, &Vec<_>)| json!({"with": path.to_string_lossy(), "scores": all});
        let all: Vec<_> = c.others.iter().zip(&found).map(one).collect();
        return say(&json_line(&json!({"first": c.first.to_string_lossy(), "compared": all})));
    }
    for (path, all) in c.others.iter().zip(&found) {
        say(&format!("{} and {}, {} examples:", c.first.display(), path.display(), first.len()))?;
        all.iter().try_for_each(|comparison| say(&format!("  {}", comparison.line())))?;
    }
    Ok(())
}
