//! `engraft adapters`: saved adapters, listed, renamed, merged, converted and compared.
mod convert;
mod diff;
mod list;
mod merge;
mod rename;

use crate::program::{
    args::{Adapters, Manage},
    options::{Backend, FILE},
    print::warn_of_strangers,
    setup::{is_same, open},
};
use anyhow::{Result, bail};
use engraft::{
    Device,
    adapters::{Adapter, files},
    learner::{Backbone, Opening},
    reports::progress::Mode,
};
use engraft_engine::output::{Commit, check_writable, reading};
use std::{path::Path, process::ExitCode};

pub fn run(a: &Adapters) -> Result<ExitCode> {
    match &a.command {
        Manage::List(l) => return list::run(l),
        Manage::Diff(d) => return Ok(diff::run(d)),
        Manage::Rename(r) => rename::run(r)?,
        Manage::Merge(m) => merge::run(m)?,
        Manage::Convert(c) => convert::run(c)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What adapters are for: the model without its values, and a device for theirs.
struct For {
    backbone: Backbone,
    device: Device,
}
impl For {
    fn model(path: &Path) -> Result<For> {
        let how = Opening { progress: Mode::detect(false), ..Opening::default() };
        let backbone = Backbone::open(path, &Device::null(1), how)?;
        Ok(For { backbone, device: open(Backend::Cpu, 1)? })
    }
    fn adapter(&self, directory: &Path) -> Result<Adapter> {
        let (model, _held) = (self.backbone.model(), reading(directory)?);
        warn_of_strangers(&self.backbone, directory, false)?;
        let (named, host) = (model.named(), self.backbone.host());
        Ok(Adapter::load_frozen(directory, host, self.backbone.base(&named), &self.device)?)
    }
}

/// Writes the files of an adapter into a directory that is none of those it was made of. What was
/// saved there before would be taken for a part of it, and goes.
pub(super) fn write(out: &Path, all: &[(String, Vec<u8>)], from: &[&Path]) -> Result<()> {
    check_writable(out)?;
    if let Some(own) = from.iter().find(|dir| is_same(dir, out)) {
        bail!("--out is {} itself: its files would be lost", own.display());
    }
    let mut commit = Commit::begin(out)?;
    all.iter().try_for_each(|(name, bytes)| commit.file(name, bytes))?;
    files::names().into_iter().chain([FILE]).for_each(|name| commit.without(name));
    Ok(commit.place()?)
}
/// How texts were read when an adapter was trained goes with it.
pub(super) fn settings(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let path = directory.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(vec![(FILE.into(), bytes)]),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(source) => Err(engraft::Error::Read { path, source }.into()),
    }
}
