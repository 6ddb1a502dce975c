//! `engraft adapters rename`.
use super::{settings, write};
use crate::program::{args::Rename, print::say};
use anyhow::Result;
use engraft::adapters::files::renamed;
use engraft_engine::output::reading;

pub fn run(r: &Rename) -> Result<()> {
    let _held = reading(&r.directory)?;
    let mut files = renamed(&r.directory, &r.name)?;
    files.extend(settings(&r.directory)?);
    write(&r.out, &files, &[&r.directory])?;
    say(&format!("`{}`, written to {}", r.name, r.out.display()))
}
