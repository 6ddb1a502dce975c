//! `engraft adapters convert`.
use super::{For, settings, write};
use crate::program::{args::Convert, print::say};
use anyhow::Result;
use engraft::adapters::{Format, Head, export::directory};
use engraft_engine::output::reading;

pub fn run(c: &Convert) -> Result<()> {
    let on = For::model(&c.model)?;
    let (host, mut adapter) = (&on.backbone.recorded_host()?, on.adapter(&c.directory)?);
    let _held = reading(&c.directory)?;
    let mut head = Head::find(&c.directory, host, &on.device, &mut Default::default())?;
    if let Some(name) = &c.name {
        // a head that is called as its adapter stays so
        let is_own = |h: &Head| h.name() == adapter.name();
        head = head.map(|h| if is_own(&h) { h.renamed(name) } else { h });
        adapter = adapter.renamed(name)?;
    }
    let format = Format::from(c.to);
    let mut files = directory(Some(&adapter), head.as_ref(), Some(format), host)?;
    files.extend(settings(&c.directory)?);
    write(&c.out, &files, &[&c.directory])?;
    say(&format!("`{}` in {}'s format, written to {}", adapter.name(), format.name(), c.out.display()))
}
