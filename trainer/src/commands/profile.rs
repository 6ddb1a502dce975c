//! `engraft profile`.
use super::{say, tell};
use anyhow::{Context, Result};
use engraft::{
    args::Profile,
    demo,
    profile::{Plan, check_file, run as profile},
    progress::Mode,
    report::json_line,
};

pub fn run(p: &Profile) -> Result<()> {
    let mut s = p.settings()?;
    if let Some(file) = &p.trace {
        check_file(file)?;
    }
    // the built-in backbone, while it is profiled
    let folder = tempfile::tempdir().context("a temporary directory")?;
    if s.model.is_none() {
        s.model = Some(demo::unpack_backbone(folder.path())?);
    }
    let plan = Plan { steps: p.steps, warmup: p.warmup, length: p.length };
    let recorded = profile(&s, &plan, Mode::detect(s.quiet))?;
    if let Some(file) = &p.trace {
        recorded.save(file)?;
        if !s.quiet {
            tell(&format!("trace in {}; https://ui.perfetto.dev opens it", file.display()));
        }
    }
    if !s.quiet {
        say(&recorded.summary.to_string())?;
    }
    if s.json {
        say(&json_line(&recorded.summary))?;
    }
    Ok(())
}
